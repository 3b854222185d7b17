//! Those who read the stream beside the relay, and changes that are put into it again, as the whole program does them.

use serde_json::Value;

use crate::commands::shown;
use crate::sender::until;
use crate::server::ask;
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
    assert_eq!(estimate["targets"].as_array().unwrap().len(), 2, "{estimate:#}");

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

/// Outcomes of replayed changes.
async fn outcomes(stage: &Stage) -> Vec<Value> {
    let text = stage.sender.read(&format!("{}/v1/outcomes?limit=1000", stage.admin)).await.unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    all["outcomes"].as_array().unwrap().iter().filter(|outcome| outcome["replay"] == true).cloned().collect()
}
