//! Becoming a user, and proving it.

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, getgroups, getresgid, getresuid, setgroups, setresgid, setresuid};

use super::{Error, capabilities};

/// Whom to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user; never root.
    pub uid: Uid,
    /// The main group.
    pub gid: Gid,
    /// All groups that it is to have beside (the main one may be among them).
    pub groups: Vec<Gid>,
}

/// Becomes this user for good: real, effective, saved and file-system ids.
///
/// The ids are read back, and becoming root again is tried and must fail. As far as the kernel
/// drops capabilities on a change of user they are gone too; [`become_user_for_good`] leaves
/// nothing to that.
///
/// # Errors
///
/// [`Error::BecomeRoot`], [`Error::Become`], [`Error::NotBecome`] and [`Error::RootRegained`].
/// After an error the process may be anything in between: it must end.
pub fn become_user(identity: &Identity) -> Result<(), Error> {
    refuse_root(identity)?;
    change_ids(identity)?;
    verify(identity)
}

/// Becomes this user, without any capability and without a way to get one.
///
/// In this order, which is the only one that works: the bounding set while there is still the
/// right to empty it, the locked bits that keep uid 0 from meaning anything, the ids, the last
/// sets. Programs with the set-user-id bit still change the user until
/// [`super::no_new_privileges`] is called.
///
/// # Errors
///
/// As [`become_user`], and [`Error::Capabilities`] and [`Error::CapabilitiesLeft`].
pub fn become_user_for_good(identity: &Identity) -> Result<(), Error> {
    refuse_root(identity)?;
    capabilities::forbid_future_ones()?;
    change_ids(identity)?;
    capabilities::give_up_present_ones()?;
    capabilities::verify_none()?;
    verify(identity)
}

fn refuse_root(identity: &Identity) -> Result<(), Error> {
    if identity.uid.is_root() {
        Err(Error::BecomeRoot)
    } else {
        Ok(())
    }
}

fn change_ids(identity: &Identity) -> Result<(), Error> {
    let Identity {
        uid,
        gid,
        ref groups,
    } = *identity;
    let failed = |operation| {
        move |source| Error::Become {
            operation,
            uid,
            gid,
            source,
        }
    };
    // Groups first, the user last: each step takes away the right to do the ones before it.
    setgroups(groups).map_err(failed("set the groups"))?;
    setresgid(gid, gid, gid).map_err(failed("set the gid"))?;
    setresuid(uid, uid, uid).map_err(failed("set the uid"))
}

fn verify(identity: &Identity) -> Result<(), Error> {
    let Identity { uid, gid, .. } = *identity;
    if let Some(found) = difference(identity).map_err(|source| Error::Become {
        operation: "read the ids",
        uid,
        gid,
        source,
    })? {
        return Err(Error::NotBecome { uid, gid, found });
    }
    let root = Uid::from_raw(0);
    let unchanged = Uid::from_raw(u32::MAX);
    let tries = [
        (root, unchanged, unchanged),
        (unchanged, root, unchanged),
        (unchanged, unchanged, root),
    ];
    if tries
        .iter()
        .any(|(real, effective, saved)| setresuid(*real, *effective, *saved).is_ok())
    {
        return Err(Error::RootRegained { uid });
    }
    Ok(())
}

fn difference(identity: &Identity) -> Result<Option<String>, Errno> {
    let uids = getresuid()?;
    if [uids.real, uids.effective, uids.saved] != [identity.uid; 3] {
        return Ok(Some(format!(
            "uids are {}, {}, {}",
            uids.real, uids.effective, uids.saved
        )));
    }
    let gids = getresgid()?;
    if [gids.real, gids.effective, gids.saved] != [identity.gid; 3] {
        return Ok(Some(format!(
            "gids are {}, {}, {}",
            gids.real, gids.effective, gids.saved
        )));
    }
    let groups = getgroups()?;
    if sorted(&groups) != sorted(&identity.groups) {
        return Ok(Some(format!("groups are {groups:?}")));
    }
    Ok(None)
}

fn sorted(groups: &[Gid]) -> Vec<u32> {
    let mut raw: Vec<u32> = groups.iter().map(|gid| gid.as_raw()).collect();
    raw.sort_unstable();
    raw.dedup();
    raw
}
