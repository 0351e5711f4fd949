//! The socket of a group: who makes it, and who removes one that nobody listens at.
//!
//! Both hold a lock on its directory. Without it, one `start` that finds a socket where nobody listens yet would remove it
//! from under another that is about to listen, and a pod would have two shims.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use containerd_shim_ocirt::api::service::SERVICES;
use containerd_shim_ocirt::api::task::ContainerRequest;
use containerd_shim_ocirt::wire::client::{Call, Client};
use containerd_shim_ocirt::wire::status::Code;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use prost::Message;

/// How long a shim may take to say that it is there.
const ANSWER: Duration = Duration::from_secs(1);

/// The listening socket, or none if somebody listens already.
pub fn listen(path: &Path) -> io::Result<Option<UnixListener>> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let _lock = lock(path)?;
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            if !is_socket(path)? {
                return Err(io::Error::other("no socket"));
            }
            if is_served(path)? {
                return Ok(None);
            }
            fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        result => result?,
    };
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(Some(listener))
}

/// Removes the socket of a shim that was killed (containerd #11292).
pub fn remove_if_left(path: &Path) -> io::Result<()> {
    let _lock = lock(path)?;
    match is_socket(path) {
        Ok(true) if !is_served(path)? => fs::remove_file(path),
        // Somebody else's.
        Ok(_) => Ok(()),
        // The orderly end of a shim has removed it.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// A link to a socket is none.
fn is_socket(path: &Path) -> io::Result<bool> {
    Ok(fs::symlink_metadata(path)?.file_type().is_socket())
}

/// Until it is dropped, no other call of a shim makes or removes sockets here. Nobody waits while they have it.
fn lock(path: &Path) -> io::Result<Flock<File>> {
    let directory = File::open(path.parent().unwrap_or(Path::new("/")))?;
    Flock::lock(directory, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

/// True if a shim answers, or has no time to. One that is dying may still take connections, which then end; one that
/// has been told to end says that it is unavailable.
fn is_served(path: &Path) -> io::Result<bool> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match connect(fd.as_raw_fd(), &UnixAddr::new(path)?) {
        Ok(()) => Ok(answers(fd.into())),
        Err(Errno::EAGAIN) => Ok(true),
        Err(Errno::ECONNREFUSED) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Asks a shim who it is, which it always answers at once.
fn answers(mut stream: UnixStream) -> bool {
    let payload = ContainerRequest::default().encode_to_vec();
    let call = Call { service: SERVICES[0], method: "Connect", namespace: "", payload, timeout: ANSWER };
    let mut client = Client::default();
    let mut bytes = [0; 1024];
    let is_asked = stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(ANSWER))).is_ok()
        && client.call(call).is_some_and(|bytes| stream.write_all(&bytes).is_ok());
    if !is_asked {
        return false;
    }
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return false,
            Ok(length) => {
                if let Some(answer) = client.receive(&mut bytes.get(..length).unwrap_or_default()) {
                    return !answer.is_err_and(|status| status.is(Code::Unavailable));
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // It hangs, but it is there.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "several calls at the same time")]
mod tests {
    use std::path::PathBuf;
    use std::thread;

    use containerd_shim_ocirt::wire::server::{self, Connection, Incoming};
    use containerd_shim_ocirt::wire::status::Status;

    use super::*;

    fn place(name: &str) -> PathBuf {
        let place = std::env::temp_dir().join(format!("shim-{name}-{}", std::process::id()));
        fs::create_dir(&place).unwrap();
        place
    }

    /// Answers one call.
    fn serve(listener: UnixListener, answer: Result<Vec<u8>, Status>) -> thread::JoinHandle<()> {
        thread::spawn(move || {
            let (mut stream, mut bytes) = (listener.accept().unwrap().0, [0; 1024]);
            let length = stream.read(&mut bytes).unwrap();
            let Some(Incoming::Call(call)) = Connection::default().receive(&mut &bytes[..length]) else { panic!() };
            stream.write_all(&server::answer(call.stream, answer)).unwrap();
        })
    }

    #[test]
    fn a_socket_that_a_killed_shim_left_is_made_anew_or_removed() {
        let place = place("left");
        let path = place.join("s");
        drop(UnixListener::bind(&path).unwrap());
        let listener = listen(&path).unwrap().unwrap();
        let server = serve(listener.try_clone().unwrap(), Ok(Vec::new()));
        assert!(listen(&path).unwrap().is_none(), "somebody answers");
        server.join().unwrap();
        let server = serve(listener, Ok(Vec::new()));
        remove_if_left(&path).unwrap();
        server.join().unwrap();
        assert!(path.exists(), "somebody answered");
        remove_if_left(&path).unwrap();
        assert!(!path.exists());
        remove_if_left(&path).unwrap();
        fs::remove_dir(&place).unwrap();
    }

    #[test]
    fn what_is_no_socket_stays() {
        let place = place("other");
        let path = place.join("s");
        drop(UnixListener::bind(place.join("left")).unwrap());
        for make in [|path: &Path| fs::write(path, ""), |path: &Path| std::os::unix::fs::symlink("left", path)] {
            make(&path).unwrap();
            assert_eq!(listen(&path).unwrap_err().to_string(), "no socket");
            remove_if_left(&path).unwrap();
            fs::remove_file(&path).unwrap();
        }
        fs::remove_dir_all(&place).unwrap();
    }

    /// A process that is killed closes its connections before its socket, and takes connections meanwhile.
    #[test]
    fn a_shim_that_is_dying_is_not_there_any_more() {
        let place = place("dying");
        let path = place.join("s");
        for answer in [None, Some(Err(Status::new(Code::Unavailable, "shutting down")))] {
            let listener = UnixListener::bind(&path).unwrap();
            let server = match answer {
                Some(answer) => serve(listener, answer),
                None => thread::spawn(move || drop(listener.accept())),
            };
            assert!(listen(&path).unwrap().is_some());
            server.join().unwrap();
            fs::remove_file(&path).unwrap();
        }
        fs::remove_dir(&place).unwrap();
    }

    /// Without the lock, several of them listen: each at a socket that the next one removed.
    #[test]
    fn of_starts_at_the_same_time_one_listens() {
        let place = place("race");
        for round in 0..100 {
            let path = place.join(format!("{round}"));
            let begin = |path: PathBuf| {
                thread::spawn(move || {
                    let Some(listener) = listen(&path).unwrap() else { return false };
                    for _ in 0..3 {
                        serve(listener.try_clone().unwrap(), Ok(Vec::new())).join().unwrap();
                    }
                    true
                })
            };
            let all: Vec<_> = (0..4).map(|_| begin(path.clone())).collect();
            let listening = all.into_iter().map(|thread| thread.join().unwrap()).filter(|listens| *listens);
            assert_eq!(listening.count(), 1);
            fs::remove_file(&path).unwrap();
        }
        fs::remove_dir(&place).unwrap();
    }
}
