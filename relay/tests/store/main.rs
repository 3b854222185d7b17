//! One suite for every implementation of the store: what the engine relies on, and nothing about how it is done.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use headgate_relay::entity::Outcome;
use headgate_relay::store::{
    Counter, DeadLetter, DecisionRow, EntityWrite, ListedQuestion, OutcomeRow, QuestionEnd, QuestionFilter,
    QuestionRow, Reader, Sqlite, Store, StoreError, Unit, WorkKey, WorkRow, change_key, claim_key, member_key,
};
use headgate_schemas::ChangeId;
use headgate_schemas::stream::Position;

/// Makes a store that is empty, or opens again what it made before.
trait Make {
    fn open(&self) -> Box<dyn Store>;
}

struct InFile(tempfile::TempDir);

impl Make for InFile {
    fn open(&self) -> Box<dyn Store> {
        Box::new(Sqlite::open(&self.0.path().join("deep/state.db")).unwrap())
    }
}

fn in_file() -> InFile {
    InFile(tempfile::tempdir().unwrap())
}

fn change(n: u8) -> ChangeId {
    ChangeId::from_bytes([n; 16])
}

fn entity(id: i64, version: u64, doc: &[u8]) -> EntityWrite {
    EntityWrite { id, version, doc: doc.to_vec() }
}

fn work(target: u32, entity: i64, due: i64) -> WorkRow {
    WorkRow { key: WorkKey { target, entity }, due, attempts: 2, owner: 7, until: due + 5 }
}

/// Everything that one tick may write.
fn full_unit() -> Unit {
    let mut unit = Unit {
        entities: vec![entity(1, 0, b"one"), entity(2, 0, b"two")],
        members: vec![(member_key(1, "contact", "7001"), 1)],
        claims: vec![(claim_key("acme", "contact", "email", "a@b.c"), 1)],
        changes: vec![(change_key("acme", change(1), 1_000), 50)],
        work: vec![work(2, 1, 100), work(2, 2, 90)],
        outcomes: vec![OutcomeRow {
            change: change(1),
            entity: 1,
            target: 2,
            outcome: Outcome::Delivered,
            at: 60,
            took: 9,
        }],
        positions: vec![Position { partition: 3, offset: 12 }],
        dead_letters: vec![DeadLetter {
            entity: 1,
            target: 2,
            at: 61,
            code: "STRING_TOO_LONG".to_owned(),
            message: vec![1, 2, 3],
            fields: vec!["title".to_owned(), "city".to_owned()],
        }],
        ..Unit::default()
    };
    unit.count(Counter::Due, 4);
    unit.count(Counter::Due, 1);
    unit
}

fn what_is_committed_is_there_after_a_restart(make: &dyn Make) {
    let mut store = make.open();
    let first = store.start("topic").unwrap();
    assert_eq!((first.positions.len(), first.work.len(), first.next_entity), (0, 0, 1));
    store.commit(&full_unit()).unwrap();
    drop(store);

    let mut store = make.open();
    let start = store.start("topic").unwrap();
    assert_eq!(start.epoch, first.epoch + 1);
    assert_eq!(start.positions, [Position { partition: 3, offset: 12 }]);
    assert_eq!(start.work, [work(2, 2, 90), work(2, 1, 100)], "oldest first, with their leases");
    assert_eq!(start.next_entity, 3);
    assert_eq!(start.next_letter, 2);
    assert_eq!(start.counters, [(Counter::Due, 5)]);
    assert_eq!(store.entity(1).unwrap(), Some((1, b"one".to_vec())));
    assert_eq!(store.entity(9).unwrap(), None);
    assert_eq!(store.member(&member_key(1, "contact", "7001")).unwrap(), Some(1));
    assert_eq!(store.member(&member_key(2, "contact", "7001")).unwrap(), None);
    assert_eq!(store.claim(&claim_key("acme", "contact", "email", "a@b.c")).unwrap(), Some(1));
    assert_eq!(store.claim(&claim_key("other", "contact", "email", "a@b.c")).unwrap(), None, "tenants are apart");
    assert!(store.known(&change_key("acme", change(1), 1_000)).unwrap());
    assert!(!store.known(&change_key("other", change(1), 1_000)).unwrap(), "tenants are apart");
}

