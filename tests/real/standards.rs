//! What the standards say of a server before and around the login, point by point: a talk for each, as an RFC would print it.
//!
//! `C:` is sent with CRLF behind it, `C;` with LF only. `S:` is one line that must be heard; `*` in it stands for anything.
//! `TLS` begins TLS, and `END` means that the connection is closed and nothing more was said.

use std::time::Duration;

use crate::lab::{Dovecot, Ferry, FerrySpec, Imap, Spec};

/// To which listener a client connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Of a proxy that lets nobody log in without TLS.
    Imap,
    Imaps,
    Pop3,
    Pop3s,
    /// Of one that lets this client do so.
    TrustedImap,
    TrustedPop3,
}

/// A section of a standard, what it is about, and a talk that shows it.
type Point = (&'static str, &'static str, At, &'static str);

const IMAP: &[Point] = &[
    (
        "RFC 9051 §2.2.1",
        "each command is answered under its own tag, the tag's case kept",
        At::Imap,
        "S: * OK *\nC: aB1 NOOP\nS: aB1 OK *\nC: x.2 NOOP\nS: x.2 OK *",
    ),
    (
        "RFC 9051 §2.2.1",
        "what has no tag is BAD, and the next command is as good as before",
        At::Imap,
        "S: * OK *\nC: \nS: * BAD *\nC: * NOOP\nS: * BAD *\nC: a NOOP\nS: a OK *",
    ),
    ("RFC 9051 §2.2.2", "an unknown command is BAD", At::Imap, "S: * OK *\nC: a XYZZY 1\nS: a BAD *"),
    (
        "RFC 9051 §3",
        "commands of another state are BAD",
        At::Imap,
        "S: * OK *\nC: a SELECT INBOX\nS: a BAD *\nC: b FETCH 1 FLAGS\nS: b BAD *\nC: c IDLE\nS: c BAD *",
    ),
    (
        "RFC 9051 §4.3",
        "a literal waits for the server's go-ahead",
        At::Imaps,
        "S: * OK *\nC: a LOGIN {2}\nS: + *\nC: u1 {8}\nS: + *\nC: pw-of-u1\nS: a OK *",
    ),
    (
        "RFC 9051 §4.3",
        "a literal may hold line ends and quotes, or nothing",
        At::Imaps,
        "S: * OK *\nC: a LOGIN u1 {0}\nS: + *\nC: \nS: a NO *\nC: b LOGIN u1 {4}\nS: + *\nC: p\nC: \"\nS: b NO *",
    ),
    (
        "RFC 9051 §5.1",
        "a quoted string may hold what a backslash stands before",
        At::Imaps,
        "S: * OK *\nC: a LOGIN \"u1\" \"p\\\"w\\\\\"\nS: a NO *\nC: b LOGIN \"u1\" \"pw-of-u1\"\nS: b OK *",
    ),
    (
        "RFC 9051 §5.5",
        "commands may be sent without waiting, and are answered in order",
        At::Imaps,
        "S: * OK *\nC: a NOOP\nC: b LOGIN u1 pw-of-u1\nC: c NOOP\nC: d LOGOUT\n\
         S: a OK *\nS: b OK *\nS: c OK *\nS: * BYE *\nS: d OK *\nEND",
    ),
    (
        "RFC 9051 §6.1.1",
        "CAPABILITY names the protocol, and is the same as the greeting's",
        At::Imap,
        "S: * OK [CAPABILITY IMAP4rev1 LITERAL- SASL-IR ID STARTTLS LOGINDISABLED] *\nC: a CAPABILITY\n\
         S: * CAPABILITY IMAP4rev1 LITERAL- SASL-IR ID STARTTLS LOGINDISABLED\nS: a OK *",
    ),
    ("RFC 9051 §6.1.1", "CAPABILITY takes no argument", At::Imap, "S: * OK *\nC: a CAPABILITY x\nS: a BAD *"),
    (
        "RFC 9051 §6.1.3",
        "LOGOUT: BYE, then OK, then the end",
        At::Imap,
        "S: * OK *\nC: a LOGOUT\nS: * BYE *\nS: a OK *\nEND",
    ),
    (
        "RFC 9051 §6.2.1",
        "after STARTTLS the client asks anew, and what is offered is another",
        At::Imap,
        "S: * OK [CAPABILITY * STARTTLS LOGINDISABLED] *\nC: a STARTTLS\nS: a OK *\nTLS\nC: b CAPABILITY\n\
         S: * CAPABILITY IMAP4rev1 LITERAL- SASL-IR ID AUTH=PLAIN AUTH=LOGIN*\nS: b OK *\nC: c STARTTLS\nS: c BAD *\n\
         C: d LOGIN u1 pw-of-u1\nS: d OK *",
    ),
    (
        "RFC 9051 §11.3",
        "inside TLS from the start no STARTTLS is offered, nor taken",
        At::Imaps,
        "S: * OK [CAPABILITY IMAP4rev1 LITERAL- SASL-IR ID AUTH=PLAIN AUTH=LOGIN*] *\nC: a STARTTLS\nS: a BAD *",
    ),
    (
        "RFC 9051 §6.2.2",
        "AUTHENTICATE: a challenge, a response, an end",
        At::Imaps,
        "S: * OK *\nC: a AUTHENTICATE PLAIN\nS: + \nC: AHUxAHB3LW9mLXUx\nS: a OK *",
    ),
    (
        "RFC 9051 §6.2.2",
        "a client cancels with *, and that is BAD",
        At::Imaps,
        "S: * OK *\nC: a AUTHENTICATE PLAIN\nS: + \nC: *\nS: a BAD *\nC: b AUTHENTICATE LOGIN\nS: + *\nC: *\nS: b BAD *\n\
         C: c LOGIN u1 pw-of-u1\nS: c OK *",
    ),
    (
        "RFC 9051 §6.2.2",
        "no base64 is BAD, an unknown mechanism is NO, and both leave the connection as it was",
        At::Imaps,
        "S: * OK *\nC: a AUTHENTICATE PLAIN\nS: + \nC: a NOOP\nS: a BAD *\nC: b AUTHENTICATE CRAM-MD5\nS: b NO *\n\
         C: c AUTHENTICATE PLAIN AHUxAHB3LW9mLXUx\nS: c OK *",
    ),
    (
        "RFC 4959 §3",
        "an initial response may come with the command; = is an empty one",
        At::Imaps,
        "S: * OK [CAPABILITY * SASL-IR *] *\nC: a AUTHENTICATE PLAIN =\nS: a BAD *\n\
         C: b AUTHENTICATE PLAIN AHUxAHB3LW9mLXUx\nS: b OK *",
    ),
    (
        "RFC 4616 §2",
        "an authorization identity may be one's own name; three parts, no more",
        At::Imaps,
        "S: * OK *\nC: a AUTHENTICATE PLAIN AHUxAHB3AHg=\nS: a BAD *\nC: b AUTHENTICATE PLAIN dTEAdTEAcHctb2YtdTE=\nS: b OK *",
    ),
    (
        "RFC 9051 §6.2.3",
        "LOGINDISABLED is enforced, whatever the way",
        At::Imap,
        "S: * OK [CAPABILITY * LOGINDISABLED] *\nC: a LOGIN u1 pw-of-u1\nS: a NO [PRIVACYREQUIRED] *\n\
         C: b LOGIN {2}\nS: b NO [PRIVACYREQUIRED] *\nC: c AUTHENTICATE PLAIN AHUxAHB3LW9mLXUx\nS: c NO [PRIVACYREQUIRED] *\n\
         C: d AUTHENTICATE LOGIN\nS: d NO [PRIVACYREQUIRED] *",
    ),
    (
        "RFC 5530 §3",
        "a wrong password is AUTHENTICATIONFAILED, and the next one may be right",
        At::Imaps,
        "S: * OK *\nC: a LOGIN u1 wrong\nS: a NO [AUTHENTICATIONFAILED] *\nC: b LOGIN u1 pw-of-u1\nS: b OK *",
    ),
    (
        "RFC 9051 §7.1",
        "the OK of a login tells what is offered now",
        At::TrustedImap,
        "S: * OK *\nC: a LOGIN u1 pw-of-u1\nS: a OK [CAPABILITY IMAP4rev1 * IDLE *] *",
    ),
    (
        "RFC 9051 §6.2.3",
        "where it is allowed a login needs no TLS, but TLS is offered",
        At::TrustedImap,
        "S: * OK [CAPABILITY IMAP4rev1 LITERAL- SASL-IR ID STARTTLS AUTH=PLAIN AUTH=LOGIN*] *\nC: a LOGIN u1 pw-of-u1\nS: a OK *",
    ),
    (
        "RFC 7888 §5",
        "LITERAL-: a short literal may come unasked",
        At::Imaps,
        "S: * OK [CAPABILITY * LITERAL- *] *\nC: a LOGIN {2+}\nC: u1 {8+}\nC: pw-of-u1\nS: a OK *",
    ),
    (
        "RFC 7888 §4",
        "one that is too long is refused, and since its octets are on the way the connection ends",
        At::Imaps,
        "S: * OK *\nC: a LOGIN {4097+}\nS: a BAD [TOOBIG] *\nS: * BYE *\nEND",
    ),
    (
        "RFC 7888 §4",
        "one that waits is refused and nothing is lost",
        At::Imaps,
        "S: * OK *\nC: a LOGIN {4294967296}\nS: a NO [TOOBIG] *\nC: b NOOP\nS: b OK *",
    ),
    (
        "RFC 2971 §3",
        "ID with and without fields, before and after the login",
        At::Imaps,
        "S: * OK [CAPABILITY * ID *] *\nC: a ID NIL\nS: * ID (\"name\" \"mailferry\")\nS: a OK *\n\
         C: b ID (\"name\" \"x\" \"version\" NIL)\nS: * ID *\nS: b OK *\nC: c ID x\nS: c BAD *\n\
         C: d LOGIN u1 pw-of-u1\nS: d OK *\nC: e ID NIL\nS: * ID *\nS: e OK *",
    ),
    (
        "RFC 2177 §3",
        "IDLE goes on until DONE",
        At::Imaps,
        "S: * OK *\nC: a LOGIN u1 pw-of-u1\nS: a OK *\nC: b IDLE\nS: + *\nC: DONE\nS: b OK *",
    ),
    (
        "RFC 9051 §2.2",
        "a line may end with LF alone, as old clients have it",
        At::Imaps,
        "S: * OK *\nC; a NOOP\nS: a OK *\nC; b LOGIN u1 pw-of-u1\nS: b OK *",
    ),
];

const POP3: &[Point] = &[
    ("RFC 1939 §3", "keywords have no case", At::Pop3s, "S: +OK *\nC: uSeR u1\nS: +OK*\nC: pass pw-of-u1\nS: +OK *"),
    (
        "RFC 1939 §3",
        "unknown commands, and those of another state, are -ERR",
        At::Pop3s,
        "S: +OK *\nC: XYZZY\nS: -ERR *\nC: STAT\nS: -ERR *\nC: \nS: -ERR *\nC: USER u1\nS: +OK*\nC: PASS pw-of-u1\nS: +OK *",
    ),
    ("RFC 1939 §4", "QUIT before a login ends the connection", At::Pop3, "S: +OK *\nC: QUIT\nS: +OK *\nEND"),
    (
        "RFC 1939 §7",
        "PASS follows USER, and its blanks are the password's",
        At::Pop3s,
        "S: +OK *\nC: PASS x\nS: -ERR *\nC: USER u1\nS: +OK*\nC: PASS  pw-of-u1\nS: -ERR *\nC: USER u1\nS: +OK*\n\
         C: PASS pw-of-u1\nS: +OK *",
    ),
    (
        "RFC 1939 §7",
        "no timestamp in the greeting, and no APOP",
        At::Pop3s,
        "S: +OK mailferry ready.\nC: APOP u1 c4c9334bac560ecc979e58001b3e22fb\nS: -ERR *\nC: QUIT\nS: +OK *\nEND",
    ),
    (
        "RFC 2449 §5",
        "CAPA says before the login what can be done",
        At::Pop3,
        "S: +OK *\nC: CAPA\nS: +OK*\nS: CAPA\nS: TOP\nS: UIDL\nS: RESP-CODES\nS: PIPELINING\nS: AUTH-RESP-CODE\nS: STLS\nS: .",
    ),
    (
        "RFC 2449 §5",
        "and after it what the mail server offers",
        At::TrustedPop3,
        "S: +OK *\nC: USER u1\nS: +OK*\nC: PASS pw-of-u1\nS: +OK *\nC: CAPA\nS: +OK*\nS: CAPA\nS: TOP\nS: UIDL\nS: RESP-CODES\n\
         S: PIPELINING\nS: AUTH-RESP-CODE\nS: .",
    ),
    (
        "RFC 2449 §6.8",
        "PIPELINING: commands behind the login are answered in order",
        At::Pop3s,
        "S: +OK *\nC: USER u1\nC: PASS pw-of-u1\nC: STAT\nC: NOOP\nC: QUIT\nS: +OK*\nS: +OK *\nS: +OK 0 0\nS: +OK*\nS: +OK *\nEND",
    ),
    (
        "RFC 2449 §8, RFC 3206 §4",
        "a wrong password is [AUTH], missing TLS is not",
        At::Pop3,
        "S: +OK *\nC: USER u1\nS: -ERR Logging in needs TLS.\nC: STLS\nS: +OK *\nTLS\nC: USER u1\nS: +OK*\nC: PASS wrong\n\
         S: -ERR [AUTH] *\nC: USER u1\nS: +OK*\nC: PASS pw-of-u1\nS: +OK *",
    ),
    (
        "RFC 2595 §4",
        "STLS once, before the login, and what was offered is asked for anew",
        At::Pop3,
        "S: +OK *\nC: STLS\nS: +OK *\nTLS\nC: CAPA\nS: +OK*\nS: CAPA\nS: TOP\nS: UIDL\nS: RESP-CODES\nS: PIPELINING\n\
         S: AUTH-RESP-CODE\nS: USER\nS: SASL PLAIN LOGIN*\nS: .\nC: STLS\nS: -ERR *",
    ),
    (
        "RFC 8314 §3.2",
        "inside TLS from the start there is no STLS",
        At::Pop3s,
        "S: +OK *\nC: STLS\nS: -ERR *\nC: USER u1\nS: +OK*\nC: PASS pw-of-u1\nS: +OK *",
    ),
    (
        "RFC 5034 §4",
        "AUTH with an initial response, and without one",
        At::Pop3s,
        "S: +OK *\nC: AUTH PLAIN =\nS: -ERR *\nC: AUTH PLAIN\nS: + \nC: AHUxAHB3LW9mLXUx\nS: +OK *",
    ),
    (
        "RFC 5034 §4",
        "a client cancels with *, an unknown mechanism is -ERR",
        At::Pop3s,
        "S: +OK *\nC: AUTH PLAIN\nS: + \nC: *\nS: -ERR *\nC: AUTH CRAM-MD5\nS: -ERR *\nC: AUTH PLAIN AHUxAHB3LW9mLXUx\nS: +OK *",
    ),
    (
        "RFC 5034 §4",
        "no mechanism with a password is offered or taken without TLS",
        At::Pop3,
        "S: +OK *\nC: AUTH\nS: +OK*\nS: .\nC: AUTH PLAIN AHUxAHB3LW9mLXUx\nS: -ERR *\nC: AUTH LOGIN\nS: -ERR *",
    ),
    (
        "RFC 1939 §6",
        "QUIT after the login ends the session",
        At::Pop3s,
        "S: +OK *\nC: USER u1\nS: +OK*\nC: PASS pw-of-u1\nS: +OK *\nC: QUIT\nS: +OK *\nEND",
    ),
];

/// Whether `text` is what `pattern` says.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, rest)) => text
            .strip_prefix(before)
            .is_some_and(|text| (0..=text.len()).any(|at| text.is_char_boundary(at) && fits(rest, &text[at..]))),
    }
}

