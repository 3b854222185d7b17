//! Every parser of foreign bytes of the workspace behind one function each: bytes in, a broken promise or none out. The
//! tests beside this run it over seeds and findings; `bench/fuzz` looks for bytes that break it under coverage. Both use
//! [`Target`], so what is found there is kept from coming back here.
//!
//! It must not decide what may be believed: that is the code under test. The surprising thing: all inputs are text that a
//! person can read and write, because a finding must be understood before it is mended.
//!
//! | module | gets |
//! |---|---|
//! | [`webhook`] | a call of a provider |
//! | [`signature`] | a call signed with a known secret, and a place to damage it |
//! | [`captured`] | a captured call as `headgate verify` takes it |
//! | [`answer`] | answers of a CRM, and of its token endpoint |
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
    /// Its name: of its folder of seeds, and by which it is fuzzed.
    pub name: &'static str,
    reader: Reader,
}

/// Who reads an input.
#[derive(Clone, Copy, Debug)]
enum Reader {
    Webhook(ProviderName),
    Answer(System),
    Other(fn(&[u8]) -> Result<usize, Broken>),
}

/// Those that read something else than webhooks.
const OTHERS: [Target; 9] = [
    Target { name: "signature", reader: Reader::Other(signature::run) },
    Target { name: "captured", reader: Reader::Other(captured::run) },
    Target { name: "hubspot-answers", reader: Reader::Answer(System::Hubspot) },
    Target { name: "salesforce-answers", reader: Reader::Answer(System::Salesforce) },
    Target { name: "login-answers", reader: Reader::Other(answer::login) },
    Target { name: "record", reader: Reader::Other(record::run) },
    Target { name: "position", reader: Reader::Other(position::run) },
    Target { name: "value", reader: Reader::Other(value::run) },
    Target { name: "settings", reader: Reader::Other(settings::run) },
];

impl Target {
    /// All of them: one for each provider, and the others.
    pub fn all() -> impl Iterator<Item = Self> {
        let webhook = |name: &ProviderName| Self { name: name.as_str(), reader: Reader::Webhook(*name) };
        ProviderName::ALL.iter().map(webhook).chain(OTHERS)
    }

    /// The target of that name.
    pub fn find(name: &str) -> Option<Self> {
        Self::all().find(|target| target.name == name)
    }

    /// Reads an input; answers how much of it meant something.
    ///
    /// # Errors
    /// A broken promise.
    pub fn run(&self, input: &[u8]) -> Result<usize, Broken> {
        match self.reader {
            Reader::Webhook(provider) => webhook::run(provider, input),
            Reader::Answer(system) => answer::run(system, input),
            Reader::Other(run) => run(input),
        }
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
