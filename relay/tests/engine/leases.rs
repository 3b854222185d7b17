//! What a worker may do that has its state by a lease.

use headgate_schemas::ChangeKind;

use crate::bench::{Bench, SECOND};

/// Others wait for twice the send deadline of 10 s before they read the record.
#[test]
fn a_call_that_waited_for_its_commit_is_not_made_when_it_would_outlive_what_others_are_told() {
    let mut bench = Bench::shared();
    let begun = bench.at(bench.second());
    let call = bench.take(bench.change("7001", ChangeKind::Created, 0, &[])).one();
    let left = call.not_after.unwrap().micros() - begun.micros();
    assert_eq!(left / SECOND, 10);
}
