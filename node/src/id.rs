//! Ids: small, `Copy`, ordered, and short when printed (`n1`, `c1.4`).

use std::fmt;
use std::ops::{Add, AddAssign, Div, Mul, Sub};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A node of a cluster of at most 65,535 nodes. Prints as `n3`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u16);

/// One run of a node, from a boot to the next: a number, and random bits by which it differs from
/// every other incarnation of that number.
///
/// The node numbers its incarnations itself: one more than the last that became durable. A boot
/// that crashes early is not counted. (The simulator numbers every boot.) The bits are those of its
/// boot, since the number alone does not name one history: a directory that was copied, restored,
/// emptied or started under the id of another node leads to a second incarnation of a number.
///
/// Ordered by number. Prints as `incarnation 3`, with `{:#}` as `3.9f3a01c2`, and parses from the
/// latter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation {
    number: u32,
    /// 0 in what programs without these bits have written.
    bits: u32,
}

impl Incarnation {
    /// The incarnation of this number without random bits: 0 for "none yet", others in tests and in
    /// what early versions have written.
    pub const fn numbered(number: u32) -> Incarnation {
        Incarnation { number, bits: 0 }
    }

    /// The next incarnation of a node, with bits of its [`Boot::entropy`](crate::Boot::entropy).
    ///
    /// # Panics
    /// If this is the 4,294,967,295th.
    #[must_use]
    pub const fn next(self, entropy: u64) -> Incarnation {
        let number = self.number.checked_add(1).expect("fewer than 2^32 incarnations");
        // Either half of the entropy may be constant in a test.
        let bits = (entropy >> 32) as u32 ^ entropy as u32;
        Incarnation { number, bits: if bits == 0 { 1 } else { bits } }
    }

    /// Which one of its node it is, counted from 1.
    pub const fn number(self) -> u32 {
        self.number
    }

    /// Whether it has random bits, as every incarnation has that a present program begins.
    pub const fn has_bits(self) -> bool {
        self.bits != 0
    }

    /// Number and bits in one integer, as encoded.
    pub const fn to_u64(self) -> u64 {
        (self.bits as u64) << 32 | self.number as u64
    }

    /// The inverse of [`to_u64`](Incarnation::to_u64).
    pub const fn from_u64(encoded: u64) -> Incarnation {
        Incarnation { number: encoded as u32, bits: (encoded >> 32) as u32 }
    }
}

/// One integer; for people and scripts a text as `3.9f3a01c2`, or the number if there are no bits.
impl Serialize for Incarnation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() && self.bits != 0 {
            serializer.collect_str(&format_args!("{self:#}"))
        } else {
            serializer.serialize_u64(self.to_u64())
        }
    }
}

impl<'de> Deserialize<'de> for Incarnation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Incarnation, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(ReadableIncarnation)
        } else {
            u64::deserialize(deserializer).map(Incarnation::from_u64)
        }
    }
}

struct ReadableIncarnation;

impl de::Visitor<'_> for ReadableIncarnation {
    type Value = Incarnation;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number, or {ParseIncarnationError}")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Incarnation, E> {
        u32::try_from(number).map(Incarnation::numbered).map_err(E::custom)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Incarnation, E> {
        text.parse().map_err(E::custom)
    }
}

/// A text is not an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an incarnation like 3.9f3a01c2: its number, and 8 hexadecimal digits")]
pub struct ParseIncarnationError;

impl std::str::FromStr for Incarnation {
    type Err = ParseIncarnationError;
    fn from_str(text: &str) -> Result<Incarnation, ParseIncarnationError> {
        let (number, bits) = text.split_once('.').unwrap_or((text, "00000000"));
        let number = number.parse().map_err(|_| ParseIncarnationError)?;
        // `from_str_radix` would accept a sign and other lengths.
        if bits.len() != 8 || !bits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(ParseIncarnationError);
        }
        let bits = u32::from_str_radix(bits, 16).map_err(|_| ParseIncarnationError)?;
        Ok(Incarnation { number, bits })
    }
}

/// A request, numbered by its client. A retry keeps client and serial and takes the next `attempt`:
/// it is a new and greater id. Prints as `c1.4`, and `c1.4/1` for the first retry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId {
    /// The client. Unique: 64 bits, so that clients can draw their numbers at random.
    pub client: u64,
    /// Counts the client's requests, from 1.
    pub serial: u32,
    /// Counts the retries of one request, from 0.
    pub attempt: u16,
}

/// A moment on one node's clock, in microseconds. Never runs backwards within an incarnation.
/// Between nodes or incarnations it is comparable only as far as their clocks are right:
/// [`Boot::now`](crate::contract::Boot::now).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time(pub u64);

/// A duration in whole microseconds. Sums and products saturate, and a difference is not negative.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
        // Traces stay short: the bits are for places where two of one number may meet.
        if !f.alternate() {
            write!(f, "incarnation {}", self.number)
        } else if self.bits == 0 {
            write!(f, "{}", self.number)
        } else {
            write!(f, "{}.{:08x}", self.number, self.bits)
        }
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

// States and messages are printed with `{:?}` in traces, on one line with `{:#?}`, too: ids look
// there as they do everywhere else, so that a search for `c1.4` finds them.

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// With its unit: `1.083 ms`.
impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ms")
    }
}

/// With its unit: `1.083 ms`.
impl fmt::Debug for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn debug_text_is_that_of_traces() {
        let id = RequestId { client: 1, serial: 4, attempt: 0 };
        let text = format!("{:#?}", Some((NodeId(2), id, Time(1_083), Micros(20))));
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        assert_eq!(lines[2..6], ["n2,", "c1.4,", "1.083 ms,", "0.020 ms,"]);
    }

    #[test]
    fn incarnation_round_trips_through_bytes_json_and_text() {
        let third = Incarnation::numbered(2).next(0x1234_5678_0000_00ff);
        assert_eq!(third, Incarnation { number: 3, bits: 0x1234_5687 });
        assert_eq!(codec::decode(&codec::encode(&third)), Ok(third));
        assert_eq!(serde_json::to_string(&third).unwrap(), "\"3.12345687\"");
        assert_eq!(serde_json::from_str::<Incarnation>("\"3.12345687\"").unwrap(), third);
        assert_eq!("3.12345687".parse(), Ok(third));
        for text in ["", "3.", "3.1234567", "3.+2345678", "x.12345678", "4294967296.12345678"] {
            assert_eq!(text.parse::<Incarnation>(), Err(ParseIncarnationError), "{text}");
        }
        assert_eq!(format!("{third}, {third:#}"), "incarnation 3, 3.12345687");
    }

    /// Programs without random bits wrote the number alone.
    #[test]
    fn incarnation_without_bits_has_the_bytes_and_the_json_of_its_number() {
        let fifth = Incarnation::numbered(5);
        assert_eq!(codec::encode(&fifth), codec::encode(&5_u32));
        assert_eq!(serde_json::to_string(&fifth).unwrap(), "5");
        assert_eq!(serde_json::from_str::<Incarnation>("5").unwrap(), fifth);
        assert_eq!("5".parse(), Ok(fifth));
        assert_eq!(format!("{fifth:#}"), "5");
    }

    #[test]
    fn incarnations_are_ordered_by_number_whatever_their_bits() {
        let first = Incarnation::default().next(u64::MAX << 32);
        assert!(first < first.next(1) && first > Incarnation::default());
        assert_ne!(Incarnation::default().next(7).bits, 0);
        assert_ne!(Incarnation::default().next(0).bits, 0);
    }
}
