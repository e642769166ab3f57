//! `cargo tools campaign`: kills real processes, and checks that nothing was lost.
//!
//! Clients transfer amounts between accounts; each transaction leaves a mark of its own at every
//! node that takes part. Nodes are killed with SIGKILL at random moments, also during recovery, and
//! started again. At the end no transaction may be in doubt, every mark of an acknowledged commit
//! must exist exactly once at each of its nodes, and none of an aborted one; the accounts must add
//! up to zero, and every log must verify.

mod clients;
mod report;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use report::CampaignReport;

use crate::cluster::{Cluster, Rng, WorkDir};
use crate::say;
use crate::{CliError, Exit};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo tools campaign --kills 100\n  cargo tools campaign --data campaign-data --events \
    && cargo sim check-logs campaign-data/events"
)]
pub(super) struct Campaign {
    /// How many processes to kill, at least 1
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    kills: u32,
    /// Nodes, 2 to 16
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(2..=16))]
    nodes: u16,
    /// Clients, 1 to 64
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    clients: u32,
    /// Mean time between two rounds of kills, in ms, 1 to 60000
    #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pause_ms: u64,
    /// Mean pause of a client between two transactions, in ms, 0 to 60000
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    think_ms: u64,
    /// Seed of the random number generator, 64 bits [default: random]
    #[arg(long)]
    seed: Option<u64>,
    /// A new directory for everything: data, logs, and the events for `cargo sim check-logs`
    /// [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Write every input and effect of every node, into DIR/events
    #[arg(long, requires = "data")]
    events: bool,
}

/// How long the cluster may take to decide everything after the last kill.
// Many times the longest retry interval of the nodes: only a real blockage takes as long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) async fn run(campaign: &Campaign, program: PathBuf) -> Result<Exit, CliError> {
    // Differs from run to run; the first line of output shows it.
    let seed = campaign.seed.unwrap_or_else(|| u64::from(std::process::id()) << 32 | 0x5747);
    let mut work_dir = WorkDir::new(campaign.data.as_deref(), "campaign")?;
    let mut cluster = start_cluster(campaign, program, &work_dir).await?;
    say!(
        "{} kills among {} nodes, {} clients, --seed {seed}",
        campaign.kills,
        campaign.nodes,
        campaign.clients
    )?;
    let checked = kill_and_check(campaign, &mut cluster, seed).await;
    let removes_directory = match &checked {
        Ok(report) => report.is_clean(),
        // A closed standard output is not an error of the campaign.
        Err(error) => error.is::<std::io::Error>(),
    };
    if !removes_directory {
        work_dir.keep();
        say!("data and logs are in {}", work_dir.path.display())?;
    }
    let report = checked?;
    match (report.is_clean(), report.committed) {
        (false, _) => Ok(Exit::Violation),
        // Without a commit there was nothing that a kill could have lost.
        (true, 0) => Err("inconclusive: no transaction committed; increase --kills".into()),
        (true, _) => Ok(Exit::Success),
    }
}

/// Short retry intervals and small logs, so that kills fall into retries and compactions.
const FLAGS: [&str; 10] = [
    "--log",
    "warn",
    "--vote-timeout-ms",
    "500",
    "--retry-first-ms",
    "50",
    "--retry-max-ms",
    "400",
    "--compact-at-bytes",
    "100000",
];

/// Starts all nodes, and waits until they are ready.
async fn start_cluster(
    campaign: &Campaign,
    program: PathBuf,
    work_dir: &WorkDir,
) -> Result<Cluster, CliError> {
    let events = work_dir.path.join("events").display().to_string();
    let mut flags = FLAGS.to_vec();
    if campaign.events {
        flags.extend(["--events", &events]);
    }
    let mut cluster = Cluster::new(program, campaign.nodes, &work_dir.path, &flags)?;
    for node in 0..usize::from(campaign.nodes) {
        cluster.start(node)?;
    }
    cluster.statuses().await?;
    Ok(cluster)
}

