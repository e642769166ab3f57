//! Frames that must be refused, for whoever wants to see that they are.

use std::time::Duration;

use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::packet::{Caller, ClientPacket, Hello, PeerPacket, Welcome};
use super::stream::{FRAME_BYTES_MAX, Frames};
use crate::commit::{Action, Age, Key, Message, Op, Part, Request, Turn, Word};
use crate::id::{Incarnation, NodeId, RequestId, TxId};
use crate::wire::{self, HEADER_BYTES};

/// Somebody who talks nonsense.
#[derive(Clone, Copy, Debug)]
pub struct Noise<'a> {
    /// The cluster that is disturbed.
    pub cluster: &'a str,
    /// A peer of the victim that does not run: letters come in its name.
    pub absent: NodeId,
    /// The victim.
    pub wanted: NodeId,
}

/// Frames of nonsense in one burst: whole ones, so that the connection lives on.
const BURST: u64 = 200;

impl Noise<'_> {
    /// One connection, at most `most` frames; how many there were. `roll` gives random numbers.
    ///
    /// # Errors
    /// Those of connecting. That the victim hangs up is as it should be.
    pub async fn visit(
        &self,
        address: &str,
        most: u64,
        roll: &mut impl FnMut() -> u64,
    ) -> std::io::Result<u64> {
        let mut stream = TcpStream::connect(address).await?;
        // No time is spent waiting for this side's port: there are not enough of them.
        stream.set_zero_linger()?;
        let (sent, bytes) = match roll() % 16 {
            0 => (1, noise(roll, 40)),
            1 => (1, self.bad_greeting(roll)),
            // Nothing at all, or not enough of it: hangs up at once, half open as it were.
            2 => (1, wire::seal(&self.hello(Caller::Client))[..(roll() % 12) as usize].to_vec()),
            _ => return self.nonsense(stream, most, roll).await,
        };
        let _ = stream.write_all(&bytes).await;
        Ok(sent)
    }

    fn hello(&self, caller: Caller) -> Hello {
        Hello { cluster: self.cluster.to_owned(), caller }
    }

    fn as_peer(&self) -> Hello {
        self.hello(Caller::Peer { node: self.absent, life: Incarnation(1), wanted: self.wanted })
    }

    fn bad_greeting(&self, roll: &mut impl FnMut() -> u64) -> Vec<u8> {
        let stranger = Caller::Peer { node: NodeId(999), life: Incarnation(1), wanted: self.wanted };
        let mistaken = Caller::Peer { node: self.absent, life: Incarnation(1), wanted: NodeId(998) };
        match roll() % 5 {
            0 => wire::seal(&Hello { cluster: "another".to_owned(), caller: Caller::Client }),
            1 => wire::seal(&self.hello(stranger)),
            2 => wire::seal(&self.hello(mistaken)),
            3 => wire::seal(&Hello { cluster: "x".repeat(5_000), caller: Caller::Client }),
            _ => damaged(wire::seal(&self.as_peer()), roll),
        }
    }

    /// Greets properly, talks nonsense in whole frames, and ends with a frame that is damaged.
    async fn nonsense(
        &self,
        mut stream: TcpStream,
        most: u64,
        roll: &mut impl FnMut() -> u64,
    ) -> std::io::Result<u64> {
        let as_peer = roll().is_multiple_of(2);
        let hello = if as_peer { self.as_peer() } else { self.hello(Caller::Client) };
        let (from, mut out) = stream.split();
        if out.write_all(&wire::seal(&hello)).await.is_err() {
            return Ok(0);
        }
        let mut frames = Frames::new(from, FRAME_BYTES_MAX);
        if !matches!(frames.next::<Welcome>(Duration::from_secs(5)).await, Ok(Some(Welcome::Welcome { .. })))
        {
            return Ok(0);
        }
        let mut sent = 0;
        let mut bytes = Vec::new();
        while sent + 1 < most.min(BURST) {
            let frame = if as_peer {
                mutated::<PeerPacket<Message>>(&letter(roll), roll)
            } else {
                mutated(&ask(roll), roll)
            };
            bytes.extend_from_slice(&frame);
            sent += 1;
        }
        let last = if as_peer { wire::seal(&letter(roll)) } else { wire::seal(&ask(roll)) };
        bytes.extend(damaged(last, roll));
        sent += 1;
        // Whoever is hung up on has said enough. One that waits for the rest of a long frame is left waiting.
        if out.write_all(&bytes).await.is_ok() {
            let _ = timeout(Duration::from_millis(2), frames.next::<Welcome>(Duration::from_secs(1))).await;
        }
        Ok(sent)
    }
}

