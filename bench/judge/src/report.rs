//! The judgement and how it is printed.

use std::collections::BTreeMap;
use std::fmt;

/// What is wrong in one place. Values in it are those a test made up.
pub type Finding = String;

/// Findings of a kind that are printed; all are counted.
const PRINTED: usize = 5;

/// The judgement over a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Edits of a field by people.
    pub edits: u64,
    /// Posts of webhooks.
    pub posts: u64,
    /// Events in them, repeats included.
    pub events: u64,
    /// Events answered with 2xx.
    pub accepted: u64,
    /// Changes in the stream.
    pub changes: u64,
    /// Fields written by us.
    pub writes: u64,
    /// Fields of entities looked at in the end.
    pub cells: u64,
    /// Of these, fields about which a question is open.
    pub held: u64,
    /// Questions open in the end.
    pub questions: u64,
    /// Decisions logged.
    pub decisions: u64,
    /// Edits overwritten before any other system had them.
    pub overwritten: u64,
    /// Values of a member written over a newer one of the same member, or over themselves, that a person made there after
    /// the last look at the record.
    pub between: u64,
    /// Crashes by place.
    pub crashes: BTreeMap<String, u64>,
    /// Crashes and cut connections.
    pub excuses: u64,
    /// Values written over themselves after one of these.
    pub repeats: u64,
    /// Older values sent again after one of these.
    pub resent: u64,
    /// P1: taken and not in the stream.
    pub vanished: Vec<Finding>,
    /// P2: nobody's last word stands.
    pub lost: Vec<Finding>,
    /// P2: the accounting does not balance.
    pub books: Vec<Finding>,
    /// P3: an older value of a member over a newer one.
    pub reordered: Vec<Finding>,
    /// P4: members differ and no question is open.
    pub differing: Vec<Finding>,
    /// P5: a second record or effect.
    pub duplicated: Vec<Finding>,
    /// P6: more writes than edits can cause.
    pub looping: Vec<Finding>,
    /// Values and changes nobody made.
    pub phantom: Vec<Finding>,
    /// Edits that were never taken.
    pub unaccepted: Vec<Finding>,
    /// Edits overwritten with nothing to show for it.
    pub silent: Vec<Finding>,
}

impl Report {
    /// Every kind of finding with its name.
    pub fn findings(&self) -> [(&'static str, &[Finding]); 10] {
        [
            ("P1 vanished", &self.vanished),
            ("P2 lost", &self.lost),
            ("P2 books", &self.books),
            ("P3 reordered", &self.reordered),
            ("P4 differing", &self.differing),
            ("P5 duplicated", &self.duplicated),
            ("P6 looping", &self.looping),
            ("phantom", &self.phantom),
            ("unaccepted", &self.unaccepted),
            ("silent", &self.silent),
        ]
    }

    /// Whether nothing at all was found.
    pub fn is_clean(&self) -> bool {
        self.findings().iter().all(|(_, found)| found.is_empty())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "judged: {} edits, {} posts of {} events ({} accepted), {} changes in the stream, {} fields written",
            self.edits, self.posts, self.events, self.accepted, self.changes, self.writes
        )?;
        writeln!(
            f,
            "        {} fields at the end, {} held, {} questions open, {} decisions, {} edits overwritten unseen, {} writes \
             over what was typed between look and write",
            self.cells, self.held, self.questions, self.decisions, self.overwritten, self.between
        )?;
        let crashes: u64 = self.crashes.values().sum();
        writeln!(
            f,
            "        {crashes} crashes, {} connections cut; excused by them: {} repeats, {} older values re-sent",
            self.excuses - crashes.min(self.excuses),
            self.repeats,
            self.resent
        )?;
        let counts: Vec<String> =
            self.findings().iter().map(|(kind, found)| format!("{kind} {}", found.len())).collect();
        writeln!(f, "        {}", counts.join(" · "))?;
        for (kind, found) in self.findings() {
            for finding in found.iter().take(PRINTED) {
                writeln!(f, "  {kind}: {finding}")?;
            }
        }
        Ok(())
    }
}
