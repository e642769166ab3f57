//! `cargo tools generated-mutants`: a sample of the mutants that cargo-mutants generates for the
//! log, the commit node and its store.
//!
//! 1. `cargo mutants --list` names them: a body replaced by a constant, another operator, a deleted
//!    arm or field.
//! 2. Those of the sample are built into one copy, each behind a number, and those that do not
//!    compile are taken out.
//! 3. Each is hunted with default options. One that no seed finds goes through the tests of the
//!    node.
//! 4. One that survives both must be explained in `tools/mutants/survivors.toml`.

mod test_programs;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use clap::Args;
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde::Deserialize;
use stormglass_sim::hash::hash;

use self::test_programs::Tests;
use super::{Change, Mutant, combine, copy_repository, in_parallel, program};
use crate::program::{cargo, repository};
use crate::{CliError, Exit, say};

/// The sources that are mutated: the log, the commit node, its store.
const SOURCES: [&str; 5] =
    ["node/src/wal.rs", "node/src/wal/**", "src/commit.rs", "src/commit/**", "src/store.rs"];

/// The mutants that are known to survive, and why that is right.
const SURVIVORS: &str = "tools/mutants/survivors.toml";

/// The arguments.
#[derive(Debug, Args)]
#[command(after_help = "Needs cargo-mutants: `cargo install cargo-mutants --locked`.\n\
    Exit code 10: a mutant survives and is not explained in tools/mutants/survivors.toml.")]
pub(crate) struct GeneratedMutants {
    /// How many mutants, at least 1 [default: all]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    sample: Option<u32>,
    /// Selects the mutants of the sample: the same ones as long as the sources do not change
    #[arg(long, default_value_t = 15)]
    sample_seed: u64,
    /// Seeds of the hunt of each mutant, at least 1
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
}

/// A mutant as `cargo mutants --list --json` prints it.
#[derive(Debug, Deserialize)]
struct Listed {
    /// `FILE:LINE:COLUMN: DESCRIPTION`.
    name: String,
    file: PathBuf,
    span: Span,
    replacement: String,
}

#[derive(Debug, Deserialize)]
struct Span {
    start: Position,
    end: Position,
}

/// Both from 1; a column counts characters.
#[derive(Debug, Deserialize)]
struct Position {
    line: usize,
    column: usize,
}

/// The file [`SURVIVORS`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Survivors {
    #[serde(default)]
    survivor: Vec<Survivor>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Survivor {
    /// [`Mutant::name`].
    mutant: String,
    reason: String,
}

/// What became of one mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// Caught by a seed that violates a property, or by a hunt that does not end or ends the
    /// process.
    Hunt,
    /// Caught by a test.
    Test,
    /// Survives, as [`SURVIVORS`] explains.
    Explained,
    Survives,
}

/// Runs a sample of the generated mutants.
pub(crate) fn run(args: &GeneratedMutants) -> Result<Exit, CliError> {
    let mut mutants = list()?;
    let all = mutants.len();
    if let Some(count) = args.sample {
        choose(&mut mutants, count as usize, args.sample_seed);
    }
    let chosen = mutants.len();
    let survivors = read_survivors()?;
    // Kept between runs, so that a second one builds less.
    let copy = repository().join("target/generated-mutants");
    let unviable = build_viable(&copy, &mut mutants)?;
    say!("{chosen} of {all} mutants; {} cannot be built:", unviable.len())?;
    for mutant in &unviable {
        say!("  {}", mutant.name)?;
    }
    // Otherwise finding a mutant shows nothing.
    if let Some(finding) = hunt(&copy, 0, args.seeds)? {
        return Err(format!("without a mutant, the copy fails: {finding}").into());
    }
    let tests = Tests::build(&copy)?;
    let mut counts: BTreeMap<Verdict, usize> = BTreeMap::new();
    let mut explained: BTreeSet<&str> = BTreeSet::new();
    in_parallel(
        None,
        &mutants,
        |mutant| hunt_and_test(&copy, mutant, args.seeds, &tests),
        |mutant, result| {
            let (mut verdict, mut detail) = result?;
            let survivor =
                survivors.survivor.iter().find(|survivor| survivor.mutant == mutant.name);
            if let (Verdict::Survives, Some(survivor)) = (verdict, survivor) {
                explained.insert(&survivor.mutant);
                (verdict, detail) = (Verdict::Explained, survivor.reason.clone());
            }
            *counts.entry(verdict).or_default() += 1;
            Ok(say!("{:<9} {}\n          {detail}", verdict.name(), mutant.name)?)
        },
    )?;
    for survivor in &survivors.survivor {
        let is_run = mutants.iter().any(|mutant| mutant.name == survivor.mutant);
        if is_run && !explained.contains(survivor.mutant.as_str()) {
            say!("caught, although {SURVIVORS} explains it: {}", survivor.mutant)?;
        }
    }
    let [by_hunt, by_test, explained, surviving] =
        [Verdict::Hunt, Verdict::Test, Verdict::Explained, Verdict::Survives]
            .map(|verdict| counts.get(&verdict).copied().unwrap_or(0));
    say!(
        "{} of {} caught: {by_hunt} by a hunt of {} seeds, {by_test} by a test; {explained} explained, {surviving} survive",
        by_hunt + by_test,
        mutants.len(),
        args.seeds,
    )?;
    Ok(if surviving == 0 { Exit::Success } else { Exit::Violation })
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Verdict::Hunt => "hunt",
            Verdict::Test => "test",
            Verdict::Explained => "explained",
            Verdict::Survives => "SURVIVES",
        }
    }
}

