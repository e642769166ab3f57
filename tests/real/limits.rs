//! A node whose connections, files or memory are taken by others.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real processes take real time"
)]

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use stormglass::commit::CommitNode;
use stormglass_node::runtime::ServedNode;
use stormglass_node::runtime::packet::{Caller, Hello};
use stormglass_node::wire;

use super::program::{Node, TestDir, ports, run, stderr_text, stdout_text};

/// A cluster of one node.
struct Place {
    dir: TestDir,
    at: String,
}

impl Place {
    fn new(name: &str) -> Place {
        Place { dir: TestDir::new(name), at: format!("127.0.0.1:{}", ports(1)) }
    }

    fn start(&self, descriptors: u32) -> Node {
        let peer = format!("0={}", self.at);
        let args = ["--id", "0", "--peer", &peer, "--data", &self.dir.join("n0")];
        Node::serve_with_descriptors(descriptors, &args, &self.dir.0.join("log"))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.0.join("log")).expect("its log")
    }

    fn assert_commits(&self, operation: &str) {
        let put = run(&["tx", "--at", &self.at, operation]);
        let text = format!("{}{}{}", stdout_text(&put), stderr_text(&put), self.log());
        assert_eq!(put.status.code(), Some(0), "{text}");
    }

    fn assert_status(&self) {
        let status = run(&["status", "--at", &self.at]);
        assert_eq!(status.status.code(), Some(0), "{}{}", stderr_text(&status), self.log());
    }

    /// Connections on which nothing is sent but this.
    fn connect(&self, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
        let mut connections = Vec::new();
        for _ in 0..count {
            let mut connection = TcpStream::connect(&self.at).expect("it listens");
            connection.write_all(bytes).expect("it is open");
            connections.push(connection);
        }
        connections
    }
}

/// Sends these bytes on all connections until none of them has taken any for a second.
fn send_without_waiting(connections: &mut [TcpStream], bytes: &[u8]) {
    let mut sent = vec![0; connections.len()];
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_secs(1) {
        for (connection, sent) in connections.iter_mut().zip(&mut sent) {
            connection.set_nonblocking(true).expect("a socket");
            match connection.write(&bytes[*sent..]) {
                Ok(0) => {}
                Ok(written) => {
                    *sent += written;
                    last = Instant::now();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The node has closed it.
                Err(_) => *sent = bytes.len(),
            }
        }
    }
}

/// A whole frame of so many bytes.
fn frame_of(bytes: usize) -> Vec<u8> {
    wire::frame_payload(&vec![0; bytes - wire::HEADER_BYTES])
}

/// 280 clients send most of a request of the maximum length, together 100 MiB, and stop. Longer
/// ones take no memory.
#[test]
fn memory_of_all_clients_is_bounded_together() {
    let place = Place::new("memory");
    let mut node = place.start(1_024);
    place.assert_commits("put a=1 @0");
    let hello = Hello { cluster: "stormglass".to_owned(), caller: Caller::Client };
    let longest = CommitNode::REQUEST_BYTES_MAX;
    let mut too_long = place.connect(20, &wire::encode_frame(&hello));
    send_without_waiting(&mut too_long, &frame_of(4 << 20));
    let mut clients = place.connect(280, &wire::encode_frame(&hello));
    send_without_waiting(&mut clients, &frame_of(longest)[..longest * 39 / 40]);
    place.assert_commits("put a=2 @0");
    place.assert_status();
    let peak = node.peak_memory_kib();
    assert!(peak < 96 << 10, "{} MiB", peak >> 10);
    // The ones that wait for memory, and later the ones that have it and do not go on.
    let no_memory = format!("no memory for a frame of {longest} bytes");
    for expected in ["it has 4194304 bytes, the limit is", &no_memory, "was not complete after 10s"]
    {
        let begun = Instant::now();
        while !place.log().contains(expected) {
            assert!(begun.elapsed() < Duration::from_secs(30), "{expected}: {}", place.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    place.assert_commits("put a=3 @0");
    drop(clients);
    assert_eq!(node.terminate(), Some(0), "{}", place.log());
}

/// They take neither the descriptors of the disk nor the place of those who say Hello.
#[test]
fn node_with_few_descriptors_serves_beside_idle_strangers() {
    let place = Place::new("strangers");
    let mut node = place.start(64);
    place.assert_commits("put a=1 @0");
    let strangers = place.connect(200, b"");
    for value in 2..10 {
        place.assert_commits(&format!("put a={value} @0"));
    }
    place.assert_status();
    drop(strangers);
    assert_eq!(node.terminate(), Some(0), "{}", place.log());
}

#[test]
fn status_answers_when_clients_take_all_connections() {
    let place = Place::new("clients");
    let mut node = place.start(1_024);
    place.assert_commits("put a=1 @0");
    let hello = Hello { cluster: "stormglass".to_owned(), caller: Caller::Client };
    let clients = place.connect(320, &wire::encode_frame(&hello));
    let refused = run(&["get", "--at", &place.at, "--patience-s", "1", "a@0"]);
    let text = stderr_text(&refused);
    assert!(text.contains("n0 has 320 clients already; try again later"), "{text}");
    place.assert_status();
    drop(clients);
    assert_eq!(node.terminate(), Some(0), "{}", place.log());
}

#[test]
fn too_few_descriptors_are_refused_at_the_start() {
    let place = Place::new("descriptors");
    let mut node = place.start(40);
    assert_eq!(node.wait_for_exit_code(), Some(1));
    let expected =
        "this process may open 40 files, and a node with 0 peers needs 48; raise the limit";
    assert!(place.log().contains(expected), "{}", place.log());
}
