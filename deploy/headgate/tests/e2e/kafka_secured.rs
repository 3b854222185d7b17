//! A broker that takes clients by TLS alone, with a login of each kind or a certificate: the whole program on it, and
//! what it says when the login or the authority is the wrong one.
//!
//! Tokens come from an endpoint of this test. The surprising thing: they are unsigned, which Kafka believes unless it is
//! told where keys are; what is tested is our side, which fetches them and shows them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use headgate_bench::broker::{self, Broker, Secured};
use headgate_certs::{Request, make, write};
use headgate_schemas::time;
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::flow;
use crate::kafka::ENGINE;
use crate::server::{self, headgate};
use crate::stage::Stage;

const PASSWORD: &str = "the-password-of-the-kafka-user";
const CLIENT_SECRET: &str = "secret of the client: 100 %";
/// Seconds that a token lives. Kafka ends a session with its token, so a run sees several.
const TOKEN_LIFE: i64 = 10;

/// The broker, its certificates, and certificates of somebody else.
struct Cluster {
    broker: Broker,
    folder: TempDir,
}

impl Cluster {
    fn start() -> Option<Self> {
        let script = broker::script()?;
        let folder = tempfile::tempdir().unwrap();
        let request =
            || Request { server_names: vec!["127.0.0.1".to_owned()], client_name: "headgate".to_owned(), days: 2 };
        for owner in ["ours", "theirs"] {
            write(&make(&request(), time::now()).unwrap(), &folder.path().join(owner), false).unwrap();
        }
        let secured = Secured { certs: folder.path().join("ours"), password: PASSWORD.to_owned() };
        let broker = Broker::start(&script, &folder.path().join("data"), Some(secured)).unwrap();
        Some(Self { broker, folder })
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// The variables of a program that talks to it at `brokers`, and trusts the authority of `owner`.
    fn vars(&self, brokers: &str, owner: &str, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let ca = self.file(&format!("{owner}/ca.pem"));
        let ours = [
            ("ENGINE", "kafka"),
            ("BROKERS", brokers),
            ("REPLICATION", "1"),
            ("MIN_IN_SYNC", "1"),
            ("TLS__CA_FILE", &ca),
        ];
        assert!(ENGINE.ends_with(ours[0].0));
        let stream = |(name, value): &(&str, &str)| (format!("HEADGATE__STREAM__{name}"), (*value).to_owned());
        let secrets = [("KAFKA_PASSWORD", PASSWORD), ("KAFKA_CLIENT_SECRET", CLIENT_SECRET), ("KAFKA_WRONG", "wrong")];
        let secrets = secrets.map(|(name, value)| (name.to_owned(), value.to_owned()));
        ours.iter().chain(more).map(stream).chain(secrets).collect()
    }

    fn login(&self, mechanism: &str, password_env: &str, owner: &str) -> Vec<(String, String)> {
        let login =
            [("SASL__MECHANISM", mechanism), ("SASL__USERNAME", "headgate"), ("SASL__PASSWORD_ENV", password_env)];
        self.vars(&self.broker.address(), owner, &login)
    }

    fn token(&self, endpoint: SocketAddr, secret_env: &str) -> Vec<(String, String)> {
        let url = format!("http://{endpoint}/oauth2/token");
        let login = [
            ("SASL__MECHANISM", "oauthbearer"),
            ("SASL__TOKEN_URL", &url),
            ("SASL__CLIENT_ID", "headgate at kafka"),
            ("SASL__CLIENT_SECRET_ENV", secret_env),
            ("SASL__SCOPE", "kafka read write"),
        ];
        self.vars(&self.broker.address(), "ours", &login)
    }
}

/// Answers with tokens; counts them.
struct TokenServer {
    at: SocketAddr,
    given: Arc<AtomicUsize>,
}

impl TokenServer {
    async fn start(stage: &headgate_schemas::shutdown::Shutdown) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, given) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&given);
        let serving = stage.clone();
        stage.spawn("token-endpoint", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let counted = Arc::clone(&counted);
                serving.spawn("token-call", async move {
                    let answer = service_fn(|request| give(request, &counted));
                    let served =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                    // A caller that hangs up is no fault of the endpoint.
                    drop(served.await);
                });
            }
        });
        Self { at, given }
    }
}

