//! What the store promises several workers. Time is an argument: no test waits for a lease to end.
//!
//! Each promise is shown on two handles of one state that act in turn; that they may act at the same moment is for an
//! implementation to make true with its transactions.

use super::*;

/// Two workers of one state that holds [`full_unit`].
fn two(make: &dyn Make) -> (Worker, Worker) {
    let (mut one, mut other) = make.open_two();
    assert!(one.start("topic").unwrap().shared);
    one.take_partitions(3);
    one.commit(&full_unit()).unwrap();
    let start = other.start("topic").unwrap();
    assert_eq!((start.epoch, start.work.len()), (one.epoch + 1, 0), "the first one's work is its own");
    (one, other)
}

impl Worker {
    fn take_partitions(&mut self, partition: u32) -> Vec<Position> {
        self.store.take_partitions(self.epoch, self.now, &[partition]).unwrap()
    }

    /// A work row of this worker.
    fn row(&self, target: u32, entity: EntityId, due: i64) -> WorkRow {
        WorkRow { key: WorkKey { target, entity }, due, attempts: 0, owner: self.epoch, until: 0 }
    }

    fn adopt(&mut self) -> Result<Vec<WorkRow>, StoreError> {
        self.store.adopt(self.epoch, self.now, 10)
    }
}

fn document(id: EntityId, version: u64, doc: &[u8]) -> Unit {
    Unit { entities: vec![entity(id, version, doc)], ..Unit::default() }
}

/// The version of an entity rises, and nothing else of it changes.
fn touch(id: EntityId, version: u64) -> EntityWrite {
    EntityWrite { id, version, doc: None }
}

pub(super) fn a_unit_on_what_another_changed_is_void(make: &dyn Make) {
    let (mut one, mut other) = two(make);
    one.commit(&document(1, 1, b"one's")).unwrap();
    let stale = Unit { dead_letters: full_unit().dead_letters, ..document(1, 1, b"other's") };
    let error = other.commit(&stale).unwrap_err();
    assert!(matches!(error, StoreError::Moved { entity: 1 }) && error.is_overtaken());
    assert_eq!(other.document(1), Some((2, b"one's".to_vec())));
    assert_eq!(other.open_letter(2).unwrap(), None, "nothing of the unit stays");
    other.commit(&document(1, 2, b"other's")).unwrap();
    assert!(matches!(one.commit(&document(3, 1, b"nobody made it")), Err(StoreError::Moved { entity: 3 })));
    assert!(matches!(one.commit(&document(1, 0, b"made twice")), Err(StoreError::Moved { entity: 1 })));
}

pub(super) fn work_rows_are_covered_by_the_version(make: &dyn Make) {
    let (mut one, mut other) = two(make);
    let need = Unit { entities: vec![touch(1, 1)], work: vec![one.row(2, 1, 30)], ..Unit::default() };
    one.commit(&need).unwrap();
    assert_eq!(one.document(1), Some((2, b"one".to_vec())), "the document is the same");
    // The other worker saw no need when it looked.
    let stale = Unit { entities: vec![touch(1, 1)], done: vec![WorkKey { target: 2, entity: 1 }], ..Unit::default() };
    assert!(matches!(other.commit(&stale), Err(StoreError::Moved { entity: 1 })));
    let row = one.row(2, 1, 30);
    assert_eq!(other.work(1), [row], "the newer need stands");
    other.commit(&Unit { entities: vec![touch(1, 2)], done: vec![row.key], ..Unit::default() }).unwrap();
    assert_eq!(other.work(1), []);
}

pub(super) fn what_was_only_looked_at_must_not_have_changed(make: &dyn Make) {
    let (mut one, mut other) = two(make);
    one.commit(&document(1, 1, b"newer")).unwrap();
    let unit = |seen| Unit { unchanged: vec![(1, seen)], ..document(2, 1, b"decided by it") };
    assert!(matches!(other.commit(&unit(1)), Err(StoreError::Moved { entity: 1 })));
    other.commit(&unit(2)).unwrap();
    assert_eq!(other.document(1).unwrap().0, 2, "looking leaves no trace");
}

