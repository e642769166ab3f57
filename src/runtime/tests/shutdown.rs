//! How a node ends that is asked to, and one that has lost a part.

use super::super::packet::{Caller, ClientPacket, ClientReply, PeerPacket};
use super::super::stream::write_value;
use super::super::{Ending, start};
use super::listener::{AS_PEER, greet};
use super::{AppendNode, TIMEOUT, TestNodeDir, Text};
use crate::id::RequestId;

/// 1. A request is under way when the node is told to stop: it waits for a word of a peer.
/// 2. The peer wants to begin something, again and again. That would keep the node from ever being idle.
/// 3. Only the word that ends what is under way is heard.
#[test]
fn node_shutting_down_starts_no_new_work_and_finishes_pending_requests() {
    let directory = TestNodeDir::new("closing");
    directory.block_on(async |settings| {
        let mut node = start::<AppendNode>(settings, &(), None).await.expect("it starts");
        let ((mut from_node, mut client), _) = greet(node.address, Caller::Client).await;
        let id = RequestId { client: 1, serial: 1, attempt: 0 };
        let wait = ClientPacket::Request { id, request: Text("wait".to_owned()) };
        write_value(&mut client, &wait, TIMEOUT).await.expect("it reads");
        // Answered in their order: then the request is under way.
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

/// A node whose door is gone hears nobody and would live on for ever.
#[test]
fn panic_in_a_network_task_stops_the_node() {
    let directory = TestNodeDir::new("crippled");
    directory.block_on(async |settings| {
        let mut node = start::<AppendNode>(settings, &(), None).await.expect("it starts");
        let ((_, mut client), _) = greet(node.address, Caller::Client).await;
        let id = RequestId { client: 1, serial: 1, attempt: 0 };
        let packet = ClientPacket::Request { id, request: Text("unspeakable".to_owned()) };
        write_value(&mut client, &packet, TIMEOUT).await.expect("it reads");
        let ending = tokio::time::timeout(TIMEOUT, node.ended()).await.expect("it ends");
        let Ending::EngineFailed { what } = ending else { panic!("{ending:?}") };
        assert!(what.contains("task of the network") && what.contains("panicked"), "{what}");
    });
}
