//! A wire between the proxy and a server that writes down what passes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// One connection as it passed by: who spoke, and what.
#[derive(Debug, Default, Clone)]
pub struct Talk {
    turns: Vec<(bool, Vec<u8>)>,
}

impl Talk {
    /// Everything that the client's side sent.
    pub fn asked(&self) -> String {
        let all: Vec<u8> = self.turns.iter().filter(|(client, _)| *client).flat_map(|(_, said)| said.clone()).collect();
        String::from_utf8_lossy(&all).into_owned()
    }

    /// Everything that the server sent.
    pub fn heard(&self) -> Vec<u8> {
        self.turns.iter().filter(|(client, _)| !client).flat_map(|(_, said)| said.clone()).collect()
    }

    /// Octets that the server sent.
    pub fn answered(&self) -> usize {
        self.turns.iter().filter(|(client, _)| !client).map(|(_, said)| said.len()).sum()
    }

    /// How often the client's side spoke after it had heard something. On a [slow](Tap::slow_down) wire these are the round trips:
    /// all that is said without waiting for an answer is said before the first one comes.
    pub fn round_trips(&self) -> usize {
        self.turns.iter().filter(|(client, _)| *client).count()
    }
}

/// The wire.
#[derive(Debug)]
pub struct Tap {
    /// Where it is reached.
    pub port: u16,
    talks: Arc<Mutex<Vec<Talk>>>,
    /// What each answer of the server takes longer, in milliseconds.
    latency: Arc<AtomicU64>,
}

impl Tap {
    /// A wire to a port of this machine.
    pub fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let talks = Arc::new(Mutex::new(Vec::<Talk>::new()));
        let known = Arc::clone(&talks);
        let latency = Arc::new(AtomicU64::new(0));
        let wanted = Arc::clone(&latency);
        // It ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let number = {
                    let mut talks = known.lock().unwrap();
                    talks.push(Talk::default());
                    talks.len() - 1
                };
                let ways = [(true, client.try_clone(), server.try_clone()), (false, Ok(server), Ok(client))];
                for (asks, from, to) in ways {
                    let talks = Arc::clone(&known);
                    let latency = Arc::clone(&wanted);
                    thread::spawn(move || pass((from.unwrap(), to.unwrap()), (asks, &latency), number, &talks));
                }
            }
        });
        Self { port, talks, latency }
    }

    /// From now on each answer of the server takes so long.
    pub fn slow_down(&self, latency: Duration) {
        self.latency.store(u64::try_from(latency.as_millis()).unwrap(), Ordering::Relaxed);
    }

    /// How many connections there have been.
    pub fn count(&self) -> usize {
        self.talks.lock().unwrap().len()
    }

    /// The connections from the `first` one on.
    pub fn since(&self, first: usize) -> Vec<Talk> {
        self.talks.lock().unwrap().iter().skip(first).cloned().collect()
    }
}

fn pass(
    (mut from, mut to): (TcpStream, TcpStream),
    (asks, latency): (bool, &AtomicU64),
    number: usize,
    talks: &Mutex<Vec<Talk>>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if !asks {
            thread::sleep(Duration::from_millis(latency.load(Ordering::Relaxed)));
        }
        {
            let mut talks = talks.lock().unwrap();
            let turns = &mut talks[number].turns;
            match turns.last_mut() {
                Some((client, said)) if *client == asks => said.extend_from_slice(&buffer[..count]),
                _ => turns.push((asks, buffer[..count].to_vec())),
            }
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
