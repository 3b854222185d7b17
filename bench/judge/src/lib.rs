//! Judges a run of the whole program from plain logs: what people did, what was posted and answered, what the stream
//! holds, what every CRM took and holds in the end.
//!
//! It depends on no crate of this workspace: a judge that shares code with what it judges shares its mistakes. It knows
//! no rule of the relay either. It recognises a value because every value people make is unique, so each value names
//! the record, the field and the edit it came from, wherever it shows up.
//!
//! ```text
//! lines of JSON → log::Log → book::Book (who made which value) → writes, stream, ends → Report
//! ```
//!
//! | promise | counted as |
//! |---|---|
//! | P1 durable before 2xx | `vanished`: answered with 2xx and not in the stream |
//! | P2 nothing vanishes | `lost`, the difference of the accounting, open work that no question explains |
//! | P3 order | `reordered`: an older value of a member written over a newer one of the same member |
//! | P4 convergence | `differing`: members that end unequal and no question is open about it |
//! | P5 one effect | `duplicated`: a second record, or a value written over itself without a crash to excuse it |
//! | P6 no loops | `looping`: more writes than edits could cause, or writes after the edits have stopped |
//!
//! and beside them `phantom` (a value nobody made, or a change nobody posted), `unaccepted` (an edit that was never
//! taken), and `silent` (a last word that was overwritten before anybody else had it, that nobody had later either, and
//! with no decision to show for it).
//!
//! The surprising thing: what a crash excuses is counted apart and shown, never hidden. So is what was made between the
//! program's last look at a record and its write: where a CRM takes no precondition nobody can know of it. It is excused
//! only where the look is on record and showed something else.

mod book;
mod ends;
mod log;
mod report;
mod stream;
mod writes;

pub use report::{Finding, Report};

use book::Book;
use log::Log;

/// Why a run cannot be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {} of the log: {}", self.line, self.why)
    }
}

impl std::error::Error for Unreadable {}

/// Judges the lines of a run.
///
/// # Errors
/// When a line is not one of those that [`crate`] reads: a judgement over half a log is worth nothing.
pub fn judge(lines: &str) -> Result<Report, Unreadable> {
    let log = Log::read(lines)?;
    let mut report = Report::default();
    let book = Book::open(&log, &mut report);
    stream::judge(&log, &book, &mut report);
    let holders = writes::judge(&log, &book, &mut report);
    ends::judge(&log, &book, &holders, &writes::swallowed(&log, &book), &mut report);
    Ok(report)
}

#[cfg(test)]
mod tests;