/// The pattern of a line: its first two characters may be the `* ` of an untagged response.
fn heard_fits(pattern: &str, text: &str) -> bool {
    match pattern.strip_prefix("* ") {
        Some(rest) => text.strip_prefix("* ").is_some_and(|text| fits(rest, text)),
        None => fits(pattern, text),
    }
}

/// Two proxies before one server: one wants TLS before a login.
struct Bench {
    strict: Ferry,
    trusting: Ferry,
    _server: Dovecot,
}

impl Bench {
    fn start() -> Self {
        let no_penalty = "service anvil {\n  unix_listener anvil-auth-penalty {\n    mode = 0\n  }\n}\n";
        let extra = format!("auth_failure_delay = 0\n{no_penalty}");
        let server = Dovecot::start(Spec { extra, ..Spec::old(&["u1"]) });
        // Nobody is enrolled, and where the new side should be nothing listens.
        let one_sided = || FerrySpec {
            enroll: "none",
            new_imap: Some("imap://127.0.0.1:9".to_owned()),
            pop3: true,
            new_pop3: Some("pop3://127.0.0.1:9".to_owned()),
            ..FerrySpec::between(&server, &server)
        };
        let trusting = Ferry::start(one_sided());
        let mut strict = Ferry::prepare(one_sided());
        let config = strict.config_text();
        let nobody = config.replace("allow_cleartext = [\"127.0.0.0/8\"]", "allow_cleartext = [\"192.0.2.0/24\"]");
        assert_ne!(config, nobody);
        std::fs::write(strict.config_path(), nobody).unwrap();
        strict.start_again();
        Self { strict, trusting, _server: server }
    }

