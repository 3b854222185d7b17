//! What the sections say about each other. Pure: drafts in, findings out. A draft whose own reading failed has holes;
//! a check that meets a hole says nothing, because the hole was reported already.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use headgate_gateway::config::{EndpointConfig, Owner, Owners};
use headgate_relay::config::{AdminConfig, Guard, StoreConfig, StorePlace};
use headgate_schemas::System;

use super::account::{self, Account};
use super::fault::At;
use super::gateway::{EndpointDraft, GatewayDraft, can_be_about};
use super::link::LinkDraft;
use super::reader::Reader;
use super::relay::ConnectionDraft;
use super::stream::StreamConfig;
use super::subscription::SubscriptionDraft;
use super::suggest;

/// Systems a link can write to in this version.
pub(crate) const TARGETS: [System; 2] = [System::Salesforce, System::Hubspot];
/// Systems that write only if a record is as it was read.
const CONDITIONAL: [System; 1] = [System::Salesforce];

/// The connections by name, as endpoints and links look them up.
pub(crate) struct Connections<'d> {
    by_name: BTreeMap<&'d str, &'d ConnectionDraft>,
    /// Some connection has no readable name, so that an unknown name may be its.
    nameless: bool,
}

impl<'d> Connections<'d> {
    /// Whose connections there are.
    pub(crate) fn tenants(&self) -> Vec<String> {
        let tenants: BTreeSet<&String> = self.by_name.values().filter_map(|c| c.tenant.as_ref()).collect();
        tenants.into_iter().cloned().collect()
    }

    /// Indexes the drafts. Reports names and accounts that occur twice.
    pub(crate) fn of(reader: &Reader<'_>, drafts: &'d [ConnectionDraft]) -> Self {
        unique(reader, "connection", drafts.iter().map(|d| (d.name.as_deref(), &d.name_at)));
        let mut accounts = BTreeMap::new();
        for draft in drafts {
            let (Some(name), Some(tenant), Some(system), Some(account)) =
                (&draft.name, &draft.tenant, draft.system, &draft.account)
            else {
                continue;
            };
            match accounts.get(&(tenant, system, account)) {
                None => {
                    accounts.insert((tenant, system, account), name);
                }
                Some(first) if *first == name => {}
                Some(first) => reader.fault(
                    &draft.account_at,
                    format!("connection \"{first}\" has this account already"),
                    "keep one connection per account",
                ),
            }
        }
        let named = |d: &'d ConnectionDraft| d.name.as_deref().map(|name| (name, d));
        Self {
            by_name: drafts.iter().rev().filter_map(named).collect(),
            nameless: drafts.iter().any(|d| d.name.is_none()),
        }
    }

    /// The connection called `name`; an unknown one is a fault at `at`.
    fn find(&self, reader: &Reader<'_>, at: &At, name: &str) -> Option<&'d ConnectionDraft> {
        let found = self.by_name.get(name).copied();
        if found.is_none() && !self.nameless {
            let names: Vec<&str> = self.by_name.keys().copied().collect();
            let fix = if names.is_empty() { "add a [[connection]]".to_owned() } else { suggest::advice(name, &names) };
            reader.fault(at, format!("there is no connection \"{name}\""), fix);
        }
        found
    }
}

/// Reports a name that occurs twice, at its second place.
fn unique<'d>(reader: &Reader<'_>, what: &str, names: impl Iterator<Item = (Option<&'d str>, &'d At)>) {
    let mut seen = Vec::new();
    for (name, at) in names {
        let Some(name) = name else { continue };
        if seen.contains(&name) {
            reader.fault(at, format!("another {what} has this name"), "give each one its own name");
        }
        seen.push(name);
    }
}

/// The two listeners must not meet.
pub(crate) fn listeners(reader: &Reader<'_>, gateway: &GatewayDraft, admin: &AdminConfig) {
    if gateway.listen == admin.listen && admin.listen.port() != 0 {
        reader.fault(
            &gateway.listen_at,
            "the admin API has the same address and port",
            "choose another port for one of them",
        );
    }
}

/// What the gateway makes must fit into the stream.
pub(crate) fn sizes(reader: &Reader<'_>, gateway: &GatewayDraft, stream: Option<&StreamConfig>) {
    let Some(most) = stream.map(StreamConfig::max_record_bytes) else { return };
    if gateway.limits.record_bytes > most {
        let problem = format!("the stream takes records of at most {most} bytes");
        reader.fault(&gateway.record_bytes_at, problem, "lower it, or raise stream.max_record_bytes");
    }
}

