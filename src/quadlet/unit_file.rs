//! Writes the text of a unit file, line by line.
//! It refuses nothing and escapes nothing: values come from [`super::escape`] or are safe by their type.

use std::fmt::{Display, Write};

/// A unit file in the making.
pub struct UnitText(String);

impl UnitText {
    /// A file that begins with a comment.
    pub fn new(comment: impl Display) -> Self {
        Self(format!("# {comment}\n"))
    }

    /// Begins a section.
    pub fn section(&mut self, name: &str) -> &mut Self {
        self.line(format_args!("\n[{name}]"))
    }

    /// Adds a key.
    pub fn key(&mut self, key: &str, value: impl Display) -> &mut Self {
        self.line(format_args!("{key}={value}"))
    }

    /// Adds a key if there is a value.
    pub fn key_if(&mut self, key: &str, value: Option<impl Display>) -> &mut Self {
        match value {
            Some(value) => self.key(key, value),
            None => self,
        }
    }

    /// Adds a comment line.
    pub fn comment(&mut self, text: impl Display) -> &mut Self {
        self.line(format_args!("# {text}"))
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) -> &mut Self {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{line}");
        self
    }

    /// The finished text.
    pub fn finish(self) -> String {
        self.0
    }
}
