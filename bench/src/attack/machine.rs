//! What a figure depends on and does not say: the machine, the build, the limits of this process. Linux only; elsewhere
//! it says that it does not know.

use std::process::Command;

use serde::Serialize;

/// Where and of what a measurement was made.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor, as it names itself.
    pub processor: String,
    /// Cores this process may use; generator and gateway share them.
    pub cores: usize,
    /// Memory in GiB.
    pub memory_gib: u64,
    /// The kernel.
    pub kernel: String,
    /// The commit of the working folder, with `+` when files differ from it.
    pub commit: String,
    /// `release` or `debug`; figures of a debug build mean nothing.
    pub profile: &'static str,
}

impl Machine {
    /// Looks. Blocks.
    pub fn look() -> Self {
        let unknown = || "unknown".to_owned();
        let field = |file: &str, name: &str| {
            let text = std::fs::read_to_string(file).ok()?;
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let kib = field("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned());
        Self {
            processor: field("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: kib.unwrap_or(0).div_ceil(1 << 20),
            kernel: kernel.unwrap_or_else(|_| unknown()),
            commit: commit().unwrap_or_else(unknown),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" },
        }
    }
}

fn commit() -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() { commit } else { format!("{commit}+") })
}

/// How many files this process, and so each child of it, may have open.
pub(super) fn open_files() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let soft = line.split_whitespace().next()?;
    if soft == "unlimited" { Some(u64::MAX) } else { soft.parse().ok() }
}
