//! The container file, instruction by instruction: what is copied is there, what is run is a command of the program, and
//! the image that is shipped has no root, no compiler and no secret.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use headgate_relay::config::StorePlace;

use super::{Command, command, config, named, root, text};
use crate::config::StreamConfig;

const FILE: &str = "deploy/Containerfile";

/// Keyword and arguments of each instruction, continued lines joined.
fn instructions() -> Vec<(String, String)> {
    let joined = text(FILE).replace("\\\n", " ");
    let lines = joined.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(' ').unwrap()).map(|(key, rest)| (key.to_owned(), rest.to_owned())).collect()
}

/// The instructions of the image that is shipped: those of the last stage.
fn shipped() -> Vec<(String, String)> {
    let all = instructions();
    let last = all.iter().rposition(|(key, _)| key == "FROM").unwrap();
    all[last..].to_vec()
}

fn list(of: &[(String, String)], key: &str) -> Vec<String> {
    let (_, value) = of.iter().find(|(known, _)| known == key).unwrap_or_else(|| panic!("{FILE} has no {key}"));
    serde_json::from_str(value).unwrap_or_else(|_| panic!("{key} {value} is not a list of words"))
}

#[test]
fn it_starts_the_program_as_nobody() {
    let shipped = shipped();
    let words = [list(&shipped, "ENTRYPOINT"), list(&shipped, "CMD")].concat();
    assert!(matches!(command(words.iter().map(String::as_str)), Command::Serve(_)), "{words:?}");
    let user = shipped.iter().filter(|(key, _)| key == "USER").map(|(_, user)| user.as_str());
    assert_eq!(user.collect::<Vec<_>>(), ["10001:10001"]);
    let after = shipped.iter().skip_while(|(key, _)| key != "USER");
    assert!(!after.skip(1).any(|(key, _)| matches!(key.as_str(), "RUN" | "COPY" | "ADD" | "USER")));
}

#[test]
fn what_it_copies_is_there() {
    let (mut stages, mut copied) = (Vec::new(), 0);
    for (key, value) in instructions() {
        let words: Vec<&str> = value.split(' ').collect();
        match (key.as_str(), &words[..]) {
            ("FROM", [_, "AS", stage]) => stages.push((*stage).to_owned()),
            ("COPY", [from, "/src/target/dist/headgate", _]) => {
                let stage = from.strip_prefix("--from=").unwrap();
                assert!(stages.iter().any(|known| known == stage), "{stage}");
                assert!(text("Cargo.toml").contains("[profile.dist]"));
            }
            ("COPY", [source, _]) => assert!(root().join(source).exists(), "{source}"),
            ("COPY", _) => panic!("COPY {value} is not looked at by this test"),
            _ => continue,
        }
        copied += 1;
    }
    assert_eq!(copied, 4, "one stage, the tree, the program, the question whether it is ready");
}

#[test]
fn what_it_keeps_lies_on_its_volume() {
    let [volume] = &list(&shipped(), "VOLUME")[..] else { panic!("one volume") };
    let path = "deploy/config/container.toml";
    let config = config(path, &named(path));
    let StreamConfig::Embedded(stream) = &config.stream else { panic!("{path} needs nothing beside it") };
    let StorePlace::Sqlite(state) = &config.relay.store.place else { panic!("{path} needs nothing beside it") };
    for kept in [&stream.path, state, &config.relay.store.key_file] {
        assert!(kept.starts_with(volume), "{}: nobody may write there", kept.display());
    }
}

#[test]
fn it_holds_no_secret_and_nothing_of_unknown_age() {
    for (key, value) in instructions() {
        assert!(!matches!(key.as_str(), "ARG" | "ENV" | "ADD"), "{key} {value}: nothing comes in at build time");
        if key == "FROM" {
            let image = value.split(' ').next().unwrap();
            let (_, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("{image} has no tag"));
            assert_ne!(tag, "latest");
        }
    }
    let rust = instructions()[0].1.clone();
    assert!(rust.contains(concat!("rust:", env!("CARGO_PKG_RUST_VERSION"))), "{rust} is not the compiler of the tree");
    let ignored = text(".containerignore");
    for kept_out in [".git", "target", "data"] {
        assert!(ignored.lines().any(|line| line == kept_out), "{kept_out} would go into the build");
    }
}

