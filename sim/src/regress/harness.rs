//! `cargo test` over a directory of schedules, each named in its output; libtest cannot name files.

use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

use super::{files, read};
use crate::play::stage;
use crate::protocol::{Of, Protocol};
use crate::schedule::Claim;
use crate::trace::{Filter, Trace};

/// The `main` of a test target with `harness = false`: one test for each schedule of `directory`. A schedule that holds
/// must hold; one that breaks a claim must break that one; and every fault must come up, since a schedule whose faults
/// do not happen tests nothing. cargo-nextest can run it, too.
pub fn harness<P: Protocol>(directory: impl AsRef<Path>) -> ExitCode {
    let args = Arguments::from_args();
    let directory = directory.as_ref();
    let paths = match files(directory) {
        Ok(paths) => paths,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::FAILURE;
        }
    };
    let trial = |path: std::path::PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Trial::test(name, move || verdict::<P>(&path).map_err(Failed::from)).with_kind("storm")
    };
    libtest_mimic::run(&args, paths.into_iter().map(trial).collect()).exit_code()
}

/// Runs one file; what is wrong, if anything is.
fn verdict<P: Protocol>(path: &Path) -> Result<(), String> {
    let scene = Of::<P>::new();
    let schedule = read(&scene, path)?;
    let mut glass = stage(&scene, &schedule, Trace::new(Filter::default(), false));
    let broken = glass.run().broken;
    let (as_said, said) = match (&schedule.claim, &broken) {
        (Claim::Holds(_), None) => (true, String::new()),
        (Claim::Holds(_), Some(broken)) => (false, format!("it breaks {broken}")),
        (Claim::Breaks(claim), Some(broken)) => (broken.claim == claim, format!("it breaks {broken}")),
        (Claim::Breaks(claim), None) => (false, format!("it should break {claim}, and nothing breaks")),
    };
    let never = schedule.never(glass.chooser().unused());
    let unreached: String = never.iter().map(|never| format!("never came up: {never}\n")).collect();
    if as_said && unreached.is_empty() {
        return Ok(());
    }
    let said = if as_said { "it no longer tells its story: what it is about did not happen" } else { &said };
    let own = P::COMMAND.unwrap_or("this protocol's command line");
    let (why, trace, name) = (schedule.why.join("\n"), glass.judge().0.text(), path.display());
    Err(format!("{said}\n{why}\n{trace}{unreached}run it with\n  {own} replay {name}"))
}
