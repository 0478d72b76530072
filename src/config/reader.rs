//! Reads TOML tables key by key, so that one pass reports every problem of a file.
//!
//! serde stops at the first wrong key. A clinician who writes a plan needs all of them at once, so plans, protocols and
//! their kin are read from the parsed tree: each key is asked for by name with the reading it needs, every wrong or
//! missing one becomes a [`Problem`] with its span, and [`Table::close`] reports the keys that nobody asked for.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range as Span;
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::problem::{Problem, Source, nearest};
use crate::units::{UnitError, parse_duration};

/// A value with the bytes of the file it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) span: Span<usize>,
}

/// Why a value is not what is due.
pub(crate) struct Wrong {
    message: String,
    label: String,
    help: Option<String>,
}

impl Wrong {
    pub(crate) fn new(message: &str, label: &str) -> Self {
        Self { message: message.to_owned(), label: label.to_owned(), help: None }
    }

    /// Returns the same with another label.
    pub(crate) fn labelled(mut self, label: &str) -> Self {
        self.label = label.to_owned();
        self
    }
}

/// Where the problems of a file gather while it is read and judged.
pub(crate) struct Reader<'s> {
    source: &'s Source,
    problems: RefCell<Vec<Problem>>,
}

/// One table of a file.
pub(crate) struct Table<'a> {
    reader: &'a Reader<'a>,
    table: &'a DeTable<'a>,
    span: Span<usize>,
    /// What it is, in words, for example "step 2".
    name: String,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'s> Reader<'s> {
    pub(crate) fn new(source: &'s Source) -> Self {
        Self { source, problems: RefCell::default() }
    }

    /// Parses the file and hands its root table to `judge`. Syntax errors become problems and nothing is judged.
    pub(crate) fn read<T>(
        source: &Source,
        problems: &mut Vec<Problem>,
        judge: impl FnOnce(&Table<'_>) -> Option<T>,
    ) -> Option<T> {
        let (tree, errors) = DeTable::parse_recoverable(&source.text);
        if !errors.is_empty() {
            for error in errors {
                let message = format!("this is not TOML: {}", error.message());
                problems.push(source.problem(error.span(), message, "", None));
            }
            return None;
        }
        let reader = Reader::new(source);
        let root = reader.table(tree.get_ref(), 0..0, "the file".to_owned());
        let value = judge(&root);
        let mut found = reader.problems.take();
        let clean = found.is_empty();
        problems.append(&mut found);
        value.filter(|_| clean)
    }

    fn table<'a>(&'a self, table: &'a DeTable<'a>, span: Span<usize>, name: String) -> Table<'a> {
        Table { reader: self, table, span, name, asked: RefCell::default() }
    }
}

