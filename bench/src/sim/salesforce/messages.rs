//! Outbound messages: SOAP posts with the state of changed rows.
//!
//! Shapes follow Salesforce's outbound messaging guide. The surprising thing: a message carries the row as it is at
//! delivery, not as it was when the message was queued, so intermediate states are lost, and a row that was deleted
//! meanwhile yields a notification with its id only.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use headgate_schemas::shutdown::Shutdown;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};

use super::id::make;
use super::org::{Changed, Org, text};
use super::schema::FieldKind;
use crate::sim::SimError;
use crate::sim::hooks::{Counters, Hook, HookProvider, HookStats, Poster, RetryPlan, check_url};

/// Notifications waiting for one address; when full, the newest are dropped and counted.
const QUEUE: usize = 100_000;
/// Notifications of one message.
const MESSAGE: usize = 100;
/// Messages in flight or waiting for a retry; beyond it the queue waits.
const OPEN: usize = 1_000;

/// One change to tell.
#[derive(Clone, Debug)]
struct Notification {
    id: String,
    changed: Changed,
}

/// Posts outbound messages to every hook.
pub(super) struct Messages {
    queues: Mutex<Vec<mpsc::Sender<Notification>>>,
    counters: Arc<Counters>,
    made: AtomicU64,
    poster: Poster,
    retry: RetryPlan,
    peek: Peek,
    shutdown: Shutdown,
}

impl std::fmt::Debug for Messages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Messages").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// Reads rows at delivery.
pub(super) type Peek = Arc<dyn Fn(&mut dyn FnMut(&Org)) + Send + Sync>;

struct Delivery {
    hook: Hook,
    poster: Poster,
    retry: RetryPlan,
    counters: Arc<Counters>,
    open: Arc<Semaphore>,
    peek: Peek,
}

impl Messages {
    pub(super) fn start(hooks: &[Hook], retry: RetryPlan, peek: Peek, shutdown: &Shutdown) -> Result<Self, SimError> {
        let started = Self {
            queues: Mutex::new(Vec::new()),
            counters: Arc::new(Counters::default()),
            made: AtomicU64::new(0),
            poster: Poster::new(),
            retry,
            peek,
            shutdown: shutdown.clone(),
        };
        hooks.iter().filter(|h| h.provider == HookProvider::Salesforce).try_for_each(|h| started.attach(h))?;
        Ok(started)
    }

    /// Delivers to one more address from now on.
    pub(super) fn attach(&self, hook: &Hook) -> Result<(), SimError> {
        check_url(&hook.url)?;
        let (queue, waiting) = mpsc::channel(QUEUE);
        self.queues.lock().push(queue);
        let delivery = Arc::new(Delivery {
            hook: hook.clone(),
            poster: self.poster.clone(),
            retry: self.retry,
            counters: Arc::clone(&self.counters),
            open: Arc::new(Semaphore::new(OPEN)),
            peek: Arc::clone(&self.peek),
        });
        let _task = self.shutdown.spawn("sim-messages", dispatch(delivery, waiting, self.shutdown.clone()));
        Ok(())
    }

    /// Queues a notification per changed row; never waits.
    pub(super) fn send(&self, changed: &[Changed]) {
        for queue in self.queues.lock().iter() {
            Counters::add(&self.counters.told, changed.len());
            for changed in changed {
                let number = self.made.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
                let notification = Notification { id: make("04l", number), changed: changed.clone() };
                Counters::add(&self.counters.dropped, usize::from(queue.try_send(notification).is_err()));
            }
        }
    }

    pub(super) fn stats(&self) -> HookStats {
        self.counters.read()
    }
}

async fn dispatch(delivery: Arc<Delivery>, mut queue: mpsc::Receiver<Notification>, stop: Shutdown) {
    let mut waiting = Vec::with_capacity(MESSAGE);
    loop {
        let got = tokio::select! {
            () = stop.stopped() => return,
            got = queue.recv_many(&mut waiting, MESSAGE) => got,
        };
        if got == 0 {
            return;
        }
        let mut all = std::mem::take(&mut waiting);
        all.sort_by_key(|n| n.changed.table);
        // One message carries rows of one object, because one definition selects one object's fields.
        for group in all.chunk_by(|a, b| a.changed.table == b.changed.table) {
            let Ok(place) = Arc::clone(&delivery.open).acquire_owned().await else { return };
            let (delivery, group, watch) = (Arc::clone(&delivery), group.to_vec(), stop.clone());
            let _task = stop.spawn("sim-message-post", async move {
                deliver(&delivery, &group, &watch).await;
                drop(place);
            });
        }
    }
}

