//! A comparator of mirrored traffic.

use super::super::NodeError;
use super::super::compare::{CompareNode, PrimaryAndSecondary};
use super::super::outlet::Outlet;
use super::super::poll::{Builder, Pair};
use super::super::pools::{CACHED, Purpose};
use super::super::port_queue::PortQueue;
use super::values::setup;
use super::{Ends, PairCores, Site};
use crate::compare::Numbers;
use crate::config::{PortName, PortRole};
use crate::protect::Standalone;

/// The names of a comparator's ports.
pub(super) struct Names<'a> {
    pub(super) primary_in: &'a PortName,
    pub(super) secondary_in: &'a PortName,
    pub(super) out: &'a PortName,
}

/// Opens a comparator's ports. Returns what makes it, on the core that polls it.
pub(super) fn standalone(
    site: &mut Site<'_>,
    names: Names<'_>,
    numbers: Numbers,
    ends: Ends,
    cores: &mut PairCores<'_>,
) -> Result<Builder, NodeError> {
    let p = site.pool(Purpose::Primary);
    let s = site.pool(Purpose::Secondary);
    let cached = site.cores.comparing.len() * CACHED;
    let mut setup = setup(site, [p.size(), s.size()], cached)?;
    setup.numbers = numbers;
    let ports = [
        site.open(PortRole::PrimaryIn, names.primary_in, &p)?,
        site.open(PortRole::SecondaryIn, names.secondary_in, &s)?,
        site.open(PortRole::Out, names.out, &s)?,
    ];
    let (rings, table) = cores.spread(&setup);
    Ok(Box::new(move |shared| {
        let [primary, secondary, out] = ports.map(|queues| PortQueue::new(queues, shared));
        let inputs = PrimaryAndSecondary { primary, secondary };
        let ports = ends.host(inputs, Some(Outlet::new(out)));
        let state = Standalone::with_workers(setup, rings, table);
        Pair::Compare(Box::new(CompareNode::new(state, ports)))
    }))
}
