//! The texts that `journalctl -x` shows, from the same table.

use std::fmt::Write;

use crate::code::Code;

const HEAD: &str = "\
# What robotd's events mean and what to do; shown by `journalctl -x`.
# Made from the table in src/events; a test holds the two together.
";

/// The content of `systemd/robotd.catalog`.
#[must_use]
pub fn catalog() -> String {
    Code::ALL.iter().fold(HEAD.to_owned(), |mut file, code| {
        // Writing to a String can't fail.
        let _ = write!(
            file,
            "\n-- {:032x}\nSubject: {} ({})\nDefined-By: robotd\n\n@MESSAGE@\n\n{}\n\nJob @JOB_ID@, attempt @OPERATION_KEY@.\n",
            code.message_id(),
            code.name(),
            code.number(),
            wrapped(code.advice()),
        );
        file
    })
}

fn wrapped(text: &str) -> String {
    const WIDTH: usize = 78;
    let mut lines = String::with_capacity(text.len());
    let mut column = 0;
    for word in text.split(' ') {
        if column > 0 && column + 1 + word.len() > WIDTH {
            lines.push('\n');
            column = 0;
        } else if column > 0 {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += word.len();
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_is_installed_is_the_one_made_from_the_table() {
        let file = include_str!("../../../systemd/robotd.catalog");
        if file != catalog() {
            let path = std::env::temp_dir().join("robotd.catalog");
            std::fs::write(&path, catalog()).unwrap();
            panic!(
                "systemd/robotd.catalog is out of date; the right content is in {}",
                path.display()
            );
        }
    }

    #[test]
    fn no_line_of_a_text_can_be_taken_for_a_separator_or_a_comment() {
        for code in Code::ALL {
            let text = wrapped(code.advice());
            assert!(
                text.lines()
                    .all(|line| !line.starts_with("-- ") && !line.starts_with('#')),
                "{code:?}"
            );
        }
    }
}
