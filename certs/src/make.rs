//! What stands in the certificates. Knows no files.
//!
//! The client certificate cannot serve and the server certificate cannot pose as a client: each has one extended key
//! usage, so a test that mixes them up fails.

use std::fmt;
use std::time::Duration;

use headgate_schemas::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};

/// Validity begins this long before now, because clocks of peers differ.
const BACKDATED: Duration = Duration::from_hours(1);

/// What to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Host names and addresses of the server, at least one.
    pub server_names: Vec<String>,
    /// Name of the client.
    pub client_name: String,
    /// Days the certificates are valid, the authority's as well.
    pub days: u32,
}

/// A certificate and its key, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key, PKCS #8.
    pub key: String,
}

impl fmt::Debug for Pair {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// An authority and what it signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The authority; signs nothing but leaves.
    pub authority: Pair,
    /// For the server.
    pub server: Pair,
    /// For the client.
    pub client: Pair,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// No name for the server.
    #[error("name at least one host or address of the server")]
    NoName,
    /// Zero days.
    #[error("the certificates must be valid for at least one day")]
    NoDays,
    /// A name cannot stand in a certificate, or a key could not be made.
    #[error("the {part} certificate cannot be made: {source}")]
    Refused {
        /// Which one.
        part: &'static str,
        /// Why.
        source: rcgen::Error,
    },
}

/// Makes an authority with a server and a client certificate, all with ECDSA keys on P-256.
///
/// # Errors
/// [`MakeError`] when the request is empty or holds a name that cannot stand in a certificate.
pub fn make(request: &Request, now: Timestamp) -> Result<Bundle, MakeError> {
    if request.server_names.is_empty() {
        return Err(MakeError::NoName);
    }
    if request.days == 0 {
        return Err(MakeError::NoDays);
    }
    let (authority, issuer) = authority(request.days, now).map_err(|e| refused("authority", e))?;
    let server = || {
        let mut params = CertificateParams::new(request.server_names.clone())?;
        params.distinguished_name = named(&request.server_names[0]);
        leaf(params, ExtendedKeyUsagePurpose::ServerAuth, &issuer, request.days, now)
    };
    let client = || {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&request.client_name);
        leaf(params, ExtendedKeyUsagePurpose::ClientAuth, &issuer, request.days, now)
    };
    Ok(Bundle {
        authority,
        server: server().map_err(|e| refused("server", e))?,
        client: client().map_err(|e| refused("client", e))?,
    })
}

const fn refused(part: &'static str, source: rcgen::Error) -> MakeError {
    MakeError::Refused { part, source }
}

fn authority(days: u32, now: Timestamp) -> Result<(Pair, Issuer<'static, KeyPair>), rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Headgate development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, days, now);
    let pair = Pair { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() };
    Ok((pair, Issuer::new(params, key)))
}

fn leaf(
    mut params: CertificateParams,
    usage: ExtendedKeyUsagePurpose,
    issuer: &Issuer<'_, KeyPair>,
    days: u32,
    now: Timestamp,
) -> Result<Pair, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    valid(&mut params, days, now);
    Ok(Pair { certificate: params.signed_by(&key, issuer)?.pem(), key: key.serialize_pem() })
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn valid(params: &mut CertificateParams, days: u32, now: Timestamp) {
    let now = date_time_ymd(1970, 1, 1) + now.since(Timestamp::from_micros(0));
    params.not_before = now - BACKDATED;
    params.not_after = now + Duration::from_hours(24 * u64::from(days));
}
