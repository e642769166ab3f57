//! Stateless random numbers from keys.
//!
//! A seed gives keys, drawn once with ChaCha8; everything after that is a hash of a key and a
//! coordinate. So masking one fault leaves every other decision as it was, and nothing depends on
//! the order of the world's questions. Integers only: floats might round differently on other
//! machines, and rejection loops take varying time.

/// A 64-bit number from a key and a coordinate. The finaliser of SplitMix64 (Steele, Lea, Flood
/// 2014, "Fast splittable pseudorandom number generators", figure 15), over key and coordinate
/// combined by odd multiples.
#[inline]
pub fn hash(key: u64, coordinate: u64) -> u64 {
    let mut z = key
        .wrapping_add(coordinate.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_add(0x9e37_79b9_7f4a_7c15);
    // Shifts and constants of SplitMix64, unchanged.
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number in `0..bound` (0 if `bound` is 0) from the upper bits of `random`, by one widening
/// multiply.
#[inline]
pub fn below(random: u64, bound: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

/// A number in `low..=high`.
#[inline]
pub fn between(random: u64, low: u64, high: u64) -> u64 {
    low + below(random, high.saturating_sub(low).saturating_add(1))
}

/// Exponentially distributed with the given mean, from an integer table of 32 quantiles; never
/// above 5 means.
#[inline]
pub fn exponential(random: u64, mean: u64) -> u64 {
    (u64::from(QUANTILES[(random >> 59) as usize]) * mean) >> 8
}

/// `-ln(1 - (i + 1/2) / 32)`, in 256ths.
// A table, so that every machine computes the same: a logarithm would need floats.
const QUANTILES: [u16; 32] = [
    4, 12, 21, 30, 39, 48, 58, 68, 79, 90, 102, 114, 127, 141, 155, 170, 186, 203, 222, 242, 263,
    287, 312, 341, 373, 410, 452, 502, 564, 650, 780, 1065,
];

/// Folds integers, as little-endian u64, into one number: the fingerprint of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Self {
        // The offset basis of FNV-1a, as a well-known number without a meaning of its own.
        Fingerprint(0xcbf2_9ce4_8422_2325)
    }
}

impl Fingerprint {
    /// Folds one number in.
    #[inline]
    pub fn fold(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    /// Folds a few bytes in, with their length.
    #[inline]
    pub fn fold_bytes(&mut self, bytes: &[u8]) {
        // With the length: otherwise two appends could be split differently and look the same.
        self.fold(bytes.len() as u64);
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.fold(u64::from_le_bytes(chunk.try_into().expect("a chunk of eight")));
        }
        let mut last = [0; 8];
        let rest = chunks.remainder();
        if !rest.is_empty() {
            last[..rest.len()].copy_from_slice(rest);
            self.fold(u64::from_le_bytes(last));
        }
    }

    /// The fingerprint so far.
    pub fn value(self) -> u64 {
        hash(self.0, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_draws_stay_in_bounds_and_reach_both_ends() {
        let drawn: Vec<u64> =
            (0..1000).map(|coordinate| between(hash(7, coordinate), 3, 6)).collect();
        assert_eq!(drawn.iter().min(), Some(&3));
        assert_eq!(drawn.iter().max(), Some(&6));
    }

    #[test]
    fn exponential_table_has_the_requested_mean() {
        let mean =
            (0..4096).map(|coordinate| exponential(hash(1, coordinate), 1000)).sum::<u64>() / 4096;
        assert!((950..1050).contains(&mean), "{mean}");
    }

    #[test]
    fn fingerprint_depends_only_on_the_values() {
        let mut fingerprint = Fingerprint::default();
        fingerprint.fold(1);
        fingerprint.fold_bytes(b"hello, world");
        assert_eq!(fingerprint.value(), 17_090_890_807_031_682_083);
    }
}