    /// (What it says is the same for POP3: a stream of lines.)
    fn connect(&self, at: At) -> Imap {
        const HERE: &str = "127.0.0.1";
        let ca = &self.strict.tls().ca;
        match at {
            At::Imap => Imap::connect_silently(HERE, self.strict.imap()),
            At::Imaps => Imap::connect_tls_silently(HERE, self.strict.imaps(), ca),
            At::Pop3 => Imap::connect_silently(HERE, self.strict.pop3()),
            At::Pop3s => Imap::connect_tls_silently(HERE, self.strict.pop3s(), ca),
            At::TrustedImap => Imap::connect_silently(HERE, self.trusting.imap()),
            At::TrustedPop3 => Imap::connect_silently(HERE, self.trusting.pop3()),
        }
    }

    /// Has the talk; what was heard against it.
    fn talk(&self, at: At, talk: &str) -> Result<(), String> {
        let mut client = self.connect(at);
        for line in talk.lines() {
            let text = line.get(3..).unwrap_or_default();
            match line.split([' ', ':', ';']).next() {
                Some("C") => {
                    let end = if line.starts_with("C;") { "\n" } else { "\r\n" };
                    client.send(format!("{text}{end}").as_bytes());
                }
                Some("S") => {
                    let heard = client.try_line().map(|line| String::from_utf8_lossy(&line).into_owned());
                    if !heard.as_deref().is_some_and(|heard| heard_fits(text, heard)) {
                        return Err(format!("expected {text:?}, heard {heard:?}"));
                    }
                }
                Some("TLS") => client = client.encrypted(&self.strict.tls().ca),
                Some("END") => {
                    let (more, ended) = client.read_to_end(Duration::from_secs(60));
                    if !more.is_empty() || !ended {
                        return Err(format!("expected the end, heard {:?}", more.escape_ascii().to_string()));
                    }
                }
                _ => panic!("no line of a talk: {line:?}"),
            }
        }
        Ok(())
    }

