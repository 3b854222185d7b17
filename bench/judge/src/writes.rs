//! Every write of ours, one after the other: phantoms, duplicates, order, loops, and edits overwritten in silence.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::book::{Book, Record};
use crate::log::{Cell, Log, Shown, Write};
use crate::report::Report;

/// The record of each entity in each system.
pub(crate) type Holders = BTreeMap<(Record, String), String>;

/// What is known of a cell while its writes go by.
#[derive(Debug, Default)]
struct CellState {
    /// When a value was written last, by edit.
    written: HashMap<usize, i64>,
    /// The newest edit of each system that stood here by our hand.
    newest: HashMap<String, usize>,
    /// When it was written last.
    last: i64,
    writes: u64,
    /// Writes that a crash excuses.
    excused: u64,
}

/// What the program read of each record, in the order of time.
struct Looks<'a>(HashMap<Record, Vec<(i64, &'a Shown)>>);

impl<'a> Looks<'a> {
    fn of(log: &'a Log) -> Self {
        let mut looks = HashMap::<Record, Vec<_>>::new();
        for (at, shown) in &log.looks {
            looks.entry((shown.system.clone(), shown.id.clone())).or_default().push((*at, shown));
        }
        Self(looks)
    }

    /// Whether the last look before a write showed something else than what it replaced.
    fn is_unseen(&self, write: &Write) -> bool {
        let (system, id, field) = &write.cell;
        let looks = self.0.get(&(system.clone(), id.clone())).map_or(&[][..], Vec::as_slice);
        let before = &looks[..looks.partition_point(|(at, _)| *at < write.at)];
        before.last().is_some_and(|(_, shown)| shown.fields.get(field) != write.old.as_ref())
    }
}

/// Edits that a write replaced unseen and that no event ever told: nobody but their authors can know of them.
pub(crate) fn swallowed(log: &Log, book: &Book) -> HashSet<usize> {
    let looks = Looks::of(log);
    let told: HashSet<(&String, &String, &String, &String)> = log
        .events
        .iter()
        .filter(|(_, taken)| *taken)
        .flat_map(|(event, _)| event.fields.iter().map(|(name, value)| (&event.system, &event.id, name, value)))
        .collect();
    let edits = log.writes.iter().filter(|write| looks.is_unseen(write)).filter_map(|write| {
        let (system, id, field) = &write.cell;
        let old = write.old.as_ref().filter(|old| !told.contains(&(system, id, field, *old)))?;
        book.edit(log, &write.cell, old)
    });
    edits.collect()
}

struct Judge<'a> {
    log: &'a Log,
    looks: Looks<'a>,
    book: &'a Book,
    cells: HashMap<Cell, CellState>,
    entities: HashMap<Record, Record>,
    holders: Holders,
    surplus: HashSet<Record>,
}

/// Goes through the writes; answers which record holds which entity.
pub(crate) fn judge(log: &Log, book: &Book, report: &mut Report) -> Holders {
    let mut judge = Judge {
        log,
        looks: Looks::of(log),
        book,
        cells: HashMap::new(),
        entities: HashMap::new(),
        holders: Holders::new(),
        surplus: HashSet::new(),
    };
    for edit in &log.edits {
        let record = (edit.system.clone(), edit.id.clone());
        if let Some(entity) = book.entity_of(&record) {
            judge.holds(record, entity.clone(), report);
        }
    }
    for write in &log.writes {
        if log.pair(&write.cell.0, &write.cell.2).is_some() {
            judge.write(write, report);
        }
    }
    judge.loops(report);
    judge.silence(report);
    judge.holders
}

