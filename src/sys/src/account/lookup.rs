//! What the host knows of an account (getpwnam(3), and so also of a domain's).

use std::ffi::CString;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, User, getgrouplist};

use crate::process::Identity;

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name, as the host spells it.
    pub name: String,
    /// Its user id.
    pub uid: Uid,
    /// Its main group.
    pub gid: Gid,
    /// All its groups, the main one included.
    pub groups: Vec<Gid>,
    /// Its home folder.
    pub home: PathBuf,
    /// Its login shell.
    pub shell: PathBuf,
}

impl Account {
    /// What a process takes on to run as this account.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity {
            uid: self.uid,
            gid: self.gid,
            groups: self.groups.clone(),
        }
    }
}

/// The account database could not be asked. That there is no such account is no error.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// By name.
    #[error("can't look up the account {name:?}")]
    Name {
        /// Which.
        name: String,
        /// The reason.
        source: Errno,
    },
    /// By user id.
    #[error("can't look up the account with uid {uid}")]
    Uid {
        /// Which.
        uid: Uid,
        /// The reason.
        source: Errno,
    },
    /// Its groups.
    #[error("can't look up the groups of {name:?}")]
    Groups {
        /// Whose.
        name: String,
        /// The reason.
        source: Errno,
    },
}

/// The account of that name, if there is one.
///
/// # Errors
///
/// [`LookupError::Name`] and [`LookupError::Groups`].
pub fn by_name(name: &str) -> Result<Option<Account>, LookupError> {
    let failed = |source| LookupError::Name {
        name: name.to_owned(),
        source,
    };
    User::from_name(name)
        .map_err(failed)?
        .map(account)
        .transpose()
}

/// The account with that id, if there is one; the first, if several share it.
///
/// # Errors
///
/// [`LookupError::Uid`] and [`LookupError::Groups`].
pub fn by_uid(uid: Uid) -> Result<Option<Account>, LookupError> {
    User::from_uid(uid)
        .map_err(|source| LookupError::Uid { uid, source })?
        .map(account)
        .transpose()
}

fn account(user: User) -> Result<Account, LookupError> {
    let groups = CString::new(user.name.as_str()).map_err(|_| Errno::EINVAL);
    let groups = groups.and_then(|name| getgrouplist(&name, user.gid));
    match groups {
        Ok(groups) => Ok(Account {
            name: user.name,
            uid: user.uid,
            gid: user.gid,
            groups,
            home: user.dir,
            shell: user.shell,
        }),
        Err(source) => Err(LookupError::Groups {
            name: user.name,
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_by_name_and_by_id() {
        let root = by_name("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (Uid::from_raw(0), Gid::from_raw(0)));
        assert!(root.groups.contains(&root.gid));
        assert_eq!(by_uid(root.uid).unwrap().unwrap(), root);
    }

    #[test]
    fn no_account_is_an_answer_and_no_error() {
        assert_eq!(by_name("robotd-no-such-account").unwrap(), None);
        assert_eq!(by_name("with\0zero").ok().flatten(), None);
        assert_eq!(by_uid(Uid::from_raw(4_000_000_000)).unwrap(), None);
    }
}
