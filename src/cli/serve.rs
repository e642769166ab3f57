//! `stormglass serve`: one node of a cluster, from flags or a file.

mod file;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use stormglass::commit::{CommitNode, Config};
use stormglass_node::runtime::{
    Ending, Journal, Observer, Settings, raise_descriptor_limit, start,
};
use stormglass_node::{HaltReason, Incarnation, Micros, NodeId};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};

use file::File;

use super::address::{Address, ParseAddressError, host_and_port};
use super::{CliError, Exit, UsageError};
use stormglass::commit::op_text::{ParseOpError, node_of};

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  stormglass serve --id 0 --peer 0=127.0.0.1:3000 --peer 1=127.0.0.1:3001 --data data/n0\n\
    \nThe same as a file, for --config:\n  id = 0\n  data = \"data/n0\"\n  [peers]\n  0 = \"127.0.0.1:3000\"\n  1 = \"127.0.0.1:3001\""
)]
pub(super) struct Serve {
    /// A TOML file with the same settings; flags take precedence
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The number of this node, 0 to 65535
    #[arg(long, value_parser = node_of)]
    id: Option<NodeId>,
    /// A node of the cluster and its address, for every node, this one included
    #[arg(long = "peer", value_name = "ID=HOST:PORT", value_parser = peer)]
    peers: Vec<(NodeId, String)>,
    /// The data directory; belongs to this node permanently
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The address to listen on, if not that of the list of peers
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    listen: Option<String>,
    /// The name of the cluster [default: stormglass]
    #[arg(long)]
    cluster: Option<String>,
    /// How long a clean shutdown waits for running transactions, in seconds, 0 to 86400
    /// [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=PATIENCE_S_MAX))]
    patience_s: Option<u64>,
    /// Write every input and effect into this directory, for `cargo sim check-logs`
    #[arg(long, value_name = "DIR")]
    events: Option<PathBuf>,
    /// A node of the cluster that is lost for good: it is not waited for. Repeat it for several
    #[arg(long = "lost", value_name = "ID", value_parser = node_of)]
    lost: Vec<NodeId>,
    /// Begin after this incarnation of this node, which a refusal by a peer has named, although the
    /// data directory knows nothing of it: what it did is lost. Repeat it if peers name several
    #[arg(long = "replaces", value_name = "INCARNATION")]
    replaces: Vec<Incarnation>,
    /// Exit when standard input is closed, that is when the parent process exits
    #[arg(long, hide = true)]
    tethered: bool,
    #[command(flatten)]
    tuning: Tuning,
}

/// A day: longer values are probably in the wrong unit.
const PATIENCE_S_MAX: u64 = 86_400;
const MS_MAX: u64 = PATIENCE_S_MAX * 1_000;

/// Settings that rarely need to change.
#[derive(Clone, Copy, Debug, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tuning {
    /// How long a coordinator waits for votes, in ms, 1 to 86400000 [default: 2000]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=MS_MAX))]
    vote_timeout_ms: Option<u64>,
    /// After how long a message is first resent, in ms, 1 to 86400000 [default: 500]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=MS_MAX))]
    retry_first_ms: Option<u64>,
    /// The longest interval between two resends, in ms, 1 to 86400000 [default: 2000]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=MS_MAX))]
    retry_max_ms: Option<u64>,
    /// Answered requests remembered for each client, at least 1 [default: 1000]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    requests_kept: Option<u64>,
    /// The log is compacted at this many bytes, at least 1 [default: 4194304]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    compact_at_bytes: Option<u64>,
}

