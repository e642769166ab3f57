//! Tests and command lines as processes of their own: what they print, their exit codes, and how
//! they end when something never does.

#![allow(clippy::disallowed_methods, reason = "processes take real time, and have an environment")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use stormglass_sim::cli;
use stormglass_sim::limits::RunLimits;
use stormglass_sim::profile::Profile;
use stormglass_sim::protocol::Protocol;
use stormglass_sim::replay::record;
use tempfile::TempDir;

use super::flawed::{Flaw, Wrong, simulation};
use super::{Schedules, schedules};

/// What a child process does: a flaw, and the arguments of a command line or `check`.
const CASE: &str = "STORMGLASS_VERDICTS_CASE";

/// This binary again, for one case. Its files are apart from those of other programs,
/// since a hunt reports what killed processes have left there.
fn command(flaw: Flaw, args: &str, temporary: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a running program has a path"));
    command.args(["--exact", "verdicts::programs::child", "--ignored", "--nocapture"]);
    command.env(CASE, format!("{flaw:?} {args}")).env("RUST_BACKTRACE", "0");
    command.env("TMPDIR", temporary).current_dir(temporary);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn temporary_directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn run(flaw: Flaw, args: &str) -> (i32, String, String) {
    let temporary = temporary_directory();
    let child = command(flaw, args, temporary.path()).output();
    let left = std::fs::read_dir(temporary.path()).expect("the directory").count();
    assert_eq!(left, 0, "{args}: a process that ends by itself leaves no file");
    let Output { status, stdout, stderr } = child.expect("it runs");
    let code = status.code().expect("it was not killed");
    (code, String::from_utf8_lossy(&stdout).into(), String::from_utf8_lossy(&stderr).into())
}

const FLAWS: [Flaw; 10] = [
    Flaw::None,
    Flaw::DrawsRandomNumber,
    Flaw::IteratesHashMap,
    Flaw::ReadsClock,
    Flaw::AnswersAtRandomInFewSeeds,
    Flaw::NeverAnswers,
    Flaw::LoopsForEver,
    Flaw::AllocatesForEver,
    Flaw::WakesForEver,
    Flaw::Panics,
];

/// The body of every child process.
#[test]
#[ignore = "a child process of the other tests"]
fn child() {
    let Ok(case) = std::env::var(CASE) else { return };
    let (flaw, args) = case.split_once(' ').expect("a flaw and arguments");
    let flaw = *FLAWS.iter().find(|other| format!("{other:?}") == flaw).expect("a flaw");
    let events_max = if args.contains("--run-seconds 100") {
        // Without an end, if the process itself is what a test ends.
        u64::MAX
    } else if args.contains("--shrink-seconds") {
        // Some tenths of a second, so that what follows a violation takes time.
        400_000
    } else {
        5_000
    };
    let limits = RunLimits::default()
        .events_max(events_max)
        .wall_max(Duration::from_secs(1))
        .memory_max_mib(300);
    let test =
        simulation(flaw, Wrong::Large).nodes(3).profile(Profile::Lossy).limits(limits).seeds(300);
    if args == "check" {
        test.check();
        return;
    }
    let args = std::iter::once("flawed").chain(args.split(' '));
    // Directly: the test harness knows only success and failure.
    let code = format!("{:?}", cli::main_from(&test, args));
    let code: String = code.chars().filter(char::is_ascii_digit).collect();
    std::process::exit(code.parse().expect("an exit code"));
}

#[test]
fn hunt_exits_with_12_when_runs_differ() {
    for flaw in super::HIDDEN_INPUTS {
        let (code, out, _) = run(flaw, "hunt --seeds 10");
        assert_eq!(code, 12, "{flaw:?}: {out}");
        assert!(out.contains("seed 0 is not deterministic: two runs of it differ at "), "{out}");
    }
    // In a seed that is not run twice, a violation is: before it is shrunk.
    let (code, out, _) = run(Flaw::AnswersAtRandomInFewSeeds, "hunt --seeds 300 --first-seed 1");
    assert_eq!(code, 12, "{out}");
    assert!(out.contains(" violates AnswersAreRight") && !out.contains("shrunk to"), "{out}");
    let (code, out, errors) = run(Flaw::ReadsClock, "shrink 0");
    assert_eq!(code, 12, "{out}");
    assert!(errors.contains("not shrunk"), "{errors}");
    let (code, out, _) = run(Flaw::ReadsClock, "check-determinism --seeds 1");
    assert_eq!(code, 12, "{out}");
}

#[test]
fn test_prints_how_many_seeds_it_ran() {
    let (code, out, _) = run(Flaw::None, "check");
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("Flawed: 300 seeds, no violation"), "{out}");
}

