//! The whole program on a state in PostgreSQL: its server is killed and started again under people's edits, and so is
//! the program; both CRMs end equal, judged as every other run.
//!
//! `HEADGATE_POSTGRES_SERVER` names the script that starts a server, `deploy/postgres/server`; where it is not set these
//! tests have nothing to run on, and where it is, a server that does not come up fails them.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::chronicle::now;
use crate::sender::until;
use crate::world::{Habits, World, is_clean_but_for_the_untold, work};

/// A server of its own for one test.
pub(crate) struct Database {
    script: PathBuf,
    folder: TempDir,
    running: Option<Child>,
    url: String,
}

impl Database {
    /// Starts one. `None` where no script was named.
    pub(crate) fn start() -> Option<Self> {
        let script = PathBuf::from(std::env::var_os("HEADGATE_POSTGRES_SERVER")?);
        let folder = tempfile::tempdir().unwrap();
        // The server may run as another user than this test.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let mut database = Self { script, folder, running: None, url: String::new() };
        database.bring_up();
        Some(database)
    }

    fn bring_up(&mut self) {
        let mut child = Command::new(&self.script)
            .arg("run")
            .arg(self.folder.path().join("server"))
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
    let habits = |seed| Habits { seed, pause: Duration::from_millis(20), salesforce: 0.4, creates: 0.05, crowd: 0.2 };
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
