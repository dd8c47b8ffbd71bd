//! The bytes of a stream that a mask rule lets differ (docs/mask.md): the rules' words, applied to what both VMs have sent.

use std::collections::{HashMap, HashSet};

use dpdk_colo::packet::serial::distance;

use crate::bytes::KEPT;
use crate::record::Mask;

/// How long a rule is taken to last beyond its end: the node read another clock.
const GRACE_NS: u64 = 1_000_000_000;

/// The mask rules of a flow.
#[derive(Default)]
pub struct Masks {
    rules: Vec<(String, Mask)>,
    /// The time of the record at hand.
    pub now: u64,
}

impl Masks {
    /// These rules, each with its name.
    pub fn new(rules: Vec<(String, Mask)>) -> Self {
        Self { rules, now: 0 }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// How many bytes up to the one in question a rule looks at.
    pub(super) fn reach(&self) -> usize {
        let reach = |(_, mask): &(String, Mask)| mask.after.len() + mask.most;
        self.rules.iter().map(reach).max().unwrap_or(0)
    }

    /// The rule that covers the last of the bytes that the two VMs have sent, as far as they are known.
    pub(super) fn covering(&self, p: &[Option<u8>], s: &[Option<u8>]) -> Option<&str> {
        let usual = |bytes: &[Option<u8>]| {
            let last = bytes.last().copied().flatten();
            last.is_some_and(|byte| byte.is_ascii_alphanumeric())
        };
        if !usual(p) || !usual(s) {
            return None;
        }
        let covers = |(_, mask): &&(String, Mask)| {
            let lasts = mask
                .expires_ns
                .is_none_or(|end| self.now < end.saturating_add(GRACE_NS));
            !mask.dry_run && lasts && in_value(mask, [p, s])
        };
        let found = self.rules.iter().find(covers)?;
        Some(&found.0)
    }
}

/// Whether the last byte lies in a value that begins at the same place in both streams.
fn in_value(mask: &Mask, streams: [&[Option<u8>]; 2]) -> bool {
    let len = streams[0].len();
    let literal: Vec<_> = mask.after.iter().map(|byte| Some(*byte)).collect();
    let begins = |first: usize| {
        streams.iter().all(|stream| {
            let value = &stream[first..];
            stream[..first].ends_with(&literal)
                && value
                    .iter()
                    .all(|byte| byte.is_some() && (mask.until.is_none() || *byte != mask.until))
        })
    };
    (literal.len()..len)
        .filter(|first| len - first <= mask.most)
        .any(begins)
}

/// The bytes of a connection that left masked.
#[derive(Default)]
pub struct MaskedBytes {
    at: HashSet<u32>,
    /// What a node that had taken over let leave in their place.
    again: HashMap<u32, u8>,
}

impl MaskedBytes {
    /// Notes one.
    pub(super) fn note(&mut self, at: u32) {
        const MANY: usize = 1 << 16;
        if self.at.len() >= MANY {
            let is_near = |known: &u32| i64::from(distance(*known, at).abs()) < KEPT;
            self.at.retain(is_near);
            self.again.retain(|known, _| is_near(known));
        }
        self.at.insert(at);
    }

    /// Whether a byte left masked.
    pub(super) fn contains(&self, at: u32) -> bool {
        self.at.contains(&at)
    }

    /// Notes what has left in the place of one.
    pub(super) fn note_again(&mut self, at: u32, byte: u8) {
        self.again.insert(at, byte);
    }

    /// Whether this left in the place of one.
    pub fn left_as(&self, at: u32, byte: u8) -> bool {
        self.again.get(&at) == Some(&byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(until: Option<u8>, most: usize) -> Mask {
        Mask {
            after: b"t=".to_vec(),
            most,
            until,
            dry_run: false,
            expires_ns: None,
        }
    }

    fn covered(mask: Mask, p: &str, s: &str) -> bool {
        let known = |text: &str| -> Vec<Option<u8>> {
            text.bytes()
                .map(|byte| Some(byte).filter(|byte| *byte != b'?'))
                .collect()
        };
        let masks = Masks::new(vec![("date".into(), mask)]);
        masks.covering(&known(p), &known(s)) == Some("date")
    }

    #[test]
    fn a_byte_is_covered_in_the_value_only() {
        assert!(covered(mask(None, 3), "xt=123", "xt=456"));
        assert!(!covered(mask(None, 3), "xt=1234", "xt=1235"));
        assert!(covered(mask(Some(b';'), 9), "t=1;t=2", "t=1;t=3"));
        assert!(!covered(mask(Some(b';'), 9), "t=1;2", "t=1;3"));
        assert!(!covered(mask(Some(b';'), 9), "t=1;2", "t=123"));
        assert!(
            !covered(mask(None, 9), "t=1", "t=;"),
            "neither letter nor digit"
        );
        assert!(!covered(mask(None, 9), "t=1", "?=2"), "not known");
        assert!(!covered(mask(None, 9), "t=?1", "t=?2"), "not known");
    }

    #[test]
    fn a_rule_that_is_tried_or_has_ended_covers_nothing() {
        let tried = Mask {
            dry_run: true,
            ..mask(None, 3)
        };
        assert!(!covered(tried, "t=1", "t=2"));
        let ends = Mask {
            expires_ns: Some(5),
            ..mask(None, 3)
        };
        let mut masks = Masks::new(vec![("date".into(), ends)]);
        let [p, s] = ["t=1", "t=2"].map(|text| text.bytes().map(Some).collect::<Vec<_>>());
        masks.now = 5 + GRACE_NS - 1;
        assert!(masks.covering(&p, &s).is_some());
        masks.now += 1;
        assert!(masks.covering(&p, &s).is_none());
    }
}
