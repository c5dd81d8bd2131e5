//! Sessions, logins and the gate together.

use super::*;
use crate::user::{Busy, Close, NameRules, Standing};

const LONG: Duration = Duration::from_secs(60);

fn registry() -> (tempfile::TempDir, Registry, CanonicalUser) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("s.db")).unwrap();
    (folder, Registry::new(store, Some(LONG)), NameRules::default().canonical("u1"))
}

async fn enter(registry: &Registry, user: &CanonicalUser, protocol: Protocol) -> SessionPass {
    registry.attempt(user, protocol, LONG).await.unwrap().admit(LONG).await.unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(20)
}

#[tokio::test]
async fn a_gate_for_quiet_moments_does_not_close_on_an_open_session() {
    let (_folder, registry, user) = registry();
    let first = enter(&registry, &user, Protocol::Imap).await;
    let second = enter(&registry, &user, Protocol::Imap).await;
    let gate = registry.gate(&user).await.unwrap();
    let busy = async || gate.close(Close::WhenIdle, soon()).await.map(drop).unwrap_err().to_string();
    assert_eq!(busy().await, "2 sessions open");
    drop(first);
    assert_eq!(busy().await, "1 session open");
    drop(second);
    gate.idle().await;
    assert!(gate.close(Close::WhenIdle, soon()).await.is_ok());
}

#[tokio::test]
async fn no_gate_closes_on_a_pop3_session() {
    let (_folder, registry, user) = registry();
    let _imap = enter(&registry, &user, Protocol::Imap).await;
    let pop3 = enter(&registry, &user, Protocol::Pop3).await;
    let gate = registry.gate(&user).await.unwrap();
    let busy = gate.close(Close::Live, soon()).await.map(drop).unwrap_err();
    assert_eq!(busy.to_string(), "1 session and 1 POP3 session open");
    assert_eq!(pop3.standing(), Standing::Open, "nobody was asked to stand still");
    drop(pop3);
    gate.without_pop3().await;
}

/// Waits until the session of `pass` is to stand still.
async fn closing(pass: &SessionPass) {
    let mut changes = pass.changes();
    while pass.standing() != Standing::Closing {
        changes = changes.next().await;
    }
}

#[tokio::test]
async fn a_live_gate_waits_for_every_session_to_stand_still() {
    let (_folder, registry, user) = registry();
    let mut one = enter(&registry, &user, Protocol::Imap).await;
    let mut two = enter(&registry, &user, Protocol::Imap).await;
    let gate = registry.gate(&user).await.unwrap();

    let parking = async {
        closing(&one).await;
        assert_eq!(one.standing(), Standing::Closing);
        one.park();
        one.park();
        assert_eq!(one.standing(), Standing::Parked);
    };
    let (closed, ()) = tokio::join!(gate.close(Close::Live, soon()), parking);
    let Err(Busy::Unparked { busy, sessions, .. }) = closed.map(drop) else { panic!("closed on a running command") };
    assert_eq!((busy, sessions), (1, 2), "one that parks twice is still one");
    assert_eq!((one.standing(), two.standing()), (Standing::Open, Standing::Open), "as if nothing had happened");

    // What stood still for the first closing does not stand still for the second.
    let parking = async {
        closing(&two).await;
        two.park();
    };
    let (closed, ()) = tokio::join!(gate.close(Close::Live, soon()), parking);
    assert!(matches!(closed.map(drop), Err(Busy::Unparked { busy: 1, .. })));

    let parking = async {
        closing(&one).await;
        one.park();
        drop(two);
    };
    let (closed, ()) = tokio::join!(gate.close(Close::Live, soon()), parking);
    closed.unwrap().open_on(Side::New, 1);
    assert_eq!(one.standing(), Standing::Moved);
}

#[tokio::test]
async fn a_session_that_ends_while_it_stands_still_leaves_no_trace() {
    let (_folder, registry, user) = registry();
    let mut one = enter(&registry, &user, Protocol::Imap).await;
    let two = enter(&registry, &user, Protocol::Imap).await;
    let gate = registry.gate(&user).await.unwrap();
    let parking = async {
        closing(&one).await;
        one.park();
        drop(one);
    };
    let (closed, ()) = tokio::join!(gate.close(Close::Live, soon()), parking);
    assert!(matches!(closed.map(drop), Err(Busy::Unparked { busy: 1, sessions: 1, .. })));
    drop(two);
    assert!(gate.close(Close::Live, soon()).await.is_ok());
}

