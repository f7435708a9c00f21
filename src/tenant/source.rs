//! A TOML document with its name: reads values from it and knows where each stands.
//! It knows TOML and serde, not what the documents mean.

use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Place, Problem, Problems};
use super::suggest::closest;

/// Largest document that is read. The largest honest ones have a few KiB; the bound keeps
/// what every revision stores, and what a mistaken file costs, small.
pub const MAX_BYTES: usize = 256 * 1024;

/// A document: its name for messages, usually a path, and its text.
#[derive(Debug, Clone)]
pub struct Source {
    /// The name that messages begin with.
    pub name: String,
    /// The TOML text.
    pub text: String,
}

impl Source {
    /// A document.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
        }
    }

    /// Reads a value and checks it, and reports everything that is wrong at once.
    ///
    /// A key that serde refuses is noted and left out, then reading goes on, so that the
    /// author sees all mistakes in one run.
    pub(super) fn parse<T: DeserializeOwned>(
        &self,
        check: impl FnOnce(&T) -> Vec<Problem>,
    ) -> Result<T, Problems> {
        if self.text.len() > MAX_BYTES {
            return Err(self
                .placed(Problem::at::<String>(
                    [],
                    format!(
                        "the document has {} bytes, more than the {MAX_BYTES} that are read",
                        self.text.len()
                    ),
                ))
                .into());
        }
        let (table, errors) = DeTable::parse_recoverable(&self.text);
        if !errors.is_empty() {
            let problems = errors.iter().map(|error| Problem {
                file: Some(self.name.clone()),
                place: error.span().map(|span| self.place_at(span.start)),
                field: Vec::new(),
                message: format!("not TOML: {}", error.message().trim()),
                help: None,
            });
            return Err(Problems(problems.collect()));
        }
        let (value, mut problems) = read(table);
        if let Some(value) = &value {
            problems.extend(check(value));
        }
        match value {
            Some(value) if problems.is_empty() => Ok(value),
            _ => Err(self.locate(problems)),
        }
    }

    /// Gives each problem its file and place in this document, and puts them in its order.
    pub fn locate(&self, problems: Vec<Problem>) -> Problems {
        let mut problems: Vec<_> = problems.into_iter().map(|p| self.placed(p)).collect();
        problems.sort_by_key(|problem| problem.place);
        problems.dedup();
        Problems(problems)
    }

    fn placed(&self, mut problem: Problem) -> Problem {
        problem.file.get_or_insert_with(|| self.name.clone());
        if problem.place.is_none() && self.text.len() <= MAX_BYTES && !problem.field.is_empty() {
            let (table, _) = DeTable::parse_recoverable(&self.text);
            problem.place = offset_of(table.get_ref(), &problem.field).map(|at| self.place_at(at));
        }
        problem
    }

    fn place_at(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// Deserialises a table, leaving out what is refused; the value is there when enough is left.
fn read<T: DeserializeOwned>(mut table: Spanned<DeTable<'_>>) -> (Option<T>, Vec<Problem>) {
    let mut problems: Vec<Problem> = Vec::new();
    loop {
        let deserializer = toml::de::Deserializer::from(table.clone());
        let error = match serde_path_to_error::deserialize(deserializer) {
            Ok(value) => return (Some(value), problems),
            Err(error) => error,
        };
        let Refusal { problem, lacks } = explain(&error);
        let removable = remove(table.get_mut(), &problem.field);
        // A key that was left out here is not missing in the document.
        if !problems
            .iter()
            .any(|earlier| Some(&earlier.field) == lacks.as_ref())
        {
            problems.push(problem);
        }
        if !removable {
            return (None, problems);
        }
    }
}

/// What serde did not accept.
struct Refusal {
    problem: Problem,
    /// The key that it found missing.
    lacks: Option<Vec<String>>,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            lacks: None,
        }
    }
}

/// Puts serde's message into this project's words.
fn explain(error: &serde_path_to_error::Error<toml::de::Error>) -> Refusal {
    let mut field: Vec<String> = error
        .path()
        .iter()
        .filter_map(|segment| match segment {
            Segment::Map { key } => Some(key.clone()),
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect();
    let message = plain_types(error.inner().message().trim());
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let Some((first, known)) = quoted.split_first() else {
        return Problem::at(field, message).into();
    };
    let known = known.iter().copied();
    if message.starts_with("unknown field") {
        if field.last().is_none_or(|last| last != first) {
            field.push((*first).to_owned());
        }
        let problem = Problem::at(field, format!("unknown key `{first}`"));
        return match closest(first, known.clone()) {
            Some(word) => problem.help(format!("did you mean `{word}`?")).into(),
            None => problem
                .help(format!(
                    "known here: {}",
                    known.collect::<Vec<_>>().join(", ")
                ))
                .into(),
        };
    }
    if message.starts_with("unknown variant") {
        let problem = Problem::at(field, format!("`{first}` is not a choice here"));
        return match closest(first, known.clone()) {
            Some(word) => problem.help(format!("did you mean `{word}`?")).into(),
            None => problem
                .help(format!("choices: {}", known.collect::<Vec<_>>().join(", ")))
                .into(),
        };
    }
    if message.starts_with("missing field") {
        let mut lacks = field.clone();
        lacks.push((*first).to_owned());
        let problem = Problem::at(field, format!("the key `{}` is missing", lacks.join(".")));
        return Refusal {
            problem,
            lacks: Some(lacks),
        };
    }
    Problem::at(field, message).into()
}

/// Rust's names of numbers mean nothing to an operator.
fn plain_types(message: &str) -> String {
    let mut message = message.to_owned();
    for (rust, plain) in [
        ("expected u8", "expected a whole number from 0 to 255"),
        ("expected u16", "expected a whole number from 0 to 65535"),
        ("expected u32", "expected a whole number, not negative"),
        ("expected f64", "expected a number"),
    ] {
        message = message.replace(rust, plain);
    }
    message
}

/// Removes the value at `field`; false when there is none, or nothing was named.
fn remove(table: &mut DeTable<'_>, field: &[String]) -> bool {
    let Some((first, rest)) = field.split_first() else {
        return false;
    };
    let Some(key) = table.keys().find(|key| key.get_ref() == first).cloned() else {
        return false;
    };
    if let Some(value) = table.get_mut(&key)
        && let DeValue::Table(inner) = value.get_mut()
        && !rest.is_empty()
        && remove(inner, rest)
    {
        return true;
    }
    // An element of a list, or a table that lacks a key: the whole value goes.
    table.remove(&key).is_some()
}

/// Byte offset of the key at `field`, or of the nearest table or list around it.
fn offset_of(table: &DeTable<'_>, field: &[String]) -> Option<usize> {
    let (first, rest) = field.split_first()?;
    let (key, value) = table.iter().find(|(key, _)| key.get_ref() == first)?;
    inside(value, rest).or(Some(key.span().start))
}

fn inside(value: &Spanned<DeValue<'_>>, field: &[String]) -> Option<usize> {
    let (first, rest) = field.split_first()?;
    match value.get_ref() {
        DeValue::Table(table) => offset_of(table, field),
        DeValue::Array(list) => {
            let element = list.get(first.parse::<usize>().ok()?)?;
            inside(element, rest).or(Some(element.span().start))
        }
        _ => None,
    }
}
