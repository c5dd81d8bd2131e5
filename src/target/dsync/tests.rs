//! The driver against scripted slaves on real sockets.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::config::{Pin, Security, Trust};
use crate::net::doveadm;
use crate::wire::dsync::item::PREAMBLE;

const INBOX: &str = "b62da02bfc33b02cca9f9d32c8247b2d";
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(200);

struct Slave {
    socket: BufReader<TcpStream>,
}

impl Slave {
    async fn accept(listener: &TcpListener) -> Self {
        Self { socket: BufReader::new(listener.accept().await.unwrap().0) }
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.socket.read_line(&mut line).await.unwrap();
        line
    }

    async fn raw(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    async fn packet(&mut self, channel: u8, data: &[u8]) {
        self.raw(&[channel]).await;
        self.raw(&u32::try_from(data.len()).unwrap().to_be_bytes()).await;
        self.raw(data).await;
    }

    async fn say(&mut self, text: &str) {
        self.packet(0, text.as_bytes()).await;
    }

    /// Up to the command line, which is returned.
    async fn logged_in(listener: &TcpListener) -> (Self, String) {
        let mut slave = Self::accept(listener).await;
        assert_eq!(slave.line().await, "VERSION\tdoveadm-server\t1\t2\n");
        slave.raw(b"VERSION\tdoveadm-client\t1\t2\n-\n").await;
        assert_eq!(slave.line().await, "PLAIN\tAGRvdmVhZG0Ac2VjcmV0\n");
        slave.raw(b"+\n").await;
        let command = slave.line().await;
        (slave, command)
    }

    /// Up to the answer to INBOX.
    async fn with_inbox(listener: &TcpListener) -> Self {
        let (mut slave, _) = Self::logged_in(listener).await;
        slave.say(&format!("\n+\n{PREAMBLE}Hvm\n.\nD/\t%\n")).await;
        while !slave.line().await.starts_with(&format!("B{INBOX}")) {}
        slave.say(&format!("B{INBOX}\t7\t1\t0\t1\t1\t0\n")).await;
        slave
    }

    /// Until the peer hangs up.
    async fn drain(mut self) {
        let _ = tokio::io::copy(&mut self.socket, &mut tokio::io::sink()).await;
    }
}

fn endpoint(port: u16, security: Security) -> Endpoint {
    Endpoint { security, ..Endpoint::clear("127.0.0.1", port) }
}

async fn target(idle: Duration) -> (TcpListener, DsyncTarget) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, DsyncTarget::new(endpoint(port, Security::Clear), SecretString::from("secret"), idle).unwrap())
}

fn guid() -> Guid {
    Guid::from_hex(INBOX).unwrap()
}

fn node(name: &str) -> Node {
    Node {
        name: MailboxName::from_parts(vec![name.to_owned()]).unwrap(),
        mailbox: Some(NodeMailbox { guid: guid(), uid_validity: UidValidity(7), uid_next: UidNext(20) }),
        changed_at: 0,
        subscribed: false,
        subscription_changed_at: 0,
    }
}

fn opening() -> Opening {
    Opening {
        mode: Mode::Full,
        states: vec![],
        namespaces: vec![],
        nodes: vec![node("INBOX")],
        delete: vec![],
        delete_folders: vec![],
        virtual_all: None,
    }
}

fn head() -> MailboxHead {
    MailboxHead {
        guid: guid(),
        uid_validity: UidValidity(7),
        uid_next: UidNext(20),
        messages: 1,
        inflate: true,
        first_recent_uid: 20,
        highest_modseq: ModSeq(1),
    }
}

fn state(messages: u32) -> MailboxState {
    MailboxState {
        guid: guid(),
        uid_validity: UidValidity(7),
        last_common_uid: 19,
        last_common_modseq: ModSeq(1),
        messages,
    }
}

fn save(uid: u32) -> Change {
    Change::Save {
        uid: Uid(uid),
        guid: Guid([uid as u8; 16]),
        modseq: ModSeq(1),
        flags: SystemFlags(8),
        keywords: vec![],
    }
}

fn slave<F>(run: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(run)
}

