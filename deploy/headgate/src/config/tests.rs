//! The configuration through its front door: text and variables in, a whole configuration or every finding out.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use headgate_gateway::config::{Credential, Owner, Owners, ProviderName};
use headgate_relay::config::{Auth, Guard, Policy, StorePlace};
use headgate_relay::oauth::Grant;
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
    let text: String = include_str!("../../../config/headgate.toml").lines().map(switched_on).collect();
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
fn variables_override_by_section_and_by_name() {
    let config = read(
        EXAMPLE,
        &[
            ("HEADGATE__GATEWAY__LISTEN", "127.0.0.1:9000"),
            ("HEADGATE__GATEWAY__LIMITS__CONNECTIONS", "7"),
            ("HEADGATE__CONNECTION__HUBSPOT_MAIN__BASE_URL", "http://127.0.0.1:9999/"),
            ("HEADGATE__CONNECTION__SALESFORCE_MAIN__AUTH__TOKEN_ENV", "OTHER"),
            ("OTHER", "sf-2"),
            ("HEADGATE__ENDPOINT__HUBSPOT_APP__RAW_URL_FALLBACK", "true"),
            ("HEADGATE__LINK__CONTACTS__MEMBERS", "salesforce-main, hubspot-main"),
            ("HEADGATE__LINK__CONTACTS__POLICY__FIELDS__EMAIL", "theirs"),
            ("HEADGATE_LOG", "debug"),
        ],
    );
    assert_eq!(config.gateway.listen.port(), 9_000);
    assert_eq!(config.gateway.limits.connections, 7);
    assert_eq!(config.relay.connections[0].base_url, "http://127.0.0.1:9999");
    let Auth::Bearer(token) = &config.relay.connections[1].auth else { panic!("a bearer token") };
    assert_eq!(token.expose_secret(), "sf-2");
    assert!(config.gateway.endpoints[0].raw_url_fallback);
    assert_eq!(config.relay.links[0].members, ["salesforce-main", "hubspot-main"]);
    assert_eq!(config.relay.links[0].policy.fields[0], ("email".to_owned(), Policy::Theirs));
    assert_eq!(lines(&config.warnings), Vec::<String>::new());
}

#[test]
fn stray_variables_are_warnings_with_the_nearest_name() {
    let config = read(
        EXAMPLE,
        &[
            ("HEADGATE__GATEWAY__LISTN", "x"),
            ("HEADGATE__GATEWY__LISTEN", "x"),
            ("HEADGATE__CONNECTION__HUBSPOT_MIAN__BASE_URL", "x"),
            ("HEADGATE__CONNECTION__HUBSPOT_MAIN__BASE_ULR", "x"),
            ("HEADGATE__CONNECTION", "x"),
            ("HEADGATE__GATEWAY__LISTEN__X", "x"),
            ("HEADGATE__STORE", "x"),
            ("HEADGATE__", "x"),
        ],
    );
    let strays: Vec<String> = lines(&config.warnings).into_iter().filter(|line| line.starts_with("HEADGATE")).collect();
    assert_eq!(
        strays,
        [
            "HEADGATE__ | this variable sets nothing | write HEADGATE__SECTION__KEY",
            "HEADGATE__CONNECTION | this variable sets nothing | write HEADGATE__CONNECTION__NAME__KEY",
            "HEADGATE__CONNECTION__HUBSPOT_MAIN__BASE_ULR: connection[hubspot-main].base_ulr | this variable sets \
             nothing: the key is not known | did you mean \"base_url\"?",
            "HEADGATE__CONNECTION__HUBSPOT_MIAN__BASE_URL | this variable sets nothing | did you mean \"HUBSPOT_MAIN\"?",
            "HEADGATE__GATEWAY__LISTEN__X | this variable sets nothing | \"listen\" is not a table: nothing can follow it",
            "HEADGATE__GATEWAY__LISTN: gateway.listn | this variable sets nothing: the key is not known | did you mean \
             \"listen\"?",
            "HEADGATE__GATEWY__LISTEN: gatewy | this variable sets nothing: the key is not known | did you mean \
             \"gateway\"?",
            "HEADGATE__STORE | this variable sets nothing | \"store\" is a table: name one of its keys after it",
        ]
    );
}

#[test]
fn a_variable_of_the_wrong_type_and_an_ambiguous_name_are_faults() {
    assert_eq!(
        faults("", &[("HEADGATE__GATEWAY__LIMITS__CONNECTIONS", "many")]),
        [
            "HEADGATE__GATEWAY__LIMITS__CONNECTIONS: gateway.limits.connections | it is text, not a whole number | write \
          digits only"
        ]
    );
    let twins = with("name = \"salesforce-main\"", "name = \"hubspot.main\"")
        .replace("\"salesforce-main\"", "\"hubspot.main\"");
    assert_eq!(
        faults(&twins, &[("HEADGATE__CONNECTION__HUBSPOT_MAIN__BASE_URL", "http://127.0.0.1:1")]),
        [
            "HEADGATE__CONNECTION__HUBSPOT_MAIN__BASE_URL | more than one connection answers to this name | rename one of \
          them: in variables \"-\" and \".\" are both written \"_\""
        ]
    );
}

