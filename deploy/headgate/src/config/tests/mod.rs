//! The configuration through its front door: text and variables in, a whole configuration or every finding out.

mod faults;
#[cfg(feature = "kafka")]
mod kafka;
mod secrets;
mod subscription;
mod variables;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use headgate_gateway::config::{Credential, Owner, Owners, ProviderName};
use headgate_relay::config::{Auth, Guard, Policy, StorePlace};
use headgate_schemas::{ObjectType, System};
use secrecy::ExposeSecret;

use super::{Config, Env, StreamConfig, parse};

/// The documented example.
const EXAMPLE: &str = r#"
[gateway]
listen = "127.0.0.1:8080"
public_url = "http://127.0.0.1:8080"
[admin]                          # API, /metrics, /livez, /readyz, later the console; non-loopback needs a login
listen = "127.0.0.1:8081"
[stream]
engine = "embedded"              # or "kafka" with brokers = "host:9092"
path = "data/stream"
[store]
url = "sqlite://data/state.db"   # or postgres://…
key_file = "data/headgate.key"   # made on first start, mode 0600

[[connection]]
name = "hubspot-main"
tenant = "acme"
system = "hubspot"               # salesforce | hubspot | dynamics | pipedrive | native
account = "5550123"
base_url = "http://127.0.0.1:9101"
auth = { kind = "bearer", token_env = "HUBSPOT_TOKEN" }
[[connection]]
name = "salesforce-main"
tenant = "acme"
system = "salesforce"
account = "00D5g000000ABCDEA4"
base_url = "http://127.0.0.1:9102"
auth = { kind = "bearer", token_env = "SALESFORCE_TOKEN" }
poll = "off"                     # "auto" (default): poll where no endpoint feeds the connection

[[endpoint]]
name = "hubspot-app"
key = "lp8tCkWv3fZ0yQ2mN7rBxA"   # POST /in/hubspot/lp8tCkWv3fZ0yQ2mN7rBxA
provider = "hubspot"
connection = "hubspot-main"      # or route = "account"
secret_env = "HUBSPOT_APP_SECRET"
[[endpoint]]
name = "salesforce-messages"
key = "q7ZtB1nXc5eWm0uKjR4sDg"
provider = "salesforce"
connection = "salesforce-main"
organization = "00D5g000000ABCDEA4"   # default: the connection's account

[[link]]
name = "contacts"
tenant = "acme"
object = "contact"
members = ["hubspot-main", "salesforce-main"]
primary = "salesforce-main"
mapping = "default"
initial = "fill_empty"
guard = "read"
delete = "nothing"               # clear | delete; delete_grace = "60s"
mode = "live"                    # "shadow": everything but the write; percent = share of entities, by hash
[link.policy]
default = "last_write"
fields = { lifecycle = "theirs" }
"#;

