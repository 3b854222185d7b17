//! What became of everything: the accounting, how one change ended, who did what.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use headgate_schemas::{ChangeId, Timestamp};
use serde::{Deserialize, Serialize};

use super::params::Params;
use super::records::Names;
use super::{Admin, Problem};
use crate::books::{Account, Place};
use crate::store::{AuditRow, EntityId, Key, LINK, OutcomeRow, change_key};

/// Rows in one answer.
const PAGE_MOST: u32 = 1_000;

/// Everything, and the same by link and by connection. `due = sum of closed + open` holds in each line.
#[derive(Debug, Serialize)]
pub(crate) struct Accounting {
    #[serde(flatten)]
    all: Line,
    links: BTreeMap<String, BTreeMap<String, Line>>,
    connections: BTreeMap<String, Line>,
    /// Links that the configuration has no more: what became due by one ends by it, under its old name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    former_links: BTreeMap<String, BTreeMap<String, Line>>,
}

#[derive(Debug, Serialize)]
struct Line {
    due: i64,
    closed: i64,
    /// The closed ones, by outcome.
    outcomes: BTreeMap<&'static str, i64>,
    open: i64,
    waiting: i64,
    parked: i64,
    held: i64,
    difference: i64,
}

impl From<&Account> for Line {
    fn from(account: &Account) -> Self {
        Self {
            due: account.due,
            closed: account.ended(),
            outcomes: account.closed.iter().map(|(outcome, n)| (outcome.as_str(), *n)).collect(),
            open: account.open(),
            waiting: account.waiting,
            parked: account.parked,
            held: account.held,
            difference: account.difference(),
        }
    }
}

pub(crate) async fn accounting(State(admin): State<Admin>) -> Result<Json<Accounting>, Problem> {
    let books = admin.relay.handle.counted().await;
    let mut names = Names(admin.names());
    let lines = || books.accounts.keys().filter(|place| place.target != 0);
    let mut former: BTreeMap<u32, String> = BTreeMap::new();
    if lines().any(|place| !books.links.contains_key(&place.link) || !names.0.contains_key(&place.target)) {
        for (number, name) in admin.read(|reader| reader.names()).await? {
            match name.strip_prefix(LINK) {
                Some(link) => drop(former.insert(number, link.to_owned())),
                None => drop(names.0.entry(number).or_insert(name)),
            }
        }
    }
    let mut all = Account::default();
    let mut connections: BTreeMap<String, Account> = BTreeMap::new();
    let mut links: BTreeMap<String, BTreeMap<String, Line>> = BTreeMap::new();
    let mut former_links: BTreeMap<String, BTreeMap<String, Line>> = BTreeMap::new();
    for (Place { link, target }, account) in &books.accounts {
        all.add(account);
        // A change that no link concerns has neither; it is in the first line alone.
        if *target == 0 {
            continue;
        }
        connections.entry(names.of(*target)).or_default().add(account);
        let line = (names.of(*target), account.into());
        match books.links.get(link) {
            Some(name) => links.entry(name.clone()).or_default().extend([line]),
            None => {
                let name = former.get(link).cloned().unwrap_or_else(|| format!("#{link}"));
                former_links.entry(name).or_default().extend([line]);
            }
        }
    }
    let connections = connections.iter().map(|(name, account)| (name.clone(), account.into())).collect();
    Ok(Json(Accounting { all: (&all).into(), links, connections, former_links }))
}

/// Which outcomes: those of one change, named by the attributes of its event, or the latest.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    tenant: Option<String>,
    change: Option<String>,
    /// The time of the event; left out when it has none.
    time: Option<String>,
    /// For the latest: of changes taken before this time only.
    before: Option<String>,
    #[serde(default = "default_page")]
    limit: u32,
}

#[derive(Debug, Serialize)]
pub(crate) struct Outcomes {
    outcomes: Vec<OutcomeView>,
}

#[derive(Debug, Serialize)]
pub(crate) struct OutcomeView {
    pub(super) change: String,
    pub(super) target: String,
    pub(super) outcome: &'static str,
    /// When the change was taken from the stream.
    accepted_at: Timestamp,
    pub(super) at: Timestamp,
    /// Since the first byte at the gateway.
    pub(super) took_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    entity: Option<EntityId>,
    /// The change was sent again by an operator.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replay: bool,
}

