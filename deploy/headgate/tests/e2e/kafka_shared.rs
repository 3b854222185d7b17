//! Two gateways on one cluster: an endpoint that is added at one is known to both, before either says so, and to one that
//! starts later; taken away, it is gone at all of them.

use headgate_bench::sim::hubspot::WebhookEvent;

use crate::kafka::Kafka;
use crate::server::{Gateway, ask};
use crate::stage::Stage;

const PATH: &str = "/in/hubspot/s2pAp4tCkWv3fZ0yQ2mN7r";
const FIRST_SECRET: &str = "secret-of-the-second-app";
const NEXT_SECRET: &str = "next-secret-of-the-second-app";

fn file(key: &str) -> String {
    format!(
        "[[endpoint]]\nname = \"second-app\"\nkey = \"{key}\"\nprovider = \"hubspot\"\nconnection = \"hubspot-main\"\n\
         secret_env = \"SECOND_APP_SECRET\"\n"
    )
}

/// `headgate endpoint` at one gateway: exit code, what it printed, what it complained of.
fn endpoint(stage: &Stage, admin: &str, secret: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = crate::server::headgate(stage.folder.path());
    command.arg("endpoint").args(args).args(["--admin", admin]).env("SECOND_APP_SECRET", secret);
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_tells_an_endpoint_to_all_gateways() {
    let Some(kafka) = Kafka::start() else { return };
    let stage = kafka.stage(true).await;
    let ids = stage.contacts(3).await;
    let (one, two) = (stage.gateway_admin(), Gateway::start(stage.folder.path(), stage.vars()));
    let at = [stage.gateway(), two.address.clone()];
    let called = async |secret: &str, event: &WebhookEvent| {
        let body = serde_json::to_vec(std::slice::from_ref(event)).unwrap();
        let mut statuses = Vec::new();
        for gateway in &at {
            statuses.push(stage.sender.post_signed_to(gateway, PATH, body.clone(), secret).await.unwrap());
        }
        statuses
    };
    let change = stage.update(ids[0], 5);
    assert_eq!(called(FIRST_SECRET, &change.event).await, [401, 401]);
    std::fs::write(stage.folder.path().join("second.toml"), file(PATH.rsplit('/').next().unwrap())).unwrap();
    let active = (Some(0), "second-app: active on 2 of 2 gateways".to_owned(), String::new());
    assert_eq!(endpoint(&stage, &one, FIRST_SECRET, &["add", "second.toml"]), active);
    stage.posted(std::slice::from_ref(&change));
    assert_eq!(called(FIRST_SECRET, &change.event).await, [204, 204]);
    stage.accepted(&[change]);
    stage.settled().await;

    assert_eq!(endpoint(&stage, &two.admin, NEXT_SECRET, &["add", "second.toml"]), active);
    let change = stage.update(ids[1], 5);
    assert_eq!(called(FIRST_SECRET, &change.event).await, [401, 401]);
    let three = Gateway::start(stage.folder.path(), stage.vars());
    let body = serde_json::to_vec(std::slice::from_ref(&change.event)).unwrap();
    stage.posted(std::slice::from_ref(&change));
    assert_eq!(
        stage.sender.post_signed_to(&three.address, PATH, body, NEXT_SECRET).await,
        Some(204),
        "it knows from its start"
    );
    stage.accepted(&[change]);

    let (code, _, complaint) = endpoint(&stage, &one, NEXT_SECRET, &["add", "headgate.toml"]);
    assert_eq!((code, complaint.contains("write one [[endpoint]], and nothing else")), (Some(3), true), "{complaint}");
    std::fs::write(
        stage.folder.path().join("weak.toml"),
        file("lp8tCkWv3fZ0yQ2mN7rBxA").replace("second-app", "third"),
    )
    .unwrap();
    let (code, _, complaint) = endpoint(&stage, &one, NEXT_SECRET, &["add", "weak.toml"]);
    assert_eq!((code, complaint.contains("another endpoint has this key")), (Some(1), true), "{complaint}");

    let gone = (Some(0), "second-app: removed; still active on 0 of 3 gateways".to_owned(), String::new());
    assert_eq!(endpoint(&stage, &three.admin, NEXT_SECRET, &["remove", "second-app"]), gone);
    let change = stage.update(ids[2], 5);
    assert_eq!(called(NEXT_SECRET, &change.event).await, [401, 401]);
    stage.deliver(&[change]).await;
    stage.settled().await;
    stage.judge();
    for secret in [FIRST_SECRET, NEXT_SECRET] {
        assert!(!stage.log().contains(secret), "a secret in the log");
    }
    let listed = ask(stage.folder.path(), &one, &["endpoint", "list", "--json"]);
    assert_eq!(String::from_utf8(listed.stdout).unwrap().split_whitespace().collect::<String>(), "{\"endpoints\":[]}");

    // What only the other half knows is not here, and whoever asks is told where it is.
    let (code, complaint) = self::complaint(&stage, &one, &["record", "list"]);
    assert_eq!(
        (code, complaint.as_str()),
        (Some(1), "a gateway by itself has no /v1/records; ask the relay: --admin URL, or --config with its file")
    );
    let (code, complaint) = self::complaint(&stage, &stage.admin, &["endpoint", "list"]);
    assert_eq!(
        (code, complaint.as_str()),
        (
            Some(1),
            "a relay by itself has no /v1/shared-endpoints; ask a gateway: --admin URL, or --config with its file"
        )
    );
}

fn complaint(stage: &Stage, admin: &str, args: &[&str]) -> (Option<i32>, String) {
    let output = ask(stage.folder.path(), admin, args);
    (output.status.code(), String::from_utf8(output.stderr).unwrap().trim_end().to_owned())
}
