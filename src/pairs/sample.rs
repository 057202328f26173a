//! Which requests leave a row.

/// Whether a request is in a sample of `rate` (0 to 1) of all requests.
///
/// The same id and rate always give the same answer, and a higher rate's sample contains a lower one's. The id must be
/// the gateway's own: a caller who may choose it could choose to be sampled.
pub fn sampled(request_id: &str, rate: f64) -> bool {
    fraction("wardline pairs sample v1", request_id.as_bytes()) < rate
}

/// A number from 0 up to 1 that depends on nothing but its purpose and the data.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit into an f64")]
pub(in crate::pairs) fn fraction(purpose: &str, data: &[u8]) -> f64 {
    let mut hasher = blake3::Hasher::new_derive_key(purpose);
    let mut eight = [0; 8];
    hasher.update(data).finalize_xof().fill(&mut eight);
    (u64::from_le_bytes(eight) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(rate: f64, of: u32) -> u32 {
        (0..of).map(|i| u32::from(sampled(&format!("req_{i}"), rate))).sum()
    }

    #[test]
    fn the_rate_is_kept_within_four_standard_deviations() {
        let n = 100_000;
        for rate in [0.01, 0.05, 0.5, 0.99] {
            let (mean, deviation) = (f64::from(n) * rate, (f64::from(n) * rate * (1.0 - rate)).sqrt());
            let taken = f64::from(taken(rate, n));
            assert!((taken - mean).abs() < 4.0 * deviation, "{taken} at {rate}");
        }
        assert_eq!((taken(0.0, n), taken(1.0, n), taken(f64::NAN, n)), (0, n, 0));
    }

    #[test]
    fn a_request_is_sampled_or_not_for_good_and_samples_are_nested() {
        // Written down so that a change of the hash, which would mix two samples, does not go unseen.
        let first: Vec<u32> = (0..200).filter(|i| sampled(&format!("req_{i}"), 0.05)).collect();
        assert_eq!(first, KNOWN);
        assert!(first.iter().all(|i| sampled(&format!("req_{i}"), 0.06)));
    }

    const KNOWN: &[u32] = &[18, 48, 58, 62, 104, 115, 127, 158, 174, 194, 196];
}
