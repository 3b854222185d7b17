//! The whole program on a state in PostgreSQL: its server is killed and started again under people's edits, and so is
//! the program; both CRMs end equal, judged as every other run.
//!
//! `HEADGATE_POSTGRES_SERVER` names the script that starts a server, `deploy/postgres/server`; where it is not set these
//! tests have nothing to run on, and where it is, a server that does not come up fails them.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::chronicle::now;
use crate::sender::until;
use crate::server::Server;
use crate::stage::Stage;
use crate::subscriptions::{certificates, certificates_for};
use crate::world::{Habits, World, is_clean_but_for_the_untold, work};

/// A server of its own for one test.
pub(crate) struct Database {
    script: PathBuf,
    folder: TempDir,
    certificates: Option<PathBuf>,
    running: Option<Child>,
    url: String,
}

impl Database {
    /// Starts one. `None` where no script was named.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(None)
    }

    /// Starts one that shows the server's certificate of a folder, where one is named, and talks to nobody without TLS.
    fn start_with(certificates: Option<&Path>) -> Option<Self> {
        let script = PathBuf::from(std::env::var_os("HEADGATE_POSTGRES_SERVER")?);
        let folder = tempfile::tempdir().unwrap();
        // The server may run as another user than this test.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let mut database =
            Self { script, folder, certificates: certificates.map(Path::to_owned), running: None, url: String::new() };
        database.bring_up();
        Some(database)
    }

    fn bring_up(&mut self) {
        let mut child = Command::new(&self.script)
            .arg("run")
            .arg(self.folder.path().join("server"))
            .envs(self.certificates.iter().map(|folder| ("POSTGRES_TLS", folder)))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.running = Some(child);
        self.url = line.strip_prefix("ready ").unwrap_or_else(|| panic!("not ready: {line}")).trim_end().to_owned();
    }

    /// Ends it as a power cut would; whoever talks to it is cut off.
    fn kill(&mut self) {
        let mut child = self.running.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// What the program is told of it.
    pub(crate) fn vars(&self) -> [(&'static str, String); 3] {
        let password = std::fs::read_to_string(self.folder.path().join("server/password")).unwrap();
        [
            ("HEADGATE__STORE__URL", self.url.clone()),
            ("HEADGATE__STORE__PASSWORD_ENV", "STATE_PASSWORD".to_owned()),
            ("STATE_PASSWORD", password.trim_end().to_owned()),
        ]
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(child) = &mut self.running {
            // In good order, so that nothing of it is left in the machine's shared memory.
            drop(Command::new("kill").args(["-INT", &child.id().to_string()]).status());
            drop(child.wait());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_and_the_program_die_in_turn_and_nothing_is_lost() {
    let Some(mut database) = Database::start() else { return };
    let vars = database.vars();
    let world = Arc::new(World::open(|file| file, &vars.each_ref().map(|(name, value)| (*name, value.as_str()))).await);
    let people = world.people(40).await;
    let stop = Arc::new(AtomicBool::new(false));
    let habits = |seed| Habits {
        seed,
        pause: Duration::from_millis(20),
        salesforce: 0.4,
        creates: 0.05,
        crowd: 0.2,
        apart: Duration::ZERO,
    };
    let working: Vec<_> = (0..3).map(|seed| work(&world, &people, habits(seed), &stop)).collect();
    let mut moments = fastrand::Rng::with_seed(5);
    for _ in 0..5 {
        // The moment of the kill; nothing is waited for.
        tokio::time::sleep(Duration::from_millis(moments.u64(100..700))).await;
        let away = Duration::from_millis(moments.u64(0..1_500));
        let from = now();
        let dying = Arc::clone(&world);
        database = tokio::task::spawn_blocking(move || {
            database.kill();
            dying.chronicle.crash("postgres");
            // How long it is away: part of the scenario.
            std::thread::park_timeout(away);
            database.bring_up();
            database
        })
        .await
        .unwrap();
        world.chronicle.cut(from, now());
        // The program finds it again by itself.
        until("the state is read again", async || world.lists_records().await).await;

        tokio::time::sleep(Duration::from_millis(moments.u64(100..700))).await;
        let dying = Arc::clone(&world);
        tokio::task::spawn_blocking(move || {
            dying.kill();
            dying.chronicle.crash("program");
            dying.start();
        })
        .await
        .unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    for person in working {
        person.await.unwrap();
    }
    let report = world.end(Duration::from_secs(1), &[]).await;
    assert_eq!(report.crashes.get("postgres"), Some(&5));
    let lost = world.log().lines().filter(|line| line.contains("the state failed")).count();
    assert!(lost >= 5, "the server was killed five times, and the program noticed {lost} times");
    is_clean_but_for_the_untold(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_talked_to_by_tls_with_a_certificate_that_is_checked() {
    let (ours, strange, elsewhere) = (certificates(), certificates(), certificates_for("db.example.com"));
    let Some(database) = Database::start_with(Some(ours.path())) else { return };
    let [(url, place), password @ ..] = database.vars();
    let vars = |mode: &str| {
        let mut vars = vec![(url, format!("{}?{mode}", place.replace("127.0.0.1", "localhost")))];
        vars.extend(password.iter().cloned());
        vars
    };
    let checked = |folder: &TempDir| format!("sslrootcert={}/ca.pem", folder.path().display());

    let good = vars(&format!("sslmode=verify-full&{}", checked(&ours)));
    let stage = Stage::open(&good.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>()).await;
    stage.contacts(3).await;
    stage.judge();
    assert_eq!(stage.terminate().0, Some(0));

    // What is refused says why, and what to do.
    let refused = |vars: &[(&'static str, String)]| {
        let folder = tempfile::tempdir().unwrap();
        let listen = ["GATEWAY", "ADMIN"].map(|part| (format!("HEADGATE__{part}__LISTEN"), "127.0.0.1:0".to_owned()));
        let vars: Vec<_> = vars.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).chain(listen).collect();
        let Err(ended) = Server::launch(folder.path(), &vars) else { panic!("it was believed") };
        (ended.code(), std::fs::read_to_string(folder.path().join("log")).unwrap())
    };
    let (code, told) = refused(&vars(&checked(&strange)));
    assert!(code == Some(1) && told.contains("is not believed") && told.contains("sslrootcert=FILE"), "{told}");
    let (code, told) = refused(&vars("sslmode=disable"));
    assert!(code == Some(1) && told.contains("no encryption"), "{told}");
    for mode in ["prefer", "require", "verify-ca"] {
        let (code, told) = refused(&vars(&format!("sslmode={mode}")));
        assert!(code == Some(3) && told.contains("write sslmode=verify-full"), "{mode}: {told}");
    }
    drop(database);

    // A certificate of the right authority for another name.
    let Some(database) = Database::start_with(Some(elsewhere.path())) else { return };
    let [(url, place), password @ ..] = database.vars();
    let named = vec![(url, format!("{}?{}", place.replace("127.0.0.1", "localhost"), checked(&elsewhere)))];
    let (code, told) = refused(&named.into_iter().chain(password).collect::<Vec<_>>());
    assert!(code == Some(1) && told.contains("the host as the certificate does"), "{told}");
    drop(database);

    // A server without TLS.
    let Some(database) = Database::start() else { return };
    let [(url, place), password @ ..] = database.vars();
    let plain = vec![(url, format!("{place}?sslmode=verify-full"))];
    let (code, told) = refused(&plain.into_iter().chain(password).collect::<Vec<_>>());
    assert!(code == Some(1) && told.contains("does not support TLS"), "{told}");
}
