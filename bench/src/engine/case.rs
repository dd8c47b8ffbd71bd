//! What traffic a measurement of the comparator is about.

use std::fmt;

/// What the frames are, and how the SVM's differ from the PVM's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// TCP, both VMs with the same segments.
    Tcp,
    /// TCP, the same bytes in other segments.
    Resegmented,
    /// UDP datagrams.
    Udp,
}

/// One case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Bytes of payload of a frame.
    pub payload: usize,
    /// Flows among which the frames take turns in random order.
    pub flows: usize,
    /// IPv6 instead of IPv4.
    pub v6: bool,
    /// The traffic.
    pub traffic: Traffic,
    /// P of other flows that wait meanwhile.
    pub held: usize,
    /// One VM's burst comes behind the other's, in turn, instead of both at once.
    pub apart: bool,
}

/// Payload of a TCP segment over IPv4 in a frame of 64 bytes, without FCS.
pub const SMALL: usize = 10;
/// Payload of a segment that fills an MTU of 1500 bytes, with time stamps.
pub const LARGE: usize = 1448;

/// How a name calls a size: a small frame by its length over IPv4, a large one by its payload.
fn size_name(payload: usize) -> usize {
    if payload == SMALL { 64 } else { payload }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.v6 { "v6" } else { "v4" };
        let traffic = match self.traffic {
            Traffic::Tcp => "tcp",
            Traffic::Resegmented => "tcp-resegmented",
            Traffic::Udp => "udp",
        };
        let (size, flows) = (size_name(self.payload), self.flows);
        write!(f, "engine/{size}/{flows}/{family}/{traffic}")?;
        if self.apart {
            write!(f, "/apart")?;
        }
        match self.held {
            0 => Ok(()),
            held => write!(f, "/held-{held}"),
        }
    }
}

/// TCP over IPv4 in frames of 64 bytes, 1,000 flows.
pub const PLAIN: Case = Case {
    payload: SMALL,
    flows: 1000,
    v6: false,
    traffic: Traffic::Tcp,
    held: 0,
    apart: false,
};

const TRAFFICS: [Traffic; 3] = [Traffic::Tcp, Traffic::Resegmented, Traffic::Udp];

impl Case {
    /// TCP over IPv4 with the same segments of both VMs.
    pub fn plain(payload: usize, flows: usize) -> Self {
        Self {
            payload,
            flows,
            ..PLAIN
        }
    }
}

/// Cases in which the bursts of the VMs do not come at once.
fn apart() -> impl Iterator<Item = Case> {
    [SMALL, LARGE].into_iter().flat_map(|payload| {
        [Traffic::Tcp, Traffic::Udp].map(|traffic| Case {
            payload,
            traffic,
            apart: true,
            ..PLAIN
        })
    })
}

/// All cases: sizes, numbers of flows, families and traffics, bursts apart, and more and more held
/// frames.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for payload in [SMALL, LARGE] {
        for flows in [1, 1000, 1_000_000] {
            for v6 in [false, true] {
                cases.extend(TRAFFICS.map(|traffic| Case {
                    payload,
                    flows,
                    v6,
                    traffic,
                    ..PLAIN
                }));
            }
        }
    }
    cases.extend(apart());
    cases.extend([1000, 100_000].map(|held| Case { held, ..PLAIN }));
    cases
}

/// The cases that QEMU's colo-compare does, too: it does not compare IPv6, keeps 16,384 flows, and
/// takes datagrams in no order.
pub fn for_peer() -> Vec<Case> {
    let mut cases = Vec::new();
    for payload in [SMALL, LARGE] {
        cases.extend([Traffic::Tcp, Traffic::Resegmented].map(|traffic| Case {
            payload,
            traffic,
            ..PLAIN
        }));
    }
    cases
}

/// The cases whose instructions are counted: each code path once.
pub fn for_instructions() -> Vec<Case> {
    let mut cases = Vec::new();
    for payload in [SMALL, LARGE] {
        cases.extend(TRAFFICS.map(|traffic| Case {
            payload,
            traffic,
            ..PLAIN
        }));
    }
    cases.extend(TRAFFICS.map(|traffic| Case {
        v6: true,
        traffic,
        ..PLAIN
    }));
    cases.push(Case { flows: 1, ..PLAIN });
    cases.extend(apart());
    cases
}