    fn all(&self, points: &[Point]) {
        let (told, tell) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            for part in points.chunks(8) {
                let told = told.clone();
                scope.spawn(move || {
                    for (section, what, at, talk) in part {
                        if let Err(why) = self.talk(*at, talk) {
                            told.send(format!("{section}: {what} ({at:?}): {why}")).unwrap();
                        }
                    }
                });
            }
        });
        drop(told);
        let broken: Vec<String> = tell.iter().collect();
        assert!(broken.is_empty(), "{}", broken.join("\n"));
    }
}

#[test]
fn imap_is_spoken_as_its_standards_say() {
    Bench::start().all(IMAP);
}

#[test]
fn pop3_is_spoken_as_its_standards_say() {
    Bench::start().all(POP3);
}

#[test]
fn patterns_fit_what_they_should() {
    for (pattern, text, fit) in [
        ("* OK *", "* OK ready", true),
        ("* OK *", "a OK ready", false),
        ("a OK *", "a OK [X] y", true),
        ("a OK *", "a OK", false),
        ("+ ", "+ ", true),
        ("+ ", "+ x", false),
        ("+OK*", "+OK", true),
        ("* BYE *", "* BYE", false),
        ("a NO [X * Z] *", "a NO [X Y Z] no", true),
        ("a NO [X * Z] *", "a NO [X Z] no", false),
    ] {
        assert_eq!(heard_fits(pattern, text), fit, "{pattern} {text}");
    }
}
