//! What policies are checked against and armed with, where that may be exchanged while they stay: classifiers.

use std::path::PathBuf;

use super::checked::{Known, Policy};

/// Builds what goes with a policy.
pub(super) type Arm<A> = dyn Fn(&Policy) -> Result<A, String> + Send + Sync;

/// What policies are checked against and armed with.
pub struct Supply<A> {
    /// What they may speak of.
    pub(super) known: Known,
    pub(super) arm: Box<Arm<A>>,
    pub(super) stock: Stock,
}

/// How one supply is told from another.
#[derive(Default)]
pub struct Stock {
    /// Differs where anything of it differs.
    pub fingerprint: String,
    /// Directories in which a changed file is a reason to look for another supply.
    pub watched: Vec<PathBuf>,
    /// Told that it is in force.
    pub in_force: Option<Box<dyn Fn() + Send + Sync>>,
}

impl<A> Supply<A> {
    /// `arm` builds what goes with a policy; its error is for the policy's author.
    pub fn new(known: Known, arm: impl Fn(&Policy) -> Result<A, String> + Send + Sync + 'static, stock: Stock) -> Self {
        Self { known, arm: Box::new(arm), stock }
    }

    pub(super) fn announce(&self) {
        if let Some(in_force) = &self.stock.in_force {
            in_force();
        }
    }
}
