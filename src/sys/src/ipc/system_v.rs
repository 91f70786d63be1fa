//! System V objects (sysvipc(7)).

use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::Uid;

use super::Error;

/// One of the three tables.
pub(super) struct Table {
    kind: &'static str,
    file: &'static str,
    id_column: &'static str,
    remove: fn(i32) -> i32,
}

pub(super) const SEGMENTS: Table = Table {
    kind: "shared memory segment",
    file: "/proc/sysvipc/shm",
    id_column: "shmid",
    remove: remove_segment,
};

pub(super) const SEMAPHORES: Table = Table {
    kind: "semaphore set",
    file: "/proc/sysvipc/sem",
    id_column: "semid",
    remove: remove_semaphores,
};

pub(super) const QUEUES: Table = Table {
    kind: "message queue",
    file: "/proc/sysvipc/msg",
    id_column: "msqid",
    remove: remove_queue,
};

fn remove_segment(id: i32) -> i32 {
    // SAFETY: IPC_RMID ignores the buffer, which may be null.
    unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) }
}

fn remove_semaphores(id: i32) -> i32 {
    // SAFETY: IPC_RMID takes no fourth argument and ignores the number.
    unsafe { libc::semctl(id, 0, libc::IPC_RMID) }
}

fn remove_queue(id: i32) -> i32 {
    // SAFETY: IPC_RMID ignores the buffer, which may be null.
    unsafe { libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()) }
}

impl Table {
    /// The ids of what this user owns or has made: who made it may change its owner.
    pub(super) fn owned_by(&self, uid: Uid) -> Result<Vec<i32>, Error> {
        let path = PathBuf::from(self.file);
        match std::fs::read_to_string(&path) {
            Ok(text) => parse(&text, self.id_column, uid).ok_or(Error::OddTable { path }),
            Err(source) => Err(Error::Read { path, source }),
        }
    }

    pub(super) fn remove_of(&self, uid: Uid) -> Result<usize, Error> {
        let ids = self.owned_by(uid)?;
        for id in &ids {
            match Errno::result((self.remove)(*id)) {
                // Removed by someone else meanwhile.
                Ok(_) | Err(Errno::EIDRM | Errno::EINVAL) => {}
                Err(source) => {
                    return Err(Error::RemoveObject {
                        kind: self.kind,
                        id: *id,
                        source,
                    });
                }
            }
        }
        Ok(ids.len())
    }
}

fn parse(text: &str, id_column: &str, uid: Uid) -> Option<Vec<i32>> {
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next()?.split_ascii_whitespace().collect();
    let column = |name: &str| head.iter().position(|title| *title == name);
    let (id, owner, creator) = (column(id_column)?, column("uid")?, column("cuid")?);
    let mut ids = Vec::new();
    for line in lines {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let user = |column: usize| fields.get(column)?.parse::<u32>().ok();
        if [user(owner)?, user(creator)?].contains(&uid.as_raw()) {
            ids.push(fields.get(id)?.parse().ok()?);
        }
    }
    Some(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n";

    #[test]
    fn owner_and_creator_count() {
        let text = format!(
            "{HEAD} 0 1 600 1 7 0 0 0 0 0\n 0 2 600 1 0 0 7 0 0 0\n 0 3 600 1 0 7 0 7 0 0\n"
        );
        assert_eq!(parse(&text, "semid", Uid::from_raw(7)), Some(vec![1, 2]));
    }

    #[test]
    fn a_table_that_can_not_be_read_is_not_an_empty_one() {
        assert_eq!(parse("", "semid", Uid::from_raw(7)), None);
        assert_eq!(
            parse(&format!("{HEAD} 0 1\n"), "semid", Uid::from_raw(7)),
            None
        );
        assert_eq!(parse(HEAD, "semid", Uid::from_raw(7)), Some(vec![]));
    }
}
