//! A node whose disk hangs.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real processes take real time"
)]

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::program::{Node, TestDir, ports, run, stderr_text, stdout_text};

/// 1. A FIFO is where the next file of the log will be: opening it for writing waits for a reader,
///    which never comes.
/// 2. A compaction begins that file. From then on nothing becomes durable.
/// 3. The node still answers `status`, which warns, and SIGTERM ends it.
#[test]
fn node_whose_disk_hangs_shows_it_and_can_be_stopped() {
    let dir = TestDir::new("hanging-disk");
    let at = format!("127.0.0.1:{}", ports(1));
    let peer = format!("0={at}");
    let (data, log) = (dir.join("n0"), dir.0.join("log"));
    let serve = ["--id", "0", "--peer", &peer, "--data", &data];
    let tuning = ["--compact-at-bytes", "1000", "--patience-s", "1"];
    let mut node = Node::serve(&[&serve[..], &tuning[..]].concat(), &log);
    let put = run(&["tx", "--at", &at, "put a=0 @0"]);
    assert_eq!(put.status.code(), Some(0), "{}", stderr_text(&put));
    let fifos = (0..100).map(|number| dir.0.join(format!("n0/wal.{number}")));
    for fifo in fifos.filter(|fifo| !fifo.exists()) {
        let made = Command::new("mkfifo").arg(&fifo).status().expect("mkfifo can be run");
        assert!(made.success());
    }

    let hung = (0..100).any(|_| {
        let put = run(&["tx", "--at", &at, "--patience-s", "1", "put a=1 @0"]);
        put.status.code() == Some(4)
    });
    assert!(hung, "no compaction began");
    sleep(Duration::from_secs(1));
    let status = run(&["status", "--at", &at]);
    let text = format!("{}{}", stdout_text(&status), stderr_text(&status));
    assert!(text.contains("WARNING: a sync has been pending for "), "{text}");

    let begun = Instant::now();
    assert_eq!(node.terminate(), Some(1));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let log = std::fs::read_to_string(log).expect("its log");
    assert!(log.contains("n0 stopped without its disk, which has been writing wal."), "{log}");
    let identity = std::fs::read_to_string(dir.0.join("n0/identity.json")).expect("its identity");
    assert!(!identity.contains("stopped"), "{identity}");
}
