//! What an operator has to know and to do where a node holds output.

use crate::config::{OnPeerLost, PairSettings, Role};
use crate::protect::State;

/// What an operator should do in a state; `None` where there is nothing to do.
pub(crate) fn advice(state: State, pair: &PairSettings) -> Option<&'static str> {
    match (state, pair.role.role(), &pair.failover.on_peer_lost) {
        (State::Uncertain, Role::Primary | Role::Compare, _) => Some(
            "all output is held until the next checkpoint is committed; if that does not come, look at QEMU's \
             migration state and at the other node",
        ),
        (State::PeerLost, Role::Primary, OnPeerLost::Hold) => Some(
            "all output is held until the peer is back and a checkpoint is committed, or QEMU gets \
             x-colo-lost-heartbeat; give it that only when the peer's VM is certainly down",
        ),
        (State::PeerLost, Role::Primary, OnPeerLost::Exec(_)) => Some(
            "all output is held until the peer is back and a checkpoint is committed, or the fencing command ends \
             with status 0; if it keeps failing, fence the peer yourself and give QEMU x-colo-lost-heartbeat",
        ),
        (State::PeerLost, Role::Primary, OnPeerLost::Release) => {
            Some("output leaves uncompared as --on-peer-lost release says; start a new secondary")
        }
        (State::PeerLost, Role::Secondary, _) => Some(
            "the SVM stays silent until the peer is back, or this QEMU gets x-colo-lost-heartbeat; give it that only \
             when the peer's VM is certainly down",
        ),
        _ => None,
    }
}