/// Why a text is not a node and its address.
#[derive(Debug, thiserror::Error)]
enum ParsePeerError {
    #[error("expected ID=HOST:PORT, like 1=127.0.0.1:3001")]
    NoEqualsSign,
    #[error(transparent)]
    Node(#[from] ParseOpError),
    #[error(transparent)]
    Address(#[from] ParseAddressError),
}

fn peer(text: &str) -> Result<(NodeId, String), ParsePeerError> {
    let (node, address) = text.split_once('=').ok_or(ParsePeerError::NoEqualsSign)?;
    Ok((node_of(node)?, host_and_port(address)?))
}

pub(super) async fn run(serve: Serve) -> Result<Exit, CliError> {
    let events = serve.events.clone();
    let tethered = serve.tethered;
    let (settings, config, events) = resolve(serve, events)?;
    let node = settings.node;
    // Without `--events` nothing observes, and the node pays nothing for it.
    let observer =
        events.map(|events| Box::new(Journal::new(&events)) as Box<dyn Observer<CommitNode>>);
    // Before the node starts, so that no signal is missed.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut stdin_closed = std::pin::pin!(stdin_closed(tethered));
    raise_descriptor_limit();
    let mut running = start::<CommitNode>(settings, &config, observer).await?;
    tracing::info!(%node, address = %running.address, "listening");
    // Peers have to welcome it first, and may not be there: it can be stopped meanwhile.
    let mut ready = std::pin::pin!(running.ready());
    let mut is_ready = false;
    let ending = loop {
        tokio::select! {
            incarnation = &mut ready, if !is_ready => {
                is_ready = true;
                if let Some(incarnation) = incarnation {
                    tracing::info!(%node, incarnation = %format_args!("{incarnation:#}"), "ready");
                }
            }
            _ = terminate.recv() => break shut_down(&mut running).await,
            _ = interrupt.recv() => break shut_down(&mut running).await,
            gone = &mut stdin_closed => {
                gone?;
                // The process that would benefit from a clean shutdown has ended.
                return Err(format!("{node} stopped: the parent process has exited").into());
            }
            ending = running.ended(), if is_ready => break ending,
        }
    };
    match ending {
        Ending::Stopped { idle: true } => Ok(Exit::Success),
        Ending::Stopped { idle: false } => Err(format!(
            "{node} stopped with transactions in progress; they resume at the next start"
        )
        .into()),
        Ending::DiskHung { operation } => Err(format!(
            "{node} stopped without its disk, which has been {operation}; check the disk: what had not \
             been synced may be lost, as after a crash"
        )
        .into()),
        Ending::Halted { reason: HaltReason::OperatorNeeded(reason), .. } => Err(format!(
            "{node} does not serve: {reason}; see \"A node that its peers refuse\" in \
             docs/operations.md"
        )
        .into()),
        Ending::Halted { reason: reason @ HaltReason::ProtocolFailed(_), .. } => Err(format!(
            "{node} halted: {reason}; restart the node, and report it with the log if it halts again"
        )
        .into()),
        Ending::Halted { reason, detail } => {
            let detail_suffix =
                if detail.is_empty() { String::new() } else { format!(" ({detail})") };
            Err(format!(
                "{node} halted: {reason}{detail_suffix}; check the disk, then restart the node"
            )
            .into())
        }
        Ending::ObserverFailed(error) => {
            Err(format!("{node} stopped: cannot write the event log: {error}").into())
        }
        Ending::EngineFailed { what } => {
            Err(format!("{node} stopped: {what}; this is a bug, please report it with the log")
                .into())
        }
        Ending::Terminated => Err(format!("{node} stopped").into()),
    }
}

/// Waits until standard input is closed; forever if the node is not tethered.
async fn stdin_closed(tethered: bool) -> io::Result<()> {
    if !tethered {
        return std::future::pending().await;
    }
    let mut input = pipe::Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?)?;
    // The parent writes nothing; what it might write is ignored, only the end counts.
    while input.read(&mut [0; 16]).await? > 0 {}
    Ok(())
}

async fn shut_down(running: &mut stormglass_node::runtime::RunningNode) -> Ending {
    running.stop();
    running.ended().await
}

/// Flags over file over defaults.
fn resolve(
    serve: Serve,
    events: Option<PathBuf>,
) -> Result<(Settings, Config, Option<PathBuf>), UsageError> {
    let file = serve.config.as_deref().map_or(Ok(File::default()), file::read)?;
    let node = serve
        .id
        .or(file.id.map(NodeId))
        .ok_or("the node id is missing: give --id, or `id` in the file")?;
    let data = serve
        .data
        .or(file.data)
        .ok_or("the data directory is missing: give --data, or `data` in the file")?;
    let peers = peers_of(file.peers.0, serve.peers)?;
    let Some(own) = peers.get(&node) else {
        return Err(format!(
            "the list of peers has no {node}, which is this node; add --peer {}=HOST:PORT",
            node.0
        )
        .into());
    };
    let listen =
        serve.listen.or(file.listen.map(|Address(listen)| listen)).unwrap_or_else(|| own.clone());
    // The list of peers is the cluster: a transaction with any other node is refused.
    let mut config = Config::new(peers.keys().copied());
    if let Some(stranger) = serve.lost.iter().find(|lost| !peers.contains_key(lost)) {
        return Err(format!("--lost {}: the list of peers has no {stranger}", stranger.0).into());
    }
    config.lost = serve.lost;
    config.replaces = serve.replaces;
    serve.tuning.merged_over(file.tuning).apply(&mut config)?;
    let patience_s = serve.patience_s.or(file.patience_s).unwrap_or(10);
    // clap has checked the flag; the file has been checked by nobody.
    if patience_s > PATIENCE_S_MAX {
        return Err(format!(
            "patience_s is {patience_s}; at most a day ({PATIENCE_S_MAX}) is allowed"
        )
        .into());
    }
    let settings = Settings {
        node,
        cluster: serve.cluster.or(file.cluster).unwrap_or_else(|| "stormglass".to_owned()),
        listen,
        peers,
        data,
        shutdown_timeout: Duration::from_secs(patience_s),
    };
    // The first frame of a connection, which contains the name, is at most 1 KiB.
    if settings.cluster.len() > 64 {
        return Err("the name of the cluster is longer than 64 bytes".into());
    }
    Ok((settings, config, events.or(file.events)))
}

/// Flags over file. One list must not have two addresses of one node, or one address of two.
fn peers_of(
    mut peers: BTreeMap<NodeId, String>,
    flags: Vec<(NodeId, String)>,
) -> Result<BTreeMap<NodeId, String>, UsageError> {
    let mut from_flags = BTreeMap::new();
    for (id, address) in flags {
        if from_flags.insert(id, address).is_some() {
            return Err(format!("{id} appears twice in the list of peers").into());
        }
    }
    // A flag replaces the line of the file for the same node.
    peers.extend(from_flags);
    let mut at: BTreeMap<&String, NodeId> = BTreeMap::new();
    for (id, address) in &peers {
        // Two nodes at one address: one of them would never be reached, and the other refuse its
        // messages.
        if let Some(other) = at.insert(address, *id) {
            return Err(
                format!("{other} and {id} are both at {address} in the list of peers").into()
            );
        }
    }
    Ok(peers)
}

impl Tuning {
    fn merged_over(self, file: Tuning) -> Tuning {
        Tuning {
            vote_timeout_ms: self.vote_timeout_ms.or(file.vote_timeout_ms),
            retry_first_ms: self.retry_first_ms.or(file.retry_first_ms),
            retry_max_ms: self.retry_max_ms.or(file.retry_max_ms),
            requests_kept: self.requests_kept.or(file.requests_kept),
            compact_at_bytes: self.compact_at_bytes.or(file.compact_at_bytes),
        }
    }

