//! The link between the nodes.

use super::pairs;
use crate::facts::{Facts, Key, Pair, Port};
use crate::finding::Findings;

/// Bytes that the link adds to a frame with a key, and without one.
const SEALED: u32 = 104;
const TRUSTED: u32 = 58;
/// The MTU of an Ethernet, where the uplink's is not known.
const ETHERNET: u32 = 1500;
/// The word for frames of an old session, or sent twice.
const STALE: &str = "stale";
/// A refusal that is older has been cured.
const RECENT_S: f64 = 60.0;

pub(super) fn check(facts: &Facts, found: &mut Findings) {
    for (_, pair, seen) in pairs(facts) {
        mtu(facts, pair, found);
        let Some(status) = &seen.status else {
            continue;
        };
        let place = format!("pair {}: link", pair.name);
        let heard = status.peer_heard == Some(true);
        // A node that was started again gets what was sent in the session before.
        let cured = |why: &str| heard && why == STALE;
        let refused = status.refused.as_ref();
        let refused = refused.filter(|it| it.ago_s < RECENT_S && !cured(&it.why));
        if let Some(refused) = refused {
            let (what, todo) = why(&refused.why, pair);
            found.error("link-refuses", place, what, todo);
        } else if status.peer_heard == Some(false) {
            found.error(
                "peer-silent",
                place,
                "the other node is not heard, and nothing of it arrives that would be refused",
                "see that it runs with the other role and this --vm-id, and that frames with Ethernet type 0x88b5 pass: \
                 `tcpdump -i INTERFACE ether proto 0x88b5` on both hosts; look at VLAN, switch and firewall",
            );
        }
    }
}

/// What a port carries: what the node says, or its interface.
fn carries(facts: &Facts, port: &Port) -> Option<u32> {
    let name = port.interface.as_ref();
    let of_interface = || facts.host.interfaces.get(name?)?.as_ref().map(|it| it.mtu);
    port.mtu.or_else(of_interface)
}

fn mtu(facts: &Facts, pair: &Pair, found: &mut Findings) {
    let Some(link) = pair.port("link") else {
        return;
    };
    let Some(has) = carries(facts, link) else {
        return;
    };
    let more = match pair.key {
        Key::File { .. } => SEALED,
        _ => TRUSTED,
    };
    let uplink = pair.port("uplink").and_then(|port| carries(facts, port));
    let frames = pair.mtu.map(u32::from).or(uplink).unwrap_or(ETHERNET);
    let wanted = frames + more;
    if has < wanted {
        let name = link.interface.as_deref().unwrap_or("INTERFACE");
        let of_interface = facts.host.interfaces.get(name).and_then(Option::as_ref);
        let is_wide = of_interface.is_some_and(|interface| interface.mtu >= wanted);
        found.warning(
            "link-mtu",
            format!("pair {}: link {}", pair.name, link.name),
            format!(
                "its MTU is {has}, and a frame of {frames} bytes has {wanted} there: the node sends each full frame in \
                 pieces"
            ),
            match is_wide && link.driver == "net_af_packet" {
                true => "give its --vdev a longer ring: framesz=16384,blocksz=65536".to_owned(),
                false => format!(
                    "`ip link set dev {name} mtu {wanted}` or more on both hosts, and on every switch between them"
                ),
            },
        );
    }
}

fn why(word: &str, pair: &Pair) -> (String, String) {
    let vm = pair.vm_id;
    let (what, todo) = match word {
        "other_key" => (
            "frames arrive that are sealed with another key",
            format!(
                "copy the key file of one host to the other and restart that node; or, if another pair has --vm-id {vm} \
                 on this segment, give it another id"
            ),
        ),
        "unsealed" => (
            "frames arrive without a seal",
            "give the other node the same --link-key as this one".to_owned(),
        ),
        "sealed" => (
            "sealed frames arrive, and this node has --link-key none",
            "give this node the other's --link-key".to_owned(),
        ),
        "version" => (
            "frames of another version of the link arrive",
            "run the same release of dpdk-colo on both hosts".to_owned(),
        ),
        "same_role" => (
            "the other node is a primary, too",
            format!(
                "start one of the two with --role secondary; two pairs with --vm-id {vm} need a key each"
            ),
        ),
        "second" => (
            "two other nodes have this pair's key and id",
            "end one of them, or give two pairs different ids and keys".to_owned(),
        ),
        "reflected" => (
            "this node's own frames come back",
            "the segment has a loop, or a bridge with hairpin: look at the switch".to_owned(),
        ),
        _ => (
            "frames arrive that do not count: garbled, forged or sent twice",
            "see the node's log for their sender, and docs/threat-model.md".to_owned(),
        ),
    };
    (what.to_owned(), todo)
}