pub(super) fn a_key_goes_to_the_first(make: &dyn Make) {
    let (mut one, mut other) = two(make);
    let (member, claim) = (member_key(1, "contact", "7002"), claim_key("acme", "contact", "email", "d@e.f"));
    one.commit(&Unit { members: vec![taken(member, 1)], claims: vec![taken(claim, 1)], ..Unit::default() }).unwrap();
    let members = Unit { members: vec![taken(member, 2)], ..document(2, 1, b"late") };
    let claims = Unit { claims: vec![taken(claim, 2)], ..document(2, 1, b"late") };
    for late in [members, claims] {
        let error = other.commit(&late).unwrap_err();
        assert!(matches!(error, StoreError::Taken) && error.is_overtaken(), "{error}");
    }
    assert_eq!((other.member(&member).unwrap(), other.claim(&claim).unwrap()), (Some(1), Some(1)));
    assert_eq!(other.document(2).unwrap().0, 1);
}

/// A unit that decides something, by what it is made with.
fn decision() -> Unit {
    Unit { sizes: vec![("contacts".to_owned(), 1)], ..Unit::default() }
}

/// A key that stays as it was read.
fn stays(key: Key, holder: Option<EntityId>) -> KeyWrite {
    KeyWrite { key, was: holder, now: holder }
}

pub(super) fn a_key_that_was_only_asked_about_must_stand_as_it_did(make: &dyn Make) {
    let (mut one, mut other) = two(make);
    let (member, claim) = (member_key(1, "contact", "7002"), claim_key("acme", "contact", "email", "d@e.f"));
    let asked = |holder| {
        let members = Unit { members: vec![stays(member, holder)], ..decision() };
        [members, Unit { claims: vec![stays(claim, holder)], ..decision() }]
    };
    let goes = |was, now| {
        let write = |key| vec![KeyWrite { key, was, now }];
        Unit { members: write(member), claims: write(claim), ..Unit::default() }
    };
    let mut holder = None;
    for next in [Some(1), Some(2), None] {
        asked(holder).iter().for_each(|unit| drop(other.commit(unit).unwrap()));
        one.commit(&goes(holder, next)).unwrap();
        for late in asked(holder) {
            let error = other.commit(&Unit { entities: vec![entity(2, 1, b"late")], ..late }).unwrap_err();
            assert!(matches!(error, StoreError::Taken), "{holder:?} to {next:?}: {error}");
        }
        holder = next;
    }
    assert_eq!(other.document(2).unwrap().0, 1, "nothing of the units stays");
}

/// A weak key has the entities that [`Store::hints`] told, and others get it.
fn hinted(key: Key, known: &[EntityId], gets: &[EntityId]) -> Unit {
    let hints = gets.iter().map(|id| (key, *id, true)).collect();
    Unit { hinted: vec![(key, known.to_vec())], hints, ..decision() }
}

pub(super) fn a_weak_key_that_was_asked_about_must_have_the_same_entities(make: &dyn Make) {
    let (mut one, mut other) = two(make);
    let [key, unknown] = ["415", "416"].map(|phone| claim_key("acme", "contact", "phone", phone));
    let all: Vec<EntityId> = (11..=20).collect();
    assert!(other.store.hints(&key).unwrap().is_empty());
    one.commit(&hinted(key, &[], &[12])).unwrap();
    assert!(matches!(other.commit(&hinted(key, &[], &[13])), Err(StoreError::Taken)));
    assert_eq!(other.store.hints(&key).unwrap(), [12], "nothing of the unit stays");
    other.commit(&hinted(key, &[12], &[11, 13])).unwrap();
    assert!(matches!(one.commit(&hinted(key, &[12], &[])), Err(StoreError::Taken)));
    // Those beyond the limit say no more than that there are too many.
    one.commit(&hinted(key, &[11, 12, 13], &all)).unwrap();
    assert_eq!(one.store.hints(&key).unwrap(), all[..8]);
    let both = Unit { hinted: vec![(unknown, vec![]), (key, all[..8].to_vec())], ..decision() };
    one.commit(&Unit { hints: vec![(key, 20, false)], ..both.clone() }).unwrap();
    other.commit(&both).unwrap();
    one.commit(&Unit { hints: vec![(key, 11, false)], ..both.clone() }).unwrap();
    assert!(matches!(other.commit(&both), Err(StoreError::Taken)), "one that was told is gone");
    assert_eq!(other.store.hints(&key).unwrap(), all[1..9]);
}

