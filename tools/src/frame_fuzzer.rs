//! Generates malformed frames, which a node must refuse without any change of its state.

use std::time::Duration;

use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use stormglass::commit::{
    Action, Age, Body, EndMark, Key, Message, Op, Part, Position, RecordIsDurable, Request,
    RequestNumber, TxId,
};
use stormglass_node::id::{Incarnation, NodeId, RequestId, Time};
use stormglass_node::runtime::packet::{Caller, ClientPacket, Hello, PeerPacket, Welcome};
use stormglass_node::runtime::stream::{FRAME_BYTES_MAX, Frames};
use stormglass_node::wire::{self, HEADER_BYTES};

/// Sends malformed frames to one node.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameFuzzer<'a> {
    /// The cluster of the target.
    pub cluster: &'a str,
    /// A peer of the target that does not run: the fuzzer uses its id as the sender of messages.
    pub absent: NodeId,
    /// The node that receives the frames.
    pub target: NodeId,
}

/// Frames per connection. All but the last are well framed, so that the connection stays open.
// Frames cost less than handshakes; but only the last frame of a connection is damaged.
const BURST_FRAMES_MAX: u64 = 200;

impl FrameFuzzer<'_> {
    /// Opens one connection and sends at most `frames_max` frames; returns how many it sent.
    /// `next_random` is the source of randomness.
    ///
    /// # Errors
    /// If the connection cannot be opened. That the target closes it is not an error.
    pub(super) async fn run_connection(
        &self,
        address: &str,
        frames_max: u64,
        next_random: &mut impl FnMut() -> u64,
    ) -> std::io::Result<u64> {
        let mut stream = TcpStream::connect(address).await?;
        // Avoids TIME_WAIT on this side: its ports would run out.
        stream.set_zero_linger()?;
        // Three of sixteen connections fail in the handshake; the others pass it and test what
        // follows.
        let (sent, bytes) = match next_random() % 16 {
            0 => (1, random_bytes(next_random, 40)),
            1 => (1, self.bad_greeting(next_random)),
            // 0 to 11 bytes of a valid frame, and then the connection is closed.
            2 => (
                1,
                wire::encode_frame(&self.hello(Caller::Client))[..(next_random() % 12) as usize]
                    .to_vec(),
            ),
            _ => return self.send_undecodable(stream, frames_max, next_random).await,
        };
        // The target may close the connection before it has read everything.
        let _ = stream.write_all(&bytes).await;
        Ok(sent)
    }

    fn hello(&self, caller: Caller) -> Hello {
        Hello { cluster: self.cluster.to_owned(), caller }
    }

    fn peer_hello(&self) -> Hello {
        self.hello(Caller::Peer {
            node: self.absent,
            incarnation: Incarnation::numbered(1),
            target: self.target,
        })
    }

    fn bad_greeting(&self, next_random: &mut impl FnMut() -> u64) -> Vec<u8> {
        let unknown_peer = Caller::Peer {
            node: NodeId(999),
            incarnation: Incarnation::numbered(1),
            target: self.target,
        };
        let wrong_target = Caller::Peer {
            node: self.absent,
            incarnation: Incarnation::numbered(1),
            target: NodeId(998),
        };
        match next_random() % 5 {
            0 => {
                wire::encode_frame(&Hello { cluster: "another".to_owned(), caller: Caller::Client })
            }
            1 => wire::encode_frame(&self.hello(unknown_peer)),
            2 => wire::encode_frame(&self.hello(wrong_target)),
            // Well formed, but longer than a handshake may be.
            3 => wire::encode_frame(&Hello { cluster: "x".repeat(5_000), caller: Caller::Client }),
            _ => corrupt_frame(wire::encode_frame(&self.peer_hello()), next_random),
        }
    }

    /// Completes the handshake, sends well-framed values that do not decode, and ends with a
    /// damaged frame.
    async fn send_undecodable(
        &self,
        mut stream: TcpStream,
        frames_max: u64,
        next_random: &mut impl FnMut() -> u64,
    ) -> std::io::Result<u64> {
        let is_peer = next_random().is_multiple_of(2);
        let hello = if is_peer { self.peer_hello() } else { self.hello(Caller::Client) };
        // `Frames` keeps the half that it reads from.
        let (from, mut out) = stream.split();
        if out.write_all(&wire::encode_frame(&hello)).await.is_err() {
            return Ok(0);
        }
        let mut frames = Frames::new(from, FRAME_BYTES_MAX);
        if !matches!(
            frames.next::<Welcome>(Duration::from_secs(5)).await,
            Ok(Some(Welcome::Welcome { .. }))
        ) {
            return Ok(0);
        }
        let mut sent = 0;
        let mut bytes = Vec::new();
        while sent + 1 < frames_max.min(BURST_FRAMES_MAX) {
            let frame = if is_peer {
                undecodable_frame::<PeerPacket<Message>>(&peer_message(next_random), next_random)
            } else {
                undecodable_frame(&client_request(next_random), next_random)
            };
            bytes.extend_from_slice(&frame);
            sent += 1;
        }
        let last = if is_peer {
            wire::encode_frame(&peer_message(next_random))
        } else {
            wire::encode_frame(&client_request(next_random))
        };
        bytes.extend(corrupt_frame(last, next_random));
        sent += 1;
        // 2 ms for the target to close the connection. It does not if the last frame is too short:
        // then it waits for the rest.
        if out.write_all(&bytes).await.is_ok() {
            let _ =
                timeout(Duration::from_millis(2), frames.next::<Welcome>(Duration::from_secs(1)))
                    .await;
        }
        Ok(sent)
    }
}

