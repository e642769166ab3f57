//! Guarantees of the log, as scenarios and then in tens of thousands of random histories. The disk
//! of these tests implements the rules D1 to D8 and D12 of the fault model (`docs/faults.md`) in as
//! few lines as possible: it shares no code with the simulator's, so neither can hide the mistakes
//! of the other.

mod boot;
mod damage;
mod disk;
mod durability;
mod forgeries;
mod random_histories;
mod rig;
mod torn_tails;

use serde::{Deserialize, Serialize};

use crate::contract::{Boot, BootError, Input, Label, Node, Outbox, Subject};
use crate::id::Time;

/// A record: an id, and bytes to make it long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    id: u32,
    value: Vec<u8>,
}

/// The state of a node: the list of its records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    incarnation: u32,
    ids: Vec<u32>,
}

impl Label for Record {
    fn kind(&self) -> &'static str {
        "Record"
    }
    fn subject(&self) -> Option<Subject> {
        Some(Subject::Number(u64::from(self.id)))
    }
}

/// A placeholder node: the log does not depend on the type of its outbox.
#[derive(Clone, Debug)]
struct StubNode;

impl Node for StubNode {
    type Config = ();
    type Message = Record;
    type Request = Record;
    type Response = Record;
    type Event = Record;
    fn boot((): &(), _: Boot<'_>, _: &mut Outbox<StubNode>) -> Result<StubNode, BootError> {
        Ok(StubNode)
    }
    fn step(&mut self, _: Time, _: Input<StubNode>, _: &mut Outbox<StubNode>) {}
    fn deadline(&self) -> Option<Time> {
        None
    }
}

/// A random number generator: splitmix64.
#[derive(Clone, Debug)]
struct Rng(u64);

impl Rng {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next_u64() % bound as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}