/// A token for who shows the right secret, as RFC 6749 says in section 4.4.
async fn give(
    request: hyper::Request<Incoming>,
    given: &AtomicUsize,
) -> Result<Response<String>, std::convert::Infallible> {
    use http_body_util::BodyExt as _;
    let login = request.headers().get(AUTHORIZATION).map(|login| login.to_str().unwrap().to_owned());
    let form = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    // What section 2.3.1 makes of the id and the secret.
    let right = STANDARD.encode("headgate%20at%20kafka:secret%20of%20the%20client%3A%20100%20%25");
    if login != Some(format!("Basic {right}"))
        || &form[..] != b"grant_type=client_credentials&scope=kafka%20read%20write"
    {
        let mut refused = Response::new(json!({"error": "invalid_client"}).to_string());
        *refused.status_mut() = StatusCode::UNAUTHORIZED;
        return Ok(refused);
    }
    given.fetch_add(1, Ordering::Relaxed);
    let now = time::now().millis() / 1_000;
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = part(json!({"alg": "none"}));
    let claims = part(json!({"sub": "headgate", "iat": now, "exp": now + TOKEN_LIFE}));
    let token = json!({"access_token": format!("{head}.{claims}."), "token_type": "bearer", "expires_in": TOKEN_LIFE});
    Ok(Response::new(token.to_string()))
}

/// `headgate check --online`: its exit code and what it says.
fn check(folder: &Path, vars: &[(String, String)]) -> (Option<i32>, String) {
    server::write_file(folder);
    let output = headgate(folder).args(["check", "headgate.toml", "--online"]).envs(vars.iter().cloned()).output();
    let output = output.unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// The lines about the topic.
fn about_topic(said: &str) -> String {
    let lines: Vec<&str> = said.lines().skip_while(|line| !line.contains("stream.topic")).take(2).collect();
    lines.join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_behind_tls_is_used_with_each_login_and_says_what_is_wrong_with_it() {
    let Some(cluster) = Cluster::start() else { return };
    let shutdown = headgate_schemas::shutdown::Shutdown::new(std::time::Duration::from_secs(1));
    let tokens = TokenServer::start(&shutdown).await;
    let stage = |vars: Vec<(String, String)>| async move {
        let vars: Vec<(&str, &str)> = vars.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Stage::rough(&vars).await
    };
    // The CRMs must answer, so the program that is checked is one that runs, by the token that has to be renewed.
    let running = stage(cluster.token(tokens.at, "KAFKA_CLIENT_SECRET")).await;
    let with = |vars: Vec<(String, String)>| {
        let crms = running.vars().iter().filter(|(name, _)| name.ends_with("BASE_URL")).cloned();
        check(running.folder.path(), &crms.chain(vars).collect::<Vec<_>>())
    };
    let (cert, key) = (cluster.file("ours/client.pem"), cluster.file("ours/client-key.pem"));
    let shown = [("TLS__CERT_FILE", cert.as_str()), ("TLS__KEY_FILE", key.as_str())];
    for vars in [
        cluster.login("plain", "KAFKA_PASSWORD", "ours"),
        cluster.login("scram-sha-256", "KAFKA_PASSWORD", "ours"),
        cluster.login("scram-sha-512", "KAFKA_PASSWORD", "ours"),
        cluster.vars(&format!("127.0.0.1:{}", cluster.broker.port() + 2), "ours", &shown),
    ] {
        let (code, said) = with(vars);
        assert_eq!(
            (code, said.contains("stream.topic[headgate.changes]: is there, 24 partitions")),
            (Some(0), true),
            "{said}"
        );
    }
    let in_login = "fix: check mechanism, user and password, or where tokens come from, in [stream.sasl]";
    let in_tls = "fix: name the authority of the brokers' certificate in ca_file of [stream.tls]";
    for (vars, reason, fix) in [
        (cluster.login("plain", "KAFKA_WRONG", "ours"), "Authentication failed", in_login),
        (cluster.login("scram-sha-512", "KAFKA_WRONG", "ours"), "invalid credentials", in_login),
        (
            cluster.token(tokens.at, "KAFKA_WRONG"),
            "it answered 401; check client_id, its secret and the scope",
            in_login,
        ),
        (cluster.login("scram-sha-512", "KAFKA_PASSWORD", "theirs"), "certificate verify failed", in_tls),
    ] {
        let (code, said) = with(vars);
        let told = about_topic(&said);
        assert!(code == Some(4) && told.contains(reason) && told.contains(fix), "{code:?} {reason}: {said}");
        for secret in [PASSWORD, CLIENT_SECRET] {
            assert!(!said.contains(secret), "{said}");
        }
    }
    flow::creations_and_changes(running).await;
    assert!(tokens.given.load(Ordering::Relaxed) > 2, "tokens were renewed");
    shutdown.stop();
}
