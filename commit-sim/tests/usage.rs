//! Wrong usage gets a one-line error on standard error and exit code 2; violations have exit codes
//! of their own.

use std::process::{Command, Output};

fn sim(line: &str) -> Output {
    let command = env!("CARGO_BIN_EXE_commit-sim");
    Command::new(command).args(line.split_whitespace()).output().expect("the command line starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// The one-line error for these arguments.
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
        ("hunt --first-seed 18446744073709551615 --seeds 2", "seeds go up to 18446744073709551615"),
        ("hunt --first-seed 18446744073709551616", "'--first-seed <FIRST_SEED>'"),
        // A near miss is answered with the flag that was meant.
        ("hunt --seed 7", "'--seeds'"),
        ("hunt --seeds 1e5", "expected a whole number"),
        ("replay", "<SEED|FILE|DIR>"),
        ("replay src", "there is no schedule (`.schedule`) in src"),
        ("replay ../regressions --json", "takes no other flags"),
        ("replay ../tests/scenarios/commit.schedule --profile lossy", "has its own settings"),
        ("replay seven", "seven is neither a seed"),
        ("replay 7 --node 64", "there is no n64: seed 7 has"),
        ("replay 7 --node seven", "a node's number"),
        ("replay 7 --request 1.4", "like c1.4"),
        ("replay 7 --request c99.1", "there is no c99.1: seed 7 has clients c1 to c"),
        ("replay 7 --from-ms 9 --to-ms 8", "--from-ms 9.000 is after --to-ms 8.000"),
        ("replay ../regressions --from-ms 5", "takes no other flags"),
        ("replay ../regressions --state n1", "takes no other flags"),
        ("replay 7 --state n64", "there is no n64: seed 7 has"),
        ("replay 7 --at-ms 5", "--state <NODE>"),
        ("replay 7 --explain --only Vote", "cannot be used with"),
        ("replay 7 --color sometimes", "possible values: auto, always, never"),
        ("shrink ../tests/scenarios/commit.schedule --nodes 3", "has its own settings"),
        // Tests run in the directory of the package, so this file exists; a shrink must not replace
        // it.
        ("shrink 0 --profile lying-disk -o Cargo.toml", "Cargo.toml exists already"),
        (
            "diff ../tests/scenarios/commit.schedule ../tests/scenarios/commit.schedule --nodes 3",
            "has its own settings",
        ),
        ("replay 7 --to-ms 8.0005", "with at most three decimals"),
        ("replay 7 --from-ms 99999999999999999999", "'--from-ms <FROM_MS>'"),
        ("check-determinism --seeds 0", "'--seeds <SEEDS>'"),
        ("check-determinism --first-seed 18446744073709551615", "seeds go up to"),
        ("bench --loss 2", "0 to 0.5"),
        ("bench --loss NaN", "0 to 0.5"),
        ("bench --nodes 0", "1..=64"),
        ("bench --seeds 0", "'--seeds <SEEDS>'"),
    ] {
        let output_text = usage_error_of(line);
        assert!(output_text.contains(what), "`{line}`: expected {what}, got {output_text}");
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

/// The ranges of all faults begin in one column.
#[test]
fn profiles_are_aligned() {
    const COLUMN: usize = 64;
    let output_text = text(&sim("profiles").stdout);
    let mut lines = output_text.lines().skip_while(|line| !line.starts_with("faults"));
    lines.next();
    let lines: Vec<&str> = lines.collect();
    for (at, line) in lines.iter().enumerate() {
        let next = lines.get(at + 1).copied().unwrap_or_default();
        // A long meaning has its range on the next line.
        if !next.starts_with("      ") {
            assert_eq!(&line[COLUMN - 1..COLUMN], " ", "{line}");
            assert_ne!(&line[COLUMN..=COLUMN], " ", "{line}");
        }
    }
    assert!(lines.len() > 29, "{output_text}");
}

/// A hunt ends at the greatest seed and does not wrap around to 0.
#[test]
fn hunt_ends_at_the_last_seed() {
    // Sixteen seeds up to the end, and so much time that it is not the limit.
    let output = sim("hunt --first-seed 18446744073709551600 --seconds 60");
    let output_text = text(&output.stdout);
    assert!(output_text.starts_with("16 seeds in "), "{output_text}");
    assert_eq!(output.status.code(), Some(0), "{output_text}");
}

/// A failure is reported even if its schedule cannot be written.
#[test]
fn failure_is_reported_when_its_file_cannot_be_written() {
    // Nothing can be created below a device, not even by root.
    let output = sim("hunt --seeds 500 --profile lying-disk --save /dev/null/no");
    let output_text = text(&output.stdout);
    assert_eq!(output.status.code(), Some(10), "{output_text}");
    assert!(
        output_text.contains(" violates ") && output_text.contains("not saved"),
        "{output_text}"
    );
    assert!(text(&output.stderr).contains("cannot write /dev/null/no"), "{}", text(&output.stderr));
}

/// A lying drive violates properties, so this hunt fails at once: it ends with the command that
/// replays it, and that command shows a violation of the same property.
#[test]
fn failing_hunt_prints_the_command_that_replays_it() {
    let found = sim("hunt --seeds 500 --profile lying-disk");
    let output_text = text(&found.stdout);
    assert_eq!(found.status.code(), Some(10), "{output_text}");
    let replay = output_text.lines().last().expect("a report").trim();
    let arguments = replay.strip_prefix("cargo sim ").expect("the command of this repository");
    let replayed = sim(arguments);
    assert_eq!(replayed.status.code(), Some(10), "{replay}");
    let property =
        output_text.lines().find_map(|line| line.split_once(" violates ")).expect("a violation").1;
    assert!(
        text(&replayed.stdout).contains(&format!("VIOLATED {property}")),
        "{replay} shows another property"
    );
}

/// A closed pipe is no error and does not change the exit code; any other output error is reported.
#[cfg(target_os = "linux")]
#[test]
fn output_errors_do_not_hide_the_exit_code() {
    use std::fs::File;
    use std::process::Stdio;
    let exit_code_and_stderr = |line: &str, out: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_commit-sim"));
        let output =
            command.args(line.split_whitespace()).stdout(out).stderr(Stdio::piped()).output();
        let output = output.expect("the command line starts");
        (output.status.code(), text(&output.stderr))
    };
    let violation = "hunt --seeds 20 --profile lying-disk --no-shrink";
    for (line, code) in
        [(violation, 10), ("profiles", 0), ("replay 7", 0), ("check-determinism --seeds 2", 0)]
    {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        // Without a reader, every write to the pipe fails.
        drop(reader);
        let to_closed_pipe = exit_code_and_stderr(line, writer.into());
        assert_eq!(to_closed_pipe, (Some(code), String::new()), "{line}");
        let full_device = File::create("/dev/full").expect("a device that is always full");
        let (ended, output_text) = exit_code_and_stderr(line, full_device.into());
        assert_eq!(ended, Some(if code == 0 { 1 } else { code }), "{line}: {output_text}");
        assert!(
            output_text.starts_with("error: cannot write to standard output")
                && output_text.lines().count() == 1,
            "{line}: {output_text}"
        );
    }
}

/// The worst result of a directory decides the exit code, and entries that cannot be reached are
/// listed.
#[test]
fn directory_replay_exits_with_the_worst_code_and_lists_unreached_faults() {
    let directory = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("worst");
    let _none = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("a directory");
    // The default fault phase ends at 500 ms, so neither of the two happens.
    let too_late = "cluster 2 nodes, 1 client\nrequest c1.1 to n0 after 600 ms: put k=1 @n0\nat 700 ms pause n1 for 3 ms\n";
    // The sync of the very first snapshot: the first visible effect already depends on it.
    let lying_disk = "cluster 1 node, 1 client\nsync-lies n0 incarnation 1 at 1st sync following append Snapshot\n";
    // One that cannot be read, one with entries that are too late, and one with a violation, which
    // is the worst of the three results.
    for (name, schedule_file) in
        [("a", "\u{feff}fault-phase 130 \u{b5}s"), ("b", too_late), ("c", lying_disk)]
    {
        std::fs::write(directory.join(name).with_extension("schedule"), schedule_file)
            .expect("a file");
    }
    let output = sim(&format!("replay {}", directory.display()));
    let output_text = text(&output.stdout);
    assert_eq!(output.status.code(), Some(10), "{output_text}");
    assert!(
        output_text
            .contains("a.schedule: line 1, column 17: expected `ms`, `us` or `s`, found `\u{b5}s`"),
        "{output_text}"
    );
    assert!(
        output_text.contains(
            "not reached: request c1.1 after 600.000 ms: the fault phase ends at 500.000 ms"
        ),
        "{output_text}"
    );
    assert!(
        output_text.contains("not reached: pause n1 for 3.000 ms after 700.000 ms"),
        "{output_text}"
    );
    assert!(output_text.ends_with("3 schedules: FAILED\n"), "{output_text}");
}

/// The result of a shrink is printed even if it cannot be written, and it has the property that was
/// violated, whatever the file expected.
#[test]
fn shrink_reports_its_result_when_the_file_cannot_be_written() {
    let directory = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("shrink");
    let _none = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("a directory");
    let schedule_file = directory.join("original.schedule");
    let shorter = directory.join("shorter.schedule");
    // The file expects another property than the run violates; the result must name the right one.
    let lying_disk = "expect violation of W2 CommitIsDurableFirst\ncluster 1 node, 1 client\nsync-lies n0 incarnation 1 at 1st sync following append Snapshot\n";
    std::fs::write(&schedule_file, lying_disk).expect("a file");
    let output = sim(&format!("shrink {} -o {}", schedule_file.display(), shorter.display()));
    assert_eq!(output.status.code(), Some(10), "{}", text(&output.stdout));
    let written = std::fs::read_to_string(&shorter).expect("it is written");
    assert!(
        written.contains("expect           violation of W10 NoEffectBeforeTheBootIsDurable"),
        "{written}"
    );
    let output = sim(&format!("shrink {} -o /dev/null/no.schedule", schedule_file.display()));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).ends_with(&written), "{}", text(&output.stdout));
    assert!(
        text(&output.stderr).contains("cannot write /dev/null/no.schedule"),
        "{}",
        text(&output.stderr)
    );
}

