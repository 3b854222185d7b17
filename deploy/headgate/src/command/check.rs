//! `headgate check`: a configuration line by line, each ok, warn or fail with what to do; with `--online` also whether
//! every CRM can be reached, and a Kafka topic is made where it is missing. What the lines say is worked out first and printed last, so that it can be tested. Sends
//! nothing to a CRM but an opened connection: no token leaves this machine for a check.

use std::io::{IsTerminal as _, Write, stdout};
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use headgate_gateway::config::Owners;
use headgate_relay::config::StorePlace;
use headgate_relay::entity::matching;
use headgate_relay::mapping::is_mapped;
use headgate_schemas::ObjectType;
use hyper::Uri;
use serde_json::{Value, json};

use crate::cli::CheckArgs;
use crate::config::fault::Finding;
use crate::config::{self, Config, Env, StreamConfig};
use crate::exit::{Exit, Failure};
use crate::output::{self, Colour};

/// Longest wait for one connection.
const CONNECT: Duration = Duration::from_secs(5);

/// How good a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Ok,
    Warn,
    Fail,
}

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One line of the answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) level: Level,
    /// What was looked at.
    pub(super) about: String,
    /// What was found.
    pub(super) found: String,
    /// What to do, if something is to be done.
    pub(super) fix: Option<String>,
}

impl Line {
    pub(super) fn ok(about: impl Into<String>, found: impl Into<String>) -> Self {
        Self { level: Level::Ok, about: about.into(), found: found.into(), fix: None }
    }

    fn of(level: Level, finding: &Finding) -> Self {
        let Finding { at, problem, fix } = finding;
        Self { level, about: at.to_string(), found: problem.clone(), fix: Some(fix.clone()) }
    }
}

/// Something outside that must answer.
#[derive(Debug, PartialEq, Eq)]
struct Probe {
    about: String,
    host: String,
    port: u16,
}

/// Checks the file and prints the lines.
pub(super) async fn run(args: &CheckArgs, env: &Env) -> Result<Exit, Failure> {
    let mut exit = Exit::Ok;
    let mut lines = match config::load(&args.file, env) {
        Ok(config) => {
            let mut lines = described(&config);
            lines.extend(places(&config));
            lines.extend(config.warnings.iter().map(|finding| Line::of(Level::Warn, finding)));
            if args.online {
                let reached = join_all(probes(&config).into_iter().map(reach)).await;
                if reached.iter().any(|line| line.level == Level::Fail) {
                    exit = Exit::CannotReach;
                }
                lines.extend(reached);
                #[cfg(feature = "kafka")]
                if let StreamConfig::Kafka(topic) = &config.stream {
                    let (found, worst) = super::check_topic::look(topic).await;
                    lines.extend(found);
                    exit = if exit == Exit::Ok { worst } else { exit };
                }
            }
            lines
        }
        Err(error) => {
            exit = Exit::Configuration;
            let faults = error.faults.iter().map(|finding| Line::of(Level::Fail, finding));
            faults.chain(error.warnings.iter().map(|finding| Line::of(Level::Warn, finding))).collect()
        }
    };
    if exit == Exit::Ok && lines.iter().any(|line| line.level == Level::Fail) {
        exit = Exit::Configuration;
    }
    lines.sort_by_key(|line| line.level as u8);
    let mut out = stdout().lock();
    if args.json {
        write_json(&mut out, &lines)?
    } else {
        write_lines(&mut out, stdout().is_terminal(), &lines)?
    }
    Ok(exit)
}

/// What the configuration says, in words.
fn described(config: &Config) -> Vec<Line> {
    let public = config.gateway.public_url.as_deref().unwrap_or("the address it gets");
    let mut lines = vec![
        Line::ok("gateway", format!("listens on {}, called as {public}", config.gateway.listen)),
        Line::ok("admin", format!("listens on {}", config.admin.listen)),
        Line::ok("stream", stream(&config.stream)),
    ];
    lines.extend(config.relay.connections.iter().map(|c| {
        Line::ok(
            format!("connection[{}]", c.name),
            format!("{} {} at {}, version {}", c.system, c.account, c.base_url, c.api_version),
        )
    }));
    // The key stands for a secret: whoever has the file has it already, whoever sees this output may not.
    lines.extend(config.gateway.endpoints.iter().map(|e| {
        Line::ok(
            format!("endpoint[{}]", e.name),
            format!("{} webhooks of {}, key hidden", e.provider.as_str(), whose(&e.owners)),
        )
    }));
    lines.extend(config.relay.links.iter().map(|link| {
        Line::ok(
            format!("link[{}]", link.name),
            format!(
                "{} in {}, {} wins ties{}",
                link.object,
                link.members.join(" and "),
                link.primary,
                matched(&link.object)
            ),
        )
    }));
    lines
}

/// The stream, in words.
fn stream(stream: &StreamConfig) -> String {
    match stream {
        StreamConfig::Embedded(log) => {
            let kept = config::durations::show(log.retention_age);
            format!("embedded, {} partitions, kept for {kept}", log.partitions)
        }
        #[cfg(feature = "kafka")]
        StreamConfig::Kafka(topic) => {
            format!("Kafka at {}, topic {}, {} partitions", topic.brokers, topic.topic, topic.partitions)
        }
    }
}

