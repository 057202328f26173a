//! A comparison as one page for a browser.

use std::fmt::Write as _;

use super::report::{Compared, Report};
use crate::guard::DECISIONS;
use crate::page::{escaped, page};

/// Cases that a page shows, and characters of a text.
const CASES: usize = 1000;
const TEXT: usize = 4000;

const STYLE: &str = "\
:root{--tint:#0061c21a;--more:#b3261e;--less:#0a7d3c}
@media(prefers-color-scheme:dark){:root{--tint:#50a5ff26;--more:#ff8a80;--less:#5fd38d}}
body{max-width:64rem}
h1{font-size:1.4rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .4rem}p{margin:.3rem 0}
.sum{font-size:1.25rem;margin:.8rem 0}code{font:.9em ui-monospace,monospace;overflow-wrap:anywhere}
.wide{overflow-x:auto}td,th{padding:.35rem .7rem;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600}td.n,th.n{text-align:right}td.differs{background:var(--tint);font-weight:600}td.same{color:var(--soft)}
.more{color:var(--more)}.less{color:var(--less)}details{border-bottom:1px solid var(--line);padding:.45rem 0}summary{cursor:pointer}
pre{margin:.5rem 0;padding:.7rem;border:1px solid var(--line);border-radius:.4rem;white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:plaintext}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;margin:.5rem 0}dt{color:var(--soft)}dd{margin:0}
";

pub(super) fn render(report: &Report, content: bool) -> String {
    let [old, new] = report.sides.each_ref().map(|[name, revision, path]| {
        format!("<b>{}</b> <code>{}</code> <span class=soft>{}</span>", escaped(name), escaped(revision), escaped(path))
    });
    let files = report.files.iter().map(|(file, kind)| format!("{} ({kind})", escaped(file)));
    let body = format!(
        "<h1>Two policies on the same texts</h1>\n<dl><dt>old<dd>{old}<dt>new<dd>{new}<dt>replayed<dd>{files}</dl>\n\
         <p class=sum>{summary}</p>\n{changes}{matrix}{rules}{cases}",
        files = files.collect::<Vec<_>>().join(", "),
        summary = escaped(&report.summary()),
        changes = changes(report),
        matrix = matrices(report),
        rules = rules(report),
        cases = cases(report, content),
    );
    page("Two policies on the same texts", STYLE, &body)
}

fn changes(report: &Report) -> String {
    let rows = report
        .changes
        .iter()
        .map(|change| format!("<tr><td><code>{}</code><td>{}</tr>\n", escaped(&change.key), escaped(&change.what)));
    let rows: String = rows.collect();
    if rows.is_empty() {
        return "<h2>In the files</h2>\n<p class=soft>They say the same.</p>\n".to_owned();
    }
    format!("<h2>In the files</h2>\n<div class=wide><table>{rows}</table></div>\n")
}

/// Old decisions down, new ones across; one table a stage.
fn matrices(report: &Report) -> String {
    let mut out = String::from("<h2>Decisions, old down and new across</h2>\n");
    for stage in ["input", "output"] {
        let count =
            |old: &'static str, new: &'static str| report.matrix.get(&(stage, old, new)).copied().unwrap_or_default();
        let across: Vec<&'static str> = DECISIONS.into_iter().chain(["redact_other"]).collect();
        let across: Vec<&'static str> = across
            .into_iter()
            .filter(|new| *new != "redact_other" || DECISIONS.into_iter().any(|old| count(old, new) > 0))
            .collect();
        if !report.matrix.keys().any(|(of, ..)| *of == stage) {
            continue;
        }
        let head: Vec<String> = across.iter().map(|new| format!("<th class=n>{}", new.replace('_', " "))).collect();
        let head = head.concat();
        let _ = writeln!(out, "<div class=wide><table><tr><th>{stage}{head}</tr>");
        for old in DECISIONS {
            let _ = write!(out, "<tr><th>{old}");
            for new in across.iter().copied() {
                let class = match (old == new, count(old, new)) {
                    (_, 0) => "\"n same\"",
                    (true, _) => "n",
                    (false, _) => "\"n differs\"",
                };
                let _ = write!(out, "<td class={class}>{}", count(old, new));
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</table></div>\n");
    }
    out
}

fn rules(report: &Report) -> String {
    let rows = report.rules.iter().map(|(rule, hits)| {
        format!(
            "<tr><td><code>{}</code><td class=n>{}<td class=n>{}<td class=\"n less\">{}<td class=\"n more\">{}</tr>\n",
            escaped(rule),
            hits.old,
            hits.new,
            hits.lost,
            hits.gained
        )
    });
    let rows: String = rows.collect();
    if rows.is_empty() {
        return "<h2>By rule</h2>\n<p class=soft>No rule was hit.</p>\n".to_owned();
    }
    format!(
        "<h2>By rule</h2>\n<div class=wide><table><tr><th>rule<th class=n>old hits<th class=n>new hits\
         <th class=n>no more<th class=n>newly</tr>\n{rows}</table></div>\n"
    )
}

fn cases(report: &Report, content: bool) -> String {
    if report.cases.is_empty() {
        return String::new();
    }
    let mut out = String::from("<h2>Where they differ</h2>\n");
    if !content {
        out.push_str("<p class=soft>Texts are left out; <code>--content</code> shows them.</p>\n");
    }
    for one in report.cases.iter().take(CASES) {
        out.push_str(&case(one, content));
    }
    if report.cases.len() > CASES {
        let _ =
            writeln!(out, "<p class=soft>and {} more, which <code>--json</code> has.</p>", report.cases.len() - CASES);
    }
    out
}

fn case(one: &Compared, content: bool) -> String {
    let rank = |word: &str| DECISIONS.iter().position(|known| word.starts_with(known));
    let [old, new] = one.words;
    let class = if rank(new) > rank(old) { "more" } else { "less" };
    let mut out = format!(
        "<details><summary><span class={class}>{old} &rarr; {}</span> {} <span class=soft>{} {}</span></summary>\n<dl>",
        new.replace('_', " "),
        escaped(&one.what),
        one.stage,
        escaped(&one.place)
    );
    for (word, side) in [("old", 0), ("new", 1)] {
        let found = one.found(side);
        let found =
            if found.is_empty() { "<span class=soft>no rule was hit</span>".to_owned() } else { escaped(&found) };
        let _ = write!(out, "<dt>{word}<dd>{found}");
    }
    out.push_str("</dl>\n");
    for text in &one.texts {
        let _ = write!(
            out,
            "<p class=soft>{}, {} bytes, <code>{}</code></p>",
            escaped(&text.origin),
            text.bytes,
            text.blake3
        );
        if let Some(said) = text.text.as_deref().filter(|_| content) {
            let shown: String = said.chars().take(TEXT).collect();
            let rest = if shown.len() < said.len() { "\n…" } else { "" };
            let _ = write!(out, "<pre>{}{rest}</pre>", escaped(&shown));
        }
        out.push('\n');
    }
    out.push_str("</details>\n");
    out
}