impl<'a> Table<'a> {
    /// Returns the value of a key that must be there.
    pub(crate) fn required<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, Wrong>,
    ) -> Option<At<T>> {
        if self.node(key).is_none() {
            self.missing(key);
            return None;
        }
        self.optional(key, read)
    }

    /// Returns the value of a key that may be left out.
    pub(crate) fn optional<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, Wrong>,
    ) -> Option<At<T>> {
        let node = self.node(key)?;
        match read(node.get_ref()) {
            Ok(value) => Some(At { value, span: node.span() }),
            Err(wrong) => {
                let message = format!("`{key}` of {}: {}", self.name, wrong.message);
                self.push(Some(node.span()), message, wrong.label, wrong.help);
                None
            }
        }
    }

    /// Returns a table that must be there.
    pub(crate) fn table(&self, key: &'static str, name: impl Into<String>) -> Option<Table<'a>> {
        if self.node(key).is_none() {
            self.missing(key);
            return None;
        }
        self.table_if(key, name)
    }

    /// Returns a table that may be left out.
    pub(crate) fn table_if(&self, key: &'static str, name: impl Into<String>) -> Option<Table<'a>> {
        let node = self.node(key)?;
        let DeValue::Table(table) = node.get_ref() else {
            self.wrong_type(key, node, "a table");
            return None;
        };
        Some(self.reader.table(table, node.span(), name.into()))
    }

    /// Returns the tables of a list; empty when the key is left out.
    pub(crate) fn tables(&self, key: &'static str, name: &str) -> Vec<Table<'a>> {
        let Some(node) = self.node(key) else {
            return Vec::new();
        };
        let DeValue::Array(list) = node.get_ref() else {
            self.wrong_type(key, node, "a list of tables");
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (position, item) in list.iter().enumerate() {
            if let DeValue::Table(table) = item.get_ref() {
                let name = format!("{name} {}", position.saturating_add(1));
                tables.push(self.reader.table(table, item.span(), name));
            } else {
                self.wrong_type(key, item, "a table");
            }
        }
        tables
    }

    /// Reports every key that was not asked for, with the nearest one that would have been.
    pub(crate) fn close(&self) {
        let asked = self.asked.borrow();
        for (key, _) in self.table.iter() {
            let written: &str = key.get_ref();
            if asked.contains(written) {
                continue;
            }
            let help = match nearest(written, asked.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("keys of {}: {}", self.name, join(asked.iter().copied())),
            };
            let message = format!("unknown key `{written}` in {}", self.name);
            self.push(Some(key.span()), message, "not known here", Some(help));
        }
    }

    /// Returns whether the key is written, without asking for it.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Returns where a key is written.
    pub(crate) fn key_span(&self, key: &str) -> Option<Span<usize>> {
        self.table.iter().find(|(written, _)| written.get_ref() == key).map(|(written, _)| written.span())
    }

    /// Returns what the table is, in words.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns where the table begins.
    pub(crate) fn span(&self) -> Span<usize> {
        self.span.clone()
    }

    /// Reports a problem.
    pub(crate) fn push(
        &self,
        span: Option<Span<usize>>,
        message: impl Into<String>,
        label: impl Into<String>,
        help: Option<String>,
    ) {
        let problem = self.reader.source.problem(span, message, label, help);
        self.reader.problems.borrow_mut().push(problem);
    }

    /// Reports that a key is missing.
    pub(crate) fn missing(&self, key: &str) {
        let span = (!self.span.is_empty()).then(|| self.span.clone());
        self.push(span, format!("`{key}` is missing in {}", self.name), "", Some(format!("add `{key} = …`")));
    }

    /// Reports that a list of tables is missing.
    pub(crate) fn missing_tables(&self, key: &str) {
        let span = (!self.span.is_empty()).then(|| self.span.clone());
        let help = Some(format!("add a `[[{key}]]` table"));
        self.push(span, format!("`[[{key}]]` is missing in {}", self.name), "", help);
    }

    fn node(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.borrow_mut().insert(key);
        self.table.get(key)
    }

    fn wrong_type(&self, key: &str, node: &Spanned<DeValue<'_>>, due: &str) {
        let found = node.get_ref().type_str();
        let message = format!("`{key}` of {} is {} {found}", self.name, article(found));
        self.push(Some(node.span()), message, format!("{due} is due here"), None);
    }
}

/// Reads a text that is not empty.
pub(crate) fn text(value: &DeValue<'_>) -> Result<String, Wrong> {
    let text = plain(value, "a text in quotes")?;
    if text.trim().is_empty() {
        return Err(Wrong {
            message: "empty text".to_owned(),
            label: "a text is due".to_owned(),
            help: None,
        });
    }
    Ok(text.to_owned())
}

/// Reads a list of texts, at least one.
pub(crate) fn texts(value: &DeValue<'_>) -> Result<Vec<String>, Wrong> {
    let DeValue::Array(list) = value else {
        return Err(other_type(value, "a list of texts"));
    };
    if list.is_empty() {
        let label = "at least one is due".to_owned();
        return Err(Wrong { message: "the list is empty".to_owned(), label, help: None });
    }
    list.iter().map(|item| text(item.get_ref())).collect()
}

/// Reads true or false.
pub(crate) fn flag(value: &DeValue<'_>) -> Result<bool, Wrong> {
    value.as_bool().ok_or_else(|| other_type(value, "true or false"))
}

/// Reads a whole number within a range.
pub(crate) fn whole(least: u32, most: u32) -> impl FnOnce(&DeValue<'_>) -> Result<u32, Wrong> {
    move |value| {
        let DeValue::Integer(number) = value else {
            return Err(other_type(value, "a whole number"));
        };
        let read = u32::from_str_radix(number.as_str(), number.radix());
        let inside = read.ok().filter(|read| (least..=most).contains(read));
        inside.ok_or_else(|| Wrong {
            message: format!("{number} is out of range"),
            label: format!("{least} to {most} is due"),
            help: None,
        })
    }
}

/// Reads a quantity with its unit.
pub(crate) fn quantity<T: FromStr<Err = UnitError>>(value: &DeValue<'_>) -> Result<T, Wrong> {
    quoted_quantity(value)?.parse().map_err(unit_wrong)
}

/// Reads a time span.
pub(crate) fn duration(value: &DeValue<'_>) -> Result<Duration, Wrong> {
    parse_duration(quoted_quantity(value)?).map_err(unit_wrong)
}

/// Reads a decimal number with exactly this unit, as an integer of 10^-`places` of it.
pub(crate) fn scaled(unit: &'static str, places: u32) -> impl FnOnce(&DeValue<'_>) -> Result<u32, Wrong> {
    move |value| {
        let text = quoted_quantity(value)?;
        let wrong =
            |message: String| Wrong { message, label: format!("a value in {unit} is due"), help: None };
        let Some(number) = text.strip_suffix(unit) else {
            return Err(wrong(format!("the unit of `{text}` is not {unit}")));
        };
        let (whole, fraction) = number.trim().split_once('.').unwrap_or((number.trim(), ""));
        let places = usize::try_from(places).unwrap_or(0);
        let digits = |part: &str| part.chars().all(|c| c.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > places {
            return Err(wrong(format!("`{text}` is not a number in {unit} with at most {places} decimals")));
        }
        format!("{whole}{fraction:0<places$}").parse().map_err(|_| wrong(format!("`{text}` is too large")))
    }
}

/// Reads one word of a closed list.
pub(crate) fn one_of<T: Copy>(
    words: &'static [(&'static str, T)],
) -> impl FnOnce(&DeValue<'_>) -> Result<T, Wrong> {
    move |value| {
        let written = plain(value, "a word in quotes")?;
        if let Some((_, found)) = words.iter().find(|(word, _)| *word == written) {
            return Ok(*found);
        }
        let all = words.iter().map(|(word, _)| *word);
        Err(Wrong {
            message: format!("`{written}` is not known"),
            label: format!("one of {}", join(all.clone())),
            help: nearest(written, all).map(|near| format!("did you mean `{near}`?")),
        })
    }
}

/// Reads a list of words of a closed list, at least one.
pub(crate) fn some_of<T: Copy>(
    words: &'static [(&'static str, T)],
) -> impl FnOnce(&DeValue<'_>) -> Result<Vec<T>, Wrong> {
    move |value| {
        let DeValue::Array(list) = value else {
            return Err(other_type(value, "a list of words"));
        };
        let found: Vec<T> =
            list.iter().map(|item| one_of(words)(item.get_ref())).collect::<Result<_, Wrong>>()?;
        if found.is_empty() {
            let label = format!("at least one of {}", join(words.iter().map(|(word, _)| *word)));
            return Err(Wrong { message: "the list is empty".to_owned(), label, help: None });
        }
        Ok(found)
    }
}