#[tokio::test]
async fn a_session_from_end_to_end() {
    let (listener, target) = target(LONG).await;
    let peer = slave(async move {
        let (mut slave, command) = Slave::logged_in(&listener).await;
        assert_eq!(command, "\tu1\tdsync-server\t-uu1\t-T\t1800\n");
        slave.say(&format!("\n+\n{PREAMBLE}Hvm\nNOld\ty\t{INBOX}\t5\t6\t\x02\t\n.\nD/\t%\n")).await;
        let mut sent = String::new();
        loop {
            let line = slave.line().await;
            match line.chars().next() {
                Some('B') if line.contains(INBOX) => slave.say(&format!("B{INBOX}\t7\t1\t0\t1\t1\t0\n")).await,
                Some('S') if line.contains(INBOX) => {
                    slave.say(&format!("S{INBOX}\t7\t19\t1\t0\t1\n")).await;
                    break;
                }
                _ => {}
            }
            sent.push_str(&line);
        }
        assert_eq!(slave.line().await, ".\n");
        slave.say("F\n").await;
        slave.say("X\n").await;
        slave.drain().await;
        sent
    });
    let mut session = target.open("u1", opening()).await.unwrap();
    let old = &session.remote_tree()[0];
    assert_eq!(old.name.as_ref().unwrap().to_string(), "Old");
    assert!(old.subscribed && old.mailbox.unwrap().uid_next == UidNext(6));
    let theirs = session.begin_mailbox(head()).await.unwrap();
    assert_eq!((theirs.uid_next, theirs.messages), (UidNext(1), 0));
    session.change(&save(9)).await.unwrap();
    session.end_changes().await.unwrap();
    session.begin_mail(Guid([9; 16]), 77, Some(("uidl-9", Some(3)))).await.unwrap();
    session.mail_chunk(b"Subject: x\r\n\r\n").await.unwrap();
    session.mail_chunk(b".dot").await.unwrap();
    session.end_mail().await.unwrap();
    assert_eq!(session.end_mailbox(state(1)).await.unwrap(), state(1));
    session.finish().await.unwrap();
    let sent = peer.await.unwrap();
    let nine = "09".repeat(16);
    assert!(sent.contains(&format!("\nB{INBOX}\t7\t20\t1000001\t20\t1\t0\t")), "inflated: {sent}");
    assert!(
        sent.ends_with(&format!(
            "\n.\nCs\t9\t{nine}\t\x02\t1\t\x02\t\x02\t\x02\t8\n.\n\
             M{nine}\t\x02\tuidl-9\t3\t77\t\x02\t\nSubject: x\r\n\r\n..dot\r\n.\r\n.\n"
        )),
        "{sent}"
    );
}

#[tokio::test]
async fn both_sides_may_write_much_at_once() {
    let (listener, target) = target(LONG).await;
    let count = 60_000;
    let peer = slave(async move {
        let (mut slave, _) = Slave::logged_in(&listener).await;
        let nodes: String = (0..count).map(|at| format!("Nmailbox{at:0100}\tn\n")).collect();
        // All of it before anything is read: more than any socket buffers.
        slave.say(&format!("\n+\n{PREAMBLE}Hvm\n{nodes}.\n")).await;
        let mut got = 0;
        while !slave.line().await.starts_with("D/") {
            got += 1;
        }
        slave.say("D/\t%\n").await;
        slave.drain().await;
        got
    });
    let nodes = (0..count).map(|at| node(&format!("mailbox{at:0100}"))).collect();
    let session = target.open("u1", Opening { nodes, ..opening() }).await.unwrap();
    assert_eq!(session.remote_tree().len(), count);
    session.abort().await;
    assert!(peer.await.unwrap() > count);
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let cases: [(&[u8], &str, Reaction); 4] = [
        (b"-\n", "doveadm_password", Reaction::Operator),
        (b"+\n", "doveadm_allowed_commands", Reaction::Operator),
        (b"+\n\0\0\0\0\x09\n-NOUSER\n", "NOUSER", Reaction::Operator),
        (b"+\n\0\0\0\0\x0b\n-TEMPFAIL\n", "TEMPFAIL", Reaction::Retry),
    ];
    for (answer, hint, reaction) in cases {
        let (listener, target) = target(LONG).await;
        let peer = slave(async move {
            let mut slave = Slave::accept(&listener).await;
            slave.raw(b"VERSION\tdoveadm-client\t1\t2\n-\n").await;
            slave.line().await;
            slave.line().await;
            slave.raw(answer).await;
            slave.socket.get_mut().shutdown().await.unwrap();
            slave.drain().await;
        });
        let error = target.open("u1", opening()).await.unwrap_err();
        let said = error.to_string();
        assert!(said.contains("u1") && said.contains(&target.address()) && said.contains(hint), "{said}");
        assert!(!said.contains("secret"), "{said}");
        assert_eq!(error.reaction(), reaction, "{said}");
        peer.await.unwrap();
    }
}