/// Damages a frame so that the check of its checksum, length or version fails.
fn corrupt_frame(mut frame: Vec<u8>, next_random: &mut impl FnMut() -> u64) -> Vec<u8> {
    match next_random() % 5 {
        0 => {
            let bit = (next_random() % (frame.len() as u64 * 8)) as usize;
            frame[bit / 8] ^= 1 << (bit % 8);
        }
        // Any other version: the addend is not 0.
        1 => frame[2] = frame[2].wrapping_add(1 + (next_random() % 255) as u8),
        2 => frame[3..7].copy_from_slice(
            &(FRAME_BYTES_MAX as u32 + (next_random() % (1 << 31)) as u32).to_le_bytes(),
        ),
        3 => frame.truncate((next_random() % frame.len() as u64) as usize),
        _ => frame[7..HEADER_BYTES].copy_from_slice(&(next_random() as u32).to_le_bytes()),
    }
    frame
}

/// A frame with a valid header and checksum around a mutated value that does not decode.
fn undecodable_frame<T: Serialize + serde::de::DeserializeOwned>(
    value: &T,
    next_random: &mut impl FnMut() -> u64,
) -> Vec<u8> {
    loop {
        let mut payload = stormglass_node::codec::encode(value);
        match next_random() % 4 {
            0 => payload = random_bytes(next_random, payload.len() as u64 + 1),
            1 => payload.truncate((next_random() % payload.len() as u64) as usize),
            2 => payload.extend(random_bytes(next_random, 9)),
            _ => {
                for _ in 0..1 + next_random() % 4 {
                    let at = (next_random() % payload.len() as u64) as usize;
                    payload[at] = next_random() as u8;
                }
            }
        }
        // A mutation may produce another valid value, which the node would rightly accept.
        if stormglass_node::codec::decode::<T>(&payload).is_err() {
            return wire::frame_payload(&payload);
        }
    }
}

fn random_bytes(next_random: &mut impl FnMut() -> u64, len: u64) -> Vec<u8> {
    (0..1 + next_random() % len.max(1)).map(|_| next_random() as u8).collect()
}

fn request_id() -> RequestId {
    RequestId { client: 7, serial: 1, attempt: 0 }
}

fn ops(next_random: &mut impl FnMut() -> u64) -> std::sync::Arc<[Op]> {
    (0..1 + next_random() % 4).map(|_| op_of(next_random())).collect()
}

fn op_of(value: u64) -> Op {
    let key = Key::new(&format!("x{}", value % 100)).expect("short");
    let action = if value.is_multiple_of(2) { Action::Get } else { Action::Put(value as i64) };
    Op { node: NodeId((value % 3) as u16), key, action }
}

fn client_request(next_random: &mut impl FnMut() -> u64) -> ClientPacket<Request> {
    let request = Request::Transact {
        addressed: Position { incarnation: Incarnation::numbered(1), serial: next_random() % 1000 },
        began_at: Some(Time(next_random())),
        seen: RequestNumber::default(),
        ops: ops(next_random),
    };
    ClientPacket::Request { id: request_id(), request }
}

fn peer_message(next_random: &mut impl FnMut() -> u64) -> PeerPacket<Message> {
    let tx = TxId {
        coordinator: NodeId(3),
        incarnation: Incarnation::numbered(1),
        serial: next_random() % 1000,
    };
    let age = Age { at: next_random(), by: request_id() };
    let part = Part::of_all(age, &ops(next_random)).expect("a few operations");
    let end_mark = EndMark::new(Position::of(tx), std::iter::empty(), None);
    let body = match next_random() % 3 {
        0 => Body::Prepare { part, end_mark },
        1 => Body::Commit { end_mark, proof: RecordIsDurable::forged() },
        _ => Body::Inquire,
    };
    let message = Message { tx, request: request_id(), body };
    PeerPacket::Message { number: next_random(), message }
}
