//! Ids: small, `Copy`, ordered, and short when printed (`n1`, `c1.4`).

use std::fmt;
use std::ops::{Add, AddAssign, Div, Mul, Sub};

use serde::{Deserialize, Serialize};

/// A node of a cluster of at most 65,535 nodes. Prints as `n3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u16);

/// One run of a node, from a boot to the next, as the node itself numbers it: one more than the
/// last incarnation that became durable. A boot that crashes early is not counted. (The simulator
/// numbers every boot.) Prints as `incarnation 3`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Incarnation(pub u32);

/// A request, numbered by its client. A retry keeps client and serial and takes the next `attempt`:
/// it is a new and greater id. Prints as `c1.4`, and `c1.4/1` for the first retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId {
    /// The client. Unique: 64 bits, so that clients can draw their numbers at random.
    pub client: u64,
    /// Counts the client's requests, from 1.
    pub serial: u32,
    /// Counts the retries of one request, from 0.
    pub attempt: u16,
}

/// A moment on one node's clock, in microseconds since an arbitrary origin. Never runs backwards
/// within an incarnation. Not comparable between nodes or incarnations.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Time(pub u64);

/// A duration in whole microseconds. Sums and products saturate, and a difference is not negative.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Micros(pub u64);

impl Time {
    /// The duration from `earlier` to this moment; zero if `earlier` is later.
    pub fn since(self, earlier: Time) -> Micros {
        Micros(self.0.saturating_sub(earlier.0))
    }
}

impl Micros {
    /// No time at all.
    pub const ZERO: Micros = Micros(0);
    /// Longer than any run: as a moment, the end of time.
    pub const MAX: Micros = Micros(u64::MAX);

    /// `n` milliseconds.
    pub const fn from_millis(n: u64) -> Micros {
        Micros(n * 1_000)
    }

    /// `n` seconds.
    pub const fn from_secs(n: u64) -> Micros {
        Micros(n * 1_000_000)
    }
}

impl Add<Micros> for Time {
    type Output = Time;
    #[inline]
    fn add(self, rhs: Micros) -> Time {
        // Saturates instead of wrapping: a deadline at the end of time is never reached, a wrapped
        // one would be in the past.
        Time(self.0.saturating_add(rhs.0))
    }
}

impl Add for Micros {
    type Output = Micros;
    #[inline]
    fn add(self, rhs: Micros) -> Micros {
        Micros(self.0.saturating_add(rhs.0))
    }
}

impl AddAssign for Micros {
    #[inline]
    fn add_assign(&mut self, rhs: Micros) {
        *self = *self + rhs;
    }
}

impl Sub for Micros {
    type Output = Micros;
    #[inline]
    fn sub(self, rhs: Micros) -> Micros {
        // A duration is not negative.
        Micros(self.0.saturating_sub(rhs.0))
    }
}

impl Mul<u64> for Micros {
    type Output = Micros;
    #[inline]
    fn mul(self, rhs: u64) -> Micros {
        Micros(self.0.saturating_mul(rhs))
    }
}

/// Rounds down.
impl Div<u64> for Micros {
    type Output = Micros;
    #[inline]
    fn div(self, rhs: u64) -> Micros {
        Micros(self.0 / rhs)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "incarnation {}", self.0)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}.{}", self.client, self.serial)?;
        // Most requests have one attempt, so traces stay short.
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
        // As one text, so that a width applies to all of it.
        f.pad(&format!("{}.{:03}", self.0 / 1_000, self.0 % 1_000))
    }
}
