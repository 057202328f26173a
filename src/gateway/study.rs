//! What is made aside of an answer that the client gets as the model gave it. Nobody waits for it.

use std::sync::Arc;

use http::HeaderMap;

use super::keep::Course;
use super::whole::Asked;
use super::{Gateway, Trace};

/// The answer, and what it was an answer to.
pub(super) struct Untouched {
    pub(super) answer: String,
    pub(super) asked: Asked,
    pub(super) client: HeaderMap,
    pub(super) trace: Trace,
    pub(super) course: Course,
}

impl Gateway {
    /// Whether anything is made of this request's answer, should it stay as it is.
    pub(super) fn studies(&self, asked: &Asked, trace: &Trace) -> bool {
        self.shadows(trace) || asked.sent.is_some()
    }

    /// Has the answer revised in the shadow, and compared with a second one. Returns at once.
    pub(super) fn study(
        self: &Arc<Self>,
        answer: Option<String>,
        (asked, client): (&Asked, &HeaderMap),
        trace: &Trace,
        course: Course,
    ) {
        let Some(answer) = answer.filter(|answer| !answer.trim().is_empty()) else { return };
        let (asked, client, trace) = (asked.clone(), client.clone(), trace.clone());
        let untouched = Arc::new(Untouched { answer, asked, client, trace, course });
        if self.shadows(&untouched.trace) {
            self.shadow(Arc::clone(&untouched));
        }
        if untouched.asked.sent.is_some() {
            self.compare(untouched);
        }
    }
}
