//! What makes no sense gets exactly one line, on standard error, and exit code 2; what was found gets its own code.

use std::process::{Command, Output};

fn sim(line: &str) -> Output {
    let command = env!("CARGO_BIN_EXE_stormglass-sim");
    Command::new(command).args(line.split_whitespace()).output().expect("the command line starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// The one line that this line of arguments gets.
fn refusal(line: &str) -> String {
    let output = sim(line);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "`{line}`: {said}");
    assert_eq!(text(&output.stdout), "", "`{line}`");
    assert!(said.starts_with("error: ") && said.lines().count() == 1, "`{line}`: {said}");
    said
}

#[test]
fn what_makes_no_sense_gets_one_line_that_says_what_is_wrong() {
    for (line, what) in [
        ("", "a command is missing"),
        ("haunt", "'haunt'"),
        ("hunt --seeds 0", "'--seeds <SEEDS>'"),
        ("hunt --seeds -3", "'-3'"),
        ("hunt --seeds many", "'many'"),
        ("hunt --seconds 0", "'--seconds <SECONDS>'"),
        ("hunt --jobs 0", "'--jobs <JOBS>'"),
        ("hunt --jobs 1000000", "1..=1024"),
        ("hunt --nodes 0", "1..=64"),
        ("hunt --nodes 65", "1..=64"),
        ("hunt --txns 0", "1..=1000000"),
        ("hunt --profile windy", "possible values: swarm, calm"),
        ("hunt --moon full", "'--moon'"),
        ("hunt --first-seed 18446744073709551615", "seeds go up to 18446744073709551614"),
        ("hunt --first-seed 18446744073709551616", "'--first-seed <FIRST_SEED>'"),
        ("hunt --seed 7", "'--seeds'"),
        ("hunt --seeds 1e5", "expected a whole number"),
        ("replay", "<SEED|FILE|DIR>"),
        ("replay src", "there is no schedule (`.storm`) in src"),
        ("replay ../regressions --json", "without any flag"),
        ("replay ../tests/stories/commit.storm --profile lossy", "says itself what kind of storm it is"),
        ("replay seven", "seven is neither a seed"),
        ("replay 7 --node 64", "there is no n64: seed 7 has"),
        ("replay 7 --node seven", "a node's number"),
        ("replay 7 --request 1.4", "like c1.4"),
        ("replay 7 --request c99.1", "there is no c99.1: seed 7 has clients c1 to c"),
        ("replay 7 --from-ms 9 --to-ms 8", "--from-ms 9 is after --to-ms 8"),
        ("replay ../regressions --from-ms 5", "without any flag"),
        ("shrink ../tests/stories/commit.storm --nodes 3", "says itself what kind of storm it is"),
        ("shrink 0 --profile lying -o Cargo.toml", "Cargo.toml is there already"),
        ("diff ../tests/stories/commit.storm ../tests/stories/commit.storm --nodes 3", "says itself"),
        ("replay 7 --from-ms 99999999999999999999", "'--from-ms <FROM_MS>'"),
        ("check --seeds 0", "'--seeds <SEEDS>'"),
        ("check --first-seed 18446744073709551615", "seeds go up to"),
        ("bench --loss 2", "0 to 0.5"),
        ("bench --loss NaN", "0 to 0.5"),
        ("bench --nodes 0", "1..=64"),
        ("bench --seeds 0", "'--seeds <SEEDS>'"),
    ] {
        let said = refusal(line);
        assert!(said.contains(what), "`{line}` should say {what}, and says {said}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for line in ["--help", "--version", "hunt --help", "help replay"] {
        let output = sim(line);
        assert_eq!(output.status.code(), Some(0), "`{line}`");
        assert_eq!(text(&output.stderr), "", "`{line}`");
        assert!(!output.stdout.is_empty(), "`{line}`");
    }
}

/// The last seeds there are: a hunt ends with them, and does not begin at 0 again.
#[test]
fn a_hunt_ends_where_the_seeds_end() {
    let output = sim("hunt --first-seed 18446744073709551600 --seconds 60");
    let said = text(&output.stdout);
    assert!(said.starts_with("15 seeds in "), "{said}");
    assert_eq!(output.status.code(), Some(0), "{said}");
}

/// What was found is told even if it cannot be written down.
#[test]
fn a_finding_survives_a_directory_that_cannot_be_written() {
    let output = sim("hunt --seeds 500 --profile lying --save /dev/null/no");
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(10), "{said}");
    assert!(said.contains(" breaks ") && said.contains("not kept"), "{said}");
    assert!(text(&output.stderr).contains("cannot write /dev/null/no"), "{}", text(&output.stderr));
}

/// A drive that lies breaks claims, so this hunt fails at once: it ends with the line that replays it, and that line
/// shows the same claim broken.
#[test]
fn a_failing_hunt_ends_with_the_line_that_repeats_it() {
    let found = sim("hunt --seeds 500 --profile lying");
    let said = text(&found.stdout);
    assert_eq!(found.status.code(), Some(10), "{said}");
    let replay = said.lines().last().expect("a report").trim();
    let arguments = replay.strip_prefix("cargo sim ").expect("the command that one types here");
    let replayed = sim(arguments);
    assert_eq!(replayed.status.code(), Some(10), "{replay}");
    let claim = said.lines().find_map(|line| line.split_once(" breaks ")).expect("which claim").1;
    assert!(text(&replayed.stdout).contains(&format!("BROKEN {claim}")), "{replay} shows another claim");
}

/// A reader that has seen enough is no error and takes nothing away from the verdict; one that cannot take it is told.
#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_said_changes_no_verdict() {
    use std::fs::File;
    use std::process::Stdio;
    let ends = |line: &str, out: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stormglass-sim"));
        let output = command.args(line.split_whitespace()).stdout(out).stderr(Stdio::piped()).output();
        let output = output.expect("the command line starts");
        (output.status.code(), text(&output.stderr))
    };
    let full = || Stdio::from(File::create("/dev/full").expect("a device that is always full"));
    let gone = || {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        Stdio::from(writer)
    };
    let broken = "hunt --seeds 20 --profile lying --no-shrink";
    for (line, code) in [(broken, 10), ("profiles", 0), ("replay 7", 0), ("check --seeds 2", 0)] {
        assert_eq!(ends(line, gone()), (Some(code), String::new()), "{line}");
        let (ended, said) = ends(line, full());
        assert_eq!(ended, Some(if code == 0 { 1 } else { code }), "{line}: {said}");
        assert!(
            said.starts_with("error: cannot write to standard output") && said.lines().count() == 1,
            "{line}: {said}"
        );
    }
}

