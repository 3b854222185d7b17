//! Tables of the record rules.

use headgate_schemas::{ChangeId, ObjectType};
use uuid::Uuid;

use super::super::fold::{Peer, Rules};
use super::super::{Came, Timing};
use super::*;
use crate::config::Guard;
use crate::mapping::Link;

const SECOND: i64 = Timing::MICROS.second;

fn link() -> Link {
    Link::new("l", "t", ObjectType::CONTACT, Guard::Read, vec![(1, false), (2, true)], Vec::new())
}

fn context(link: &Link, now: i64) -> Context<'_> {
    Context {
        link,
        peers: &|_| Peer { clock: super::super::Clock { offset: 0, error: 0 }, read_lag: 0, longest_run: 0 },
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
    ours.members[0].removal = Some(Removal { intent: 1, state: RemovalState::Unknown(9) });
    assert!(matches!(ours.on_missing(0, 1, None, &context(&link, 1)), Missed::Known(_)), "our own delete");
}
