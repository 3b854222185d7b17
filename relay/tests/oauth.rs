//! Logins that rotate, end and fail, through a whole relay: HubSpot and Salesforce are models that issue their own tokens,
//! and what is judged is whether a contact that one has comes to stand in the other.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::time::Duration;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::RsaKeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headgate_bench::sim::access::{AccessOptions, OauthApp, Rotation};
use headgate_bench::sim::fault::{Fault, Refusal, Scope};
use headgate_bench::sim::hubspot::{Hubspot, HubspotEdit, HubspotOptions};
use headgate_bench::sim::salesforce::{Salesforce, SalesforceOptions};
use headgate_relay::config::{
    Auth, ConnectionConfig, Guard, Limits, LinkConfig, PolicyConfig, RecordsConfig, RelayConfig, SetUp, StoreConfig,
    StorePlace,
};
use headgate_relay::oauth::{Grant, OauthConfig, SigningKey};
use headgate_relay::{Relay, Standing};
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::stream::Sink as _;
use headgate_schemas::stream::memory::Memory;
use headgate_schemas::{ChangeId, ChangeKind, ObjectType, System, contract, time};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

#[path = "support/postgres.rs"]
#[expect(dead_code, reason = "shared with the suite of the store, which asks the database more")]
mod postgres;

use postgres::Schema;

/// Longest wait for anything that must happen.
const DEADLINE: Duration = Duration::from_secs(60);
const REFRESH: &str = "s3cr3t-refresh";

fn app(rotation: Rotation) -> AccessOptions {
    let app = OauthApp {
        client_id: "headgate-app".into(),
        client_secret: "s3cr3t-client".into(),
        refresh_token: REFRESH.into(),
        expires_in: Duration::from_secs(1_800),
        rotation,
    };
    AccessOptions { token: None, app: Some(app) }
}

fn oauth(token_url: String, grant: Grant) -> Auth {
    Auth::Oauth(Box::new(OauthConfig { token_url, client_id: "headgate-app".into(), scope: None, grant }))
}

fn login(hubspot: &Hubspot, refresh: &str) -> Auth {
    let grant = Grant::RefreshToken { client_secret: Some("s3cr3t-client".into()), refresh_token: refresh.into() };
    oauth(format!("{}/oauth/2026-03/token", hubspot.base_url()), grant)
}

fn connection(name: &str, system: System, base_url: String, auth: Auth) -> ConnectionConfig {
    let (account, api_version, external_id_field) = match system {
        System::Hubspot => ("5550123", "2026-09", "relay_id"),
        _ => ("00D5g000000ABCDEA4", "62.0", "Relay_Id__c"),
    };
    ConnectionConfig {
        name: name.to_owned(),
        tenant: "acme".to_owned(),
        system,
        account: account.to_owned(),
        base_url,
        auth,
        api_version: api_version.to_owned(),
        client: "headgate".to_owned(),
        app_id: None,
        external_id_field: external_id_field.to_owned(),
        set_up: SetUp::Auto,
        read_lag: Duration::ZERO,
        longest_run: Duration::from_secs(600),
    }
}

/// Both models and the stream between them and the relays.
struct Town {
    hubspot: Hubspot,
    salesforce: Salesforce,
    log: Memory,
    folder: tempfile::TempDir,
    place: StorePlace,
    shutdown: Shutdown,
}

impl Drop for Town {
    fn drop(&mut self) {
        self.shutdown.stop();
    }
}

impl Town {
    async fn with(hubspot: AccessOptions, salesforce: AccessOptions) -> Self {
        let shutdown = Shutdown::new(Duration::from_secs(1));
        let options = HubspotOptions { access: hubspot, burst: None, ..HubspotOptions::default() };
        let hubspot = Hubspot::start(options, &shutdown).await.unwrap();
        let options = SalesforceOptions { access: salesforce, ..SalesforceOptions::default() };
        let salesforce = Salesforce::start(options, &shutdown).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let place = StorePlace::Sqlite(folder.path().join("state.db"));
        Self { hubspot, salesforce, log: Memory::new(3), folder, place, shutdown }
    }

