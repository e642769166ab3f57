//! The command `bench`: events and runs per second on one thread.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a benchmark looks at the wall clock"
)]
#![allow(clippy::float_arithmetic, reason = "rates of a report")]

use std::time::Instant;
use stormglass_node::Micros;

use super::args::Bench;
use super::say::say;
use super::{Exit, usage};
use crate::protocol::{BenchRun, Protocol};
use crate::tally::Tally;

/// Runs the benchmark on one thread and prints one line of JSON.
pub(super) fn run<P: Protocol>(protocol: &P, args: &Bench) -> Exit {
    let last = match usage::last_seed(args.first_seed, args.seeds) {
        Ok(last) => last,
        Err(exit) => return exit,
    };
    // The simulator itself computes with integers only.
    let run = BenchRun { nodes: args.nodes, txns: args.txns, lose: (args.loss * 65_536.0) as u32 };
    let Some(mut bench) = protocol.bench(run) else {
        eprintln!("error: {} has no benchmark", protocol.name());
        return Exit::Other;
    };
    let mut tally = Tally::default();
    let mut committed = 0;
    let mut aborted = 0;
    let mut virtual_time = Micros::ZERO;
    // After the benchmark is built, so that only runs are measured.
    let began = Instant::now();
    for seed in args.first_seed..=last {
        let benched = bench(seed);
        if let Some(violation) = benched.outcome.violation {
            eprintln!("error: seed {seed}: {violation}");
            return Exit::of(&violation);
        }
        tally.merge(&benched.outcome.tally);
        committed += benched.committed;
        aborted += benched.aborted;
        virtual_time += benched.virtual_time;
    }
    let wall_s = began.elapsed().as_secs_f64();
    let line = serde_json::json!({
        "peer": "stormglass",
        "nodes": args.nodes, "txns": args.txns, "seeds": args.seeds, "loss": args.loss, "first_seed": args.first_seed,
        "messages_delivered": tally.delivered,
        "events": tally.events,
        "committed": committed,
        "aborted": aborted,
        "wall_s": wall_s,
        "msgs_per_s": per_s(tally.delivered, wall_s),
        "seeds_per_s": per_s(args.seeds, wall_s),
        "sim_s_per_wall_s": per_s(virtual_time.0 / 1_000_000, wall_s),
        "peak_rss_kib": peak_rss_kib(),
    });
    say!("{line}");
    Exit::Clean
}

fn per_s(count: u64, wall_s: f64) -> u64 {
    (count as f64 / wall_s) as u64
}

/// The greatest resident memory of this process; `None` where the system does not report it.
fn peak_rss_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
