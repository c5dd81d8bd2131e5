//! Configuration files: those that must load, and those that must not, each with what it must say.
//!
//! `MAILFERRY_BLESS=1` writes the `.expected` files anew; read what changed before you commit it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mailferry::config::{
    Bodies, Config, Credentials, Enroll, Form, Limits, Master, MasterUser, Security, TlsFiles, TlsVersion, Trust,
    Unmatched, Unreadable, load,
};
use secrecy::ExposeSecret;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn toml_files(name: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no files in {name}");
    files
}

fn valid(name: &str) -> Config {
    load(&folder("tests/config/valid").join(name)).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_valid_file_loads() {
    for path in toml_files("tests/config/valid") {
        load(&path).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn every_invalid_file_says_what_is_wrong_and_where() {
    let mut wrong = Vec::new();
    for path in toml_files("tests/config/invalid") {
        let expected_path = path.with_extension("expected");
        let error = match load(&path) {
            Ok(_) => "loaded".to_owned(),
            Err(error) => error.to_string(),
        };
        let found = error.replace(&format!("{}/", path.parent().unwrap().display()), "") + "\n";
        if std::env::var_os("MAILFERRY_BLESS").is_some() {
            fs::write(&expected_path, &found).unwrap();
        }
        let expected = fs::read_to_string(&expected_path).unwrap_or_default();
        if found != expected {
            wrong.push(format!("{}\n--- expected\n{expected}--- found\n{found}", path.display()));
        }
        assert!(!found.contains("geheim"), "a secret is shown: {found}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_expected_message_has_its_file() {
    for entry in fs::read_dir(folder("tests/config/invalid")).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.with_extension("toml").exists(), "{} is left over", path.display());
    }
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = valid("smallest.toml");
    assert!(config.listen.is_empty() && config.tls.is_none() && config.listen.allow_cleartext.is_empty());
    assert_eq!((config.old.imap.port, config.old.imap.security), (993, Security::Tls));
    assert_eq!((config.new.imap.port, config.new.imap.security), (143, Security::Clear));
    assert_eq!((config.new.target.endpoint.port, config.new.target.endpoint.security), (24245, Security::Clear));
    assert!(config.old.imap.trust == Trust::default() && config.new.target.endpoint.trust == Trust::default());
    assert_eq!(config.users.default_domain, None);
    assert_eq!(config.store.path, Path::new("/var/lib/mailferry/state.db"));
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin.token_file, Path::new("/var/lib/mailferry/admin.token"));
    assert_eq!((config.migration.enroll, config.migration.parallel), (Enroll::None, 4));
    assert_eq!(config.migration.unreadable, Unreadable::Stop);
    assert_eq!((config.migration.pop3_missing, config.migration.pop3_extra), (Unmatched::Stop, Unmatched::Stop));
    assert_eq!(config.migration.hashed_headers, ["Date", "Message-ID"]);
    assert_eq!((config.switch.auto, config.switch.max_pause), (true, Duration::from_secs(2)));
    assert_eq!((config.verify.bodies, config.verify.strict), (Bodies::Sample(100), false));
    assert_eq!((config.limits.connections, config.limits.drain), (10_000, Duration::from_secs(10)));
}

#[test]
fn every_key_arrives() {
    let config = valid("everything.toml");
    let here = folder("tests/config/valid");
    assert_eq!(config.listen.imap, ["127.0.0.1:1143".parse().unwrap(), "[::1]:1143".parse().unwrap()]);
    assert_eq!(config.listen.imaps, ["0.0.0.0:1993".parse().unwrap()]);
    assert_eq!(config.listen.pop3, ["127.0.0.1:1110".parse().unwrap()]);
    assert_eq!(config.listen.pop3s, ["[::]:1995".parse().unwrap()]);
    let networks: Vec<String> = config.listen.allow_cleartext.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["127.0.0.0/8", "::1/128", "fd00::/8"]);
    assert_eq!(config.listen.proxy_protocol, ["10.0.0.0/8".parse().unwrap()]);
    assert!(config.listen.tokens);
    let tls = config.tls.unwrap();
    let pair = |cert: &str, key: &str| (here.join(cert), here.join(key));
    let pairs = |pairs: &[TlsFiles]| -> Vec<(PathBuf, PathBuf)> {
        pairs.iter().map(|pair| (pair.cert.clone(), pair.key.clone())).collect()
    };
    assert_eq!(pairs(&tls.pairs), [pair("cert.pem", "/etc/mailferry/key.pem")]);
    assert_eq!(tls.sni.len(), 2);
    assert_eq!(tls.sni[0].names, ["mail.example.net", "*.example.org"]);
    assert_eq!(pairs(&tls.sni[0].pairs), [pair("ecdsa.pem", "ecdsa.key"), pair("rsa.pem", "rsa.key")]);
    assert_eq!((tls.sni[1].names.as_slice(), tls.sni[1].pairs.len()), (&["imap.example.com".to_owned()][..], 1));
    assert_eq!(
        (config.old.imap.to_string().as_str(), config.old.imap.security),
        ("old.example:1143", Security::StartTls)
    );
    let named = ["anna", "bert@other.example", "Carl"].map(|typed| {
        let canonical = if typed.contains('@') { typed.to_owned() } else { format!("{typed}@example.net") };
        (config.old.names.of(typed, &canonical), config.new.names.of(typed, &canonical))
    });
    let pair = |old: &str, new: &str| (old.to_owned(), new.to_owned());
    assert_eq!(named[0], pair("k0001", "anna@example.net"));
    assert_eq!(named[1], pair("k0002", "bert@other.example"));
    assert_eq!(named[2], pair("carl", "Carl@example.net"));
    assert_eq!((config.new.imap.to_string().as_str(), config.new.imap.security), ("[2001:db8::5]:1993", Security::Tls));
    let old_trust = Trust {
        ca: Some(here.join("old-ca.pem")),
        pin: None,
        name: Some("mail.old.example".to_owned()),
        oldest: TlsVersion::V13,
        client: Some(TlsFiles { cert: here.join("client.pem"), key: here.join("client.key") }),
    };
    assert_eq!(config.old.imap.trust, old_trust);
    assert_eq!(config.new.imap.trust, Trust { ca: Some(here.join("../new-cas")), ..Trust::default() });
    let (old_pop3, new_pop3) = (config.old.pop3.unwrap(), config.new.pop3.unwrap());
    assert_eq!((config.old.imap.proxy_protocol, old_pop3.proxy_protocol), (true, true));
    assert_eq!((config.new.imap.proxy_protocol, new_pop3.proxy_protocol), (false, false));
    assert!(!config.new.target.endpoint.proxy_protocol);
    assert_eq!((old_pop3.to_string().as_str(), old_pop3.security), ("old.example:1110", Security::StartTls));
    assert_eq!(old_pop3.trust, old_trust);
    assert_eq!((new_pop3.to_string().as_str(), new_pop3.security), ("[2001:db8::5]:995", Security::Tls));
    let target = config.new.target.endpoint;
    assert_eq!((target.to_string().as_str(), target.security), ("[2001:db8::5]:12345", Security::StartTls));
    assert_eq!((target.trust.ca, target.trust.pin), (Some(here.join("target-ca.pem")), None));
    assert_eq!(config.new.target.password.expose_secret(), "doveadm secret");
    assert_eq!(config.users.default_domain.as_deref(), Some("example.net"));
    assert_eq!(config.store.path, here.join("state/mailferry.db"));
    assert_eq!(config.admin.listen.to_string(), "[::1]:8081");
    assert_eq!(config.admin.token_file, here.join("admin.token"));
    assert_eq!((config.migration.enroll, config.migration.parallel), (Enroll::Percent(7), 9));
    assert_eq!(config.migration.unreadable, Unreadable::Skip);
    assert_eq!((config.migration.pop3_missing, config.migration.pop3_extra), (Unmatched::Ignore, Unmatched::Ignore));
    assert_eq!(config.migration.hashed_headers, ["Message-ID"]);
    assert_eq!(config.migration.shared_account.as_deref(), Some("Anna@example.net"));
    assert_eq!((config.switch.auto, config.switch.max_pause), (false, Duration::from_millis(1500)));
    assert_eq!(config.switch.wait_for_idle, Duration::from_secs(600));
    assert_eq!(config.switch.rollback_window, Duration::from_secs(21 * 24 * 60 * 60));
    assert_eq!((config.verify.bodies, config.verify.strict), (Bodies::All, true));
    assert_eq!((config.limits.connections, config.limits.drain), (1234, Duration::from_secs(90)));
    let limits = &config.limits;
    assert_eq!((limits.connections_per_address, limits.strangers_per_address, limits.sessions_per_user), (21, 22, 23));
    assert_eq!((limits.logins_per_second, limits.logins_per_second_per_address), (24, 0));
    assert_eq!((limits.login_delay, limits.exempt.len()), (Duration::from_secs(5), 2));
    let doors =
        config.passthrough.iter().map(|door| (door.listen.to_string(), door.to.to_string(), door.to.proxy_protocol));
    let expected = [("0.0.0.0:1587", "old.example:587", false), ("[::1]:4190", "[2001:db8::5]:4190", true)];
    assert_eq!(doors.collect::<Vec<_>>(), expected.map(|(from, to, told)| (from.to_owned(), to.to_owned(), told)));
}

#[test]
fn pins_arrive_where_tls_is_and_nowhere_else() {
    let config = valid("pins.toml");
    let pin = |text: &str| Some(text.parse().unwrap());
    let (old_pop3, new_pop3) = (config.old.pop3.unwrap(), config.new.pop3.unwrap());
    let first = pin("sha256:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff");
    assert_eq!((config.old.imap.trust.pin, old_pop3.trust.pin), (first, first));
    let (old_sieve, new_sieve) = (config.old.sieve.unwrap(), config.new.sieve.unwrap());
    assert_eq!((old_sieve.port, old_sieve.security, old_sieve.trust.pin), (4190, Security::StartTls, first));
    assert_eq!((new_sieve.port, new_sieve.security, new_sieve.trust.pin), (14190, Security::Clear, None));
    assert_eq!((config.new.imap.trust.pin, new_pop3.trust.pin), (None, first), "one of them is in clear");
    assert_eq!(config.new.target.endpoint.security, Security::Tls);
    assert_eq!(config.new.target.endpoint.trust.pin, pin(&format!("sha256:{}", "ab".repeat(32))));
}

#[test]
fn master_users_arrive_in_both_forms() {
    let config = valid("master-users.toml");
    let Some(Master::User(MasterUser { user, form, password })) = config.old.credentials.master() else { panic!() };
    assert_eq!((user.as_str(), *form), ("cyrus@admin", Form::Suffix('%')));
    assert_eq!(password.expose_secret(), b"master secret");
    let Some(Master::User(master)) = config.new.credentials.master() else { panic!() };
    assert_eq!((master.user.as_str(), master.form), ("mover", Form::Authzid));
    let plain = valid("everything.toml");
    assert!(plain.old.credentials.master().is_none() && plain.new.credentials.master().is_none());
}

#[test]
fn an_administrator_who_says_proxyauth_arrives() {
    let config = valid("proxyauth.toml");
    let Some(Master::User(master)) = config.old.credentials.master() else { panic!() };
    assert_eq!((master.user.as_str(), master.form), ("admin", Form::ProxyAuth));
}

#[test]
fn a_master_password_arrives() {
    let config = valid("master-password.toml");
    let Credentials::Master(Master::Password(password)) = &config.old.credentials else { panic!() };
    assert_eq!(password.expose_secret(), b"master secret");
    assert!(matches!(config.new.credentials, Credentials::User));
}

#[test]
fn token_commands_arrive_and_their_arguments_are_not_shown() {
    let config = valid("tokens.toml");
    let [Some(Master::Token(old)), Some(Master::Token(new))] =
        [config.old.credentials.master(), config.new.credentials.master()]
    else {
        panic!()
    };
    assert_eq!((old.mechanism.name(), new.mechanism.name()), ("XOAUTH2", "OAUTHBEARER"));
    assert_eq!((old.is_for_each_user(), new.is_for_each_user()), (true, false));
    assert_eq!(old.arguments("u1").unwrap(), ["--user=u1"]);
    assert!(!format!("{config:?}").contains("geheim"));
}

#[test]
fn realms_arrive_with_the_sides_that_they_leave_out() {
    let config = valid("realms.toml");
    let [one, three] = config.realms.as_slice() else { panic!("{:?}", config.realms) };
    assert_eq!(one.domains, ["one.example", "two.example"]);
    assert_eq!((one.old.imap.host.as_str(), one.new.imap.host.as_str()), ("old.one.example", "10.0.0.5"));
    assert!(one.old.credentials.master().is_some() && config.old.credentials.master().is_none());
    assert_eq!((three.old.imap.host.as_str(), three.new.imap.host.as_str()), ("old.three.example", "10.0.0.6"));
    let within = config.within(one);
    assert_eq!((within.old.imap.host.as_str(), within.domains), ("old.one.example", one.domains.clone()));
    assert_eq!((config.old.imap.host.as_str(), config.domains.len()), ("old.example", 0));
}

#[test]
fn no_password_is_shown() {
    for (file, secrets) in [
        ("everything.toml", &["doveadm secret"][..]),
        ("master-users.toml", &["master secret"]),
        ("master-password.toml", &["master secret"]),
    ] {
        let shown = format!("{:?}", valid(file));
        for secret in secrets {
            // As text, and as octets.
            let octets: Vec<String> = secret.bytes().map(|octet| octet.to_string()).collect();
            assert!(!shown.contains(secret) && !shown.contains(&octets.join(", ")), "{shown}");
        }
    }
}

/// The example file loads as it is shipped, once its secret lies where it says; and so it does with every key that is
/// commented out there switched on.
#[test]
fn the_example_file_loads() {
    let shipped = fs::read_to_string(folder("config/mailferry.toml")).unwrap();
    let place = tempfile::tempdir().unwrap();
    let secret = place.path().join("doveadm.secret");
    fs::write(&secret, "secret\n").unwrap();
    let path = place.path().join("mailferry.toml");
    let load_text = |text: &str| {
        fs::write(&path, text.replace("/etc/mailferry/doveadm.secret", secret.to_str().unwrap())).unwrap();
        load(&path).unwrap_or_else(|error| panic!("{error}"))
    };
    let as_shipped = load_text(&shipped);
    assert!(!as_shipped.listen.is_empty() && as_shipped.tls.is_some());

    // A comment that is a key says its default, so that switching it on changes nothing, but for those that are
    // examples.
    let all_on: Vec<&str> = shipped.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line)).collect();
    let all_on = load_text(&all_on.join("\n"));
    assert_eq!(all_on.users.default_domain.as_deref(), Some("example.net"));
    assert!(all_on.old.imap.trust.ca.is_some() && all_on.old.pop3.is_some() && all_on.new.pop3.is_some());
    assert!(!all_on.listen.pop3.is_empty() && !all_on.listen.pop3s.is_empty());
    assert_eq!((all_on.listen.allow_cleartext.len(), all_on.listen.proxy_protocol.len()), (1, 1));
    assert_eq!(all_on.listen.tokens, as_shipped.listen.tokens);
    assert_eq!(all_on.store, as_shipped.store);
    assert_eq!(all_on.admin, as_shipped.admin);
    assert_eq!(all_on.migration.parallel, as_shipped.migration.parallel);
    assert_eq!(all_on.migration.unreadable, as_shipped.migration.unreadable);
    let unmatched = |config: &Config| (config.migration.pop3_missing, config.migration.pop3_extra);
    assert_eq!(unmatched(&all_on), unmatched(&as_shipped));
    assert_eq!(all_on.migration.hashed_headers, as_shipped.migration.hashed_headers);
    let carrier = |config: &Config| config.migration.shared_account.clone();
    assert_eq!((carrier(&all_on).as_deref(), carrier(&as_shipped)), (Some("postmaster@example.net"), None));
    assert_eq!(all_on.switch, as_shipped.switch);
    assert_eq!(all_on.verify, as_shipped.verify);
    assert_eq!(all_on.limits.exempt.len(), 1);
    assert_eq!(Limits { exempt: vec![], ..all_on.limits }, as_shipped.limits);
    assert_eq!((all_on.passthrough.len(), as_shipped.passthrough.len()), (1, 0));
}

/// Every key that the reader knows is in the example file.
#[test]
fn the_example_file_names_every_key() {
    let shipped = fs::read_to_string(folder("config/mailferry.toml")).unwrap();
    let everything = ["everything.toml", "pins.toml"]
        .map(|name| fs::read_to_string(folder("tests/config/valid").join(name)).unwrap())
        .concat();
    for key in everything.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key) {
        assert!(shipped.contains(&format!("{key} = ")), "{key} is not in the example file");
    }
}
