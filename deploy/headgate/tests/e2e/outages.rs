//! Either CRM in trouble while people go on in both: it fails, hangs, cuts connections after applying, limits, refuses
//! some records, or forgets the token. Nothing may be lost or doubled, the rest goes on, and what was parked flows soon
//! after the trouble is over.

use std::sync::Arc;
use std::time::Duration;

use headgate_bench::sim::fault::{Fault, FaultRule, Faults, Refusal, Scope, When};
use headgate_bench::sim::log::Write;
use headgate_judge::Report;
use serde_json::Value;

use crate::chronicle::now;
use crate::sender::until;
use crate::server::ask;
use crate::world::{Person, World};

/// The shortest deadline of a call that the configuration takes.
const DEADLINE: [(&str, &str); 1] = [("HEADGATE__RELAY__LIMITS__SEND_DEADLINE", "2s")];
/// Longest wait after a recovery until parked work flows again.
const RECOVERY: i64 = 5_000_000;
/// A call that hangs when the trouble ends is given up at its deadline; only then the next one can succeed.
const GIVEN_UP: i64 = 2_000_000;

/// The CRM in trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Troubled {
    Hubspot,
    Salesforce,
}

impl Troubled {
    fn faults(self, world: &World) -> &Faults {
        match self {
            Self::Hubspot => world.hubspot.faults(),
            Self::Salesforce => world.salesforce.faults(),
        }
    }

    fn writes(self, world: &World) -> Vec<Write> {
        match self {
            Self::Hubspot => world.hubspot.writes(),
            Self::Salesforce => world.salesforce.writes(),
        }
    }

    /// People's edits in the other CRM: work for this one. Answers values and where they are to arrive.
    fn feed(self, world: &World, people: &[Person], field: usize) {
        for person in people {
            match self {
                Self::Hubspot => world.edit_salesforce(&person.salesforce, field),
                Self::Salesforce => world.edit_hubspot(person.hubspot, field),
            };
        }
    }

    /// An edit in the troubled CRM itself must reach the other one all the same.
    async fn others_go_on(self, world: &World, person: &Person, field: usize) {
        match self {
            Self::Hubspot => {
                let value = world.edit_hubspot(person.hubspot, field);
                world.reaches(person, field, &value, "salesforce").await;
            }
            Self::Salesforce => {
                let value = world.edit_salesforce(&person.salesforce, field);
                world.reaches(person, field, &value, "hubspot").await;
            }
        }
    }
}

async fn world() -> Arc<World> {
    Arc::new(World::open(|file| file, &DEADLINE).await)
}

/// Trouble until it is cleared: work is parked, the other connection goes on, and it flows again within the time.
async fn outage(troubled: Troubled, fault: Fault, length: Duration) -> Report {
    let world = world().await;
    let people = world.people(12).await;
    let faults = troubled.faults(&world);
    let before = troubled.writes(&world).len();
    let from = now();
    faults.push(FaultRule { on: Scope::Any, fault: fault.clone(), when: When::UntilCleared });
    troubled.feed(&world, &people[..10], 1);
    // The length of the outage, with the other connection at work.
    let (_, ()) = tokio::join!(tokio::time::sleep(length), troubled.others_go_on(&world, &people[11], 4));
    troubled.feed(&world, &people[..10], 2);
    faults.clear();
    let recovered = now();
    world.settled(&[]).await;
    world.chronicle.cut(from, now());
    let writes = troubled.writes(&world);
    let flowed = writes[before..].iter().map(|write| write.at.micros()).find(|at| *at > recovered).unwrap();
    let last = writes.last().unwrap().at.micros();
    let ms = |at: i64| (at - recovered) / 1_000;
    eprintln!(
        "{troubled:?}, {fault:?} for {length:?}: parked work flowed after {} ms, all was written after {} ms",
        ms(flowed),
        ms(last)
    );
    let longest = if matches!(fault, Fault::Hang { .. }) { RECOVERY + GIVEN_UP } else { RECOVERY };
    assert!(flowed - recovered <= longest, "parked work flowed only after {} ms", ms(flowed));
    world.end(Duration::from_secs(1), &[]).await
}

/// Short troubles, one after the other: each is met by work and gone before the next.
async fn troubles(troubled: Troubled) -> Report {
    let world = world().await;
    let people = world.people(12).await;
    let faults = troubled.faults(&world);
    let limit = |retry_after| Fault::Refuse(Refusal::RateLimited { retry_after });
    let mut all = vec![
        (Scope::Writes, Fault::ResetAfter),
        (Scope::Any, limit(Some(Duration::from_secs(1)))),
        (Scope::Any, Fault::Refuse(Refusal::Status(429))),
        (Scope::Writes, Fault::Hang { wait: Duration::from_secs(3), applied: true }),
    ];
    // From Salesforce this is the allowance of the day used up, which is waited out for minutes.
    if troubled == Troubled::Hubspot {
        all.push((Scope::Any, limit(None)));
    }
    for (round, (on, fault)) in all.into_iter().enumerate() {
        let from = now();
        faults.next(3, on, fault);
        troubled.feed(&world, &people[..10], round);
        troubled.others_go_on(&world, &people[11], 5).await;
        world.settled(&[]).await;
        world.chronicle.cut(from, now());
        faults.clear();
    }
    world.end(Duration::from_secs(1), &[]).await
}

/// The open dead letters.
fn letters(world: &World) -> Vec<Value> {
    let output = ask(world.folder.path(), &world.admin(), &["deadletter", "list", "--json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    answer["deadletters"].as_array().cloned().unwrap_or_default()
}

/// Some records of a batch are refused: the others are written; the refused ones when somebody tries them again.
async fn refusals(troubled: Troubled) -> Report {
    let world = world().await;
    let people = world.people(12).await;
    let faults = troubled.faults(&world);
    let before = troubled.writes(&world).len();
    faults.next(3, Scope::Writes, Fault::RejectRecords);
    troubled.feed(&world, &people, 3);
    until("three are refused", async || letters(&world).len() == 3).await;
    until("the others are written", async || troubled.writes(&world).len() == before + people.len() - 3).await;
    faults.clear();
    for letter in letters(&world) {
        let output = ask(world.folder.path(), &world.admin(), &["deadletter", "retry", &letter["id"].to_string()]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
    world.end(Duration::from_secs(1), &[]).await
}

async fn all(troubled: Troubled) {
    let long = Duration::from_secs(20);
    let hang = Fault::Hang { wait: Duration::from_secs(20), applied: false };
    let reports = tokio::join!(
        outage(troubled, Fault::Refuse(Refusal::ServerError), long),
        outage(troubled, hang, long),
        outage(troubled, Fault::Refuse(Refusal::Unauthorized), Duration::from_secs(6)),
        async { (troubles(troubled).await, refusals(troubled).await) },
    );
    let (failing, hanging, locked_out, (short, refused)) = reports;
    for report in [failing, hanging, locked_out, short, refused] {
        assert!(report.is_clean(), "{report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn salesforce_in_trouble_loses_nothing_and_delays_nobody_else() {
    all(Troubled::Salesforce).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hubspot_in_trouble_loses_nothing_and_delays_nobody_else() {
    all(Troubled::Hubspot).await;
}
