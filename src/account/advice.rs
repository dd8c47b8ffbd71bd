//! What would help against checkpoints of an origin.

use serde::Serialize;

use super::checkpoint::Origin;
use super::service::Service;
use crate::compare::Reason;
use crate::protect::Cause;

/// The kind of a remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Means {
    /// Leave bytes out of the comparison.
    Mask,
    /// Let a flow leave uncompared.
    Exempt,
    /// Wait longer for a counterpart.
    Timeout,
    /// Change the guest or its service.
    Guest,
    /// Give the hosts or the node more.
    Host,
    /// Mend the way between the nodes.
    Link,
    /// Change QEMU's settings, or leave its monitor alone.
    Qemu,
    /// Order less.
    Operator,
}

impl Means {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Mask => "mask",
            Self::Exempt => "exempt",
            Self::Timeout => "timeout",
            Self::Guest => "guest",
            Self::Host => "host",
            Self::Link => "link",
            Self::Qemu => "qemu",
            Self::Operator => "operator",
        }
    }
}

/// A remedy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Help {
    /// Its kind.
    pub what: Means,
    /// What to do.
    pub how: String,
}

/// TCP ports whose connections have keys of their own: ssh, and protocols over TLS from the first byte.
const KEYED: &[u16] = &[
    22, 443, 465, 636, 853, 989, 990, 993, 995, 5671, 6697, 8443, 8883,
];

const MASK: &str = "see which bytes differ (a record of each in --report-dir): a clock that no client returns or acts on, \
                    such as an HTTP Date, can be left out of the comparison by a mask rule";
const ALIKE: &str = "let the service answer alike in both VMs: no clock, random number or process id in what it sends";
const KEYS: &str = "each VM chooses its own keys, so a new connection costs a checkpoint and an open one none: let clients \
                    keep connections open";
const LENGTH: &str =
    "both VMs' answers have different lengths: let the service write fields of a fixed width";
const SYN: &str = "a SYN's options come from the guest's TCP settings (time stamps, window scaling, ECN): set them, and do \
                   not let them follow memory or load";
const URGENT: &str = "urgent data ends where a write has ended: let the service send none";
const HEADERS: &str = "options and extension headers come from the guest's network settings: see a record in --report-dir, \
                       and set what chooses them";
const TIMERS: &str = "what a VM sends by a timer of its own (hellos, announcements, discovery) comes at another time from \
                      each VM: switch it off in the guest";
const SVM_LATE: &str = "if the SVM is only late (colo_skew_seconds): a longer compare-timeout (coloctl set compare-timeout MS)";
const PVM_LATE: &str = "if the PVM is only late (colo_skew_seconds): a longer compare-timeout (coloctl set compare-timeout MS)";
const SVM_CPU: &str = "give the secondary's host CPU for its VM and node: see colo_lost_time_seconds and starvation in its log";
const PVM_CPU: &str = "give the primary's host CPU for its VM and node: see colo_lost_time_seconds and starvation in its log";
const MEMORY: &str =
    "the SVM contradicts itself: look at the secondary host's memory and at its log";
const UNREADABLE: &str = "frames have headers that contradict each other or are cut short: see a record in --report-dir, and \
                          what in the guest sends them";
const FLOWS: &str = "there are more flows than the table holds: a larger --flows";
const ONE_FLOW: &str = "one flow sends faster than the SVM follows: a larger --hold-frames, or a limit on its rate in the guest";
const HALF_OPEN: &str = "connections that nobody completes fill the hold: keep SYN floods away in front of the node, or a \
                         larger --hold-frames";
const DATAGRAMS: &str = "floods of single datagrams fill the hold: limit their rate in front of the node, or a larger \
                         --hold-frames";
const HOLD: &str = "more is held than there is room for: a larger --hold-frames";
const WORKER: &str =
    "a core that compares gets no CPU: isolate the node's cores (docs/starvation.md)";
const INPUT: &str =
    "the link loses the PVM's input: see colo_link_events, its MTU, its rate, and who shares it";
