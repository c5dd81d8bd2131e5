//! Tokens in place of passwords: a command gives them, and gives another one when a server takes the last one no more.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::copy::{Pair, assert_foreign_judge_agrees, shown};
use crate::front::secrets::assert_silent;
use crate::lab::porter::{End, Porter};
use crate::lab::{Dovecot, Ferry, FerrySpec, Imap, Release, Sieve, SieveDoor, Spec, World, nasty};
use crate::uidl::maildrop;

/// Far above what any of this takes on a busy machine.
const LONG: Duration = Duration::from_secs(180);

/// Signs the tokens that the Dovecots of these tests take.
const KEY: &str = "a key of the lab that nobody guesses";

/// A folder with a token command in it, which counts its calls.
pub(crate) struct Issuer {
    folder: tempfile::TempDir,
}

impl Issuer {
    pub(crate) fn new(script: &str) -> Self {
        let issuer = Self { folder: tempfile::Builder::new().prefix("mftoken").tempdir().unwrap() };
        issuer.set(script);
        issuer
    }

    /// Of tokens that [`Porter`] takes.
    fn counting() -> Self {
        Self::new("#!/bin/sh\necho \"$*\" >> $(dirname $0)/calls\necho token-$(wc -l < $(dirname $0)/calls)\n")
    }

    /// Of signed tokens (RFC 7519) for the user who is named, as a script with a key would make them.
    fn signing(key: &str) -> Self {
        Self::new(&format!(
            "#!/usr/bin/python3\n\
             import base64, hashlib, hmac, json, os, sys, time\n\
             open(os.path.join(os.path.dirname(sys.argv[0]), 'calls'), 'a').write(' '.join(sys.argv[1:]) + '\\n')\n\
             b64 = lambda octets: base64.urlsafe_b64encode(octets).rstrip(b'=')\n\
             now = int(time.time())\n\
             claims = {{'sub': sys.argv[1], 'iat': now - 60, 'exp': now + 3600, 'mark': 'geheim'}}\n\
             text = b64(json.dumps({{'alg': 'HS256', 'typ': 'JWT'}}).encode()) + b'.' + b64(json.dumps(claims).encode())\n\
             sign = b64(hmac.new({key:?}.encode(), text, hashlib.sha256).digest())\n\
             print((text + b'.' + sign).decode())\n\
             print(3600)\n"
        ))
    }

