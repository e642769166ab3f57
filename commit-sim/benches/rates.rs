//! Messages per second, beside a loop that only delivers them: `cargo bench -p stormglass-sim`.
//!
//! Absolute rates drift with the machine and its neighbours, so both run in one process,
//! interleaved, and the result is the median of the ratios. No timing makes this benchmark fail.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a benchmark looks at the wall clock"
)]
#![allow(clippy::float_arithmetic, reason = "rates of a report")]

use std::time::Instant;

use stormglass_commit_sim::Commit;
use stormglass_sim::protocol::{BenchResult, BenchRun, Protocol};

mod bare;

// Odd, so that the median is one of the measured rates.
const ROUNDS: u64 = 21;
const TXNS: u32 = 100;
/// Seeds per round: some hundred thousand messages each.
const SEEDS: u64 = 25;
/// 5 %, in 65,536ths.
const LOSE: u32 = 65_536 / 20;

/// The simulator or the bare loop: runs a seed, returns the number of delivered messages.
type Run = Box<dyn FnMut(u64) -> u64>;

struct Benchmark {
    name: &'static str,
    /// How many of its seeds take about as long as [`SEEDS`] of the first benchmark.
    seeds: u64,
    run: Run,
    rates: Vec<f64>,
}

fn main() {
    // `cargo test --all-targets` runs this too, without this argument.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("to measure, run: cargo bench -p stormglass-sim");
        return;
    }
    let benchmark = |name, seeds, run| Benchmark { name, seeds, run, rates: Vec::new() };
    let mut all = [
        benchmark("stormglass, 4 nodes", SEEDS, simulator_run(4, 0)),
        benchmark("bare loop, 4 nodes", SEEDS * 8, Box::new(|seed| bare::run(4, TXNS, 0, seed))),
        benchmark(
            "bare loop, 4 nodes, 5 % loss",
            SEEDS * 8,
            Box::new(|seed| bare::run(4, TXNS, LOSE, seed)),
        ),
        benchmark("stormglass, 32 nodes", SEEDS / 8, simulator_run(32, 0)),
        benchmark("stormglass, 4 nodes, 5 % loss", SEEDS, simulator_run(4, LOSE)),
    ];
    for round in 0..=ROUNDS {
        for benchmark in &mut all {
            // Every round has seeds of its own: none runs as many as 1,000.
            let rate = measure(benchmark, 1 + round * 1_000);
            // The first round only warms up.
            if round > 0 {
                benchmark.rates.push(rate);
            }
        }
    }
    report(&all);
}

fn simulator_run(nodes: u16, lose: u32) -> Run {
    let mut bench = Commit
        .bench(BenchRun { nodes, txns: TXNS, lose })
        .expect("two-phase commit has a benchmark");
    Box::new(move |seed| {
        let BenchResult { outcome, .. } = bench(seed);
        assert!(outcome.violation.is_none(), "seed {seed}: {:?}", outcome.violation);
        outcome.tally.delivered
    })
}

fn measure(benchmark: &mut Benchmark, first: u64) -> f64 {
    let began = Instant::now();
    let delivered: u64 = (first..first + benchmark.seeds).map(&mut benchmark.run).sum();
    delivered as f64 / began.elapsed().as_secs_f64()
}

fn report([simulator, bare, bare_lossy, many, lossy]: &[Benchmark; 5]) {
    println!("messages per second, median (min to max) of {ROUNDS} interleaved rounds");
    for benchmark in [simulator, bare, many, lossy, bare_lossy] {
        let [least, median, most] = spread(benchmark.rates.clone()).map(|rate| rate / 1e6);
        println!("  {:<32} {median:6.2} M  ({least:.2} to {most:.2})", benchmark.name);
    }
    println!("ratios, median (min to max) of the rounds");
    let ratio = |label: &str, a: &Benchmark, b: &Benchmark, goal: &str| {
        let ratios = a.rates.iter().zip(&b.rates).map(|(a, b)| a / b).collect();
        let [least, median, most] = spread(ratios);
        println!("  {label:<32} {median:6.3}    ({least:.3} to {most:.3}), goal {goal}");
    };
    ratio("stormglass / bare loop", simulator, bare, "1/6 = 0.167");
    ratio("32 nodes / 4 nodes", many, simulator, "0.70");
    ratio("5 % loss / no loss", lossy, simulator, "0.70");
}

fn spread(mut of: Vec<f64>) -> [f64; 3] {
    of.sort_by(f64::total_cmp);
    [of[0], of[of.len() / 2], of[of.len() - 1]]
}
