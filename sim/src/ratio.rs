//! Ratios with a fixed denominator. A value out of range cannot be made, so no reader of one checks
//! it again.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

/// A share or a probability in thousandths: 0 to 1000. Prints as its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Permille(u16);

impl Permille {
    /// Nothing, or never.
    pub const ZERO: Permille = Permille(0);
    /// One half.
    pub const HALF: Permille = Permille(500);
    /// Everything, or always.
    pub const ALL: Permille = Permille(1000);

    /// `n` thousandths; `None` above 1000.
    pub const fn new(n: u16) -> Option<Permille> {
        if n <= Permille::ALL.0 { Some(Permille(n)) } else { None }
    }

    /// The number of thousandths.
    #[inline]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// This share of `whole`, rounded down.
    #[inline]
    pub const fn of(self, whole: usize) -> usize {
        whole * self.0 as usize / 1000
    }
}

impl<'de> Deserialize<'de> for Permille {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Permille, D::Error> {
        let n = u16::deserialize(deserializer)?;
        Permille::new(n).ok_or_else(|| D::Error::custom("a share above 1000 thousandths"))
    }
}

impl fmt::Display for Permille {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A deviation in parts per million: -100,000 to 100,000, a tenth to either side. Prints as its
/// number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ppm(i32);

impl Ppm {
    /// No deviation.
    pub const ZERO: Ppm = Ppm(0);
    /// The greatest deviation, a tenth.
    // The liveness bounds of a protocol may assume it: beyond it a clock would be defective.
    pub const MAX: Ppm = Ppm(100_000);

    /// `n` parts per million; `None` if they are more than a tenth to either side.
    pub const fn new(n: i32) -> Option<Ppm> {
        if n.unsigned_abs() <= Ppm::MAX.0.unsigned_abs() { Some(Ppm(n)) } else { None }
    }

    /// The number of parts, negative if behind.
    #[inline]
    pub const fn get(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Ppm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_out_of_range_cannot_be_made() {
        assert_eq!(Permille::new(1000), Some(Permille::ALL));
        assert_eq!(Permille::new(1001), None);
        assert_eq!(Ppm::new(100_000), Some(Ppm::MAX));
        assert_eq!(Ppm::new(-100_000).map(Ppm::get), Some(-100_000));
        assert_eq!(Ppm::new(100_001), None);
        assert_eq!(Ppm::new(-100_001), None);
        assert_eq!(Ppm::new(i32::MIN), None);
    }
}
