//! The command line: limits that the broker's policy sets lower or higher than the defaults.

use package::Limits;

/// A command line that was not understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadArgument(String);

impl std::fmt::Display for BadArgument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "argument {:?} is not one of --max-files=N --max-total-bytes=N --max-file-bytes=N \
             --max-packed-bytes=N",
            self.0
        )
    }
}

pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Limits, BadArgument> {
    let mut limits = Limits::default();
    for argument in arguments {
        set(&mut limits, &argument).ok_or(BadArgument(argument))?;
    }
    Ok(limits)
}

fn set(limits: &mut Limits, argument: &str) -> Option<()> {
    let (name, value) = argument.split_once('=')?;
    let field = match name {
        "--max-files" => &mut limits.max_files,
        "--max-total-bytes" => &mut limits.max_total_bytes,
        "--max-file-bytes" => &mut limits.max_file_bytes,
        "--max-packed-bytes" => &mut limits.max_packed_bytes,
        _ => return None,
    };
    *field = value.parse().ok()?;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Limits, BadArgument> {
        parse(arguments.iter().map(|argument| (*argument).to_owned()))
    }

    #[test]
    fn limits_are_set_one_by_one_and_nothing_else_is_understood() {
        assert_eq!(parsed(&[]), Ok(Limits::default()));
        let set = parsed(&["--max-files=7", "--max-total-bytes=8"]).expect("valid");
        assert_eq!((set.max_files, set.max_total_bytes), (7, 8));
        for bad in [
            "",
            "x",
            "--max-files",
            "--max-files=",
            "--max-files=-1",
            "--max-ratio=9",
        ] {
            assert_eq!(parsed(&[bad]), Err(BadArgument(bad.to_owned())));
        }
    }
}
