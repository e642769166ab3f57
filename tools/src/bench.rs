//! `cargo tools bench`: commits per second and latencies, with one process for each node.

mod beside;
mod one_shot;
mod postgres;

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use stormglass::client::{ClientError, ClientOptions, TxResult};
use stormglass::commit::view::View;
use stormglass::commit::{AbortReason, Action, Key, Op, Part};
use stormglass_node::NodeId;
use stormglass_node::runtime::Status;
use tokio::time::Instant;

use crate::cluster::{Cluster, Rng, WorkDir, read_statuses};
use crate::say;
use crate::{CliError, Exit, UsageError};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo tools bench --data /mnt/disk/bench\n  \
    cargo tools bench --nodes 3 --clients 16 --seconds 10 --keys 100 --span 3 --json\n  \
    cargo tools bench --beside postgres --rounds 9\n  \
    cargo tools bench --one-shot 1000000")]
pub(super) struct Bench {
    /// Nodes, all of which coordinate; 2 to 16
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(2..=16))]
    nodes: u16,
    /// Clients, each with one transaction at a time, 1 to 512; 1 to 256 with --beside
    /// [default: 1, then 64, then 64 on one key; with --beside: 64, then 1]
    // Two nodes have room for 320 each, and this process for 1,024 files.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=512))]
    clients: Option<u32>,
    /// How long each measurement takes, in seconds, 1 to 3600, after one second to warm up
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Keys on each node, at least 1, which is one hot key
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
    /// Nodes that take part in each transaction, the coordinator included; 1 to as many as there
    /// are
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=16))]
    span: u16,
    /// Transactions read this many keys of each node that takes part, and write nothing [default:
    /// they write one key of each]
    #[arg(long, value_name = "KEYS", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    reads: Option<u32>,
    /// Transactions write this many keys of each node that takes part
    #[arg(long, value_name = "KEYS", conflicts_with = "reads")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65_536))]
    writes: Option<u32>,
    /// Ten clients more, whose transactions write this many keys of one node. They are not counted,
    /// and have keys of their own; a node refuses more than 8,192
    #[arg(long, value_name = "KEYS", conflicts_with = "beside")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65_536))]
    large: Option<u32>,
    /// So many clients with one transaction each: prints rate and memory for each tenth of them,
    /// and how long the nodes take to start again after a kill; 10 to 100,000,000
    #[arg(long, value_name = "COUNT", conflicts_with_all = ["seconds", "beside", "large"])]
    #[arg(value_parser = clap::value_parser!(u64).range(10..=100_000_000))]
    one_shot: Option<u64>,
    /// Where the nodes keep their data: the disk that is measured [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print one JSON object a measurement, or a comparison
    #[arg(long)]
    json: bool,
    /// Measure two-phase commit between two instances of this system too, in turns with the nodes,
    /// and print the ratio. The Debian package `postgresql` must be installed. Each client has
    /// keys of its own
    // With two instances a transaction spans two, and what it does is the same on both sides.
    #[arg(long, value_name = "SYSTEM", conflicts_with_all = ["keys", "span", "reads", "writes"])]
    beside: Option<System>,
    /// With --beside: rounds, in each of which both systems are measured once, 1 to 1000
    #[arg(long, default_value_t = 5, requires = "beside")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
}

/// What `--beside` compares with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum System {
    /// PostgreSQL: PREPARE TRANSACTION and COMMIT PREPARED
    Postgres,
}

/// The parameters of one measurement.
#[derive(Clone, Copy, Debug)]
struct Workload {
    clients: u32,
    keys: u32,
    /// Whether each client has this many keys, or all together.
    own_keys: bool,
    span: u16,
    /// What a transaction does with this many keys of each node; without, it moves an amount.
    many: Option<(ManyKeys, u32)>,
    /// The operations of the transactions of [`LARGE_CLIENTS`] beside those that are counted.
    large: Option<u32>,
}

/// What a transaction does with many keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ManyKeys {
    Read,
    Write,
}

impl Bench {
    fn workload(&self, clients: u32) -> Workload {
        let reads = self.reads.map(|keys| (ManyKeys::Read, keys));
        let writes = self.writes.map(|keys| (ManyKeys::Write, keys));
        Workload {
            clients,
            keys: self.keys,
            own_keys: false,
            span: self.span,
            many: reads.or(writes),
            large: self.large,
        }
    }
}

