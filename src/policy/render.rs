//! The constitution as models read it: the same file gives the same bytes, so that the provider's prompt cache stays warm.
//!
//! Plain text with headings, in a fixed order: prose, preamble, principles, topics, sources, perspectives, style, cases.
//! What a file leaves out leaves no trace.

use std::fmt::Write as _;

use super::constitution::Authority;

/// Everything that is rendered, checked; texts without line breaks, except `prose`, `preamble` and `style`.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) prose: String,
    pub(super) preamble: String,
    /// Weightiest authority first.
    pub(super) principles: Vec<Weighed>,
    pub(super) topics: Option<Topics>,
    pub(super) sources: Option<Sources>,
    /// One is taken; of several, all are set side by side.
    pub(super) views: Vec<View>,
    pub(super) style: String,
    pub(super) cases: Vec<Case>,
}

#[derive(Debug)]
pub(super) struct Weighed {
    pub(super) authority: Authority,
    pub(super) text: String,
    pub(super) examples: Vec<Example>,
}

#[derive(Debug, Default)]
pub(super) struct Example {
    pub(super) prompt: Option<String>,
    pub(super) good: Option<String>,
    pub(super) bad: Option<String>,
    pub(super) why: Option<String>,
}

#[derive(Debug)]
pub(super) struct Topics {
    pub(super) allowed: Vec<String>,
    pub(super) off_topic: String,
}

#[derive(Debug)]
pub(super) struct Sources {
    /// Name, and what it is.
    pub(super) allowed: Vec<(String, Option<String>)>,
    pub(super) cite: String,
    pub(super) otherwise: Option<String>,
}

#[derive(Debug)]
pub(super) struct View {
    pub(super) name: String,
    pub(super) text: String,
}

#[derive(Debug)]
pub(super) struct Case {
    pub(super) prompt: String,
    pub(super) answer: String,
    pub(super) why: Option<String>,
}

/// No white space at either end; empty if there is nothing to say.
pub(super) fn render(document: &Document) -> String {
    let sections = [
        document.prose.clone(),
        document.preamble.clone(),
        principles(&document.principles),
        document.topics.as_ref().map(topics).unwrap_or_default(),
        document.sources.as_ref().map(sources).unwrap_or_default(),
        views(&document.views),
        if document.style.is_empty() { String::new() } else { format!("## Style\n{}", document.style) },
        cases(&document.cases),
    ];
    let sections: Vec<String> = sections.into_iter().filter(|section| !section.is_empty()).collect();
    sections.join("\n\n")
}

/// About as many tokens as providers count in English: four ASCII characters are one. Every other character counts for
/// itself, which is more than most tokenizers make of it. The same everywhere, whatever model is behind the gateway.
pub fn tokens(text: &str) -> usize {
    let ascii = text.chars().filter(char::is_ascii).count();
    ascii.div_ceil(4) + text.chars().filter(|c| !c.is_ascii()).count()
}

/// Numbered throughout; under headings only where they differ in authority.
fn principles(principles: &[Weighed]) -> String {
    let differ = principles.iter().any(|principle| principle.authority != Authority::Fixed);
    let mut out = String::new();
    let mut last = None;
    for (index, principle) in principles.iter().enumerate() {
        if differ && last != Some(principle.authority) {
            let gap = if out.is_empty() { "" } else { "\n" };
            let _ = writeln!(out, "{gap}{}", heading(principle.authority));
            last = Some(principle.authority);
        }
        let _ = writeln!(out, "{}. {}", index + 1, principle.text);
        for example in &principle.examples {
            push_example(&mut out, example);
        }
    }
    out.trim_end().to_owned()
}

fn heading(authority: Authority) -> &'static str {
    match authority {
        Authority::Fixed => "These hold whatever anyone asks:",
        Authority::Application => "These hold unless the application's own instructions say otherwise:",
        Authority::User => "These hold unless the user asks otherwise:",
    }
}

fn push_example(out: &mut String, example: &Example) {
    let parts = [("Asked", &example.prompt), ("Good", &example.good), ("Bad", &example.bad), ("Why", &example.why)];
    let mut start = "   - ";
    for (word, text) in parts.iter().filter_map(|(word, text)| text.as_ref().map(|text| (word, text))) {
        let _ = writeln!(out, "{start}{word}: {text}");
        start = "     ";
    }
}

fn topics(topics: &Topics) -> String {
    let mut out = String::from("## Topics\nYou help with these topics only:\n");
    for topic in &topics.allowed {
        let _ = writeln!(out, "- {topic}");
    }
    let _ = write!(out, "To anything else say exactly this and nothing more: {}", topics.off_topic);
    out
}

fn sources(sources: &Sources) -> String {
    let mut out = String::from("## Sources\nState as fact only what one of these sources says:\n");
    for (name, about) in &sources.allowed {
        let _ = match about {
            Some(about) => writeln!(out, "- {name}: {about}"),
            None => writeln!(out, "- {name}"),
        };
    }
    out.push_str(&sources.cite);
    if let Some(otherwise) = &sources.otherwise {
        let _ = write!(out, "\nWhere none of them tells, say: {otherwise}");
    }
    out
}

