//! Python as people use it: a virtual environment made by the bot, without a network's help.

use std::path::Path;
use std::process::Command;

use tests::{Host, Options};

/// A wheel is a zip with a record; nothing of a project is needed to make one.
const WHEEL: &str = r#"
import sys, zipfile
name = "robot_greeting-1.0"
with zipfile.ZipFile(sys.argv[1] + "/" + name + "-py3-none-any.whl", "w") as wheel:
    info = name + ".dist-info/"
    wheel.writestr("robot_greeting.py", "def greet():\n    return 'from a wheel'\n")
    wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: robot-greeting\nVersion: 1.0\n")
    wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(info + "RECORD", "robot_greeting.py,,\n%sMETADATA,,\n%sWHEEL,,\n%sRECORD,,\n" % (info, info, info))
"#;

const BOT: &str = r#"
import subprocess, sys, venv
venv.create('/work/venv', with_pip=True)
python = '/work/venv/bin/python'
subprocess.run([python, '-m', 'pip', 'install', '--quiet', '--no-index', '--no-cache-dir',
                '--disable-pip-version-check', '--find-links', '/work/wheels', 'robot-greeting'], check=True)
code = '''
import ctypes, multiprocessing, robot_greeting, sqlite3, ssl, sys
with multiprocessing.Pool(2) as pool:
    squares = pool.map(int.bit_length, [1, 2, 4])
compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda value: value + 1)
rows = sqlite3.connect('/tmp/x.db').execute('select 40 + 2').fetchone()
print(robot_greeting.greet(), sys.prefix, squares, compare(1), rows[0], bool(ssl.create_default_context()))
'''
sys.exit(subprocess.run([python, '-c', code]).returncode)
"#;

#[test]
fn a_bot_makes_a_virtual_environment_and_installs_a_wheel_of_its_package() {
    let host = Host::start(&Options::default());
    let folder = host.dir.join("packages/venv");
    let wheels = folder.join("wheels");
    std::fs::create_dir_all(&wheels).expect("a folder");
    std::fs::write(folder.join("bot.py"), BOT).expect("a write");
    let made = Command::new("/usr/bin/python3")
        .args(["-c", WHEEL])
        .arg(Path::new(&wheels))
        .status();
    assert!(made.expect("python3").success(), "the wheel is made");
    let package = host.push_folder(&folder, &["--name", "venv"]);
    let report = host.run_job(&package, &["--sandbox", "script"]);
    let job = report["job_id"].as_str().expect("an id");
    let said = |stream| String::from_utf8_lossy(&host.stream(job, stream)).into_owned();
    let told = format!("{report:#}\n{}\n{}", said("stdout"), said("stderr"));
    assert_eq!(report["outcome"], "SUCCEEDED", "{told}");
    assert_eq!(
        said("stdout"),
        "from a wheel /work/venv [1, 2, 3] 2 42 True\n",
        "{told}"
    );
    assert_ne!(report["sandbox"]["mdwe"], "off", "{told}");
    host.assert_nothing_left();
}
