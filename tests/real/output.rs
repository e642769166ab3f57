//! Output to a reader that closes early, and to a full disk.

use std::fs::File;
use std::process::{Command, Output, Stdio};

use super::program::{OneNode, PROGRAM, TestDir, ports, stderr_text};

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
    // The reading end is dropped here.
    let (_, writer) = std::io::pipe().expect("a pipe");
    writer.into()
}

#[test]
fn output_error_does_not_panic_and_still_reports_the_commit() {
    let one = OneNode::new("output");
    let (at, data) = (&one.at, one.data().display().to_string());
    let mut node = one.start();
    let tx = ["tx", "--at", at, "put a=1 @0"];
    for (args, code) in [
        // The result holds, and the exit code shows it even without a reader.
        (&tx[..], 0),
        (&["tx", "--at", at, "add a=-2>=0 @0"], 3),
        (&["status", "--at", at], 141),
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
            .contains("the result is nevertheless: committed n0.1.")
    );
    assert_eq!(node.terminate(), Some(0));
    let dir = TestDir::new("output-demo");
    let demo_ports = ports(2);
    let demo_ports = format!("{demo_ports}..={}", demo_ports + 1);
    let demo = ["demo", "--data", &dir.join("demo"), "--ports", &demo_ports];
    assert_eq!(run_into(closed_pipe(), &demo).status.code(), Some(141));
}
