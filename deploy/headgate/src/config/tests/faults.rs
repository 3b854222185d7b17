//! Findings: each fault by itself, all of a bad file at once, and what is told where and how.

use super::*;

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