/// A frame that no checksum, length or version lets through.
fn damaged(mut frame: Vec<u8>, roll: &mut impl FnMut() -> u64) -> Vec<u8> {
    match roll() % 5 {
        0 => {
            let bit = (roll() % (frame.len() as u64 * 8)) as usize;
            frame[bit / 8] ^= 1 << (bit % 8);
        }
        1 => frame[2] = frame[2].wrapping_add(1 + (roll() % 255) as u8),
        2 => {
            frame[3..7].copy_from_slice(&(FRAME_BYTES_MAX as u32 + (roll() % (1 << 31)) as u32).to_le_bytes())
        }
        3 => frame.truncate((roll() % frame.len() as u64) as usize),
        _ => frame[7..HEADER_BYTES].copy_from_slice(&(roll() as u32).to_le_bytes()),
    }
    frame
}

/// A whole frame, checksum and all, around a mutated value that cannot be read as one.
fn mutated<T: Serialize + serde::de::DeserializeOwned>(value: &T, roll: &mut impl FnMut() -> u64) -> Vec<u8> {
    loop {
        let mut payload = crate::codec::encode(value);
        match roll() % 4 {
            0 => payload = noise(roll, payload.len() as u64 + 1),
            1 => payload.truncate((roll() % payload.len() as u64) as usize),
            2 => payload.extend(noise(roll, 9)),
            _ => {
                for _ in 0..1 + roll() % 4 {
                    let at = (roll() % payload.len() as u64) as usize;
                    payload[at] = roll() as u8;
                }
            }
        }
        if crate::codec::decode::<T>(&payload).is_err() {
            return wire::seal_payload(&payload);
        }
    }
}

fn noise(roll: &mut impl FnMut() -> u64, len: u64) -> Vec<u8> {
    (0..1 + roll() % len.max(1)).map(|_| roll() as u8).collect()
}

fn name() -> RequestId {
    RequestId { client: 7, serial: 1, attempt: 0 }
}

fn ops(roll: &mut impl FnMut() -> u64) -> std::sync::Arc<[Op]> {
    let op = |value: u64| Op {
        node: NodeId((value % 3) as u16),
        key: Key::new(&format!("x{}", value % 100)).expect("short"),
        action: if value.is_multiple_of(2) { Action::Get } else { Action::Put(value as i64) },
    };
    (0..1 + roll() % 4).map(|_| op(roll())).collect()
}

fn ask(roll: &mut impl FnMut() -> u64) -> ClientPacket<Request> {
    let (life, age) = (Incarnation(1), Age { at: roll(), by: name() });
    let request = Request::Transact { life, age, seen: Turn::default(), ops: ops(roll) };
    ClientPacket::Ask { id: name(), request }
}

fn letter(roll: &mut impl FnMut() -> u64) -> PeerPacket<Message> {
    let tx = TxId { coordinator: NodeId(3), incarnation: Incarnation(1), serial: roll() % 1000 };
    let age = Age { at: roll(), by: name() };
    let part = Part::whole(age, &ops(roll)).expect("a few operations");
    let word = Word::new(crate::commit::Position::of(tx), std::iter::empty(), None);
    let message = match roll() % 3 {
        0 => Message::Prepare { tx, name: name(), part, word },
        1 => Message::Commit { tx, name: name(), word },
        _ => Message::Inquire { tx, name: name() },
    };
    PeerPacket::Letter { number: roll(), message }
}
