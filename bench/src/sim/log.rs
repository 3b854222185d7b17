//! What came in over the API: every field of every write, and how often each path was called.
//!
//! A checker reads this log; it must hold what happened and nothing of what anyone thinks about it. The surprising
//! thing: a field written with the value that already stood there is an entry too, because that is how a repeated
//! effect shows.

use std::collections::BTreeMap;
use std::sync::Arc;

use headgate_schemas::Timestamp;

/// One field of one write that came in over the API and was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// When it was applied.
    pub at: Timestamp,
    /// Number of the call: all fields written by one request share it.
    pub call: u64,
    /// Path of the request, without the query.
    pub path: Arc<str>,
    /// Native name of the object, as `contacts` or `Contact`.
    pub object: Arc<str>,
    /// Native id of the record.
    pub id: String,
    /// Native name of the field.
    pub field: Arc<str>,
    /// Value before, as text; `None` when empty.
    pub old: Option<String>,
    /// Value after, as text; `None` when empty.
    pub new: Option<String>,
    /// Whether the write made the record.
    pub created: bool,
    /// Who wrote: the app's id at HubSpot, the client tag at Salesforce.
    pub who: Arc<str>,
}

/// The log of writes and the call counts of one model. Bounded: when full, newer entries are counted, not kept.
#[derive(Debug)]
pub(crate) struct WriteLog {
    entries: Vec<Write>,
    capacity: usize,
    dropped: u64,
    calls: BTreeMap<String, u64>,
}

/// Distinct paths that are counted by name; further ones are counted together as `other`.
const COUNTED_PATHS: usize = 1_000;

impl WriteLog {
    pub(crate) const fn new(capacity: usize) -> Self {
        Self { entries: Vec::new(), capacity, dropped: 0, calls: BTreeMap::new() }
    }

    pub(crate) fn push(&mut self, write: Write) {
        if self.entries.len() < self.capacity {
            self.entries.push(write);
        } else {
            self.dropped += 1;
        }
    }

    /// Entries from position `from` on.
    pub(crate) fn since(&self, from: usize) -> &[Write] {
        self.entries.get(from..).unwrap_or_default()
    }

    pub(crate) const fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(crate) fn count_call(&mut self, label: String) {
        let label =
            if self.calls.len() < COUNTED_PATHS || self.calls.contains_key(&label) { label } else { "other".into() };
        *self.calls.entry(label).or_insert(0) += 1;
    }

    pub(crate) const fn calls(&self) -> &BTreeMap<String, u64> {
        &self.calls
    }
}
