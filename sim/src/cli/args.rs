//! The commands and their flags.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as Flags, Parser, Subcommand};
use stormglass_node::{Micros, NodeId, RequestId};

use crate::limits::RunLimits;
use crate::profile::{Profile, Setup};
use crate::protocol::Protocol;

#[derive(Debug, Parser)]
#[command(
    version,
    about = "Searches seeded simulations for property violations, and shrinks and replays them",
    after_help = "Exit codes:\n    0  clean\n    2  wrong usage\n   10  a safety property was violated\n   11  a liveness property was violated\n   12  not deterministic\n  130  interrupted without a failure\n    1  anything else"
)]
pub(super) struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run many seeds, on all cores, until one violates a property
    #[command(
        after_help = "Examples:\n  cargo sim hunt --seeds 100000\n  cargo sim hunt --seconds 60 --profile crashy"
    )]
    Hunt(Hunt),
    /// Run one seed or one schedule and print its trace, or run every schedule of a directory
    #[command(
        after_help = "Examples:\n  cargo sim replay 7\n  cargo sim replay 7 --request c1.4 --node 0\n  cargo sim replay 7 --only Vote,Commit\n  cargo sim replay 7 --state n1 --at-ms 120\n  cargo sim replay regressions/late-vote.schedule\n  cargo sim replay regressions/"
    )]
    Replay(Replay),
    /// Minimise a failing run: the same violation with fewer and simpler faults, requests and nodes
    #[command(
        after_help = "Examples:\n  cargo sim shrink 17\n  cargo sim shrink 17 -o regressions/late-vote.schedule\n  cargo sim shrink a.schedule"
    )]
    Shrink(Shrink),
    /// Show the first difference between two runs
    #[command(
        after_help = "Examples:\n  cargo sim diff a.schedule b.schedule\n  cargo sim diff 7 8"
    )]
    Diff(Diff),
    /// Run each seed twice and once from its recorded faults: all fingerprints must be equal
    #[command(
        after_help = "Examples:\n  cargo sim check-determinism\n  cargo sim check-determinism --seeds 10000 --profile everything"
    )]
    CheckDeterminism(CheckDeterminism),
    /// Run a benchmark of sequential transactions on one thread; prints one line of JSON
    #[command(
        after_help = "Example:\n  cargo sim bench --nodes 4 --txns 100 --seeds 2000 --loss 0.05"
    )]
    Bench(Bench),
    /// Check event logs of real nodes against every property that does not depend on the end of the
    /// fault phase
    #[command(
        after_help = "Example:\n  stormglass campaign --data DIR --events && cargo sim check-logs DIR/events"
    )]
    CheckLogs(CheckLogsArgs),
    /// List profiles and faults, with meaning and ranges
    Profiles,
}

#[derive(Clone, Copy, Debug, Flags)]
pub(super) struct RunArgs {
    /// Fault profile; `profiles` lists them [default: that of the protocol, mostly swarm]
    #[arg(long, value_enum)]
    pub profile: Option<Profile>,
    /// Nodes, 1 to 64; each seed draws its own number if not given
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub nodes: Option<u16>,
    /// Transactions, 1 to 1,000,000; each seed draws its own number if not given
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub txns: Option<u32>,
}

impl RunArgs {
    /// What is given here, and otherwise what the protocol sets.
    pub(super) fn setup<P: Protocol>(&self, protocol: &P) -> Setup {
        let of_protocol = protocol.setup();
        Setup {
            profile: self.profile.unwrap_or(of_protocol.profile),
            nodes: self.nodes.or(of_protocol.nodes),
            txns: self.txns.or(of_protocol.txns),
            ..of_protocol
        }
    }

    /// Whether any of them is given.
    pub(super) fn are_given(&self) -> bool {
        self.profile.is_some() || self.nodes.is_some() || self.txns.is_some()
    }
}

/// What a run may cost, where it is not what the protocol sets. Not the number of events: a seed
/// must end in a replay as it did in the hunt.
#[derive(Clone, Copy, Debug, Flags)]
pub(super) struct LimitArgs {
    /// A run that takes more wall time ends the hunt, which names its seed [default: that of the
    /// protocol, mostly 60]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub run_seconds: Option<u32>,
    /// A process with more memory ends the hunt, which names the seeds that are running [default:
    /// that of the protocol, mostly 2048]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..))]
    pub memory: Option<u64>,
}

