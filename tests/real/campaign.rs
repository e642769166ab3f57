//! A short campaign of kills, and the simulator's judges over what the processes wrote down.

use std::fs;
use std::path::PathBuf;

use stormglass_sim::commit::Commit;
use stormglass_sim::judge::{Report, judge};
use stormglass_sim::profile::{Profile, Setup};
use stormglass_sim::protocol::{Of, drawn, world};
use stormglass_sim::trace::{Filter, Trace};

use super::program::{Node, Place, complained, ports, run, said};

/// Everything in one story, since it takes seconds:
/// 1. Twelve kills among four nodes: nothing is lost, nobody is blocked.
/// 2. The judges agree.
/// 3. The same events without the completions of one node's barriers: it spoke of what was not durable.
/// 4. Without one node's first life: not judged, and that is said.
/// 5. With one file that a life found shortened by a byte: no kill does that.
#[test]
fn kills_lose_nothing_and_the_judges_agree_and_would_have_spoken() {
    let place = Place::new("campaign");
    let data = place.join("data");
    let campaign =
        run(&["campaign", "--kills", "12", "--pause-ms", "100", "--seed", "5", "--data", &data, "--events"]);
    assert!(campaign.status.success(), "{}{}", said(&campaign), complained(&campaign));
    let events = PathBuf::from(&data).join("events");

    let report = judge_all(&events);
    assert!(report.broken.is_none(), "{:?}", report.broken);
    assert!(report.cut_short.is_empty(), "{:?}", report.cut_short);
    // Some are killed before they have said a word.
    assert!(report.lives > 6, "{} lives", report.lives);
    let commits = report.sometimes.rows().iter().find(|(what, _)| *what == "commit").expect("a row");
    assert!(commits.1 > 10, "{commits:?}");

    let undurable =
        altered(&place, &events, "n1.", |line| !line.contains(r#""what":{"Done""#), |line| line.to_owned());
    let broken = judge_all(&undurable).broken.expect("a broken claim").0;
    assert!(broken.claim.starts_with("W10"), "{broken}");

    let headless = altered(&place, &events, "n2.00001", |_| false, |line| line.to_owned());
    let refused = judge(&Of::<Commit>::new(), &[headless]).expect_err("a life is missing").to_string();
    assert!(refused.contains("life 1 of n2 is missing"), "{refused}");

    let shorter = |line: &str| line.replacen(r#"{"Snapshot":1},"bytes":"#, r#"{"Snapshot":1},"bytes":1"#, 1);
    let cut = altered(&place, &events, "n", |_| true, shorter);
    let broken = judge_all(&cut).broken.expect("a broken claim").0;
    assert!(broken.claim.starts_with("P1"), "{broken}");
}

/// 1. A node runs without an event log, and commits.
/// 2. It runs again, with one. What it finds there, the judges have not seen it write.
/// 3. That is a log which is not complete, not a kill that left what no kill leaves.
#[test]
fn a_node_that_once_ran_without_a_log_is_not_judged() {
    let place = Place::new("half-logged");
    let (own, data, events) = (format!("127.0.0.1:{}", ports(1)), place.join("n0"), place.join("events"));
    let peer = format!("0={own}");
    let args = ["--id", "0", "--peer", &peer, "--data", &data];
    let mut silent = Node::serve(&args, &place.0.join("log"));
    assert!(run(&["tx", "--at", &own, "put a=1 @0"]).status.success());
    assert_eq!(silent.terminate(), Some(0));
    let mut logged = Node::serve(&[&args[..], &["--events", &events]].concat(), &place.0.join("log"));
    assert!(run(&["get", "--at", &own, "a@0"]).status.success());
    assert_eq!(logged.terminate(), Some(0));
    let refused = judge(&Of::<Commit>::new(), &[PathBuf::from(events)]).expect_err("a life is missing");
    let told = refused.to_string();
    for words in ["n0.00001.jsonl", "n0 begins its first life", "without `--events`", "empty data directory"]
    {
        assert!(told.contains(words), "{words:?} is not in: {told}");
    }
}

fn judge_all(events: &std::path::Path) -> Report {
    judge(&Of::<Commit>::new(), &[events.to_path_buf()]).expect("the logs can be judged")
}

/// A copy of the logs, in which those of some name lack some lines, and have others changed.
fn altered(
    place: &Place,
    events: &std::path::Path,
    name: &str,
    keep: impl Fn(&str) -> bool,
    change: impl Fn(&str) -> String,
) -> PathBuf {
    let copy = place.0.join("altered");
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
        // Of a life of which no line is kept, not even the file is.
        if !text.is_empty() {
            fs::write(copy.join(file), text).expect("a copy");
        }
    }
    copy
}

/// The simulator writes the same lines as a real node, so its runs can be judged a second time, from the outside.
#[test]
fn what_a_simulated_calm_run_writes_down_is_judged_like_a_real_one() {
    let place = Place::new("simulated");
    let setup = Setup { profile: Profile::Calm, ..Setup::default() };
    for seed in 0..3 {
        let mut world = world::<Commit, _, _>(
            drawn::<Commit>(&setup, seed),
            |chooser| chooser,
            Trace::new(Filter::default(), true),
        );
        assert!(world.run().broken.is_none());
        let log = place.0.join(format!("seed-{seed}.jsonl"));
        // What `replay --json` prints before and after.
        let head = r#"{"options":"seed","version":"0","what":"seed"}"#;
        let tail = r#"{"fingerprint":"0","notes":[],"verdict":"clean"}"#;
        fs::write(&log, format!("{head}\n{}{tail}\n", world.judge().0.text())).expect("a log");
        let report = judge(&Of::<Commit>::new(), &[log]).expect("it can be judged");
        assert!(report.broken.is_none(), "seed {seed}: {:?}", report.broken);
        assert!(report.lines > 20, "seed {seed}: {} lines", report.lines);
    }
}

#[test]
fn frames_that_are_none_change_nothing() {
    let fuzz = run(&["fuzz", "--frames", "100000", "--connections", "8"]);
    assert!(fuzz.status.success(), "{}{}", said(&fuzz), complained(&fuzz));
    assert!(said(&fuzz).contains("100000 frames"), "{}", said(&fuzz));
    assert!(!said(&fuzz).contains("meanwhile 0 transactions"), "{}", said(&fuzz));
}

#[test]
fn the_demo_tells_its_story_and_continues() {
    let place = Place::new("demo");
    let from = super::program::ports(4);
    let (data, ports) = (place.join("logs"), format!("{from}..={}", from + 3));
    for lives in [1, 2] {
        let demo = run(&["demo", "--data", &data, "--ports", &ports, "--transactions", "4"]);
        let story = said(&demo);
        assert!(demo.status.success(), "{story}{}", complained(&demo));
        assert!(story.contains(&format!("n0 life {lives}")), "{story}");
        assert!(story.contains("n2 has voted yes and is dead"), "{story}");
        assert!(story.contains("n1 answers: Commit"), "{story}");
        assert!(story.contains("the accounts add up to 0"), "{story}");
    }
    let three = format!("{from}..={}", from + 2);
    let fewer = run(&["demo", "--data", &data, "--ports", &three]);
    assert_eq!(fewer.status.code(), Some(1), "{}", said(&fewer));
    assert!(complained(&fewer).contains("holds the data of 4 nodes"), "{}", complained(&fewer));
}
