//! A random walk: a client with several sessions does everything that clients do, through the proxy, while its user is
//! copied, followed and switched. A model that shares no code with the crate says what the account must be after each
//! answer; a command whose answer was lost with its session is executed once or not at all. `MAILFERRY_SEED=n` repeats a
//! walk.

mod op;
mod session;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::copy::{Pair, shown};
use crate::lab::account::Account;
use crate::lab::fault::Hold;
use crate::lab::world::Next;
use crate::lab::{Ferry, FerrySpec, World, nasty, wait_for};
use op::{Dice, Op};
use session::{Reply, Session};

const LONG: Duration = Duration::from_secs(120);
/// Sessions open at once.
const SESSIONS_MAX: usize = 4;
/// How long the gate is kept closed at least, now and then.
const GATE_OPENS: Duration = Duration::from_millis(300);
/// Commands in one segment.
const BATCH_MAX: usize = 4;

/// What is known of a walk.
struct Walk<'a> {
    ferry: &'a Ferry,
    pair: &'a Pair,
    dice: Dice,
    model: World,
    sessions: Vec<Session>,
    /// Commands done so far.
    done: u32,
    /// What the account was when the user was first served by the new side.
    at_switch: Option<World>,
    /// Commands by the phase that they were done in.
    tally: BTreeMap<String, u32>,
    phase: String,
    farewells: u32,
    unanswered: u32,
}

/// A walk of `length` commands.
fn walk(length: u32) {
    let seed = std::env::var("MAILFERRY_SEED").ok().map_or_else(
        || u64::from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos()),
        |seed| seed.parse().expect("MAILFERRY_SEED is a number"),
    );
    eprintln!("to repeat this walk: MAILFERRY_SEED={seed}");
    let pair = Pair::start(&["u1"]);
    start_account(&pair);
    let hold = Hold::at("gate-closed");
    let fault = hold.fault();
    let ferry = Ferry::start(FerrySpec {
        auto: false,
        env: vec![("RUST_LOG", "mailferry=debug"), ("MAILFERRY_FAULTS", &fault)],
        ..FerrySpec::between(&pair.old, &pair.new)
    });
    let mut walk = Walk {
        model: World::of(&pair.old, "u1"),
        ferry: &ferry,
        pair: &pair,
        dice: Dice(seed),
        sessions: Vec::new(),
        done: 0,
        at_switch: None,
        tally: BTreeMap::new(),
        phase: "old".to_owned(),
        farewells: 0,
        unanswered: 0,
    };
    let switched = AtomicBool::new(false);
    std::thread::scope(|scope| {
        walk.until(length * 2 / 5);
        let status = ferry.wait_status("u1", LONG, |status| status["phase"] == "following");
        assert_eq!(status["authority"], "old");
        walk.look_at_phase();
        walk.until(length * 3 / 5);
        scope.spawn(|| {
            switch(&ferry);
            switched.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            while !switched.load(Ordering::SeqCst) {
                // Time enough for a command to come while the gate is closed.
                std::thread::sleep(GATE_OPENS);
                hold.release();
            }
        });
        let enough = length * 4 / 5;
        while walk.done < enough && !switched.load(Ordering::SeqCst) {
            // As slow as people are, or there would never be a moment for the switch.
            std::thread::sleep(Duration::from_millis(walk.dice.throw() % 100));
            walk.step();
        }
        // Those who are there stay where they are.
        wait_for("the switch", LONG, || switched.load(Ordering::SeqCst).then_some(()));
        walk.until(length);
    });
    walk.end();
}

/// Enough for a copy to take a while.
fn start_account(pair: &Pair) {
    let mut account = Account::new("u1");
    for (name, count) in [("INBOX", 300), ("Sent", 100), ("Archive/2023", 100)] {
        let mailbox = account.mailbox(name);
        for number in 1..=count {
            let flags = ["", "\\Seen", "\\Seen $Forwarded", "\\Deleted work"][number as usize % 4];
            // With gaps.
            mailbox.put(number * 2, nasty::plain(name, number, flags));
        }
    }
    account.mailbox("Leer").uid_next = 1000;
    account.subscriptions = ["INBOX", "Sent", "Gone"].map(str::to_owned).into();
    account.write_to(&pair.old);
}

