//! `cargo tools mutants`: hunts each mutant of the real node, shrinks the first violation, and
//! prints a table.
//!
//! A mutant is a patch of a few lines in `tools/mutants`. Its first line describes it; a second
//! line `profile: NAME` names the profile in which it is hunted. All mutants are built into one
//! program, each behind a number ([`combine`]), and hunted with default options.

mod combine;
mod generated;
mod hunt;

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use clap::Args;

pub(crate) use generated::{GeneratedMutants, run as run_generated};
pub(crate) use hunt::{HuntMutant, run as hunt_mutant};

use crate::program::{cargo, repository};
use crate::{CliError, Exit, say};
use hunt::Found;

/// The arguments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo tools mutants\n  \
    cargo tools mutants yes-sent-after-abort end-record-not-written\n  \
    cargo tools mutants --kills 200 commit-sent-before-durable")]
pub(crate) struct Mutants {
    /// Names of patches in `tools/mutants`, without `.patch` [default: all]
    names: Vec<String>,
    /// A mutant must be found within this many seeds, at least 1
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Mutants that are hunted at one time, each on one core, 1 to 256 [default: one per core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Write the shrunk schedules into this directory
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Count the edits of the node after which schedule and seed still violate the property
    #[arg(long)]
    stability: bool,
    /// Kill this many real processes of each mutant instead, and check their event logs; a kill
    /// does not touch the page cache, so not every mutant can be found
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    kills: Option<u32>,
}

/// One change of the node.
#[derive(Clone, Debug)]
pub(crate) struct Mutant {
    /// Its number in the copy, from 1; 0 for none.
    number: u32,
    name: String,
    change: Change,
    description: String,
    profile: Option<String>,
}

/// What a mutant changes.
#[derive(Clone, Debug)]
enum Change {
    Nothing,
    /// A patch in the format of git.
    Patch(PathBuf),
    /// A part of one file.
    Text {
        file: PathBuf,
        range: Range<usize>,
        replacement: String,
    },
}

impl Mutant {
    fn read(number: u32, patch: PathBuf) -> Result<Mutant, CliError> {
        let text = fs::read_to_string(&patch)
            .map_err(|error| format!("cannot read {}: {error}", patch.display()))?;
        let mut lines = text.lines();
        let description = lines.next().unwrap_or_default().to_owned();
        let profile = lines.next().and_then(|line| line.strip_prefix("profile: "));
        let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let profile = profile.map(str::to_owned);
        Ok(Mutant { number, name, change: Change::Patch(patch), description, profile })
    }
}

/// Hunts the mutants.
pub(crate) fn run(args: &Mutants) -> Result<Exit, CliError> {
    let mut mutants = all()?;
    check_names(&args.names, &mutants)?;
    // Kept between runs, so that a second one builds less.
    let copy = repository().join("target/mutants");
    copy_repository(&copy)?;
    combine::combine(&copy, &mutants)?;
    build(&copy, args.kills.is_some())?;
    // All are built, whichever are hunted: a patch that applies may not compile any more.
    if !args.names.is_empty() {
        mutants.retain(|mutant| args.names.contains(&mutant.name));
    }
    // Before the hunt, which takes far longer.
    check_without_mutant(&copy)?;
    let all_found = match args.kills {
        Some(kills) => kill_all(&copy, &mutants, kills)?,
        None => hunt_all(&copy, &mutants, args)?,
    };
    Ok(if all_found { Exit::Success } else { Exit::Violation })
}

/// Seeds that the copy has to pass without a mutant: otherwise finding one shows nothing.
// Few, next to those of a hunt: a wrong combination changes the behaviour of most runs.
const CONTROL_SEEDS: u64 = 2_000;

/// # Errors
/// If the copy violates a property although no mutant is switched on.
fn check_without_mutant(copy: &Path) -> Result<(), CliError> {
    let none = Mutant {
        number: 0,
        name: "none".to_owned(),
        change: Change::Nothing,
        description: "no mutant".to_owned(),
        profile: None,
    };
    match hunt_one(copy, &none, CONTROL_SEEDS, false)? {
        None => Ok(()),
        Some(found) => Err(format!(
            "without a mutant, seed {} of the copy violates {}",
            found.seed, found.property
        )
        .into()),
    }
}

/// All patches, by name.
fn all() -> Result<Vec<Mutant>, CliError> {
    let directory = repository().join("tools/mutants").canonicalize()?;
    let entries = fs::read_dir(&directory)?.collect::<Result<Vec<_>, _>>()?;
    let mut patches: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    patches.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    patches.sort();
    (1..).zip(patches).map(|(number, patch)| Mutant::read(number, patch)).collect()
}

/// # Errors
/// If a mutant is named that there is not.
fn check_names(names: &[String], mutants: &[Mutant]) -> Result<(), CliError> {
    match names.iter().find(|name| mutants.iter().all(|mutant| mutant.name != **name)) {
        Some(name) => Err(format!("no mutant has the name {name}: see tools/mutants").into()),
        None => Ok(()),
    }
}

/// Copies what git knows of the working tree. A file that has not changed since the last copy keeps
/// its time, unless a mutant changes it: then it is written again anyway.
fn copy_repository(copy: &Path) -> Result<(), CliError> {
    let listed = Command::new("git")
        .current_dir(repository())
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()?;
    if !listed.status.success() {
        return Err("the mutants need a git repository: `git ls-files` failed".into());
    }
    let listed = String::from_utf8(listed.stdout)?;
    remove_unlisted(copy, copy, &listed.split_terminator('\0').map(PathBuf::from).collect())?;
    for name in listed.split_terminator('\0') {
        let from = repository().join(name);
        let to = copy.join(name);
        // Deleted, but not yet committed so.
        let Ok(content) = fs::read(&from) else { continue };
        // Cargo builds by modification time: an untouched file is not built again.
        if fs::read(&to).is_ok_and(|present| present == content) {
            continue;
        }
        fs::create_dir_all(to.parent().expect("a file in a directory"))?;
        fs::write(&to, content)?;
    }
    Ok(())
}

/// Removes what an earlier copy had and the repository has no longer, but for built files.
fn remove_unlisted(copy: &Path, below: &Path, listed: &BTreeSet<PathBuf>) -> Result<(), CliError> {
    let Ok(entries) = fs::read_dir(below) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        let name = path.strip_prefix(copy)?;
        if path.is_dir() && name != Path::new("target") {
            remove_unlisted(copy, &path, listed)?;
        } else if path.is_file() && !listed.contains(name) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// With the profile `tools` of Cargo.toml. A mutant may leave unused names and unreachable arms, so
/// warnings are off.
fn build(copy: &Path, with_program: bool) -> Result<(), CliError> {
    let mut build = cargo(copy);
    build.args(["build", "--profile", "tools", "--package", "stormglass-tools"]);
    if with_program {
        build.args(["--package", "stormglass", "--package", "stormglass-commit-sim"]);
    }
    build.env("CARGO_TARGET_DIR", copy.join("target")).env("RUSTFLAGS", "-A warnings");
    if build.status()?.success() {
        Ok(())
    } else {
        Err(format!("the copy with all mutants, {}, does not build", copy.display()).into())
    }
}

fn program(copy: &Path, name: &str) -> PathBuf {
    copy.join("target/tools").join(name)
}

/// Does `work` for each mutant, on all cores unless `jobs` says on how many, and `on_result` with
/// each result as soon as it is there.
///
/// # Errors
/// The first of `on_result`.
fn in_parallel<R: Send>(
    jobs: Option<u16>,
    mutants: &[Mutant],
    work: impl Fn(&Mutant) -> R + Sync,
    mut on_result: impl FnMut(&Mutant, R) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // A common queue and not a share for each thread: some mutants take far longer than others.
    let waiting = Mutex::new(mutants.iter().collect::<VecDeque<_>>());
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs.map_or(cores, usize::from) {
            let (waiting, work, sender) = (&waiting, &work, sender.clone());
            scope.spawn(move || {
                loop {
                    let next = waiting.lock().expect("no thread panics").pop_front();
                    let Some(mutant) = next else { return };
                    // The receiver is gone after the first error.
                    if sender.send((mutant, work(mutant))).is_err() {
                        return;
                    }
                }
            });
        }
        // Each thread has a clone; the loop below ends when the last of them is dropped.
        drop(sender);
        for (mutant, result) in receiver {
            on_result(mutant, result)?;
        }
        Ok(())
    })
}

