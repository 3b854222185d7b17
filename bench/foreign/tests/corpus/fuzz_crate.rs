//! The crate that fuzzes has a binary for each target: it is built by another compiler, so nothing else would notice.

use std::collections::BTreeSet;

use headgate_foreign::TARGETS;

use super::in_crate;

#[test]
fn there_is_a_binary_for_each_target() {
    let manifest: toml::Table = std::fs::read_to_string(in_crate("../fuzz/Cargo.toml")).unwrap().parse().unwrap();
    let binaries: BTreeSet<&str> =
        manifest["bin"].as_array().unwrap().iter().map(|bin| bin["name"].as_str().unwrap()).collect();
    assert_eq!(binaries, TARGETS.iter().map(|target| target.name).collect());
}
