//! One suite for every implementation of the store: what the engine relies on, and nothing about how it is done.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/disk.rs"]
pub mod disk;
#[path = "../support/postgres.rs"]
mod postgres;
mod postgres_alone;
mod workers;

use std::ops::{Deref, DerefMut};

use headgate_relay::books::{Place, Share, Sum};
use headgate_relay::entity::Outcome;
use headgate_relay::store::{
    AuditRow, Before, ClosedLetter, Committed, Counter, DeadLetter, DecisionRow, EntityId, EntityRow, EntityWrite,
    Forgotten, KeptRow, Key, KeyWrite, ListedQuestion, Look, OutcomeRow, Postgres, QuestionEnd, QuestionFilter,
    QuestionRow, Reader, Shelf, Sqlite, Start, Store, StoreError, TrailRow, Unit, WorkKey, WorkRow, change_key,
    claim_key, digest, member_key,
};
use headgate_relay::trail::{Happened, Met, Turn};
use headgate_schemas::ChangeId;
use headgate_schemas::stream::Position;
use postgres::Schema;
use workers::*;

/// Makes a store that is empty, or opens again what it made before.
trait Make {
    fn open(&self) -> Worker;

    /// An empty state that two workers share.
    fn open_two(&self) -> (Worker, Worker);

    fn reader(&self) -> Reader;
}

/// A store as one worker uses it.
struct Worker {
    store: Box<dyn Store>,
    epoch: u64,
    now: i64,
}

impl Worker {
    fn new(store: impl Store + 'static) -> Self {
        Self { store: Box::new(store), epoch: 0, now: NOW }
    }

    fn start(&mut self, topic: &str) -> Result<Start, StoreError> {
        let start = self.store.start(topic, self.now, LEASE)?;
        self.epoch = start.epoch;
        Ok(start)
    }

    fn commit(&mut self, unit: &Unit) -> Result<Committed, StoreError> {
        self.store.commit(self.epoch, self.now, unit)
    }

    /// Version and document.
    fn document(&mut self, id: EntityId) -> Option<(u64, Vec<u8>)> {
        match self.store.entity(id, 0).unwrap() {
            Look::Now(EntityRow { version, doc, .. }) => Some((version, doc)),
            Look::Nothing => None,
            Look::Same => panic!("version 0 is no version"),
        }
    }

    /// Work rows of an entity.
    fn work(&mut self, id: EntityId) -> Vec<WorkRow> {
        match self.store.entity(id, 0).unwrap() {
            Look::Now(row) => row.work,
            found => panic!("entity {id}: {found:?}"),
        }
    }
}

impl Deref for Worker {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        self.store.as_ref()
    }
}

impl DerefMut for Worker {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.store.as_mut()
    }
}

/// When everything happens that does not say otherwise, and when leases are over.
const NOW: i64 = 10;
const LEASE: i64 = 100;

struct InFile(tempfile::TempDir);

impl InFile {
    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("deep/state.db")
    }
}

impl Make for InFile {
    fn open(&self) -> Worker {
        Worker::new(Sqlite::open(&self.path()).unwrap())
    }

    fn open_two(&self) -> (Worker, Worker) {
        let disk = disk::Disk::shared().unwrap();
        (Worker::new(disk.clone()), Worker::new(disk))
    }

    fn reader(&self) -> Reader {
        Reader::open(&self.path()).unwrap()
    }
}

impl Make for Schema {
    fn open(&self) -> Worker {
        Worker::new(Postgres::open(&self.address()).unwrap())
    }

    fn open_two(&self) -> (Worker, Worker) {
        let open = || Worker::new(Postgres::open_shared(&self.address()).unwrap());
        (open(), open())
    }

    fn reader(&self) -> Reader {
        self.reader()
    }
}

fn in_file() -> InFile {
    InFile(tempfile::tempdir().unwrap())
}

fn change(n: u8) -> ChangeId {
    ChangeId::from_bytes([n; 16])
}

