//! Fetches the tokens of one connection, beside the engine, while this process works on the state.
//!
//! Where several share the state, one of them renews a login, and the others use what it keeps; a program's own
//! credentials are shown by each for itself.
//!
//! What a login gives is durable before it is used, on the word of the worker that looked up what stood there: when
//! another relay had the state meanwhile, an exchange that does not follow on what that one kept is void. The surprising
//! thing: an exchange that could not be kept is not forgotten with the state. When this process has it again and nobody
//! else exchanged anything, it is kept then, because the provider may have ended the token that stands there.

use std::sync::Arc;
use std::time::Duration;

use headgate_schemas::failpoint::pass;
use headgate_schemas::shutdown::Shutdown;
use headgate_schemas::{Timestamp, time};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use secrecy::SecretString;

use super::answer::{self, Answer, Granted};
use super::kept::{self, Kept};
use super::life::{self, Given};
use super::{Grant, OauthConfig, Tokens, request};
use crate::delivery::backoff;
use crate::driver::Handle;
use crate::engine::Held;
use crate::http::Http;
use crate::metrics::Exchange;
use crate::step;
use crate::store::{KeptRow, Shelf};
use crate::vault::Vault;

/// Longest sleep: the clock may have been set.
const LOOK: Duration = Duration::from_secs(30);
/// Before what the state did not take or tell is tried again.
const AGAIN: Duration = Duration::from_millis(250);
/// Between two looks at what another relay keeps of a login.
const FOLLOW: Duration = Duration::from_secs(1);
/// Least wait after an endpoint that failed.
const LEAST: Duration = Duration::from_millis(250);

/// What a runner is made of.
pub(crate) struct Parts {
    /// Whose tokens.
    pub(crate) connection: String,
    /// How they are come by.
    pub(crate) config: OauthConfig,
    /// Where they go.
    pub(crate) tokens: Tokens,
    /// How the endpoint is called.
    pub(crate) http: Http,
    /// What bounds one call of the endpoint.
    pub(crate) deadline: Duration,
    /// What seals them.
    pub(crate) vault: Arc<Vault>,
    /// The state.
    pub(crate) handle: Handle,
    /// Counts the exchanges.
    pub(crate) exchanges: Family<Exchange, Counter>,
    /// When to stop.
    pub(crate) shutdown: Shutdown,
}

