//! The fit: a ridge regression weighted by nearness, over a few chosen words.
//!
//! All fits of a text share its samples, so the sums of products of their columns are taken once; each fit then is a
//! small system of linear equations.

/// What all fits over the same samples have in common.
#[derive(Clone, Debug)]
pub(super) struct Surface {
    /// By sample: 1 for the text itself, less for what is far from it.
    nearness: Vec<f64>,
    total: f64,
    /// By word: weighted mean of "is kept".
    means: Vec<f64>,
    /// Words by words: weighted sums of products of the centred columns.
    products: Vec<f64>,
}

/// A fitted line.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) intercept: f64,
    /// Word and weight, by descending magnitude.
    pub(super) weights: Vec<(usize, f64)>,
    pub(super) fit: f64,
    pub(super) local: f64,
}

/// The labels of one fit, centred.
struct Target {
    mean: f64,
    /// By word: weighted sum of products of the centred column and the centred label.
    products: Vec<f64>,
    /// Weighted sum of squares of the centred label.
    square: f64,
}

/// The kernel's width, in hundredths of cosine distance.
const WIDTH: f64 = 25.0;

/// Up to so many words are chosen one by one.
const ONE_BY_ONE: usize = 6;

impl Surface {
    pub(super) fn new(kept: &[Vec<bool>]) -> Self {
        let words = kept.first().map_or(0, Vec::len);
        let nearness: Vec<f64> = kept.iter().map(|row| nearness(row)).collect();
        let total: f64 = nearness.iter().sum();
        let mut means = vec![0.0; words];
        let mut products = vec![0.0; words * words];
        for (row, near) in kept.iter().zip(&nearness) {
            let present: Vec<usize> = (0..words).filter(|word| row[*word]).collect();
            for (at, word) in present.iter().enumerate() {
                means[*word] += near;
                for other in &present[at..] {
                    products[word * words + other] += near;
                }
            }
        }
        for mean in &mut means {
            *mean /= total;
        }
        for word in 0..words {
            for other in word..words {
                let centred = products[word * words + other] - total * means[word] * means[other];
                products[word * words + other] = centred;
                products[other * words + word] = centred;
            }
        }
        Self { nearness, total, means, products }
    }

    /// Chooses at most `most` words and fits a line through `scores`, one a sample.
    pub(super) fn fit(&self, kept: &[Vec<bool>], scores: &[f64], most: usize) -> Line {
        let target = self.target(kept, scores);
        let chosen = if most <= ONE_BY_ONE { self.one_by_one(&target, most) } else { self.heaviest(&target, most) };
        let weights = self.ridge(&target, &chosen, 1.0);
        let intercept = target.mean - chosen.iter().zip(&weights).map(|(word, w)| w * self.means[*word]).sum::<f64>();
        let local = intercept + weights.iter().sum::<f64>();
        let fit = self.explained(&target, &chosen, &weights);
        let mut weights: Vec<(usize, f64)> = chosen.into_iter().zip(weights).collect();
        weights.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        Line { intercept, weights, fit, local }
    }

    fn target(&self, kept: &[Vec<bool>], scores: &[f64]) -> Target {
        let rows = || self.nearness.iter().zip(scores);
        let mean = rows().map(|(near, score)| near * score).sum::<f64>() / self.total;
        let square = rows().map(|(near, score)| near * (score - mean).powi(2)).sum();
        let mut products = vec![0.0; self.means.len()];
        for (row, (near, score)) in kept.iter().zip(rows()) {
            let pull = near * (score - mean);
            products.iter_mut().zip(row).filter(|(_, kept)| **kept).for_each(|(product, _)| *product += pull);
        }
        Target { mean, products, square }
    }

    /// Forward selection: the word that explains most beside those already chosen, again and again.
    fn one_by_one(&self, target: &Target, most: usize) -> Vec<usize> {
        let mut chosen: Vec<usize> = Vec::new();
        while chosen.len() < most.min(self.means.len()) {
            let mut best: Option<(usize, f64)> = None;
            for word in (0..self.means.len()).filter(|word| !chosen.contains(word)) {
                let with: Vec<usize> = chosen.iter().copied().chain([word]).collect();
                let fit = self.explained(target, &with, &self.ridge(target, &with, 0.0));
                if best.is_none_or(|(_, known)| fit > known) {
                    best = Some((word, fit));
                }
            }
            let Some((word, _)) = best else { break };
            chosen.push(word);
        }
        chosen
    }

    /// The words with the largest weights in a fit over all of them.
    fn heaviest(&self, target: &Target, most: usize) -> Vec<usize> {
        let all: Vec<usize> = (0..self.means.len()).collect();
        let weights = self.ridge(target, &all, 0.01);
        let mut order = all;
        order.sort_by(|a, b| weights[*b].abs().total_cmp(&weights[*a].abs()));
        order.truncate(most);
        order
    }

    /// Weights of the words in a ridge regression with intercept, which is not penalised.
    fn ridge(&self, target: &Target, words: &[usize], penalty: f64) -> Vec<f64> {
        let product = |a: usize, b: usize| self.products[a * self.means.len() + b];
        // Words that are always lost together have the same column. A breath of a penalty then shares the weight.
        let least = words.iter().map(|word| product(*word, *word)).fold(0.0, f64::max) * 1e-12;
        let penalty = penalty.max(least).max(f64::MIN_POSITIVE);
        let row = |a: &usize| words.iter().map(|b| product(*a, *b)).collect::<Vec<f64>>();
        let mut matrix: Vec<Vec<f64>> = words.iter().map(row).collect();
        matrix.iter_mut().enumerate().for_each(|(at, row)| row[at] += penalty);
        solve(matrix, words.iter().map(|word| target.products[*word]).collect())
    }

