//! What people change on a shelf of the state: one thing at a time, on what is known of the shelf, and to its end.
//!
//! A shelf is looked up once for each hold of the state, because another relay may have written on it before. Whatever
//! changes it runs in a task of its own. The surprising thing is why: between "durable" and "started" a caller may go
//! away, and what it asked for must not stay half done.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use headgate_schemas::shutdown::Shutdown;
use tokio::sync::{Mutex, Semaphore};

use crate::driver::{Busy, Handle};
use crate::engine::Recalled;
use crate::store::Shelf;

/// Between two looks at a state that did not answer.
const AGAIN: Duration = Duration::from_millis(500);

/// Changes that wait for their turn, with the one that has it; a further one is refused. Whoever asked for one may be gone,
/// so nobody else bounds them.
const WAITING: usize = 32;

/// Runs what a shelf of the state holds.
pub(crate) trait Owner: Send + Sync + 'static {
    /// The shelf.
    const SHELF: Shelf;

    /// Where the turns are taken.
    fn turns(&self) -> &Turns;

    /// Runs what stands there, and ends what does not any more.
    fn take_up(&self, recalled: &Recalled) -> impl Future<Output = ()> + Send;
}

/// Lets one change after the other through.
#[derive(Debug)]
pub(crate) struct Turns {
    relay: Handle,
    shutdown: Shutdown,
    waiting: Arc<Semaphore>,
    /// The worker on whose word the shelf was looked up.
    known: Mutex<Option<u64>>,
}

impl Turns {
    pub(crate) fn new(relay: Handle, shutdown: Shutdown) -> Self {
        Self { relay, shutdown, waiting: Arc::new(Semaphore::new(WAITING)), known: Mutex::new(None) }
    }

    /// The state's owner.
    pub(crate) const fn relay(&self) -> &Handle {
        &self.relay
    }

    /// Stops the program's tasks.
    pub(crate) const fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }
}

/// Does `act` on the word of the worker that has the state, in a task of its own: it comes to its end although nobody
/// waits for that any more.
///
/// # Errors
/// [`Busy`] when too many wait already, and when this process does not have the state or it does not answer; nothing was
/// done then. Also when the program stopped before the end.
pub(crate) async fn in_turn<K, A, F>(owner: &Arc<K>, act: A) -> Result<F::Output, Busy>
where
    K: Owner,
    A: FnOnce(Arc<K>, u64) -> F + Send + 'static,
    F: Future<Output: Send + 'static> + Send,
{
    let owner = Arc::clone(owner);
    let place = Arc::clone(&owner.turns().waiting).try_acquire_owned().map_err(|_| Busy)?;
    let shutdown = owner.turns().shutdown.clone();
    let task = shutdown.spawn("turn", async move {
        let mut known = owner.turns().known.lock().await;
        let epoch = know(owner.as_ref(), &mut known).await?;
        let done = act(Arc::clone(&owner), epoch).await;
        drop(place);
        Ok(done)
    });
    task.await.map_err(|_| Busy)?
}

/// Takes up what the shelf holds each time this process comes to have the state, until the program stops.
pub(crate) async fn look_up<K: Owner>(owner: Arc<K>) {
    let turns = owner.turns();
    let mut held = turns.relay.held();
    loop {
        let has = held.borrow_and_update().is_some();
        let known = know(owner.as_ref(), &mut *turns.known.lock().await).await;
        tokio::select! {
            () = turns.shutdown.stopped() => return,
            changed = held.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN), if has && known.is_err() => {}
        }
    }
}

/// Looks the shelf up, unless that was done since this process came to have the state. Returns the worker.
async fn know<K: Owner>(owner: &K, known: &mut Option<u64>) -> Result<u64, Busy> {
    let relay = &owner.turns().relay;
    let epoch = relay.held().borrow().ok_or(Busy)?.epoch;
    if *known == Some(epoch) {
        return Ok(epoch);
    }
    let recalled = relay.recall(K::SHELF, None).await.ok_or(Busy)?;
    owner.take_up(&recalled).await;
    *known = Some(recalled.epoch);
    Ok(recalled.epoch)
}
