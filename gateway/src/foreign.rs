//! Every parser of foreign bytes behind one function, for whatever looks for bytes that break one: seeded mutations in
//! the tests, coverage-guided fuzzing by command. It must not know sockets.
//!
//! The surprising thing: whether a call is believed makes no difference here. A stranger reaches what verifies, and a
//! believed sender everything behind it, so both are run over the same bytes.

use std::collections::HashMap;

use headgate_schemas::{Change, ChangeId, System, Timestamp, contract};
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

use crate::config::{Credential, EndpointConfig, Owner, Owners, ProviderName};
use crate::provider::{self, Call, Endpoint, Provider};

/// A change without its values must fit into a record of the stream many times over.
const BARE_BYTES: usize = 64 << 10;
/// How many times longer than the body all values together may be: a byte that JSON escapes takes six, and a value may
/// stand in a change twice, as it is and as it was.
const VALUES_TIMES: usize = 12;
/// The clock of all such calls.
const NOW: Timestamp = Timestamp::from_millis(1_767_268_800_000);
/// Later, and in the same minute: a call that names no event is known by its minute.
const LATER: Timestamp = Timestamp::from_millis(1_767_268_859_999);
/// Longest place in the order of a record.
const PLACE_BYTES: usize = 255;

/// What was promised of every body and did not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A change cannot be written to the stream.
    #[error("a change cannot be encoded")]
    Encode,
    /// What was written cannot be read, or reads as something else.
    #[error("a change does not come back from the stream as it was")]
    RoundTrip,
    /// Names and ids take more room than they may.
    #[error("a change without its values takes {0} bytes")]
    TooLarge(usize),
    /// The values of all changes take more room than the body they came in allows.
    #[error("the values of a body of {body} bytes take {values} bytes")]
    Amplified {
        /// Bytes of the body.
        body: usize,
        /// Bytes of the values.
        values: usize,
    },
    /// The same call read later tells other changes, so that a repeat would not be known.
    #[error("the same call read again tells changes with other ids or another order")]
    Unstable,
    /// Changes of two records have one id, so that one of them would count as a repeat.
    #[error("changes of two records have one id")]
    Shared,
    /// The place of a change in the order of its record cannot be compared or kept.
    #[error("a place in the order of a record is empty or takes {0} bytes")]
    Place(usize),
}

/// One call to an endpoint with this credential.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Who is said to call.
    pub provider: ProviderName,
    /// What the endpoint checks calls with.
    pub credential: &'a Credential,
    /// The URL as the caller knows it.
    pub url: &'a str,
    /// The headers; those that HTTP does not allow are left out.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The raw body.
    pub body: &'a [u8],
    /// The clock of the gateway.
    pub now: Timestamp,
    /// The endpoint takes the forgeable signatures of HubSpot, too.
    pub allow_legacy: bool,
}

impl Attempt<'_> {
    /// Whether the gateway takes the call for the provider's. With a credential that the provider cannot use it believes
    /// nobody.
    pub fn is_believed(&self) -> bool {
        let provider = provider::find(self.provider);
        let Ok(keys) = provider.keys(self.credential) else { return false };
        let owners = Owners::One(Owner::default());
        let system = (self.provider, System::Native);
        let mut config = EndpointConfig::new("foreign", "", system, owners, self.credential.clone());
        config.allow_legacy = self.allow_legacy;
        let headers = allowed(self.headers);
        let call = Call { method: "POST", url: self.url, headers: &headers, body: self.body };
        provider.verify(&call, &Endpoint::new(config, keys, 1), self.now).is_ok()
    }
}

fn allowed(headers: &[(&str, &[u8])]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value)) {
            map.append(name, value);
        }
    }
    map
}

/// Verifies and reads one call, once for a fixed connection and once by account; answers the changes found in all.
/// Headers that HTTP does not allow are left out.
///
/// # Errors
/// [`Broken`] when a promise about changes does not hold. A body that is refused is no error.
pub fn try_call(name: ProviderName, url: &str, headers: &[(&str, &[u8])], body: &[u8]) -> Result<usize, Broken> {
    let map = allowed(headers);
    let call = Call { method: "POST", url, headers: &map, body };
    let mut found = 0;
    for system in [System::Native, System::Salesforce] {
        let owner = Owner { account: account(name).to_owned(), ..Owner::default() };
        let by_account = Owners::ByAccount([(owner.account.clone(), owner.clone())].into());
        for owners in [Owners::One(owner), by_account] {
            found += read(name, &call, owners, system)?;
        }
    }
    Ok(found)
}

