//! One request as the rules see it: what is known of it, and which rules look at which of its texts.

use std::sync::{Arc, OnceLock};

use super::armed::{Asked, View};
use super::judge::Stage;
use super::ledger::Tenant;
use super::pattern::PatternSet;
use crate::api::{Call, Origin};
use crate::policy::{Facts, Guard, Rule};

/// One request under one policy, from its first byte to its last. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Occasion(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    view: View,
    about: About,
    /// Rules whose sample the request is in.
    drawn: Vec<bool>,
    /// Conditions are not asked.
    regardless: bool,
    /// What each rule says to texts of a stage and origin, decided when it is first asked for.
    looks: [[OnceLock<Vec<Looks>>; Origin::ALL.len()]; 2],
}

/// What is known of a request.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Whose verdicts it shares.
    pub sharing: Tenant,
    /// The tenant's name; empty where nobody knows.
    pub tenant: String,
    /// The route, by its name in metrics.
    pub route: &'static str,
    /// The model that the client names.
    pub model: String,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// The names of the tools that it offers, if a rule asks for them.
    pub tools: Vec<String>,
}

/// Whether a rule looks at a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looks {
    Yes,
    No,
    /// Its length decides.
    ByLength,
    /// The rule's condition cannot be decided.
    Undecided,
}

impl About {
    /// What a call says of itself.
    pub fn of(call: &Call, view: &View, sharing: Tenant, tenant: Option<&str>) -> Self {
        let (route, model) = (call.dialect().route(), call.model().to_owned());
        let tenant = tenant.unwrap_or_default().to_owned();
        let mut about = Self { sharing, tenant, route, model, stream: call.stream(), tools: Vec::new() };
        about.take_tools(call, &[view]);
        about
    }

    /// Takes the names of a call's tools, if a rule of these policies asks for them.
    pub fn take_tools(&mut self, call: &Call, views: &[&View]) {
        let by_tools = |rule: &Rule| rule.when.as_ref().is_some_and(crate::policy::When::by_tools);
        if self.tools.is_empty() && views.iter().any(|view| view.policy.rules.iter().any(by_tools)) {
            self.tools = call.tools();
        }
    }
}

impl Occasion {
    /// A request by its id.
    pub fn new(view: View, about: About, request_id: &str) -> Self {
        let drawn = view.policy.rules.iter().map(|rule| rule.samples(request_id)).collect();
        Self::with(view, about, drawn)
    }

    /// A request that is in the sample of every rule: for whatever is tried out.
    pub fn trial(view: View, about: About) -> Self {
        let drawn = vec![true; view.policy.rules.len()];
        Self::with(view, about, drawn)
    }

    /// A text that belongs to no request: every rule looks at it, whatever its sample and condition.
    pub fn regardless(view: View) -> Self {
        let drawn = vec![true; view.policy.rules.len()];
        Self(Arc::new(Inner { view, about: About::default(), drawn, regardless: true, looks: Default::default() }))
    }

    fn with(view: View, about: About, drawn: Vec<bool>) -> Self {
        Self(Arc::new(Inner { view, about, drawn, regardless: false, looks: Default::default() }))
    }

    /// The same request under another policy.
    #[must_use]
    pub fn under(&self, view: View, request_id: &str) -> Self {
        Self::new(view, self.0.about.clone(), request_id)
    }

    /// The policy that it has.
    pub fn view(&self) -> &View {
        &self.0.view
    }

    pub(super) fn sharing(&self) -> Tenant {
        self.0.about.sharing
    }

    /// Whether any rule may look at a text of this stage.
    pub fn looks(&self, stage: Stage) -> bool {
        (0..self.0.drawn.len()).any(|rule| self.may_look(rule, stage))
    }

    /// Whether a rule may look at a text of this stage.
    pub(super) fn may_look(&self, rule: usize, stage: Stage) -> bool {
        Origin::ALL.into_iter().any(|origin| self.decided(stage, origin).get(rule).is_some_and(|l| *l != Looks::No))
    }

    /// Whether any rule may look at a text of this stage and origin.
    pub(super) fn any_applies(&self, stage: Stage, origin: Origin) -> bool {
        self.decided(stage, origin).iter().any(|looks| *looks != Looks::No)
    }