/// Relays that share a state share the stream, which only a cluster can be read by.
pub(crate) fn shared(reader: &Reader<'_>, store: Option<&StoreConfig>, at: &At, stream: Option<&StreamConfig>) {
    let shares = matches!(store.map(|s| &s.place), Some(StorePlace::Postgres(address)) if address.shared);
    if shares && matches!(stream, Some(StreamConfig::Embedded(_))) {
        let problem = "the embedded stream belongs to one process, so one relay reads it";
        reader.fault(at, problem, "take it out, or use engine = \"kafka\" in [stream]");
    }
}

/// Endpoints against each other and against their connections. Gives the whole ones.
pub(crate) fn endpoints(
    reader: &Reader<'_>,
    connections: &Connections<'_>,
    drafts: Vec<EndpointDraft>,
    tls: bool,
) -> Vec<EndpointConfig> {
    unique(reader, "endpoint", drafts.iter().map(|d| (d.name.as_deref(), &d.name_at)));
    let mut keys: Vec<&str> = Vec::new();
    for draft in &drafts {
        if draft.client_ca_file.is_some() && !tls {
            reader.fault(
                &draft.client_ca_at,
                "client certificates need TLS, and the gateway has no certificate of its own",
                "add [gateway.tls] with cert_file and key_file",
            );
        }
        let Some(key) = draft.key.as_deref() else { continue };
        if keys.contains(&key) {
            reader.fault(&draft.key_at, "another endpoint has this key", "make a key of its own for each endpoint");
        }
        keys.push(key);
    }
    drafts.into_iter().filter_map(|draft| endpoint(reader, connections, draft)).collect()
}

fn endpoint(reader: &Reader<'_>, connections: &Connections<'_>, draft: EndpointDraft) -> Option<EndpointConfig> {
    if draft.by_account {
        return by_account(reader, connections, draft);
    }
    let connection = connections.find(reader, &draft.connection_at, draft.connection.as_deref()?)?;
    let (provider, system) = (draft.provider?, connection.system?);
    if !can_be_about(provider, system) {
        let problem = format!("{} webhooks are not about a {system} connection", provider.as_str());
        reader.fault(&draft.provider_at, problem, format!("use \"{system}\", or name another connection"));
        return None;
    }
    let account = connection.account.clone()?;
    if let Some(organization) = &draft.organization {
        let same = match account::canonical(System::Salesforce, organization) {
            Account::Canonical(id) | Account::Doubtful(id, _) => id == account,
            Account::Wrong(_) => false,
        };
        if !same {
            let fix = format!("use the account of \"{}\", or leave the key out", connection.name.as_deref()?);
            reader.fault(&draft.organization_at, "it is not the account of the connection", fix);
        }
    }
    let (tenant, app_id) = (connection.tenant.clone()?, connection.app_id());
    let owner = Owner { tenant, connection: connection.name.clone()?, account, app_id };
    assemble(draft, system, Owners::One(owner))
}

/// An endpoint that serves every connection of its provider's system, told apart by account.
fn by_account(reader: &Reader<'_>, connections: &Connections<'_>, draft: EndpointDraft) -> Option<EndpointConfig> {
    let system = draft.provider?.system();
    let mut owners = HashMap::new();
    for connection in connections.by_name.values().filter(|connection| connection.system == Some(system)) {
        let (Some(tenant), Some(name), Some(account)) = (&connection.tenant, &connection.name, &connection.account)
        else {
            continue;
        };
        let (tenant, app_id) = (tenant.clone(), connection.app_id());
        let owner = Owner { tenant, connection: name.clone(), account: account.clone(), app_id };
        if let Some(other) = owners.insert(account.clone(), owner) {
            let problem = format!("connections \"{}\" and \"{name}\" have one account", other.connection);
            reader.fault(&draft.provider_at, problem, "name one connection in \"connection\" instead of a route");
        }
    }
    if owners.is_empty() && !connections.nameless {
        let problem = format!("there is no {system} connection, so every event is unrouted");
        reader.warn(&draft.provider_at, problem, format!("add a [[connection]] with system = \"{system}\""));
    }
    assemble(draft, system, Owners::ByAccount(owners))
}

fn assemble(draft: EndpointDraft, system: System, owners: Owners) -> Option<EndpointConfig> {
    let provider = (draft.provider?, system);
    let mut config = EndpointConfig::new(draft.name?, draft.key?, provider, owners, draft.credential?);
    config.client_ca_file = draft.client_ca_file;
    config.second_secret_expires = draft.second_secret_expires;
    config.allow_legacy = draft.allow_legacy;
    config.raw_url_fallback = draft.raw_url_fallback;
    config.allowed_origins = draft.allowed_origins;
    Some(config)
}

/// What an endpoint brings changes of.
#[derive(Clone, Debug)]
pub(crate) enum Fed {
    /// The connection of this name.
    Connection(String),
    /// Every connection of a system.
    System(System),
}