/// Joins words with commas.
pub(crate) fn join<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    words.into_iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn plain<'v>(value: &'v DeValue<'_>, due: &str) -> Result<&'v str, Wrong> {
    value.as_str().ok_or_else(|| other_type(value, due))
}

fn quoted_quantity<'v>(value: &'v DeValue<'_>) -> Result<&'v str, Wrong> {
    let mut wrong = match value.as_str() {
        Some(text) => return Ok(text),
        None => other_type(value, "a text with a number and its unit"),
    };
    wrong.help = Some("a number without its unit is not a quantity: write for example \"50 Hz\"".to_owned());
    Err(wrong)
}

fn other_type(value: &DeValue<'_>, due: &str) -> Wrong {
    let found = value.type_str();
    let message = format!("{} {found} was found", article(found));
    Wrong { message, label: format!("{due} is due"), help: None }
}

fn unit_wrong(error: UnitError) -> Wrong {
    let label = match &error {
        UnitError::NotANumber { example, .. } => format!("write for example \"{example}\""),
        UnitError::WrongUnit { expected, .. } => format!("a value in {expected} is due"),
        UnitError::TooFine { .. } => "fewer decimal places".to_owned(),
        UnitError::TooLarge { .. } => "a smaller value is due".to_owned(),
    };
    Wrong { message: error.to_string(), label, help: None }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}
