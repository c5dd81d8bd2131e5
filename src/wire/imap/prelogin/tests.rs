//! The talk before login, line by line.

use super::{Action, COMMAND_MAX, FAULTS_MAX, INPUT_MAX, LINE_MAX, LITERAL_MAX, Login, PreLogin, PreLoginConfig};
use imap_codec::decode::Decoder as _;
use imap_codec::imap_types::command::CommandBody;
use proptest::prelude::*;

const CLEAR: PreLoginConfig =
    PreLoginConfig { tls_available: true, tls_active: false, cleartext_allowed: false, tokens: false };
const TRUSTED: PreLoginConfig =
    PreLoginConfig { tls_available: false, tls_active: false, cleartext_allowed: true, tokens: false };
const TLS: PreLoginConfig =
    PreLoginConfig { tls_available: false, tls_active: true, cleartext_allowed: false, tokens: false };

/// All actions that `input`, in pieces of `size`, leads to.
fn actions(machine: &mut PreLogin, input: &[u8], size: usize) -> Vec<Action> {
    let mut actions = Vec::new();
    for piece in input.chunks(size.min(INPUT_MAX)) {
        machine.input(piece);
        while let Some(action) = machine.next() {
            actions.push(action);
        }
    }
    actions
}

/// What the client hears; a login, a TLS start and a close are shown in angle brackets.
fn talk(machine: &mut PreLogin, input: &[u8]) -> String {
    actions(machine, input, INPUT_MAX).iter().map(shown).collect()
}

fn shown(action: &Action) -> String {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    match action {
        Action::Reply(words) => text(words),
        Action::StartTls => "<tls>".to_owned(),
        Action::Login(Login { tag, user, authzid, password, bearer: _ }) => {
            let authzid = authzid.as_deref().unwrap_or("-");
            format!("<{tag} {user} {authzid} {}>", password.escape_ascii())
        }
        Action::Close(words) => format!("{}<close>", text(words)),
    }
}

fn fresh(config: PreLoginConfig, input: &[u8]) -> String {
    talk(&mut PreLogin::new(config), input)
}

#[test]
fn greetings_say_what_is_true() {
    for (config, capabilities) in [
        (CLEAR, "IMAP4rev1 LITERAL- SASL-IR ID STARTTLS LOGINDISABLED"),
        (TRUSTED, "IMAP4rev1 LITERAL- SASL-IR ID AUTH=PLAIN AUTH=LOGIN"),
        (TLS, "IMAP4rev1 LITERAL- SASL-IR ID AUTH=PLAIN AUTH=LOGIN"),
    ] {
        let mut machine = PreLogin::new(config);
        let greeting = String::from_utf8(machine.greeting()).unwrap();
        assert_eq!(greeting, format!("* OK [CAPABILITY {capabilities}] mailferry ready.\r\n"));
        let answer = talk(&mut machine, b"a CAPABILITY\r\n");
        assert_eq!(answer, format!("* CAPABILITY {capabilities}\r\na OK CAPABILITY completed.\r\n"));
    }
}

#[test]
fn commands_that_need_no_login() {
    for (input, answer) in [
        ("a NOOP\r\n", "a OK NOOP completed.\r\n"),
        ("a noop \n", "a OK NOOP completed.\r\n"),
        ("a ID NIL\r\n", "* ID (\"name\" \"mailferry\")\r\na OK ID completed.\r\n"),
        ("a ID (\"name\" \"x\" \"os\" NIL)\r\n", "* ID (\"name\" \"mailferry\")\r\na OK ID completed.\r\n"),
        ("a ID ({4+}\r\nname {1+}\r\nx)\r\n", "* ID (\"name\" \"mailferry\")\r\na OK ID completed.\r\n"),
        ("a ID ({4}\r\nname {1}\r\nx)\r\n", "+ OK\r\n+ OK\r\n* ID (\"name\" \"mailferry\")\r\na OK ID completed.\r\n"),
        ("a LOGOUT\r\nb NOOP\r\n", "* BYE Logging out\r\na OK LOGOUT completed.\r\n<close>"),
        ("a NOOP\r\nb NOOP\r\n", "a OK NOOP completed.\r\nb OK NOOP completed.\r\n"),
    ] {
        assert_eq!(fresh(CLEAR, input.as_bytes()), answer, "{input}");
    }
}

