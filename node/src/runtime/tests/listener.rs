//! Limits of incoming connections.

use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::super::listener::CLIENTS_MAX;
use super::super::packet::{Caller, Hello, Welcome};
use super::super::start;
use super::super::stream::{FRAME_BYTES_MAX, Frames, write_value};
use super::{AppendNode, NODE, PEER, TIMEOUT, TestNodeDir};
use crate::id::Incarnation;

/// A connection after its handshake.
pub(super) type TestConnection = (Frames<OwnedReadHalf>, OwnedWriteHalf);

pub(super) async fn greet(
    address: std::net::SocketAddr,
    caller: Caller,
) -> (TestConnection, Welcome) {
    let (from, mut out) = TcpStream::connect(address).await.expect("it listens").into_split();
    let mut frames = Frames::new(from, FRAME_BYTES_MAX);
    write_value(&mut out, &Hello { cluster: "test".to_owned(), caller }, TIMEOUT)
        .await
        .expect("it reads");
    let welcome = frames.next(TIMEOUT).await.expect("an answer").expect("an answer");
    ((frames, out), welcome)
}

pub(super) const AS_PEER: Caller =
    Caller::Peer { node: PEER, incarnation: Incarnation::numbered(1), target: NODE };

#[test]
fn idle_clients_do_not_exhaust_peer_connection_slots() {
    let directory = TestNodeDir::new("listener");
    directory.block_on(async |settings| {
        let mut node = start::<AppendNode>(settings, &(), None).await.expect("it starts");
        let welcome = Welcome::Welcome { node: NODE, incarnation: Incarnation::numbered(1) };
        let mut connections = Vec::new();
        for _ in 0..CLIENTS_MAX {
            let (connection, reply) = greet(node.address, Caller::Client).await;
            assert_eq!(reply, welcome);
            connections.push(connection);
        }
        let (_, reply) = greet(node.address, Caller::Client).await;
        let Welcome::Refused { reason } = reply else { panic!("{reply:?}") };
        assert!(reason.contains("320 clients already"), "{reason}");
        let (_peer, reply) = greet(node.address, AS_PEER).await;
        assert_eq!(reply, welcome);
        node.stop();
        node.ended().await;
    });
}
