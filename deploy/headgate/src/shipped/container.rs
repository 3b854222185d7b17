//! The container file, instruction by instruction: what is copied is there, what is run is a command of the program, and
//! the image that is shipped has no root, no compiler and no secret.

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
