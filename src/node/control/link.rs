//! What an operator hears of the link's session and of strangers on it.

use std::fmt;

use crate::config::{LinkKey, PairSettings};
use crate::link::secure::{Fault, Notice};
use crate::observability::log::Log;

/// Writes six bytes as an Ethernet address is written.
struct Address([u8; 6]);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What it means that a link is trusted.
pub(crate) fn warn_of_trust(pair: &PairSettings, log: &Log) {
    if pair.role.link_key() == Some(&LinkKey::Trusted) {
        log.alert(format_args!(
            "pair {}: --link-key none: anyone who can send a frame on the link can make this VM fall silent, send \
             uncompared or lose its network to another; make a key with --make-link-key, or let nobody else on \
             that segment (docs/threat-model.md)",
            pair.name
        ));
    }
}

/// Logs a notice.
pub(crate) fn tell(notice: Notice, pair: &PairSettings, log: &Log) {
    let name = &pair.name;
    match notice {
        Notice::Session { peer } => log.info(format_args!(
            "pair {name}: the link's session is with {}, which has the key",
            Address(peer)
        )),
        Notice::Void {
            fault,
            source,
            frames,
        } => log.warning(
            source_of(fault),
            format_args!(
                "pair {name}: link: {frames} frame{} from {} did not count: {}",
                if frames == 1 { "" } else { "s" },
                Address(source),
                Words(fault, pair.vm_id)
            ),
        ),
    }
}

/// Why the frames that a notice is of did not count.
pub(super) fn refusal(notice: Notice) -> Option<&'static str> {
    let Notice::Void { fault, .. } = notice else {
        return None;
    };
    Some(match fault {
        Fault::Unsealed => "unsealed",
        Fault::Sealed => "sealed",
        Fault::Version(_) => "version",
        Fault::OtherKey => "other_key",
        Fault::Forged => "forged",
        Fault::Stale => "stale",
        Fault::Reflected => "reflected",
        Fault::Second => "second",
        Fault::SameRole => "same_role",
    })
}

/// Each kind of fault has its own place among the lines that are left out.
fn source_of(fault: Fault) -> &'static str {
    match fault {
        Fault::Unsealed => "link-unsealed",
        Fault::Sealed => "link-sealed",
        Fault::Version(_) => "link-version",
        Fault::OtherKey => "link-other-key",
        Fault::Forged => "link-forged",
        Fault::Stale => "link-stale",
        Fault::Reflected => "link-reflected",
        Fault::Second => "link-second",
        Fault::SameRole => "link-same-role",
    }
}

struct Words(Fault, u16);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(fault, vm) = self;
        match fault {
            Fault::Unsealed => {
                f.write_str("no seal; a node with --link-key none and this VM id, or a stranger")
            }
            Fault::Sealed => f.write_str(
                "sealed; a node with a --link-key and this VM id, while this node has none",
            ),
            Fault::Version(version) => write!(
                f,
                "version {version} of the link, which this node does not speak; run the same dpdk-colo on both nodes"
            ),
            Fault::OtherKey => write!(
                f,
                "another key; another pair with VM id {vm} on this segment, or one file of the two has to be replaced"
            ),
            Fault::Forged => f.write_str("its tag is wrong; garbled on the way, or forged"),
            Fault::Stale => f.write_str("of an old session, or sent twice"),
            Fault::Reflected => f.write_str(
                "this node has sent it itself; the segment has a loop, or somebody repeats it",
            ),
            Fault::Second => write!(
                f,
                "its sender has the key, but this node's peer is another one that is alive; end one of the two, or give \
                 two pairs with VM id {vm} a key each"
            ),
            Fault::SameRole => write!(
                f,
                "its sender has the key and is a primary, too; give two pairs with VM id {vm} a key each"
            ),
        }
    }
}
