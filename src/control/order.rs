//! What the control thread is ordered to do, and when that is refused.

use std::fmt;
use std::time::Duration;

use super::fault::Fault;
use super::status::{PairStatus, RoleNow};
use crate::protect::State;

/// What the control thread is to do for one pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Set COLO up with the other node.
    Protect,
    /// Ask QEMU for a checkpoint.
    Checkpoint,
    /// Give QEMU the failover command.
    Failover {
        /// The operator answers for it that the peer's VM sends nothing.
        fenced: bool,
        /// The operator answers for it that the peer's VM has not led since this node gave up its lead.
        never_led: bool,
    },
    /// Let the other node's VM lead in this one's place.
    Switchover,
    /// Announce a restart to the peer.
    Announce,
    /// Take this for the compare timeout from now on.
    SetTimeout(Duration),
    /// Ask QEMU how it is set up. Changes nothing.
    Examine,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Protect => "protect",
            Self::Checkpoint => "checkpoint",
            Self::Failover { .. } => "failover",
            Self::Switchover => "switchover",
            Self::Announce => "maintenance",
            Self::SetTimeout(_) => "set compare-timeout",
            Self::Examine => "examine",
        })
    }
}

/// What a pair has to make sure of its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// A fencing command.
    Command,
    /// Nothing.
    Nothing,
}

/// Whether a pair may be ordered so now.
///
/// # Errors
/// With what forbids it, and what to do first.
pub fn check(order: Order, pair: &PairStatus, means: Means) -> Result<(), Fault> {
    let why = match order {
        Order::Protect => protect(pair),
        Order::Checkpoint => checkpoint(pair),
        Order::Failover { fenced, never_led } => failover(pair, fenced, never_led, means),
        Order::Switchover => switchover(pair),
        Order::Announce => announce(pair),
        Order::SetTimeout(_) => None,
        Order::Examine => absent(pair),
    };
    match why {
        None => Ok(()),
        Some(why) => Err(Fault::Refused {
            pair: pair.name.clone(),
            why,
        }),
    }
}

/// QEMU takes no order.
fn absent(pair: &PairStatus) -> Option<String> {
    match &pair.monitor {
        None => Some("it has no --qmp; give the comparator QEMU's monitor".to_owned()),
        Some(monitor) if monitor.state == "absent" => Some(format!(
            "QEMU's monitor at {} does not answer; start QEMU, or see the log",
            monitor.address
        )),
        Some(_) => None,
    }
}

/// QEMU takes no order of this kind.
fn no_colo(pair: &PairStatus) -> Option<String> {
    if let Some(why) = absent(pair) {
        return Some(why);
    }
    match &pair.monitor {
        Some(monitor) if monitor.migration != "colo" => Some(format!(
            "QEMU is not in COLO (its migration is {}); there is nothing to do",
            monitor.migration
        )),
        _ => None,
    }
}

/// Another VM goes on in this one's place.
fn superseded(pair: &PairStatus) -> Option<String> {
    (pair.role == RoleNow::Superseded).then(|| {
        "another VM goes on in this one's place, and this one never leads again; end its QEMU, and start both anew as \
         the secondary"
            .to_owned()
    })
}

fn protect(pair: &PairStatus) -> Option<String> {
    if let Some(why) = superseded(pair) {
        return Some(why);
    }
    if pair.role == RoleNow::Compare {
        return Some("a comparator has no peer; set COLO up at QEMU's monitors".to_owned());
    }
    if pair.role == RoleNow::Secondary {
        return Some("this node's VM follows; order it at the other node".to_owned());
    }
    if let Some(why) = absent(pair) {
        return Some(why);
    }
    if pair.in_colo() {
        return Some(match pair.state {
            State::Protected | State::Checkpointing => "it is protected already".to_owned(),
            state => format!(
                "QEMU is in COLO already (state {}); end that first: fail over, or see status for what to do",
                state.word()
            ),
        });
    }
    match pair.peer {
        Some(peer) if !peer.heard => Some(format!(
            "the other node has not been heard for {} ms; start it, with a QEMU that has -incoming defer",
            peer.silence_ms
        )),
        _ => match pair.state {
            State::Solo | State::Pairing => None,
            state => Some(format!(
                "its state is {}; see status for what to do first",
                state.word()
            )),
        },
    }
}

fn checkpoint(pair: &PairStatus) -> Option<String> {
    if pair.role == RoleNow::Secondary {
        return Some("this node's VM follows; order the checkpoint at the other node".to_owned());
    }
    superseded(pair).or_else(|| no_colo(pair)).or_else(|| {
        (pair.state == State::PeerLost).then(|| {
            "the peer is lost, and no VM would load the state; see status for what to do".to_owned()
        })
    })
}

