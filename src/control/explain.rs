//! Why a pair is in its state, and what an operator should do about it, in one sentence each.

use super::status::{PairStatus, RoleNow};
use crate::protect::State;

/// What to do with a node whose VM another one has replaced.
pub const SUPERSEDED: &str = "another VM goes on in this one's place, and nothing that this one sends leaves any more; end \
                              this QEMU and start it anew, waiting for a migration, and this node as the secondary";

/// What to do with a node that has given up its lead while no other VM is heard to lead.
pub const CEDED: &str = "look at the other node (coloctl status there): its VM leads soon, or its status says why not; if \
                         it does not lead, and its log does not say that its VM goes on alone, end its QEMU and its node, \
                         and then take the lead back here: coloctl failover --fenced --never-led";

/// Why the state is this. `cause` is the word of what was last found to differ or to be missing.
pub fn why(pair: &PairStatus, cause: Option<&str>) -> String {
    let silence = || {
        let peer = pair
            .peer
            .map_or((0, 0), |p| (p.silence_ms, p.lost_after_ms));
        format!(
            "the link has been silent for {} ms, and {} ms is a loss",
            peer.0, peer.1
        )
    };
    match pair.state {
        _ if pair.monitor.is_some() && !pair.has_monitor() => {
            "QEMU's monitor does not answer, so the node does not know what QEMU does".to_owned()
        }
        State::Solo if pair.is_peer_certainly_lost() => {
            "the peer is certainly lost: output leaves uncompared".to_owned()
        }
        State::Solo if pair.in_colo() && pair.leads() => {
            "QEMU has entered COLO, the VM has not gone on since, and the other node was not heard"
                .to_owned()
        }
        State::Solo if !pair.leads() => {
            "QEMU is not in COLO, and the other node was not heard".to_owned()
        }
        State::Solo => {
            "QEMU is not in COLO: nothing is compared, and the VM has its network".to_owned()
        }
        State::Pairing => "the nodes hear each other, and QEMU is not in COLO".to_owned(),
        State::Protected if pair.role != RoleNow::Secondary => {
            "the output of both VMs is compared".to_owned()
        }
        State::Protected => "the VM follows, and could go on in the other's place".to_owned(),
        State::Checkpointing => {
            "the VM has stopped, or it is not known yet which state it has loaded".to_owned()
        }
        State::Uncertain => match cause {
            Some(cause) => format!("everything is held until the next checkpoint: {cause}"),
            None => "everything is held until the next checkpoint".to_owned(),
        },
        _ if pair.ceded => {
            "this node has given up its lead, and the other VM was not heard to lead yet: nothing that this one sends \
             leaves"
                .to_owned()
        }
        State::PeerLost if pair.role == RoleNow::Superseded => {
            "another VM goes on in this one's place: nothing that this one sends leaves".to_owned()
        }
        State::PeerLost if pair.hears_peer() => {
            "the other node is heard, but QEMU has ended COLO".to_owned()
        }
        State::PeerLost => silence(),
    }
}

