//! The shutdown of a node, and the end of one that has lost a task.

use super::super::packet::{Caller, ClientPacket, ClientReply, PeerPacket};
use super::super::stream::write_value;
use super::super::{Ending, start};
use super::listener::{AS_PEER, greet};
use super::{AppendNode, TIMEOUT, TestNodeDir, Text};
use crate::id::RequestId;

/// 1. A request is in progress when the node is stopped: it waits for a message of a peer.
/// 2. The peer sends messages that would begin new work, again and again. They would keep the node
///    from ever being idle.
/// 3. Only the message that ends the work in progress is handled.
#[test]
fn node_shutting_down_starts_no_new_work_and_finishes_pending_requests() {
    let directory = TestNodeDir::new("closing");
    directory.block_on(async |settings| {
        let mut node = start::<AppendNode>(settings, &(), None).await.expect("it starts");
        let ((mut from_node, mut client), _) = greet(node.address, Caller::Client).await;
        let id = RequestId { client: 1, serial: 1, attempt: 0 };
        let wait = ClientPacket::Request { id, request: Text("wait".to_owned()) };
        write_value(&mut client, &wait, TIMEOUT).await.expect("it reads");
        // Answers come in order: then the request is in progress.
        write_value(&mut client, &ClientPacket::<Text>::Status, TIMEOUT).await.expect("it reads");
        let status = from_node.next::<ClientReply<Text>>(TIMEOUT).await.expect("an answer");
        assert!(matches!(status, Some(ClientReply::Status { .. })), "{status:?}");
        node.stop();

        let (mut peer, _) = greet(node.address, AS_PEER).await;
        for (number, text) in (1..).zip(["begin", "begin", "now"]) {
            let packet = PeerPacket::Message { number, message: Text(text.to_owned()) };
            write_value(&mut peer.1, &packet, TIMEOUT).await.expect("it reads");
        }
        let answer = from_node.next::<ClientReply<Text>>(TIMEOUT).await.expect("an answer");
        assert_eq!(answer, Some(ClientReply::Answer { id, response: Text("now".to_owned()) }));
        assert!(matches!(node.ended().await, Ending::Stopped { idle: true }));
    });
}

/// A node without its listener receives nothing and would run forever.
#[test]
fn panic_in_a_network_task_stops_the_node() {
    let directory = TestNodeDir::new("task-panic");
    directory.block_on(async |settings| {
        let mut node = start::<AppendNode>(settings, &(), None).await.expect("it starts");
        let ((_, mut client), _) = greet(node.address, Caller::Client).await;
        let id = RequestId { client: 1, serial: 1, attempt: 0 };
        let packet = ClientPacket::Request { id, request: Text("undecodable".to_owned()) };
        write_value(&mut client, &packet, TIMEOUT).await.expect("it reads");
        let ending = tokio::time::timeout(TIMEOUT, node.ended()).await.expect("it ends");
        let Ending::EngineFailed { what } = ending else { panic!("{ending:?}") };
        assert!(what.contains("network task") && what.contains("panicked"), "{what}");
    });
}