#[test]
fn what_is_not_understood_is_bad() {
    let refused = " BAD The command is unknown, has wrong arguments, or needs a login first.\r\n";
    for input in
        ["a SELECT INBOX\r\n", "a\r\n", "a FOO {3+}\r\nabc\r\n", "a NOOP x\r\n", "a SELECT {5}\r\n", "a ID (\r\n"]
    {
        assert_eq!(fresh(TLS, input.as_bytes()), format!("a{refused}"), "{input}");
    }
    for input in ["\r\n", " \r\n", "+ NOOP\r\n", "a* NOOP\r\n", "\"a\" NOOP\r\n", "\u{e4} NOOP\r\n", "a\0 NOOP\r\n"] {
        assert_eq!(fresh(TLS, input.as_bytes()), "* BAD The line doesn't start with a tag.\r\n", "{input:?}");
    }
    // A refused literal's octets are not sent; the next line is a command.
    let answer = fresh(TLS, b"a SELECT {5}\r\nb NOOP\r\n");
    assert!(answer.ends_with("b OK NOOP completed.\r\n"), "{answer}");
}

#[test]
fn all_ways_to_write_a_login() {
    for (input, login) in [
        (&b"a LOGIN me secret\r\n"[..], "<a me - secret>"),
        (b"a login \"me\" \"se cr\\\"e\\\\t\"\r\n", "<a me - se cr\\\"e\\\\t>"),
        (b"a LOGIN {2}\r\nme {6}\r\nsecret\r\n", "+ OK\r\n+ OK\r\n<a me - secret>"),
        (b"a LOGIN {2+}\r\nme {6+}\r\nsecret\r\n", "<a me - secret>"),
        (b"a LOGIN {2+}\nme \"\"\n", "<a me - >"),
        (b"a LOGIN me {0}\r\n\r\n", "+ OK\r\n<a me - >"),
        (b"a LOGIN  me  pa(s%*{]s \r\n", "<a me - pa(s%*{]s>"),
        (b"a LOGIN \"me\" \"p\xe4ss\"\r\n", "<a me - p\\xe4ss>"),
        (b"a LOGIN me p\xc3\xa4ss\r\n", "<a me - p\\xc3\\xa4ss>"),
        (b"a LOGIN me {4+}\r\np\r\n\"\r\n", "<a me - p\\r\\n\\\">"),
        (b"a LOGIN m\xc3\xa9@x.y NIL\r\n", "<a m\u{e9}@x.y - NIL>"),
        (b"a AUTHENTICATE PLAIN AG1lAHNlY3JldA==\r\n", "<a me - secret>"),
        (b"a authenticate plain AG1lAHNlY3JldA\r\n", "<a me - secret>"),
        (b"a AUTHENTICATE PLAIN\r\nAG1lAHNlY3JldA==\r\n", "+ \r\n<a me - secret>"),
        (b"a AUTHENTICATE PLAIN dTEAbWFzdGVyAHNlY3JldA==\r\n", "<a master u1 secret>"),
        (b"a AUTHENTICATE LOGIN\r\nbWU=\r\nc2VjcmV0\r\n", "+ VXNlcm5hbWU6\r\n+ UGFzc3dvcmQ6\r\n<a me - secret>"),
        (b"a authenticate login bWU=\r\nc2VjcmV0\r\n", "+ UGFzc3dvcmQ6\r\n<a me - secret>"),
    ] {
        let shown = input.escape_ascii();
        assert_eq!(fresh(TLS, input), login, "{shown}");
        assert_eq!(fresh(TRUSTED, input), login, "{shown}");
    }
}