/// Each finds nothing and writes what the other must not miss, at the same moment: one of them is void.
pub(super) fn of_two_that_found_nothing_at_once_one_is_void(make: &dyn Make) {
    let (mut one, mut other) = two(make);
    let key = |what: &str, n: i64| claim_key("acme", "contact", what, &n.to_string());
    let unit = |n: i64, id: EntityId, mine: &str, theirs: &str| Unit {
        members: vec![taken(key(mine, n), id), stays(key(theirs, n), None)],
        claims: vec![stays(key(theirs, n), None), taken(key(mine, n), id)],
        ..hinted(key("phone", n), &[], &[id])
    };
    for n in 0..30 {
        let both = std::thread::scope(|scope| {
            let first = scope.spawn(|| one.commit(&unit(n, 1, "a", "b")).map(drop));
            let second = scope.spawn(|| other.commit(&unit(n, 2, "b", "a")).map(drop));
            [first.join().unwrap(), second.join().unwrap()]
        });
        let void = both.iter().filter_map(|done| done.as_ref().err());
        assert!(void.clone().count() == 1 && void.clone().all(StoreError::is_overtaken), "{n}: {both:?}");
    }
}

pub(super) fn a_change_is_taken_once(make: &dyn Make) {
    let (mut one, mut other) = two(make);
    let unit = Unit { changes: vec![(change_key("acme", change(7), 1_000), 20)], ..document(1, 1, b"folded") };
    one.commit(&unit).unwrap();
    let late = Unit { entities: vec![entity(1, 2, b"folded twice")], ..unit };
    assert!(matches!(other.commit(&late), Err(StoreError::Taken)));
    assert_eq!(other.document(1), Some((2, b"folded".to_vec())));
}

pub(super) fn numbers_are_given_once(make: &dyn Make) {
    let (mut one, mut other) = two(make);
    let mut entities: Vec<EntityId> = Vec::new();
    let mut questions: Vec<i64> = Vec::new();
    for _ in 0..3 {
        for worker in [&mut one, &mut other] {
            entities.push(worker.next_entity().unwrap());
            questions.push(worker.next_question().unwrap());
        }
    }
    entities.sort_unstable();
    questions.sort_unstable();
    entities.dedup();
    questions.dedup();
    assert_eq!((entities.len(), questions.len()), (6, 6));
}

pub(super) fn numbers_that_a_void_unit_took_are_given_once(make: &dyn Make) {
    let (mut one, mut other) = two(make);
    // Whoever holds the others off takes numbers, and thinks better of it or is refused.
    for refused in [None, Some(Unit { unchanged: vec![(1, 99)], ..decision() })] {
        one.start("topic").unwrap();
        other.start("topic").unwrap();
        one.store.hold_others().unwrap();
        let (entity, question) = (one.next_entity().unwrap(), one.next_question().unwrap());
        match refused {
            None => one.store.let_others().unwrap(),
            Some(unit) => assert!(matches!(one.commit(&unit), Err(StoreError::Moved { entity: 1 }))),
        }
        let mut entities: Vec<EntityId> = Vec::new();
        let mut questions: Vec<i64> = Vec::new();
        for _ in 0..3 {
            for worker in [&mut other, &mut one] {
                entities.push(worker.next_entity().unwrap());
                questions.push(worker.next_question().unwrap());
            }
        }
        entities.sort_unstable();
        questions.sort_unstable();
        let (given, asked) = (entities.clone(), questions.clone());
        entities.dedup();
        questions.dedup();
        assert_eq!((&entities, &questions), (&given, &asked), "after {entity} and {question}");
    }
}

