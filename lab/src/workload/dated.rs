//! Pages with a `Date:` header by the VM's clock, which is not the same at two VMs.

use std::time::{Duration, Instant};

use super::http::PORT;
use super::{Connection, Family, TrafficError};
use crate::interrupt;

/// What comes before the date, and behind it.
const HEAD: &str = "HTTP/1.1 200 OK\r\nServer: lab\r\nDate: ";
const TAIL: &str = " GMT\r\nContent-Length: ";
/// Bytes of the date, up to the time zone.
const DATE: usize = "Tue, 01 Dec 2026 00:00:00".len();

/// A page of the guest's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// The date differs at most.
    Dated,
    /// A letter of the body differs, too.
    Odd,
}

/// Fetches a page and checks all of it but the date and the odd letter; returns the date.
///
/// # Errors
/// Those of [`Connection`].
pub fn fetch(family: Family, page: Page) -> Result<String, TrafficError> {
    let (path, len) = match page {
        Page::Dated => ("dated", 1),
        Page::Odd => ("odd", 2),
    };
    let mut connection = Connection::open(family, PORT, path)?;
    connection.send(format!("GET /{path} HTTP/1.1\r\nHost: guest\r\n\r\n").as_bytes())?;
    connection.expect(HEAD.as_bytes(), None)?;
    let date = take(&mut connection, DATE)?;
    let tail = format!("{TAIL}{len}\r\nConnection: close\r\n\r\n0");
    connection.expect(tail.as_bytes(), None)?;
    take(&mut connection, len - 1)?;
    connection.expect_end()?;
    Ok(String::from_utf8_lossy(&date).into_owned())
}

fn take(connection: &mut Connection, len: usize) -> Result<Vec<u8>, TrafficError> {
    let mut bytes = vec![0; len];
    let mut have = 0;
    while have < len {
        let n = connection.receive(&mut bytes[have..])?;
        if n == 0 {
            return Err(TrafficError::Short {
                what: "a page with a date".to_owned(),
                offset: have as u64,
                length: len as u64,
            });
        }
        have += n;
    }
    Ok(bytes)
}

/// Fetches dated pages, one every `interval` or as fast as they come if that is slower; returns how many.
///
/// # Errors
/// Those of [`Connection`].
pub fn run(interval: Duration, time: Duration) -> Result<usize, TrafficError> {
    let start = Instant::now();
    let mut next = start;
    let mut pages = 0;
    while start.elapsed() < time {
        fetch(Family::V4, Page::Dated)?;
        pages += 1;
        next = (next + interval).max(Instant::now().checked_sub(interval * 4).unwrap_or(next));
        let wait = next.saturating_duration_since(Instant::now());
        if interrupt::came() {
            return Err(TrafficError::Interrupted);
        }
        std::thread::sleep(wait);
    }
    Ok(pages)
}