/// All mutants that cargo-mutants generates, in the order of files and lines.
fn list() -> Result<Vec<Mutant>, CliError> {
    let mut list = cargo(&repository());
    list.args(["mutants", "--workspace", "--list", "--json"]);
    list.args(SOURCES.iter().flat_map(|source| ["--file", source]));
    let output = list.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(
            "`cargo mutants` failed; to install it: cargo install cargo-mutants --locked".into()
        );
    }
    let listed: Vec<Listed> = serde_json::from_slice(&output.stdout)?;
    let mut numbers: BTreeMap<String, u32> = BTreeMap::new();
    let mut mutants = Vec::new();
    for (number, entry) in (1..).zip(listed) {
        let text = fs::read_to_string(repository().join(&entry.file))?;
        let range = offset(&text, &entry.span.start)?..offset(&text, &entry.span.end)?;
        mutants.push(Mutant {
            number,
            name: entry.stable_name(&mut numbers),
            description: entry.name,
            change: Change::Text { file: entry.file, range, replacement: entry.replacement },
            profile: None,
        });
    }
    Ok(mutants)
}

impl Listed {
    /// Its name without line and column, which change with every edit of the file; with a number if
    /// an earlier one has the same name.
    fn stable_name(&self, numbers: &mut BTreeMap<String, u32>) -> String {
        let description = self.name.splitn(4, ':').last().unwrap_or_default().trim();
        let name = format!("{}: {description}", self.file.display());
        let number = numbers.entry(name.clone()).or_default();
        *number += 1;
        if *number == 1 { name } else { format!("{name} ({number})") }
    }
}

/// The offset of this place in the text, in bytes.
fn offset(text: &str, position: &Position) -> Result<usize, CliError> {
    let line = text.split_inclusive('\n').nth(position.line - 1).ok_or("no such line")?;
    let start = line.as_ptr() as usize - text.as_ptr() as usize;
    let characters = line.chars().take(position.column - 1);
    Ok(start + characters.map(char::len_utf8).sum::<usize>())
}

/// Keeps `count` of the mutants, in order. Which ones depends on their names and the seed, so most
/// stay when some are added.
fn choose(mutants: &mut Vec<Mutant>, count: usize, seed: u64) {
    mutants.sort_by_cached_key(|mutant| {
        mutant.name.bytes().fold(seed, |folded, byte| hash(folded, u64::from(byte)))
    });
    mutants.truncate(count);
    mutants.sort_by_key(|mutant| mutant.number);
}

fn read_survivors() -> Result<Survivors, CliError> {
    let path = repository().join(SURVIVORS);
    let text = fs::read_to_string(&path)?;
    toml::from_str(&text).map_err(|error| format!("{SURVIVORS}: {error}").into())
}

/// Builds the simulator with these mutants in a copy of the repository. Removes and returns those
/// that cannot be built so: they do not compile, or are in no function.
fn build_viable(copy: &Path, mutants: &mut Vec<Mutant>) -> Result<Vec<Mutant>, CliError> {
    copy_repository(copy)?;
    let mut unviable = Vec::new();
    unviable.extend(mutants.extract_if(.., |mutant| combine::check(copy, mutant).is_err()));
    loop {
        copy_repository(copy)?;
        combine::combine(copy, mutants)?;
        let wrong = wrong_mutants(copy)?;
        if wrong.is_empty() {
            break;
        }
        unviable.extend(mutants.extract_if(.., |mutant| wrong.contains(&mutant.number)));
    }
    let build = ["build", "--profile", "tools", "--package", "stormglass-commit-sim"];
    if cargo_in_copy(copy).args(build).status()?.success() {
        Ok(unviable)
    } else {
        Err(format!("the copy with the mutants, {}, does not build", copy.display()).into())
    }
}

/// Cargo in the copy. Mutants leave unused names and unreachable arms, so warnings are off.
fn cargo_in_copy(copy: &Path) -> Command {
    let mut cargo = cargo(copy);
    cargo.env("CARGO_TARGET_DIR", copy.join("target")).env("RUSTFLAGS", "-A warnings");
    cargo
}