    pub(crate) fn set(&self, script: &str) {
        let path = self.folder.path().join("token");
        let new = self.folder.path().join("token.new");
        fs::write(&new, script).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&new, &path).unwrap();
    }

    pub(crate) fn credentials(&self, kind: &str, arguments: &str) -> String {
        let path = self.folder.path().join("token");
        format!("{{ kind = \"{kind}\", token_command = [\"{}\"{arguments}] }}", path.display())
    }

    /// A token for a client.
    fn token(&self, user: &str) -> String {
        let output = Command::new(self.folder.path().join("token")).arg(user).output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().next().unwrap().to_owned()
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// Two Dovecots that take users' passwords, and tokens with their names in them.
fn pair(users: &[&str]) -> Pair {
    let [old, new] =
        [Spec::old(users), Spec { own_uidls: true, ..Spec::old(users) }].map(|spec| taking_tokens(spec, KEY));
    Pair { old, new }
}

/// One that takes tokens that were signed with `key`.
fn taking_tokens(spec: Spec, key: &str) -> Dovecot {
    let extra = "auth_mechanisms = plain login xoauth2 oauthbearer\n\
                 passdb {\n  driver = oauth2\n  mechanisms = xoauth2 oauthbearer\n  args = {dir}/oauth2.conf\n}\n\
                 auth_failure_delay = 0\n";
    let mut server = Dovecot::start(spec);
    let dir = server.dir().to_owned();
    let keys = dir.join("keys/default/HS256");
    fs::create_dir_all(&keys).unwrap();
    fs::write(keys.join("default"), base64(key)).unwrap();
    for folder in ["keys", "keys/default", "keys/default/HS256"] {
        fs::set_permissions(dir.join(folder), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let settings = format!(
        "introspection_mode = local\nusername_attribute = sub\nlocal_validation_key_dict = fs:posix:prefix={}/keys/\n",
        dir.display()
    );
    fs::write(dir.join("oauth2.conf"), settings).unwrap();
    server.configure(extra);
    server
}

fn base64(text: &str) -> String {
    use ::base64::Engine as _;
    ::base64::engine::general_purpose::STANDARD.encode(text)
}

fn reason(status: &Value) -> &str {
    status["reason"].as_str().unwrap_or_default()
}

#[test]
fn both_mechanisms_copy_and_verify_without_any_users_password_pop3_included() {
    for kinds in [["xoauth2", "oauthbearer"], ["oauthbearer", "xoauth2"]] {
        let pair = pair(&["u1"]);
        nasty::small(&pair.old, "u1");
        let issuer = Issuer::signing(KEY);
        let both = kinds.map(|kind| issuer.credentials(kind, ", \"%u\""));
        let ferry = Ferry::prepare(FerrySpec {
            credentials: [&both[0], &both[1]],
            pop3: true,
            ..FerrySpec::between(&pair.old, &pair.new)
        });
        ferry.run_ok(&["sync", "u1"]);
        let report: Value =
            serde_json::from_str(&ferry.run_ok(&["verify", "u1", "--json", "--bodies", "all"])).unwrap();
        assert_eq!(report["identical"], true, "{report:#}");
        assert!(report["pop3"].as_str().unwrap().contains("UIDLs identical, same order"), "{report:#}");
        assert_eq!(maildrop::shown(&pair.old, "u1"), maildrop::shown(&pair.new, "u1"));
        assert_foreign_judge_agrees(&pair, "u1");
        // One for each side and run, however many connections it took.
        assert_eq!(issuer.calls(), ["u1"; 4]);
    }
}

#[test]
fn after_a_restart_everything_goes_on_without_a_login_and_no_token_is_in_the_log() {
    let pair = pair(&["u1"]);
    nasty::small(&pair.old, "u1");
    let issuer = Issuer::signing(KEY);
    let both = ["xoauth2", "oauthbearer"].map(|kind| issuer.credentials(kind, ", \"%u\""));
    let mut ferry = Ferry::start(FerrySpec {
        credentials: [&both[0], &both[1]],
        auto: false,
        env: vec![("RUST_LOG", "mailferry=trace")],
        ..FerrySpec::between(&pair.old, &pair.new)
    });
    let mut imap = Imap::connect(ferry.imap());
    imap.login("u1", pair.old.password("u1"));
    imap.ok("LOGOUT");
    ferry.wait_phase("u1", "following", LONG);
    ferry.kill9();
    ferry.start_again();
    ferry.run_ok(&["switch", "u1"]);
    assert_eq!(World::of(&pair.new, "u1"), World::of(&pair.old, "u1"));
    // (What is signed begins with this: its header, in base64.)
    assert_silent(&ferry.log(), "eyJhbGciOiAiSFMyNTYiLCAidHlwIjogIkpXVCJ9");
}

#[test]
fn a_refused_token_is_named_with_its_side_and_what_the_server_said_and_holds_nobody_up_for_good() {
    let pair = pair(&["u1"]);
    nasty::small(&pair.old, "u1");
    let issuer = Issuer::signing("another key");
    for (kind, told) in [("xoauth2", "{\"status\":\"401\""), ("oauthbearer", "{\"status\":\"invalid_token\"")] {
        let credentials = issuer.credentials(kind, ", \"%u\"");
        let spec = || FerrySpec { pop3: true, ..FerrySpec::between(&pair.old, &pair.new) };
        let old = Ferry::prepare(FerrySpec { credentials: [&credentials, "{ kind = \"user\" }"], ..spec() });
        let file = old.password_file("pw-of-u1");
        let output = old.run(&["sync", "u1", "--password-file", &file]);
        let said = shown(&output);
        assert!(said.contains("refuses the login of u1 with a token (old.credentials)"), "{said}");
        assert!(said.contains(told), "{kind}: {said}");
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(!said.contains("eyJ"), "{said}");
    }
    assert_eq!(issuer.calls().len(), 2, "a token that was just made is not asked for again");

    let credentials = issuer.credentials("xoauth2", ", \"%u\"");
    let ferry = Ferry::start(FerrySpec {
        credentials: [&credentials, "{ kind = \"user\" }"],
        ..FerrySpec::between(&pair.old, &pair.new)
    });
    let mut imap = Imap::connect(ferry.imap());
    imap.login("u1", pair.old.password("u1"));
    imap.ok("LOGOUT");
    let status = ferry.wait_status("u1", LONG, |status| reason(status).contains("with a token (old.credentials)"));
    assert!(!reason(&status).contains("next login") && status["authority"] == "old", "{status:#}");
    // The command is mended: it goes on by itself.
    issuer.set(&fs::read_to_string(Issuer::signing(KEY).folder.path().join("token")).unwrap());
    ferry.wait_phase("u1", "new", LONG);
}

#[test]
fn a_command_that_gives_no_token_is_named_with_its_complaint() {
    let pair = Pair::start(&["u1"]);
    nasty::small(&pair.old, "u1");
    let issuer = Issuer::new("#!/bin/sh\necho geheim\necho 'token geheim: the service says no' >&2\nexit 3\n");
    let credentials = issuer.credentials("xoauth2", "");
    let mut spec = FerrySpec::between(&pair.old, &pair.new);
    spec.credentials[0] = &credentials;
    let ferry = Ferry::start(spec);
    let mut imap = Imap::connect(ferry.imap());
    imap.login("u1", pair.old.password("u1"));
    imap.ok("LOGOUT");
    let status = ferry.wait_status("u1", LONG, |status| reason(status).contains("no token for u1 (old.credentials)"));
    assert!(reason(&status).contains("failed (exit status: 3): token …: the service says no"), "{status:#}");
    assert!(!ferry.log().contains("geheim"));
    // A server that takes none is named, too.
    issuer.set("#!/bin/sh\necho token-1\n");
    let file = ferry.password_file("pw-of-u1");
    let said = shown(&ferry.run(&["verify", "u1", "--password-file", &file]));
    assert!(said.contains("does not take tokens by XOAUTH2; it offers PLAIN, LOGIN"), "{said}");
}

/// A copy that takes longer than a token lasts goes on with the next one, wherever the server notices, and however it says so.
#[test]
fn a_copy_goes_on_when_its_token_is_over() {
    let pair = Pair::start(&["u1"]);
    let many = nasty::small(&pair.old, "u1");
    drop(many);
    let mut case = 0;
    for (word, end) in [
        ("(UID BODY.PEEK[])", End::Bye),
        ("(UID BODY.PEEK[])", End::HangUp),
        ("(UID BODY.PEEK[])", End::No),
        ("EXAMINE", End::Bye),
        ("EXAMINE", End::No),
        ("STATUS", End::HangUp),
        // (The first of several commands that are sent at once.)
        ("NAMESPACE", End::No),
    ] {
        case += 1;
        let new = Dovecot::start(Spec::new_side(&["u1"]));
        let porter = Porter::with_tokens(pair.old.imap_port(), case % 2 == 0);
        let issuer = Issuer::counting();
        let credentials = issuer.credentials(["xoauth2", "oauthbearer"][case % 2], "");
        let ferry = Ferry::prepare(FerrySpec {
            credentials: [&credentials, "{ kind = \"user\" }"],
            old_imap: Some(porter.url()),
            ..FerrySpec::between(&pair.old, &new)
        });
        let file = ferry.password_file("pw-of-u1");
        porter.end_at(word, end);
        ferry.run_ok(&["sync", "u1", "--password-file", &file]);
        assert!(porter.has_ended(), "{word} {end:?}");
        let logins: Vec<(String, String)> = porter.logins();
        let expected = ["token-1", "token-2"].map(|token| ("u1".to_owned(), token.to_owned()));
        assert_eq!(logins, expected, "{word} {end:?}");
        // The old one is tried once more, for the connection may have broken for any reason.
        assert_eq!((porter.refused(), issuer.calls().len()), (1, 2), "{word} {end:?}");
        assert_eq!(World::of(&new, "u1"), World::of(&pair.old, "u1"), "{word} {end:?}");
    }
}

/// Lets clients of `ferry` log in with tokens.
fn offer_tokens(ferry: &mut Ferry) {
    let config = ferry.config_text().replacen("[listen]\n", "[listen]\ntokens = true\n", 1);
    assert!(config.contains("tokens = true"));
    fs::write(ferry.config_path(), config).unwrap();
    ferry.start_again();
}

/// curl with a token, in clear and inside TLS, over IMAP and POP3.
fn by_curl(ferry: &Ferry, mechanism: &str, token: &str) {
    let (imap, imaps) = (ferry.imap(), ferry.imaps());
    let (pop3, pop3s) = (ferry.pop3(), ferry.pop3s());
    for url in [
        format!("imap://localhost:{imap}/INBOX;UID=1"),
        format!("imaps://localhost:{imaps}/INBOX;UID=1"),
        format!("pop3://localhost:{pop3}/1"),
        format!("pop3s://localhost:{pop3s}/1"),
    ] {
        for more in [&[][..], &["--sasl-ir"]] {
            let login = ["--login-options".to_owned(), format!("AUTH={mechanism}")];
            let output = Command::new("curl")
                .args(["--silent", "--show-error", "--max-time", "60", "--user", "u1", "--oauth2-bearer", token])
                .args(login)
                .args(more)
                .arg("--cacert")
                .arg(&ferry.tls().ca)
                .arg(&url)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && !output.stdout.is_empty(), "{url} {mechanism} {more:?}: {said}");
        }
    }
}

#[test]
fn clients_log_in_with_tokens_and_with_such_credentials_on_both_sides_that_starts_a_move() {
    let pair = pair(&["u1"]);
    nasty::small(&pair.old, "u1");
    let issuer = Issuer::signing(KEY);
    let both = ["xoauth2", "oauthbearer"].map(|kind| issuer.credentials(kind, ", \"%u\""));
    let mut ferry = Ferry::prepare(FerrySpec {
        credentials: [&both[0], &both[1]],
        pop3: true,
        auto: false,
        env: vec![("RUST_LOG", "mailferry=trace")],
        ..FerrySpec::between(&pair.old, &pair.new)
    });
    offer_tokens(&mut ferry);
    let token = issuer.token("u1");
    for mechanism in ["OAUTHBEARER", "XOAUTH2"] {
        by_curl(&ferry, mechanism, &token);
    }
    ferry.wait_phase("u1", "following", LONG);
    ferry.run_ok(&["switch", "u1"]);
    by_curl(&ferry, "OAUTHBEARER", &token);
    assert_eq!(
        World::of(&pair.new, "u1").mailboxes["INBOX"].mails.len(),
        World::of(&pair.old, "u1").mailboxes["INBOX"].mails.len()
    );
    assert_silent(&ferry.log(), &token);
}

#[test]
fn a_token_that_is_refused_is_refused_as_the_standard_says_and_a_token_alone_moves_nobody() {
    let pair = pair(&["u1"]);
    nasty::small(&pair.old, "u1");
    let mut ferry = Ferry::prepare(FerrySpec { pop3: true, ..FerrySpec::between(&pair.old, &pair.new) });
    offer_tokens(&mut ferry);
    let mut imap = Imap::connect(ferry.imap());
    assert!(imap.greeting.contains("AUTH=PLAIN AUTH=LOGIN AUTH=OAUTHBEARER AUTH=XOAUTH2"), "{}", imap.greeting);
    let bad = Issuer::signing("another key").token("u1");
    for (mechanism, message, why, end) in [
        ("OAUTHBEARER", format!("n,a=u1,\u{1}auth=Bearer {bad}\u{1}\u{1}"), "{\"status\":\"invalid_token\"}", "AQ=="),
        ("XOAUTH2", format!("user=u1\u{1}auth=Bearer {bad}\u{1}\u{1}"), "{\"status\":\"401\"", ""),
    ] {
        let tag = imap.start(&format!("AUTHENTICATE {mechanism} {}", base64(&message)));
        let told = String::from_utf8(imap.response()).unwrap();
        let told = unbase64(told.strip_prefix("+ ").expect("a challenge"));
        assert!(told.starts_with(why), "{mechanism}: {told}");
        imap.send(format!("{end}\r\n").as_bytes());
        assert!(imap.finish(&tag).0.starts_with("NO [AUTHENTICATIONFAILED]"), "{mechanism}");
        let tag = imap.start(&format!("AUTHENTICATE {mechanism}"));
        assert_eq!(imap.response(), b"+ ");
        imap.send(b"*\r\n");
        assert!(imap.finish(&tag).0.starts_with("BAD "), "cancelled");
    }
    let good = Issuer::signing(KEY).token("u1");
    imap.ok(&format!("AUTHENTICATE XOAUTH2 {}", base64(&format!("user=u1\u{1}auth=Bearer {good}\u{1}\u{1}"))));
    imap.ok("LOGOUT");
    // With it nothing could be copied: only a login with the password starts the move.
    let password = pair.old.password("u1");
    let mut imap = Imap::connect(ferry.imap());
    assert_eq!(ferry.status("u1")["phase"], "old");
    imap.login("u1", password);
    imap.ok("LOGOUT");
    ferry.wait_phase("u1", "new", LONG);
}

/// Two servers with ManageSieve, and scripts on the old one.
fn with_scripts() -> (Pair, [String; 2], [SieveDoor; 2]) {
    let [(old, first), (new, second)] = [Spec::old(&["u1"]), Spec { own_uidls: true, ..Spec::old(&["u1"]) }]
        .map(|spec| SieveDoor::into(Spec { release: Release::V23, ..spec }, ""));
    let pair = Pair { old: taking_tokens(old, KEY), new: taking_tokens(new, KEY) };
    nasty::small(&pair.old, "u1");
    let mut sieve = Sieve::login(first.port(), "u1", pair.old.password("u1"));
    sieve.put("sort", "require \"fileinto\";\r\nfileinto \"Sent\";\r\n");
    sieve.put("draft", "keep;\n");
    sieve.set_active("sort");
    let keys = [first.key(), second.key()];
    (pair, keys, [first, second])
}

#[test]
fn scripts_are_carried_over_with_tokens_by_both_mechanisms() {
    // (A token that has no place in a quoted string, and one that has.)
    for (kinds, more) in [(["xoauth2", "oauthbearer"], 1), (["oauthbearer", "xoauth2"], 200)] {
        let (pair, keys, _doors) = with_scripts();
        let issuer = Issuer::signing(KEY);
        let script = fs::read_to_string(issuer.folder.path().join("token")).unwrap();
        issuer.set(&script.replace("'geheim'", &format!("'geheim' * {more}")));
        let both = kinds.map(|kind| issuer.credentials(kind, ", \"%u\""));
        let ferry = Ferry::prepare(FerrySpec {
            credentials: [&both[0], &both[1]],
            extra: vec![("old", keys[0].as_str()), ("new", keys[1].as_str())],
            env: vec![("RUST_LOG", "mailferry=trace")],
            ..FerrySpec::between(&pair.old, &pair.new)
        });
        let output = ferry.run(&["sync", "u1"]);
        assert!(output.status.success(), "{}", shown(&output));
        assert_silent(&shown(&output), "eyJhbGciOiAiSFMyNTYiLCAidHlwIjogIkpXVCJ9");
        let report: Value = serde_json::from_str(&ferry.run_ok(&["verify", "u1", "--json"])).unwrap();
        assert_eq!(
            (report["identical"].as_bool(), report["sieve"].as_str()),
            (Some(true), Some("2 scripts, \"sort\" is active")),
            "{report:#}"
        );
        assert_eq!(issuer.calls(), ["u1"; 4], "one token for all connections to a side");
    }
}

#[test]
fn a_managesieve_server_that_refuses_a_token_is_given_another_once_and_named_with_what_it_said() {
    let (pair, keys, _doors) = with_scripts();
    // (It answers each wrong login as the first one.)
    let extra = "service anvil {\n  unix_listener anvil-auth-penalty {\n    mode = 0\n  }\n}\n".to_owned();
    let (other, other_door) = SieveDoor::into(Spec { release: Release::V23, extra, ..Spec::old(&["u1"]) }, "");
    let _other = taking_tokens(other, "another key");
    let good = Issuer::signing(KEY);
    let new = good.credentials("xoauth2", ", \"%u\"");
    let check = |old: &str, key: &str| {
        let extra = vec![("old", key), ("new", keys[1].as_str())];
        let between = FerrySpec::between(&pair.old, &pair.new);
        let ferry = Ferry::prepare(FerrySpec { credentials: [old, &new], extra, ..between });
        let output = ferry.run(&["check", "u1"]);
        (output.status.code(), shown(&output))
    };
    for (kind, told) in [("xoauth2", "{\"status\":\"401\""), ("oauthbearer", "{\"status\":\"invalid_token\"")] {
        let issuer = Issuer::signing(KEY);
        let old = issuer.credentials(kind, ", \"%u\"");
        let (code, said) = check(&old, &other_door.key());
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("refuses the ManageSieve login of u1 with a token (old.credentials)"), "{said}");
        assert!(said.contains(told) && !said.contains("eyJ"), "{kind}: {said}");
        // Another one, as the first may have been over, and no third.
        assert_eq!(issuer.calls().len(), 2, "{kind}");

        // IMAP takes the first, ManageSieve only the next.
        let first = fs::read_to_string(issuer.folder.path().join("token")).unwrap();
        let signed = format!("{KEY:?}.encode()");
        assert!(first.contains(&signed));
        let next = format!(
            "({KEY:?} if len(open(os.path.dirname(sys.argv[0]) + '/calls').readlines()) < 4 else 'another key').encode()"
        );
        issuer.set(&first.replace(&signed, &next));
        let (code, said) = check(&old, &other_door.key());
        assert_eq!((code, issuer.calls().len()), (Some(0), 4), "{kind}: {said}");
    }
    let (none, none_door) = SieveDoor::into(Spec { release: Release::V23, ..Spec::old(&["u1"]) }, "");
    let _none = Dovecot::start(none);
    let (code, said) = check(&new, &none_door.key());
    assert!(code == Some(1) && said.contains("does not take tokens by XOAUTH2; it offers PLAIN, LOGIN"), "{said}");
}

fn unbase64(text: &str) -> String {
    use ::base64::Engine as _;
    String::from_utf8(::base64::engine::general_purpose::STANDARD.decode(text.trim()).unwrap()).unwrap()
}