#[test]
fn what_is_no_login() {
    let arguments = "a BAD LOGIN takes a user name and a password.\r\n";
    let user = "a BAD The user name is empty, too long, not UTF-8 or has control characters.\r\n";
    for (input, answer) in [
        (&b"a LOGIN me\r\n"[..], arguments),
        (b"a LOGIN\r\n", arguments),
        (b"a LOGIN me secret more\r\n", arguments),
        (b"a LOGIN \"me secret\r\n", arguments),
        (b"a LOGIN \"me\"secret\r\n", arguments),
        (b"a LOGIN me \"secret\\\r\n", arguments),
        (b"a LOGIN {2+}\r\nmesecret\r\n", arguments),
        (b"a LOGIN {2x me\r\n", arguments),
        (b"a LOGIN \"\" secret\r\n", user),
        (b"a LOGIN \"a\tb\" secret\r\n", user),
        (b"a LOGIN m\xe9 secret\r\n", user),
        (b"a LOGIN me {3+}\r\na\0b\r\n", "a BAD The password holds a NUL.\r\n"),
        (b"a AUTHENTICATE CRAM-MD5\r\n", "a NO Unsupported authentication mechanism.\r\n"),
        (b"a AUTHENTICATE\r\n", "a NO Unsupported authentication mechanism.\r\n"),
        (b"a AUTHENTICATE PLAIN AA== x\r\n", "a BAD Too many arguments.\r\n"),
        (b"a AUTHENTICATE PLAIN =\r\n", "a BAD Invalid SASL response: not a PLAIN message of three parts.\r\n"),
        (b"a AUTHENTICATE PLAIN !\r\n", "a BAD Invalid SASL response: invalid base64.\r\n"),
        (b"a AUTHENTICATE PLAIN\r\n*\r\n", "+ \r\na BAD Authentication cancelled.\r\n"),
        (b"a AUTHENTICATE LOGIN\r\n*\r\n", "+ VXNlcm5hbWU6\r\na BAD Authentication cancelled.\r\n"),
        (b"a AUTHENTICATE LOGIN bWU=\r\n*\r\n", "+ UGFzc3dvcmQ6\r\na BAD Authentication cancelled.\r\n"),
        (b"a AUTHENTICATE PLAIN\r\nb NOOP\r\n", "+ \r\na BAD Invalid SASL response: invalid base64.\r\n"),
        (b"a AUTHENTICATE PLAIN\r\n{5}\r\n", "+ \r\na BAD Invalid base64 data in SASL response.\r\n"),
    ] {
        let mut machine = PreLogin::new(TLS);
        assert_eq!(talk(&mut machine, input), answer, "{}", input.escape_ascii());
        // And it goes on.
        assert_eq!(talk(&mut machine, b"z NOOP\r\n"), "z OK NOOP completed.\r\n", "{}", input.escape_ascii());
    }
}

#[test]
fn without_tls_no_password_is_asked_for() {
    let refused = "a NO [PRIVACYREQUIRED] Logging in needs TLS.\r\n";
    for input in [
        "a LOGIN me secret\r\n",
        "a LOGIN {2+}\r\nme {6+}\r\nsecret\r\n",
        "a LOGIN {2}\r\n",
        "a AUTHENTICATE PLAIN\r\n",
        "a AUTHENTICATE PLAIN AG1lAHNlY3JldA==\r\n",
    ] {
        assert_eq!(fresh(CLEAR, input.as_bytes()), refused, "{input}");
    }
}

