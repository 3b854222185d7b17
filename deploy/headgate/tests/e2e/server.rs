//! The program as a child process: its configuration, its ports, its log, its end. Knows nothing of what is sent to it.
//!
//! The surprising thing: ports are free ones at the first start and the same ones ever after, so that senders find a
//! restarted program where the killed one was. The public URL is that of the file, as behind a proxy.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// The configuration as the documentation gives it.
pub(crate) const FILE: &str = include_str!("headgate.toml");
/// What the configuration's variables hold.
pub(crate) const SECRETS: [(&str, &str); 3] = [
    ("HUBSPOT_TOKEN", "token-of-the-hubspot-account"),
    ("SALESFORCE_TOKEN", "token-of-the-salesforce-organisation"),
    ("HUBSPOT_APP_SECRET", "secret-of-the-hubspot-app"),
];

/// A variable of the tests: gateway and relay in a process each, which only Kafka allows.
pub(crate) const SPLIT: &str = "HEADGATE_E2E_SPLIT";

/// A running program: one process, or one for each half.
pub(crate) struct Server {
    processes: Vec<Process>,
    /// `http://` and address of the gateway.
    pub(crate) gateway: String,
    /// `http://` and address of the relay's admin API.
    pub(crate) admin: String,
    /// From the start of the processes to their lines.
    pub(crate) ready_in: Duration,
}

struct Process {
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
        let processes = if vars.iter().any(|(name, _)| name == SPLIT) {
            let own_admin = [vars, &[("HEADGATE__ADMIN__LISTEN".to_owned(), "127.0.0.1:0".to_owned())]].concat();
            vec![Process::start("gateway", folder, &own_admin)?, Process::start("relay", folder, vars)?]
        } else {
            vec![Process::start("serve", folder, vars)?]
        };
        let said = |process: &Process, what: &str| {
            process.line.split(' ').find_map(|part| part.strip_prefix(what)).unwrap().to_owned()
        };
        let gateway = said(processes.first().unwrap(), "gateway=");
        let admin = said(processes.last().unwrap(), "admin=");
        Ok(Self { processes, gateway, admin, ready_in: started.elapsed() })
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

    /// Asks it to drain, a gateway before its relay; answers the first exit code that is not 0, and what was printed
    /// after the first lines.
    pub(crate) fn terminate(mut self) -> (Option<i32>, String) {
        let (mut code, mut rest) = (Some(0), String::new());
        for process in &mut self.processes {
            let kill = Command::new("kill").args(["-TERM", &process.child.id().to_string()]).status().unwrap();
            assert!(kill.success());
            process.stdout.read_to_string(&mut rest).unwrap();
            let ended = process.child.wait().unwrap().code();
            code = if code == Some(0) { ended } else { code };
        }
        (code, rest)
    }
}

impl Process {
    fn start(command: &str, folder: &Path, vars: &[(String, String)]) -> Result<Self, ExitStatus> {
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
        Ok(Self { child, stdout, line: line.trim_end().to_owned() })
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
