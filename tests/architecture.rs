//! The house rules that a reader would have to trust otherwise: who may use whom, and names that are banned.
//!
//! No parser: comments and texts are blanked, unit tests (last in their file) are cut off, and what remains is scanned
//! for `crate::` paths and banned names. Each rule has a snippet below that it must catch.

use std::path::{Path, PathBuf};

use Use::{Everything, Only};

/// What a module may use of this crate.
enum Use {
    Only(&'static [&'static str]),
    Everything,
}

/// The dependency table: module, what it may use, and names that it never contains.
///
/// `clock` stands only where the real world is waited for: the shells, the simulators' process and the guard.
const TABLE: &[(&str, Use, &[&str])] = &[
    ("units", Only(&[]), &["serde", "tokio", "std::fs", "std::net"]),
    ("clock", Only(&["units"]), &["serde", "std::fs"]),
    ("model", Only(&["units"]), &["serde", "tokio", "std::fs", "std::net"]),
    // decides
    (
        "governor",
        Only(&["units", "model", "alarm"]),
        &["serde", "tokio", "std::fs", "std::net", "HashMap", "HashSet"],
    ),
    (
        "driver",
        Only(&["units", "model", "alarm", "governor::Cleared"]),
        &["serde", "tokio", "std::fs", "std::net"],
    ),
    ("screening", Only(&["units", "model"]), &["serde", "tokio", "std::fs", "std::net"]),
    ("alarm", Only(&["units", "model"]), &["serde", "tokio", "std::fs", "std::net"]),
    (
        "sim",
        Only(&["units", "model", "driver::frame", "driver::sciencemode::codec"]),
        &["tokio", "std::fs", "std::net"],
    ),
    // keeps
    (
        "config",
        Only(&["units", "model", "governor::limits", "screening", "sim::world", "sim::link"]),
        &["tokio"],
    ),
    ("record", Only(&["units", "model", "governor", "alarm"]), &["tokio"]),
    ("clinic", Only(&["units", "model", "record", "screening"]), &["tokio"]),
    ("report", Only(&["units", "model", "alarm", "record", "clinic"]), &["tokio"]),
    // touches the world
    ("transport", Only(&["units", "model"]), &[]),
    ("rig", Only(&["units", "model", "sim", "transport", "clock"]), &[]),
    ("console", Only(&[]), &["serde", "tokio", "std::fs", "std::net"]),
    ("guard", Only(&["units", "model", "clock", "console"]), &["btleplug"]),
    // runs
    (
        "runtime",
        Only(&[
            "units",
            "clock",
            "model",
            "governor",
            "driver",
            "screening",
            "alarm",
            "sim",
            "config",
            "record",
            "clinic",
            "report",
            "transport",
            "guard",
        ]),
        &[],
    ),
    (
        "certify",
        Only(&[
            "units",
            "clock",
            "model",
            "alarm",
            "governor",
            "driver",
            "sim",
            "config",
            "record",
            "transport",
            "runtime",
        ]),
        &["governor::limits", "governor::ledger"],
    ),
    // faces
    ("access", Only(&["units", "model", "clinic", "clock"]), &[]),
    (
        "web",
        Only(&[
            "units",
            "model",
            "runtime",
            "access",
            "report",
            "record",
            "clinic",
            "screening",
            "config",
            "clock",
        ]),
        &[],
    ),
    ("cli", Everything, &[]),
];

/// Names that are banned outside some places: what, the names, where they are at home (path prefixes), and why.
const BANNED: &[(&str, &[&str], &[&str], &str)] = &[
    (
        "task spawn",
        &[
            "tokio::spawn",
            "task::spawn",
            "spawn_blocking",
            "spawn_local",
            "JoinSet",
            "thread::spawn",
            "thread::Builder",
            "thread::scope",
        ],
        &["src/runtime", "src/rig", "src/web", "src/console.rs", "src/guard/journal.rs"],
        "only the shells start tasks",
    ),
    (
        "clock read",
        &["Instant::now", "SystemTime::now", "Timestamp::now", "Zoned::now", "clock_gettime", ".elapsed()"],
        &["src/clock.rs"],
        "time is an argument; only clock.rs reads a clock",
    ),
    (
        "float",
        &["f32", "f64"],
        &["src/report", "src/sim", "src/rig", "src/web", "src/certify"],
        "floats decide nothing",
    ),
    (
        "packet made",
        &["Packet::lasting", "Packet::expiring"],
        // A stop script of the driver's becomes packets in the model; they can only stop.
        &["src/driver", "src/sim", "src/rig", "src/model/packet.rs"],
        "only drivers make packets",
    ),
    (
        "transport send",
        &["Transport::send", "transport.send(", "link.send(", ".send(&packet)", ".send(packet)"],
        &["src/runtime/device_task", "src/transport"],
        "only the device task writes to a unit",
    ),
    (
        "unbounded queue",
        &["unbounded_channel", "UnboundedSender", "mpsc::unbounded", "mpsc::channel()"],
        &[],
        "every queue is bounded; a full queue is an answer",
    ),
    (
        "network",
        &["TcpListener", "TcpStream", "UdpSocket", "SocketAddr"],
        &["src/web"],
        "only the web face speaks to a network (H-14)",
    ),
];

