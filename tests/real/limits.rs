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

use super::program::{Node, OneNode, run, stderr_text, wait_for_text};

/// A node whose process may open this many files.
fn start(one: &OneNode, descriptors: u32) -> Node {
    Node::serve_with_descriptors(descriptors, &one.args(&[]), &one.log_file())
}

/// Connections on which nothing is sent but this.
fn connect(one: &OneNode, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
    let mut connections = Vec::new();
    for _ in 0..count {
        let mut connection = TcpStream::connect(&one.at).expect("it listens");
        connection.write_all(bytes).expect("it is open");
        connections.push(connection);
    }
    connections
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
    let one = OneNode::new("memory");
    let mut node = start(&one, 1_024);
    one.commit("put a=1 @0");
    let hello = Hello { cluster: "stormglass".to_owned(), caller: Caller::Client };
    let longest = CommitNode::REQUEST_BYTES_MAX;
    let mut too_long = connect(&one, 20, &wire::encode_frame(&hello));
    send_without_waiting(&mut too_long, &frame_of(4 << 20));
    let mut clients = connect(&one, 280, &wire::encode_frame(&hello));
    send_without_waiting(&mut clients, &frame_of(longest)[..longest * 39 / 40]);
    one.commit("put a=2 @0");
    one.status();
    let peak = node.peak_memory_kib();
    assert!(peak < 96 << 10, "{} MiB", peak >> 10);
    // The ones that wait for memory, and later the ones that have it and do not go on.
    let no_memory = format!("no memory for a frame of {longest} bytes");
    for expected in ["it has 4194304 bytes, the limit is", &no_memory, "was not complete after 10s"]
    {
        wait_for_text(&one.log_file(), expected);
    }
    one.commit("put a=3 @0");
    drop(clients);
    assert_eq!(node.terminate(), Some(0), "{}", one.log());
}

/// Otherwise an operator would have to look for the program that sends them.
#[test]
fn warnings_about_frames_of_a_client_name_its_address() {
    let one = OneNode::new("addresses");
    let mut node = one.start();
    one.commit("put a=1 @0");
    let hello = Hello { cluster: "stormglass".to_owned(), caller: Caller::Client };
    // No variant of a packet has this number, and no request is so long.
    let frames = [wire::frame_payload(&[77]), frame_of(CommitNode::REQUEST_BYTES_MAX + 1)];
    let bytes = [wire::encode_frame(&hello), frames.concat()].concat();
    let [client] = &connect(&one, 1, &bytes)[..] else { panic!("one connection") };
    let address = client.local_addr().expect("it is connected");
    for expected in [
        format!("dropped a frame from {address} that could not be decoded: "),
        format!("dropped a request from {address}: it has "),
    ] {
        wait_for_text(&one.log_file(), &expected);
    }
    assert_eq!(node.terminate(), Some(0), "{}", one.log());
}

/// They take neither the descriptors of the disk nor the place of those who say Hello.
#[test]
fn node_with_few_descriptors_serves_beside_idle_strangers() {
    let one = OneNode::new("strangers");
    let mut node = start(&one, 64);
    one.commit("put a=1 @0");
    let strangers = connect(&one, 200, b"");
    for value in 2..10 {
        one.commit(&format!("put a={value} @0"));
    }
    one.status();
    drop(strangers);
    assert_eq!(node.terminate(), Some(0), "{}", one.log());
}

#[test]
fn status_answers_when_clients_take_all_connections() {
    let one = OneNode::new("clients");
    let mut node = start(&one, 1_024);
    one.commit("put a=1 @0");
    let hello = Hello { cluster: "stormglass".to_owned(), caller: Caller::Client };
    let clients = connect(&one, 320, &wire::encode_frame(&hello));
    let refused = run(&["get", "--at", &one.at, "--patience-s", "1", "a@0"]);
    let text = stderr_text(&refused);
    assert!(text.contains("n0 has 320 clients already; try again later"), "{text}");
    one.status();
    drop(clients);
    assert_eq!(node.terminate(), Some(0), "{}", one.log());
}

#[test]
fn too_few_descriptors_are_refused_at_the_start() {
    let one = OneNode::new("descriptors");
    let mut node = start(&one, 40);
    assert_eq!(node.wait_for_exit_code(), Some(1));
    let expected =
        "this process may open 40 files, and a node with 0 peers needs 48; raise the limit";
    assert!(one.log().contains(expected), "{}", one.log());
}
