//! From changes to acknowledged records: encodes, orders, appends, and tells everybody who waits.
//!
//! It must not know HTTP or providers. The surprising thing: [`Sink::append`] is called while the sequencer is locked,
//! so that two requests cannot swap between release and append; the append only queues, the wait is outside the lock.

use std::sync::Arc;
use std::time::Instant;

use headgate_schemas::Change;
use headgate_schemas::contract::{self, Record};
use headgate_schemas::failpoint::pass;
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::{Append, Sink, StreamError};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::config::Limits;
use crate::dedup::{Dedup, Fate, Key, Reservation, Reserved};
use crate::metrics::{Metrics, Why};
use crate::order::{Offered, Released, Sequencer};
use crate::provider::Provider;
use crate::step;

/// A record and the duty to publish it.
struct Pending {
    record: Record,
    reservation: Reservation,
}

/// An append under way and whom to tell.
struct Appended {
    append: Append,
    since: Instant,
    reservations: Vec<Reservation>,
}

/// Why changes were not published. The provider sends again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PublishError {
    /// A change has no JSON form.
    #[error("a change cannot be encoded")]
    Encode,
    /// The stream did not acknowledge all of them.
    #[error("the stream did not acknowledge the changes")]
    NotAcknowledged,
}

/// The way to the stream, shared by all requests.
pub(crate) struct Publisher {
    sink: Arc<dyn Sink>,
    sequencer: Mutex<Sequencer<String, Pending>>,
    /// The sequencer has a first time-out.
    wake: Notify,
    dedup: Arc<Dedup>,
    record_bytes: usize,
    metrics: Metrics,
    shutdown: Shutdown,
}

