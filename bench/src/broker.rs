//! A Kafka broker of one's own, for tests and measurements: Apache Kafka itself, started by `deploy/kafka/broker`, which
//! people use too. It needs Java, and Maven when the jars are fetched for the first time.
//!
//! It must not know what is written to it. The surprising thing: nothing here starts one by itself. Whoever wants tests
//! on a real broker names the script in [`VARIABLE`]; then a broker that does not start is a failure, never a test left
//! out.

use std::fmt;
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
    secured: Option<Secured>,
    child: Option<Child>,
}

/// How a secured broker is reached.
#[derive(Clone)]
pub struct Secured {
    /// A folder with the authority's, the server's and the client's certificate.
    pub certs: PathBuf,
    /// The password of the user `headgate`.
    pub password: String,
}

impl fmt::Debug for Secured {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secured").field("certs", &self.certs).finish_non_exhaustive()
    }
}

/// Ports of a broker, one after the other: for clients, for the controller, and of a secured one for clients with a
/// certificate and for itself.
const PORTS: u16 = 4;

impl Broker {
    /// Starts one over the data in `folder`, on a free port, and waits until it answers. A secured one takes clients by
    /// TLS alone: with a login at its port, with a certificate two ports further on.
    ///
    /// # Errors
    /// When the script cannot be run, or the broker ended before it answered.
    pub fn start(script: &Path, folder: &Path, secured: Option<Secured>) -> io::Result<Self> {
        let port = free_ports()?;
        let mut broker = Self { script: script.to_owned(), folder: folder.to_owned(), port, secured, child: None };
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

    /// Its process; 0 while it does not run.
    pub fn process(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Deletes a topic with everything in it.
    ///
    /// # Errors
    /// When there is no such topic, or the broker does not answer.
    pub fn delete(&self, topic: &str) -> io::Result<()> {
        self.order(&["delete", topic])
    }

    /// Drops the records of a partition in front of `offset`, as retention does.
    ///
    /// # Errors
    /// When there is no such place, or the broker does not answer.
    pub fn trim(&self, topic: &str, partition: u32, offset: u64) -> io::Result<()> {
        self.order(&["trim", topic, &partition.to_string(), &offset.to_string()])
    }

    fn order(&self, words: &[&str]) -> io::Result<()> {
        // Kafka's own tools are given no login.
        let port = self.port + if self.secured.is_some() { 3 } else { 0 };
        let done = Command::new(&self.script).args(words).env("KAFKA_PORT", port.to_string()).output()?;
        let refused = || io::Error::other(format!("`{}` failed", words.join(" ")));
        if done.status.success() { Ok(()) } else { Err(refused()) }
    }

    /// Starts it again over its data, where it was killed.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn up(&mut self) -> io::Result<()> {
        let mut command = Command::new(&self.script);
        let how = match &self.secured {
            None => "run",
            Some(Secured { certs, password }) => {
                command.env("KAFKA_CERTS", certs).env("KAFKA_PASSWORD", password);
                "secured"
            }
        };
        let mut child = command
            .args([how.as_ref(), self.folder.as_os_str()])
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
        if self.child.is_none() {
            return Err(io::Error::other("the broker does not run"));
        }
        let sent = Command::new("kill").args([name, &self.process().to_string()]).status()?;
        if sent.success() { Ok(()) } else { Err(io::Error::other("the signal was refused")) }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, which is well.
        drop(self.kill());
    }
}

/// The first of so many neighbouring ports that nobody listens on.
fn free_ports() -> io::Result<u16> {
    loop {
        let first = TcpListener::bind("127.0.0.1:0")?;
        let port = first.local_addr()?.port();
        if (1..PORTS).all(|n| port.checked_add(n).is_some_and(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())) {
            return Ok(port);
        }
    }
}
