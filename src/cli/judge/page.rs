//! The report as one page: each plot is drawn in the page itself, with the table that it was drawn from below it.

use std::fmt::Write as _;

use super::report::{POINTS, Report, mean, share};
use crate::page::{escaped, page};

const STYLE: &str = "\
:root{--judge:#0b6bcb;--people:#d9730d;--third:#7a8794}
@media(prefers-color-scheme:dark){:root{--judge:#58a6ff;--people:#ff9d4d;--third:#8b96a3}}
h2{margin:2.2rem 0 .4rem}figure{margin:.6rem 0}svg{display:block;max-width:100%;height:auto}
svg text{fill:var(--soft);font:12px system-ui,sans-serif}svg line{stroke:var(--line)}
.judge{fill:var(--judge)}.people{fill:var(--people)}.third{fill:var(--third)}
.key i{display:inline-block;width:.8rem;height:.8rem;border-radius:.15rem;margin:0 .35rem 0 .9rem;vertical-align:-1px}
i.judge{background:var(--judge)}i.people{background:var(--people)}i.third{background:var(--third)}
";

/// Size of a plot, and of what surrounds its bars.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 44.0;
const FOOT: f64 = 40.0;
const HEAD: f64 = 12.0;

/// Bars of one kind: what they stand for, their class, and one count a group.
type Series<'a> = (&'a str, &'a str, &'a [u64]);

pub(super) fn render(report: &Report, about: &str) -> String {
    let failed: u64 = report.failures.values().sum();
    let body = format!(
        "<h1>A judge beside people</h1>\n<p class=soft>{}</p>\n<p>{} comparisons judged in both orders, {failed} failed, {} answers asked for again.</p>\n{}{}{}",
        escaped(about),
        report.judged,
        report.retries,
        scores(report),
        agreement(report),
        places(report),
    );
    page("A judge beside people", STYLE, &body)
}

fn scores(report: &Report) -> String {
    let groups: Vec<String> = (1..=POINTS).map(|point| point.to_string()).collect();
    let series: [Series<'_>; 2] = [("judge", "judge", &report.machine), ("people", "people", &report.people)];
    let caption = "score: 1 the first is much better, 5 both are equal, 9 the second is much better";
    let rows = groups.iter().zip(&report.machine).zip(&report.people).map(|((point, judge), people)| {
        let (of, among) = (report.machine.iter().sum(), report.people.iter().sum());
        format!(
            "<tr><td class=n>{point}<td class=n>{judge}<td class=n>{:.1}<td class=n>{people}<td class=n>{:.1}</tr>\n",
            share(*judge, of),
            share(*people, among)
        )
    });
    format!(
        "<h2>Scores</h2>\n<p class=soft>People's scores are there for rows with a known scale.</p>\n{}\
         <table><tr><th class=n>score<th class=n>judge<th class=n>%<th class=n>people<th class=n>%</tr>\n{}</table>\n",
        bars(&groups, &series, caption),
        rows.collect::<String>()
    )
}

fn agreement(report: &Report) -> String {
    let groups = ["people: the first", "people: the second", "people: equal"].map(str::to_owned);
    let of = |judge: usize| [0, 1, 2].map(|people: usize| report.agreement[people][judge]);
    let (first, second, equal) = (of(0), of(1), of(2));
    let series: [Series<'_>; 3] = [
        ("judge: the first", "judge", &first),
        ("judge: the second", "people", &second),
        ("judge: equal", "third", &equal),
    ];
    let plot = bars(&groups, &series, "comparisons, by what people said and by what the judge said");
    let rows = report.agreed().map(|(name, same, of)| (name.to_owned(), same, of));
    let sources = report.sources.iter().map(|(source, [same, of])| (format!("rows of {source}"), *same, *of));
    let rows = rows.into_iter().chain(sources).map(|(name, same, of)| {
        format!("<tr><td>{}<td class=n>{same}<td class=n>{of}<td class=n>{:.1}</tr>\n", escaped(&name), share(same, of))
    });
    format!(
        "<h2>Agreement</h2>\n{plot}<table><tr><th>judge and people agree<th class=n>comparisons<th class=n>of\
         <th class=n>%</tr>\n{}</table>\n",
        rows.collect::<String>()
    )
}

fn places(report: &Report) -> String {
    let groups: Vec<String> = (-4..=4).map(|lean| format!("{lean:+}")).collect();
    let [first, second, equal] = report.equal_places;
    let plot = if report.equal == 0 {
        "<p>The set has no pairs that people find equal.</p>\n".to_owned()
    } else {
        let series: [Series<'_>; 1] = [("pairs that people find equal", "judge", &report.equal_leans)];
        bars(
            &groups,
            &series,
            "lean in points: below 0 to the first place, above 0 to the second, whatever stands there",
        )
    };
    format!(
        "<h2>Position bias</h2>\n{plot}<table><tr><th><th class=n></tr>\n\
         <tr><td>orders that prefer different answers<td class=n>{} ({:.1} %)</tr>\n\
         <tr><td>mean lean over all pairs<td class=n>{:+.2}</tr>\n\
         <tr><td>mean lean over the {} pairs that people find equal<td class=n>{:+.2}</tr>\n\
         <tr><td>on these: questions won by the first place<td class=n>{first}</tr>\n\
         <tr><td>won by the second place<td class=n>{second}</tr>\n<tr><td>equal<td class=n>{equal}</tr>\n</table>\n",
        report.contradictions,
        share(report.contradictions, report.judged),
        mean(report.lean, report.judged),
        report.equal,
        mean(report.equal_lean, report.equal),
    )
}

/// Groups of bars side by side over one axis of counts. `groups` and `caption` are our own words.
fn bars(groups: &[String], series: &[Series<'_>], caption: &str) -> String {
    let most = series.iter().flat_map(|(_, _, counts)| counts.iter()).max().copied().unwrap_or_default().max(1);
    let (step, inner) = (count(groups.len()), HEIGHT - HEAD - FOOT);
    let (step, floor) = ((WIDTH - LEFT) / step, HEIGHT - FOOT);
    let width = step * 0.8 / count(series.len());
    let mut out = format!(
        "<figure><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width={WIDTH} height={HEIGHT} role=img aria-label=\"{caption}\">\n\
         <line x1={LEFT} y1={floor} x2={WIDTH} y2={floor} /><text x={x} y={top} text-anchor=end>{most}</text>\
         <text x={x} y={floor} text-anchor=end>0</text>\n",
        x = LEFT - 6.0,
        top = HEAD + 4.0,
    );
    // Writing to a String cannot fail.
    for (at, group) in groups.iter().enumerate() {
        let left = LEFT + step * (count(at) + 0.1);
        for (nth, (name, class, counts)) in series.iter().enumerate() {
            let rows = counts.get(at).copied().unwrap_or_default();
            let height = inner * share(rows, most) / 100.0;
            let (x, y) = (left + width * count(nth), floor - height);
            let _ = writeln!(
                out,
                "<rect class={class} x={x:.1} y={y:.1} width={width:.1} height={height:.1}><title>{name}, {group}: {rows}</title></rect>"
            );
        }
        let (x, y) = (left + step * 0.4, floor + 16.0);
        let _ = writeln!(out, "<text x={x:.1} y={y} text-anchor=middle>{group}</text>");
    }
    let _ = write!(out, "</svg>\n<figcaption class=\"soft key\">{caption}");
    for (name, class, _) in series {
        let _ = write!(out, "<i class={class}></i>{name}");
    }
    out.push_str("</figcaption></figure>\n");
    out
}

#[expect(clippy::cast_precision_loss, reason = "a few groups and series")]
fn count(number: usize) -> f64 {
    number as f64
}