const OUTPUT: &str =
    "the link loses the SVM's output: see colo_link_events, its MTU, its rate, and who shares it";
const RESTARTED: &str =
    "the other node was started again: announce it before (coloctl maintenance on)";
const SILENT: &str = "the link was silent: see the way between the nodes, and the other node's log";
const RESET: &str = "the guest's ring stopped and no checkpoint was the reason: do not reset its NIC or reload its driver";
const MONITOR: &str = "the monitor was lost: leave the node's QMP socket to the node alone";
const UNPROVEN: &str = "nothing proved a stop to be a checkpoint: do not stop and continue the VM at its monitor, and see \
                        the secondary's monitor and the link";
const ORDERED: &str = "somebody orders checkpoints (coloctl checkpoint): the log says who";
const BEGIN: &str = "it comes once for each entry into COLO, and lasts as long as the last part of the state takes: more \
                     bandwidth between the hosts";
const PERIOD: &str = "QEMU takes one each x-checkpoint-delay milliseconds: a longer one (migrate-set-parameters at its \
                      monitor); or somebody stops the VM there";

/// What would help against checkpoints of this origin, for this service if it is about one; the best first.
pub(super) fn help(origin: Origin, service: Option<Service>) -> Vec<Help> {
    use Means::{Guest, Host, Link, Mask, Operator, Qemu, Timeout};
    use Reason as R;
    let cause = match origin {
        Origin::Cause(cause) => cause,
        Origin::Ordered => return fixed(&[(Operator, ORDERED)]),
        Origin::Begin => return fixed(&[(Qemu, BEGIN)]),
        Origin::Qemu => return fixed(&[(Qemu, PERIOD)]),
    };
    let keyed = service
        .and_then(Service::port)
        .is_some_and(|port| KEYED.contains(&port));
    let known: &[(Means, &str)] = match cause {
        Cause::Difference(R::Payload) if keyed => &[(Guest, KEYS)],
        Cause::Difference(R::Payload) => &[(Mask, MASK), (Guest, ALIKE)],
        Cause::Difference(R::StreamEnd) => &[(Guest, LENGTH)],
        Cause::Difference(R::SynOptions) => &[(Guest, SYN)],
        Cause::Difference(R::Urgent) => &[(Guest, URGENT)],
        Cause::Difference(R::Headers) => &[(Guest, HEADERS)],
        Cause::Difference(R::SecondaryInconsistent) => &[(Host, MEMORY)],
        Cause::Difference(R::MissingSecondary) => {
            &[(Timeout, SVM_LATE), (Host, SVM_CPU), (Guest, TIMERS)]
        }
        Cause::Difference(R::MissingPrimary) => {
            &[(Timeout, PVM_LATE), (Host, PVM_CPU), (Guest, TIMERS)]
        }
        Cause::Difference(R::AckAhead) => &[(Timeout, SVM_LATE), (Host, SVM_CPU)],
        Cause::Difference(R::Unreadable) => &[(Guest, UNREADABLE)],
        Cause::Difference(R::FlowTableFull) => &[(Host, FLOWS)],
        Cause::Difference(R::FlowHold) => &[(Host, ONE_FLOW), (Host, SVM_CPU)],
        Cause::Difference(R::HalfOpenHold) => &[(Host, HALF_OPEN)],
        Cause::Difference(R::DatagramHold) => &[(Host, DATAGRAMS)],
        Cause::Difference(R::HoldFull) => &[(Host, HOLD), (Host, SVM_CPU)],
        Cause::Difference(R::SecondaryOverflow) => &[(Host, HOLD), (Host, PVM_CPU)],
        Cause::Difference(R::WorkerStalled) => &[(Host, WORKER)],
        Cause::InputLost => &[(Link, INPUT)],
        Cause::OutputLost => &[(Link, OUTPUT)],
        Cause::PeerRestarted => &[(Link, RESTARTED)],
        Cause::LinkDown => &[(Link, SILENT)],
        Cause::GuestReset => &[(Guest, RESET)],
        Cause::MonitorLost => &[(Qemu, MONITOR)],
        Cause::Unproven => &[(Qemu, UNPROVEN)],
    };
    let mut helps = fixed(known);
    helps.extend(exemption(cause, service));
    helps
}

