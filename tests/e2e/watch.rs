//! Looking on at a running job: from its private display to a person's screen.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command};

use serde_json::{Value, json};
use tests::{Host, Options};

/// Paints its screen in one colour after the other, each for so many seconds.
const PAINTER: &str = r#"
import subprocess, sys, time
for colour in sys.argv[2:]:
    subprocess.run(['xsetroot', '-solid', colour], check=True)
    print(colour, flush=True)
    time.sleep(float(sys.argv[1]))
"#;

fn paint(host: &Host, every: &str, colours: &[&str], more: &[&str]) -> String {
    let package = host.push_python("painter", PAINTER);
    let mut args = vec!["--display", "640x480", "--arg", every];
    for colour in colours {
        args.extend(["--arg", colour]);
    }
    let job = host.submit(&package, &[&args, more].concat());
    host.says(&job, colours[0]);
    job
}

/// `job watch --json`.
struct Watch {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn begin(host: &Host, job: &str, more: &[&str]) -> Self {
        let args = [&["job", "watch", job, "--fps", "10", "--json"], more].concat();
        let mut child = host.begin(&args);
        let stdout = child.stdout.take().expect("a pipe");
        Self {
            child,
            lines: BufReader::new(stdout).lines(),
        }
    }

    /// The next change; none at the end.
    fn next(&mut self) -> Option<Value> {
        let line = self.lines.next()?.expect("a line");
        Some(serde_json::from_str(&line).expect("JSON"))
    }

    fn until(&mut self, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        loop {
            let change = self.next();
            let change = change.unwrap_or_else(|| panic!("it ended before {what}"));
            if so(&change) {
                return change;
            }
        }
    }

    /// All that is still told, when the command has ended well.
    fn rest(mut self) -> Vec<Value> {
        let all: Vec<Value> = std::iter::from_fn(|| self.next()).collect();
        assert!(self.child.wait().expect("an end").success());
        all
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Size of a picture, and the colour of one pixel near its middle.
fn seen(path: &Path) -> (u32, u32, [u8; 3]) {
    let file = BufReader::new(std::fs::File::open(path).expect("a picture"));
    let mut reader = png::Decoder::new(file).read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
    let info = reader.next_frame(&mut pixels).expect("pixels");
    let at = (info.height / 2 * info.width + info.width / 2) as usize * 3;
    let colour = [pixels[at], pixels[at + 1], pixels[at + 2]];
    (info.width, info.height, colour)
}

#[test]
fn what_a_bot_paints_is_written_as_pictures_while_it_runs() {
    let host = Host::start(&Options::default());
    let colours = ["#c04020", "#20c040", "#4020c0"];
    let job = paint(&host, "2", &colours, &["--mask-area", "0,0,64x64"]);
    let out = host.dir.join("seen");
    let folder = out.display().to_string();
    let told = Watch::begin(&host, &job, &["--out", &folder]).rest();
    let shown: Vec<&Value> = told
        .iter()
        .filter(|told| told["standing"] == "shown")
        .collect();
    assert_eq!(shown[0]["whole"], true, "{told:#?}");
    let files: Vec<PathBuf> = shown
        .iter()
        .filter_map(|told| told["file"].as_str().map(PathBuf::from))
        .collect();
    let mut painted: Vec<[u8; 3]> = files
        .iter()
        .map(|file| {
            let (width, height, colour) = seen(file);
            assert_eq!((width, height), (640, 480));
            colour
        })
        .collect();
    painted.dedup();
    let last = [[0x20, 0xc0, 0x40], [0x40, 0x20, 0xc0]];
    assert!(painted.ends_with(&last), "{painted:x?}");
    // Each colour once, and what the window manager or a whole picture anew adds.
    let changes = shown.iter().filter(|told| told["changed"] != 0).count();
    assert!(changes <= 6, "nothing changed in between: {told:#?}");
    for told in &shown {
        let masked = json!([{"x": 0, "y": 0, "width": 64, "height": 64, "reason": "area"}]);
        assert_eq!(told["masked"], masked);
    }
    assert_eq!(told.last().expect("an end")["standing"], "over");
    host.report(&job);
    for (code, by) in [(100_514, "root"), (100_515, "root")] {
        host.event(code, |event| {
            event["user"] == by && event["job_id"] == job.as_str()
        });
    }
    host.assert_nothing_left();
}

#[test]
fn whoever_comes_and_goes_the_others_look_on_also_over_a_restart_of_the_agent() {
    let mut host = Host::start(&Options::default());
    let colours = ["#c04020", "#20c040"].repeat(15);
    let job = paint(&host, "1", &colours, &[]);
    let shows = |told: &Value| told["standing"] == "shown" && told["changed"] != 0;
    let mut first = Watch::begin(&host, &job, &[]);
    first.until("a picture", shows);
    let mut second = Watch::begin(&host, &job, &[]);
    assert_eq!(second.until("a picture", shows)["whole"], true);
    drop(first);
    second.until("a change", shows);
    host.kill_agent();
    second.until("it is away", |told| told["standing"] == "away");
    host.start_agent();
    assert_eq!(second.until("a picture", shows)["whole"], true);
    second.until("a change", shows);
    host.ask(&["job", "stop", "--kill", &job]);
    second.rest();
    host.report(&job);
    host.assert_nothing_left();
}

#[test]
fn a_job_without_live_view_can_not_be_watched() {
    let host = Host::start(&Options::default());
    let job = paint(&host, "60", &["#c04020"], &["--no-live-view"]);
    let refused = host.orchestrator(&["job", "watch", &job]);
    assert_eq!(refused.status.code(), Some(65));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("LIVE_VIEW_OFF"), "{said}");
    host.ask(&["job", "stop", "--kill", &job]);
    host.report(&job);
    host.assert_nothing_left();
}

#[test]
fn a_browser_draws_what_a_bot_paints() {
    const BROWSER: &str = "/usr/bin/chromium";
    assert!(
        Path::new(BROWSER).is_file(),
        "{BROWSER} is not installed: tests/run.sh does"
    );
    let host = Host::start(&Options {
        pages: true,
        ..Options::default()
    });
    let colours = ["#c04020", "#20c040", "#4020c0"].repeat(20);
    let job = paint(&host, "0.5", &colours, &[]);
    let mut watch = host.begin(&["job", "watch", &job]);
    let stdout = watch.stdout.take().expect("a pipe");
    let first = BufReader::new(stdout).lines().next();
    let first = first.expect("a line").expect("text");
    let page = first
        .strip_prefix("in a browser, once: ")
        .expect("an address");
    let (folder, picture) = (host.dir.join("browser"), host.dir.join("page.png"));
    let browsed = Command::new(BROWSER)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--window-size=900,800",
        ])
        .args(["--virtual-time-budget=1", "--timeout=6000"])
        .arg(format!("--user-data-dir={}", folder.display()))
        .arg(format!("--screenshot={}", picture.display()))
        .arg(page)
        .output()
        .expect("a browser");
    let said = String::from_utf8_lossy(&browsed.stderr).into_owned();
    let (_, _, colour) = seen(&picture);
    let painted = [[0xc0, 0x40, 0x20], [0x20, 0xc0, 0x40], [0x40, 0x20, 0xc0]];
    assert!(painted.contains(&colour), "{colour:x?} {said}");
    watch.kill().expect("a signal");
    watch.wait().expect("an end");
    host.ask(&["job", "stop", "--kill", &job]);
    host.report(&job);
    host.assert_nothing_left();
}
