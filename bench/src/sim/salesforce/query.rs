//! `query`, `queryAll` and the pages behind them.
//!
//! The surprising thing: a page is cut from the rows as they stood when the query ran, so rows that change between
//! two pages show their old values, as Salesforce's cursors do.

use std::collections::{BTreeSet, HashSet, VecDeque};

use serde_json::{Value, json};

use super::id::id18;
use super::org::{Org, Row, Table};
use super::problem::{Problem, Refused};
use super::schema::FieldKind;
use crate::sim::http::{Answer, Call};
use crate::sim::soql::{self, Condition, Literal, Query};

/// Rows of a page, unless the caller asks for another size.
const PAGE: usize = 2_000;
/// Cursors that stay open; the oldest is closed for a new one.
const CURSORS: usize = 10;

/// Open cursors.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    open: VecDeque<(String, Vec<Value>)>,
    made: u64,
}

/// Answers `query?q=` and `queryAll?q=`.
pub(super) fn answer(
    org: &Org,
    cursors: &mut Cursors,
    call: &Call,
    version: &str,
    all: bool,
) -> Result<Answer, Refused> {
    let text = call.param("q").ok_or_else(|| refused("MALFORMED_QUERY", "The query parameter q is missing"))?;
    let query = soql::parse(text).map_err(|e| refused("MALFORMED_QUERY", &e.to_string()))?;
    let table = org.table(&query.from);
    let text = format!("sObject type '{}' is not supported.", query.from);
    let table = &org.tables[table.map_err(|_| refused("INVALID_TYPE", &text))?];
    let query = resolve(table, query)?;
    let rows = select(table, &query, all);
    if query.fields.is_empty() {
        return Ok(Answer::json(200, &json!({"totalSize": rows.len(), "done": true, "records": []})));
    }
    let shown: Vec<Value> = rows.iter().map(|r| show(table, r, &query.fields, version)).collect();
    let page = page_size(call);
    if shown.len() <= page {
        return Ok(Answer::json(200, &json!({"totalSize": shown.len(), "done": true, "records": shown})));
    }
    cursors.made += 1;
    let id = id18(&format!("01g5g0{:09}", cursors.made)).unwrap_or_default();
    cursors.open.push_back((id.clone(), shown));
    if cursors.open.len() > CURSORS {
        cursors.open.pop_front();
    }
    more(cursors, &format!("{id}-0"), call, version)
}

/// Answers `query/{locator}`: the page that starts at the locator's number.
pub(super) fn more(cursors: &Cursors, locator: &str, call: &Call, version: &str) -> Result<Answer, Refused> {
    let closed = || refused("INVALID_QUERY_LOCATOR", "invalid query locator");
    let (id, start) = locator.rsplit_once('-').ok_or_else(closed)?;
    let start: usize = start.parse().map_err(|_| closed())?;
    let (_, rows) = cursors.open.iter().find(|(open, _)| open == id).ok_or_else(closed)?;
    let end = rows.len().min(start.saturating_add(page_size(call)));
    let page = rows.get(start..end).ok_or_else(closed)?;
    let mut body = json!({"totalSize": rows.len(), "done": end == rows.len(), "records": page});
    if end < rows.len() {
        body["nextRecordsUrl"] = format!("/services/data/{version}/query/{id}-{end}").into();
    }
    Ok(Answer::json(200, &body))
}

fn refused(code: &'static str, text: &str) -> Refused {
    Refused::new(400, Problem::new(code, text))
}

/// `Sforce-Query-Options: batchSize=n`, 200 to 2000.
fn page_size(call: &Call) -> usize {
    let asked = call.header("sforce-query-options").and_then(|h| h.trim().strip_prefix("batchSize="));
    asked.and_then(|n| n.parse().ok()).map_or(PAGE, |n: usize| n.clamp(200, PAGE))
}

