//! Variables that are laid over the file.

use super::*;

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
