//! Order per record, retries, bounds and restarts of a backlog, with the clock as an argument.

use std::collections::HashMap;
use std::time::Duration;

use headgate_schemas::contract::{encode, example};
use proptest::prelude::*;

use super::*;

const SECOND: i64 = 1_000_000;

fn pace() -> Pace {
    Pace {
        calls: 4,
        waiting: 100,
        waiting_bytes: 1 << 20,
        retry_first: Duration::from_secs(5),
        retry_most: Duration::from_secs(3_600),
        ..Pace::default()
    }
}

fn backlog() -> Backlog {
    Backlog::new(Cursor::new(&[], 2, true))
}

fn read(offset: u64, record: &str) -> Delivered {
    let mut change = example();
    change.object.id = Some(record.to_owned());
    Delivered { partition: u32::try_from(offset % 2).unwrap(), offset, record: encode(&change).unwrap() }
}

fn take(backlog: &mut Backlog, offset: u64, record: &str) {
    backlog.take(&read(offset, record), true, || Bytes::from_static(b"0123456789"));
}

fn sent(backlog: &mut Backlog, now: i64) -> Vec<u64> {
    std::iter::from_fn(|| backlog.next(now, &pace())).map(|job| job.spot.1).collect()
}

/// Settles a call, and tells since when its record has been failing, if it still does.
fn settle(backlog: &mut Backlog, record: &str, answer: Answer, now: i64) -> Option<i64> {
    let lane = read(0, record).record.key;
    backlog.settle(&lane, answer, now, &pace(), u64::MAX);
    backlog.lanes.get(&lane)?.tries.since
}

const FAILED: Answer = Answer::Failed { wait: 0 };

#[test]
fn one_change_of_a_record_is_under_way_and_other_records_go_on() {
    let mut b = backlog();
    for (offset, record) in [(0, "a"), (1, "a"), (2, "b"), (3, "a")] {
        take(&mut b, offset, record);
    }
    assert_eq!(sent(&mut b, 0), [0, 2]);
    assert_eq!(settle(&mut b, "a", FAILED, SECOND), Some(SECOND));
    assert_eq!(settle(&mut b, "b", Answer::Taken, SECOND), None);
    assert_eq!(sent(&mut b, SECOND), Vec::<u64>::new(), "the later changes of the record wait for the first");
    assert_eq!(b.wake(&pace()), Some(6 * SECOND));
    assert_eq!(sent(&mut b, 6 * SECOND), [0]);
    settle(&mut b, "a", Answer::Taken, 7 * SECOND);
    assert_eq!(sent(&mut b, 7 * SECOND), [1]);
    assert_eq!((b.waiting(), b.open()), (2, 1));
}

#[test]
fn retries_grow_up_to_the_longest_pause_and_honour_what_was_asked_for() {
    let mut b = backlog();
    take(&mut b, 0, "a");
    let mut now = 0;
    for seconds in [5, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600, 3_600] {
        assert_eq!(sent(&mut b, now), [0]);
        settle(&mut b, "a", FAILED, now);
        assert_eq!(b.wake(&pace()), Some(now + seconds * SECOND));
        now += seconds * SECOND;
    }
    assert_eq!(sent(&mut b, now), [0]);
    assert_eq!(settle(&mut b, "a", Answer::Failed { wait: 9_000 * SECOND }, now), Some(0), "failing since the first");
    assert_eq!(b.wake(&pace()), Some(now + 9_000 * SECOND));
}

#[test]
fn an_endpoint_in_trouble_gets_one_call_at_a_time_and_everything_at_once_when_it_is_well() {
    let mut b = backlog();
    for (offset, record) in (0..).zip(["a", "b", "c", "d", "e", "f"]) {
        take(&mut b, offset, record);
    }
    assert_eq!(sent(&mut b, 0), [0, 1, 2, 3]);
    for record in ["a", "b", "c", "d"] {
        settle(&mut b, record, FAILED, 0);
    }
    assert_eq!(sent(&mut b, SECOND), Vec::<u64>::new(), "doubted: a pause before the next call");
    assert_eq!(b.wake(&pace()), Some(2 * SECOND));
    assert_eq!(sent(&mut b, 2 * SECOND), [4], "one call only");
    settle(&mut b, "e", Answer::Taken, 2 * SECOND);
    assert_eq!(sent(&mut b, 2 * SECOND), [5, 0, 1, 2], "all of them are due, four at a time");
}