#[tokio::test]
async fn logins_held_at_the_gate_land_on_the_side_it_opens_on() {
    let (_folder, registry, user) = registry();
    // Tried, and accepted, at the old side before the gate closed.
    let tried = registry.attempt(&user, Protocol::Imap, LONG).await.unwrap();
    let gate = registry.gate(&user).await.unwrap();
    let guard = gate.close(Close::WhenIdle, soon()).await.unwrap();
    let held = tokio::spawn({
        let (registry, user) = (registry.clone(), user.clone());
        async move { enter(&registry, &user, Protocol::Imap).await }
    });
    let admitted = tokio::spawn(tried.admit(LONG));
    tokio::task::yield_now().await;
    assert!(gate.sessions().none(), "nobody gets in while the gate is closed");
    assert!(gate.close(Close::Live, soon()).await.is_err(), "a closed gate has one owner");
    guard.open_on(Side::New, 1);
    for pass in [held.await.unwrap(), admitted.await.unwrap().unwrap()] {
        assert_eq!((pass.side, pass.epoch), (Side::New, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_stays_closed_refuses_and_a_dropped_one_opens_where_it_was() {
    let (_folder, registry, user) = registry();
    let tried = registry.attempt(&user, Protocol::Imap, LONG).await.unwrap();
    let gate = registry.gate(&user).await.unwrap();
    let guard = gate.close(Close::WhenIdle, soon()).await.unwrap();
    let two = Duration::from_secs(2);
    assert!(matches!(registry.attempt(&user, Protocol::Imap, two).await, Err(EnterError::Held { .. })));
    assert!(matches!(tried.admit(two).await, Err(EnterError::Held { .. })));
    drop(guard);
    assert_eq!(enter(&registry, &user, Protocol::Imap).await.side, Side::Old);
}

#[tokio::test]
async fn the_only_login_waits_for_a_switch_that_is_about_to_happen() {
    let (_folder, registry, user) = registry();
    let gate = registry.gate(&user).await.unwrap();
    gate.set_ready(true);
    let tried = registry.attempt(&user, Protocol::Imap, LONG).await.unwrap();
    assert!(tried.may_move());
    let admitted = tokio::spawn(tried.admit(LONG));
    tokio::task::yield_now().await;
    assert!(gate.sessions().none() && !admitted.is_finished());
    gate.close(Close::WhenIdle, soon()).await.unwrap().open_on(Side::New, 1);
    let first = admitted.await.unwrap().unwrap();
    assert_eq!(first.side, Side::New);

    gate.set_ready(true);
    assert_eq!(enter(&registry, &user, Protocol::Imap).await.side, Side::New, "a second session waits for nothing");
}

#[tokio::test]
async fn a_login_goes_on_at_once_when_the_switch_is_called_off() {
    let (_folder, registry, user) = registry();
    let gate = registry.gate(&user).await.unwrap();
    gate.set_ready(true);
    let tried = registry.attempt(&user, Protocol::Imap, LONG).await.unwrap();
    let admitted = tokio::spawn(tried.admit(LONG));
    tokio::task::yield_now().await;
    gate.set_ready(false);
    assert_eq!(admitted.await.unwrap().unwrap().side, Side::Old);
}

#[tokio::test(start_paused = true)]
async fn a_login_does_not_wait_for_ever_for_a_switch() {
    let (_folder, registry, user) = registry();
    registry.gate(&user).await.unwrap().set_ready(true);
    assert_eq!(enter(&registry, &user, Protocol::Imap).await.side, Side::Old);
}

#[tokio::test(start_paused = true)]
async fn our_pop3_session_and_the_users_own_exclude_each_other() {
    let (_folder, registry, user) = registry();
    let gate = registry.gate(&user).await.unwrap();
    let trying = registry.attempt(&user, Protocol::Pop3, LONG).await.unwrap();
    assert!(gate.pop3_turn().is_none(), "a login that is being tried may hold the lock");
    let session = trying.admit(LONG).await.unwrap();
    assert!(gate.pop3_turn().is_none());
    drop(session);

    let turn = gate.pop3_turn().unwrap();
    assert!(gate.pop3_turn().is_none(), "one of ours at a time");
    let login = tokio::spawn({
        let (registry, user) = (registry.clone(), user.clone());
        async move { enter(&registry, &user, Protocol::Pop3).await }
    });
    let asked = Instant::now();
    turn.wanted().await;
    assert!(asked.elapsed() < POP3_PATIENCE && !login.is_finished());
    drop(turn);
    drop(login.await.unwrap());
    assert!(gate.pop3_turn().is_some());
}

#[tokio::test]
async fn an_imap_login_does_not_mind_our_pop3_session() {
    let (_folder, registry, user) = registry();
    let gate = registry.gate(&user).await.unwrap();
    let _turn = gate.pop3_turn().unwrap();
    enter(&registry, &user, Protocol::Imap).await;
}

#[tokio::test]
async fn a_user_without_session_or_move_costs_no_memory() {
    let (_folder, registry, user) = registry();
    let pass = enter(&registry, &user, Protocol::Imap).await;
    let gate = registry.gate(&user).await.unwrap();
    drop(pass);
    assert_eq!(registry.users.len(), 1, "the gate is still held");
    drop(gate);
    assert_eq!(registry.users.len(), 0);
    drop(registry.attempt(&user, Protocol::Pop3, LONG).await.unwrap());
    assert_eq!(registry.users.len(), 0);
}

#[tokio::test]
async fn what_sessions_write_is_told_once() {
    let (_folder, registry, user) = registry();
    let pass = enter(&registry, &user, Protocol::Imap).await;
    let gate = registry.gate(&user).await.unwrap();
    assert!(!gate.take_written());
    pass.wrote();
    pass.wrote();
    gate.written().await;
    assert!(gate.take_written() && !gate.take_written());
}
