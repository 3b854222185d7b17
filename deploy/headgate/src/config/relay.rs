//! `[relay.limits]` and `[[connection]]`. Reads each by itself; what they say about each other is decided in `cross`.
//! The surprise: features the documentation names and this version lacks are refused by name, because a setting that is
//! silently ignored is worse than a missing one.

use std::time::Duration;

use headgate_relay::config::{Auth, ConnectionConfig, Limits, SetUp};
use headgate_schemas::System;
use secrecy::{ExposeSecret, SecretString};

use super::account::{self, Account};
use super::address;
use super::durations;
use super::fault::At;
use super::gateway::url;
use super::oauth;
use super::reader::{Choice, Section, set};
use super::secret::{self, TOKEN};

/// `[[connection]]`, read. `None` where a fault was reported.
#[derive(Debug)]
pub(crate) struct ConnectionDraft {
    /// Its name.
    pub(crate) name: Option<String>,
    /// Where its name stands.
    pub(crate) name_at: At,
    /// Where its account stands.
    pub(crate) account_at: At,
    /// Whose it is.
    pub(crate) tenant: Option<String>,
    /// Which CRM.
    pub(crate) system: Option<System>,
    /// The account in canonical form.
    pub(crate) account: Option<String>,
    /// `poll` is `"auto"`.
    pub(crate) poll: bool,
    /// Where `poll` stands.
    pub(crate) poll_at: At,
    /// The whole, if nothing was wrong with it.
    pub(crate) config: Option<ConnectionConfig>,
}

impl ConnectionDraft {
    /// The id of our own app there, where it is known.
    pub(crate) fn app_id(&self) -> Option<String> {
        self.config.as_ref()?.app_id.clone()
    }
}

/// Reads `[relay]`.
pub(crate) fn relay(mut section: Section<'_>) -> Limits {
    let limits = limits(section.section("limits"));
    section.finish();
    limits
}

fn limits(mut section: Section<'_>) -> Limits {
    const MS: Duration = Duration::from_millis(1);
    const DAY: Duration = Duration::from_secs(86_400);
    let mut limits = Limits::default();
    let (l, s) = (&mut limits, &mut section);
    set(&mut l.calls_per_connection, s.size("calls_per_connection", 1));
    set(&mut l.accept_batch, s.size("accept_batch", 1));
    set(&mut l.read_first, s.duration("read_first", Duration::ZERO));
    set(&mut l.due_per_connection, s.size("due_per_connection", 1));
    set(&mut l.cached_entities, s.size("cached_entities", 1));
    set(&mut l.send_deadline, s.duration("send_deadline", Duration::from_secs(1)));
    set(&mut l.lease, s.duration("lease", Duration::from_secs(3)));
    set(&mut l.tick, s.duration("tick", MS));
    set(&mut l.answer_bytes, s.size("answer_bytes", 1 << 20));
    // Providers repeat for a day: a younger ledger would forget what they still bring back.
    set(&mut l.ledger, s.duration("ledger", DAY));
    set(&mut l.change_ids, s.duration("change_ids", DAY));
    set(&mut l.outcomes, s.duration("outcomes", Duration::from_secs(3_600)));
    set(&mut l.decisions, s.duration("decisions", DAY));
    set(&mut l.dead_letters, s.duration("dead_letters", DAY));
    set(&mut l.audit, s.duration("audit", DAY));
    set(&mut l.recount_batch, s.size("recount_batch", 1));
    set(&mut l.estimate_records, s.size("estimate_records", 1));
    section.finish();
    limits
}

/// Reads one `[[connection]]`.
pub(crate) fn connection(mut section: Section<'_>) -> ConnectionDraft {
    let s = &mut section;
    let name = s.name("name", "give the connection a name");
    let tenant = s.name("tenant", "say whose connection it is");
    let system = system(s);
    let account = account(s, system);
    let base_url = base_url(s);
    let auth = auth(s, system);
    let poll = poll(s);
    s.not_yet(&["quota"]);
    let set_up = setup(s);
    let versions = dialect(s, system);
    let client = token_text(s, "client", "headgate");
    let mut draft = ConnectionDraft {
        name_at: s.at("name"),
        account_at: s.at("account"),
        poll_at: s.at("poll"),
        name,
        tenant,
        system,
        account,
        poll,
        config: None,
    };
    let read_lag = s.duration("read_lag", Duration::ZERO).unwrap_or(Duration::from_secs(5));
    let longest_run = s.duration("longest_run", Duration::from_secs(1)).unwrap_or(Duration::from_secs(600));
    let app_id = s.text("app_id");
    section.finish();
    draft.config = (|| {
        let (api_version, external_id_field) = versions?;
        Some(ConnectionConfig {
            name: draft.name.clone()?,
            tenant: draft.tenant.clone()?,
            system: draft.system?,
            account: draft.account.clone()?,
            base_url: base_url?,
            auth: auth?,
            api_version,
            client: client?,
            app_id,
            external_id_field,
            set_up,
            read_lag,
            longest_run,
        })
    })();
    draft
}

fn system(section: &mut Section<'_>) -> Option<System> {
    section.required("system", "name the CRM, like \"hubspot\"")?;
    section.choice("system", &System::ALL.map(|system| (system.as_str(), Choice::Built(system))))
}

