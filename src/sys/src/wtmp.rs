//! The record of log-ins that `last` reads (wtmp(5)): closing what nobody will close any more.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::mem::{offset_of, size_of};
use std::path::Path;
use std::time::Duration;

type Layout = libc::utmpx;

const RECORD: usize = size_of::<Layout>();

/// Records that are looked at, from the end: a log-in that is older than so many others stays.
const MOST: u64 = 8192;

const TYPE: usize = offset_of!(Layout, ut_type);
const PID: usize = offset_of!(Layout, ut_pid);
const LINE: std::ops::Range<usize> = offset_of!(Layout, ut_line)..offset_of!(Layout, ut_id);
const USER: std::ops::Range<usize> = offset_of!(Layout, ut_user)..offset_of!(Layout, ut_host);
const HOST: std::ops::Range<usize> = offset_of!(Layout, ut_host)..offset_of!(Layout, ut_exit);
const TIME: std::ops::Range<usize> = offset_of!(Layout, ut_tv)..offset_of!(Layout, ut_addr_v6);

/// Appends an end for every log-in of this user that has none since the last boot. Returns how many.
/// A host without the file keeps no such record.
///
/// # Errors
///
/// What reading or appending said.
pub fn close_logins(path: &Path, user: &str, unix_time: Duration) -> io::Result<usize> {
    let opened = OpenOptions::new().read(true).append(true).open(path);
    let mut file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        opened => opened?,
    };
    let whole = file.metadata()?.len() / RECORD as u64;
    let skipped = whole.saturating_sub(MOST);
    file.seek(SeekFrom::Start(skipped * RECORD as u64))?;
    let mut records = Vec::new();
    let mut tail = (&file).take((whole - skipped) * RECORD as u64);
    tail.read_to_end(&mut records)?;
    let ends: Vec<_> = open_logins(&records, user)
        .into_iter()
        .map(|login| end_of(login, unix_time))
        .collect();
    for end in &ends {
        // One write each: appended whole, whoever else appends.
        file.write_all(end)?;
    }
    Ok(ends.len())
}

/// The log-ins of this user that have no end, oldest first.
fn open_logins<'a>(records: &'a [u8], user: &str) -> Vec<&'a [u8]> {
    let mut open: Vec<&[u8]> = Vec::new();
    let mut ended = BTreeSet::new();
    for record in records.chunks_exact(RECORD).rev() {
        match i16_at(record, TYPE) {
            libc::BOOT_TIME => break,
            libc::DEAD_PROCESS => _ = ended.insert(key(record)),
            // What follows a log-in on its line, by its process, has ended it.
            libc::USER_PROCESS => {
                let is_open = !ended.remove(&key(record));
                if is_open && text(&record[USER]) == user.as_bytes() {
                    open.insert(0, record);
                }
            }
            _ => {}
        }
    }
    open
}

/// The line and the process that opened it.
fn key(record: &[u8]) -> (&[u8], [u8; 4]) {
    let mut pid = [0; 4];
    pid.copy_from_slice(&record[PID..PID + 4]);
    (text(&record[LINE]), pid)
}

fn end_of(login: &[u8], unix_time: Duration) -> Vec<u8> {
    let mut end = login.to_vec();
    end[TYPE..TYPE + 2].copy_from_slice(&libc::DEAD_PROCESS.to_ne_bytes());
    end[USER].fill(0);
    end[HOST].fill(0);
    let time = &mut end[TIME];
    let half = time.len() / 2;
    // 32 bits on x86-64 for the sake of 32-bit programs, 64 on others; unsigned it lasts until 2106.
    let (seconds, micros) = (unix_time.as_secs(), u64::from(unix_time.subsec_micros()));
    let narrow = half.min(8);
    time[..narrow].copy_from_slice(&low_bytes(seconds, narrow));
    time[half..half + narrow].copy_from_slice(&low_bytes(micros, narrow));
    end
}

fn low_bytes(number: u64, count: usize) -> Vec<u8> {
    if count == 4 {
        u32::try_from(number)
            .unwrap_or(u32::MAX)
            .to_ne_bytes()
            .to_vec()
    } else {
        number.to_ne_bytes()[..count].to_vec()
    }
}

fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn i16_at(record: &[u8], at: usize) -> i16 {
    i16::from_ne_bytes([record[at], record[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: i16, user: &str, line: &str, pid: i32) -> Vec<u8> {
        let mut record = vec![0; RECORD];
        record[TYPE..TYPE + 2].copy_from_slice(&kind.to_ne_bytes());
        record[PID..PID + 4].copy_from_slice(&pid.to_ne_bytes());
        record[LINE][..line.len()].copy_from_slice(line.as_bytes());
        record[USER][..user.len()].copy_from_slice(user.as_bytes());
        record
    }

    fn closed(records: &[Vec<u8>]) -> (usize, Vec<u8>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), records.concat()).unwrap();
        let time = Duration::new(1_800_000_000, 5_000);
        let count = close_logins(file.path(), "robot01", time).unwrap();
        // Twice in a row changes nothing.
        assert_eq!(close_logins(file.path(), "robot01", time).unwrap(), 0);
        (count, std::fs::read(file.path()).unwrap())
    }

    #[test]
    fn a_login_without_an_end_gets_one_and_others_stay_as_they_are() {
        let records = [
            record(libc::USER_PROCESS, "robot01", "", 10),
            record(libc::DEAD_PROCESS, "", "", 10),
            record(libc::USER_PROCESS, "alice", "pts/0", 11),
            record(libc::USER_PROCESS, "robot01", "", 12),
        ];
        let (count, after) = closed(&records);
        assert_eq!((count, after.len()), (1, 5 * RECORD));
        let end = &after[4 * RECORD..];
        assert_eq!(i16_at(end, TYPE), libc::DEAD_PROCESS);
        assert_eq!(key(end), key(&records[3]));
        assert!(text(&end[USER]).is_empty());
        assert_eq!(end[TIME][..4], 1_800_000_000_u32.to_ne_bytes());
    }

    #[test]
    fn a_boot_ended_what_was_before_it_and_a_missing_file_is_no_error() {
        let records = [
            record(libc::USER_PROCESS, "robot01", "", 10),
            record(libc::BOOT_TIME, "reboot", "~", 0),
        ];
        assert_eq!(closed(&records).0, 0);
        let none = Path::new("/nonexistent/wtmp");
        assert_eq!(close_logins(none, "robot01", Duration::ZERO).unwrap(), 0);
    }
}