#[test]
fn environment_selects_seeds_and_never_none() {
    for (name, value, code, text) in [
        ("STORMGLASS_SEED", "18446744073709551615", 0, "1 seed, no violation"),
        ("STORMGLASS_SEEDS", "18446744073709551615", 0, "no violation"),
        ("STORMGLASS_SEEDS", "0", 101, "a check needs at least one seed"),
        ("STORMGLASS_SECONDS", "0", 101, "a check needs some time"),
        ("STORMGLASS_SEED", "", 101, "STORMGLASS_SEED is ``, not a number"),
        ("STORMGLASS_REPLAY", "", 101, "cannot read"),
    ] {
        let temporary = temporary_directory();
        let mut command = command(Flaw::None, "check", temporary.path());
        command.env(name, value);
        if value.len() > 10 {
            command.env("STORMGLASS_SECONDS", "1");
        }
        let Output { status, stdout, stderr } = command.output().expect("it runs");
        let all = [stdout, stderr].concat();
        let all = String::from_utf8_lossy(&all);
        assert_eq!(status.code(), Some(code), "{name}={value}: {all}");
        assert!(all.contains(text), "{name}={value}: {all}");
    }
}

#[test]
fn last_seed_is_hunted_and_one_more_is_refused() {
    let last = u64::MAX;
    let (code, out, _) = run(Flaw::None, &format!("hunt --first-seed {last} --seeds 1"));
    assert!(code == 0 && out.contains("1 seed in "), "{out}");
    let (code, _, errors) = run(Flaw::None, &format!("hunt --first-seed {last} --seeds 2"));
    assert!(code == 2 && errors.contains("seeds go up to"), "{errors}");
}

#[test]
fn hunt_without_any_answer_is_no_success() {
    let (code, out, errors) = run(Flaw::NeverAnswers, "hunt --seeds 10");
    assert!(code == 1 && errors.contains("no request was ever answered"), "{errors}");
    assert!(!out.contains("clean"), "{out}");
}

/// The test sets three nodes and faults of the network; so does its command line.
#[test]
fn command_line_runs_what_the_test_runs() {
    let (_, out, _) = run(Flaw::None, "replay 5");
    assert!(out.contains("nodes=3 ") && !out.contains("crashes="), "{out}");
    assert!(!out.contains("--nodes"), "it is not a flag that somebody has to repeat: {out}");
    let test = simulation(Flaw::None, Wrong::Large).nodes(3).profile(Profile::Lossy);
    let (outcome, _) = record(&test, &test.setup(), 5);
    assert!(out.contains(&format!("fingerprint {:016x}", outcome.fingerprint)), "{out}");
    let (_, out, _) = run(Flaw::None, "replay 5 --nodes 2 --profile calm");
    assert!(out.contains("--profile calm --nodes 2") && out.contains("nodes=2 "), "{out}");
}

