//! What runs, as JSON, for operators.

use http::{HeaderMap, HeaderName, HeaderValue};
use std::sync::Arc;

use serde_json::{Value, json};

use super::Gateway;
use super::routes::{ROUTES, Route, WEBSOCKET};
use crate::guard::Armed;
use crate::policy::{Asking, Key, Rollout};

impl Gateway {
    /// Which policy a request would get, for operators; `None` if the question is not understood. The query may have
    /// `route`, `model`, `key_hash` (hex digits of the key's SHA-256: a key itself has no place in an address), `tenant`,
    /// and `header.NAME`, each written as it is, without percent signs.
    pub fn resolve(&self, query: &str) -> Option<String> {
        let mut asking = Asking::default();
        let mut headers = HeaderMap::new();
        for (name, value) in query
            .split('&')
            .filter(|part| !part.is_empty())
            .map(|part| part.split_once('='))
            .collect::<Option<Vec<_>>>()?
        {
            match name {
                _ if value.contains(['%', '+']) => return None,
                "route" => asking.route = value,
                "model" => asking.model = value,
                "key_hash" => asking.key = Some(Key::Hashed(value)),
                "tenant" => asking.tenant = Some(self.policies.tenants().named(value)?),
                _ => {
                    let name = HeaderName::try_from(name.strip_prefix("header.")?).ok()?;
                    headers.append(name, HeaderValue::try_from(value).ok()?);
                }
            }
        }
        asking.tenant = asking.tenant.or_else(|| self.policies.tenants().of(asking.key, &headers));
        asking.headers = Some(&headers);
        let (_, line) = self.policies.chosen(&asking);
        let snapshot = self.policies.select(&asking);
        let page = json!({
            "policy": snapshot.policy.name,
            "revision": snapshot.policy.revision,
            "tenant": asking.tenant,
            "chosen_by": line.map_or("policies.active".to_owned(), |line| format!("policies.select[{line}]")),
            "rules": snapshot.policy.rules.iter().map(|rule| &rule.id).collect::<Vec<_>>(),
        });
        Some(format!("{page:#}\n"))
    }

    /// The status page of the admin listener.
    pub fn status(&self) -> String {
        let snapshot = self.policies.snapshot();
        let policy = &snapshot.policy;
        let rules: Vec<Value> = policy
            .rules
            .iter()
            .map(|rule| {
                json!({
                    "id": rule.id,
                    "action": rule.action.as_str(),
                    "mode": rule.mode.as_str(),
                    "on_error": rule.on_error.as_str(),
                    "input": rule.stages.input,
                    "output": rule.stages.output,
                })
            })
            .collect();
        let models: Vec<Value> = snapshot.armed.serving().map(classifier).collect();
        let last = self.policies.last_reload();
        let at = last.at.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let page = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "ready": self.ready(),
            "policy": {
                "name": policy.name,
                "revision": policy.revision,
                "principles": policy.constitution.principles.iter().map(|p| &p.id).collect::<Vec<_>>(),
                "rules": rules,
            },
            "in_force": self.policies.in_force().iter().map(|snapshot| {
                json!({"name": snapshot.policy.name, "revision": snapshot.policy.revision, "tests": snapshot.tests.len()})
            }).collect::<Vec<_>>(),
            "rollouts": self.trials(),
            "last_reload": {"unix_seconds": at, "outcome": last.outcome.as_str(), "problems": last.problems},
            "classifiers": models,
            "upstreams": self.upstreams.iter().map(|upstream| {
                json!({"name": upstream.name(), "dialect": upstream.provider().as_str()})
            }).collect::<Vec<_>>(),
            "routes": routes(),
        });
        format!("{page:#}\n")
    }
}

impl Gateway {
    /// The roll-outs that are under way, and what was counted of them.
    fn trials(&self) -> Vec<Value> {
        let (rollouts, tally) = (self.policies.rollouts(), self.rollouts.tally());
        let trial = |rollout: &Arc<Rollout<Armed>>| {
            let (plan, policy) = (&rollout.plan, &rollout.candidate.policy);
            let counts = tally.of(&policy.name);
            let (compared, differing) = counts.compared();
            let decisions = counts.decisions.iter();
            let decisions: Vec<Value> = decisions
                .map(|((stage, old, new), count)| json!({"stage": stage, "old": old, "new": new, "requests": count}))
                .collect();
            json!({
                "policy": plan.of,
                "candidate": policy.name,
                "revision": policy.revision,
                "mode": plan.mode.as_str(),
                "percent": plan.percent,
                "by": plan.by.as_str(),
                "requests": counts.requests,
                "in_share": counts.in_share,
                "compared": compared,
                "differing": differing,
                "dropped": counts.dropped,
                "decisions": decisions,
            })
        };
        rollouts.iter().map(trial).collect()
    }
}

fn classifier((name, revision, device): (&str, &str, &str)) -> Value {
    json!({"name": name, "revision": revision, "device": device})
}

/// The table of routes, row by row, and what holds for all others.
fn routes() -> Vec<Value> {
    let row = |route: &Route| {
        let mut row = json!({
            "method": route.method,
            "path": route.path,
            "provider": route.provider.as_str(),
            "guarded": route.kind.as_str(),
        });
        if let Some(reason) = route.kind.reason() {
            row["reason"] = json!(reason);
        }
        row
    };
    let rest = [
        json!({"method": "*", "path": "*", "upgrade": "websocket", "guarded": "denied", "reason": WEBSOCKET}),
        json!({"method": "*", "path": "*", "guarded": "denied", "reason": "not a declared route"}),
    ];
    ROUTES.iter().map(row).chain(rest).collect()
}