/// What judges certified sessions, and names that it never contains: it shares no code with what it judges.
const JUDGES: &[&str] = &["src/certify/oracle", "src/certify/bounds", "src/certify/wire"];
const JUDGED: &[&str] =
    &["Governor", "crate::driver", "crate::runtime", "crate::config", "crate::transport", "crate::record"];

/// One broken rule.
#[derive(Debug, PartialEq, Eq)]
struct Broken {
    file: String,
    line: usize,
    rule: String,
}

/// Judges one source file by its path from the root, for example `src/driver/frame.rs`.
fn judge(file: &str, text: &str) -> Vec<Broken> {
    let code = without_tests(&blanked(text));
    let mut broken = Vec::new();
    let module = module_of(file);
    let mut push = |at: usize, rule: String| {
        let line = code[..at].matches('\n').count() + 1;
        broken.push(Broken { file: file.to_owned(), line, rule });
    };
    if !["lib", "main"].contains(&module) {
        match TABLE.iter().find(|(name, ..)| *name == module) {
            None => push(0, format!("module `{module}` is missing in the dependency table")),
            Some((_, may, never)) => {
                for (at, path) in imports(&code) {
                    let known = TABLE.iter().any(|(name, ..)| path.split("::").next() == Some(name));
                    if known && !allowed(module, &path, may) {
                        push(at, format!("`{module}` may not use `{path}`"));
                    }
                }
                for at in supers_to_root(file, &code) {
                    push(at, "`super` reaches the crate root: write `crate::`".to_owned());
                }
                for name in *never {
                    for at in words(&code, name) {
                        push(at, format!("`{module}` never uses `{name}`"));
                    }
                }
            }
        }
    }
    if JUDGES.iter().any(|judge| file.starts_with(judge)) {
        for name in JUDGED {
            for at in words(&code, name) {
                push(at, format!("the oracle never uses `{name}`"));
            }
        }
    }
    for (what, names, home, why) in BANNED {
        if home.iter().any(|home| file.starts_with(home)) {
            continue;
        }
        for name in *names {
            for at in words(&code, name) {
                push(at, format!("{what} `{name}`: {why}"));
            }
        }
    }
    if module == "governor" {
        for at in wildcard_arms(&code) {
            push(at, "`_` arm in the governor: a new case must break the build".to_owned());
        }
    }
    broken
}

fn module_of(file: &str) -> &str {
    let inside = file.strip_prefix("src/").unwrap_or(file);
    inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
}

fn allowed(module: &str, path: &str, may: &Use) -> bool {
    let covers =
        |prefix: &str| path == prefix || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with("::"));
    match may {
        Everything => true,
        Only(list) => covers(module) || list.iter().any(|prefix| covers(prefix)),
    }
}

/// Returns every `crate::` path with its place; groups are spelt out.
fn imports(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in words(code, "crate::") {
        // `pub(in crate::x)` names a scope, `$crate` a macro's own crate; both read as a path, which is harmless.
        let mut rest = &code[at + "crate::".len()..];
        expand(&mut rest, "", &mut |path| found.push((at, path)));
    }
    found
}

