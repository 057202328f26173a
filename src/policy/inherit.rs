//! A policy file that builds on another: the chain of files, and the one document that they come to.
//!
//! The files are put together as they are written, before anything of them is checked but types and names of fields. So a
//! policy that builds on another is checked like one that was written at length, and each mistake is told in the file
//! where it stands.

use std::fs;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Location;

use super::schema;
use crate::yaml::{self, Composed, Kind, Node, Problem, Source, Spanned, expected};

/// The longest chain of files that build on each other.
const LONGEST: usize = 8;

/// What of the base does not hold here.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{ rules: [id] }`")]
pub(super) struct Remove {
    /// Rules of the base, by id.
    #[serde(default)]
    rules: Vec<Spanned<String>>,
    /// Principles of the base, by id.
    #[serde(default)]
    principles: Vec<Spanned<String>>,
    /// Perspectives of the base, by id.
    #[serde(default)]
    perspectives: Vec<Spanned<String>>,
    /// Cases of the base, by their prompt.
    #[serde(default)]
    cases: Vec<Spanned<String>>,
    /// Tests of the base, by name.
    #[serde(default)]
    tests: Vec<Spanned<String>>,
    /// Anything else that the base sets, such as `constitution.topics` or `revise.model`: it has its default again.
    #[serde(default)]
    settings: Vec<Spanned<String>>,
}

/// A file's content, and what it was put together from.
pub(super) struct Gathered {
    pub(super) file: schema::File,
    /// Only if it builds on another.
    pub(super) composed: Option<Composed>,
}

/// A file of the chain; each builds on the next.
struct Link {
    path: PathBuf,
    text: String,
    extends: Option<Spanned<String>>,
    remove: Option<Spanned<Remove>>,
}

/// Reads a file and those that it builds on.
pub(super) fn gather(path: &Path, text: &str) -> Result<Gathered, Vec<Problem>> {
    let (link, file) = link(path.to_owned(), text.to_owned()).map_err(|problem| vec![problem])?;
    if link.extends.is_none() {
        return match link.remove {
            None => Ok(Gathered { file, composed: None }),
            Some(remove) => {
                let message = "there is nothing to remove from: `remove` goes with `extends`";
                Err(vec![Source::of(path, text).problem(remove.referenced, message)])
            }
        };
    }
    let chain = chain(link).map_err(|problem| vec![inherited(problem, path)])?;
    let composed =
        composed(chain).map_err(|found| found.into_iter().map(|p| inherited(p, path)).collect::<Vec<_>>())?;
    let source = Source::composed(&composed);
    let file = yaml::parse(source.text).map_err(|error| vec![source.unreadable(&error)])?;
    Ok(Gathered { file, composed: Some(composed) })
}

/// The directories whose files have a say in the policies of `dir`, that one first: where the files lie that those there
/// build on. Files that are broken are followed as far as can be.
pub(super) fn reach(dir: &Path, files: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut dirs = vec![dir.to_owned()];
    let (mut seen, mut next) = (files.clone(), files);
    while let Some(path) = next.pop() {
        let base = yaml::text_of(&path).ok().and_then(|text| yaml::value_of(&text, "extends"));
        let Some(base) = base.map(|base| beside(&path, &base)) else { continue };
        let parent = base.parent().unwrap_or(Path::new("")).to_owned();
        if !dirs.contains(&parent) {
            dirs.push(parent);
        }
        if !seen.contains(&base) {
            seen.push(base.clone());
            next.push(base);
        }
    }
    dirs
}

fn beside(path: &Path, name: &str) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).join(name)
}

fn inherited(mut problem: Problem, by: &Path) -> Problem {
    problem.inherited_by = (problem.file != by).then(|| Box::new(by.to_owned()));
    problem
}

fn link(path: PathBuf, text: String) -> Result<(Link, schema::File), Problem> {
    let file = yaml::parse::<schema::File>(&text).map_err(|error| Source::of(&path, &text).unreadable(&error))?;
    let (extends, remove) = (file.extends.clone(), file.remove.clone());
    Ok((Link { path, text, extends, remove }, file))
}

/// All files, the one that was asked for first.
fn chain(first: Link) -> Result<Vec<Link>, Problem> {
    let mut chain = vec![first];
    while let Some((last, base)) = chain.last().and_then(|last| Some((last, last.extends.clone()?))) {
        let source = Source::of(&last.path, &last.text);
        let refuse = |message: String| source.problem(base.referenced, message);
        let path = base_path(&last.path, &base.value).map_err(&refuse)?;
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if let Some(begin) = chain.iter().position(|link| real(&link.path) == real(&path)) {
            let circle = chain[begin..].iter().map(|link| link.path.display().to_string());
            let circle: Vec<String> = circle.chain([path.display().to_string()]).collect();
            return Err(refuse(format!("a circle: {}", circle.join(" extends "))));
        }
        if chain.len() == LONGEST {
            return Err(refuse(format!("a chain of more than {LONGEST} files, which nobody can follow")));
        }
        let text = yaml::text_of(&path).map_err(|error| refuse(unread(&path, &error)))?;
        chain.push(link(path, text)?.0);
    }
    Ok(chain)
}

