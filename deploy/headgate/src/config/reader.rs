//! Reads settings out of the tree and collects every fault instead of stopping at the first. A section learns its known
//! keys from what is asked of it: [`Section::finish`] reports the rest, so a key cannot be known and unread.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::durations;
use super::env::{Env, name_of};
use super::fault::{At, Finding, Origin};
use super::file::{Node, Table, Value};
use super::suggest;

/// What a reading shares: the environment for secrets, the folder of the file, and what was found.
#[derive(Debug)]
pub(crate) struct Reader<'r> {
    /// The environment.
    pub(crate) env: &'r Env,
    /// The folder that relative paths start from.
    pub(crate) base: &'r Path,
    faults: RefCell<Vec<Finding>>,
    warnings: RefCell<Vec<Finding>>,
}

impl<'r> Reader<'r> {
    /// A reader that has found nothing yet.
    pub(crate) const fn new(env: &'r Env, base: &'r Path) -> Self {
        Self { env, base, faults: RefCell::new(Vec::new()), warnings: RefCell::new(Vec::new()) }
    }

    /// Reports a fault.
    pub(crate) fn fault(&self, at: &At, problem: impl Into<String>, fix: impl Into<String>) {
        self.faults.borrow_mut().push(Finding::new(at.clone(), problem, fix));
    }

    /// Reports a warning.
    pub(crate) fn warn(&self, at: &At, problem: impl Into<String>, fix: impl Into<String>) {
        self.warnings.borrow_mut().push(Finding::new(at.clone(), problem, fix));
    }

    /// The root of the tree as a section.
    pub(crate) const fn root<'s>(&'s self, table: &'s Table) -> Section<'s> {
        Section { reader: self, table: Some(table), path: String::new(), origin: Origin::Line(1), asked: Vec::new() }
    }

    /// Faults and warnings, in no particular order.
    pub(crate) fn into_findings(self) -> (Vec<Finding>, Vec<Finding>) {
        (self.faults.into_inner(), self.warnings.into_inner())
    }
}

/// One table of the file, or its absence (then every key is absent).
#[derive(Debug)]
pub(crate) struct Section<'s> {
    /// Where findings go.
    pub(crate) reader: &'s Reader<'s>,
    table: Option<&'s Table>,
    path: String,
    origin: Origin,
    asked: Vec<&'static str>,
}

/// One choice of a key: built, or known by name only.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Choice<T> {
    /// It can be chosen.
    Built(T),
    /// The documentation names it; this version does not have it.
    NotYet,
}

impl<'s> Section<'s> {
    /// A key of it: its own line if it is present, the line of the section otherwise.
    pub(crate) fn at(&self, key: &str) -> At {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        let origin = self.table.and_then(|t| t.get(key)).map_or_else(|| self.origin.clone(), |n| n.origin.clone());
        At { path, origin }
    }

    /// Whether there is such a section at all.
    pub(crate) const fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Reports a fault of `key`.
    pub(crate) fn fault(&self, key: &str, problem: impl Into<String>, fix: impl Into<String>) {
        self.reader.fault(&self.at(key), problem, fix);
    }

    /// Reports a warning about `key`.
    pub(crate) fn warn(&self, key: &str, problem: impl Into<String>, fix: impl Into<String>) {
        self.reader.warn(&self.at(key), problem, fix);
    }

    /// Whether `key` is present. Makes it known.
    pub(crate) fn has(&mut self, key: &'static str) -> bool {
        self.node(key).is_some()
    }

    /// Text.
    pub(crate) fn text(&mut self, key: &'static str) -> Option<String> {
        self.scalar(key)
    }

    /// Text that must be there.
    pub(crate) fn required(&mut self, key: &'static str, fix: &str) -> Option<String> {
        match self.scalar(key) {
            Some(text) if text.is_empty() => self.empty(key, fix),
            Some(text) => Some(text),
            None if self.has(key) => None,
            None => {
                self.fault(key, "it is missing", fix);
                None
            }
        }
    }

    /// A name: letters, digits, `.`, `_` and `-`, because names stand in keys, paths and variables.
    pub(crate) fn name(&mut self, key: &'static str, fix: &str) -> Option<String> {
        let name = self.required(key, fix)?;
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if name.len() <= 64 && name.bytes().all(fits) {
            return Some(name);
        }
        self.fault(key, "it is not a name", "use at most 64 letters, digits, \".\", \"_\" and \"-\"");
        None
    }

