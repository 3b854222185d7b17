//! `HEADGATE__SECTION__KEY`: lays environment variables over the tree of the file. Knows only which sections are lists
//! and that `name` names their entries; whether a key exists is found out by whoever reads the tree, and an unread key
//! that came from a variable becomes a warning there. The environment itself is an argument.

use std::collections::BTreeMap;

use super::fault::{At, Finding, Origin};
use super::file::{Node, Table, Value};
use super::suggest;

/// The environment as the program found it.
pub(crate) type Env = BTreeMap<String, String>;

/// What every override begins with.
pub(crate) const PREFIX: &str = "HEADGATE__";

/// Sections whose entries are addressed by name.
pub(crate) const LISTS: [&str; 4] = ["connection", "endpoint", "link", "subscription"];

/// What became of the overrides.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    /// Variables that name two entries at once.
    pub(crate) faults: Vec<Finding>,
    /// Variables that name nothing.
    pub(crate) strays: Vec<Finding>,
}

/// Lays every `HEADGATE__` variable of `env` over `root`.
pub(crate) fn overlay(root: &mut Table, env: &Env) -> Overlay {
    let mut overlay = Overlay::default();
    for (name, value) in env {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let path: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
        let leaf = Node { value: Value::Loose(value.clone()), origin: Origin::Env(name.clone()) };
        let placed = match path.split_first() {
            Some((list, rest)) if LISTS.contains(&list.as_str()) => by_name(root, list, rest, leaf),
            _ => place(root, &path, leaf),
        };
        match placed {
            Ok(()) => {}
            Err(Misplaced::Twice(entry)) => overlay.faults.push(Finding::new(
                at(name),
                format!("more than one {entry} answers to this name"),
                "rename one of them: in variables \"-\" and \".\" are both written \"_\"",
            )),
            Err(Misplaced::Nothing(fix)) => {
                overlay.strays.push(Finding::new(at(name), "this variable sets nothing", fix));
            }
        }
    }
    overlay
}

/// Why a variable has no place.
enum Misplaced {
    /// Its name fits two entries.
    Twice(String),
    /// Its name fits nothing; what to do.
    Nothing(String),
}

fn at(name: &str) -> At {
    At { path: String::new(), origin: Origin::Env(name.to_owned()) }
}

/// Sets the leaf at `path`, making the tables on the way.
fn place(table: &mut Table, path: &[String], leaf: Node) -> Result<(), Misplaced> {
    match path {
        [] => Err(misformed()),
        [key, ..] if key.is_empty() => Err(misformed()),
        [key] => {
            if let Some(Node { value: Value::Table(_), .. }) = table.get(key) {
                return Err(Misplaced::Nothing(format!("\"{key}\" is a table: name one of its keys after it")));
            }
            table.insert(key.clone(), leaf);
            Ok(())
        }
        [key, rest @ ..] => {
            let made = || Node { value: Value::Table(Table::new()), origin: leaf.origin.clone() };
            match &mut table.entry(key.clone()).or_insert_with(made).value {
                Value::Table(inner) => place(inner, rest, leaf),
                _ => Err(Misplaced::Nothing(format!("\"{key}\" is not a table: nothing can follow it"))),
            }
        }
    }
}

fn misformed() -> Misplaced {
    Misplaced::Nothing(format!("write {PREFIX}SECTION__KEY"))
}

/// Sets the leaf in the entry of `list` whose name reads like the first part of `path`.
fn by_name(root: &mut Table, list: &str, path: &[String], leaf: Node) -> Result<(), Misplaced> {
    let Some((wanted, rest)) = path.split_first().filter(|(_, rest)| !rest.is_empty()) else {
        return Err(Misplaced::Nothing(format!("write {PREFIX}{}__NAME__KEY", list.to_uppercase())));
    };
    let Some(Node { value: Value::List(entries), .. }) = root.get_mut(list) else {
        return Err(Misplaced::Nothing(format!("the file has no [[{list}]]")));
    };
    let names: Vec<(usize, String)> =
        entries.iter().enumerate().filter_map(|(i, entry)| Some((i, in_variable(name_of(entry)?)))).collect();
    let mut fits = names.iter().filter(|(_, name)| name == wanted);
    match (fits.next(), fits.next()) {
        (Some(_), Some(_)) => Err(Misplaced::Twice(list.to_owned())),
        (Some((index, _)), None) => match entries.get_mut(*index).map(|entry| &mut entry.value) {
            Some(Value::Table(entry)) => place(entry, rest, leaf),
            _ => Err(misformed()),
        },
        (None, _) => {
            let known: Vec<String> = names.into_iter().map(|(_, name)| name.to_uppercase()).collect();
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            Err(Misplaced::Nothing(suggest::advice(&wanted.to_uppercase(), &known)))
        }
    }
}

/// The name of an entry of a list.
pub(crate) fn name_of(entry: &Node) -> Option<&str> {
    match &entry.value {
        Value::Table(table) => match &table.get("name")?.value {
            Value::Text(name) => Some(name),
            _ => None,
        },
        _ => None,
    }
}

/// How a name is written inside a variable, in lower case.
fn in_variable(name: &str) -> String {
    name.to_ascii_lowercase().replace(['-', '.'], "_")
}
