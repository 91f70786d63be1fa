//! How programs write a secret when they write it by accident.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use zeroize::{Zeroize, Zeroizing};

/// Largest secret. All its forms have to be looked for in every byte of output.
pub(crate) const MAX_SECRET: usize = 16 * 1024;

/// Largest form. What may be the beginning of one is held back, so this bounds memory and loss.
pub(crate) const MAX_FORM: usize = 64 * 1024;

/// Shortest form that is looked for: below it, ordinary text would be masked everywhere.
const MIN_FORM: usize = 4;

/// Shortest line of a longer secret that is masked by itself.
const MIN_LINE: usize = 6;

/// Where encoders break base64: MIME and coreutils, PEM. In bytes of input per line.
const BASE64_LINES: [usize; 2] = [57, 48];

/// Why a secret is not handed out: it could not be kept out of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotMaskable {
    /// Fewer than 4 bytes besides white space.
    #[error(
        "it has fewer than {MIN_FORM} bytes and would mask ordinary text everywhere; use a longer secret"
    )]
    TooShort,
    /// Larger than [`MAX_SECRET`], or grows beyond 64 KiB in some encoding.
    #[error("it has more than {MAX_SECRET} bytes, or 64 KiB when encoded; use a smaller secret")]
    TooLarge,
}

impl NotMaskable {
    /// The stable code.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::TooShort => "SECRET_TOO_SHORT_TO_MASK",
            Self::TooLarge => "SECRET_TOO_LARGE_TO_MASK",
        }
    }
}

/// One form. Overwritten when it is dropped, and shown to nobody.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Form(Vec<u8>);

