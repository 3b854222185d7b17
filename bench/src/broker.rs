//! A Kafka broker of one's own, for tests and measurements: Apache Kafka itself, started by `deploy/kafka/broker`, which
//! people use too. It needs Java, and Maven when the jars are fetched for the first time.
//!
//! It must not know what is written to it. The surprising thing: nothing here starts one by itself. Whoever wants tests
//! on a real broker names the script in [`VARIABLE`]; then a broker that does not start is a failure, never a test left
//! out.

use std::io::{self, BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The environment variable that asks for tests on a real broker and names the script that starts one.
pub const VARIABLE: &str = "HEADGATE_KAFKA_BROKER";

/// The script, if tests on a real broker are asked for.
pub fn script() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// A running broker; killed with the value.
#[derive(Debug)]
pub struct Broker {
    script: PathBuf,
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Broker {
    /// Starts one over the data in `folder`, on a free port, and waits until it answers.
    ///
    /// # Errors
    /// When the script cannot be run, or the broker ended before it answered.
    pub fn start(script: &Path, folder: &Path) -> io::Result<Self> {
        let port = free_ports()?;
        let mut broker = Self { script: script.to_owned(), folder: folder.to_owned(), port, child: None };
        broker.up()?;
        Ok(broker)
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Deletes a topic with everything in it.
    ///
    /// # Errors
    /// When there is no such topic, or the broker does not answer.
    pub fn delete(&self, topic: &str) -> io::Result<()> {
        let mut command = Command::new(&self.script);
        let deleted = command.args(["delete", topic]).env("KAFKA_PORT", self.port.to_string()).output()?;
        if deleted.status.success() { Ok(()) } else { Err(io::Error::other("the topic was not deleted")) }
    }

    /// Starts it again over its data, where it was killed.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn up(&mut self) -> io::Result<()> {
        let mut child = Command::new(&self.script)
            .args(["run".as_ref(), self.folder.as_os_str()])
            .env("KAFKA_PORT", self.port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        self.child = Some(child);
        if line.starts_with("ready") {
            return Ok(());
        }
        let hint = format!("the broker did not start; `{} run` says why", self.script.display());
        Err(io::Error::other(hint))
    }

    /// Ends it as a power cut would. Its data stay.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        // A stopped process dies of it, too.
        child.kill()?;
        child.wait().map(drop)
    }

    /// Stops it where it is, until [`Broker::go_on`].
    ///
    /// # Errors
    /// When the system refuses.
    pub fn pause(&self) -> io::Result<()> {
        self.signal("-STOP")
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn go_on(&self) -> io::Result<()> {
        self.signal("-CONT")
    }

    fn signal(&self, name: &str) -> io::Result<()> {
        let Some(child) = &self.child else { return Err(io::Error::other("the broker does not run")) };
        let sent = Command::new("kill").args([name, &child.id().to_string()]).status()?;
        if sent.success() { Ok(()) } else { Err(io::Error::other("the signal was refused")) }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, which is well.
        drop(self.kill());
    }
}

/// The first of two neighbouring ports that nobody listens on: one for clients, one for the controller.
fn free_ports() -> io::Result<u16> {
    loop {
        let first = TcpListener::bind("127.0.0.1:0")?;
        let port = first.local_addr()?.port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return Ok(port);
        }
    }
}
