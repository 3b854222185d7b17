//! Which changes a reader wants: by tenant, system, account, object, kind and record. Pure.
//!
//! It reads the attributes of a record alone and never its data, so a change that is not wanted is never decoded. An
//! empty list asks for everything; the lists together ask for what fits all of them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::change::{ChangeKind, Channel};
use crate::contract::Record;
use crate::id::{ObjectType, System};

/// Most names in one list.
const NAMES_MOST: usize = 100;

/// Which changes are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Of these tenants.
    pub tenants: Vec<String>,
    /// Of these CRMs.
    pub systems: Vec<System>,
    /// Of these accounts.
    pub accounts: Vec<String>,
    /// Of records of these types.
    pub objects: Vec<ObjectType>,
    /// Of these kinds.
    pub kinds: Vec<ChangeKind>,
    /// Of the records with these ids.
    pub records: Vec<String>,
    /// Also those that an operator had sent again.
    pub replayed: bool,
}

/// A part of a filter that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// No such system.
    #[error("system has an unknown name; the names are {}", join(&System::ALL))]
    System,
    /// No such kind.
    #[error("kind has an unknown name; the names are {}", join(&ChangeKind::ALL))]
    Kind,
    /// An empty name.
    #[error("{0} has an empty name; separate names by commas, or leave it out for all")]
    Empty(&'static str),
    /// Too many names.
    #[error("{0} has more than {NAMES_MOST} names")]
    Many(&'static str),
}

fn join<T: fmt::Display>(all: &[T]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A filter as text: names separated by commas, nothing for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FilterText {
    /// Tenants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// CRMs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Types.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Kinds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Ids of records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
}

impl FilterText {
    /// The parts that are there, by name.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let Self { tenant, system, account, object, kind, record } = self;
        let parts = [
            ("tenant", tenant),
            ("system", system),
            ("account", account),
            ("object", object),
            ("kind", kind),
            ("record", record),
        ];
        parts.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?)))
    }

    /// The filter it describes.
    ///
    /// # Errors
    /// The first name that means nothing.
    pub fn filter(&self) -> Result<Filter, InvalidFilter> {
        let systems = names("system", self.system.as_deref())?;
        let kinds = names("kind", self.kind.as_deref())?;
        Ok(Filter {
            tenants: names("tenant", self.tenant.as_deref())?,
            systems: systems
                .iter()
                .map(|name| name.parse().map_err(|_| InvalidFilter::System))
                .collect::<Result<_, _>>()?,
            accounts: names("account", self.account.as_deref())?,
            objects: names("object", self.object.as_deref())?.iter().map(|name| ObjectType::new(name)).collect(),
            kinds: kinds
                .iter()
                .map(|name| ChangeKind::named(name).ok_or(InvalidFilter::Kind))
                .collect::<Result<_, _>>()?,
            records: names("record", self.record.as_deref())?,
            replayed: true,
        })
    }
}

fn names(what: &'static str, text: Option<&str>) -> Result<Vec<String>, InvalidFilter> {
    let Some(text) = text else { return Ok(Vec::new()) };
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    match names.len() {
        _ if names.iter().any(String::is_empty) => Err(InvalidFilter::Empty(what)),
        NAMES_MOST.. if names.len() > NAMES_MOST => Err(InvalidFilter::Many(what)),
        _ => Ok(names),
    }
}

impl Filter {
    /// Whether `record` is wanted. What is no change of ours is wanted only by who asks for everything.
    pub fn wants(&self, record: &Record) -> bool {
        let header = |name| record.header(name).unwrap_or_default();
        let (object, id) = header("ce_subject").split_once('/').unwrap_or_default();
        let has = |names: &[String], name: &str| names.is_empty() || names.iter().any(|n| n == name);
        has(&self.tenants, header("ce_tenant"))
            && has(&self.accounts, header("ce_account"))
            && has(&self.records, id)
            && (self.systems.is_empty() || self.systems.iter().any(|s| s.as_str() == header("ce_system")))
            && (self.objects.is_empty() || self.objects.iter().any(|o| o.as_str() == object))
            && (self.kinds.is_empty() || self.kinds.iter().any(|k| Some(k.as_str()) == kind(header("ce_type"))))
            && (self.replayed || header("ce_channel") != Channel::Replay.as_str())
    }
}

/// The kind in `headgate.crm.{object}.{kind}.v1`; an object may have dots.
fn kind(event_type: &str) -> Option<&str> {
    event_type.rsplit('.').nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{encode, example};

    fn text(name: &str, value: &str) -> FilterText {
        let value = Some(value.to_owned());
        let none = FilterText::default();
        match name {
            "tenant" => FilterText { tenant: value, ..none },
            "system" => FilterText { system: value, ..none },
            "account" => FilterText { account: value, ..none },
            "object" => FilterText { object: value, ..none },
            "kind" => FilterText { kind: value, ..none },
            _ => FilterText { record: value, ..none },
        }
    }

    #[test]
    fn each_part_takes_what_it_names_and_nothing_else() {
        let record = encode(&example()).unwrap();
        let table = [
            ("tenant", "acme", "other"),
            ("system", "salesforce, hubspot", "salesforce"),
            ("account", "5550123", "555012"),
            ("object", "deal,Contact", "deal"),
            ("kind", "updated,deleted", "created"),
            ("record", "7001", "700"),
        ];
        for (name, fits, misses) in table {
            assert!(text(name, fits).filter().unwrap().wants(&record), "{name} {fits}");
            assert!(!text(name, misses).filter().unwrap().wants(&record), "{name} {misses}");
        }
        let all = FilterText { object: Some("contact".into()), ..text("kind", "created") };
        assert!(!all.filter().unwrap().wants(&record), "the parts must fit together");
        assert!(FilterText::default().filter().unwrap().wants(&record));
    }

    #[test]
    fn objects_with_dots_and_records_with_slashes_are_told_apart() {
        let mut change = example();
        change.object.kind = ObjectType::new("crm.thing");
        change.object.id = Some("a/b".to_owned());
        let record = encode(&change).unwrap();
        assert!(text("kind", "updated").filter().unwrap().wants(&record));
        assert!(text("object", "crm.thing").filter().unwrap().wants(&record));
        assert!(text("record", "a/b").filter().unwrap().wants(&record));
        assert!(!text("record", "b").filter().unwrap().wants(&record));
    }

    #[test]
    fn what_was_sent_again_comes_only_to_who_asks() {
        let mut change = example();
        change.channel = Channel::Replay;
        let record = encode(&change).unwrap();
        assert!(!Filter::default().wants(&record));
        assert!(Filter { replayed: true, ..Filter::default() }.wants(&record));
    }

    #[test]
    fn names_that_mean_nothing_are_refused() {
        assert_eq!(text("system", "hubspt").filter(), Err(InvalidFilter::System));
        assert_eq!(text("kind", "renamed").filter(), Err(InvalidFilter::Kind));
        assert_eq!(text("tenant", "a,,b").filter(), Err(InvalidFilter::Empty("tenant")));
        assert_eq!(text("record", &"a,".repeat(101)).filter(), Err(InvalidFilter::Empty("record")));
        assert_eq!(text("record", &vec!["a"; 101].join(",")).filter(), Err(InvalidFilter::Many("record")));
        assert_eq!(text("record", &vec!["a"; 100].join(",")).filter().unwrap().records.len(), 100);
        let told = InvalidFilter::System.to_string();
        assert_eq!(told, "system has an unknown name; the names are salesforce, hubspot, dynamics, pipedrive, native");
    }
}
