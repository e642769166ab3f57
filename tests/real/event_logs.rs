//! Event logs of real and of simulated nodes, and the demo.

use std::fs;
use std::path::PathBuf;

use stormglass_commit_sim::Commit;
use stormglass_sim::log_check::check_logs;
use stormglass_sim::profile::{Profile, Setup};
use stormglass_sim::protocol::{draw_run, world};
use stormglass_sim::trace::{Filter, Trace};

use super::program::{OneNode, TestDir, run, stderr_text, stdout_text};

/// 1. A node runs without an event log, and commits.
/// 2. It runs again, with one. The checkers have not seen it write the files that it finds.
/// 3. That is an incomplete log, not an impossible effect of a kill.
#[test]
fn incomplete_event_log_is_rejected() {
    let one = OneNode::new("half-logged");
    let mut unlogged = one.start();
    one.commit("put a=1 @0");
    assert_eq!(unlogged.terminate(), Some(0));
    let dir = TestDir::new("half-logged-events");
    let events = dir.join("events");
    let mut logged = one.start_with(&["--events", &events]);
    assert_eq!(one.get("a@0"), "a @0 = 1\n");
    assert_eq!(logged.terminate(), Some(0));
    let refused = check_logs(&Commit, &[PathBuf::from(events)]).expect_err("an incomplete log");
    let error = refused.to_string();
    for text in [
        "n0.00001.jsonl",
        "n0 starts its first logged incarnation",
        "without `--events`",
        "empty data directory",
    ] {
        assert!(error.contains(text), "{text:?} is not in: {error}");
    }
}

/// The simulator writes the same lines as a real node, so its runs can be checked a second time,
/// from the outside.
#[test]
fn event_log_of_a_simulated_run_is_checked_like_a_real_one() {
    let dir = TestDir::new("simulated");
    let setup = Setup { profile: Profile::Calm, ..Setup::default() };
    for seed in 0..3 {
        let mut world = world(
            &Commit,
            draw_run(&Commit, &setup, seed),
            |chooser| chooser,
            Trace::new(Filter::default(), true),
        );
        assert!(world.run().violation.is_none());
        let log = dir.0.join(format!("seed-{seed}.jsonl"));
        // The first and last line of `replay --json`.
        let head = r#"{"options":"seed","version":"0","what":"seed"}"#;
        let tail = r#"{"fingerprint":"0","notes":[],"verdict":"clean"}"#;
        fs::write(&log, format!("{head}\n{}{tail}\n", world.checker().0.text())).expect("a log");
        let report = check_logs(&Commit, &[log]).expect("it can be checked");
        assert!(report.violation.is_none(), "seed {seed}: {:?}", report.violation);
        // An empty log would be without a violation as well.
        assert!(report.lines > 20, "seed {seed}: {} lines", report.lines);
    }
}

#[test]
fn demo_prints_its_steps_and_continues_from_existing_data() {
    let dir = TestDir::new("demo");
    let from = super::program::ports(4);
    let data = dir.join("logs");
    let ports = format!("{from}..={}", from + 3);
    // The second demo runs on the data of the first.
    for incarnation in [1, 2] {
        let demo = run(&["demo", "--data", &data, "--ports", &ports, "--transactions", "4"]);
        let output = stdout_text(&demo);
        assert!(demo.status.success(), "{output}{}", stderr_text(&demo));
        assert!(output.contains(&format!("n0 incarnation {incarnation}")), "{output}");
        assert!(output.contains("n2 voted Yes and crashed"), "{output}");
        assert!(output.contains("n1 answers: Commit"), "{output}");
        assert!(output.contains("sum of all accounts: 0"), "{output}");
    }
    let three = format!("{from}..={}", from + 2);
    let fewer = run(&["demo", "--data", &data, "--ports", &three]);
    assert_eq!(fewer.status.code(), Some(1), "{}", stdout_text(&fewer));
    assert!(stderr_text(&fewer).contains("holds the data of 4 nodes"), "{}", stderr_text(&fewer));
}