fn env(pairs: &[(&str, &str)]) -> Env {
    let secrets = [("HUBSPOT_TOKEN", "pat-1"), ("SALESFORCE_TOKEN", "sf-1"), ("HUBSPOT_APP_SECRET", "app-1")];
    secrets.iter().chain(pairs).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn read(text: &str, variables: &[(&str, &str)]) -> Config {
    parse(text, Path::new("/etc/headgate"), &env(variables)).unwrap_or_else(|(faults, _)| panic!("{faults:#?}"))
}

fn lines(findings: &[super::Finding]) -> Vec<String> {
    findings.iter().map(|f| format!("{} | {} | {}", f.at, f.problem, f.fix)).collect()
}

/// The faults of `text`, one line each.
fn faults(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    match parse(text, Path::new("/etc/headgate"), &env(variables)) {
        Ok(_) => Vec::new(),
        Err((faults, _)) => lines(&faults),
    }
}

/// The example with `from` replaced, which must occur.
fn with(from: &str, to: &str) -> String {
    assert!(EXAMPLE.contains(from), "{from}");
    EXAMPLE.replacen(from, to, 1)
}

#[test]
fn the_documented_example_stands_as_it_is() {
    let config = read(EXAMPLE, &[]);
    assert_eq!(config.gateway.listen, SocketAddr::from(([127, 0, 0, 1], 8080)));
    assert_eq!(config.gateway.public_url.as_deref(), Some("http://127.0.0.1:8080"));
    assert_eq!(config.admin.listen, SocketAddr::from(([127, 0, 0, 1], 8081)));
    let StreamConfig::Embedded(stream) = &config.stream else { panic!("embedded") };
    assert_eq!(stream.path, Path::new("/etc/headgate/data/stream"));
    assert_eq!((stream.partitions, stream.retention_age), (24, Duration::from_secs(604_800)));
    let StorePlace::Sqlite(path) = &config.relay.store.place else { panic!("a file") };
    assert_eq!(path, Path::new("/etc/headgate/data/state.db"));
    assert_eq!(config.relay.store.key_file, Path::new("/etc/headgate/data/headgate.key"));

    let [hubspot, salesforce] = &config.relay.connections[..] else { panic!("two connections") };
    assert_eq!(
        (hubspot.name.as_str(), hubspot.system, hubspot.account.as_str()),
        ("hubspot-main", System::Hubspot, "5550123")
    );
    let Auth::Bearer(token) = &hubspot.auth else { panic!("a bearer token") };
    assert_eq!(token.expose_secret(), "pat-1");
    assert_eq!((hubspot.api_version.as_str(), hubspot.external_id_field.as_str()), ("2026-09", "relay_id"));
    assert_eq!((salesforce.api_version.as_str(), salesforce.external_id_field.as_str()), ("62.0", "Relay_Id__c"));
    assert_eq!((salesforce.client.as_str(), salesforce.account.as_str()), ("headgate", "00D5g000000ABCDEA4"));
    assert_eq!((salesforce.read_lag, salesforce.longest_run), (Duration::from_secs(5), Duration::from_secs(600)));

    let [app, messages] = &config.gateway.endpoints[..] else { panic!("two endpoints") };
    assert_eq!(
        (app.provider, app.owners.sole()),
        (ProviderName::Hubspot, Some(&owner("acme", "hubspot-main", "5550123")))
    );
    let Credential::Secrets(secrets) = &app.credential else { panic!("secrets") };
    assert_eq!(secrets.iter().map(|s| s.expose_secret()).collect::<Vec<_>>(), ["app-1"]);
    assert!(matches!(messages.credential, Credential::None));

    let [link] = &config.relay.links[..] else { panic!("one link") };
    assert_eq!((&link.object, link.guard), (&ObjectType::CONTACT, Guard::Read));
    assert_eq!(link.members, ["hubspot-main", "salesforce-main"]);
    assert_eq!((link.primary.as_str(), link.policy.default.as_ref()), ("salesforce-main", Some(&Policy::LastWrite)));
    assert_eq!(link.policy.fields, [("lifecycle".to_owned(), Policy::Theirs)]);
    assert_eq!(lines(&config.warnings), Vec::<String>::new());
}

#[test]
fn every_example_file_reads_without_a_fault() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        if text.contains("engine = \"kafka\"") && !cfg!(feature = "kafka") {
            continue;
        }
        let env = [("POSTGRES_PASSWORD", "of-the-database")];
        assert_eq!(faults(&text, &env), Vec::<String>::new(), "{}", path.display());
        files += 1;
    }
    assert!(files >= 1, "no example in {}", folder.display());
}

#[test]
fn an_empty_file_is_all_defaults() {
    let config = read("", &[]);
    assert_eq!(config.gateway.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.gateway.public_url.as_deref(), Some("http://127.0.0.1:8080"));
    assert_eq!(config.grace, Duration::from_secs(25));
    assert_eq!(config.gateway.limits.connections, 16_000);
    assert_eq!(config.relay.limits.calls_per_connection, 4);
    assert!(config.warnings.is_empty());
}

#[test]
fn a_free_port_leaves_the_public_url_open() {
    let config = read("[gateway]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n", &[]);
    assert_eq!(config.gateway.public_url, None);
}

#[test]
fn the_example_file_is_accepted_with_everything_in_it_switched_on() {
    // A key that is switched off stands behind its mark at once; prose has a space between.
    let switched_on = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    let text: String = include_str!("../../../../config/headgate.toml").lines().map(switched_on).collect();
    let names = ["HUBSPOT_TOKEN", "SALESFORCE_TOKEN", "HUBSPOT_APP_SECRET", "HUBSPOT_APP_SECRET_NEXT"];
    let env: Env = names.map(|name| (name.to_owned(), format!("value-of-{name}"))).into();
    let config = parse(&text, Path::new("/etc/headgate"), &env).map_err(|(faults, _)| faults).unwrap();
    let endpoints = &config.gateway.endpoints;
    let names: Vec<_> = endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
    assert_eq!(names, ["hubspot-app", "hubspot-everybody", "salesforce-messages"]);
    assert!(endpoints[0].second_secret_expires.is_some());
    assert!(matches!(&endpoints[1].owners, Owners::ByAccount(owners) if owners.contains_key("5550123")));
    assert_eq!(endpoints[2].client_ca_file.as_deref(), Some(Path::new("/etc/headgate/certs/ca.pem")));
    assert!(config.gateway.tls.is_some() && config.gateway.spool.is_some());
}

