//! The command line.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::failure::Failure;

pub(crate) const HELP: &str = "\
robotjob: what a bot tells its job, and what it asks it for

  robotjob log [--level LEVEL] TEXT... | -     write to the job's log; - reads standard input
                                               LEVEL: debug, info, notice, warning, error, critical
  robotjob alert [--level LEVEL] TITLE [TEXT... | -]
                                               tell the people who look after the job
                                               LEVEL: info, warn, error
  robotjob error [--kind KIND] [--stack-file FILE | --stack-file -] [--tag KEY=VALUE]... TEXT...
                                               report an error with its stack trace
  robotjob artifact FILE [--name NAME]         hand back a file now
  robotjob credential NAME                     print a secret that the job was given, without a newline
  robotjob param NAME                          print one of the job's parameters
  robotjob params                              print all of them as JSON
  robotjob screenshot                          take a picture of the screen
  robotjob privacy on [--seconds N]            no pictures of the screen from now on, for N seconds at
                                               most (1 to 3600, 300 if not said), and no live view
  robotjob privacy off                         capture goes on, also after a credential

The job is found by $ROBOT_SOCKET. Exit codes are those of sysexits(3): 64 asked wrongly,
65 and 66 input, 69 no job here, 75 try again, 77 refused.
";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Log {
        level: Option<String>,
        text: Text,
    },
    Alert {
        level: Option<String>,
        title: String,
        text: Text,
    },
    Error {
        kind: String,
        stack: Option<PathBuf>,
        tags: BTreeMap<String, String>,
        text: String,
    },
    Artifact {
        file: PathBuf,
        name: Option<String>,
    },
    Credential {
        name: String,
    },
    Param {
        name: String,
    },
    Params,
    Screenshot,
    Privacy {
        on: bool,
        seconds: Option<u32>,
    },
}

/// Where a text comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Text {
    Given(String),
    StandardInput,
}

/// Arguments with their options taken out.
struct Arguments {
    options: Vec<(String, OsString)>,
    words: Vec<OsString>,
}

pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Command, Failure> {
    let mut rest = arguments.into_iter();
    let Some(verb) = rest.next() else {
        return Err(usage("a command is missing"));
    };
    let verb = verb.to_string_lossy().into_owned();
    let allowed: &[&str] = match verb.as_str() {
        "-h" | "--help" | "help" => return Ok(Command::Help),
        "log" | "alert" => &["--level"],
        "error" => &["--kind", "--stack-file", "--tag"],
        "artifact" => &["--name"],
        "privacy" => &["--seconds"],
        "credential" | "param" | "params" | "screenshot" => &[],
        _ => return Err(usage(&format!("{verb:?} is no command"))),
    };
    let arguments = Arguments::split(rest, allowed)?;
    if arguments.words.first().is_some_and(|word| word == "--help") {
        return Ok(Command::Help);
    }
    command(&verb, arguments)
}

fn command(verb: &str, mut arguments: Arguments) -> Result<Command, Failure> {
    let command = match verb {
        "log" => Command::Log {
            level: arguments.option("--level")?,
            text: arguments.text("a text")?,
        },
        "alert" => {
            let (level, title) = (arguments.option("--level")?, arguments.word("a title")?);
            let text = if arguments.words.is_empty() {
                Text::Given(String::new())
            } else {
                arguments.text("a text")?
            };
            Command::Alert { level, title, text }
        }
        "error" => {
            let (kind, tags) = (
                arguments.option("--kind")?.unwrap_or_default(),
                arguments.tags()?,
            );
            let stack = arguments.path("--stack-file")?;
            let Text::Given(text) = arguments.text("a text")? else {
                return Err(usage("the text of an error is given in words"));
            };
            Command::Error {
                kind,
                stack,
                tags,
                text,
            }
        }
        "artifact" => {
            let file = arguments
                .words
                .pop()
                .map(PathBuf::from)
                .ok_or_else(|| usage("a file is missing"))?;
            Command::Artifact {
                file,
                name: arguments.option("--name")?,
            }
        }
        "credential" => Command::Credential {
            name: arguments.word("a name")?,
        },
        "param" => Command::Param {
            name: arguments.word("a name")?,
        },
        "params" => Command::Params,
        "privacy" => Command::Privacy {
            on: arguments.on_or_off()?,
            seconds: arguments.number("--seconds")?,
        },
        _ => Command::Screenshot,
    };
    match arguments.words.first() {
        Some(word) => Err(usage(&format!("{word:?} is one argument too many"))),
        None => Ok(command),
    }
}

impl Arguments {
    /// Options come before the words; `--` ends them.
    fn split(mut rest: impl Iterator<Item = OsString>, allowed: &[&str]) -> Result<Self, Failure> {
        let (mut options, mut words) = (Vec::new(), Vec::new());
        while let Some(argument) = rest.next() {
            let text = argument.to_string_lossy().into_owned();
            if text == "--" {
                break;
            } else if allowed.contains(&text.as_str()) {
                let value = rest
                    .next()
                    .ok_or_else(|| usage(&format!("{text} needs a value")))?;
                options.push((text, value));
            } else if text.starts_with("--") && text != "--help" {
                return Err(usage(&format!("{text} is no option here")));
            } else {
                words.push(argument);
            }
        }
        words.extend(rest);
        Ok(Self { options, words })
    }