impl Workload {
    /// The numbers of the keys of a client.
    fn keys_of(&self, client: u32) -> Range<u32> {
        let first = if self.own_keys { client * self.keys } else { 0 };
        first..first + self.keys
    }
}

/// Its result.
#[derive(Debug, serde::Serialize)]
struct Measurement {
    clients: u32,
    keys_per_node: u32,
    seconds_ms: u64,
    commits: u64,
    aborts: u64,
    unknown: u64,
    commits_per_s: u64,
    latency_us_p50: u64,
    latency_us_p90: u64,
    latency_us_p99: u64,
    latency_us_max: u64,
    forced_per_1000_commits: u64,
    syncs_per_1000_commits: u64,
    bytes_per_commit: u64,
    /// CPU time of the nodes.
    cpu_us_per_commit: u64,
}

pub(super) async fn run(bench: &Bench, program: PathBuf) -> Result<Exit, CliError> {
    if bench.span > bench.nodes {
        return Err(
            UsageError(format!("--span {} exceeds --nodes {}", bench.span, bench.nodes)).into()
        );
    }
    match bench.beside {
        Some(System::Postgres) => return beside::run(bench, program).await,
        None => {}
    }
    if let Some(count) = bench.one_shot {
        return one_shot::run(bench, program, count).await;
    }
    let span = bench.span;
    let work_dir = WorkDir::new(bench.data.as_deref(), "bench")?;
    let mut cluster = start_cluster(bench, program, &work_dir).await?;
    if !bench.json {
        say!(
            "{} nodes, one process each; a commit {} {span} nodes, its coordinator one of them",
            bench.nodes,
            match bench.workload(1).many {
                Some((ManyKeys::Read, keys)) => format!("reads {keys} keys of each of"),
                Some((ManyKeys::Write, keys)) => format!("writes {keys} keys of each of"),
                None => "moves an amount among".to_owned(),
            }
        )?;
        say!("{}", disk(&work_dir.path)?)?;
        say!(
            "{:>7} {:>7} {:>9} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>8} {:>8}",
            "clients",
            "keys",
            "commits/s",
            "p50 us",
            "p90 us",
            "p99 us",
            "max us",
            "forced/c",
            "syncs/c",
            "cpu us/c",
            "aborts"
        )?;
    }
    let of_one = bench.workload(1);
    let runs = match bench.clients {
        Some(clients) => vec![Workload { clients, ..of_one }],
        None => vec![
            of_one,
            Workload { clients: 64, ..of_one },
            Workload { clients: 64, keys: 1, ..of_one },
        ],
    };
    let mut stuck = false;
    for run in runs {
        let measurement = measure(&cluster, run, bench.seconds).await?;
        stuck |= measurement.commits == 0;
        if bench.json {
            say!("{}", serde_json::to_string(&measurement)?)?;
        } else {
            show(&measurement)?;
        }
    }
    cluster.terminate_all()?;
    Ok(if stuck { Exit::Violation } else { Exit::Success })
}

/// Nodes with their data in this directory, ready to serve.
async fn start_cluster(
    bench: &Bench,
    program: PathBuf,
    work_dir: &WorkDir,
) -> Result<Cluster, CliError> {
    let mut cluster = Cluster::new(program, bench.nodes, &work_dir.path, &["--log", "warn"])?;
    for node in 0..usize::from(bench.nodes) {
        cluster.start(node)?;
    }
    cluster.statuses().await?;
    Ok(cluster)
}

fn show(of: &Measurement) -> Result<(), std::io::Error> {
    say!(
        "{:>7} {:>7} {:>9} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>8} {:>8}",
        of.clients,
        of.keys_per_node,
        of.commits_per_s,
        of.latency_us_p50,
        of.latency_us_p90,
        of.latency_us_p99,
        of.latency_us_max,
        decimal(of.forced_per_1000_commits),
        decimal(of.syncs_per_1000_commits),
        of.cpu_us_per_commit,
        of.aborts
    )
}

fn decimal(thousandths: u64) -> String {
    format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
}

/// Clients with large transactions.
const LARGE_CLIENTS: u32 = 10;

/// How long clients run before the measured time.
const WARM_UP: Duration = Duration::from_secs(1);