#[test]
fn limits_are_read() {
    let config = read(
        "[gateway.limits]\nbody_bytes = 2048\nrequests = 32\nrefusal_delay = \"0s\"\nheld_refusals = 7\norder_window = \"0ms\"\n[relay.limits]\ntick = \"20ms\"\nledger = \"30h\"\n",
        &[],
    );
    let limits = &config.gateway.limits;
    assert_eq!((limits.body_bytes, limits.order_window), (2_048, Duration::ZERO));
    assert_eq!((limits.requests, limits.refusal_delay, limits.held_refusals), (32, Duration::ZERO, 7));
    assert_eq!(config.relay.limits.tick, Duration::from_millis(20));
    assert_eq!(config.relay.limits.ledger, Duration::from_secs(108_000));
}

#[test]
fn the_certificate_and_the_proxies_are_read() {
    const HEAD: &str = "public_url = \"http://127.0.0.1:8080\"";
    let tls = "[gateway.tls]\ncert_file = \"certs/server.pem\"\nkey_file = \"/k.pem\"\n";
    let text = with(HEAD, &format!("public_url = \"https://h.example\"\ntrusted_proxies = [\"10.0.0.0/8\"]\n{tls}"));
    let config = read(&text, &[]).gateway;
    assert_eq!(config.trusted_proxies, ["10.0.0.0/8".parse().unwrap()]);
    let tls = config.tls.unwrap();
    assert_eq!(tls.cert_file, Path::new("/etc/headgate/certs/server.pem"));
    assert_eq!((tls.key_file.as_path(), tls.reload), (Path::new("/k.pem"), Duration::from_secs(10)));
    let default = read(EXAMPLE, &[]).gateway;
    assert!(default.tls.is_none() && default.trusted_proxies.len() == 2);

    let client = "organization = \"00D5g000000ABCDEA4\"\nclient_ca_file = \"ca.pem\"";
    let found = faults(&with("organization = \"00D5g000000ABCDEA4\"", client), &[]);
    assert!(found.len() == 1 && found[0].contains("client_ca_file | client certificates need TLS"), "{found:?}");
    let whole = text.replace("organization = \"00D5g000000ABCDEA4\"", client);
    let file = read(&whole, &[]).gateway.endpoints.remove(1).client_ca_file;
    assert_eq!(file.as_deref(), Some(Path::new("/etc/headgate/ca.pem")));
    for (from, to, fault) in [
        ("10.0.0.0/8", "10.0.0.0/80", "gateway.trusted_proxies | \"10.0.0.0/80\" is no address and no network"),
        ("key_file = \"/k.pem\"\n", "", "gateway.tls.key_file | it is missing | name the PEM file of the private key"),
    ] {
        let found = faults(&text.replace(from, to), &[]);
        assert!(found.len() == 1 && found[0].contains(fault), "{found:?}");
    }
}

#[test]
fn a_spool_needs_a_volume_that_is_declared_persistent() {
    const HEAD: &str = "public_url = \"http://127.0.0.1:8080\"\n";
    let spool = |keys: &str| with(HEAD, &format!("{HEAD}[gateway.spool]\n{keys}\n"));
    let config = read(&spool("persistent = true"), &[]).gateway.spool.unwrap();
    assert_eq!(config.path, Path::new("/etc/headgate/data/spool"));
    assert_eq!((config.bytes, config.deadline), (1 << 30, Duration::from_secs(1)));
    assert!(read(EXAMPLE, &[]).gateway.spool.is_none());
    for (keys, fault) in [
        ("path = \"s\"", "gateway.spool.persistent | a spool is only safe on a volume that outlives this process"),
        ("persistent = false", "gateway.spool.persistent | a spool is only safe"),
        ("persistent = true\ndeadline = \"2s\"", "gateway.spool.deadline | it leaves no time for the spool"),
    ] {
        let found = faults(&spool(keys), &[]);
        assert!(found.len() == 1 && found[0].contains(fault), "{found:?}");
    }
}

fn owner(tenant: &str, connection: &str, account: &str) -> Owner {
    Owner { tenant: tenant.to_owned(), connection: connection.to_owned(), account: account.to_owned(), app_id: None }
}

