//! Against a peer that says what a script tells it.

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{Pop3Answer, Pop3Connection, Pop3Error, Pop3Server};
use crate::config::Endpoint;
use crate::mailbox::Side;
use crate::wire::sasl::Bearer;

/// Greets with the first text, and answers each line of the client with the next one; gives the lines it heard.
async fn peer(script: &[&str]) -> (Pop3Server, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let script: Vec<String> = script.iter().map(|line| (*line).to_owned()).collect();
    let heard = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut tcp = BufReader::new(tcp);
        let mut heard = Vec::new();
        for text in script {
            tcp.write_all(text.as_bytes()).await.unwrap();
            let mut line = String::new();
            if tcp.read_line(&mut line).await.unwrap_or(0) == 0 {
                break;
            }
            heard.push(line.trim_end_matches("\r\n").to_owned());
        }
        heard
    });
    let endpoint = Endpoint::clear("127.0.0.1", port);
    (Pop3Server::new(Side::Old, &endpoint).unwrap(), heard)
}

async fn logged_in(script: &[&str], authzid: Option<&str>, password: &str) -> (String, Vec<String>) {
    let (server, heard) = peer(script).await;
    let mut connection = server.connect().await.unwrap();
    connection.identify("[::ffff:192.0.2.7]:1234".parse().unwrap(), "s1").await.unwrap();
    let answer = connection.login("u 1", authzid, password.as_bytes()).await;
    let said = match answer {
        Ok(Pop3Answer::Accepted { text }) => format!("accepted: {}", String::from_utf8_lossy(&text)),
        Ok(Pop3Answer::Refused { raw }) => format!("refused: {}", String::from_utf8_lossy(&raw)),
        Err(error) => format!("error: {error}"),
    };
    drop(connection);
    (said, heard.await.unwrap())
}

const CAPA: &str = "+OK\r\nTOP\r\nSASL PLAIN LOGIN\r\n.\r\n";

#[tokio::test]
async fn the_way_to_log_in_is_the_one_that_the_server_offers() {
    let (said, heard) = logged_in(&["+OK [XCLIENT] hi\r\n", "-ERR no\r\n", CAPA, "+OK in\r\n"], None, "p w ").await;
    assert_eq!(said, "accepted: in");
    let xclient = "XCLIENT ADDR=192.0.2.7 PORT=1234 SESSION=s1 TTL=5";
    assert_eq!(heard, [xclient, "CAPA", "AUTH PLAIN AHUgMQBwIHcg"]);

    let (said, heard) =
        logged_in(&["+OK\r\n", "-ERR what?\r\n", "+OK\r\n", "-ERR [AUTH] wrong\r\n"], None, "p w ").await;
    assert_eq!((said.as_str(), heard[1].as_str()), ("refused: -ERR [AUTH] wrong", "USER u 1"));
    assert_eq!(heard[2], "PASS p w ");

    let (said, heard) = logged_in(&["+OK\r\n", "-ERR\r\n", "-ERR nobody\r\n"], None, "p").await;
    assert_eq!((said.as_str(), heard.len()), ("refused: -ERR nobody", 2));
}

#[tokio::test]
async fn a_long_message_goes_on_its_own_line() {
    let long = "x".repeat(300);
    let (said, heard) = logged_in(&["+OK\r\n", CAPA, "+ \r\n", "+OK\r\n"], Some("a"), &long).await;
    assert_eq!((said.as_str(), heard[1].as_str()), ("accepted: ", "AUTH PLAIN"));
    assert!(heard[2].len() > 400);
    let (said, _) = logged_in(&["+OK\r\n", CAPA, "-ERR later\r\n"], None, &long).await;
    assert_eq!(said, "refused: -ERR later");
}

#[tokio::test]
async fn what_can_not_be_sent_is_not_sent() {
    let plain = ["+OK\r\n", "+OK\r\nTOP\r\n.\r\n", "+OK\r\n"];
    let (said, heard) = logged_in(&plain, Some("a"), "p").await;
    assert!(said.contains("SASL PLAIN is missing") && heard.len() == 1, "{said}");
    let (said, heard) = logged_in(&plain, None, "p\r\nQUIT").await;
    assert!(said.contains("line end") && heard.len() == 1, "{said}");
    let before_tls = ["+OK\r\n", "+OK\r\nTOP\r\nUSER\r\nSASL\r\nSTLS\r\n.\r\n", "-ERR [AUTH] not without TLS\r\n"];
    let (said, heard) = logged_in(&before_tls, None, "p").await;
    assert!(said.contains("use TLS") && heard.len() == 2, "{said}");
    let takes_it = [&before_tls[..2], &["+OK\r\n", "+OK in\r\n"]].concat();
    assert_eq!(logged_in(&takes_it, None, "p").await.0, "accepted: in", "asked all the same");
    let (server, _heard) = peer(&["+OK\r\n"]).await;
    assert!(server.connect().await.unwrap().send("TOP 1\r\nQUIT").is_err());
}

