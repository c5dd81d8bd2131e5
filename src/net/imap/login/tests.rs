//! Against a server that says what a script tells it.

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::config::{Endpoint, Security};
use crate::mailbox::Side;
use crate::net::imap::{ImapServer, LoginAnswer, printable};
use crate::wire::imap::scan::Status;
use crate::wire::sasl::Bearer;

/// Greets with the first text, and answers each line of the client with the next one, in which `TAG` stands for its tag; gives
/// the lines it heard, without their tags.
async fn server(security: Security, script: &[&str]) -> (ImapServer, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let script: Vec<String> = script.iter().map(|line| (*line).to_owned()).collect();
    let heard = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut tcp = BufReader::new(tcp);
        let (mut heard, mut tag) = (Vec::new(), String::new());
        for text in script {
            tcp.write_all(text.replace("TAG", &tag).as_bytes()).await.unwrap();
            let mut line = String::new();
            if tcp.read_line(&mut line).await.unwrap_or(0) == 0 {
                break;
            }
            let line = line.trim_end_matches("\r\n");
            match line.split_once(' ') {
                Some((first, rest)) if first.starts_with('m') => {
                    tag = first.to_owned();
                    heard.push(rest.to_owned());
                }
                _ => heard.push(line.to_owned()),
            }
        }
        heard
    });
    let endpoint = Endpoint { security, ..Endpoint::clear("127.0.0.1", port) };
    (ImapServer::new(Side::Old, &endpoint).unwrap(), heard)
}

fn said(answer: LoginAnswer) -> String {
    match answer {
        LoginAnswer::Accepted { .. } => "accepted".to_owned(),
        LoginAnswer::Refused { raw, .. } => printable(&raw),
    }
}

async fn with_password(authzid: Option<&str>, script: &[&str]) -> (String, Vec<String>) {
    let (server, heard) = server(Security::Clear, script).await;
    let mut connection = server.connect().await.unwrap();
    let answer = connection.login("u1", authzid, b"geheim").await;
    let said = answer.map_or_else(|error| error.to_string().replace(server.name(), "SERVER"), said);
    drop(connection);
    (said, heard.await.unwrap())
}

async fn with_token(mechanism: Bearer, token: &str, script: &[&str]) -> (String, Vec<String>) {
    let (server, heard) = server(Security::Clear, script).await;
    let mut connection = server.connect().await.unwrap();
    let answer = connection.login_with_token(mechanism, "u1", token.as_bytes()).await;
    let said = answer.map_or_else(|error| error.to_string().replace(server.name(), "SERVER"), said);
    drop(connection);
    (said, heard.await.unwrap())
}

/// RFC 8314 §3: who wants TLS and gets none goes away, before a name or a password is sent.
#[tokio::test]
async fn a_server_that_does_not_start_tls_gets_no_password() {
    for answer in ["TAG BAD what?\r\n", "TAG NO not today\r\n"] {
        let (server, heard) =
            server(Security::StartTls, &["* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi\r\n", answer]).await;
        let error = server.connect().await.unwrap_err().to_string();
        assert!(error.contains("refused STARTTLS"), "{error}");
        assert_eq!(heard.await.unwrap(), ["STARTTLS"]);
    }
}

#[tokio::test]
async fn a_server_that_takes_no_password_we_can_send_gets_none_and_is_named_with_what_it_offers() {
    let greeting = "* OK [CAPABILITY IMAP4rev1 LOGINDISABLED AUTH=CRAM-MD5 AUTH=GSSAPI] hi\r\n";
    let (said, heard) = with_password(None, &[greeting]).await;
    assert_eq!(
        said,
        "old side SERVER: takes no password on this connection (LOGINDISABLED, and AUTH=PLAIN is missing); it offers \
         CRAM-MD5, GSSAPI: it may take it inside TLS (imaps://, imap+starttls://)"
    );
    assert!(heard.is_empty(), "{heard:?}");
    let (said, heard) = with_password(Some("u2"), &["* OK [CAPABILITY IMAP4rev1] hi\r\n"]).await;
    assert!(said.contains("no way to log in as somebody else") && said.contains("no SASL mechanism"), "{said}");
    assert!(heard.is_empty(), "{heard:?}");
    // Without LOGINDISABLED there is LOGIN (RFC 3501 §6.2.3), whatever else is offered.
    let script = ["* OK [CAPABILITY IMAP4rev1 AUTH=CRAM-MD5] hi\r\n", "TAG NO [AUTHENTICATIONFAILED] no\r\n"];
    let (said, heard) = with_password(None, &script).await;
    assert_eq!(said, "[AUTHENTICATIONFAILED] no");
    assert_eq!(heard, ["LOGIN \"u1\" \"geheim\""]);
}

