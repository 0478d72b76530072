//! Wire formats by vectors: every `*.json` in `tests/data/vectors/`, and in the directory that `DOSEWARD_VECTORS` names.
//!
//! A vector that no family understands fails: an unknown message, field, kind of entry or file. What is not built yet is
//! listed in [`NOT_BUILT`] with its reason, counted and printed.

mod percussion;
mod sciencemode;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Families with published vectors whose codec does not exist yet.
const NOT_BUILT: [(&str, &str); 3] = [
    ("sciencemode1", "codec and simulator come later; the family is refused in a session"),
    ("sciencemode2", "codec, driver and simulator come later"),
    ("openemsstim", "codec and simulator come later; the family is refused in a session"),
];

/// What became of the entries of the files, by family and kind.
#[derive(Debug, Default)]
pub struct Counts {
    passed: BTreeMap<(String, String), usize>,
    unbuilt: BTreeMap<String, (usize, String)>,
    failures: Vec<String>,
}

impl Counts {
    /// Books one entry of a kind (`vector`, `reject`, `stream`, `session`, `matching`, `computation`).
    pub fn book(&mut self, family: &str, kind: &str, name: &str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => *self.passed.entry((family.to_owned(), kind.to_owned())).or_default() += 1,
            Err(why) => self.failures.push(format!("{family} {kind} {name}: {why}")),
        }
    }

    /// Books entries whose codec is not built yet.
    pub fn unbuilt(&mut self, family: &str, entries: usize, why: &str) {
        let slot = self.unbuilt.entry(family.to_owned()).or_insert_with(|| (0, why.to_owned()));
        slot.0 += entries;
    }

    /// How many entries of a kind passed.
    pub fn passed(&self, family: &str, kind: &str) -> usize {
        self.passed.get(&(family.to_owned(), kind.to_owned())).copied().unwrap_or(0)
    }

    fn booked(&self) -> usize {
        let unbuilt: usize = self.unbuilt.values().map(|(entries, _)| entries).sum();
        self.passed.values().sum::<usize>() + self.failures.len() + unbuilt
    }
}

#[test]
fn every_vector_is_understood_and_holds() {
    let mut counts = Counts::default();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vectors");
    let mut directories = vec![shipped];
    directories.extend(std::env::var_os("DOSEWARD_VECTORS").map(PathBuf::from));
    for directory in &directories {
        run_directory(directory, &mut counts);
    }
    for ((family, kind), passed) in &counts.passed {
        println!("{family:<14} {kind:<12} {passed:>4} passed");
    }
    for (family, (entries, why)) in &counts.unbuilt {
        println!("{family:<14} not built yet {entries:>3} ({why})");
    }
    assert!(counts.failures.is_empty(), "{} failed:\n{}", counts.failures.len(), counts.failures.join("\n"));
    for (kind, least) in [("vector", 76), ("reject", 7), ("stream", 4), ("session", 6)] {
        assert!(counts.passed("sciencemode", kind) >= least, "fewer than {least} sciencemode {kind}s ran");
    }
}

fn run_directory(directory: &Path, counts: &mut Counts) {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} holds no vectors", directory.display());
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let file: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let before = counts.booked();
        run_file(&path.display().to_string(), &file, counts);
        let entries = entries(&file);
        assert_eq!(counts.booked() - before, entries, "{}: entries that nobody looked at", path.display());
    }
}

fn run_file(path: &str, file: &Value, counts: &mut Counts) {
    if file["schema"] == "percussion-vectors/1" {
        percussion::run(file, counts);
        return;
    }
    let family = file["family"].as_str().unwrap_or_default();
    if family == "sciencemode" {
        sciencemode::run(file, counts);
    } else if let Some((family, why)) = NOT_BUILT.iter().find(|(name, _)| *name == family) {
        counts.unbuilt(family, entries(file), why);
    } else {
        panic!("{path}: no test understands family {family:?}");
    }
}

/// Entries of a file: the elements of its lists of objects.
fn entries(file: &Value) -> usize {
    let lists = file.as_object().into_iter().flat_map(|keys| keys.values()).filter_map(Value::as_array);
    lists.map(|list| list.iter().filter(|entry| entry.is_object()).count()).sum()
}

/// The fields of one object, each to be taken once; what is left over is not understood.
pub struct Fields {
    left: serde_json::Map<String, Value>,
}

impl Fields {
    pub fn of(value: &Value) -> Result<Self, String> {
        let left = value.as_object().ok_or_else(|| format!("not an object: {value}"))?.clone();
        Ok(Self { left })
    }

    pub fn take(&mut self, key: &str) -> Result<Value, String> {
        self.left.remove(key).ok_or_else(|| format!("field {key} is missing"))
    }

    pub fn drop_notes(&mut self, keys: &[&str]) {
        for key in keys {
            self.left.remove(*key);
        }
    }

    pub fn text(&mut self, key: &str) -> Result<String, String> {
        let value = self.take(key)?;
        value.as_str().map(str::to_owned).ok_or_else(|| format!("{key} is not a text: {value}"))
    }

    pub fn flag(&mut self, key: &str) -> Result<bool, String> {
        let value = self.take(key)?;
        value.as_bool().ok_or_else(|| format!("{key} is not a boolean: {value}"))
    }

    pub fn number<T: TryFrom<u64>>(&mut self, key: &str) -> Result<T, String> {
        let value = self.take(key)?;
        value
            .as_u64()
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| format!("{key} does not fit: {value}"))
    }

    pub fn list(&mut self, key: &str) -> Result<Vec<Value>, String> {
        let value = self.take(key)?;
        value.as_array().cloned().ok_or_else(|| format!("{key} is not a list: {value}"))
    }

    pub fn end(self) -> Result<(), String> {
        let left: Vec<&String> = self.left.keys().collect();
        if left.is_empty() { Ok(()) } else { Err(format!("nobody understands {left:?}")) }
    }
}

/// Reads hexadecimal bytes, blanks allowed.
pub fn bytes(hex: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = hex
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()).ok_or_else(|| format!("bad hex {hex}")))
        .collect::<Result<_, _>>()?;
    if digits.len() % 2 != 0 {
        return Err(format!("odd hex {hex}"));
    }
    Ok(digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect())
}
