//! What goes to stdout and stderr: tables, JSON, blocks of findings. Data goes to stdout and talk to stderr; colour
//! only on a terminal and never with `NO_COLOR`. Takes any writer, so that tests read what people would.

use std::io::{self, Write};

use serde_json::{Map, Value};

use crate::config::fault::Finding;

/// Whether to colour a stream that is a terminal or not.
pub(crate) fn colour(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Paints `text` for a terminal.
pub(crate) fn paint(on: bool, colour: Colour, text: &str) -> String {
    let code = match colour {
        Colour::Green => "32",
        Colour::Yellow => "33",
        Colour::Red => "31",
        Colour::Bold => "1",
    };
    if on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// A colour with one meaning each: good, doubtful, bad, head line.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Colour {
    /// Good.
    Green,
    /// Doubtful.
    Yellow,
    /// Bad.
    Red,
    /// A head line.
    Bold,
}

/// Writes findings, one block each.
pub(crate) fn findings(
    out: &mut impl Write,
    on: bool,
    what: &str,
    colour: Colour,
    findings: &[Finding],
) -> io::Result<()> {
    for finding in findings {
        writeln!(out, "{}: {finding}", paint(on, colour, what))?;
    }
    Ok(())
}

/// A cell of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    /// What it says.
    pub(crate) text: String,
    /// Its colour, where colours are on.
    pub(crate) colour: Option<Colour>,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), colour: None }
    }
}

/// Writes columns, each as wide as its widest cell, the last one open.
pub(crate) fn table(out: &mut impl Write, rows: &[Vec<String>]) -> io::Result<()> {
    let rows: Vec<Vec<Cell>> = rows.iter().map(|row| row.iter().map(|text| text.as_str().into()).collect()).collect();
    cells(out, false, &rows)
}

/// The same with colours, which take no place.
pub(crate) fn cells(out: &mut impl Write, on: bool, rows: &[Vec<Cell>]) -> io::Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let length = |cell: &Cell| cell.text.chars().count();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(length).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in rows {
        let used = row.iter().rposition(|cell| !cell.text.is_empty()).map_or(0, |last| last + 1);
        for (column, cell) in row[..used].iter().enumerate() {
            let painted = cell.colour.map_or_else(|| cell.text.clone(), |colour| paint(on, colour, &cell.text));
            let gap = if column + 1 < used { widths[column] - length(cell) + 2 } else { 0 };
            write!(out, "{painted}{:gap$}", "")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Writes a list of JSON objects as a table: `first` columns first, whatever else the objects hold after them.
pub(crate) fn objects(out: &mut impl Write, first: &[&str], items: &[Value]) -> io::Result<()> {
    let held = |name: &str| items.iter().any(|item| item.get(name).is_some());
    let mut names: Vec<&str> = first.iter().copied().filter(|name| held(name)).collect();
    for name in items.iter().filter_map(Value::as_object).flat_map(Map::keys) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let mut rows = vec![names.iter().map(|name| name.to_uppercase().replace('_', " ")).collect::<Vec<_>>()];
    rows.extend(items.iter().map(|item| names.iter().map(|name| cell(item.get(*name))).collect()));
    table(out, &rows)
}

/// Writes one JSON object: plain values as lines, lists of objects as tables under their name.
pub(crate) fn object(out: &mut impl Write, first: &[&str], value: &Value) -> io::Result<()> {
    let Some(map) = value.as_object() else { return writeln!(out, "{}", cell(Some(value))) };
    let is_list = |value: &Value| value.as_array().is_some_and(|list| list.first().is_some_and(Value::is_object));
    let order = |name: &String| first.iter().position(|f| f == name).unwrap_or(first.len());
    let mut names: Vec<&String> = map.keys().collect();
    names.sort_by_key(|name| order(name));
    let plain = names.iter().filter(|name| !is_list(&map[name.as_str()]));
    table(out, &plain.map(|name| vec![name.replace('_', " "), cell(map.get(name.as_str()))]).collect::<Vec<_>>())?;
    for name in names {
        if let Some(list) = map.get(name).filter(|value| is_list(value)).and_then(Value::as_array) {
            writeln!(out, "\n{}", name.replace('_', " "))?;
            objects(out, first, list)?;
        }
    }
    Ok(())
}

/// A value in one cell: text as it is, control characters escaped because a terminal would obey them.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => printable(text),
        Some(other) => printable(&other.to_string()),
    }
}

/// `text` without characters that a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn written(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn objects_become_a_table_with_the_wanted_columns_first() {
        let items = [json!({"b": 1, "id": "x"}), json!({"id": "longer", "b": null, "c": [1]})];
        let text = written(|out| objects(out, &["id"], &items));
        assert_eq!(text, "ID      B  C\nx       1  -\nlonger  -  [1]\n");
    }

    #[test]
    fn an_object_shows_its_lists_below() {
        let value = json!({"members": [{"id": "1", "system": "hubspot"}], "object": "contact", "id": "e1"});
        let text = written(|out| object(out, &["id", "object", "system"], &value));
        assert_eq!(text, "id      e1\nobject  contact\n\nmembers\nID  SYSTEM\n1   hubspot\n");
    }

    #[test]
    fn a_terminal_is_not_obeyed() {
        let text = written(|out| objects(out, &[], &[json!({"name": "\u{1b}[31mred\n"})]));
        assert_eq!(text, "NAME\n\\u{1b}[31mred\\n\n");
    }
}
