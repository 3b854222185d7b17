//! Shutdown is a value that is handed down: it tells tasks to stop, counts them, and waits for them.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// Tells tasks to stop and waits for them, at most for the grace period. Made in `main`; clones share one state.
#[derive(Clone, Debug)]
pub struct Shutdown {
    stop: CancellationToken,
    tasks: TaskTracker,
    grace: Duration,
}

impl Shutdown {
    /// A shutdown that waits at most `grace` in [`Shutdown::drain`].
    pub fn new(grace: Duration) -> Self {
        Self { stop: CancellationToken::new(), tasks: TaskTracker::new(), grace }
    }

    /// Starts a named task that [`Shutdown::drain`] waits for. The task must watch [`Shutdown::stopped`] itself.
    #[expect(clippy::disallowed_methods, reason = "the one place that may: it names and counts the task")]
    pub fn spawn<F>(&self, name: &'static str, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.tasks.track_future(task.instrument(tracing::debug_span!("task", name))))
    }

    /// Resolves when the stop was asked for. Cancel-safe.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Whether the stop was asked for.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Asks every task to stop.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// The grace period.
    pub const fn grace(&self) -> Duration {
        self.grace
    }

    /// Asks to stop and waits for every task, at most for the grace period.
    ///
    /// # Errors
    /// The number of tasks still running when the grace period ran out.
    pub async fn drain(&self) -> Result<(), usize> {
        self.stop();
        self.tasks.close();
        tokio::time::timeout(self.grace, self.tasks.wait()).await.map_err(|_| self.tasks.len())
    }
}
