//! What a person orders of a subscription that runs: to read on elsewhere, and to go on. An order is answered only after
//! what it changed is durable.

use std::sync::Arc;

use headgate_schemas::stream::{BeginError, Cursor, Source};
use headgate_schemas::time;
use tokio::sync::oneshot;

use super::Runner;
use crate::subscription::backlog::Backlog;
use crate::subscription::{Asked, Order, OrderError};

impl Runner {
    pub(super) async fn order(&mut self, asked: Asked) {
        match asked.order {
            // The open calls end first: a record must not have two under way.
            Order::Replay { .. } if self.rewind.is_none() => self.rewind = Some(asked),
            Order::Replay { .. } => answer(asked.done, Err(OrderError::Busy)),
            Order::Enable { by } => {
                self.memo.disabled = None;
                self.told = None;
                self.backlog.forgive(time::now().micros());
                let kept = self.keep_now(by, "subscription.enable").await;
                answer(asked.done, kept);
            }
        }
    }

    pub(super) async fn rewind(&mut self, asked: Asked) {
        let Asked { order: Order::Replay { begin, by }, done } = asked else { return };
        let open = Arc::clone(&self.parts.open);
        let found = tokio::task::spawn_blocking(move || {
            let mut source = open()?;
            let cursor = begin.cursor(source.as_ref())?;
            source.assign(&cursor.positions())?;
            Ok::<(Box<dyn Source>, Cursor), BeginError>((source, cursor))
        });
        let (source, cursor) = match found.await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return answer(done, Err(error.into())),
            Err(_) => return answer(done, Err(OrderError::Busy)),
        };
        self.memo.topic = Some(source.topic().id);
        self.source = Some(source);
        self.backlog = Backlog::new(cursor);
        self.memo.disabled = None;
        self.told = None;
        let kept = self.keep_now(by, "subscription.replay").await;
        answer(done, kept);
    }
}

fn answer(done: oneshot::Sender<Result<(), OrderError>>, answer: Result<(), OrderError>) {
    if done.send(answer).is_err() {
        tracing::debug!("whoever gave the order has gone away");
    }
}
