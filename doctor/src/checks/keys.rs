//! The secret of the link.

use super::pairs;
use crate::facts::{Facts, Key, Kind};
use crate::finding::Findings;

/// What a key file's permissions must not have: any right of others, and the group's right to write.
const TOO_OPEN: u32 = 0o027;

pub(super) fn check(facts: &Facts, found: &mut Findings) {
    for (_, pair, _) in pairs(facts) {
        match &pair.key {
            Key::Absent => {}
            Key::Trusted => found.warning(
                "link-trusted",
                format!("pair {}: --link-key none", pair.name),
                "anyone who can send a frame on the link can silence this VM or send in its name",
                "make a key with `dpdk-colo --make-link-key FILE`, copy it to the other host and give it to both nodes; \
                 or let nobody else on that segment",
            ),
            Key::File { path, ids, fault } => {
                let place = format!("pair {}: --link-key {path}", pair.name);
                let file = facts.host.files.get(path).cloned().unwrap_or_default();
                let known = facts.host.files.contains_key(path);
                if known && file.kind == Kind::Missing {
                    found.error(
                        "key-missing",
                        place,
                        "there is no such file",
                        format!(
                            "`dpdk-colo --make-link-key {path}` on one host, and copy it to the other with mode 0600"
                        ),
                    );
                } else if known && file.kind == Kind::File && file.mode & TOO_OPEN != 0 {
                    found.error(
                        "key-mode",
                        place,
                        format!("mode {:04o}: others may read the secret, or change it", file.mode),
                        format!("`chmod 600 {path}`; if somebody may have read it, make a new key for both hosts"),
                    );
                } else if let Some(fault) = fault
                    && ids.is_empty()
                {
                    found.error(
                        "key-unusable",
                        place,
                        fault.as_str(),
                        "correct the file, or make a key with `dpdk-colo --make-link-key FILE`",
                    );
                }
            }
        }
    }
}
