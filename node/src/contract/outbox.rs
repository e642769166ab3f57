//! The outbox, to which a node adds its effects.

use std::fmt;

use serde::Serialize;

use super::{About, DiskOp, Effect, FileId, HaltReason, Label, Node};
use crate::codec;
use crate::id::{NodeId, RequestId};

/// The effects of a step, in order. The driver owns the outbox and reuses it, so that a step
/// allocates nothing once its buffers have grown.
pub struct Outbox<N: Node> {
    effects: Vec<Effect<N>>,
    bytes: Vec<u8>,
}

impl<N: Node> Default for Outbox<N> {
    fn default() -> Self {
        Outbox { effects: Vec::new(), bytes: Vec::new() }
    }
}

// By hand, since derived ones ask for a node that is `Clone` or `Debug`.
impl<N: Node<Event: Clone>> Clone for Outbox<N> {
    fn clone(&self) -> Self {
        let Outbox { effects, bytes } = self;
        Outbox { effects: effects.clone(), bytes: bytes.clone() }
    }
}

impl<N: Node> fmt::Debug for Outbox<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outbox { effects, bytes } = self;
        f.debug_struct("Outbox").field("effects", effects).field("bytes", bytes).finish()
    }
}

/// For the node: one method per effect.
impl<N: Node> Outbox<N> {
    /// Sends a message to another node.
    pub fn send(&mut self, to: NodeId, message: N::Message) {
        self.effects.push(Effect::Send { to, message });
    }

    /// Replies to a client.
    pub fn reply(&mut self, id: RequestId, response: N::Response) {
        self.effects.push(Effect::Reply { id, response });
    }

    /// Reports an event to the operator.
    pub fn report(&mut self, event: N::Event) {
        self.effects.push(Effect::Report(event));
    }

    /// Stops this incarnation.
    pub fn halt(&mut self, reason: HaltReason) {
        self.effects.push(Effect::Halt(reason));
    }

    /// Appends what `write` adds to the end of its buffer. The earlier contents of the buffer stay.
    pub fn append_with(&mut self, file: FileId, about: About, write: impl FnOnce(&mut Vec<u8>)) {
        // One buffer for all appends of a step: an effect with a buffer of its own would allocate.
        let start = self.bytes.len();
        write(&mut self.bytes);
        // A range and not a slice: further appends of the step may move the buffer.
        let bytes = Chunk { start: offset(start), end: offset(self.bytes.len()) };
        self.effects.push(Effect::Disk(DiskOp::Append { file, bytes, about }));
    }

    /// Appends `bytes` to `file`.
    pub fn append(&mut self, file: FileId, about: About, bytes: &[u8]) {
        self.append_with(file, about, |buffer| buffer.extend_from_slice(bytes));
    }

    /// Appends the encoding of `value`, with no frame or checksum of any kind.
    pub fn append_value<T: Serialize + Label>(&mut self, file: FileId, value: &T) {
        self.append_with(file, value.about(), |buffer| codec::encode_into(value, buffer));
    }

    /// Adds any other disk operation: barriers, names, truncations.
    pub fn disk(&mut self, op: DiskOp) {
        self.effects.push(Effect::Disk(op));
    }
}

/// For the driver: inspect, take, reuse.
impl<N: Node> Outbox<N> {
    /// Takes the effects out, in order, with the buffer that their appends refer to.
    pub fn drain(&mut self) -> (std::vec::Drain<'_, Effect<N>>, &[u8]) {
        // The bytes stay until `clear`, since the effects refer to them.
        (self.effects.drain(..), &self.bytes)
    }

    /// The effects, in order.
    pub fn effects(&self) -> &[Effect<N>] {
        &self.effects
    }

    /// The bytes that a chunk refers to.
    pub fn bytes(&self, chunk: Chunk) -> &[u8] {
        &self.bytes[chunk.start as usize..chunk.end as usize]
    }

    /// Removes all effects and keeps the memory.
    pub fn clear(&mut self) {
        self.effects.clear();
        self.bytes.clear();
    }
}

/// A range of bytes in the [`Outbox`] that an `Append` refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    start: u32,
    end: u32,
}

impl Chunk {
    /// The number of bytes.
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether the range is empty.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The bytes of this range in the buffer that [`Outbox::drain`] returns.
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        &buffer[self.start as usize..self.end as usize]
    }
}

// Half the size of a `usize` range: effects are moved often, and `Append` is their largest disk
// operation.
fn offset(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("one step writes less than 4 GiB")
}