/// What to do. `advice` is the log's for this state.
pub fn todo(pair: &PairStatus, advice: Option<&'static str>) -> Option<String> {
    let text = match pair.state {
        _ if pair.ceded => CEDED,
        _ if pair.role == RoleNow::Superseded => SUPERSEDED,
        // A node that could lead by that does so by itself.
        _ if pair.role == RoleNow::Secondary
            && pair.in_colo()
            && pair.peer.is_some_and(|peer| peer.ceded) =>
        {
            "the other node has ceded its lead to this VM, which may lack some of what has left; either end this QEMU and \
             node, and take the lead back at the other one (coloctl failover --fenced --never-led), or let this VM go on \
             as it is (coloctl failover)"
        }
        _ if pair.monitor.is_some() && !pair.has_monitor() => {
            "start QEMU with a monitor of its own for this node, or see the log for what is wrong with it"
        }
        _ if advice.is_some() => advice?,
        State::Solo if pair.peer.is_some() && !pair.hears_peer() && !pair.in_colo() => {
            "to protect the VM start the other node, and see that its frames reach this one's --link"
        }
        State::Solo if pair.is_peer_certainly_lost() => {
            "fail over (coloctl failover), then start a new secondary node and QEMU, and order protect"
        }
        State::Pairing => {
            "to protect the VM order it at the leading node (coloctl protect), or set x-colo on both QEMUs and give \
             migrate to the primary's"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

/// Why a pair's VM could go on without loss, or why not.
pub fn promotable(pair: &PairStatus) -> String {
    let text = match pair.role {
        RoleNow::Compare => "a comparator has no VM",
        RoleNow::Primary => "its VM leads already",
        RoleNow::Superseded => "another VM goes on in this one's place",
        RoleNow::Secondary if !pair.has_monitor() => "QEMU's monitor does not answer",
        RoleNow::Secondary if pair.promotable => {
            return format!(
                "the VM has loaded the state with which epoch {} began; make sure first that the other VM sends nothing",
                pair.epoch
            );
        }
        RoleNow::Secondary if !pair.in_colo() => {
            "QEMU is not in COLO: the VM has no state of the other's"
        }
        RoleNow::Secondary => {
            "since the nodes have met, or have heard each other again after a loss, no checkpoint was committed; wait for \
             the next one (coloctl wait --for promotable)"
        }
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;
    use crate::control::status::protected;

    #[test]
    fn every_state_has_a_reason_and_only_some_need_an_act() {
        for role in [Role::Primary, Role::Secondary, Role::Compare] {
            for state in State::ALL {
                let mut pair = protected("a", role);
                pair.state = state;
                assert!(!why(&pair, None).is_empty(), "{role} {state:?}");
            }
        }
        let pair = protected("a", Role::Primary);
        assert_eq!(todo(&pair, None), None);
        assert_eq!(todo(&pair, Some("act")), Some("act".to_owned()));
        let mut mute = protected("a", Role::Primary);
        mute.monitor.as_mut().expect("it has one").state = "absent";
        assert!(why(&mute, None).contains("does not answer"));
        assert!(todo(&mute, Some("act")).is_some_and(|text| text.contains("start QEMU")));
    }

    #[test]
    fn a_silence_is_given_with_its_bound_and_an_end_of_colo_is_none() {
        let mut pair = protected("a", Role::Secondary);
        pair.state = State::PeerLost;
        assert!(why(&pair, None).contains("QEMU has ended COLO"));
        let peer = pair.peer.as_mut().expect("it has one");
        (peer.heard, peer.silence_ms) = (false, 612);
        assert_eq!(
            why(&pair, None),
            "the link has been silent for 612 ms, and 500 ms is a loss"
        );
        pair.state = State::Uncertain;
        assert!(why(&pair, Some("link_down")).ends_with(": link_down"));
    }

    #[test]
    fn who_has_been_superseded_does_not_wait_for_a_peer() {
        let mut pair = protected("a", Role::Primary);
        (pair.role, pair.state) = (RoleNow::Superseded, State::PeerLost);
        assert!(!pair.leads());
        for heard in [true, false] {
            pair.peer.as_mut().expect("it has one").heard = heard;
            assert!(why(&pair, None).contains("another VM goes on"));
        }
        assert!(promotable(&pair).contains("another VM"));
    }

    #[test]
    fn a_lead_that_is_given_up_names_the_way_on_at_both_nodes() {
        let mut pair = protected("a", Role::Primary);
        (pair.role, pair.state, pair.ceded) = (RoleNow::Superseded, State::PeerLost, true);
        assert!(why(&pair, None).contains("given up its lead"));
        assert_eq!(todo(&pair, Some("act")).as_deref(), Some(CEDED));
        // The other VM leads.
        pair.ceded = false;
        assert!(why(&pair, None).contains("another VM goes on"));
        assert_eq!(todo(&pair, None).as_deref(), Some(SUPERSEDED));
        let mut pair = protected("a", Role::Secondary);
        pair.peer.as_mut().expect("it has one").ceded = true;
        assert!(todo(&pair, None).is_some_and(|text| text.contains("coloctl failover")));
    }

    #[test]
    fn a_primary_that_is_alone_and_one_that_has_heard_nobody_have_different_reasons() {
        let mut pair = protected("a", Role::Primary);
        pair.state = State::Solo;
        pair.peer.as_mut().expect("it has one").heard = false;
        assert!(!why(&pair, None).contains("certainly"));
        pair.peer.as_mut().expect("it has one").certainly_lost = true;
        assert!(why(&pair, None).contains("certainly lost"));
        assert!(todo(&pair, None).is_some_and(|text| text.contains("new secondary")));
    }

    #[test]
    fn it_is_said_why_a_vm_may_be_promoted_or_not() {
        let mut pair = protected("a", Role::Secondary);
        assert!(promotable(&pair).contains("epoch 3"));
        pair.promotable = false;
        assert!(promotable(&pair).contains("--for promotable"));
        pair.monitor.as_mut().expect("it has one").migration = "none";
        assert!(promotable(&pair).contains("not in COLO"));
        pair.monitor.as_mut().expect("it has one").state = "absent";
        assert!(promotable(&pair).contains("does not answer"));
        for role in [Role::Primary, Role::Compare] {
            assert!(!promotable(&protected("a", role)).is_empty());
        }
    }
}