/// By what two records of a type are found to be one, and by what not, because no CRM of a link has a field for it.
fn matched(object: &ObjectType) -> String {
    let (used, unused) = matching::keys(object.as_str(), |field| is_mapped(object, field));
    let named = |intro: &str, keys: &[&str]| match keys {
        [] => String::new(),
        keys => format!(", {intro} {}", keys.join(" and ")),
    };
    named("matched by", &used) + &named("not by (fields not mapped)", &unused)
}

/// Whether the places the program writes to can be made.
fn places(config: &Config) -> Vec<Line> {
    let store = &config.relay.store;
    let log = match &config.stream {
        StreamConfig::Embedded(log) => Some(("stream.path", log.path.as_path())),
        #[cfg(feature = "kafka")]
        StreamConfig::Kafka(_) => None,
    };
    let state = match &store.place {
        StorePlace::Sqlite(path) => Some(("store.url", path.as_path())),
        StorePlace::Postgres(_) => None,
    };
    log.into_iter()
        .chain(state)
        .chain([("store.key_file", store.key_file.as_path())])
        .filter_map(|(about, path)| {
            let problem = unwritable(path)?;
            let found = format!("{} {problem}", path.display());
            Some(Line {
                level: Level::Fail,
                about: about.into(),
                found,
                fix: Some("name a place this user may write to".into()),
            })
        })
        .chain(exposed(&store.key_file))
        .collect()
}

/// Why nothing can be written at `path`, as far as it shows without writing.
fn unwritable(path: &Path) -> Option<String> {
    let existing = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or_else(|| Path::new("."));
    let meta = match std::fs::metadata(existing) {
        Ok(meta) => meta,
        Err(error) => return Some(format!("cannot be looked at: {}", error.kind())),
    };
    if existing != path && !meta.is_dir() {
        return Some(format!("cannot be made: {} is not a folder", existing.display()));
    }
    meta.permissions().readonly().then(|| format!("cannot be written: {} is read-only", existing.display()))
}

/// A key file that others may read.
#[cfg(unix)]
fn exposed(key_file: &Path) -> Option<Line> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(key_file).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then(|| Line {
        level: Level::Fail,
        about: "store.key_file".into(),
        found: format!("others may read {} (mode {mode:o})", key_file.display()),
        fix: Some(format!("chmod 600 {}", key_file.display())),
    })
}

#[cfg(not(unix))]
fn exposed(_: &Path) -> Option<Line> {
    None
}

/// What `--online` looks at: every CRM, at the address its calls go to.
fn probes(config: &Config) -> Vec<Probe> {
    let probe = |connection: &headgate_relay::config::ConnectionConfig| {
        let uri: Uri = connection.base_url.parse().ok()?;
        let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default);
        let host = uri.host()?.trim_matches(['[', ']']).to_owned();
        Some(Probe { about: format!("connection[{}].base_url", connection.name), host, port })
    };
    config.relay.connections.iter().filter_map(probe).collect()
}

async fn reach(probe: Probe) -> Line {
    let connect = tokio::net::TcpStream::connect((probe.host.as_str(), probe.port));
    let problem = match tokio::time::timeout(CONNECT, connect).await {
        Ok(Ok(_)) => return Line::ok(probe.about, format!("{}:{} takes connections", probe.host, probe.port)),
        Ok(Err(error)) => error.kind().to_string(),
        Err(_) => format!("no answer within {}", config::durations::show(CONNECT)),
    };
    Line {
        level: Level::Fail,
        about: probe.about,
        found: format!("{}:{} cannot be reached: {problem}", probe.host, probe.port),
        fix: Some("check the URL, the network and the firewall".into()),
    }
}

fn write_lines(out: &mut impl Write, terminal: bool, lines: &[Line]) -> std::io::Result<()> {
    let on = output::colour(terminal);
    for line in lines {
        let colour = match line.level {
            Level::Ok => Colour::Green,
            Level::Warn => Colour::Yellow,
            Level::Fail => Colour::Red,
        };
        let level = output::paint(on, colour, &format!("{:<4}", line.level.as_str()));
        writeln!(out, "{level}  {}: {}", line.about, line.found)?;
        if let Some(fix) = &line.fix {
            writeln!(out, "      fix: {fix}")?;
        }
    }
    let count = |level| lines.iter().filter(|line| line.level == level).count();
    writeln!(out, "{} ok, {} warn, {} fail", count(Level::Ok), count(Level::Warn), count(Level::Fail))
}

fn write_json(out: &mut impl Write, lines: &[Line]) -> std::io::Result<()> {
    let lines: Vec<Value> = lines
        .iter()
        .map(|line| json!({ "level": line.level.as_str(), "about": line.about, "found": line.found, "fix": line.fix }))
        .collect();
    super::print_json(out, &json!({ "lines": lines }))
}

/// Whose changes an endpoint takes, in words.
fn whose(owners: &Owners) -> String {
    match owners {
        Owners::One(owner) => owner.connection.clone(),
        Owners::ByAccount(owners) => format!("{} connections by account", owners.len()),
    }
}