/// The operator wants the user to be switched, and does not give up.
fn switch(ferry: &Ferry) {
    let deadline = Instant::now() + LONG;
    loop {
        let output = ferry.run(&["switch", "u1"]);
        match output.status.code() {
            Some(0) => return,
            Some(75) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
            _ => panic!("{}", shown(&output)),
        }
    }
}

impl Walk<'_> {
    fn until(&mut self, count: u32) {
        while self.done < count {
            self.step();
        }
    }

    /// One thing that a client does.
    fn step(&mut self) {
        if self.sessions.is_empty() {
            return self.come();
        }
        let at = self.dice.below(self.sessions.len());
        match self.dice.below(100) {
            0..6 if self.sessions.len() < SESSIONS_MAX => self.come(),
            6..10 if self.sessions.len() > 1 => self.go(at),
            10..16 => {
                if !self.sessions[at].idle() {
                    self.lost(at, &[]);
                }
            }
            _ => self.work(at),
        }
    }

    fn come(&mut self) {
        self.sessions.push(Session::log_in(self.ferry.imap(), "u1", self.pair.old.password("u1")));
        self.look_at_phase();
    }

    fn look_at_phase(&mut self) {
        if self.phase == "new" {
            return;
        }
        let status = self.ferry.status("u1");
        status["phase"].as_str().unwrap().clone_into(&mut self.phase);
        if self.phase == "new" {
            assert_eq!((status["authority"].as_str(), status["epoch"].as_u64()), (Some("new"), Some(1)), "{status:#}");
            // Everything that is done comes from here, one after the other: nothing has been done since.
            self.at_switch = Some(self.model.clone());
        }
    }

    fn go(&mut self, at: usize) {
        let mut session = self.sessions.swap_remove(at);
        if self.dice.below(3) > 0 {
            // A farewell that it did not ask for comes to the same.
            self.farewells += u32::from(!session.log_out());
        }
    }

    /// Some commands at once on one session, and what they make of the account.
    fn work(&mut self, at: usize) {
        let (ops, mut planned) = (1 + self.dice.below(BATCH_MAX), self.model.clone());
        let mut batch: Vec<Op> = Vec::new();
        for number in 0..ops {
            let op = Op::pick(&mut self.dice, &planned, self.done + u32::try_from(number).unwrap());
            if let Some(name) = op.takes_away() {
                // Nobody may sit in it; and its name may mean something else afterwards, so it comes alone.
                if number > 0 {
                    break;
                }
                let family = self.model.family(name);
                if !self.release(&family) {
                    return;
                }
            }
            op.apply(&mut planned, None);
            batch.push(op);
            if batch[number].takes_away().is_some() {
                break;
            }
        }
        self.run(at, &batch);
    }

    /// Sends a batch, reads the answers, and accounts for them.
    fn run(&mut self, at: usize, batch: &[Op]) {
        self.done += u32::try_from(batch.len()).unwrap();
        *self.tally.entry(self.phase.clone()).or_default() += u32::try_from(batch.len()).unwrap();
        let replies = self.sessions[at].run(batch);
        for (op, reply) in batch.iter().zip(&replies) {
            let fine = reply.as_ref().is_none_or(|reply| reply.tagged.starts_with("OK"));
            assert!(fine, "{op:?} was answered {reply:?}, with\n{:#?}", self.model);
        }
        if replies.iter().any(Option::is_none) {
            return self.lost(at, &batch.iter().zip(replies).collect::<Vec<_>>());
        }
        for (op, reply) in batch.iter().zip(replies) {
            op.apply(&mut self.model, reply.and_then(|reply| reply.told).as_ref());
        }
        let shelf = self.sessions[at].selected.as_ref().map(|name| (name, &self.model.mailboxes[name]));
        if let Some((name, shelf)) = shelf.filter(|_| self.dice.below(10) == 0) {
            let name = name.clone();
            let uids: Vec<u32> = shelf.mails.keys().copied().collect();
            match self.sessions[at].uids() {
                Some(found) => assert_eq!(found, uids, "{name} through the proxy"),
                None => self.lost(at, &[]),
            }
        }
    }

    /// Everybody leaves these mailboxes. False if a session was lost meanwhile.
    fn release(&mut self, family: &[String]) -> bool {
        for at in 0..self.sessions.len() {
            if self.sessions[at].selected.as_ref().is_some_and(|name| family.contains(name))
                && !self.sessions[at].leave()
            {
                self.lost(at, &[]);
                return false;
            }
        }
        true
    }

    /// A session was ended by the server before it had answered all of `batch`: of the others some first ones were
    /// executed, exactly once, or none. The user looks what has become of them.
    fn lost(&mut self, at: usize, batch: &[(&Op, Option<Reply>)]) {
        let session = self.sessions.swap_remove(at);
        let last = session.last_words();
        assert!(last.starts_with("* BYE [UNAVAILABLE]"), "a session ended with {last:?}");
        self.farewells += 1;
        let open = batch.iter().filter(|(_, reply)| reply.is_none()).count();
        self.unanswered += u32::try_from(open).unwrap();
        let mut again = Session::log_in(self.ferry.imap(), "u1", self.pair.old.password("u1"));
        let found = World::read(&mut again.imap);
        let mut reasons = Vec::new();
        for executed in 0..=open {
            let mut candidate = self.model.clone();
            let mut left = executed;
            for (op, reply) in batch {
                if reply.is_some() || left > 0 {
                    left -= usize::from(reply.is_none());
                    op.apply(&mut candidate, reply.as_ref().and_then(|reply| reply.told.as_ref()));
                }
            }
            reasons.push(candidate.differences(&found, Next::AtLeast));
        }
        assert!(
            reasons.iter().any(Vec::is_empty),
            "after a lost session with {batch:#?} the account is none of these: {reasons:#?}"
        );
        self.model = found;
        self.sessions.push(again);
        self.look_at_phase();
    }

    /// The user is on the new side, and both sides hold what they must.
    fn end(mut self) {
        eprintln!(
            "{} commands: {:?}; {} sessions were told BYE, {} commands lost with them",
            self.done, self.tally, self.farewells, self.unanswered
        );
        let mut last = Session::log_in(self.ferry.imap(), "u1", self.pair.old.password("u1"));
        self.look_at_phase();
        assert_eq!(self.phase, "new");
        let found = self.model.differences(&World::read(&mut last.imap), Next::AtLeast);
        assert!(found.is_empty(), "through the proxy: {found:#?}");
        let found = self.model.differences(&World::of(&self.pair.new, "u1"), Next::AtLeast);
        assert!(found.is_empty(), "on the new side: {found:#?}");
        let found = self.at_switch.unwrap().differences(&World::of(&self.pair.old, "u1"), Next::Equal);
        assert!(found.is_empty(), "on the old side, which is as it was at the switch: {found:#?}");
        assert!(self.farewells > 0, "nobody was there when the user was switched");
        // (Which of the phases before the switch a command falls into depends on the machine.)
        let after = self.tally.get("new").copied().unwrap_or_default();
        assert!(after > 0 && after < self.done, "all was done on one side: {:?}", self.tally);
    }
}

#[test]
fn a_walk_of_80_commands_ends_on_the_new_side_as_the_model_says() {
    walk(80);
}

#[test]
fn a_walk_of_500_commands_ends_on_the_new_side_as_the_model_says() {
    walk(500);
}

#[test]
#[ignore = "soak: longer than all other walks together"]
fn a_walk_of_5000_commands_ends_on_the_new_side_as_the_model_says() {
    walk(5000);
}