const COMMIT: &str = "replay ../tests/scenarios/commit.schedule";

fn output_of(line: &str) -> String {
    text(&sim(line).stdout)
}

/// The lines that this command prints, without the header.
fn trace_of(line: &str) -> Vec<String> {
    let output = sim(line);
    assert_eq!(output.status.code(), Some(0), "`{line}`: {}", text(&output.stderr));
    text(&output.stdout).lines().skip(1).map(str::to_string).collect()
}

#[test]
fn kinds_select_lines_of_a_trace() {
    let votes = trace_of(&format!("{COMMIT} --only vote,Prepare"));
    let (lines, verdict) = votes.split_at(votes.len() - 2);
    assert_eq!(verdict[0], "clean");
    assert!(
        lines.iter().all(|line| line.contains("Vote") || line.contains("Prepare ")),
        "{votes:?}"
    );
    assert!(lines.iter().any(|line| line.contains("-> n1     Prepare c1.1")), "{votes:?}");
    assert!(lines.iter().any(|line| line.contains("-> n0     Vote c1.1")), "{votes:?}");
    let others = trace_of(&format!("{COMMIT} --hide Vote,Prepare,done --all"));
    assert!(!others.iter().any(|line| line.contains("Vote") || line.contains("  done ")));
    let whole = trace_of(&format!("{COMMIT} --all"));
    let done = whole.iter().filter(|line| line.contains("  done ")).count();
    assert_eq!(others.len() + lines.len() + done, whole.len());
    let misspelt = sim(&format!("{COMMIT} --only Voet"));
    let stderr = text(&misspelt.stderr);
    assert!(
        stderr.contains("no line has the kind Voet; there are ") && stderr.contains("Vote"),
        "{stderr}"
    );
}