#[test]
fn what_stands_behind_starttls_is_thrown_away() {
    let mut machine = PreLogin::new(CLEAR);
    let heard = talk(&mut machine, b"a STARTTLS\r\nb LOGIN evil evil\r\nc NOOP\r\n");
    assert_eq!(heard, "a OK Begin TLS negotiation now.\r\n<tls>");
    // What comes in before TLS is up is nobody's either.
    assert_eq!(talk(&mut machine, b"d LOGIN evil evil\r\n"), "");
    machine.tls_started();
    assert_eq!(talk(&mut machine, b"e LOGIN me secret\r\n"), "<e me - secret>");

    let mut machine = PreLogin::new(CLEAR);
    talk(&mut machine, b"a STARTTLS\r\n");
    machine.tls_started();
    assert_eq!(talk(&mut machine, b"b STARTTLS\r\n"), "b BAD TLS is active already.\r\n");
    assert!(
        talk(&mut machine, b"c CAPABILITY\r\n")
            .starts_with("* CAPABILITY IMAP4rev1 LITERAL- SASL-IR ID AUTH=PLAIN AUTH=LOGIN\r\n")
    );
    assert_eq!(fresh(TRUSTED, b"a STARTTLS\r\n"), "a BAD TLS is not available here.\r\n");
}

#[test]
fn what_is_pipelined_behind_a_login_waits_for_its_end() {
    let mut machine = PreLogin::new(TLS);
    assert_eq!(talk(&mut machine, b"a LOGIN me wrong\r\nb LOGIN me right\r\nc SELECT INBOX\r\nd "), "<a me - wrong>");
    machine.login_failed(b"a NO [AUTHENTICATIONFAILED] No.\r\n");
    assert_eq!(talk(&mut machine, b"NOOP"), "a NO [AUTHENTICATIONFAILED] No.\r\n<b me - right>");
    assert_eq!(machine.into_pipelined().as_slice(), b"c SELECT INBOX\r\nd NOOP");
}

#[test]
fn over_long_lines_close() {
    let mut input = b"a NOOP ".to_vec();
    input.resize(LINE_MAX as usize + 1, b'x');
    let words = "a BAD [TOOBIG] The command line is too long.\r\n* BYE The command line is too long.\r\n<close>";
    assert_eq!(fresh(TLS, &input), words);
    // Without an end in sight, and without a tag.
    let mut machine = PreLogin::new(TLS);
    let heard: Vec<Action> = actions(&mut machine, &vec![b'x'; 1 << 20], INPUT_MAX);
    let words = "* BAD [TOOBIG] The command line is too long.\r\n* BYE The command line is too long.\r\n<close>";
    assert_eq!(heard.iter().map(shown).collect::<String>(), words);
    assert_eq!(machine.buffer.len(), 0);
    // The longest that is allowed.
    let mut input = b"a LOGIN me ".to_vec();
    input.resize(LINE_MAX as usize - 2, b'x');
    input.extend_from_slice(b"\r\n");
    assert!(fresh(TLS, &input).starts_with("<a me - xxx"));
}

#[test]
fn over_large_literals_are_refused() {
    for size in [LITERAL_MAX + 1, 99_999_999, u64::MAX] {
        let mut machine = PreLogin::new(TLS);
        let heard = talk(&mut machine, format!("a LOGIN me {{{size}}}\r\nb NOOP\r\n").as_bytes());
        assert_eq!(heard, "a NO [TOOBIG] The literal is too long.\r\nb OK NOOP completed.\r\n");
        let heard = fresh(TLS, format!("a LOGIN me {{{size}+}}\r\nb NOOP\r\n").as_bytes());
        assert_eq!(heard, "a BAD [TOOBIG] The literal is too long.\r\n* BYE The literal is too long.\r\n<close>");
    }
    // Many small ones are large together.
    let piece = format!("{{{LITERAL_MAX}+}}\r\n{}", "x".repeat(LITERAL_MAX as usize));
    let input = format!("a ID ({})\r\n", vec![piece; 5].join(" "));
    assert!(input.len() as u64 > COMMAND_MAX);
    assert!(fresh(TLS, input.as_bytes()).ends_with("<close>"));
}

#[test]
fn a_driver_that_reads_too_much_ends_the_connection() {
    let mut machine = PreLogin::new(TLS);
    machine.input(b"a LOGIN me secret\r\n");
    assert!(matches!(machine.next(), Some(Action::Login(_))));
    for _ in 0..100 {
        machine.input(&[b'x'; 4096]);
    }
    assert_eq!(machine.next(), Some(Action::Close(b"* BYE too much input\r\n".to_vec())));
    assert_eq!(machine.buffer.len(), 0);
}