impl Judge<'_> {
    fn holds(&mut self, record: Record, entity: Record, report: &mut Report) -> bool {
        self.entities.entry(record.clone()).or_insert_with(|| entity.clone());
        let holder = self.holders.entry((entity, record.0.clone())).or_insert_with(|| record.1.clone());
        if *holder == record.1 {
            return true;
        }
        if self.surplus.insert(record.clone()) {
            report.duplicated.push(format!("{}/{} stands for what {holder} holds already", record.0, record.1));
        }
        false
    }

    fn write(&mut self, write: &Write, report: &mut Report) {
        report.writes += 1;
        let (system, id, field) = &write.cell;
        let record = (system.clone(), id.clone());
        let place = format!("{system}/{id} {field} = {:?}", write.new);
        let Some(edit) = write.new.as_deref().and_then(|new| self.book.edit(self.log, &write.cell, new)) else {
            report.phantom.push(place);
            return;
        };
        let Some(entity) = self.book.entity(self.log, edit).cloned() else { return };
        if self.entities.get(&record).is_some_and(|known| *known != entity) {
            report.phantom.push(format!("{place}, which belongs to {}/{}", entity.0, entity.1));
            return;
        }
        if !self.holds(record, entity, report) {
            return;
        }
        let by = self.log.edits[edit].system.clone();
        let replaced = write.old.as_deref().and_then(|old| self.book.edit(self.log, &write.cell, old));
        let over_newer = replaced.is_some_and(|over| over > edit && self.log.edits[over].system == by);
        let repeated = write.old == write.new;
        let unseen = (over_newer || repeated) && self.looks.is_unseen(write);
        let state = self.cells.entry(write.cell.clone()).or_default();
        state.writes += 1;
        let before = state.written.insert(edit, write.at);
        let since = std::mem::replace(&mut state.last, write.at);
        // What a person had put there since the last look, and not we.
        let typed = repeated && before.is_none() && by == *system;
        let between = unseen && (over_newer || typed);
        report.between += u64::from(between);
        let repeated = repeated && !(between && typed);
        // Newer ones of the same member: what we wrote here, and what stood here whoever put it there.
        let newest = state.newest.get(&by).copied();
        let older = (over_newer && !between) || newest.is_some_and(|newest| newest > edit);
        // Only what was sent before may be sent again, and only when an answer can have been lost since.
        let excused = before.is_some_and(|at| self.log.excused(at, write.at));
        if repeated || older {
            match (excused, older) {
                (true, true) => report.resent += 1,
                (true, false) => report.repeats += 1,
                (false, true) => report.reordered.push(format!("{place}, over a newer one of {by}")),
                (false, false) => report.duplicated.push(format!("{place}, which stood there since {since}")),
            }
            state.excused += u64::from(excused);
        }
        state.newest.entry(by).and_modify(|n| *n = (*n).max(edit)).or_insert(edit);
    }

    /// One edit causes at most one write in each system.
    fn loops(&self, report: &mut Report) {
        let mut edits: HashMap<(Record, usize), u64> = HashMap::new();
        for (number, edit) in self.log.edits.iter().enumerate() {
            let pair = self.log.pair(&edit.system, &edit.field);
            if let (Some(pair), Some(entity)) = (pair, self.book.entity(self.log, number)) {
                *edits.entry((entity.clone(), pair)).or_default() += 1;
            }
        }
        for (cell, state) in &self.cells {
            let pair = self.log.pair(&cell.0, &cell.2);
            let entity = self.entities.get(&(cell.0.clone(), cell.1.clone()));
            let caused = pair.zip(entity).and_then(|(pair, entity)| edits.get(&(entity.clone(), pair))).copied();
            let most = caused.unwrap_or(0) + state.excused;
            if state.writes > most {
                report.looping.push(format!("{cell:?}: {} writes for {most} edits", state.writes));
            }
        }
        let Some(quiet) = self.log.quiet else { return };
        let late = self.log.writes.iter().filter(|w| w.at > quiet);
        report.looping.extend(late.map(|w| format!("{:?} was written after all was quiet", w.cell)));
    }

    /// An edit that a write of ours replaced before any other system had it: somebody must be able to see that, unless it
    /// came to the others after all.
    fn silence(&self, report: &mut Report) {
        let mut elsewhere: HashSet<usize> = HashSet::new();
        let heard: HashSet<usize> = self.log.writes.iter().filter_map(|write| self.carried(write)).collect();
        for write in &self.log.writes {
            let old = write.old.as_deref().and_then(|old| self.book.edit(self.log, &write.cell, old));
            if let Some(edit) = old.filter(|_| write.old != write.new) {
                let here = &self.log.edits[edit];
                let by_people = (&here.system, &here.id) == (&write.cell.0, &write.cell.1);
                // Whoever edits again takes back what he had typed before.
                let superseded = self.log.edits[edit + 1..]
                    .iter()
                    .any(|later| (&later.system, &later.id, &later.field) == (&here.system, &here.id, &here.field));
                if by_people && !superseded && !elsewhere.contains(&edit) {
                    self.overwritten(write, heard.contains(&edit), report);
                }
            }
            if let Some(new) = write.new.as_deref().and_then(|new| self.book.edit(self.log, &write.cell, new)) {
                elsewhere.insert(new);
            }
        }
    }

    /// The edit of another system that a write brought.
    fn carried(&self, write: &Write) -> Option<usize> {
        let edit = self.book.edit(self.log, &write.cell, write.new.as_deref()?)?;
        (self.log.edits[edit].system != write.cell.0).then_some(edit)
    }

    fn overwritten(&self, write: &Write, is_heard: bool, report: &mut Report) {
        report.overwritten += 1;
        let (system, id, field) = &write.cell;
        let names: Vec<&String> =
            self.log.pair(system, field).map_or_else(Vec::new, |p| self.log.pairs[p].values().collect());
        let decided = self.log.decisions.iter().any(|d| {
            d.ids.contains(id)
                && names.contains(&&d.field)
                && write.old.as_ref().is_some_and(|old| d.values.contains(old))
        });
        let open = self.log.open.iter().any(|(s, i, f)| s == system && i == id && names.contains(&f));
        if !decided && !open && !is_heard {
            report.silent.push(format!("{system}/{id} {field}: {:?} replaced by {:?}", write.old, write.new));
        }
    }
}