#[test]
fn reading_stops_when_too_much_waits() {
    let mut b = backlog();
    let small = Pace { waiting: 3, ..pace() };
    for offset in 0..3 {
        assert_eq!(b.room(&small), 3 - usize::try_from(offset).unwrap());
        take(&mut b, offset, "a");
    }
    assert_eq!(b.room(&small), 0);
    assert_eq!(b.room(&Pace { waiting_bytes: 31, ..pace() }), 97);
    assert_eq!(b.room(&Pace { waiting_bytes: 30, ..pace() }), 0);
}

#[test]
fn after_a_restart_only_what_waited_is_delivered_again() {
    let mut b = backlog();
    for (offset, record) in [(0, "a"), (1, "b"), (2, "a"), (3, "c")] {
        take(&mut b, offset, record);
    }
    sent(&mut b, 0);
    settle(&mut b, "a", FAILED, SECOND);
    settle(&mut b, "b", Answer::Taken, SECOND);
    let memo = Memo { read: b.read(), pending: b.pending(), ..Memo::default() };
    let memo = Memo::decode(&memo.encode().unwrap()).unwrap();
    assert_eq!(memo.read, [4, 4]);

    let mut after = Backlog::resume(&memo, true);
    assert_eq!(after.cursor().to_string(), "0");
    assert_eq!((after.waiting(), after.pending()), (3, b.pending()), "nothing is forgotten before it is read again");
    for (offset, record) in [(0, "a"), (1, "b"), (2, "a"), (3, "c"), (4, "b")] {
        take(&mut after, offset, record);
    }
    assert_eq!(sent(&mut after, 2 * SECOND), [3, 4], "the failed one keeps its pause");
    assert_eq!(sent(&mut after, 6 * SECOND), [0]);
    assert_eq!(settle(&mut after, "a", FAILED, 6 * SECOND), Some(SECOND), "and since when it fails");
}

#[test]
fn what_the_stream_dropped_is_given_up_and_told() {
    let memo = Memo {
        read: vec![10, 10],
        pending: vec![
            Pending { spot: (0, 2), tries: Tries::default() },
            Pending { spot: (1, 7), tries: Tries::default() },
        ],
        ..Memo::default()
    };
    let mut b = Backlog::resume(&memo, false);
    let starts = [Position { partition: 0, offset: 6 }, Position { partition: 1, offset: 7 }];
    assert_eq!(b.overtake(&starts, 5), Some(Overtaken { at: 5, partitions: 1, offsets: 4 }));
    assert_eq!(b.waiting(), 1);
    assert_eq!(b.cursor().to_string(), "6.7");
    assert_eq!(b.overtake(&starts, 6), None);
}

#[test]
fn of_a_stream_that_was_replaced_only_the_calls_under_way_are_left_and_none_is_taken_for_one_of_the_new_stream() {
    let mut b = backlog();
    for (offset, record) in [(100, "a"), (101, "b"), (102, "a")] {
        take(&mut b, offset, record);
    }
    sent(&mut b, 0);
    settle(&mut b, "b", FAILED, 0);
    let start = Cursor::new(&[], 2, true);
    assert_eq!(b.replace(start.clone(), 9), Replaced { at: 9, waited: 2 });
    assert_eq!((b.cursor(), b.pending(), b.read()), (&start, vec![], vec![0, 0]), "nothing that the new one holds");
    assert_eq!((b.waiting(), b.open(), b.bytes), (1, 1, 10));
    for (offset, record) in [(0, "a"), (1, "b")] {
        take(&mut b, offset, record);
    }
    assert_eq!(sent(&mut b, SECOND), [1], "the record of the call under way has only that one");
    settle(&mut b, "a", Answer::Taken, SECOND);
    assert_eq!(sent(&mut b, SECOND), [0], "its answer took the old change and not the new one");
    assert_eq!(b.pending().iter().map(|p| p.spot).collect::<Vec<_>>(), [(0, 0), (1, 1)]);

    let memo = Memo { read: b.read(), pending: b.pending(), ..Memo::default() };
    let mut after = Backlog::resume(&memo, true);
    assert_eq!(after.replace(start, 10), Replaced { at: 10, waited: 2 });
    assert_eq!((after.waiting(), after.read()), (0, vec![0, 0]));
}

