//! A short campaign of kills, and the simulator's checkers over the event logs of the processes.

use std::fs;
use std::path::PathBuf;

use stormglass_sim::commit::Commit;
use stormglass_sim::log_check::{LogCheckReport, check_logs};
use stormglass_sim::profile::{Profile, Setup};
use stormglass_sim::protocol::{Of, draw_run, world};
use stormglass_sim::trace::{Filter, Trace};

use super::program::{Node, TestDir, ports, run, stderr_text, stdout_text};

/// One scenario, since it takes seconds:
/// 1. Twelve kills among four nodes: nothing is lost, no transaction is blocked.
/// 2. The checkers find no violation.
/// 3. The same events without the barrier completions of one node: it sent what was not durable.
/// 4. Without one node's first incarnation: not checked, and reported.
/// 5. With one file that an incarnation found shortened by a byte: no kill does that.
#[test]
fn kills_lose_nothing_and_checkers_detect_altered_event_logs() {
    let dir = TestDir::new("campaign");
    let data = dir.join("data");
    let campaign = run(&[
        "campaign",
        "--kills",
        "12",
        "--pause-ms",
        "100",
        "--seed",
        "5",
        "--data",
        &data,
        "--events",
    ]);
    assert!(campaign.status.success(), "{}{}", stdout_text(&campaign), stderr_text(&campaign));
    let events = PathBuf::from(&data).join("events");

    let report = check_event_logs(&events);
    assert!(report.violation.is_none(), "{:?}", report.violation);
    assert!(report.unclean_nodes.is_empty(), "{:?}", report.unclean_nodes);
    // Some are killed before they have written a line.
    assert!(report.incarnations > 6, "{} incarnations", report.incarnations);
    let commits =
        report.sometimes.rows().iter().find(|(name, _)| *name == "commit").expect("a counter");
    assert!(commits.1 > 10, "{commits:?}");

    let without_completions = altered_copy(
        &dir,
        &events,
        "n1.",
        |line| !line.contains(r#""what":{"Done""#),
        |line| line.to_owned(),
    );
    let violation = check_event_logs(&without_completions).violation.expect("a violation").0;
    assert!(violation.property.starts_with("W10"), "{violation}");

    let without_first_incarnation =
        altered_copy(&dir, &events, "n2.00001", |_| false, |line| line.to_owned());
    let refused = check_logs(&Of::<Commit>::new(), &[without_first_incarnation])
        .expect_err("an incarnation is missing")
        .to_string();
    assert!(refused.contains("incarnation 1 of n2 is missing"), "{refused}");

    let shorter =
        |line: &str| line.replacen(r#"{"Snapshot":1},"bytes":"#, r#"{"Snapshot":1},"bytes":1"#, 1);
    let shortened = altered_copy(&dir, &events, "n", |_| true, shorter);
    let violation = check_event_logs(&shortened).violation.expect("a violation").0;
    assert!(violation.property.starts_with("K1"), "{violation}");
}

/// 1. A node runs without an event log, and commits.
/// 2. It runs again, with one. The checkers have not seen it write the files that it finds.
/// 3. That is an incomplete log, not an impossible effect of a kill.
#[test]
fn incomplete_event_log_is_rejected() {
    let dir = TestDir::new("half-logged");
    let (own, data, events) =
        (format!("127.0.0.1:{}", ports(1)), dir.join("n0"), dir.join("events"));
    let peer = format!("0={own}");
    let args = ["--id", "0", "--peer", &peer, "--data", &data];
    let mut unlogged = Node::serve(&args, &dir.0.join("log"));
    assert!(run(&["tx", "--at", &own, "put a=1 @0"]).status.success());
    assert_eq!(unlogged.terminate(), Some(0));
    let mut logged = Node::serve(&[&args[..], &["--events", &events]].concat(), &dir.0.join("log"));
    assert!(run(&["get", "--at", &own, "a@0"]).status.success());
    assert_eq!(logged.terminate(), Some(0));
    let refused =
        check_logs(&Of::<Commit>::new(), &[PathBuf::from(events)]).expect_err("an incomplete log");
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

fn check_event_logs(events: &std::path::Path) -> LogCheckReport {
    check_logs(&Of::<Commit>::new(), &[events.to_path_buf()]).expect("the logs can be checked")
}

/// A copy of the logs, in which those with some name lack some lines, and have others changed.
fn altered_copy(
    dir: &TestDir,
    events: &std::path::Path,
    name: &str,
    keep: impl Fn(&str) -> bool,
    change: impl Fn(&str) -> String,
) -> PathBuf {
    let copy = dir.0.join("altered");
    let _ = fs::remove_dir_all(&copy);
    fs::create_dir_all(&copy).expect("a directory");
    for entry in fs::read_dir(events).expect("there are events") {
        let path = entry.expect("an entry").path();
        let file = path.file_name().expect("a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("a log");
        let text = if file.starts_with(name) {
            let kept = text.split_inclusive('\n').filter(|line| keep(line)).map(&change);
            kept.collect()
        } else {
            text
        };
        // An incarnation without lines has no file either.
        if !text.is_empty() {
            fs::write(copy.join(file), text).expect("a copy");
        }
    }
    copy
}

/// The simulator writes the same lines as a real node, so its runs can be checked a second time,
/// from the outside.
#[test]
fn event_log_of_a_simulated_run_is_checked_like_a_real_one() {
    let dir = TestDir::new("simulated");
    let setup = Setup { profile: Profile::Calm, ..Setup::default() };
    for seed in 0..3 {
        let mut world = world::<Commit, _, _>(
            draw_run::<Commit>(&setup, seed),
            |chooser| chooser,
            Trace::new(Filter::default(), true),
        );
        assert!(world.run().violation.is_none());
        let log = dir.0.join(format!("seed-{seed}.jsonl"));
        // The first and last line of `replay --json`.
        let head = r#"{"options":"seed","version":"0","what":"seed"}"#;
        let tail = r#"{"fingerprint":"0","notes":[],"verdict":"clean"}"#;
        fs::write(&log, format!("{head}\n{}{tail}\n", world.checker().0.text())).expect("a log");
        let report = check_logs(&Of::<Commit>::new(), &[log]).expect("it can be checked");
        assert!(report.violation.is_none(), "seed {seed}: {:?}", report.violation);
        assert!(report.lines > 20, "seed {seed}: {} lines", report.lines);
    }
}

#[test]
fn malformed_frames_change_no_state() {
    let fuzz = run(&["fuzz", "--frames", "100000", "--connections", "8"]);
    assert!(fuzz.status.success(), "{}{}", stdout_text(&fuzz), stderr_text(&fuzz));
    assert!(stdout_text(&fuzz).contains("100000 frames"), "{}", stdout_text(&fuzz));
    assert!(!stdout_text(&fuzz).contains("meanwhile 0 transactions"), "{}", stdout_text(&fuzz));
}

#[test]
fn demo_prints_its_steps_and_continues_from_existing_data() {
    let dir = TestDir::new("demo");
    let from = super::program::ports(4);
    let (data, ports) = (dir.join("logs"), format!("{from}..={}", from + 3));
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