#[tokio::test]
async fn nobody_there_and_somebody_else() {
    let (listener, here) = target(LONG).await;
    let peer = slave(async move {
        let mut slave = Slave::accept(&listener).await;
        slave.raw(b"* OK IMAP4rev1 ready\r\n").await;
        slave.drain().await;
    });
    let said = here.open("u1", opening()).await.unwrap_err().to_string();
    assert!(said.contains("IMAP4rev1") && said.contains("not a doveadm service"), "{said}");
    peer.await.unwrap();
    let said = here.open("u1", opening()).await.unwrap_err().to_string();
    assert!(said.contains("refused"), "{said}");
}

#[tokio::test]
async fn a_silent_slave_is_given_up() {
    let (listener, target) = target(SHORT).await;
    let peer = slave(async move {
        let (slave, _) = Slave::logged_in(&listener).await;
        slave.drain().await;
    });
    let error = target.open("u1", opening()).await.unwrap_err();
    assert!(matches!(error.reason(), Reason::Link(doveadm::Reason::Silent { .. })), "{error}");
    peer.await.unwrap();
}

#[tokio::test]
async fn a_slave_that_does_not_read_is_given_up() {
    let (listener, target) = target(SHORT).await;
    let (done, wait) = tokio::sync::oneshot::channel::<()>();
    let peer = slave(async move {
        let slave = Slave::with_inbox(&listener).await;
        let _ = wait.await;
        drop(slave);
    });
    let mut session = target.open("u1", opening()).await.unwrap();
    session.begin_mailbox(head()).await.unwrap();
    session.change(&save(9)).await.unwrap();
    session.end_changes().await.unwrap();
    session.begin_mail(Guid([9; 16]), 77, None).await.unwrap();
    let chunk = vec![b'x'; 1 << 20];
    let error = loop {
        if let Err(error) = session.mail_chunk(&chunk).await {
            break error;
        }
    };
    assert!(matches!(error.reason(), Reason::Link(doveadm::Reason::Stalled { .. })), "{error}");
    assert!(error.to_string().contains("sending a message"), "{error}");
    let _ = done.send(());
    peer.await.unwrap();
}

#[tokio::test]
async fn a_failure_carries_the_slaves_own_words() {
    let (listener, target) = target(LONG).await;
    let peer = slave(async move {
        let mut slave = Slave::with_inbox(&listener).await;
        slave.packet(b'L', b"\x02doveadm(u1): Info: chatter").await;
        slave.packet(b'L', b"\x04doveadm(u1): Error: write() failed: No space left on device").await;
        slave.socket.get_mut().shutdown().await.unwrap();
        slave.drain().await;
    });
    let mut session = target.open("u1", opening()).await.unwrap();
    session.begin_mailbox(head()).await.unwrap();
    let steps = async {
        session.change(&save(9)).await?;
        session.end_changes().await?;
        session.begin_mail(Guid([9; 16]), 77, None).await?;
        session.end_mail().await?;
        session.end_mailbox(state(1)).await
    };
    let error = steps.await.unwrap_err();
    let said = error.to_string();
    assert!(said.contains("No space left on device") && !said.contains("chatter"), "{said}");
    assert_eq!(error.reaction(), Reaction::Retry);
    assert_eq!(error.log().len(), 2);
    drop(session);
    peer.await.unwrap();
}

#[tokio::test]
async fn a_mailbox_that_came_out_differently_is_an_error() {
    let cases =
        [("7\t21\t1\t0\t1", "UIDs collided"), ("7\t19\t1\t0\t2", "2 messages"), ("0\t19\t1\t0\t1\t", "full run")];
    for (answer, hint) in cases {
        let (listener, target) = target(LONG).await;
        let peer = slave(async move {
            let mut slave = Slave::with_inbox(&listener).await;
            while !slave.line().await.starts_with('S') {}
            slave.say(&format!("S{INBOX}\t{answer}\n")).await;
            slave.drain().await;
        });
        let mut session = target.open("u1", opening()).await.unwrap();
        session.begin_mailbox(head()).await.unwrap();
        session.end_changes().await.unwrap();
        let said = session.end_mailbox(state(1)).await.unwrap_err().to_string();
        assert!(said.contains(hint) && said.contains(INBOX), "{said}");
        drop(session);
        peer.await.unwrap();
    }
}