fn a_unit_is_all_or_nothing(make: &dyn Make) {
    let mut store = make.open();
    store.start("topic").unwrap();
    store.commit(&full_unit()).unwrap();
    let mut unit = Unit { entities: vec![entity(1, 1, b"newer"), entity(2, 5, b"wrong version")], ..Unit::default() };
    unit.members.push((member_key(1, "contact", "7002"), 2));
    unit.done.push(WorkKey { target: 2, entity: 1 });
    unit.positions.push(Position { partition: 3, offset: 99 });
    assert!(matches!(store.commit(&unit), Err(StoreError::Moved { entity: 2 })));
    assert_eq!(store.entity(1).unwrap(), Some((1, b"one".to_vec())), "nothing of a refused unit stays");
    assert_eq!(store.member(&member_key(1, "contact", "7002")).unwrap(), None);
    drop(store);
    let start = make.open().start("topic").unwrap();
    assert_eq!(start.positions, [Position { partition: 3, offset: 12 }]);
    assert_eq!(start.work.len(), 2);
}

fn versions_rise_by_one(make: &dyn Make) {
    let mut store = make.open();
    store.start("topic").unwrap();
    store.commit(&full_unit()).unwrap();
    let update = |version, doc: &[u8]| Unit { entities: vec![entity(1, version, doc)], ..Unit::default() };
    store.commit(&update(1, b"1b")).unwrap();
    store.commit(&update(2, b"1c")).unwrap();
    assert!(matches!(store.commit(&update(1, b"late")), Err(StoreError::Moved { entity: 1 })));
    assert_eq!(store.entity(1).unwrap(), Some((3, b"1c".to_vec())));
}

fn a_position_never_goes_back(make: &dyn Make) {
    let mut store = make.open();
    store.start("topic").unwrap();
    let at = |offset| Unit { positions: vec![Position { partition: 0, offset }], ..Unit::default() };
    store.commit(&at(10)).unwrap();
    store.commit(&at(4)).unwrap();
    drop(store);
    assert_eq!(make.open().start("topic").unwrap().positions, [Position { partition: 0, offset: 10 }]);
}

fn positions_belong_to_one_topic(make: &dyn Make) {
    let mut store = make.open();
    store.start("topic").unwrap();
    drop(store);
    let refused = make.open().start("another").unwrap_err();
    assert!(matches!(&refused, StoreError::OtherTopic { kept, found } if kept == "topic" && found == "another"));
    assert!(refused.to_string().contains("the log was replaced"), "{refused}");
}

fn a_claim_is_held_once(make: &dyn Make) {
    let mut store = make.open();
    store.start("topic").unwrap();
    store.commit(&full_unit()).unwrap();
    let key = claim_key("acme", "contact", "email", "a@b.c");
    let taken = Unit { claims: vec![(key, 2)], ..Unit::default() };
    assert!(store.commit(&taken).is_err());
    assert_eq!(store.claim(&key).unwrap(), Some(1));
    let moved = Unit { unclaims: vec![key], claims: vec![(key, 2)], ..Unit::default() };
    store.commit(&moved).unwrap();
    assert_eq!(store.claim(&key).unwrap(), Some(2));
}

fn numbers_of_names_stay(make: &dyn Make) {
    let mut store = make.open();
    let first = store.numbers(&["hubspot-main", "salesforce-main"]).unwrap();
    assert_ne!(first[0], first[1]);
    assert!(first.iter().all(|n| *n > 0), "0 stands for no connection");
    drop(store);
    let again = make.open().numbers(&["salesforce-main", "new", "hubspot-main"]).unwrap();
    assert_eq!((again[0], again[2]), (first[1], first[0]));
    assert!(!first.contains(&again[1]));
}

fn a_dead_letter_is_closed_once(make: &dyn Make) {
    let mut store = make.open();
    store.start("topic").unwrap();
    store.commit(&full_unit()).unwrap();
    let fields = vec!["title".to_owned(), "city".to_owned()];
    assert_eq!(store.open_letter(1).unwrap(), Some((1, 2, fields)));
    store.commit(&Unit { closed_letters: vec![(1, true)], ..Unit::default() }).unwrap();
    assert_eq!(store.open_letter(1).unwrap(), None);
    assert_eq!(store.open_letter(2).unwrap(), None);
}

fn work_is_replaced_and_removed(make: &dyn Make) {
    let mut store = make.open();
    store.start("topic").unwrap();
    store.commit(&full_unit()).unwrap();
    let unit = Unit { work: vec![work(2, 1, 500)], done: vec![WorkKey { target: 2, entity: 2 }], ..Unit::default() };
    store.commit(&unit).unwrap();
    drop(store);
    assert_eq!(make.open().start("topic").unwrap().work, [work(2, 1, 500)]);
}