/// A message of cargo.
#[derive(Debug, Deserialize)]
struct CargoMessage {
    message: Option<Diagnostic>,
}

/// A message of the compiler.
#[derive(Debug, Deserialize)]
struct Diagnostic {
    level: String,
    rendered: Option<String>,
    spans: Vec<DiagnosticSpan>,
}

#[derive(Debug, Deserialize)]
struct DiagnosticSpan {
    file_name: PathBuf,
    line_start: usize,
}

/// The mutants in whose code the compiler finds errors.
fn wrong_mutants(copy: &Path) -> Result<BTreeSet<u32>, CliError> {
    let check = ["check", "--package", "stormglass-commit-sim", "--message-format", "json"];
    let output = cargo_in_copy(copy).args(check).stderr(Stdio::null()).output()?;
    let mut wrong = BTreeSet::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let message: CargoMessage = serde_json::from_str(line)?;
        let Some(diagnostic) = message.message.filter(|message| message.level == "error") else {
            continue;
        };
        // The last message only counts the errors.
        if diagnostic.spans.is_empty() {
            continue;
        }
        let mutant = diagnostic.spans.iter().find_map(|span| {
            let text = fs::read_to_string(copy.join(&span.file_name)).ok()?;
            combine::mutant_at(&text, span.line_start)
        });
        let rendered = diagnostic.rendered.unwrap_or_default();
        wrong.insert(mutant.ok_or_else(|| format!("an error in no mutant: {rendered}"))?);
    }
    if wrong.is_empty() && !output.status.success() {
        return Err(format!("`cargo check` fails in {}", copy.display()).into());
    }
    Ok(wrong)
}

fn hunt_and_test(
    copy: &Path,
    mutant: &Mutant,
    seeds: u64,
    tests: &Tests,
) -> Result<(Verdict, String), CliError> {
    if let Some(finding) = hunt(copy, mutant.number, seeds)? {
        return Ok((Verdict::Hunt, finding));
    }
    Ok(match tests.first_failure(mutant)? {
        Some(test) => (Verdict::Test, test),
        None => (Verdict::Survives, mutant.description.clone()),
    })
}

/// A mutant one of whose processes uses more time of a core than this does not end.
// A hunt of 10,000 seeds takes 10 s. Not wall time: beside other work that would count mutants as
// caught that are not.
const CPU_TIME_MAX: Duration = Duration::from_secs(120);

/// Neither does one that takes longer than this, mostly waiting.
const PATIENCE: Duration = Duration::from_secs(900);

/// Hunts the mutant of this number, 0 for none, with default options. Returns what is found.
fn hunt(copy: &Path, mutant: u32, seeds: u64) -> Result<Option<String>, CliError> {
    let mut hunt = Command::new(program(copy, "commit-sim"));
    hunt.args(["hunt", "--no-shrink", "--jobs", "1", "--seeds", &seeds.to_string()]);
    hunt.env("STORMGLASS_MUTANT", mutant.to_string());
    let Some(ended) = output_within(hunt, CPU_TIME_MAX, PATIENCE)? else {
        return Ok(Some("the hunt does not end".to_owned()));
    };
    if ended.status.success() {
        return Ok(None);
    }
    let text = [ended.stdout, ended.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let finding = text.lines().find(|line| line.contains(" violates "));
    Ok(Some(finding.map_or_else(|| format!("the hunt ends with {}", ended.status), str::to_owned)))
}

/// Runs a process; `None` if it uses more time of a core than `cpu_time`, or takes longer than
/// `patience`.
fn output_within(
    command: Command,
    cpu_time: Duration,
    patience: Duration,
) -> Result<Option<Output>, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // In the runtime, as the pipes and the timer belong to it.
    let ended = async {
        let child = command.spawn()?;
        let seconds = Some(cpu_time.as_secs());
        let limit = Rlimit { current: seconds, maximum: seconds };
        // Without an id the process has ended, and `None` would set the limit of this process.
        if let Some(pid) = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
            prlimit(Some(pid), Resource::Cpu, limit)?;
        }
        Ok::<_, CliError>(tokio::time::timeout(patience, child.wait_with_output()).await)
    };
    let Ok(output) = runtime.block_on(ended)? else { return Ok(None) };
    let output = output?;
    // The hard limit of the system kills it.
    let is_over = output.status.signal() == Some(Signal::KILL.as_raw());
    Ok((!is_over).then_some(output))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_that_does_not_end_is_ended_after_its_cpu_time() {
        let patience = Duration::from_secs(600);
        let mut endless = Command::new("sh");
        endless.args(["-c", "while :; do :; done"]);
        assert!(output_within(endless, Duration::from_secs(1), patience).unwrap().is_none());
        let mut short = Command::new("sh");
        short.args(["-c", "echo done"]);
        let output = output_within(short, Duration::from_secs(1), patience).unwrap().unwrap();
        assert_eq!(output.stdout, b"done\n");
    }
}