/// Runs clients for a second and for the given time, and counts the latter.
async fn measure(cluster: &Cluster, run: Workload, seconds: u64) -> Result<Measurement, CliError> {
    // Before the load starts: under load, a handshake waits as long as every other request.
    let mut status_clients = cluster.status_clients().await?;
    let nodes = status_clients.len();
    let mut connected = Vec::new();
    for client in 0..run.clients {
        let coordinator = client as usize % nodes;
        let options =
            // Under full load a transaction may wait for many others at the same hot key.
            ClientOptions { request_timeout: Duration::from_secs(30), ..ClientOptions::default() };
        let keys = run.keys_of(client);
        connected.push((coordinator, keys, cluster.client(coordinator, options).await?));
    }
    // Connections, caches and the size of the groups of a sync have settled by then.
    let begin = Instant::now() + WARM_UP;
    let end = begin + Duration::from_secs(seconds);
    let mut clients = tokio::task::JoinSet::new();
    for (coordinator, keys, client) in connected {
        let rng = Rng::new(client.number());
        clients.spawn(run_client(client, rng, run, keys, coordinator, nodes, (begin, end)));
    }
    let large_clients = run.large.map_or(0, |_| LARGE_CLIENTS);
    for number in 0..large_clients {
        let coordinator = number as usize % nodes;
        let client = cluster.client(coordinator, ClientOptions::default()).await?;
        let keys = (0..run.large.unwrap_or(0)).map(|key| format!("l{number}.{key}"));
        let ops: Arc<[Op]> = keys
            .map(|key| Op {
                node: NodeId(coordinator as u16),
                key: Key::new(&key).expect("short"),
                action: Action::Put(1),
            })
            .collect();
        clients.spawn(run_large_client(client, ops, end));
    }
    tokio::time::sleep_until(begin).await;
    // Counters of the nodes never decrease while they run, so a difference is what the time in
    // between cost.
    let before = totals(&read_statuses(&mut status_clients).await?, cluster.cpu_time()?);
    tokio::time::sleep_until(end).await;
    let after = totals(&read_statuses(&mut status_clients).await?, cluster.cpu_time()?);
    let mut all = Tally::default();
    while let Some(tally) = clients.join_next().await {
        all.add(tally??);
    }
    Ok(all.measurement(run, seconds * 1000, before, after))
}

#[derive(Debug, Default)]
struct Tally {
    latencies_us: Vec<u64>,
    aborts: u64,
    unknown: u64,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.latencies_us.extend(other.latencies_us);
        self.aborts += other.aborts;
        self.unknown += other.unknown;
    }

    fn measurement(mut self, run: Workload, ms: u64, before: Totals, after: Totals) -> Measurement {
        self.latencies_us.sort_unstable();
        let all = &self.latencies_us;
        let commits = all.len() as u64;
        Measurement {
            clients: run.clients,
            keys_per_node: run.keys,
            seconds_ms: ms,
            commits,
            aborts: self.aborts,
            unknown: self.unknown,
            commits_per_s: commits * 1000 / ms,
            latency_us_p50: percentile(all, 500),
            latency_us_p90: percentile(all, 900),
            latency_us_p99: percentile(all, 990),
            latency_us_max: all.last().copied().unwrap_or(0),
            forced_per_1000_commits: per_commit((after.forced - before.forced) * 1000, commits),
            syncs_per_1000_commits: per_commit((after.syncs - before.syncs) * 1000, commits),
            bytes_per_commit: per_commit(after.bytes - before.bytes, commits),
            cpu_us_per_commit: per_commit((after.cpu - before.cpu).as_micros() as u64, commits),
        }
    }
}

fn percentile(sorted: &[u64], permille: usize) -> u64 {
    // Nearest rank: always a latency that was measured, never an interpolated one.
    let at = (sorted.len() * permille / 1000).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(0)
}

fn per_commit(count: u64, commits: u64) -> u64 {
    // Without a commit there is nothing to divide by; the exit code reports that.
    count.checked_div(commits).unwrap_or(0)
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    forced: u64,
    syncs: u64,
    bytes: u64,
    cpu: Duration,
}

fn totals(of: &[Status<View>], cpu: Duration) -> Totals {
    let mut totals = Totals { cpu, ..Totals::default() };
    for status in of {
        totals.forced += status.view.log.forced;
        totals.syncs += status.disk.syncs;
        totals.bytes += status.disk.bytes;
    }
    totals
}