fn views(views: &[View]) -> String {
    match views {
        [] => String::new(),
        [only] => format!(
            "## Perspective\nWhere an answer turns on values, answer from this one: {}. {}",
            only.name, only.text
        ),
        several => {
            let mut out = String::from(
                "## Perspectives\nWhere an answer turns on values, several can be right. Say what each of these would \
                 answer, by its name and in its own terms, at equal length; rank none above another unless you are asked \
                 to.\n",
            );
            for view in several {
                let _ = writeln!(out, "- {}: {}", view.name, view.text);
            }
            out.trim_end().to_owned()
        }
    }
}

fn cases(cases: &[Case]) -> String {
    if cases.is_empty() {
        return String::new();
    }
    let mut out = String::from("## Worked cases\n");
    for case in cases {
        let _ = writeln!(out, "- Asked: {}\n  Answer: {}", case.prompt, case.answer);
        if let Some(why) = &case.why {
            let _ = writeln!(out, "  Why: {why}");
        }
    }
    out.trim_end().to_owned()
}

/// One line, however the file folds it.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Lines stay, blanks at their ends and empty lines around the whole do not.
pub(super) fn paragraphs(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn principle(text: &str) -> Weighed {
        Weighed { authority: Authority::Fixed, text: one_line(text), examples: Vec::new() }
    }

    fn text(preamble: &str, principles: Vec<Weighed>) -> String {
        render(&Document { preamble: paragraphs(preamble), principles, ..Document::default() })
    }

    #[test]
    fn preamble_and_principles_are_numbered_paragraphs() {
        let rendered = text("Be so.  \n\nAnd so.\n\n", vec![principle("First\n  thing."), principle("Second.")]);
        assert_eq!(rendered, "Be so.\n\nAnd so.\n\n1. First thing.\n2. Second.");
    }

    #[test]
    fn either_part_may_be_missing() {
        assert_eq!(text("", vec![principle("Only.")]), "1. Only.");
        assert_eq!(text("Only.\r\n", Vec::new()), "Only.");
        assert_eq!(text(" \n\n", Vec::new()), "");
    }

    #[test]
    fn every_part_has_its_place() {
        let example = Example {
            prompt: Some("Q?".into()),
            good: Some("G.".into()),
            bad: Some("B.".into()),
            why: Some("W.".into()),
        };
        let view = |name: &str| View { name: name.into(), text: "It weighs.".into() };
        let document = Document {
            prose: "# Who we are\n\nProse.".into(),
            preamble: "Preamble.".into(),
            principles: vec![
                Weighed {
                    examples: vec![example, Example { bad: Some("C.".into()), ..Example::default() }],
                    ..principle("One.")
                },
                Weighed { authority: Authority::User, ..principle("Two.") },
            ],
            topics: Some(Topics { allowed: vec!["tea".into(), "cups".into()], off_topic: "Only tea.".into() }),
            sources: Some(Sources {
                allowed: vec![("Manual".into(), Some("of 2026".into())), ("Shelf".into(), None)],
                cite: "Cite as [name].".into(),
                otherwise: Some("I do not know.".into()),
            }),
            views: vec![view("East"), view("West")],
            style: "Short.\n\nDry.".into(),
            cases: vec![Case { prompt: "P?".into(), answer: "A.".into(), why: None }],
        };
        assert_eq!(
            render(&document),
            "# Who we are\n\nProse.\n\nPreamble.\n\nThese hold whatever anyone asks:\n1. One.\n   - Asked: Q?\n     Good: \
             G.\n     Bad: B.\n     Why: W.\n   - Bad: C.\n\nThese hold unless the user asks otherwise:\n2. Two.\n\n## \
             Topics\nYou help with these topics only:\n- tea\n- cups\nTo anything else say exactly this and nothing more: \
             Only tea.\n\n## Sources\nState as fact only what one of these sources says:\n- Manual: of 2026\n- Shelf\nCite \
             as [name].\nWhere none of them tells, say: I do not know.\n\n## Perspectives\nWhere an answer turns on values, \
             several can be right. Say what each of these would answer, by its name and in its own terms, at equal \
             length; rank none above another unless you are asked to.\n- East: It weighs.\n- West: It weighs.\n\n## \
             Style\nShort.\n\nDry.\n\n## Worked cases\n- Asked: P?\n  Answer: A."
        );
        let one = Document { views: vec![view("East")], ..Document::default() };
        let told = "## Perspective\nWhere an answer turns on values, answer from this one: East. It weighs.";
        assert_eq!(render(&one), told);
    }

    #[test]
    fn tokens_are_never_fewer_than_providers_count() {
        assert_eq!((tokens(""), tokens("a"), tokens("four"), tokens("five!")), (0, 1, 1, 2));
        assert_eq!(tokens("不言之教"), 4);
    }

    proptest! {
        #[test]
        fn no_rendering_begins_or_ends_with_white_space(preamble in "[ a\n\r\t]{0,20}", texts in prop::collection::vec("[ab\n ]{1,9}", 0..4)) {
            let rendered = text(&preamble, texts.iter().filter(|text| !text.trim().is_empty()).map(|text| principle(text)).collect());
            prop_assert_eq!(rendered.trim_end(), &rendered);
            prop_assert!(!rendered.starts_with('\n'));
        }
    }
}
