//! Who may call: bearer tokens and the token endpoint, for both models.
//!
//! It knows tokens and grants, not the words in which a CRM refuses. Without a strict token and without an app any
//! bearer token is good, so that people can try their tools without a set-up.

use std::collections::HashMap;

use headgate_schemas::Timestamp;
use std::time::Duration;

/// Which callers a model accepts.
#[derive(Clone, Debug, Default)]
pub struct AccessOptions {
    /// The one static token that is accepted; `None` accepts any, unless an app is set.
    pub token: Option<String>,
    /// An app that may ask for tokens; then only issued tokens (and the static one) are accepted.
    pub app: Option<OauthApp>,
}

/// An OAuth app known to a model.
#[derive(Clone)]
pub struct OauthApp {
    /// Client id.
    pub client_id: String,
    /// Client secret.
    pub client_secret: String,
    /// The refresh token that is live at the start; the empty text is none.
    pub refresh_token: String,
    /// Life of an access token.
    pub expires_in: Duration,
    /// What becomes of the refresh token when it is used.
    pub rotation: Rotation,
}

/// What becomes of a refresh token when it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// It stays.
    None,
    /// A new one takes its place and the old one ends at once.
    Strict,
    /// A new one takes its place; the old one is good until the new one is used.
    Overlapping,
}

impl std::fmt::Debug for OauthApp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OauthApp").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

/// Why a call is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    Missing,
    Invalid,
    Expired,
}

/// A token that was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issued {
    pub(crate) access_token: String,
    pub(crate) refresh_token: Option<String>,
    pub(crate) expires_in: Duration,
}

/// Why no token was issued; the text is OAuth's error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotIssued(pub(crate) &'static str);

/// The live tokens of one model.
#[derive(Debug)]
pub(crate) struct Access {
    options: AccessOptions,
    refresh_token: Option<String>,
    /// The one before, while it is still good.
    earlier: Option<String>,
    live: HashMap<String, Timestamp>,
    issued: u64,
}

/// Issued tokens that are remembered; expired ones go first.
const LIVE_TOKENS: usize = 10_000;

impl Access {
    pub(crate) fn new(options: AccessOptions) -> Self {
        let refresh_token = options.app.as_ref().map(|a| a.refresh_token.clone()).filter(|token| !token.is_empty());
        Self { options, refresh_token, earlier: None, live: HashMap::new(), issued: 0 }
    }

    /// Checks an `Authorization` header.
    pub(crate) fn check(&self, header: Option<&str>, now: Timestamp) -> Result<(), Denied> {
        let token = header.and_then(|h| h.strip_prefix("Bearer ")).map(str::trim).filter(|t| !t.is_empty());
        let token = token.ok_or(Denied::Missing)?;
        if self.options.token.as_deref() == Some(token) {
            return Ok(());
        }
        match self.live.get(token) {
            Some(until) if *until > now => Ok(()),
            Some(_) => Err(Denied::Expired),
            None if self.options.token.is_none() && self.options.app.is_none() => Ok(()),
            None => Err(Denied::Invalid),
        }
    }

    /// Ends every issued token.
    pub(crate) fn revoke(&mut self) {
        self.live.clear();
    }

    /// Ends the login: neither its refresh token nor any access token is good.
    pub(crate) fn revoke_login(&mut self) {
        (self.refresh_token, self.earlier) = (None, None);
        self.revoke();
    }

    /// Access tokens issued so far.
    pub(crate) const fn issued(&self) -> u64 {
        self.issued
    }

    /// Answers a token request; `form` gives its fields.
    pub(crate) fn issue(&mut self, form: &HashMap<String, String>, now: Timestamp) -> Result<Issued, NotIssued> {
        let field = |name: &str| form.get(name).map_or("", String::as_str);
        let Some(app) = self.options.app.clone() else { return self.grant(Duration::from_secs(1_800), None, now) };
        if field("client_id") != app.client_id || field("client_secret") != app.client_secret {
            return Err(NotIssued("invalid_client"));
        }
        match field("grant_type") {
            "refresh_token" => self.refresh(&app, field("refresh_token"), now),
            "client_credentials" => self.grant(app.expires_in, None, now),
            "authorization_code" if field("code").is_empty() => Err(NotIssued("invalid_grant")),
            "authorization_code" => self.grant(app.expires_in, self.refresh_token.clone(), now),
            _ => Err(NotIssued("unsupported_grant_type")),
        }
    }

