//! Two gateways and two relays on Kafka and one state in PostgreSQL, as a production has them: one relay works and the
//! other stands by, or both share the stream; they are killed, held up past their lease, and swapped under people's edits.
//!
//! It runs where a broker and a database are asked for, see `kafka` and `postgres`. Who works is asked of the relays
//! themselves; nothing rests on how long something takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::chronicle::now;
use crate::kafka::Kafka;
use crate::kafka_long;
use crate::postgres::Database;
use crate::sender::until;
use crate::server::SPLIT;
use crate::world::{Habits, World, is_clean_but_for_the_untold, work};

/// How often everything happens, where no other number is asked for.
const ROUNDS: &str = "1";
/// Names the number of rounds.
const MORE: &str = "HEADGATE_E2E_ROUNDS";

/// Both CRMs with two gateways and two relays between them, whose leases are short, and people who edit until told to
/// stop. `None` where no broker or no database is asked for.
async fn open(more: &[(&str, &str)]) -> Option<(Kafka, Database, Arc<World>, Edits)> {
    let (kafka, database) = (Kafka::start()?, Database::start()?);
    let lease = [("HEADGATE__RELAY__LIMITS__LEASE", "6s"), ("HEADGATE__RELAY__LIMITS__SEND_DEADLINE", "2s")];
    let (stream, state) = (kafka.vars(), database.vars());
    let vars = stream.iter().chain(&state).map(|(name, value)| (*name, value.as_str()));
    let vars: Vec<_> = vars.chain(lease).chain([(SPLIT, "2")]).chain(more.iter().copied()).collect();
    let world = Arc::new(World::watched(|file| file, &vars).await);
    let people = world.people(30).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (pause, apart) = (Duration::from_millis(30), Duration::from_millis(1_100));
    let habits = |seed| Habits { seed, pause, salesforce: 0.4, creates: 0.05, crowd: 0.2, apart };
    let working = (0..3).map(|seed| work(&world, &people, habits(seed), &stop)).collect();
    Some((kafka, database, world, Edits { stop, working }))
}

/// People at work.
struct Edits {
    stop: Arc<AtomicBool>,
    working: Vec<JoinHandle<()>>,
}

impl Edits {
    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for person in self.working {
            person.await.unwrap();
        }
    }
}

fn rounds() -> u64 {
    std::env::var(MORE).unwrap_or_else(|_| ROUNDS.to_owned()).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_worked_on_by_two_relays_in_turn_and_nothing_is_lost() {
    let Some((_kafka, _database, world, edits)) = open(&[]).await else { return };
    let mut turns = Turns { world: Arc::clone(&world), works: 0 };
    for round in 0..rounds() {
        turns.the_working_relay_is_killed().await;
        turns.the_working_relay_is_held_up().await;
        turns.a_gateway_is_killed_and_the_other_held_up(round).await;
        turns.the_relays_swap().await;
    }
    edits.end().await;
    let report = world.end(Duration::from_secs(1), &[]).await;
    assert_eq!(report.crashes.get("relay killed"), Some(&rounds()));
    is_clean_but_for_the_untold(&report);
}

/// Each of them reads its part, and folds into every record; whoever is left reads everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_worked_on_by_two_relays_at_once_and_nothing_is_lost() {
    let Some((_kafka, _database, world, edits)) = open(&[("HEADGATE__STORE__SHARED", "true")]).await else { return };
    let mut turns = Turns { world: Arc::clone(&world), works: 0 };
    turns.both_read().await;
    for round in 0..rounds() {
        turns.one_of_both_is_killed(round).await;
        turns.one_of_both_is_held_up(round + 1).await;
        turns.a_gateway_is_killed_and_the_other_held_up(round).await;
        turns.one_of_both_is_exchanged(round).await;
    }
    edits.end().await;
    let report = world.end(Duration::from_secs(1), &[]).await;
    assert_eq!(report.crashes.get("relay killed"), Some(&rounds()));
    is_clean_but_for_the_untold(&report);
}

/// One of both is killed or drained every ten seconds, so that the stream is divided anew all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_long_with_two_relays_at_once_of_which_one_is_exchanged_every_ten_seconds() {
    let Some(length) = kafka_long::length(Duration::from_secs(600)) else { return };
    let Some((_kafka, _database, world, edits)) = open(&[("HEADGATE__STORE__SHARED", "true")]).await else { return };
    let mut turns = Turns { world: Arc::clone(&world), works: 0 };
    turns.both_read().await;
    let (since, mut exchanged) = (Instant::now(), 0);
    while since.elapsed() < length || exchanged < 2 {
        // The time that they have in each other's company and alone.
        let next = Instant::now() + Duration::from_secs(10).min(length);
        match exchanged % 2 {
            0 => turns.one_of_both_is_killed(exchanged / 2).await,
            _ => turns.one_of_both_is_exchanged(exchanged / 2).await,
        }
        tokio::time::sleep_until(next).await;
        exchanged += 1;
    }
    edits.end().await;
    eprintln!("one of two relays was exchanged {exchanged} times in {} s", since.elapsed().as_secs());
    let report = world.end(Duration::from_secs(1), &[]).await;
    assert_eq!(report.crashes.get("relay killed"), Some(&exchanged.div_ceil(2)));
    is_clean_but_for_the_untold(&report);
}

/// One of two.
fn which(round: u64) -> usize {
    usize::from(round % 2 == 1)
}

/// Two relays, and the one that is asked.
struct Turns {
    world: Arc<World>,
    /// Where they take turns: the one that works.
    works: usize,
}

