//! A desktop as a bot has it: a window manager and terminals full of text.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(crate) const COOKIE: [u8; 16] = *b"sixteen secrets!";
pub(crate) const XTERMS: usize = 6;

/// X server, window manager, terminals; ended when dropped.
pub(crate) struct Desktop {
    pub(crate) number: u32,
    folder: tempfile::TempDir,
    children: Vec<Child>,
}

/// Something that goes on in it, until it is dropped.
pub(crate) struct Activity(Child);

impl Drop for Activity {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Desktop {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let auth = folder.path().join("auth");
        let mut cookie = vec![0xff, 0xff, 0, 0, 0, 0, 0, 18];
        cookie.extend_from_slice(b"MIT-MAGIC-COOKIE-1\0\x10");
        cookie.extend_from_slice(&COOKIE);
        fs::write(&auth, cookie).expect("a cookie");
        let mut server = Command::new("Xvfb")
            .args([
                "-displayfd",
                "1",
                "-screen",
                "0",
                "1920x1080x24",
                "-noreset",
            ])
            .args(["-nolisten", "tcp", "-auth"])
            .arg(&auth)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb (package xvfb)");
        let mut line = String::new();
        let out = server.stdout.take().expect("a pipe");
        BufReader::new(out)
            .read_line(&mut line)
            .expect("a display number");
        let mut desktop = Self {
            number: line.trim().parse().expect("a number"),
            folder,
            children: vec![server],
        };
        desktop.fill();
        desktop
    }

    fn fill(&mut self) {
        self.run("openbox", &[]);
        for number in 0..XTERMS {
            let place = format!("90x24+{}+{}", 20 + number % 3 * 620, 30 + number / 3 * 520);
            let ready = self.folder.path().join(format!("ready{number}"));
            let text = format!(
                "ls -l --color=always /usr/bin | tail -n {}; touch {}; sleep 600",
                100 + number,
                ready.display()
            );
            let colours = if number % 2 == 0 {
                ["white", "black"]
            } else {
                ["black", "gray90"]
            };
            let arguments = [
                "-geometry",
                &place,
                "-fa",
                "DejaVu Sans Mono",
                "-fs",
                "10",
                "-bg",
                colours[0],
                "-fg",
                colours[1],
                "-e",
                "sh",
                "-c",
                &text,
            ];
            self.run("xterm", &arguments);
        }
        let is_there = |number| self.folder.path().join(format!("ready{number}")).exists();
        while !(0..XTERMS).all(is_there) {
            std::thread::sleep(Duration::from_millis(100));
        }
        // Nobody says when the last of them has drawn its text.
        std::thread::sleep(Duration::from_secs(2));
    }

    fn run(&mut self, program: &str, arguments: &[&str]) {
        let child = self.spawn(program, arguments);
        self.children.push(child);
    }

    fn spawn(&self, program: &str, arguments: &[&str]) -> Child {
        Command::new(program)
            .args(arguments)
            .env("DISPLAY", format!(":{}", self.number))
            .env("XAUTHORITY", self.auth())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} can't be started: {error}"))
    }

    fn auth(&self) -> PathBuf {
        self.folder.path().join("auth")
    }

    pub(crate) fn types_a_line_each_second(&self) -> Activity {
        self.terminal("while sleep 1; do date; ls -l /usr/bin | shuf -n 1; done")
    }

    pub(crate) fn fills_a_terminal_each_second(&self) -> Activity {
        self.terminal("while sleep 1; do clear; ls -l /usr/bin | shuf -n 24; done")
    }

    fn terminal(&self, text: &str) -> Activity {
        let text = format!("ls -l /usr/bin | tail -n 100; {text}");
        let arguments = [
            "-geometry",
            "90x24+640+280",
            "-fa",
            "DejaVu Sans Mono",
            "-fs",
            "10",
            "-e",
            "sh",
            "-c",
            &text,
        ];
        let activity = Activity(self.spawn("xterm", &arguments));
        std::thread::sleep(Duration::from_secs(3));
        activity
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
        // SIGKILL leaves them.
        let _ = fs::remove_file(format!("/tmp/.X{}-lock", self.number));
        let _ = fs::remove_file(format!("/tmp/.X11-unix/X{}", self.number));
    }
}
