//! How a subscription is, as it is shown and measured.

use headgate_schemas::{Timestamp, time};

use super::Runner;
use crate::subscription::backlog::Replaced;
use crate::subscription::{Named, Standing, earlier_until};

impl Runner {
    /// Brings what is shown up to date.
    pub(super) fn show(&self) {
        let text = |us: i64| Timestamp::from_micros(us).to_string();
        let failing = self.backlog.failing_since();
        let (state, since, reason) = match &self.memo.disabled {
            Some(disabled) => (Standing::Disabled, Some(disabled.at), Some(disabled.reason.clone())),
            None if failing.is_some() => (Standing::Failing, failing, self.told.clone()),
            None => (Standing::Well, None, None),
        };
        let next = self.backlog.wake(&self.parts.pace).filter(|_| self.sends() && self.backlog.open() == 0);
        let named = Named { subscription: self.parts.config.name.clone() };
        let waiting = self.backlog.waiting();
        self.parts.metrics.waiting.get_or_create(&named).set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.parts.metrics.disabled.get_or_create(&named).set(i64::from(state == Standing::Disabled));
        let mut view = self.parts.view.lock();
        view.state = state;
        view.since = since.map(text);
        view.reason = reason;
        view.waiting = waiting;
        view.open = self.backlog.open();
        view.delivered = self.memo.delivered;
        view.next = next.map(text);
        view.position = self.backlog.cursor().to_string();
        view.earlier_secrets_until = earlier_until(&self.parts.keys.borrow(), time::now());
        view.overtaken = self.memo.overtaken.map(|lost| {
            let (at, offsets, partitions) = (text(lost.at), lost.offsets, lost.partitions);
            format!("{at}: up to {offsets} changes in {partitions} partitions were dropped by the stream before they were delivered")
        });
        view.replaced = self.memo.replaced.map(|Replaced { at, waited }| {
            let at = text(at);
            format!(
                "{at}: another stream took the place of the one that was read, and is read from its start; what was not read \
                 of the old one is lost, and {waited} of its changes that waited"
            )
        });
    }
}
