//! Subscriptions of the whole program: registered at the command line, posted over TLS to an endpoint that verifies them,
//! through refusals and a kill of the program; and endpoints that lead inside, which are never called.

use std::collections::BTreeMap;

use headgate_certs::{Request, make, write};
use headgate_schemas::time;
use serde_json::Value;

use crate::commands::shown;
use crate::sender::until;
use crate::server::ask;
use crate::stage::Stage;
use crate::subscriber::{Subscriber, Taken};

/// The authority and a certificate for this machine's name.
pub(crate) fn certificates() -> tempfile::TempDir {
    certificates_for("localhost")
}

/// The authority and a certificate for a name.
pub(crate) fn certificates_for(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let names = vec![name.to_owned()];
    let bundle =
        make(&Request { server_names: names, client_name: "nobody".to_owned(), days: 1 }, time::now()).unwrap();
    write(&bundle, folder.path(), false).unwrap();
    folder
}

/// What a server is told that may call this machine and believes our authority.
pub(crate) fn open(authority: &str) -> Vec<(&'static str, &str)> {
    vec![
        ("HEADGATE__SUBSCRIPTIONS__LOOPBACK", "true"),
        ("HEADGATE__SUBSCRIPTIONS__CA_FILE", authority),
        ("HEADGATE__SUBSCRIPTIONS__RETRY_FIRST", "20ms"),
        ("HEADGATE__SUBSCRIPTIONS__RETRY_MOST", "1s"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_behind_tls_gets_every_change_in_order_through_refusals_and_a_kill() {
    let certificates = certificates();
    let authority = certificates.path().join("ca.pem");
    through_refusals_and_a_kill(Stage::open(&open(authority.to_str().unwrap())).await, certificates).await;
}

/// The scenario, on a stage whose server may call this machine.
pub(crate) async fn through_refusals_and_a_kill(stage: Stage, certificates: tempfile::TempDir) {
    let subscriber = Subscriber::open(&stage, certificates.path()).await;
    let url = subscriber.url();
    let add = ["subscription", "add", "copy", "--tenant", "acme", "--url", &url, "--object", "contact", "--json"];
    let registered: Value = serde_json::from_str(&shown(&stage, &add)).unwrap();
    subscriber.expect(registered["secret"].as_str().unwrap());
    // Whoever knows the first secret alone believes every call, though another one signs, too.
    let renewed: Value = serde_json::from_str(&shown(&stage, &["subscription", "secret", "copy", "--json"])).unwrap();
    assert_ne!(renewed["secret"], registered["secret"]);
    subscriber.refuse(true);

    let ids = stage.contacts(6).await;
    let mut expected: BTreeMap<String, usize> = ids.iter().map(|id| (id.to_string(), 1)).collect();
    for round in 0..4 {
        let changes: Vec<_> = ids.iter().map(|id| stage.update(*id, round)).collect();
        stage.deliver(&changes).await;
        expected.values_mut().for_each(|n| *n += 1);
        if round == 1 {
            until("the subscriber refused a few", async || subscriber.refused().len() > 3).await;
            stage.kill_and_restart();
        }
    }
    let view: Value = serde_json::from_str(&shown(&stage, &["subscription", "show", "copy", "--json"])).unwrap();
    assert_eq!(subscriber.taken().len(), 0, "{view:#}");
    subscriber.refuse(false);
    until("every change is taken", async || {
        let firsts = firsts(&subscriber.taken());
        expected.iter().all(|(record, n)| firsts.get(record).is_some_and(|taken| taken.len() >= *n))
    })
    .await;
    stage.settled().await;
    stage.judge();
    for (record, taken) in firsts(&subscriber.taken()) {
        assert_eq!(taken.len(), expected[&record], "{record}: each change once, whatever was repeated");
        let times: Vec<&str> = taken.iter().map(|t| t.event["time"].as_str().unwrap()).collect();
        assert!(times.is_sorted(), "{record}: {times:?}");
        let kind = taken[0].event["type"].as_str().unwrap();
        assert_eq!(kind, "headgate.crm.contact.created.v1", "{record}");
    }
    assert_eq!(subscriber.unverified(), Vec::<String>::new());
    // The first one of a record is tried until it is taken, before any other of that record is.
    for id in &ids {
        let record = id.to_string();
        let refused = subscriber.refused().into_iter().filter(|t| t.record() == record);
        let first = firsts(&subscriber.taken())[&record][0].id.clone();
        assert!(refused.into_iter().all(|t| t.id == first), "{record}");
    }
    assert!(!stage.log().contains("s3cr3t"), "the query of an address is not logged");

    shown(&stage, &["subscription", "remove", "copy"]);
    let gone = ask(stage.folder.path(), &stage.admin, &["subscription", "show", "copy"]);
    assert_eq!(gone.status.code(), Some(1));
}

/// The first call of each change, by record, in the order in which they came.
pub(crate) fn firsts(taken: &[Taken]) -> BTreeMap<String, Vec<Taken>> {
    let mut firsts: BTreeMap<String, Vec<Taken>> = BTreeMap::new();
    for call in taken.iter().filter(|call| call.event["system"] == "hubspot") {
        let of = firsts.entry(call.record().to_owned()).or_default();
        if of.iter().all(|earlier| earlier.id != call.id) {
            of.push(call.clone());
        }
    }
    firsts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_lead_inside_or_show_a_strange_certificate_are_never_called() {
    let certificates = certificates();
    // Every port but the one that is not asked about: what leads inside is refused by its address.
    let stage = Stage::open(&[("HEADGATE__SUBSCRIPTIONS__PORTS", "443,8443")]).await;
    let subscriber = Subscriber::open(&stage, certificates.path()).await;
    let add = |name: &str, url: &str| {
        let args = ["subscription", "add", name, "--tenant", "acme", "--url", url, "--from", "start"];
        let output = ask(stage.folder.path(), &stage.admin, &args);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (url, reason) in [
        ("https://127.0.0.1/", "a loopback address"),
        ("https://[::1]/", "a loopback address"),
        ("https://169.254.169.254/latest/meta-data", "a link-local address"),
        ("https://[fd00:ec2::254]/", "a private address"),
        ("https://10.0.0.8/", "a private address"),
        ("http://hooks.example.com/", "only https:// is called"),
    ] {
        let (code, told) = add("inside", url);
        assert!(code == Some(1) && told.contains(reason), "{url}: {told}");
    }
    let ids = stage.contacts(1).await;
    // A name passes, and is judged by where it leads when it is called.
    assert_eq!(add("named", "https://localhost:8443/crm").0, Some(0));
    let failing = async |name: &str, reason: &str| {
        until("the call fails", async || shown(&stage, &["subscription", "show", name]).contains(reason)).await;
    };
    failing("named", "the host has a loopback address, which is not called").await;

    // Where this machine is open, a certificate of an authority that nobody named is not believed.
    drop(stage.terminate());
    let open = format!("{}\n[subscriptions]\nloopback = true\nretry_first = \"20ms\"\n", crate::server::FILE);
    std::fs::write(stage.folder.path().join("headgate.toml"), open).unwrap();
    stage.start();
    let (code, told) = add("strange", &subscriber.url());
    assert_eq!(code, Some(0), "{told}");
    failing("strange", "certificate").await;
    assert_eq!(ids.len(), 1);
    assert_eq!((subscriber.taken().len(), subscriber.unverified().len()), (0, 0));
    assert_ne!(subscriber.port(), 0);
}
