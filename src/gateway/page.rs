//! What is in force, as a page for operators: no secrets and no text of requests.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Gateway;
use super::rollout::Counts;
use crate::page::{escaped, page};
use crate::policy::{Asking, Rollout, Selector};
use crate::telemetry::ReloadOutcome;

const STYLE: &str = "\
:root{--good:#0a7d3c;--bad:#b3261e;--tint:#0061c21a}
@media(prefers-color-scheme:dark){:root{--good:#5fd38d;--bad:#ff8a80;--tint:#50a5ff26}}
body{max-width:60rem}
h1{font-size:1.4rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .4rem}h3{font-size:1rem;margin:1.2rem 0 .3rem}p{margin:.3rem 0}
.good{color:var(--good)}.bad{color:var(--bad)}code{font:.9em ui-monospace,monospace;overflow-wrap:anywhere}
.wide{overflow-x:auto}table{width:100%}
td,th{padding:.35rem .6rem;text-align:left;border-bottom:1px solid var(--line)}th{font-weight:600;white-space:nowrap}td.n,th.n{text-align:right}
td.differs{background:var(--tint);font-weight:600}pre{padding:.7rem;border:1px solid var(--line);border-radius:.4rem;white-space:pre-wrap;overflow-wrap:anywhere}
nav a{margin-right:1rem}a{color:inherit}
";

impl Gateway {
    /// The page of the admin listener.
    pub fn page(&self) -> String {
        let (ready, state) = if self.ready() { ("good", "takes traffic") } else { ("bad", "takes no traffic") };
        let body = format!(
            "<h1>Wardline</h1>\n\
             <p class=soft>version {version}, <span class={ready}>{state}</span></p>\n\
             <nav><a href=\"/status\">JSON</a><a href=\"/metrics\">metrics</a><a href=\"/policies/resolve?route=chat\">who gets which policy</a></nav>\n\
             {reload}{force}{choice}{tenants}{rollouts}",
            version = env!("CARGO_PKG_VERSION"),
            reload = self.reload_section(),
            force = self.force_section(),
            choice = self.choice_section(),
            tenants = self.tenant_section(),
            rollouts = self.rollout_section(),
        );
        page("Wardline", STYLE, &body)
    }

    fn reload_section(&self) -> String {
        let last = self.policies.last_reload();
        let (class, words) = match last.outcome {
            ReloadOutcome::Applied => ("good", "taken"),
            ReloadOutcome::Unchanged => ("good", "nothing had changed"),
            ReloadOutcome::Refused => ("bad", "refused; what was in force stays"),
        };
        let problems = last.problems.iter().map(|problem| format!("<pre>{}</pre>\n", escaped(problem)));
        format!(
            "<h2>Last reload</h2>\n<p><span class={class}>{words}</span> <span class=soft>{}</span></p>\n{}",
            ago(last.at),
            problems.collect::<String>()
        )
    }

    fn force_section(&self) -> String {
        let rows = self.policies.in_force().into_iter().fold(String::new(), |mut rows, snapshot| {
            let policy = &snapshot.policy;
            let _ = writeln!(
                rows,
                "<tr><td>{}<td><code>{}</code><td class=n>{}<td class=n>{}<td class=n>{}</tr>",
                escaped(&policy.name),
                escaped(&policy.revision),
                policy.rules.len(),
                policy.constitution.principles.len(),
                snapshot.tests.len()
            );
            rows
        });
        format!(
            "<h2>Policies in force</h2>\n<div class=wide><table><tr><th>policy<th>revision<th class=n>rules\
             <th class=n>principles<th class=n>tests passed</tr>\n{rows}</table></div>\n"
        )
    }

    /// Who is on which policy.
    fn choice_section(&self) -> String {
        let config = self.policies.config();
        let mut rows = String::new();
        for (line, selector) in config.select.iter().enumerate() {
            let (on, policy) = (escaped(&conditions(selector)), escaped(&selector.policy));
            let _ = writeln!(rows, "<tr><td><code>select[{line}]</code><td>{on}<td>{policy}</tr>");
        }
        let (active, rest) = (escaped(&config.active), if rows.is_empty() { "all" } else { "all others" });
        format!(
            "<h2>Who gets which</h2>\n<div class=wide><table><tr><th>line<th>requests<th>policy</tr>\n{rows}\
             <tr><td><code>active</code><td>{rest}<td>{active}</tr>\n</table></div>\n"
        )
    }

    /// What each tenant's requests get, where nothing else of them decides.
    fn tenant_section(&self) -> String {
        let config = self.policies.config();
        let rows = config.tenants.known.iter().map(|(name, tenant)| {
            let (policy, line) = self.policies.chosen(&Asking { tenant: Some(name), ..Asking::default() });
            let earlier = config.select.iter().enumerate().take(line.unwrap_or(config.select.len()));
            let may = earlier.filter(|(_, selector)| selector.tenants.is_empty() || selector.tenants.contains(name));
            let may: Vec<String> = may.map(|(line, _)| format!("<code>select[{line}]</code>")).collect();
            format!(
                "<tr><td>{}<td class=n>{}<td>{}<td><code>{}</code><td>{}</tr>\n",
                escaped(name),
                tenant.keys.len(),
                escaped(policy),
                line.map_or("active".to_owned(), |line| format!("select[{line}]")),
                may.join(" ")
            )
        });
        let rows: String = rows.collect();
        if rows.is_empty() {
            return rows;
        }
        format!(
            "<h2>Tenants</h2>\n<div class=wide><table><tr><th>tenant<th class=n>keys<th>policy<th>line\
             <th>unless an earlier one takes the request</tr>\n{rows}</table></div>\n"
        )
    }

    fn rollout_section(&self) -> String {
        let (rollouts, tally) = (self.policies.rollouts(), self.rollouts.tally());
        let each = rollouts.iter().map(|rollout| of_rollout(rollout, &tally.of(&rollout.candidate.policy.name)));
        let none = "<p class=soft>No policy is being rolled out.</p>\n";
        let each: String = each.collect();
        format!("<h2>Roll-outs</h2>\n{}", if each.is_empty() { none } else { &each })
    }
}

fn of_rollout<A>(rollout: &Rollout<A>, counts: &Counts) -> String {
    let (plan, policy) = (&rollout.plan, &rollout.candidate.policy);
    let (compared, differing) = counts.compared();
    let mut rows = String::new();
    for ((stage, old, new), count) in &counts.decisions {
        let class = if old == new { "n" } else { "\"n differs\"" };
        let _ = writeln!(rows, "<tr><td>{stage}<td>{old}<td>{new}<td class={class}>{count}</tr>");
    }
    let table = format!(
        "<div class=wide><table><tr><th>stage<th>old decides<th>new decides<th class=n>requests</tr>\n{rows}</table></div>\n"
    );
    format!(
        "<h3>{name} over {of}</h3>\n<p>{mode}, {percent} % by {by}: {inside} of {all} requests in the share; \
         {compared} decisions compared, <b>{differing}</b> differ, {dropped} not compared.</p>\n{table}",
        name = escaped(&policy.name),
        of = escaped(&plan.of),
        mode = plan.mode.as_str(),
        percent = plan.percent,
        by = plan.by.as_str(),
        inside = counts.in_share,
        all = counts.requests,
        dropped = counts.dropped,
        table = if counts.decisions.is_empty() { "" } else { &table },
    )
}

/// A line of the configuration in words. Of keys only their number: a hash is nobody's to read.
fn conditions(selector: &Selector) -> String {
    let mut all = Vec::new();
    for (word, list) in [("route", &selector.routes), ("model", &selector.models), ("tenant", &selector.tenants)] {
        if !list.is_empty() {
            all.push(format!("{word} {}", list.join(" or ")));
        }
    }
    if !selector.keys.is_empty() {
        all.push(format!("{} keys", selector.keys.len()));
    }
    all.extend(selector.headers.keys().map(|name| format!("header {name}")));
    all.join(", ")
}

fn ago(at: SystemTime) -> String {
    let unix = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seconds = at.elapsed().map_or(0, |since| since.as_secs());
    let words = match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        _ => format!("{} h ago", seconds / 3600),
    };
    format!("{words} (unix time {unix})")
}
