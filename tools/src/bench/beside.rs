//! `cargo tools bench --beside postgres`: commits per second of the nodes and of two-phase commit
//! between two instances of PostgreSQL, in turns on the same disk.
//!
//! Rates drift with the machine, and more than the ratio does: each round measures both systems,
//! one directly after the other. What is printed are the medians of the rounds.

use std::path::PathBuf;

use serde::Serialize;

use super::postgres::{self, PREPARED_MAX, Postgres};
use super::{Bench, Measurement, Tally, Workload, disk, measure, percentile, start_cluster};
use crate::cluster::WorkDir;
use crate::{CliError, Exit, UsageError, say};

/// A client's keys on each node and in each instance. Enough that its next transaction rarely needs
/// a key that the participant of the previous one has yet to unlock.
const KEYS_PER_CLIENT: u32 = 100;

pub(super) async fn run(bench: &Bench, program: PathBuf) -> Result<Exit, CliError> {
    if bench.clients.is_some_and(|clients| clients > PREPARED_MAX) {
        return Err(
            UsageError(format!("--beside compares at most {PREPARED_MAX} --clients")).into()
        );
    }
    let programs = postgres::find_programs()?;
    let work_dir = WorkDir::new(bench.data.as_deref(), "bench")?;
    let mut cluster = start_cluster(bench, program, &work_dir).await?;
    let postgres = Postgres::start(&programs, &work_dir.path).await?;
    if !bench.json {
        show_conditions(bench, &work_dir, &postgres).await?;
    }
    let mut stuck = false;
    for clients in bench.clients.map_or(vec![64, 1], |clients| vec![clients]) {
        let run = Workload {
            clients,
            keys: KEYS_PER_CLIENT,
            own_keys: true,
            span: 2,
            many: None,
            large: None,
        };
        let mut rounds = Vec::new();
        for round in 0..bench.rounds {
            // Neither is always the one that finds the disk as the other left it.
            let (ours, theirs);
            if round % 2 == 0 {
                ours = measure(&cluster, run, bench.seconds).await?;
                theirs = postgres.measure(run, bench.seconds).await?;
            } else {
                theirs = postgres.measure(run, bench.seconds).await?;
                ours = measure(&cluster, run, bench.seconds).await?;
            }
            rounds.push(Round {
                ours: Slice::from(ours),
                theirs: Slice::of_tally(theirs, bench.seconds),
            });
        }
        let comparison = Comparison::of(clients, bench.seconds, &rounds);
        stuck |= comparison.is_stuck();
        if bench.json {
            say!("{}", serde_json::to_string(&comparison)?)?;
        } else {
            comparison.show()?;
        }
    }
    cluster.terminate_all()?;
    Ok(if stuck { Exit::Violation } else { Exit::Success })
}

/// What is compared, and the head of the table.
async fn show_conditions(
    bench: &Bench,
    work_dir: &WorkDir,
    postgres: &Postgres,
) -> Result<(), CliError> {
    say!("{} nodes of stormglass, beside two instances of PostgreSQL, one machine", bench.nodes)?;
    say!("{}", postgres.settings().await?)?;
    say!("{}", disk(&work_dir.path)?)?;
    say!(
        "a transaction writes one key at each of two nodes or instances; each client has its own keys"
    )?;
    say!("the coordinator of PostgreSQL's transactions is the client. It keeps no log of its")?;
    say!("decisions, which is less work than a node's: prepared transactions stay in doubt if it")?;
    say!(
        "stops. It is done when both instances have committed, a node when its decision is durable"
    )?;
    say!(
        "medians of {} rounds, in each {} s of one, then of the other",
        bench.rounds,
        bench.seconds
    )?;
    say!(
        "{:>7} {:<11} {:>9} {:>8} {:>8} {:>8}",
        "clients",
        "system",
        "commits/s",
        "p50 us",
        "p99 us",
        "aborts"
    )?;
    Ok(())
}

/// One measurement of one system; or, of several, the median of each number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Slice {
    commits_per_s: u64,
    latency_us_p50: u64,
    latency_us_p99: u64,
    /// Aborted, or with an unknown outcome; of several measurements, all of them.
    aborts: u64,
}

