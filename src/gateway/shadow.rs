//! Critique and revision in the shadow: the client has got the original, and the rows get a pair.

use std::sync::Arc;

use super::keep::{Kept, Reason};
use super::revise::{Case, Mending};
use super::study::Untouched;
use super::{Gateway, Trace};
use crate::api::Reply;
use crate::pairs;
use crate::policy::ReviseWhen;

impl Gateway {
    /// Whether this request's answer is revised in the shadow, should no rule object to it. Nobody's key but ours pays
    /// for what the client did not ask for.
    pub(super) fn shadows(&self, trace: &Trace) -> bool {
        let policy = &trace.view.policy;
        policy.revise.shadow > 0.0
            && policy.revise.when != ReviseWhen::Always
            && !policy.constitution.principles.is_empty()
            && self.keeps(trace)
            && pairs::sampled(&trace.id, policy.revise.shadow)
            && self.with_own_key(policy.revise.upstream.as_deref(), trace).is_some()
    }

    /// Criticises and revises an answer that the client gets as it is. Returns at once.
    pub(super) fn shadow(self: &Arc<Self>, untouched: Arc<Untouched>) {
        let gateway = Arc::clone(self);
        let place = self.pairs.as_ref().map(pairs::Spool::place);
        tokio::spawn(async move {
            let Untouched { answer, asked, client, trace, course } = &*untouched;
            let Ok(reply) = Reply::of_text(answer) else { return };
            let case = Case { reply: &reply, choice: 0, original: answer, shown: "", finding: None, shadow: true };
            // What fails here fails for nobody; it is counted and logged.
            if let Ok(Mending::Done(mended)) = gateway.mend(&case, asked, client, trace).await
                && let Some(principle) = mended.principle
            {
                let (original, revised) = (answer.clone().into(), mended.text.into());
                let kept = Kept::Revised { original, revised, critique: mended.critique };
                gateway.keep(asked, trace, Reason::Shadow(principle), kept, *course);
            }
            drop(place);
        });
    }
}