#[tokio::test]
async fn a_lost_mailbox_leaves_the_session_usable() {
    let (listener, target) = target(LONG).await;
    let peer = slave(async move {
        let (mut slave, _) = Slave::logged_in(&listener).await;
        slave.say(&format!("\n+\n{PREAMBLE}Hvm\n.\nD/\t%\n")).await;
        while !slave.line().await.starts_with(&format!("B{INBOX}")) {}
        slave.packet(b'L', b"\x03doveadm(u1): Warning: retry with a full sync").await;
        slave.say(&format!("B{INBOX}\t0\t0\t0\t0\t0\t0\t\n")).await;
        assert_eq!(slave.line().await, ".\n", "the end of the session, nothing else");
        slave.say("F\x02\t\x02\t\n").await;
        slave.drain().await;
    });
    let mut session = target.open("u1", opening()).await.unwrap();
    let error = session.begin_mailbox(head()).await.unwrap_err();
    assert!(matches!(error.reason(), Reason::MailboxLost(lost) if *lost == guid()), "{error}");
    assert!(error.to_string().contains("retry with a full sync"), "{error}");
    let error = session.finish().await.unwrap_err();
    assert_eq!(error.reaction(), Reaction::FullRun, "{error}");
    peer.await.unwrap();
}

#[tokio::test]
async fn giving_up_inside_a_message_sends_nothing_more() {
    let (listener, target) = target(LONG).await;
    let peer = slave(async move {
        let mut slave = Slave::with_inbox(&listener).await;
        let mut rest = Vec::new();
        slave.socket.read_to_end(&mut rest).await.unwrap();
        rest
    });
    let mut session = target.open("u1", opening()).await.unwrap();
    session.begin_mailbox(head()).await.unwrap();
    session.change(&save(9)).await.unwrap();
    session.end_changes().await.unwrap();
    session.begin_mail(Guid([9; 16]), 77, None).await.unwrap();
    session.mail_chunk(b"half").await.unwrap();
    session.abort().await;
    let rest = peer.await.unwrap();
    assert!(rest.ends_with(b"\nhalf"), "{:?}", String::from_utf8_lossy(&rest));
}

/// A server (or somebody in between) that goes on in clear text after STARTTLS hears nothing of worth.
#[tokio::test]
async fn whoever_answers_starttls_in_clear_gets_no_password() {
    for answer in ["-\n", "+\n", ""] {
        let (listener, _) = target(LONG).await;
        let port = listener.local_addr().unwrap().port();
        let pinned = Endpoint {
            trust: Trust { pin: Some(Pin([7; 32])), ..Trust::default() },
            ..endpoint(port, Security::StartTls)
        };
        let target = DsyncTarget::new(pinned, SecretString::from("secret"), LONG).unwrap();
        let slave = tokio::spawn(async move {
            let mut slave = Slave::accept(&listener).await;
            slave.raw(b"VERSION\tdoveadm-client\t1\t2\n-\n").await;
            assert_eq!(slave.line().await, "VERSION\tdoveadm-server\t1\t2\n");
            assert_eq!(slave.line().await, "STARTTLS\n");
            slave.raw(answer.as_bytes()).await;
            slave.socket.get_mut().shutdown().await.unwrap();
            let mut heard = Vec::new();
            let _ = slave.socket.read_to_end(&mut heard).await;
            heard
        });
        let error = target.probe().await.unwrap_err();
        assert!(error.to_string().contains("nothing is sent in clear text"), "{error}");
        assert!(error.to_string().contains(&format!("doveadm+starttls://127.0.0.1:{port}")), "{error}");
        assert_eq!(error.reaction(), Reaction::Operator);
        let heard = slave.await.unwrap();
        let plain = [&b"PLAIN"[..], b"AGRvdmVhZG0A"];
        assert!(!heard.windows(12).any(|window| plain.iter().any(|word| window.starts_with(word))), "{answer:?}");
        assert_eq!(heard.first(), Some(&0x16), "a TLS handshake comes and nothing before it");
    }
}
