//! The dependency policy of `.deny.toml`, enforced as an ordinary test: licences, banned crates, one version of each,
//! one registry. It asks cargo what is really built here, not what the lock file could build elsewhere.

#![expect(clippy::expect_used, reason = "a test whose stage cannot be set has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

#[derive(Deserialize)]
struct Policy {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Named>,
    skip: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
    /// The crates that may need a banned one all the same.
    #[serde(default)]
    wrappers: BTreeSet<String>,
}

/// A package that is built: name, version, licence expression, and whether it is one of ours.
struct Package {
    name: String,
    version: String,
    licence: String,
    ours: bool,
    foreign: bool,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().and_then(Path::parent).expect("the crate stands two folders down")
}

fn policy() -> Policy {
    let text = std::fs::read_to_string(root().join(".deny.toml")).expect("the policy is in the tree");
    toml::from_str(&text).expect("the policy parses")
}

fn packages() -> Vec<Package> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["tree", "--workspace", "--all-features", "--locked", "--offline", "--edges", "normal,build,dev"])
        .args(["--prefix", "none", "--no-dedupe", "--format", "{p}\t{l}"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo prints text");
    let lines: BTreeSet<&str> = text.lines().filter(|l| !l.is_empty()).collect();
    lines.into_iter().map(package).collect()
}

/// The crates that need `name` directly.
fn users(name: &str) -> BTreeSet<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["tree", "--workspace", "--all-features", "--locked", "--offline", "--edges", "normal,build,dev"])
        .args(["--prefix", "depth", "--depth", "1", "--format", " {p}", "--invert", name])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo prints text");
    let direct = text.lines().filter_map(|line| line.strip_prefix("1 "));
    direct.filter_map(|spec| spec.split(' ').next().map(str::to_owned)).collect()
}

fn package(line: &str) -> Package {
    let (spec, licence) = line.split_once('\t').unwrap_or((line, ""));
    let mut words = spec.split(' ');
    let name = words.next().unwrap_or_default().to_owned();
    let version = words.next().unwrap_or_default().trim_start_matches('v').to_owned();
    let rest = words.collect::<Vec<_>>().join(" ");
    let ours = name == "headgate" || name.starts_with("headgate-");
    let foreign = !ours && rest.contains("http");
    Package { name, version, licence: licence.trim_end_matches(" (*)").to_owned(), ours, foreign }
}

/// Whether a licence expression can be satisfied with the allowed licences. `/` is the old spelling of `OR`.
fn allowed(expression: &str, allow: &BTreeSet<String>) -> bool {
    let flat = expression.replace('/', " OR ").replace(['(', ')'], " ");
    // `A AND (B OR C)`: every AND part must offer an allowed choice.
    flat.split(" AND ").all(|part| part.split(" OR ").any(|choice| allow.contains(choice.trim())))
}

#[test]
fn licences_are_allowed() {
    let (policy, packages) = (policy(), packages());
    assert!(packages.len() > 100, "cargo tree listed only {} packages", packages.len());
    let bad: Vec<String> = packages
        .iter()
        .filter(|p| !p.ours && !allowed(&p.licence, &policy.licenses.allow))
        .map(|p| format!("{} {}: {:?}", p.name, p.version, p.licence))
        .collect();
    assert!(bad.is_empty(), "licences outside .deny.toml: {bad:#?}");
}

#[test]
fn banned_crates_are_not_built_and_all_come_from_one_registry() {
    let (policy, packages) = (policy(), packages());
    for package in &packages {
        if let Some(ban) = policy.bans.deny.iter().find(|b| b.name == package.name) {
            let users = users(&package.name);
            assert!(!users.is_empty(), "nothing needs {}, and yet it is built", package.name);
            let bad: Vec<_> = users.difference(&ban.wrappers).collect();
            assert!(bad.is_empty(), "{} is banned and {bad:?} need it: {}", package.name, ban.reason);
        }
        assert!(!package.foreign, "{} does not come from the registry", package.name);
    }
}

#[test]
fn each_crate_is_built_in_one_version_or_excused() {
    let policy = policy();
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages() {
        versions.entry(package.name).or_default().insert(package.version);
    }
    let excused = |name: &str, version: &str| {
        policy.bans.skip.iter().any(|s| {
            let (n, v) = s.name.split_once('@').unwrap_or((&s.name, ""));
            n == name && version.starts_with(v) && !s.reason.is_empty()
        })
    };
    for (name, versions) in versions {
        let counted: Vec<&String> = versions.iter().filter(|v| !excused(&name, v)).collect();
        assert!(counted.len() <= 1, "{name} is built as {versions:?}; excuse the older one in .deny.toml or drop it");
    }
}

#[test]
fn what_ends_a_process_for_a_test_is_in_no_ordinary_build() {
    let tree = |features: &[&str]| {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let output = Command::new(cargo)
            .args(["tree", "-p", "headgate", "--locked", "--offline", "--edges", "normal", "--prefix", "none"])
            .args(["--format", "{p} {f}"])
            .args(features)
            .current_dir(root())
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("cargo prints text")
    };
    assert!(tree(&["--all-features"]).contains("failpoints"), "the name this test looks for");
    assert!(!tree(&[]).contains("failpoints"));
}

#[test]
fn an_expression_needs_every_and_part() {
    let allow: BTreeSet<String> = ["MIT", "ISC", "Apache-2.0"].map(str::to_owned).into();
    assert!(allowed("MIT/Apache-2.0", &allow));
    assert!(allowed("GPL-3.0 OR MIT", &allow));
    assert!(allowed("ISC AND (Apache-2.0 OR OpenSSL)", &allow));
    assert!(!allowed("ISC AND GPL-3.0", &allow));
    assert!(!allowed("", &allow));
}
