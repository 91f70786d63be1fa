//! Every byte that a bot prints arrives once and in order.

use sha2::{Digest as _, Sha256};
use tests::{Host, Options};

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// What the bot below prints, made here a second time.
fn expected(lines: usize) -> Vec<u8> {
    let mut all = Vec::new();
    for number in 0..lines {
        all.extend(format!("line {number} ").as_bytes());
        all.extend([0xff, 0xfe, 0x80, (number % 256) as u8]);
        all.extend(b" \xc3\x28 end\n");
    }
    all.extend(b"no newline at the end");
    all
}

const BOT: &str = "import sys\nout = sys.stdout.buffer\nfor n in range(int(sys.argv[1])):\n    \
    out.write(b'line %d ' % n + bytes([0xff, 0xfe, 0x80, n % 256]) + b' \\xc3\\x28 end\\n')\n\
    out.write(b'no newline at the end')\nout.flush()\nsys.stderr.write('on the other stream\\n')\n";

#[test]
fn two_hundred_thousand_lines_with_invalid_utf8_arrive_byte_for_byte() {
    let host = Host::start(&Options::default());
    let package = host.push_python("flood", BOT);
    let report = host.run_job(&package, &["--arg", "200000"]);
    assert_eq!(report["outcome"], "SUCCEEDED", "{report:#}");
    let job = report["job_id"].as_str().expect("an id");
    let wanted = expected(200_000);
    assert_eq!(
        report["log"]["stdout"]["bytes"].as_u64(),
        Some(wanted.len() as u64)
    );
    assert_eq!(
        report["log"]["stdout"]["sha256"].as_str(),
        Some(hex(&wanted).as_str())
    );
    let arrived = host.stream(job, "stdout");
    assert_eq!(arrived.len(), wanted.len());
    assert_eq!(hex(&arrived), hex(&wanted));
    assert_eq!(host.stream(job, "stderr"), b"on the other stream\n");
    host.assert_nothing_left();
}

#[test]
fn what_a_bot_prints_is_inert_in_the_view_and_exact_when_asked_for() {
    let host = Host::start(&Options::default());
    let package = host.push_python("escape", "print('\\x1b]0;owned\\x07\\x1b[2Jred')\n");
    let report = host.run_job(&package, &[]);
    let job = report["job_id"].as_str().expect("an id");
    let shown = host.ask(&["job", "logs", job]);
    assert!(
        !shown.contains('\x1b') && !shown.contains('\x07') && shown.contains("red"),
        "{shown:?}"
    );
    assert_eq!(host.stream(job, "stdout"), b"\x1b]0;owned\x07\x1b[2Jred\n");
}