#[test]
fn too_many_faults_close() {
    let mut machine = PreLogin::new(TLS);
    for _ in 1..FAULTS_MAX {
        assert!(!talk(&mut machine, b"a FOO\r\nb NOOP\r\n").contains("<close>"));
    }
    assert!(talk(&mut machine, b"a FOO\r\n").ends_with("* BYE Too many failed commands.\r\n<close>"));
    // Failed logins count as well.
    let mut machine = PreLogin::new(TLS);
    let mut heard = String::new();
    for _ in 0..FAULTS_MAX {
        heard = talk(&mut machine, b"a LOGIN me wrong\r\n");
        assert!(heard.ends_with("<a me - wrong>"), "{heard}");
        machine.login_failed(b"a NO No.\r\n");
        heard = talk(&mut machine, b" ");
    }
    assert_eq!(heard, "a NO No.\r\n* BYE Too many failed commands.\r\n<close>");
}

#[test]
fn passwords_stay_out_of_debug() {
    let mut machine = PreLogin::new(TLS);
    let heard = actions(&mut machine, b"a LOGIN me hunter2\r\nb NOOP\r\n", INPUT_MAX);
    assert!(!format!("{heard:?} {machine:?}").contains("hunter2"));
    assert_eq!(machine.into_pipelined().as_slice(), b"b NOOP\r\n");
}

/// Lines with everything that the machine looks at.
fn lines() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("a LOGIN me secret\r\n".to_owned()),
        Just("b LOGIN {2}\r\nme {2+}\r\n\r\n\r\n".to_owned()),
        Just("c AUTHENTICATE PLAIN\r\n".to_owned()),
        Just("AG1lAHNlY3JldA==\r\n".to_owned()),
        Just("d STARTTLS\r\n".to_owned()),
        Just("e ID (\"a\" {1+}\r\nb)\r\n".to_owned()),
        Just("f SELECT {9}\r\n".to_owned()),
        Just("g LOGIN {9999+}\r\n".to_owned()),
        "[a-c*+ {}0-9\"\\\\\r\n]{0,12}",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat().into_bytes())
}

/// Feeds pieces, fails every login with a fixed line, brings TLS up at once.
fn run(input: &[u8], pieces: &[usize]) -> String {
    let mut machine = PreLogin::new(CLEAR);
    let mut heard = String::new();
    let mut rest = input;
    let mut sizes = pieces.iter().cycle();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        rest = after;
        machine.input(piece);
        while let Some(action) = machine.next() {
            heard.push_str(&shown(&action));
            match action {
                Action::Login(login) => machine.login_failed(format!("{} NO\r\n", login.tag).as_bytes()),
                Action::StartTls => return heard,
                _ => {}
            }
        }
    }
    heard
}

proptest! {
    #[test]
    fn any_split_gives_the_same_talk(input in lines(), pieces in prop::collection::vec(1_usize..40, 1..6)) {
        prop_assert_eq!(run(&input, &pieces), run(&input, &[INPUT_MAX]));
    }

    /// What imap-codec takes for a LOGIN is the same login here.
    #[test]
    fn logins_are_read_as_imap_codec_reads_them(line in "[\"{}\\\\ 0-3a-c%()\\]+]{0,16}") {
        let line = format!("a LOGIN {line}\r\n");
        if let Ok((_, command)) = imap_codec::CommandCodec::default().decode(line.as_bytes())
            && let CommandBody::Login { username, password } = command.body
        {
            let user = String::from_utf8(username.as_ref().to_vec()).unwrap();
            let password = password.declassify().as_ref().escape_ascii().to_string();
            if !user.is_empty() {
                prop_assert_eq!(fresh(TLS, line.as_bytes()), format!("<a {user} - {password}>"));
            }
        }
    }
}
