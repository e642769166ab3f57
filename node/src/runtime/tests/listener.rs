//! Limits of incoming connections.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::super::link::IO_TIMEOUT;
use super::super::listener::{CLIENT_BYTES_MAX, CLIENTS_MAX};
use super::super::packet::{Caller, ClientReply, Hello, Welcome};
use super::super::rate_limit::LINES_PER_SECOND_MAX;
use super::super::start;
use super::super::stream::{FRAME_BYTES_MAX, write};
use super::{
    AS_PEER, AppendNode, TIMEOUT, TestNodeDir, WELCOME, answer, greet, peer_with_messages,
    reply_to, send_request, waiting_client,
};
use crate::wire;

#[test]
fn idle_clients_do_not_exhaust_peer_connection_slots() {
    let directory = TestNodeDir::new("listener");
    directory.block_on(async |settings| {
        let mut node = start::<AppendNode>(settings, &(), None).await.expect("it starts");
        let mut connections = Vec::new();
        for _ in 0..CLIENTS_MAX {
            let (connection, reply) = greet(node.address, Caller::Client).await;
            assert_eq!(reply, WELCOME);
            connections.push(connection);
        }
        let (_, reply) = greet(node.address, Caller::Client).await;
        let Welcome::Refused { reason } = reply else { panic!("{reply:?}") };
        assert!(reason.contains("320 clients already"), "{reason}");
        let (_peer, reply) = greet(node.address, AS_PEER).await;
        assert_eq!(reply, WELCOME);
        node.stop();
        node.ended().await;
    });
}

/// Sends a byte now and then until the node closes the connection; returns how long it was open.
async fn trickle(address: std::net::SocketAddr, bytes: &[u8]) -> Duration {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let begun = Instant::now();
    for byte in bytes.iter().cycle() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        // Fails once the connection is closed.
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
    }
    begun.elapsed()
}

/// 1. A stranger sends a byte of a Hello now and then, and whole frames that are none to its end.
/// 2. Neither extends its time: the connection is closed five seconds after the accept.
#[test]
fn handshake_is_timed_from_the_accept() {
    let directory = TestNodeDir::new("handshake");
    directory.block_on(async |settings| {
        let mut node = start::<AppendNode>(settings, &(), None).await.expect("it starts");
        node.ready().await;
        let hello = Hello { cluster: "x".repeat(500), caller: Caller::Client };
        let hello = wire::encode_frame(&hello);
        let undecodable = wire::frame_payload(&[]);
        let elapsed =
            tokio::join!(trickle(node.address, &hello), trickle(node.address, &undecodable));
        for elapsed in [elapsed.0, elapsed.1] {
            // The accept may have been a little before this clock was read.
            assert!(elapsed >= IO_TIMEOUT - Duration::from_millis(500), "{elapsed:?}");
            assert!(elapsed < IO_TIMEOUT + Duration::from_secs(2), "{elapsed:?}");
        }
        node.stop();
        node.ended().await;
    });
}

/// The connection stays: the next request is answered. A flood of such frames is answered in part.
#[test]
fn client_is_told_that_its_frame_does_not_decode() {
    let directory = TestNodeDir::new("undecodable");
    directory.block_on(async |settings| {
        let mut node = start::<AppendNode>(settings, &(), None).await.expect("it starts");
        let (mut client, _) = greet(node.address, Caller::Client).await;
        // No variant of a packet has this number.
        let undecodable = wire::frame_payload(&[77]);
        write(&mut client.1, &undecodable, TIMEOUT).await.expect("it reads");
        let reply = reply_to(&mut client).await;
        let ClientReply::Undecodable { reason } = reply else { panic!("{reply:?}") };
        assert!(reason.contains("77"), "{reason}");

        write(&mut client.1, &undecodable.repeat(1_000), TIMEOUT).await.expect("it reads");
        send_request(&mut client, 1, "one").await;
        let mut answers = 0;
        let mut reply = reply_to(&mut client).await;
        while let ClientReply::Undecodable { .. } = reply {
            answers += 1;
            reply = reply_to(&mut client).await;
        }
        assert_eq!(reply, answer(1, "one"));
        // Two seconds at most, unless this machine stands still.
        assert!(answers <= 2 * LINES_PER_SECOND_MAX, "{answers}");
        node.stop();
        node.ended().await;
    });
}

/// Clients have begun frames that take all memory of clients. A small request and a large message
/// of a peer need none of it.
#[test]
fn clients_that_take_all_memory_keep_out_no_peer() {
    let directory = TestNodeDir::new("memory");
    directory.block_on(async |settings| {
        let mut node = start::<AppendNode>(settings, &(), None).await.expect("it starts");
        let large = wire::frame_payload(&vec![0; FRAME_BYTES_MAX - wire::HEADER_BYTES]);
        let mut strangers = Vec::new();
        for _ in 0..CLIENT_BYTES_MAX / FRAME_BYTES_MAX {
            let (mut connection, _) = greet(node.address, Caller::Client).await;
            write(&mut connection.1, &large[..100], TIMEOUT).await.expect("it reads");
            strangers.push(connection);
        }
        let mut client = waiting_client(node.address).await;
        let large = "x".repeat(100_000);
        let _peer = peer_with_messages(node.address, &[&large, "now"]).await;
        assert_eq!(reply_to(&mut client).await, answer(1, &(large + "now")));
        node.stop();
        node.ended().await;
    });
}