    fn refresh(&mut self, app: &OauthApp, shown: &str, now: Timestamp) -> Result<Issued, NotIssued> {
        if ![&self.refresh_token, &self.earlier].into_iter().flatten().any(|good| good == shown) {
            return Err(NotIssued("invalid_grant"));
        }
        if app.rotation != Rotation::None {
            self.earlier = (app.rotation == Rotation::Overlapping).then(|| shown.to_owned());
            self.refresh_token = Some(format!("{}-{}", app.refresh_token, self.issued + 1));
        }
        self.grant(app.expires_in, self.refresh_token.clone(), now)
    }

    fn grant(&mut self, life: Duration, refresh: Option<String>, now: Timestamp) -> Result<Issued, NotIssued> {
        if self.live.len() >= LIVE_TOKENS {
            self.live.retain(|_, until| *until > now);
        }
        if self.live.len() >= LIVE_TOKENS {
            return Err(NotIssued("temporarily_unavailable"));
        }
        self.issued += 1;
        let access_token = format!("access-{}", self.issued);
        self.live.insert(access_token.clone(), now + life);
        Ok(Issued { access_token, refresh_token: refresh, expires_in: life })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn with(rotation: Rotation) -> Access {
        let app = OauthApp {
            client_id: "c".into(),
            client_secret: "s".into(),
            refresh_token: "r".into(),
            expires_in: Duration::from_secs(60),
            rotation,
        };
        Access::new(AccessOptions { token: None, app: Some(app) })
    }

    fn ask(refresh: &str) -> HashMap<String, String> {
        form(&[("grant_type", "refresh_token"), ("client_id", "c"), ("client_secret", "s"), ("refresh_token", refresh)])
    }

    #[test]
    fn a_rotated_refresh_token_ends_the_old_one_and_tokens_expire() {
        let mut access = with(Rotation::Strict);
        let at = Timestamp::from_secs(100);
        let first = access.issue(&ask("r"), at).expect("the refresh token is live");
        assert_eq!(first.refresh_token.as_deref(), Some("r-1"));
        assert_eq!(access.issue(&ask("r"), at), Err(NotIssued("invalid_grant")));
        let header = format!("Bearer {}", first.access_token);
        assert_eq!(access.check(Some(&header), at), Ok(()));
        assert_eq!(access.check(Some(&header), Timestamp::from_secs(161)), Err(Denied::Expired));
        assert_eq!(access.check(Some("Bearer else"), at), Err(Denied::Invalid));
        assert_eq!(access.check(None, at), Err(Denied::Missing));
    }

    #[test]
    fn with_overlap_the_old_refresh_token_is_good_until_the_new_one_is_used() {
        let mut access = with(Rotation::Overlapping);
        let at = Timestamp::from_secs(100);
        let mut given = |shown: &str| access.issue(&ask(shown), at).map(|issued| issued.refresh_token);
        assert_eq!(given("r"), Ok(Some("r-1".into())));
        assert_eq!(given("r"), Ok(Some("r-2".into())), "the answer was lost");
        assert_eq!(given("r-2"), Ok(Some("r-3".into())));
        assert_eq!(given("r"), Err(NotIssued("invalid_grant")));
    }

    #[test]
    fn a_login_that_is_revoked_gives_nothing_any_more() {
        let mut access = with(Rotation::None);
        let at = Timestamp::from_secs(100);
        assert_eq!(access.issue(&ask("r"), at).map(|issued| issued.refresh_token), Ok(Some("r".into())));
        access.revoke_login();
        assert_eq!(access.issue(&ask("r"), at), Err(NotIssued("invalid_grant")));
        assert_eq!(access.issue(&ask(""), at), Err(NotIssued("invalid_grant")));
        assert_eq!(access.check(Some("Bearer access-1"), at), Err(Denied::Invalid));
        assert_eq!(access.issued(), 1);
    }

    #[test]
    fn without_a_set_up_any_token_is_good_but_none_is_not() {
        let access = Access::new(AccessOptions::default());
        assert_eq!(access.check(Some("Bearer t"), Timestamp::from_secs(0)), Ok(()));
        assert_eq!(access.check(Some("Basic t"), Timestamp::from_secs(0)), Err(Denied::Missing));
    }
}