pub(super) fn nothing_is_committed_after_the_lease(make: &dyn Make) {
    let (mut one, mut other) = two(make);
    one.now = LEASE - 1;
    one.store.renew(one.epoch, LEASE - 1, LEASE + 50).unwrap();
    one.now = LEASE + 49;
    one.commit(&document(1, 1, b"in time")).unwrap();
    one.now = LEASE + 50;
    let lost = |error: StoreError, epoch| matches!(error, StoreError::LeaseLost { epoch: e } if e == epoch);
    assert!(lost(one.commit(&document(1, 2, b"late")).unwrap_err(), one.epoch));
    assert!(lost(one.store.renew(one.epoch, one.now, LEASE + 99).unwrap_err(), one.epoch), "it is not brought back");
    assert!(lost(one.adopt().unwrap_err(), one.epoch));
    assert!(lost(one.store.take_partitions(one.epoch, one.now, &[3]).unwrap_err(), one.epoch));
    // Ended by another worker it is over, whatever its own clock says.
    other.now = LEASE - 1;
    other.store.renew(other.epoch, LEASE - 1, LEASE + 99).unwrap();
    other.now = LEASE + 51;
    other.adopt().unwrap();
    one.now = NOW;
    assert!(lost(one.commit(&document(1, 2, b"its clock is behind")).unwrap_err(), one.epoch));
    assert_eq!(other.document(1), Some((2, b"in time".to_vec())));
}

pub(super) fn work_is_adopted_when_its_owner_is_gone_and_not_before(make: &dyn Make) {
    let (mut one, mut other) = two(make);
    let over = LEASE + 5;
    let mine = |worker: &Worker| vec![worker.row(2, 2, 90), WorkRow { until: over, ..worker.row(2, 1, 100) }];
    let unit = Unit { entities: vec![touch(1, 1), touch(2, 1)], work: mine(&one), ..Unit::default() };
    one.commit(&unit).unwrap();
    other.now = LEASE - 1;
    other.store.renew(other.epoch, LEASE - 1, 2 * LEASE).unwrap();
    assert_eq!(other.adopt().unwrap(), [], "its owner has its lease");
    other.now = LEASE;
    assert_eq!(other.adopt().unwrap(), [other.row(2, 2, 90)], "the other one's call may be under way");
    other.now = over;
    assert_eq!(other.adopt().unwrap(), [other.row(2, 1, 100)], "to be worked without its call");
    let called = WorkRow { until: over, ..other.row(2, 1, 100) };
    assert_eq!(other.work(1), [called], "whoever looks sees its call until somebody has said what became of it");
    assert_eq!(other.adopt().unwrap(), [], "once");
}

pub(super) fn work_is_adopted_in_portions(make: &dyn Make) {
    let (mut one, mut other) = two(make);
    let rows = (1..=5).map(|target| one.row(target, 1, i64::from(target))).collect();
    let unit = Unit {
        entities: vec![touch(1, 1)],
        work: rows,
        done: vec![WorkKey { target: 2, entity: 2 }],
        ..Unit::default()
    };
    one.commit(&unit).unwrap();
    one.store.leave(one.epoch).unwrap();
    let portions: Vec<usize> = (0..4).map(|_| other.store.adopt(other.epoch, NOW, 2).unwrap().len()).collect();
    assert_eq!(portions, [2, 2, 1, 0]);
}

