//! Those who read the stream beside the relay, and changes that are put into it again, as the whole program does them.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::commands::{shown, tail};
use crate::sender::until;
use crate::server::{ask, headgate};
use crate::stage::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_of_everything_undoes_nothing_and_says_of_itself_that_it_is_one() {
    let stage = Stage::open(&[]).await;
    let ids = stage.contacts(3).await;
    for field in [4, 5, 4] {
        let changes: Vec<_> = ids.iter().map(|id| stage.update(*id, field)).collect();
        stage.deliver(&changes).await;
        stage.settled().await;
    }
    stage.judge();
    let writes = stage.salesforce.writes_since(0).len();
    let all = ["replay", "--from", "start", "--rate", "1000"];
    let estimate: Value = serde_json::from_str(&shown(&stage, &[&all[..], &["--dry-run", "--json"]].concat())).unwrap();
    let changes = estimate["changes"].as_u64().unwrap();
    assert!(changes >= 12, "{estimate:#}");
    // Three records in less than a second, by a read and a write; and what the CRMs told of their days.
    for cost in estimate["targets"].as_array().unwrap() {
        assert_eq!((&cost["writes_at_most"], &cost["calls_at_most"]), (&3.into(), &2.into()), "{estimate:#}");
        let left = cost["left_of_the_day"].as_u64().unwrap();
        assert!(cost["calls_a_day"].as_u64() > Some(left) && cost["fits"] == true, "{estimate:#}");
    }
    let human = shown(&stage, &[&all[..], &["--dry-run"]].concat());
    assert!(human.contains("fits: up to 2 calls, "), "{human}");

    let told = shown(&stage, &all);
    assert!(told.contains("state     done") && told.contains(&format!("replayed  {changes}")), "{told}");
    until("the replayed changes are taken", async || {
        stage.is_idle().await && outcomes(&stage).await.len() as u64 >= changes
    })
    .await;
    let outcomes = outcomes(&stage).await;
    for outcome in &outcomes {
        assert_ne!(outcome["outcome"], "delivered", "an older value was written again: {outcome}");
    }
    assert_eq!(stage.salesforce.writes_since(0).len(), writes, "nothing was written");
    stage.compare();

    let refused = ask(stage.folder.path(), &stage.admin, &["replay", "--from", "yesterday"]);
    assert_eq!(refused.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_goes_on_after_a_kill_and_stays_stopped_when_it_is_stopped() {
    replay_through_a_kill(Stage::rough(&[]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_go_on_from_any_position() {
    lines_say_where_to_go_on(Stage::open(&[]).await).await;
}

/// Every line of `tail` says where the next one is read.
pub(crate) async fn lines_say_where_to_go_on(stage: Stage) {
    let ids = stage.contacts(1).await;
    let changes = [stage.update(ids[0], 4), stage.update(ids[0], 5)];
    stage.deliver(&changes).await;
    stage.settled().await;
    let read = |from: &str, n: usize| -> Vec<Value> {
        let lines = tail(&stage, &["--json", "--object", "contact", "--from", from], n);
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = read("start", 3);
    let kinds: Vec<&str> = all.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let [created, updated] = ["created", "updated"].map(|kind| format!("headgate.crm.contact.{kind}.v1"));
    assert_eq!(kinds, [&created, &updated, &updated].map(String::as_str));
    for (n, event) in all.iter().take(2).enumerate() {
        assert_eq!(read(event["position"].as_str().unwrap(), 2 - n), all[n + 1..], "after event {n}");
    }
}

/// A job is started, the program killed, and the job comes to its end; the next one is stopped and stays so.
pub(crate) async fn replay_through_a_kill(stage: Stage) {
    let ids = stage.contacts(4).await;
    for field in [4, 5, 4, 5] {
        let changes: Vec<_> = ids.iter().map(|id| stage.update(*id, field)).collect();
        stage.deliver(&changes).await;
        stage.settled().await;
    }
    let changes = 4 + 4 * 4;
    let job = async |id: u64| -> Value {
        let text = stage.sender.read(&format!("{}/v1/replays/{id}", stage.admin)).await;
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    };
    let filter = ["--filter", "system=hubspot", "--filter", "object=contact", "--rate", "4"];
    let dry = [&["replay", "--from", "start", "--dry-run", "--json"], &filter[..]].concat();
    let estimate: Value = serde_json::from_str(&shown(&stage, &dry)).unwrap();
    assert_eq!((&estimate["changes"], &estimate["seconds"]), (&changes.into(), &5.into()), "{estimate:#}");

    let mut follower = background(&stage, &[&["replay", "--from", "start"], &filter[..]].concat());
    until("the job is on its way", async || job(1).await["replayed"].as_u64() >= Some(4)).await;
    stage.kill_and_restart();
    // It may have looked away just then; else it says that the server is gone.
    assert!(matches!(follower.wait().unwrap().code(), Some(0 | 4)));
    until("the job is done", async || job(1).await["state"] == "done").await;
    assert!(job(1).await["replayed"].as_u64() >= Some(changes), "{:#}", job(1).await);
    until("each change was taken again once", async || {
        stage.is_idle().await && replayed(&stage).await as u64 == changes
    })
    .await;
    stage.judge();

    let mut follower = background(&stage, &[&["replay", "--from", "start"], &filter[..]].concat());
    until("the next job is on its way", async || job(2).await["replayed"].as_u64() >= Some(1)).await;
    let stopped = shown(&stage, &["replay", "--stop", "2"]);
    assert!(stopped.contains("state     stopped"), "{stopped}");
    assert_eq!(follower.wait().unwrap().code(), Some(1), "a job that did not come to its end");
    stage.kill_and_restart();
    until("the jobs are known again", async || job(2).await["state"] == "stopped").await;
    assert_eq!(job(1).await["state"], "done");
    until("what was replayed is taken", async || stage.is_idle().await).await;
    stage.judge();
}

/// Replayed changes that have an outcome.
async fn replayed(stage: &Stage) -> usize {
    let outcomes = outcomes(stage).await;
    outcomes.iter().map(|outcome| outcome["change"].as_str().unwrap()).collect::<BTreeSet<_>>().len()
}

/// A command that runs beside the test.
fn background(stage: &Stage, args: &[&str]) -> Child {
    let mut command = headgate(stage.folder.path());
    command.args(args).args(["--admin", &stage.admin]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Outcomes of replayed changes.
async fn outcomes(stage: &Stage) -> Vec<Value> {
    let text = stage.sender.read(&format!("{}/v1/outcomes?limit=1000", stage.admin)).await.unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    all["outcomes"].as_array().unwrap().iter().filter(|outcome| outcome["replay"] == true).cloned().collect()
}
