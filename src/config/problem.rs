//! What is wrong with a file, where, and what to do.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;

/// A file that was read: its name as the user gave it, and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Path as shown to the user.
    pub path: PathBuf,
    /// The text.
    pub text: Arc<str>,
}

/// One problem. Plain data; one renderer, the same text on the command line and on the web.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub source: Source,
    /// Bytes of the text it is about; `None`: the whole file.
    pub span: Option<Range<usize>>,
    /// What was found, in one line.
    pub message: String,
    /// What was expected, shown beside the span.
    pub label: String,
    /// What to do.
    pub help: Option<String>,
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    /// One problem that names the file and what to do.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let empty = Self { path: path.to_owned(), text: Arc::from("") };
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Self { path: path.to_owned(), text: Arc::from(text) }),
            Err(error) => Err(Problem {
                source: empty,
                span: None,
                message: format!("cannot read {}: {error}", path.display()),
                label: String::new(),
                help: Some("check the path and that this user may read it".to_owned()),
            }),
        }
    }

    /// Parses the text as TOML; a syntax error or an unknown key becomes a problem.
    pub fn parse<T: DeserializeOwned>(&self, problems: &mut Vec<Problem>) -> Option<T> {
        match toml::from_str(&self.text) {
            Ok(value) => Some(value),
            Err(error) => {
                problems.push(self.problem(error.span(), error.message(), "", None));
                None
            }
        }
    }

    /// Makes a problem about a span of this file.
    pub fn problem(
        &self,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        label: impl Into<String>,
        help: Option<String>,
    ) -> Problem {
        Problem { source: self.clone(), span, message: message.into(), label: label.into(), help }
    }
}