fn fixed(known: &[(Means, &str)]) -> Vec<Help> {
    let help = |(what, how): &(Means, &str)| Help {
        what: *what,
        how: (*how).to_owned(),
    };
    known.iter().map(help).collect()
}

/// A policy rule, where one would have let the frame leave.
fn exemption(cause: Cause, service: Option<Service>) -> Option<Help> {
    let differs = matches!(
        cause,
        Cause::Difference(
            Reason::Payload
                | Reason::StreamEnd
                | Reason::SynOptions
                | Reason::Urgent
                | Reason::Headers
                | Reason::MissingSecondary
                | Reason::MissingPrimary
                | Reason::AckAhead
        )
    );
    let rule = match service {
        _ if !differs => return None,
        // No rule names such a frame.
        Some(Service::Link) => return None,
        Some(Service::Port(transport, _, port)) => {
            format!("protocol = \"{}\", port = {port}", transport.word())
        }
        Some(Service::Protocol(1 | 58)) => "protocol = \"icmp\"".to_owned(),
        Some(Service::Protocol(_)) => "a prefix of the other end".to_owned(),
        None => "its port or prefix".to_owned(),
    };
    Some(Help {
        what: Means::Exempt,
        how: format!(
            "where a failover may lose or garble it: [[policy]] with action = \"exempt\" and {rule} (docs/policy.md)"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::service::{Direction, Transport};
    use super::*;

    fn port(port: u16) -> Option<Service> {
        Some(Service::Port(Transport::Tcp, Direction::Served, port))
    }

    fn means(origin: Origin, service: Option<Service>) -> Vec<Means> {
        help(origin, service)
            .into_iter()
            .map(|it| it.what)
            .collect()
    }

    #[test]
    fn something_helps_against_every_origin() {
        for origin in Origin::all() {
            for service in [
                None,
                port(80),
                Some(Service::Protocol(89)),
                Some(Service::Link),
            ] {
                let helps = help(origin, service);
                assert!(!helps.is_empty(), "{}", origin.word());
                assert!(helps.iter().all(|it| it.how.len() > 20), "{helps:?}");
            }
        }
    }

    #[test]
    fn bytes_that_differ_may_be_masked_unless_they_are_encrypted() {
        let payload = Origin::Cause(Cause::Difference(Reason::Payload));
        assert_eq!(
            means(payload, port(80)),
            [Means::Mask, Means::Guest, Means::Exempt]
        );
        assert_eq!(means(payload, port(443)), [Means::Guest, Means::Exempt]);
        assert!(help(payload, port(443))[0].how.contains("keys"));
    }

    #[test]
    fn an_exemption_names_the_rule_and_only_where_one_would_help() {
        let payload = Origin::Cause(Cause::Difference(Reason::StreamEnd));
        let last = help(payload, port(8080)).pop().expect("one");
        assert_eq!(last.what, Means::Exempt);
        assert!(
            last.how.contains("protocol = \"tcp\", port = 8080"),
            "{}",
            last.how
        );
        for other in [Cause::LinkDown, Cause::Difference(Reason::HoldFull)] {
            assert!(!means(Origin::Cause(other), port(80)).contains(&Means::Exempt));
        }
        assert!(!means(payload, Some(Service::Link)).contains(&Means::Exempt));
    }

    #[test]
    fn who_is_late_may_be_waited_for() {
        for (reason, who) in [
            (Reason::MissingSecondary, "SVM"),
            (Reason::MissingPrimary, "PVM"),
        ] {
            let first = help(Origin::Cause(Cause::Difference(reason)), port(80)).remove(0);
            assert_eq!(first.what, Means::Timeout);
            assert!(first.how.contains(who), "{}", first.how);
        }
    }
}
