//! Access tokens that end: where they come from, who fetches them, and how calls get them (RFC 6749).
//!
//! A client of a CRM draws its token from [`Tokens`] and says when one was refused; a task per connection fetches them,
//! so one exchange is under way at a time. Only a relay that works on the state fetches, and of those that share it only
//! one renews a login that was kept. What an answer means and when the
//! next token is due are pure. It must not know any CRM beyond the words in which token endpoints refuse.
//!
//! The surprising thing is the order where a provider gives a new refresh token with each answer and ends the old one:
//! the new one is sealed and durable before the access token of the same answer is used. A process that ends in between
//! shows the old one again; where the provider takes it no more, a person has to log in, and is told so.

mod answer;
mod kept;
mod life;
mod request;
mod runner;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use headgate_schemas::Timestamp;
use secrecy::SecretString;
use tokio::sync::watch;

use crate::target::{Disposition, TargetError};

pub(crate) use answer::{Answer, read};
pub(crate) use life::Access;
pub(crate) use life::renew_at;
use life::{Purse, Standing};
pub use request::{KeyError, SigningKey};
pub(crate) use runner::{Parts, run};

/// How tokens for a connection are come by.
#[derive(Clone, Debug)]
pub struct OauthConfig {
    /// The provider's token endpoint, as the operator wrote it.
    pub token_url: String,
    /// Who we are there.
    pub client_id: String,
    /// What is asked for, with blanks between several; left to the provider without it.
    pub scope: Option<String>,
    /// What is shown for a token.
    pub grant: Grant,
}

/// What is shown for a token.
#[derive(Clone, Debug)]
pub enum Grant {
    /// The refresh token of a login that a person made (RFC 6749, section 6).
    RefreshToken {
        /// Shown beside it; public clients have none.
        client_secret: Option<SecretString>,
        /// The one that the login gave. Later ones are in the state.
        refresh_token: SecretString,
    },
    /// The program's own credentials (RFC 6749, section 4.4).
    ClientCredentials {
        /// Shown with the client's id.
        client_secret: SecretString,
    },
    /// An assertion that we sign (RFC 7523, section 2.1).
    JwtBearer {
        /// What signs it.
        key: SigningKey,
        /// The user on whose behalf calls are made.
        subject: String,
        /// Whom the assertion is for.
        audience: String,
    },
}

impl Grant {
    /// The name in the configuration.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::RefreshToken { .. } => "authorization_code",
            Self::ClientCredentials { .. } => "client_credentials",
            Self::JwtBearer { .. } => "jwt_bearer",
        }
    }
}

/// The access token of one connection, for all its calls. Clones share it.
#[derive(Clone)]
pub struct Tokens(Arc<watch::Sender<Purse>>);

impl Default for Tokens {
    /// None is there, and none comes before somebody fetches one.
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Purse::default())))
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Tokens {
    /// The token to use now, waiting `patience` for one that is being fetched.
    ///
    /// # Errors
    /// Nothing was sent. [`Disposition::Reauthorise`] when the provider refuses to give one, [`Disposition::Retry`] when
    /// none could be had yet.
    pub(crate) async fn draw(&self, patience: Duration) -> Result<Arc<Access>, TargetError> {
        let mut seen = self.0.subscribe();
        let told =
            tokio::time::timeout(patience, seen.wait_for(|purse| !matches!(purse.standing(), Standing::Awaited)));
        let late = || TargetError::new("no_token", "no access token came in time", Disposition::Retry);
        let Ok(Ok(purse)) = told.await else { return Err(late()) };
        match purse.standing() {
            Standing::Usable(access) => Ok(Arc::clone(access)),
            Standing::Refused { code, advice } => Err(TargetError::new(code, *advice, Disposition::Reauthorise)),
            Standing::Failing { code } => {
                let text = "the token endpoint gives no access token now; check token_url and the network";
                Err(TargetError::new(code, text, Disposition::Retry))
            }
            Standing::Awaited => Err(late()),
        }
    }

    /// The CRM refused this token. True when the call may be made once more, with the token that is drawn next.
    pub(crate) fn refused(&self, access: &Access, now: Timestamp) -> bool {
        let mut another = false;
        self.0.send_if_modified(|purse| {
            let was_awaited = matches!(purse.standing(), Standing::Awaited);
            another = purse.on_unauthorised(access.number(), now);
            !was_awaited && matches!(purse.standing(), Standing::Awaited)
        });
        another
    }

    /// What was known is to be found out again. Says nothing to anybody where nothing is known.
    fn forget(&self) {
        self.0.send_if_modified(|purse| {
            let known = !matches!(purse.standing(), Standing::Awaited);
            purse.forget();
            known
        });
    }

    fn look<R>(&self, see: impl FnOnce(&Purse) -> R) -> R {
        see(&self.0.borrow())
    }

    fn change(&self, change: impl FnOnce(&mut Purse)) {
        self.0.send_modify(change);
    }

    fn watch(&self) -> watch::Receiver<Purse> {
        self.0.subscribe()
    }
}