#[tokio::test]
async fn a_greeting_that_is_none_is_quoted() {
    for (greeting, words) in
        [("-ERR [SYS/TEMP] too many\r\n", "refused the connection: -ERR [SYS/TEMP] too many"), ("hello\r\n", "`hello`")]
    {
        let (server, _heard) = peer(&[greeting]).await;
        let error = server.connect().await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("old side {}: ", server.name())) && error.contains(words), "{error}");
    }
}

async fn opened(script: &[&str]) -> Pop3Connection {
    peer(script).await.0.connect().await.unwrap()
}

#[tokio::test]
async fn lists_bodies_and_several_commands_at_once() {
    let both = "+OK a\r\n.\r\n-ERR gone\r\n+OK\r\n..x\r\n";
    let mut connection = opened(&["+OK\r\n", "+OK\r\n1 2\n..3\r\n.\r\n", both, "y\r\n.\r\n"]).await;
    let mut lines = Vec::new();
    connection.multiline("UIDL", &mut |line| lines.push(line.to_vec())).await.unwrap();
    assert_eq!(lines, [b"1 2".to_vec(), b".3".to_vec()]);
    for number in 1..=3 {
        connection.send(&format!("TOP {number} 9")).unwrap();
    }
    connection.flush().await.unwrap();
    let mut body = Vec::new();
    assert_eq!(connection.answer().await.unwrap(), Pop3Answer::Accepted { text: b"a".to_vec() });
    connection.body(&mut |chunk| body.extend_from_slice(chunk)).await.unwrap();
    assert!(body.is_empty());
    assert_eq!(connection.answer().await.unwrap(), Pop3Answer::Refused { raw: b"-ERR gone".to_vec() });
    assert!(matches!(connection.answer().await.unwrap(), Pop3Answer::Accepted { .. }));
    connection.body(&mut |chunk| body.extend_from_slice(chunk)).await.unwrap();
    assert_eq!(body, b".x\r\ny\r\n");
    let error = connection.command("QUIT").await.unwrap_err();
    assert!(matches!(error, Pop3Error::Lost { .. }), "{error}");
}

#[tokio::test]
async fn an_endless_line_is_not_held() {
    let long = format!("+OK\r\n{}\r\n.\r\n", "x".repeat(20_000));
    let mut connection = opened(&["+OK\r\n", &long]).await;
    let error = connection.multiline("UIDL", &mut |_| panic!("no whole line")).await.unwrap_err();
    assert!(error.to_string().contains("longer than 16384 octets"), "{error}");
    let mut connection = opened(&["+OK\r\n", &"x".repeat(60_000)]).await;
    assert!(matches!(connection.command("STAT").await, Err(Pop3Error::Protocol { .. })));
}

/// RFC 2449 §6.3: a server that lists what it knows, and neither PLAIN nor USER in it, would call every password wrong.
#[tokio::test]
async fn a_server_that_takes_no_password_we_can_send_gets_none() {
    let capa = "+OK\r\nTOP\r\nSASL CRAM-MD5 GSSAPI\r\n.\r\n";
    let (said, heard) = logged_in(&["+OK\r\n", capa], None, "geheim").await;
    assert!(said.ends_with("neither SASL PLAIN nor USER is in its CAPA") && said.starts_with("error"), "{said}");
    assert_eq!(heard, ["CAPA"]);
    let capa = "+OK\r\nUSER\r\nSASL CRAM-MD5\r\n.\r\n";
    let (said, heard) = logged_in(&["+OK\r\n", capa, "+OK\r\n", "+OK in\r\n"], None, "geheim").await;
    assert_eq!((said.as_str(), heard.len()), ("accepted: in", 3));
}

/// RFC 7628 §3.2.3 in POP3's clothes (RFC 5034 §4), and the empty line of XOAUTH2.
#[tokio::test]
async fn a_token_that_is_refused_is_refused_with_what_the_server_told() {
    for (mechanism, end) in [(Bearer::OAuthBearer, "AQ=="), (Bearer::XOAuth2, "")] {
        let capa = format!("+OK\r\nSASL {}\r\n.\r\n", mechanism.name());
        for (token, lines) in [("tok", 2), (&*"x".repeat(300), 3)] {
            let (challenge, no) = ("+ eyJzdGF0dXMiOiI0MDEifQ==\r\n", "-ERR [AUTH] no\r\n");
            let script: &[&str] = if lines == 2 {
                &["+OK\r\n", &capa, challenge, no]
            } else {
                &["+OK\r\n", &capa, "+ \r\n", challenge, no]
            };
            let (server, heard) = peer(script).await;
            let mut connection = server.connect().await.unwrap();
            let answer = connection.login_with_token(mechanism, "u1", token.as_bytes()).await.unwrap();
            assert_eq!(answer, Pop3Answer::Refused { raw: b"-ERR [AUTH] no {\"status\":\"401\"}".to_vec() });
            drop(connection);
            let heard = heard.await.unwrap();
            assert_eq!((heard.len(), heard[lines].as_str()), (lines + 1, end), "{heard:?}");
        }
    }
}
