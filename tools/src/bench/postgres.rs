//! Two instances of PostgreSQL on this machine, and clients whose transactions span both.
//!
//! The instances have PostgreSQL's default configuration but for what [`Server::start`] sets, and
//! so its default durability: `fsync` and `synchronous_commit` are on. They end with this process,
//! however it ends.

use std::fs::{self, OpenOptions};
use std::ops::Range;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tokio::time::Instant;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Statement};

use super::{Tally, WARM_UP, Workload, draw};
use crate::CliError;
use crate::cluster::Rng;

/// How many transactions can be prepared at a time, and so how many clients there can be.
pub(super) const PREPARED_MAX: u32 = 256;

/// Where Debian's packages install one directory for each version.
const INSTALLATIONS: &str = "/usr/lib/postgresql";

/// The superuser of the database, whose name is also that of the only database that is used.
const ROLE: &str = "postgres";

/// Only names the socket: no instance listens on TCP.
const PORT: u16 = 5432;

/// Two running instances.
#[derive(Debug)]
pub(super) struct Postgres {
    servers: [Server; 2],
}

/// One instance.
#[derive(Debug)]
struct Server {
    child: Child,
    /// With the data, the socket and the log.
    directory: PathBuf,
}

/// The directory of the programs of the newest installed version.
///
/// # Errors
/// If PostgreSQL is not installed.
pub(super) fn find_programs() -> Result<PathBuf, CliError> {
    newest_programs(Path::new(INSTALLATIONS)).ok_or_else(|| {
        format!(
            "PostgreSQL is not installed: there is no {INSTALLATIONS}/VERSION/bin/initdb; install the Debian package `postgresql`"
        )
        .into()
    })
}

fn newest_programs(installations: &Path) -> Option<PathBuf> {
    let mut newest = None;
    for entry in fs::read_dir(installations).ok()?.flatten() {
        let programs = entry.path().join("bin");
        // The directory of a removed version may remain, without programs.
        let is_complete = ["initdb", "postgres"].iter().all(|name| programs.join(name).is_file());
        if let (true, Ok(version)) = (is_complete, entry.file_name().to_string_lossy().parse()) {
            newest = newest.max(Some((version, programs)));
        }
    }
    newest.map(|(_, programs): (u32, _)| programs)
}

impl Postgres {
    /// Makes two instances below this directory and starts them, with a table each.
    pub(super) async fn start(programs: &Path, directory: &Path) -> Result<Postgres, CliError> {
        // PostgreSQL refuses to run as root.
        let user = if geteuid().is_root() { Some(unprivileged_user()?) } else { None };
        let postgres = Postgres {
            servers: [
                Server::start(programs, directory.join("pg0"), user.as_ref())?,
                Server::start(programs, directory.join("pg1"), user.as_ref())?,
            ],
        };
        for server in &postgres.servers {
            let client = server.connect_when_ready().await?;
            client
                .batch_execute(
                    "CREATE TABLE entries (key text PRIMARY KEY, amount bigint NOT NULL)",
                )
                .await?;
        }
        Ok(postgres)
    }

    /// The version, and the settings that decide what a commit costs, as an instance states them.
    pub(super) async fn settings(&self) -> Result<String, CliError> {
        let client = self.servers[0].connect().await?;
        let mut values = Vec::new();
        for setting in ["server_version", "fsync", "synchronous_commit", "wal_sync_method"] {
            let row = client.query_one(&format!("SHOW {setting}"), &[]).await?;
            values.push(row.get::<_, String>(0));
        }
        Ok(format!(
            "PostgreSQL {}: fsync {}, synchronous_commit {}, wal_sync_method {}",
            values[0], values[1], values[2], values[3]
        ))
    }

    /// Runs clients for a second and for the given time, and counts the latter.
    pub(super) async fn measure(&self, run: Workload, seconds: u64) -> Result<Tally, CliError> {
        let mut connected = Vec::new();
        for client in 0..run.clients {
            let at = [self.participant(0).await?, self.participant(1).await?];
            connected.push(Coordinator { at, client, next: 0 });
        }
        let begin = Instant::now() + WARM_UP;
        let end = begin + Duration::from_secs(seconds);
        let mut clients = tokio::task::JoinSet::new();
        for coordinator in connected {
            let keys = run.keys_of(coordinator.client);
            clients.spawn(run_client(coordinator, keys, (begin, end)));
        }
        let mut all = Tally::default();
        while let Some(tally) = clients.join_next().await {
            all.add(tally??);
        }
        Ok(all)
    }

