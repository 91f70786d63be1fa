//! The catalogue: one row per event.

use serde::{Deserialize, Serialize};

/// How bad an event is, in syslog's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody has to look before the host or the slot is used on.
    Critical = 2,
    /// Something failed.
    Error = 3,
    /// Something was refused or is about to fail.
    Warning = 4,
    /// Normal, and worth knowing.
    Notice = 5,
    /// Normal.
    Info = 6,
}

impl Severity {
    /// syslog's number, as the journal's PRIORITY wants it.
    #[must_use]
    pub fn priority(self) -> u8 {
        self as u8
    }
}

macro_rules! catalogue {
    ($($variant:ident = $number:literal, $severity:ident, $id:literal, $text:literal, $advice:literal;)*) => {
        /// What happened. The number is the stable one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $text] $variant = $number,)*
        }

        impl Code {
            /// Every code, in the order of the numbers.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name, stable as the number is.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)* }
            }

            /// How bad it is.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)* }
            }

            /// The journal's MESSAGE_ID.
            #[must_use]
            pub fn message_id(self) -> u128 {
                match self { $(Self::$variant => $id,)* }
            }

            /// The sentence, with the names of data fields in braces.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// What it means and what to do.
            #[must_use]
            pub fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)* }
            }
        }
    };
}

