//! Frames of a shared uplink: random frames and standings, judged by the rules of docs/many-pairs.md and by a model that
//! keeps the addresses in plain lists.

use colo_testkit::rng::{Rng, for_cases};
use dpdk_colo::switch::{ADDRESSES, Mac, Members, Standing, UplinkSwitch};

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    address: [u8; 6],
    /// `None`: any, of a configured one.
    vlan: Option<u16>,
    member: usize,
    away: bool,
}

/// The rules, written a second time.
struct Model {
    fixed: Vec<usize>,
    standing: Vec<Standing>,
    /// In the order in which they were learned.
    known: Vec<Known>,
    ever_known: Vec<bool>,
}

/// A frame as a test draws it.
#[derive(Clone, Copy, Debug)]
struct Drawn {
    to: [u8; 6],
    from: [u8; 6],
    vlan: Option<u16>,
}

impl Drawn {
    fn bytes(self) -> Vec<u8> {
        let mut bytes = [self.to, self.from].concat();
        if let Some(vlan) = self.vlan {
            bytes.extend_from_slice(&[0x81, 0x00]);
            bytes.extend_from_slice(&vlan.to_be_bytes());
        }
        bytes.extend_from_slice(&[0x08, 0x00, 0x45, 0x00]);
        bytes
    }

    fn vlan(self) -> u16 {
        self.vlan.map_or(0, |tag| tag & 0xfff)
    }

    fn is_for_group(self) -> bool {
        self.to[0] & 1 == 1
    }

    fn has_sender(self) -> bool {
        self.from[0] & 1 == 0 && self.from != [0; 6]
    }
}

impl Model {
    fn leads(&self, member: usize) -> bool {
        self.standing[member] == Standing::Leads
    }

    fn leading(&self) -> Vec<usize> {
        (0..self.standing.len())
            .filter(|m| self.leads(*m))
            .collect()
    }

    /// The entry of an address in a VLAN, a configured one last.
    fn of(&mut self, address: [u8; 6], vlan: u16) -> Option<&mut Known> {
        let at = |vlan: Option<u16>, known: &[Known]| {
            known
                .iter()
                .position(|k| (k.address, k.vlan) == (address, vlan))
        };
        let at = at(Some(vlan), &self.known).or_else(|| at(None, &self.known))?;
        self.known.get_mut(at)
    }

    fn learn(&mut self, from: usize, frame: Drawn) {
        let configured = |k: &&mut Known| k.address == frame.from && k.vlan.is_none();
        if let Some(known) = self.known.iter_mut().find(configured) {
            known.away &= known.member != from;
            return;
        }
        if self.fixed[from] > 0 {
            return;
        }
        self.ever_known[from] = true;
        let is_it = |k: &Known| (k.address, k.vlan) == (frame.from, Some(frame.vlan()));
        let at = self.known.iter().position(is_it);
        if let Some(at) = at
            && self.known[at].member == from
        {
            self.known[at].away = false;
            return;
        }
        at.map(|at| self.known.remove(at));
        self.known.push(Known {
            address: frame.from,
            vlan: Some(frame.vlan()),
            member: from,
            away: false,
        });
    }

    fn addresses_of(&self, member: usize) -> usize {
        self.known.iter().filter(|k| k.member == member).count()
    }
}

const ADDRESS: [u8; 6] = [2, 0, 0, 0, 0, 0];

fn address(rng: &mut Rng, few: bool) -> [u8; 6] {
    match rng.below(12) {
        0 => [0xff; 6],
        1 => [1, 0, 0x5e, 0, 0, rng.below(3) as u8],
        2 if few => [0; 6],
        _ => {
            let mut address = ADDRESS;
            address[5] = rng.below(if few { 6 } else { 200 }) as u8;
            address
        }
    }
}

fn sorted(members: Members) -> Vec<usize> {
    members.collect()
}

