//! From weights to shares: how many of a pool's draws each endpoint gets.
//!
//! Shares are the weights without their common divisor, so a pool whose weights are all the same has one draw for each
//! endpoint, and two of 100 and 50 have two and one. Exact, until a pool would need more draws than there can be.

use crate::plan::MAX_ENDPOINTS;

/// The shares of endpoints with these weights, each at least 1; their sum is at most [`MAX_ENDPOINTS`], which there may
/// not be more weights than.
pub fn shares(weights: &[u16]) -> Vec<u16> {
    let divisor = weights.iter().copied().reduce(greatest_common_divisor).unwrap_or(1).max(1);
    let total: usize = weights.iter().map(|w| usize::from(w / divisor)).sum();
    let exact = |weight: u16| (weight / divisor).max(1);
    if total <= MAX_ENDPOINTS {
        return weights.iter().map(|w| exact(*w)).collect();
    }
    let room = MAX_ENDPOINTS.saturating_sub(weights.len());
    let scaled = |weight: u16| 1 + usize::from(weight / divisor) * room / total;
    weights.iter().map(|w| u16::try_from(scaled(*w)).unwrap_or(u16::MAX)).collect()
}

fn greatest_common_divisor(a: u16, b: u16) -> u16 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_without_their_divisor() {
        assert_eq!(shares(&[]), Vec::<u16>::new());
        assert_eq!(shares(&[100]), [1]);
        assert_eq!(shares(&[7, 7, 7]), [1, 1, 1]);
        assert_eq!(shares(&[100, 50, 25]), [4, 2, 1]);
        assert_eq!(shares(&[100, 1]), [100, 1]);
    }

    #[test]
    fn too_many_draws_are_made_fewer() {
        let mut weights = vec![100; 4000];
        weights.push(1);
        let shares = shares(&weights);
        assert!(shares.iter().map(|s| usize::from(*s)).sum::<usize>() <= MAX_ENDPOINTS);
        assert_eq!((shares[0], shares[4000]), (16, 1));
        assert_eq!(
            super::shares(&vec![99; MAX_ENDPOINTS]).iter().map(|s| usize::from(*s)).sum::<usize>(),
            MAX_ENDPOINTS
        );
    }
}