#[test]
fn schedule_is_replayed_only_with_its_faults() {
    let Schedules { reached, unreached, reached_in_part } = schedules();
    let directory = temporary_directory();
    let path = directory.path().join("unreached.schedule");
    std::fs::write(&path, unreached).expect("it is written");
    let (code, out, _) = run(Flaw::None, &format!("replay {}", path.display()));
    assert!(code == 1 && out.contains("no fault of the schedule came up"), "{out}");
    // One by one it is enough to name the others.
    let path = directory.path().join("in-part.schedule");
    std::fs::write(&path, reached_in_part).expect("it is written");
    let (code, out, _) = run(Flaw::None, &format!("replay {}", path.display()));
    assert!(code == 0 && out.matches("not reached: ").count() == 1, "{out}");
    // A directory holds kept schedules: each has to come up completely.
    std::fs::write(directory.path().join("reached.schedule"), reached).expect("it is written");
    let (code, out, _) = run(Flaw::None, &format!("replay {}", directory.path().display()));
    assert!(code == 1 && out.contains("not reached: "), "{out}");
    assert_eq!((out.matches("ok  ").count(), out.matches("FAILED ").count()), (1, 2), "{out}");
}

/// A step that never returns: nothing but another thread can notice. Three of the four threads have
/// no seed, and are not blamed.
#[test]
fn watchdog_names_the_seed_of_an_endless_loop() {
    let (code, _, errors) = run(Flaw::LoopsForEver, "hunt --jobs 4 --seeds 10 --first-seed 41");
    assert_eq!(code, 11, "{errors}");
    assert!(errors.contains("a run has not ended after 1 s"), "{errors}");
    assert!(
        errors.contains("seed 41, running for ") && errors.contains(" replay 41\n"),
        "{errors}"
    );
    assert_eq!(errors.matches("running for ").count(), 1, "{errors}");
    let (code, _, errors) = run(Flaw::LoopsForEver, "check");
    assert_eq!(code, 11, "{errors}");
    let command = "  STORMGLASS_SEED=0 cargo test verdicts::programs::child\n";
    assert!(errors.contains(command), "{errors}");
    // To run the seed again takes no longer.
    let (code, _, errors) = run(Flaw::LoopsForEver, "replay 41");
    assert!(code == 11 && errors.contains("seed 41, running for "), "{errors}");
}

#[test]
fn limit_of_wall_time_is_that_of_the_flag() {
    let args = "hunt --jobs 1 --run-seconds 2";
    let (code, _, errors) = run(Flaw::LoopsForEver, args);
    assert!(code == 11 && errors.contains("a run has not ended after 2 s"), "{errors}");
}

#[test]
fn watchdog_names_the_seed_that_uses_up_the_memory() {
    let (code, _, errors) = run(Flaw::AllocatesForEver, "hunt --jobs 1 --memory 200");
    assert_eq!(code, 11, "{errors}");
    assert!(errors.contains(" MiB of memory") && errors.contains("seed 0, running"), "{errors}");
}

#[test]
fn endless_run_of_small_steps_is_a_finding() {
    let (code, out, _) = run(Flaw::WakesForEver, "hunt --seeds 1 --no-shrink");
    assert_eq!(code, 11, "{out}");
    assert!(out.contains("seed 0 violates RunEndsWithinLimits"), "{out}");
    let (code, _, errors) = run(Flaw::WakesForEver, "check");
    assert_eq!(code, 101, "{errors}");
    // Of 5,000 events: those that all runs have in such numbers are routine.
    assert!(errors.lines().count() < 1_100, "the trace is short: {errors}");
}

/// Starts a hunt that never ends, and returns once it runs its first seed.
fn endless(flaw: Flaw, temporary: &Path) -> Child {
    let args = "hunt --jobs 1 --first-seed 41 --run-seconds 100";
    let mut child = command(flaw, args, temporary).spawn().expect("it starts");
    // Its handler of signals is installed before that. A minute, on a busy machine.
    for _ in 0..3_000 {
        if names_seed_in_progress(temporary) {
            return child;
        }
        sleep(Duration::from_millis(20));
    }
    let _ended = child.kill().and_then(|()| child.wait());
    panic!("the hunt does not begin with its first seed");
}

fn names_seed_in_progress(temporary: &Path) -> bool {
    let entries = std::fs::read_dir(temporary).expect("the directory").flatten();
    entries.into_iter().any(|entry| {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        text.trim_start().starts_with("41\n")
    })
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status();
    assert!(status.expect("kill runs").success());
}

