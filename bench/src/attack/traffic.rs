//! Valid traffic: open loop by schedule, or as fast as it is answered.
//!
//! Open loop means that a request is due whatever became of the ones before it, and that its latency counts from then
//! on. The surprising thing: senders have only so many connections, as providers do; a request that is due while all of
//! them wait is held back, and counted as that.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use headgate_schemas::shutdown::Shutdown;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::call::Calls;
use super::tally::Tally;
use super::wire::Line;

/// HubSpot waits so long for an answer (HubSpot, "Webhooks API guide").
const PATIENCE: Duration = Duration::from_secs(5);
/// Addresses that valid calls come from.
const SENDERS: u64 = 8;
/// A connection that rested longer may be closed by the other side at any moment, and is not used again.
const RESTED: Duration = Duration::from_secs(4);
/// How often the schedule is looked at.
const TICK: Duration = Duration::from_millis(1);

/// How many events the calls hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packing {
    /// One call in so many holds several.
    every: u64,
    /// So many.
    events: u64,
}

impl Packing {
    /// As on most days.
    pub(super) const MIXED: Self = Self { every: 10, events: 20 };
    /// As after an import: each call as full as HubSpot makes them (HubSpot, "Webhooks API guide").
    pub(super) const FULL: Self = Self { every: 1, events: 100 };
}

/// Senders with up to `most` connections to one gateway, for a range of accounts.
#[derive(Debug)]
pub(super) struct Senders {
    address: SocketAddr,
    calls: Calls,
    accounts: std::ops::RangeInclusive<u64>,
    packing: Packing,
    /// The next number of an event.
    numbers: Arc<AtomicU64>,
    /// Connections with nothing under way, and since when.
    idle: Mutex<Vec<(Line, Instant)>>,
    free: Arc<Semaphore>,
    most: u32,
    tasks: Shutdown,
}

impl Senders {
    /// Senders to `address`. All senders to one gateway share `numbers`.
    pub(super) fn new(
        address: SocketAddr,
        accounts: std::ops::RangeInclusive<u64>,
        (most, packing): (u32, Packing),
        numbers: &Arc<AtomicU64>,
        tasks: &Shutdown,
    ) -> Arc<Self> {
        Arc::new(Self {
            address,
            calls: Calls::new(address),
            accounts,
            packing,
            numbers: Arc::clone(numbers),
            idle: Mutex::default(),
            free: Arc::new(Semaphore::new(most as usize)),
            most,
            tasks: tasks.clone(),
        })
    }

    /// Sends `rate` requests a second for `time`, and waits for their answers.
    pub(super) async fn by_schedule(self: &Arc<Self>, rate: f64, time: Duration) -> Tally {
        let (start, tally) = (Instant::now(), Arc::new(Mutex::new(Tally::default())));
        let mut issued = 0_u64;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while start.elapsed() < time {
            ticks.tick().await;
            let due = (start.elapsed().min(time).as_secs_f64() * rate) as u64;
            while issued < due {
                let Ok(free) = Arc::clone(&self.free).try_acquire_owned() else {
                    tally.lock().held_back += due - issued;
                    issued = due;
                    break;
                };
                let due_at = start + Duration::from_secs_f64(issued as f64 / rate);
                issued += 1;
                let (this, tally) = (Arc::clone(self), Arc::clone(&tally));
                self.tasks.spawn("bench-request", async move {
                    this.send(start, due_at, &tally).await;
                    drop(free);
                });
            }
        }
        // Holding every place means that no request is under way.
        drop(self.free.acquire_many(self.most).await);
        std::mem::take(&mut *tally.lock())
    }

    /// Sends as fast as the answers come, over all connections, for `time`.
    pub(super) async fn as_fast_as_answered(self: &Arc<Self>, time: Duration) -> Tally {
        let (start, tally) = (Instant::now(), Arc::new(Mutex::new(Tally::default())));
        let loops: Vec<_> = (0..self.most)
            .map(|_| {
                let (this, tally) = (Arc::clone(self), Arc::clone(&tally));
                self.tasks.spawn("bench-sender", async move {
                    while start.elapsed() < time && !this.tasks.is_stopped() {
                        this.send(start, Instant::now(), &tally).await;
                    }
                })
            })
            .collect();
        for ended in loops {
            // A sender that panicked has counted what it sent until then.
            ended.await.ok();
        }
        std::mem::take(&mut *tally.lock())
    }

    /// Whether a valid call is accepted now.
    pub(super) async fn is_served(self: &Arc<Self>, tally: &mut Tally) -> bool {
        let one = Mutex::new(Tally::default());
        self.send(Instant::now(), Instant::now(), &one).await;
        let one = one.into_inner();
        let served = one.accepted_requests() == 1;
        tally.accepted.extend(one.accepted);
        served
    }

    /// Sends one request over a free connection or a new one.
    async fn send(&self, start: Instant, due: Instant, tally: &Mutex<Tally>) {
        let Packing { every, events } = self.packing;
        let count = self.numbers.fetch_add(events, Ordering::Relaxed);
        let nth = count / events;
        let numbers = count..count + if nth.is_multiple_of(every) { events } else { 1 };
        let accounts = self.accounts.end() - self.accounts.start() + 1;
        let call = self.calls.signed(self.accounts.start() + nth % accounts, numbers.clone());
        let kept = self.idle.lock().pop().filter(|(_, since)| since.elapsed() < RESTED);
        let answered = timeout(PATIENCE, async {
            let mut line = match kept {
                Some((line, _)) => line,
                None => Line::open(self.address, sender(nth)).await?,
            };
            let answer = line.call(&call).await?;
            Ok::<_, std::io::Error>((line, answer))
        });
        match answered.await {
            Ok(Ok((line, answer))) => {
                tally.lock().answered(answer, due.elapsed(), numbers, start.elapsed());
                if !answer.closes {
                    self.idle.lock().push((line, Instant::now()));
                }
            }
            Ok(Err(_)) | Err(_) => tally.lock().broken += 1,
        }
    }
}

fn sender(nth: u64) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, 1 + u8::try_from(nth % SENDERS).unwrap_or(0))
}
