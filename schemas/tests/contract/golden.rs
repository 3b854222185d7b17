//! Records as they stand in logs today. They decode for ever, to the same change, and version 1 writes them like this.

use std::borrow::Cow;
use std::fs;

use bytes::Bytes;
use headgate_schemas::contract::{self, DecodeError, Record};
use headgate_schemas::{ChangeKind, Timestamp, Value};
use serde::{Deserialize, Serialize};

use crate::examples::example;
use crate::{REGENERATE, in_crate, updating};

/// A record in a file. The body is text, because its bytes matter.
#[derive(Serialize, Deserialize)]
struct Golden {
    key: String,
    at: Timestamp,
    headers: Vec<(String, String)>,
    body: String,
}

impl From<Record> for Golden {
    fn from(record: Record) -> Self {
        Self {
            key: record.key,
            at: record.at,
            headers: record.headers.into_iter().map(|(name, value)| (name.into_owned(), value)).collect(),
            body: String::from_utf8(record.body.to_vec()).unwrap(),
        }
    }
}

impl From<Golden> for Record {
    fn from(golden: Golden) -> Self {
        Self {
            key: golden.key,
            at: golden.at,
            headers: golden.headers.into_iter().map(|(name, value)| (Cow::Owned(name), value)).collect(),
            body: Bytes::from(golden.body),
        }
    }
}

fn golden(name: &str) -> Record {
    let path = in_crate(&format!("tests/golden/{name}.json"));
    let text =
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}; write missing files with: {REGENERATE}"));
    serde_json::from_str::<Golden>(&text).unwrap().into()
}

#[test]
fn every_kind_is_written_and_read_as_before() {
    for kind in ChangeKind::ALL {
        let change = example(kind);
        let path = in_crate(&format!("tests/golden/{kind}.json"));
        if updating() && !path.exists() {
            let text = serde_json::to_string_pretty(&Golden::from(contract::encode(&change).unwrap())).unwrap();
            fs::write(&path, format!("{text}\n")).unwrap();
        }
        let record = golden(kind.as_str());
        assert_eq!(contract::decode(&record).unwrap(), change, "{kind} no longer decodes to what it was");
        assert_eq!(contract::encode(&change).unwrap(), record, "{kind} is no longer written as before");
    }
}

#[test]
fn a_record_of_a_later_minor_version_is_read() {
    // Unknown headers and members are additions; they do not disturb this version.
    let change = contract::decode(&golden("later_minor")).unwrap();
    assert_eq!(change.kind, ChangeKind::Updated);
    assert_eq!(change.object.id.as_deref(), Some("7001"));
    assert_eq!(change.fields["jobtitle"].value, Value::text("CTO"));
    assert_eq!(change.received_at, Timestamp::from_micros(1_767_268_798_700_001));
}

#[test]
fn the_partition_of_a_key_never_changes() {
    let partitions = [
        ("acme/hubspot/5550123/contact/7001", 24, 6),
        ("acme/hubspot/5550123/contact/7001", 1, 0),
        ("21", 24, 12),
        ("foobar", 24, 6),
    ];
    for (key, count, partition) in partitions {
        assert_eq!(contract::partition(key, count), partition, "{key:?} of {count}");
    }
}

#[test]
fn what_is_missing_or_malformed_is_named() {
    let record = golden("updated");
    for name in ["ce_id", "ce_tenant", "ce_system", "ce_channel", "ce_receivedtime"] {
        let mut without = record.clone();
        without.headers.retain(|(header, _)| header != name);
        assert!(matches!(contract::decode(&without), Err(DecodeError::Missing(missing)) if missing == name));
    }
    // Any text is a tenant; the others have a form.
    for name in ["ce_id", "ce_system", "ce_channel", "ce_receivedtime"] {
        let mut spoilt = record.clone();
        spoilt.headers.iter_mut().filter(|(header, _)| header == name).for_each(|(_, value)| *value = "?".to_owned());
        assert!(matches!(contract::decode(&spoilt), Err(DecodeError::Malformed(spoilt)) if spoilt == name));
    }
    let other_body = Record { body: Bytes::from_static(b"[]"), ..record };
    assert!(matches!(contract::decode(&other_body), Err(DecodeError::Data(_))));
}
