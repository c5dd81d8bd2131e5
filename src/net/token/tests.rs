use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;
use crate::wire::sasl::Bearer;

/// A command that writes down each call in `calls`, with its script behind that.
struct Script {
    folder: tempfile::TempDir,
}

impl Script {
    fn new(body: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let calls = folder.path().join("calls");
        fs::write(&path, format!("#!/bin/sh\necho \"$*\" >> {}\n{body}\n", calls.display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn tokens(&self, arguments: &[&str]) -> Tokens {
        let path = self.folder.path().join("token");
        let words: Vec<&str> = std::iter::once(path.to_str().unwrap()).chain(arguments.iter().copied()).collect();
        Tokens::of(&TokenCommand::new(Bearer::XOAuth2, &words).unwrap())
    }

    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

async fn text(tokens: &Tokens, user: &str) -> String {
    String::from_utf8(tokens.get(user).await.unwrap().0.text().to_vec()).unwrap()
}

async fn error(body: &str) -> String {
    let script = Script::new(body);
    let error = script.tokens(&["%u"]).get("u1").await.unwrap_err();
    error.to_string().replace(&script.folder.path().display().to_string(), "DIR")
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_again_only_when_it_was_refused() {
    let script = Script::new("echo token-$(wc -l < $(dirname $0)/calls)");
    let tokens = script.tokens(&["for", "%u", "100%%"]);
    let (first, fresh) = tokens.get("u1").await.unwrap();
    assert!(fresh && first.text() == b"token-1", "{:?}", first.text());
    assert!(!tokens.get("u1").await.unwrap().1);
    assert_eq!(text(&tokens, "u2").await, "token-2", "each user has their own");
    tokens.refused("u1", &first).await;
    assert_eq!(text(&tokens, "u1").await, "token-3");
    // Another connection that still had the old one says so, too.
    tokens.refused("u1", &first).await;
    assert_eq!(text(&tokens, "u1").await, "token-3");
    assert_eq!(script.calls(), ["for u1 100%", "for u2 100%", "for u1 100%"]);
}

#[tokio::test]
async fn a_command_that_is_not_told_the_user_gives_one_token_for_all() {
    let script = Script::new("sleep 0.2; echo one");
    let tokens = script.tokens(&[]);
    let (a, b) = tokio::join!(text(&tokens, "u1"), text(&tokens, "u2"));
    assert_eq!((a.as_str(), b.as_str(), script.calls().len()), ("one", "one", 1));
}

#[tokio::test]
async fn a_token_whose_time_is_over_is_not_used() {
    for (seconds, calls) in [("0", 2), ("3600", 1)] {
        let script = Script::new(&format!("printf 'abc\\r\\n{seconds}\\n\\n'"));
        let tokens = script.tokens(&[]);
        for _ in 0..2 {
            assert_eq!(text(&tokens, "u1").await, "abc");
        }
        assert_eq!(script.calls().len(), calls, "{seconds}");
    }
}

#[tokio::test]
async fn what_is_no_token_is_told_without_showing_it() {
    for body in
        ["", "echo", "echo to ken", "printf 'tok\\001en'", "printf 'token\\n3600\\nmore'", "printf 'token\\nnever'"]
    {
        let said = error(body).await;
        assert!(said.starts_with("DIR/token printed no token: wanted is one line"), "{body}: {said}");
        assert!(said.ends_with("it said nothing") && !said.contains("tok\u{1}en"), "{body}: {said}");
    }
    let long = error("head -c 20000 /dev/zero | tr '\\0' x").await;
    assert!(long.contains("at most 16384") && !long.contains("xxxx"), "{long}");
    let whole = error("head -c 2000000 /dev/zero | tr '\\0' x; echo it went on >&2; exit 3").await;
    assert!(whole.contains("(exit status: 3): it went on"), "it is not stuck on what nobody reads: {whole}");
}

#[tokio::test]
async fn a_command_that_fails_is_told_with_its_complaint_and_never_with_its_token() {
    let said = error("echo geheim-token; echo 'set -x: geheim-token' >&2; echo no network >&2; exit 7").await;
    assert_eq!(said, "DIR/token failed (exit status: 7): set -x: …; no network");
    let none = Tokens::of(&TokenCommand::new(Bearer::OAuthBearer, &["/nowhere/token"]).unwrap());
    let said = none.get("u1").await.unwrap_err().to_string();
    assert!(said.starts_with("/nowhere/token can't be run: No such file"), "{said}");
}

#[tokio::test]
async fn it_sees_hardly_anything_of_us_and_no_name_is_an_option() {
    let script = Script::new("env | cut -d= -f1 | grep -v '^_$' | sort | tr '\\n' , ; pwd");
    assert_eq!(text(&script.tokens(&[]), "u1").await, "PATH,PWD,/");
    let script = Script::new("echo token");
    let said = script.tokens(&["%u"]).get("--help").await.unwrap_err().to_string();
    assert!(said.ends_with("would take the name --help for an option") && script.calls().is_empty(), "{said}");
    assert_eq!(text(&script.tokens(&["--user=%u"]), "--help").await, "token");
}

// (The runtime's own clock runs ahead here, so it can't be waited by.)
#[allow(clippy::disallowed_methods)]
#[tokio::test(start_paused = true)]
async fn a_command_that_never_ends_is_ended_with_all_that_it_started() {
    let script = Script::new("(sleep 1000 & echo $! > $(dirname $0)/child; wait)");
    let said = script.tokens(&[]).get("u1").await.unwrap_err().to_string();
    assert!(said.ends_with("has not ended within 30 s"), "{said}");
    // (It may not even have come so far when the clock of this test ran out.)
    if let Ok(child) = fs::read_to_string(script.folder.path().join("child")) {
        let path = Path::new("/proc").join(child.trim()).join("cmdline");
        for _ in 0..500 {
            if fs::read(&path).unwrap_or_default().is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(fs::read(&path).unwrap_or_default().is_empty(), "{child} still runs");
    }
}
