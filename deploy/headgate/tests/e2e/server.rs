//! The program as a child process: its configuration, its ports, its log, its end. Knows nothing of what is sent to it.
//!
//! The surprising thing: ports are free ones at the first start and the same ones ever after, so that senders find a
//! restarted program where the killed one was. The public URL is that of the file, as behind a proxy.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// The configuration as the documentation gives it.
pub(crate) const FILE: &str = include_str!("headgate.toml");
/// What the configuration's variables hold.
pub(crate) const SECRETS: [(&str, &str); 5] = [
    ("HUBSPOT_TOKEN", "token-of-the-hubspot-account"),
    ("SALESFORCE_TOKEN", "token-of-the-salesforce-organisation"),
    ("HUBSPOT_APP_SECRET", "secret-of-the-hubspot-app"),
    ("HUBSPOT_CLIENT_SECRET", "secret-of-the-hubspot-client"),
    ("HUBSPOT_REFRESH_TOKEN", "token-of-the-hubspot-login"),
];

/// A variable of the tests: so many gateways and so many relays, in a process each, which only Kafka allows.
pub(crate) const SPLIT: &str = "HEADGATE_E2E_SPLIT";

const GATEWAY: &str = "HEADGATE__GATEWAY__LISTEN";
const ADMIN: &str = "HEADGATE__ADMIN__LISTEN";
const ANY_PORT: &str = "127.0.0.1:0";

/// A running program: one process, or some for each half.
pub(crate) struct Server {
    processes: Vec<Process>,
    /// `http://` and address of the gateway, of the first one where there are several.
    pub(crate) gateway: String,
    /// `http://` and address of the relay's admin API, of the first one where there are several.
    pub(crate) admin: String,
    /// From the start of the processes to their lines.
    pub(crate) ready_in: Duration,
}

/// One process.
pub(crate) struct Process {
    command: &'static str,
    folder: PathBuf,
    /// Its environment, with the ports it got.
    vars: Vec<(String, String)>,
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// What its line says.
    line: String,
}

impl Server {
    /// Starts it and waits for its line. `vars` are further variables of its environment.
    pub(crate) fn start(folder: &Path, vars: &[(String, String)]) -> Self {
        Self::launch(folder, vars).unwrap_or_else(|ended| {
            panic!("not ready: {ended}\n{}", std::fs::read_to_string(folder.join("log")).unwrap())
        })
    }

    /// Starts it and waits for its line, or for its end when it comes first.
    pub(crate) fn launch(folder: &Path, vars: &[(String, String)]) -> Result<Self, ExitStatus> {
        write_file(folder);
        let started = Instant::now();
        let each = vars.iter().find(|(name, _)| name == SPLIT).map(|(_, each)| each.parse().unwrap());
        let processes = match each {
            Some(each) => split(folder, vars, each)?,
            None => vec![Process::start("serve", folder, vars)?],
        };
        let gateway = processes.first().unwrap().said("gateway=").unwrap();
        let admin = processes.iter().find(|p| p.command != "gateway").unwrap().said("admin=").unwrap();
        Ok(Self { processes, gateway, admin, ready_in: started.elapsed() })
    }

    /// Addresses of all gateways.
    pub(crate) fn gateways(&self) -> Vec<String> {
        self.processes.iter().filter_map(|process| process.said("gateway=")).collect()
    }

    /// Address of the first gateway's admin API.
    pub(crate) fn gateway_admin(&self) -> String {
        self.processes.first().unwrap().said("admin=").unwrap()
    }

    /// Addresses of the admin APIs of all relays.
    pub(crate) fn relays(&self) -> Vec<String> {
        let relays = self.processes.iter().filter(|process| process.command != "gateway");
        relays.filter_map(|process| process.said("admin=")).collect()
    }

    /// The nth process that runs a command.
    pub(crate) fn process(&mut self, command: &str, n: usize) -> &mut Process {
        self.processes.iter_mut().filter(|process| process.command == command).nth(n).unwrap()
    }

