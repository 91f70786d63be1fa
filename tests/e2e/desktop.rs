//! Programs that people work with, as bots on the private display: the examples of
//! `packaging/examples`, and their own pictures.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tests::{Colour, Host, Options, Picture};

/// What a colour of a program's window fills of the screen, and at least of the rectangle around
/// it: a window is areas, not noise.
struct Wanted {
    colour: Colour,
    share: Range<f64>,
    solid: f64,
}

const fn wanted(colour: u32, share: Range<f64>, solid: f64) -> Wanted {
    let [_, red, green, blue] = colour.to_be_bytes();
    Wanted {
        colour: [red, green, blue],
        share,
        solid,
    }
}

struct Ran {
    host: Host,
    job: String,
    report: Value,
    pictures: PathBuf,
}

/// Runs an example on a display of 1024x720, in the sandbox that it is made for.
fn run_example(name: &str, sandbox: &str) -> Ran {
    let host = Host::start(&Options::default());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../packaging/examples")
        .join(name);
    let package = host.push_folder(&folder, &[]);
    let report = host.run_job(&package, &["--display", "1024x720", "--sandbox", sandbox]);
    let job = report["job_id"].as_str().expect("an id").to_owned();
    let pictures = host.dir.join("pictures");
    let out = pictures.display().to_string();
    host.ask(&["job", "screenshots", "--out", &out, &job]);
    Ran {
        host,
        job,
        report,
        pictures,
    }
}

impl Ran {
    /// It did its work, and neither it nor its program left anything.
    fn assert_succeeded(&self) {
        let said =
            |stream| String::from_utf8_lossy(&self.host.stream(&self.job, stream)).into_owned();
        let ended = (
            self.report["outcome"].as_str(),
            self.report["exit_code"].as_i64(),
        );
        let told = format!("{:#}\n{}\n{}", self.report, said("stdout"), said("stderr"));
        assert_eq!(ended, (Some("SUCCEEDED"), Some(0)), "{told}");
        assert_eq!(self.report["wipe"]["complete"], true, "{told}");
        assert_eq!(
            self.report["wipe"]["leftovers"],
            serde_json::json!([]),
            "{told}"
        );
        assert_eq!(self.report["gaps"], serde_json::json!([]), "{told}");
        self.host.assert_nothing_left();
    }

    /// The picture that was taken for this reason.
    fn picture(&self, reason: &str) -> Picture {
        let files = std::fs::read_dir(&self.pictures)
            .expect("a folder")
            .flatten();
        let mut paths: Vec<_> = files.map(|file| file.path()).collect();
        paths.sort();
        let named = |path: &&PathBuf| path.to_string_lossy().to_lowercase().contains(reason);
        let path = paths.iter().rfind(named);
        Picture::read(path.unwrap_or_else(|| panic!("no picture of {reason}: {paths:?}")))
    }

    /// Each colour fills what it should and was not there before the program came.
    fn assert_shows(&self, all: &[Wanted]) {
        let (before, asked) = (self.picture("start"), self.picture("request"));
        assert_eq!((asked.width, asked.height), (1024, 720));
        for wanted in all {
            let (colour, area) = (wanted.colour, asked.area(wanted.colour));
            assert!(
                wanted.share.contains(&area.share) && area.solid >= wanted.solid,
                "{colour:02x?} fills {area:?}, not {:?} of the screen and {} of its own area",
                wanted.share,
                wanted.solid
            );
            assert!(
                before.area(colour).share < 0.001,
                "{colour:02x?} was there before"
            );
        }
    }
}

#[test]
fn chromium_runs_as_a_bot_in_its_own_sandbox() {
    let ran = run_example("browser", "browser");
    ran.assert_succeeded();
    let said = String::from_utf8(ran.host.stream(&ran.job, "stdout")).expect("text");
    let confined = said.strip_prefix("renderers in their sandbox: ");
    assert!(
        confined.is_some_and(|rest| !rest.starts_with('0')),
        "{said}"
    );
    ran.assert_shows(&[
        wanted(0x0b6e4f, 0.21..0.25, 0.9),
        wanted(0x1d3f8f, 0.34..0.38, 0.95),
        wanted(0xb3261e, 0.34..0.38, 0.95),
        // Its text.
        wanted(0xffffff, 0.005..0.03, 0.0),
    ]);
}

#[test]
fn libreoffice_runs_as_a_bot() {
    let ran = run_example("office", "office");
    ran.assert_succeeded();
    // Two cells each, corner to corner, their size by the dots per inch of the display; the sheet
    // around them is white.
    ran.assert_shows(&[
        wanted(0x0f7173, 0.14..0.21, 0.45),
        wanted(0xd1495b, 0.14..0.21, 0.45),
        wanted(0xffffff, 0.2..0.4, 0.0),
    ]);
}

#[test]
fn a_tk_program_runs_as_a_bot() {
    let ran = run_example("form", "script");
    ran.assert_succeeded();
    let said = ran.host.stream(&ran.job, "stdout");
    assert_eq!(said, b"filled in: 17 parcels for Harbour Bakery\n");
    ran.assert_shows(&[
        wanted(0x2e7d32, 0.14..0.17, 0.9),
        wanted(0xf9c80e, 0.12..0.15, 0.8),
        // Its text and the field.
        wanted(0xffffff, 0.01..0.03, 0.0),
    ]);
}

#[test]
fn chromium_in_the_sandbox_of_scripts_fails_and_says_why() {
    let ran = run_example("browser", "script");
    assert_eq!(ran.report["outcome"], "FAILED", "{:#}", ran.report);
    assert_eq!(ran.report["wipe"]["complete"], true, "{:#}", ran.report);
    let said = ran.host.stream(&ran.job, "stderr");
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("No usable sandbox!"), "{said}");
    ran.host.assert_nothing_left();
}
