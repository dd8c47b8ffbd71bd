//! QMP's lines: taken out of a byte stream in any chunks, and read as JSON.
//!
//! QEMU ends each message with CR LF and writes no line break inside one (a monitor with
//! `pretty=on` does, and is not supported).

use serde::Deserialize;
use serde_json::Value;

use super::error::{CommandError, Excerpt, ProtocolError};
use super::event::QemuTime;
use super::probe::Version;

/// Longest line in bytes where nothing long is due. QEMU's longest routine replies have some kB.
pub(super) const LINE_MAX: usize = 256 << 10;
/// Longest line in bytes while the schema is due, which has 207 kB in QEMU 7.2.
pub(super) const SCHEMA_LINE_MAX: usize = 8 << 20;

/// Collects bytes until a line is whole. Holds at most one bound and one chunk.
#[derive(Debug, Default)]
pub(super) struct Lines {
    buffer: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// Up to where there is certainly no line feed.
    scanned: usize,
}

impl Lines {
    /// Appends what was read.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.buffer.shrink_to(LINE_MAX);
            (self.start, self.scanned) = (0, 0);
        } else if self.start > 0 {
            self.buffer.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line without its line feed, if there is one.
    ///
    /// # Errors
    /// The line is longer than `limit`, whole or not.
    pub(super) fn next(&mut self, limit: usize) -> Result<Option<&[u8]>, ProtocolError> {
        let feed = self.buffer[self.scanned..]
            .iter()
            .position(|&byte| byte == b'\n')
            .map(|at| self.scanned + at);
        let end = feed.unwrap_or(self.buffer.len());
        if end - self.start > limit {
            return Err(ProtocolError::LineTooLong { limit });
        }
        self.scanned = end;
        if feed.is_none() {
            return Ok(None);
        }
        let line = self.start..end;
        self.start = end + 1;
        self.scanned = self.start;
        Ok(Some(&self.buffer[line]))
    }

    /// What there is of the line that is not whole yet.
    pub(super) fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }
}

/// One message of a monitor, of whichever kind. `R` is the shape that a successful reply has.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "R: Deserialize<'de>"))]
pub(super) struct Message<R = Value> {
    /// The greeting.
    #[serde(rename = "QMP")]
    pub greeting: Option<Greeting>,
    /// A reply that succeeded.
    #[serde(rename = "return")]
    pub success: Option<R>,
    /// A reply that failed.
    pub error: Option<CommandError>,
    /// Echo of the command's id.
    pub id: Option<Value>,
    /// An event's name.
    pub event: Option<String>,
    /// An event's data.
    pub data: Option<Value>,
    /// An event's time.
    pub timestamp: Option<QemuTime>,
}

impl<R> Message<R> {
    /// The same message with another account of its success.
    pub(super) fn map_success<T>(self, account: impl FnOnce(R) -> T) -> Message<T> {
        Message {
            greeting: self.greeting,
            success: self.success.map(account),
            error: self.error,
            id: self.id,
            event: self.event,
            data: self.data,
            timestamp: self.timestamp,
        }
    }
}

/// What a monitor says first.
#[derive(Debug, Deserialize)]
pub(super) struct Greeting {
    /// What listens there.
    pub version: GreetingVersion,
    /// What it offers to be enabled.
    #[serde(default)]
    pub capabilities: Vec<String>,
}

/// The same that `query-version` returns.
#[derive(Debug, Deserialize)]
pub(super) struct GreetingVersion {
    /// The release.
    pub qemu: Version,
    /// The distribution's name for its build; may be empty.
    #[serde(default)]
    pub package: String,
}

/// Reads one line.
///
/// # Errors
/// It is not JSON, or JSON of another shape than `expected`.
pub(super) fn parse<'a, R: Deserialize<'a>>(
    line: &'a [u8],
    expected: &'static str,
) -> Result<Message<R>, ProtocolError> {
    serde_json::from_slice(line).map_err(|source| {
        let got = Excerpt::new(line);
        if source.is_data() {
            ProtocolError::Shape { expected, got }
        } else {
            ProtocolError::Json { source, got }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_whole_and_in_order_whatever_the_chunks() {
        let text = b"one\r\n\ntwo\nthree";
        for size in 1..=text.len() {
            let mut lines = Lines::default();
            let mut got = Vec::new();
            for chunk in text.chunks(size) {
                lines.push(chunk);
                while let Some(line) = lines.next(16).unwrap() {
                    got.push(line.to_vec());
                }
            }
            assert_eq!(got, [&b"one\r"[..], b"", b"two"]);
            assert_eq!(lines.rest(), b"three");
        }
    }

    #[test]
    fn a_line_over_its_bound_is_refused_whole_or_not() {
        for text in [&b"12345"[..], b"12345\n"] {
            let mut lines = Lines::default();
            lines.push(b"1234\n");
            assert!(matches!(lines.next(4), Ok(Some(b"1234"))));
            lines.push(text);
            assert!(matches!(
                lines.next(4),
                Err(ProtocolError::LineTooLong { limit: 4 })
            ));
        }
    }
}