/// Of a directory the worst verdict counts, and what cannot come up is named.
#[test]
fn the_worst_of_a_directory_decides_and_what_is_too_late_is_named() {
    let directory = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("worst");
    let _none = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("a directory");
    let late = "cluster 2 nodes, 1 client\nrequest c1.1 to n0 after 600 ms: put n0/k 1\nat 700 ms pause n1 for 3 ms\n";
    let lie = "cluster 1 node, 1 client\nlie n0 life 1 at 1st sync following append Snapshot\n";
    for (name, story) in [("a", "\u{feff}storm 130 \u{b5}s"), ("b", late), ("c", lie)] {
        std::fs::write(directory.join(name).with_extension("storm"), story).expect("a file");
    }
    let output = sim(&format!("replay {}", directory.display()));
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(10), "{said}");
    assert!(
        said.contains("a.storm: line 1, column 11: expected `ms`, `us` or `s`, found `\u{b5}s`"),
        "{said}"
    );
    assert!(
        said.contains("never came up: request c1.1 after 600.000 ms: the storm lasts 500.000 ms"),
        "{said}"
    );
    assert!(said.contains("never came up: pause n1 for 3.000 ms after 700.000 ms"), "{said}");
    assert!(said.ends_with("3 schedules: FAILED\n"), "{said}");
}

/// What a shrink has found is told even if it cannot be written, and it names the claim that broke, whatever the file said.
#[test]
fn a_shrink_loses_nothing_and_says_what_broke() {
    let directory = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("shrink");
    let _none = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("a directory");
    let (story, shorter) = (directory.join("story.storm"), directory.join("shorter.storm"));
    let lie = "breaks W2 CommitIsDurableFirst\ncluster 1 node, 1 client\nlie n0 life 1 at 1st sync following append Snapshot\n";
    std::fs::write(&story, lie).expect("a file");
    let output = sim(&format!("shrink {} -o {}", story.display(), shorter.display()));
    assert_eq!(output.status.code(), Some(10), "{}", text(&output.stdout));
    let written = std::fs::read_to_string(&shorter).expect("it is written");
    assert!(written.contains("breaks     W10 SilentUntilTheBootIsDurable"), "{written}");
    let output = sim(&format!("shrink {} -o /dev/null/no.storm", story.display()));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).ends_with(&written), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("cannot write /dev/null/no.storm"), "{}", text(&output.stderr));
}