#[test]
fn all_faults_of_a_bad_file_come_at_once() {
    let text = "\
[gatway]
listen = \"x\"
[gateway]
listen = \"localhost:80\"
publik_url = \"http://h\"
[gateway.limits]
connections = \"many\"
header_timeout = 10
body_timeout = \"10 seconds\"
body_bytes = 0
[store]
url = \"mysql://root:hunter2@db\"
[[connection]]
name = \"a\"
system = \"hubspt\"
account = 5550123
base_url = \"api.hubapi.com\"
auth = { kind = \"bearer\", token = \"hunter2\" }
[[endpoint]]
name = \"e\"
key = \"k\"
provider = \"hubspot\"
connection = \"b\"
secret_env = \"MISSING\"
[[link]]
name = \"l\"
";
    assert_eq!(
        faults(text, &[]),
        [
            "line 1: gatway | this section is not known | did you mean \"gateway\"?",
            "line 4: gateway.listen | \"localhost:80\" is not an address with a port | write an address and a port, like \
             \"127.0.0.1:8080\"",
            "line 5: gateway.publik_url | this key is not known | did you mean \"public_url\"?",
            "line 7: gateway.limits.connections | it is text, not a whole number | write it without quotes and without a \
             unit",
            "line 8: gateway.limits.header_timeout | it is a whole number, not a duration | write a whole number and a \
             unit: ms, s, m, h or d, like \"50ms\", \"60s\", \"2h\"",
            "line 9: gateway.limits.body_timeout | \"10 seconds\" is not a duration | write a whole number and a unit: \
             ms, s, m, h or d, like \"50ms\", \"60s\", \"2h\"",
            "line 10: gateway.limits.body_bytes | 0 is out of range | use at least 1024",
            "line 12: store.url | it is not a store URL | use \"sqlite://data/state.db\" or \"postgres://user@host:5432/database\"",
            "line 13: connection[a].tenant | it is missing | say whose connection it is",
            "line 15: connection[a].system | \"hubspt\" is not known | did you mean \"hubspot\"?",
            "line 16: connection[a].account | it is a whole number, not text | put it in quotes",
            "line 17: connection[a].base_url | it does not begin with http:// or https:// | write scheme, host and prefix only, like \
             \"https://api.example.com\"",
            "line 18: connection[a].auth.token | a secret must not stand in the configuration | put it into an \
             environment variable and name that in token_env, or into a file named in token_file",
            "line 23: endpoint[e].connection | there is no connection \"b\" | use \"a\"",
            "line 24: endpoint[e].secret_env | the environment variable MISSING is not set | set MISSING before the start",
            "line 25: link[l].tenant | it is missing | say whose link it is",
            "line 25: link[l].object | it is missing | name what is kept equal, like \"contact\"",
            "line 25: link[l].members | it is missing | name two or more connections",
            "line 25: link[l].primary | it is missing | name the member that wins ties",
        ]
    );
}

#[test]
fn a_syntax_error_is_a_fault_with_its_line() {
    let found = faults("[gateway]\nlisten = \n", &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("line 2 | this is not TOML: "), "{found:?}");
}

/// One change to the example, one fault.
const ONE_FAULT: &[(&str, &str, &str)] = &[
    (
        "sqlite://data/state.db",
        "postgres://u:p@db/x",
        "store.url | a password must not stand in the URL | name an environment variable in password_env, or a file in \
         password_file",
    ),
    (
        "sqlite://data/state.db",
        "postgres://u@db/x?sslmode=prefer",
        "store.url | this sslmode is not safe against somebody in between | write sslmode=verify-full, or \
         sslmode=disable on a network you trust",
    ),
    (
        "sqlite://data/state.db",
        "mysql://u@db/x",
        "store.url | it is not a store URL | use \"sqlite://data/state.db\" or \"postgres://user@host:5432/database\"",
    ),
    (
        "listen = \"127.0.0.1:8081\"",
        "listen = \"0.0.0.0:8081\"",
        "admin.listen | an admin address off loopback needs a login, which is not available in this version | listen on 127.0.0.1 and reach it through a tunnel",
    ),
    (
        "listen = \"127.0.0.1:8081\"",
        "listen = \"127.0.0.1:8080\"",
        "gateway.listen | the admin API has the same address and port | choose another port for one of them",
    ),
    (
        "listen = \"127.0.0.1:8080\"\n",
        "listen = \"127.0.0.1:8080\"\ntls = { cert_file = \"c.pem\" }\n",
        "gateway.tls.key_file | it is missing | name the PEM file of the private key",
    ),
    (
        "listen = \"127.0.0.1:8080\"\npublic_url = \"http://127.0.0.1:8080\"",
        "listen = \"0.0.0.0:8080\"",
        "gateway.public_url | it is missing, and listen is not on loopback | write the URL as the providers call it, like \"https://hooks.example.com\"",
    ),
    (
        "account = \"5550123\"",
        "account = \"acme\"",
        "connection[hubspot-main].account | \"acme\" is not an account of this system | use the portal id, digits only",
    ),
    (
        "kind = \"bearer\", token_env = \"HUBSPOT_TOKEN\"",
        "kind = \"api_token\", token_env = \"HUBSPOT_TOKEN\"",
        "connection[hubspot-main].auth.kind | \"api_token\" is not available in this version | use \"bearer\" or \"oauth2\"",
    ),
    (
        "kind = \"bearer\", token_env = \"HUBSPOT_TOKEN\"",
        "kind = \"oauth2\", client_id = \"x\"",
        "connection[hubspot-main].auth.grant | it is missing | write grant = \"authorization_code\", \"client_credentials\" or \"jwt_bearer\"",
    ),
    (
        "token_env = \"HUBSPOT_TOKEN\"",
        "token_env = \"SPACED\"",
        "connection[hubspot-main].auth.token_env | the token has spaces, line ends or other characters that no header may carry | store the token alone",
    ),
    (
        "token_env = \"HUBSPOT_TOKEN\"",
        "token_file = \"nowhere\"",
        "connection[hubspot-main].auth.token_file | the file /etc/headgate/nowhere cannot be read: entity not found | name a readable file that holds the secret alone",
    ),
    (
        "poll = \"off\"",
        "poll = \"5m\"",
        "connection[salesforce-main].poll | polling at an interval is not available in this version | write \"off\", and let an [[endpoint]] feed the connection",
    ),
    (
        "poll = \"off\"",
        "quota = {}",
        "connection[salesforce-main].quota | \"quota\" is not available in this version | remove the key",
    ),
    (
        "poll = \"off\"",
        "api_version = \"v62\"",
        "connection[salesforce-main].api_version | \"v62\" is not a version of this API | use a version like \"62.0\"",
    ),
    (
        "key = \"lp8tCkWv3fZ0yQ2mN7rBxA\"",
        "key = \"q7ZtB1nXc5eWm0uKjR4sDg\"",
        "endpoint[salesforce-messages].key | another endpoint has this key | make a key of its own for each endpoint",
    ),
    (
        "provider = \"hubspot\"",
        "provider = \"hubspt\"",
        "endpoint[hubspot-app].provider | \"hubspt\" is not known | did you mean \"hubspot\"?",
    ),
    (
        "connection = \"hubspot-main\"",
        "connection = \"hubspot-mian\"",
        "endpoint[hubspot-app].connection | there is no connection \"hubspot-mian\" | did you mean \"hubspot-main\"?",
    ),
    (
        "connection = \"hubspot-main\"",
        "connection = \"salesforce-main\"",
        "endpoint[hubspot-app].provider | hubspot webhooks are not about a salesforce connection | use \"salesforce\", or name another connection",
    ),
    (
        "connection = \"hubspot-main\"",
        "connection = \"hubspot-main\"\nroute = \"account\"",
        "endpoint[hubspot-app].connection | route = \"account\" finds the connection by each event's account | keep one of the two keys",
    ),
    (
        "organization = \"00D5g000000ABCDEA4\"",
        "organization = \"00D5g000000ABCE\"",
        "endpoint[salesforce-messages].organization | it is not the account of the connection | use the account of \"salesforce-main\", or leave the key out",
    ),
    (
        "secret_env = \"HUBSPOT_APP_SECRET\"",
        "secret = \"s3cret\"",
        "endpoint[hubspot-app].secret | a secret must not stand in the configuration | put it into an environment variable and name that in secret_env, or into a file named in secret_file",
    ),
    (
        "secret_env = \"HUBSPOT_APP_SECRET\"",
        "secret_env = \"BLANK\"",
        "endpoint[hubspot-app].secret_env | the environment variable BLANK is empty | set BLANK before the start",
    ),
    (
        "object = \"contact\"",
        "object = \"contct\"",
        "link[contacts].object | \"contct\" is not known | did you mean \"contact\"?",
    ),
    (
        "object = \"contact\"",
        "object = \"ticket\"",
        "link[contacts].object | \"ticket\" is not available in this version | use one of \"contact\", \"company\", \"deal\"",
    ),
    (
        "members = [\"hubspot-main\", \"salesforce-main\"]",
        "members = [\"salesforce-main\"]",
        "link[contacts].members | fewer than two connections are named | name two or more",
    ),
    (
        "members = [\"hubspot-main\", \"salesforce-main\"]",
        "members = [\"salesforce-main\", \"salesforce-main\"]",
        "link[contacts].members | a connection is named twice | name each one once",
    ),
    (
        "primary = \"salesforce-main\"",
        "primary = \"salesforce-mian\"",
        "link[contacts].primary | \"salesforce-mian\" is not one of the members | did you mean \"salesforce-main\"?",
    ),
    ("mapping = \"default\"", "mapping = \"own\"", "link[contacts].mapping | \"own\" is not known | use \"default\""),
    (
        "initial = \"fill_empty\"",
        "initial = \"newest\"",
        "link[contacts].initial | \"newest\" is not available in this version | use \"fill_empty\"",
    ),
    (
        "guard = \"read\"",
        "guard = \"stricter\"",
        "link[contacts].guard | \"stricter\" is not known | did you mean \"strict\"?",
    ),
    (
        "delete = \"nothing\"",
        "delete = \"cleared\"",
        "link[contacts].delete | \"cleared\" is not known | did you mean \"clear\"?",
    ),
    (
        "delete = \"nothing\"",
        "delete_brake = { percent = 101 }",
        "link[contacts].delete_brake.percent | 101 is more than all | use a number from 1 to 100",
    ),
    (
        "delete = \"nothing\"",
        "delete_brake = { count = 0 }",
        "link[contacts].delete_brake.count | 0 is out of range | use at least 1",
    ),
    (
        "mode = \"live\"",
        "mode = \"shadow\"",
        "link[contacts].mode | \"shadow\" is not available in this version | use \"live\"",
    ),
    (
        "mode = \"live\"",
        "percent = 5",
        "link[contacts].percent | \"percent\" is not available in this version | remove the key",
    ),
    (
        "default = \"last_write\"",
        "default = \"last-write\"",
        "link[contacts].policy.default | \"last-write\" is not known | did you mean \"last_write\"?",
    ),
    (
        "default = \"last_write\"",
        "default = \"field_priority\"",
        "link[contacts].policy.default | field_priority needs an order | add order = [\"first\", \"second\"]",
    ),
    (
        "default = \"last_write\"",
        "default = \"ours\"\norder = [\"hubspot-main\"]",
        "link[contacts].policy.order | only field_priority has an order | remove the key",
    ),
    (
        "lifecycle = \"theirs\"",
        "lifecycle = \"field_priority\"",
        "link[contacts].policy.fields.lifecycle | field_priority needs an order | write { policy = \"field_priority\", order = [\"first\", \"second\"] }",
    ),
    (
        "lifecycle = \"theirs\"",
        "lifecycle = { policy = \"field_priority\", order = [\"hubspot-mian\"] }",
        "link[contacts].policy.fields.lifecycle.order | \"hubspot-mian\" is not one of the members | did you mean \"hubspot-main\"?",
    ),
    (
        "lifecycle = \"theirs\"",
        "lifecycle = { policy = \"field_priority\", order = [\"hubspot-main\", \"hubspot-main\"] }",
        "link[contacts].policy.fields.lifecycle.order | \"hubspot-main\" is named twice | name each member once",
    ),
    (
        "lifecycle = \"theirs\"",
        "lifecycle = { policy = \"field_priority\", order = [] }",
        "link[contacts].policy.fields.lifecycle.order | it is empty | name the members, the one that wins first",
    ),
];

#[test]
fn one_change_one_fault() {
    for (from, to, expected) in ONE_FAULT {
        let found = faults(&with(from, to), &[("SPACED", "a b"), ("BLANK", "")]);
        let without_line: Vec<&str> =
            found.iter().map(|f| f.split_once(": ").map_or(f.as_str(), |(_, rest)| rest)).collect();
        assert_eq!(without_line, [*expected], "{to}");
    }
}

#[test]
fn one_mistake_may_break_several_promises_each_told_once() {
    assert_eq!(
        faults(&with("name = \"salesforce-main\"\ntenant", "name = \"hubspot-main\"\ntenant"), &[]),
        [
            "line 22: connection[hubspot-main].name | another connection has this name | give each one its own name",
            "line 40: endpoint[salesforce-messages].connection | there is no connection \"salesforce-main\" | use \"hubspot-main\"",
            "line 47: link[contacts].members | there is no connection \"salesforce-main\" | use \"hubspot-main\"",
        ]
    );
    assert_eq!(
        faults(&with("token_env = \"HUBSPOT_TOKEN\"", "tokn_env = \"HUBSPOT_TOKEN\""), &[]),
        [
            "line 20: connection[hubspot-main].auth.token_env | it is missing | name an environment variable in token_env, or a file in token_file",
            "line 20: connection[hubspot-main].auth.tokn_env | this key is not known | did you mean \"token_env\"?",
        ]
    );
    assert_eq!(
        faults(&with("tenant = \"acme\"\nobject", "tenant = \"acne\"\nobject"), &[]),
        [
            "line 47: link[contacts].members | \"hubspot-main\" belongs to tenant \"acme\", not \"acne\" | link connections of one tenant only",
            "line 47: link[contacts].members | \"salesforce-main\" belongs to tenant \"acme\", not \"acne\" | link connections of one tenant only",
        ]
    );
}

#[test]
fn two_links_cannot_pull_one_object_of_one_connection() {
    let second = "[[link]]\nname = \"more\"\ntenant = \"acme\"\nobject = \"contact\"\n\
        members = [\"hubspot-main\", \"salesforce-main\"]\nprimary = \"hubspot-main\"\n";
    let found = faults(&format!("{EXAMPLE}{second}"), &[]);
    assert_eq!(
        found,
        ["line 60: link[more].object | link \"contacts\" keeps this object of \"hubspot-main\" already | put all \
          connections of one object into one link"]
    );
    assert_eq!(faults(&format!("{EXAMPLE}{}", second.replace("contact", "deal")), &[]), Vec::<String>::new());
}

#[test]
fn off_loopback_a_key_has_128_bits() {
    let public = with(
        "listen = \"127.0.0.1:8080\"\npublic_url = \"http://127.0.0.1:8080\"",
        "listen = \"0.0.0.0:8080\"\npublic_url = \"https://h.example\"",
    );
    assert_eq!(faults(&public, &[]), Vec::<String>::new());
    let found = faults(&public.replace("lp8tCkWv3fZ0yQ2mN7rBxA", "lp8tCkWv3fZ0yQ2mN7rBx"), &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("endpoint[hubspot-app].key | it is shorter than 128 bits"), "{found:?}");
    assert_eq!(faults(&with("lp8tCkWv3fZ0yQ2mN7rBxA", "short"), &[]), Vec::<String>::new());
    // Behind a proxy the gateway listens on loopback, and its endpoints stand in the open all the same.
    let proxied = EXAMPLE.replace("public_url = \"http://127.0.0.1:8080\"", "public_url = \"https://h.example\"");
    assert_eq!(faults(&proxied, &[]), Vec::<String>::new());
    let found = faults(&proxied.replace("lp8tCkWv3fZ0yQ2mN7rBxA", "short"), &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("endpoint[hubspot-app].key | it is shorter than 128 bits"), "{found:?}");
}

/// The example with this `auth` of its HubSpot connection.
fn with_auth(keys: &str) -> String {
    with("kind = \"bearer\", token_env = \"HUBSPOT_TOKEN\"", &format!("kind = \"oauth2\", {keys}"))
}

const TOKEN_URL: &str = "token_url = \"https://api.hubapi.com/oauth/v3/token\", client_id = \"app\"";

#[test]
fn a_login_and_a_programs_own_credentials_are_read() {
    let secret = "client_secret_env = \"SALESFORCE_TOKEN\"";
    let login = format!("grant = \"authorization_code\", {TOKEN_URL}, {secret}, refresh_token_env = \"HUBSPOT_TOKEN\"");
    let config = read(&with_auth(&login), &[]);
    let Auth::Oauth(oauth) = &config.relay.connections[0].auth else { panic!("a login") };
    assert_eq!((oauth.token_url.as_str(), oauth.client_id.as_str()), ("https://api.hubapi.com/oauth/v3/token", "app"));
    assert_eq!(oauth.scope, None);
    let Grant::RefreshToken { client_secret: Some(client), refresh_token } = &oauth.grant else { panic!("a login") };
    assert_eq!((client.expose_secret(), refresh_token.expose_secret()), ("sf-1", "pat-1"));
    assert!(!format!("{config:?}").contains("pat-1"));

    let own = format!("grant = \"client_credentials\", {TOKEN_URL}, {secret}, scope = \"api\"");
    let config = read(&with_auth(&own), &[]);
    let Auth::Oauth(oauth) = &config.relay.connections[0].auth else { panic!("credentials") };
    assert!(
        matches!(&oauth.grant, Grant::ClientCredentials { client_secret } if client_secret.expose_secret() == "sf-1")
    );
    assert_eq!(oauth.scope.as_deref(), Some("api"));
}

#[test]
fn faults_of_fetched_tokens_say_what_to_do() {
    let at = "connection[hubspot-main].auth";
    let fix = "write the token endpoint of the CRM, like \"https://acme.my.salesforce.com/services/oauth2/token\"";
    let refresh = "refresh_token_env = \"HUBSPOT_TOKEN\"";
    let table = [
        (
            format!("grant = \"password\", {TOKEN_URL}"),
            format!(
                "{at}.grant | \"password\" is not known | use one of \"authorization_code\", \"client_credentials\", \"jwt_bearer\""
            ),
        ),
        (
            format!(
                "grant = \"authorization_code\", client_id = \"app\", token_url = \"https://a:b@id.example.com\", {refresh}"
            ),
            format!("{at}.token_url | it is not an http or https address | {fix}"),
        ),
        (
            format!(
                "grant = \"authorization_code\", client_id = \"app\", token_url = \"http://id.example.com/token\", {refresh}"
            ),
            format!("{at}.token_url | secrets would travel to it in clear | use https://"),
        ),
        (
            format!("grant = \"authorization_code\", {TOKEN_URL}"),
            format!(
                "{at}.refresh_token_env | it is missing | name an environment variable in refresh_token_env, or a file in refresh_token_file"
            ),
        ),
        (
            format!(
                "grant = \"jwt_bearer\", {TOKEN_URL}, subject = \"relay@acme.example\", private_key_env = \"HUBSPOT_TOKEN\""
            ),
            format!(
                "{at}.grant | only Salesforce takes assertions that we sign | use \"authorization_code\" or \"client_credentials\""
            ),
        ),
    ];
    for (keys, expected) in table {
        let found = faults(&with_auth(&keys), &[]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with(&expected), "{found:?}");
    }
    let jwt = format!(
        "kind = \"oauth2\", grant = \"jwt_bearer\", {TOKEN_URL}, subject = \"relay@acme.example\", private_key_env = \"HUBSPOT_TOKEN\""
    );
    let found = faults(&with("kind = \"bearer\", token_env = \"SALESFORCE_TOKEN\"", &jwt), &[]);
    let expected = "connection[salesforce-main].auth.private_key_env | it holds no private key in PEM form, PKCS #8 or PKCS #1 | use the private key that belongs to the certificate of the app";
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].ends_with(expected), "{found:?}");
}