/// Spells every field as the object does and checks that literals fit their fields.
fn resolve(table: &Table, mut query: Query) -> Result<Query, Refused> {
    let spell = |name: &str| {
        let text = || {
            format!(
                "No such column '{name}' on entity '{}'. If you are attempting to use a custom field, be sure to append the '__c' after the custom field name.",
                table.spec.name
            )
        };
        table.spec.field(name).map(|f| f.name.clone()).ok_or_else(|| refused("INVALID_FIELD", &text()))
    };
    query.fields = query.fields.iter().map(|f| spell(f)).collect::<Result<_, _>>()?;
    for key in &mut query.order {
        key.field = spell(&key.field)?;
    }
    for (name, literal) in query.filter.iter_mut().flat_map(Condition::comparisons) {
        let name = spell(name)?;
        let kind = table.spec.field(&name).map_or(FieldKind::Text, |f| f.kind);
        let fits = match &*literal {
            Literal::Null => true,
            Literal::Text(_) => kind.is_quoted(),
            Literal::Bool(_) => kind == FieldKind::Bool,
            Literal::Date(_) => kind == FieldKind::Date,
            Literal::Instant(_) => kind == FieldKind::DateTime,
            Literal::Number(_) => {
                matches!(kind, FieldKind::Double | FieldKind::Currency | FieldKind::Percent | FieldKind::Int)
            }
        };
        if !fits {
            let quotes = if literal.is_quoted() { "should not" } else { "should" };
            let text = format!(
                "value of filter criterion for field '{name}' must be of type {} and {quotes} be enclosed in quotes",
                kind.name()
            );
            return Err(refused("INVALID_FIELD", &text));
        }
        if let (FieldKind::Id | FieldKind::Reference, Literal::Text(id)) = (kind, literal) {
            *id = id18(id).unwrap_or_else(|| std::mem::take(id));
        }
    }
    Ok(query)
}

fn select<'a>(table: &'a Table, query: &Query, all: bool) -> Vec<&'a Row> {
    let value = |row: &'a Row| move |name: &str| comparable(table, row, name);
    let visible = candidates(table, query).into_iter().filter(|r| all || r.deleted.is_none());
    let mut rows: Vec<&Row> = visible.filter(|r| query.filter.as_ref().is_none_or(|f| f.holds(&value(r)))).collect();
    if !query.order.is_empty() {
        rows.sort_by(|a, b| soql::order(&query.order, &value(a), &value(b)));
    }
    rows.into_iter().skip(query.offset).take(query.limit.unwrap_or(usize::MAX)).collect()
}

/// Rows worth testing: a list of texts is looked up in a set first, because the condition itself walks its list.
fn candidates<'a>(table: &'a Table, query: &Query) -> Vec<&'a Row> {
    let Some(Condition::OneOf { field, literals, negated: false }) = &query.filter else {
        return table.rows.values().collect();
    };
    let texts = literals.iter().filter_map(|l| if let Literal::Text(t) = l { Some(t) } else { None });
    if field.eq_ignore_ascii_case("Id") {
        return texts.collect::<BTreeSet<_>>().into_iter().filter_map(|id| table.rows.get(id)).collect();
    }
    let wanted: HashSet<String> = texts.map(|t| t.to_lowercase()).collect();
    if wanted.len() < 4 {
        return table.rows.values().collect();
    }
    let hit = |r: &&Row| comparable(table, r, field).as_str().is_some_and(|t| wanted.contains(&t.to_lowercase()));
    table.rows.values().filter(hit).collect()
}

/// A value as conditions see it; conditions keep the spelling of the query.
fn comparable(table: &Table, row: &Row, name: &str) -> Value {
    let spelled = table.spec.field(name).map_or(name, |f| f.name.as_str());
    row.value(spelled)
}

/// A row as answers show it: its type and address, then the fields asked for.
pub(super) fn show(table: &Table, row: &Row, fields: &[String], version: &str) -> Value {
    let url = format!("/services/data/{version}/sobjects/{}/{}", table.spec.name, row.id);
    let mut body = json!({"attributes": {"type": table.spec.name, "url": url}});
    for field in fields {
        body[field.as_str()] = row.value(field);
    }
    body
}
