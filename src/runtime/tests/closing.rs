//! How a node ends that is asked to, and one that has lost a part.

use super::super::packet::{Caller, ClientEcho, ClientPacket, PeerPacket};
use super::super::stream::say;
use super::super::{Ending, start};
use super::door::{AS_PEER, greet};
use super::{Diary, PATIENCE, Place, Word};
use crate::id::RequestId;

/// 1. A request is under way when the node is told to stop: it waits for a word of a peer.
/// 2. The peer wants to begin something, again and again. That would keep the node from ever being idle.
/// 3. Only the word that ends what is under way is heard.
#[test]
fn a_closing_node_begins_nothing_and_ends_what_is_under_way() {
    let place = Place::new("closing");
    place.block_on(async |settings| {
        let mut node = start::<Diary>(settings, &(), None).await.expect("it starts");
        let ((mut heard, mut client), _) = greet(node.address, Caller::Client).await;
        let id = RequestId { client: 1, serial: 1, attempt: 0 };
        let wait = ClientPacket::Ask { id, request: Word("wait".to_owned()) };
        say(&mut client, &wait, PATIENCE).await.expect("it reads");
        // Answered in their order: then the request is under way.
        say(&mut client, &ClientPacket::<Word>::Status, PATIENCE).await.expect("it reads");
        let status = heard.next::<ClientEcho<Word>>(PATIENCE).await.expect("an answer");
        assert!(matches!(status, Some(ClientEcho::Status { .. })), "{status:?}");
        node.stop();

        let (mut peer, _) = greet(node.address, AS_PEER).await;
        for (number, word) in (1..).zip(["begin", "begin", "now"]) {
            let letter = PeerPacket::Letter { number, message: Word(word.to_owned()) };
            say(&mut peer.1, &letter, PATIENCE).await.expect("it reads");
        }
        let answer = heard.next::<ClientEcho<Word>>(PATIENCE).await.expect("an answer");
        assert_eq!(answer, Some(ClientEcho::Answer { id, response: Word("now".to_owned()) }));
        assert!(matches!(node.ended().await, Ending::Stopped { idle: true }));
    });
}

/// A node whose door is gone hears nobody and would live on for ever.
#[test]
fn a_panic_in_a_task_ends_the_node() {
    let place = Place::new("crippled");
    place.block_on(async |settings| {
        let mut node = start::<Diary>(settings, &(), None).await.expect("it starts");
        let ((_, mut client), _) = greet(node.address, Caller::Client).await;
        let id = RequestId { client: 1, serial: 1, attempt: 0 };
        let ask = ClientPacket::Ask { id, request: Word("unspeakable".to_owned()) };
        say(&mut client, &ask, PATIENCE).await.expect("it reads");
        let ending = tokio::time::timeout(PATIENCE, node.ended()).await.expect("it ends");
        let Ending::Crippled { what } = ending else { panic!("{ending:?}") };
        assert!(what.contains("task of the network") && what.contains("panicked"), "{what}");
    });
}
