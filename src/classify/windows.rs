//! Tokens into overlapping windows: pure arithmetic.

/// The shape of a model's window.
///
/// A window is `first`, then content tokens, then `last`. The next window begins `stride` content tokens after this
/// one, so that neighbours share `tokens - 2 - stride` of them and a phrase on a border is seen whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Tokens in a full window, the two special ones included. At least 3.
    pub tokens: usize,
    /// Content tokens from the start of one window to the start of the next. From 1 to `tokens - 2`.
    pub stride: usize,
    /// The token before the content, `[CLS]` in BERT's vocabulary.
    pub first: u32,
    /// The token after the content, `[SEP]` in BERT's vocabulary.
    pub last: u32,
}

impl Frame {
    /// Content tokens in a full window.
    pub fn content(&self) -> usize {
        self.tokens.saturating_sub(2).max(1)
    }

    /// Cuts content tokens into windows. Every token is in at least one of them; no tokens make no window.
    pub fn cut(&self, ids: &[u32]) -> Vec<Vec<u32>> {
        if ids.is_empty() {
            return Vec::new();
        }
        let content = self.content();
        let stride = self.stride.clamp(1, content);
        let mut windows = Vec::with_capacity(1 + ids.len().saturating_sub(content).div_ceil(stride));
        let mut start = 0;
        loop {
            let end = ids.len().min(start + content);
            let mut window = Vec::with_capacity(end - start + 2);
            window.push(self.first);
            window.extend_from_slice(&ids[start..end]);
            window.push(self.last);
            windows.push(window);
            if end == ids.len() {
                return windows;
            }
            start += stride;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST: u32 = 1_000_001;
    const LAST: u32 = 1_000_002;

    fn frame(tokens: usize, stride: usize) -> Frame {
        Frame { tokens, stride, first: FIRST, last: LAST }
    }

    #[test]
    fn nothing_makes_no_window() {
        assert!(frame(128, 96).cut(&[]).is_empty());
    }

    #[test]
    fn a_full_window_is_not_followed_by_an_empty_one() {
        let ids: Vec<u32> = (0..126).collect();
        assert_eq!(frame(128, 96).cut(&ids).len(), 1);
        let ids: Vec<u32> = (0..127).collect();
        assert_eq!(frame(128, 96).cut(&ids).len(), 2);
    }

    proptest! {
        #[test]
        fn windows_cover_all_tokens_in_order(length in 0_usize..2_000, tokens in 3_usize..200, part in 0.0_f64..=1.0) {
            let content = tokens - 2;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "small")]
            let stride = ((content as f64 * part) as usize).max(1);
            let ids: Vec<u32> = (0..u32::try_from(length).unwrap()).collect();
            let windows = frame(tokens, stride).cut(&ids);

            let mut seen = 0;
            for (at, window) in windows.iter().enumerate() {
                let inner = &window[1..window.len() - 1];
                prop_assert_eq!((window[0], window[window.len() - 1]), (FIRST, LAST));
                prop_assert!(window.len() <= tokens);
                // Starts on its stride, leaves no gap, and (but for the last) is full.
                let start = at * stride;
                prop_assert_eq!(inner, &ids[start..start + inner.len()]);
                prop_assert!(start <= seen);
                prop_assert!(at + 1 == windows.len() || inner.len() == content);
                prop_assert!(start + inner.len() > seen, "a window must bring something new");
                seen = start + inner.len();
            }
            prop_assert_eq!(seen, length);
        }

        #[test]
        fn neighbours_share_what_the_stride_leaves(length in 127_usize..1_000) {
            let ids: Vec<u32> = (0..u32::try_from(length).unwrap()).collect();
            let windows = frame(128, 96).cut(&ids);
            for pair in windows.windows(2) {
                let (before, after) = (&pair[0][1..pair[0].len() - 1], &pair[1][1..pair[1].len() - 1]);
                prop_assert_eq!(&before[96..], &after[..30]);
            }
        }
    }
}
