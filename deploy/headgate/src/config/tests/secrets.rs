//! What comes from outside of the file and is never shown: tokens, logins, secrets, passwords.

use headgate_relay::oauth::Grant;

use super::*;

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
    let shared = text.replace("password_env = \"DB\"", "password_env = \"DB\"\nshared = true");
    assert_eq!(
        faults(&shared, &[("DB", "hunter2")]),
        [
            "line 13: store.shared | the embedded stream belongs to one process, so one relay reads it | take it out, or use \
          engine = \"kafka\" in [stream]"
        ]
    );
    let file = with("url = \"sqlite://data/state.db\"", "url = \"sqlite://data/state.db\"\nshared = true");
    assert_eq!(faults(&file, &[]).len(), 1, "a file is one process's");
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