    fn path(&mut self, option: &str) -> Result<Option<PathBuf>, Failure> {
        let mut values = self
            .options
            .extract_if(.., |(name, _)| name == option)
            .map(|(_, value)| value);
        let value = values.next().map(PathBuf::from);
        if values.next().is_some() {
            Err(usage(&format!("{option} is given twice")))
        } else {
            Ok(value)
        }
    }

    fn option(&mut self, option: &str) -> Result<Option<String>, Failure> {
        Ok(self
            .path(option)?
            .map(|value| value.to_string_lossy().into_owned()))
    }

    fn number(&mut self, option: &str) -> Result<Option<u32>, Failure> {
        let number = |text: String| {
            let wrong = |_| usage(&format!("{option} needs a number, not {text:?}"));
            text.parse().map_err(wrong)
        };
        self.option(option)?.map(number).transpose()
    }

    fn on_or_off(&mut self) -> Result<bool, Failure> {
        match self.word("on or off")?.as_str() {
            "on" => Ok(true),
            "off" => Ok(false),
            other => Err(usage(&format!("privacy is on or off, not {other:?}"))),
        }
    }

    fn tags(&mut self) -> Result<BTreeMap<String, String>, Failure> {
        let tags = self.options.extract_if(.., |(name, _)| name == "--tag");
        let pair = |(_, tag): (String, OsString)| {
            let tag = tag.to_string_lossy().into_owned();
            let (key, value) = tag
                .split_once('=')
                .ok_or_else(|| usage("a tag is written KEY=VALUE"))?;
            Ok((key.to_owned(), value.to_owned()))
        };
        tags.map(pair).collect()
    }

    fn word(&mut self, what: &str) -> Result<String, Failure> {
        if self.words.is_empty() {
            return Err(usage(&format!("{what} is missing")));
        }
        Ok(self.words.remove(0).to_string_lossy().into_owned())
    }

    /// All words that are left, or a single `-`.
    fn text(&mut self, what: &str) -> Result<Text, Failure> {
        let words: Vec<String> = self
            .words
            .drain(..)
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        match words.as_slice() {
            [] => Err(usage(&format!("{what} is missing"))),
            [word] if word == "-" => Ok(Text::StandardInput),
            words => Ok(Text::Given(words.join(" "))),
        }
    }
}

fn usage(what: &str) -> Failure {
    Failure::Usage(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, Failure> {
        parse(line.split_whitespace().map(OsString::from).collect())
    }

    fn given(text: &str) -> Text {
        Text::Given(text.to_owned())
    }

    #[test]
    fn each_command_of_the_help_is_understood() {
        assert_eq!(parsed("--help").unwrap(), Command::Help);
        assert_eq!(parsed("log --help").unwrap(), Command::Help);
        assert_eq!(
            parsed("log two words").unwrap(),
            Command::Log {
                level: None,
                text: given("two words")
            }
        );
        assert_eq!(
            parsed("log --level warning -").unwrap(),
            Command::Log {
                level: Some("warning".into()),
                text: Text::StandardInput
            }
        );
        assert_eq!(
            parsed("log -- --level x").unwrap(),
            Command::Log {
                level: None,
                text: given("--level x")
            }
        );
        assert_eq!(
            parsed("alert --level error title and text").unwrap(),
            Command::Alert {
                level: Some("error".into()),
                title: "title".into(),
                text: given("and text")
            }
        );
        assert_eq!(
            parsed("error --kind ValueError --stack-file t.txt --tag a=b --tag c=d=e it broke")
                .unwrap(),
            Command::Error {
                kind: "ValueError".into(),
                stack: Some("t.txt".into()),
                tags: [("a".into(), "b".into()), ("c".into(), "d=e".into())].into(),
                text: "it broke".into(),
            }
        );
        assert_eq!(
            parsed("artifact out.csv --name sub/out.csv").unwrap(),
            Command::Artifact {
                file: "out.csv".into(),
                name: Some("sub/out.csv".into())
            }
        );
        assert_eq!(
            parsed("credential erp").unwrap(),
            Command::Credential { name: "erp".into() }
        );
        assert_eq!(parsed("params").unwrap(), Command::Params);
        assert_eq!(
            parsed("privacy on --seconds 20").unwrap(),
            Command::Privacy {
                on: true,
                seconds: Some(20)
            }
        );
        assert_eq!(
            parsed("privacy off").unwrap(),
            Command::Privacy {
                on: false,
                seconds: None
            }
        );
    }

    #[test]
    fn a_wrong_line_says_what_is_wrong_with_it() {
        for (line, what) in [
            ("", "a command is missing"),
            ("lgo x", "\"lgo\" is no command"),
            ("log", "a text is missing"),
            ("log --level", "--level needs a value"),
            ("log --levle x y", "--levle is no option here"),
            ("error --tag ab x", "KEY=VALUE"),
            ("credential", "a name is missing"),
            ("credential a b", "\"b\" is one argument too many"),
            ("privacy", "on or off is missing"),
            ("privacy please", "privacy is on or off, not \"please\""),
            ("privacy on --seconds x", "--seconds needs a number"),
            ("screenshot now", "\"now\" is one argument too many"),
            ("log --level a --level b x", "--level is given twice"),
        ] {
            let failure = parsed(line).unwrap_err();
            assert!(failure.to_string().contains(what), "{line}: {failure}");
            assert_eq!(failure.exit_code(), 64);
        }
    }
}
