//! System calls: attack 34, and what makes namespaces (attack 6).

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Tried, host, run, run_on};

pub(super) const CLAIMS: &[(&str, fn())] = &[
    (
        "sandbox::dangerous_calls_are_refused_and_those_of_other_tables_kill",
        dangerous_calls,
    ),
    (
        "sandbox::a_daemon_in_namespaces_of_its_own_dies_with_its_job",
        nested_daemon,
    ),
    (
        "sandbox::memory_that_was_written_is_never_executed_but_in_browsers",
        new_code,
    ),
];

/// Built where the bot's package is made; static, so that nothing but the calls is tried.
fn built(host: &tests::Host) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("security/sandbox/bots/calls.c");
    let program = host.dir.join("packages/calls");
    let status = Command::new("gcc")
        .args(["-static", "-O1", "-o"])
        .args([&program, &source])
        .status();
    assert!(
        status.expect("gcc").success(),
        "{} builds",
        source.display()
    );
    program
}

fn tried(profile: &str) -> Tried {
    let host = host("");
    let program = built(&host);
    let code = "sys.exit(subprocess.run(['/work/calls']).returncode)";
    run_on(host, profile, code, &[&program])
}

fn dangerous_calls() {
    for profile in ["script", "browser"] {
        let tried = tried(profile);
        let browser = profile == "browser";
        for (name, verdict) in &tried.lines {
            let expected = match name.as_str() {
                // Not known to any profile, so that programs fall back.
                "clone3" | "new_numbers" | "memfd_secret" | "personality_no_random" => "ENOSYS",
                name if name.starts_with("x32_") || name.starts_with("int80_") => "SIGSYS",
                "unshare_user" | "unshare_pid" | "unshare_net" | "clone_user" | "chroot"
                    if browser =>
                {
                    // What the kernel says of it: allowed in a user namespace, not in ours.
                    continue;
                }
                _ => "EPERM",
            };
            assert_eq!(verdict, expected, "{name} in {profile}");
        }
        assert!(tried.lines.len() > 50, "{:?}", tried.lines);
        assert_eq!(tried.sandbox("seccomp"), true);
    }
}

const DAEMON: &str = r#"
def nested():
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(0x10000000 | 0x20000000) != 0:
        raise OSError(ctypes.get_errno(), "")
    open('/proc/self/setgroups', 'w').write('deny')
    open('/proc/self/uid_map', 'w').write('%d %d 1' % (uid, uid))
    open('/proc/self/gid_map', 'w').write('%d %d 1' % (gid, gid))
    # Pid 1 of its namespace, and below it one that nobody waits for.
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork() == 0:
        os.setsid()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    open('/tmp/lives', 'w').write('1')
    os.closerange(0, 64)
    while True:
        time.sleep(1)

child = os.fork()
if child == 0:
    try:
        nested()
    except OSError as error:
        say("nested", errno.errorcode[error.errno])
        os._exit(0)
os.waitpid(child, 0)
until = time.monotonic() + 60
while EXPECT and not os.path.exists('/tmp/lives') and time.monotonic() < until:
    time.sleep(0.05)
say("lives", os.path.exists('/tmp/lives'))
"#;

fn nested_daemon() {
    let tried = run("script", &format!("EXPECT = False\n{DAEMON}"));
    assert_eq!(tried.of("nested"), "EPERM");
    assert_eq!(tried.of("lives"), "False");
    let tried = run("browser", &format!("EXPECT = True\n{DAEMON}"));
    assert_eq!(tried.of("lives"), "True");
    // The wipe is complete and no process is left: `run` has looked.
}

const CODE: &str = r#"
import mmap
def write_and_execute():
    ctypes.set_errno(0)
    libc.mmap.restype = ctypes.c_void_p
    at = libc.mmap(None, 4096, 7, 0x22, -1, 0)
    if at in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "")
def write_then_execute():
    libc.mmap.restype = ctypes.c_void_p
    at = libc.mmap(None, 4096, 3, 0x22, -1, 0)
    ctypes.set_errno(0)
    if libc.mprotect(ctypes.c_void_p(at), 4096, 5) != 0:
        raise OSError(ctypes.get_errno(), "")
attempt("at-once", write_and_execute)
attempt("later", write_then_execute)
"#;

fn new_code() {
    let tried = run("script", CODE);
    tried.all_are(&["EACCES", "EPERM"]);
    assert_ne!(tried.sandbox("mdwe"), "off");
    let tried = run("browser", CODE);
    tried.all_are(&["worked"]);
    assert_eq!(tried.sandbox("mdwe"), "off");
}
