//! Calls to addresses that somebody typed: what a tenant registers must not reach into the network of whoever runs this.
//!
//! Only `https` on the ports that the configuration allows, only public addresses. A name is looked up at the moment of
//! the connection, every address it has is judged, and the connection goes to the very address that was judged: a name
//! that answers differently the next time (DNS rebinding) gains nothing. No redirect is followed, because nothing here
//! knows how. Loopback, also without TLS, is open only where the configuration says so, for tests and for bridges that
//! run beside the program.
//!
//! The addresses of CRMs do not come through here: the operator wrote them.

pub mod address;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use address::{Forbidden, forbidden};

/// Addresses of one name that are tried; further ones are not.
const ADDRESSES_MOST: usize = 8;

/// What may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Ports of public addresses.
    pub ports: Vec<u16>,
    /// This machine may be called, on any port and without TLS.
    pub loopback: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self { ports: vec![443], loopback: false }
    }
}

/// Why an address is not called. Says nothing of what the name led to but its kind.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Not an address of a host.
    #[error("it is not an https address with a host")]
    Host,
    /// A user or a password stands in it.
    #[error("it carries a user name")]
    User,
    /// Not TLS.
    #[error("only https:// is called")]
    Scheme,
    /// Not one of the ports.
    #[error("port {0} is not one of [subscriptions] ports")]
    Port(u16),
    /// Not a public address.
    #[error("the host has {} address, which is not called", .0.as_str())]
    Address(Forbidden),
    /// The name leads nowhere.
    #[error("the host has no address: {0}")]
    Name(#[source] io::Error),
    /// Nobody answers there.
    #[error("no connection: {0}")]
    Connection(#[source] io::Error),
}

impl Policy {
    /// Checks all of a URL that can be seen without looking up its name.
    ///
    /// # Errors
    /// Why it is never called.
    pub fn check(&self, uri: &Uri) -> Result<(), Refused> {
        let place = Place::of(uri)?;
        match place.literal() {
            Some(ip) => self.judge(&place, ip),
            // A name may lead to this machine, where that is open; what it leads to is judged at each connection.
            None if self.loopback => Ok(()),
            None => self.judge_public(&place),
        }
    }

    fn judge(&self, place: &Place, ip: IpAddr) -> Result<(), Refused> {
        match forbidden(ip) {
            Some(Forbidden::Loopback) if self.loopback => Ok(()),
            Some(kind) => Err(Refused::Address(kind)),
            None => self.judge_public(place),
        }
    }

    fn judge_public(&self, place: &Place) -> Result<(), Refused> {
        match place {
            Place { https: false, .. } => Err(Refused::Scheme),
            Place { port, .. } if !self.ports.contains(port) => Err(Refused::Port(*port)),
            Place { .. } => Ok(()),
        }
    }
}

/// What of a URL decides.
struct Place {
    https: bool,
    host: String,
    port: u16,
}

impl Place {
    fn of(uri: &Uri) -> Result<Self, Refused> {
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) => return Err(Refused::Scheme),
            None => return Err(Refused::Host),
        };
        let authority = uri.authority().ok_or(Refused::Host)?;
        if authority.as_str().contains('@') {
            return Err(Refused::User);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(Refused::Host);
        }
        Ok(Self { https, host, port: authority.port_u16().unwrap_or(if https { 443 } else { 80 }) })
    }

    fn literal(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

/// The future of [`Lookup`].
pub type Addresses = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Looks up the addresses of a name.
pub type Lookup = Arc<dyn Fn(String) -> Addresses + Send + Sync>;

/// Asks the system.
pub fn system_lookup() -> Lookup {
    Arc::new(|name| {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    })
}

/// Opens connections, and only those that the policy allows.
#[derive(Clone)]
pub struct Connector {
    policy: Arc<Policy>,
    lookup: Lookup,
    /// For name and connection together.
    within: Duration,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Connector {
    /// Connections are given up after `within`.
    pub fn new(policy: Policy, lookup: Lookup, within: Duration) -> Self {
        Self { policy: Arc::new(policy), lookup, within }
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<TcpStream>, Refused> {
        let late = || Refused::Connection(io::ErrorKind::TimedOut.into());
        tokio::time::timeout(self.within, self.open(uri)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn open(&self, uri: Uri) -> Result<TokioIo<TcpStream>, Refused> {
        let place = Place::of(&uri)?;
        let addresses = match place.literal() {
            Some(ip) => vec![ip],
            None => (self.lookup)(place.host.clone()).await.map_err(Refused::Name)?,
        };
        // One address that may not be called spoils the name: which one is taken must not be luck.
        addresses.iter().try_for_each(|ip| self.policy.judge(&place, *ip))?;
        let mut last = Refused::Name(io::ErrorKind::NotFound.into());
        for ip in addresses.into_iter().take(ADDRESSES_MOST) {
            match TcpStream::connect(SocketAddr::new(ip, place.port)).await {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(Refused::Connection)?;
                    return Ok(TokioIo::new(stream));
                }
                Err(error) => last = Refused::Connection(error),
            }
        }
        Err(last)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = Refused;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Refused>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::net::TcpListener;

    use super::*;

    fn told(policy: &Policy, url: &str) -> String {
        policy.check(&url.parse().unwrap()).err().map_or_else(|| "ok".to_owned(), |refused| refused.to_string())
    }

    #[test]
    fn urls_are_judged_before_anybody_is_called() {
        let strict = Policy { ports: vec![443, 8443], loopback: false };
        let table = [
            ("https://hooks.example.com/a?b=c", "ok"),
            ("https://hooks.example.com:8443/", "ok"),
            ("https://1.1.1.1/", "ok"),
            ("https://[2606:4700:4700::1111]/", "ok"),
            ("https://hooks.example.com:22/", "port 22 is not one of [subscriptions] ports"),
            ("http://hooks.example.com/", "only https:// is called"),
            ("ftp://hooks.example.com/", "only https:// is called"),
            ("https://user@hooks.example.com/", "it carries a user name"),
            ("https://127.0.0.1/", "the host has a loopback address, which is not called"),
            ("https://169.254.169.254/latest", "the host has a link-local address, which is not called"),
            ("https://[::1]/", "the host has a loopback address, which is not called"),
            ("https://[::ffff:10.0.0.1]/", "the host has an embedded IPv4 address, which is not called"),
            ("/only/a/path", "it is not an https address with a host"),
        ];
        for (url, expected) in table {
            assert_eq!(told(&strict, url), expected, "{url}");
        }
        let open = Policy { loopback: true, ..strict };
        assert_eq!(told(&open, "http://127.0.0.1:9000/"), "ok");
        assert_eq!(told(&open, "http://localhost:9000/"), "ok");
        assert_eq!(told(&open, "https://10.0.0.1/"), "the host has a private address, which is not called");
        assert_eq!(told(&open, "http://1.1.1.1/"), "only https:// is called");
    }

    fn names(answers: Vec<Vec<&'static str>>) -> (Lookup, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let lookup: Lookup = Arc::new(move |_| {
            let n = count.fetch_add(1, Ordering::Relaxed);
            let answer = answers[n.min(answers.len() - 1)].iter().map(|ip| ip.parse().unwrap()).collect();
            Box::pin(std::future::ready(Ok(answer)))
        });
        (lookup, asked)
    }

    async fn connect(policy: &Policy, lookup: &Lookup, url: &str) -> Result<SocketAddr, String> {
        let connector = Connector::new(policy.clone(), Arc::clone(lookup), Duration::from_secs(5));
        let opened = connector.connect(url.parse().unwrap()).await;
        opened.map(|io| io.inner().peer_addr().unwrap()).map_err(|refused| refused.to_string())
    }

    #[tokio::test]
    async fn every_address_of_a_name_is_judged_and_numbers_in_odd_clothes_are_names() {
        let policy = Policy::default();
        for addresses in [vec!["127.0.0.1"], vec!["1.1.1.1", "169.254.169.254"], vec!["fd00:ec2::254"]] {
            let (lookup, _) = names(vec![addresses.clone()]);
            let refused = connect(&policy, &lookup, "https://hooks.example.com/").await.unwrap_err();
            assert!(refused.ends_with("address, which is not called"), "{addresses:?}: {refused}");
        }
        // The system may take these for 127.0.0.1; whatever it takes them for is judged.
        for host in ["2130706433", "0x7f.1", "127.1"] {
            let refused = connect(&policy, &system_lookup(), &format!("https://{host}/")).await.unwrap_err();
            assert!(refused.starts_with("the host has"), "{host}: {refused}");
        }
    }

    #[tokio::test]
    async fn the_connection_goes_to_the_address_that_was_judged() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let policy = Policy { ports: vec![443], loopback: true };
        let (lookup, asked) = names(vec![vec!["127.0.0.1"], vec!["10.0.0.1"]]);
        let url = format!("http://hooks.example.com:{port}/");
        assert_eq!(connect(&policy, &lookup, &url).await, Ok(listener.local_addr().unwrap()));
        assert_eq!(asked.load(Ordering::Relaxed), 1, "one question for one connection");
        let rebound = connect(&policy, &lookup, &url).await.unwrap_err();
        assert_eq!(rebound, "the host has a private address, which is not called");
    }

    #[tokio::test]
    async fn names_without_addresses_and_ports_without_anybody_are_told_apart() {
        let policy = Policy { ports: vec![443], loopback: true };
        let (nobody, _) = names(vec![vec![]]);
        assert!(
            connect(&policy, &nobody, "https://a.example/").await.unwrap_err().starts_with("the host has no address")
        );
        let (lookup, _) = names(vec![vec!["127.0.0.1"]]);
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let refused = connect(&policy, &lookup, &format!("http://a.example:{free}/")).await.unwrap_err();
        assert!(refused.starts_with("no connection"), "{refused}");
    }
}