fn account(section: &mut Section<'_>, system: Option<System>) -> Option<String> {
    let text = section.required("account", "write the account id of the CRM (portal id, organization id)")?;
    match account::canonical(system?, &text) {
        Account::Canonical(account) => Some(account),
        Account::Doubtful(account, why) => {
            section.warn("account", why, "copy the organization id again; events of another account are not taken");
            Some(account)
        }
        Account::Wrong(expected) => {
            section.fault("account", format!("\"{text}\" is not an account of this system"), format!("use {expected}"));
            None
        }
    }
}

fn base_url(section: &mut Section<'_>) -> Option<String> {
    if !section.has("base_url") {
        section.fault("base_url", "it is missing", "write the URL of the CRM's API, like \"https://api.hubapi.com\"");
        return None;
    }
    let url = url(section, "base_url")?;
    if address::in_clear(&url) {
        section.warn("base_url", "the token travels to it in clear", "use https://");
    }
    Some(url)
}

/// What `auth` is.
#[derive(Clone, Copy)]
enum Kind {
    Bearer,
    Oauth,
}

/// `auth`: one of several kinds.
fn auth(section: &mut Section<'_>, system: Option<System>) -> Option<Auth> {
    if !section.has("auth") {
        section.fault("auth", "it is missing", "write auth = { kind = \"bearer\", token_env = \"NAME\" }");
        return None;
    }
    let mut auth = section.section("auth");
    if !auth.is_present() {
        return None;
    }
    auth.required("kind", "write kind = \"bearer\" or \"oauth2\"")?;
    let kinds = [
        ("bearer", Choice::Built(Kind::Bearer)),
        ("oauth2", Choice::Built(Kind::Oauth)),
        ("api_token", Choice::NotYet),
    ];
    // Which keys belong here depends on the kind, so after a fault none of them can be called unknown.
    let read = match auth.choice("kind", &kinds)? {
        Kind::Bearer => {
            let token = secret::required(&mut auth, TOKEN);
            token.filter(|token| stands_in_header(&mut auth, token)).map(Auth::Bearer)
        }
        Kind::Oauth => oauth::oauth(&mut auth, system).map(|oauth| Auth::Oauth(Box::new(oauth))),
    };
    auth.finish();
    read
}

fn stands_in_header(auth: &mut Section<'_>, token: &SecretString) -> bool {
    let fits = token.expose_secret().bytes().all(|b| b.is_ascii_graphic());
    if !fits {
        let key = TOKEN.written(auth);
        auth.fault(
            key,
            "the token has spaces, line ends or other characters that no header may carry",
            "store the token alone",
        );
    }
    fits
}

/// `poll`; true for `auto`. An interval is what other tools take here, so it is answered by what works instead.
fn poll(section: &mut Section<'_>) -> bool {
    let Some(text) = section.scalar("poll") else { return true };
    if durations::parse(&text).is_some() {
        let problem = "polling at an interval is not available in this version";
        section.fault("poll", problem, "write \"off\", and let an [[endpoint]] feed the connection");
        return true;
    }
    section.choose("poll", &text, &[("auto", Choice::Built(true)), ("off", Choice::Built(false))]).unwrap_or(true)
}

fn setup(section: &mut Section<'_>) -> SetUp {
    let choices = [("auto", Choice::Built(SetUp::Auto)), ("never", Choice::Built(SetUp::Never))];
    section.choice("setup", &choices).unwrap_or(SetUp::Auto)
}

/// `api_version` and `external_id_field`: their form depends on the system.
fn dialect(section: &mut Section<'_>, system: Option<System>) -> Option<(String, String)> {
    let (field, version) = match system {
        Some(System::Salesforce) => ("Relay_Id__c", "62.0"),
        Some(System::Dynamics) => ("relay_extid", "9.2"),
        Some(System::Hubspot) => ("relay_id", "2026-09"),
        Some(System::Pipedrive | System::Native) | None => ("relay_id", "v1"),
    };
    let field = token_text(section, "external_id_field", field);
    let written = section.text("api_version");
    let version = written.unwrap_or_else(|| version.to_owned());
    let numbered = || version.strip_suffix(".0").is_some_and(|n| n.len() == 2 && n.bytes().all(|b| b.is_ascii_digit()));
    let (fits, fix) = match system? {
        System::Hubspot => {
            (matches!(version.as_str(), "2026-09" | "2026-03" | "v3"), "use \"2026-09\", \"2026-03\" or \"v3\"")
        }
        System::Salesforce => (numbered(), "use a version like \"62.0\""),
        System::Dynamics | System::Pipedrive | System::Native => (!version.is_empty(), "use the CRM's own name of it"),
    };
    if !fits {
        section.fault("api_version", format!("\"{version}\" is not a version of this API"), fix);
        return None;
    }
    Some((version, field?))
}

/// Text that goes into headers and queries: letters, digits, `.`, `_` and `-`.
fn token_text(section: &mut Section<'_>, key: &'static str, default: &str) -> Option<String> {
    if section.has(key) { section.name(key, "leave the key out for the default") } else { Some(default.to_owned()) }
}
