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

/// A running program.
pub(crate) struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// `http://` and address of the gateway.
    pub(crate) gateway: String,
    /// `http://` and address of the admin API.
    pub(crate) admin: String,
    /// From the start of the process to its line.
    pub(crate) ready_in: Duration,
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
        let file = folder.join("headgate.toml");
        if !file.exists() {
            std::fs::write(&file, FILE).unwrap();
        }
        let started = Instant::now();
        let mut child = headgate(folder)
            .args(["serve", "--config", "headgate.toml"])
            .envs(vars.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(log(folder))
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let ready_in = started.elapsed();
        let parts: Vec<&str> = line.trim_end().split(' ').collect();
        let ["ready", gateway, admin] = parts[..] else {
            assert_eq!(line, "", "a line that is not the first");
            return Err(child.wait().unwrap());
        };
        let gateway = gateway.strip_prefix("gateway=").unwrap().to_owned();
        let admin = admin.strip_prefix("admin=").unwrap().to_owned();
        Ok(Self { child, stdout, gateway, admin, ready_in })
    }

    /// Waits until it ends by itself. `None` when it does not.
    pub(crate) fn wait(mut self, longest: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < longest {
            if let Some(ended) = self.child.try_wait().unwrap() {
                return Some(ended);
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        None
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to drain; answers its exit code and what it printed after its first line.
    pub(crate) fn terminate(mut self) -> (Option<i32>, String) {
        let kill = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A failed test must not leave a process behind; one that has ended already cannot be killed, which is well.
        drop(self.child.kill());
        drop(self.child.wait());
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
