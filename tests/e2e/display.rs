//! A private display and its pictures.

use std::os::unix::net::{SocketAddr, UnixListener};

use tests::{Host, Options, phases};

/// Draws nothing by itself: it asks what a client of the display sees.
const BOT: &str = r#"
import os, socket, subprocess, sys, time
print('display', os.environ['DISPLAY'][0], os.path.exists(os.environ['XAUTHORITY']))
print('bus', os.path.exists(os.environ['XDG_RUNTIME_DIR'] + '/bus'))
without = dict(os.environ, XAUTHORITY='/nonexistent')
print('without the cookie', subprocess.run(['xdpyinfo'], env=without, capture_output=True).returncode)
info = subprocess.run(['xdpyinfo'], capture_output=True, text=True).stdout
print([line.strip() for line in info.splitlines() if 'dimensions' in line][0].split('(')[0])
subprocess.run(['xsetroot', '-solid', '#c04020'], check=True)
own = '@/tmp/.X11-unix/X' + os.environ['DISPLAY'][1:]
LISTENS = '00010000'
listening = [line for line in open('/proc/net/unix') if line.split()[-1] == own and line.split()[3] == LISTENS]
print('abstract sockets', len(listening))
time.sleep(1.5)
sys.exit(int(sys.argv[1]))
"#;

#[test]
fn a_bot_has_a_display_of_its_own_and_its_failure_is_pictured() {
    let host = Host::start(&Options::default());
    let package = host.push_python("painter", BOT);
    let report = host.run_job(
        &package,
        &[
            "--display",
            "640x480",
            "--screenshot-every",
            "500ms",
            "--arg",
            "4",
        ],
    );
    let job = report["job_id"].as_str().expect("an id").to_owned();
    let said = String::from_utf8(host.stream(&job, "stdout")).expect("text");
    assert_eq!(
        report["exit_code"],
        4,
        "{report:#} {said} {}",
        String::from_utf8_lossy(&host.stream(&job, "stderr"))
    );
    assert_eq!(
        said,
        "display : True\nbus True\nwithout the cookie 1\ndimensions:    640x480 pixels \nabstract sockets 0\n"
    );
    assert!(phases(&report).contains(&"DISPLAY_READY".to_owned()));
    let pictures = report["screenshots"].as_array().expect("pictures");
    let reasons: Vec<&str> = pictures
        .iter()
        .filter_map(|own| own["reason"].as_str())
        .collect();
    for wanted in ["start", "interval", "failure"] {
        assert!(
            reasons.iter().any(|own| own.eq_ignore_ascii_case(wanted)),
            "{reasons:?}"
        );
    }
    assert!(
        pictures
            .iter()
            .all(|own| own["width"] == 640 && own["height"] == 480),
        "{report:#}"
    );
    let out = host.dir.join("pictures");
    host.ask(&[
        "job",
        "screenshots",
        "--out",
        &out.display().to_string(),
        &job,
    ]);
    let files: Vec<_> = std::fs::read_dir(&out)
        .expect("a folder")
        .flatten()
        .collect();
    assert_eq!(files.len(), pictures.len());
    assert!(files.iter().all(|file| {
        std::fs::read(file.path())
            .expect("a file")
            .starts_with(b"\x89PNG")
    }));
    host.assert_nothing_left();
}

#[test]
fn a_display_of_the_host_with_the_same_number_gets_none_of_a_bots_windows() {
    use std::os::linux::net::SocketAddrExt as _;
    let host = Host::start(&Options {
        policy: "[packages]\nallow-unsigned = true\n[network]\nprofiles = [\"host\"]\n".to_owned(),
        ..Options::default()
    });
    // The bot has the host's network, and clients try these names first. When somebody's server has
    // one already, that is as good.
    let _servers = ["X0", "X1000"].map(|own| {
        let name = format!("/tmp/.X11-unix/{own}");
        UnixListener::bind_addr(&SocketAddr::from_abstract_name(name).expect("a name"))
    });
    let asks = "import subprocess, sys\n\
        sys.exit(subprocess.run(['xdpyinfo'], stdout=subprocess.DEVNULL, timeout=30).returncode)\n";
    let package = host.push_python("asker", asks);
    let report = host.run_job(&package, &["--display", "640x480", "--network", "host"]);
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}");
    host.assert_nothing_left();
}

/// Turns on its own X server in one of several ways.
const VANDAL: &str = r#"
import os, signal, sys, time
def server():
    for name in os.listdir('/proc'):
        if name.isdigit() and b'Xvfb' in open('/proc/%s/cmdline' % name, 'rb').read(): return int(name)
print('up', flush=True)
time.sleep(1)
if sys.argv[1] == 'kill': os.kill(server(), signal.SIGKILL)
if sys.argv[1] == 'stop': os.kill(server(), signal.SIGSTOP)
if sys.argv[1] == 'links':
    os.kill(server(), signal.SIGKILL)
    for number in range(2000):
        path = '/tmp/.X11-unix/X%d' % number
        if os.path.lexists(path): os.unlink(path)
        os.symlink('/run/robot/job.sock' if number % 2 else '/tmp/.X11-unix/X%d' % number, path)
time.sleep(1.5)
print('done', flush=True)
sys.exit(7)
"#;

