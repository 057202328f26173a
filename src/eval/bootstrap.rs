//! Intervals: how much of a figure is luck of the draw.

/// A figure and its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// On the rows as they are.
    pub value: f64,
    /// The interval's ends; equal to `value` where nothing could be resampled.
    pub low: f64,
    /// See `low`.
    pub high: f64,
}

/// The percentile bootstrap (Efron 1979): `rounds` sets of `rows` rows, drawn with replacement, each handed to `figures`
/// as how often each row was drawn. The 2.5 % and 97.5 % quantiles of each figure, in the order of `figures`; draws in
/// which a figure means nothing (no positives, say) are left out of it.
pub(super) fn intervals<const N: usize>(
    rows: usize,
    rounds: u32,
    seed: u64,
    mut figures: impl FnMut(&[u32]) -> [Option<f64>; N],
) -> [Option<(f64, f64)>; N] {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut drawn: [Vec<f64>; N] = std::array::from_fn(|_| Vec::new());
    let mut times = vec![0_u32; rows];
    for _ in 0..if rows == 0 { 0 } else { rounds } {
        times.fill(0);
        for _ in 0..rows {
            times[random.usize(..rows)] += 1;
        }
        for (all, figure) in drawn.iter_mut().zip(figures(&times)) {
            all.extend(figure);
        }
    }
    drawn.map(|mut all| {
        all.sort_by(f64::total_cmp);
        Some((quantile(&all, 0.025)?, quantile(&all, 0.975)?))
    })
}

/// Between the two nearest ranks, linearly (type 7 of Hyndman and Fan 1996, the default of numpy and R).
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    #[expect(clippy::cast_precision_loss, reason = "rounds are far below 2^52")]
    let at = share * last as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a floor between 0 and `last`")]
    let below = at.floor() as usize;
    let (low, high) = (sorted[below], sorted[(below + 1).min(last)]);
    Some(low + (high - low) * at.fract())
}

/// `hits` of `of`, with the 95 % interval of Wilson 1927: unlike the bootstrap's it says something where none or all
/// were hit. `None` of nothing.
pub(super) fn share(hits: u32, of: u32) -> Option<Estimate> {
    const Z: f64 = 1.959_963_984_540_054;
    if of == 0 {
        return None;
    }
    let (n, p) = (f64::from(of), f64::from(hits) / f64::from(of));
    let middle = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    Some(Estimate { value: p, low: (middle - half).clamp(0.0, p), high: (middle + half).clamp(p, 1.0) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_lie_between_ranks() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        assert_eq!([0.0, 0.5, 1.0].map(|share| quantile(&sorted, share)), [Some(1.0), Some(2.5), Some(4.0)]);
        // numpy.percentile([1, 2, 3, 4], 2.5)
        assert!((quantile(&sorted, 0.025).unwrap() - 1.075).abs() < 1e-12);
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn a_share_of_none_is_not_known_to_be_nought() {
        // statsmodels: proportion_confint(0, 399, method="wilson") = (0, 0.009535)
        let none = share(0, 399).unwrap();
        assert!(none.value == 0.0 && none.low == 0.0 && (none.high - 0.009_535).abs() < 1e-5, "{none:?}");
        // proportion_confint(8, 10, method="wilson") = (0.4901625, 0.9433178)
        let most = share(8, 10).unwrap();
        assert!((most.low - 0.490_162_5).abs() < 1e-6 && (most.high - 0.943_317_8).abs() < 1e-6, "{most:?}");
        assert_eq!(share(0, 0), None);
    }

    #[test]
    fn the_interval_of_a_mean_is_about_two_standard_errors_wide() {
        // 400 rows, half of them 1: the standard error of the mean is 0.025.
        let mean = |times: &[u32]| {
            let hits: u32 = times.iter().step_by(2).sum();
            [Some(f64::from(hits) / f64::from(times.iter().sum::<u32>())), None]
        };
        let [Some((low, high)), None] = intervals(400, 2000, 1, mean) else { panic!("one figure, one without") };
        assert!((low - 0.451).abs() < 0.006 && (high - 0.549).abs() < 0.006, "{low} {high}");
        assert_eq!(intervals(400, 2000, 1, mean)[0], Some((low, high)), "the seed decides");
        assert_eq!(intervals(0, 2000, 1, |_| [Some(1.0)]), [None]);
    }

    proptest! {
        #[test]
        fn every_draw_has_as_many_rows_as_the_set(rows in 1_usize..60, seed in any::<u64>()) {
            let mut sets = 0;
            intervals(rows, 10, seed, |times| {
                assert_eq!(times.iter().sum::<u32>() as usize, rows);
                sets += 1;
                [None]
            });
            prop_assert_eq!(sets, 10);
        }

        #[test]
        fn a_share_lies_in_its_interval(hits in 0_u32..200, more in 0_u32..200) {
            if let Some(Estimate { value, low, high }) = share(hits, hits + more) {
                prop_assert!(0.0 <= low && low <= value && value <= high && high <= 1.0);
            }
        }
    }
}
