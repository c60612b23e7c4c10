//! Random numbers as a function of a key and a place: no order of work changes them.

/// Mixes 64 bits (Steele and others' `splitmix64` finalizer).
pub fn mix64(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The key of a place.
pub fn key(seed: u64, place: &str) -> u64 {
    mix64(seed ^ xxhash_rust::xxh3::xxh3_64(place.as_bytes()))
}

/// Uniform on [0, 1).
pub fn uniform(key: u64, index: u64) -> f64 {
    (mix64(key ^ mix64(index)) >> 11) as f64 / (1u64 << 53) as f64
}

/// Standard normal (Box and Muller).
pub fn normal(key: u64, index: u64) -> f64 {
    let radius = (-2.0 * (1.0 - uniform(key, 2 * index)).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform(key, 2 * index + 1)).cos()
}

/// A permutation of `0..n` (Fisher and Yates).
pub fn permutation(key: u64, n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    for at in (1..n).rev() {
        let other = (uniform(key, at as u64) * (at + 1) as f64) as usize;
        order.swap(at, other.min(at));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::{normal, permutation};

    #[test]
    fn a_permutation_visits_every_row_once() {
        for n in [0usize, 1, 2, 1000] {
            let mut order = permutation(7, n);
            order.sort_unstable();
            assert_eq!(order, (0..n as u32).collect::<Vec<_>>());
        }
        assert_ne!(permutation(1, 100), permutation(2, 100));
    }

    #[test]
    fn normal_numbers_have_mean_0_and_deviation_1() {
        let n = 100_000;
        let mean = (0..n).map(|index| normal(3, index)).sum::<f64>() / n as f64;
        let square = (0..n).map(|index| normal(3, index).powi(2)).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.01 && (square - 1.0).abs() < 0.02, "{mean} {square}");
    }
}