/// Fetches tokens until the stop.
pub(crate) async fn run(parts: Parts, seed: u64) {
    let (mut held, mut works) = (parts.handle.held(), parts.handle.works());
    let mut purse = parts.tokens.watch();
    let stop = parts.shutdown.clone();
    let origin = kept::origin(&parts.config);
    let dice = fastrand::Rng::with_seed(seed);
    let mut runner = Runner { parts, origin, dice, worker: None, kept: None, pending: None, misses: Misses::default() };
    while !stop.is_stopped() {
        let (leads, hold) = (held.borrow_and_update().is_some(), *works.borrow_and_update());
        // Whatever changes while this looks is looked at again.
        drop(purse.borrow_and_update());
        let next = match hold {
            Some(_) if runner.origin.is_some() && !leads => Some(runner.follow(time::now()).await),
            _ => runner.look(hold, time::now()).await,
        };
        let pause = next.map_or(LOOK, |at| at.since(time::now()).min(LOOK));
        tokio::select! {
            () = stop.stopped() => break,
            changed = held.changed() => if changed.is_err() { break },
            changed = works.changed() => if changed.is_err() { break },
            _ = purse.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    if runner.pending.is_some() {
        let connection = runner.parts.connection;
        tracing::error!(connection, "a renewed login could not be kept before the stop; it may have to be made again");
    }
}

struct Runner {
    parts: Parts,
    /// What a login goes back to; `None` where nothing is kept.
    origin: Option<[u8; 32]>,
    dice: fastrand::Rng,
    /// The worker on whose word `kept` was looked up.
    worker: Option<u64>,
    /// What stands in the state.
    kept: Option<Kept>,
    /// What the provider gave and is not durable.
    pending: Option<Kept>,
    misses: Misses,
}

/// Exchanges that gave no token, one after another.
#[derive(Default)]
struct Misses {
    failed: u32,
    refused: u32,
    hold_off: Option<Timestamp>,
}

impl Runner {
    /// Does what is due. Returns when to look again at the latest.
    async fn look(&mut self, hold: Option<Held>, now: Timestamp) -> Option<Timestamp> {
        let Some(hold) = hold else {
            if self.worker.take().is_some() {
                self.parts.tokens.forget();
            }
            return None;
        };
        if self.worker != Some(hold.epoch) && !self.look_up(hold.epoch).await {
            return Some(now + AGAIN);
        }
        if self.pending.is_some() && !self.keep(hold.epoch).await {
            return Some(now + AGAIN);
        }
        let due = self.parts.tokens.look(|purse| purse.due(self.misses.hold_off))?;
        if due > now {
            return Some(due);
        }
        // What cannot be kept before the lease is over is not begun.
        if hold.until.since(now) < self.parts.deadline {
            return Some(now + AGAIN);
        }
        self.exchange(hold.epoch).await;
        Some(now)
    }

    /// Uses what another relay keeps of the login, whenever it is another token than before: one that was refused is
    /// renewed by that relay, or soon by its age. Returns when to look again.
    async fn follow(&mut self, now: Timestamp) -> Timestamp {
        // Should this relay have to renew it itself, it looks first how it stands by then.
        self.worker = None;
        let name = self.parts.connection.as_str();
        let recalled = self.parts.handle.recall(Shelf::Login, Some(name)).await;
        let row = recalled.and_then(|recalled| self.open(&recalled.rows.first()?.1));
        let row = row.filter(|row| Some(row.origin) == self.origin);
        let known = self.kept.as_ref().map(|kept| kept.version);
        if let Some(row) = row.filter(|row| known != Some(row.version)) {
            self.publish(&row.access, row.granted, row.life, true);
            self.kept = Some(row);
        }
        now + FOLLOW
    }

    /// Finds out what is kept, on the word of this worker. False when the state cannot be asked now.
    async fn look_up(&mut self, epoch: u64) -> bool {
        self.parts.tokens.forget();
        self.misses.hold_off = None;
        if let Some(origin) = self.origin {
            let name = self.parts.connection.as_str();
            let Some(recalled) = self.parts.handle.recall(Shelf::Login, Some(name)).await else { return false };
            if recalled.epoch != epoch {
                return false;
            }
            let row = recalled.rows.first().and_then(|(_, sealed)| self.open(sealed));
            self.kept = row.filter(|row| row.origin == origin);
            let pending = self.pending.take().filter(|pending| pending.follows(self.kept.as_ref()));
            self.pending = pending;
        }
        self.worker = Some(epoch);
        if let (Some(kept), None) = (self.kept.clone(), &self.pending) {
            self.publish(&kept.access, kept.granted, kept.life, true);
        }
        true
    }

    fn open(&self, sealed: &[u8]) -> Option<Kept> {
        let name = &self.parts.connection;
        Kept::open(name, sealed, &self.parts.vault)
            .inspect_err(|error| tracing::error!(connection = name, %error, "what is kept of a login cannot be opened"))
            .ok()
    }

    /// Asks the provider for a token, and puts what it gives where it belongs.
    async fn exchange(&mut self, epoch: u64) {
        // A stop waits until what the provider gives is durable.
        let _guest = self.parts.handle.guest();
        let refresh = self.kept.as_ref().map(|kept| kept.refresh.clone());
        let answer = self.ask(refresh.as_ref()).await;
        self.count(&answer);
        let now = time::now();
        match answer {
            Answer::Granted(granted) => {
                pass(step::LOGIN_GIVEN);
                self.take(epoch, granted, now).await;
            }
            // Another relay may have made an exchange since: its word counts.
            Answer::Refused { .. } if !self.is_held(epoch) => {}
            Answer::Refused { code, blame } => self.on_refused(&code, blame.advice(&self.parts.config.grant), now),
            Answer::Later { code, wait } => self.on_failed(&code, wait, now),
        }
    }

    fn count(&self, answer: &Answer) {
        let outcome = match answer {
            Answer::Granted(_) => "granted",
            Answer::Refused { .. } => "refused",
            Answer::Later { .. } => "failed",
        };
        let connection = self.parts.connection.clone();
        self.parts.exchanges.get_or_create(&Exchange { connection, outcome }).inc();
    }

    async fn ask(&self, refresh: Option<&SecretString>) -> Answer {
        let config = &self.parts.config;
        let form = match request::form(config, refresh, time::now()) {
            Ok(form) => form,
            Err(error) => {
                tracing::error!(connection = self.parts.connection, %error, "an assertion cannot be signed");
                return Answer::Later { code: "unsigned".to_owned(), wait: None };
            }
        };
        match self.parts.http.post_form(&config.token_url, form, self.parts.deadline).await {
            Ok(reply) => answer::read(&reply),
            Err(error) => Answer::Later { code: error.code, wait: None },
        }
    }

    async fn take(&mut self, epoch: u64, granted: Granted, now: Timestamp) {
        let Granted { access, refresh, life } = granted;
        let Some(origin) = self.origin else {
            self.publish(&access, now, life, false);
            return;
        };
        let before = self.kept.as_ref();
        let Some(refresh) = refresh.or_else(|| self.shown(before)) else { return };
        let version = before.map_or(0, |kept| kept.version) + 1;
        self.pending = Some(Kept { version, origin, refresh, access, granted: now, life });
        self.keep(epoch).await;
    }

    /// The refresh token that is shown next, after `kept`.
    fn shown(&self, kept: Option<&Kept>) -> Option<SecretString> {
        match (&self.parts.config.grant, kept) {
            (_, Some(kept)) => Some(kept.refresh.clone()),
            (Grant::RefreshToken { refresh_token, .. }, None) => Some(refresh_token.clone()),
            (Grant::ClientCredentials { .. } | Grant::JwtBearer { .. }, None) => None,
        }
    }

    /// Makes what the provider gave durable, then lets it be used. False when that must wait for the state.
    async fn keep(&mut self, epoch: u64) -> bool {
        let Some(pending) = self.pending.clone() else { return true };
        let name = self.parts.connection.clone();
        let sealed = match pending.seal(&name, &self.parts.vault) {
            Ok(sealed) => sealed,
            Err(error) => {
                tracing::error!(connection = name, %error, "a login cannot be sealed");
                return false;
            }
        };
        let row = KeptRow { shelf: Shelf::Login, name: name.clone(), value: Some(sealed) };
        let kept = self.parts.handle.keep(epoch, vec![row], None);
        let durable = match kept {
            Ok(durable) => durable.await.is_ok(),
            Err(_) => false,
        };
        if !durable {
            tracing::warn!(connection = name, "the state does not take a renewed login yet; it is not used before");
            // It may stand there all the same: whoever looks next finds out.
            self.worker = None;
            return false;
        }
        pass(step::LOGIN_KEPT);
        self.publish(&pending.access, pending.granted, pending.life, false);
        self.kept = self.pending.take();
        true
    }

    /// Lets a token be used.
    fn publish(&mut self, access: &SecretString, granted: Timestamp, life: Option<Duration>, used: bool) {
        let Some(header) = answer::header(access) else { return };
        self.misses = Misses::default();
        let renew_at = life::renew_at(granted, life, self.dice.u64(..));
        self.parts.tokens.change(|purse| purse.on_granted(Given { header, granted, renew_at, used }));
        let life_s = life.map(|life| life.as_secs());
        tracing::info!(connection = self.parts.connection, life_s, used, "there is an access token");
    }

    fn is_held(&self, epoch: u64) -> bool {
        self.parts.handle.works().borrow().is_some_and(|works| works.epoch == epoch)
    }

    fn on_refused(&mut self, code: &str, advice: &'static str, now: Timestamp) {
        let connection = &self.parts.connection;
        tracing::error!(connection, code, advice, "the provider gives no access token; the connection is parked");
        let wait = life::refused_wait(self.misses.refused, self.dice.u64(..));
        self.misses.refused += 1;
        self.misses.hold_off = Some(now + wait);
        self.parts.tokens.change(|purse| purse.on_refused(code, advice));
    }

    fn on_failed(&mut self, code: &str, wait: Option<Duration>, now: Timestamp) {
        let delay = LEAST + backoff::delay(self.misses.failed, self.dice.u64(..));
        let wait = wait.unwrap_or_default().max(delay);
        let (connection, wait_ms) = (&self.parts.connection, wait.as_millis());
        if self.misses.failed == 0 {
            tracing::warn!(connection, code, wait_ms, "the token endpoint fails; it is asked again");
        }
        self.misses.failed = self.misses.failed.saturating_add(1);
        self.misses.hold_off = Some(now + wait);
        self.parts.tokens.change(|purse| purse.on_failing(code));
    }
}
