//! Every parser of foreign bytes of the workspace behind one function each: bytes in, a broken promise or none out. The
//! tests beside this run it over seeds and findings; `bench/fuzz` looks for bytes that break it under coverage. Both use
//! [`TARGETS`], so what is found there is kept from coming back here.
//!
//! It must not decide what may be believed: that is the code under test. The surprising thing: all inputs are text that a
//! person can read and write, because a finding must be understood before it is mended.
//!
//! | module | gets |
//! |---|---|
//! | [`webhook`] | a call of a provider |
//! | [`signature`] | a call signed with a known secret, and a place to damage it |
//! | [`captured`] | a captured call as `headgate verify` takes it |
//! | [`answer`] | answers of a CRM |
//! | [`record`] | a record of the stream |
//! | [`position`] | where a reader of the stream wants to begin |
//! | [`value`] | two values of a field |
//! | [`settings`] | a configuration with its environment |

use headgate_gateway::config::ProviderName;
use headgate_schemas::System;

pub mod answer;
pub mod captured;
pub mod position;
pub mod record;
pub mod settings;
pub mod signature;
mod text;
pub mod value;
pub mod webhook;

/// What is tried under one name.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: of its folder of seeds, and of its binary in `bench/fuzz`.
    pub name: &'static str,
    /// Reads an input; answers how much of it meant something.
    pub run: fn(&[u8]) -> Result<usize, Broken>,
}

/// All of them.
pub const TARGETS: [Target; 16] = [
    Target { name: "hubspot", run: |input| webhook::run(ProviderName::Hubspot, input) },
    Target { name: "salesforce", run: |input| webhook::run(ProviderName::Salesforce, input) },
    Target { name: "dynamics", run: |input| webhook::run(ProviderName::Dynamics, input) },
    Target { name: "pipedrive", run: |input| webhook::run(ProviderName::Pipedrive, input) },
    Target { name: "native", run: |input| webhook::run(ProviderName::Native, input) },
    Target { name: "hub-signature-256", run: |input| webhook::run(ProviderName::HubSignature256, input) },
    Target { name: "t-v1", run: |input| webhook::run(ProviderName::TV1, input) },
    Target { name: "cloudevents", run: |input| webhook::run(ProviderName::Cloudevents, input) },
    Target { name: "signature", run: signature::run },
    Target { name: "captured", run: captured::run },
    Target { name: "hubspot-answers", run: |input| answer::run(System::Hubspot, input) },
    Target { name: "salesforce-answers", run: |input| answer::run(System::Salesforce, input) },
    Target { name: "record", run: record::run },
    Target { name: "position", run: position::run },
    Target { name: "value", run: value::run },
    Target { name: "settings", run: settings::run },
];

impl Target {
    /// The target of that name.
    pub fn find(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }
}

/// A promise that an input broke.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// A webhook.
    #[error("webhook: {0}")]
    Webhook(#[from] headgate_gateway::foreign::Broken),
    /// An answer of a CRM.
    #[error("answer: {0}")]
    Answer(#[from] headgate_relay::foreign::Broken),
    /// A configuration.
    #[error("configuration: {0}")]
    Settings(#[from] headgate::foreign::Broken),
    /// A signature.
    #[error("signature: {0}")]
    Signature(#[from] signature::Broken),
    /// A record of the stream.
    #[error("record: {0}")]
    Record(#[from] record::Broken),
    /// A position.
    #[error("position: {0}")]
    Position(#[from] position::Broken),
    /// A value.
    #[error("value: {0}")]
    Value(#[from] value::Broken),
}
