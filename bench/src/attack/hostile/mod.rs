//! The attackers. Each is some tasks that do one wrong thing again and again, at a bounded rate, until they are told to
//! stop, and count what they are told.
//!
//! They know bytes and addresses, not what they prove. The surprising thing: no attack is as fast as it could be. The
//! generator shares its cores with the gateway, and a flood that leaves the gateway no core would measure the scheduler.

mod bodies;
mod framing;
mod resets;
mod silence;

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use headgate_schemas::shutdown::Shutdown;
use tokio::time::{Instant, sleep};

use super::Attack;
use super::call::Calls;
use super::tally::Told;

/// Connections of the idle attack; also a promise that so many are held open at once.
pub(super) const IDLE: u64 = 10_000;
/// Calls of the attack with wrong signatures.
pub(super) const WRONG: u64 = 100_000;

/// Whom the attackers attack, and for how long.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) calls: Calls,
    pub(super) time: Duration,
    pub(super) told: Arc<Told>,
}

/// Starts the attackers of a kind; they end with `tasks`.
pub(super) fn start(attack: Attack, target: &Target, tasks: &Shutdown) {
    match attack {
        Attack::None | Attack::NoisyAccount | Attack::Overload => {}
        Attack::Slow => each(900, target, tasks, silence::slow),
        Attack::Idle => each(IDLE, target, tasks, silence::idle),
        Attack::Pipelined => each(32, target, tasks, framing::pipelined),
        Attack::Smuggled => each(32, target, tasks, framing::smuggled),
        Attack::Resets => each(16, target, tasks, resets::resets),
        Attack::Bombs => {
            let bombs = Arc::new(bodies::bombs(&target.calls));
            each(4, target, tasks, move |n, target| bodies::bomb(n, target, Arc::clone(&bombs)));
        }
        Attack::WrongSignatures => each(bodies::FORGERS, target, tasks, bodies::wrong_signatures),
    }
}

/// What must have happened before an attack counts as under way: every connection is open, or the gateway has begun to
/// lose patience with the slow ones.
pub(super) fn is_under_way(attack: Attack, told: &Told) -> bool {
    let counts = told.counts();
    match attack {
        Attack::Idle => counts.most_open >= IDLE,
        Attack::Slow => counts.cut > 0 && !counts.statuses.is_empty(),
        _ => true,
    }
}

/// The shortest time in which the generator can make the whole attack and leave the gateway its share of the cores. An
/// account that floods opens each turn with all that it may send at once; the turn must be long enough for what follows
/// to be most of it.
pub(super) const fn least_time(attack: Attack) -> Duration {
    match attack {
        Attack::WrongSignatures => Duration::from_secs(25),
        Attack::NoisyAccount => Duration::from_secs(20),
        _ => Duration::ZERO,
    }
}

/// Starts `count` attackers, numbered, a little after one another.
fn each<F>(count: u64, target: &Target, tasks: &Shutdown, attacker: impl Fn(u64, Target) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    for n in 0..count {
        let (attack, stop) = (attacker(n, target.clone()), tasks.clone());
        tasks.spawn("bench-attacker", async move {
            tokio::select! {
                () = stop.stopped() => {}
                () = async { sleep(Duration::from_micros(200 * n)).await; attack.await } => {}
            }
        });
    }
}

/// The address of the `n`th stranger; a hundred hosts of a network of this machine each.
fn stranger(n: u64) -> Ipv4Addr {
    let part = |value: u64| u8::try_from(value).unwrap_or(u8::MAX);
    Ipv4Addr::new(127, 1, part(n / 100 % 200), part(1 + n % 100))
}

/// Repeats `act` at most once per `every`.
async fn repeat<F: Future<Output = ()>>(every: Duration, mut act: impl FnMut(u64) -> F) {
    for round in 0.. {
        let next = Instant::now() + every;
        act(round).await;
        tokio::time::sleep_until(next).await;
    }
}