    /// Waits until it ends by itself. `None` when it does not.
    pub(crate) fn wait(mut self, longest: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < longest {
            if let Some(ended) = self.processes.iter_mut().find_map(|p| p.child.try_wait().unwrap()) {
                return Some(ended);
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        None
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(mut self) {
        self.processes.iter_mut().for_each(|p| p.child.kill().unwrap());
        for process in &mut self.processes {
            process.child.wait().unwrap();
        }
    }

    /// Asks it to drain, gateways before relays; answers the first exit code that is not 0, and what was printed after
    /// the first lines.
    pub(crate) fn terminate(mut self) -> (Option<i32>, String) {
        let (mut code, mut rest) = (Some(0), String::new());
        for process in &mut self.processes {
            let (ended, printed) = process.terminate();
            rest.push_str(&printed);
            code = if code == Some(0) { ended } else { code };
        }
        (code, rest)
    }
}

/// One more gateway beside a server, at addresses of its own.
pub(crate) struct Gateway {
    _process: Process,
    /// `http://` and address.
    pub(crate) address: String,
    /// The same of its admin API.
    pub(crate) admin: String,
}

impl Gateway {
    /// Starts it with the configuration of the folder.
    pub(crate) fn start(folder: &Path, vars: &[(String, String)]) -> Self {
        let own = [GATEWAY, ADMIN].map(|name| (name.to_owned(), ANY_PORT.to_owned()));
        let vars: Vec<_> = vars.iter().cloned().chain(own).collect();
        let process = Process::start("gateway", folder, &vars).unwrap();
        let said = |what| process.said(what).unwrap();
        Self { address: said("gateway="), admin: said("admin="), _process: process }
    }
}

/// Starts so many of each half. The first ones listen where they are told to.
fn split(folder: &Path, vars: &[(String, String)], each: usize) -> Result<Vec<Process>, ExitStatus> {
    let halves = [("gateway", ADMIN, GATEWAY), ("relay", GATEWAY, ADMIN)];
    let mut processes = Vec::new();
    for (command, other, own) in halves {
        for n in 0..each {
            let anywhere = if n == 0 { &[other][..] } else { &[other, own][..] };
            let anywhere = anywhere.iter().map(|name| ((*name).to_owned(), ANY_PORT.to_owned()));
            processes.push(Process::start(command, folder, &vars.iter().cloned().chain(anywhere).collect::<Vec<_>>())?);
        }
    }
    Ok(processes)
}

impl Process {
    fn start(command: &'static str, folder: &Path, vars: &[(String, String)]) -> Result<Self, ExitStatus> {
        let mut child = headgate(folder)
            .args([command, "--config", "headgate.toml"])
            .envs(vars.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(log(folder))
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        if !line.starts_with("ready ") {
            assert_eq!(line, "", "a line that is not the first");
            return Err(child.wait().unwrap());
        }
        let (folder, line) = (folder.to_owned(), line.trim_end().to_owned());
        let mut process = Self { command, folder, vars: vars.to_vec(), child, stdout, line };
        for (name, what) in [(GATEWAY, "gateway="), (ADMIN, "admin=")] {
            let address = process.said(what).and_then(|url| Some(url.rsplit_once('/')?.1.to_owned()));
            process.vars.extend(address.map(|address| (name.to_owned(), address)));
        }
        Ok(process)
    }

    /// What its line says of something.
    fn said(&self, what: &str) -> Option<String> {
        self.line.split(' ').find_map(|part| part.strip_prefix(what)).map(str::to_owned)
    }

    /// Starts it again where it was, after its end.
    pub(crate) fn again(&mut self) {
        let again = Self::start(self.command, &self.folder, &self.vars);
        *self = again.unwrap_or_else(|ended| panic!("{} did not start again: {ended}", self.command));
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends it a signal: `STOP` and `CONT` hold it up and let it go on.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success(), "{signal} was not sent");
    }

    /// Asks it to drain; answers its exit code and what was printed after its first line.
    pub(crate) fn terminate(&mut self) -> (Option<i32>, String) {
        let mut printed = String::new();
        self.signal("TERM");
        self.stdout.read_to_string(&mut printed).unwrap();
        (self.child.wait().unwrap().code(), printed)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A failed test must not leave a process behind; one that has ended already cannot be killed, which is well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Puts the configuration into the folder, unless there is one.
pub(crate) fn write_file(folder: &Path) {
    let file = folder.join("headgate.toml");
    if !file.exists() {
        std::fs::write(&file, FILE).unwrap();
    }
}

/// The program in an environment of its own: nothing of the machine's leaks in.
pub(crate) fn headgate(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headgate"));
    command.env_clear().current_dir(folder).envs(SECRETS).stdin(Stdio::null());
    command
}

/// Runs a command that talks to a server, to its end.
pub(crate) fn ask(folder: &Path, admin: &str, args: &[&str]) -> Output {
    headgate(folder).args(args).args(["--admin", admin]).output().unwrap()
}

/// The log of all starts on one folder.
fn log(folder: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap()
}