impl Turns {
    async fn one_of_both_is_killed(&mut self, round: u64) {
        let died = which(round);
        self.under_load().await;
        self.act(move |world| {
            world.server(|server| server.process("relay", died).kill());
            world.chronicle.crash("relay killed");
        })
        .await;
        self.reads_all(1 - died).await;
        self.under_load().await;
        self.act(move |world| world.server(|server| server.process("relay", died).again())).await;
        self.both_read().await;
    }

    /// Past its lease: the other one has its partitions and its work when it goes on.
    async fn one_of_both_is_held_up(&mut self, round: u64) {
        let held = which(round);
        self.under_load().await;
        let from = now();
        self.act(move |world| world.server(|server| server.process("relay", held).signal("STOP"))).await;
        self.reads_all(1 - held).await;
        self.under_load().await;
        self.act(move |world| world.server(|server| server.process("relay", held).signal("CONT"))).await;
        self.both_read().await;
        self.world.chronicle.cut(from, now());
    }

    /// One ends in good order, and another one comes in its place.
    async fn one_of_both_is_exchanged(&mut self, round: u64) {
        let leaves = which(round);
        self.under_load().await;
        let ended = self.act(move |world| world.server(|server| server.process("relay", leaves).terminate())).await;
        assert_eq!(ended, (Some(0), String::new()));
        self.reads_all(1 - leaves).await;
        self.act(move |world| world.server(|server| server.process("relay", leaves).again())).await;
        self.both_read().await;
        self.under_load().await;
    }

    /// Waits until one relay reads every partition, and does what only one does.
    async fn reads_all(&mut self, relay: usize) {
        let admin = self.admin(relay);
        until("one relay reads everything", async || {
            self.says(&admin, "/metrics", "\nrelay_partitions 24\n").await
                && self.says(&admin, "/metrics", "\nrelay_leads 1\n").await
        })
        .await;
        self.world.ask_at(&admin);
    }

    async fn both_read(&self) {
        let (one, other) = (self.admin(0), self.admin(1));
        until("both relays read their part", async || {
            self.says(&one, "/metrics", "\nrelay_partitions 12\n").await
                && self.says(&other, "/metrics", "\nrelay_partitions 12\n").await
        })
        .await;
        let leads = async |admin: &str| self.says(admin, "/metrics", "\nrelay_leads 1\n").await;
        let answers = async |admin: &str| self.says(admin, "/v1/subscriptions", "\"subscriptions\"").await;
        for answering in [leads(&one).await != leads(&other).await, answers(&one).await != answers(&other).await] {
            assert!(answering, "one of them leads, and answers for both");
        }
    }

    async fn the_working_relay_is_killed(&mut self) {
        let died = self.works;
        self.under_load().await;
        self.act(move |world| {
            world.server(|server| server.process("relay", died).kill());
            world.chronicle.crash("relay killed");
        })
        .await;
        self.the_other_works().await;
        self.act(move |world| world.server(|server| server.process("relay", died).again())).await;
        self.stands_by(died).await;
    }

    /// Past its lease: it has calls under way, believes that it works when it goes on, and commits nothing.
    async fn the_working_relay_is_held_up(&mut self) {
        let held = self.works;
        self.under_load().await;
        let from = now();
        self.act(move |world| world.server(|server| server.process("relay", held).signal("STOP"))).await;
        self.the_other_works().await;
        self.under_load().await;
        self.act(move |world| world.server(|server| server.process("relay", held).signal("CONT"))).await;
        self.stands_by(held).await;
        self.world.chronicle.cut(from, now());
    }

    async fn a_gateway_is_killed_and_the_other_held_up(&mut self, round: u64) {
        let dies = which(round);
        self.under_load().await;
        self.act(move |world| {
            world.server(|server| {
                server.process("gateway", 1 - dies).signal("STOP");
                server.process("gateway", dies).kill();
                server.process("gateway", dies).again();
                server.process("gateway", 1 - dies).signal("CONT");
            });
            world.chronicle.crash("gateway");
        })
        .await;
        self.under_load().await;
    }

    /// The working one ends in good order and comes back beside the other.
    async fn the_relays_swap(&mut self) {
        let leaves = self.works;
        self.under_load().await;
        let ended = self.act(move |world| world.server(|server| server.process("relay", leaves).terminate())).await;
        assert_eq!(ended, (Some(0), String::new()));
        self.the_other_works().await;
        self.act(move |world| world.server(|server| server.process("relay", leaves).again())).await;
        self.stands_by(leaves).await;
    }

    async fn the_other_works(&mut self) {
        self.works = 1 - self.works;
        let admin = self.admin(self.works);
        until("the other relay takes the work over", async || {
            self.says(&admin, "/metrics", "\nrelay_working 1\n").await
        })
        .await;
        self.world.ask_at(&admin);
    }

    async fn stands_by(&self, relay: usize) {
        let admin = self.admin(relay);
        until("a relay stands by", async || self.says(&admin, "/readyz", "standing by").await).await;
        assert!(self.says(&admin, "/v1/records", "standing_by").await);
    }

    /// Waits until the working relay has taken some more changes, so that the next blow meets others under way.
    async fn under_load(&self) {
        let before = self.world.due().await;
        until("changes are taken", async || self.world.due().await > before + 10).await;
    }

    fn admin(&self, relay: usize) -> String {
        self.world.server(|server| server.relays()[relay].clone())
    }

    async fn says(&self, admin: &str, path: &str, what: &str) -> bool {
        let page = self.world.sender.read(&format!("{admin}{path}")).await;
        page.is_some_and(|page| page.contains(what))
    }

    /// Does something that blocks.
    async fn act<T: Send + 'static>(&self, act: impl FnOnce(&World) -> T + Send + 'static) -> T {
        let world = Arc::clone(&self.world);
        tokio::task::spawn_blocking(move || act(&world)).await.unwrap()
    }
}
