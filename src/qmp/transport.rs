//! A nonblocking stream socket to a monitor.
//!
//! The standard library can only connect a unix socket blocking, and on a monitor that other
//! clients wait for such a call hangs for good once the listener's backlog is full (QEMU's is 1).
//! So sockets are made here, nonblocking from their birth.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::{Address, QmpError};

/// A socket that is connected, or about to be.
#[derive(Debug)]
pub(super) enum Transport {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Transport {
    /// Begins to connect. `attempt` turns through the addresses that a host's name has.
    ///
    /// # Errors
    /// The name has no address, or the connection was refused at once.
    pub(super) fn connect(address: &Address, attempt: usize) -> Result<Self, QmpError> {
        let refused = |source: io::Error| QmpError::Connect {
            address: address.clone(),
            source,
        };
        match address {
            Address::Unix(path) => {
                let to =
                    SocketAddrUnix::new(path.as_path()).map_err(|errno| refused(errno.into()))?;
                let socket = socket(AddressFamily::UNIX).map_err(refused)?;
                rustix::net::connect(&socket, &to).map_err(|errno| refused(errno.into()))?;
                Ok(Self::Unix(socket.into()))
            }
            Address::Tcp { host, port } => {
                let to = resolve(host, *port, attempt).map_err(|source| QmpError::Resolve {
                    address: address.clone(),
                    source,
                })?;
                let family = match to {
                    SocketAddr::V4(_) => AddressFamily::INET,
                    SocketAddr::V6(_) => AddressFamily::INET6,
                };
                let socket = socket(family).map_err(refused)?;
                match rustix::net::connect(&socket, &to) {
                    Ok(()) | Err(Errno::INPROGRESS) => {}
                    Err(errno) => return Err(refused(errno.into())),
                }
                let stream = TcpStream::from(socket);
                stream.set_nodelay(true).map_err(refused)?;
                Ok(Self::Tcp(stream))
            }
        }
    }

    /// Whether the connection stands by now.
    ///
    /// # Errors
    /// The peer refused it.
    pub(super) fn is_connected(&self) -> io::Result<bool> {
        match self {
            // A unix socket connects at once or not at all.
            Self::Unix(_) => Ok(true),
            Self::Tcp(stream) => match (stream.take_error()?, stream.peer_addr()) {
                (Some(error), _) => Err(error),
                // Linux may connect a socket to itself where nothing listens on a port of the
                // ephemeral range, and would then keep QEMU from it.
                (None, Ok(peer)) if stream.local_addr()? == peer => {
                    Err(io::ErrorKind::ConnectionRefused.into())
                }
                (None, Ok(_)) => Ok(true),
                (None, Err(error)) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
                (None, Err(error)) => Err(error),
            },
        }
    }

    /// Reads what there is; `Ok(0)` is the end of the stream, `WouldBlock` means not yet.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(|| match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        })
    }

    /// Writes as much as the kernel takes; `WouldBlock` means nothing now.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        retry(|| match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        })
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

fn socket(family: AddressFamily) -> io::Result<std::os::fd::OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(
        family,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

fn resolve(host: &str, port: u16, attempt: usize) -> io::Result<SocketAddr> {
    let found: Vec<_> = (host, port).to_socket_addrs()?.collect();
    match found.len() {
        0 => Err(io::ErrorKind::NotFound.into()),
        count => Ok(found[attempt % count]),
    }
}

fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
