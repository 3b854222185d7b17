//! Tables of the record rules.

use headgate_schemas::{ChangeId, ObjectType};
use uuid::Uuid;

use super::super::fold::{Notes, Peer, Rules};
use super::super::{Came, Timing};
use super::*;
use crate::config::Guard;
use crate::mapping::Link;

const SECOND: i64 = Timing::MICROS.second;
/// The longest run of a call.
const LONGEST: i64 = 600 * SECOND;

fn link() -> Link {
    Link::new("l", "t", ObjectType::CONTACT, Guard::Read, vec![(1, false), (2, true)], Vec::new())
}

fn context(link: &Link, now: i64) -> Context<'_> {
    Context {
        link,
        peers: &|_| Peer { clock: super::super::Clock { offset: 0, error: 0 }, read_lag: 0, longest_run: LONGEST },
        now,
        timing: Timing::MICROS,
        rules: Rules::ALL,
    }
}

fn heard() -> Entity {
    let mut entity = Entity::heard(Uuid::nil(), "t", ObjectType::CONTACT, 1, "7001", 0);
    let change = ChangeId::from_bytes([1; 16]);
    entity.members[0].asked.push(Asked {
        change,
        came: Came { received: 0, accepted: 0, link: 1 },
        targets: [2].into(),
    });
    entity
}

#[test]
fn a_record_that_was_never_read_is_looked_for_four_times() {
    let link = link();
    let mut entity = heard();
    let mut now = 0;
    for wait in [1, 2, 4] {
        assert_eq!(entity.on_missing(0, now, None, &context(&link, now)), Missed::Again);
        assert_eq!(entity.members[0].reads, [now + wait * SECOND]);
        assert_eq!(entity.members[0].state, MemberState::Heard);
        now += wait * SECOND;
    }
    let Missed::Known(asked) = entity.on_missing(0, now, None, &context(&link, now)) else { panic!("{entity:?}") };
    assert_eq!(asked.len(), 1, "its change ends");
    assert_eq!(entity.members[0].state, MemberState::Gone);
    assert!(entity.members[0].reads.is_empty());
}

#[test]
fn a_record_that_was_there_is_missing_for_the_grace_and_then_gone() {
    let link = link();
    let mut entity = heard();
    entity.members[0].state = MemberState::Live;
    let grace = link.records.grace;
    for (now, left) in [(5, grace), (9, grace - 4)] {
        assert_eq!(entity.on_missing(0, now, None, &context(&link, now)), Missed::Again);
        assert_eq!(entity.members[0].state, MemberState::Missing(5));
        assert_eq!(entity.members[0].reads.last(), Some(&(now + left)), "the grace runs from the first read");
    }
    let end = 5 + grace;
    assert!(matches!(entity.on_missing(0, end, None, &context(&link, end)), Missed::Gone(asked) if asked.len() == 1));
}

#[test]
fn a_record_that_is_found_again_within_the_grace_was_never_gone() {
    let link = link();
    let mut entity = heard();
    entity.members[0].state = MemberState::Missing(5);
    assert_eq!(entity.on_alive(0, 9, &context(&link, 9)), Alive::Still);
    assert_eq!(entity.members[0].state, MemberState::Live);
}

#[test]
fn what_a_read_that_finds_nothing_means() {
    let link = link();
    let mut merged = heard();
    merged.members[0].into = Some("7009".into());
    assert_eq!(merged.on_missing(0, 1, None, &context(&link, 1)), Missed::Merged("7009".into()), "an event named it");
    assert_eq!(heard().on_missing(0, 1, Some("7010"), &context(&link, 1)), Missed::Merged("7010".into()));
    let mut purged = heard();
    purged.members[0].purge = true;
    assert!(matches!(purged.on_missing(0, 1, None, &context(&link, 1)), Missed::Purged(_)), "without any grace");
    let mut ours = heard();
    ours.members[0].state = MemberState::Live;
    ours.members[0].removals = vec![Removal { intent: 1, state: RemovalState::Unknown(9) }];
    assert!(matches!(ours.on_missing(0, 1, None, &context(&link, 1)), Missed::Known(_)), "our own delete");
}

/// A delete that nobody answered, and one after it that came to nothing.
fn deleted_twice(link: &Link, second: &Answer) -> Entity {
    let mut entity = heard();
    entity.members[0].state = MemberState::Live;
    entity.leave(2, false, 0);
    let unanswered = entity.intend_removal(0, 1);
    entity.give_up(0, unanswered, &context(link, 1), &mut Notes::default());
    assert_eq!(entity.on_alive(0, 2, &context(link, 2)), Alive::Still);
    let next = entity.intend_removal(0, 2);
    assert_eq!(entity.open_intents(0), [next]);
    entity.settle(0, next, second, &context(link, 3), &mut Notes::default());
    assert!(entity.open_intents(0).is_empty());
    entity
}

#[test]
fn a_delete_that_may_still_land_is_not_forgotten_over_one_that_came_to_nothing() {
    let link = link();
    for second in [Answer::NotApplied, Answer::Refused, Answer::Rejected { fields: Vec::new() }] {
        let mut entity = deleted_twice(&link, &second);
        assert!(entity.members[0].reads.contains(&(1 + LONGEST)), "{second:?}: it is looked for");
        assert_eq!(entity.on_alive(0, 4, &context(&link, 5)), Alive::Still);
        let missed = entity.on_missing(0, 6, None, &context(&link, 7));
        assert!(matches!(missed, Missed::Known(_)), "{second:?}: it was ours, and nobody else deleted it");
    }
}

#[test]
fn a_delete_that_can_land_no_more_is_forgotten_by_a_read_made_after_that() {
    let link = link();
    let end = 1 + LONGEST;
    for (asked_at, ours) in [(end - 1, true), (end, false)] {
        let mut entity = deleted_twice(&link, &Answer::NotApplied);
        assert_eq!(entity.on_alive(0, asked_at, &context(&link, end + 5)), Alive::Still);
        let missed = entity.on_missing(0, end + 6, None, &context(&link, end + 7));
        assert_eq!(matches!(missed, Missed::Known(_)), ours, "asked at {asked_at}");
    }
}

#[test]
fn a_record_that_was_restored_may_go_by_an_earlier_delete_of_ours() {
    let link = link();
    let mut entity = deleted_twice(&link, &Answer::NotApplied);
    let third = entity.intend_removal(0, 4);
    entity.removed(0, third, 5);
    assert_eq!(entity.members[0].state, MemberState::Removed(5));
    assert_eq!(entity.on_alive(0, 6, &context(&link, 7)), Alive::Restored);
    assert!(matches!(entity.on_missing(0, 8, None, &context(&link, 9)), Missed::Known(_)));
}

#[test]
fn a_late_answer_to_a_delete_is_not_the_last_word() {
    let link = link();
    let mut entity = heard();
    entity.members[0].state = MemberState::Live;
    let unanswered = entity.intend_removal(0, 1);
    entity.give_up(0, unanswered, &context(&link, 1), &mut Notes::default());
    assert_eq!(entity.on_alive(0, 2, &context(&link, 3)), Alive::Still);
    entity.leave(2, false, 4);
    entity.removed(0, unanswered, 5);
    assert_eq!(entity.members[0].state, MemberState::Removed(5));
    assert!(!entity.members[0].reads.is_empty(), "somebody may have restored it before the read");
}
