//! `[subscriptions]` and `[[subscription]]`: endpoints that get changes, and what may be called. An endpoint that can never
//! be called is a fault here already; what its name leads to is judged at each connection.

use std::path::PathBuf;
use std::time::Duration;

use headgate_relay::outgoing::Policy;
use headgate_relay::subscription::sign::Key;
use headgate_relay::subscription::{MOST, OVERLAP, Pace, SubscriptionConfig};
use headgate_schemas::filter::{Filter, FilterText};
use headgate_schemas::stream::Begin;
use hyper::Uri;
use secrecy::ExposeSecret as _;

use super::fault::At;
use super::reader::{Choice, Section, set};
use super::secret::{self, SECOND, SECRET};

/// `[[subscription]]`, read. `None` where a fault was reported.
#[derive(Debug)]
pub(crate) struct SubscriptionDraft {
    /// Its name.
    pub(crate) name: Option<String>,
    /// Where its name stands.
    pub(crate) name_at: At,
    /// Whose it is.
    pub(crate) tenant: Option<String>,
    /// Where its tenant stands.
    pub(crate) tenant_at: At,
    /// The whole, if nothing was wrong with it.
    pub(crate) config: Option<SubscriptionConfig>,
}

/// `[subscriptions]`, read.
#[derive(Debug)]
pub(crate) struct Shared {
    /// What may be called.
    pub(crate) policy: Policy,
    /// How fast.
    pub(crate) pace: Pace,
    /// Authorities beside the public ones.
    pub(crate) ca_file: Option<PathBuf>,
    /// Subscriptions that there may be.
    pub(crate) most: usize,
    /// How long an earlier secret signs.
    pub(crate) overlap: Duration,
}

/// Reads `[subscriptions]`.
pub(crate) fn subscriptions(mut section: Section<'_>) -> Shared {
    const SECOND: Duration = Duration::from_secs(1);
    let (mut policy, mut pace) = (Policy::default(), Pace::default());
    let (p, s) = (&mut pace, &mut section);
    set(&mut policy.ports, s.numbers("ports"));
    set(&mut policy.loopback, s.boolean("loopback"));
    set(&mut p.calls, s.size("calls", 1));
    set(&mut p.deadline, s.duration("deadline", SECOND));
    set(&mut p.waiting, s.size("waiting", 1));
    set(&mut p.waiting_bytes, s.size("waiting_bytes", 64 << 10));
    set(&mut p.retry_first, s.duration("retry_first", Duration::from_millis(10)));
    set(&mut p.retry_most, s.duration("retry_most", SECOND));
    set(&mut p.disable_after, s.duration("disable_after", SECOND));
    let ca_file = s.path("ca_file");
    let most = s.size("most", 1).unwrap_or(MOST);
    let overlap = s.duration("secret_overlap", SECOND).unwrap_or(OVERLAP);
    if policy.loopback {
        let problem = "whoever registers a subscription reaches every port of this machine, in clear";
        s.warn("loopback", problem, "leave it out, but for tests");
    }
    section.finish();
    Shared { policy, pace, ca_file, most, overlap }
}

/// Reads one `[[subscription]]`.
pub(crate) fn subscription(mut section: Section<'_>, policy: &Policy) -> SubscriptionDraft {
    let s = &mut section;
    let name = s.name("name", "give the subscription a name");
    let tenant = s.name("tenant", "say whose changes it gets");
    let url = url(s, policy);
    let keys = keys(s);
    let filter = filter(s);
    let begin = [("now", Choice::Built(false)), ("start", Choice::Built(true))];
    let begin = if s.choice("from", &begin) == Some(true) { Begin::Start } else { Begin::Now };
    let config = (|| {
        let (name, tenant) = (name.clone()?, tenant.clone()?);
        Some(SubscriptionConfig { name, tenant, url: url?, keys: keys?, filter: filter?, begin })
    })();
    let (name_at, tenant_at) = (s.at("name"), s.at("tenant"));
    section.finish();
    SubscriptionDraft { name, name_at, tenant, tenant_at, config }
}

fn url(section: &mut Section<'_>, policy: &Policy) -> Option<Uri> {
    let text = section.required("url", "write the address of the endpoint, like \"https://hooks.example.com/crm\"")?;
    let fix = "use https:// and a public host; [subscriptions] ports and loopback say what else may be called";
    // The text is not repeated: its query may carry a key.
    match text.parse::<Uri>() {
        Err(_) => section.fault("url", "it is not a URL", fix),
        Ok(uri) => match policy.check(&uri) {
            Ok(()) => return Some(uri),
            Err(refused) => section.fault("url", refused.to_string(), fix),
        },
    }
    None
}

fn keys(section: &mut Section<'_>) -> Option<Vec<Key>> {
    let first = secret::required(section, SECRET);
    let second = SECOND.present(section);
    let secrets = [(SECRET, first), (SECOND, secret::optional(section, SECOND))];
    let mut keys = Vec::new();
    for (names, secret) in secrets {
        let Some(secret) = secret else { continue };
        match Key::new(secret.expose_secret()) {
            Ok(key) => keys.push(key),
            Err(refused) => {
                let key = names.written(section);
                section.fault(
                    key,
                    refused.to_string(),
                    "make one with: printf 'whsec_%s' \"$(openssl rand -base64 32)\"",
                );
            }
        }
    }
    (keys.len() == 1 + usize::from(second)).then_some(keys)
}

/// One list of names of a filter.
type Part = fn(&mut FilterText) -> &mut Option<String>;

fn filter(section: &mut Section<'_>) -> Option<Filter> {
    let parts: [(&'static str, Part); 5] = [
        ("systems", |filter| &mut filter.system),
        ("accounts", |filter| &mut filter.account),
        ("objects", |filter| &mut filter.object),
        ("kinds", |filter| &mut filter.kind),
        ("records", |filter| &mut filter.record),
    ];
    let (mut whole, mut good) = (FilterText::default(), true);
    for (key, part) in parts {
        let present = section.has(key);
        let Some(names) = section.texts(key) else {
            good &= !present;
            continue;
        };
        // By itself first, so that a fault is told where it stands.
        let mut alone = FilterText::default();
        *part(&mut alone) = Some(names.join(","));
        if let Err(refused) = alone.filter() {
            section.fault(key, refused.to_string(), "leave the key out for all");
            good = false;
        }
        *part(&mut whole) = Some(names.join(","));
    }
    let filter = whole.filter().ok().filter(|_| good)?;
    Some(Filter { replayed: false, ..filter })
}