/// What forbids a node that gave up its lead to take it back.
const NEVER_LED: &str = "this node has given up its lead, and the other VM may have led since: clients would lose what that \
                         one has sent; look at its status and its log, and if it has not led (no line \"QEMU goes on with \
                         this VM alone\"), order the failover with never_led, too (coloctl failover --fenced --never-led)";

fn failover(pair: &PairStatus, fenced: bool, never_led: bool, means: Means) -> Option<String> {
    // Who has ceded takes its lead back by this, and needs the same certainty as another.
    if let Some(why) = superseded(pair).filter(|_| !pair.ceded) {
        return Some(why);
    }
    if pair.role == RoleNow::Compare {
        return Some("a comparator has no peer; give QEMU the command yourself".to_owned());
    }
    // A primary that has ceded its lead sends nothing, and may be heard.
    if let Some(peer) = pair.peer.filter(|peer| peer.heard && !peer.ceded) {
        return Some(format!(
            "the peer is heard ({} ms ago): if its VM leads, two VMs would send for one; end the peer's node and its \
             VM first",
            peer.silence_ms
        ));
    }
    if let Some(why) = no_colo(pair) {
        return Some(why);
    }
    if pair.ceded && !never_led {
        return Some(NEVER_LED.to_owned());
    }
    match pair.state {
        _ if pair.is_peer_certainly_lost() => None,
        State::PeerLost if fenced || means == Means::Command => None,
        State::PeerLost => Some(
            "nothing makes sure that the peer's VM sends nothing any more; make sure yourself and order the failover \
             with fenced (coloctl failover --fenced), or give the node --on-peer-lost exec:COMMAND"
                .to_owned(),
        ),
        state => Some(format!(
            "the node does not take its peer for lost (state {}); wait, a loss is noticed by itself",
            state.word()
        )),
    }
}

fn switchover(pair: &PairStatus) -> Option<String> {
    if let Some(why) = superseded(pair) {
        return Some(why);
    }
    match pair.role {
        RoleNow::Compare => {
            return Some("a comparator has no peer that could lead".to_owned());
        }
        RoleNow::Secondary => {
            return Some("this node's VM follows; order it at the other node".to_owned());
        }
        RoleNow::Primary | RoleNow::Superseded => {}
    }
    if let Some(why) = absent(pair) {
        return Some(why);
    }
    if let Some(peer) = pair.peer.filter(|peer| !peer.heard) {
        return Some(format!(
            "the other node has not been heard for {} ms, and would not hear that this one leads no more; see status",
            peer.silence_ms
        ));
    }
    match pair.state {
        _ if pair.protect.is_some() => {
            Some("a protection is under way; wait for its end".to_owned())
        }
        // A pair passes through the second one at each checkpoint.
        State::Protected | State::Checkpointing if pair.in_colo() => None,
        state => Some(format!(
            "the other VM could not lead without loss (state {}); wait with coloctl wait --for protected",
            state.word()
        )),
    }
}

fn announce(pair: &PairStatus) -> Option<String> {
    match pair.peer {
        None => Some("a comparator has no peer that would wait for it; just restart it".to_owned()),
        Some(peer) if !peer.heard => Some(format!(
            "the peer has not been heard for {} ms and would not get the announcement; see status",
            peer.silence_ms
        )),
        Some(_) => superseded(pair).or_else(|| unprotected(pair.state)),
    }
}