/// Runs clients and kills, and checks the cluster afterwards.
async fn kill_and_check(
    campaign: &Campaign,
    cluster: &mut Cluster,
    seed: u64,
) -> Result<CampaignReport, CliError> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = spawn_clients(campaign, cluster, seed, &stop);
    let began = Instant::now();
    let killed = kill_nodes(campaign, cluster, Rng::new(seed)).await;
    stop.store(true, Ordering::Relaxed);
    let nodes = usize::from(campaign.nodes);
    let crashed = (0..nodes).find(|node| !cluster.is_up(*node));
    let mut transactions = Vec::new();
    while let Some(client) = clients.join_next().await {
        transactions.extend(client?);
    }
    let kill_counts = killed?;
    if let Some(node) = crashed {
        return Err(format!("n{node} exited unexpectedly: {}", cluster.last_log_line(node)).into());
    }
    say!("{kill_counts}, in {} s", began.elapsed().as_secs())?;
    let report = report::check_cluster(cluster, transactions, nodes, IDLE_TIMEOUT).await?;
    say!("{report}")?;
    Ok(report)
}

fn spawn_clients(
    campaign: &Campaign,
    cluster: &Cluster,
    seed: u64,
    stop: &Arc<AtomicBool>,
) -> JoinSet<Vec<clients::AttemptedTx>> {
    let mut clients = JoinSet::new();
    for number in 1..=campaign.clients {
        let addresses =
            (0..usize::from(campaign.nodes)).map(|node| cluster.address(node)).collect();
        let rng = Rng::new(seed ^ u64::from(number).rotate_left(48));
        let think = Duration::from_millis(campaign.think_ms);
        let name = cluster.name.clone();
        clients.spawn(clients::run_client(number, name, addresses, rng, think, Arc::clone(stop)));
    }
    clients
}

/// The numbers of kills, and of rounds by their size.
#[derive(Debug, Default)]
struct KillCounts {
    kills: u32,
    single_node: u32,
    several_nodes: u32,
    all_nodes: u32,
    in_recovery: u32,
}

impl std::fmt::Display for KillCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} kills: {} rounds killed one node, {} several, {} all; {} kills during recovery",
            self.kills, self.single_node, self.several_nodes, self.all_nodes, self.in_recovery
        )
    }
}

async fn kill_nodes(
    campaign: &Campaign,
    cluster: &mut Cluster,
    mut rng: Rng,
) -> Result<KillCounts, CliError> {
    let nodes = usize::from(campaign.nodes);
    let mut kill_counts = KillCounts::default();
    let pause = usize::try_from(campaign.pause_ms)?;
    let progress = crate::progress();
    while kill_counts.kills < campaign.kills {
        progress.set_message(format!("{} of {} kills", kill_counts.kills, campaign.kills));
        sleep(Duration::from_millis(rng.below(2 * pause + 1) as u64)).await;
        let mut victims: Vec<usize> = (0..nodes).collect();
        for at in 0..nodes {
            // Fisher and Yates: every order is equally likely, so every prefix is a fair choice.
            victims.swap(at, at + rng.below(nodes - at));
        }
        match rng.below(10) {
            // One round in ten: no node keeps any state in memory, so recovery starts from the logs
            // alone.
            0 => kill_counts.all_nodes += 1,
            // Two rounds in ten: a coordinator and its participants at once, for example.
            1 | 2 => {
                victims.truncate(2 + rng.below(nodes - 1));
                kill_counts.several_nodes += 1;
            }
            _ => {
                victims.truncate(1);
                kill_counts.single_node += 1;
            }
        }
        for victim in &victims {
            // Before the kill: a node that ended by itself has a bug, which the kill would hide.
            if !cluster.is_up(*victim) {
                return Err(format!(
                    "n{victim} exited unexpectedly: {}",
                    cluster.last_log_line(*victim)
                )
                .into());
            }
            cluster.kill(*victim)?;
            kill_counts.kills += 1;
        }
        for victim in victims {
            // Victims of one round come back one after another, so that the first meets absent
            // peers.
            sleep(Duration::from_millis(rng.below(60) as u64)).await;
            cluster.start(victim)?;
            // Kills the recovering incarnation, perhaps more than once.
            // One start in three, and again after that with the same chance.
            while kill_counts.kills < campaign.kills && rng.below(3) == 0 {
                // A boot takes a few syncs of the disk, so a kill in this range meets all its
                // steps.
                sleep(Duration::from_micros(rng.below(25_000) as u64)).await;
                cluster.kill(victim)?;
                kill_counts.kills += 1;
                kill_counts.in_recovery += 1;
                cluster.start(victim)?;
            }
        }
    }
    Ok(kill_counts)
}
