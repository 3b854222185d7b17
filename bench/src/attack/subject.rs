//! The gateway under attack: a process of its own on temporary data, what the system counts of it, and its end.
//!
//! It knows processes and `/proc`, not HTTP. The surprising thing: the process ends when its standard input does, so
//! none is left behind whatever becomes of us, and stopping needs no signals.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::call::{SECRET, SECRET_VARIABLE};

/// How a gateway is started: a program and what comes before the name of its configuration.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program.
    pub path: PathBuf,
    /// Its arguments but for the last.
    pub args: Vec<String>,
}

/// Length of a tick of `/proc/*/stat` on every Linux that runs this.
const TICK: Duration = Duration::from_millis(10);

/// A running gateway.
#[derive(Debug)]
pub(super) struct Subject {
    child: Child,
    pub(super) address: SocketAddr,
    folder: PathBuf,
}

impl Subject {
    /// Starts one in an empty `folder` and waits for its line. Blocks.
    pub(super) fn start(program: &Program, folder: &Path, configuration: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let file = folder.join("headgate.toml");
        std::fs::write(&file, configuration)?;
        let mut child = Command::new(&program.path)
            .args(&program.args)
            .arg(&file)
            .env_clear()
            .env(SECRET_VARIABLE, SECRET)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(folder.join("log"))?)
            .spawn()
            .with_context(|| format!("{} does not start", program.path.display()))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let address = line.trim_end().strip_prefix("ready gateway=http://").and_then(|at| at.parse().ok());
        let folder = folder.to_owned();
        match address {
            Some(address) => Ok(Self { child, address, folder }),
            None => {
                child.kill().ok();
                child.wait().ok();
                bail!("the gateway did not start:\n{}", std::fs::read_to_string(folder.join("log"))?)
            }
        }
    }

    /// The most memory it ever held, in bytes.
    pub(super) fn memory_peak(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in /proc")?;
        let kib: u64 = line.split_whitespace().next().context("no figure in VmHWM")?.parse()?;
        Ok(kib << 10)
    }

    /// The time it spent on a core so far, for itself and in the system.
    pub(super) fn cpu(&self) -> anyhow::Result<Duration> {
        cpu_of(self.child.id())
    }

    /// Ends it: whether it ended as one should. Blocks. Answers the folder of its stream.
    pub(super) fn stop(mut self) -> anyhow::Result<(bool, PathBuf)> {
        drop(self.child.stdin.take());
        Ok((self.child.wait()?.success(), self.folder.join("stream")))
    }
}

/// The time a process spent on a core so far, for itself and in the system.
pub(crate) fn cpu_of(process: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in brackets may hold anything, so the fields are counted from its end: the state is the first.
    let (_, fields) = stat.rsplit_once(") ").context("/proc/*/stat has another form")?;
    let ticks: Vec<u32> = fields.split(' ').skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(TICK * ticks.iter().sum())
}

impl Drop for Subject {
    fn drop(&mut self) {
        // One that has ended cannot be killed, which is well.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