fn base_path(path: &Path, name: &str) -> Result<PathBuf, String> {
    if yaml::is_yaml(Path::new(name)) && Path::new(name).is_relative() {
        return Ok(beside(path, name));
    }
    Err(format!("expected the path of a `*.yaml` file, relative to this one, found `{name}`"))
}

/// With the name that was probably meant, if there are others beside it.
fn unread(path: &Path, error: &std::io::Error) -> String {
    let message = format!("{}: {error}", path.display());
    let entries = path.parent().and_then(|dir| fs::read_dir(dir).ok()).into_iter().flatten().filter_map(Result::ok);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| yaml::is_yaml(Path::new(name))).collect();
    names.sort();
    match path.file_name().and_then(|name| name.to_str()) {
        Some(name) if !names.is_empty() && error.kind() == std::io::ErrorKind::NotFound => {
            format!("{message}, {}", expected("file", name, names.iter().map(String::as_str)))
        }
        _ => message,
    }
}

/// The document that the chain comes to, from its end on.
fn composed(chain: Vec<Link>) -> Result<Composed, Vec<Problem>> {
    let (mut whole, mut found) = (None::<Node>, Vec::new());
    for (number, link) in chain.iter().enumerate().rev() {
        let source = Source::of(&link.path, &link.text);
        let Some(own) = Node::read(&link.text, number) else {
            return Err(vec![source.problem(Location::UNKNOWN, "larger than a file may be that builds on another")]);
        };
        whole = Some(match whole {
            None => own,
            Some(base) => {
                let removal = Removal { source, own: &own, base: &base };
                let left = removal.of(link.remove.as_ref().map(|remove| &remove.value), &mut found);
                put_over(&left, own, "")
            }
        });
    }
    let root = whole.ok_or_else(Vec::new)?;
    let root = without(root, &["extends", "remove"]);
    if found.is_empty() {
        Ok(Composed::of(&root, chain.into_iter().map(|link| (link.path, link.text)).collect()))
    } else {
        Err(found)
    }
}

fn without(node: Node, keys: &[&str]) -> Node {
    let Kind::Map(mut members) = node.kind.clone() else { return node };
    members.retain(|(key, _)| key.text().is_none_or(|key| !keys.contains(&key)));
    node.with(Kind::Map(members))
}

/// What becomes of a section that both files have.
enum Way {
    /// The one that builds on the other has the last word.
    Replaced,
    /// Member by member.
    Members,
    /// Item by item, by this member of theirs.
    Items(&'static str),
}

fn way(section: &str) -> Way {
    match section {
        "" | "constitution" | "inject" | "respond" | "stream" | "revise" | "pairs" | "judge" => Way::Members,
        "rules" | "constitution.principles" | "constitution.perspectives" => Way::Items("id"),
        "tests" => Way::Items("name"),
        "constitution.cases" => Way::Items("prompt"),
        _ => Way::Replaced,
    }
}

/// A section of a file over that of its base.
fn put_over(base: &Node, own: Node, section: &str) -> Node {
    match (way(section), &base.kind, &own.kind) {
        (Way::Members, Kind::Map(members), Kind::Map(own_members)) => {
            let mut members = members.clone();
            for (key, value) in own_members.clone() {
                let name = key.text().unwrap_or_default().to_owned();
                let path = if section.is_empty() { name.clone() } else { format!("{section}.{name}") };
                match members.iter_mut().find(|(known, _)| known.text() == Some(&name)) {
                    Some(known) => *known = (key, put_over(&known.1, value, &path)),
                    None => members.push((key, value)),
                }
            }
            own.put_together(Kind::Map(members))
        }
        (Way::Items(by), Kind::List(items), Kind::List(own_items)) => {
            own.put_together(Kind::List(items_over(items.clone(), own_items.clone(), by, section)))
        }
        _ => own,
    }
}

/// An item with the name of one of the base takes its place; others follow. A name that the file itself has twice stays
/// there twice, so that it is told.
fn items_over(mut items: Vec<Node>, own: Vec<Node>, by: &str, section: &str) -> Vec<Node> {
    let mut seen: Vec<String> = Vec::new();
    for item in own {
        let name = item.get(by).and_then(Node::text).unwrap_or_default().to_owned();
        let taken = items.iter().position(|known| known.get(by).and_then(Node::text) == Some(&name));
        match taken.filter(|_| !seen.contains(&name)) {
            Some(at) => items[at] = item,
            None if section == "constitution.principles" => {
                let at = items.iter().position(|known| weight(known) > weight(&item)).unwrap_or(items.len());
                items.insert(at, item);
            }
            None => items.push(item),
        }
        seen.push(name);
    }
    items
}

/// Principles stand in the order of their authority; a new one comes after those of the same.
fn weight(principle: &Node) -> usize {
    let authority = principle.get("authority").and_then(Node::text).unwrap_or("fixed");
    ["fixed", "application", "user"].iter().position(|known| *known == authority).unwrap_or(0)
}

/// Takes out of a base what a file removes.
struct Removal<'a> {
    source: Source<'a>,
    own: &'a Node,
    base: &'a Node,
}