/// Out of memory, the system kills the process. The next one says which seed it was, once.
#[test]
fn seed_of_a_killed_process_is_known() {
    let temporary = temporary_directory();
    let mut child = endless(Flaw::LoopsForEver, temporary.path());
    signal(&child, "KILL");
    child.wait().expect("it has ended");
    let next = || command(Flaw::None, "hunt --seeds 1", temporary.path()).output();
    let errors = String::from_utf8_lossy(&next().expect("it runs").stderr).into_owned();
    assert!(errors.contains("while it ran seed 41; run the seed again with\n"), "{errors}");
    assert!(errors.contains(" replay 41\n"), "{errors}");
    let errors = String::from_utf8_lossy(&next().expect("it runs").stderr).into_owned();
    assert!(!errors.contains("seed 41"), "{errors}");
}

#[test]
fn first_interrupt_ends_a_run_in_its_middle_and_the_second_the_process() {
    let temporary = temporary_directory();
    let mut child = endless(Flaw::WakesForEver, temporary.path());
    signal(&child, "INT");
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "after one run of many");
    let mut child = endless(Flaw::LoopsForEver, temporary.path());
    signal(&child, "INT");
    sleep(Duration::from_millis(200));
    signal(&child, "INT");
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "in an endless step");
    let left = std::fs::read_dir(temporary.path()).expect("the directory").count();
    assert_eq!(left, 0, "neither was killed, so neither is reported as such");
}

#[test]
fn seconds_end_a_run_in_its_middle() {
    let (code, out, errors) = run(Flaw::WakesForEver, "hunt --seconds 1 --run-seconds 100");
    assert!(code == 1 && errors.contains("no seed was finished in the time"), "{errors}");
    assert!(!out.contains("clean"), "{out}");
}

/// Thousands of runs panic while such a seed is hunted and shrunk.
#[test]
fn panics_of_a_node_are_not_printed() {
    let (code, out, errors) = run(Flaw::Panics, "hunt --seeds 100 --save /nonexistent");
    assert_eq!(code, 10, "{out}");
    assert!(!errors.contains("panicked"), "{errors}");
    assert!(out.contains("n0 panicked at tests/verdicts/flawed.rs:"), "{out}");
    let (_, _, errors) = run(Flaw::Panics, "check");
    // That of the test itself.
    assert_eq!(errors.matches("thread '").count(), 1, "{errors}");
}

#[test]
fn failure_is_printed_first() {
    let (_, out, _) = run(Flaw::Panics, "hunt --seeds 100 --no-shrink");
    let lines: Vec<&str> = out.lines().skip_while(|line| !line.starts_with("seed ")).collect();
    assert!(lines[0].starts_with("seed 0 violates NodeNeverPanics"), "{out}");
    assert!(!out.contains("faults\n") && lines.len() < 10, "no table of zeros: {out}");
}

/// The seed is named while it is examined and shrunk, which takes a while here.
#[test]
fn failing_seed_is_named_before_it_is_shrunk() {
    let temporary = temporary_directory();
    let args = "hunt --seeds 1 --shrink-seconds 20 --save /nonexistent";
    let mut child = command(Flaw::WakesForEver, args, temporary.path()).spawn().expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let named = lines.map_while(Result::ok).any(|line| line.starts_with("seed 0 violates"));
    sleep(Duration::from_millis(100));
    let ended = child.try_wait().expect("it is our child");
    let _killed = child.kill().and_then(|()| child.wait());
    assert!(named, "the seed is named");
    assert_eq!(ended, None, "it was named only when all was over");
}

#[test]
fn commands_that_do_not_apply_are_not_offered() {
    let (_, out, _) = run(Flaw::None, "--help");
    assert!(
        out.contains("  hunt ") && !out.contains("  bench ") && !out.contains("check-logs"),
        "{out}"
    );
    let (code, _, errors) = run(Flaw::None, "check-logs x");
    assert!(code == 2 && errors.contains("has no checker for event logs"), "{errors}");
}