    /// HubSpot knows the login of an app; Salesforce takes any token.
    async fn of_login(rotation: Rotation) -> Self {
        Self::with(app(rotation), AccessOptions::default()).await
    }

    fn relay(&self) -> Office {
        self.relay_showing(REFRESH)
    }

    fn relay_showing(&self, refresh: &str) -> Office {
        Office::open(self, login(&self.hubspot, refresh), Auth::Bearer("any".into()))
    }

    /// A person is entered into HubSpot, whose webhook says no more than that.
    async fn enter(&self, id: u64) {
        let values =
            [("email", format!("p{id}@example.com")), ("firstname", format!("P{id}")), ("lastname", "Doe".into())];
        let values = values.map(|(name, value)| (name.to_owned(), value)).into();
        self.hubspot.edit(HubspotEdit::Create { object: "contacts".into(), id: Some(id), values }).unwrap();
        let mut change = contract::example();
        change.id = ChangeId::derive(System::Hubspot, "5550123", [&id.to_be_bytes()[..]]);
        change.object.id = Some(id.to_string());
        (change.kind, change.needs_fetch) = (ChangeKind::Created, true);
        change.fields.clear();
        (change.received_at, change.occurred_at) = (time::now(), Some(time::now()));
        self.log.append(vec![contract::encode(&change).unwrap()]).await.unwrap();
    }

    /// So many persons stand in Salesforce.
    async fn delivered(&self, n: usize) {
        until(|| self.salesforce.ids("Contact").len() == n).await;
    }
}

async fn until(so: impl Fn() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap();
}

/// A running relay.
struct Office {
    relay: Relay,
    metrics: Registry,
    shutdown: Shutdown,
}

impl Office {
    fn open(town: &Town, hubspot: Auth, salesforce: Auth) -> Self {
        Self::with(town, hubspot, salesforce, Limits::default())
    }

    fn with(town: &Town, hubspot: Auth, salesforce: Auth, limits: Limits) -> Self {
        let shutdown = Shutdown::new(Duration::from_secs(10));
        let mut metrics = Registry::default();
        let folder: &Path = town.folder.path();
        let config = RelayConfig {
            store: StoreConfig { place: town.place.clone(), key_file: folder.join("key") },
            connections: vec![
                connection("hubspot-main", System::Hubspot, town.hubspot.base_url(), hubspot),
                connection("salesforce-main", System::Salesforce, town.salesforce.base_url(), salesforce),
            ],
            links: vec![LinkConfig {
                name: "contacts".to_owned(),
                tenant: "acme".to_owned(),
                object: ObjectType::CONTACT,
                members: vec!["hubspot-main".to_owned(), "salesforce-main".to_owned()],
                primary: "salesforce-main".to_owned(),
                guard: Guard::Read,
                policy: PolicyConfig::default(),
                records: RecordsConfig::default(),
            }],
            limits,
        };
        let relay = headgate_relay::start(config, Box::new(town.log.source()), &mut metrics, &shutdown).unwrap();
        Self { relay, metrics, shutdown }
    }

    /// The connection to HubSpot is parked for its credentials.
    async fn parked(&self) {
        until(|| self.shows("relay_circuit_state{connection=\"hubspot-main\"} 3")).await;
    }

    /// So many exchanges of the login ended like this.
    fn exchanges(&self, outcome: &str, n: u64) {
        let shown = format!("relay_token_exchanges_total{{connection=\"hubspot-main\",outcome=\"{outcome}\"}} {n}");
        assert!(self.shows(&shown), "{shown}");
    }

    fn shows(&self, metric: &str) -> bool {
        let mut text = String::new();
        encode(&mut text, &self.metrics).unwrap();
        text.lines().any(|line| line == metric)
    }

