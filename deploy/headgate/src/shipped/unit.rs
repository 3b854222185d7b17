//! The service units: their commands, their time to drain, and that all of them are held as tightly.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Command, command, config, fits, named, text};
use crate::config::durations;

const UNITS: [(&str, &str); 3] = [
    ("deploy/systemd/headgate.service", "deploy/config/headgate.toml"),
    ("deploy/systemd/headgate-gateway.service", "deploy/config/kafka.toml"),
    ("deploy/systemd/headgate-relay.service", "deploy/config/kafka.toml"),
];

/// `KEY=VALUE` of every line that is one, in order.
fn settings(unit: &str) -> Vec<(String, String)> {
    let lines = text(unit);
    let lines = lines.lines().filter(|line| !line.starts_with('#') && !line.starts_with('['));
    lines.filter_map(|line| line.split_once('=')).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn values<'s>(settings: &'s [(String, String)], key: &str) -> Vec<&'s str> {
    settings.iter().filter(|(known, _)| known == key).map(|(_, value)| value.as_str()).collect()
}

/// The only value that a key has in every unit.
fn common(key: &str) -> String {
    let all: BTreeSet<String> = UNITS
        .iter()
        .flat_map(|(unit, _)| {
            let settings = settings(unit);
            values(&settings, key).into_iter().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(all.len(), 1, "{key}: {all:?}");
    all.into_iter().next().unwrap()
}

/// The program that every unit checks its configuration with and starts.
pub(super) fn program() -> String {
    let check = common("ExecStartPre");
    let program = check.split(' ').next().unwrap();
    for (unit, _) in UNITS {
        let settings = settings(unit);
        let [start] = values(&settings, "ExecStart")[..] else { panic!("{unit} starts one program") };
        assert_eq!(start.split(' ').next(), Some(program), "{unit}");
    }
    program.to_owned()
}

/// The configuration of every unit.
pub(super) fn configuration() -> String {
    common("ExecStartPre").rsplit(' ').next().unwrap().to_owned()
}

/// Where every unit keeps what it keeps: its state folder, in which it is started.
pub(super) fn home() -> String {
    let folder = common("WorkingDirectory");
    assert_eq!(folder, format!("/var/lib/{}", common("StateDirectory")));
    folder
}

#[test]
fn every_unit_starts_what_the_program_has() {
    for (unit, example) in UNITS {
        let settings = settings(unit);
        let [start] = values(&settings, "ExecStart")[..] else { panic!("{unit} starts one program") };
        let started = command(start.split(' '));
        let (Command::Serve(args) | Command::Gateway(args) | Command::Relay(args)) = &started else {
            panic!("{unit} starts {started:?}")
        };
        let [check] = values(&settings, "ExecStartPre")[..] else { panic!("{unit} checks first") };
        let Command::Check(checked) = command(check.split(' ')) else { panic!("{check}") };
        assert_eq!(checked.file, args.config, "{unit}: what is checked is what is run");
        let config = config(example, &named(example));
        fits(&started, &config);
        let [stop] = values(&settings, "TimeoutStopSec")[..] else { panic!("{unit} has a time to stop") };
        assert!(durations::parse(stop).unwrap() > config.grace + Duration::from_secs(5), "{unit} cuts the drain");
    }
}

#[test]
fn all_units_are_held_as_tightly() {
    // What says which unit it is.
    let own = ["Description", "ExecStart"];
    let held = |unit: &str| -> BTreeSet<(String, String)> {
        settings(unit).into_iter().filter(|(key, _)| !own.contains(&key.as_str())).collect()
    };
    let first = held(UNITS[0].0);
    for tight in ["NoNewPrivileges", "DynamicUser", "PrivateDevices", "MemoryDenyWriteExecute", "ProtectHome"] {
        assert!(first.contains(&(tight.to_owned(), "yes".to_owned())), "{tight}");
    }
    assert!(first.contains(&("CapabilityBoundingSet".to_owned(), String::new())), "no capability is kept");
    for (unit, _) in UNITS {
        assert_eq!(held(unit), first, "{unit}");
    }
}