pub(super) fn a_worker_that_leaves_is_gone_at_once(make: &dyn Make) {
    let (mut one, mut other) = two(make);
    one.commit(&Unit { entities: vec![touch(1, 1)], work: vec![one.row(2, 1, 30)], ..Unit::default() }).unwrap();
    one.store.leave(one.epoch).unwrap();
    assert!(other.adopt().unwrap().contains(&other.row(2, 1, 30)));
    assert!(matches!(one.commit(&document(1, 2, b"late")), Err(StoreError::LeaseLost { .. })));
}

pub(super) fn a_partition_is_moved_by_its_holder_alone(make: &dyn Make) {
    let (mut one, mut other) = two(make);
    let at = |offset| Unit { positions: vec![Position { partition: 3, offset }], ..Unit::default() };
    assert!(matches!(other.commit(&at(20)), Err(StoreError::PartitionLost { partition: 3 })));
    assert_eq!(other.take_partitions(3), [Position { partition: 3, offset: 12 }]);
    let late = Unit { positions: at(20).positions, ..document(1, 1, b"read by the one before") };
    let error = one.commit(&late).unwrap_err();
    assert!(matches!(error, StoreError::PartitionLost { partition: 3 }) && !error.is_overtaken(), "{error}");
    assert_eq!(one.document(1), Some((1, b"one".to_vec())), "nothing of the unit stays");
    other.commit(&at(20)).unwrap();
    assert_eq!(other.take_partitions(4), [], "it was never read");
    assert_eq!(one.take_partitions(3), [Position { partition: 3, offset: 20 }], "and back again");
}

pub(super) fn a_look_is_of_one_moment(make: &dyn Make) {
    let (mut one, mut other) = two(make);
    let Look::Now(EntityRow { version: 1, doc, work }) = other.entity(1, 0).unwrap() else { panic!() };
    assert_eq!((doc.as_slice(), work), (b"one".as_slice(), vec![super::work(2, 1, 100)]));
    assert_eq!(other.entity(1, 1).unwrap(), Look::Same);
    one.commit(&Unit { entities: vec![touch(1, 1)], done: vec![WorkKey { target: 2, entity: 1 }], ..Unit::default() })
        .unwrap();
    let now = EntityRow { version: 2, doc: b"one".to_vec(), work: Vec::new() };
    assert_eq!(other.entity(1, 1).unwrap(), Look::Now(now));
    assert_eq!(other.entity(9, 4).unwrap(), Look::Nothing);
}

pub(super) fn partitions_are_divided_and_none_is_taken_from_whoever_has_it(make: &dyn Make) {
    let (mut one, mut other) = two(make);
    let divide = |worker: &mut Worker| {
        let division = worker.store.divide(worker.epoch, worker.now, 5).unwrap();
        (division.mine, division.workers)
    };
    let both = vec![one.epoch, other.epoch];
    assert_eq!(divide(&mut other), (vec![2, 4], both.clone()), "3 is taken already, and it takes what is free");
    assert_eq!(divide(&mut one), (vec![0, 1, 3], both.clone()));
    assert_eq!(one.store.divide(one.epoch, NOW, 5).unwrap().positions, [Position { partition: 3, offset: 12 }]);
    other.commit(&Unit { positions: vec![Position { partition: 4, offset: 9 }], ..Unit::default() }).unwrap();
    let lost = one.commit(&Unit { positions: vec![Position { partition: 4, offset: 7 }], ..Unit::default() });
    assert!(matches!(lost, Err(StoreError::PartitionLost { partition: 4 })));

    // The first one's lease is over: the other one gets everything, and where to read on.
    other.now = LEASE - 1;
    other.store.renew(other.epoch, LEASE - 1, 2 * LEASE).unwrap();
    other.now = LEASE;
    assert_eq!(divide(&mut other), (vec![0, 1, 2, 3, 4], both[1..].to_vec()));
    let late = one.store.divide(one.epoch, LEASE, 5);
    assert!(matches!(late, Err(StoreError::LeaseLost { .. })));
}

