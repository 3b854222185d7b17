//! Whether a row satisfies a condition, and the order of rows.
//!
//! Pure; it knows no records: values come through a closure. The surprising thing: null is less than nothing and
//! greater than nothing, it only equals null, and it sorts first unless the query says otherwise.

use std::cmp::Ordering;

use serde_json::Value;

use super::{Condition, Literal, Op, Order};

impl Condition {
    /// Every field with every literal it is compared with, open to change.
    pub(crate) fn comparisons(&mut self) -> Vec<(&str, &mut Literal)> {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter_mut().flat_map(Self::comparisons).collect(),
            Self::Not(inner) => inner.comparisons(),
            Self::Compare { field, literal, .. } => vec![(field, literal)],
            Self::OneOf { field, literals, .. } => literals.iter_mut().map(|l| (field.as_str(), l)).collect(),
        }
    }

    /// Whether a row satisfies the condition; `value` gives its fields.
    pub(crate) fn holds(&self, value: &impl Fn(&str) -> Value) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|p| p.holds(value)),
            Self::Any(parts) => parts.iter().any(|p| p.holds(value)),
            Self::Not(inner) => !inner.holds(value),
            Self::Compare { field, op, literal } => compare(&value(field), *op, literal),
            Self::OneOf { field, literals, negated } => {
                let have = value(field);
                literals.iter().any(|l| compare(&have, Op::Eq, l)) != *negated
            }
        }
    }
}

fn compare(have: &Value, op: Op, literal: &Literal) -> bool {
    if op == Op::Like {
        let Literal::Text(pattern) = literal else { return false };
        return have.as_str().is_some_and(|t| like(&t.to_lowercase(), &pattern.to_lowercase()));
    }
    let order = against(have, literal);
    match op {
        Op::Eq => order == Some(Ordering::Equal),
        Op::Ne => order != Some(Ordering::Equal),
        Op::Lt => order == Some(Ordering::Less),
        Op::Le => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Op::Gt => order == Some(Ordering::Greater),
        Op::Ge => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        Op::Like => false,
    }
}

/// Order of a row's value against a literal; `None` when they cannot be compared.
fn against(have: &Value, literal: &Literal) -> Option<Ordering> {
    match (have, literal) {
        (Value::Null, Literal::Null) => Some(Ordering::Equal),
        (Value::Null, Literal::Text(t)) if t.is_empty() => Some(Ordering::Equal),
        (Value::Bool(a), Literal::Bool(b)) => Some(a.cmp(b)),
        (Value::Number(a), Literal::Number(b)) => a.as_f64()?.partial_cmp(b),
        (Value::String(a), Literal::Text(b)) => Some(a.to_lowercase().cmp(&b.to_lowercase())),
        (Value::String(a), Literal::Date(b)) => Some(a.as_str().cmp(b)),
        (Value::String(a), Literal::Instant(b)) => Some(a.parse::<jiff::Timestamp>().ok()?.as_microsecond().cmp(b)),
        _ => None,
    }
}

/// `%` stands for any text, `_` for one character.
fn like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    let mut reach = vec![false; text.len() + 1];
    reach[0] = true;
    for p in pattern {
        let mut next = vec![false; text.len() + 1];
        for at in 0..=text.len() {
            next[at] = match p {
                '%' => reach[at] || at > 0 && next[at - 1],
                '_' => at > 0 && reach[at - 1],
                c => at > 0 && reach[at - 1] && text[at - 1] == c,
            };
        }
        reach = next;
    }
    reach[text.len()]
}

/// Order of two rows under the sort keys.
pub(crate) fn order(keys: &[Order], a: &impl Fn(&str) -> Value, b: &impl Fn(&str) -> Value) -> Ordering {
    for key in keys {
        let (a, b) = (a(&key.field), b(&key.field));
        let order = match (&a, &b) {
            (Value::Null, Value::Null) => Ordering::Equal,
            (Value::Null, _) | (_, Value::Null) => {
                let first = if a.is_null() { Ordering::Less } else { Ordering::Greater };
                if key.nulls_last { first.reverse() } else { first }
            }
            (Value::Number(x), Value::Number(y)) => {
                directed(x.as_f64().partial_cmp(&y.as_f64()).unwrap_or(Ordering::Equal), key)
            }
            (Value::String(x), Value::String(y)) => directed(x.to_lowercase().cmp(&y.to_lowercase()), key),
            _ => directed(a.to_string().cmp(&b.to_string()), key),
        };
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

const fn directed(order: Ordering, key: &Order) -> Ordering {
    if key.descending { order.reverse() } else { order }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::parse;
    use super::*;

    fn holds(filter: &str, row: &Value) -> bool {
        let query = parse(&format!("SELECT Id FROM Contact WHERE {filter}")).expect("the test writes good queries");
        query.filter.expect("there is a condition").holds(&|name: &str| row[name].clone())
    }

    #[test]
    fn conditions_hold_or_not() {
        let row = json!({"Email": "Ana@Example.com", "Amount": 5.5, "IsWon": false, "Title": null,
            "SystemModstamp": "2026-01-01T10:00:00.000+0000", "CloseDate": "2026-02-01"});
        for (filter, expected) in [
            ("Email = 'ana@example.COM'", true),
            ("Email != 'ana@example.com'", false),
            ("Amount > 5 AND Amount <= 5.5", true),
            ("NOT Amount > 5", false),
            ("(Amount < 5 OR IsWon = FALSE) AND Title = null", true),
            ("Title = ''", true),
            ("Title != null", false),
            ("Email LIKE 'ana%.c_m'", true),
            ("Email LIKE 'ana'", false),
            ("Email NOT IN ('x', 'ana@example.com')", false),
            ("SystemModstamp >= 2026-01-01T10:00:00Z", true),
            ("SystemModstamp > 2026-01-01T11:00:00+01:00", false),
            ("CloseDate < 2026-02-02", true),
        ] {
            assert_eq!(holds(filter, &row), expected, "{filter}");
        }
    }
}