/// A wake before the deadline (C4) makes the node do nothing.
#[test]
fn wakes_without_effect_are_left_out_and_counted() {
    let file = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("wakes.schedule");
    let early = "cluster 2 nodes, 1 client\nat 300 ms wake n1\nat 310 ms wake n1\n";
    std::fs::write(&file, early).expect("a file");
    let trace = trace_of(&format!("replay {}", file.display()));
    let whole = trace_of(&format!("replay {} --all", file.display()));
    let note = "... 2 routine lines are left out (2 wake); --all shows all ...";
    assert!(trace.iter().any(|line| line == note), "{}", trace.join("\n"));
    assert!(!trace.iter().any(|line| line.ends_with("n1  wake")), "{}", trace.join("\n"));
    assert_eq!(whole.iter().filter(|line| line.ends_with("n1  wake")).count(), 2);
}

#[test]
fn state_of_a_node_is_printed_at_any_time() {
    let early = output_of(&format!("{COMMIT} --state n1 --at-ms 0"));
    assert!(early.starts_with("n1 at 0.000 ms\nCommitNode {\n"), "{early}");
    let between = output_of(&format!("{COMMIT} --state n1 --at-ms 20.5"));
    assert!(between.starts_with("n1 at 20.500 ms\nCommitNode {\n"), "{between}");
    let late = output_of(&format!("{COMMIT} --state n1 --at-ms 100000"));
    assert!(late.lines().next().expect("a line").ends_with(" ms, the end of the run"), "{late}");
    assert_ne!(early.split_once('\n'), late.split_once('\n'));
    assert_eq!(late, output_of(&format!("{COMMIT} --state n1")));
}

#[test]
fn colours_are_for_terminals_unless_requested() {
    let plain = output_of(COMMIT);
    assert!(!plain.contains('\u{1b}'), "standard output is no terminal here");
    assert_eq!(output_of(&format!("{COMMIT} --color never")), plain);
    let coloured = output_of(&format!("{COMMIT} --color always"));
    assert!(coloured.contains('\u{1b}'));
    // Without the codes (`ESC [ ... m`) the text is the same.
    let mut stripped = String::new();
    for part in coloured.split("\u{1b}[") {
        let after = part
            .split_once('m')
            .filter(|(code, _)| code.chars().all(|c| c.is_ascii_digit() || c == ';'));
        stripped += after.map_or(part, |(_, rest)| rest);
    }
    assert_eq!(stripped, plain);
}