impl Publisher {
    /// A publisher into `sink`; [`Publisher::drive`] must run beside it.
    pub(crate) fn new(
        sink: Arc<dyn Sink>,
        dedup: Arc<Dedup>,
        limits: &Limits,
        metrics: Metrics,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            sink,
            sequencer: Mutex::new(Sequencer::new(limits.order_window, limits.order_held, limits.order_records)),
            wake: Notify::new(),
            dedup,
            record_bytes: limits.record_bytes,
            metrics,
            shutdown,
        }
    }

    /// Brings reserved changes into the stream and waits until every one of them, and every repeat of one that
    /// another request is publishing, is durable. `reserved` belongs to `changes` one by one.
    pub(crate) async fn publish(&self, changes: Vec<Change>, reserved: Vec<Reserved>) -> Result<(), PublishError> {
        let mut fates: Vec<Fate> = Vec::with_capacity(reserved.len());
        let mut pending = Vec::with_capacity(reserved.len());
        for (change, reserved) in changes.into_iter().zip(reserved) {
            match reserved {
                Reserved::Kept => {}
                Reserved::Open(fate) => fates.push(fate),
                Reserved::New(reservation) => {
                    fates.push(reservation.fate());
                    pending.push(self.encode(change, reservation)?);
                }
            }
        }
        if let Some(appended) = self.offer(pending) {
            self.settle(appended).await;
        }
        for fate in fates {
            if !fate.published().await {
                return Err(PublishError::NotAcknowledged);
            }
        }
        Ok(())
    }

    /// Encodes one change. One too large for a record goes without its values: the reader fetches them.
    fn encode(&self, mut change: Change, reservation: Reservation) -> Result<Offered<Pending>, PublishError> {
        let mut record = contract::encode(&change).map_err(|_| PublishError::Encode)?;
        if record.len() > self.record_bytes && !change.fields.is_empty() {
            change.fields.clear();
            change.fields_complete = false;
            change.needs_fetch = true;
            record = contract::encode(&change).map_err(|_| PublishError::Encode)?;
        }
        Ok(Offered { order: change.sequence.map(Into::into), item: Pending { record, reservation } })
    }

    /// Sequences the changes of one request, each record on its own, and appends what may go now.
    fn offer(&self, pending: Vec<Offered<Pending>>) -> Option<Appended> {
        let mut groups: indexmap::IndexMap<String, Vec<Offered<Pending>>, ahash::RandomState> =
            indexmap::IndexMap::default();
        for offered in pending {
            // Looked up by reference first, so that a record's key is copied once.
            match groups.get_mut(&offered.item.record.key) {
                Some(group) => group.push(offered),
                None => {
                    groups.insert(offered.item.record.key.clone(), vec![offered]);
                }
            }
        }
        self.release(|sequencer, now, out| {
            for (key, group) in groups {
                sequencer.offer(now, key, group, out);
            }
        })
    }

    /// Runs one step of the sequencer and appends what it lets go, as one batch, in its order.
    fn release(
        &self,
        step: impl FnOnce(&mut Sequencer<String, Pending>, Instant, &mut Vec<Released<Pending>>),
    ) -> Option<Appended> {
        let mut out = Vec::new();
        let mut sequencer = self.sequencer.lock();
        let was_idle = sequencer.poll_timeout().is_none();
        // Read under the lock: the sequencer's times must rise from call to call.
        let since = Instant::now();
        step(&mut sequencer, since, &mut out);
        if was_idle && sequencer.poll_timeout().is_some() {
            self.wake.notify_one();
        }
        self.metrics.order_held.set(i64::try_from(sequencer.held()).unwrap_or(i64::MAX));
        if out.is_empty() {
            return None;
        }
        let mut reservations = Vec::with_capacity(out.len());
        let mut records = Vec::with_capacity(out.len());
        for Released { item, late, waited } in out {
            let Pending { mut record, reservation } = item;
            if late {
                record.mark_late();
                self.metrics.order_late.inc();
            }
            if !waited.is_zero() {
                self.metrics.order_wait_seconds.observe(waited.as_secs_f64());
            }
            reservations.push(reservation);
            records.push(record);
        }
        pass(step::RELEASED);
        let append = self.sink.append(records);
        pass(step::APPENDED);
        drop(sequencer);
        Some(Appended { append, since, reservations })
    }

    /// Waits for the acknowledgement and passes it on. Dropping the reservations is what tells of a failure.
    async fn settle(&self, Appended { append, since, reservations }: Appended) {
        match append.await {
            Ok(()) => {
                pass(step::ACKNOWLEDGED);
                self.dedup.commit(reservations);
                pass(step::REMEMBERED);
                self.metrics.dedup_keys.set(i64::try_from(self.dedup.len()).unwrap_or(i64::MAX));
                self.metrics.produce_seconds.observe(since.elapsed().as_secs_f64());
            }
            Err(error) => {
                let reason = reason(&error);
                self.metrics.produce_errors.get_or_create(&Why { reason }).inc();
                tracing::warn!(changes = reservations.len(), %error, "the stream did not take changes");
            }
        }
    }

    /// Releases held changes when their time comes; on shutdown releases all and lets nothing wait any more.
    pub(crate) async fn drive(self: Arc<Self>) {
        loop {
            let due = self.sequencer.lock().poll_timeout();
            let timeout = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.shutdown.stopped() => break,
                () = self.wake.notified() => {}
                () = timeout => self.settle_aside(self.release(|s, now, out| s.handle_timeout(now, out))),
            }
        }
        self.settle_aside(self.release(|s, now, out| s.close(now, out)));
    }

    /// Settles in a task of its own: one slow acknowledgement must not hold up the next release.
    fn settle_aside(self: &Arc<Self>, appended: Option<Appended>) {
        if let Some(appended) = appended {
            let this = Arc::clone(self);
            self.shutdown.spawn("settle", async move { this.settle(appended).await });
        }
    }
}

/// The keys of the changes of one request, reserved together.
pub(crate) fn reserve(dedup: &Arc<Dedup>, provider: &dyn Provider, changes: &[Change]) -> Vec<Reserved> {
    let keys = changes.iter().map(|change| Key::new(change.id, &change.tenant));
    dedup.reserve(keys, provider.remembered_for())
}

/// The `reason` label of a stream error.
const fn reason(error: &StreamError) -> &'static str {
    match error {
        StreamError::Full => "full",
        StreamError::Unavailable(_) => "unavailable",
        StreamError::Indefinite(_) => "indefinite",
        StreamError::TooLarge { .. } => "too_large",
        StreamError::OutOfRange { .. } => "out_of_range",
        StreamError::Replaced => "replaced",
        StreamError::Corrupt(_) => "corrupt",
    }
}
