//! `cargo tools bench --one-shot`: clients that send one transaction each, as every `stormglass tx`
//! does. A coordinator has to remember each for a while, and not for ever.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stormglass::client::{ClientOptions, TxResult};
use tokio::time::Instant;

use super::{Bench, Workload, operations, start_cluster};
use crate::cluster::{Cluster, Rng, WorkDir};
use crate::{CliError, Exit, say};

/// Connections, unless `--clients` says otherwise.
const CONNECTIONS: u32 = 64;

/// Rows of the table.
const ROWS: u64 = 10;

pub(super) async fn run(bench: &Bench, program: PathBuf, count: u64) -> Result<Exit, CliError> {
    let work_dir = WorkDir::new(bench.data.as_deref(), "bench")?;
    let mut cluster = start_cluster(bench, program, &work_dir).await?;
    let connections = bench.clients.unwrap_or(CONNECTIONS);
    let run = bench.workload(connections);
    if !bench.json {
        say!(
            "{} nodes; {count} clients with one transaction each, {connections} at a time",
            bench.nodes
        )?;
        say!("{:>10} {:>9} {:>10} {:>10}", "clients", "commits/s", "memory MiB", "log MiB")?;
    }
    for row in 1..=ROWS {
        let clients = count * row / ROWS - count * (row - 1) / ROWS;
        let began = Instant::now();
        let commits = transact(&cluster, run, clients).await?;
        let rate = commits * 1_000 / u64::try_from(began.elapsed().as_millis())?.max(1);
        let statuses = cluster.statuses().await?;
        let memory = statuses.iter().map(|status| status.memory_bytes).max().unwrap_or(0);
        let files = statuses
            .iter()
            .map(|status| status.disk.files.iter().map(|file| file.bytes).sum::<u64>());
        let (memory, files) = (memory >> 20, files.max().unwrap_or(0) >> 20);
        let clients = count * row / ROWS;
        if bench.json {
            let row = serde_json::json!({
                "clients": clients, "commits_per_s": rate, "memory_mib": memory, "files_mib": files,
            });
            say!("{row}")?;
        } else {
            say!("{clients:>10} {rate:>9} {memory:>10} {files:>10}")?;
        }
    }
    let restart_ms = restart(&mut cluster).await?;
    if bench.json {
        say!("{}", serde_json::json!({ "restart_ms": restart_ms }))?;
    } else {
        say!("killed and started again: all nodes answer after {restart_ms} ms")?;
    }
    cluster.terminate_all()?;
    Ok(Exit::Success)
}

/// So many clients transact once each, some of them at a time. Returns how many committed.
async fn transact(cluster: &Cluster, run: Workload, clients: u64) -> Result<u64, CliError> {
    let left = Arc::new(AtomicU64::new(clients));
    let nodes = cluster.statuses().await?.len();
    let mut tasks = tokio::task::JoinSet::new();
    for connection in 0..run.clients {
        let coordinator = connection as usize % nodes;
        let mut client = cluster.client(coordinator, ClientOptions::default()).await?;
        let mut rng = Rng::new(client.number());
        let left = Arc::clone(&left);
        tasks.spawn(async move {
            let mut commits = 0;
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
            {
                client.become_another();
                let ops = operations(&mut rng, run, &run.keys_of(connection), coordinator, nodes);
                let result = client.transact(ops).await?;
                commits += u64::from(matches!(result, TxResult::Committed { .. }));
            }
            Ok::<u64, CliError>(commits)
        });
    }
    let mut commits = 0;
    while let Some(of_task) = tasks.join_next().await {
        commits += of_task??;
    }
    Ok(commits)
}

/// Kills all nodes and starts them again. Returns the time until all answer, in milliseconds.
async fn restart(cluster: &mut Cluster) -> Result<u64, CliError> {
    let nodes = cluster.statuses().await?.len();
    for node in 0..nodes {
        cluster.kill(node)?;
    }
    let began = Instant::now();
    for node in 0..nodes {
        cluster.start(node)?;
    }
    // A node listens before its peers have confirmed its incarnation.
    while !cluster.statuses().await?.iter().all(|status| status.view.ready) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(u64::try_from(began.elapsed().as_millis())?)
}