#[test]
fn a_secret_file_is_read_without_its_line_end_and_relative_to_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "pat-file\n").unwrap();
    let text = with("token_env = \"HUBSPOT_TOKEN\"", "token_file = \"token\"");
    let config = parse(&text, folder.path(), &env(&[])).unwrap();
    let Auth::Bearer(token) = &config.relay.connections[0].auth else { panic!("a bearer token") };
    assert_eq!(token.expose_secret(), "pat-file");
}

#[cfg(unix)]
#[test]
fn a_secret_file_without_an_end_is_refused() {
    let found = faults(&with("token_env = \"HUBSPOT_TOKEN\"", "token_file = \"/dev/zero\""), &[]);
    let expected = "connection[hubspot-main].auth.token_file | the file /dev/zero is longer than 65536 bytes | name a readable file that holds the secret alone";
    assert!(found.len() == 1 && found[0].ends_with(expected), "{found:?}");
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
fn the_second_secret_has_an_end() {
    const FIRST: &str = "secret_env = \"HUBSPOT_APP_SECRET\"";
    let second =
        format!("{FIRST}\nsecond_secret_env = \"HUBSPOT_TOKEN\"\nsecond_secret_expires = \"2026-12-01T00:00:00Z\"");
    let config = read(&with(FIRST, &second), &[]);
    let expires = config.gateway.endpoints[0].second_secret_expires.map(|at| at.to_string());
    assert_eq!(expires.as_deref(), Some("2026-12-01T00:00:00.000000Z"));
    for (from, to, fault) in [
        ("2026-12-01T00:00:00Z", "soon", "second_secret_expires | it is not a time"),
        ("second_secret_env = \"HUBSPOT_TOKEN\"", "", "second_secret_expires | there is no second secret"),
    ] {
        let found = faults(&with(FIRST, &second.replace(from, to)), &[]);
        assert!(found.len() == 1 && found[0].contains(fault), "{found:?}");
    }
}

#[test]
fn short_salesforce_accounts_become_long_ones() {
    let text = EXAMPLE.replace("00D5g000000ABCDEA4", "00D5g000000ABCD");
    let config = read(&text, &[]);
    assert_eq!(config.relay.connections[1].account, "00D5g000000ABCDEA4");
    assert_eq!(config.gateway.endpoints[1].owners.sole().map(|o| o.account.as_str()), Some("00D5g000000ABCDEA4"));
}

/// The example with a connection and an endpoint of `provider` more, the latter with `keys`.
fn with_endpoint(system: &str, account: &str, provider: &str, keys: &str) -> String {
    format!(
        "{EXAMPLE}[[connection]]\nname = \"more\"\ntenant = \"acme\"\nsystem = \"{system}\"\naccount = \"{account}\"\n\
         base_url = \"http://127.0.0.1:9103\"\nauth = {{ kind = \"bearer\", token_env = \"HUBSPOT_TOKEN\" }}\n\
         [[endpoint]]\nname = \"more\"\nkey = \"m0reCkWv3fZ0yQ2mN7rBxA\"\nprovider = \"{provider}\"\nconnection = \"more\"\n{keys}\n"
    )
}

#[test]
fn every_provider_has_its_own_credential() {
    const SECRET: &str = "secret_env = \"HUBSPOT_APP_SECRET\"";
    const PASSWORD: &str = "username = \"crm\"\npassword_env = \"HUBSPOT_APP_SECRET\"";
    let environment = "4EF5B371-E89E-E711-8122-000D3AA2331C";
    let shown = |place: &str, name: &str| {
        format!("Shown {{ place: {place}, names: [\"{name}\"], values: [[SecretBox<str>([REDACTED])]] }}")
    };
    let basic = "Basic { username: \"crm\", passwords: [SecretBox<str>([REDACTED])] }".to_owned();
    let secrets = "Secrets([SecretBox<str>([REDACTED])])".to_owned();
    let query = "credential = \"query\"\nquery_name = \"k\"";
    for (system, account, provider, keys, expected) in [
        ("dynamics", environment, "dynamics", format!("header_name = \"x-key\"\n{SECRET}"), shown("Header", "x-key")),
        (
            "dynamics",
            environment,
            "dynamics",
            format!("credential = \"webhook-key\"\n{SECRET}"),
            shown("Query", "code"),
        ),
        ("dynamics", environment, "dynamics", format!("{query}\n{SECRET}"), shown("Query", "k")),
        ("pipedrive", "4410", "pipedrive", PASSWORD.to_owned(), basic),
        ("native", "crm", "hub-signature-256", SECRET.to_owned(), secrets.clone()),
        ("pipedrive", "4410", "t-v1", SECRET.to_owned(), secrets.clone()),
        ("native", "crm", "cloudevents", format!("allowed_origins = [\"a.example\"]\n{SECRET}"), secrets),
        ("salesforce", "00D5g000000ABCE", "salesforce", String::new(), "None".to_owned()),
    ] {
        let config = read(&with_endpoint(system, account, provider, &keys), &[]);
        let endpoint = config.gateway.endpoints.last().unwrap();
        assert_eq!(format!("{:?}", endpoint.credential), expected, "{provider} {keys}");
        assert_eq!(endpoint.allowed_origins.len(), usize::from(provider == "cloudevents"));
    }
    for (provider, keys, expected) in [
        ("dynamics", SECRET.to_owned(), "header_name | it is missing"),
        ("dynamics", format!("credential = \"query\"\n{SECRET}"), "query_name | it is missing"),
        ("dynamics", format!("header_name = \"a b\"\n{SECRET}"), "header_name | it is not made of letters"),
        ("dynamics", format!("header_name = \"x\"\nusername = \"u\"\n{SECRET}"), "username | "),
        ("dynamics", "header_name = \"x\"".to_owned(), "secret_env | it is missing"),
    ] {
        let faults = faults(&with_endpoint("dynamics", environment, provider, &keys), &[]);
        assert!(faults.len() == 1 && faults[0].contains(expected), "{provider} {keys} {faults:?}");
    }
    let colon = PASSWORD.replace("crm", "c:m");
    let faults = faults(&with_endpoint("pipedrive", "4410", "pipedrive", &colon), &[]);
    assert!(faults.len() == 1 && faults[0].contains("username | it holds a colon"), "{faults:?}");
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

#[test]
fn a_postgresql_store_takes_its_password_from_outside() {
    let text = with(
        "url = \"sqlite://data/state.db\"",
        "url = \"postgres://headgate@db.example.com/state\"\npassword_env = \"DB\"\nstatement_timeout = \"3s\"",
    );
    let config = read(&text, &[("DB", "hunter2")]);
    let StorePlace::Postgres(address) = &config.relay.store.place else { panic!("a database") };
    assert_eq!((address.place().as_str(), address.statement_timeout.as_secs()), ("db.example.com:5432/state", 3));
    assert!(!format!("{config:?}").contains("hunter2"));
    assert_eq!(
        faults(&text, &[]),
        ["line 12: store.password_env | the environment variable DB is not set | set DB before the start"]
    );
}

#[test]
fn no_finding_ever_shows_a_secret() {
    let texts = [
        with("token_env = \"HUBSPOT_TOKEN\"", "token = \"hunter2\""),
        with("secret_env = \"HUBSPOT_APP_SECRET\"", "secret = [\"hunter2\"]"),
        with("token_env = \"HUBSPOT_TOKEN\"", "token_env = \"SPACED\""),
        with("sqlite://data/state.db", "postgres://u:hunter2@db/x"),
        with("http://127.0.0.1:9101", "https://u:hunter2@host"),
        with("auth = { kind = \"bearer\"", "auth = { kind = \"bearer\" token = hunter2"),
    ];
    for text in texts {
        let found = faults(&text, &[("SPACED", "hunter2 hunter2")]);
        assert!(!found.is_empty(), "{text}");
        assert!(found.iter().all(|line| !line.contains("hunter2")), "{found:?}");
    }
}

#[test]
fn what_the_gateway_makes_fits_into_the_stream() {
    assert_eq!(
        faults("[gateway.limits]\nrecord_bytes = 2097152\n", &[]),
        [
            "line 2: gateway.limits.record_bytes | the stream takes records of at most 1048576 bytes | lower it, or raise \
          stream.max_record_bytes"
        ]
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

#[cfg(feature = "kafka")]
mod kafka {
    use headgate_schemas::stream::kafka::{KafkaConfig, Sasl};

    use super::*;

    /// The example on Kafka, with further lines of `[stream]`.
    fn on_kafka(more: &str) -> String {
        with("engine = \"embedded\"", &format!("engine = \"kafka\"\nbrokers = \"127.0.0.1:9092, b:9093\"\n{more}\n#"))
    }

    fn stream(text: &str, variables: &[(&str, &str)]) -> KafkaConfig {
        let StreamConfig::Kafka(config) = read(text, variables).stream else { panic!("Kafka") };
        *config
    }

    #[test]
    fn defaults_are_those_of_a_cluster() {
        let config = stream(&on_kafka(""), &[]);
        assert_eq!((config.brokers.as_str(), config.topic.as_str()), ("127.0.0.1:9092,b:9093", "headgate.changes"));
        assert_eq!((config.partitions, config.replication, config.min_in_sync), (24, 3, 2));
        assert_eq!((config.retention, config.delivery), (Duration::from_secs(604_800), Duration::from_secs(2)));
        assert!(!config.security.tls && config.security.sasl.is_none());
    }

    #[test]
    fn the_spool_s_deadline_is_the_engine_s() {
        let spool = "[gateway.spool]\npath = \"s\"\npersistent = true\n[admin] ";
        let text = on_kafka("").replacen("[admin]", spool, 1);
        assert_eq!(stream(&text, &[]).delivery, Duration::from_secs(1));
    }

    #[test]
    fn a_login_takes_its_password_from_outside() {
        let sasl = "sasl = { mechanism = \"scram-sha-512\", username = \"u\", password_env = \"KAFKA_PASSWORD\" }";
        let config = stream(&on_kafka(sasl), &[("KAFKA_PASSWORD", "hidden-word")]);
        assert!(!format!("{config:?}").contains("hidden-word"));
        let Some(Sasl::Scram { sha512: true, username, password }) = config.security.sasl else { panic!("SCRAM") };
        assert_eq!((username.as_str(), password.expose_secret()), ("u", "hidden-word"));
    }

    #[test]
    fn each_fault_says_what_to_do() {
        let table = [
            (
                "topic = \"a b\"",
                "line 10: stream.topic | it is not a name | use at most 64 letters, digits, \".\", \"_\" and \"-\"",
            ),
            (
                "replication = 1",
                "line 7: stream.min_in_sync | a partition with 1 replicas can never have so many in sync | lower it, or raise replication",
            ),
            (
                "sasl = { username = \"u\", password_env = \"HUBSPOT_TOKEN\" }",
                "line 10: stream.sasl.mechanism | it is missing | use \"plain\", \"scram-sha-256\", \"scram-sha-512\" or \"oauthbearer\"",
            ),
            (
                "sasl = { mechanism = \"plain\", username = \"u\", password = \"p\" }",
                "line 10: stream.sasl.password | a secret must not stand in the configuration | put it into an environment variable and name that in password_env, or into a file named in password_file",
            ),
            (
                "sasl = { mechanism = \"plain\", username = \"u\", password_env = \"HUBSPOT_TOKEN\" }",
                "line 10: stream.sasl.mechanism | PLAIN sends the password as it is, and the connection has no TLS | add [stream.tls]",
            ),
            (
                "sasl = { mechanism = \"oauthbearer\", token_url = \"http://id.example.com/token\", client_id = \"c\", client_secret_env = \"HUBSPOT_TOKEN\" }",
                "line 10: stream.sasl.token_url | it is not an https address | write the token endpoint of your identity provider, like \"https://id.example.com/oauth2/token\"",
            ),
            (
                "sasl = { mechanism = \"oauthbearer\", token_url = \"https://id.example.com/token\", client_id = \"c\" }",
                "line 10: stream.sasl.client_secret_env | it is missing | name an environment variable in client_secret_env, or a file in client_secret_file",
            ),
            (
                "sasl = { mechanism = \"oauthbearer\", token_url = \"https://id.example.com/token\", client_id = \"c\", client_secret_env = \"HUBSPOT_TOKEN\", username = \"u\" }",
                "line 10: stream.sasl.username | this key is not known | use one of \"mechanism\", \"token_url\", \"client_id\", \"client_secret\", \"client_secret_env\", \"client_secret_file\", \"scope\", \"token_ca_file\"",
            ),
            (
                "tls = { cert_file = \"none.pem\" }",
                "line 10: stream.tls.cert_file | the file /etc/headgate/none.pem cannot be read: entity not found | name a readable file in PEM form",
            ),
            ("partitons = 3", "line 10: stream.partitons | this key is not known | did you mean \"partitions\"?"),
        ];
        for (line, expected) in table {
            let found = faults(&on_kafka(line), &[]);
            assert!(found.iter().any(|fault| fault == expected), "{line}: {found:#?}");
        }
        let none = faults(&with("engine = \"embedded\"", "engine = \"kafka\"\n#"), &[]);
        assert_eq!(none, ["line 7: stream.brokers | it is missing | write \"host:9092\", several with commas"]);
        for brokers in ["h", "h:", ":1", "h:0", "h:1,", "sasl://u:p@h:1"] {
            let text = with("engine = \"embedded\"", &format!("engine = \"kafka\"\nbrokers = \"{brokers}\"\n#"));
            let found = faults(&text, &[]);
            assert_eq!(
                found,
                [
                    "line 9: stream.brokers | an entry is not a host and a port | write \"host:9092\", several with commas"
                ],
                "{brokers}"
            );
        }
    }
}

const SUBSCRIPTION: &str = r#"
[subscriptions]
ports = [443, 8443]
retry_most = "6h"
secret_overlap = "2h"
[[subscription]]
name = "crm-copy"
tenant = "acme"
url = "https://hooks.example.com:8443/crm?key=1"
secret_env = "HOOK"
second_secret_env = "OLD_HOOK"
objects = ["contact", "company"]
kinds = ["created", "updated"]
from = "start"
"#;

const HOOKS: [(&str, &str); 2] =
    [("HOOK", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), ("OLD_HOOK", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")];

#[test]
fn a_subscription_is_read_whole() {
    let config = read(&format!("{EXAMPLE}{SUBSCRIPTION}"), &HOOKS).subscriptions;
    let one = &config.list[0];
    assert_eq!((one.name.as_str(), one.tenant.as_str(), one.keys.len()), ("crm-copy", "acme", 2));
    assert_eq!(one.url.to_string(), "https://hooks.example.com:8443/crm?key=1");
    assert_eq!(one.begin, headgate_schemas::stream::Begin::Start);
    assert_eq!((one.filter.objects.len(), one.filter.kinds.len(), one.filter.replayed), (2, 2, false));
    assert_eq!((config.policy.ports.as_slice(), config.policy.loopback), ([443, 8443].as_slice(), false));
    assert_eq!((config.pace.retry_most, config.overlap), (Duration::from_hours(6), Duration::from_hours(2)));
    assert_eq!((config.tenants, config.most, config.ca_file), (vec!["acme".to_owned()], 100, None));
    let hooks = [HOOKS[0], HOOKS[1], ("HEADGATE__SUBSCRIPTION__CRM_COPY__FROM", "now")];
    let one = &read(&format!("{EXAMPLE}{SUBSCRIPTION}"), &hooks).subscriptions.list[0];
    assert_eq!(one.begin, headgate_schemas::stream::Begin::Now);
}

#[test]
fn a_subscription_that_could_never_be_served_is_refused() {
    let table = [
        (
            "url = \"https://hooks.example.com:8443/crm?key=1\"",
            "url = \"http://hooks.example.com/\"",
            "only https:// is called",
        ),
        ("hooks.example.com:8443", "hooks.example.com:22", "port 22 is not one of [subscriptions] ports"),
        ("hooks.example.com:8443", "127.0.0.1:8443", "the host has a loopback address, which is not called"),
        ("hooks.example.com:8443", "169.254.169.254", "the host has a link-local address, which is not called"),
        ("hooks.example.com:8443", "[::ffff:10.0.0.1]", "the host has an embedded IPv4 address, which is not called"),
        (
            "\"updated\"",
            "\"renamed\"",
            "kind has an unknown name; the names are created, updated, deleted, restored, \
            merged, linked, unlinked, purged, touched, resync",
        ),
        (
            "secret_env = \"HOOK\"",
            "secret_env = \"HUBSPOT_TOKEN\"",
            "the secret must be whsec_ followed by the base64 of 24 to 64 bytes",
        ),
        ("from = \"start\"", "from = \"17\"", "\"17\" is not known"),
        ("[443, 8443]", "[443, 70000]", "not every entry of the list is a number that fits"),
        ("kinds = [", "kind = [", "this key is not known"),
    ];
    for (old, new, problem) in table {
        let text = format!("{EXAMPLE}{SUBSCRIPTION}").replacen(old, new, 1);
        let (faults, _) = parse(&text, Path::new("/etc/headgate"), &env(&HOOKS)).unwrap_err();
        let told: Vec<&str> = faults.iter().map(|fault| fault.problem.as_str()).collect();
        assert!(told.contains(&problem), "{new}: {told:?}");
    }
    let open = SUBSCRIPTION.replace("retry_most", "loopback = true\nretry_most");
    let warnings = read(&format!("{EXAMPLE}{open}"), &HOOKS).warnings;
    let problem = "whoever registers a subscription reaches every port of this machine, in clear";
    assert_eq!(warnings[0].problem, problem);
    let other = SUBSCRIPTION.replace("tenant = \"acme\"", "tenant = \"acne\"");
    let warnings = read(&format!("{EXAMPLE}{other}"), &HOOKS).warnings;
    assert_eq!(warnings[0].problem, "no connection belongs to tenant \"acne\", so nothing is sent");
}
