//! What a worker thread runs.

use super::windows::Frame;

/// Scores windows of tokens. Owned by one worker thread, so nothing here needs to be shared.
pub trait Backend: Send {
    /// The content tokens of a text, all of them, without special ones.
    ///
    /// # Errors
    /// The text cannot be cut into tokens.
    fn tokenize(&self, text: &str) -> Result<Vec<u32>, BackendError>;

    /// How tokens become windows.
    fn frame(&self) -> Frame;

    /// Activated scores in `0..=1`, one row a window, in the classifier's order of labels. At most
    /// [`max_batch`](Self::max_batch) windows, each with its special tokens.
    ///
    /// # Errors
    /// The model could not run. All texts that had a window in the batch fail.
    fn infer(&mut self, windows: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, BackendError>;

    /// Windows that one run may take. 1 where scores would depend on a window's neighbours (dynamic int8).
    fn max_batch(&self) -> usize;

    /// Tokens that a run of so many windows costs, of which the longest has `longest`: padding counted.
    fn padded(&self, windows: usize, longest: usize) -> usize {
        windows * longest
    }
}

/// Why a backend could not score. The words go to the log and never hold the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BackendError(pub String);
