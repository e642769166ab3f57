//! A node whose disk hangs.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real processes take real time"
)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::program::{Node, OneNode, run, wait_for_text};

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
        make_fifo(&fifo);
    }

    let hung = (0..100).any(|_| {
        let put = run(&["tx", "--at", &one.at, "--patience-s", "1", "put a=1 @0"]);
        put.status.code() == Some(4)
    });
    assert!(hung, "no compaction began");
    sleep(Duration::from_secs(1));
    let status = one.status();
    assert!(status.contains("WARNING: a sync has been pending for "), "{status}");

    assert_stops_without_its_disk(&one, &mut node, "writing wal.");
}

/// A file that cannot be opened for writing before somebody reads it, which nobody does.
fn make_fifo(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().expect("mkfifo can be run");
    assert!(made.success());
}

/// A node with a patience of a second ends in time, and says what the disk is doing. No clean stop
/// is noted.
fn assert_stops_without_its_disk(one: &OneNode, node: &mut Node, operation: &str) {
    let begun = Instant::now();
    assert_eq!(node.terminate(), Some(1), "{}", one.log());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let log = one.log();
    let expected = format!("n0 stopped without its disk, which has been {operation}");
    assert!(log.contains(&expected), "{log}");
    let identity = fs::read_to_string(one.data().join("identity.json")).expect("its identity");
    assert!(!identity.contains("stopped"), "{identity}");
}

/// The node may not serve before `identity.json` says so, durably.
#[test]
fn node_whose_disk_hangs_at_the_first_start_says_so_and_can_be_stopped() {
    let one = OneNode::new("hanging-first-start");
    fs::create_dir(one.data()).expect("it is new");
    let identity = r#"{"format":1,"cluster":"stormglass","node":0}"#;
    fs::write(one.data().join("identity.json"), identity).expect("it is new");
    make_fifo(&one.data().join("identity.json.new"));
    let mut node = one.start_with(&["--patience-s", "1"]);
    let expected = "cannot serve yet: the disk has been writing identity.json for ";
    wait_for_text(&one.log_file(), expected);
    assert_stops_without_its_disk(&one, &mut node, "writing identity.json");
}

#[test]
fn node_whose_disk_hangs_when_the_stop_is_noted_can_be_stopped() {
    let one = OneNode::new("hanging-stop");
    let mut node = one.start_with(&["--patience-s", "1"]);
    one.commit("put a=1 @0");
    make_fifo(&one.data().join("identity.json.new"));
    assert_stops_without_its_disk(&one, &mut node, "noting in identity.json where the log ends");
}