async fn deliver(delivery: &Delivery, group: &[Notification], stop: &Shutdown) {
    let Delivery { hook, poster, retry, counters, peek, .. } = delivery;
    for attempt in 0..=retry.retries {
        if attempt > 0 {
            Counters::add(&counters.retried, 1);
            tokio::select! {
                () = stop.stopped() => return,
                () = tokio::time::sleep(retry.wait(attempt)) => {}
            }
        }
        let mut body = String::new();
        peek(&mut |org| body = envelope(org, &hook.secret, group));
        let headers = [("content-type", "text/xml; charset=utf-8".to_owned()), ("soapaction", "\"\"".to_owned())];
        let answer = poster.post(&hook.url, &headers, body.into(), Duration::from_secs(60)).await;
        if matches!(answer, Ok((200, body)) if is_acknowledged(&body)) {
            Counters::add(&counters.accepted, group.len());
            return;
        }
    }
    tracing::warn!(notifications = group.len(), "the hook took no message; its notifications are given up");
    Counters::add(&counters.given_up, group.len());
}

fn is_acknowledged(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    let ack = text.split_once("Ack>").and_then(|(_, rest)| rest.split_once('<'));
    ack.is_some_and(|(value, _)| value.trim() == "true")
}

/// The SOAP body of one message.
fn envelope(org: &Org, organization: &str, group: &[Notification]) -> String {
    let action = group.first().map_or_else(String::new, |n| make("04k", n.changed.table as u64 + 1));
    let mut notifications = String::new();
    for notification in group {
        let body = object(org, &notification.changed);
        notifications += &format!("<Notification><Id>{}</Id>{body}</Notification>", notification.id);
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\
         <soapenv:Body><notifications xmlns=\"http://soap.sforce.com/2005/09/outbound\">\
         <OrganizationId>{}</OrganizationId><ActionId>{action}</ActionId><SessionId xsi:nil=\"true\"/>\
         <EnterpriseUrl>https://example.my.salesforce.com/services/Soap/c/62.0</EnterpriseUrl>\
         <PartnerUrl>https://example.my.salesforce.com/services/Soap/u/62.0</PartnerUrl>{notifications}\
         </notifications></soapenv:Body></soapenv:Envelope>",
        escaped(organization)
    )
}

fn object(org: &Org, changed: &Changed) -> String {
    let table = &org.tables[changed.table];
    let mut out = format!(
        "<sObject xsi:type=\"sf:{}\" xmlns:sf=\"urn:sobject.enterprise.soap.sforce.com\"><sf:Id>{}</sf:Id>",
        table.spec.name, changed.id
    );
    let live = table.rows.get(&changed.id).filter(|r| r.deleted.is_none());
    for (row, field) in live.into_iter().flat_map(|r| table.spec.fields.iter().map(move |f| (r, f))) {
        if field.name == "Id" || field.name == "MasterRecordId" {
            continue;
        }
        let value = row.value(&field.name);
        out += &match text(Some(&value)) {
            Some(text) => format!("<sf:{0}>{1}</sf:{0}>", field.name, escaped(&soap(field.kind, &text))),
            None => format!("<sf:{} xsi:nil=\"true\"/>", field.name),
        };
    }
    out + "</sObject>"
}

/// SOAP writes instants with `Z`, REST with `+0000`.
fn soap(kind: FieldKind, text: &str) -> String {
    if kind == FieldKind::DateTime { text.replace("+0000", "Z") } else { text.to_owned() }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML 1.0 has no way to write other control characters.
            c if c.is_control() && !matches!(c, '\t' | '\n' | '\r') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_true_acknowledgement_counts() {
        assert!(is_acknowledged(b"<a><notificationsResponse><Ack>true</Ack></notificationsResponse></a>"));
        assert!(is_acknowledged(b"<o:Ack> true </o:Ack>"));
        assert!(!is_acknowledged(b"<Ack>false</Ack>"));
        assert!(!is_acknowledged(b"ok"));
    }

    #[test]
    fn text_is_escaped_for_xml() {
        assert_eq!(escaped("D\u{e9}ry & <Co>\u{1}\n"), "D\u{e9}ry &amp; &lt;Co&gt;\u{fffd}\n");
    }
}
