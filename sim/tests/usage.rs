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
fn usage_error_of(line: &str) -> String {
    let output = sim(line);
    let output_text = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "`{line}`: {output_text}");
    assert_eq!(text(&output.stdout), "", "`{line}`");
    assert!(
        output_text.starts_with("error: ") && output_text.lines().count() == 1,
        "`{line}`: {output_text}"
    );
    output_text
}

#[test]
fn wrong_usage_gets_a_one_line_error() {
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
        (
            "replay ../tests/stories/commit.storm --profile lossy",
            "says itself what kind of storm it is",
        ),
        ("replay seven", "seven is neither a seed"),
        ("replay 7 --node 64", "there is no n64: seed 7 has"),
        ("replay 7 --node seven", "a node's number"),
        ("replay 7 --request 1.4", "like c1.4"),
        ("replay 7 --request c99.1", "there is no c99.1: seed 7 has clients c1 to c"),
        ("replay 7 --from-ms 9 --to-ms 8", "--from-ms 9 is after --to-ms 8"),
        ("replay ../regressions --from-ms 5", "without any flag"),
        ("shrink ../tests/stories/commit.storm --nodes 3", "says itself what kind of storm it is"),
        ("shrink 0 --profile lying -o Cargo.toml", "Cargo.toml is there already"),
        (
            "diff ../tests/stories/commit.storm ../tests/stories/commit.storm --nodes 3",
            "says itself",
        ),
        ("replay 7 --from-ms 99999999999999999999", "'--from-ms <FROM_MS>'"),
        ("check --seeds 0", "'--seeds <SEEDS>'"),
        ("check --first-seed 18446744073709551615", "seeds go up to"),
        ("bench --loss 2", "0 to 0.5"),
        ("bench --loss NaN", "0 to 0.5"),
        ("bench --nodes 0", "1..=64"),
        ("bench --seeds 0", "'--seeds <SEEDS>'"),
    ] {
        let output_text = usage_error_of(line);
        assert!(output_text.contains(what), "`{line}` should say {what}, and says {output_text}");
    }
}

#[test]
fn help_and_version_exit_with_0() {
    for line in ["--help", "--version", "hunt --help", "help replay"] {
        let output = sim(line);
        assert_eq!(output.status.code(), Some(0), "`{line}`");
        assert_eq!(text(&output.stderr), "", "`{line}`");
        assert!(!output.stdout.is_empty(), "`{line}`");
    }
}

/// The last seeds there are: a hunt ends with them, and does not begin at 0 again.
#[test]
fn hunt_ends_at_the_last_seed() {
    let output = sim("hunt --first-seed 18446744073709551600 --seconds 60");
    let output_text = text(&output.stdout);
    assert!(output_text.starts_with("15 seeds in "), "{output_text}");
    assert_eq!(output.status.code(), Some(0), "{output_text}");
}

/// What was found is told even if it cannot be written down.
#[test]
fn failure_is_reported_when_its_file_cannot_be_written() {
    let output = sim("hunt --seeds 500 --profile lying --save /dev/null/no");
    let output_text = text(&output.stdout);
    assert_eq!(output.status.code(), Some(10), "{output_text}");
    assert!(output_text.contains(" breaks ") && output_text.contains("not kept"), "{output_text}");
    assert!(text(&output.stderr).contains("cannot write /dev/null/no"), "{}", text(&output.stderr));
}

/// A drive that lies breaks claims, so this hunt fails at once: it ends with the line that replays it, and that line
/// shows the same claim broken.
#[test]
fn failing_hunt_prints_the_command_that_replays_it() {
    let found = sim("hunt --seeds 500 --profile lying");
    let output_text = text(&found.stdout);
    assert_eq!(found.status.code(), Some(10), "{output_text}");
    let replay = output_text.lines().last().expect("a report").trim();
    let arguments = replay.strip_prefix("cargo sim ").expect("the command that one types here");
    let replayed = sim(arguments);
    assert_eq!(replayed.status.code(), Some(10), "{replay}");
    let property =
        output_text.lines().find_map(|line| line.split_once(" breaks ")).expect("which claim").1;
    assert!(
        text(&replayed.stdout).contains(&format!("BROKEN {property}")),
        "{replay} shows another claim"
    );
}