#[test]
fn an_endpoint_by_account_serves_every_connection_of_its_system() {
    const OTHER: &str = "[[connection]]\nname = \"hubspot-two\"\ntenant = \"globex\"\nsystem = \"hubspot\"\naccount = \"42\"\nbase_url = \"http://127.0.0.1:9101\"\nauth = { kind = \"bearer\", token_env = \"HUBSPOT_TOKEN\" }\n";
    let text = with("connection = \"hubspot-main\" ", "route = \"account\" ");
    let config = read(&format!("{text}{OTHER}"), &[]);
    let Owners::ByAccount(owners) = &config.gateway.endpoints[0].owners else { panic!("by account") };
    assert_eq!(owners.len(), 2);
    assert_eq!(owners.get("42"), Some(&owner("globex", "hubspot-two", "42")));
    assert_eq!(owners.get("5550123"), Some(&owner("acme", "hubspot-main", "5550123")));
    // Both connections are fed.
    assert!(
        !lines(&config.warnings).iter().any(|line| line.contains("connection[hubspot")),
        "{:?}",
        lines(&config.warnings)
    );

    let twice = format!("{text}{}", OTHER.replace("42", "5550123"));
    let found = faults(&twice, &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("connections \"hubspot-main\" and \"hubspot-two\" have one account"), "{found:?}");
    let native = with("provider = \"hubspot\"", "provider = \"native\"")
        .replace("connection = \"hubspot-main\" ", "route = \"account\" ");
    assert!(faults(&native, &[]).iter().any(|fault| fault.contains("calls of this provider name no account")));
}

#[test]
fn short_salesforce_accounts_become_long_ones() {
    let text = EXAMPLE.replace("00D5g000000ABCDEA4", "00D5g000000ABCD");
    let config = read(&text, &[]);
    assert_eq!(config.relay.connections[1].account, "00D5g000000ABCDEA4");
    assert_eq!(config.gateway.endpoints[1].owners.sole().map(|o| o.account.as_str()), Some("00D5g000000ABCDEA4"));
}

#[test]
fn a_connection_nobody_feeds_is_a_warning() {
    let one_way = |poll: &str| {
        let text = with("poll = \"off\"", poll);
        let start = text.find("[[endpoint]]\nname = \"salesforce-messages\"").unwrap();
        let end = text.find("[[link]]").unwrap();
        let config = read(&format!("{}{}", &text[..start], &text[end..]), &[]);
        lines(&config.warnings).first().cloned().unwrap_or_default()
    };
    assert_eq!(
        one_way("poll = \"off\""),
        "line 28: connection[salesforce-main].poll | neither an endpoint nor polling feeds this connection: changes made \
         in this CRM are not seen | add an [[endpoint]] if they should be"
    );
    assert_eq!(
        one_way("poll = \"auto\""),
        "line 28: connection[salesforce-main].poll | polling is not available in this version: changes made in this CRM \
         are not seen | add an [[endpoint]], or accept it with poll = \"off\""
    );
}

/// Reading starts from the defaults, so a limit added to a part compiles without a key. This finds it.
#[test]
fn every_limit_has_a_key() {
    let gateway = format!("{:#?}", headgate_gateway::config::Limits::default());
    let relay = format!("{:#?}", headgate_relay::config::Limits::default());
    for (section, limits) in [("gateway", gateway), ("relay", relay)] {
        let names: Vec<&str> = limits
            .lines()
            .filter_map(|line| line.strip_prefix("    ")?.split_once(": "))
            .map(|(name, _)| name)
            .collect();
        assert!(names.len() > 5, "{limits}");
        for name in names {
            let found = faults(&format!("[{section}.limits]\n{name} = true\n"), &[]);
            assert_eq!(found.len(), 1, "{name}: {found:?}");
            assert!(found[0].contains("it is true or false, not "), "{section}.limits.{name} is not read: {found:?}");
        }
    }
}

#[test]
fn strict_is_taken_and_says_where_it_acts_as_read() {
    let config = read(&with("guard = \"read\"", "guard = \"strict\""), &[]);
    assert_eq!(config.relay.links[0].guard, Guard::Strict);
    let warned = lines(&config.warnings);
    assert!(
        warned
            .iter()
            .any(|line| line.contains("hubspot checks no preconditions: for \"hubspot-main\" strict acts as read")),
        "{warned:?}"
    );
    assert!(!warned.iter().any(|line| line.contains("salesforce checks no preconditions")), "{warned:?}");
}

#[test]
fn every_policy_is_taken_and_consent_is_not_negotiable() {
    let order = "lifecycle = { policy = \"field_priority\", order = [\"salesforce-main\", \"hubspot-main\"] }";
    let fields = format!("{order}, phone = \"manual\", email = \"ours\", unsubscribed = \"last_write\"");
    let config = read(&with("lifecycle = \"theirs\"", &fields), &[]);
    let policy =
        |name: &str| config.relay.links[0].policy.fields.iter().find(|(n, _)| n == name).map(|(_, p)| p.clone());
    let names = ["salesforce-main", "hubspot-main"].map(str::to_owned).to_vec();
    assert_eq!(policy("lifecycle"), Some(Policy::FieldPriority(names)));
    assert_eq!(policy("phone"), Some(Policy::Manual));
    assert_eq!(policy("email"), Some(Policy::Ours));
    let warned = lines(&config.warnings);
    assert!(warned.iter().any(|line| line.contains("consent follows the most restrictive side")), "{warned:?}");
}
