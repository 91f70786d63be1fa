//! A list of system calls as people write it.
//!
//! ```text
//! # a heading
//! NAME[@ARCHITECTURE] … [if argN OPERATOR NUMBER [and …]]: the reason
//! ```
//!
//! Operators are `=`, `!=` and `has` (every bit of the number is set). Arguments are compared in their
//! lower 32 bits: that is all that the kernel takes of the flags and commands that are asked for here,
//! and a caller could hide behind the upper ones.

use serde_json::{Value, json};

use super::Error;

/// A line with its names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Name, and the one architecture that has it.
    pub(super) names: Vec<(String, Option<String>)>,
    /// All must hold.
    pub(super) conditions: Vec<Condition>,
}

/// What an argument must be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Condition {
    argument: u8,
    operator: Operator,
    number: u32,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Operator {
    Is,
    IsNot,
    Has,
}

impl Condition {
    pub(super) fn to_json(&self) -> Value {
        let operator = match self.operator {
            Operator::Is => json!("eq"),
            Operator::IsNot => json!("ne"),
            Operator::Has => json!({ "masked_eq": self.number }),
        };
        json!({ "index": self.argument, "type": "dword", "op": operator, "val": self.number })
    }
}

pub(super) fn parse(list: &str) -> Result<Vec<Line>, Error> {
    let lines = list.lines().enumerate();
    let written = lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let parsed = written.map(|(at, line)| {
        parse_line(line).map_err(|reason| Error::List {
            line: at + 1,
            reason,
        })
    });
    parsed.collect()
}

fn parse_line(line: &str) -> Result<Line, String> {
    let (calls, reason) = line.split_once(": ").ok_or("no reason after a colon")?;
    if reason.trim().is_empty() {
        return Err("the reason is empty".to_owned());
    }
    let (names, conditions) = match calls.split_once(" if ") {
        Some((names, conditions)) => (names, parse_conditions(conditions)?),
        None => (calls, vec![]),
    };
    let name = |name: &str| match name.split_once('@') {
        Some((name, only)) => (name.to_owned(), Some(only.to_owned())),
        None => (name.to_owned(), None),
    };
    let names: Vec<_> = names.split_whitespace().map(name).collect();
    if names.is_empty() {
        return Err("no name of a call".to_owned());
    }
    Ok(Line { names, conditions })
}

fn parse_conditions(text: &str) -> Result<Vec<Condition>, String> {
    text.split(" and ").map(parse_condition).collect()
}

fn parse_condition(text: &str) -> Result<Condition, String> {
    let wrong = || format!("{text:?} is not argN OPERATOR NUMBER");
    let [argument, operator, number] = text
        .split_whitespace()
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| wrong())?;
    let argument = argument.strip_prefix("arg").and_then(|n| n.parse().ok());
    let operator = match operator {
        "=" => Operator::Is,
        "!=" => Operator::IsNot,
        "has" => Operator::Has,
        _ => return Err(wrong()),
    };
    let number = match number.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => number.parse(),
    };
    Ok(Condition {
        argument: argument.ok_or_else(wrong)?,
        operator,
        number: number.map_err(|_| wrong())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_a_reason_is_refused_with_its_number() {
        let refused = parse("# calls\nread: bytes\nwrite\n").unwrap_err();
        assert!(refused.to_string().starts_with("line 3 "), "{refused}");
    }

    #[test]
    fn names_architectures_and_conditions_are_taken_apart() {
        let lines = parse("open@x86_64 openat if arg1 has 0x10 and arg2 != 7: by path\n").unwrap();
        assert_eq!(lines[0].names[0].1.as_deref(), Some("x86_64"));
        assert_eq!(lines[0].names[1], ("openat".to_owned(), None));
        assert_eq!(lines[0].conditions.len(), 2);
        for wrong in ["a if arg0: b", "a if arg0 > 1: b", "a if x = 1: b", ": b"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
