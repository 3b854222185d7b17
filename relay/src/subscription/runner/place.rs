//! Where a subscription stands: in which topic it reads on, what could not be read any more, and keeping all of that.
//!
//! The surprising thing is that a place may lead nowhere: the log may have dropped it, or another topic has taken the
//! place of the one that it is of. Then what is lost is entered and told, and reading goes on at a start.

use std::sync::Arc;

use headgate_schemas::stream::{Cursor, Position, Source, StreamError, from_start};
use headgate_schemas::time;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Parts, Runner, SAVE_EVERY};
use crate::store::{KeptRow, Shelf};
use crate::subscription::backlog::{Backlog, Memo, Overtaken, Replaced};
use crate::subscription::{Named, OrderError};

/// Tries of a write that an order waits for.
const SAVE_TRIES: usize = 10;

impl Runner {
    /// Opens the stream where the backlog stands.
    pub(super) async fn reopen(&mut self) {
        let open = Arc::clone(&self.parts.open);
        let opened = tokio::task::spawn_blocking(move || open()).await;
        if let Ok(Ok(source)) = opened {
            self.stand(source).await;
        }
        if self.source.is_none() {
            tokio::time::sleep(SAVE_EVERY).await;
        }
    }

    async fn stand(&mut self, source: Box<dyn Source>) {
        match stand(source, self.memo.topic.as_deref(), &mut self.backlog).await {
            Ok((source, loss)) => {
                loss.enter(&mut self.memo);
                loss.tell(&self.parts);
                self.memo.topic = Some(source.topic().id);
                self.source = Some(source);
                if !matches!(loss, Loss::None) {
                    // At once: what is opened again before this is durable finds the same loss and tells it again.
                    self.saving = self.keep(None);
                }
            }
            Err(error) => {
                let name = self.parts.config.name.as_str();
                tracing::warn!(subscription = name, %error, "the stream cannot be read; trying again");
                self.source = None;
            }
        }
    }

    /// Keeps where it stands. `None` when the state cannot take it now.
    pub(super) fn keep(&mut self, deed: Option<(String, &'static str)>) -> Option<oneshot::Receiver<()>> {
        self.saved = Instant::now();
        let durable = hand_over(&self.parts, self.epoch, &mut self.memo, &self.backlog, deed);
        self.dirty = durable.is_none();
        durable
    }

    /// The same, waiting until it is durable.
    pub(super) async fn keep_now(&mut self, by: String, what: &'static str) -> Result<(), OrderError> {
        // An earlier write that is still under way is followed by this one.
        self.saving = None;
        for _ in 0..SAVE_TRIES {
            if let Some(durable) = self.keep(Some((by.clone(), what)))
                && durable.await.is_ok()
            {
                return Ok(());
            }
            self.dirty = true;
            tokio::time::sleep(SAVE_EVERY).await;
        }
        Err(OrderError::Busy)
    }
}

/// What could not be read any more.
pub(super) enum Loss {
    None,
    Overtaken(Overtaken),
    Replaced(Replaced),
}

/// Puts a reader where the backlog stands in `topic`; what the log no longer holds is given up and told. In another topic,
/// and where the places lie behind the end, because a log never becomes shorter there, it is read from its start.
pub(super) async fn stand(
    mut source: Box<dyn Source>,
    topic: Option<&str>,
    backlog: &mut Backlog,
) -> Result<(Box<dyn Source>, Loss), StreamError> {
    let positions = backlog.cursor().positions();
    let tried = tokio::task::spawn_blocking(move || {
        let assigned = source.assign(&positions);
        // Which topic it is turns out with the assignment.
        (source.topic(), assigned, source.bounds(), positions, source)
    });
    let (found, assigned, bounds, positions, mut source) = tried.await.map_err(|_| stopping())?;
    let is_other = topic.is_some_and(|topic| topic != found.id) || matches!(assigned, Err(StreamError::Replaced));
    match assigned {
        Ok(()) if !is_other => return Ok((source, Loss::None)),
        Ok(()) | Err(StreamError::OutOfRange { .. } | StreamError::Replaced) => {}
        Err(error) => return Err(error),
    }
    let bounds = bounds?;
    let is_behind = |p: &Position| bounds.iter().any(|(_, end)| end.partition == p.partition && p.offset > end.offset);
    let is_other = is_other || positions.iter().any(is_behind);
    let (starts, now) = (from_start(&bounds), time::now().micros());
    let loss = if is_other {
        Loss::Replaced(backlog.replace(Cursor::new(&starts, found.partitions, source.numbers_across()), now))
    } else {
        backlog.overtake(&starts, now).map_or(Loss::None, Loss::Overtaken)
    };
    let positions = backlog.cursor().positions();
    let tried = tokio::task::spawn_blocking(move || source.assign(&positions).map(|()| source));
    source = tried.await.map_err(|_| stopping())??;
    Ok((source, loss))
}

fn stopping() -> StreamError {
    StreamError::Unavailable("the program is stopping".to_owned())
}

impl Loss {
    /// Writes it where it outlives the process.
    pub(super) const fn enter(&self, memo: &mut Memo) {
        match self {
            Self::None => {}
            Self::Overtaken(lost) => memo.overtaken = Some(*lost),
            Self::Replaced(lost) => memo.replaced = Some(*lost),
        }
    }

    /// Tells whoever watches this process.
    pub(super) fn tell(&self, parts: &Parts) {
        let name = parts.config.name.as_str();
        match self {
            Self::None => return,
            Self::Overtaken(Overtaken { offsets, partitions, .. }) => tracing::warn!(
                subscription = name,
                offsets,
                partitions,
                "the stream dropped changes before they were delivered"
            ),
            Self::Replaced(Replaced { waited, .. }) => tracing::error!(
                subscription = name,
                waited,
                "another stream took the place of the one that was read, and is read from its start; what was not read of \
                 the old one is lost, and its changes that waited"
            ),
        }
        parts.metrics.overtaken.get_or_create(&Named { subscription: name.to_owned() }).inc();
    }
}

/// Hands what must outlive the process to the state. `None` when it cannot take it now.
pub(super) fn hand_over(
    parts: &Parts,
    epoch: u64,
    memo: &mut Memo,
    backlog: &Backlog,
    deed: Option<(String, &'static str)>,
) -> Option<oneshot::Receiver<()>> {
    (memo.read, memo.pending) = (backlog.read(), backlog.pending());
    let value = match memo.encode() {
        Ok(value) => value,
        Err(error) => {
            tracing::error!(%error, "where a subscription stands cannot be written");
            return None;
        }
    };
    let row = KeptRow { shelf: Shelf::Subscription, name: parts.config.name.clone(), value: Some(value) };
    parts.relay.keep(epoch, vec![row], deed).ok()
}