#[rustfmt::skip]
catalogue! {
    // Licenses: Primo's numbers with Primo's meaning.
    LicenseTakeAvailableRobotOk = 608, Info, 0x8b88563d2ca842529ab5a8c9619505aa,
        "a license of pool {pool} was leased for the job (lease {lease}, fence {fence})",
        "The job holds a license from now until it is returned or its lease ends. Nothing to do.";
    LicenseTakeAvailableRobotError = 609, Warning, 0x8d4e42365d674803a86be0153263ceb8,
        "no license of pool {pool} could be leased: {reason}",
        "The job waits or was given back. See `robot-orchestrator license list` for who holds the pool's licenses; raise the count with `license set` if it is too small.";
    LicenseRobotReleaseOk = 610, Info, 0xf75fffaab3504c25b62591db05d3c73b,
        "the license of pool {pool} was returned (lease {lease}, fence {fence})",
        "The job is over and wiped; the license is free for the next. Nothing to do.";
    LicenseRobotReleaseError = 611, Warning, 0x6f4a1e8021c1440fb86564b0e56b40e9,
        "the license of pool {pool} could not be returned (lease {lease}): {reason}",
        "It becomes free by itself when its lease ends. If this repeats, look at the link between agent and orchestrator.";
    LicenseRobotTimeoutRelease = 616, Warning, 0x435d0a30a32e4eb6ae651514bfd726a7,
        "the lease {lease} of pool {pool} ended without a return and was taken back",
        "The agent did not renew in time: it is down, cut off or its job hangs. The job's own end is another event; an agent that comes back late is fenced off.";
    // 1000xx: agents, their certificates and their link.
    AgentStarted = 100001, Info, 0xfe37f1db03da4a81beaf24e3883a940b,
        "the agent started, version {version}",
        "Nothing to do.";
    AgentStopped = 100002, Notice, 0xce2749447a1941ecb3e0ad660490c24e,
        "the agent stopped: {reason}",
        "Running jobs go on under the broker; the agent finds them again when it starts.";
    AgentEnrolled = 100003, Notice, 0x6b8e6e5d40e0458b97a62268061d9c18,
        "the host enrolled as agent {agent}",
        "If nobody enrolled this host on purpose, revoke the agent with `robot-orchestrator agent revoke`.";
    AgentEnrolmentRefused = 100004, Warning, 0xcc79af20c2884af6af5a8298206d8ca9,
        "an enrolment was refused: {reason}",
        "Tokens work once and not for long. Make a new one with `robot-orchestrator token create`; if nobody tried to enrol, find out who holds a token.";
    AgentCertificateRenewed = 100005, Info, 0xcc88bcf25d5d4901b69d93454bfce5da,
        "the agent's certificate was renewed, serial {serial}",
        "Nothing to do.";
    AgentCertificateRefused = 100006, Warning, 0xcf113d8973f14b4380298b1effd92c6a,
        "a certificate was refused: {reason}",
        "A revoked, expired or foreign certificate was used. If the agent is yours, enrol it again; otherwise find out who holds its key.";
    AgentLinkOpened = 100007, Info, 0x868c2e2127514d769866f796e79a7aee,
        "the link to the orchestrator is open",
        "Nothing to do.";
    AgentLinkLost = 100008, Warning, 0x04ca5df7cd104b79b8246958e42c460b,
        "the link to the orchestrator is lost: {reason}",
        "Jobs go on and their output waits in the spool. The agent tries again by itself; look at network and certificates if it stays so.";
    AgentDraining = 100009, Notice, 0x43983ceb73c1491ab349ee6e32aa3cd5,
        "the agent takes no new jobs",
        "Asked for with `robotctl drain`; `robotctl resume` ends it.";
    AgentResumed = 100010, Notice, 0xde1331bdc59446b786b8450df91bacb2,
        "the agent takes jobs again",
        "Nothing to do.";
    AgentReverted = 100011, Error, 0xd0ea9c8a71364503b3c8bde853375092,
        "the host's records are older than what the orchestrator holds: {reason}",
        "The machine was reverted to a snapshot, cloned or lost power with unsynced writes. Numbering began anew and nothing is dropped; a clone must be enrolled as an agent of its own.";
    ConfigRefused = 100012, Error, 0xc5c3ead5cd3c44a2b5001c2607274eec,
        "the configuration was refused: {reason}",
        "Correct the file and check it with `robotctl validate`.";
    // 1001xx: OS sessions and slots.
    SessionOpened = 100101, Info, 0x3765f79a579348b4acfb58b5e4458046,
        "a session was opened for account {account} ({backend})",
        "Nothing to do.";
    SessionClosed = 100102, Info, 0x808387e250d3439f90149160bd269900,
        "the session of account {account} was closed and is proven gone",
        "Nothing to do.";
    SessionOpenRefused = 100103, Error, 0xbf3b46dc2b0b42a8b146671c7a5b22ed,
        "no session could be opened for account {account}: {reason}",
        "The job did not start. Look at the account (`getent passwd`), at /etc/pam.d/robotd and at the host's authentication log.";
    SlotQuarantined = 100104, Critical, 0x816f90018ce44e7d8a2f7e24acc1b197,
        "slot {slot} is out of use: {reason}",
        "Something of a job is left or could not be proven gone. Look at the leftovers that the event names, remove them, then run `robotctl slot recover`.";
    SlotRecovered = 100105, Notice, 0xe59099c454854caca58d0c7b8060d9d0,
        "slot {slot} is in use again",
        "An administrator recovered it. Nothing to do.";
    SessionLost = 100106, Error, 0xcfab957f224b444c982a93e8f2699c72,
        "the session's supervisor died: {reason}",
        "The broker tore the session down and wiped it. Look in the journal for what ended robotd-session: out of memory, a signal or a bug.";
    DisplayFailed = 100107, Error, 0xe9f7d704409c44beb6f7332f90bf409f,
        "the job's display failed: {reason}",
        "Check that Xvfb and openbox are installed and that the display's size is sensible.";
    SessionStale = 100108, Warning, 0xb7da4c1117e346988c3601de12425a66,
        "a session of a bot account was found that belongs to no job: {what}",
        "It was left by a job whose records are gone (state directory removed or restored). Its slot takes no job until it is torn down, which was begun.";
    SlotTenantChanged = 100120, Notice, 0x8995547b665a4082b92f113d05e474e4,
        "slot {slot} passes from tenant {from} to tenant {tenant}",
        "The policy names the slot for this tenant or shares slots (session.share-slots). The slot was proven clean after its last job. Nothing to do.";
    SlotTenantReleased = 100121, Notice, 0x49585bf3159843c0a772d00ab9cb56d1,
        "slot {slot} belongs to no tenant any more; it was last used by {from}",
        "An administrator released it with `robotctl slot release-tenant`. The next job's tenant takes it. Nothing to do.";
    // 1002xx: jobs.
    JobStarted = 100201, Info, 0x8b16af241150467bbde279ea67aaf533,
        "the job's order was accepted; it runs as account {account}",
        "Nothing to do.";
    JobEnded = 100202, Info, 0xef7283d1e43f46efa82cef35d1a339b3,
        "the job ended: {outcome}",
        "The signed result says how, when and what was left. `robot-orchestrator job show` prints it.";
    OrderRefused = 100203, Error, 0xeb9e75c6129a40b88d2d226e5b23ce27,
        "an order was refused ({reason_code}): {reason}",
        "An order that was altered, replayed, is out of date or is meant for another host never starts. If the orchestrator sent it in good faith, compare clocks, order keys and the host's policy; otherwise treat the orchestrator or robotd as attacked.";
    PackageRefused = 100204, Error, 0xcc2c7885d2e7491badbf8ebfbde82843,
        "a package was refused ({reason_code}): {reason}",
        "Its signature, digest or content is not acceptable. Check who published it and push it again with `robot-orchestrator package push --sign`.";
    SecretRead = 100205, Notice, 0x963cd292592048568d6deb33e6dd9d61,
        "the bot read the secret {secret}",
        "The bot asked for a secret that its order grants. Its value is masked in the job's output. Nothing to do.";
    SecretRefused = 100206, Warning, 0x4a2fd1528a13446f99e963ca467517c1,
        "the secret {secret} was refused to the bot ({reason_code}): {reason}",
        "Grant it with `job submit --secret NAME`, or find out why the bot asks for what it was not given.";
    OfferRefused = 100207, Notice, 0xf3ae92e9902c4552a718fe8d7e148c17,
        "an offered job was refused ({reason_code}): {reason}",
        "The agent is busy, draining, has no clean slot or may not do it. The orchestrator offers the job elsewhere.";
    JobStopRequested = 100208, Notice, 0x05e660496db9445fb125d5ca062fd7cf,
        "the job was told to stop: {reason}",
        "Nothing to do.";
    LeaseEnded = 100209, Warning, 0xe5b4e69d530b402587355f2926a4f4cf,
        "the license lease of the job ended while it ran: {reason}",
        "The orchestrator could not be reached or did not renew. Whether the bot was stopped or finishes is this host's policy (lease.on-loss).";
    RenewalRefused = 100210, Error, 0x0d7c11d511a84a089c869b1c24bae7ce,
        "a renewal of the job's lease was refused ({reason_code}): {reason}",
        "A renewal that is altered, old or for another job changes nothing. If this repeats, treat the sender as attacked.";
    OutputLost = 100211, Warning, 0xfe5aecbba82543a28d7f33bd10a90165,
        "output of the bot was not kept: {reason}",
        "The job's log holds a gap that counts what is missing. Raise the job's log limit or free disk space under the spool.";
    ArtifactRefused = 100212, Warning, 0x10b42c519efe4bcdb93fee0f5ad3233a,
        "an artifact was refused ({reason_code}): {reason}",
        "It is too large, one too many, or not a plain file. Raise the job's artifact limit or change the bot.";
    SpoolFailed = 100213, Error, 0x7c757053843e403eb7d22d36989b2080,
        "the job's spool can't be written ({reason_code}): {reason}",
        "The disk is full or failing. The job was ended so that nothing runs unrecorded. Free space under the spool directory or replace the disk.";
    AttendantLost = 100214, Error, 0x4cadc498029645f29db26be590646a13,
        "the job's attendant died and was started again: {reason}",
        "At most one read of output is missing and stands in the log as a gap. Look in the journal for what ended robotd-attendant.";
    PackageRemoved = 100220, Info, 0x7eddae3c7154488c87359df48bc347ea,
        "package {package} was removed from the store: {reason}",
        "Its space was needed, nobody used it for long, or its publisher was revoked. It is fetched again when a job needs it and may have it.";
    LimitReached = 100230, Warning, 0x3bab478977734c459bf096bf04719a6d,
        "the job came to a limit of its order ({limit}): {reason}",
        "The bot needs more than the order gives it, or runs wild. Look at its output; if it is in order, submit it with a higher limit, as far as the host's policy goes.";
    LimitsNotEnforced = 100231, Warning, 0xcef271c01a9e40dab4e68fe2164394ca,
        "limits of jobs are not enforced by this host ({limits}): {reason}",
        "Jobs run without them. Have the kernel offer the controllers of cgroup version 2 (memory, pids, cpu, io) to the group that the jobs are in.";
    // 1003xx: the wipe.
    Wiped = 100301, Info, 0x663030d0050d4fbe85233f536015c9d2,
        "the job was wiped ({method}): {files} files, {bytes} bytes, nothing left",
        "Nothing to do.";
    WipeFailed = 100302, Critical, 0x44962538acbb4ea2bd57200d5020fa00,
        "the wipe of the job is not complete: {reason}",
        "The slot is out of use until somebody has looked. Remove what the event names, then run `robotctl slot recover`.";
    LeftoversRemoved = 100303, Warning, 0xda51b16667f041899150aeb32b1b446b,
        "what an interrupted job had left was removed: {reason}",
        "The host or the broker was stopped while a job ran. The teardown at the next start ended and wiped it. Nothing to do.";
    // 1004xx: the privileged boundary.
    PeerRefused = 100401, Error, 0xa182bfd02fdd43af8545b57716d1fb59,
        "a connection to {socket} was refused: its peer is uid {uid}",
        "Only robotd's own programs may connect there. Find out what that account was doing.";
    MessageMalformed = 100402, Error, 0xa913b34b55b14a4ebb25a3f71f713e81,
        "a malformed message on {socket} ended its connection: {reason}",
        "Programs of different versions run after an upgrade (restart them all), or one of them is attacked.";
    RequestRefused = 100403, Warning, 0x70c18649e0ec466a90ffacebedb60cc4,
        "a request was refused ({reason_code}): {reason}",
        "robotd asked for what the attempt's state or the policy does not allow. If it repeats, treat robotd as attacked.";
    PolicyRefused = 100404, Critical, 0x5906b7918b7345308210ff52f2284b82,
        "the policy was refused: {reason}",
        "The broker works under no policy that it can't trust. Correct owner, mode or content of policy.toml and check it with `robotctl validate`.";
    AccountRefused = 100405, Error, 0x59f7f71199744eb299f54f6eb70e787a,
        "account {account} was refused: {reason}",
        "The policy does not allow it, or it is not fit to run bots. Name it in policy.toml only if bots may really run as it.";
    OrderKeysChanged = 100420, Notice, 0xf8ed8959fa954e0283a2153deb203916,
        "the order keys of this host changed: key set {version}, {keys}",
        "The offline root key signed it. If nobody rotated or revoked an order key, treat the root key as lost: enrol again with a new one.";
    KeySetRefused = 100421, Error, 0x48a1b81a2b66408ab91612488a3fe78b,
        "a set of order keys was refused ({reason_code}): {reason}",
        "It was altered, is older than the one in force, or another root key signed it. The keys in force stay. If the orchestrator sent it in good faith, sign a newer set; otherwise treat the orchestrator or robotd as attacked.";
    ClockJumped = 100422, Warning, 0xfa89482ebf24415793a18c1d8aa38efe,
        "the clock jumped by {seconds} s: reservations were given new challenges",
        "The time was set, or this machine was paused, reverted to a snapshot or cloned while it ran. Orders that were under way are refused as replayed and offered again.";
    // 1005xx: the orchestrator.
    TokenCreated = 100501, Notice, 0x9e0180408bd1459f85212a832f5f3806,
        "an enrolment token was created for agent {agent}",
        "If you did not ask for it, find out who can use the orchestrator's command line.";
    TokenRefused = 100502, Warning, 0xc0f4d829c3a64feeb007ef33bd687fe9,
        "an enrolment token was refused: {reason}",
        "It was used before, is too old or was never made here. Repeated refusals are somebody guessing.";
    AgentRevoked = 100503, Notice, 0xc69483e80b85412487b55df1df4dd5de,
        "agent {agent} was revoked",
        "Its certificate is refused from now on. Enrol it again with a new token if it was a mistake.";
    ResultSignatureInvalid = 100504, Critical, 0xe6aeae1e3f464bd3b4f2e315a1d8157f,
        "the result of the job is not signed by its host's broker: {reason}",
        "Do not trust it. robotd on that host may be attacked, or the broker's key changed without an enrolment.";
    PackagePushed = 100505, Notice, 0xb6f0439ff4814310be40439dada9d5bf,
        "package {package} was pushed, publisher {publisher}",
        "Nothing to do.";
    PackagePushRefused = 100506, Warning, 0x72092810f9da483c9fd814a92d8a3fa1,
        "a pushed package was refused ({reason_code}): {reason}",
        "Correct the package and push it again.";
    JobSubmitted = 100507, Info, 0xd152431db225473c87644d6897963e64,
        "a job was submitted for package {package}",
        "Nothing to do.";
    SecretSet = 100508, Notice, 0x4bdbaf515f11423fb96972d0b66bd398,
        "the secret {secret} was set",
        "Nothing to do.";
    LicenseSet = 100509, Notice, 0x03bcd983a44f48c29201e4e5166629f6,
        "pool {pool} has {count} licenses now",
        "Nothing to do.";
    ConnectionRefused = 100510, Warning, 0x49f5a763da354311b1e2356c3bc04475,
        "a connection was refused: {reason}",
        "Its certificate is revoked, expired or not of this orchestrator, or it broke the protocol.";
    CommandRefused = 100511, Warning, 0x9192ef0e3cb74d91ac4134ec42967e9b,
        "a command was refused: its peer is uid {uid}",
        "Only root and the orchestrator's own user may command it.";
    RecordRefused = 100512, Error, 0x96e24202955847c2ab4b7ef2759ebfca,
        "a record of agent {agent} was counted but not kept: {reason}",
        "It was malformed or too large. The agent is of another version or attacked.";
    JobReoffered = 100513, Notice, 0xb08cba94cc7c49138c58611817491038,
        "the job goes back to the queue: {reason}",
        "Nothing to do.";
    ScreenWatchBegan = 100514, Notice, 0x17f7592e32334baf9b3fb37d0c3ed3b9,
        "{user} began to look on at the screen of the job",
        "If nobody was to look on, find out who can use the orchestrator's command line or has an address of its page. `job submit --no-live-view` makes a job that can't be watched.";
    ScreenWatchEnded = 100515, Info, 0x7ef2a13c24b04409823452d7e39533b0,
        "{user} looks on at the screen of the job no more",
        "Nothing to do.";
    OrderKeysInstalled = 100520, Notice, 0x5b0d238e220f4abea926e72e416873db,
        "key set {version} was installed; orders are signed with {key} now",
        "If nobody rotated or revoked an order key, find out who can use the orchestrator's command line and who holds the root key.";
    // 1006xx: people on the host.
    PersonLoggedIn = 100601, Notice, 0xadb940c57cc14f1e8fc2e70b5d4754ab,
        "{user} logged in: {what}",
        "Somebody works on a host that runs bots. If nobody should, find out who; `session.people` in policy.toml decides whether jobs run meanwhile.";
    PersonLoggedOut = 100602, Info, 0xcb7934f22e72496996a3d52566bff3d2,
        "{user} logged out: {what}",
        "Nothing to do.";
    BotAccountLoggedIn = 100603, Error, 0x19af55cfedce4f72a189e4a5a52efff1,
        "somebody logged in as {user}, an account of bots: {what}",
        "Bot accounts are for jobs only; the slot takes no job meanwhile. Find out who it is and how: the account has no password and no shell of its own.";
    PrivilegesTaken = 100604, Notice, 0x344a9bb0d40b45fba4d11cc7f1fe76ed,
        "{by} took the rights of {user} ({service})",
        "Somebody used sudo, su or the like on a host that runs bots. If it was not an administrator at work, find out who it was.";
    PeopleNotWatched = 100605, Warning, 0x71f6add6e77946e4b5a52676768dbf65,
        "log-ins on this host can't be watched: {reason}",
        "logind, D-Bus or the journal does not answer. Jobs go on; log-ins are not events until it does.";
    // 1007xx: what the host can do, and what a job goes without.
    SandboxWeakened = 100701, Warning, 0x0107986455fe4e77acc58241bcf06fcc,
        "the job runs in sandbox profile legacy without {without}",
        "This host's policy says so (sandbox.legacy.without). The result says it too. Take out what the programs of this host do not need.";
    HostNotAble = 100702, Error, 0xaa6d59cf012f4926b7217660807579a7,
        "this host can't do what its policy requires: {missing}",
        "Offers are refused until it can. Enable what is missing (kernel, boot arguments, packages) and restart robotd-broker, or take it out of host.require in policy.toml.";
    HostNotProbed = 100703, Error, 0x303764cbfe25483bbdfc27760ffd5427,
        "what this host can do is not known: {reason}",
        "`robotd-session --probe` did not report. Where the policy requires abilities, offers are refused. Look in the journal for robotd-probe.service.";
    // 1008xx: the network of jobs.
    NetworkRefused = 100801, Warning, 0xc6c28d113c324665a213bf42615c0d63,
        "the bot was refused {asked} ({reason_code}), {count} times: {reason}",
        "The job's network profile does not allow it. If the bot is to reach it, add a rule to the profile in policy.toml; otherwise find out why it tries. What is never allowed is said in README.md.";
    EgressLost = 100802, Error, 0xd570d3538ac94150b8660caab2a2a18f,
        "the egress of the job died and was started again ({reason_code}): {reason}",
        "The bot's connections were broken; nothing went around the egress. Look in the journal for what ended robotd-egress.";
    NetworkUnconfined = 100803, Notice, 0xdc892689061a4e5a8a4a49859d9e3f50,
        "the job of account {account} has the host's network",
        "Its order names the network profile host, which policy.toml allows. A profile with rules would confine it.";
}

