//! Where a monitor listens: a unix socket's path or a TCP host and port, as written on the
//! command line.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Longest path of a unix socket on Linux in bytes: `sun_path` less its closing zero (unix(7)).
const PATH_MAX: usize = 107;

/// The address of a monitor.
///
/// Text with a `/` or without a `:` is a path; anything else is `host:port`, an IPv6 host in
/// brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A unix stream socket.
    Unix(PathBuf),
    /// A TCP socket. A numeric host is used as it is, a name is resolved at each connect.
    Tcp {
        /// Name or numeric address, without brackets.
        host: String,
        /// 1 to 65535.
        port: u16,
    },
}

/// Why a text is no [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing was written.
    #[error("empty monitor address; give the path of a unix socket or host:port")]
    Empty,
    /// The kernel takes no unix socket path of this length.
    #[error("monitor path {path:?} has {len} bytes; a unix socket's path may have {PATH_MAX}")]
    PathTooLong {
        /// What was written.
        path: String,
        /// Its length in bytes.
        len: usize,
    },
    /// A path cannot hold a zero byte.
    #[error("monitor path {0:?} holds a zero byte")]
    PathHoldsZero(String),
    /// Nothing before the colon.
    #[error("monitor address {0:?} names no host; write host:port, or a path with a slash")]
    NoHost(String),
    /// The part after the last colon is no port.
    #[error(
        "monitor address {0:?} does not end in a port from 1 to 65535; \
         write host:port, or a path with a slash"
    )]
    Port(String),
    /// An IPv6 address without brackets, or brackets that do not hold one.
    #[error("monitor address {0:?} is not clear; write an IPv6 host as [address]:port")]
    Brackets(String),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if text.contains('/') || !text.contains(':') {
            return unix(text);
        }
        let (host, port) = text
            .rsplit_once(':')
            .ok_or_else(|| AddressError::Port(text.into()))?;
        let host = if let Some(open) = host.strip_prefix('[') {
            open.strip_suffix(']')
                .filter(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
                .ok_or_else(|| AddressError::Brackets(text.into()))?
        } else if host.contains([':', ']']) {
            return Err(AddressError::Brackets(text.into()));
        } else {
            host
        };
        if host.is_empty() {
            return Err(AddressError::NoHost(text.into()));
        }
        // `u16::from_str` takes a leading plus sign, which no port has.
        let port = Some(port)
            .filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|port| port.parse().ok())
            .filter(|&port| port != 0)
            .ok_or_else(|| AddressError::Port(text.into()))?;
        Ok(Self::Tcp {
            host: host.into(),
            port,
        })
    }
}

fn unix(text: &str) -> Result<Address, AddressError> {
    if text.len() > PATH_MAX {
        return Err(AddressError::PathTooLong {
            path: text.into(),
            len: text.len(),
        });
    }
    if text.contains('\0') {
        return Err(AddressError::PathHoldsZero(text.into()));
    }
    Ok(Address::Unix(Path::new(text).into()))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_hosts_are_distinguished_and_written_back() {
        for (text, want) in [
            ("/run/x.qmp", Address::Unix("/run/x.qmp".into())),
            ("x.qmp", Address::Unix("x.qmp".into())),
            ("./a:4444", Address::Unix("./a:4444".into())),
            ("localhost:4444", tcp("localhost", 4444)),
            ("192.0.2.1:1", tcp("192.0.2.1", 1)),
            ("[2001:db8::1]:65535", tcp("2001:db8::1", 65535)),
        ] {
            let got: Address = text.parse().expect(text);
            assert_eq!(got, want);
            assert_eq!(got.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_by_its_reason() {
        let refused = |text: &str| text.parse::<Address>().expect_err(text);
        assert_eq!(refused(""), AddressError::Empty);
        assert_eq!(refused(":1"), AddressError::NoHost(":1".into()));
        for text in ["host:", "host:0", "host:65536", "host:+1", "host:qmp"] {
            assert_eq!(refused(text), AddressError::Port(text.into()));
        }
        for text in ["::1:4444", "[::1:4444", "[host]:4444", "[]:1"] {
            assert_eq!(refused(text), AddressError::Brackets(text.into()));
        }
        assert!(matches!(
            refused(&"x".repeat(108)),
            AddressError::PathTooLong { len: 108, .. }
        ));
        assert!("x".repeat(107).parse::<Address>().is_ok());
        assert!(matches!(refused("a\0b"), AddressError::PathHoldsZero(_)));
    }

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp {
            host: host.into(),
            port,
        }
    }
}