/// Reads one path, or a group of paths in braces, from the front of `rest`.
fn expand(rest: &mut &str, prefix: &str, found: &mut dyn FnMut(String)) {
    let mut path = prefix.to_owned();
    loop {
        *rest = rest.trim_start();
        if let Some(inside) = rest.strip_prefix('{') {
            *rest = inside;
            loop {
                expand(rest, &path, found);
                *rest = rest.trim_start();
                match rest.chars().next() {
                    Some(',') => *rest = &rest[1..],
                    Some('}') => {
                        *rest = &rest[1..];
                        return;
                    }
                    _ => return,
                }
                if rest.trim_start().starts_with('}') {
                    continue;
                }
            }
        }
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '*')).unwrap_or(rest.len());
        if end == 0 {
            break;
        }
        let name = &rest[..end];
        if name != "self" {
            path = if path.is_empty() { name.to_owned() } else { format!("{path}::{name}") };
        }
        *rest = &rest[end..];
        match rest.trim_start().strip_prefix("::") {
            Some(more) => *rest = more,
            None => break,
        }
    }
    if !path.is_empty() {
        found(path);
    }
    if let Some(renamed) = rest.trim_start().strip_prefix("as ") {
        *rest = renamed.trim_start().trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
    }
}

/// Returns where a chain of `super` leaves the module for the crate root.
fn supers_to_root(file: &str, code: &str) -> Vec<usize> {
    let inside = file.trim_start_matches("src/").trim_end_matches(".rs");
    let depth = inside.split('/').filter(|part| *part != "mod").count();
    let chain = "super::".repeat(depth);
    words(code, &chain)
}

/// Returns where `name` stands as a whole word (or path), not as a part of another.
fn words(code: &str, name: &str) -> Vec<usize> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let whole = |at: &usize| {
        let before = code[..*at].chars().next_back().is_some_and(part);
        let after = code[*at + name.len()..].chars().next().is_some_and(part);
        !(name.starts_with(part) && before || name.ends_with(part) && after)
    };
    code.match_indices(name).map(|(at, _)| at).filter(whole).collect()
}

fn wildcard_arms(code: &str) -> Vec<usize> {
    let arm = |at: &usize| {
        let before = code[..*at].trim_end_matches(' ').chars().next_back();
        matches!(before, None | Some('\n' | '{' | ',' | '|' | '}'))
    };
    let plain = code.match_indices("_ =>").map(|(at, _)| at);
    let guarded = code.match_indices("_ if ").map(|(at, _)| at);
    plain.chain(guarded).filter(arm).collect()
}

/// Unit tests come last in a file: everything from `#[cfg(test)] mod` on is cut.
fn without_tests(code: &str) -> String {
    let tests = code.match_indices("#[cfg(test)]").map(|(at, _)| at).find(|at| {
        let rest = code[at + "#[cfg(test)]".len()..].trim_start();
        rest.starts_with("mod ") || rest.starts_with("pub(crate) mod ")
    });
    code[..tests.unwrap_or(code.len())].to_owned()
}

/// Replaces comments, texts and characters by blanks; the places of everything else stay.
fn blanked(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut kept = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(&bytes[at..], at.checked_sub(1).map(|before| bytes[before]))
            .map(|length| at + length);
        let Some(end) = end else {
            at += 1;
            continue;
        };
        for byte in &mut kept[at..end.min(bytes.len())] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(kept).unwrap()
}

