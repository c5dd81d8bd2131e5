//! The walls of the house (DESIGN §6): who may import whom, what the pure rooms may not know, and how large a file may get.
//!
//! It reads the sources as tokens: comments, strings and test code do not count. What the rules themselves do with a bad
//! source is tested at the bottom.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

/// Each room and the rooms it may import besides itself. A new room must be entered here.
const WALLS: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("mailbox", &[]),
    ("fault", &[]),
    ("config", &["wire", "mailbox"]),
    ("net", &["wire", "mailbox", "config"]),
    ("store", &["fault", "wire", "mailbox", "config"]),
    ("source", &["wire", "mailbox", "config", "net", "store"]),
    ("target", &["wire", "mailbox", "config", "net", "store"]),
    ("user", &["wire", "mailbox", "config", "net", "store"]),
    ("migrate", &["fault", "wire", "mailbox", "config", "net", "store", "source", "target", "user"]),
    ("front", &["fault", "wire", "mailbox", "config", "net", "store", "source", "target", "user"]),
    ("admin", &["fault", "wire", "mailbox", "config", "net", "store", "source", "target", "user", "migrate", "front"]),
    (
        "main",
        &[
            "fault", "wire", "mailbox", "config", "net", "store", "source", "target", "user", "migrate", "front",
            "admin",
        ],
    ),
];

/// Rooms without sockets, files, clock, randomness, threads or waiting: bytes in, events out.
const PURE: &[&str] = &["wire", "mailbox"];

/// Paths that may not begin anything in a pure room.
const IMPURE_PATHS: &[&[&str]] = &[
    &["tokio"],
    &["tokio_rustls"],
    &["rand"],
    &["rusqlite"],
    &["dashmap"],
    &["tracing"],
    &["std", "net"],
    &["std", "fs"],
    &["std", "env"],
    &["std", "io", "stdin"],
    &["std", "io", "stdout"],
    &["std", "io", "stderr"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "sync", "mpsc"],
    &["std", "sync", "atomic"],
];

/// Names that may not appear in a pure room at all, however they got there.
const IMPURE_NAMES: &[&str] = &[
    "async",
    "await",
    "Instant",
    "SystemTime",
    "Mutex",
    "RwLock",
    "Condvar",
    "OnceLock",
    "LazyLock",
    "RandomState",
    "println",
    "eprintln",
    "thread_local",
];

/// What reads without a bound, as a name: what comes from outside has a limit everywhere. (Not in clippy.toml, because tests
/// may.)
const UNBOUNDED: &[&str] = &["read_line", "read_until"];

/// A crate that only one file may know.
const ONLY_IN: &[(&str, &str)] = &[("rustls_pemfile", "src/net/tls/pem.rs")];

/// The one file that may say `unsafe`: it takes the sockets that systemd passes by their numbers.
const UNSAFE_IN: &str = "src/net/inherit.rs";

/// Lines of a file, without its tests. A file that passes this holds two things.
const MAX_LINES: usize = 600;

#[test]
fn every_source_keeps_to_the_walls() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = sources(&root.join("src"));
    assert!(sources.len() > 10, "found only {} sources: is the test looking at the right folder?", sources.len());
    let violations: Vec<String> = sources
        .iter()
        .flat_map(|path| {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            violations(&name, &fs::read_to_string(path).unwrap())
        })
        .collect();
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Everything in which the source file `name` (`src/room/…`) breaks a rule.
fn violations(name: &str, source: &str) -> Vec<String> {
    let modules = module_path(name);
    if modules.is_empty() || modules.iter().any(|module| module == "tests") {
        // src/lib.rs is the map of all rooms; test files may use what they like.
        return Vec::new();
    }
    let room = modules[0].as_str();
    let mut found = Vec::new();
    let Some((_, may)) = WALLS.iter().find(|(wall, _)| *wall == room) else {
        return vec![format!("{name}: the room `{room}` has no walls: enter it in tests/architecture.rs")];
    };
    let tokens = without_tests(tokens(source));
    let lines = count_lines(&tokens, source);
    if lines > MAX_LINES {
        found.push(format!("{name}: {lines} lines without tests, at most {MAX_LINES}"));
    }
    for (line, path) in paths(&tokens) {
        if let Some(other) = room_of(&path, &modules)
            && other != room
            && WALLS.iter().any(|(wall, _)| *wall == other)
            && !may.contains(&other.as_str())
        {
            found.push(format!("{name}:{line}: `{room}` may not import `{other}`"));
        }
        for (krate, only) in ONLY_IN {
            if path[0] == *krate && name != *only {
                found.push(format!("{name}:{line}: `{krate}` belongs in {only} alone"));
            }
        }
        if PURE.contains(&room) {
            let impure = IMPURE_PATHS
                .iter()
                .find(|impure| path.len() >= impure.len() && impure.iter().eq(&path[..impure.len()]));
            if let Some(impure) = impure {
                found.push(format!("{name}:{line}: `{}` in the pure room `{room}`", impure.join("::")));
            }
        }
    }
    for token in tokens.iter().filter(|token| UNBOUNDED.contains(&token.text.as_str())) {
        found.push(format!("{name}:{}: `{}` has no bound", token.line, token.text));
    }
    for token in tokens.iter().filter(|token| matches!(token.text.as_str(), "unsafe" | "unsafe_code")) {
        if name != UNSAFE_IN {
            found.push(format!("{name}:{}: `{}` belongs in {UNSAFE_IN} alone", token.line, token.text));
        }
    }
    if PURE.contains(&room) {
        for token in tokens.iter().filter(|token| IMPURE_NAMES.contains(&token.text.as_str())) {
            found.push(format!("{name}:{}: `{}` in the pure room `{room}`", token.line, token.text));
        }
    }
    found
}

