//! An automation inside a CRM: some time after a record was written, by anybody, a field of it is put into another form.
//!
//! This is what makes loops and fights: the automation's own write is announced like any other. It knows no CRM; the
//! models carry it out in their own way. The surprising thing: it looks at the value that stands there when its time has
//! come, so many quick writes lead to one write of its own.

use std::time::Duration;

use headgate_schemas::shutdown::Shutdown;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Records whose time has not come; when full, the newest are passed over.
const WAITING: usize = 100_000;

/// What the automation does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Object, as the CRM names it.
    pub object: String,
    /// The field it keeps in form.
    pub field: String,
    /// That form.
    pub form: Form,
    /// From the write to the automation.
    pub delay: Duration,
}

/// A form of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// ALL LARGE.
    Upper,
    /// all small.
    Lower,
}

impl Form {
    /// The text in this form; `None` where it has that already.
    pub(crate) fn of(self, text: &str) -> Option<String> {
        let formed = match self {
            Self::Upper => text.to_uppercase(),
            Self::Lower => text.to_lowercase(),
        };
        (formed != text).then_some(formed)
    }
}

/// Where written records are handed in.
#[derive(Debug)]
pub(crate) struct Trigger<T> {
    flow: Flow,
    queue: mpsc::Sender<(Instant, T)>,
}

/// The records that wait.
pub(crate) type Waiting<T> = mpsc::Receiver<(Instant, T)>;

impl<T> Trigger<T> {
    pub(crate) fn new(flow: Flow) -> (Self, Waiting<T>) {
        let (queue, waiting) = mpsc::channel(WAITING);
        (Self { flow, queue }, waiting)
    }

    pub(crate) const fn flow(&self) -> &Flow {
        &self.flow
    }

    /// A record was written; never waits.
    pub(crate) fn written(&self, record: T) {
        if self.queue.try_send((Instant::now() + self.flow.delay, record)).is_err() {
            tracing::warn!("the automation has too many records waiting; one is passed over");
        }
    }
}

/// Acts on each record when its time has come. All wait equally long, so the first in is the first due.
pub(crate) async fn run<T>(mut waiting: Waiting<T>, act: impl Fn(T), stop: Shutdown) {
    loop {
        let next = tokio::select! {
            () = stop.stopped() => return,
            next = waiting.recv() => next,
        };
        let Some((due, record)) = next else { return };
        tokio::select! {
            () = stop.stopped() => return,
            () = tokio::time::sleep_until(due) => act(record),
        }
    }
}
