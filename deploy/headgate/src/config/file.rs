//! The text of a configuration file as a tree that remembers lines. Knows TOML, no key of ours. A syntax error is
//! reported by line and message only: quoting the line, as TOML libraries like to, could print a secret.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{At, Finding, Origin};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The value.
    pub(crate) value: Value,
    /// Where it came from.
    pub(crate) origin: Origin,
}

/// A value of the file or of an environment variable.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// A string.
    Text(String),
    /// Text of an environment variable: becomes what the reader asks for.
    Loose(String),
    /// A whole number that fits.
    Integer(i64),
    /// True or false.
    Boolean(bool),
    /// An array.
    List(Vec<Node>),
    /// A table.
    Table(Table),
    /// A value of a kind no key of ours has; its name.
    Other(&'static str),
}

/// The entries of a table by key.
pub(crate) type Table = BTreeMap<String, Node>;

impl Value {
    /// The kind of the value, for a sentence.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Loose(_) => "text",
            Self::Integer(_) => "a whole number",
            Self::Boolean(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

/// Parses `text`.
///
/// # Errors
/// Every syntax error, each once with its line.
pub(crate) fn parse(text: &str) -> Result<Table, Vec<Finding>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(table(text, root.get_ref()));
    }
    let mut findings = Vec::new();
    for error in errors {
        let line = error.span().map_or(1, |span| line(text, span.start));
        let at = At { path: String::new(), origin: Origin::Line(line) };
        let finding =
            Finding::new(at, format!("this is not TOML: {}", error.message()), "mend the syntax of this line");
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    Err(findings)
}

fn table(text: &str, entries: &DeTable<'_>) -> Table {
    entries.iter().map(|(key, value)| (key.get_ref().to_string(), node(text, key.span().start, value))).collect()
}

fn node(text: &str, start: usize, value: &Spanned<DeValue<'_>>) -> Node {
    let origin = Origin::Line(line(text, start));
    let value = match value.get_ref() {
        DeValue::String(s) => Value::Text(s.to_string()),
        DeValue::Integer(i) => match i64::from_str_radix(i.as_str(), i.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other("a number that is too large"),
        },
        DeValue::Boolean(b) => Value::Boolean(*b),
        DeValue::Float(_) => Value::Other("a number with a fraction"),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(items) => Value::List(items.iter().map(|item| node(text, item.span().start, item)).collect()),
        DeValue::Table(entries) => Value::Table(table(text, entries)),
    };
    Node { value, origin }
}

/// The line of a byte offset, from 1.
fn line(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_remember_the_line_of_their_key() {
        let root = parse("a = 1\n\n[b]\nc = [\n  \"x\",\n  \"y\",\n]\n[[d]]\ne = true\n").unwrap();
        assert_eq!(root["a"].origin, Origin::Line(1));
        let Value::Table(b) = &root["b"].value else { panic!("a table") };
        assert_eq!(b["c"].origin, Origin::Line(4));
        let Value::List(items) = &b["c"].value else { panic!("a list") };
        assert_eq!(items[1].origin, Origin::Line(6));
        let Value::List(d) = &root["d"].value else { panic!("a list") };
        assert_eq!(d[0].origin, Origin::Line(8));
    }

    #[test]
    fn a_syntax_error_names_its_line_and_quotes_nothing() {
        let findings = parse("a = 1\ntoken = s3cret-token\n").unwrap_err();
        assert_eq!(findings[0].at.origin, Origin::Line(2));
        assert!(findings.iter().all(|f| !f.to_string().contains("s3cret")), "{findings:?}");
    }

    #[test]
    fn a_key_twice_is_one_finding_on_the_second_line() {
        let findings = parse("a = 1\na = 2\n").unwrap_err();
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].at.origin, Origin::Line(2));
        assert_eq!(findings[0].problem, "this is not TOML: duplicate key");
    }
}