fn entity(id: i64, version: u64, doc: &[u8]) -> EntityWrite {
    EntityWrite { id, version, doc: Some(doc.to_vec()) }
}

/// A key that nobody had.
fn taken(key: Key, by: EntityId) -> KeyWrite {
    KeyWrite { key, was: None, now: Some(by) }
}

fn work(target: u32, entity: i64, due: i64) -> WorkRow {
    WorkRow { key: WorkKey { target, entity }, due, attempts: 2, owner: 7, until: due + 5 }
}

const DAY: i64 = 86_400_000_000;
const PLACE: Place = Place { link: 1, target: 2 };
/// Nothing is that old.
const NEVER: Before = Before { changes: 0, outcomes: 0, decisions: 0, letters: 0, audit: 0 };

/// How change `n`, taken at `accepted`, ended.
fn outcome(n: u8, accepted: i64, at: i64) -> OutcomeRow {
    OutcomeRow {
        change: change(n),
        accepted,
        place: PLACE,
        entity: 1,
        previous: 0,
        outcome: Outcome::Delivered,
        at,
        took: 9,
    }
}

fn outcomes(rows: Vec<OutcomeRow>) -> Unit {
    Unit { outcomes: rows, ..Unit::default() }
}

/// Everything that one tick may write.
fn full_unit() -> Unit {
    let mut unit = Unit {
        entities: vec![entity(1, 0, b"one"), entity(2, 0, b"two")],
        members: vec![taken(member_key(1, "contact", "7001"), 1)],
        claims: vec![taken(claim_key("acme", "contact", "email", "a@b.c"), 1)],
        changes: vec![(change_key("acme", change(1), 1_000), 50)],
        work: vec![work(2, 1, 100), work(2, 2, 90)],
        outcomes: vec![outcome(1, 50, 60)],
        due: vec![(PLACE, 2)],
        audit: vec![AuditRow {
            at: 62,
            who: "ana".to_owned(),
            what: "deadletter.skip".to_owned(),
            subject: "deadletter/1".to_owned(),
            before: Some(digest(b"one")),
            after: None,
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
    unit.count(Counter::Repeats, 4);
    unit.count(Counter::Repeats, 1);
    unit.due_at(PLACE);
    unit.due_at(Place::default());
    unit
}

fn what_is_committed_is_there_after_a_restart(make: &dyn Make) {
    let mut store = make.open();
    let first = store.start("topic").unwrap();
    assert_eq!((first.positions.len(), first.work.len(), store.next_entity().unwrap()), (0, 0, 1));
    store.commit(&full_unit()).unwrap();
    drop(store);

    let mut store = make.open();
    let start = store.start("topic").unwrap();
    assert_eq!(start.epoch, first.epoch + 1);
    assert_eq!(start.positions, [Position { partition: 3, offset: 12 }]);
    let left = |row| WorkRow { owner: start.epoch, until: 0, ..row };
    assert_eq!(start.work, [left(work(2, 2, 90)), left(work(2, 1, 100))], "oldest first, and this worker's");
    assert_eq!((store.next_entity().unwrap(), store.next_entity().unwrap()), (3, 4));
    assert_eq!(start.counters, [(Counter::Repeats, 5)]);
    let sums = [(Place::default(), Sum::Due, 1), (PLACE, Sum::Due, 3), (PLACE, Sum::Ended(Outcome::Delivered), 1)];
    assert_eq!(start.sums, sums);
    assert_eq!(store.document(1), Some((1, b"one".to_vec())));
    assert_eq!(store.document(9), None);
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
    unit.members.push(taken(member_key(1, "contact", "7002"), 2));
    unit.done.push(WorkKey { target: 2, entity: 1 });
    unit.positions.push(Position { partition: 3, offset: 99 });
    assert!(matches!(store.commit(&unit), Err(StoreError::Moved { entity: 2 })));
    assert_eq!(store.document(1), Some((1, b"one".to_vec())), "nothing of a refused unit stays");
    assert_eq!(store.member(&member_key(1, "contact", "7002")).unwrap(), None);
    drop(store);
    let start = make.open().start("topic").unwrap();
    assert_eq!(start.positions, [Position { partition: 3, offset: 12 }]);
    assert_eq!(start.work.len(), 2);
}

fn what_is_committed_later_is_kept_with_the_next_commit(make: &dyn Make) {
    let mut store = make.open();
    store.start("topic").unwrap();
    let (epoch, now) = (store.epoch, store.now);
    let one = store.store.commit_later(epoch, now, &full_unit()).unwrap();
    assert_eq!(one.ended, [(PLACE, Outcome::Delivered, 1)]);
    assert_eq!(store.document(1), Some((1, b"one".to_vec())), "whoever wrote it reads it");
    let next = |doc: &[u8]| Unit { entities: vec![entity(1, 1, doc)], ..Unit::default() };
    store.store.commit_later(epoch, now, &next(b"newer")).unwrap();
    store.commit(&Unit::default()).unwrap();
    drop(store);
    let mut store = make.open();
    store.start("topic").unwrap();
    assert_eq!(store.document(1), Some((2, b"newer".to_vec())), "a commit of nothing keeps it, too");
    let (epoch, now) = (store.epoch, store.now);
    store.store.commit_later(epoch, now, &Unit { entities: vec![entity(9, 0, b"nine")], ..Unit::default() }).unwrap();
    let refused = store.store.commit_later(epoch, now, &next(b"stale"));
    assert!(matches!(refused, Err(StoreError::Moved { entity: 1 })));
    drop(store);
    let mut store = make.open();
    store.start("topic").unwrap();
    assert_eq!(store.document(1), Some((2, b"newer".to_vec())));
}

fn versions_rise_by_one(make: &dyn Make) {
    let mut store = make.open();
    store.start("topic").unwrap();
    store.commit(&full_unit()).unwrap();
    let update = |version, doc: &[u8]| Unit { entities: vec![entity(1, version, doc)], ..Unit::default() };
    store.commit(&update(1, b"1b")).unwrap();
    store.commit(&update(2, b"1c")).unwrap();
    assert!(matches!(store.commit(&update(1, b"late")), Err(StoreError::Moved { entity: 1 })));
    assert_eq!(store.document(1), Some((3, b"1c".to_vec())));
}

fn a_shelf_keeps_what_it_was_last_given(make: &dyn Make) {
    let mut store = make.open();
    store.start("topic").unwrap();
    let row = |shelf, name: &str, value: Option<&[u8]>| KeptRow {
        shelf,
        name: name.to_owned(),
        value: value.map(<[u8]>::to_vec),
    };
    let put = |name: &str, value: &[u8]| row(Shelf::Subscription, name, Some(value));
    let keep = |kept: Vec<KeptRow>| Unit { kept, ..Unit::default() };
    store.commit(&keep(vec![put("a", b"1"), put("b", b"1"), row(Shelf::Replay, "a", Some(b"r"))])).unwrap();
    store.commit(&keep(vec![put("a", b"2"), put("gone", b"1")])).unwrap();
    store.commit(&keep(vec![put("b", b"2"), put("b", b"3"), row(Shelf::Subscription, "gone", None)])).unwrap();
    drop(store);
    let mut store = make.open();
    let (a, b) = (("a".to_owned(), b"2".to_vec()), ("b".to_owned(), b"3".to_vec()));
    assert_eq!(store.kept(Shelf::Subscription, None).unwrap(), [a, b.clone()]);
    assert_eq!(store.kept(Shelf::Subscription, Some("b")).unwrap(), [b]);
    assert_eq!(store.kept(Shelf::Subscription, Some("gone")).unwrap(), []);
    assert_eq!(store.kept(Shelf::Replay, None).unwrap(), [("a".to_owned(), b"r".to_vec())]);
    assert_eq!(store.kept(Shelf::Endpoint, None).unwrap(), []);
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

fn a_state_is_bound_to_a_topic_made_anew_without_places_in_it(make: &dyn Make) {
    let mut store = make.open();
    store.start("topic").unwrap();
    store.commit(&Unit { positions: vec![Position { partition: 0, offset: 10 }], ..Unit::default() }).unwrap();
    drop(store);
    make.open().store.rebind("topic made anew", NOW).unwrap();
    assert!(matches!(make.open().start("topic"), Err(StoreError::OtherTopic { .. })));
    assert_eq!(make.open().start("topic made anew").unwrap().positions, []);
}

fn a_claim_is_held_once(make: &dyn Make) {
    let mut store = make.open();
    store.start("topic").unwrap();
    store.commit(&full_unit()).unwrap();
    let key = claim_key("acme", "contact", "email", "a@b.c");
    let mut pass = |was, now| store.commit(&Unit { claims: vec![KeyWrite { key, was, now }], ..Unit::default() });
    for (was, now) in [(None, Some(2)), (Some(2), Some(3)), (Some(2), None)] {
        assert!(matches!(pass(was, now), Err(StoreError::Taken)), "{was:?} never held it");
    }
    pass(Some(1), Some(2)).unwrap();
    pass(Some(2), None).unwrap();
    pass(None, Some(4)).unwrap();
    assert_eq!(store.claim(&key).unwrap(), Some(4));
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
    store.commit(&close(1, 70)).unwrap();
    assert_eq!(store.open_letter(1).unwrap(), None);
    assert_eq!(store.open_letter(2).unwrap(), None);
}

fn close(id: i64, at: i64) -> Unit {
    Unit { closed_letters: vec![ClosedLetter { id, again: true, at }], ..Unit::default() }
}

fn a_change_ends_once_at_a_target(make: &dyn Make) {
    let mut store = make.open();
    store.start("topic").unwrap();
    let elsewhere = OutcomeRow { place: Place { link: 1, target: 3 }, ..outcome(1, 50, 60) };
    let committed = store.commit(&outcomes(vec![outcome(1, 50, 60), elsewhere])).unwrap();
    assert_eq!(committed.doubled, 0);
    let again = OutcomeRow { outcome: Outcome::Lost, ..outcome(1, 50, 99) };
    let committed = store.commit(&outcomes(vec![again, outcome(2, 50, 99)])).unwrap();
    let ended = vec![(PLACE, Outcome::Delivered, 1)];
    assert_eq!(committed, Committed { ended, doubled: 1 }, "the second is not kept, the rest of the unit is");
    drop(store);
    let start = make.open().start("topic").unwrap();
    assert_eq!(start.counters, [(Counter::Doubled, 1)]);
    let at = |target| (Place { link: 1, target }, Sum::Ended(Outcome::Delivered));
    let sums: Vec<_> = start.sums.into_iter().map(|(place, sum, n)| ((place, sum), n)).collect();
    assert_eq!(sums, [(at(2), 2), (at(3), 1)]);
}

fn documents_come_in_pages(make: &dyn Make) {
    let mut store = make.open();
    store.start("topic").unwrap();
    store.commit(&full_unit()).unwrap();
    assert_eq!(store.documents(0, 1).unwrap(), [(1, b"one".to_vec())]);
    assert_eq!(store.documents(1, 10).unwrap(), [(2, b"two".to_vec())]);
    assert_eq!(store.documents(2, 10).unwrap(), []);
}

fn work_is_replaced_and_removed(make: &dyn Make) {
    let mut store = make.open();
    store.start("topic").unwrap();
    store.commit(&full_unit()).unwrap();
    let unit = Unit { work: vec![work(2, 1, 500)], done: vec![WorkKey { target: 2, entity: 2 }], ..Unit::default() };
    store.commit(&unit).unwrap();
    drop(store);
    let start = make.open().start("topic").unwrap();
    assert_eq!(start.work, [WorkRow { owner: start.epoch, until: 0, ..work(2, 1, 500) }]);
}

fn the_old_is_forgotten_and_the_new_kept(make: &dyn Make) {
    let mut store = make.open();
    store.start("topic").unwrap();
    let key = |n: u8, us: i64| change_key("acme", change(n), us / 1_000);
    let unit = Unit {
        changes: vec![
            (key(1, DAY), DAY),
            (key(2, 9 * DAY), 9 * DAY),
            // Told without a time, and an old change that came lately: both are as new as their arrival.
            (key(3, 0), 9 * DAY),
            (key(4, DAY), 9 * DAY),
        ],
        ..Unit::default()
    };
    store.commit(&unit).unwrap();
    assert!(!store.expire(Before { changes: 5 * DAY, ..NEVER }).unwrap(), "one round is enough");
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
    store.start("topic").unwrap();
    assert_eq!((store.next_question().unwrap(), store.next_question().unwrap()), (1, 2));
    let questions = vec![asked(1, 7, "city", 100), asked(2, 8, "phone", 110)];
    store.commit(&Unit { questions, ..Unit::default() }).unwrap();
    let end = |at, by: &str| QuestionEnd { at, by: by.to_owned(), choice: "member hubspot-main".to_owned() };
    for by in ["ana", "late"] {
        store.commit(&Unit { ended_questions: vec![(2, end(200, by))], ..Unit::default() }).unwrap();
    }
    assert_eq!(store.question(1).unwrap(), Some((7, None)));
    assert_eq!(store.question(2).unwrap(), Some((8, Some(end(200, "ana")))));
    assert_eq!(store.question(3).unwrap(), None);
    assert!(!store.expire(Before { decisions: 1_000, ..NEVER }).unwrap());
    drop(store);
    let mut store = make.open();
    store.start("topic").unwrap();
    assert_eq!(store.next_question().unwrap(), 3);
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
    assert!(!store.expire(Before { decisions: 500, ..NEVER }).unwrap());
    assert_eq!(store.question(1).unwrap(), None, "it ended long ago");
    assert_eq!(store.question(2).unwrap(), Some((7, None)), "what is open stays, however old");
}

fn sums_outlive_the_outcomes_they_count(make: &dyn Make) {
    let mut store = make.open();
    store.start("topic").unwrap();
    store.commit(&outcomes(vec![outcome(1, DAY, DAY)])).unwrap();
    while store.expire(Before { outcomes: 9 * DAY, ..NEVER }).unwrap() {}
    // Nothing is known any more of the first, so that it can end again; that is why a day is kept for days.
    assert_eq!(store.commit(&outcomes(vec![outcome(1, DAY, 9 * DAY)])).unwrap().doubled, 0);
    let start = store.start("topic").unwrap();
    assert_eq!(start.sums, [(PLACE, Sum::Ended(Outcome::Delivered), 2)]);
}

#[test]
fn the_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let make = in_file();
    make.open().start("topic").unwrap();
    let mode = std::fs::metadata(make.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_second_process_is_refused() {
    let make = in_file();
    let _held = make.open();
    let path = make.path();
    assert!(matches!(Sqlite::open(&path), Err(StoreError::InUse { .. })));
}

#[test]
fn a_newer_file_is_refused() {
    let make = in_file();
    drop(make.open());
    let path = make.path();
    rusqlite::Connection::open(&path).unwrap().execute_batch("PRAGMA user_version=99").unwrap();
    assert!(matches!(Sqlite::open(&path), Err(StoreError::Newer { found: 99, known: 7 })));
}

fn a_reader_sees_what_was_committed(make: &dyn Make) {
    let mut store = make.open();
    store.start("topic").unwrap();
    store.commit(&full_unit()).unwrap();
    let reader = make.reader();
    assert_eq!(reader.member(&member_key(1, "contact", "7001")).unwrap(), Some(1));
    assert_eq!(reader.document(1).unwrap(), Some(b"one".to_vec()));
    assert_eq!(reader.documents(1, 10).unwrap(), [(2, b"two".to_vec())]);
    assert_eq!(reader.outcomes(1, 50, 10).unwrap(), [outcome(1, 50, 60)]);
    let audit = reader.audit(i64::MAX, 10).unwrap();
    assert_eq!((audit.len(), audit[0].0, &audit[0].1), (1, 1, &full_unit().audit[0]));
    assert_eq!(reader.audit(1, 10).unwrap(), []);
    let letters = reader.letters(None, true, 10).unwrap();
    assert_eq!((letters[0].id, letters[0].code.as_str(), letters[0].state.as_str()), (1, "STRING_TOO_LONG", "open"));
    assert_eq!(letters[0].fields, ["title", "city"]);
}

fn a_reader_lists_questions_and_decisions(make: &dyn Make) {
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
    let reader = make.reader();
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
    let path = make.path();
    rusqlite::Connection::open(&path).unwrap().execute_batch("PRAGMA user_version=1").unwrap();
    assert!(matches!(Sqlite::open(&path), Err(StoreError::Older { found: 1, known: 7 })));
}

fn told(entity: i64, at: i64, previous: i64, happened: Happened) -> TrailRow {
    TrailRow { entity, at, previous, happened: vec![happened] }
}

fn what_happened_is_a_chain_that_forks_where_entities_became_one(make: &dyn Make) {
    let mut store = make.open();
    store.start("topic").unwrap();
    let echo = || Happened::Decided { change: change(1), source: 1, met: Met::Echo };
    let trail = vec![
        told(1, 10, 0, echo()),
        told(2, 10, 0, echo()),
        told(2, 20, 10, Happened::Turn(Turn::Leaving)),
        told(1, 30, 10, Happened::Joined { other: 2, trail: 20, outcome: 0 }),
        told(3, 30, 0, echo()),
        told(1, 40, 30, echo()),
    ];
    store.commit(&Unit { trail: trail.clone(), ..Unit::default() }).unwrap();
    let of = |entity, newest, since, most| make.reader().trail(entity, newest, since, most).unwrap();
    let picked = |places: &[usize]| places.iter().map(|n| trail[*n].clone()).collect::<Vec<_>>();
    assert_eq!(of(1, 40, 0, 9), picked(&[5, 3, 2, 1, 0]), "the newest first, of both");
    assert_eq!(of(1, 40, 20, 9), picked(&[5, 3, 2]), "none older");
    assert_eq!(of(1, 40, 0, 2), picked(&[5, 3]), "no more");
    assert_eq!(of(3, 30, 0, 9), picked(&[4]), "and none of others");
    assert_eq!(of(9, 0, 0, 9), [], "nothing is told of who was never heard of");

    let forgotten = vec![Forgotten { entity: 1, trail: 40 }];
    store.commit(&Unit { forgotten, ..Unit::default() }).unwrap();
    assert_eq!(of(1, 40, 0, 9), []);
    assert_eq!(of(2, 20, 0, 9), [], "who became part of a person who was erased is erased, too");
    assert_eq!(of(3, 30, 0, 9), picked(&[4]));
    while store.expire(Before { outcomes: 2 * DAY, ..NEVER }).unwrap() {}
    assert_eq!(of(3, 30, 0, 9), [], "and what is old is forgotten");
}

fn a_change_that_comes_again_is_counted(make: &dyn Make) {
    let mut store = make.open();
    store.start("topic").unwrap();
    let key = |n| change_key("acme", change(n), 1_000);
    store
        .commit(&Unit { changes: vec![(key(1), 50), (key(2), 50)], repeats: vec![key(2)], ..Unit::default() })
        .unwrap();
    store.commit(&Unit { repeats: vec![key(2), key(9)], ..Unit::default() }).unwrap();
    let again = [1, 2, 9].map(|n| make.reader().repeats(&key(n)).unwrap());
    assert_eq!(again, [Some(0), Some(2), None]);
}

fn rows(n: std::ops::RangeInclusive<u8>, accepted: i64) -> Vec<OutcomeRow> {
    n.map(|n| outcome(n, accepted, accepted + 1)).collect()
}

fn outcomes_of_an_entity_are_found_along_their_chain(make: &dyn Make) {
    let mut store = make.open();
    store.start("topic").unwrap();
    let link = |n: u8, accepted, previous, at| OutcomeRow { previous, ..outcome(n, accepted, at) };
    let other = OutcomeRow { entity: 2, ..outcome(9, 10, 11) };
    // Change 1 was taken first and ended last, on the next day; 2 and 3 were taken together.
    store.commit(&outcomes(vec![link(2, 10, 0, 11), other, link(3, 10, 10, 12)])).unwrap();
    store.commit(&outcomes(vec![link(4, DAY + 5, 10, DAY + 6)])).unwrap();
    store.commit(&outcomes(vec![link(1, 5, DAY + 5, DAY + 7)])).unwrap();
    let found = make.reader().outcomes(1, 5, 10).unwrap();
    assert_eq!(found.iter().map(|row| row.change).collect::<Vec<_>>(), [change(1), change(4), change(3), change(2)]);
    let recent = make.reader().recent_outcomes(DAY, 2).unwrap();
    assert_eq!(recent.iter().map(|row| row.change).collect::<Vec<_>>(), [change(9), change(3)]);
}

fn outcomes_of_a_change_are_found_by_its_event(make: &dyn Make) {
    let mut store = make.open();
    store.start("topic").unwrap();
    let key = |n: u8| change_key("acme", change(n), 1_000);
    let elsewhere = OutcomeRow { place: Place { link: 1, target: 3 }, outcome: Outcome::Lost, ..outcome(1, 50, 61) };
    let unit = Unit { changes: vec![(key(1), 50), (key(2), 50)], ..outcomes(vec![outcome(1, 50, 60), elsewhere]) };
    store.commit(&unit).unwrap();
    let reader = make.reader();
    assert_eq!(reader.outcomes_of_change(&key(1), change(1)).unwrap(), Some(vec![outcome(1, 50, 60), elsewhere]));
    assert_eq!(reader.outcomes_of_change(&key(2), change(2)).unwrap(), Some(Vec::new()), "it is open");
    assert_eq!(reader.outcomes_of_change(&key(3), change(3)).unwrap(), None);
}

fn a_day_of_outcomes_goes_as_a_whole_when_its_last_change_ended_long_ago(make: &dyn Make) {
    let mut store = make.open();
    store.start("topic").unwrap();
    store.commit(&outcomes(rows(1..=3, DAY))).unwrap();
    // One of the second day waited for a week.
    store.commit(&outcomes(rows(4..=5, 2 * DAY))).unwrap();
    store.commit(&outcomes(vec![outcome(6, 2 * DAY, 9 * DAY)])).unwrap();
    let left = |store: &mut Worker| {
        while store.expire(Before { outcomes: 5 * DAY, ..NEVER }).unwrap() {}
        make.reader().recent_outcomes(i64::MAX, 100).unwrap().len()
    };
    assert_eq!(left(&mut store), 3, "the second day is kept whole");
    store.commit(&outcomes(vec![outcome(7, DAY, 10 * DAY)])).unwrap();
    assert_eq!(left(&mut store), 4, "a late one brings its day back");
}

#[test]
fn a_big_day_is_forgotten_in_steps() {
    let make = in_file();
    let mut store = make.open();
    store.start("topic").unwrap();
    let row = |n: i64| OutcomeRow { accepted: DAY + n, ..outcome(1, DAY, DAY) };
    store.commit(&outcomes((0..12_000).map(row).collect())).unwrap();
    let mut left = Vec::new();
    while store.expire(Before { outcomes: 5 * DAY, ..NEVER }).unwrap() {
        left.push(make.reader().recent_outcomes(i64::MAX, 20_000).unwrap().len());
    }
    assert_eq!(left, [6_999, 1_998, 0]);
}

fn what_was_closed_and_what_was_done_is_forgotten_by_age(make: &dyn Make) {
    let mut store = make.open();
    store.start("topic").unwrap();
    for (at, closed) in [(DAY, Some(2 * DAY)), (DAY, Some(9 * DAY)), (DAY, None)] {
        let mut unit = full_unit();
        unit.dead_letters[0].at = at;
        unit.audit[0].at = closed.unwrap_or(at);
        let unit = Unit { dead_letters: unit.dead_letters, audit: unit.audit, ..Unit::default() };
        store.commit(&unit).unwrap();
    }
    store.commit(&close(1, 2 * DAY)).unwrap();
    store.commit(&close(2, 9 * DAY)).unwrap();
    assert!(!store.expire(Before { letters: 5 * DAY, audit: 5 * DAY, ..NEVER }).unwrap());
    let letters = make.reader().letters(None, false, 10).unwrap();
    assert_eq!(letters.iter().map(|l| l.id).collect::<Vec<_>>(), [3, 2], "an open one is kept however old it is");
    let audit = make.reader().audit(i64::MAX, 10).unwrap();
    assert_eq!(audit.iter().map(|(_, row)| row.at).collect::<Vec<_>>(), [9 * DAY]);
}

macro_rules! suite {
    ($($promise:ident),+ $(,)?) => {
        mod sqlite {
            $(#[test]
            fn $promise() {
                super::$promise(&super::in_file());
            })+
        }
        mod in_postgres {
            $(#[test]
            fn $promise() {
                if let Some(schema) = super::Schema::make() {
                    super::$promise(&schema);
                }
            })+
        }
    };
}

suite!(
    what_is_committed_is_there_after_a_restart,
    a_unit_is_all_or_nothing,
    what_is_committed_later_is_kept_with_the_next_commit,
    versions_rise_by_one,
    a_shelf_keeps_what_it_was_last_given,
    a_position_never_goes_back,
    positions_belong_to_one_topic,
    a_state_is_bound_to_a_topic_made_anew_without_places_in_it,
    a_claim_is_held_once,
    numbers_of_names_stay,
    a_dead_letter_is_closed_once,
    a_change_ends_once_at_a_target,
    documents_come_in_pages,
    work_is_replaced_and_removed,
    the_old_is_forgotten_and_the_new_kept,
    a_question_ends_once_and_its_number_is_never_given_again,
    decisions_and_ended_questions_are_forgotten_by_age,
    sums_outlive_the_outcomes_they_count,
    a_reader_sees_what_was_committed,
    a_reader_lists_questions_and_decisions,
    outcomes_of_an_entity_are_found_along_their_chain,
    outcomes_of_a_change_are_found_by_its_event,
    a_day_of_outcomes_goes_as_a_whole_when_its_last_change_ended_long_ago,
    what_was_closed_and_what_was_done_is_forgotten_by_age,
    what_happened_is_a_chain_that_forks_where_entities_became_one,
    a_change_that_comes_again_is_counted,
    a_unit_on_what_another_changed_is_void,
    work_rows_are_covered_by_the_version,
    what_was_only_looked_at_must_not_have_changed,
    a_key_goes_to_the_first,
    a_key_that_was_only_asked_about_must_stand_as_it_did,
    a_weak_key_that_was_asked_about_must_have_the_same_entities,
    of_two_that_found_nothing_at_once_one_is_void,
    a_change_is_taken_once,
    numbers_are_given_once,
    numbers_that_a_void_unit_took_are_given_once,
    nothing_is_committed_after_the_lease,
    work_is_adopted_when_its_owner_is_gone_and_not_before,
    work_is_adopted_in_portions,
    a_worker_that_leaves_is_gone_at_once,
    a_partition_is_moved_by_its_holder_alone,
    a_look_is_of_one_moment,
    partitions_are_divided_and_none_is_taken_from_whoever_has_it,
    what_is_open_is_counted_once_and_then_added_up,
    a_topic_that_was_made_anew_ends_all_leases_once,
    a_place_behind_the_end_of_the_log_is_forgotten_once,
);
