//! What happens on one connection: requests that began and ended, an answer that waits, and what a look now and then makes
//! of that. It must not know HTTP.
//!
//! The surprising thing: a request whose answer waits outside of the HTTP library has ended for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::held::Waiting;

/// Requests begun and ended on one connection.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    begun: AtomicU64,
    ended: AtomicU64,
    waiting: Mutex<Option<Box<Waiting>>>,
}

impl Activity {
    /// One more request, until what is answered is dropped.
    pub(crate) fn begins(self: &Arc<Self>) -> Begun {
        self.begun.fetch_add(1, Ordering::Relaxed);
        Begun(Arc::clone(self))
    }

    /// The answer that waits outside of the HTTP library since this was asked last.
    pub(crate) fn waiting(&self) -> Option<Box<Waiting>> {
        self.waiting.lock().take()
    }
}

/// A request that began. Counted as ended when this is dropped, also because its client went away.
#[derive(Debug)]
pub(crate) struct Begun(Arc<Activity>);

impl Begun {
    /// Its answer waits outside of the HTTP library.
    pub(crate) fn waits(&self, waiting: Box<Waiting>) {
        *self.0.waiting.lock() = Some(waiting);
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a look at a connection finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Requests are open, or came since the last look, or none came at all.
    Busy,
    /// Every request was answered, and none came since the last look.
    Rests,
    /// It had no request for longer than it may. A graceful end would wait for a client that may never say anything
    /// again.
    Silent,
}

/// Looks at a connection now and then.
#[derive(Debug)]
pub(crate) struct Watch {
    activity: Arc<Activity>,
    patience: Duration,
    /// When the next header must be complete.
    pub(crate) until: Instant,
    begun_before: u64,
}

impl Watch {
    pub(crate) fn new(activity: Arc<Activity>, patience: Duration, until: Instant) -> Self {
        Self { activity, patience, until, begun_before: 0 }
    }

    pub(crate) fn look(&mut self, now: Instant) -> Seen {
        let begun = self.activity.begun.load(Ordering::Relaxed);
        let open = begun != self.activity.ended.load(Ordering::Relaxed);
        if open || begun != self.begun_before {
            self.begun_before = begun;
            self.until = now + self.patience;
            return Seen::Busy;
        }
        match begun {
            _ if now >= self.until => Seen::Silent,
            // Its first header is on its way.
            0 => Seen::Busy,
            _ => Seen::Rests,
        }
    }
}
