//! `cargo test` over a directory of schedules, with one result each; libtest cannot do that.

use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

use super::{ReadScheduleError, files, read};
use crate::protocol::Protocol;
use crate::replay::replay_world;
use crate::schedule::Expectation;
use crate::trace::{Filter, Show, Trace};
use crate::world::RunOutcome;

/// The `main` of a test target with `harness = false`: one test for each schedule of `directory`. A
/// run must end as its schedule expects, and every fault must be reached, since a schedule whose
/// faults do not happen tests nothing. cargo-nextest can run it, too.
pub fn harness<P>(protocol: P, directory: impl AsRef<Path>) -> ExitCode
where
    P: Protocol + Copy + Send + 'static,
{
    let args = Arguments::from_args();
    let directory = directory.as_ref();
    let paths = match files(directory) {
        Ok(paths) => paths,
        Err(reason) => {
            eprintln!("error: {reason}");
            return ExitCode::FAILURE;
        }
    };
    if paths.is_empty() {
        eprintln!("error: there is no schedule (`.schedule`) in {}", directory.display());
        return ExitCode::FAILURE;
    }
    let trials = paths.into_iter().map(|path| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Trial::test(name, move || run_file(&protocol, &path).map_err(Failed::from))
            .with_kind("schedule")
    });
    libtest_mimic::run(&args, trials.collect()).exit_code()
}

/// Why a schedule of the directory fails.
#[derive(Debug, thiserror::Error)]
enum RegressionError {
    #[error(transparent)]
    Unreadable(#[from] ReadScheduleError),
    /// With everything that is needed next: outcome, notes, trace, unreached faults, command.
    #[error("{0}")]
    NotAsExpected(String),
}

/// Runs one file; returns what is wrong, if anything is.
fn run_file<P: Protocol>(protocol: &P, path: &Path) -> Result<(), RegressionError> {
    let schedule = read(protocol, path)?;
    let mut world = replay_world(protocol, &schedule, Trace::new(Filter::default(), false));
    let (RunOutcome { violation, judged_until, .. }, trace) = Trace::of_run(&mut world);
    let (as_expected, outcome) = match (&schedule.expectation, &violation) {
        (Expectation::NoViolation(_), None) => match judged_until {
            None => (true, String::new()),
            Some(until) => (false, format!("the run is judged only until {until}")),
        },
        (Expectation::NoViolation(_), Some(violation)) => {
            (false, format!("the run violates {violation}"))
        }
        (Expectation::Violation(property), Some(violation)) => {
            (violation.property == property, format!("the run violates {violation}"))
        }
        (Expectation::Violation(property), None) => {
            (false, format!("expected a violation of {property}, but no property was violated"))
        }
    };
    // After the run: an entry counts as reached when its fault has happened.
    let unreached_entries = schedule.unreached_entries(world.chooser().unused());
    let unreached: String =
        unreached_entries.iter().map(|entry| format!("not reached: {entry}\n")).collect();
    if as_expected && unreached.is_empty() {
        return Ok(());
    }
    let outcome = if as_expected {
        "the run ended as expected, but not every fault of the schedule was reached"
    } else {
        &outcome
    };
    let cli_command = protocol.command().unwrap_or("this protocol's command line");
    let note = schedule.note.join("\n");
    let reason = violation.as_ref().map_or("", |violation| violation.reason.as_str());
    let trace = trace.shown(&Show::default(), reason).text(&format!("{cli_command} replay --all"));
    let name = path.display();
    Err(RegressionError::NotAsExpected(format!(
        "{outcome}\n{note}\n{trace}{unreached}replay it with\n  {cli_command} replay {name}"
    )))
}
