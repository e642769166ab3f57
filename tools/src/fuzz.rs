//! `cargo tools fuzz`: malformed frames against a running node.
//!
//! Every frame must be rejected: random bytes, a damaged header or payload, an excessive length, an
//! intact frame with a value that does not decode, a truncated frame, a connection without any
//! byte. Nothing may change at the node but its log. Meanwhile the node's peers and clients must be
//! served as usual.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::frame_fuzzer::FrameFuzzer;
use clap::Args;
use stormglass::client::{ClientOptions, TxResult};
use stormglass::commit::Op;
use stormglass::commit::view::View;
use stormglass_node::runtime::Status;
use tokio::time::Instant;

use crate::cluster::{Cluster, Rng, WorkDir};
use crate::say;
use crate::{CliError, Exit};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo tools fuzz --frames 1000000 --connections 16 --seed 7")]
pub(super) struct Fuzz {
    /// How many frames, at least 1
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    frames: u64,
    /// Connections at one time, 1 to 128
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=128))]
    connections: u64,
    /// Seed of the random number generator, 64 bits
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The node that is listed as a peer and never runs: messages are sent in its name.
const ABSENT: u16 = 3;

/// A node's memory may grow by this much: buffers of connections, and memory that the allocator
/// keeps.
// A leak of a few bytes a frame exceeds it, as there are ten million frames by default.
const GROWTH_BYTES_MAX: u64 = 32 << 20;

pub(super) async fn run(fuzz: &Fuzz, program: PathBuf) -> Result<Exit, CliError> {
    let mut work_dir = WorkDir::new(None, "fuzz")?;
    let mut cluster = Cluster::new(program, ABSENT + 1, &work_dir.path, &["--log", "warn"])?;
    for node in 0..usize::from(ABSENT) {
        cluster.start(node)?;
    }
    let target = cluster.address(0);
    commit_one(&cluster, 1).await?;
    // After a first transaction: links are connected and the buffers of a usual request are
    // allocated.
    let before = status(&cluster).await?;
    let began = Instant::now();
    let sent = Arc::new(AtomicU64::new(0));
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..fuzz.connections {
        let frames =
            // The remainder is spread over the first senders, so that the sum is exact.
            fuzz.frames / fuzz.connections + u64::from(sender < fuzz.frames % fuzz.connections);
        senders.spawn(send(
            cluster.name.clone(),
            target.clone(),
            frames,
            // Each sender has frames of its own, and the seed repeats all of them.
            Rng::new(fuzz.seed ^ sender.rotate_left(32)),
            Arc::clone(&sent),
        ));
    }
    let mut connections = 0;
    let mut most_bytes = before.memory_bytes;
    let mut served = 0u32;
    let mut committed_meanwhile = 0;
    let mut slowest = Duration::ZERO;
    let progress = crate::progress();
    // The first transaction at once: a few frames take less than an interval.
    let mut turn = tokio::time::interval(Duration::from_millis(500));
    // A slow transaction is not followed by a burst of others, which would load the node itself.
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            done = senders.join_next() => match done {
                None => break,
                Some(dialled) => connections += dialled??,
            },
            _ = turn.tick() => {
                let asked = Instant::now();
                // n1 and n2 in turn: the target is a participant, reached over either link.
                commit_one(&cluster, 1 + served % 2).await?;
                slowest = slowest.max(asked.elapsed());
                served += 1;
                // One that ends after the last frame shows nothing about the frames.
                committed_meanwhile += u32::from(sent.load(Ordering::Relaxed) < fuzz.frames);
                most_bytes = most_bytes.max(status(&cluster).await?.memory_bytes);
                let so_far = sent.load(Ordering::Relaxed);
                progress.set_message(format!("{so_far} of {} frames, {served} transactions", fuzz.frames));
            }
        }
    }
    drop(progress);
    commit_one(&cluster, 1).await?;
    let after = status(&cluster).await?;
    say!(
        "{} frames over {connections} connections in {} s",
        fuzz.frames,
        began.elapsed().as_secs()
    )?;
    say!(
        "meanwhile {committed_meanwhile} transactions across all nodes committed, the slowest in {} ms",
        slowest.as_millis()
    )?;
    say!(
        "memory of the node: {} KiB before, {} KiB at most, {} KiB after",
        before.memory_bytes >> 10,
        most_bytes >> 10,
        after.memory_bytes >> 10
    )?;
    let same = compare_statuses(&before, &after, u64::from(served) + 1);
    for difference in &same {
        say!("  {difference}")?;
    }
    let alive = cluster.is_up(0);
    let ended = cluster.terminate_all()?;
    let clean = alive && ended.iter().all(std::process::ExitStatus::success);
    if clean && same.is_empty() && most_bytes < before.memory_bytes + GROWTH_BYTES_MAX {
        if committed_meanwhile == 0 {
            return Err(
                "inconclusive: all frames were sent before a transaction completed; increase --frames"
                    .into(),
            );
        }
        say!("no other state changed")?;
        return Ok(Exit::Success);
    }
    work_dir.keep();
    say!(
        "last log line of the node: {}; data and logs are in {}",
        cluster.last_log_line(0),
        work_dir.path.display()
    )?;
    Ok(Exit::Violation)
}