impl Form {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Form {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Every form of a secret, each once.
pub(super) fn forms(secret: &[u8]) -> Result<BTreeSet<Form>, NotMaskable> {
    let trimmed = secret.trim_ascii();
    if trimmed.len() < MIN_FORM {
        return Err(NotMaskable::TooShort);
    }
    if secret.len() > MAX_SECRET {
        return Err(NotMaskable::TooLarge);
    }
    let mut forms = BTreeSet::new();
    // Files end in a newline that programs strip.
    for whole in [secret, trimmed] {
        add_encodings(&mut forms, whole);
        add_wrapped_base64(&mut forms, whole);
    }
    let lines = secret.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    for line in lines.filter(|line| line.len() >= MIN_LINE) {
        add_encodings(&mut forms, line);
    }
    forms.retain(|form| form.0.len() >= MIN_FORM);
    if forms.iter().any(|form| form.0.len() > MAX_FORM) {
        return Err(NotMaskable::TooLarge);
    }
    Ok(forms)
}

fn add_encodings(forms: &mut BTreeSet<Form>, plain: &[u8]) {
    let mut add = |form: Vec<u8>| {
        forms.insert(Form(form));
    };
    add(plain.to_vec());
    percent(plain, &mut add);
    base64_alignments(plain, &mut add);
    add(hex(plain, b"0123456789abcdef"));
    add(hex(plain, b"0123456789ABCDEF"));
    markup(plain, &mut add);
    shell(plain, &mut add);
    representations(plain, &mut add);
    if let Ok(text) = std::str::from_utf8(plain) {
        json(text, &mut add);
        add(text.encode_utf16().flat_map(u16::to_le_bytes).collect());
        add(text.encode_utf16().flat_map(u16::to_be_bytes).collect());
    }
}

/// URL encodings differ in what they leave alone and in the case of their digits.
fn percent(plain: &[u8], add: &mut impl FnMut(Vec<u8>)) {
    // RFC 3986; Python's quote; JavaScript's encodeURIComponent; HTML forms.
    for left_alone in ["-_.~", "-_.~/", "-_.~!*'()", "*-._"] {
        for digits in [b"0123456789ABCDEF", b"0123456789abcdef"] {
            for space in [&b"%20"[..], b"+"] {
                add(replaced(plain, |byte, out| match byte {
                    b' ' => out.extend_from_slice(space),
                    _ if byte.is_ascii_alphanumeric() || left_alone.as_bytes().contains(&byte) => {
                        out.push(byte)
                    }
                    _ => {
                        out.push(b'%');
                        out.extend_from_slice(&hex(&[byte], digits));
                    }
                }));
            }
        }
    }
}

/// A secret inside a longer text that is encoded begins at one of three places of a group. Only
/// the digits that no neighbour can change are looked for.
fn base64_alignments(plain: &[u8], add: &mut impl FnMut(Vec<u8>)) {
    for engine in [&STANDARD, &URL_SAFE] {
        for before in 0..3 {
            let padded = Zeroizing::new([&[0; 2][..before], plain].concat());
            let text = Zeroizing::new(engine.encode(&*padded));
            let (first, last) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
            add(text.as_bytes()[first..last].to_vec());
        }
    }
}

fn add_wrapped_base64(forms: &mut BTreeSet<Form>, plain: &[u8]) {
    for width in BASE64_LINES {
        // A short last line would be a short form: it is part of no rule then.
        for line in plain
            .chunks(width)
            .filter(|line| line.len() >= MIN_LINE * 2)
        {
            let encoded = Zeroizing::new(STANDARD.encode(line));
            forms.insert(Form(encoded.trim_end_matches('=').as_bytes().to_vec()));
        }
    }
}

fn hex(plain: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    let nibbles = plain.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.map(|nibble| digits[usize::from(nibble)]).collect()
}

/// XML and HTML, which agree on three characters and not on the quotes.
fn markup(plain: &[u8], add: &mut impl FnMut(Vec<u8>)) {
    for double in ["\"", "&quot;", "&#34;"] {
        for single in ["'", "&apos;", "&#39;", "&#x27;"] {
            add(replaced(plain, |byte, out| match byte {
                b'&' => out.extend_from_slice(b"&amp;"),
                b'<' => out.extend_from_slice(b"&lt;"),
                b'>' => out.extend_from_slice(b"&gt;"),
                b'"' => out.extend_from_slice(double.as_bytes()),
                b'\'' => out.extend_from_slice(single.as_bytes()),
                _ => out.push(byte),
            }));
        }
    }
}

/// Inside single quotes, as shells and Python write it, and with a backslash before what is special.
fn shell(plain: &[u8], add: &mut impl FnMut(Vec<u8>)) {
    for quote in [&b"'\\''"[..], b"'\"'\"'"] {
        add(replaced(plain, |byte, out| match byte {
            b'\'' => out.extend_from_slice(quote),
            _ => out.push(byte),
        }));
    }
    add(replaced(plain, |byte, out| {
        if byte.is_ascii() && !byte.is_ascii_alphanumeric() && !b"_-./:=@%+,".contains(&byte) {
            out.push(b'\\');
        }
        out.push(byte);
    }));
}

/// How debuggers and exceptions show text: C, Python, Rust, Go.
fn representations(plain: &[u8], add: &mut impl FnMut(Vec<u8>)) {
    for quote in [None, Some(b'\''), Some(b'"')] {
        for escape_high in [false, true] {
            add(replaced(plain, |byte, out| match byte {
                b'\\' => out.extend_from_slice(b"\\\\"),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' => out.extend_from_slice(b"\\t"),
                _ if Some(byte) == quote => out.extend_from_slice(&[b'\\', byte]),
                _ if byte < b' ' || byte == 0x7f || (escape_high && byte >= 0x80) => {
                    out.extend_from_slice(b"\\x");
                    out.extend_from_slice(&hex(&[byte], b"0123456789abcdef"));
                }
                _ => out.push(byte),
            }));
        }
    }
}

/// JSON, with or without everything beyond ASCII escaped, the slash too where PHP does it.
fn json(text: &str, add: &mut impl FnMut(Vec<u8>)) {
    let quoted = serde_json::Value::from(text).to_string();
    let plain = &quoted[1..quoted.len() - 1];
    add(plain.as_bytes().to_vec());
    for (upper, slash) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut escaped = String::new();
        for unit in plain.encode_utf16() {
            match u8::try_from(unit) {
                Ok(b'/') if slash => escaped.push_str("\\/"),
                Ok(byte) if byte.is_ascii() => escaped.push(char::from(byte)),
                _ if upper => escaped.push_str(&format!("\\u{unit:04X}")),
                _ => escaped.push_str(&format!("\\u{unit:04x}")),
            }
        }
        add(escaped.into_bytes());
    }
}

fn replaced(plain: &[u8], mut write: impl FnMut(u8, &mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(plain.len() * 2);
    for byte in plain {
        write(*byte, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(secret: &[u8]) -> NotMaskable {
        forms(secret).err().unwrap()
    }

    fn has(secret: &str, form: &str) -> bool {
        forms(secret.as_bytes())
            .unwrap()
            .contains(&Form(form.as_bytes().to_vec()))
    }

    #[test]
    fn the_forms_that_programs_write_are_all_there() {
        let secret = "p<w>'d\" &/é\n";
        for form in [
            "p<w>'d\" &/é",
            "p<w>'d\\\" &/é",
            "p<w>'d\\\" &/\\u00e9",
            "p<w>'d\\\" &\\/\\u00E9",
            "p%3Cw%3E%27d%22%20%26%2F%C3%A9",
            "p%3cw%3e%27d%22%20%26%2f%c3%a9",
            "p%3Cw%3E'd%22%20%26%2F%C3%A9",
            "p%3Cw%3E%27d%22+%26%2F%C3%A9",
            "p%3Cw%3E%27d%22%20%26/%C3%A9",
            "p&lt;w&gt;'d\" &amp;/é",
            "p&lt;w&gt;&#x27;d&quot; &amp;/é",
            "p&lt;w&gt;&apos;d&quot; &amp;/é",
            "p<w>'\\''d\" &/é",
            "p<w>'\"'\"'d\" &/é",
            "p\\<w\\>\\'d\\\"\\ \\&/é",
            "p<w>\\'d\" &/\\xc3\\xa9",
            "703c773e27642220262fc3a9",
            "703C773E27642220262FC3A9",
        ] {
            assert!(has(secret, form), "{form}");
        }
    }

    #[test]
    fn base64_is_found_at_every_alignment() {
        let secret = b"hunter2-and-more";
        let all = forms(secret).unwrap();
        for before in 0..3 {
            for after in 0..3 {
                let text = [&b"abc"[..before], secret, &b"xyz"[..after]].concat();
                let encoded = STANDARD.encode(text).into_bytes();
                let found = all.iter().any(|form| {
                    form.0.len() >= 20
                        && encoded.windows(form.0.len()).any(|window| window == form.0)
                });
                assert!(found, "{before} before, {after} after");
            }
        }
    }

    #[test]
    fn each_longer_line_of_a_secret_is_a_secret() {
        let secret = "-----BEGIN-----\r\nabcdefgh\r\nxyz\n";
        assert!(has(secret, "abcdefgh") && has(secret, "-----BEGIN-----"));
        assert!(!has(secret, "xyz"));
    }

    #[test]
    fn what_can_not_be_masked_is_refused_with_a_code() {
        assert_eq!(refused(b"abc\n").code(), "SECRET_TOO_SHORT_TO_MASK");
        assert_eq!(refused(b"  \n\n  "), NotMaskable::TooShort);
        assert_eq!(
            refused(&[b'x'; MAX_SECRET + 1]).code(),
            "SECRET_TOO_LARGE_TO_MASK"
        );
        assert_eq!(refused(&[1; MAX_SECRET]), NotMaskable::TooLarge);
        assert!(forms(&[b'x'; MAX_SECRET]).is_ok());
    }
}
