//! The contract as others see it: the JSON Schema that is checked in, encodings that must decode for ever, and the
//! round trip of any change.
//!
//! `UPDATE_SCHEMAS=1` regenerates the schema and writes golden files that are missing. It never rewrites a golden file:
//! readers of the stream hold records like these.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers as well")]

mod examples;
mod golden;
mod round_trip;
mod schema_drift;

use std::path::{Path, PathBuf};

/// The command that brings generated files up to date.
const REGENERATE: &str = "UPDATE_SCHEMAS=1 cargo test -p headgate-schemas --test contract";

fn updating() -> bool {
    std::env::var_os("UPDATE_SCHEMAS").is_some()
}

fn in_crate(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