impl LimitArgs {
    pub(super) fn limits<P: Protocol>(&self, protocol: &P) -> RunLimits {
        let mut limits = protocol.limits();
        if let Some(seconds) = self.run_seconds {
            limits = limits.wall_max(Duration::from_secs(seconds.into()));
        }
        if let Some(mib) = self.memory {
            limits = limits.memory_max_mib(mib);
        }
        limits
    }
}

#[derive(Debug, Flags)]
pub(super) struct Hunt {
    /// How many seeds [default: 10000, or as many as there is time for]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub seeds: Option<u32>,
    /// For how many seconds of wall time at most
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub seconds: Option<u32>,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    pub first_seed: u64,
    /// Threads, 1 to 1,024 [default: all cores]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub jobs: Option<u16>,
    /// Go on after a failure; list the first failing seeds of each property, and count all
    #[arg(long)]
    pub keep_going: bool,
    /// Fail if a `sometimes` counter stays at zero
    #[arg(long)]
    pub require_sometimes: bool,
    /// Print the report as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where the shrunk schedule of a failure is written [default: regressions]
    #[arg(long, value_name = "DIR", conflicts_with = "no_shrink")]
    pub save: Option<PathBuf>,
    /// Do not shrink a failing seed, and write no schedule
    #[arg(long)]
    pub no_shrink: bool,
    #[command(flatten)]
    pub shrink_args: ShrinkArgs,
    #[command(flatten)]
    pub limit_args: LimitArgs,
    #[command(flatten)]
    pub run_args: RunArgs,
}

/// The greatest length of a run, in milliseconds.
// Eleven days of virtual time; times a thousand it still fits 64 bits many times over.
const MS_MAX: u64 = 1_000_000_000;

#[derive(Debug, Flags)]
pub(super) struct Replay {
    /// A seed, a schedule (`.schedule`), or a directory of schedules
    #[arg(value_name = "SEED|FILE|DIR")]
    pub target: String,
    /// Print JSON lines
    #[arg(long)]
    pub json: bool,
    /// Only the causes of a violation, and which faults are needed
    #[arg(long, conflicts_with_all = ["json", "state", "Selection"])]
    pub explain: bool,
    /// Only the state of this node (n1), at the violation, at the end of the run, or at --at-ms
    #[arg(long, value_name = "NODE", value_parser = node, conflicts_with_all = ["json", "Selection"])]
    pub state: Option<NodeId>,
    /// The virtual time of --state, in milliseconds, as a trace shows it (120.5): after everything
    /// that happens up to then
    #[arg(long, requires = "state", value_parser = millis)]
    pub at_ms: Option<Micros>,
    #[command(flatten)]
    pub selection: Selection,
    /// Colours: on a terminal, unless NO_COLOR is set; always; or never
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    pub color: Color,
    #[command(flatten)]
    pub run_args: RunArgs,
}

/// Which lines of a trace are printed.
#[derive(Clone, Debug, Flags)]
pub(super) struct Selection {
    /// Only what happens to this node (n1, or its number)
    #[arg(long, value_parser = node)]
    pub node: Option<NodeId>,
    /// Only what concerns this request (c1.4)
    #[arg(long, value_parser = request)]
    pub request: Option<RequestId>,
    /// Only lines of these kinds: of message, request, response, record or event (Vote,Commit), or
    /// the verb of another line (wake,done,sync,boot,process,fault,run)
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    pub only: Vec<String>,
    /// No lines of these kinds
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    pub hide: Vec<String>,
    /// Also wakes without effect, and messages that nodes send over and over, as heartbeats
    #[arg(long)]
    pub all: bool,
    /// Only from this virtual time on, in milliseconds (120.5) [default: 0]
    #[arg(long, value_parser = millis)]
    pub from_ms: Option<Micros>,
    /// Only up to this virtual time, in milliseconds [default: the end]
    #[arg(long, value_parser = millis)]
    pub to_ms: Option<Micros>,
}

impl Selection {
    /// Whether anything is selected.
    pub(super) fn is_given(&self) -> bool {
        let Selection { node, request, only, hide, all, from_ms, to_ms } = self;
        let has_filter = node.is_some() || request.is_some();
        let has_time = from_ms.is_some() || to_ms.is_some();
        has_filter || has_time || !only.is_empty() || !hide.is_empty() || *all
    }
}

/// Whether output has colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Color {
    Auto,
    Always,
    Never,
}

