//! Who made which value: the edits, by the value they made, and the records that belong together.
//!
//! An *entity* is named by the record in which people made its first value. The surprising thing: a value that two edits
//! made is refused by the judge, because nothing could be told of it afterwards.

use std::collections::{BTreeMap, HashMap};

use crate::log::Log;
use crate::report::Report;

/// A record in one system.
pub(crate) type Record = (String, String);

/// Knows every value.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// By number of the field's pair and value: number of the edit.
    values: HashMap<(usize, String), usize>,
    /// By record: the entity it was made for.
    entities: BTreeMap<Record, Record>,
}

impl Book {
    /// Reads the edits.
    pub(crate) fn open(log: &Log, report: &mut Report) -> Self {
        let mut book = Self::default();
        for (number, edit) in log.edits.iter().enumerate() {
            let Some(pair) = log.pair(&edit.system, &edit.field) else {
                report.phantom.push(format!("edit of {}, which is not mapped", edit.field));
                continue;
            };
            if book.values.insert((pair, edit.value.clone()), number).is_some() {
                report.phantom.push(format!("{:?} was made twice", edit.value));
            }
        }
        // People edit records that the relay made, too: those belong to whom their first value came from.
        let mut made: HashMap<Record, usize> = HashMap::new();
        for write in &log.writes {
            if let Some(edit) = write.new.as_deref().and_then(|new| book.edit(log, &write.cell, new)) {
                made.entry((write.cell.0.clone(), write.cell.1.clone())).or_insert(edit);
            }
        }
        for edit in &log.edits {
            let record = (edit.system.clone(), edit.id.clone());
            let origin = made.get(&record).filter(|_| !edit.new).map(|n| &log.edits[*n]);
            let entity = origin.and_then(|o| book.entities.get(&(o.system.clone(), o.id.clone())).cloned());
            book.entities.entry(record.clone()).or_insert_with(|| entity.unwrap_or(record));
        }
        report.edits = log.edits.len() as u64;
        book
    }

    /// The edit that made a value, by the cell it is seen in.
    pub(crate) fn edit(&self, log: &Log, cell: &(String, String, String), value: &str) -> Option<usize> {
        let pair = log.pair(&cell.0, &cell.2)?;
        self.values.get(&(pair, value.to_owned())).copied()
    }

    /// The entity of the record that an edit was made in.
    pub(crate) fn entity(&self, log: &Log, edit: usize) -> Option<&Record> {
        let edit = &log.edits[edit];
        self.entities.get(&(edit.system.clone(), edit.id.clone()))
    }

    /// The entity of a record in which people made something.
    pub(crate) fn entity_of(&self, record: &Record) -> Option<&Record> {
        self.entities.get(record)
    }
}
