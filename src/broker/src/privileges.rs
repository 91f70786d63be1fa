//! Who takes the rights of another user on this host (sudo, su and the like), as PAM tells the journal.
//!
//! journalctl reads the journal, as a user without rights; here only its lines are read. What
//! counts is the program that journald itself saw (`_EXE`): anybody can write the same text.

use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use sys::process::{Identity, Spawn};

use crate::bus::Seen;
use crate::rate::Rate;

const JOURNALCTL: &str = "/usr/bin/journalctl";

/// The group that may read the journal.
const READERS: &str = "systemd-journal";

/// authpriv, which PAM modules log to.
const FACILITY: &str = "SYSLOG_FACILITY=10";

/// The programs that give rights to who asks, where distributions install them: a copy elsewhere is
/// anybody's.
const GIVERS: [&str; 9] = [
    "/usr/bin/sudo",
    "/usr/bin/su",
    "/bin/su",
    "/usr/bin/pkexec",
    "/usr/bin/doas",
    "/usr/lib/polkit-1/polkit-agent-helper-1",
    "/usr/libexec/polkit-agent-helper-1",
    "/usr/lib/policykit-1/polkit-agent-helper-1",
    "/usr/lib/cargo/bin/sudo",
];

/// Events of one minute; what is more is counted. Somebody may write the journal full.
const A_MINUTE: u32 = 20;

/// Longest line that is looked at: PAM's are a few hundred bytes.
const LONGEST: u64 = 16 * 1024;

/// Before journalctl is started again after its end.
const AGAIN: Duration = Duration::from_secs(30);

/// One change of rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Who took them.
    pub(crate) by: String,
    /// Whose they are.
    pub(crate) user: String,
    /// PAM service.
    pub(crate) service: String,
}

/// Tells what it reads until `tell` says that nobody listens.
pub(crate) fn watch(reader: &Identity, tell: impl Fn(Seen) -> bool) {
    let host = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let mut told = false;
    loop {
        let began = sys::clock::boottime();
        let Err(reason) = follow(reader, host.trim(), &tell) else {
            return;
        };
        // One that ran for a while is another failure.
        told &= sys::clock::boottime() < began + AGAIN;
        if !told && !tell(Seen::Deaf(reason)) {
            return;
        }
        told = true;
        std::thread::sleep(AGAIN);
    }
}

/// The identity to read with: this user, in the journal's group.
pub(crate) fn reader(user: &str) -> Option<Identity> {
    let user = sys::account::by_name(user).ok()??;
    let group = nix::unistd::Group::from_name(READERS).ok()??;
    Some(Identity {
        uid: user.uid,
        gid: group.gid,
        groups: vec![group.gid],
    })
}

/// `Ok` when nobody listens any more.
fn follow(reader: &Identity, host: &str, tell: &impl Fn(Seen) -> bool) -> Result<(), String> {
    let started = Spawn::new(Path::new(JOURNALCTL))
        .arg("--follow")
        // By default -f shows this boot only, and a container's boot id is not what /proc says.
        .arg("--merge")
        .arg("--lines=0")
        .arg("--quiet")
        .arg("--output=json")
        .arg("--output-fields=MESSAGE,_EXE,_MACHINE_ID")
        .arg(FACILITY)
        .identity(reader.clone())
        .stream();
    let (process, pipe) = started.map_err(|error| crate::text(&error))?;
    let ended = tell_lines(std::fs::File::from(pipe), host, tell);
    // Whatever ended it.
    let _ = process.send(sys::Signal::SIGKILL);
    let _ = process.wait();
    ended
}

fn tell_lines(pipe: std::fs::File, host: &str, tell: &impl Fn(Seen) -> bool) -> Result<(), String> {
    let mut lines = BufReader::new(pipe);
    let (mut line, mut rate) = (Vec::new(), Rate::new(A_MINUTE));
    let began = sys::clock::unix_ms();
    while next_line(&mut lines, &mut line).map_err(|error| error.to_string())? {
        let Some(taken) = read(&line, host, began) else {
            continue;
        };
        if let Some(more) = rate.take()
            && !tell(Seen::Rights(taken, more))
        {
            return Ok(());
        }
    }
    Err("journalctl ended".to_owned())
}

