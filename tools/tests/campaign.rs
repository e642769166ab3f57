//! A short campaign of kills, a short fuzz, what a signal leaves of a campaign, wrong usage.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use stormglass_commit_sim::Commit;
use stormglass_sim::log_check::{LogCheckReport, check_logs};
use tempfile::TempDir;

/// The program under test, which belongs to another package: cargo has built it beside this test,
/// or builds it now.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let tools = Path::new(env!("CARGO_BIN_EXE_stormglass-tools"));
        let profile = tools.parent().expect("a directory");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--workspace", "--bin", "stormglass"]);
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo can be run").success());
        profile.join("stormglass")
    })
}

fn tools(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stormglass-tools"));
    command.arg("--program").arg(program()).args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    tools(args).output().expect("the tools can be run")
}

fn stdout_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn test_dir() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// One scenario, since it takes seconds:
/// 1. Twelve kills among four nodes: nothing is lost, no transaction is blocked.
/// 2. The checkers find no violation.
/// 3. The same events without the barrier completions of one node: it sent what was not durable.
/// 4. Without one node's first incarnation: not checked, and reported.
/// 5. With one file that an incarnation found shortened by a byte: no kill does that.
#[test]
fn kills_lose_nothing_and_checkers_detect_altered_event_logs() {
    let dir = test_dir();
    let data = dir.path().join("data").display().to_string();
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
    let refused = check_logs(&Commit, &[without_first_incarnation])
        .expect_err("an incarnation is missing")
        .to_string();
    assert!(refused.contains("incarnation 1 of n2 is missing"), "{refused}");

    let shorter =
        |line: &str| line.replacen(r#"{"Snapshot":1},"bytes":"#, r#"{"Snapshot":1},"bytes":1"#, 1);
    let shortened = altered_copy(&dir, &events, "n", |_| true, shorter);
    let violation = check_event_logs(&shortened).violation.expect("a violation").0;
    assert!(violation.property.starts_with("K1"), "{violation}");
}

fn check_event_logs(events: &std::path::Path) -> LogCheckReport {
    check_logs(&Commit, &[events.to_path_buf()]).expect("the logs can be checked")
}

/// A copy of the logs, in which those with some name lack some lines, and have others changed.
fn altered_copy(
    dir: &TempDir,
    events: &std::path::Path,
    name: &str,
    keep: impl Fn(&str) -> bool,
    change: impl Fn(&str) -> String,
) -> PathBuf {
    let copy = dir.path().join("altered");
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

#[test]
fn malformed_frames_change_no_state() {
    let fuzz = run(&["fuzz", "--frames", "100000", "--connections", "8"]);
    assert!(fuzz.status.success(), "{}{}", stdout_text(&fuzz), stderr_text(&fuzz));
    assert!(stdout_text(&fuzz).contains("100000 frames"), "{}", stdout_text(&fuzz));
    assert!(!stdout_text(&fuzz).contains("meanwhile 0 transactions"), "{}", stdout_text(&fuzz));
}

/// A campaign whose nodes all run, and its output, which must stay open meanwhile.
fn campaign(dir: &TempDir) -> (Child, BufReader<ChildStdout>) {
    let mut command = tools(&["campaign", "--kills", "1000000", "--pause-ms", "60000"]);
    command.env("TMPDIR", dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the tools can be run");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("its first line");
    assert!(line.contains("kills among"), "{line}");
    (child, out)
}

/// The number of processes with an argument inside this directory.
fn processes_using(dir: &TempDir) -> usize {
    let dir = dir.path().display().to_string();
    let processes = fs::read_dir("/proc").expect("a system that lists its processes");
    let mut count = 0;
    for process in processes.flatten() {
        // A process that has ended since has no command any more.
        if let Ok(command) = fs::read(process.path().join("cmdline")) {
            count += usize::from(String::from_utf8_lossy(&command).contains(&dir));
        }
    }
    count
}

fn signalled(name: &str, child: Child) -> Output {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().expect("kill can be run").success());
    child.wait_with_output().expect("it is our child")
}

#[test]
fn signal_ends_a_campaign_and_removes_its_processes_and_files() {
    for (signal, name) in [("-INT", "SIGINT"), ("-TERM", "SIGTERM")] {
        let dir = test_dir();
        let (child, _out) = campaign(&dir);
        assert_eq!(processes_using(&dir), 4);
        let ended = signalled(signal, child);
        assert_eq!(ended.status.code(), Some(130), "{}", stderr_text(&ended));
        assert!(
            stderr_text(&ended).contains(&format!("interrupted by {name}")),
            "{}",
            stderr_text(&ended)
        );
        assert_eq!(processes_using(&dir), 0);
        assert_eq!(fs::read_dir(dir.path()).expect("our directory").count(), 0);
    }
}

/// 1. The campaign is killed without a chance to clean up.
/// 2. Its nodes are not stopped; each finds that its standard input is closed.
#[test]
#[expect(clippy::disallowed_methods, reason = "processes end in their own time")]
fn nodes_stop_when_their_campaign_is_killed() {
    let dir = test_dir();
    let (child, _out) = campaign(&dir);
    assert_eq!(processes_using(&dir), 4);
    signalled("-KILL", child);
    for _ in 0..200 {
        if processes_using(&dir) == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{} nodes are still running", processes_using(&dir));
}

/// Asserts one line, this exit code, and these words in it.
fn assert_error(code: i32, args: &[&str], expected: &[&str]) {
    let output = run(args);
    let stderr = stderr_text(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert_eq!(stderr.trim_end().lines().count(), 1, "{args:?}: {stderr}");
    for text in expected {
        assert!(stderr.contains(text), "{args:?}: {text:?} is not in: {stderr}");
    }
}

#[test]
fn option_out_of_range_is_a_usage_error() {
    let max = u64::MAX.to_string();
    for (command, flag) in [
        ("bench", "--clients"),
        ("bench", "--seconds"),
        ("campaign", "--kills"),
        ("campaign", "--think-ms"),
        ("fuzz", "--connections"),
    ] {
        let output = run(&[command, flag, &max]);
        let stderr = stderr_text(&output);
        assert_eq!(output.status.code(), Some(2), "{command} {flag}: {stderr}");
        assert!(stderr.contains(flag) && stderr.contains(&max), "{command} {flag}: {stderr}");
    }
    // Such a check would succeed without testing anything.
    for args in [["fuzz", "--frames", "0"], ["campaign", "--kills", "0"]] {
        let output = run(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr_text(&output));
    }
}

#[test]
fn impossible_options_fail_with_one_line() {
    assert_error(2, &["bench", "--nodes", "4", "--span", "9"], &["--span 9", "--nodes 4"]);
    let dir = test_dir();
    let file = dir.path().join("file").display().to_string();
    fs::write(&file, "").expect("a file");
    assert_error(1, &["bench", "--data", &file], &[&file]);
    let mut without_program = Command::new(env!("CARGO_BIN_EXE_stormglass-tools"));
    without_program.args(["bench", "--program", &format!("{file}-2")]);
    let output = without_program.output().expect("the tools can be run");
    assert_eq!(output.status.code(), Some(1));
    let expected = format!("stormglass-tools: --program {file}-2: there is no such file\n");
    assert_eq!(stderr_text(&output), expected);
}

#[test]
fn help_has_an_example_per_command_and_lists_the_exit_codes() {
    for command in ["bench", "campaign", "fuzz", "stability"] {
        let help = stdout_text(&run(&[command, "--help"]));
        assert!(help.contains(&format!("\n  cargo tools {command}")), "{help}");
    }
    assert!(stdout_text(&run(&["--help"])).contains("Exit codes:"));
}