fn vandalised(how: &str) {
    let host = Host::start(&Options::default());
    let package = host.push_python("vandal", VANDAL);
    let shown = [
        "--display",
        "640x480",
        "--screenshot-every",
        "300ms",
        "--stop-grace",
        "1s",
    ];
    let job = host.submit(&package, &[&shown[..], &["--arg", how]].concat());
    host.says(&job, "up");
    let attendant = tests::procs::JobProcesses::of(&job, "bot.py").attendant;
    host.says(&job, "done");
    let report = host.report(&job);
    assert_eq!(
        (report["outcome"].as_str(), report["exit_code"].as_i64()),
        (Some("FAILED"), Some(7)),
        "{how}: {report:#}{}",
        host.all_logs()
    );
    assert_eq!(host.stream(&job, "stdout"), b"up\ndone\n", "{how}");
    assert_eq!(
        report["gaps"],
        serde_json::json!([]),
        "{how}: pid {attendant} lived on: {report:#}"
    );
    assert_eq!(report["wipe"]["complete"], true, "{how}: {report:#}");
    host.assert_nothing_left();
    let report = host.run_job(&package, &["--display", "640x480", "--arg", "nothing"]);
    assert_eq!(
        report["exit_code"], 7,
        "the next job has a display: {report:#}"
    );
    host.assert_nothing_left();
}

#[test]
fn a_bot_that_kills_its_x_server_harms_only_its_pictures() {
    vandalised("kill");
}

#[test]
fn a_bot_that_stops_its_x_server_harms_only_its_pictures() {
    vandalised("stop");
}

#[test]
fn a_bot_that_replaces_its_x_socket_by_links_harms_only_its_pictures() {
    vandalised("links");
}

/// Makes its screen larger than it began, which only a server with RANDR modes of any size can.
const RESIZER: &str = r#"
import os, subprocess
def run(*argv): subprocess.run(argv, check=True)
print('vnc socket', os.path.exists('/tmp/.X11-unix/vnc' + os.environ['DISPLAY'][1:]))
output = [line.split()[0] for line in subprocess.run(['xrandr'], capture_output=True, text=True).stdout.splitlines() if ' connected' in line][0]
run('xrandr', '--newmode', 'large', '60', '1000', '1001', '1002', '1003', '700', '701', '702', '703')
run('xrandr', '--addmode', output, 'large')
run('xrandr', '--output', output, '--mode', 'large')
run('robotjob', 'screenshot')
for family in ('tcp', 'tcp6'):
    listening = [line for line in open('/proc/net/' + family).read().splitlines()[1:] if line.split()[3] == '0A' and int(line.split()[1].split(':')[1], 16) in range(5900, 6100)]
    print(family, len(listening))
keys = subprocess.run(['grep', '-c', '<keybind', '/run/robot/display/openbox.xml'], capture_output=True, text=True).stdout.strip()
print('keys of the window manager', keys)
try: open('/run/robot/display/cookie', 'a')
except OSError as error: print('cookie', error.strerror)
"#;

#[test]
fn an_xvnc_display_is_resized_by_its_bot_and_listens_nowhere() {
    let host = Host::start(&Options::default());
    let package = host.push_python("resizer", RESIZER);
    let report = host.run_job(&package, &["--display", "xvnc:640x480"]);
    let job = report["job_id"].as_str().expect("an id").to_owned();
    assert_eq!(
        report["outcome"],
        "SUCCEEDED",
        "{report:#} {}",
        String::from_utf8_lossy(&host.stream(&job, "stderr"))
    );
    assert_eq!(
        String::from_utf8_lossy(&host.stream(&job, "stdout")),
        "vnc socket True\ntcp 0\ntcp6 0\nkeys of the window manager 0\ncookie Permission denied\n"
    );
    let sizes: Vec<_> = report["screenshots"]
        .as_array()
        .expect("pictures")
        .iter()
        .map(|own| (own["width"].as_u64(), own["height"].as_u64()))
        .collect();
    assert_eq!(sizes, [(Some(640), Some(480)), (Some(1000), Some(700))]);
    assert_eq!(report["session"]["display"], "xvnc:640x480x24");
    host.assert_nothing_left();
}

/// Waits for the word of who looks on.
const SHOWN: &str = "import time\nprint('up', flush=True)\ntime.sleep(1000)\n";

#[test]
fn root_may_look_on_over_vnc_unless_something_is_masked() {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;
    let host = Host::start(&Options::default());
    let package = host.push_python("shown", SHOWN);
    let display = ["--display", "xvnc:640x480", "--stop-grace", "1s"];
    let job = host.submit(&package, &display);
    host.says(&job, "up");
    let socket = |job: &str| host.run.join(format!("a/jobs/{job}.1/vnc.sock"));
    let mut viewer = UnixStream::connect(socket(&job)).expect("a VNC server");
    let mut version = [0; 12];
    viewer.read_exact(&mut version).expect("a version");
    assert_eq!(&version, b"RFB 003.008\n");
    viewer.write_all(&version).expect("a version");
    let mut kinds = [0; 2];
    viewer.read_exact(&mut kinds).expect("kinds of security");
    assert_eq!(kinds, [1, 1], "one kind, none");
    viewer.write_all(&[1]).expect("a choice");
    let mut done = [0; 4];
    viewer.read_exact(&mut done).expect("a result");
    viewer.write_all(&[1]).expect("shared");
    let mut size = [0; 4];
    viewer.read_exact(&mut size).expect("a size");
    assert_eq!((done, size), ([0; 4], [2, 128, 1, 224]), "640x480");
    host.event(100_514, |event| {
        event["data"]["user"]
            .as_str()
            .is_some_and(|user| user.contains("VNC"))
    });
    drop(viewer);
    host.event(100_515, |_| true);
    host.ask(&["job", "stop", &job]);
    host.report(&job);
    let masked = host.submit(
        &package,
        &[&display[..], &["--mask-area", "0,0,10x10"]].concat(),
    );
    host.says(&masked, "up");
    assert!(!socket(&masked).exists());
    host.ask(&["job", "stop", &masked]);
    host.report(&masked);
    host.assert_nothing_left();
}