/// The next line into the buffer, a long one cut. `false` at the end.
fn next_line(lines: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    let read = lines.by_ref().take(LONGEST).read_until(b'\n', line)?;
    if read > 0 && line.last() != Some(&b'\n') {
        lines.skip_until(b'\n')?;
    }
    Ok(read > 0)
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "_MACHINE_ID")]
    host: String,
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    at_us: String,
    #[serde(rename = "MESSAGE")]
    message: String,
    #[serde(rename = "_EXE")]
    program: String,
}

/// A line of journalctl's, if it tells of a change of rights since then. What is no UTF-8, or no
/// object, is none of PAM's.
fn read(line: &[u8], host: &str, since_unix_ms: u64) -> Option<Taken> {
    let entry: Entry = serde_json::from_slice(line).ok()?;
    let at_us: u64 = entry.at_us.parse().ok()?;
    // Merged files may begin with what was there before.
    // Journals of other hosts may be collected here.
    if at_us / 1000 < since_unix_ms || entry.host != host {
        return None;
    }
    if !GIVERS.contains(&entry.program.as_str()) {
        return None;
    }
    // pam_unix(sudo:session): session opened for user root(uid=0) by alice(uid=1000)
    let rest = entry.message.strip_prefix("pam_unix(")?;
    let (service, rest) = rest.split_once(":session): session opened for user ")?;
    let (user, by) = rest.split_once(" by ")?;
    // root gives rights up, it does not take any.
    if by.ends_with("(uid=0)") {
        return None;
    }
    let name = |text: &str| text.split('(').next().unwrap_or_default().to_owned();
    let by = match name(by) {
        unnamed if unnamed.is_empty() => by.to_owned(),
        named => named,
    };
    Some(Taken {
        by,
        user: name(user),
        service: service.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(program: &str, message: &str) -> Vec<u8> {
        serde_json::json!({ "_EXE": program, "MESSAGE": message, "__REALTIME_TIMESTAMP": "5000000", "_MACHINE_ID": "m" })
            .to_string()
            .into_bytes()
    }

    const SUDO: &str =
        "pam_unix(sudo:session): session opened for user root(uid=0) by alice(uid=1000)";

    #[test]
    fn sudo_and_su_of_people_are_told_with_who_and_whose() {
        let taken = |by: &str, user: &str, service: &str| {
            Some(Taken {
                by: by.into(),
                user: user.into(),
                service: service.into(),
            })
        };
        assert_eq!(
            read(&line("/usr/bin/sudo", SUDO), "m", 5000),
            taken("alice", "root", "sudo")
        );
        let su = "pam_unix(su-l:session): session opened for user robot01(uid=60600) by (uid=1000)";
        assert_eq!(
            read(&line("/usr/bin/su", su), "m", 5000),
            taken("(uid=1000)", "robot01", "su-l")
        );
    }

    #[test]
    fn what_was_there_before_is_not_told_again() {
        assert_eq!(read(&line("/usr/bin/sudo", SUDO), "m", 5001), None);
        assert_eq!(
            read(&line("/usr/bin/sudo", SUDO), "another host", 5000),
            None
        );
    }

    #[test]
    fn text_of_other_programs_and_roots_own_changes_are_not() {
        assert_eq!(read(&line("/home/mallory/sudo", SUDO), "m", 5000), None);
        let message = "   alice : COMMAND=/bin/echo pam_unix(sudo:session): session opened for user root by x";
        assert_eq!(read(&line("/usr/bin/sudo", message), "m", 5000), None);
        let root =
            "pam_unix(su:session): session opened for user robot01(uid=60600) by root(uid=0)";
        assert_eq!(read(&line("/usr/bin/su", root), "m", 5000), None);
        for odd in [
            &b"[]"[..],
            b"{}",
            b"",
            b"{\"MESSAGE\":[1,2],\"_EXE\":\"/usr/bin/su\"}",
        ] {
            assert_eq!(read(odd, "m", 0), None);
        }
    }

    #[test]
    fn a_line_without_an_end_in_sight_is_cut_and_the_next_one_is_read() {
        let mut text = vec![b'x'; 40_000];
        text.extend(b"\nnext\n");
        let (mut lines, mut line) = (&text[..], Vec::new());
        assert!(next_line(&mut lines, &mut line).unwrap());
        assert_eq!(line.len() as u64, LONGEST);
        assert!(next_line(&mut lines, &mut line).unwrap());
        assert_eq!(line, b"next\n");
        assert!(!next_line(&mut lines, &mut line).unwrap());
    }
}
