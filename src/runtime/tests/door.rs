//! Who is let in, and who is not kept out by whom.

use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::super::door::CLIENTS_MAX;
use super::super::packet::{Caller, Hello, Welcome};
use super::super::start;
use super::super::stream::{FRAME_BYTES_MAX, Frames, say};
use super::{Diary, ME, PATIENCE, PEER, Place};
use crate::id::Incarnation;

/// A connection on which somebody has said who it is.
pub(super) type Guest = (Frames<OwnedReadHalf>, OwnedWriteHalf);

pub(super) async fn greet(address: std::net::SocketAddr, caller: Caller) -> (Guest, Welcome) {
    let (from, mut out) = TcpStream::connect(address).await.expect("it listens").into_split();
    let mut frames = Frames::new(from, FRAME_BYTES_MAX);
    say(&mut out, &Hello { cluster: "test".to_owned(), caller }, PATIENCE).await.expect("it reads");
    let welcome = frames.next(PATIENCE).await.expect("an answer").expect("an answer");
    ((frames, out), welcome)
}

pub(super) const AS_PEER: Caller = Caller::Peer { node: PEER, life: Incarnation(1), wanted: ME };

#[test]
fn clients_who_only_stay_keep_no_peer_out() {
    let place = Place::new("door");
    place.block_on(async |settings| {
        let mut node = start::<Diary>(settings, &(), None).await.expect("it starts");
        let welcome = Welcome::Welcome { node: ME, life: Incarnation(1) };
        let mut guests = Vec::new();
        for _ in 0..CLIENTS_MAX {
            let (guest, said) = greet(node.address, Caller::Client).await;
            assert_eq!(said, welcome);
            guests.push(guest);
        }
        let (_, said) = greet(node.address, Caller::Client).await;
        let Welcome::Refused { why } = said else { panic!("{said:?}") };
        assert!(why.contains("320 clients already"), "{why}");
        let (_peer, said) = greet(node.address, AS_PEER).await;
        assert_eq!(said, welcome);
        node.stop();
        node.ended().await;
    });
}