impl Removal<'_> {
    /// The base without what is removed, and without what is its own alone.
    fn of(&self, remove: Option<&Remove>, found: &mut Vec<Problem>) -> Node {
        let mut base = without(self.base.clone(), &["name", "rollout", "extends", "remove"]);
        let Some(Remove { rules, principles, perspectives, cases, tests, settings }) = remove else { return base };
        for (what, path, by, names) in [
            ("rule", &["rules"][..], "id", rules),
            ("principle", &["constitution", "principles"], "id", principles),
            ("perspective", &["constitution", "perspectives"], "id", perspectives),
            ("case", &["constitution", "cases"], "prompt", cases),
            ("test", &["tests"], "name", tests),
        ] {
            for name in names {
                match self.item(&base, what, path, by, name) {
                    Ok(left) => base = left,
                    Err(problem) => found.push(problem),
                }
            }
        }
        for setting in settings {
            match self.setting(&base, setting) {
                Ok(left) => base = left,
                Err(problem) => found.push(problem),
            }
        }
        base
    }

    fn item(&self, base: &Node, what: &str, path: &[&str], by: &str, name: &Spanned<String>) -> Result<Node, Problem> {
        let items = |node: &Node| -> Vec<String> {
            let Some(Kind::List(items)) = at(node, path).map(|list| &list.kind) else { return Vec::new() };
            items.iter().filter_map(|item| item.get(by)?.text().map(str::to_owned)).collect()
        };
        let known = items(base);
        if !known.contains(&name.value) {
            let told = expected(what, &name.value, known.iter().map(String::as_str));
            let message = format!("the base has no {what} `{}`, {told}", name.value);
            return Err(self.source.problem(name.referenced, message));
        }
        if items(self.own).contains(&name.value) {
            let message =
                format!("{what} `{}` is removed and written in one file: leave one of the two out", name.value);
            return Err(self.source.problem(name.referenced, message));
        }
        Ok(edited(base.clone(), path, &|node| {
            let Kind::List(mut items) = node.kind.clone() else { return Some(node) };
            items.retain(|item| item.get(by).and_then(Node::text) != Some(&name.value));
            Some(node.with(Kind::List(items)))
        }))
    }

    fn setting(&self, base: &Node, setting: &Spanned<String>) -> Result<Node, Problem> {
        let path: Vec<&str> = setting.value.split('.').collect();
        if path.len() <= 2 && at(base, &path).is_some() {
            return Ok(edited(base.clone(), &path, &|_| None));
        }
        let mut known = Vec::new();
        for (name, value) in base.members() {
            known.push(name.to_owned());
            known.extend(value.members().map(|(inner, _)| format!("{name}.{inner}")));
        }
        let told = expected("setting", &setting.value, known.iter().map(String::as_str));
        let message = format!("the base does not set `{}`, {told}", setting.value);
        Err(self.source.problem(setting.referenced, message))
    }
}

fn at<'n>(node: &'n Node, path: &[&str]) -> Option<&'n Node> {
    path.iter().try_fold(node, |node, part| node.get(part))
}

/// A tree with another node at a path, or without it.
fn edited(node: Node, path: &[&str], edit: &dyn Fn(Node) -> Option<Node>) -> Node {
    let (Some((key, rest)), Kind::Map(members)) = (path.split_first(), &node.kind) else { return node };
    let mut left = Vec::new();
    for (name, value) in members.clone() {
        if name.text() != Some(key) {
            left.push((name, value));
        } else if !rest.is_empty() {
            left.push((name, edited(value, rest, edit)));
        } else if let Some(value) = edit(value) {
            left.push((name, value));
        }
    }
    node.with(Kind::Map(left))
}