/// RFC 7628 §3.2.3, and the empty line of XOAUTH2.
#[tokio::test]
async fn a_token_that_is_refused_is_refused_with_what_the_server_told() {
    for (mechanism, end) in [(Bearer::OAuthBearer, "AQ=="), (Bearer::XOAuth2, "")] {
        let name = mechanism.name();
        let greeting = format!("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH={name}] hi\r\n");
        let script = [&greeting, "+ eyJzdGF0dXMiOiI0MDEifQ==\r\n", "TAG NO [AUTHENTICATIONFAILED] no\r\n"];
        let (said, heard) = with_token(mechanism, "tok", &script).await;
        assert_eq!(said, "[AUTHENTICATIONFAILED] no {\"status\":\"401\"}");
        assert!(heard[0].starts_with(&format!("AUTHENTICATE {name} ")), "{heard:?}");
        assert_eq!(heard[1], end);
        // Some tell nothing.
        let (said, _) = with_token(mechanism, "tok", &[&greeting, "TAG NO no\r\n"]).await;
        assert_eq!(said, "no");
    }
}

#[tokio::test]
async fn a_long_token_goes_on_a_line_of_its_own_and_none_to_a_server_that_takes_none() {
    let greeting = "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=XOAUTH2] hi\r\n";
    let script = [greeting, "+ \r\n", "TAG OK in\r\n", "* CAPABILITY IMAP4rev1\r\nTAG OK\r\n"];
    let (said, heard) = with_token(Bearer::XOAuth2, &"x".repeat(3000), &script).await;
    assert_eq!((said.as_str(), heard[0].as_str()), ("accepted", "AUTHENTICATE XOAUTH2"));
    assert!(heard[1].len() > 4000, "{heard:?}");
    let (said, heard) = with_token(Bearer::OAuthBearer, "tok", &[greeting]).await;
    assert!(said.contains("does not take tokens by OAUTHBEARER; it offers XOAUTH2"), "{said}");
    assert!(heard.is_empty(), "{heard:?}");
}

#[test]
fn one_session_too_many_is_no_wrong_password() {
    let turned_away =
        |raw: &str| LoginAnswer::Refused { status: Status::No, raw: raw.as_bytes().to_vec() }.is_turned_away();
    for raw in ["[ALERT] Too many simultaneous connections. (Failure)", "Too many open connections (2 of 2 for u1)"] {
        assert!(turned_away(raw), "{raw}");
    }
    for raw in [
        "[AUTHENTICATIONFAILED] Too many connections with this wrong password",
        "[ALERT] Invalid credentials (Failure)",
        "Too many failures",
        "",
    ] {
        assert!(!turned_away(raw), "{raw}");
    }
    assert!(!LoginAnswer::Accepted { raw: b"Too many connections".to_vec() }.is_turned_away());
}

#[tokio::test]
async fn who_the_client_is_goes_out_in_one_breath_with_the_login_where_that_is_possible() {
    const IN: &str = "TAG OK [CAPABILITY IMAP4rev1] in\r\n";
    const BOTH: &str = "* ID NIL\r\nm1 OK ID done\r\nTAG OK [CAPABILITY IMAP4rev1] in\r\n";
    let greeting = |words: &str| format!("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN{words}] hi\r\n");
    let (short, long) = ("geheim".to_owned(), "x".repeat(3000));
    for (words, password, answers, expected) in [
        // Nothing is said to the first command until the second one is there.
        (" ID SASL-IR", &short, &["", BOTH][..], &["ID", "AUTHENTICATE PLAIN AHUx"][..]),
        (" ID SASL-IR", &long, &["", "m1 NO what?\r\n+ \r\n", IN], &["ID", "AUTHENTICATE PLAIN", "AHUx"]),
        (" ID", &short, &["TAG OK done\r\n", "+ \r\n", IN], &["ID", "AUTHENTICATE PLAIN", "AHUx"]),
        (" SASL-IR", &short, &[IN], &["AUTHENTICATE PLAIN AHUx"]),
    ] {
        let greeting = greeting(words);
        let script: Vec<&str> = std::iter::once(greeting.as_str()).chain(answers.iter().copied()).collect();
        let (server, heard) = server(Security::Clear, &script).await;
        let mut connection = server.connect().await.unwrap();
        connection.identify_with_login(&[("x-session-id", "s1")]).await.unwrap();
        let answer = connection.login("u1", None, password.as_bytes()).await.unwrap();
        assert_eq!(said(answer), "accepted", "{words}");
        drop(connection);
        let heard = heard.await.unwrap();
        let starts = heard.iter().zip(expected).all(|(heard, expected)| heard.starts_with(expected));
        assert!(starts && heard.len() == expected.len(), "{words}: {heard:?}");
    }
}
