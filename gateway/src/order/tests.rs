//! The sequencer by table and by random schedules.

use proptest::prelude::*;

use super::*;

const WINDOW: Duration = Duration::from_millis(50);

fn offered(orders: &[u32]) -> Vec<Offered<u32>> {
    orders.iter().map(|n| Offered { order: Some(format!("{n:05}").into()), item: *n }).collect()
}

fn plain(out: &[Released<u32>]) -> Vec<(u32, bool)> {
    out.iter().map(|r| (r.item, r.late)).collect()
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Offers by time in milliseconds; answers what came out, and when, with time-outs handled to the millisecond.
fn run(offers: &[(u64, &'static str, &[u32])]) -> Vec<(u64, u32, bool)> {
    let start = Instant::now();
    let mut sequencer = Sequencer::new(WINDOW, 100, 100);
    let mut log = Vec::new();
    for at in 0..=offers.last().map_or(0, |o| o.0) + 200 {
        let now = start + ms(at);
        let mut out = Vec::new();
        sequencer.handle_timeout(now, &mut out);
        for (_, key, orders) in offers.iter().filter(|o| o.0 == at) {
            sequencer.offer(now, *key, offered(orders), &mut out);
        }
        log.extend(out.into_iter().map(|r| (at, r.item, r.late)));
    }
    assert_eq!(sequencer.held(), 0);
    log
}

#[test]
fn schedules_come_out_as_expected() {
    type Offers = &'static [(u64, &'static str, &'static [u32])];
    type Out = &'static [(u64, u32, bool)];
    let table: [(&str, Offers, Out); 9] = [
        ("idle: at once", &[(0, "a", &[1])], &[(0, 1, false)]),
        ("one request is sorted", &[(0, "a", &[3, 1, 2])], &[(0, 1, false), (0, 2, false), (0, 3, false)]),
        ("busy: held", &[(0, "a", &[1]), (10, "a", &[2])], &[(0, 1, false), (60, 2, false)]),
        (
            "a straggler finds its place",
            &[(0, "a", &[1]), (10, "a", &[3]), (20, "a", &[2])],
            &[(0, 1, false), (60, 2, false), (60, 3, false)],
        ),
        (
            "a newer one waits its own time",
            &[(0, "a", &[1]), (10, "a", &[2]), (20, "a", &[3])],
            &[(0, 1, false), (60, 2, false), (70, 3, false)],
        ),
        ("older than what is out: late, at once", &[(0, "a", &[5]), (10, "a", &[4])], &[(0, 5, false), (10, 4, true)]),
        ("older after long: late, at once", &[(0, "a", &[5]), (90, "a", &[4])], &[(0, 5, false), (90, 4, true)]),
        ("idle again: at once", &[(0, "a", &[1]), (50, "a", &[2])], &[(0, 1, false), (50, 2, false)]),
        ("records do not wait for each other", &[(0, "a", &[9]), (1, "b", &[1])], &[(0, 9, false), (1, 1, false)]),
    ];
    for (name, offers, expected) in table {
        assert_eq!(run(offers), expected, "{name}");
    }
}

#[test]
fn a_full_sequencer_releases_at_once_and_in_order() {
    let now = Instant::now();
    let mut sequencer = Sequencer::new(WINDOW, 2, 100);
    let mut out = Vec::new();
    sequencer.offer(now, "a", offered(&[1]), &mut out);
    sequencer.offer(now, "a", offered(&[4]), &mut out);
    sequencer.offer(now, "a", offered(&[2]), &mut out);
    assert_eq!(plain(&out), [(1, false)]);
    sequencer.offer(now, "a", offered(&[5, 3]), &mut out);
    assert_eq!(plain(&out[1..]), [(2, false), (3, false), (4, false), (5, false)]);
    assert_eq!(sequencer.held(), 0);
}

#[test]
fn what_has_no_order_never_waits_and_is_never_late() {
    let now = Instant::now();
    let mut sequencer = Sequencer::new(WINDOW, 10, 100);
    let mut out = Vec::new();
    sequencer.offer(now, "a", offered(&[5]), &mut out);
    sequencer.offer(now, "a", vec![Offered { order: None, item: 0 }], &mut out);
    assert_eq!(plain(&out), [(5, false), (0, false)]);
}

#[test]
fn closing_releases_everything_and_holds_nothing_more() {
    let now = Instant::now();
    let mut sequencer = Sequencer::new(WINDOW, 10, 100);
    let mut out = Vec::new();
    for n in [1, 3, 2] {
        sequencer.offer(now, "a", offered(&[n]), &mut out);
    }
    sequencer.close(now, &mut out);
    sequencer.offer(now, "a", offered(&[4]), &mut out);
    assert_eq!(plain(&out), [(1, false), (2, false), (3, false), (4, false)]);
    assert_eq!((sequencer.held(), sequencer.poll_timeout()), (0, None));
}

#[test]
fn records_are_remembered_up_to_the_limit() {
    let now = Instant::now();
    let mut sequencer = Sequencer::new(WINDOW, 10, 10);
    let mut out = Vec::new();
    for record in 0..1_000 {
        sequencer.offer(now, record, offered(&[5]), &mut out);
    }
    assert!(sequencer.last.young.len() + sequencer.last.old.len() <= 10);
}

proptest! {
    #[test]
    fn any_schedule_is_released_once_in_order_or_late_within_the_window(
        offers in prop::collection::vec((0_u64..40, 0_usize..3, prop::collection::vec(0_u32..20, 1..5)), 1..60),
        held_limit in 1_usize..20,
    ) {
        let start = Instant::now();
        let mut sequencer = Sequencer::new(WINDOW, held_limit, 1_000);
        let mut expected = Vec::new();
        let mut seen: Vec<(usize, u32, u64, bool)> = Vec::new();
        let mut clock = 0;
        let mut number = 0_u64;
        for (gap, key, orders) in offers {
            let next = clock + gap;
            let mut out = Vec::new();
            while let Some(at) = sequencer.poll_timeout().filter(|at| *at <= start + ms(next)) {
                sequencer.handle_timeout(at, &mut out);
            }
            clock = next;
            let items = orders.iter().map(|n| {
                number += 1;
                expected.push(number);
                Offered { order: Some(format!("{n:05}").into()), item: (key, *n, number) }
            }).collect();
            sequencer.offer(start + ms(clock), key, items, &mut out);
            prop_assert!(sequencer.held() <= held_limit);
            for released in &out {
                prop_assert!(released.waited <= WINDOW);
            }
            seen.extend(out.into_iter().map(|r| (r.item.0, r.item.1, r.item.2, r.late)));
        }
        let mut out = Vec::new();
        while let Some(at) = sequencer.poll_timeout() {
            sequencer.handle_timeout(at, &mut out);
        }
        prop_assert!(out.iter().all(|r| r.waited <= WINDOW));
        seen.extend(out.into_iter().map(|r| (r.item.0, r.item.1, r.item.2, r.late)));
        for key in 0..3 {
            let mut newest = 0;
            for (_, order, _, late) in seen.iter().filter(|s| s.0 == key) {
                prop_assert_eq!(*late, *order < newest, "late means exactly: a newer one went out before");
                newest = newest.max(*order);
            }
        }
        let mut numbers: Vec<u64> = seen.iter().map(|s| s.2).collect();
        numbers.sort_unstable();
        prop_assert_eq!(numbers, expected, "each exactly once");
    }
}
