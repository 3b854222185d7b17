//! Cores of this machine, divided between the gateway and its generator for a measurement that must not depend on how
//! they share them. Linux only; elsewhere, and on a single core, nothing is divided.
//!
//! It knows threads, not what they do. The surprising thing: the system confines threads and not processes. A process
//! that is started takes over the cores of the thread that starts it; our own threads are confined one by one.

use anyhow::Context as _;

#[cfg(target_os = "linux")]
use rustix::io::Errno;
#[cfg(target_os = "linux")]
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

/// The first core is the gateway's and the others are ours, until this is dropped.
#[cfg(target_os = "linux")]
pub(super) struct Divided {
    gateway: CpuSet,
    generator: CpuSet,
    all: CpuSet,
}

#[cfg(target_os = "linux")]
impl Divided {
    /// Confines this process; none where there is nothing to divide.
    pub(super) fn begin() -> anyhow::Result<Option<Self>> {
        let all = sched_getaffinity(None).context("cores of this thread")?;
        let Some(first) = (0..CpuSet::MAX_CPU).find(|core| all.is_set(*core)) else { return Ok(None) };
        if all.count() < 2 {
            return Ok(None);
        }
        let (mut gateway, mut generator) = (CpuSet::new(), all);
        gateway.set(first);
        generator.unset(first);
        confine(&generator)?;
        Ok(Some(Self { gateway, generator, all }))
    }

    /// Runs what starts the gateway. Blocks.
    pub(super) fn start<T>(&self, start: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        sched_setaffinity(None, &self.gateway).context("the gateway's core")?;
        let started = start();
        sched_setaffinity(None, &self.generator).context("the generator's cores")?;
        started
    }
}

#[cfg(target_os = "linux")]
impl Drop for Divided {
    fn drop(&mut self) {
        // It was possible a moment ago; if it no longer is, what is left of this process is slower, not wrong.
        confine(&self.all).ok();
    }
}

/// Confines every thread of this process.
#[cfg(target_os = "linux")]
fn confine(cores: &CpuSet) -> anyhow::Result<()> {
    for thread in std::fs::read_dir("/proc/self/task")? {
        let number = thread?.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        match sched_setaffinity(number, cores) {
            // A thread that has ended meanwhile needs none.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(error).context("cores of the generator"),
        }
    }
    Ok(())
}

/// Nothing is divided.
#[cfg(not(target_os = "linux"))]
pub(super) struct Divided;

#[cfg(not(target_os = "linux"))]
impl Divided {
    /// Never.
    pub(super) fn begin() -> anyhow::Result<Option<Self>> {
        Ok(None)
    }

    /// Runs what starts the gateway.
    pub(super) fn start<T>(&self, start: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        start()
    }
}
