//! Two entities become one, by hand.

use headgate_schemas::{ChangeId, ObjectType, Span, Value};
use uuid::Uuid;

use super::super::fold::{Peer, Rules};
use super::super::{Came, Clock, Pending, Timing};
use super::*;
use crate::config::Guard;
use crate::conflict::Policy;
use crate::mapping::{FieldMap, FieldPlan, Form, Kind, Link};

const NOW: i64 = 1_000;

fn link() -> Link {
    let map = |connection| FieldMap {
        connection,
        parts: vec!["phone".into()],
        form: Form::Text,
        write: true,
        required: None,
        table: None,
        optional: false,
    };
    let phone = FieldPlan::new("phone", Kind::Text, Policy::LastWrite, vec![map(1), map(2)]);
    Link::new("l", "t", ObjectType::CONTACT, Guard::Read, vec![(1, true), (2, true)], vec![phone])
}

fn context(link: &Link) -> Context<'_> {
    let peers = &|_| Peer { clock: Clock { offset: 0, error: 0 }, read_lag: 0, longest_run: 0 };
    Context { link, peers, now: NOW, timing: Timing::MICROS, rules: Rules::ALL }
}

/// A record in each of the connections named, all showing `phone`, set at `at`.
fn entity(natives: &[(u32, &str)], phone: &str, at: i64) -> Entity {
    let mut entity = Entity::heard(Uuid::nil(), "t", ObjectType::CONTACT, 1, "", 0);
    entity.members =
        natives.iter().map(|(connection, native)| Member::new(*connection, Some(native), MemberState::Live)).collect();
    let by = By::Member(natives[0].0);
    let mut field = Field::first("phone", Value::from(phone), Span::point(at), by, natives.len());
    field.cells = natives.iter().map(|_| Some(Cell::first(Value::from(phone), Span::point(at), 0))).collect();
    entity.fields = vec![field];
    entity
}

fn pending(n: u8, source: u32, rev: i32) -> Pending {
    let came = Came { received: 0, accepted: 0, link: 1 };
    Pending { change: ChangeId::from_bytes([n; 16]), source, came, parts: vec![(0, rev)] }
}

fn absorb(into: &mut Entity, other: &mut Entity, keep: Keep) -> Absorbed {
    let link = link();
    into.absorb(other, keep, &context(&link), &mut Notes::default())
}

#[test]
fn a_record_takes_the_place_that_is_free_and_what_is_known_of_it_moves_along() {
    let (mut ann, mut twin) = (entity(&[(1, "a1")], "1", 10), entity(&[(2, "a2")], "1", 20));
    ann.add_member(Member { pending: vec![pending(1, 1, 0)], ..Member::new(2, None, MemberState::Absent) });
    let absorbed = absorb(&mut ann, &mut twin, Keep::Policy);
    assert_eq!(ann.members[1].native.as_deref(), Some("a2"));
    assert_eq!(ann.members[1].pending, [pending(1, 1, 0)], "what was on its way to it still is");
    assert_eq!(ann.cell(0, 1).map(|c| c.rev), Some(0), "both show the value in force");
    assert!(ann.detached.is_empty() && absorbed.closed.iter().all(|(_, asked)| asked.is_empty()));
    assert!(twin.members.is_empty());
}

#[test]
fn the_newer_value_wins_between_twins_and_the_survivors_stays_in_a_merge() {
    for (keep, at, want) in [(Keep::Policy, 20, "2"), (Keep::Policy, 5, "1"), (Keep::Survivor, 20, "1")] {
        let (mut ann, mut twin) = (entity(&[(1, "a1")], "1", 10), entity(&[(2, "a2")], "2", at));
        absorb(&mut ann, &mut twin, keep);
        assert_eq!(ann.fields[0].value, Value::from(want), "{keep:?} at {at}");
    }
    let (mut ann, mut twin) = (entity(&[(1, "a1")], "", 10), entity(&[(2, "a2")], "2", 5));
    absorb(&mut ann, &mut twin, Keep::Survivor);
    assert_eq!(ann.fields[0].value, Value::from("2"), "what is empty is filled");
}

#[test]
fn a_second_record_of_one_crm_is_set_aside_and_asked_about() {
    let (mut ann, mut bob) = (entity(&[(1, "a1"), (2, "a2")], "1", 10), entity(&[(2, "b2")], "2", 5));
    bob.members[0].asked.push(Asked {
        change: ChangeId::from_bytes([7; 16]),
        came: Came { received: 0, accepted: 0, link: 1 },
        targets: [1].into(),
    });
    let absorbed = absorb(&mut ann, &mut bob, Keep::Survivor);
    assert_eq!(ann.members[1].native.as_deref(), Some("a2"));
    assert_eq!(ann.detached, [Detached { connection: 2, native: "b2".into() }]);
    assert!(matches!(&ann.questions[0].about, About::Surplus { connection: 2, native } if &**native == "b2"));
    assert_eq!(absorbed.closed[0].1.len(), 1, "what waited for a read of it ends");
}