async fn run_client(
    mut client: stormglass::client::Client,
    mut rng: Rng,
    run: Workload,
    keys: Range<u32>,
    coordinator: usize,
    nodes: usize,
    (begin, end): (Instant, Instant),
) -> Result<Tally, CliError> {
    let mut tally = Tally::default();
    while Instant::now() < end {
        let ops = operations(&mut rng, run, &keys, coordinator, nodes);
        let asked = Instant::now();
        let result = client.transact(ops).await?;
        let answered = Instant::now();
        // Transactions that begin before or end after the measured time do not count.
        if asked < begin || answered > end {
            continue;
        }
        match result {
            TxResult::Committed { .. } => {
                tally.latencies_us.push(u64::try_from((answered - asked).as_micros())?)
            }
            TxResult::Aborted { .. } => tally.aborts += 1,
            TxResult::Unknown { .. } => tally.unknown += 1,
        }
    }
    Ok(tally)
}

/// Large transactions, one after the other. None of them counts.
async fn run_large_client(
    mut client: stormglass::client::Client,
    ops: Arc<[Op]>,
    end: Instant,
) -> Result<Tally, CliError> {
    while Instant::now() < end {
        let result = client.transact(Arc::clone(&ops)).await;
        let is_too_large = ops.len() > Part::OPS_MAX;
        let is_right = match result {
            Ok(TxResult::Committed { .. }) => !is_too_large,
            Ok(TxResult::Aborted { reason: AbortReason::Invalid(_), .. })
            | Err(ClientError::Undecodable { .. }) => is_too_large,
            Ok(TxResult::Aborted { .. } | TxResult::Unknown { .. }) | Err(_) => false,
        };
        if !is_right {
            return Err(format!("a transaction of {} operations: {result:?}", ops.len()).into());
        }
    }
    Ok(Tally::default())
}

/// One transaction: takes from a key of the coordinator, and gives to a key of each of `span - 1`
/// other nodes; or reads or writes keys of these nodes.
fn operations(
    rng: &mut Rng,
    run: Workload,
    keys: &Range<u32>,
    coordinator: usize,
    nodes: usize,
) -> Vec<Op> {
    let span = usize::from(run.span);
    // The nodes after a random one, so that every pair is equally likely.
    // A random start and not a fixed one spreads the load over the participants.
    let first = rng.below(nodes - 1);
    let others =
        (0..span - 1).map(|other| (coordinator + 1 + (first + other) % (nodes - 1)) % nodes);
    if let Some((what, count)) = run.many {
        let first_key = rng.below(run.keys as usize) as u32;
        let keys = (0..count).map(|key| (first_key + key) % run.keys);
        let participants = std::iter::once(coordinator).chain(others);
        let action = match what {
            ManyKeys::Read => Action::Get,
            ManyKeys::Write => Action::Put(i64::from(first_key)),
        };
        return participants
            .flat_map(|node| keys.clone().map(move |key| op(key, node, action)))
            .collect();
    }
    let mut ops = vec![add(rng, keys, coordinator, 1 - span as i64)];
    ops.extend(others.map(|other| add(rng, keys, other, 1)));
    ops
}

fn add(rng: &mut Rng, keys: &Range<u32>, node: usize, by: i64) -> Op {
    // Without a bound, so that only locks can abort a transaction.
    op(draw(rng, keys), node, Action::Add { by, at_least: i64::MIN })
}

fn draw(rng: &mut Rng, keys: &Range<u32>) -> u32 {
    keys.start + rng.below(keys.len()) as u32
}

fn op(key: u32, node: usize, action: Action) -> Op {
    let key = Key::new(&format!("k{key}")).expect("short");
    Op { node: NodeId(node as u16), key, action }
}

/// The line about the disk that is measured.
fn disk(directory: &Path) -> Result<String, CliError> {
    let (sync_us, worst_us) = sync_us(directory)?;
    Ok(format!(
        "the disk at {}: fdatasync of an append takes {sync_us} us at the median, {worst_us} us at the 99th percentile",
        directory.display()
    ))
}

/// The time of a sync of a small append, at the median and at the 99th percentile.
fn sync_us(directory: &Path) -> Result<(u64, u64), CliError> {
    let path = directory.join("sync-test");
    let mut file = File::create(&path)?;
    let mut all = Vec::new();
    // So many that three of them lie above the 99th percentile.
    for _ in 0..300 {
        // About the size of a record of a small transaction.
        file.write_all(&[7; 100])?;
        let begin = Instant::now();
        file.sync_data()?;
        all.push(u64::try_from(begin.elapsed().as_micros())?);
    }
    std::fs::remove_file(&path)?;
    all.sort_unstable();
    Ok((all[150], all[297]))
}
