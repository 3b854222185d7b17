//! The providers, one line each: what its configuration and its path call it, and its code. Everything else that is known
//! of a provider stands in its own file.

use headgate_schemas::System;

use super::{Provider, Scheme};
use crate::config::CredentialKind;

macro_rules! registry {
    ($($(#[doc = $doc:literal])+ $(#[cfg($when:meta)])? $name:ident = $text:literal, $code:expr;)+) => {
        /// The name of a provider in the path and in the configuration.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ProviderName {
            $($(#[doc = $doc])+ $(#[cfg($when)])? $name,)+
        }

        impl ProviderName {
            /// All names in the order of the documentation.
            pub const ALL: &[Self] = &[$($(#[cfg($when)])? Self::$name,)+];

            /// The name in the path.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($(#[cfg($when)])? Self::$name => $text,)+
                }
            }
        }

        /// The implementation behind a name.
        pub(crate) fn find(name: ProviderName) -> &'static dyn Provider {
            match name {
                $($(#[cfg($when)])? ProviderName::$name => &$code,)+
            }
        }
    };
}

registry! {
    /// HubSpot webhooks.
    Hubspot = "hubspot", super::hubspot::Hubspot;
    /// Salesforce outbound messages.
    Salesforce = "salesforce", super::salesforce::Salesforce;
    /// Dataverse webhooks.
    Dynamics = "dynamics", super::dynamics::Dynamics;
    /// Pipedrive webhooks.
    Pipedrive = "pipedrive", super::pipedrive::Pipedrive;
    /// Standard Webhooks from an in-house CRM.
    Native = "native", super::native::Native;
    /// `X-Hub-Signature-256` senders.
    HubSignature256 = "hub-signature-256", super::signed::HubSignature256;
    /// `t=…,v1=…` senders.
    TV1 = "t-v1", super::signed::TV1;
    /// CloudEvents over HTTP.
    Cloudevents = "cloudevents", super::cloudevents::Cloudevents;
    /// The example of the README, in the tests of this crate.
    #[cfg(test)]
    Acme = "acme", super::acme::Acme;
}

impl ProviderName {
    /// The system its webhooks are about; [`System::Native`] where they may be about any.
    pub fn system(self) -> System {
        find(self).system()
    }

    /// What its endpoints check calls with.
    pub fn credential(self) -> CredentialKind {
        find(self).credential()
    }

    /// The provider of a scheme of recorded calls.
    pub fn of_scheme(scheme: &str) -> Option<Self> {
        scheme_of(scheme).map(|(name, _)| name)
    }
}

/// The scheme that recorded calls name so, and whose it is.
pub(crate) fn scheme_of(text: &str) -> Option<(ProviderName, Scheme)> {
    let found = |name: &ProviderName| {
        let scheme = find(*name).schemes().iter().find(|scheme| scheme.name == text)?;
        Some((*name, *scheme))
    };
    ProviderName::ALL.iter().find_map(found)
}