pub(super) fn what_is_open_is_counted_once_and_then_added_up(make: &dyn Make) {
    let (mut one, mut other) = two(make);
    let ids = |worker: &mut Worker, after, most| -> Vec<EntityId> {
        worker.store.open_documents(after, most).unwrap().into_iter().map(|(id, _)| id).collect()
    };
    one.commit(&Unit { entities: vec![touch(1, 1)], work: vec![one.row(3, 1, 30)], ..document(4, 0, b"rests") })
        .unwrap();
    assert_eq!((ids(&mut other, 0, 10), ids(&mut other, 0, 1), ids(&mut other, 1, 10)), (vec![1, 2], vec![1], vec![2]));

    let place = Place { link: 1, target: 2 };
    let share = |at, held| Share { place, at, held };
    assert_eq!(other.store.shared_books().unwrap(), None);
    other.store.count_open(other.epoch, other.now, &[(share(2, false), 4), (share(3, false), 1)]).unwrap();
    // Whoever counted at the same moment adds nothing to it.
    one.store.count_open(one.epoch, one.now, &[(share(2, false), 4), (share(3, false), 1)]).unwrap();
    let open = |worker: &mut Worker| {
        let mut books = worker.store.shared_books().unwrap().unwrap();
        books.open.sort_unstable();
        let due = |(at, sum, n): &(Place, Sum, i64)| (*at == place && *sum == Sum::Due).then_some(*n);
        (books.sums.iter().filter_map(due).sum::<i64>(), books.open)
    };
    let before = open(&mut one).0;
    let moved = vec![(share(2, false), -3), (share(2, true), 2), (share(2, false), 1), (share(3, false), -1)];
    one.commit(&Unit { due: vec![(place, 3)], open: moved, ..Unit::default() }).unwrap();
    other.commit(&Unit { open: vec![(share(2, true), 5)], ..Unit::default() }).unwrap();
    assert_eq!(open(&mut one), (before + 3, vec![(share(2, false), 2), (share(2, true), 7)]));
    // What a void unit would have opened is not open.
    let stale = Unit { open: vec![(share(2, true), 1)], ..document(1, 1, b"stale") };
    assert!(matches!(other.commit(&stale), Err(StoreError::Moved { entity: 1 })));
    assert_eq!(open(&mut other).1, [(share(2, false), 2), (share(2, true), 7)]);
    let late = other.store.count_open(other.epoch, LEASE, &[]);
    assert!(matches!(late, Err(StoreError::LeaseLost { .. })));
}

pub(super) fn a_topic_that_was_made_anew_ends_all_leases_once(make: &dyn Make) {
    let (mut one, mut other) = two(make);
    one.store.rebind("topic anew", NOW).unwrap();
    let late = other.commit(&document(1, 1, b"read from the old one"));
    assert!(matches!(late, Err(StoreError::LeaseLost { .. })), "{late:?}");
    assert_eq!(one.start("topic anew").unwrap().positions, []);
    let read = Unit { positions: vec![Position { partition: 1, offset: 4 }], ..Unit::default() };
    one.take_partitions(1);
    one.commit(&read).unwrap();
    other.store.rebind("topic anew", NOW).unwrap();
    assert_eq!(other.start("topic anew").unwrap().positions, read.positions, "the second one is late");
    one.commit(&document(1, 1, b"goes on")).unwrap();
}

pub(super) fn a_place_behind_the_end_of_the_log_is_forgotten_once(make: &dyn Make) {
    let (mut one, mut other) = two(make);
    let place = Position { partition: 3, offset: 12 };
    one.store.forget_place(place).unwrap();
    assert_eq!(one.take_partitions(3), [], "it is read from its start");
    let read = Position { offset: 5, ..place };
    one.commit(&Unit { positions: vec![read], ..Unit::default() }).unwrap();
    other.store.forget_place(place).unwrap();
    assert_eq!(one.take_partitions(3), [read], "the second one is late");
}
