//! A node whose disk hangs.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real processes take real time"
)]

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::program::{OneNode, run};

/// 1. A FIFO is where the next file of the log will be: opening it for writing waits for a reader,
///    which never comes.
/// 2. A compaction begins that file. From then on nothing becomes durable.
/// 3. The node still answers `status`, which warns, and SIGTERM ends it.
#[test]
fn node_whose_disk_hangs_shows_it_and_can_be_stopped() {
    let one = OneNode::new("hanging-disk");
    let mut node = one.start_with(&["--compact-at-bytes", "1000", "--patience-s", "1"]);
    one.commit("put a=0 @0");
    let fifos = (0..100).map(|number| one.data().join(format!("wal.{number}")));
    for fifo in fifos.filter(|fifo| !fifo.exists()) {
        let made = Command::new("mkfifo").arg(&fifo).status().expect("mkfifo can be run");
        assert!(made.success());
    }

    let hung = (0..100).any(|_| {
        let put = run(&["tx", "--at", &one.at, "--patience-s", "1", "put a=1 @0"]);
        put.status.code() == Some(4)
    });
    assert!(hung, "no compaction began");
    sleep(Duration::from_secs(1));
    let status = one.status();
    assert!(status.contains("WARNING: a sync has been pending for "), "{status}");

    let begun = Instant::now();
    assert_eq!(node.terminate(), Some(1));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let log = one.log();
    assert!(log.contains("n0 stopped without its disk, which has been writing wal."), "{log}");
    let identity = std::fs::read_to_string(one.data().join("identity.json")).expect("its identity");
    assert!(!identity.contains("stopped"), "{identity}");
}
