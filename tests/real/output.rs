//! Where the program's words go: to a reader who leaves early, to a disk that is full, to nobody after a signal.

use std::fs::File;
use std::process::{Command, Output, Stdio};

use super::program::{Node, PROGRAM, Place, complained, ports};

fn run_into(out: impl Into<Stdio>, args: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(args).stdin(Stdio::null()).stdout(out).stderr(Stdio::piped());
    command.spawn().and_then(std::process::Child::wait_with_output).expect("the program can be run")
}

fn full() -> File {
    File::options().write(true).open("/dev/full").expect("a device that is always full")
}

/// The end of a pipe that nobody reads.
fn hung_up() -> Stdio {
    let (_, writer) = std::io::pipe().expect("a pipe");
    writer.into()
}

#[test]
fn words_that_cannot_be_printed_are_no_panic_and_what_was_committed_is_told() {
    let place = Place::new("output");
    let (port, data) = (ports(1), place.join("n0"));
    let (own, at) = (format!("0=127.0.0.1:{port}"), format!("127.0.0.1:{port}"));
    let mut node = Node::serve(&["--id", "0", "--peer", &own, "--data", &data], &place.0.join("log"));
    let tx = ["tx", "--at", &at, "put a=1 @0"];
    for (args, code) in [
        // What is done is done: the exit code says so to whoever does not read.
        (&tx[..], 0),
        (&["tx", "--at", &at, "add a=-2>=0 @0"], 3),
        (&["status", "--at", &at], 141),
        (&["wal", "dump", &data], 141),
    ] {
        let gone = run_into(hung_up(), args);
        assert_eq!((gone.status.code(), complained(&gone)), (Some(code), String::new()), "{args:?}");
        let failed = run_into(full(), args);
        let complaint = complained(&failed);
        assert_eq!(failed.status.code(), Some(1), "{args:?}: {complaint}");
        assert!(complaint.starts_with("stormglass: cannot write to standard output: "), "{complaint}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
    }
    assert!(complained(&run_into(full(), &tx)).contains("all the same: committed n0.1:c"));
    assert_eq!(node.terminate(), Some(0));
    let demo_ports = ports(2);
    let demo_ports = format!("{demo_ports}..={}", demo_ports + 1);
    let demo = ["demo", "--data", &place.join("demo"), "--ports", &demo_ports];
    assert_eq!(run_into(hung_up(), &demo).status.code(), Some(141));
}
