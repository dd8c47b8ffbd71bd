//! What an operator has to know and to do where a node holds output.

use crate::config::OnPeerLost;
use crate::control::{RoleNow, SUPERSEDED};
use crate::protect::State;

/// What an operator should do in a state, with the role that the node has now; `None` where there is nothing to do.
pub(super) fn advice(
    state: State,
    role: RoleNow,
    on_peer_lost: &OnPeerLost,
) -> Option<&'static str> {
    match (state, role, on_peer_lost) {
        (_, RoleNow::Superseded, _) => Some(SUPERSEDED),
        (State::Uncertain, RoleNow::Primary | RoleNow::Compare, _) => Some(
            "all output is held until the next checkpoint is committed; if that does not come, look at QEMU's \
             migration state and at the other node",
        ),
        (State::PeerLost, RoleNow::Primary, OnPeerLost::Hold) => Some(
            "all output is held until the peer is back and a checkpoint is committed; only when the peer's VM is certainly \
             down, let this one go on: coloctl failover --fenced, or x-colo-lost-heartbeat at QEMU's monitor",
        ),
        (State::PeerLost, RoleNow::Primary, OnPeerLost::Exec(_)) => Some(
            "all output is held until the peer is back and a checkpoint is committed, or the fencing command ends \
             with status 0; if it keeps failing, fence the peer yourself, and then: coloctl failover --fenced, or \
             x-colo-lost-heartbeat at QEMU's monitor",
        ),
        (State::PeerLost, RoleNow::Primary, OnPeerLost::Release) => Some(
            "output leaves uncompared as --on-peer-lost release says; fail over (coloctl failover), then start a new \
                 secondary and order protect",
        ),
        (State::PeerLost, RoleNow::Secondary, OnPeerLost::Exec(_)) => Some(
            "the SVM stays silent until the peer is back; to let it go on: coloctl failover, which runs the fencing \
             command first, or, when the peer's VM is certainly down, x-colo-lost-heartbeat at QEMU's monitor",
        ),
        (State::PeerLost, RoleNow::Secondary, _) => Some(
            "the SVM stays silent until the peer is back; only when the peer's VM is certainly down, let it go on: \
             coloctl failover --fenced, or x-colo-lost-heartbeat at QEMU's monitor",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_for_a_lost_peer_names_coloctl_first() {
        for role in [RoleNow::Primary, RoleNow::Secondary] {
            for on_peer_lost in [OnPeerLost::Hold, OnPeerLost::Exec("true".into())] {
                let text = advice(State::PeerLost, role, &on_peer_lost).expect("something to do");
                let order = text.find("coloctl failover").expect("coloctl's order");
                let command = text.find("x-colo-lost-heartbeat").expect("QEMU's command");
                assert!(order < command, "{text}");
            }
        }
        let text = advice(State::PeerLost, RoleNow::Superseded, &OnPeerLost::Hold);
        assert!(text.is_some_and(|text| !text.contains("failover")));
    }
}