impl From<Measurement> for Slice {
    fn from(of: Measurement) -> Slice {
        Slice {
            commits_per_s: of.commits_per_s,
            latency_us_p50: of.latency_us_p50,
            latency_us_p99: of.latency_us_p99,
            aborts: of.aborts + of.unknown,
        }
    }
}

impl Slice {
    fn of_tally(mut tally: Tally, seconds: u64) -> Slice {
        tally.latencies_us.sort_unstable();
        let all = &tally.latencies_us;
        Slice {
            commits_per_s: all.len() as u64 / seconds,
            latency_us_p50: percentile(all, 500),
            latency_us_p99: percentile(all, 990),
            aborts: tally.aborts + tally.unknown,
        }
    }

    fn median(of: &[Slice]) -> Slice {
        Slice {
            commits_per_s: median(of.iter().map(|slice| slice.commits_per_s)),
            latency_us_p50: median(of.iter().map(|slice| slice.latency_us_p50)),
            latency_us_p99: median(of.iter().map(|slice| slice.latency_us_p99)),
            aborts: of.iter().map(|slice| slice.aborts).sum(),
        }
    }

    fn show(&self, clients: u32, system: &str) -> Result<(), std::io::Error> {
        say!(
            "{clients:>7} {system:<11} {:>9} {:>8} {:>8} {:>8}",
            self.commits_per_s,
            self.latency_us_p50,
            self.latency_us_p99,
            self.aborts
        )
    }
}

/// Both systems, one directly after the other.
#[derive(Clone, Copy, Debug)]
struct Round {
    ours: Slice,
    theirs: Slice,
}

/// The result for one number of clients.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Comparison {
    clients: u32,
    rounds: usize,
    seconds: u64,
    stormglass: Slice,
    postgres: Slice,
    /// Of the medians of commits per second, in hundredths; 0 if PostgreSQL commits nothing.
    ratio_percent: u64,
    /// The least and the greatest ratio within a round.
    ratio_percent_min: u64,
    ratio_percent_max: u64,
}

impl Comparison {
    /// Of at least one round.
    fn of(clients: u32, seconds: u64, rounds: &[Round]) -> Comparison {
        let ours: Vec<Slice> = rounds.iter().map(|round| round.ours).collect();
        let theirs: Vec<Slice> = rounds.iter().map(|round| round.theirs).collect();
        let stormglass = Slice::median(&ours);
        let postgres = Slice::median(&theirs);
        let mut ratios: Vec<u64> =
            rounds.iter().map(|round| ratio_percent(&round.ours, &round.theirs)).collect();
        ratios.sort_unstable();
        Comparison {
            clients,
            rounds: rounds.len(),
            seconds,
            stormglass,
            postgres,
            ratio_percent: ratio_percent(&stormglass, &postgres),
            ratio_percent_min: ratios[0],
            ratio_percent_max: ratios[ratios.len() - 1],
        }
    }

    /// Whether a system committed nothing, so that there is no ratio.
    fn is_stuck(&self) -> bool {
        self.stormglass.commits_per_s == 0 || self.postgres.commits_per_s == 0
    }

    fn show(&self) -> Result<(), std::io::Error> {
        self.stormglass.show(self.clients, "stormglass")?;
        self.postgres.show(self.clients, "PostgreSQL")?;
        say!(
            "{:>7} {:<11} {:>9} (in a round {} to {})",
            self.clients,
            "ratio",
            hundredths(self.ratio_percent),
            hundredths(self.ratio_percent_min),
            hundredths(self.ratio_percent_max)
        )
    }
}

fn median(of: impl Iterator<Item = u64>) -> u64 {
    let mut all: Vec<u64> = of.collect();
    all.sort_unstable();
    percentile(&all, 500)
}

/// Rounded down: a goal that is not reached does not look as if it were.
fn ratio_percent(ours: &Slice, theirs: &Slice) -> u64 {
    (ours.commits_per_s * 100).checked_div(theirs.commits_per_s).unwrap_or(0)
}

