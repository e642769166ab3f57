//! The tests through which a mutant goes that no seed finds: unit tests of the log and the node,
//! and the scenarios of the node.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::{CPU_TIME_MAX, Mutant, PATIENCE, cargo_in_copy, output_within};
use crate::CliError;

/// Of `tests/main.rs`: those in which the node runs. The others test the simulator, compare sources
/// or hunt.
const SCENARIOS: [&str; 8] = [
    "clocks::",
    "contention::",
    "costs::",
    "data_directory::",
    "one_node::",
    "real::",
    "scenarios::",
    "traces::",
];

/// The test programs of the copy.
pub(super) struct Tests {
    programs: Vec<TestProgram>,
}

struct TestProgram {
    path: PathBuf,
    /// The directory in which cargo runs it.
    directory: PathBuf,
    /// The tests that run, by the beginnings of their names; all if empty.
    filters: &'static [&'static str],
    /// Tests that fail without a mutant, since the copy differs from the repository.
    failing: BTreeSet<String>,
}

/// A message of cargo.
#[derive(Debug, Deserialize)]
struct BuildMessage {
    executable: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
}

#[derive(Debug, Deserialize)]
struct Profile {
    test: bool,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
}

impl Tests {
    /// Builds them, and runs them without a mutant.
    ///
    /// # Errors
    /// If they do not build, or do not end by themselves without a mutant.
    pub(super) fn build(copy: &Path) -> Result<Tests, CliError> {
        let mut programs = build(copy)?;
        for program in &mut programs {
            program.failing = program.failures(0)?.into_iter().collect();
            let rest = program.failures(0)?;
            if !rest.is_empty() {
                return Err(
                    format!("without a mutant, the tests fail now and then: {rest:?}").into()
                );
            }
        }
        Ok(Tests { programs })
    }

    /// A test that fails with this mutant, twice: tests of real processes may fail by chance.
    pub(super) fn first_failure(&self, mutant: &Mutant) -> Result<Option<String>, CliError> {
        for program in &self.programs {
            let failures = program.failures(mutant.number)?;
            if failures.is_empty() {
                continue;
            }
            let again = program.failures(mutant.number)?;
            if let Some(test) = failures.into_iter().find(|test| again.contains(test)) {
                return Ok(Some(test));
            }
        }
        Ok(None)
    }
}

fn build(copy: &Path) -> Result<Vec<TestProgram>, CliError> {
    let mut test = cargo_in_copy(copy);
    test.args(["test", "--no-run", "--message-format", "json"]);
    test.args(["--package", "stormglass-node", "--package", "stormglass"]);
    test.args(["--lib", "--test", "simulation"]);
    let output = test.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("the tests of the copy, {}, do not build", copy.display()).into());
    }
    let mut programs = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let message: BuildMessage = serde_json::from_str(line)?;
        // Libraries have no executable; the programs that the tests start are no tests.
        let (Some(path), Some(target), Some(Profile { test: true })) =
            (message.executable, message.target, message.profile)
        else {
            continue;
        };
        let (directory, filters) = match target.name.as_str() {
            "simulation" => (".", &SCENARIOS[..]),
            "stormglass_node" => ("node", &[][..]),
            _ => (".", &[][..]),
        };
        let directory = copy.join(directory);
        programs.push(TestProgram { path, directory, filters, failing: BTreeSet::new() });
    }
    Ok(programs)
}

impl TestProgram {
    /// The tests that fail with this mutant, and do not fail without one.
    fn failures(&self, mutant: u32) -> Result<Vec<String>, CliError> {
        let mut run = Command::new(&self.path);
        run.args(self.filters).current_dir(&self.directory);
        run.env("STORMGLASS_MUTANT", mutant.to_string());
        // A snapshot that differs fails, and no file is written.
        run.env("INSTA_UPDATE", "no");
        let Some(ended) = output_within(run, CPU_TIME_MAX, PATIENCE)? else {
            return Ok(vec!["the tests do not end".to_owned()]);
        };
        let text = String::from_utf8_lossy(&ended.stdout);
        let failed =
            text.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
        let new = failed.map(str::to_owned).filter(|test| !self.failing.contains(test));
        let mut failures: Vec<String> = new.collect();
        // A test that ends the process has no line.
        if failures.is_empty() && !text.lines().any(|line| line.starts_with("test result: ")) {
            failures.push(format!("the tests end with {}", ended.status));
        }
        Ok(failures)
    }
}
