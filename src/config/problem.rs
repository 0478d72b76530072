//! What is wrong with a file, where, and what to do.
//!
//! One renderer for the command line and the web: plain text, no colours, every problem at once, sorted by file and
//! position.

use std::fmt::Write as _;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::ops::Range;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
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
    /// Longest file that is read, bytes; the shipped ones are below 40 kB.
    pub const LENGTH_MAX: u64 = 4_000_000;

    /// Reads a file.
    ///
    /// # Errors
    /// One problem that names the file and what to do.
    #[expect(clippy::result_large_err, reason = "a file is read once; a problem is rare and shown whole")]
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let problem = |message: String, help: &str| Problem {
            source: Self { path: path.to_owned(), text: Arc::from("") },
            span: None,
            message,
            label: String::new(),
            help: Some(help.to_owned()),
        };
        match read_regular(path) {
            Ok(Found::Text(text)) => Ok(Self { path: path.to_owned(), text: Arc::from(text) }),
            Ok(Found::TooLong) => Err(problem(
                format!("{} is longer than {} bytes", path.display(), Self::LENGTH_MAX),
                "a file of this kind is never that long: check the path",
            )),
            Ok(Found::NoFile(what)) => {
                Err(problem(format!("{} is {what}, not a file", path.display()), "name a regular file"))
            }
            Ok(Found::NotText) => Err(problem(
                format!("{} is not a text file", path.display()),
                "files of this kind are plain text in UTF-8: check the path",
            )),
            Err(error) => Err(problem(
                format!("cannot read {}: {error}", path.display()),
                "check the path and that this user may read it",
            )),
        }
    }

    /// Parses the text as TOML; a syntax error or an unknown key becomes a problem.
    pub fn parse<T: DeserializeOwned>(&self, problems: &mut Vec<Problem>) -> Option<T> {
        match toml::from_str(&self.text) {
            Ok(value) => Some(value),
            Err(error) => {
                let help = suggestion(error.message()).map(|near| format!("did you mean `{near}`?"));
                problems.push(self.problem(error.span(), error.message(), "", help));
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

/// What is at a path.
enum Found {
    Text(String),
    TooLong,
    NotText,
    /// Something else than a regular file, in words.
    NoFile(&'static str),
}

/// Reads a regular file and never more than the longest one. Nothing else is opened, as opening a serial port moves its
/// lines; and an open never waits, so that a pipe that takes the file's place meanwhile hangs nobody.
fn read_regular(path: &Path) -> io::Result<Found> {
    if let Some(what) = other_than_file(&std::fs::metadata(path)?) {
        return Ok(Found::NoFile(what));
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if let Some(what) = other_than_file(&file.metadata()?) {
        return Ok(Found::NoFile(what));
    }
    let mut bytes = Vec::new();
    file.take(Source::LENGTH_MAX.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= Source::LENGTH_MAX) {
        return Ok(String::from_utf8(bytes).map_or(Found::NotText, Found::Text));
    }
    Ok(Found::TooLong)
}

/// Returns what it is when it is no regular file.
fn other_than_file(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    if kind.is_file() {
        None
    } else if kind.is_dir() {
        Some("a directory")
    } else if kind.is_fifo() {
        Some("a pipe")
    } else if kind.is_socket() {
        Some("a socket")
    } else {
        Some("a device")
    }
}

/// Renders problems as text, sorted by file and position; empty when there are none.
pub fn render(problems: &[Problem]) -> String {
    let mut sorted: Vec<&Problem> = problems.iter().collect();
    sorted.sort_by_key(|problem| (&problem.source.path, problem.span.as_ref().map_or(0, |span| span.start)));
    let mut text = String::new();
    for (position, problem) in sorted.iter().enumerate() {
        if position > 0 {
            text.push('\n');
        }
        text.push_str(&render_one(problem));
    }
    text
}

/// Returns the nearest of `known` to what was written, when it is near enough to be a slip.
pub(crate) fn nearest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    const WORD_MAX: usize = 64;
    if written.len() > WORD_MAX {
        return None;
    }
    let near = known.into_iter().map(|word| (distance(written, word), word)).min()?;
    let allowed = written.chars().count().div_ceil(3).clamp(1, 3);
    (near.0 <= allowed).then_some(near.1)
}

fn render_one(problem: &Problem) -> String {
    let Problem { source, span, message, label, help } = problem;
    let mut text = format!("error: {message}\n");
    let place = span.as_ref().and_then(|span| locate(&source.text, span));
    let gutter = place.as_ref().map_or(1, |place| place.line.to_string().len());
    let path = source.path.display();
    // Writing to a String cannot fail.
    let written = match place {
        None => writeln!(text, "{:gutter$}--> {path}", ""),
        Some(Place { line, column, shown, lead, width }) => {
            let label = if label.is_empty() { String::new() } else { format!(" {label}") };
            let carets = "^".repeat(width);
            writeln!(
                text,
                "{0:gutter$}--> {path}:{line}:{column}\n{0:gutter$} |\n{line} | {shown}\n{0:gutter$} | {lead}{carets}{label}",
                ""
            )
        }
    };
    let helped = match help {
        Some(help) => writeln!(text, "{:gutter$} = help: {help}", ""),
        None => Ok(()),
    };
    debug_assert!(written.is_ok() && helped.is_ok(), "a String takes every text");
    text
}

/// Where a span begins, and what is drawn for it.
struct Place<'t> {
    /// From 1.
    line: usize,
    /// From 1, in characters.
    column: usize,
    /// The line, without its end.
    shown: &'t str,
    /// What is drawn before the carets: blanks, and the tabs that the line has.
    lead: String,
    /// Number of carets; the span is cut at the end of its first line.
    width: usize,
}

fn locate<'t>(text: &'t str, span: &Range<usize>) -> Option<Place<'t>> {
    let start = floor_boundary(text, span.start);
    let end = floor_boundary(text, span.end.max(span.start));
    let before = text.get(..start)?;
    let line_start = before.rfind('\n').map_or(0, |at| at.saturating_add(1));
    let rest = text.get(line_start..)?;
    let shown = rest.lines().next().unwrap_or("");
    let lead_text = text.get(line_start..start)?;
    let line_end = line_start.saturating_add(shown.len());
    let marked = text.get(start..end.min(line_end)).unwrap_or("");
    Some(Place {
        line: before.matches('\n').count().saturating_add(1),
        column: lead_text.chars().count().saturating_add(1),
        shown,
        lead: lead_text.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect(),
        width: marked.chars().count().max(1),
    })
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// Reads serde's words for an unknown key or variant and returns the nearest expected one.
fn suggestion(message: &str) -> Option<&str> {
    let (found, expected) = message.split_once(", expected ")?;
    if !found.starts_with("unknown ") {
        return None;
    }
    let mut quoted = found.split('`').skip(1).step_by(2);
    nearest(quoted.next()?, expected.split('`').skip(1).step_by(2))
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut left = i.saturating_add(1);
        let mut diagonal = i;
        for (to, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let above = *cell;
            let changed = diagonal.saturating_add(usize::from(from != *to));
            diagonal = above;
            left = changed.min(above.saturating_add(1)).min(left.saturating_add(1));
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i.saturating_add(1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { path: PathBuf::from("protocols/quad.toml"), text: Arc::from(text) }
    }

    #[test]
    fn renders_line_column_carets_and_help() {
        let source = source("schema = 1\ncurrent_max = \"140 mA\"\n");
        let help = Some("tighten the limit; a file cannot raise a ceiling".to_owned());
        let problem =
            source.problem(Some(25..33), "current limit is above the ceiling", "ceiling is 120 mA", help);
        assert_eq!(
            render(&[problem]),
            "error: current limit is above the ceiling\n \
             --> protocols/quad.toml:2:15\n  \
              |\n\
             2 | current_max = \"140 mA\"\n  \
              |               ^^^^^^^^ ceiling is 120 mA\n  \
              = help: tighten the limit; a file cannot raise a ceiling\n"
        );
    }

    #[test]
    fn renders_in_order_of_file_and_position_whatever_was_found_first() {
        let one = source("a\nb\nc\n");
        let other = Source { path: PathBuf::from("config/a.toml"), ..source("") };
        let found = [
            one.problem(Some(4..5), "third", "", None),
            one.problem(Some(0..1), "second", "", None),
            other.problem(None, "first", "", None),
        ];
        let text = render(&found);
        let at = |word: &str| text.find(word).unwrap();
        assert!(at("first") < at("second") && at("second") < at("third"), "{text}");
    }

    /// Reads on another thread, so that a read that hangs or never ends is a failure and not a hang.
    fn refused(path: &Path) -> String {
        let (sender, answer) = std::sync::mpsc::channel();
        let owned = path.to_owned();
        std::thread::spawn(move || drop(sender.send(Box::new(Source::read(&owned)))));
        let read = answer.recv_timeout(std::time::Duration::from_secs(10)).expect("the read has ended");
        render(&[(*read).expect_err("it is no file to read")])
    }

    #[test]
    fn only_regular_files_of_bounded_length_are_read() {
        use rustix::fs::{CWD, FileType, mknodat};
        let room = tempfile::tempdir().unwrap();
        let fifo = room.path().join("pipe.toml");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(refused(&fifo).contains("pipe.toml is a pipe, not a file"), "{}", refused(&fifo));
        assert!(refused(room.path()).contains("is a directory, not a file"), "{}", refused(room.path()));
        let zero = Path::new("/dev/zero");
        assert!(refused(zero).contains("/dev/zero is a device, not a file"), "{}", refused(zero));
        let length = usize::try_from(Source::LENGTH_MAX).unwrap();
        let long = room.path().join("long.toml");
        std::fs::write(&long, vec![b'#'; length + 1]).unwrap();
        assert!(refused(&long).contains("is longer than 4000000 bytes"), "{}", refused(&long));
        std::fs::write(&long, vec![b'#'; length]).unwrap();
        assert_eq!(Source::read(&long).map(|source| source.text.len()), Ok(length));
        std::fs::write(&long, [0xFF]).unwrap();
        assert!(refused(&long).contains("long.toml is not a text file"), "{}", refused(&long));
    }

    #[test]
    fn any_span_of_any_text_renders() {
        let source = source("µA → ü\n\tx = \"é\"\r\n");
        let length = source.text.len() + 3;
        for start in 0..length {
            for end in 0..length {
                let text = render(&[source.problem(Some(start..end), "m", "l", None)]);
                assert!(text.contains('^'), "{start}..{end}");
            }
        }
    }

    #[test]
    fn a_slip_finds_its_key_and_a_stranger_none() {
        let known = ["frequency", "width", "target", "duration"];
        assert_eq!(nearest("freqency", known), Some("frequency"));
        assert_eq!(nearest("widht", known), Some("width"));
        assert_eq!(nearest("titel", ["id", "title"]), Some("title"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn serde_messages_get_the_nearest_key() {
        assert_eq!(suggestion("unknown field `titel`, expected `title` or `id`"), Some("title"));
        assert_eq!(suggestion("missing field `title`"), None);
    }
}
