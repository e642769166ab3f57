//! Names for things: small, `Copy`, ordered, and terse to print (`n1`, `c1.4`, `n0.1#7`).

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// A node of the cluster. At most 65,535 of them. Prints as `n3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u16);

/// One life of a node: 1 for the first boot, and one more for each boot that became durable after it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Incarnation(pub u32);

/// A transaction, unique for all time without a persisted counter: the serial starts again with each life
/// of the coordinator, and the life is part of the name. Ordered by coordinator, then life, then serial.
/// Prints as `n0.1#7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TxId {
    /// Who decides.
    pub coordinator: NodeId,
    /// In which life of the coordinator it began.
    pub incarnation: Incarnation,
    /// Counts up from 1 within that life.
    pub serial: u64,
}

/// A request, named by the client that makes it. A new attempt at the same wish keeps client and serial and
/// takes the next `attempt`, so it is a new name, and a later one. Prints as `c1.4`, and `c1.4/1` for the
/// first attempt after the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId {
    /// Which client asks. No two may share a number; 64 bits, so that those who draw one need not ask anybody.
    pub client: u64,
    /// Counts the client's wishes, from 1.
    pub serial: u32,
    /// Counts the retries of one wish, from 0.
    pub attempt: u16,
}

/// A moment on one node's clock, in microseconds since an origin of that clock's own. Never runs backwards
/// within a life; says nothing across nodes or lives.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Time(pub u64);

/// A length of time in microseconds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Micros(pub u64);

impl Time {
    /// The length from `earlier` to here; zero if `earlier` is later.
    pub fn since(self, earlier: Time) -> Micros {
        Micros(self.0.saturating_sub(earlier.0))
    }
}

impl Micros {
    /// `n` milliseconds.
    pub const fn millis(n: u64) -> Micros {
        Micros(n * 1_000)
    }
}

impl Add<Micros> for Time {
    type Output = Time;
    fn add(self, rhs: Micros) -> Time {
        Time(self.0.saturating_add(rhs.0))
    }
}

impl Add for Micros {
    type Output = Micros;
    fn add(self, rhs: Micros) -> Micros {
        Micros(self.0.saturating_add(rhs.0))
    }
}

impl Sub for Micros {
    type Output = Micros;
    fn sub(self, rhs: Micros) -> Micros {
        Micros(self.0.saturating_sub(rhs.0))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "life {}", self.0)
    }
}

impl fmt::Display for TxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}#{}", self.coordinator, self.incarnation.0, self.serial)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}.{}", self.client, self.serial)?;
        if self.attempt > 0 { write!(f, "/{}", self.attempt) } else { Ok(()) }
    }
}

/// Milliseconds with microsecond digits: `1.083`.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Micros(self.0).fmt(f)
    }
}

/// Milliseconds with microsecond digits: `1.083`.
impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{:03}", self.0 / 1_000, self.0 % 1_000))
    }
}