fn case(rng: &mut Rng) {
    let pairs = rng.between(1, 6);
    let mut macs: Vec<Vec<Mac>> = vec![Vec::new(); pairs];
    let mut known = Vec::new();
    for last in 0..rng.below(5) as u8 {
        let member = rng.below(pairs);
        let mut address = ADDRESS;
        address[5] = last;
        macs[member].push(Mac::new(address).expect("an address"));
        known.push(Known {
            address,
            vlan: None,
            member,
            away: false,
        });
    }
    let fixed: Vec<usize> = macs.iter().map(Vec::len).collect();
    let mut switch = UplinkSwitch::new(&macs, rng.next());
    let mut model = Model {
        ever_known: fixed.iter().map(|n| *n > 0).collect(),
        fixed,
        standing: vec![Standing::Silent; pairs],
        known,
    };
    // Few enough addresses to meet, or enough to fill a pair's quota.
    let few = rng.one_in(2);
    for _ in 0..rng.between(1, if few { 60 } else { 400 }) {
        if rng.one_in(6) {
            let member = rng.below(pairs);
            let standing = [
                Standing::Leads,
                Standing::Leads,
                Standing::StandsBy,
                Standing::Silent,
            ][rng.below(4)];
            model.standing[member] = standing;
            switch.set_standing(member, standing);
        }
        let frame = Drawn {
            to: address(rng, few),
            from: address(rng, few),
            vlan: [None, Some(0), Some(7), Some(0xe007), Some(0xfff)][rng.below(5)],
        };
        match rng.below(3) {
            0 => of_network(&mut switch, &mut model, frame),
            _ => of_vm(&mut switch, &mut model, rng.below(pairs), frame),
        }
    }
}

fn of_network(switch: &mut UplinkSwitch, model: &mut Model, frame: Drawn) {
    let got = sorted(switch.from_network(&frame.bytes()));
    if frame.has_sender() {
        for known in &mut model.known {
            let is_here = known.vlan.is_none_or(|vlan| vlan == frame.vlan());
            known.away |= known.address == frame.from && is_here;
        }
    }
    let owner = model.of(frame.to, frame.vlan()).copied();
    let wanted = match owner {
        _ if frame.is_for_group() => model.leading(),
        Some(owner) => {
            let waits = owner.vlan.is_none() && model.standing[owner.member] == Standing::StandsBy;
            match model.leads(owner.member) || waits {
                true => vec![owner.member],
                false => vec![],
            }
        }
        None => {
            let mut leading = model.leading();
            leading.retain(|member| !model.ever_known[*member]);
            leading
        }
    };
    assert_eq!(got, wanted, "{frame:?} of the network; {:?}", model.known);
    for member in got {
        let configured = owner.is_some_and(|owner| owner.vlan.is_none());
        assert!(
            model.leads(member) || (configured && model.standing[member] == Standing::StandsBy),
            "pair {member} neither leads nor keeps what is for its address: {frame:?}"
        );
    }
}

fn of_vm(switch: &mut UplinkSwitch, model: &mut Model, from: usize, frame: Drawn) {
    let crossing = switch.from_vm(from, &frame.bytes());
    let local = sorted(crossing.local);
    // The rules, whatever the table has.
    assert!(!local.contains(&from), "it comes back: {frame:?}");
    assert!(local.iter().all(|member| model.leads(*member)), "{frame:?}");
    if !model.leads(from) {
        assert_eq!((local, crossing.network), (vec![], true), "{frame:?}");
        return;
    }
    if frame.has_sender() {
        model.learn(from, frame);
    }
    for member in 0..model.standing.len() {
        // A pair's quota: its own oldest address goes, and nobody else's.
        if model.fixed[member] == 0 && model.addresses_of(member) > ADDRESSES {
            let oldest = model.known.iter().position(|k| k.member == member);
            oldest.map(|at| model.known.remove(at));
        }
    }
    if frame.is_for_group() {
        let mut others = model.leading();
        others.retain(|member| *member != from);
        assert_eq!((local, crossing.network), (others, true), "{frame:?}");
        return;
    }
    let owner = model.of(frame.to, frame.vlan()).copied();
    let owner = owner.filter(|owner| !owner.away && owner.member != from);
    let wanted: Vec<usize> = owner
        .map(|owner| owner.member)
        .filter(|member| model.leads(*member))
        .into_iter()
        .collect();
    assert_eq!(crossing.network, wanted.is_empty(), "{frame:?}");
    assert_eq!(local, wanted, "{frame:?}; {:?}", model.known);
}

#[test]
fn a_frame_reaches_the_pairs_of_its_address_and_none_that_does_not_lead() {
    for_cases("a_frame_reaches_the_pairs", 4_000, case);
}
