//! A node whose standard error is closed, on a full disk, or read by nobody.

#![allow(clippy::disallowed_methods, reason = "a thread fills a pipe")]

use std::fs::File;
use std::io::{Write, pipe};
use std::process::Stdio;
use std::thread;

use super::program::{Node, OneNode};

/// A node with this standard error serves transactions, and stops when it is asked to.
fn serves_and_stops(name: &str, stderr: impl Into<Stdio>) {
    let one = OneNode::new(name);
    let mut node = Node::serve_with(&one.args(&[]), stderr);
    for value in 0..3 {
        one.commit(&format!("put a={value} @0"));
    }
    assert_eq!(one.get("a@0"), "a @0 = 2\n");
    assert_eq!(node.terminate(), Some(0));
}

#[test]
fn node_serves_on_when_its_standard_error_is_closed() {
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    serves_and_stops("stderr-closed", writer);
}

#[test]
fn node_serves_on_when_its_standard_error_is_full() {
    let full = File::options().write(true).open("/dev/full").expect("Linux");
    serves_and_stops("stderr-full", full);
}

/// Not the first line fits into the pipe.
#[test]
fn node_serves_on_when_its_standard_error_is_not_read() {
    let (reader, writer) = pipe().expect("a pipe");
    let mut filler = writer.try_clone().expect("a second end");
    // It ends when the reader is dropped.
    let filling = thread::spawn(move || while filler.write_all(&[b'.'; 4096]).is_ok() {});
    serves_and_stops("stderr-stalled", writer);
    assert!(!filling.is_finished(), "the pipe is full");
    drop(reader);
    filling.join().expect("no panic");
}
