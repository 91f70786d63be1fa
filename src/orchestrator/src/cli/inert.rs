//! Text of bots made harmless for a terminal.

/// One line without anything that a terminal would obey: controls as `\xNN`, escape as `␛`, and
/// the characters that turn the direction of text or hide in it as `\u{...}`. Tabs stay.
pub(super) fn line(bytes: &[u8]) -> String {
    let mut inert = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\t' => inert.push('\t'),
                '\u{1b}' => inert.push('␛'),
                letter if letter.is_control() && u32::from(letter) < 0x100 => {
                    inert.push_str(&format!("\\x{:02x}", u32::from(letter)));
                }
                letter if is_invisible(letter) => inert.extend(letter.escape_unicode()),
                letter => inert.push(letter),
            }
        }
        for byte in chunk.invalid() {
            inert.push_str(&format!("\\x{byte:02x}"));
        }
    }
    inert
}

/// Bidirectional controls, zero-width characters, line separators, tags (UTS #39, "Trojan Source").
fn is_invisible(letter: char) -> bool {
    matches!(letter,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
        || letter.is_control()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_terminal_obeys_nothing_in_an_inert_line() {
        assert_eq!(line(b"\x1b[2J\x07\r\xff\tok"), "␛[2J\\x07\\x0d\\xff\tok");
        assert_eq!(
            line("a\u{202e}b\u{9b}31m".as_bytes()),
            "a\\u{202e}b\\x9b31m"
        );
    }

    proptest! {
        #[test]
        fn no_control_is_left(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let inert = line(&bytes);
            prop_assert!(inert.chars().all(|letter| letter == '\t' || !letter.is_control()));
        }
    }
}
