//! Why PostgreSQL could not do what was asked, told without a single value: what a server says beside its message (the
//! detail, the failing row) may quote documents, and those hold people's fields.

use std::time::Duration;

use tokio_postgres::error::SqlState;

/// Why PostgreSQL failed.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No connection could be made.
    #[error("PostgreSQL at {place} cannot be reached: {why}; check that it runs and that store.url names it")]
    Unreachable {
        /// Host, port and database.
        place: String,
        /// What the system or the server said.
        why: String,
    },
    /// The server shows a certificate that is not believed.
    #[error(
        "PostgreSQL at {place} shows a certificate that is not believed: {why}; name the authority that made it with \
         sslrootcert=FILE in store.url, and the host as the certificate does"
    )]
    Certificate {
        /// Host, port and database.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// The server refused a statement.
    #[error("PostgreSQL refused ({code}): {message}")]
    Refused {
        /// The SQLSTATE.
        code: String,
        /// The message, without its detail.
        message: String,
    },
    /// The connection broke, or the server restarts.
    #[error("the connection to PostgreSQL was lost: {0}")]
    Lost(String),
    /// No answer came.
    #[error("PostgreSQL did not answer within {0:?}")]
    Silent(Duration),
    /// The file with the certificate authorities cannot be used.
    #[error("sslrootcert {path}: {why}; name a readable file with PEM certificates")]
    Authority {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// A row holds what this program does not write.
    #[error("the state holds an unknown {0}; it was changed by hand, or by a newer program")]
    Foreign(&'static str),
    /// No thread or memory for the connection.
    #[error("no runtime for the connection to PostgreSQL: {0}")]
    Runtime(std::io::Error),
}

impl PostgresError {
    /// The server found this transaction and another one in each other's way: the same again may work.
    pub(super) fn is_contention(&self) -> bool {
        let contention = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED];
        self.has_code(&contention)
    }

    /// Another session holds what was waited for.
    pub(super) fn is_locked_out(&self) -> bool {
        self.has_code(&[SqlState::LOCK_NOT_AVAILABLE])
    }

    fn has_code(&self, codes: &[SqlState]) -> bool {
        matches!(self, Self::Refused { code, .. } if codes.iter().any(|c| c.code() == code))
    }

    /// What a failed attempt to connect means.
    pub(super) fn unreachable(place: &str, error: &tokio_postgres::Error) -> Self {
        if let Some(wrong) = certificate(error) {
            return Self::Certificate { place: place.to_owned(), why: wrong.to_string() };
        }
        let why = match error.as_db_error() {
            Some(db) => format!("{} ({})", db.message(), db.code().code()),
            None => with_cause(error),
        };
        Self::Unreachable { place: place.to_owned(), why }
    }
}

impl From<tokio_postgres::Error> for PostgresError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) => Self::Refused { code: db.code().code().to_owned(), message: db.message().to_owned() },
            None => Self::Lost(with_cause(&error)),
        }
    }
}

/// What is wrong with the certificate of the other side, if that is why there is no connection.
fn certificate(error: &tokio_postgres::Error) -> Option<&rustls::Error> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(wrong @ rustls::Error::InvalidCertificate(_)) = tls {
            return Some(wrong);
        }
        cause = error.source();
    }
    None
}

/// The error's own words and its cause's, which tell of sockets and of types, never of rows.
fn with_cause(error: &tokio_postgres::Error) -> String {
    let (text, cause) = (error.to_string(), std::error::Error::source(error).map(ToString::to_string));
    match cause {
        Some(cause) if !text.contains(&cause) => format!("{text}: {cause}"),
        _ => text,
    }
}
