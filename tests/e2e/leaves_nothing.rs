//! What a bot leaves behind on purpose is gone.

use tests::{Host, Options};

const LITTERER: &str = r#"
import ctypes, os, subprocess, sys
for place in ('/tmp', '/var/tmp', '/dev/shm', os.environ['HOME'], os.environ['XDG_RUNTIME_DIR'], '.'):
    with open(os.path.join(place, 'left-behind'), 'w') as file:
        file.write('secret of this job')
libc = ctypes.CDLL(None, use_errno=True)
for key in range(1000, 1003):
    assert libc.shmget(key, 4096, 0o1666) >= 0
    assert libc.semget(key, 1, 0o1666) >= 0
    assert libc.msgget(key, 0o1666) >= 0
# add_key(2) to the user keyring
libc.syscall(248, b'user', b'planted', b'value', 5, -4)
# A daemon the classical way: fork twice, a session of its own, nothing inherited.
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 64)
            os.execv('/bin/sleep', ['sleep', '1000'])
        os._exit(0)
print(sorted(os.listdir('/tmp')), sorted(os.listdir(os.environ['HOME'])))
"#;

#[test]
fn children_files_keys_and_ipc_of_a_bot_are_gone_and_the_next_job_sees_none() {
    let host = Host::start(&Options::default());
    let package = host.push_python("litterer", LITTERER);
    for round in 0..2 {
        let report = host.run_job(&package, &[]);
        assert_eq!(report["outcome"], "SUCCEEDED", "round {round}: {report:#}");
        assert_eq!(report["wipe"]["complete"], true, "{report:#}");
        assert!(report["wipe"]["files"].as_u64() >= Some(6), "{report:#}");
        let job = report["job_id"].as_str().expect("an id");
        let seen = String::from_utf8(host.stream(job, "stdout")).expect("text");
        assert_eq!(
            seen, "['.X11-unix', 'left-behind'] ['left-behind']\n",
            "round {round}"
        );
        host.assert_nothing_left();
    }
}

const PROBE: &str = r#"
import os
def tries(what, work):
    try:
        work()
        print(what, 'worked')
    except OSError as error:
        print(what, error.strerror)
tries('write /usr', lambda: open('/usr/x', 'w'))
tries('write /etc', lambda: open('/etc/x', 'w'))
tries('write /', lambda: open('/x', 'w'))
tries('write package', lambda: open('bot.py', 'a'))
tries('read policy', lambda: os.listdir('/etc/robotd'))
tries('signal init', lambda: os.kill(1, 9))
tries('read init', lambda: open('/proc/1/environ').read())
tries('mount', lambda: os.stat('/var/lib/robotd-broker'))
tries('setuid', lambda: os.setuid(0))
status = dict(line.split(':', 1) for line in open('/proc/self/status').read().splitlines())
print('capabilities', status['CapEff'].strip(), status['CapBnd'].strip(), 'nnp', status['NoNewPrivs'].strip())
pids = [int(n) for n in os.listdir('/proc') if n.isdigit()]
print('others', sum(pid != os.getpid() for pid in pids), 'me', os.getpid() < 10)
"#;

#[test]
fn a_bot_has_no_rights_and_sees_nothing_of_the_host() {
    let host = Host::start(&Options::default());
    let package = host.push_python("probe", PROBE);
    let report = host.run_job(&package, &[]);
    let seen = String::from_utf8(host.stream(report["job_id"].as_str().expect("an id"), "stdout"))
        .expect("text");
    let expected = "write /usr Read-only file system\nwrite /etc Read-only file system\nwrite / Read-only file system\n\
        write package Permission denied\nread policy No such file or directory\nsignal init worked\n\
        read init No such file or directory\nmount No such file or directory\nsetuid Operation not permitted\n\
        capabilities 0000000000000000 0000000000000000 nnp 1\nothers 0 me True\n";
    // A host with robotd installed has /etc/robotd: then it is hidden instead of missing.
    let mut seen = seen.replace(
        "read policy Permission denied",
        "read policy No such file or directory",
    );
    // Where the kernel has Landlock, it answers before the mount is asked.
    for place in ["/usr", "/etc", "/"] {
        let [first, second] = ["Permission denied", "Read-only file system"]
            .map(|answer| format!("write {place} {answer}\n"));
        seen = seen.replace(&first, &second);
    }
    assert_eq!(seen, expected);
}