    fn apply(self, config: &mut Config) -> Result<(), UsageError> {
        let all_ms = [self.vote_timeout_ms, self.retry_first_ms, self.retry_max_ms];
        if let Some(ms) = all_ms.into_iter().flatten().find(|ms| !(1..=MS_MAX).contains(ms)) {
            return Err(
                format!("a time of {ms} ms: from 1 ms to a day ({MS_MAX} ms) is allowed").into()
            );
        }
        let set = |to: &mut Micros, ms: Option<u64>| {
            if let Some(ms) = ms {
                *to = Micros::from_millis(ms);
            }
        };
        set(&mut config.vote_timeout, self.vote_timeout_ms);
        set(&mut config.retry_first, self.retry_first_ms);
        set(&mut config.retry_max, self.retry_max_ms);
        if let Some(kept) = self.requests_kept {
            // More than a machine can address is no limit either.
            config.requests_kept = usize::try_from(kept).unwrap_or(usize::MAX);
        }
        config.compact_at_bytes = self.compact_at_bytes.unwrap_or(config.compact_at_bytes);
        // Checked after both are set: one may come from the flags and one from the file.
        if config.retry_max < config.retry_first {
            return Err("the longest retry interval is shorter than the first".into());
        }
        if config.requests_kept == 0 || config.compact_at_bytes == 0 {
            return Err("requests_kept and compact_at_bytes must be at least 1".into());
        }
        Ok(())
    }
}
