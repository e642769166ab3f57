//! Altered facts, to which a property that looks at anything should object.

use serde::{Serialize, de::DeserializeOwned};
use stormglass_node::{Effect, Node, NodeId, codec};

use super::Objections;
use crate::disk::Disk;
use crate::property::{Checker, ClientFact, Fact, Observation, RunFact};
use crate::run_end::RecoveryEnd;
use crate::world::panics;

/// Alters some of the facts of one run: what a node sends, answers, reports or writes, and what a
/// client asks and receives.
#[derive(Clone, Debug)]
pub(super) struct Alterations {
    nodes: u16,
    /// Whether no further fact is altered.
    complete: bool,
    /// Facts that may be altered so far, for each of [`place`].
    seen: [u64; 6],
    /// The last answer, the last one that a client has received, and the last message, encoded.
    earlier_answer: Vec<u8>,
    earlier_receipt: Vec<u8>,
    earlier_message: Vec<u8>,
}

impl Alterations {
    pub(super) fn new(nodes: u16) -> Alterations {
        Alterations {
            nodes,
            complete: false,
            seen: [0; 6],
            earlier_answer: Vec::new(),
            earlier_receipt: Vec::new(),
            earlier_message: Vec::new(),
        }
    }

    /// Offers alterations of this fact to copies of the checker, as it was before the fact.
    pub(super) fn offer<N: Node, K: Checker<N>>(
        &mut self,
        checker: &K,
        observation: &Observation<'_, N>,
        objections: &mut Objections<'_>,
    ) {
        if self.complete {
            return;
        }
        let Some(place) = place(observation.fact) else { return };
        self.seen[place] += 1;
        // The 1st, 2nd, 4th, 8th ... of each: of the beginning and of the end of a run, and never
        // so many that it matters how large a property is.
        if self.seen[place].is_power_of_two() {
            self.alter(checker, observation, objections);
            self.complete = objections.are_complete();
        }
        match observation.fact {
            Fact::Effect(Effect::Reply { response, .. }, _) => {
                encode(response, &mut self.earlier_answer);
            }
            Fact::Effect(Effect::Send { message, .. }, _) => {
                encode(message, &mut self.earlier_message);
            }
            Fact::Client(ClientFact::Answered { response, .. }) => {
                encode(response, &mut self.earlier_receipt);
            }
            Fact::Effect(..)
            | Fact::Client(ClientFact::Asked { .. })
            | Fact::Input(_)
            | Fact::Process(_)
            | Fact::Fault(_)
            | Fact::Lost { .. }
            | Fact::Run(_) => {}
        }
    }

    fn alter<N: Node, K: Checker<N>>(
        &self,
        checker: &K,
        original: &Observation<'_, N>,
        objections: &mut Objections<'_>,
    ) {
        // It happens twice.
        checker.challenge(&[original.copy(), original.copy()], objections);
        // Nothing that was written before is on any disk.
        let disks = vec![Disk::default(); usize::from(self.nodes)];
        let forgotten = Observation { disk: &disks[0], disks: &disks, ..original.copy() };
        checker.challenge(&[forgotten], objections);
        // Another node does the same.
        if self.nodes > 1 {
            let other = NodeId((original.node.0 + 1) % self.nodes);
            let disk = original.disk_of(other).unwrap_or(original.disk);
            let elsewhere = Observation { node: other, disk, ..original.copy() };
            checker.challenge(&[original.copy(), elsewhere], objections);
        }
        // It is the last that happens: what was asked or begun stays undone.
        let recovered = Fact::Run(RunFact::Recovered { how: RecoveryEnd::Quiet, files: &[] });
        let end = [
            original.copy(),
            Observation { fact: &recovered, ..original.copy() },
            Observation { fact: &Fact::Run(RunFact::Ended), ..original.copy() },
        ];
        checker.challenge(&end, objections);
        self.alter_contents(checker, original, objections);
    }

    /// An earlier answer or message takes the place of this one, or a bit of it is flipped.
    fn alter_contents<N: Node, K: Checker<N>>(
        &self,
        checker: &K,
        original: &Observation<'_, N>,
        objections: &mut Objections<'_>,
    ) {
        if let Fact::Client(ClientFact::Answered { id, response }) = original.fact {
            for response in variants(*response, &self.earlier_receipt) {
                let fact = Fact::Client(ClientFact::Answered { id: *id, response: &response });
                checker.challenge(&[Observation { fact: &fact, ..original.copy() }], objections);
            }
        }
        let Fact::Effect(effect, bytes) = original.fact else { return };
        match effect {
            Effect::Reply { id, response } => {
                for response in variants(response, &self.earlier_answer) {
                    let effect = Effect::Reply { id: *id, response };
                    offer(checker, original, &effect, bytes, objections);
                }
            }
            Effect::Send { to, message } => {
                for message in variants(message, &self.earlier_message) {
                    let effect = Effect::Send { to: *to, message };
                    offer(checker, original, &effect, bytes, objections);
                }
            }
            Effect::Disk(_) => {
                for at in 0..bytes.len().min(FLIPPED) {
                    let mut bytes = bytes.to_vec();
                    bytes[at] ^= 0x80;
                    offer(checker, original, effect, &bytes, objections);
                }
            }
            Effect::Report(_) | Effect::Halt(_) => {}
        }
    }
}

/// Offers another effect in the place of the original one.
fn offer<N: Node, K: Checker<N>>(
    checker: &K,
    original: &Observation<'_, N>,
    effect: &Effect<N>,
    bytes: &[u8],
    objections: &mut Objections<'_>,
) {
    let fact = Fact::Effect(effect, bytes);
    checker.challenge(&[Observation { fact: &fact, ..original.copy() }], objections);
}

/// The bytes of an encoding in which bits are flipped, from the first on.
const FLIPPED: usize = 8;

/// The earlier value, and others whose encodings differ in one bit; those of them that are values
/// of the type.
fn variants<T: Serialize + DeserializeOwned>(value: &T, earlier: &[u8]) -> Vec<T> {
    let mut encodings = vec![earlier.to_vec()];
    let mut encoding = Vec::new();
    encode(value, &mut encoding);
    for at in 0..encoding.len().min(FLIPPED) {
        // The lowest bit: another variant of an enumeration, a number that is one off. The highest:
        // a number that is far off.
        for bit in [0x01, 0x80] {
            encoding[at] ^= bit;
            encodings.push(encoding.clone());
            encoding[at] ^= bit;
        }
    }
    let mut values = Vec::new();
    for encoding in encodings {
        // A type that reads itself may not expect such bytes, and panic.
        values.extend(panics::catch(|| codec::decode(&encoding).ok()).ok().flatten());
    }
    values
}

/// The kinds of facts that are altered, numbered.
fn place<N: Node>(fact: &Fact<'_, N>) -> Option<usize> {
    match fact {
        Fact::Effect(effect, _) => match effect {
            Effect::Send { .. } => Some(0),
            Effect::Reply { .. } => Some(1),
            Effect::Report(_) => Some(2),
            Effect::Disk(_) => Some(3),
            Effect::Halt(_) => None,
        },
        Fact::Client(ClientFact::Asked { .. }) => Some(4),
        Fact::Client(ClientFact::Answered { .. }) => Some(5),
        Fact::Input(_) | Fact::Process(_) | Fact::Fault(_) | Fact::Lost { .. } | Fact::Run(_) => {
            None
        }
    }
}

/// Nothing, if values of the type cannot be encoded.
fn encode<T: Serialize>(value: &T, into: &mut Vec<u8>) {
    into.clear();
    if codec::try_encode_into(value, into).is_err() {
        into.clear();
    }
}