fn the_old_is_forgotten_and_the_new_kept(make: &dyn Make) {
    const DAY: i64 = 86_400_000_000;
    let mut store = make.open();
    store.start("topic").unwrap();
    let key = |n: u8, us: i64| change_key("acme", change(n), us / 1_000);
    let outcome =
        |n: u8, at| OutcomeRow { change: change(n), entity: 1, target: 2, outcome: Outcome::Echo, at, took: 1 };
    let unit = Unit {
        changes: vec![
            (key(1, DAY), DAY),
            (key(2, 9 * DAY), 9 * DAY),
            // Told without a time, and an old change that came lately: both are as new as their arrival.
            (key(3, 0), 9 * DAY),
            (key(4, DAY), 9 * DAY),
        ],
        outcomes: vec![outcome(1, DAY), outcome(2, 9 * DAY)],
        ..Unit::default()
    };
    store.commit(&unit).unwrap();
    assert!(!store.expire(5 * DAY, 5 * DAY).unwrap(), "one round is enough");
    assert!(!store.known(&key(1, DAY)).unwrap());
    assert!(store.known(&key(2, 9 * DAY)).unwrap());
    assert!(store.known(&key(3, 0)).unwrap());
    assert!(store.known(&key(4, DAY)).unwrap());
}

fn asked(id: i64, entity: i64, subject: &str, since: i64) -> QuestionRow {
    let text = str::to_owned;
    QuestionRow {
        id,
        entity,
        tenant: text("acme"),
        link: text("contacts"),
        kind: text("field"),
        subject: text(subject),
        since,
    }
}

fn decided(entity: i64, at: i64, change: Option<ChangeId>) -> DecisionRow {
    DecisionRow {
        at,
        entity,
        field: "city".to_owned(),
        rule: "last_write".to_owned(),
        ruling: "force".to_owned(),
        edit: (1, 10, 11),
        force: (0, 12, 13),
        author: "user".to_owned(),
        change,
        values: vec![9, 9],
    }
}

fn a_question_ends_once_and_its_number_is_never_given_again(make: &dyn Make) {
    let mut store = make.open();
    assert_eq!(store.start("topic").unwrap().next_question, 1);
    let questions = vec![asked(1, 7, "city", 100), asked(2, 8, "phone", 110)];
    store.commit(&Unit { questions, ..Unit::default() }).unwrap();
    let end = |at, by: &str| QuestionEnd { at, by: by.to_owned(), choice: "member hubspot-main".to_owned() };
    for by in ["ana", "late"] {
        store.commit(&Unit { ended_questions: vec![(2, end(200, by))], ..Unit::default() }).unwrap();
    }
    assert_eq!(store.question(1).unwrap(), Some((7, None)));
    assert_eq!(store.question(2).unwrap(), Some((8, Some(end(200, "ana")))));
    assert_eq!(store.question(3).unwrap(), None);
    assert!(!store.expire_decisions(1_000).unwrap());
    drop(store);
    assert_eq!(make.open().start("topic").unwrap().next_question, 3);
}

fn decisions_and_ended_questions_are_forgotten_by_age(make: &dyn Make) {
    let mut store = make.open();
    store.start("topic").unwrap();
    let end = QuestionEnd { at: 200, by: String::new(), choice: "moot".to_owned() };
    let unit = Unit {
        questions: vec![asked(1, 7, "city", 100), asked(2, 7, "phone", 100), asked(3, 7, "email", 100)],
        ended_questions: vec![(1, end)],
        decisions: vec![decided(7, 100, None), decided(7, 900, Some(change(1)))],
        ..Unit::default()
    };
    store.commit(&unit).unwrap();
    assert!(!store.expire_decisions(500).unwrap());
    assert_eq!(store.question(1).unwrap(), None, "it ended long ago");
    assert_eq!(store.question(2).unwrap(), Some((7, None)), "what is open stays, however old");
}

macro_rules! suite {
    ($make:expr => $($promise:ident),+ $(,)?) => {
        mod sqlite {
            $(#[test]
            fn $promise() {
                super::$promise(&$make);
            })+
        }
    };
}

suite!(super::in_file() =>
    what_is_committed_is_there_after_a_restart,
    a_unit_is_all_or_nothing,
    versions_rise_by_one,
    a_position_never_goes_back,
    positions_belong_to_one_topic,
    a_claim_is_held_once,
    numbers_of_names_stay,
    a_dead_letter_is_closed_once,
    work_is_replaced_and_removed,
    the_old_is_forgotten_and_the_new_kept,
    a_question_ends_once_and_its_number_is_never_given_again,
    decisions_and_ended_questions_are_forgotten_by_age,
);

