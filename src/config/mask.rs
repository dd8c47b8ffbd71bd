//! Mask rules as an operator writes them: the bytes of a stream that may differ between the VMs (docs/mask.md).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use toml::value::{Datetime, Offset};

/// The value behind a literal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskRule {
    /// What stands in front of the value, at both VMs.
    pub after: Box<[u8]>,
    /// How far the value goes.
    pub extent: MaskExtent,
    /// Nothing is masked; what would be is counted.
    pub dry_run: bool,
    /// When the rule ends.
    pub expires: Option<SystemTime>,
}

/// How far a value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskExtent {
    /// This many bytes.
    Length(usize),
    /// Up to before a byte of this value, and no more bytes than that.
    Until {
        /// The byte behind the value.
        end: u8,
        /// Most bytes.
        most: usize,
    },
}

impl MaskRule {
    /// Fewest bytes of what stands in front.
    pub const MIN_LITERAL: usize = 4;
    /// Most bytes of it.
    pub const MAX_LITERAL: usize = 64;
    /// Most bytes of a value.
    pub const MAX_VALUE: usize = 128;
}

/// What a client returns or acts on, in lower case. A literal that names one of them masks something else than a clock.
const RETURNED: [&str; 14] = [
    "cookie",
    "content-length",
    "content-range",
    "content-encoding",
    "transfer-encoding",
    "etag",
    "last-modified",
    "location",
    "authenticat",
    "authorization",
    "sec-websocket",
    "nonce",
    "csrf",
    "token",
];

