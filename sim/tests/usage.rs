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