    async fn close(self) {
        self.shutdown.drain().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_rotates_outlives_the_program_sealed_and_many_refusals_make_one_exchange() {
    let town = Town::of_login(Rotation::Strict).await;
    let office = town.relay();
    town.enter(1).await;
    town.delivered(1).await;
    office.close().await;
    assert_eq!(town.hubspot.tokens_issued(), 1);

    let office = town.relay();
    town.enter(2).await;
    town.delivered(2).await;
    assert_eq!(town.hubspot.tokens_issued(), 1, "the access token of the process before is still good");
    town.hubspot.revoke_tokens();
    for id in 3..=22 {
        town.enter(id).await;
    }
    town.delivered(22).await;
    assert_eq!(town.hubspot.tokens_issued(), 2);
    office.close().await;

    for file in std::fs::read_dir(town.folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for token in [b"s3cr3t-".as_slice(), b"access-"] {
            assert!(!bytes.windows(token.len()).any(|w| w == token), "a token lies open");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_relay_that_takes_over_goes_on_with_the_login_of_the_one_before() {
    let schema = tokio::task::spawn_blocking(Schema::make).await.unwrap();
    let Some(schema) = schema else { return };
    let place = StorePlace::Postgres(Box::new(schema.address()));
    let mut town = Town::of_login(Rotation::Strict).await;
    town.place = place;
    let first = town.relay();
    town.enter(1).await;
    town.delivered(1).await;
    let second = town.relay();
    first.close().await;
    town.enter(2).await;
    town.delivered(2).await;
    let issued = town.hubspot.tokens_issued();
    assert_eq!(issued, 1, "the one that stands by makes no exchange, nor does it when it takes over");
    town.hubspot.revoke_tokens();
    town.enter(3).await;
    town.delivered(3).await;
    assert_eq!(town.hubspot.tokens_issued(), 2);
    second.close().await;
    tokio::task::spawn_blocking(move || drop(schema)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_relays_that_share_the_state_use_one_login_and_one_renews_it() {
    let schema = tokio::task::spawn_blocking(Schema::make).await.unwrap();
    let Some(schema) = schema else { return };
    let mut address = schema.address();
    address.shared = true;
    let mut town = Town::of_login(Rotation::Strict).await;
    town.place = StorePlace::Postgres(Box::new(address));
    let (first, second) = (town.relay(), town.relay());
    // Each of them reads a part of the stream and writes what it read.
    until(|| {
        [&first, &second].iter().all(|office| office.relay.handle.partitions().is_some_and(|n| (1..3).contains(&n)))
    })
    .await;
    for id in 1..=12 {
        town.enter(id).await;
    }
    town.delivered(12).await;
    assert_eq!(town.hubspot.tokens_issued(), 1);
    town.hubspot.revoke_tokens();
    for id in 13..=24 {
        town.enter(id).await;
    }
    town.delivered(24).await;
    assert_eq!(town.hubspot.tokens_issued(), 2);
    // Whoever is left goes on with what stands there.
    first.close().await;
    until(|| second.relay.handle.leads()).await;
    town.enter(25).await;
    town.delivered(25).await;
    assert_eq!(town.hubspot.tokens_issued(), 2);
    second.close().await;
    tokio::task::spawn_blocking(move || drop(schema)).await.unwrap();
}

/// Whoever has the state instead renews the login: two that do would take it from each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_relay_whose_state_failed_renews_no_login_while_it_waits_for_its_calls() {
    const NEVER: Duration = Duration::from_secs(600);
    let schema = tokio::task::spawn_blocking(Schema::make).await.unwrap();
    let Some(schema) = schema else { return };
    let mut town = Town::of_login(Rotation::Strict).await;
    town.place = StorePlace::Postgres(Box::new(schema.address()));
    let limits = Limits { send_deadline: NEVER, ..Limits::default() };
    let office = Office::with(&town, login(&town.hubspot, REFRESH), Auth::Bearer("any".into()), limits);
    town.salesforce.faults().next(1, Scope::Writes, Fault::Hang { wait: NEVER, applied: false });
    town.enter(1).await;
    until(|| office.shows("relay_inflight{crm=\"salesforce\"} 1") && office.relay.handle.leads()).await;
    let schema = tokio::task::spawn_blocking(move || {
        schema.execute("DELETE FROM worker");
        schema
    });
    let schema = schema.await.unwrap();
    // It finds out when it is to take something.
    town.enter(2).await;
    until(|| !office.relay.handle.leads()).await;
    assert_eq!(office.relay.handle.standing(), Standing::Away);
    office.shutdown.stop();
    drop(office);
    tokio::task::spawn_blocking(move || drop(schema)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_lost_costs_nothing_where_the_old_refresh_token_is_still_taken() {
    let town = Town::of_login(Rotation::Overlapping).await;
    town.hubspot.faults().next(1, Scope::Tokens, Fault::ResetAfter);
    let office = town.relay();
    town.enter(1).await;
    town.delivered(1).await;
    assert_eq!(town.hubspot.tokens_issued(), 2);
    office.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_it_is_not_the_connection_is_parked_until_somebody_gives_another_one() {
    let town = Town::of_login(Rotation::Strict).await;
    town.hubspot.faults().next(1, Scope::Tokens, Fault::ResetAfter);
    let office = town.relay();
    town.enter(1).await;
    office.parked().await;
    office.exchanges("refused", 1);
    office.close().await;
    assert_eq!(town.salesforce.ids("Contact").len(), 0);

    let office = town.relay_showing("s3cr3t-refresh-1");
    town.delivered(1).await;
    office.close().await;
    // What was kept goes back to what the file says by now.
    let office = town.relay_showing("s3cr3t-refresh-1");
    town.enter(2).await;
    town.delivered(2).await;
    office.close().await;
    assert_eq!(town.hubspot.tokens_issued(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consent_that_is_withdrawn_parks_the_connection() {
    let town = Town::of_login(Rotation::None).await;
    let office = town.relay();
    town.enter(1).await;
    town.delivered(1).await;
    town.hubspot.revoke_login();
    town.enter(2).await;
    office.parked().await;
    assert_eq!(town.salesforce.ids("Contact").len(), 1);
    office.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_fails_or_is_slow_is_waited_for() {
    let town = Town::of_login(Rotation::Strict).await;
    town.hubspot.faults().next(2, Scope::Tokens, Fault::Refuse(Refusal::ServerError));
    town.hubspot.faults().next(1, Scope::Tokens, Fault::Slow(Duration::from_millis(300)));
    let office = town.relay();
    town.enter(1).await;
    town.delivered(1).await;
    assert_eq!(town.hubspot.tokens_issued(), 1);
    office.exchanges("failed", 2);
    office.exchanges("granted", 1);
    office.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_with_credentials_of_its_own_fetches_another_token_when_one_is_refused() {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = STANDARD.encode(pair.as_der().unwrap().as_ref());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n");
    let grants = [
        Grant::ClientCredentials { client_secret: "s3cr3t-client".into() },
        Grant::JwtBearer {
            key: SigningKey::from_pem(&pem.into()).unwrap(),
            subject: "relay@acme.example".to_owned(),
            audience: "https://login.salesforce.com".to_owned(),
        },
    ];
    for grant in grants {
        let town = Town::with(AccessOptions::default(), app(Rotation::None)).await;
        let salesforce = oauth(format!("{}/services/oauth2/token", town.salesforce.base_url()), grant.clone());
        let office = Office::open(&town, Auth::Bearer("any".into()), salesforce);
        town.enter(1).await;
        town.delivered(1).await;
        assert_eq!(town.salesforce.tokens_issued(), 1, "{}", grant.as_str());
        town.salesforce.revoke_tokens();
        town.enter(2).await;
        town.delivered(2).await;
        assert_eq!(town.salesforce.tokens_issued(), 2, "{}", grant.as_str());
        office.close().await;
    }
}
