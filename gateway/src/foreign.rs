//! Every parser of foreign bytes behind one function, for whatever looks for bytes that break one: seeded mutations in
//! the tests, coverage-guided fuzzing by command. It must not know sockets.
//!
//! The surprising thing: whether a call is believed makes no difference here. A stranger reaches what verifies, and a
//! believed sender everything behind it, so both are run over the same bytes.

use headgate_schemas::{Change, System, Timestamp, contract};
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

use crate::config::{EndpointConfig, Owner, Owners, ProviderName};
use crate::provider::{self, Call, Endpoint};

/// A change without its values must fit into a record of the stream many times over.
const BARE_BYTES: usize = 64 << 10;
/// The clock of all such calls.
const NOW: Timestamp = Timestamp::from_millis(1_767_268_800_000);

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
}

/// Verifies and reads one call, once for a fixed connection and once by account; answers the changes found in all.
/// Headers that HTTP does not allow are left out.
///
/// # Errors
/// [`Broken`] when a promise about changes does not hold. A body that is refused is no error.
pub fn try_call(name: ProviderName, url: &str, headers: &[(&str, &[u8])], body: &[u8]) -> Result<usize, Broken> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value)) {
            map.append(name, value);
        }
    }
    let call = Call { method: "POST", url, headers: &map, body };
    let mut found = 0;
    for system in [System::Native, System::Salesforce] {
        let owner = Owner { account: "5550123".to_owned(), ..Owner::default() };
        let by_account = Owners::ByAccount([("5550123".to_owned(), owner.clone())].into());
        for owners in [Owners::One(owner), by_account] {
            found += read(name, &call, owners, system)?;
        }
    }
    Ok(found)
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
    let Ok(reading) = provider.changes(call, &endpoint, NOW) else { return Ok(0) };
    reading.changes.iter().try_for_each(keeps_its_promises)?;
    Ok(reading.changes.len())
}

fn keeps_its_promises(change: &Change) -> Result<(), Broken> {
    let record = contract::encode(change).map_err(|_| Broken::Encode)?;
    let back = contract::decode(&record).map_err(|_| Broken::RoundTrip)?;
    if back != *change {
        return Err(Broken::RoundTrip);
    }
    let mut bare = change.clone();
    bare.fields.clear();
    let bytes = contract::encode(&bare).map_err(|_| Broken::Encode)?.len();
    if bytes < BARE_BYTES { Ok(()) } else { Err(Broken::TooLarge(bytes)) }
}
