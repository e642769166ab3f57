//! Output to a reader that closes early, to a full disk, and after a signal.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use super::program::{Node, PROGRAM, TestDir, ports, stderr_text};

fn run_into(out: impl Into<Stdio>, args: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(args).stdin(Stdio::null()).stdout(out).stderr(Stdio::piped());
    command.spawn().and_then(std::process::Child::wait_with_output).expect("the program can be run")
}

fn full_device() -> File {
    File::options().write(true).open("/dev/full").expect("a device that is always full")
}

/// A pipe without a reader.
fn closed_pipe() -> Stdio {
    let (_, writer) = std::io::pipe().expect("a pipe");
    writer.into()
}

#[test]
fn output_error_does_not_panic_and_still_reports_the_commit() {
    let dir = TestDir::new("output");
    let (port, data) = (ports(1), dir.join("n0"));
    let (own, at) = (format!("0=127.0.0.1:{port}"), format!("127.0.0.1:{port}"));
    let mut node = Node::serve(&["--id", "0", "--peer", &own, "--data", &data], &dir.0.join("log"));
    let tx = ["tx", "--at", &at, "put a=1 @0"];
    for (args, code) in [
        // The result holds, and the exit code shows it even without a reader.
        (&tx[..], 0),
        (&["tx", "--at", &at, "add a=-2>=0 @0"], 3),
        (&["status", "--at", &at], 141),
        (&["wal", "dump", &data], 141),
    ] {
        let closed = run_into(closed_pipe(), args);
        assert_eq!(
            (closed.status.code(), stderr_text(&closed)),
            (Some(code), String::new()),
            "{args:?}"
        );
        let failed = run_into(full_device(), args);
        let stderr = stderr_text(&failed);
        assert_eq!(failed.status.code(), Some(1), "{args:?}: {stderr}");
        assert!(stderr.starts_with("stormglass: cannot write to standard output: "), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    assert!(
        stderr_text(&run_into(full_device(), &tx))
            .contains("the result is nevertheless: committed n0.1:c")
    );
    assert_eq!(node.terminate(), Some(0));
    let demo_ports = ports(2);
    let demo_ports = format!("{demo_ports}..={}", demo_ports + 1);
    let demo = ["demo", "--data", &dir.join("demo"), "--ports", &demo_ports];
    assert_eq!(run_into(closed_pipe(), &demo).status.code(), Some(141));
}

/// A campaign whose nodes all run, and its output, which must stay open meanwhile.
fn campaign(dir: &TestDir) -> (Child, BufReader<ChildStdout>) {
    let mut command = Command::new(PROGRAM);
    command.args(["campaign", "--kills", "1000000", "--pause-ms", "60000"]);
    command
        .env("TMPDIR", &dir.0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program can be run");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("its first line");
    assert!(line.contains("kills among"), "{line}");
    (child, out)
}

/// The number of processes with an argument inside this directory.
fn processes_using(dir: &TestDir) -> usize {
    let dir = dir.0.display().to_string();
    let processes = fs::read_dir("/proc").expect("a system that lists its processes");
    let command = |process: fs::DirEntry| fs::read(process.path().join("cmdline")).ok();
    let commands = processes.flatten().filter_map(command);
    commands.filter(|command| String::from_utf8_lossy(command).contains(&dir)).count()
}

fn signalled(name: &str, child: Child) -> Output {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().expect("kill can be run").success());
    child.wait_with_output().expect("it is our child")
}

#[test]
fn signal_ends_a_campaign_and_removes_its_processes_and_files() {
    for (signal, name) in [("-INT", "SIGINT"), ("-TERM", "SIGTERM")] {
        let dir = TestDir::new(&format!("campaign{signal}"));
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
        assert_eq!(fs::read_dir(&dir.0).expect("our directory").count(), 0);
    }
}

/// 1. The campaign is killed without a chance to clean up.
/// 2. Its nodes are not stopped; each finds that its standard input is closed.
#[test]
#[expect(clippy::disallowed_methods, reason = "processes end in their own time")]
fn nodes_stop_when_their_campaign_is_killed() {
    let dir = TestDir::new("killed-campaign");
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
