//! Short connections: one page of one byte each, closed by the guest, by the client, or by both at once.
//!
//! Which VM closes a moment before the other, and whether it then still knows the connection, is a matter
//! of timing; none of it may cost a checkpoint.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::http::{Page, pattern};
use super::{Connection, Family, TrafficError};
use crate::error::LabError;
use crate::net::ClientNet;

/// The guest's web server.
const PORT: u16 = 80;
/// Connections of a kind that are open at a time, where it is more than one.
pub const CROWD: usize = 20;

/// Who sends the first FIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// The guest, when it has sent the page; the client closes as soon as it has the page, so the
    /// FINs may cross.
    Guest,
    /// The client, when it has sent the request.
    Client,
}

/// One way of making short connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Over which addresses.
    pub family: Family,
    /// Who closes first.
    pub close: Close,
    /// Many connections at a time, or one after another.
    pub crowd: bool,
}

impl Kind {
    /// All eight.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for family in [Family::V4, Family::V6] {
            for close in [Close::Guest, Close::Client] {
                for crowd in [false, true] {
                    all.push(Self {
                        family,
                        close,
                        crowd,
                    });
                }
            }
        }
        all
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = match self.close {
            Close::Guest => "guest",
            Close::Client => "client",
        };
        let number = if self.crowd { CROWD } else { 1 };
        write!(
            f,
            "{}, {first} closes first, {number} at a time",
            self.family
        )
    }
}

/// Makes `count` connections of a kind and checks every byte.
///
/// # Errors
/// Those of [`Connection`]; [`LabError::Namespace`].
pub fn run(net: &ClientNet, kind: Kind, count: usize) -> Result<(), LabError> {
    let left = AtomicUsize::new(count);
    let clients = if kind.crowd { CROWD } else { 1 };
    let namespace = net.handle()?;
    thread::scope(|scope| {
        let client = || -> Result<(), LabError> {
            namespace.enter()?;
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .is_ok()
            {
                fetch(kind)?;
            }
            Ok(())
        };
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        let ends = clients.into_iter().map(|client| {
            client
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        // All have ended by then, whichever failed.
        ends.collect::<Vec<_>>().into_iter().collect()
    })
}

fn fetch(kind: Kind) -> Result<(), TrafficError> {
    let page = Page::Small;
    let mut connection = Connection::open(kind.family, PORT, page.path())?;
    connection.send(page.request().as_bytes())?;
    if kind.close == Close::Client {
        connection.send_end()?;
    }
    connection.expect(page.head().as_bytes(), None)?;
    connection.expect(&pattern()[..page.len()], None)?;
    if kind.close == Close::Client {
        connection.expect_end()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_differ() {
        let mut names: Vec<String> = Kind::all().iter().map(ToString::to_string).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 8);
    }
}