impl Code {
    /// The number.
    #[must_use]
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The code of a number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        let found = Self::ALL.binary_search_by_key(&number, |code| code.number());
        found.ok().map(|at| Self::ALL[at])
    }

    /// The code of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn numbers_rise_and_message_ids_and_names_are_unique() {
        assert!(
            Code::ALL
                .windows(2)
                .all(|pair| pair[0].number() < pair[1].number())
        );
        let ids: HashSet<u128> = Code::ALL.iter().map(|code| code.message_id()).collect();
        assert_eq!(ids.len(), Code::ALL.len());
        let names: HashSet<&str> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), Code::ALL.len());
    }

    #[test]
    fn message_ids_are_random_version_4_uuids() {
        for code in Code::ALL {
            let id = code.message_id();
            assert_eq!((id >> 76 & 0xf, id >> 62 & 0b11), (4, 0b10), "{code:?}");
        }
    }

    #[test]
    fn a_code_is_found_by_its_number_and_by_its_name() {
        for code in Code::ALL {
            assert_eq!(Code::from_number(code.number()), Some(*code));
            assert_eq!(Code::from_name(code.name()), Some(*code));
        }
        assert_eq!(Code::from_number(1), None);
        assert_eq!(Code::from_name("wiped"), None);
    }

    #[test]
    fn the_numbers_of_the_product_whose_meaning_is_kept_stand_unchanged() {
        let kept: Vec<_> = Code::ALL
            .iter()
            .filter(|code| code.number() < 100_000)
            .map(|code| (code.number(), code.name()))
            .collect();
        assert_eq!(
            kept,
            [
                (608, "LicenseTakeAvailableRobotOk"),
                (609, "LicenseTakeAvailableRobotError"),
                (610, "LicenseRobotReleaseOk"),
                (611, "LicenseRobotReleaseError"),
                (616, "LicenseRobotTimeoutRelease"),
            ]
        );
    }
}
