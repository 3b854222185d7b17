//! How it ended: every record in every system, equal, and on somebody's last word.
//!
//! Whose last word that must be is the policy's business, not the judge's; but it is always the last word of one of
//! the members, because a member's own later edit supersedes its earlier ones; and the later one when the other was
//! everywhere before it was made. A word that was written over before anybody could hear it does not count.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::book::{Book, Record};
use crate::log::Log;
use crate::report::Report;
use crate::writes::Holders;

pub(crate) fn judge(log: &Log, book: &Book, holders: &Holders, swallowed: &HashSet<usize>, report: &mut Report) {
    report.excuses = log.excuses.len() as u64;
    report.crashes = log.crashes.clone();
    report.decisions = log.decisions.len() as u64;
    report.questions = log.open.len() as u64;
    let stands: HashMap<Record, &BTreeMap<String, String>> =
        log.stands.iter().map(|shown| ((shown.system.clone(), shown.id.clone()), &shown.fields)).collect();
    let systems: BTreeSet<&String> = log.pairs.iter().flat_map(BTreeMap::keys).collect();
    let mut last: BTreeMap<(&Record, usize), BTreeMap<&str, usize>> = BTreeMap::new();
    for (number, edit) in log.edits.iter().enumerate().filter(|(number, _)| !swallowed.contains(number)) {
        let pair = log.pair(&edit.system, &edit.field);
        if let (Some(entity), Some(pair)) = (book.entity(log, number), pair) {
            last.entry((entity, pair)).or_default().insert(&edit.system, number);
        }
    }
    for ((entity, pair), last) in last {
        let names = &log.pairs[pair];
        let mut ends: BTreeMap<&str, Option<&String>> = BTreeMap::new();
        for system in &systems {
            let id = holders.get(&(entity.clone(), (*system).clone()));
            let record = id.and_then(|id| stands.get(&((*system).clone(), id.clone())));
            ends.insert(system, record.and_then(|fields| fields.get(names.get(*system)?)));
        }
        let ids: BTreeSet<&String> =
            systems.iter().filter_map(|s| holders.get(&(entity.clone(), (*s).clone()))).collect();
        let open = log.open.iter().any(|(_, id, field)| ids.contains(id) && names.values().any(|name| name == field));
        let values: BTreeSet<Option<&String>> = ends.values().copied().collect();
        let words = words(log, &last);
        report.cells += 1;
        if open {
            report.held += 1;
        } else if values.len() != 1 {
            report.differing.push(format!("{}/{} field {names:?}: {ends:?}", entity.0, entity.1));
        } else if !values.is_subset(&words) {
            report.lost.push(format!("{}/{} {names:?}: ends on {values:?}, last words {words:?}", entity.0, entity.1));
        }
    }
    accounting(log, report);
}

/// What the field may end on: each member's last word, or the latest of them when they lie so far apart that everybody
/// had the earlier ones by then.
fn words<'a>(log: &'a Log, last: &BTreeMap<&str, usize>) -> BTreeSet<Option<&'a String>> {
    let latest = last.values().map(|n| log.edits[*n].at).max().unwrap_or(0);
    let apart = log.apart.unwrap_or(i64::MAX);
    let recent = last.values().filter(|n| latest - log.edits[**n].at <= apart);
    recent.map(|n| Some(&log.edits[*n].value)).collect()
}

fn accounting(log: &Log, report: &mut Report) {
    let Some((open, held, difference)) = log.accounting else {
        report.books.push("the accounting was not read".to_owned());
        return;
    };
    if difference != 0 {
        report.books.push(format!("due = closed + open does not hold: {difference}"));
    }
    if open != held {
        report.books.push(format!("{open} deliveries are open, {held} of them held"));
    }
    if held > 0 && log.open.is_empty() {
        report.books.push(format!("{held} deliveries are held and no question is open"));
    }
}
