//! Sockets that whoever started us has bound for us and holds on to: systemd's socket activation (`LISTEN_FDS`,
//! sd_listen_fds(3)). Clients that come while we are restarted wait in them and are not refused.

use std::env;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Socket, Type};
use tokio::net::TcpListener;

use super::listen::{BindError, bind_all};

/// The first passed descriptor: those below are standard input, output and error.
const FIRST: RawFd = 3;

/// More sockets than any configuration of ours has listeners.
const MOST: RawFd = 256;

/// Why what was passed can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    /// The environment makes no sense.
    #[error(
        "{variable}={value} makes no sense: whoever starts mailferry sets it with the sockets it passes (see sd_listen_fds(3))"
    )]
    Environment {
        /// Which variable.
        variable: &'static str,
        /// What it holds.
        value: String,
    },
    /// A descriptor is no TCP socket that listens.
    #[error("descriptor {descriptor}, passed as \"{name}\", is no TCP socket that listens: {reason}")]
    NoListener {
        /// Its number.
        descriptor: RawFd,
        /// Its name.
        name: String,
        /// What it is.
        reason: String,
    },
    /// A socket is no listener of the configuration.
    #[error(
        "the socket {address}, passed as \"{name}\", is no listener of the configuration: write its address there, or name \
         it imap, imaps, pop3 or pop3s (FileDescriptorName=)"
    )]
    Unwanted {
        /// Where it listens.
        address: SocketAddr,
        /// Its name.
        name: String,
    },
    /// A listener can't be had.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// The sockets that were passed and are not in use yet.
#[derive(Debug, Default)]
pub struct Inherited(Vec<Passed>);

#[derive(Debug)]
struct Passed {
    name: String,
    address: SocketAddr,
    socket: Socket,
}

impl Inherited {
    /// Takes what was passed to this process; nothing the second time.
    ///
    /// # Errors
    /// [`InheritError`] if the environment makes no sense, or if something is not a TCP socket that listens.
    pub fn take() -> Result<Self, InheritError> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        let names = names(|name| env::var(name).ok(), std::process::id())?;
        if TAKEN.swap(true, Ordering::SeqCst) {
            return Ok(Self::default());
        }
        (FIRST..).zip(names).map(|(descriptor, name)| passed(descriptor, name)).collect::<Result<_, _>>().map(Self)
    }

    /// The listeners for `key` of the configuration: the sockets of that name in place of `addresses`; else, of
    /// `addresses`, what was passed, and the others bound. Without a key there is no such name.
    ///
    /// # Errors
    /// [`InheritError`] for the first address that fails.
    pub fn listeners(&mut self, key: Option<&str>, addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, InheritError> {
        if addresses.is_empty() {
            return Ok(Vec::new());
        }
        let is_called = |passed: &Passed| key.is_some_and(|key| passed.name == key);
        let mut found: Vec<Passed> = self.0.extract_if(.., |passed| is_called(passed)).collect();
        let named = !found.is_empty();
        found.extend(self.0.extract_if(.., |passed| addresses.contains(&passed.address)));
        let missing: Vec<SocketAddr> = addresses
            .iter()
            .filter(|address| !named && !found.iter().any(|passed| passed.address == **address))
            .copied()
            .collect();
        let mut listeners = bind_all(&missing)?;
        for Passed { address, socket, .. } in found {
            tracing::info!(%address, "listening on the socket that was passed");
            let listener = TcpListener::from_std(socket.into()).map_err(|source| BindError { address, source })?;
            listeners.push(listener);
        }
        Ok(listeners)
    }

    /// Complains about a socket that nobody wanted: its clients would wait in it for ever.
    ///
    /// # Errors
    /// [`InheritError::Unwanted`].
    pub fn finish(self) -> Result<(), InheritError> {
        match self.0.into_iter().next() {
            Some(Passed { name, address, .. }) => Err(InheritError::Unwanted { address, name }),
            None => Ok(()),
        }
    }
}

/// The names of the descriptors that the environment says are passed to the process `id`, in their order.
fn names(get: impl Fn(&str) -> Option<String>, id: u32) -> Result<Vec<String>, InheritError> {
    let (Some(process), Some(count)) = (get("LISTEN_PID"), get("LISTEN_FDS")) else { return Ok(Vec::new()) };
    let wrong = |variable, value: &str| InheritError::Environment { variable, value: value.to_owned() };
    let process: u32 = process.parse().map_err(|_| wrong("LISTEN_PID", &process))?;
    if process != id {
        // Meant for whoever started us.
        return Ok(Vec::new());
    }
    let passed: usize = count.parse().map_err(|_| wrong("LISTEN_FDS", &count))?;
    if passed > usize::try_from(MOST).unwrap_or(0) {
        return Err(wrong("LISTEN_FDS", &count));
    }
    let given = get("LISTEN_FDNAMES");
    let mut names: Vec<String> = match &given {
        Some(names) if passed > 0 => names.split(':').map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    if !names.is_empty() && names.len() != passed {
        return Err(wrong("LISTEN_FDNAMES", given.as_deref().unwrap_or_default()));
    }
    names.resize(passed, "unknown".to_owned());
    Ok(names)
}

fn passed(descriptor: RawFd, name: String) -> Result<Passed, InheritError> {
    let no_listener =
        |name: &str, reason: String| InheritError::NoListener { descriptor, name: name.to_owned(), reason };
    // Before it is taken: what is no socket, or not there, is somebody else's.
    let is =
        fs::read_link(format!("/proc/self/fd/{descriptor}")).map_err(|error| no_listener(&name, error.to_string()))?;
    if !is.to_string_lossy().starts_with("socket:") {
        return Err(no_listener(&name, format!("it is {}", is.display())));
    }
    let socket = Socket::from(owned(descriptor));
    match looked_at(&socket) {
        Ok(address) => Ok(Passed { name, address, socket }),
        Err(error) => Err(no_listener(&name, error.to_string())),
    }
}

/// Where a socket listens; from then on it is ours alone.
fn looked_at(socket: &Socket) -> io::Result<SocketAddr> {
    let other = |what: &str| io::Error::other(what.to_owned());
    let address = socket.local_addr()?.as_socket().ok_or_else(|| other("it has no IP address"))?;
    if socket.r#type()? != Type::STREAM {
        return Err(other("it is no TCP socket"));
    }
    if !socket.is_listener()? {
        return Err(other("it doesn't listen (Accept=no is needed)"));
    }
    socket.set_nonblocking(true)?;
    rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC)?;
    Ok(address)
}

