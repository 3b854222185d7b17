//! `headgate bench gateway` as a user meets it: a real attack on a real process, for a second or two. What it measures
//! depends on the machine and decides nothing here; what it counts does not.

#![expect(clippy::unwrap_used, reason = "a test whose stage cannot be set has failed")]

use std::process::Command;

use serde_json::Value;

fn bench(args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headgate"));
    let output = command.args(["bench", "gateway"]).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn hidden_calls_and_bombs_reach_nothing_and_every_accepted_event_is_in_the_stream() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("gateway.md");
    let attacks = ["--attack", "smuggled", "--attack", "bombs", "--attack", "noisy-account"];
    let how = ["--seconds", "2", "--rate", "50", "--json", "--report", report.to_str().unwrap()];
    let (code, out, said) = bench(&[&attacks[..], &how].concat());
    assert!(code == Some(0) || code == Some(1), "{code:?} {said}");
    let all: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(all["kept"], code == Some(0));
    let outcomes = all["outcomes"].as_array().unwrap();
    let names: Vec<_> = outcomes.iter().map(|outcome| outcome["attack"].as_str().unwrap()).collect();
    assert_eq!(names, ["smuggled", "bombs", "noisy-account"]);
    for outcome in outcomes {
        assert!(outcome["attacked"]["accepted"].as_u64().unwrap() > 50, "{outcome}");
        let broken = outcome["promises"].as_array().unwrap().iter().filter(|promise| promise["kept"] == false);
        // How fast and how large it is, is this machine's; the rest is not.
        let counted: Vec<_> = broken
            .map(|promise| promise["what"].as_str().unwrap())
            .filter(|what| !what.starts_with("p99") && !what.starts_with("memory"))
            .collect();
        assert!(counted.is_empty(), "{counted:?} {outcome}");
    }
    let written = std::fs::read_to_string(report).unwrap();
    assert!(written.contains("| forged events in the stream | 0 | 0 | kept |"), "{written}");
}

#[test]
fn an_attack_that_does_not_exist_is_refused_with_those_that_do() {
    let (code, _, said) = bench(&["--attack", "meteor"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("slow") && said.contains("noisy-account") && said.contains("all"), "{said}");
}
