//! Any change survives being written and read.

use headgate_schemas::change::{
    Batch, Channel, FieldChange, Link, Merge, Object, Origin, Ours, Raw, SequenceKind, Source,
};
use headgate_schemas::{Change, ChangeId, ChangeKind, ObjectType, Resolution, System, Timestamp, Value, contract};
use indexmap::IndexMap;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

fn text() -> impl Strategy<Value = String> {
    ".{0,12}"
}

fn time() -> impl Strategy<Value = Timestamp> {
    (-2_000_000_000_000_000_i64..4_000_000_000_000_000).prop_map(Timestamp::from_micros)
}

fn object_type() -> impl Strategy<Value = ObjectType> {
    "[A-Za-z_/]{1,10}".prop_map(|name| ObjectType::new(&name))
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,9})?".prop_map(|n| Value::Number(n.into())),
        text().prop_map(Value::text),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::btree_map(text().prop_map(Into::into), inner, 0..4).prop_map(Value::Map),
        ]
    })
}

fn fields() -> impl Strategy<Value = IndexMap<String, FieldChange>> {
    let field = (value(), option::of(value())).prop_map(|(value, previous)| FieldChange { value, previous });
    prop::collection::vec((text(), field), 0..5).prop_map(|fields| fields.into_iter().collect())
}

prop_compose! {
    fn what()(
        id in any::<[u8; 16]>(),
        tenant in text(),
        system in select(&System::ALL[..]),
        account in text(),
        connection in text(),
        kind in object_type(),
        native_type in text(),
        record in option::of(text()),
        change in select(&ChangeKind::ALL[..]),
        fields in fields(),
        flags in any::<[bool; 4]>(),
    ) -> Change {
        Change {
            id: ChangeId::from_bytes(id),
            tenant,
            source: Source { system, account, connection },
            object: Object { kind, native_type, id: record },
            kind: change,
            fields,
            fields_complete: flags[0],
            state: flags[1],
            needs_fetch: flags[2],
            late: flags[3],
            ..contract::example()
        }
    }
}

prop_compose! {
    fn how()(
        merge in option::of((text(), prop::collection::vec(text(), 0..3))),
        link in option::of((object_type(), text(), option::of(text()), option::of(any::<bool>()))),
        occurred in option::of((time(), select(vec![Resolution::Us, Resolution::Ms, Resolution::S]))),
        received_at in time(),
        sequence in option::of(text()),
        sequence_kind in select(vec![SequenceKind::Strict, SequenceKind::Time, SequenceKind::None]),
        origin in (option::of(text()), option::of(text()), select(vec![Ours::Yes, Ours::No, Ours::Unknown])),
        correlation in option::of(text()),
        batch in option::of((text(), any::<u32>(), any::<u32>())),
        attempt in option::of(any::<u32>()),
        raw in (option::of(text()), text(), text(), any::<u64>()),
        channel in select(vec![
            Channel::Webhook, Channel::Poll, Channel::Backfill, Channel::Import, Channel::Replay,
        ]),
    ) -> Change {
        let (actor, client, ours) = origin;
        let (reference, sha256, content_type, bytes) = raw;
        Change {
            merge: merge.map(|(into, from)| Merge { into, from }),
            link: link.map(|(to_type, to_id, label, primary)| Link { to_type, to_id, label, primary }),
            occurred_at: occurred.map(|(at, _)| at),
            occurred_at_resolution: occurred.map_or(Resolution::None, |(_, resolution)| resolution),
            received_at,
            sequence,
            sequence_kind,
            origin: Origin { actor, client, ours },
            correlation,
            batch: batch.map(|(id, index, size)| Batch { id, index, size }),
            attempt,
            raw: Raw { reference, sha256, content_type, bytes },
            channel,
            ..contract::example()
        }
    }
}

prop_compose! {
    fn change()(what in what(), how in how()) -> Change {
        Change {
            id: what.id,
            tenant: what.tenant,
            source: what.source,
            object: what.object,
            kind: what.kind,
            fields: what.fields,
            fields_complete: what.fields_complete,
            state: what.state,
            needs_fetch: what.needs_fetch,
            late: what.late,
            ..how
        }
    }
}

proptest! {
    #[test]
    fn any_change_survives(change in change()) {
        let record = contract::encode(&change).unwrap();
        prop_assert_eq!(&contract::decode(&record).unwrap(), &change);
        prop_assert_eq!(record.key, change.record().to_string());
        prop_assert_eq!(record.at, change.received_at);
    }
}