/// The account whose calls the endpoint takes, in the provider's own form.
fn account(name: ProviderName) -> &'static str {
    match name.system() {
        System::Hubspot => "5550123",
        System::Salesforce => "00D5g000000ABCDEA4",
        System::Dynamics => "4ef5b371-e89e-e711-8122-000d3aa2331c",
        System::Pipedrive => "4410",
        System::Native => "crm",
    }
}

fn read(name: ProviderName, call: &Call<'_>, owners: Owners, system: System) -> Result<usize, Broken> {
    let provider = provider::find(name);
    // Base64 and text at once, as for an endpoint that does not exist.
    let credential = provider.decoy("aGVhZGdhdGUtbm8tc3VjaC1lbmRwb2ludA==");
    let Ok(keys) = provider.keys(&credential) else { return Ok(0) };
    let mut config = EndpointConfig::new("foreign", "", (name, system), owners, credential);
    config.allow_legacy = true;
    config.raw_url_fallback = true;
    let endpoint = Endpoint::new(config, keys, 1);
    let explained = provider.signed(call);
    let believed = provider.verify(call, &endpoint, NOW).is_ok();
    tracing::trace!(scheme = explained.scheme, believed, "a foreign call");
    let consent = provider.consent(call.headers, Some(&endpoint), 1);
    tracing::trace!(asked = consent.is_some(), "a foreign handshake");
    let Ok(reading) = provider.changes(call, &endpoint, NOW) else { return Ok(0) };
    reading.changes.iter().try_for_each(keeps_its_promises)?;
    keep_together(&reading.changes, call.body.len())?;
    if identities(provider, call, &endpoint) != reading.changes.iter().map(identity).collect::<Vec<_>>() {
        return Err(Broken::Unstable);
    }
    Ok(reading.changes.len())
}

/// What a repeat is known by, and where it stands in the order of its record.
type Identity = (ChangeId, Option<String>);

fn identity(change: &Change) -> Identity {
    (change.id, change.sequence.clone())
}

/// The same call, come again later.
fn identities(provider: &dyn Provider, call: &Call<'_>, endpoint: &Endpoint) -> Vec<Identity> {
    provider.changes(call, endpoint, LATER).map(|r| r.changes.iter().map(identity).collect()).unwrap_or_default()
}

/// What holds of the changes of one call together.
fn keep_together(changes: &[Change], body: usize) -> Result<(), Broken> {
    let mut records = HashMap::with_capacity(changes.len());
    let mut values = 0_usize;
    for change in changes {
        if *records.entry(change.id).or_insert_with(|| change.record()) != change.record() {
            return Err(Broken::Shared);
        }
        values += serde_json::to_vec(&change.fields).map_err(|_| Broken::Encode)?.len();
    }
    // Each field brings its own few words besides.
    let names: usize = changes.iter().map(|change| 64 * (change.fields.len() + 1)).sum();
    if values <= body * VALUES_TIMES + names { Ok(()) } else { Err(Broken::Amplified { body, values }) }
}

fn keeps_its_promises(change: &Change) -> Result<(), Broken> {
    let record = contract::encode(change).map_err(|_| Broken::Encode)?;
    let back = contract::decode(&record).map_err(|_| Broken::RoundTrip)?;
    if back != *change {
        return Err(Broken::RoundTrip);
    }
    if let Some(place) = change.sequence.as_deref().filter(|place| !(1..=PLACE_BYTES).contains(&place.len())) {
        return Err(Broken::Place(place.len()));
    }
    let mut bare = change.clone();
    bare.fields.clear();
    let bytes = contract::encode(&bare).map_err(|_| Broken::Encode)?.len();
    if bytes < BARE_BYTES { Ok(()) } else { Err(Broken::TooLarge(bytes)) }
}
