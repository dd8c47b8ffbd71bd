//! Pages over HTTP, one connection each; head and body are compared byte by byte.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::{Connection, Family, TrafficError};

/// Where the guest serves them.
pub const PORT: u16 = 80;

/// A page of the guest's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// One byte.
    Small,
    /// 300,000 bytes.
    Usual,
    /// 8 MiB.
    Large,
    /// 32 MiB.
    Big,
}

impl Page {
    /// Its length in bytes.
    pub fn len(self) -> usize {
        match self {
            Self::Small => 1,
            Self::Usual => 300_000,
            Self::Large => 8 << 20,
            Self::Big => 32 << 20,
        }
    }

    /// What asks for it.
    pub fn request(self) -> String {
        format!("GET /{} HTTP/1.1\r\nHost: guest\r\n\r\n", self.path())
    }

    /// What comes before the body.
    pub fn head(self) -> String {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.len()
        )
    }

    /// Its name in messages and in the request.
    pub fn path(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Usual => "page",
            Self::Large => "large",
            Self::Big => "big",
        }
    }
}

/// What came of some fetches.
#[derive(Debug, Clone, Default)]
pub struct Fetched {
    /// Body bytes, all of them right.
    pub bytes: u64,
    /// How long it took.
    pub time: Duration,
    /// Time of each whole page, connection set-up included.
    pub each: Vec<Duration>,
}

impl Fetched {
    /// Body bytes per second.
    pub fn rate(&self) -> f64 {
        self.bytes as f64 / self.time.as_secs_f64()
    }

    /// Median time of a whole page; none if no page came whole.
    pub fn median(&self) -> Option<Duration> {
        let mut sorted = self.each.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }
}

/// Fetches `page` `count` times, one after the other, or for as long as `limit` if that is shorter.
///
/// # Errors
/// Those of [`Connection`].
pub fn fetch(
    family: Family,
    page: Page,
    count: usize,
    limit: Option<Duration>,
) -> Result<Fetched, TrafficError> {
    let start = Instant::now();
    let until = limit.map(|limit| start + limit);
    let (request, head) = (page.request(), page.head());
    let body = &pattern()[..page.len()];
    let mut fetched = Fetched::default();
    for _ in 0..count {
        let began = Instant::now();
        let mut connection = Connection::open(family, PORT, page.path())?;
        connection.send(request.as_bytes())?;
        connection.expect(head.as_bytes(), None)?;
        let n = connection.expect(body, until)?;
        fetched.bytes += n as u64;
        if n < body.len() {
            break;
        }
        connection.expect_end()?;
        fetched.each.push(began.elapsed());
        if until.is_some_and(|until| Instant::now() > until) {
            break;
        }
    }
    fetched.time = start.elapsed();
    Ok(fetched)
}

/// Asks for `page` on a new connection and receives it whole.
///
/// # Errors
/// Those of [`Connection`].
pub fn ask(connection: &mut Connection, page: Page) -> Result<(), TrafficError> {
    connection.send(page.request().as_bytes())?;
    connection.expect(page.head().as_bytes(), None)?;
    connection.expect(&pattern()[..page.len()], None)?;
    connection.expect_end()
}

/// Sends the body of `page` on a new connection; the guest must find every byte of it right.
///
/// # Errors
/// Those of [`Connection`].
pub fn upload(connection: &mut Connection, page: Page) -> Result<(), TrafficError> {
    let len = page.len();
    let head = format!(
        "POST /{} HTTP/1.1\r\nHost: guest\r\nContent-Length: {len}\r\n\r\n",
        page.path()
    );
    connection.send(head.as_bytes())?;
    connection.send(&pattern()[..len])?;
    let said = format!("{len} bytes right\n");
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{said}",
        said.len()
    );
    connection.expect(answer.as_bytes(), None)?;
    connection.expect_end()
}

/// The body that the guest's service sends (`guest/services.c`): lines of eight bytes, numbered.
pub fn pattern() -> &'static [u8] {
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    PATTERN.get_or_init(|| {
        let lines = Page::Big.len() / 8;
        (0..lines)
            .flat_map(|line| {
                let mut text = [b'\n'; 8];
                for (digit, byte) in text[..7].iter_mut().enumerate() {
                    *byte = b"0123456789abcdef"[(line >> (24 - 4 * digit)) & 15];
                }
                text
            })
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_numbers_its_lines() {
        assert_eq!(&pattern()[..16], b"0000000\n0000001\n");
        assert_eq!(&pattern()[8 * 0x3ff..8 * 0x400], b"00003ff\n");
        assert_eq!(pattern().len(), Page::Big.len());
    }

    #[test]
    fn the_median_is_of_whole_pages() {
        let ms = Duration::from_millis;
        let fetched = Fetched {
            each: vec![ms(9), ms(1), ms(2)],
            ..Fetched::default()
        };
        assert_eq!(fetched.median(), Some(ms(2)));
        assert_eq!(Fetched::default().median(), None);
    }
}
