//! Where a PostgreSQL state is: a URL as libpq writes it, without its password. TLS is either off or checked: `prefer`
//! and `allow` would fall back to plain text at the word of whoever stands in between, and are refused.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::config::{Host, SslMode};

/// A PostgreSQL database, and how it is talked to.
#[derive(Clone)]
pub struct Address {
    pub(super) config: tokio_postgres::Config,
    pub(super) tls: Option<Authorities>,
    /// Longest run of one statement; the server ends it then. A transaction is cut off somewhat later.
    pub statement_timeout: Duration,
    /// Several relays work on the state at once; otherwise one does, and others stand by.
    pub shared: bool,
}

/// Whom we believe that a server is the one we mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Authorities {
    /// The authorities that browsers know.
    Public,
    /// Those of a file.
    File(PathBuf),
}

impl std::fmt::Debug for Address {
    /// Without user and password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Address({}, tls {:?}, {:?})", self.place(), self.tls, self.statement_timeout)
    }
}

/// What is wrong with a URL. The URL itself is never repeated: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It does not parse.
    #[error("it is not a PostgreSQL URL")]
    Malformed,
    /// It names no host or no database.
    #[error("it names no {0}")]
    Missing(&'static str),
    /// It holds a password.
    #[error("a password must not stand in the URL")]
    Password,
    /// The `sslmode` is not one of ours.
    #[error("this sslmode is not safe against somebody in between")]
    TlsMode,
    /// Authorities for a connection without TLS.
    #[error("sslrootcert does nothing without TLS")]
    NoTls,
}

impl AddressError {
    /// What would be right.
    pub const fn fix(&self) -> &'static str {
        match self {
            Self::Malformed | Self::Missing(_) => "write \"postgres://user@host:5432/database\"",
            Self::Password => "name an environment variable in password_env, or a file in password_file",
            Self::TlsMode => "write sslmode=verify-full, or sslmode=disable on a network you trust",
            Self::NoTls => "write sslmode=verify-full, or take it out",
        }
    }
}

impl Address {
    /// The longest run of a statement unless it is set.
    pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);

    /// Reads a URL. Without `sslmode` a server on this machine is talked to in plain text, every other one by TLS.
    /// `sslrootcert` is taken from `base` when it is a relative path.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn parse(url: &str, password: Option<&SecretString>, base: &Path) -> Result<Self, AddressError> {
        let (rest, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut mode, mut file, mut left) = (None, None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => {
                    let path = percent_encoding::percent_decode_str(value).decode_utf8();
                    file = Some(base.join(&*path.map_err(|_| AddressError::Malformed)?));
                }
                Some(("password", _)) => return Err(AddressError::Password),
                Some(_) | None => left.push(pair),
            }
        }
        let plain = if left.is_empty() { rest.to_owned() } else { format!("{rest}?{}", left.join("&")) };
        let mut config: tokio_postgres::Config = plain.parse().map_err(|_| AddressError::Malformed)?;
        if config.get_password().is_some() {
            return Err(AddressError::Password);
        }
        if config.get_hosts().is_empty() {
            return Err(AddressError::Missing("host"));
        }
        if config.get_dbname().is_none_or(str::is_empty) {
            return Err(AddressError::Missing("database"));
        }
        if let Some(password) = password {
            config.password(password.expose_secret());
        }
        let tls = authorities(mode, file, config.get_hosts())?;
        config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
        Ok(Self { config, tls, statement_timeout: Self::STATEMENT_TIMEOUT, shared: false })
    }

    /// Hosts and database, as they may stand in a message.
    pub fn place(&self) -> String {
        let ports = self.config.get_ports();
        let port = |n: usize| ports.get(n).or_else(|| ports.first()).copied().unwrap_or(5432);
        let host = |(n, host): (usize, &Host)| match host {
            Host::Tcp(name) => format!("{name}:{}", port(n)),
            Host::Unix(path) => path.display().to_string(),
        };
        let hosts: Vec<String> = self.config.get_hosts().iter().enumerate().map(host).collect();
        format!("{}/{}", hosts.join(","), self.config.get_dbname().unwrap_or_default())
    }
}

fn authorities(mode: Option<&str>, file: Option<PathBuf>, hosts: &[Host]) -> Result<Option<Authorities>, AddressError> {
    let tls = match mode {
        Some("disable") => false,
        Some("verify-full") => true,
        Some(_) => return Err(AddressError::TlsMode),
        None => file.is_some() || !hosts.iter().all(is_here),
    };
    match (tls, file) {
        (true, Some(file)) => Ok(Some(Authorities::File(file))),
        (true, None) => Ok(Some(Authorities::Public)),
        (false, None) => Ok(None),
        (false, Some(_)) => Err(AddressError::NoTls),
    }
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, AddressError> {
        Address::parse(url, None, Path::new("/etc/headgate"))
    }

    #[test]
    fn tls_is_checked_or_off() {
        let file = || Some(Authorities::File("/etc/headgate/ca.pem".into()));
        for (url, tls) in [
            ("postgres://h@localhost/d", None),
            ("postgres://h@127.0.0.1:5433/d", None),
            ("postgres://h@%2Frun%2Fpostgresql/d", None),
            ("postgresql://h@db.example.com/d", Some(Authorities::Public)),
            ("postgres://h@localhost/d?sslmode=verify-full", Some(Authorities::Public)),
            ("postgres://h@localhost/d?sslrootcert=ca.pem", file()),
            ("postgres://h@db.example.com/d?sslmode=verify-full&sslrootcert=/etc/headgate/ca.pem", file()),
            ("postgres://h@db.example.com/d?sslmode=disable", None),
        ] {
            assert_eq!(parse(url).unwrap().tls, tls, "{url}");
        }
        for mode in ["prefer", "allow", "require", "verify-ca", ""] {
            assert_eq!(
                parse(&format!("postgres://h@x/d?sslmode={mode}")).unwrap_err(),
                AddressError::TlsMode,
                "{mode}"
            );
        }
        assert_eq!(parse("postgres://h@x/d?sslmode=disable&sslrootcert=ca.pem").unwrap_err(), AddressError::NoTls);
    }

    #[test]
    fn a_password_stands_beside_the_url_and_shows_nowhere() {
        for url in ["postgres://h:s3cret@x/d", "postgres://h@x/d?password=s3cret"] {
            let error = parse(url).unwrap_err();
            assert_eq!(error, AddressError::Password);
            assert!(!error.to_string().contains("s3cret"));
        }
        let password = SecretString::from("s3cret");
        let address = Address::parse("postgres://h@x:5433,y/d", Some(&password), Path::new("")).unwrap();
        assert_eq!(address.config.get_password(), Some(&b"s3cret"[..]));
        assert_eq!(address.place(), "x:5433,y:5432/d");
        assert!(!format!("{address:?}").contains("s3cret"));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (url, error) in [
            ("postgres://h@/d", AddressError::Missing("host")),
            ("postgres://h@x", AddressError::Missing("database")),
            ("postgres://h@x/d?nonsense=1", AddressError::Malformed),
            ("postgres://h@x:port/d", AddressError::Malformed),
        ] {
            assert_eq!(parse(url).unwrap_err(), error, "{url}");
        }
    }
}
