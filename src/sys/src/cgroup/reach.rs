//! Which controllers reach the groups of jobs.

use nix::unistd::Pid;

use super::{Error, Group};

/// The controllers that a job's group has or can be given, by name. `by_systemd`: its group is a slice,
/// for which systemd turns on whatever the kernel offers at the root; otherwise it is a group of our
/// own below the caller's, which has what that one hands on.
///
/// # Errors
///
/// As [`Group::of_process`], and [`Error::Read`].
pub fn reaching_jobs(by_systemd: bool) -> Result<Vec<String>, Error> {
    if by_systemd {
        return Group::root()?.controllers();
    }
    let own = Group::of_process(Pid::this())?;
    let handed_on = own.read("cgroup.subtree_control")?;
    let handed_on = handed_on.split_ascii_whitespace().map(str::to_owned);
    Ok(handed_on.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reaches_jobs_is_no_more_than_the_kernel_has() {
        let all = Group::root().unwrap().controllers().unwrap();
        for by_systemd in [true, false] {
            let reaching = reaching_jobs(by_systemd).unwrap();
            assert!(
                reaching.iter().all(|name| all.contains(name)),
                "{reaching:?} of {all:?}"
            );
        }
    }
}