    /// R²: 1 less the share of the labels' variance that the line leaves.
    fn explained(&self, target: &Target, words: &[usize], weights: &[f64]) -> f64 {
        // Labels that do not vary are explained by anything.
        if target.square <= f64::EPSILON * self.total {
            return 1.0;
        }
        let product = |a: usize, b: usize| self.products[a * self.means.len() + b];
        let mut left = target.square;
        for (a, weight) in words.iter().zip(weights) {
            left -= 2.0 * weight * target.products[*a];
            left += weight * words.iter().zip(weights).map(|(b, other)| other * product(*a, *b)).sum::<f64>();
        }
        1.0 - left / target.square
    }
}

/// `sqrt(exp(-d² / width²))` of the cosine distance `d`, in hundredths, between the text and a copy that kept these.
fn nearness(kept: &[bool]) -> f64 {
    let count = |flags: &mut dyn Iterator<Item = &bool>| flags.fold(0.0, |count, _| count + 1.0);
    let (all, present) = (count(&mut kept.iter()), count(&mut kept.iter().filter(|kept| **kept)));
    let distance: f64 = 100.0 * (1.0 - f64::sqrt(present / all));
    (-distance.powi(2) / WIDTH.powi(2)).exp().sqrt()
}

/// Solves `matrix x = right` for a symmetric positive definite matrix, by Cholesky's method.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let size = right.len();
    for column in 0..size {
        let (head, tail) = matrix[column..].split_at_mut(1);
        let done = &mut head[0];
        // Rounding may leave a pivot at or under 0; the floor keeps that word out of the solution.
        let left = done[column] - dot(&done[..column], &done[..column]);
        done[column] = left.max(f64::MIN_POSITIVE).sqrt();
        for row in tail {
            row[column] = (row[column] - dot(&row[..column], &done[..column])) / done[column];
        }
        right[column] = (right[column] - dot(&done[..column], &right)) / done[column];
    }
    for column in (0..size).rev() {
        let known: f64 = (column + 1..size).map(|row| matrix[row][column] * right[row]).sum();
        right[column] = (right[column] - known) / matrix[column][column];
    }
    right
}

/// Over the shorter of the two.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nearness_falls_with_what_is_lost() {
        // sqrt(exp(-(100 * (1 - sqrt(1/2)))^2 / 625)), by hand.
        let half = nearness(&[true, false]);
        assert!((half - (-(29.289_321_881_f64.powi(2)) / 625.0).exp().sqrt()).abs() < 1e-9, "{half}");
        assert!((nearness(&[true, true]) - 1.0).abs() < 1e-12);
        assert!((nearness(&[false, false]) - (-16.0_f64).exp().sqrt()).abs() < 1e-12);
    }

    #[test]
    fn known_ridge() {
        // scikit-learn 1.9: Ridge(alpha=1).fit([[1,1],[1,0],[0,1],[0,0]], [1,.5,.25,0], sample_weight=nearness): its
        // coefficients, intercept and score.
        let kept = vec![vec![true, true], vec![true, false], vec![false, true], vec![false, false]];
        let scores = [1.0, 0.5, 0.25, 0.0];
        let surface = Surface::new(&kept);
        let target = surface.target(&kept, &scores);
        let weights = surface.ridge(&target, &[0, 1], 1.0);
        let line = surface.fit(&kept, &scores, 2);
        assert!(KNOWN.iter().zip(&weights).all(|(known, found)| (known - found).abs() < 1e-9), "{weights:?} {line:?}");
        assert!((line.intercept - KNOWN[2]).abs() < 1e-9 && (line.fit - KNOWN[3]).abs() < 1e-9, "{line:?}");
    }

    const KNOWN: [f64; 4] = [0.167_299_999_865, 0.083_585_361_255, 0.498_396_471_149, 0.375_803_538_473];

    proptest! {
        #[test]
        fn solutions_solve(size in 1_usize..8, seed in any::<u64>()) {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut next = || random.f64() * 2.0 - 1.0;
            let factor: Vec<Vec<f64>> = (0..size).map(|_| (0..size).map(|_| next()).collect()).collect();
            let right: Vec<f64> = (0..size).map(|_| next()).collect();
            // A'A + I is symmetric and positive definite.
            let matrix: Vec<Vec<f64>> = (0..size)
                .map(|a| {
                    let product = |b: usize| factor.iter().map(|row| row[a] * row[b]).sum::<f64>();
                    (0..size).map(|b| product(b) + f64::from(u8::from(a == b))).collect()
                })
                .collect();
            let found = solve(matrix.clone(), right.clone());
            for (row, right) in matrix.iter().zip(&right) {
                let left: f64 = row.iter().zip(&found).map(|(a, b)| a * b).sum();
                prop_assert!((left - right).abs() < 1e-9);
            }
        }

        #[test]
        fn no_other_weights_explain_more(seed in any::<u64>(), words in 1_usize..5) {
            let mut random = fastrand::Rng::with_seed(seed);
            let kept: Vec<Vec<bool>> = (0..40).map(|at| (0..words).map(|_| at == 0 || random.bool()).collect()).collect();
            let scores: Vec<f64> = kept.iter().map(|_| random.f64()).collect();
            let surface = Surface::new(&kept);
            let target = surface.target(&kept, &scores);
            let all: Vec<usize> = (0..words).collect();
            let best = surface.ridge(&target, &all, 0.0);
            let fit = surface.explained(&target, &all, &best);
            for word in 0..words {
                for step in [-1e-3, 1e-3] {
                    let mut other = best.clone();
                    other[word] += step;
                    prop_assert!(surface.explained(&target, &all, &other) <= fit + 1e-12);
                }
            }
            prop_assert!((-1e-9..=1.0 + 1e-9).contains(&fit), "{}", fit);
        }
    }
}
