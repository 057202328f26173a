//! How much a test made the parser and the walkers do: bytes looked at, nodes visited, text unescaped. Counted instead of
//! timed, so that it is the same on every machine.

use std::cell::Cell;

thread_local! {
    static DONE: Cell<usize> = const { Cell::new(0) };
}

/// Adds so many steps.
pub(super) fn done(steps: usize) {
    DONE.with(|done| done.set(done.get() + steps));
}

/// The steps of some work.
pub(in crate::api) fn of(work: impl FnOnce()) -> usize {
    let before = DONE.with(Cell::get);
    work();
    DONE.with(Cell::get) - before
}
