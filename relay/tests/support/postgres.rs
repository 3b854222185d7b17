//! A PostgreSQL state for one test: a schema of its own in the database that the environment names, gone afterwards.
//!
//! `HEADGATE_POSTGRES` is the URL of a server that may be used for tests and `HEADGATE_POSTGRES_PASSWORD` its password;
//! `deploy/postgres/server run DIR` starts one. Where the URL is not set these tests have nothing to run on; where it is
//! set, a server that does not answer fails them.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use headgate_relay::store::postgres::Address;
use headgate_relay::store::{Reader, StorePlace};
use secrecy::SecretString;
use tokio_postgres::NoTls;

/// A schema, dropped with this.
pub(crate) struct Schema {
    name: String,
    url: String,
    password: Option<SecretString>,
}

impl Schema {
    /// Makes one. `None` where no server was named.
    pub(crate) fn make() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let url = std::env::var("HEADGATE_POSTGRES").ok().filter(|url| !url.is_empty())?;
        let password = std::env::var("HEADGATE_POSTGRES_PASSWORD").ok().map(SecretString::from);
        let name = format!("test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let schema = Self { name, url, password };
        schema.execute(&format!("CREATE SCHEMA {}", schema.name));
        Some(schema)
    }

    /// The address of the state in it.
    pub(crate) fn address(&self) -> Address {
        let separator = if self.url.contains('?') { '&' } else { '?' };
        let url = format!("{}{separator}options=-csearch_path%3D{}", self.url, self.name);
        Address::parse(&url, self.password.as_ref(), Path::new("")).unwrap()
    }

    /// A reader of the state in it.
    pub(crate) fn reader(&self) -> Reader {
        Reader::of(&StorePlace::Postgres(Box::new(self.address()))).unwrap()
    }

    /// Runs statements in it, as somebody with a console would.
    pub(crate) fn execute(&self, sql: &str) {
        self.run(async |client| client.batch_execute(sql).await.unwrap());
    }

    /// The one number that a query returns.
    pub(crate) fn number(&self, sql: &str) -> i64 {
        self.run(async |client| client.query_one(sql, &[]).await.unwrap().get(0))
    }

    fn run<T>(&self, work: impl AsyncFnOnce(&tokio_postgres::Client) -> T) -> T {
        use secrecy::ExposeSecret as _;
        let mut config: tokio_postgres::Config = self.url.parse().unwrap();
        if let Some(password) = &self.password {
            config.password(password.expose_secret());
        }
        config.options(format!("-csearch_path={}", self.name));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, connection) = config.connect(NoTls).await.unwrap();
            tokio::select! {
                result = work(&client) => result,
                ended = connection => panic!("the connection ended: {ended:?}"),
            }
        })
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.execute(&format!("DROP SCHEMA {} CASCADE", self.name));
        }
    }
}
