//! The places at which a test can end the process while the log is written, in the order of the steps.

use crate::failpoint::Failpoint;

/// A group was taken from the queue.
pub(super) const TAKEN: Failpoint = Failpoint::new("stream.taken");
/// Its rows are inserted, the transaction is open.
pub(super) const INSERTED: Failpoint = Failpoint::new("stream.inserted");
/// The transaction is durable; nobody was told.
pub(super) const COMMITTED: Failpoint = Failpoint::new("stream.committed");
/// The readers were told, the appends not yet.
pub(super) const SHOWN: Failpoint = Failpoint::new("stream.shown");
/// The appends were answered.
pub(super) const ANSWERED: Failpoint = Failpoint::new("stream.answered");
/// The segment is full and the next one is not made.
pub(super) const FULL: Failpoint = Failpoint::new("stream.full");
/// The next segment is whole under another name.
pub(super) const BUILT: Failpoint = Failpoint::new("stream.built");
/// It has its name; the old one is still written.
pub(super) const NAMED: Failpoint = Failpoint::new("stream.named");
/// The old one is closed, its write-ahead log beside it.
pub(super) const CLOSED: Failpoint = Failpoint::new("stream.closed");
/// Its write-ahead log was moved into the file.
pub(super) const CHECKPOINTED: Failpoint = Failpoint::new("stream.checkpointed");

/// All of them.
pub const STEPS: [Failpoint; 10] =
    [TAKEN, INSERTED, COMMITTED, SHOWN, ANSWERED, FULL, BUILT, NAMED, CLOSED, CHECKPOINTED];