fn hundredths(percent: u64) -> String {
    format!("{}.{:02}", percent / 100, percent % 100)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{Args, Command};

    fn slice(commits_per_s: u64) -> Slice {
        Slice { commits_per_s, latency_us_p50: 20, latency_us_p99: 30, aborts: 1 }
    }

    fn round(ours: u64, theirs: u64) -> Round {
        Round { ours: slice(ours), theirs: slice(theirs) }
    }

    fn parse(args: &[&str]) -> Result<Bench, clap::Error> {
        let parsed = Args::try_parse_from(["tools", "bench"].iter().chain(args))?;
        let Command::Bench(bench) = parsed.command else { unreachable!("the command is bench") };
        Ok(bench)
    }

    #[test]
    fn a_median_is_one_of_the_values() {
        assert_eq!(median([30, 10, 20].into_iter()), 20);
        assert_eq!(median([7].into_iter()), 7);
        // Of an even number, the upper of the middle two.
        assert_eq!(median([40, 10, 30, 20].into_iter()), 30);
    }

    #[test]
    fn ratios_are_of_the_medians_and_of_each_round() {
        let rounds = [round(600, 100), round(650, 130), round(1_198, 200)];
        let comparison = Comparison::of(64, 5, &rounds);
        assert_eq!((comparison.clients, comparison.rounds, comparison.seconds), (64, 3, 5));
        assert_eq!(comparison.stormglass, Slice { aborts: 3, ..slice(650) });
        assert_eq!(comparison.postgres, Slice { aborts: 3, ..slice(130) });
        assert_eq!(comparison.ratio_percent, 500);
        // 600 / 100 is the greatest; 1,198 / 200 = 5.99 is not rounded up to it.
        assert_eq!((comparison.ratio_percent_min, comparison.ratio_percent_max), (500, 600));
        assert_eq!(ratio_percent(&slice(1_199), &slice(200)), 599);
        assert_eq!(hundredths(599), "5.99");
        assert_eq!(hundredths(1_003), "10.03");
        assert!(!comparison.is_stuck());
    }

    #[test]
    fn without_commits_there_is_no_ratio() {
        let comparison = Comparison::of(1, 5, &[round(600, 0)]);
        assert_eq!(comparison.ratio_percent, 0);
        assert!(comparison.is_stuck());
    }

    #[test]
    fn percentiles_of_a_slice_are_of_all_its_clients() {
        let mut all = Tally { latencies_us: vec![9, 1], ..Tally::default() };
        all.add(Tally { latencies_us: (2..=8).chain(10..=200).collect(), aborts: 2, unknown: 1 });
        let slice = Slice::of_tally(all, 4);
        assert_eq!(
            slice,
            Slice { commits_per_s: 50, latency_us_p50: 101, latency_us_p99: 199, aborts: 3 }
        );
    }

    #[test]
    fn clients_have_keys_of_their_own() {
        let shared =
            Workload { clients: 3, keys: 10, own_keys: false, span: 2, many: None, large: None };
        let own = Workload { own_keys: true, ..shared };
        assert_eq!((shared.keys_of(0), shared.keys_of(2)), (0..10, 0..10));
        assert_eq!((own.keys_of(0), own.keys_of(1), own.keys_of(2)), (0..10, 10..20, 20..30));
    }

    #[test]
    fn arguments_that_a_comparison_ignores_are_refused() {
        let bench = parse(&["--beside", "postgres", "--seconds", "3"]).expect("valid");
        assert_eq!((bench.rounds, bench.seconds, bench.clients), (5, 3, None));
        assert!(parse(&["--beside", "postgres", "--rounds", "9", "--json"]).is_ok());
        for refused in [
            &["--beside", "mysql"][..],
            &["--rounds", "9"],
            &["--beside", "postgres", "--rounds", "0"],
            &["--beside", "postgres", "--keys", "1"],
            &["--beside", "postgres", "--span", "2"],
            &["--beside", "postgres", "--reads", "2"],
        ] {
            assert!(parse(refused).is_err(), "{refused:?}");
        }
    }
}