#[test]
fn the_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let make = in_file();
    make.open().start("topic").unwrap();
    let mode = std::fs::metadata(make.0.path().join("deep/state.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_second_process_is_refused() {
    let make = in_file();
    let _held = make.open();
    let path = make.0.path().join("deep/state.db");
    assert!(matches!(Sqlite::open(&path), Err(StoreError::InUse { .. })));
}

#[test]
fn a_newer_file_is_refused() {
    let make = in_file();
    drop(make.open());
    let path = make.0.path().join("deep/state.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("PRAGMA user_version=99").unwrap();
    assert!(matches!(Sqlite::open(&path), Err(StoreError::Newer { found: 99, known: 2 })));
}

#[test]
fn a_reader_sees_what_was_committed() {
    let make = in_file();
    let mut store = make.open();
    store.start("topic").unwrap();
    store.commit(&full_unit()).unwrap();
    let reader = Reader::open(&make.0.path().join("deep/state.db")).unwrap();
    assert_eq!(reader.member(&member_key(1, "contact", "7001")).unwrap(), Some(1));
    assert_eq!(reader.document(1).unwrap(), Some(b"one".to_vec()));
    assert_eq!(reader.documents(1, 10).unwrap(), [(2, b"two".to_vec())]);
    let outcomes = reader.outcomes(1, 10).unwrap();
    assert_eq!(outcomes.len(), 1);
    assert_eq!((outcomes[0].outcome, outcomes[0].took), (Outcome::Delivered, 9));
    let letters = reader.letters(None, true, 10).unwrap();
    assert_eq!((letters[0].id, letters[0].code.as_str(), letters[0].state.as_str()), (1, "STRING_TOO_LONG", "open"));
    assert_eq!(letters[0].fields, ["title", "city"]);
}

#[test]
fn a_reader_lists_questions_and_decisions() {
    let make = in_file();
    let mut store = make.open();
    store.start("topic").unwrap();
    let end = QuestionEnd { at: 200, by: "ana".to_owned(), choice: "another value".to_owned() };
    let unit = Unit {
        questions: vec![asked(1, 7, "city", 100), asked(2, 8, "phone", 110), asked(3, 9, "city", 120)],
        ended_questions: vec![(1, end.clone())],
        decisions: vec![decided(7, 100, None), decided(8, 110, None), decided(7, 120, Some(change(1)))],
        ..Unit::default()
    };
    store.commit(&unit).unwrap();
    let reader = Reader::open(&make.0.path().join("deep/state.db")).unwrap();
    let ids = |filter: &QuestionFilter, after, limit| {
        reader.questions(filter, after, limit).unwrap().iter().map(|q| q.question.id).collect::<Vec<_>>()
    };
    let all = QuestionFilter { ended: true, ..QuestionFilter::default() };
    assert_eq!(ids(&QuestionFilter::default(), 0, 10), [2, 3]);
    assert_eq!(ids(&all, 0, 10), [1, 2, 3]);
    assert_eq!(ids(&all, 1, 1), [2], "page by page");
    assert_eq!(ids(&QuestionFilter { subject: Some("city".to_owned()), ..all.clone() }, 0, 10), [1, 3]);
    assert!(ids(&QuestionFilter { link: Some("deals".to_owned()), ..all.clone() }, 0, 10).is_empty());
    assert_eq!(ids(&QuestionFilter { kind: Some("field".to_owned()), entity: Some(8), ..all }, 0, 10), [2]);
    assert_eq!(
        reader.question(1).unwrap().unwrap(),
        ListedQuestion { question: asked(1, 7, "city", 100), end: Some(end) }
    );
    let of = |entity, before| reader.decisions(entity, before, 10).unwrap();
    assert_eq!(of(None, i64::MAX).len(), 3);
    assert_eq!(of(Some(7), i64::MAX).iter().map(|d| d.n).collect::<Vec<_>>(), [3, 1], "the newest first");
    assert_eq!(of(Some(7), 3)[0].decision, decided(7, 100, None));
    assert_eq!(of(Some(7), i64::MAX)[0].decision, decided(7, 120, Some(change(1))));
}

#[test]
fn a_file_of_an_older_program_is_refused() {
    let make = in_file();
    drop(make.open());
    let path = make.0.path().join("deep/state.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("PRAGMA user_version=1").unwrap();
    assert!(matches!(Sqlite::open(&path), Err(StoreError::Older { found: 1, known: 2 })));
}
