//! Stateful models of the CRMs, for tests, the demonstration, benchmarks, and for people who try client libraries.
//!
//! A model keeps records and rules, not recorded replies: what was written can be read, unique values clash, limits
//! fill, tokens expire, webhooks are posted. It knows nothing of the product under test.
//!
//! | module | holds |
//! |---|---|
//! | [`hubspot`] | the HubSpot account |
//! | [`salesforce`] | the Salesforce organisation |
//! | [`fault`] | what goes wrong on demand |
//! | [`flow`] | automations that write by themselves |
//! | [`hooks`] | posting webhooks, signatures, retries |
//! | [`access`] | tokens |
//! | [`log`] | what was written, which paths were called |

pub mod access;
pub mod fault;
pub mod flow;
pub mod hooks;
mod http;
pub mod hubspot;
pub mod log;
pub mod salesforce;
mod simulate;
mod soql;

use std::net::SocketAddr;

pub use simulate::{Running, SimulateOptions, simulate};

/// A model could not start.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// The address is taken or not ours.
    #[error("cannot listen on {addr}; choose a free address, or port 0 for any")]
    Bind {
        /// The address that was asked for.
        addr: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A hook's address cannot be posted to.
    #[error("the hook address {url} is not an http:// address")]
    HookAddress {
        /// The address.
        url: String,
    },
}