/// The one place that takes a descriptor by its number.
#[allow(unsafe_code)]
fn owned(descriptor: RawFd) -> OwnedFd {
    // SAFETY: `descriptor` is an open socket (`passed` has looked) that our parent passed to this very process
    // (`LISTEN_PID` is ours), so nothing in it has opened it or owns it; and `Inherited::take` comes here once for each
    // number in the life of the process, so there is no second owner either.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::SocketAddr;

    use socket2::{Domain, Socket, Type};

    use super::{Inherited, Passed, names};

    fn environment(vars: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        |name| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    fn named(vars: &'static [(&str, &str)]) -> Result<Vec<String>, String> {
        names(environment(vars), 7).map_err(|error| error.to_string())
    }

    #[test]
    fn what_was_passed_to_somebody_else_is_not_ours() {
        assert_eq!(named(&[]), Ok(vec![]));
        assert_eq!(named(&[("LISTEN_FDS", "2")]), Ok(vec![]));
        assert_eq!(named(&[("LISTEN_FDS", "2"), ("LISTEN_PID", "8")]), Ok(vec![]));
    }

    #[test]
    fn each_socket_has_its_name() {
        let two = &[("LISTEN_PID", "7"), ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "imap:pop3")];
        assert_eq!(named(two), Ok(vec!["imap".to_owned(), "pop3".to_owned()]));
        assert_eq!(named(&[("LISTEN_PID", "7"), ("LISTEN_FDS", "1")]), Ok(vec!["unknown".to_owned()]));
        assert_eq!(named(&[("LISTEN_PID", "7"), ("LISTEN_FDS", "0"), ("LISTEN_FDNAMES", "")]), Ok(vec![]));
    }

    #[test]
    fn an_environment_that_makes_no_sense_is_an_error_that_names_it() {
        for (vars, word) in [
            (&[("LISTEN_PID", "x"), ("LISTEN_FDS", "2")] as &'static [_], "LISTEN_PID=x"),
            (&[("LISTEN_PID", "7"), ("LISTEN_FDS", "-1")], "LISTEN_FDS=-1"),
            (&[("LISTEN_PID", "7"), ("LISTEN_FDS", "100000")], "LISTEN_FDS=100000"),
            (&[("LISTEN_PID", "7"), ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "imap")], "LISTEN_FDNAMES=imap"),
        ] {
            assert!(named(vars).unwrap_err().contains(word), "{word}");
        }
    }

    fn listening(name: &str) -> Passed {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.listen(1).unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Passed { name: name.to_owned(), address, socket }
    }

    #[tokio::test]
    async fn a_socket_is_found_by_address_or_by_name_and_the_rest_is_bound() {
        let (by_address, by_name) = (listening("mailferry.socket"), listening("pop3"));
        let (first, second) = (by_address.address, by_name.address);
        let mut inherited = Inherited(vec![by_address, by_name]);
        let where_they_listen = |listeners: Vec<tokio::net::TcpListener>| -> Vec<SocketAddr> {
            listeners.iter().map(|listener| listener.local_addr().unwrap()).collect()
        };
        // 127.0.0.1:0 was not passed.
        let imap = inherited.listeners(Some("imap"), &["127.0.0.1:0".parse().unwrap(), first]).unwrap();
        let imap = where_they_listen(imap);
        assert!(imap.len() == 2 && imap.contains(&first), "{imap:?}");
        // Whatever the configuration says, which could not be bound here.
        let pop3 = inherited.listeners(Some("pop3"), &["192.0.2.1:110".parse().unwrap()]).unwrap();
        assert_eq!(where_they_listen(pop3), [second]);
        inherited.finish().unwrap();
    }

    #[tokio::test]
    async fn a_socket_that_nobody_wants_is_an_error() {
        let mut inherited = Inherited(vec![listening("imaps")]);
        assert!(inherited.listeners(Some("imaps"), &[]).unwrap().is_empty(), "there is no such listener");
        let error = inherited.finish().unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:") && error.contains("\"imaps\""), "{error}");
    }
}