/// A reader that has seen enough is no error and takes nothing away from the verdict; one that cannot take it is told.
#[cfg(target_os = "linux")]
#[test]
fn output_errors_do_not_hide_the_exit_code() {
    use std::fs::File;
    use std::process::Stdio;
    let exit_code_and_stderr = |line: &str, out: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stormglass-sim"));
        let output =
            command.args(line.split_whitespace()).stdout(out).stderr(Stdio::piped()).output();
        let output = output.expect("the command line starts");
        (output.status.code(), text(&output.stderr))
    };
    let full_device =
        || Stdio::from(File::create("/dev/full").expect("a device that is always full"));
    let closed_pipe = || {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        Stdio::from(writer)
    };
    let violation = "hunt --seeds 20 --profile lying --no-shrink";
    for (line, code) in [(violation, 10), ("profiles", 0), ("replay 7", 0), ("check --seeds 2", 0)]
    {
        assert_eq!(
            exit_code_and_stderr(line, closed_pipe()),
            (Some(code), String::new()),
            "{line}"
        );
        let (ended, output_text) = exit_code_and_stderr(line, full_device());
        assert_eq!(ended, Some(if code == 0 { 1 } else { code }), "{line}: {output_text}");
        assert!(
            output_text.starts_with("error: cannot write to standard output")
                && output_text.lines().count() == 1,
            "{line}: {output_text}"
        );
    }
}

/// Of a directory the worst verdict counts, and what cannot come up is named.
#[test]
fn directory_replay_exits_with_the_worst_code_and_lists_unreached_faults() {
    let directory = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("worst");
    let _none = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("a directory");
    let too_late = "cluster 2 nodes, 1 client\nrequest c1.1 to n0 after 600 ms: put n0/k 1\nat 700 ms pause n1 for 3 ms\n";
    let lying_disk =
        "cluster 1 node, 1 client\nlie n0 life 1 at 1st sync following append Snapshot\n";
    for (name, schedule_file) in
        [("a", "\u{feff}storm 130 \u{b5}s"), ("b", too_late), ("c", lying_disk)]
    {
        std::fs::write(directory.join(name).with_extension("storm"), schedule_file)
            .expect("a file");
    }
    let output = sim(&format!("replay {}", directory.display()));
    let output_text = text(&output.stdout);
    assert_eq!(output.status.code(), Some(10), "{output_text}");
    assert!(
        output_text
            .contains("a.storm: line 1, column 11: expected `ms`, `us` or `s`, found `\u{b5}s`"),
        "{output_text}"
    );
    assert!(
        output_text
            .contains("never came up: request c1.1 after 600.000 ms: the storm lasts 500.000 ms"),
        "{output_text}"
    );
    assert!(
        output_text.contains("never came up: pause n1 for 3.000 ms after 700.000 ms"),
        "{output_text}"
    );
    assert!(output_text.ends_with("3 schedules: FAILED\n"), "{output_text}");
}

/// What a shrink has found is told even if it cannot be written, and it names the claim that broke, whatever the file said.
#[test]
fn shrink_reports_its_result_when_the_file_cannot_be_written() {
    let directory = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("shrink");
    let _none = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("a directory");
    let (schedule_file, shorter) = (directory.join("story.storm"), directory.join("shorter.storm"));
    let lying_disk = "breaks W2 CommitIsDurableFirst\ncluster 1 node, 1 client\nlie n0 life 1 at 1st sync following append Snapshot\n";
    std::fs::write(&schedule_file, lying_disk).expect("a file");
    let output = sim(&format!("shrink {} -o {}", schedule_file.display(), shorter.display()));
    assert_eq!(output.status.code(), Some(10), "{}", text(&output.stdout));
    let written = std::fs::read_to_string(&shorter).expect("it is written");
    assert!(written.contains("breaks     W10 SilentUntilTheBootIsDurable"), "{written}");
    let output = sim(&format!("shrink {} -o /dev/null/no.storm", schedule_file.display()));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).ends_with(&written), "{}", text(&output.stdout));
    assert!(
        text(&output.stderr).contains("cannot write /dev/null/no.storm"),
        "{}",
        text(&output.stderr)
    );
}