/// Only the valid requests may have changed the status.
fn compare_statuses(before: &Status<View>, after: &Status<View>, transactions: u64) -> Vec<String> {
    let pairs = [
        ("incarnation", before.view.incarnation.to_u64(), after.view.incarnation.to_u64()),
        ("transactions begun", before.view.begun, after.view.begun),
        ("keys", before.view.keys, after.view.keys),
        // A participant of a commit writes two records, `Prepared` and `Committed`.
        ("records", before.view.log.appended + 2 * transactions, after.view.log.appended),
        ("peers", connected_peers(before), connected_peers(after)),
    ];
    let mut differences = Vec::new();
    for (what, before, after) in pairs {
        if before != after {
            differences.push(format!("{what}: {before} before, {after} after"));
        }
    }
    differences
}

fn connected_peers(status: &Status<View>) -> u64 {
    status.links.iter().filter(|link| link.connected).count() as u64
}

async fn status(cluster: &Cluster) -> Result<Status<View>, CliError> {
    let mut client = cluster.client(0, ClientOptions::default()).await?;
    // The END and Ack of the last transaction follow a moment later.
    for _ in 0..2_000 {
        let status = client.status().await?;
        // The two peers that run; the third one never connects.
        if status.view.idle && connected_peers(&status) >= 2 {
            return Ok(status);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err(format!("n0 does not become idle; its last log line: {}", cluster.last_log_line(0)).into())
}

/// A transaction of another coordinator in which the target takes part.
async fn commit_one(cluster: &Cluster, coordinator: u32) -> Result<(), CliError> {
    let mut client = cluster.client(coordinator as usize, ClientOptions::default()).await?;
    let ops = ["add k=1 @0", "add k=1 @1", "add k=1 @2"];
    let ops: Result<Vec<Op>, _> = ops.iter().map(|op| op.parse()).collect();
    match client.transact(ops?).await? {
        TxResult::Committed { .. } => Ok(()),
        other @ (TxResult::Aborted { .. } | TxResult::Unknown { .. }) => {
            Err(format!("a transaction during fuzzing did not commit: {other:?}").into())
        }
    }
}

/// Sends frames, over as many connections as needed; returns the number of connections.
async fn send(
    cluster: String,
    address: String,
    frames: u64,
    mut rng: Rng,
    all: Arc<AtomicU64>,
) -> Result<u64, CliError> {
    let mut sent = 0;
    let mut connections = 0;
    while sent < frames {
        let fuzzer = FrameFuzzer {
            cluster: &cluster,
            absent: stormglass_node::NodeId(ABSENT),
            target: stormglass_node::NodeId(0),
        };
        let more = fuzzer.run_connection(&address, frames - sent, &mut || rng.next_u64()).await?;
        sent += more;
        all.fetch_add(more, Ordering::Relaxed);
        connections += 1;
    }
    Ok(connections)
}