#[test]
fn a_record_that_is_gone_gives_its_place_away() {
    let (mut ann, mut bob) = (entity(&[(1, "a1"), (2, "a2")], "1", 10), entity(&[(2, "b2")], "2", 20));
    ann.members[1].state = MemberState::Gone;
    absorb(&mut ann, &mut bob, Keep::Policy);
    assert_eq!(ann.members[1].native.as_deref(), Some("b2"));
    assert_eq!(ann.fields[0].value, Value::from("2"));
    assert_eq!(ann.cell(0, 0).map(|c| c.rev), Some(0), "the other shows what was overtaken");
    assert_eq!(ann.fields[0].rev, 1);
}

/// A person whose record in the first CRM somebody deleted, with the second one as given.
fn leaving(native: Option<&str>, state: MemberState) -> Entity {
    let mut ann = entity(&[(1, "a1"), (2, "a2")], "1", 10);
    ann.members[0].state = MemberState::Gone;
    ann.members[1].native = native.map(Into::into);
    ann.members[1].state = state;
    ann.leave(1, false, NOW);
    ann
}

#[test]
fn a_late_create_of_ours_goes_too_whatever_stood_in_its_place() {
    for (native, state) in [
        (None, MemberState::Absent),
        (Some("a2"), MemberState::Gone),
        (Some("a2"), MemberState::Missing(5)),
        // A look-up by our id was faster than the read.
        (Some("b2"), MemberState::Live),
    ] {
        let (mut ann, mut late) = (leaving(native, state), entity(&[(2, "b2")], "1", 20));
        absorb(&mut ann, &mut late, Keep::Ours);
        assert!(matches!(ann.life, Life::Leaving(_)), "{state:?}");
        assert_eq!((ann.members[1].native.as_deref(), ann.members[1].state), (Some("b2"), MemberState::Live));
        assert!(ann.detached.is_empty() && ann.questions.is_empty(), "{state:?}");
    }
    // What is there beside another record is none of ours.
    let (mut ann, mut other) = (leaving(Some("a2"), MemberState::Live), entity(&[(2, "b2")], "1", 20));
    absorb(&mut ann, &mut other, Keep::Ours);
    assert_eq!((ann.life, ann.questions.len()), (Life::Live, 1));
}

#[test]
fn a_record_that_was_only_heard_of_brings_nobody_back() {
    let mut heard = Entity::heard(Uuid::nil(), "t", ObjectType::CONTACT, 2, "b2", 0);
    let mut ann = leaving(None, MemberState::Absent);
    absorb(&mut ann, &mut heard, Keep::Policy);
    assert!(matches!(ann.life, Life::Leaving(_)));
    assert_eq!(ann.members[1].native.as_deref(), Some("b2"), "the read that follows decides");
}

#[test]
fn changes_of_the_other_end_by_what_became_of_their_values() {
    // In force here: the change still waits for it. Overtaken: it ends.
    for (keep, open) in [(Keep::Policy, true), (Keep::Survivor, false)] {
        let (mut ann, mut bob) = (entity(&[(1, "a1"), (2, "a2")], "1", 10), entity(&[(1, "b1")], "2", 20));
        bob.add_member(Member { pending: vec![pending(9, 1, 0)], ..Member::new(2, None, MemberState::Absent) });
        absorb(&mut ann, &mut bob, keep);
        let link = link();
        let mut closed = Vec::new();
        ann.close_ended(&context(&link), &mut closed);
        assert_eq!(closed.is_empty(), open, "{keep:?}");
    }
}

#[test]
fn late_answers_find_their_rows() {
    let (mut ann, mut bob) = (entity(&[(1, "a1")], "1", 10), entity(&[(2, "b2")], "2", 5));
    let link = link();
    ann.intents = 5;
    bob.fields[0].value = Value::from("3");
    let intent = bob.intend(0, &[0], &context(&link));
    let absorbed = absorb(&mut ann, &mut bob, Keep::Policy);
    assert_eq!(absorbed.offset, 5);
    assert_eq!(ann.open_intents(1), [intent.number + 5]);
}

#[test]
fn the_linked_record_and_the_one_set_aside_change_places() {
    let (mut ann, mut bob) = (entity(&[(1, "a1"), (2, "a2")], "1", 10), entity(&[(2, "b2")], "2", 5));
    absorb(&mut ann, &mut bob, Keep::Survivor);
    let link = link();
    assert!(ann.take_up(1, Some("b2"), &context(&link)));
    assert_eq!((ann.members[1].native.as_deref(), ann.members[1].state), (Some("b2"), MemberState::Heard));
    assert_eq!(ann.detached, [Detached { connection: 2, native: "a2".into() }]);
    assert!(ann.questions.is_empty());
    assert!(!ann.take_up(1, Some("c2"), &context(&link)));
}
