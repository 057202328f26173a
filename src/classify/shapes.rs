//! The few shapes that a GPU sees.
//!
//! Kernels are chosen, and `TensorRT`'s engines built, for each shape that comes along. So runs are padded up to a handful
//! of shapes, all of which were run once before the first request.

/// Lengths and batch sizes that runs are padded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shapes {
    /// Tokens in a full window.
    window: usize,
    /// Windows in the largest batch; a power of two.
    most: usize,
}

/// Shorter windows are padded to a half or a quarter of a full one.
const PARTS: [usize; 3] = [4, 2, 1];

impl Shapes {
    /// For windows of at most `window` tokens, at most `most` in one run.
    pub(super) fn new(window: usize, most: usize) -> Self {
        Self { window, most: most.next_power_of_two() }
    }

    /// Windows in the largest batch.
    pub(super) fn most(self) -> usize {
        self.most
    }

    /// The smallest shape that holds so many windows, of which the longest has `longest` tokens: windows and tokens.
    pub(super) fn fit(self, windows: usize, longest: usize) -> [usize; 2] {
        let length = PARTS.iter().map(|part| self.window.div_ceil(*part)).find(|length| *length >= longest);
        [windows.next_power_of_two(), length.unwrap_or(longest)]
    }

    /// Every shape, the smallest first.
    pub(super) fn all(self) -> impl Iterator<Item = [usize; 2]> {
        let batches = (0..=self.most.trailing_zeros()).map(|power| 1_usize << power);
        batches.flat_map(move |windows| PARTS.map(|part| [windows, self.window.div_ceil(part)]))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn there_are_few_shapes() {
        let shapes: Vec<_> = Shapes::new(128, 256).all().collect();
        assert_eq!(shapes.len(), 27);
        assert_eq!((shapes[0], shapes[26]), ([1, 32], [256, 128]));
        assert_eq!(Shapes::new(128, 256).fit(5, 33), [8, 64]);
    }

    proptest! {
        #[test]
        fn every_run_fits_into_one_of_them(window in 3_usize..=512, most in 1_usize..=256, windows in 1_usize..=256, longest in 1_usize..=512) {
            let (windows, longest) = (windows.min(most), longest.min(window));
            let shapes = Shapes::new(window, most);
            let [rows, length] = shapes.fit(windows, longest);
            prop_assert!(rows >= windows && rows < 2 * windows.max(1) + 1 && length >= longest);
            prop_assert!(shapes.all().collect::<BTreeSet<_>>().contains(&[rows, length]));
        }
    }
}
