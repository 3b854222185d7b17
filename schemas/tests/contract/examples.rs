//! One change of every kind, together using every field of the envelope.

use headgate_schemas::change::{
    Batch, Channel, FieldChange, Link, Merge, Object, Origin, Ours, Raw, SequenceKind, Source,
};
use headgate_schemas::{Change, ChangeId, ChangeKind, ObjectType, Resolution, System, Timestamp, Value, contract};
use indexmap::IndexMap;

/// The example of a kind. The kinds share a frame; each sets what is its own.
pub(crate) fn example(kind: ChangeKind) -> Change {
    let base = Change { kind, ..contract::example() };
    match kind {
        ChangeKind::Created => created(base),
        ChangeKind::Updated => updated(base),
        ChangeKind::Deleted => {
            Change { fields: IndexMap::new(), channel: Channel::Poll, batch: None, attempt: None, ..base }
        }
        ChangeKind::Restored => Change { late: true, attempt: Some(3), ..base },
        ChangeKind::Merged => Change {
            fields: IndexMap::new(),
            merge: Some(Merge { into: "7001".to_owned(), from: vec!["7002".to_owned(), "7003".to_owned()] }),
            ..base
        },
        ChangeKind::Linked => Change {
            link: Some(Link {
                to_type: ObjectType::COMPANY,
                to_id: "9001".to_owned(),
                label: Some("Employer".to_owned()),
                primary: Some(true),
            }),
            ..base
        },
        ChangeKind::Unlinked => Change {
            link: Some(Link { to_type: ObjectType::DEAL, to_id: "5".to_owned(), label: None, primary: None }),
            ..base
        },
        ChangeKind::Purged => purged(base),
        ChangeKind::Touched => Change {
            fields: IndexMap::new(),
            needs_fetch: true,
            sequence: None,
            sequence_kind: SequenceKind::None,
            ..base
        },
        ChangeKind::Resync => resync(base),
    }
}

fn created(base: Change) -> Change {
    Change {
        id: ChangeId::derive(System::Salesforce, "00D5g000000ABCDEA4", [b"created".as_slice()]),
        source: Source {
            system: System::Salesforce,
            account: "00D5g000000ABCDEA4".to_owned(),
            connection: "salesforce-main".to_owned(),
        },
        object: Object {
            kind: ObjectType::DEAL,
            native_type: "Opportunity".to_owned(),
            id: Some("0065g00000XyZAAA0".to_owned()),
        },
        fields: IndexMap::from([
            ("Name".to_owned(), FieldChange::to("Größe \"XL\" \u{1F600}\n".into())),
            ("Amount".to_owned(), FieldChange::to(Value::Number("12345678901234567890.10".into()))),
            ("IsWon".to_owned(), FieldChange::to(Value::Bool(false))),
            ("CloseDate".to_owned(), FieldChange::to(Value::Null)),
            ("Regions__c".to_owned(), FieldChange::to(Value::List(vec!["north".into(), "süd".into()]))),
            ("Address".to_owned(), FieldChange::to(Value::Map([("city".into(), "Wien".into())].into()))),
        ]),
        fields_complete: true,
        state: true,
        occurred_at_resolution: Resolution::S,
        occurred_at: Some(Timestamp::from_secs(1_767_268_798)),
        correlation: Some("0002f1a5-2f3b-11f1".to_owned()),
        ..base
    }
}

fn updated(base: Change) -> Change {
    let name = FieldChange { value: "Countess".into(), previous: Some("Analyst".into()) };
    let phone = FieldChange { value: Value::Null, previous: Some(Value::Null) };
    Change {
        fields: IndexMap::from([("jobtitle".to_owned(), name), ("phone".to_owned(), phone)]),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        batch: Some(Batch { id: "r1".to_owned(), index: 4, size: 100 }),
        ..base
    }
}

fn purged(base: Change) -> Change {
    Change {
        fields: IndexMap::new(),
        origin: Origin { actor: None, client: None, ours: Ours::No },
        raw: Raw {
            reference: Some("unrouted/17".to_owned()),
            sha256: "ab".repeat(32),
            content_type: "application/json; charset=utf-8".to_owned(),
            bytes: 0,
        },
        channel: Channel::Replay,
        ..base
    }
}

fn resync(base: Change) -> Change {
    Change {
        object: Object { kind: ObjectType::new("Custom/Thing"), native_type: "Custom/Thing".to_owned(), id: None },
        fields: IndexMap::new(),
        needs_fetch: true,
        occurred_at: None,
        occurred_at_resolution: Resolution::None,
        sequence: None,
        sequence_kind: SequenceKind::None,
        channel: Channel::Backfill,
        ..base
    }
}
