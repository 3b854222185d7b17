//! The search call: filter groups, sorts, paging, and its cap of 10,000 hits.
//!
//! Pure over the portal. Operators as HubSpot's search guide lists them; groups are alternatives, the filters of a
//! group must all hold. The surprising thing: text is compared without case, and times may be given as epoch
//! milliseconds or ISO text.

use std::cmp::Ordering;

use serde::Deserialize;
use serde_json::json;

use super::objects::body;
use super::portal::{Portal, Record};
use super::problem::Problem;
use super::schema::{PropertyKind, instant_ms};
use crate::sim::http::{Answer, Call};

/// Hits that paging can reach.
const REACH: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Search {
    filter_groups: Vec<Group>,
    #[serde(default)]
    sorts: Vec<Sort>,
    properties: Vec<String>,
    limit: usize,
    after: Option<String>,
    query: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    filters: Vec<Filter>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Filter {
    property_name: String,
    operator: Operator,
    value: Option<String>,
    high_value: Option<String>,
    #[serde(default)]
    values: Vec<String>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Operator {
    Between,
    ContainsToken,
    Eq,
    Gt,
    Gte,
    HasProperty,
    In,
    Lt,
    Lte,
    Neq,
    NotContainsToken,
    NotHasProperty,
    NotIn,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Sort {
    Name(String),
    Full {
        #[serde(rename = "propertyName")]
        property: String,
        direction: Direction,
    },
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
enum Direction {
    Ascending,
    Descending,
}

impl Sort {
    fn parts(&self) -> (&str, Direction) {
        match self {
            Self::Full { property, direction } => (property, *direction),
            Self::Name(name) => {
                name.strip_prefix('-').map_or((name, Direction::Ascending), |n| (n, Direction::Descending))
            }
        }
    }
}

/// Answers a search.
pub(super) fn answer(portal: &Portal, table: usize, call: &Call) -> Result<Answer, Problem> {
    let search: Search = body(call)?;
    let after = check(portal, table, &search)?;
    let query = search.query.as_deref().unwrap_or_default().to_lowercase();
    let live = portal.tables[table].records.values().filter(|r| r.archived_ms.is_none());
    let mut hits: Vec<&Record> = live
        .filter(|r| query.is_empty() || r.properties.values().any(|v| v.to_lowercase().contains(&query)))
        .filter(|r| {
            search.filter_groups.is_empty()
                || search.filter_groups.iter().any(|g| g.filters.iter().all(|f| holds(portal, table, r, f)))
        })
        .collect();
    if let Some((name, direction)) = search.sorts.first().map(Sort::parts) {
        let key = |r: &Record| text(portal, table, r, name);
        hits.sort_by(|a, b| {
            let order = compare(kind(portal, table, name), &key(a).unwrap_or_default(), &key(b).unwrap_or_default());
            if direction == Direction::Descending { order.reverse() } else { order }
        });
    }
    let page = hits.iter().skip(after).take(search.limit);
    let results: Vec<_> = page.map(|r| portal.show(table, r, &search.properties, &[])).collect();
    let mut body = json!({"total": hits.len(), "results": results});
    if after + search.limit < hits.len() {
        body["paging"] = json!({"next": {"after": (after + search.limit).to_string()}});
    }
    Ok(Answer::json(200, &body))
}

fn check(portal: &Portal, table: usize, search: &Search) -> Result<usize, Problem> {
    let after = search.after.as_deref().map_or(Ok(0), str::parse::<usize>);
    let after = after.map_err(|_| Problem::invalid("after is not a number"))?;
    if search.limit == 0 || search.limit > 200 {
        return Err(Problem::invalid("limit must be between 1 and 200"));
    }
    if after + search.limit > REACH {
        return Err(Problem::invalid("Paging beyond 10000 results is not possible"));
    }
    if search.filter_groups.len() > 5 || search.sorts.len() > 1 {
        return Err(Problem::invalid("At most 5 filter groups and one sort are allowed"));
    }
    if search.query.as_ref().is_some_and(|q| q.chars().count() > 3_000) {
        return Err(Problem::invalid("query may hold at most 3000 characters"));
    }
    for filter in search.filter_groups.iter().flat_map(|g| &g.filters) {
        let needs_value = !matches!(
            filter.operator,
            Operator::HasProperty | Operator::NotHasProperty | Operator::In | Operator::NotIn
        );
        if !portal.tables[table].spec.properties.contains_key(&filter.property_name) {
            return Err(Problem::invalid(format!(
                "There was a problem with the request: no property {}",
                filter.property_name
            )));
        }
        if needs_value && filter.value.is_none() || filter.operator == Operator::Between && filter.high_value.is_none()
        {
            return Err(Problem::invalid(format!("The filter on {} has no value", filter.property_name)));
        }
    }
    if search.filter_groups.iter().any(|g| g.filters.is_empty() || g.filters.len() > 6) {
        return Err(Problem::invalid("A filter group holds 1 to 6 filters"));
    }
    Ok(after)
}

fn kind(portal: &Portal, table: usize, name: &str) -> PropertyKind {
    portal.tables[table].spec.properties.get(name).map_or(PropertyKind::Text, |p| p.kind)
}

fn text(portal: &Portal, table: usize, record: &Record, name: &str) -> Option<String> {
    portal.value(table, record, name).as_str().map(str::to_owned)
}

fn holds(portal: &Portal, table: usize, record: &Record, filter: &Filter) -> bool {
    let kind = kind(portal, table, &filter.property_name);
    let Some(have) = text(portal, table, record, &filter.property_name) else {
        return matches!(
            filter.operator,
            Operator::NotHasProperty | Operator::Neq | Operator::NotIn | Operator::NotContainsToken
        );
    };
    let value = filter.value.as_deref().unwrap_or_default();
    let order = || compare(kind, &have, value);
    let one_of = || filter.values.iter().any(|v| compare(kind, &have, v).is_eq());
    let token = || {
        let wanted = value.trim_matches('*').to_lowercase();
        have.to_lowercase().split(|c: char| !c.is_alphanumeric() && c != '@' && c != '.').any(|t| t.contains(&wanted))
    };
    match filter.operator {
        Operator::Eq => order().is_eq(),
        Operator::Neq => order().is_ne(),
        Operator::Gt => order().is_gt(),
        Operator::Gte => order().is_ge(),
        Operator::Lt => order().is_lt(),
        Operator::Lte => order().is_le(),
        Operator::Between => {
            order().is_ge() && compare(kind, &have, filter.high_value.as_deref().unwrap_or_default()).is_le()
        }
        Operator::In => one_of(),
        Operator::NotIn => !one_of(),
        Operator::HasProperty => true,
        Operator::NotHasProperty => false,
        Operator::ContainsToken => token(),
        Operator::NotContainsToken => !token(),
    }
}

fn compare(kind: PropertyKind, a: &str, b: &str) -> Ordering {
    match kind {
        PropertyKind::Number => {
            let number = |t: &str| t.parse::<f64>().unwrap_or(f64::NEG_INFINITY);
            number(a).total_cmp(&number(b))
        }
        PropertyKind::Date | PropertyKind::DateTime => instant_ms(a).cmp(&instant_ms(b)),
        PropertyKind::Text | PropertyKind::Phone | PropertyKind::Bool | PropertyKind::Choice => {
            a.to_lowercase().cmp(&b.to_lowercase())
        }
    }
}
