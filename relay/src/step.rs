//! The places at which a test can end the relay, in the order of its steps.

use headgate_schemas::failpoint::Failpoint;

/// What an earlier process left was looked at; nothing of it is committed.
pub(crate) const RECOVERING: Failpoint = Failpoint::new("relay.recovering");
/// Open intents of an earlier process are unknown outcomes, durably.
pub(crate) const RECOVERED: Failpoint = Failpoint::new("relay.recovered");
/// Records were read from the stream and given to nobody.
pub(crate) const READ: Failpoint = Failpoint::new("relay.read");
/// Answers and records are gathered for a tick.
pub(crate) const GATHERED: Failpoint = Failpoint::new("relay.gathered");
/// Answers are settled, not committed.
pub(crate) const SETTLED: Failpoint = Failpoint::new("relay.settled");
/// Changes are folded, not committed.
pub(crate) const FOLDED: Failpoint = Failpoint::new("relay.folded");
/// Intents are opened, not committed.
pub(crate) const OPENED: Failpoint = Failpoint::new("relay.opened");
/// The tick's rows are written, its transaction is open.
pub(crate) const WRITTEN: Failpoint = Failpoint::new("relay.written");
/// The tick is durable and no call of it was made.
pub(crate) const COMMITTED: Failpoint = Failpoint::new("relay.committed");
/// A tick that settled answers is durable.
pub(crate) const SETTLEMENT_COMMITTED: Failpoint = Failpoint::new("relay.settlement_committed");
/// A read is about to be made.
pub(crate) const BEFORE_READ: Failpoint = Failpoint::new("relay.before_read");
/// A read was answered; the engine does not know.
pub(crate) const AFTER_READ: Failpoint = Failpoint::new("relay.after_read");
/// A write is about to be made.
pub(crate) const BEFORE_WRITE: Failpoint = Failpoint::new("relay.before_write");
/// A write was answered; the engine does not know.
pub(crate) const AFTER_WRITE: Failpoint = Failpoint::new("relay.after_write");
/// A provider gave tokens, and ended the refresh token before them; nothing of it is durable.
pub(crate) const LOGIN_GIVEN: Failpoint = Failpoint::new("relay.login_given");
/// Tokens are durable, and no call was made with them.
pub(crate) const LOGIN_KEPT: Failpoint = Failpoint::new("relay.login_kept");

/// All of them. The last two are met only where a connection has a login.
pub const STEPS: [Failpoint; 16] = [
    RECOVERING,
    RECOVERED,
    READ,
    GATHERED,
    SETTLED,
    FOLDED,
    OPENED,
    WRITTEN,
    COMMITTED,
    SETTLEMENT_COMMITTED,
    BEFORE_READ,
    AFTER_READ,
    BEFORE_WRITE,
    AFTER_WRITE,
    LOGIN_GIVEN,
    LOGIN_KEPT,
];
