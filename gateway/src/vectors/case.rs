//! One recorded call in the format of the files, and what it takes to hand it to the gateway's own code: an endpoint, its
//! credential, headers and body. It must not judge. The surprising thing: a scheme without a timestamp has no window, and
//! a file says so with a null; any other window than the gateway's is refused, since nothing would be learnt from it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headgate_schemas::{System, Timestamp};
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::Value;

use super::CaseError;
use crate::config::{Credential, EndpointConfig, Owner, Owners, Place, ProviderName};
use crate::provider::{self, Call, Endpoint, Provider, Scheme};
use crate::signature::WINDOW_MS;

/// The scheme of cases that name a mode of CloudEvents.
pub(super) const CLOUDEVENTS: &str = "cloudevents-bearer";
/// The token such cases are given: they are about what the call holds.
const TOKEN: &str = "vectors";

/// How a scheme of the files is checked.
#[derive(Clone, Copy)]
pub(super) struct Checked {
    name: ProviderName,
    scheme: Scheme,
    /// Its code.
    pub(super) provider: &'static dyn Provider,
}

impl Checked {
    /// The scheme of that name, if it is implemented.
    pub(super) fn find(scheme: &str) -> Option<Self> {
        let (name, scheme) = provider::scheme_of(scheme)?;
        Some(Self { name, scheme, provider: provider::find(name) })
    }

    /// The verdict is about the whole body, not about its sender alone.
    pub(super) const fn reads(self) -> bool {
        self.scheme.reads
    }
}

#[derive(Deserialize)]
struct Format {
    #[serde(default)]
    secret: Value,
    #[serde(default)]
    secret_encoding: String,
    #[serde(default)]
    now_ms: Option<i64>,
    #[serde(default = "window")]
    tolerance_ms: Option<i64>,
    method: String,
    url: String,
    headers: IndexMap<String, OneOrMany>,
    body_base64: String,
    #[serde(default)]
    options: Options,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    #[serde(default)]
    allow_legacy: bool,
    #[serde(default)]
    raw_url_fallback: bool,
}

const fn window() -> Option<i64> {
    Some(WINDOW_MS)
}

/// A case, ready to be judged.
pub(super) struct Case {
    /// The clock it names.
    pub(super) now: Option<Timestamp>,
    /// The endpoint it came to.
    pub(super) endpoint: Endpoint,
    method: String,
    url: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Case {
    /// Reads a case; `option` is one that is switched on besides those the case sets.
    pub(super) fn read(case: &Value, checked: Checked, option: Option<&str>) -> Result<Self, CaseError> {
        let mut case = Format::deserialize(case).map_err(|_| CaseError::Format)?;
        match option {
            None => {}
            Some("allow_legacy") => case.options.allow_legacy = true,
            Some("raw_url_fallback") => case.options.raw_url_fallback = true,
            Some(_) => return Err(CaseError::Option),
        }
        if case.tolerance_ms != window() && (checked.scheme.windowed || case.tolerance_ms.is_some()) {
            return Err(CaseError::Tolerance);
        }
        let mut headers = headers(&case.headers)?;
        let mut now = case.now_ms.map(Timestamp::from_millis);
        if checked.scheme.name == CLOUDEVENTS && case.secret.is_null() {
            headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer vectors"));
            now = now.or(Some(Timestamp::from_millis(0)));
        }
        Ok(Self {
            now,
            endpoint: endpoint(&case, checked)?,
            headers,
            body: STANDARD.decode(&case.body_base64).map_err(|_| CaseError::Body)?,
            method: case.method,
            url: case.url,
        })
    }

    /// The call as the gateway sees it.
    pub(super) fn call(&self) -> Call<'_> {
        Call { method: &self.method, url: &self.url, headers: &self.headers, body: &self.body }
    }
}

/// The credential and the account that a case names.
fn credential(case: &Format, scheme: &str) -> Result<(Credential, String), CaseError> {
    let text = || case.secret.as_str().ok_or(CaseError::Secret);
    let credential = match case.secret_encoding.as_str() {
        "utf8" | "whsec" => Credential::Secrets(vec![text()?.into()]),
        "" if scheme == CLOUDEVENTS => Credential::Secrets(vec![TOKEN.into()]),
        "whpk" => Credential::PublicKey(text()?.to_owned()),
        "json" => return parts(&case.secret, scheme),
        _ => return Err(CaseError::Secret),
    };
    Ok((credential, String::new()))
}

/// A credential of several parts, told apart by their names.
fn parts(secret: &Value, scheme: &str) -> Result<(Credential, String), CaseError> {
    let map = secret.as_object().ok_or(CaseError::Secret)?;
    let text = |key: &str| map.get(key).and_then(Value::as_str).ok_or(CaseError::Secret);
    let credential = match scheme {
        "salesforce-outbound-message" => {
            let organization = map.get("organization_ids").and_then(|ids| ids.get(0)).and_then(Value::as_str);
            return Ok((Credential::None, organization.ok_or(CaseError::Secret)?.to_owned()));
        }
        "http-basic" => {
            Credential::Basic { username: text("username")?.to_owned(), passwords: vec![text("password")?.into()] }
        }
        _ => {
            let place = if scheme == "dataverse-http-header" { Place::Header } else { Place::Query };
            let values = map.keys().map(|name| text(name).map(Into::into)).collect::<Result<_, _>>()?;
            Credential::Shown { place, names: map.keys().cloned().collect(), values: vec![values] }
        }
    };
    Ok((credential, String::new()))
}

fn endpoint(case: &Format, checked: Checked) -> Result<Endpoint, CaseError> {
    let (credential, account) = credential(case, checked.scheme.name)?;
    let keys = checked.provider.keys(&credential).map_err(|_| CaseError::Secret)?;
    let owners = Owners::One(Owner { account, ..Owner::default() });
    let mut config = EndpointConfig::new("vectors", "", (checked.name, System::Native), owners, credential);
    config.allow_legacy = case.options.allow_legacy;
    config.raw_url_fallback = case.options.raw_url_fallback;
    Ok(Endpoint::new(config, keys, 1))
}

/// The headers of a check that is no call.
pub(super) fn headers_of(check: &Value) -> Result<HeaderMap, CaseError> {
    let listed = check.get("headers").map(IndexMap::deserialize);
    headers(&listed.transpose().map_err(|_| CaseError::Format)?.unwrap_or_default())
}

fn headers(listed: &IndexMap<String, OneOrMany>) -> Result<HeaderMap, CaseError> {
    let mut headers = HeaderMap::new();
    for (name, values) in listed {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| CaseError::Header)?;
        let values = match values {
            OneOrMany::One(value) => std::slice::from_ref(value),
            OneOrMany::Many(values) => values,
        };
        for value in values {
            headers.append(name.clone(), HeaderValue::from_str(value).map_err(|_| CaseError::Header)?);
        }
    }
    Ok(headers)
}
