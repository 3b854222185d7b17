//! What each CRM last said of its limits, in numbers, for whoever wants to know what fits. Nothing is held back by it: a
//! limit that is reached is told by the CRM, and that is what pauses a connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use headgate_schemas::Timestamp;
use parking_lot::Mutex;

use crate::target::Quota;

/// What was told longer ago says nothing of today.
const DAY: Duration = Duration::from_secs(86_400);

/// The last word of every connection, by its name and the window. Bounded: a CRM has few windows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quotas(Arc<Mutex<HashMap<String, Vec<Told>>>>);

/// A limit, and when it was told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) quota: Quota,
    pub(crate) at: Timestamp,
}

impl Quotas {
    /// An answer of a connection told these.
    pub(crate) fn tell(&self, connection: &str, quotas: &[Quota], at: Timestamp) {
        if quotas.is_empty() {
            return;
        }
        let mut all = self.0.lock();
        let known = all.entry(connection.to_owned()).or_default();
        for quota in quotas {
            known.retain(|told| told.quota.window != quota.window);
            known.push(Told { quota: *quota, at });
        }
    }

    /// What a connection told of a window within a day before `now`.
    pub(crate) fn last(&self, connection: &str, window: &str, now: Timestamp) -> Option<Told> {
        let all = self.0.lock();
        let told = all.get(connection)?.iter().find(|told| told.quota.window == window)?;
        (now.since(told.at) < DAY).then_some(*told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_a_window_holds_for_a_day() {
        let (quotas, at) = (Quotas::default(), Timestamp::from_secs);
        let daily = |left| Quota { window: "daily", left, most: 10, per: DAY };
        let burst = Quota { window: "burst", left: 1, most: 5, per: Duration::from_secs(10) };
        quotas.tell("hubspot-main", &[daily(9), burst], at(0));
        quotas.tell("hubspot-main", &[daily(8)], at(60));
        quotas.tell("hubspot-main", &[], at(70));
        assert_eq!(quotas.last("hubspot-main", "daily", at(86_459)), Some(Told { quota: daily(8), at: at(60) }));
        assert_eq!(quotas.last("hubspot-main", "daily", at(86_460)), None);
        assert_eq!(quotas.last("hubspot-main", "burst", at(70)), Some(Told { quota: burst, at: at(0) }));
        assert_eq!(quotas.last("salesforce-main", "daily", at(70)), None);
    }
}