    /// Whether a classifier may look at a text of this stage and origin.
    pub(super) fn classifies(&self, stage: Stage, origin: Origin) -> bool {
        let mut rules = self.0.view.policy.rules.iter().zip(self.decided(stage, origin));
        rules.any(|(rule, looks)| matches!(rule.guard, Guard::Classifier { .. }) && *looks != Looks::No)
    }

    /// The recognisers that look at a text.
    pub(super) fn patterns(
        &self,
        stage: Stage,
        origin: Origin,
        length: usize,
    ) -> impl Iterator<Item = (usize, &Rule, &PatternSet)> {
        let looking = self.at(stage, origin, length).filter(|(.., looks)| *looks == Looks::Yes);
        looking.filter_map(move |(index, rule, _)| Some((index, rule, self.0.view.armed.patterns(index)?)))
    }

    /// The classifiers that look at a text, each once.
    pub(super) fn classifiers(&self, stage: Stage, origin: Origin, length: usize) -> Vec<Asked<'_>> {
        let mut all: Vec<Asked<'_>> = Vec::new();
        for (index, rule, looks) in self.at(stage, origin, length) {
            let Some(asked) = self.0.view.armed.asked(index).filter(|_| looks == Looks::Yes) else { continue };
            let known = all.iter().position(|known| known.at == asked.at);
            let place = known.unwrap_or(all.len());
            if known.is_none() {
                all.push(asked);
            }
            if let Some(asked) = all.get_mut(place) {
                asked.rules.push((index, rule, rule.bounds(origin)));
            }
        }
        all
    }

    /// The rules of which nobody can say whether they look at a text.
    pub(super) fn undecided(&self, stage: Stage, origin: Origin, length: usize) -> Vec<&Rule> {
        let all = self.at(stage, origin, length);
        all.filter(|(.., looks)| *looks == Looks::Undecided).map(|(_, rule, _)| rule).collect()
    }

    /// What each rule says to one text.
    fn at(&self, stage: Stage, origin: Origin, length: usize) -> impl Iterator<Item = (usize, &Rule, Looks)> {
        let rules = self.0.view.policy.rules.iter().zip(self.decided(stage, origin)).enumerate();
        rules.map(move |(index, (rule, looks))| match looks {
            Looks::ByLength => (index, rule, self.asked(rule, stage, origin, length)),
            decided => (index, rule, *decided),
        })
    }

    fn decided(&self, stage: Stage, origin: Origin) -> &[Looks] {
        let all = self.0.looks.get(stage as usize).and_then(|origins| origins.get(origin as usize));
        let decide = || {
            let rules = self.0.view.policy.rules.iter().zip(&self.0.drawn);
            rules.map(|(rule, drawn)| self.decide(rule, *drawn, stage, origin)).collect()
        };
        all.map_or(&[], |cell| cell.get_or_init(decide))
    }

    fn decide(&self, rule: &Rule, drawn: bool, stage: Stage, origin: Origin) -> Looks {
        let listed = rule.origins.as_ref().is_none_or(|origins| origins.contains(&origin));
        let staged = match stage {
            Stage::Input => rule.stages.input,
            Stage::Output => rule.stages.output,
        };
        match &rule.when {
            _ if !(drawn && listed && staged) => Looks::No,
            None => Looks::Yes,
            Some(_) if self.0.regardless => Looks::Yes,
            Some(when) if when.by_length() => Looks::ByLength,
            Some(_) => self.asked(rule, stage, origin, 0),
        }
    }

    fn asked(&self, rule: &Rule, stage: Stage, origin: Origin, length: usize) -> Looks {
        let About { tenant, route, model, stream, tools, .. } = &self.0.about;
        let (stage, origin) = (stage.as_str(), origin.as_str());
        let facts = Facts { route, model, tenant, stream: *stream, tools, stage, origin, length };
        match rule.when.as_ref().map_or(Ok(true), |when| when.holds(&facts)) {
            Ok(true) => Looks::Yes,
            Ok(false) => Looks::No,
            Err(_undecided) => Looks::Undecided,
        }
    }
}