#[test]
fn forgiven_changes_are_tried_at_once_and_counted_anew() {
    let mut b = backlog();
    take(&mut b, 0, "a");
    sent(&mut b, 0);
    settle(&mut b, "a", Answer::Failed { wait: 1_000 * SECOND }, 0);
    b.forgive(SECOND);
    assert_eq!(b.failing_since(), None);
    assert_eq!(sent(&mut b, SECOND), [0]);
}

#[test]
fn memos_of_another_version_are_not_guessed_at() {
    let mut bytes = Memo::default().encode().unwrap();
    assert!(Memo::decode(&bytes).is_ok());
    bytes[0] = 9;
    assert!(Memo::decode(&bytes).is_err());
    assert!(Memo::decode(&[]).is_err());
}

#[test]
fn memos_from_before_places_had_a_topic_are_still_read() {
    // One change at offset 2 of partition 1 waits, which was tried once at 1 s and is due at 6 s.
    let kept = [1, 2, 10, 11, 1, 1, 2, 1, 1, 128, 137, 122, 128, 182, 220, 5, 7, 0, 0];
    let tries = Tries { attempts: 1, since: Some(SECOND), due: 6 * SECOND };
    let pending = vec![Pending { spot: (1, 2), tries }];
    let expected = Memo { read: vec![10, 11], pending, delivered: 7, ..Memo::default() };
    assert_eq!(Memo::decode(&kept).unwrap(), expected);
    let now = Memo { topic: Some("topic".to_owned()), ..expected };
    assert_eq!(Memo::decode(&now.encode().unwrap()).unwrap(), now);
}

proptest! {
    /// Whatever the answers and wherever the process dies, each record's changes are taken in order, none is left out,
    /// and only what was not settled before a death is sent twice.
    #[test]
    fn any_fate_delivers_all_in_order(
        records in prop::collection::vec(0..4_u8, 1..40),
        fates in prop::collection::vec(0..4_u8, 1..200),
    ) {
        let log: Vec<Delivered> = (0..).zip(&records).map(|(offset, r)| read(offset, &r.to_string())).collect();
        let (mut b, mut now, mut memo) = (backlog(), 0, Memo { read: vec![0, 0], ..Memo::default() });
        let mut got: HashMap<String, Vec<u64>> = HashMap::new();
        let mut fates = fates.into_iter().chain(std::iter::repeat(0));
        let mut steps = 0;
        while !(b.waiting() == 0 && b.read().iter().max() == Some(&(log.len() as u64))) {
            steps += 1;
            prop_assert!(steps < 10_000, "it goes on for ever");
            // As a source reads: the first record that no partition's position is past.
            let from = b.cursor().positions();
            let unread = log.iter().find(|d| from[d.partition as usize].offset <= d.offset);
            if let Some(delivered) = unread.filter(|_| b.waiting < 8) {
                b.take(delivered, true, || Bytes::from_static(b"x"));
            }
            while let Some(job) = b.next(now, &pace()) {
                let (record, fate) = (job.lane.clone(), fates.next().unwrap());
                if fate == 3 {
                    b = Backlog::resume(&memo, true);
                    break;
                }
                if fate == 0 {
                    got.entry(record.clone()).or_default().push(job.spot.1);
                }
                let answer = if fate == 0 { Answer::Taken } else { FAILED };
                b.settle(&record, answer, now, &pace(), 7);
                memo = Memo { read: b.read(), pending: b.pending(), ..Memo::default() };
            }
            now += 600 * SECOND;
        }
        for delivered in &log {
            let offsets = &got[&delivered.record.key];
            prop_assert!(offsets.is_sorted() && offsets.contains(&delivered.offset), "{offsets:?}");
        }
        prop_assert_eq!(got.values().map(Vec::len).sum::<usize>(), log.len(), "a settled one is never sent again");
    }
}