/// `src/net/tls/pem.rs` → net, tls, pem; `src/net.rs` → net; `src/main.rs` → main; `src/lib.rs` → nothing.
fn module_path(name: &str) -> Vec<String> {
    let inside = name.strip_prefix("src/").unwrap_or(name).trim_end_matches(".rs");
    let mut modules: Vec<String> = inside.split('/').map(str::to_owned).collect();
    if modules == ["lib"] {
        modules.clear();
    }
    modules
}

/// The room a path leads into, seen from the module `modules`; `None` for paths that stay or leave the crate.
fn room_of(path: &[String], modules: &[String]) -> Option<String> {
    match path[0].as_str() {
        "crate" | "mailferry" => path.get(1).cloned(),
        "super" => {
            let up = path.iter().take_while(|segment| *segment == "super").count();
            // Code in inline modules has more levels than its file: it can only be taken for more distant than it is.
            (up >= modules.len()).then(|| path.get(up).cloned()).flatten()
        }
        _ => None,
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    line: usize,
    text: String,
}

/// Identifiers and punctuation; `::` is one token. Comments vanish, strings and characters become `""`.
fn tokens(source: &str) -> Vec<Token> {
    let text: Vec<char> = source.chars().collect();
    let at = |index: usize| text.get(index).copied().unwrap_or('\0');
    let (mut tokens, mut index, mut line) = (Vec::new(), 0, 1);
    while index < text.len() {
        let start = index;
        let begun = line;
        match at(index) {
            '\n' => index += 1,
            '/' if at(index + 1) == '/' => {
                while index < text.len() && at(index) != '\n' {
                    index += 1;
                }
            }
            '/' if at(index + 1) == '*' => index = end_of_comment(&text, index),
            '"' => index = end_of_string(&text, index + 1),
            'r' if is_raw_string(&text, index + 1) => index = end_of_raw_string(&text, index + 1),
            'b' | 'c' if at(index + 1) == 'r' && is_raw_string(&text, index + 2) => {
                index = end_of_raw_string(&text, index + 2)
            }
            'b' | 'c' if at(index + 1) == '"' => index = end_of_string(&text, index + 2),
            'b' if at(index + 1) == '\'' => index = end_of_char(&text, index + 2),
            // A character, unless it is a lifetime: those have no quote behind their first letter.
            '\'' if at(index + 1) == '\\' || at(index + 2) == '\'' => index = end_of_char(&text, index + 1),
            ':' if at(index + 1) == ':' => {
                tokens.push(Token { line, text: "::".to_owned() });
                index += 2;
            }
            first if first.is_alphanumeric() || first == '_' => {
                while at(index).is_alphanumeric() || at(index) == '_' {
                    index += 1;
                }
                tokens.push(Token { line, text: text[start..index].iter().collect() });
            }
            other => {
                if !other.is_whitespace() {
                    tokens.push(Token { line, text: other.to_string() });
                }
                index += 1;
            }
        }
        line += text[start..index.min(text.len())].iter().filter(|character| **character == '\n').count();
        if at(start) == '"' || (line > begun && at(start) != '\n' && at(start) != '/') {
            tokens.push(Token { line: begun, text: "\"\"".to_owned() });
        }
    }
    tokens
}

fn end_of_comment(text: &[char], start: usize) -> usize {
    let (mut depth, mut index) = (0, start);
    while index < text.len() {
        match (text[index], text.get(index + 1)) {
            ('/', Some('*')) => (depth, index) = (depth + 1, index + 2),
            ('*', Some('/')) => (depth, index) = (depth - 1, index + 2),
            _ => index += 1,
        }
        if depth == 0 {
            break;
        }
    }
    index
}

fn end_of_string(text: &[char], mut index: usize) -> usize {
    while index < text.len() && text[index] != '"' {
        index += if text[index] == '\\' { 2 } else { 1 };
    }
    index + 1
}

fn end_of_char(text: &[char], mut index: usize) -> usize {
    while index < text.len() && text[index] != '\'' {
        index += if text[index] == '\\' { 2 } else { 1 };
    }
    index + 1
}

fn is_raw_string(text: &[char], index: usize) -> bool {
    let hashes = text[index.min(text.len())..].iter().take_while(|character| **character == '#').count();
    text.get(index + hashes) == Some(&'"')
}

fn end_of_raw_string(text: &[char], index: usize) -> usize {
    let hashes = text[index..].iter().take_while(|character| **character == '#').count();
    let mut at = index + hashes + 1;
    while at < text.len() {
        if text[at] == '"'
            && text[at + 1..].iter().take(hashes).filter(|character| **character == '#').count() == hashes
        {
            return at + 1 + hashes;
        }
        at += 1;
    }
    at
}

/// The tokens without items under `#[cfg(test)]`.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    const ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        let is_test = tokens[index..].iter().map(|token| token.text.as_str()).take(ATTRIBUTE.len()).eq(ATTRIBUTE);
        if is_test {
            index = end_of_item(&tokens, index + ATTRIBUTE.len());
        } else {
            kept.push(tokens[index].clone());
            index += 1;
        }
    }
    kept
}

