//! What is shipped beside the program, read by the program's own eyes: every configuration by its reader, every command
//! of a container or a service unit by its command line. Only tests.
//!
//! The surprising thing is what is not shown: nothing here builds an image or starts a unit.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers as well")]

mod compose;
mod container;
mod unit;

use std::path::{Path, PathBuf};

use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::config::{self, Config, Env, StreamConfig};

/// The tree.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A command line as the program takes it.
fn command<'a>(words: impl IntoIterator<Item = &'a str>) -> Command {
    Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).command
}

/// What an example may be warned of: it stays on one machine, and one of its CRMs may be written only.
const EXCUSED: [&str; 3] = ["in clear", "neither an endpoint nor polling feeds this connection", "strict acts as read"];

/// Reads a file of the tree as the program does; any other warning is a fault here.
fn config(path: &str, env: &Env) -> Config {
    let config = config::load(&root().join(path), env).unwrap_or_else(|error| panic!("{path}: {:#?}", error.faults));
    let excused = |problem: &str| EXCUSED.iter().any(|known| problem.contains(known));
    assert!(config.warnings.iter().all(|warning| excused(&warning.problem)), "{path}: {:#?}", config.warnings);
    config
}

/// A half by itself has a stream that the other half reaches.
fn fits(command: &Command, config: &Config) {
    if matches!(command, Command::Gateway(_) | Command::Relay(_)) {
        assert!(!matches!(config.stream, StreamConfig::Embedded(_)), "{command:?} on a stream of one process");
    }
}

/// A value for every variable that a file names.
fn named(path: &str) -> Env {
    let text = text(path);
    let named = text.split('"').filter(|word| {
        word.len() > 3 && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    });
    named.map(|name| (name.to_owned(), "x".to_owned())).collect()
}

#[test]
fn every_configuration_is_one() {
    let mut files: Vec<String> = std::fs::read_dir(root().join("deploy/config"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        let path = format!("deploy/config/{file}");
        let read = config(&path, &named(&path));
        assert!(!read.relay.links.is_empty(), "{path} keeps nothing equal");
    }
}