/// Why a node in this state restarts with an announcement only later, or without one.
fn unprotected(state: State) -> Option<String> {
    let why = match state {
        // A pair passes through the second one at each checkpoint.
        State::Protected | State::Checkpointing => return None,
        State::Solo | State::Pairing => {
            "nothing is protected (state {}), so that the peer takes no silence for a loss; restart the node without \
             an announcement"
        }
        State::Uncertain => {
            "a checkpoint has to be committed first (state {}); wait with coloctl wait --for protected"
        }
        State::PeerLost => {
            "it is not decided yet who goes on (state {}); status says what to do, and then wait with coloctl wait --for \
             protected"
        }
    };
    Some(why.replace("{}", state.word()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;
    use crate::control::fault::Class;
    use crate::control::status::{MonitorStatus, ProtectStatus, protected};

    fn lost(role: Role) -> PairStatus {
        let mut pair = protected("a", role);
        pair.state = State::PeerLost;
        let peer = pair.peer.as_mut().expect("it has one");
        (peer.heard, peer.silence_ms) = (false, 700);
        pair
    }

    /// Nobody answers for anything.
    const PLAIN: Order = Order::Failover {
        fenced: false,
        never_led: false,
    };
    /// An operator answers for it that the peer's VM is silent.
    const FENCED: Order = Order::Failover {
        fenced: true,
        never_led: false,
    };

    fn refusal(order: Order, pair: &PairStatus, means: Means) -> String {
        let fault = check(order, pair, means).expect_err("it is refused");
        assert_eq!(fault.class(), Class::Refused);
        fault.to_string()
    }

    #[test]
    fn nobody_fails_over_while_the_peer_is_heard() {
        for fenced in [false, true] {
            for means in [Means::Command, Means::Nothing] {
                for role in [Role::Primary, Role::Secondary] {
                    let order = Order::Failover {
                        fenced,
                        never_led: true,
                    };
                    for state in State::ALL {
                        let mut pair = protected("a", role);
                        pair.state = state;
                        let text = refusal(order, &pair, means);
                        assert!(text.starts_with("pair a: the peer is heard"), "{text}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_failover_needs_the_operators_word_or_a_command() {
        for role in [Role::Primary, Role::Secondary] {
            let pair = lost(role);
            let silent = refusal(PLAIN, &pair, Means::Nothing);
            assert!(silent.contains("--fenced"), "{silent}");
            assert_eq!(check(FENCED, &pair, Means::Nothing), Ok(()));
            assert_eq!(check(PLAIN, &pair, Means::Command), Ok(()));
            let mut early = lost(role);
            early.state = State::Protected;
            let text = refusal(FENCED, &early, Means::Command);
            assert!(text.contains("state protected"), "{text}");
            let mut ended = lost(role);
            ended.monitor.as_mut().expect("it has one").migration = "completed";
            let text = refusal(FENCED, &ended, Means::Command);
            assert!(text.contains("not in COLO"), "{text}");
        }
        let text = refusal(FENCED, &protected("a", Role::Compare), Means::Nothing);
        assert!(text.contains("no peer"), "{text}");
    }

    #[test]
    fn what_is_certain_needs_no_word_and_a_state_alone_makes_nothing_certain() {
        for role in [Role::Primary, Role::Secondary] {
            for state in [State::Solo, State::PeerLost] {
                let mut pair = lost(role);
                pair.state = state;
                // QEMU has entered COLO, and the other node was never heard.
                refusal(PLAIN, &pair, Means::Nothing);
                pair.peer.as_mut().expect("it has one").certainly_lost = true;
                assert_eq!(check(PLAIN, &pair, Means::Nothing), Ok(()));
            }
            let mut solo = lost(role);
            solo.state = State::Solo;
            for order in [PLAIN, FENCED] {
                refusal(order, &solo, Means::Command);
            }
        }
    }

    #[test]
    fn a_superseded_vm_is_given_no_order() {
        for heard in [true, false] {
            let mut pair = lost(Role::Primary);
            pair.role = RoleNow::Superseded;
            pair.peer.as_mut().expect("it has one").heard = heard;
            for order in [Order::Checkpoint, FENCED, PLAIN] {
                let text = refusal(order, &pair, Means::Command);
                assert!(text.contains("in this one's place"), "{text}");
            }
            refusal(Order::Announce, &pair, Means::Command);
        }
    }

    #[test]
    fn the_lead_is_moved_from_a_protected_primary_to_a_peer_that_is_heard() {
        let good = protected("a", Role::Primary);
        assert_eq!(check(Order::Switchover, &good, Means::Nothing), Ok(()));
        let refused = |change: &dyn Fn(&mut PairStatus), says: &str| {
            let mut pair = good.clone();
            change(&mut pair);
            let text = refusal(Order::Switchover, &pair, Means::Command);
            assert!(text.contains(says), "{text}");
        };
        for state in State::ALL {
            if !matches!(state, State::Protected | State::Checkpointing) {
                refused(&|pair| pair.state = state, state.word());
            }
        }
        refused(
            &|pair| pair.peer.as_mut().expect("it has one").heard = false,
            "has not been heard",
        );
        let monitor = |pair: &mut PairStatus| pair.monitor.take().expect("it has one");
        refused(
            &|pair| {
                let was = monitor(pair);
                pair.monitor = Some(MonitorStatus {
                    state: "absent",
                    ..was
                });
            },
            "does not answer",
        );
        refused(
            &|pair| {
                let was = monitor(pair);
                pair.monitor = Some(MonitorStatus {
                    migration: "completed",
                    ..was
                });
            },
            "could not lead",
        );
        let under_way = ProtectStatus {
            step: "settles",
            done: 0,
            total: 0,
        };
        refused(&|pair| pair.protect = Some(under_way), "under way");
        refused(
            &|pair| pair.role = RoleNow::Superseded,
            "in this one's place",
        );
        for (role, says) in [
            (Role::Secondary, "at the other node"),
            (Role::Compare, "no peer"),
        ] {
            let text = refusal(Order::Switchover, &protected("a", role), Means::Nothing);
            assert!(text.contains(says), "{text}");
        }
    }

    #[test]
    fn a_lead_that_was_ceded_is_taken_back_only_from_a_peer_that_is_silent_and_never_led() {
        let mut pair = lost(Role::Primary);
        (pair.role, pair.ceded) = (RoleNow::Superseded, true);
        let word = |fenced, never_led| Order::Failover { fenced, never_led };
        assert_eq!(check(word(true, true), &pair, Means::Nothing), Ok(()));
        for (order, says) in [
            (word(false, true), "--fenced"),
            (word(true, false), "--never-led"),
        ] {
            let text = refusal(order, &pair, Means::Nothing);
            assert!(text.contains(says), "{text}");
        }
        // A fencing command makes sure that the other VM is silent, and not that it was.
        refusal(word(false, false), &pair, Means::Command);
        pair.peer.as_mut().expect("it has one").certainly_lost = true;
        refusal(word(true, false), &pair, Means::Command);
        pair.peer.as_mut().expect("it has one").heard = true;
        let text = refusal(word(true, true), &pair, Means::Command);
        assert!(text.contains("the peer is heard"), "{text}");
        // The other VM leads.
        let mut pair = lost(Role::Primary);
        pair.role = RoleNow::Superseded;
        refusal(word(true, true), &pair, Means::Command);
    }

    #[test]
    fn a_secondary_whose_primary_has_ceded_needs_no_other_word() {
        let mut pair = protected("a", Role::Secondary);
        let order = PLAIN;
        refusal(order, &pair, Means::Command);
        let peer = pair.peer.as_mut().expect("it has one");
        (peer.ceded, peer.certainly_lost) = (true, true);
        assert_eq!(check(order, &pair, Means::Nothing), Ok(()));
    }

    #[test]
    fn a_checkpoint_needs_a_leading_vm_in_colo_and_a_peer() {
        let good = protected("a", Role::Primary);
        assert_eq!(check(Order::Checkpoint, &good, Means::Nothing), Ok(()));
        let text = refusal(
            Order::Checkpoint,
            &protected("a", Role::Secondary),
            Means::Nothing,
        );
        assert!(text.contains("at the other node"), "{text}");
        let text = refusal(Order::Checkpoint, &lost(Role::Primary), Means::Nothing);
        assert!(text.contains("lost"), "{text}");
        let mut mute = good.clone();
        mute.monitor.as_mut().expect("it has one").state = "absent";
        let text = refusal(Order::Checkpoint, &mute, Means::Nothing);
        assert!(text.contains("/run/p.qmp does not answer"), "{text}");
        let mut none = protected("a", Role::Compare);
        assert_eq!(check(Order::Checkpoint, &none, Means::Nothing), Ok(()));
        none.monitor = None;
        let text = refusal(Order::Checkpoint, &none, Means::Nothing);
        assert!(text.contains("--qmp"), "{text}");
    }

    #[test]
    fn a_restart_is_announced_to_a_peer_that_is_heard() {
        let good = protected("a", Role::Secondary);
        assert_eq!(check(Order::Announce, &good, Means::Nothing), Ok(()));
        let mut stopped = good.clone();
        stopped.state = State::Checkpointing;
        assert_eq!(check(Order::Announce, &stopped, Means::Nothing), Ok(()));
        let text = refusal(Order::Announce, &lost(Role::Primary), Means::Nothing);
        assert!(text.contains("700 ms"), "{text}");
        for (state, says) in [
            (State::Solo, "without an announcement"),
            (State::Pairing, "without an announcement"),
            (State::Uncertain, "--for protected"),
            (State::PeerLost, "who goes on"),
        ] {
            let mut pair = good.clone();
            pair.state = state;
            let text = refusal(Order::Announce, &pair, Means::Nothing);
            assert!(text.contains(says) && text.contains(state.word()), "{text}");
        }
        refusal(
            Order::Announce,
            &protected("a", Role::Compare),
            Means::Nothing,
        );
    }
}
