//! Commands about endpoints that the gateways of a cluster share.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Server;

/// Arguments of `endpoint`.
#[derive(Debug, Args)]
pub(crate) struct EndpointArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: EndpointCommand,
}

/// What can be done with shared endpoints.
#[derive(Debug, Subcommand)]
pub(crate) enum EndpointCommand {
    /// List those that were added
    List {
        /// The server.
        #[command(flatten)]
        server: Server,
    },
    /// Add one, or put another in its place
    Add {
        /// One [[endpoint]]
        file: PathBuf,
        /// The server.
        #[command(flatten)]
        server: Server,
    },
    /// Take one away
    Remove {
        /// Its name
        name: String,
        /// The server.
        #[command(flatten)]
        server: Server,
    },
}
