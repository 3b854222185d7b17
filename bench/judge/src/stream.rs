//! What was posted against what the stream holds: P1, and changes that nobody posted.
//!
//! An event is found in the stream when a change of its record carries every field the event carried, with the same
//! values. A creation without values is found by its record alone.

use std::collections::{HashMap, HashSet};

use crate::book::{Book, Record};
use crate::log::{Log, Shown};
use crate::report::Report;

pub(crate) fn judge(log: &Log, book: &Book, report: &mut Report) {
    report.posts = log.posts;
    report.changes = log.changes.len() as u64;
    let held = by_record(log.changes.iter());
    let mut taken: HashMap<Record, Vec<&Shown>> = HashMap::new();
    for (event, accepted) in &log.events {
        report.events += 1;
        if !accepted {
            continue;
        }
        report.accepted += 1;
        taken.entry(record(event)).or_default().push(event);
        if !held.get(&record(event)).is_some_and(|changes| changes.iter().any(|change| covers(change, event))) {
            report.vanished.push(format!("{}/{} {:?}", event.system, event.id, event.fields));
        }
    }
    let posted: HashSet<Record> = log.events.iter().map(|(event, _)| record(event)).collect();
    for change in log.changes.iter().filter(|change| !posted.contains(&record(change))) {
        report.phantom.push(format!("a change of {}/{}, which nobody posted", change.system, change.id));
    }
    unaccepted(log, book, &taken, report);
}

fn by_record<'a>(all: impl Iterator<Item = &'a Shown>) -> HashMap<Record, Vec<&'a Shown>> {
    let mut by = HashMap::<Record, Vec<&Shown>>::new();
    all.for_each(|shown| by.entry(record(shown)).or_default().push(shown));
    by
}

fn record(shown: &Shown) -> Record {
    (shown.system.clone(), shown.id.clone())
}

/// Whether a change carries what an event carried.
fn covers(change: &Shown, event: &Shown) -> bool {
    event.fields.iter().all(|(name, value)| change.fields.get(name) == Some(value))
}

/// Edits of which nothing was ever taken. A system that tells states tells an edit by any state that has its value or a
/// later one; one that makes records without values tells a creation by the record.
fn unaccepted(log: &Log, book: &Book, taken: &HashMap<Record, Vec<&Shown>>, report: &mut Report) {
    let newest = |shown: &Shown, field: &str| {
        let cell = (shown.system.clone(), shown.id.clone(), field.to_owned());
        shown.fields.get(field).and_then(|value| book.edit(log, &cell, value))
    };
    for (number, edit) in log.edits.iter().enumerate() {
        let events = taken.get(&(edit.system.clone(), edit.id.clone()));
        let told = events.is_some_and(|events| {
            events.iter().any(|event| match newest(event, &edit.field) {
                Some(newest) => newest == number || (event.state && newest > number),
                None => edit.new && event.fields.is_empty(),
            })
        });
        if !told && !overwritten(log, edit) {
            report.unaccepted.push(format!("{}/{} {} = {:?}", edit.system, edit.id, edit.field, edit.value));
        }
    }
}

/// Whether a write replaced the edit before it could be told: a state at delivery does not show it any more.
fn overwritten(log: &Log, edit: &crate::log::Edit) -> bool {
    log.writes.iter().any(|w| {
        w.old.as_ref() == Some(&edit.value) && w.cell == (edit.system.clone(), edit.id.clone(), edit.field.clone())
    })
}