impl OutcomeView {
    pub(crate) fn new(row: &OutcomeRow, names: &Names) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a latency for a person")]
        let took_ms = row.took as f64 / 1e3;
        Self {
            change: row.change.to_string(),
            target: if row.place.target == 0 { "-".to_owned() } else { names.of(row.place.target) },
            outcome: row.outcome.as_str(),
            accepted_at: Timestamp::from_micros(row.accepted),
            at: Timestamp::from_micros(row.at),
            took_ms,
            entity: (row.entity != 0).then_some(row.entity),
            replay: row.change.is_replayed(),
        }
    }
}

pub(crate) async fn outcomes(
    State(admin): State<Admin>,
    Params(which): Params<Which>,
) -> Result<Json<Outcomes>, Problem> {
    let rows = match (&which.change, &which.tenant) {
        (Some(change), Some(tenant)) => of_change(&admin, change, tenant, which.time.as_deref()).await?,
        (Some(_), None) => return Err(bad("name the tenant of the change, too: tenant is the ce_tenant of the event")),
        (None, _) => {
            let before = time(which.before.as_deref())?.map_or(i64::MAX, Timestamp::micros);
            let limit = usize::try_from(which.limit.clamp(1, PAGE_MOST)).unwrap_or(1);
            admin.read(move |reader| reader.recent_outcomes(before, limit)).await?
        }
    };
    let names = Names(admin.names());
    Ok(Json(Outcomes { outcomes: rows.iter().map(|row| OutcomeView::new(row, &names)).collect() }))
}

async fn of_change(
    admin: &Admin,
    change: &str,
    tenant: &str,
    occurred: Option<&str>,
) -> Result<Vec<OutcomeRow>, Problem> {
    let id: ChangeId = change.parse().map_err(|_| bad("change is the ce_id of an event: 32 hexadecimal digits"))?;
    let key = change_key(tenant, id, time(occurred)?.map_or(0, Timestamp::millis));
    admin.read(move |reader| reader.outcomes_of_change(&key, id)).await?.ok_or_else(|| {
        let detail = "this change was not taken, or so long ago that it is forgotten; tenant, change and time are the \
                      ce_tenant, ce_id and ce_time of its event";
        Problem::new(StatusCode::NOT_FOUND, "change_unknown", detail)
    })
}

fn time(text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    let time = text.map(str::parse::<Timestamp>).transpose();
    time.map_err(|_| bad("a time is written like 2026-11-21T10:00:00.123Z"))
}

fn bad(detail: &'static str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_query", detail)
}

/// How a page of the audit is asked for: the newest first.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    #[serde(default = "newest")]
    before: i64,
    #[serde(default = "default_page")]
    limit: u32,
}

const fn newest() -> i64 {
    i64::MAX
}

const fn default_page() -> u32 {
    100
}

#[derive(Debug, Serialize)]
pub(crate) struct Audit {
    audit: Vec<Deed>,
    /// Give it as `before` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

#[derive(Debug, Serialize)]
struct Deed {
    id: i64,
    at: Timestamp,
    who: String,
    what: String,
    subject: String,
    /// Hash of what was changed, before and after.
    before: Option<String>,
    after: Option<String>,
}

pub(crate) async fn audit(State(admin): State<Admin>, Params(page): Params<Page>) -> Result<Json<Audit>, Problem> {
    let limit = page.limit.clamp(1, PAGE_MOST);
    let rows = admin.read(move |reader| reader.audit(page.before, limit)).await?;
    let full = rows.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let next = rows.last().map(|(id, _)| *id).filter(|_| full);
    Ok(Json(Audit { audit: rows.into_iter().map(|(id, row)| deed(id, row)).collect(), next }))
}

fn deed(id: i64, row: AuditRow) -> Deed {
    let text = |hash: Key| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hash);
    let AuditRow { at, who, what, subject, before, after } = row;
    Deed { id, at: Timestamp::from_micros(at), who, what, subject, before: before.map(text), after: after.map(text) }
}