/// What `draft` brings changes of. `None` where its reading failed.
pub(crate) fn feeds(draft: &EndpointDraft) -> Option<Fed> {
    match &draft.connection {
        _ if draft.by_account => Some(Fed::System(draft.provider?.system())),
        Some(connection) => Some(Fed::Connection(connection.clone())),
        None => None,
    }
}

/// Warns of connections whose own changes nobody will see.
pub(crate) fn one_way(reader: &Reader<'_>, connections: &[ConnectionDraft], fed: &[Fed]) {
    for draft in connections {
        let Some(name) = &draft.name else { continue };
        let feeds = |fed: &Fed| match fed {
            Fed::Connection(connection) => connection == name,
            Fed::System(system) => draft.system == Some(*system),
        };
        if fed.iter().any(feeds) {
            continue;
        }
        if draft.poll {
            reader.warn(
                &draft.poll_at,
                "polling is not available in this version: changes made in this CRM are not seen",
                "add an [[endpoint]], or accept it with poll = \"off\"",
            );
        } else {
            reader.warn(
                &draft.poll_at,
                "neither an endpoint nor polling feeds this connection: changes made in this CRM are not seen",
                "add an [[endpoint]] if they should be",
            );
        }
    }
}

/// Links against each other and against their members.
pub(crate) fn links(reader: &Reader<'_>, connections: &Connections<'_>, drafts: &[LinkDraft]) {
    unique(reader, "link", drafts.iter().map(|d| (d.name.as_deref(), &d.name_at)));
    for (index, draft) in drafts.iter().enumerate() {
        members(reader, connections, draft);
        for earlier in &drafts[..index] {
            overlap(reader, draft, earlier);
        }
    }
}

fn members(reader: &Reader<'_>, connections: &Connections<'_>, draft: &LinkDraft) {
    let Some(members) = &draft.members else { return };
    for member in members {
        let Some(connection) = connections.find(reader, &draft.members_at, member) else { continue };
        if let (Some(own), Some(tenant)) = (&draft.tenant, &connection.tenant)
            && own != tenant
        {
            let problem = format!("\"{member}\" belongs to tenant \"{tenant}\", not \"{own}\"");
            reader.fault(&draft.members_at, problem, "link connections of one tenant only");
        }
        if let Some(system) = connection.system.filter(|s| draft.guard == Guard::Strict && !CONDITIONAL.contains(s)) {
            let problem = format!("{system} checks no preconditions: for \"{member}\" strict acts as read");
            reader.warn(
                &draft.guard_at,
                problem,
                "know that an edit made between read and write there may be overwritten",
            );
        }
        if let Some(system) = connection.system.filter(|system| !TARGETS.contains(system)) {
            let problem = format!("\"{member}\" is a {system} connection, which cannot be written to in this version");
            reader.fault(&draft.members_at, problem, "link Salesforce and HubSpot connections");
        }
    }
    if let Some(primary) = draft.primary.as_ref().filter(|primary| !members.contains(primary)) {
        let members: Vec<&str> = members.iter().map(String::as_str).collect();
        let fix = suggest::advice(primary, &members);
        reader.fault(&draft.primary_at, format!("\"{primary}\" is not one of the members"), fix);
    }
}

/// Subscriptions against each other and against the tenants there are.
pub(crate) fn subscriptions(reader: &Reader<'_>, connections: &Connections<'_>, drafts: &[SubscriptionDraft]) {
    unique(reader, "subscription", drafts.iter().map(|d| (d.name.as_deref(), &d.name_at)));
    for draft in drafts {
        let Some(tenant) = &draft.tenant else { continue };
        let tenants = connections.tenants();
        if !connections.nameless && !tenants.contains(tenant) {
            let problem = format!("no connection belongs to tenant \"{tenant}\", so nothing is sent");
            let tenants: Vec<&str> = tenants.iter().map(String::as_str).collect();
            reader.warn(&draft.tenant_at, problem, suggest::advice(tenant, &tenants));
        }
    }
}

/// A record belongs to one entity: two links may not pull the same object of one connection.
fn overlap(reader: &Reader<'_>, draft: &LinkDraft, earlier: &LinkDraft) {
    let (Some(a), Some(b)) = (&draft.members, &earlier.members) else { return };
    if draft.object.is_none() || draft.object != earlier.object || draft.tenant != earlier.tenant {
        return;
    }
    if let Some(shared) = a.iter().find(|member| b.contains(member)) {
        let other = earlier.name.as_deref().unwrap_or("another one");
        let problem = format!("link \"{other}\" keeps this object of \"{shared}\" already");
        reader.fault(&draft.object_at, problem, "put all connections of one object into one link");
    }
}