/// A mask rule that says too little, too much, or what must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    /// Keys of a mask in a rule that exempts.
    #[error("`{0}` belongs to a rule with action = \"mask\"")]
    NotOfMask(&'static str),
    /// No TCP.
    #[error("a mask is for streams; write protocol = \"tcp\"")]
    NoStream,
    /// No literal, or too short or long a one.
    #[error("a mask needs `after`, the 4 to 64 bytes that stand in front of the value")]
    Literal,
    /// Neither a length nor an end, or both.
    #[error("a mask needs `length`, or `until` with `max-length`")]
    Extent,
    /// Too long or no value.
    #[error("a masked value has 1 to 128 bytes")]
    Value,
    /// More than one byte.
    #[error("`until` is one character of ASCII, such as \"\\r\"")]
    Until,
    /// A value that a client uses.
    #[error("clients return or act on what follows {0:?}, so that it must not be masked")]
    Returned(&'static str),
    /// No instant.
    #[error("`expires` is a date and time with its offset from UTC, such as 2031-01-31T00:00:00Z")]
    Expires,
}

/// The keys of a mask, as written.
pub(super) struct MaskKeys {
    pub after: Option<String>,
    pub length: Option<usize>,
    pub until: Option<String>,
    pub max_length: Option<usize>,
    pub dry_run: Option<bool>,
    pub expires: Option<Datetime>,
}

impl MaskKeys {
    /// Nothing of a mask, in a rule that is none.
    pub(super) fn refuse(self) -> Result<Option<MaskRule>, MaskError> {
        let keys = [
            ("after", self.after.is_some()),
            ("length", self.length.is_some()),
            ("until", self.until.is_some()),
            ("max-length", self.max_length.is_some()),
            ("dry-run", self.dry_run.is_some()),
            ("expires", self.expires.is_some()),
        ];
        match keys.into_iter().find(|(_, given)| *given) {
            Some((key, _)) => Err(MaskError::NotOfMask(key)),
            None => Ok(None),
        }
    }

    /// The rule that they make.
    pub(super) fn rule(self) -> Result<MaskRule, MaskError> {
        let after = self.after.unwrap_or_default();
        if !(MaskRule::MIN_LITERAL..=MaskRule::MAX_LITERAL).contains(&after.len()) {
            return Err(MaskError::Literal);
        }
        let lower = after.to_ascii_lowercase();
        if let Some(name) = RETURNED.into_iter().find(|name| lower.contains(name)) {
            return Err(MaskError::Returned(name));
        }
        let (extent, most) = match (self.length, self.until, self.max_length) {
            (Some(length), None, None) => (MaskExtent::Length(length), length),
            (None, Some(until), Some(most)) => {
                let &[end] = until.as_bytes() else {
                    return Err(MaskError::Until);
                };
                (MaskExtent::Until { end, most }, most)
            }
            _ => return Err(MaskError::Extent),
        };
        if !(1..=MaskRule::MAX_VALUE).contains(&most) {
            return Err(MaskError::Value);
        }
        Ok(MaskRule {
            after: after.into_bytes().into(),
            extent,
            dry_run: self.dry_run.unwrap_or(false),
            expires: match self.expires {
                Some(expires) => Some(instant(expires).ok_or(MaskError::Expires)?),
                None => None,
            },
        })
    }
}

/// An instant from 1970 on; leap seconds count as the second before.
fn instant(text: Datetime) -> Option<SystemTime> {
    let (date, time) = (text.date?, text.time?);
    let offset = match text.offset? {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    let (year, month, day) = (
        i64::from(date.year),
        i64::from(date.month),
        i64::from(date.day),
    );
    // Years begin with March, so that the leap day is a year's last.
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days = 365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468;
    let second = i64::from(time.second.unwrap_or(0)).min(59);
    let minutes = days * 1440 + i64::from(time.hour) * 60 + i64::from(time.minute) - offset;
    let seconds = u64::try_from(minutes * 60 + second).ok()?;
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PolicyRule;

    fn rule(keys: &str) -> Result<PolicyRule, String> {
        let text = format!("name = 'date'\naction = 'mask'\nprotocol = 'tcp'\nport = 80\n{keys}");
        toml::from_str(&text).map_err(|error: toml::de::Error| error.to_string())
    }

    #[test]
    fn a_mask_says_what_may_differ() {
        let found =
            rule("after = \"\\r\\nDate: \"\nuntil = \"\\r\"\nmax-length = 32").expect("a mask");
        let expected = MaskRule {
            after: b"\r\nDate: "[..].into(),
            extent: MaskExtent::Until {
                end: b'\r',
                most: 32,
            },
            dry_run: false,
            expires: None,
        };
        assert_eq!(found.mask, Some(expected));
        let found = rule(
            "after = 'time='\nlength = 8\ndry-run = true\nexpires = 2026-12-01T00:00:59+01:00",
        );
        let mask = found.expect("a mask").mask.expect("a mask");
        assert_eq!((mask.extent, mask.dry_run), (MaskExtent::Length(8), true));
        // From `date -u -d 2026-11-30T23:00:59Z +%s`.
        let expires = UNIX_EPOCH + Duration::from_secs(1_796_079_659);
        assert_eq!(mask.expires, Some(expires));
    }

    #[test]
    fn a_mask_that_says_too_little_or_too_much_is_refused() {
        let good = "after = 'time='\n";
        for (keys, complaint) in [
            ("length = 8", "`after`"),
            ("after = 'abc'\nlength = 8", "4 to 64"),
            (
                &*format!("after = '{}'\nlength = 8", "x".repeat(65)),
                "4 to 64",
            ),
            (good, "`length`"),
            (
                &*format!("{good}length = 8\nuntil = ';'\nmax-length = 8"),
                "`length`",
            ),
            (&*format!("{good}until = ';'"), "`max-length`"),
            (
                &*format!("{good}until = ';;'\nmax-length = 8"),
                "one character",
            ),
            (&*format!("{good}length = 0"), "1 to 128"),
            (&*format!("{good}length = 129"), "1 to 128"),
            (
                &*format!("{good}length = 8\nexpires = 2026-12-01"),
                "offset",
            ),
            (
                &*format!("{good}length = 8\nexpires = 2026-12-01T00:00:00"),
                "offset",
            ),
            (
                "after = 'Set-Cookie: sid='\nlength = 8",
                "must not be masked",
            ),
            (
                "after = 'Content-Length: '\nlength = 3",
                "must not be masked",
            ),
            ("after = 'ETag: '\nlength = 8", "must not be masked"),
        ] {
            let error = rule(keys).expect_err(keys);
            assert!(error.contains(complaint), "{keys}: {error}");
        }
        for (action, protocol, keys, complaint) in [
            ("mask", "udp", "after = 'time='\nlength = 8", "for streams"),
            ("mask", "any", "after = 'time='\nlength = 8", "for streams"),
            ("exempt", "tcp", "after = 'time='", "`after` belongs"),
            ("exempt", "tcp", "dry-run = true", "`dry-run` belongs"),
        ] {
            let text = format!("name = 'x'\naction = '{action}'\nprotocol = '{protocol}'\n{keys}");
            let error = toml::from_str::<PolicyRule>(&text).expect_err(keys);
            assert!(error.to_string().contains(complaint), "{keys}: {error}");
        }
    }
}
