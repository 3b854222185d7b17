//! The stream on Apache Kafka.

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
fn a_state_on_a_server_may_be_shared() {
    let url = "url = \"postgres://headgate@127.0.0.1/state\"\nshared = true";
    let text = on_kafka("").replace("url = \"sqlite://data/state.db\"", url);
    let StorePlace::Postgres(address) = read(&text, &[]).relay.store.place else { panic!("a database") };
    assert!(address.shared);
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
            ["line 9: stream.brokers | an entry is not a host and a port | write \"host:9092\", several with commas"],
            "{brokers}"
        );
    }
}