    async fn participant(&self, server: usize) -> Result<Participant, CliError> {
        let client = self.servers[server].connect().await?;
        let upsert = client
            .prepare(
                "INSERT INTO entries VALUES ($1, $2) \
                 ON CONFLICT (key) DO UPDATE SET amount = entries.amount + excluded.amount",
            )
            .await?;
        Ok(Participant { client, upsert })
    }
}

impl Server {
    fn start(programs: &Path, directory: PathBuf, user: Option<&User>) -> Result<Server, CliError> {
        fs::create_dir(&directory)?;
        if let Some(user) = user {
            std::os::unix::fs::chown(&directory, Some(user.uid), Some(user.gid))?;
        }
        let data = directory.join("data");
        let log = OpenOptions::new().create(true).append(true).open(directory.join("log"))?;
        let initdb = command(&programs.join("initdb"), &directory, user)
            .arg("--pgdata")
            .arg(&data)
            // Nobody else gets past the directory of the socket, which is `data`.
            .args(["--username", ROLE, "--auth", "trust"])
            .args(["--encoding", "UTF8", "--locale", "C", "--no-instructions"])
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .status()
            .map_err(|error| format!("cannot run setpriv (package util-linux): {error}"))?;
        if !initdb.success() {
            return Err(format!("initdb failed: {}", last_log_line(&directory)).into());
        }
        let child = command(&programs.join("postgres"), &directory, user)
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&data)
            .args(["-p", &PORT.to_string()])
            .args(["-c", "listen_addresses="])
            // The default is 0: PREPARE TRANSACTION is off.
            .args(["-c", &format!("max_prepared_transactions={PREPARED_MAX}")])
            // One for each client, and those that are reserved for the superuser.
            .args(["-c", &format!("max_connections={}", PREPARED_MAX + 10)])
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Server { child, directory })
    }

    /// Waits until the instance accepts connections.
    async fn connect_when_ready(&self) -> Result<Client, CliError> {
        // A start takes a tenth of a second; on a loaded machine, a few seconds.
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match self.connect().await {
                Ok(client) => return Ok(client),
                Err(error) if Instant::now() > deadline => {
                    let log = last_log_line(&self.directory);
                    return Err(
                        format!("PostgreSQL does not start: {error}; it logs: {log}").into()
                    );
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn connect(&self) -> Result<Client, CliError> {
        let (client, connection) = Config::new()
            .host_path(self.directory.join("data"))
            .port(PORT)
            .user(ROLE)
            .dbname(ROLE)
            .connect(NoTls)
            .await?;
        // Ends when the client is dropped. Every request of the client returns its error too.
        tokio::spawn(connection);
        Ok(client)
    }
}

impl Drop for Server {
    #[expect(clippy::disallowed_methods, reason = "the process ends in its own time")]
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // Ten seconds: PostgreSQL gives its own processes five.
        for _ in 0..100 {
            // Immediate shutdown: the data is of no further use. Again and again, because a process
            // that inherited SIGQUIT as ignored loses those that arrive before it has a handler.
            let _ = pid.map(|pid| kill_process(pid, Signal::QUIT));
            std::thread::sleep(Duration::from_millis(100));
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
        }
        // The processes of its connections notice it and end. Only its shared memory remains.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of PostgreSQL, run as `user`.
fn command(program: &Path, directory: &Path, user: Option<&User>) -> Command {
    let mut command = Command::new("setpriv");
    // SIGQUIT when this process ends, even by SIGKILL. It is sent when the thread ends that
    // started the process: the main thread, the only one of the runtime.
    command.args(["--pdeathsig", "QUIT"]);
    if let Some(user) = user {
        command.arg(format!("--reuid={}", user.uid));
        command.arg(format!("--regid={}", user.gid)).arg("--clear-groups");
    }
    command.arg(program);
    // The user may not be permitted to enter the current directory.
    command.current_dir(directory);
    // Ctrl-C at the terminal ends this process alone, which then ends the instances.
    command.stdin(Stdio::null()).process_group(0);
    command
}

/// The last line that initdb or the instance has logged.
fn last_log_line(directory: &Path) -> String {
    let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
    log.lines().rfind(|line| !line.is_empty()).unwrap_or("nothing").to_owned()
}

/// A user of the system.
#[derive(Debug, PartialEq, Eq)]
struct User {
    uid: u32,
    gid: u32,
}

/// The user whom the package creates, or else one that every system has.
fn unprivileged_user() -> Result<User, CliError> {
    let passwd = fs::read_to_string("/etc/passwd")?;
    ["postgres", "nobody"].iter().find_map(|name| user(&passwd, name)).ok_or_else(|| {
        "PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody`".into()
    })
}

fn user(passwd: &str, name: &str) -> Option<User> {
    for line in passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if let [found, _, uid, gid, ..] = fields[..]
            && found == name
        {
            return Some(User { uid: uid.parse().ok()?, gid: gid.parse().ok()? });
        }
    }
    None
}

/// A client, which coordinates its transactions itself. It keeps no log of its decisions.
struct Coordinator {
    at: [Participant; 2],
    client: u32,
    /// The number of the next transaction.
    next: u64,
}

/// A client's connection to one instance.
struct Participant {
    client: Client,
    upsert: Statement,
}

impl Coordinator {
    /// Adds one to a key at each instance, or nothing at all: prepares the transaction at both
    /// instances at the same time, then commits it at both.
    async fn transact(&mut self, keys: [u32; 2]) -> Result<(), tokio_postgres::Error> {
        // Unique among the transactions that are prepared.
        let id = format!("'{}-{}'", self.client, self.next);
        self.next += 1;
        let [a, b] = &self.at;
        tokio::try_join!(a.prepare(keys[0], &id), b.prepare(keys[1], &id))?;
        tokio::try_join!(a.commit(&id), b.commit(&id))?;
        Ok(())
    }
}

impl Participant {
    async fn prepare(&self, key: u32, id: &str) -> Result<(), tokio_postgres::Error> {
        let prepare = format!("PREPARE TRANSACTION {id}");
        let key = format!("k{key}");
        let row: [&(dyn ToSql + Sync); 2] = [&key, &1_i64];
        // In order, in one round trip: a request is sent when its future is first polled. If the
        // second fails, the third rolls back.
        tokio::try_join!(
            biased;
            self.client.batch_execute("BEGIN"),
            self.client.execute(&self.upsert, &row),
            self.client.batch_execute(&prepare),
        )?;
        Ok(())
    }

    async fn commit(&self, id: &str) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute(&format!("COMMIT PREPARED {id}")).await
    }
}

async fn run_client(
    mut coordinator: Coordinator,
    keys: Range<u32>,
    (begin, end): (Instant, Instant),
) -> Result<Tally, CliError> {
    let mut rng = Rng::new(u64::from(coordinator.client));
    let mut tally = Tally::default();
    while Instant::now() < end {
        let keys = [draw(&mut rng, &keys), draw(&mut rng, &keys)];
        let asked = Instant::now();
        coordinator.transact(keys).await?;
        let answered = Instant::now();
        // As for the nodes: only transactions that begin and end in the measured time count.
        if asked >= begin && answered <= end {
            tally.latencies_us.push(u64::try_from((answered - asked).as_micros())?);
        }
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_complete_installation_is_found() {
        let installations = tempfile::tempdir().expect("a directory");
        assert_eq!(newest_programs(&installations.path().join("none")), None);
        assert_eq!(newest_programs(installations.path()), None);
        // 9 is older than 15; 17 has been removed but for one program; `local` is no version.
        for (version, programs) in [
            ("9", &["initdb", "postgres"][..]),
            ("15", &["initdb", "postgres"]),
            ("17", &["initdb"]),
            ("local", &["initdb", "postgres"]),
        ] {
            let directory = installations.path().join(version).join("bin");
            fs::create_dir_all(&directory).expect("created");
            for program in programs {
                fs::write(directory.join(program), "").expect("written");
            }
        }
        let newest = installations.path().join("15/bin");
        assert_eq!(newest_programs(installations.path()), Some(newest));
    }

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\
                      postgresql:x:7:8::/:/bin/false\n\
                      postgres:x:101:104:PostgreSQL:/var/lib/postgresql:/bin/bash\n\
                      broken:x:many:1::/:/bin/false\n";
        assert_eq!(user(passwd, "postgres"), Some(User { uid: 101, gid: 104 }));
        assert_eq!(user(passwd, "nobody"), None);
        assert_eq!(user(passwd, "broken"), None);
    }
}