/// Prints a line for each mutant; returns whether all are found.
fn hunt_all(copy: &Path, mutants: &[Mutant], args: &Mutants) -> Result<bool, CliError> {
    say!("{:<8} {:<16} {:<16} {:<36} mutant", "seed", "faults+requests", "runs, time", "property")?;
    let mut totals = Totals { complete: true, ..Totals::default() };
    in_parallel(
        args.jobs,
        mutants,
        |mutant| hunt_one(copy, mutant, args.seeds, args.stability),
        |mutant, result| {
            show(mutant, &result, &mut totals)?;
            if let (Ok(Some(found)), Some(directory)) = (&result, &args.keep) {
                hunt::keep(found, directory, &mutant.name)?;
            }
            Ok(())
        },
    )?;
    totals.show()?;
    Ok(totals.complete)
}

/// Hunts one mutant; `None` if it is not found.
fn hunt_one(
    copy: &Path,
    mutant: &Mutant,
    seeds: u64,
    stability: bool,
) -> Result<Option<Found>, CliError> {
    let mut hunt = Command::new(program(copy, "stormglass-tools"));
    hunt.args(["hunt-mutant", "--seeds", &seeds.to_string()]);
    hunt.args(mutant.profile.iter().flat_map(|profile| ["--profile", profile]));
    hunt.args(stability.then_some("--stability"));
    let output = hunt
        .env("STORMGLASS_MUTANT", mutant.number.to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned().into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What the table adds up to.
#[derive(Debug, Default)]
struct Totals {
    /// Whether every mutant is found, and every entry of its schedule is needed.
    complete: bool,
    found: usize,
    /// At most 3 faults and 2 requests.
    small: usize,
    slowest_ms: u64,
    /// For each mutant that is found, the CPU time to its first violation.
    hunts_us: Vec<u64>,
    edits: Survival,
    /// The same for mutants that fewer than one seed in twenty finds.
    edits_of_rare: Survival,
}

/// Pairs of mutant and edit after which the property is still violated.
#[derive(Debug, Default)]
struct Survival {
    pairs: usize,
    schedules: usize,
    seeds: usize,
}

impl Survival {
    fn add(&mut self, survived: &crate::stability::Survived) {
        self.pairs += survived.edits;
        self.schedules += survived.schedules;
        self.seeds += survived.seeds;
    }

    fn show(&self, of: &str) -> std::io::Result<()> {
        let Survival { pairs, schedules, seeds } = self;
        say!(
            "of {pairs} pairs of edit and {of}, {schedules} schedules and {seeds} seeds still violate the property"
        )
    }
}

impl Totals {
    fn show(&self) -> std::io::Result<()> {
        let Totals { found, small, slowest_ms, hunts_us, .. } = self;
        say!(
            "{found} found; {small} of them shrunk to at most 3 faults and 2 requests; the slowest shrink took {slowest_ms} ms"
        )?;
        if let (Some(median), Some(p95)) = (percentile(hunts_us, 50), percentile(hunts_us, 95)) {
            say!(
                "CPU time to the first violation: median {}, 95th percentile {}",
                milliseconds(median),
                milliseconds(p95)
            )?;
        }
        if self.edits.pairs > 0 {
            self.edits.show("mutant")?;
            self.edits_of_rare.show("mutant that fewer than one seed in twenty finds")?;
        }
        Ok(())
    }
}

/// The smallest of the values that at least `percent` of them do not exceed; `None` without values.
fn percentile(values: &[u64], percent: usize) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

fn milliseconds(us: u64) -> String {
    format!("{}.{:03} ms", us / 1_000, us % 1_000)
}

/// Fewer failing seeds of the first 1,000 make a mutant rare.
// One in twenty of the seeds that are counted.
const RARE_SEEDS: usize = 50;

fn show(
    mutant: &Mutant,
    result: &Result<Option<Found>, CliError>,
    totals: &mut Totals,
) -> std::io::Result<()> {
    let found = match result {
        Ok(Some(found)) => found,
        Ok(None) => {
            totals.complete = false;
            return say!("NOT FOUND       {}", mutant.description);
        }
        Err(error) => {
            totals.complete = false;
            return say!("FAILED          {}: {error}", mutant.description);
        }
    };
    let size =
        format!("{}+{} -> {}+{}", found.before.0, found.before.1, found.after.0, found.after.1);
    let seconds = found.shrink_ms / 1000;
    let ms = found.shrink_ms % 1000;
    let took = format!("{} in {seconds}.{ms:03} s", found.runs);
    say!("{:<8} {size:<16} {took:<16} {:<36} {}", found.seed, found.property, mutant.description)?;
    totals.found += 1;
    // The size that a person understands at a glance.
    totals.small += usize::from(found.after.0 <= 3 && found.after.1 <= 2);
    totals.hunts_us.push(found.hunt_us);
    totals.slowest_ms = totals.slowest_ms.max(found.shrink_ms);
    if !found.minimal {
        totals.complete = false;
        say!("NOT MINIMAL     {}", mutant.description)?;
    }
    // Another profile is not what the seeds of the comparison use.
    if let (Some(survived), None) = (&found.survived, &mutant.profile) {
        say!("         still violated: {survived}")?;
        totals.edits.add(survived);
        if survived.failing_seeds < RARE_SEEDS {
            totals.edits_of_rare.add(survived);
        }
    }
    Ok(())
}

/// Kills real processes of each mutant, and checks their event logs.
fn kill_all(copy: &Path, mutants: &[Mutant], kills: u32) -> Result<bool, CliError> {
    let mut all_found = true;
    for mutant in mutants {
        let directory = tempfile::tempdir()?;
        let data = directory.path().join("data");
        // Only the result of the checkers counts, not that of the campaign.
        Command::new(program(copy, "stormglass-tools"))
            // A fixed seed, so that all mutants meet the same kills as far as real processes allow
            // it.
            .args(["campaign", "--events", "--seed", "1", "--kills", &kills.to_string()])
            .arg("--data")
            .arg(&data)
            .arg("--program")
            .arg(program(copy, "stormglass"))
            .env("STORMGLASS_MUTANT", mutant.number.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        let checked = Command::new(program(copy, "commit-sim"))
            .arg("check-logs")
            .arg(data.join("events"))
            .output()?;
        let text = String::from_utf8_lossy(&checked.stdout);
        match text.lines().find_map(|line| line.strip_prefix("violates ")) {
            Some(property) => say!("{property:<36} {}", mutant.description)?,
            None => {
                all_found = false;
                say!("{:<36} {}", "NOT FOUND", mutant.description)?;
            }
        }
    }
    Ok(all_found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_is_one_of_the_values() {
        let values = [40, 10, 30, 20];
        assert_eq!(
            [1, 50, 51, 95].map(|percent| percentile(&values, percent)),
            [Some(10), Some(20), Some(30), Some(40)]
        );
        assert_eq!(percentile(&[7], 50), Some(7));
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(milliseconds(12_034), "12.034 ms");
    }
}
