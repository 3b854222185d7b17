//! What is sent to a token endpoint: a form, with an assertion in it where we sign one. Pure; the time is an argument.
//!
//! The surprising thing: client id and secret stand in the form and not in a header, because that is what every CRM here
//! takes, and some take nothing else.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use headgate_schemas::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use super::{Grant, OauthConfig};

/// How long an assertion is good. Salesforce takes none that is good for longer (Salesforce, "OAuth 2.0 JWT Bearer Flow
/// for Server-to-Server Integration").
const ASSERTION_S: i64 = 180;

/// Why a key cannot sign assertions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No key in a form that is understood.
    #[error("it holds no private key in PEM form, PKCS #8 or PKCS #1")]
    Form,
    /// Not RSA, or too short.
    #[error("it is not an RSA key of at least 2048 bits")]
    Kind,
    /// The cryptographic library refused.
    #[error("the cryptographic library failed; the system may lack a source of random numbers")]
    Crypto,
}

/// An RSA key that signs assertions. Clones share it.
#[derive(Clone)]
pub struct SigningKey(Arc<RsaKeyPair>);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Reads a private key in PEM form.
    ///
    /// # Errors
    /// [`KeyError::Form`], [`KeyError::Kind`].
    pub fn from_pem(pem: &SecretString) -> Result<Self, KeyError> {
        let key = PrivateKeyDer::from_pem_slice(pem.expose_secret().as_bytes()).map_err(|_| KeyError::Form)?;
        let pair = match &key {
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            _ => return Err(KeyError::Kind),
        };
        Ok(Self(Arc::new(pair.map_err(|_| KeyError::Kind)?)))
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut signature = vec![0; self.0.public_modulus_len()];
        let signed = self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature);
        signed.map(|()| signature).map_err(|_| KeyError::Crypto)
    }
}

/// The form that asks for a token. `refresh` is the refresh token that is good now, where the grant has one.
///
/// # Errors
/// [`KeyError::Crypto`].
pub(super) fn form(config: &OauthConfig, refresh: Option<&SecretString>, now: Timestamp) -> Result<Bytes, KeyError> {
    let assertion;
    let mut pairs = vec![];
    match &config.grant {
        Grant::RefreshToken { client_secret, refresh_token } => {
            pairs.push(("grant_type", "refresh_token"));
            pairs.push(("client_id", &config.client_id));
            pairs.extend(client_secret.as_ref().map(|secret| ("client_secret", secret.expose_secret())));
            pairs.push(("refresh_token", refresh.unwrap_or(refresh_token).expose_secret()));
        }
        Grant::ClientCredentials { client_secret } => {
            pairs.push(("grant_type", "client_credentials"));
            pairs.push(("client_id", &config.client_id));
            pairs.push(("client_secret", client_secret.expose_secret()));
        }
        Grant::JwtBearer { key, subject, audience } => {
            assertion = self::assertion(key, &config.client_id, subject, audience, now)?;
            pairs.push(("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"));
            pairs.push(("assertion", &assertion));
        }
    }
    pairs.extend(config.scope.as_deref().map(|scope| ("scope", scope)));
    let escaped = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let fields: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    Ok(fields.join("&").into())
}

/// A signed JSON Web Token (RFC 7519) with the claims of RFC 7523, section 3.
fn assertion(
    key: &SigningKey,
    client_id: &str,
    subject: &str,
    audience: &str,
    now: Timestamp,
) -> Result<String, KeyError> {
    let claims = json!({
        "iss": client_id, "sub": subject, "aud": audience, "exp": now.millis() / 1_000 + ASSERTION_S,
    });
    let part = |json: &serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", part(&json!({"alg": "RS256", "typ": "JWT"})), part(&claims));
    let signature = key.sign(signed.as_bytes())?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use base64::engine::general_purpose::STANDARD;
    use serde_json::Value;

    use super::*;

    fn config(grant: Grant) -> OauthConfig {
        OauthConfig {
            token_url: "https://id.example.com/token".into(),
            client_id: "the id".into(),
            scope: Some("api refresh_token".into()),
            grant,
        }
    }

    fn asked(grant: Grant, refresh: Option<&str>) -> String {
        let refresh = refresh.map(SecretString::from);
        let form = form(&config(grant), refresh.as_ref(), Timestamp::from_secs(1_000)).unwrap();
        String::from_utf8(form.to_vec()).unwrap()
    }

    /// A fresh key, and the same in PEM form.
    fn key() -> (RsaKeyPair, SecretString) {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = pair.as_der().unwrap();
        let pem =
            format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der.as_ref()));
        (pair, pem.into())
    }

    #[test]
    fn each_grant_has_its_form() {
        let refresh = |client_secret: Option<&str>| Grant::RefreshToken {
            client_secret: client_secret.map(SecretString::from),
            refresh_token: "first&".into(),
        };
        assert_eq!(
            asked(refresh(Some("s/1")), None),
            "grant_type=refresh%5Ftoken&client_id=the%20id&client_secret=s%2F1&refresh_token=first%26&scope=api%20refresh%5Ftoken"
        );
        assert_eq!(
            asked(refresh(None), Some("later")),
            "grant_type=refresh%5Ftoken&client_id=the%20id&refresh_token=later&scope=api%20refresh%5Ftoken"
        );
        assert_eq!(
            asked(Grant::ClientCredentials { client_secret: "s".into() }, None),
            "grant_type=client%5Fcredentials&client_id=the%20id&client_secret=s&scope=api%20refresh%5Ftoken"
        );
    }

    #[test]
    fn an_assertion_is_signed_short_lived_and_for_one_audience() {
        let (pair, pem) = key();
        let grant = Grant::JwtBearer {
            key: SigningKey::from_pem(&pem).unwrap(),
            subject: "relay@acme.example".into(),
            audience: "https://login.salesforce.com".into(),
        };
        let form = asked(grant, None);
        let assertion = form.split('&').find_map(|field| field.strip_prefix("assertion=")).unwrap();
        let assertion = percent_encoding::percent_decode_str(assertion).decode_utf8().unwrap();
        let (signed, signature) = assertion.rsplit_once('.').unwrap();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref());
        public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
        let parts: Vec<Value> = signed
            .split('.')
            .map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
            .collect();
        assert_eq!(parts[0], json!({"alg": "RS256", "typ": "JWT"}));
        let claims = json!({
            "iss": "the id", "sub": "relay@acme.example", "aud": "https://login.salesforce.com", "exp": 1_180,
        });
        assert_eq!(parts[1], claims);
    }

    #[test]
    fn what_is_no_rsa_key_is_refused_and_a_key_is_never_shown() {
        let (_, pem) = key();
        assert_eq!(format!("{:?}", SigningKey::from_pem(&pem).unwrap()), "SigningKey { .. }");
        let refused = |text: &str| SigningKey::from_pem(&text.into()).map(|_| ()).unwrap_err();
        assert_eq!(refused("hello"), KeyError::Form);
        let broken = "-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n";
        assert_eq!(refused(broken), KeyError::Kind);
    }
}
