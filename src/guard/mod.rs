//! Text to verdict: the rules of a policy applied to what goes up and to what comes down.
//!
//! Only this room can make a [`Cleared`] value, and only cleared values are sent: that nothing unjudged travels is held
//! by types. A block is an outcome; an error means that a guard broke, and then each rule's `on_error` decides.
//!
//! What it never does: read or write a socket, know a dialect's shapes, or keep text after its verdict.

mod armed;
mod assess;
mod cascade;
mod judge;
mod ledger;
mod normalise;
mod occasion;
mod passage;
mod pattern;
mod pii;
mod race;
mod rehearse;
mod score;
mod seam;
mod second;
mod stream;
mod whole;
mod window;

pub use armed::{Armed, View, arm, compiles};
pub use judge::{Failure, Finding, Guards, Stage};
pub use ledger::Tenant;
pub use normalise::{Kind, Normalised, normalise};
pub use occasion::{About, Occasion};
pub use pattern::{Match, PatternError, PatternSet, Settled};
pub use pii::ENTITIES;
pub use race::{Admission, Raced};
pub use rehearse::rehearse;
pub use score::{ABREAST, scores};
pub use second::{Case, CaseText, DECISIONS, Evidence, Exhibit, Hit, Opinion, Side, Witness};
pub use stream::{Objection, State, StreamGuard, Unspliceable};
pub use whole::{Cleared, Outcome, Verdict};