    /// True or false.
    pub(crate) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        match &self.node(key)?.value {
            Value::Boolean(b) => Some(*b),
            Value::Loose(text) if text == "true" => Some(true),
            Value::Loose(text) if text == "false" => Some(false),
            other => self.wrong(key, other, "true or false", "write true or false, without quotes"),
        }
    }

    /// A whole number of at least `least`.
    pub(crate) fn number<T: TryFrom<i64> + Copy + Into<u64>>(&mut self, key: &'static str, least: u64) -> Option<T> {
        let number = match &self.node(key)?.value {
            Value::Integer(number) => *number,
            Value::Loose(text) => match text.replace('_', "").parse() {
                Ok(number) => number,
                Err(_) => return self.wrong(key, &Value::Loose(text.clone()), "a whole number", "write digits only"),
            },
            other => return self.wrong(key, other, "a whole number", "write it without quotes and without a unit"),
        };
        match T::try_from(number) {
            Ok(value) if value.into() >= least => Some(value),
            _ => {
                self.fault(key, format!("{number} is out of range"), format!("use at least {least}"));
                None
            }
        }
    }

    /// A number of bytes or things that fits the machine.
    pub(crate) fn size(&mut self, key: &'static str, least: u64) -> Option<usize> {
        self.number::<Size>(key, least).map(|size| size.0)
    }

    /// A duration of at least `least`.
    pub(crate) fn duration(&mut self, key: &'static str, least: Duration) -> Option<Duration> {
        let text = match &self.node(key)?.value {
            Value::Text(text) | Value::Loose(text) => text.clone(),
            other => return self.wrong(key, other, "a duration", &format!("write {}", durations::FORM)),
        };
        match durations::parse(&text) {
            Some(duration) if duration >= least => Some(duration),
            Some(_) => {
                self.fault(key, format!("\"{text}\" is too short"), format!("use at least {}", durations::show(least)));
                None
            }
            None => {
                self.fault(key, format!("\"{text}\" is not a duration"), format!("write {}", durations::FORM));
                None
            }
        }
    }

    /// A value with a textual form of its own.
    pub(crate) fn parsed<T: FromStr>(&mut self, key: &'static str, what: &str, fix: &str) -> Option<T> {
        let text = self.scalar(key)?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            self.fault(key, format!("\"{text}\" is not {what}"), fix);
        }
        parsed
    }

    /// A path; a relative one starts from the folder of the file.
    pub(crate) fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let text = self.scalar(key)?;
        if text.is_empty() {
            return self.empty(key, "name a path, or leave the key out for the default");
        }
        Some(self.reader.base.join(text))
    }

    /// One of the named choices.
    pub(crate) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, Choice<T>)]) -> Option<T> {
        let text = self.scalar(key)?;
        self.choose(key, &text, choices)
    }

    /// One of the named choices, by a text found under `key`.
    pub(crate) fn choose<T: Copy>(&self, key: &str, text: &str, choices: &[(&str, Choice<T>)]) -> Option<T> {
        match choices.iter().find(|(name, _)| *name == text) {
            Some((_, Choice::Built(value))) => Some(*value),
            Some((_, Choice::NotYet)) => {
                let fix = format!("use {}", suggest::one_of(&built(choices)));
                self.fault(key, format!("\"{text}\" is not available in this version"), fix);
                None
            }
            None => {
                self.fault(key, format!("\"{text}\" is not known"), suggest::advice(text, &built(choices)));
                None
            }
        }
    }

    /// A list of texts; a variable separates them by commas.
    pub(crate) fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        const FIX: &str = "write [\"one\", \"two\"]";
        match &self.node(key)?.value {
            Value::List(items) => {
                let texts: Option<Vec<String>> = items
                    .iter()
                    .map(|item| match &item.value {
                        Value::Text(text) => Some(text.clone()),
                        _ => None,
                    })
                    .collect();
                if texts.is_none() {
                    self.fault(key, "not every entry of the list is text", FIX);
                }
                texts
            }
            Value::Loose(text) => Some(text.split(',').map(|part| part.trim().to_owned()).collect()),
            other => self.wrong(key, other, "a list of texts", FIX),
        }
    }

    /// A list of whole numbers; a variable separates them by commas.
    pub(crate) fn numbers<T: TryFrom<i64>>(&mut self, key: &'static str) -> Option<Vec<T>> {
        const FIX: &str = "write [1, 2]";
        let numbers: Option<Vec<T>> = match &self.node(key)?.value {
            Value::List(items) => items
                .iter()
                .map(|item| match item.value {
                    Value::Integer(number) => T::try_from(number).ok(),
                    _ => None,
                })
                .collect(),
            Value::Loose(text) => {
                text.split(',').map(|part| part.trim().parse().ok().and_then(|n: i64| T::try_from(n).ok())).collect()
            }
            other => return self.wrong(key, other, "a list of numbers", FIX),
        };
        if numbers.is_none() {
            self.fault(key, "not every entry of the list is a number that fits", FIX);
        }
        numbers
    }

    /// A table inside this one; absent keys are read from an absent section.
    pub(crate) fn section(&mut self, key: &'static str) -> Self {
        let at = self.at(key);
        let table = match self.node(key).map(|node| &node.value) {
            Some(Value::Table(table)) => Some(table),
            Some(other) => self.wrong(key, other, "a table", &format!("write a section [{}]", at.path)),
            None => None,
        };
        Self { reader: self.reader, table, path: at.path, origin: at.origin, asked: Vec::new() }
    }

    /// The entries of an array of tables.
    pub(crate) fn entries(&mut self, key: &'static str) -> Vec<Self> {
        let fix = format!("write each one as a section [[{key}]]");
        let items = match self.node(key).map(|node| &node.value) {
            None => return Vec::new(),
            Some(Value::List(items)) => items,
            Some(other) => return self.wrong(key, other, "a list of sections", &fix).unwrap_or_default(),
        };
        items.iter().enumerate().filter_map(|(index, item)| self.entry(key, index, item, &fix)).collect()
    }

    fn entry(&self, key: &str, index: usize, item: &'s Node, fix: &str) -> Option<Self> {
        let path = match name_of(item) {
            Some(name) if !name.is_empty() => format!("{key}[{name}]"),
            _ => format!("{key}[#{}]", index + 1),
        };
        let origin = item.origin.clone();
        match &item.value {
            Value::Table(table) => {
                Some(Self { reader: self.reader, table: Some(table), path, origin, asked: Vec::new() })
            }
            other => {
                let at = At { path, origin };
                self.reader.fault(&at, format!("it is {}, not a section", other.kind()), fix);
                None
            }
        }
    }

    /// The keys and values of a table whose keys are the user's own. Knows all of them.
    pub(crate) fn own_keys(&self) -> impl Iterator<Item = (&'s String, &'s Node)> + use<'s> {
        self.table.into_iter().flatten()
    }

    /// A table under one of the user's own keys.
    pub(crate) fn inner(&self, key: &str, table: &'s Table) -> Self {
        let At { path, origin } = self.at(key);
        Self { reader: self.reader, table: Some(table), path, origin, asked: Vec::new() }
    }

    /// Refuses keys of features that are documented and not built.
    pub(crate) fn not_yet(&mut self, keys: &[&'static str]) {
        for key in keys {
            if self.has(key) {
                self.fault(key, format!("\"{key}\" is not available in this version"), "remove the key");
            }
        }
    }

    /// Makes keys known without reading them.
    pub(crate) fn ignore(&mut self, keys: &[&'static str]) {
        self.asked.extend_from_slice(keys);
    }

    /// Reports every key nobody asked for: a fault in the file, a warning when it came from a variable.
    pub(crate) fn finish(self) {
        for (key, node) in self.table.into_iter().flatten() {
            if self.asked.contains(&key.as_str()) {
                continue;
            }
            let what = if matches!(node.value, Value::Table(_)) { "section" } else { "key" };
            let advice = suggest::advice(key, &self.asked);
            match node.origin {
                Origin::Env(_) => self.warn(key, "this variable sets nothing: the key is not known", advice),
                Origin::Line(_) | Origin::Absent => self.fault(key, format!("this {what} is not known"), advice),
            }
        }
    }

    fn node(&mut self, key: &'static str) -> Option<&'s Node> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.table?.get(key)
    }

    pub(crate) fn scalar(&mut self, key: &'static str) -> Option<String> {
        match &self.node(key)?.value {
            Value::Text(text) | Value::Loose(text) => Some(text.clone()),
            other => self.wrong(key, other, "text", "put it in quotes"),
        }
    }

    fn empty<T>(&self, key: &str, fix: &str) -> Option<T> {
        self.fault(key, "it is empty", fix);
        None
    }

    fn wrong<T>(&self, key: &str, found: &Value, expected: &str, fix: &str) -> Option<T> {
        self.fault(key, format!("it is {}, not {expected}", found.kind()), fix);
        None
    }
}

/// Replaces a default by what was read, if something was.
pub(crate) fn set<T>(place: &mut T, read: Option<T>) {
    if let Some(value) = read {
        *place = value;
    }
}

/// The names of the choices that can be chosen.
fn built<'c, T>(choices: &[(&'c str, Choice<T>)]) -> Vec<&'c str> {
    choices.iter().filter(|(_, choice)| matches!(choice, Choice::Built(_))).map(|(name, _)| *name).collect()
}

/// A `usize` that converts to `u64`, which the standard library does not promise.
#[derive(Clone, Copy)]
struct Size(usize);

impl TryFrom<i64> for Size {
    type Error = std::num::TryFromIntError;
    fn try_from(number: i64) -> Result<Self, Self::Error> {
        usize::try_from(number).map(Self)
    }
}

impl From<Size> for u64 {
    fn from(size: Size) -> Self {
        Self::try_from(size.0).unwrap_or(Self::MAX)
    }
}