/// Whether a path of the tree is kept out of the build: by a name at its root, or by the end of a file's name.
fn is_kept_out(path: &Path) -> bool {
    let ignored = text(".containerignore");
    let mut patterns = ignored.lines().filter(|line| !line.starts_with('#'));
    patterns.any(|pattern| match pattern.strip_prefix("**/*") {
        Some(end) => path.to_string_lossy().ends_with(end),
        None => {
            assert!(!pattern.contains(['*', '?', '!', '/']), "{pattern} is not looked at by this test");
            path.starts_with(pattern)
        }
    })
}

/// Every file below a folder of the tree, by its path in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap().map(|entry| folder.join(entry.unwrap().file_name()));
    let built = |path: &PathBuf| path.ends_with("target");
    let below = |path: PathBuf| if root().join(&path).is_dir() { files(&path) } else { vec![path] };
    entries.filter(|path| !built(path)).flat_map(below).collect()
}

/// What a source file takes in when it is compiled.
fn included(source: &Path) -> Vec<PathBuf> {
    let code = text(source.to_str().unwrap());
    let names =
        ["include_str!(\"", "include_bytes!(\""].map(|call| code.split(call).skip(1).collect::<Vec<_>>()).concat();
    let paths = names.into_iter().map(|rest| source.with_file_name(rest.split('"').next().unwrap()));
    // Without its steps up.
    paths
        .map(|path| {
            path.components().fold(PathBuf::new(), |mut walked, step| {
                match step {
                    Component::ParentDir => assert!(walked.pop(), "{}", path.display()),
                    step => walked.push(step),
                }
                walked
            })
        })
        .collect()
}

#[test]
fn the_build_is_given_all_that_it_reads() {
    let workspace: toml::Table = toml::from_str(&text("Cargo.toml")).unwrap();
    let members = workspace["workspace"]["members"].as_array().unwrap().iter().map(|m| m.as_str().unwrap());
    let own = ["Cargo.toml", "Cargo.lock", ".cargo/config.toml"].map(PathBuf::from);
    let ends_with = |path: &PathBuf, end: &str| path.extension().is_some_and(|found| found == end);
    let read = members.flat_map(|member| files(Path::new(member)));
    let sources: Vec<PathBuf> = read.filter(|p| ends_with(p, "rs") || ends_with(p, "toml")).chain(own).collect();
    let taken: Vec<PathBuf> = sources.iter().filter(|p| ends_with(p, "rs")).flat_map(|p| included(p)).collect();
    assert!(sources.len() > 200 && taken.len() > 10, "{} files, {} taken in", sources.len(), taken.len());
    for path in sources.iter().chain(&taken) {
        assert!(root().join(path).is_file(), "{} is not there", path.display());
        assert!(!is_kept_out(path), "{} is kept out of the build", path.display());
    }
    assert!(is_kept_out(Path::new("target/debug/x")) && is_kept_out(Path::new("a/b.pem")), "this looks at nothing");
}

#[test]
fn the_units_find_what_the_image_holds_where_the_image_has_it() {
    let shipped = shipped();
    let installed = |source: &str| {
        let copied = shipped.iter().filter(|(key, _)| key == "COPY").map(|(_, value)| value);
        let copied: Vec<&str> = copied.filter(|value| value.contains(source)).map(String::as_str).collect();
        let [copied] = copied[..] else { panic!("{source} is copied once, not {copied:?}") };
        copied.rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(super::unit::program(), installed("target/dist/headgate "));
    assert_eq!(super::unit::home(), list(&shipped, "VOLUME")[0]);
    let words = list(&shipped, "CMD");
    assert_eq!(super::unit::configuration(), words[words.len() - 1]);
    // What is asked by name is on the path, and may be run.
    let (_, asked) = shipped.iter().find(|(key, _)| key == "HEALTHCHECK").unwrap();
    let asked: Vec<String> = serde_json::from_str(asked.split_once("CMD ").unwrap().1).unwrap();
    assert_eq!(installed("deploy/healthy "), format!("/usr/local/bin/{}", asked[0]));
    let mode = std::fs::metadata(root().join("deploy/healthy")).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111, "nobody may run it");
}