/// How far a shrink goes.
#[derive(Clone, Copy, Debug, Flags)]
pub(super) struct ShrinkArgs {
    /// For how many seconds at most a schedule is shrunk
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    pub shrink_seconds: u32,
    /// Shrink also to fewer nodes and to other faults than the settings allow
    #[arg(long)]
    pub shrink_to_any: bool,
}

#[derive(Debug, Flags)]
pub(super) struct Shrink {
    /// A seed or a schedule (`.schedule`)
    #[arg(value_name = "SEED|FILE")]
    pub target: String,
    /// Where to write the schedule; printed if not given
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub shrink_args: ShrinkArgs,
    #[command(flatten)]
    pub run_args: RunArgs,
}

#[derive(Debug, Flags)]
pub(super) struct Diff {
    /// A seed or a schedule (`.schedule`)
    #[arg(value_name = "A")]
    pub one: String,
    /// Another
    #[arg(value_name = "B")]
    pub other: String,
    #[command(flatten)]
    pub run_args: RunArgs,
}

#[derive(Debug, Flags)]
pub(super) struct CheckDeterminism {
    /// How many seeds
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    pub first_seed: u64,
    #[command(flatten)]
    pub run_args: RunArgs,
}

/// A text is no node's number.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("expected a node's number, like 0 or n0")]
struct ParseNodeError;

fn node(text: &str) -> Result<NodeId, ParseNodeError> {
    let number = text.strip_prefix('n').unwrap_or(text);
    number.parse().map(NodeId).map_err(|_| ParseNodeError)
}

/// A text is no virtual time.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("expected milliseconds, 0 to {}, with at most three decimals: 120 or 120.5", MS_MAX)]
struct ParseMillisError;

/// Milliseconds with up to three decimals, as traces show them.
fn millis(text: &str) -> Result<Micros, ParseMillisError> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let only_digits = [whole, decimals].iter().all(|part| {
        // `parse` would accept a sign.
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
    });
    let whole = whole.parse().ok().filter(|ms| *ms <= MS_MAX && only_digits);
    let micros = format!("{decimals:0<3}").parse::<u64>().ok().filter(|_| decimals.len() <= 3);
    let (Some(whole), Some(micros)) = (whole, micros) else { return Err(ParseMillisError) };
    Ok(Micros::from_millis(whole) + Micros(micros))
}

/// A text is no request's name.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("expected a request's name, like c1.4")]
struct ParseRequestError;

fn request(text: &str) -> Result<RequestId, ParseRequestError> {
    let parts = text.strip_prefix('c').and_then(|rest| rest.split_once('.'));
    let (client, serial) = parts.ok_or(ParseRequestError)?;
    Ok(RequestId {
        client: client.parse().map_err(|_| ParseRequestError)?,
        // No attempt: the filter shows all attempts of a request.
        serial: serial.parse().map_err(|_| ParseRequestError)?,
        attempt: 0,
    })
}

#[derive(Debug, Flags)]
pub(super) struct Bench {
    /// Nodes, 1 to 64; all take part in every transaction
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub nodes: u16,
    /// Transactions a seed, 1 to 100,000
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub txns: u32,
    /// How many seeds
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// Probability that a message is lost, 0 to 0.5
    #[arg(long, default_value_t = 0.0, value_parser = chance)]
    pub loss: f64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    pub first_seed: u64,
}

/// A text is no probability of loss.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("expected a number from 0 to 0.5")]
struct ParseChanceError;

fn chance(text: &str) -> Result<f64, ParseChanceError> {
    let chance: f64 = text.parse().map_err(|_| ParseChanceError)?;
    // NaN is in no range, so it is refused as well.
    if (0.0..=0.5).contains(&chance) { Ok(chance) } else { Err(ParseChanceError) }
}

#[derive(Debug, Flags)]
pub(super) struct CheckLogsArgs {
    /// Event logs of all nodes and all their incarnations, or directories of them
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<std::path::PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_times_are_read_as_traces_show_them() {
        let read = ["120", "120.5", "0.001", "20.450"].map(|text| millis(text).ok());
        let us = [120_000, 120_500, 1, 20_450].map(|us| Some(Micros(us)));
        assert_eq!(read, us);
        for wrong in ["", ".5", "5.", "-1", "+1", "1.0005", "1e3", "1000000001", "99999999999999"] {
            assert!(millis(wrong).is_err(), "{wrong}");
        }
    }
}