/// Returns the length of the comment, text or character that begins here, if one does.
fn literal_end(rest: &[u8], before: Option<u8>) -> Option<usize> {
    let find = |from: usize, what: &[u8]| {
        rest[from..]
            .windows(what.len())
            .position(|it| it == what)
            .map_or(rest.len(), |at| from + at + what.len())
    };
    let closing = |quote: u8| {
        let mut at = 1;
        while at < rest.len() && rest[at] != quote {
            at += if rest[at] == b'\\' { 2 } else { 1 };
        }
        at + 1
    };
    let in_word = before.is_some_and(|it| it.is_ascii_alphanumeric() || it == b'_');
    match rest {
        [b'/', b'/', ..] => Some(find(2, b"\n") - usize::from(rest.contains(&b'\n'))),
        [b'/', b'*', ..] => Some(find(2, b"*/")),
        [b'"', ..] => Some(closing(b'"')),
        [b'r', b'"' | b'#', ..] if !in_word => {
            let hashes = rest[1..].iter().take_while(|it| **it == b'#').count();
            if rest.get(1 + hashes) != Some(&b'"') {
                return None;
            }
            let end = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
            Some(find(2 + hashes, &end))
        }
        // A character, not a lifetime: 'x', '\n', or more bytes of one character before the closing quote.
        [b'\'', b'\\', ..] => Some(closing(b'\'')),
        [b'\'', first, ..] => {
            let length = match first {
                0..0x80 => 1,
                0x80..0xe0 => 2,
                0xe0..0xf0 => 3,
                0xf0.. => 4,
            };
            (rest.get(1 + length) == Some(&b'\'')).then_some(length + 2)
        }
        _ => None,
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// A file that holds nothing but unit tests.
fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs")
        || path.ends_with("_tests.rs")
        || path.ends_with("/fakes.rs")
        || path.contains("/tests/")
}

#[test]
fn the_house_rules_hold() {
    // Another checkout can be judged by the same rules.
    let root = std::env::var_os("ARCHITECTURE_ROOT").map_or_else(PathBuf::new, PathBuf::from);
    let mut broken = Vec::new();
    let mut sizes = Vec::new();
    for path in rust_files(&root.join("src")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        if !is_test_file(&name) {
            broken.extend(judge(&name, &text));
        }
        sizes.push((text.lines().count(), name));
    }
    sizes.sort();
    for (lines, name) in &sizes {
        println!("{lines:6} {name}");
    }
    println!("{:6} lines in {} files", sizes.iter().map(|(lines, _)| lines).sum::<usize>(), sizes.len());
    let shown: Vec<String> =
        broken.iter().map(|it| format!("{}:{}: {}", it.file, it.line, it.rule)).collect();
    assert!(broken.is_empty(), "{} broken rules\n{}", broken.len(), shown.join("\n"));
}

#[test]
fn every_test_file_is_listed() {
    let main = std::fs::read_to_string("tests/main.rs").unwrap();
    let mut listed = 0;
    for entry in std::fs::read_dir("tests").unwrap() {
        let path = entry.unwrap().path();
        let is_module = path.join("mod.rs").exists();
        let is_file = path.extension().is_some_and(|it| it == "rs");
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if name == "main" || !(is_module || is_file) {
            continue;
        }
        assert!(
            main.contains(&format!("\nmod {name};")),
            "tests/{name} is not listed in tests/main.rs: it never runs"
        );
        listed += 1;
    }
    assert!(listed >= 5, "{listed}");
}

/// Every hazard of the README's table is named by a test, or its row says that its control is not built.
#[test]
fn every_hazard_is_named_by_a_test() {
    let readme = std::fs::read_to_string("README.md").unwrap_or_default();
    let mut tests: String = rust_files(Path::new("tests"))
        .iter()
        .filter(|path| !path.ends_with("architecture.rs"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    for path in rust_files(Path::new("src")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let from =
            if is_test_file(path.to_str().unwrap()) { 0 } else { without_tests(&blanked(&text)).len() };
        tests.push_str(&text[from..]);
    }
    let mut problems = Vec::new();
    for id in (1..=19).map(|number| format!("H-{number:02}")) {
        match readme.lines().find(|line| line.starts_with(&format!("| {id} |"))) {
            None => problems.push(format!("{id} is missing in the README's table of hazards")),
            Some(_) if tests.contains(&id) => {}
            Some(row) if row.contains("not built yet") => println!("no test, not built: {row}"),
            Some(row) => problems.push(format!("no test names it: {row}")),
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Each rule catches its snippet, with the line; the same text in a comment, in quotes or in a unit test passes.
#[test]
fn every_rule_catches_its_violation() {
    for (file, snippet, expected) in [
        ("src/driver/x.rs", "use crate::runtime::Handle;", "`driver` may not use `runtime::Handle`"),
        ("src/driver/x.rs", "use crate::governor::Governor;", "`driver` may not use `governor::Governor`"),
        (
            "src/driver/x.rs",
            "use crate::{units::Mono, record::{entry, store}};",
            "may not use `record::store`",
        ),
        ("src/units.rs", "type A = crate::model::area::Side;", "`units` may not use `model::area::Side`"),
        ("src/guard/mod.rs", "use crate::governor::Cleared;", "`guard` may not use `governor::Cleared`"),
        ("src/config/a.rs", "use crate::governor::Governor;", "`config` may not use `governor::Governor`"),
        ("src/web/a.rs", "use crate::cli;", "`web` may not use `cli`"),
        ("src/driver/x.rs", "use super::super::runtime;", "`super` reaches the crate root"),
        ("src/driver/mod.rs", "use super::runtime;", "`super` reaches the crate root"),
        ("src/model/x.rs", "use serde::Serialize;", "`model` never uses `serde`"),
        ("src/governor/x.rs", "use std::collections::HashMap;", "`governor` never uses `HashMap`"),
        ("src/record/x.rs", "use tokio::sync::mpsc;", "`record` never uses `tokio`"),
        ("src/novelty/mod.rs", "", "module `novelty` is missing in the dependency table"),
        ("src/certify/oracle/x.rs", "use crate::governor::Governor;", "the oracle never uses `Governor`"),
        ("src/certify/x.rs", "use crate::governor::limits;", "`certify` never uses `governor::limits`"),
        ("src/cli/x.rs", "tokio::spawn(async {});", "task spawn `tokio::spawn`"),
        ("src/record/x.rs", "std::thread::spawn(|| ());", "task spawn `thread::spawn`"),
        ("src/runtime/x.rs", "let t = std::time::Instant::now();", "clock read `Instant::now`"),
        ("src/runtime/x.rs", "let d = start.elapsed();", "clock read `.elapsed()`"),
        ("src/driver/x.rs", "let x: f64 = y;", "float `f64`"),
        ("src/runtime/x.rs", "let p = Packet::expiring(1);", "packet made `Packet::expiring`"),
        ("src/guard/x.rs", "let p = Packet::lasting(1);", "packet made `Packet::lasting`"),
        ("src/runtime/session_task.rs", "transport.send(&packet).await", "transport send `.send(&packet)`"),
        ("src/web/x.rs", "let (a, b) = mpsc::unbounded_channel();", "unbounded queue `unbounded_channel`"),
        ("src/record/x.rs", "let (a, b) = std::sync::mpsc::channel();", "unbounded queue `mpsc::channel()`"),
        ("src/cli/x.rs", "let l = std::net::TcpListener::bind(a);", "network `TcpListener`"),
        ("src/governor/x.rs", "match x {\n A => 1,\n _ => 2,\n}", "`_` arm in the governor"),
        ("src/governor/x.rs", "match x {\n A | _ if y => 1,\n}", "`_` arm in the governor"),
    ] {
        let text = format!("//! Doc.\n\nfn a() {{\n{snippet}\n}}\n");
        let broken = judge(file, &text);
        let caught = broken.iter().find(|it| it.rule.contains(expected));
        let caught = caught.unwrap_or_else(|| panic!("{file}: `{snippet}` was not caught: {broken:?}"));
        assert!(caught.line == 1 || caught.line >= 4, "{caught:?}");
        if snippet.is_empty() {
            continue;
        }
        let hidden = snippet.replace('\n', " ").replace('"', "");
        for excuse in [
            format!("// {hidden}\n"),
            format!("/* {hidden} */\n"),
            format!("const A: &str = \"{hidden}\";\n"),
            format!("const A: &str = r#\"{hidden}\"#;\n"),
            format!("#[cfg(test)]\nmod tests {{\n{snippet}\n}}\n"),
        ] {
            let broken = judge(file, &excuse);
            assert!(broken.is_empty(), "{file}: {excuse}: {broken:?}");
        }
    }
}

#[test]
fn what_is_allowed_passes() {
    for (file, text) in [
        (
            "src/driver/x.rs",
            "use crate::governor::Cleared;\nuse crate::{units::Mono, model::packet::{self, Packet}};",
        ),
        (
            "src/driver/x.rs",
            "let p = Packet::expiring(1); let pf64x = 1; fn a<'a>(x: &'a str) -> char { '\"' }",
        ),
        ("src/driver/a/b.rs", "use super::super::frame; use super::c;"),
        ("src/runtime/x.rs", "tokio::spawn(async {});"),
        ("src/runtime/device_task.rs", "transport.send(&packet).await"),
        ("src/governor/x.rs", "match x { Some(_) => 1, (_, b) => 2, None => 3 }"),
        ("src/cli/x.rs", "use crate::governor::Governor; Command::new(\"x\").spawn()"),
        ("src/clock.rs", "tokio::time::Instant::now()"),
    ] {
        let broken = judge(file, text);
        assert!(broken.is_empty(), "{file}: {text}: {broken:?}");
    }
}