/// Behind the `;` or the closing brace of the item that begins at `index`.
fn end_of_item(tokens: &[Token], mut index: usize) -> usize {
    let mut depth = 0_usize;
    while index < tokens.len() {
        match tokens[index].text.as_str() {
            "{" | "(" | "[" => depth += 1,
            closing @ ("}" | ")" | "]") => {
                depth = depth.saturating_sub(1);
                if depth == 0 && closing == "}" {
                    return index + 1;
                }
            }
            ";" if depth == 0 => return index + 1,
            _ => {}
        }
        index += 1;
    }
    index
}

/// Lines up to the last one that is not test code; tests stand at the end of a file.
fn count_lines(tokens: &[Token], source: &str) -> usize {
    tokens.last().map_or(0, |token| token.line).min(source.lines().count())
}

/// All paths with at least two segments, `use` trees unfolded, with the line each begins on. A path of one segment is only
/// given for what a `use` brings in whole (`use tokio;`).
fn paths(tokens: &[Token]) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        if tokens[index].text == "use" {
            index = unfold(tokens, index + 1, &[], &mut found);
            continue;
        }
        let (path, end) = simple_path(tokens, index);
        if path.len() > 1 {
            found.push((tokens[index].line, path));
        }
        index = end.max(index + 1);
    }
    found
}

/// `a::b::c` from `index` on, and where it ends; empty if there is no identifier.
fn simple_path(tokens: &[Token], mut index: usize) -> (Vec<String>, usize) {
    let mut path = Vec::new();
    if tokens.get(index).is_some_and(|token| token.text == "::") {
        index += 1;
    }
    while tokens.get(index).is_some_and(is_identifier) {
        path.push(tokens[index].text.clone());
        index += 1;
        if !(tokens.get(index).is_some_and(|token| token.text == "::")
            && tokens.get(index + 1).is_some_and(is_identifier))
        {
            break;
        }
        index += 1;
    }
    (path, index)
}

fn is_identifier(token: &Token) -> bool {
    token.text.chars().next().is_some_and(|first| first.is_alphabetic() || first == '_')
}

/// Unfolds the use tree that begins at `index`, below `prefix`; gives where it ends.
fn unfold(tokens: &[Token], index: usize, prefix: &[String], found: &mut Vec<(usize, Vec<String>)>) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let (own, mut at) = simple_path(tokens, index);
    let path = [prefix, &own].concat();
    let line = tokens.get(index).map_or(0, |token| token.line);
    if text(at) == "::" && text(at + 1) == "{" || text(at) == "{" {
        at += if text(at) == "::" { 2 } else { 1 };
        while at < tokens.len() && text(at) != "}" {
            at = unfold(tokens, at, &path, found);
            if text(at) == "," {
                at += 1;
            }
        }
        return at + 1;
    }
    if !path.is_empty() {
        found.push((line, path));
    }
    while at < tokens.len() && !matches!(text(at), "," | "}" | ";") {
        at += 1;
    }
    at
}

mod the_rules {
    use super::violations;

