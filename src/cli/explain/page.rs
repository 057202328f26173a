//! An account as one self-contained HTML page.

use std::fmt::Write as _;

use super::{Account, largest};
use crate::classify::Label;
use crate::classify::explain::Explanation;
use crate::page::{escaped, page};

const STYLE: &str = "\
:root{--up:224 106 0;--down:0 110 214}
@media(prefers-color-scheme:dark){:root{--up:255 140 40;--down:80 165 255}}
h2{margin:2.2rem 0 .25rem}
.text{margin:1rem 0;padding:1rem;border:1px solid var(--line);border-radius:.4rem;white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:plaintext;line-height:1.9}
mark{color:var(--ink);border-radius:.2rem;padding:.1em .15em}
table{width:100%}td.n,th.n{width:6rem}td.w{overflow-wrap:anywhere;width:14rem}
.bar{display:block;height:.75rem;border-radius:.15rem}.up{background:rgb(var(--up))}.down{background:rgb(var(--down))}
.key mark{margin-right:.8rem}
";

pub(super) fn render(account: &Account) -> String {
    let [name, revision, device] = account.model.each_ref().map(|part| escaped(part));
    let sections = account.explained.iter().map(|(label, score, found)| section(account, label, *score, found));
    let scores = account.scores.iter().map(|(label, score)| {
        let threshold = account.threshold_of(label).map_or(String::new(), |threshold| format!("{threshold:.3}"));
        format!("<tr><td>{}<td class=n>{score:.3}<td class=n>{threshold}</tr>\n", escaped(&label.to_string()))
    });
    let body = format!(
        "<h1>Which words pushed the score</h1>\n<p class=soft>{name} {revision} on {device}; LIME with {samples} samples around {words} different words, \
         seed {seed}; scored as <code>{origin}</code></p>\n\
         <p class=\"soft key\">{up}pushes up {down}pulls down; the stronger, the more colour</p>\n{sections}\n\
         <h2>All scores</h2>\n<table><tr><th>label<th class=n>score<th class=n>{threshold}</tr>\n{scores}</table>\n",
        samples = account.settings.samples,
        words = account.words,
        seed = account.settings.seed,
        origin = account.origin.as_str(),
        up = marked("word", 1.0, 1.0),
        down = marked("word", -1.0, 1.0),
        sections = sections.collect::<String>(),
        threshold = escaped(&account.threshold),
        scores = scores.collect::<String>(),
    );
    page("Which words pushed the score", STYLE, &body)
}

fn section(account: &Account, label: &Label, score: f32, explanation: &Explanation) -> String {
    let most = largest(explanation);
    let text = account.parts(explanation).into_iter().fold(String::new(), |mut out, (text, weight)| {
        match weight {
            Some(weight) => out.push_str(&marked(text, weight, most)),
            None => out.push_str(&escaped(text)),
        }
        out
    });
    let rows = explanation.words.iter().fold(String::new(), |mut out, word| {
        let side = if word.weight >= 0.0 { "up" } else { "down" };
        let width = 100.0 * word.weight.abs() / most;
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "<tr><td class=w><bdi>{}</bdi><td class=n>{:+.3}<td><span class=\"bar {side}\" style=\"width:{width:.1}%\"></span></tr>",
            escaped(&word.word),
            word.weight
        );
        out
    });
    format!(
        "<h2>{label}: {score:.3}</h2>\n<p>{verdict}</p>\n\
         <p class=soft>The line says {local:.3} with these words and {intercept:.3} without them; \
         it explains {fit:.0} % of what happens nearby (R²).</p>\n\
         <div class=text>{text}</div>\n<table><tr><th>word<th class=n>weight<th></tr>\n{rows}</table>\n",
        label = escaped(&label.to_string()),
        verdict = escaped(&account.verdict(label, score)),
        local = explanation.local,
        intercept = explanation.intercept,
        fit = 100.0 * explanation.fit,
    )
}

/// A word in the colour of its weight, which a pointer shows.
fn marked(text: &str, weight: f64, most: f64) -> String {
    let side = if weight >= 0.0 { "up" } else { "down" };
    let strength = 0.08 + 0.72 * weight.abs() / most;
    let text = escaped(text);
    format!("<mark style=\"background:rgb(var(--{side}) / {strength:.2})\" title=\"{weight:+.4}\">{text}</mark>")
}
