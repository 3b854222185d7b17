//! Two values of a field as CRMs spell them: the type and the form, then each value on a line of its own, in JSON or as
//! plain text.
//!
//! What is promised is what convergence rests on: a value that was read once does not change when it is read again, and
//! what a CRM makes of a value by its own normal form is not an edit.

use headgate_relay::mapping::{Form, Kind};
use headgate_schemas::Value;

use crate::text::lines;

/// The types by their names in inputs.
const KINDS: [(&str, Kind); 8] = [
    ("text", Kind::Text),
    ("email", Kind::Email),
    ("phone", Kind::Phone),
    ("number", Kind::Number),
    ("date", Kind::Date),
    ("bool", Kind::Bool),
    ("domain", Kind::Domain),
    ("choice", Kind::Choice),
];

/// What was promised of every value and did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A value is not itself, or is another one only from one side.
    #[error("being the same is not the same from both sides")]
    Same,
    /// The normal form of a normal form is another one.
    #[error("a normal form has another normal form")]
    Normal,
    /// Reading changes a value under its own normal form, or changes it again.
    #[error("a value that is read is another one than it was")]
    Read,
    /// What is written comes back as another value.
    #[error("a value that is written comes back as another one")]
    Written,
    /// A value taken from a person is not taken a second time.
    #[error("a value that a person typed is another one the second time")]
    Typed,
    /// The normal form is much longer than the value.
    #[error("a normal form of {0} bytes")]
    Long(usize),
}

/// Reads both values and compares them; answers how many normal forms there were.
///
/// # Errors
/// A broken promise.
pub fn run(input: &[u8]) -> Result<usize, crate::Broken> {
    let text = String::from_utf8_lossy(input);
    let mut lines = lines(text.as_bytes()).map(String::from_utf8_lossy);
    let first = lines.next().unwrap_or_default();
    let (name, form) = first.split_once(' ').unwrap_or((&first, "text"));
    let Some((_, kind)) = KINDS.iter().find(|(known, _)| *known == name) else { return Ok(0) };
    let form = if form == "json" { Form::Json } else { Form::Text };
    let mut value = || lines.next().map(|line| parsed(&line)).unwrap_or_default();
    let (a, b) = (value(), value());
    for one in [&a, &b] {
        alone(*kind, form, one)?;
    }
    let alike = kind.same(&a, &b);
    if alike == kind.same(&b, &a) { Ok(if alike { 1 } else { 2 }) } else { Err(Broken::Same.into()) }
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|_| Value::from(line))
}

fn alone(kind: Kind, form: Form, value: &Value) -> Result<(), Broken> {
    /// Digits that an exponent may stand for.
    const DIGITS: usize = 402;
    if !kind.same(value, value) {
        return Err(Broken::Same);
    }
    let normal = kind.normal(value).into_owned();
    if normal.len() > 4 * value.to_plain().len() + DIGITS {
        return Err(Broken::Long(normal.len()));
    }
    if kind.normal(&Value::text(normal.as_str())) != normal {
        return Err(Broken::Normal);
    }
    let read = kind.decode(form, value);
    if !kind.same(value, &read) || kind.decode(form, &read) != read {
        return Err(Broken::Read);
    }
    if !kind.same(&read, &kind.decode(form, &Kind::encode(form, &read))) {
        return Err(Broken::Written);
    }
    match kind.typed(value.clone()) {
        Some(typed) if kind.typed(typed.clone()) != Some(typed.clone()) => Err(Broken::Typed),
        Some(_) | None => Ok(()),
    }
}
