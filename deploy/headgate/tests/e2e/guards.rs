//! A person edits a record in the target between our read of it and our write: the one moment that no reading can cover.
//! What each guard promises for it, and that the conflict is there to be looked up.

use std::sync::Arc;
use std::time::Duration;

use headgate_judge::Report;

use crate::world::World;

/// Salesforce's clock tells whole seconds: for so long a row must have been left alone for an edit to show.
const RESOLUTION: Duration = Duration::from_millis(2_500);

/// The CRM that is written.
#[derive(Clone, Copy, Debug)]
enum Into {
    Hubspot,
    Salesforce,
}

/// An edit on one side, and another in the target exactly before it is written. `field` and `other` are theirs.
async fn between(guard: &str, into: Into, field: usize, other: usize) -> Report {
    let configured = format!("guard = \"{guard}\"");
    let world = Arc::new(
        World::watched(|file| file.replace("guard = \"read\"", &configured), &[("HEADGATE_LOG", "debug")]).await,
    );
    let person = world.people(1).await.remove(0);
    // The row's last change must lie in another second than the edits.
    tokio::time::sleep(RESOLUTION).await;
    let (acting, theirs) = (Arc::clone(&world), person.clone());
    let interloper = &world.between[match into {
        Into::Hubspot => 0,
        Into::Salesforce => 1,
    }];
    interloper.before_next_write(async move {
        match into {
            Into::Hubspot => acting.edit_hubspot(theirs.hubspot, other),
            Into::Salesforce => acting.edit_salesforce(&theirs.salesforce, other),
        };
    });
    match into {
        Into::Hubspot => world.edit_salesforce(&person.salesforce, field),
        Into::Salesforce => world.edit_hubspot(person.hubspot, field),
    };
    let report = world.end(Duration::from_secs(1), &[]).await;
    assert!(interloper.has_acted(), "nothing was written");
    eprintln!(
        "guard {guard}, into {into:?}, fields {field} and {other}: {} overwritten unseen, {} decisions",
        report.overwritten, report.decisions
    );
    report
}

/// Nothing is found but what the guard does not promise.
fn is_clean_but_for(report: &Report, silent: usize) {
    let found: usize = report.findings().iter().map(|(_, found)| found.len()).sum();
    assert_eq!((found, report.silent.len()), (silent, silent), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_of_another_field_between_read_and_write_is_never_touched() {
    for guard in ["none", "read", "strict"] {
        for into in [Into::Hubspot, Into::Salesforce] {
            let report = between(guard, into, 1, 2).await;
            is_clean_but_for(&report, 0);
            assert_eq!(report.overwritten, 0, "{report}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_of_the_same_field_in_hubspot_is_told_whatever_the_guard() {
    // HubSpot tells values, not states: what was written over is told afterwards and decided then.
    for guard in ["none", "read", "strict"] {
        let report = between(guard, Into::Hubspot, 1, 1).await;
        is_clean_but_for(&report, 0);
        assert!(report.decisions > 0, "a conflict is written down: {report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_of_the_same_field_in_salesforce_is_safe_under_the_strict_guard_only() {
    let report = between("strict", Into::Salesforce, 1, 1).await;
    is_clean_but_for(&report, 0);
    assert!(report.decisions > 0, "a conflict is written down: {report}");
    // Outbound messages tell the row as it stands at delivery. Where our write comes first, the edit is never told: this
    // is the window of the two other guards, and it is exactly one write wide.
    for guard in ["none", "read"] {
        let report = between(guard, Into::Salesforce, 1, 1).await;
        is_clean_but_for(&report, report.silent.len());
        assert!(report.silent.len() <= 1 && report.overwritten <= 1, "{report}");
        assert!(report.silent.len() == 1 || report.decisions > 0, "told or not: {report}");
    }
}
