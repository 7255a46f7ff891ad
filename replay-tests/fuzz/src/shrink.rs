//! A smaller input that is still a finding.

/// Tries at most.
const TRIES_MAX: usize = 4_000;

/// Takes out what is not needed: halves, then ever smaller pieces, then single bytes are made plain. `still` says whether an input is
/// the same finding.
pub fn shrink(input: &[u8], still: &mut dyn FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut best = input.to_vec();
    let mut tries = 0;
    let mut piece = (best.len() / 2).max(1);
    loop {
        let mut from = 0;
        let before = best.len();
        while from < best.len() && tries < TRIES_MAX {
            let mut smaller = best.clone();
            smaller.drain(from..(from + piece).min(best.len()));
            tries += 1;
            if still(&smaller) {
                best = smaller;
            } else {
                from += piece;
            }
        }
        if tries >= TRIES_MAX || (piece == 1 && best.len() == before) {
            return best;
        }
        piece = (piece / 2).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_left_and_nothing_else() {
        let input: Vec<u8> = (0..=255).collect();
        let smaller = shrink(&input, &mut |bytes| bytes.contains(&17) && bytes.contains(&200));
        assert_eq!(smaller, [17, 200]);
    }
}