    #[track_caller]
    fn refuses(name: &str, source: &str, word: &str) {
        let found = violations(name, source);
        assert!(
            found.iter().any(|line| line.contains(word)),
            "{source:?} in {name} should be refused for {word}: {found:?}"
        );
    }

    #[track_caller]
    fn accepts(name: &str, source: &str) {
        assert_eq!(violations(name, source), Vec::<String>::new(), "{source:?} in {name}");
    }

    #[test]
    fn an_import_through_a_wall_is_seen_in_every_spelling() {
        refuses("src/front/relay.rs", "use crate::migrate::Copy;", "`front` may not import `migrate`");
        refuses(
            "src/migrate/copy.rs",
            "use crate::{net::Stream, front::{self, Gate as G}};",
            "`migrate` may not import `front`",
        );
        refuses("src/net/dial.rs", "fn f() { crate::user::x(); }", "`net` may not import `user`");
        refuses("src/net.rs", "use super::store::Store;", "`net` may not import `store`");
        refuses("src/wire/imap/a.rs", "use super::super::super::config::Config;", "`wire` may not import `config`");
        refuses("src/wire/imap/a.rs", "pub(crate) use crate::net as n;", "`wire` may not import `net`");
        refuses("src/source.rs", "type T = crate::target::Target;", "`source` may not import `target`");
        refuses("src/cellar.rs", "", "no walls");
        accepts(
            "src/front/relay.rs",
            "use crate::{net::Stream, user::{Gate, store}}; use super::login; use super::super::net;",
        );
        accepts("src/wire/imap/a.rs", "use super::super::sasl; use crate::wire::imap; // crate::net\n/* crate::net */");
        accepts("src/main.rs", "use mailferry::{admin, front};");
        accepts("src/lib.rs", "pub mod wire; pub mod net;");
    }

    #[test]
    fn what_is_impure_is_seen_in_a_pure_room_only() {
        for (source, word) in [
            ("use tokio::net::TcpStream;", "tokio"),
            ("use std::{fmt, net::IpAddr};", "std::net"),
            ("fn f() { std::fs::read(\"x\"); }", "std::fs"),
            ("fn f() { let _ = std::env::var(\"x\"); }", "std::env"),
            ("use std::time::{Duration, Instant};", "Instant"),
            ("use std::time; fn f() { time::SystemTime::now(); }", "SystemTime"),
            ("use rand::Rng;", "rand"),
            ("async fn f() {}", "async"),
            ("fn f() { x.await }", "await"),
            ("use std::sync::Mutex;", "Mutex"),
        ] {
            refuses("src/wire/imap.rs", source, word);
            refuses("src/mailbox/diff.rs", source, word);
            accepts("src/net/dial.rs", source);
        }
        accepts("src/wire/imap.rs", "use std::time::Duration; fn f<'a>(x: &'a str) -> char { '\"' } // async Instant");
        accepts(
            "src/wire/imap.rs",
            "const A: &str = \"use tokio::net\"; const B: &str = r#\"std::fs \" async\"#; const C: u8 = b'\"';",
        );
    }

    #[test]
    fn test_code_is_free() {
        accepts(
            "src/wire/imap.rs",
            "fn f() {}\n#[cfg(test)]\nmod tests { use tokio::net; fn g() { std::fs::read(\"{\"); } }",
        );
        accepts("src/wire/imap/tests.rs", "use std::fs;");
        refuses("src/wire/imap.rs", "#[cfg(test)]\nmod tests;\nuse std::fs;", "std::fs");
        refuses("src/wire/imap.rs", "#[cfg(test)]\nmod tests { fn f() {} }\nuse std::fs;", "std::fs");
    }

    #[test]
    fn a_file_has_a_size_and_a_crate_its_place() {
        refuses("src/net/large.rs", &"fn f() {}\n".repeat(601), "601 lines");
        accepts("src/net/large.rs", &"fn f() {}\n".repeat(600));
        accepts("src/net/large.rs", &format!("#[cfg(test)]\nmod tests {{\n{}}}", "fn f() {}\n".repeat(900)));
        refuses("src/net/tls/client.rs", "fn f() { rustls_pemfile::certs(x); }", "src/net/tls/pem.rs alone");
        accepts("src/net/tls/pem.rs", "use rustls_pemfile::certs;");
        refuses("src/net/dial.rs", "fn f() { unsafe { g() } }", "src/net/inherit.rs alone");
        refuses("src/net/dial.rs", "#[allow(unsafe_code)] fn f() {}", "src/net/inherit.rs alone");
        accepts("src/net/inherit.rs", "#[allow(unsafe_code)] fn f() { unsafe { g() } }");
        refuses("src/net/imap.rs", "async fn f() { x.read_line(&mut y).await; }", "`read_line` has no bound");
    }
}
