//! Delta debugging (Zeller, Hildebrandt 2002, "Simplifying and isolating failure-inducing input",
//! figure 5), without the subset step beyond the first halves: complements find the same lists, and
//! the needed faults are rarely adjacent.

/// A 1-minimal sublist of `all` for which `still_fails` holds: without any one of its entries it
/// does not hold. Assumes that `still_fails(all)` holds and does not test it.
pub(super) fn ddmin<T: Clone>(all: &[T], mut still_fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut best = all.to_vec();
    if best.is_empty() || still_fails(&[]) {
        return Vec::new();
    }
    let mut chunk = best.len().div_ceil(2);
    loop {
        let mut at = 0;
        let mut any = false;
        while at < best.len() && best.len() > 1 {
            let end = (at + chunk).min(best.len());
            let rest = [&best[..at], &best[end..]].concat();
            if !rest.is_empty() && still_fails(&rest) {
                best = rest;
                any = true;
            } else {
                at = end;
            }
        }
        if chunk == 1 && !any {
            return best;
        }
        if chunk > 1 {
            chunk = chunk.div_ceil(2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ddmin_keeps_exactly_the_needed_entries() {
        for needed in [vec![], vec![7], vec![0, 99], vec![3, 50, 51]] {
            let all: Vec<u32> = (0..100).collect();
            let mut tried = 0;
            let found = ddmin(&all, |some| {
                tried += 1;
                needed.iter().all(|need| some.contains(need))
            });
            assert_eq!(found, needed);
            assert!(tried < 160, "{tried} tries for {needed:?}");
        }
    }

    #[test]
    fn ddmin_keeps_one_of_two_alternatives_alone() {
        let all: Vec<u32> = (0..40).collect();
        let found = ddmin(&all, |some| {
            [[1, 2], [30, 31]].iter().any(|pair| pair.iter().all(|needed| some.contains(needed)))
        });
        assert!(found == [1, 2] || found == [30, 31], "{found:?}");
    }
}
