//! What a bot says with its own command.

use tests::{Host, Options};

const BOT: &str = r#"
import json, os, subprocess
def call(*args, **more):
    return subprocess.run(['robotjob', *args], check=True, stdout=subprocess.PIPE, text=True, **more).stdout
call('log', '--level', 'warn', 'from the command')
call('alert', '--level', 'error', 'Invoice 7', 'has no total')
call('error', '--kind', 'ValueError', '--tag', 'invoice=7', 'no total')
with open('/tmp/sheet.csv', 'w') as file: file.write('a,b\n1,2\n')
call('artifact', '/tmp/sheet.csv', '--name', 'sheets/first.csv')
os.makedirs(os.environ['ROBOT_ARTIFACTS'] + '/deep')
with open(os.environ['ROBOT_ARTIFACTS'] + '/deep/second.bin', 'wb') as file: file.write(bytes(range(256)) * 1000)
os.symlink('/etc/passwd', os.environ['ROBOT_ARTIFACTS'] + '/link')
print(call('param', 'customer'), json.load(open(os.environ['ROBOT_PARAMS']))['customer'])
"#;

#[test]
fn logs_alerts_errors_artifacts_and_parameters_reach_their_place() {
    let host = Host::start(&Options::default());
    let package = host.push_python("caller", BOT);
    let report = host.run_job(&package, &["--param", "customer=Ada"]);
    assert_eq!(
        report["outcome"],
        "SUCCEEDED",
        "{report:#}{}",
        host.all_logs()
    );
    let job = report["job_id"].as_str().expect("an id").to_owned();
    assert_eq!(
        String::from_utf8(host.stream(&job, "stdout"))
            .expect("text")
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["Ada", "Ada"]
    );
    assert!(
        host.ask(&["job", "logs", &job])
            .contains("from the command")
    );
    assert!(
        report["alerts"].to_string().contains("has no total"),
        "{report:#}"
    );
    assert!(
        report["errors"].to_string().contains("ValueError"),
        "{report:#}"
    );
    let mut names: Vec<&str> = report["artifacts"]
        .as_array()
        .expect("artifacts")
        .iter()
        .filter_map(|own| own["name"].as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["deep/second.bin", "sheets/first.csv"],
        "a link is no artifact: {report:#}"
    );
    let out = host.dir.join("out");
    host.ask(&[
        "job",
        "artifacts",
        "--out",
        &out.display().to_string(),
        &job,
    ]);
    let mut contents: Vec<Vec<u8>> = std::fs::read_dir(&out)
        .expect("a folder")
        .flatten()
        .map(|entry| std::fs::read(entry.path()).expect("a file"))
        .collect();
    contents.sort();
    let second: Vec<u8> = (0..=255).collect::<Vec<u8>>().repeat(1000);
    assert_eq!(contents, [second, b"a,b\n1,2\n".to_vec()]);
    host.assert_nothing_left();
}
