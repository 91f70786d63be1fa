//! The certificate of a job: what its host proves, for whoever has the file and the keys.

use tests::{Host, Options};

const READER: &str = "import subprocess\n\
    subprocess.run(['robotjob','credential','erp'], check=True, stdout=subprocess.DEVNULL)\nprint('done')\n";

/// No server is asked.
fn verify(more: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new(tests::programs().join("robot-orchestrator"));
    command
        .args(["certificate", "verify"])
        .args(more)
        .output()
        .expect("robot-orchestrator starts")
}

/// Names of the statements that do not hold, by `certificate verify`.
fn failing(file: &str, more: &[&str]) -> Vec<String> {
    let output = verify(&[&[file, "--json"], more].concat());
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let statements = shown["statements"].as_array().expect("statements");
    let failed = statements.iter().filter(|one| one["holds"] == false);
    let names: Vec<String> = failed
        .map(|one| one["name"].as_str().expect("a name").to_owned())
        .collect();
    assert_eq!(output.status.success(), names.is_empty());
    names
}

#[test]
fn a_job_is_proven_by_its_certificate_and_a_changed_one_proves_nothing() {
    let host = Host::start(&Options::default());
    crate::secrets::set_secret(&host, "erp", "kvK7-plain-9Qx");
    let package = host.push_python("reader", READER);
    let job = host.submit(&package, &["--secret", "erp"]);
    assert_eq!(host.report(&job)["outcome"], "SUCCEEDED");
    let file = host.dir.join("certificate.json");
    let file = file.to_str().expect("a path");
    let told = host.ask(&["job", "certificate", &job, "--out", file]);
    assert!(told.contains("given: \"erp\" at +"), "{told}");
    assert_eq!(failing(file, &[]), Vec::<String>::new());

    let whole = std::fs::read_to_string(file).expect("the certificate");
    let certificate: serde_json::Value = serde_json::from_str(&whole).expect("JSON");
    let key = |what: &str| certificate[what]["key"].as_str().expect("a key").to_owned();
    let (order, result) = (key("order"), key("result"));
    let trusting = ["--order-key", &order, "--result-key", &result];
    assert_eq!(failing(file, &trusting), Vec::<String>::new());
    // Each key where the other belongs: a stranger's.
    let swapped = ["--order-key", &result, "--result-key", &order];
    assert_eq!(failing(file, &swapped), ["order-signed", "result-signed"]);

    // Somebody claims another end.
    let changed = with_result(&certificate, |text| text.replace("SUCCEEDED", "STOPPED__"));
    std::fs::write(file, changed).expect("a file");
    let output = verify(&[file]);
    assert!(!output.status.success());
    let changed = with_result(&certificate, |text| {
        text.replace("\"exit-code\":0", "\"exit-code\":7")
    });
    std::fs::write(file, changed).expect("a file");
    assert_eq!(failing(file, &[]), ["result-signed"]);
    host.assert_nothing_left();
}

fn with_result(certificate: &serde_json::Value, change: impl Fn(String) -> String) -> String {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let mut own = certificate.clone();
    let body = own["result"]["body"].as_str().expect("a body");
    let text = String::from_utf8(base64.decode(body).expect("base64")).expect("JSON");
    let changed = change(text.clone());
    assert_ne!(changed, text, "something was changed");
    own["result"]["body"] = base64.encode(changed).into();
    own.to_string()
}

#[test]
fn a_job_without_a_result_has_no_certificate() {
    let host = Host::start(&Options::default());
    let package = host.push_python(
        "sleeper",
        "import time\nprint('runs', flush=True)\ntime.sleep(1000)\n",
    );
    let job = host.submit(&package, &["--stop-grace", "1s"]);
    host.says(&job, "runs");
    let output = host.orchestrator(&["job", "certificate", &job]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("RESULT_MISSING") && !output.status.success(),
        "{said}"
    );
    host.ask(&["job", "stop", &job]);
    assert_eq!(host.report(&job)["outcome"], "STOPPED");
    host.assert_nothing_left();
}
