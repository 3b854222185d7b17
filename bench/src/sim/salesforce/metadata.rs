//! What describes the organisation: versions, objects, fields, limits, and which rows changed or went.

use headgate_schemas::Timestamp;
use serde_json::{Value, json};

use super::org::{Org, Row};
use super::problem::{Problem, Refused};
use super::schema::{Field, instant};
use crate::sim::http::{Answer, Call};

/// Newest version of the model.
const NEWEST: u32 = 68;

/// Answers `/services/data/`.
pub(super) fn versions() -> Answer {
    let all: Vec<_> = (59..=NEWEST)
        .map(|v| json!({"label": format!("Release {v}"), "url": format!("/services/data/v{v}.0"), "version": format!("{v}.0")}))
        .collect();
    Answer::json(200, &all)
}

/// Answers `/services/data/vNN.0/`.
pub(super) fn resources(version: &str) -> Answer {
    let names = ["sobjects", "query", "queryAll", "composite", "limits"];
    let all: serde_json::Map<_, _> =
        names.iter().map(|n| ((*n).to_owned(), Value::String(format!("/services/data/{version}/{n}")))).collect();
    Answer::json(200, &all)
}

/// Answers `limits`.
pub(super) fn limits(daily: u64, used: u64) -> Answer {
    Answer::json(200, &json!({"DailyApiRequests": {"Max": daily, "Remaining": daily.saturating_sub(used)}}))
}

fn summary(org: &Org, table: usize, version: &str) -> Value {
    let spec = &org.tables[table].spec;
    let base = format!("/services/data/{version}/sobjects/{}", spec.name);
    json!({
        "name": spec.name, "label": spec.name, "labelPlural": format!("{}s", spec.name), "keyPrefix": spec.prefix,
        "custom": false, "createable": true, "updateable": true, "deletable": true, "queryable": true,
        "replicateable": true, "retrieveable": true, "undeletable": true,
        "urls": {"sobject": base, "describe": format!("{base}/describe"), "rowTemplate": format!("{base}/{{ID}}")},
    })
}

/// Answers `sobjects`.
pub(super) fn global(org: &Org, version: &str) -> Answer {
    let all: Vec<_> = (0..org.tables.len()).map(|t| summary(org, t, version)).collect();
    Answer::json(200, &json!({"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": all}))
}

/// Answers `sobjects/{object}/describe`.
pub(super) fn describe(org: &Org, name: &str, version: &str) -> Result<Answer, Refused> {
    let table = org.table(name)?;
    let mut body = summary(org, table, version);
    body["fields"] = org.tables[table].spec.fields.iter().map(Field::describe).collect();
    Ok(Answer::json(200, &body))
}

/// The parameters `start` and `end`.
fn window(call: &Call) -> Result<(Timestamp, Timestamp), Refused> {
    let instant = |name: &str| {
        let parsed = call.param(name).and_then(|t| t.replace(' ', "+").parse::<Timestamp>().ok());
        let text = format!("{name} must be an ISO 8601 date and time with an offset");
        parsed.ok_or_else(|| Refused::new(400, Problem::new("INVALID_REPLICATION_DATE", text)))
    };
    let (start, end) = (instant("start")?, instant("end")?);
    if end <= start {
        let text = "startDate must be before endDate";
        return Err(Refused::new(400, Problem::new("INVALID_REPLICATION_DATE", text)));
    }
    Ok((start, end))
}

fn shown(at: Timestamp) -> String {
    jiff::Timestamp::from_microsecond(at.micros()).map_or_else(|_| String::new(), instant)
}

/// Answers `sobjects/{object}/updated`.
pub(super) fn updated(org: &Org, name: &str, call: &Call, now: Timestamp) -> Result<Answer, Refused> {
    let (table, (start, end)) = (org.table(name)?, window(call)?);
    let changed = |r: &&Row| r.deleted.is_none() && (start..end).contains(&r.modified);
    let ids: Vec<_> = org.tables[table].rows.values().filter(changed).map(|r| r.id.as_str()).collect();
    Ok(Answer::json(200, &json!({"ids": ids, "latestDateCovered": shown(end.min(now))})))
}

/// Answers `sobjects/{object}/deleted`.
pub(super) fn deleted(org: &Org, name: &str, call: &Call, now: Timestamp) -> Result<Answer, Refused> {
    let (table, (start, end)) = (org.table(name)?, window(call)?);
    let gone =
        org.tables[table].rows.values().filter_map(|r| Some((r, r.deleted.filter(|d| (start..end).contains(d))?)));
    let records: Vec<_> = gone.map(|(r, at)| json!({"id": r.id, "deletedDate": shown(at)})).collect();
    Ok(Answer::json(
        200,
        &json!({
            "deletedRecords": records, "earliestDateAvailable": shown(Timestamp::from_secs(0)),
            "latestDateCovered": shown(end.min(now)),
        }),
    ))
}
