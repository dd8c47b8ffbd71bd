//! Which pairs get a frame of a shared uplink, and which of their frames stay on the host.

use super::addresses::{Addresses, Mac, Station};
use super::members::{MEMBERS, Members};
use super::table::{Entry, Table};

/// Addresses that are kept of a pair; a further one takes the place of the first learned one.
pub const ADDRESSES: usize = 32;

/// What a pair's node is at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Its VM speaks for the pair.
    Leads,
    /// Its VM follows another one, and may go on in its place.
    StandsBy,
    /// Another VM speaks in the place of its VM.
    #[default]
    Silent,
}

/// Where a released frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// Pairs of this host.
    pub local: Members,
    /// Whether it leaves for the network.
    pub network: bool,
}

impl Crossing {
    const OUT: Self = Self {
        local: Members::NONE,
        network: true,
    };
}

/// A pair at the port.
struct Member {
    /// Its configured addresses; with any it learns none.
    fixed: usize,
    /// Addresses that it has learned, the oldest first; 0 behind the last one.
    learned: [u64; ADDRESSES],
    /// The sender of its last frame, if there is nothing to learn from it again.
    last: u64,
}

/// The pairs of one uplink port, and their addresses.
pub struct UplinkSwitch {
    table: Table,
    members: Vec<Member>,
    leads: Members,
    stands_by: Members,
    /// Pairs of which an address is known.
    known: Members,
}

impl UplinkSwitch {
    /// For pairs with these configured addresses, [`ADDRESSES`] each at most and no address twice, in the order of their
    /// numbers at the port. None leads yet. The seed is not to be known outside.
    pub fn new(addresses: &[Vec<Mac>], seed: u64) -> Self {
        debug_assert!(addresses.len() <= MEMBERS, "no more than can share a port");
        let mut table = Table::new(addresses.len() * ADDRESSES, seed);
        let mut known = Members::NONE;
        let mut members = Vec::new();
        for (number, own) in addresses.iter().enumerate() {
            debug_assert!(own.len() <= ADDRESSES);
            for mac in own {
                let entry = Entry {
                    member: number as u8,
                    fixed: true,
                    away: false,
                };
                table.add(mac.anywhere(), entry);
                known = known.with(number);
            }
            members.push(Member {
                fixed: own.len(),
                learned: [0; ADDRESSES],
                last: 0,
            });
        }
        Self {
            table,
            members,
            leads: Members::NONE,
            stands_by: Members::NONE,
            known,
        }
    }

    /// Says what a pair's node is from now on.
    pub fn set_standing(&mut self, member: usize, standing: Standing) {
        let set = |members: Members, is_in: bool| match is_in {
            true => members.with(member),
            false => members.without(member),
        };
        self.leads = set(self.leads, standing == Standing::Leads);
        self.stands_by = set(self.stands_by, standing == Standing::StandsBy);
    }

    /// The pairs that get a frame of the network: those of its address, or all that lead where it is for a group. A pair
    /// that stands by gets what is for a configured address of its own, to keep it until it leads.
    ///
    /// A frame for an address that no pair has goes to the pairs that lead and of which no address is known.
    pub fn from_network(&mut self, head: &[u8]) -> Members {
        let Some(frame) = Addresses::read(head) else {
            return Members::NONE;
        };
        if let Some(sender) = frame.sender() {
            self.moved(sender);
        }
        if frame.is_for_group() {
            return self.leads;
        }
        let Some(owner) = self.owner(frame.receiver()) else {
            return self.leads.except(self.known);
        };
        let member = usize::from(owner.member);
        match self.leads.has(member) || (owner.fixed && self.stands_by.has(member)) {
            true => Members::one(member),
            false => Members::NONE,
        }
    }

    /// Where a frame goes that this pair has released. Its sender's address is the pair's from now on.
    pub fn from_vm(&mut self, from: usize, head: &[u8]) -> Crossing {
        let Some(frame) = Addresses::read(head).filter(|_| self.leads.has(from)) else {
            return Crossing::OUT;
        };
        if let Some(sender) = frame.sender() {
            self.learn(from, sender);
        }
        if frame.is_for_group() {
            return Crossing {
                local: self.leads.without(from),
                network: true,
            };
        }
        match self.owner(frame.receiver()) {
            Some(Entry {
                member,
                away: false,
                ..
            }) if self.leads.without(from).has(usize::from(member)) => Crossing {
                local: Members::one(usize::from(member)),
                network: false,
            },
            _ => Crossing::OUT,
        }
    }

    #[inline]
    fn owner(&self, [here, anywhere]: [Station; 2]) -> Option<Entry> {
        self.table.get(here).or_else(|| self.table.get(anywhere))
    }

    /// The network has this sender, so frames for it go there until its VM is heard again.
    #[inline]
    fn moved(&mut self, sender: [Station; 2]) {
        for station in sender {
            if let Some(entry) = self.table.get_mut(station)
                && !entry.away
            {
                entry.away = true;
                self.members[usize::from(entry.member)].last = 0;
            }
        }
    }

    #[inline]
    fn learn(&mut self, from: usize, [here, anywhere]: [Station; 2]) {
        if self.members[from].last == here.0 {
            return;
        }
        self.learn_anew(from, here, anywhere);
    }

    fn learn_anew(&mut self, from: usize, here: Station, anywhere: Station) {
        if let Some(entry) = self.table.get_mut(anywhere) {
            // A configured address stays its pair's, whichever VM sends from it.
            if usize::from(entry.member) == from {
                entry.away = false;
                self.members[from].last = here.0;
            }
            return;
        }
        if self.members[from].fixed > 0 {
            return;
        }
        match self.table.get_mut(here) {
            Some(entry) if usize::from(entry.member) == from => entry.away = false,
            Some(entry) => {
                let before = usize::from(std::mem::replace(&mut entry.member, from as u8));
                entry.away = false;
                self.members[before].forget(here);
                self.keep(from, here);
            }
            None => {
                self.keep(from, here);
                let entry = Entry {
                    member: from as u8,
                    ..Entry::default()
                };
                self.table.add(here, entry);
            }
        }
        self.members[from].last = here.0;
        self.known = self.known.with(from);
    }

    /// Notes that the address is the pair's, and forgets the pair's oldest one where there is no room.
    fn keep(&mut self, from: usize, station: Station) {
        let learned = &mut self.members[from].learned;
        let free = learned.iter().position(|known| *known == 0);
        let at = free.unwrap_or_else(|| {
            self.table.remove(Station(learned[0]));
            learned.rotate_left(1);
            ADDRESSES - 1
        });
        learned[at] = station.0;
    }
}

impl Member {
    fn forget(&mut self, station: Station) {
        let at = self.learned.iter().position(|known| *known == station.0);
        if let Some(at) = at {
            self.learned[at] = 0;
            self.learned[at..].rotate_left(1);
        }
        if self.last == station.0 {
            self.last = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const STRANGER: [u8; 6] = [2, 0, 0, 0, 9, 9];
    const ALL: [u8; 6] = [0xff; 6];

    fn vm(member: u8) -> [u8; 6] {
        [2, 0, 0, 0, 0, member]
    }

    fn frame(to: [u8; 6], from: [u8; 6]) -> Vec<u8> {
        [&to[..], &from, &[0x08, 0x00]].concat()
    }

    fn tagged(to: [u8; 6], from: [u8; 6], vlan: u8) -> Vec<u8> {
        [&to[..], &from, &[0x81, 0x00, 0x00, vlan, 0x08, 0x00]].concat()
    }

    fn switch(fixed: &[&[[u8; 6]]]) -> UplinkSwitch {
        let macs = fixed.iter().map(|own| {
            let mac = |bytes: &[u8; 6]| Mac::new(*bytes).expect("an address");
            own.iter().map(mac).collect()
        });
        UplinkSwitch::new(&macs.collect::<Vec<_>>(), 0x1234_5678_9abc_def1)
    }

    /// Three pairs that lead, and whose VMs have sent something.
    fn three() -> UplinkSwitch {
        let mut switch = switch(&[&[], &[], &[]]);
        for member in 0..3 {
            switch.set_standing(member, Standing::Leads);
            switch.from_vm(member, &frame(STRANGER, vm(member as u8)));
        }
        switch
    }

    fn local(member: usize) -> Crossing {
        Crossing {
            local: Members::one(member),
            network: false,
        }
    }

    #[test]
    fn vms_of_one_host_reach_each_other_and_nobody_else_hears_it() {
        let mut switch = three();
        assert_eq!(switch.from_vm(0, &frame(TWO, vm(0))), local(2));
        assert_eq!(switch.from_vm(2, &frame(vm(0), TWO)), local(0));
        assert_eq!(switch.from_vm(0, &frame(STRANGER, vm(0))), Crossing::OUT);
        // Another VLAN is another network.
        assert_eq!(switch.from_vm(0, &tagged(TWO, vm(0), 7)), Crossing::OUT);
        let all = switch.from_vm(1, &frame(ALL, vm(1)));
        assert_eq!(all.local.collect::<Vec<_>>(), [0, 2]);
        assert!(all.network);
    }

    #[test]
    fn a_vm_that_follows_is_neither_reached_nor_heard() {
        for standing in [Standing::StandsBy, Standing::Silent] {
            let mut switch = three();
            switch.set_standing(2, standing);
            assert_eq!(switch.from_vm(0, &frame(TWO, vm(0))), Crossing::OUT);
            assert_eq!(switch.from_vm(2, &frame(vm(0), TWO)), Crossing::OUT);
            assert_eq!(switch.from_vm(2, &frame(ALL, TWO)), Crossing::OUT);
            assert!(!switch.from_vm(0, &frame(ALL, vm(0))).local.has(2));
            assert!(!switch.from_network(&frame(ALL, STRANGER)).has(2));
            assert!(switch.from_network(&frame(TWO, STRANGER)).is_empty());
            // What it sends teaches nothing.
            assert_eq!(switch.from_vm(2, &frame(vm(0), vm(1))), Crossing::OUT);
            assert_eq!(switch.from_vm(0, &frame(vm(1), vm(0))), local(1));
        }
    }

    #[test]
    fn an_address_that_the_network_has_goes_to_the_network_until_its_vm_is_heard() {
        for fixed in [&[][..], &[TWO][..]] {
            let mut switch = switch(&[&[], &[], fixed]);
            for member in 0..3 {
                switch.set_standing(member, Standing::Leads);
                switch.from_vm(member, &frame(STRANGER, vm(member as u8)));
            }
            assert_eq!(switch.from_vm(0, &frame(TWO, vm(0))), local(2));
            switch.from_network(&frame(STRANGER, TWO));
            assert_eq!(switch.from_vm(0, &frame(TWO, vm(0))), Crossing::OUT);
            // What the network has for it is input as before.
            let input = switch.from_network(&frame(TWO, STRANGER));
            assert_eq!(input, Members::one(2));
            switch.from_vm(2, &frame(STRANGER, TWO));
            assert_eq!(switch.from_vm(0, &frame(TWO, vm(0))), local(2));
        }
    }

    #[test]
    fn a_configured_address_stays_its_pair_s_and_waits_with_it() {
        let mut switch = switch(&[&[], &[vm(1)], &[TWO]]);
        switch.set_standing(0, Standing::Leads);
        switch.set_standing(1, Standing::Leads);
        switch.set_standing(2, Standing::StandsBy);
        // Another VM sends from it, and one with a configured address from another one.
        switch.from_vm(0, &frame(STRANGER, vm(1)));
        switch.from_vm(1, &frame(STRANGER, vm(7)));
        assert_eq!(
            switch.from_network(&frame(vm(1), STRANGER)),
            Members::one(1)
        );
        assert_eq!(
            switch.from_network(&tagged(vm(1), STRANGER, 7)),
            Members::one(1)
        );
        // Nobody has it, and every other pair's addresses are known.
        assert_eq!(
            switch.from_network(&frame(vm(7), STRANGER)),
            Members::one(0)
        );
        assert_eq!(switch.from_network(&frame(TWO, STRANGER)), Members::one(2));
        assert_eq!(switch.from_vm(0, &frame(TWO, vm(0))), Crossing::OUT);
        assert!(!switch.from_network(&frame(ALL, STRANGER)).has(2));
    }

    #[test]
    fn a_stranger_s_address_goes_to_pairs_that_have_said_nothing_yet() {
        let mut switch = switch(&[&[], &[], &[]]);
        switch.set_standing(0, Standing::Leads);
        switch.set_standing(1, Standing::Leads);
        let strange = frame(STRANGER, vm(9));
        let both = Members::one(0).with(1);
        assert_eq!(switch.from_network(&strange), both);
        switch.from_vm(0, &frame(STRANGER, vm(0)));
        assert_eq!(switch.from_network(&strange), Members::one(1));
        switch.from_vm(1, &frame(STRANGER, vm(1)));
        assert!(switch.from_network(&strange).is_empty());
    }

    #[test]
    fn an_address_of_two_vms_is_that_of_the_last_one() {
        let mut switch = three();
        let both = [2, 0, 0, 0, 0, 7];
        for member in [0, 1, 0, 1] {
            switch.from_vm(member, &frame(STRANGER, both));
            assert_eq!(switch.from_vm(2, &frame(both, TWO)), local(member));
        }
    }

    #[test]
    fn a_vm_with_many_addresses_loses_its_own_oldest_one() {
        let mut switch = three();
        let many = |n: usize| [2, 1, 0, 0, (n >> 8) as u8, n as u8];
        for n in 0..1000 {
            switch.from_vm(0, &frame(STRANGER, many(n)));
        }
        let reached = |switch: &mut UplinkSwitch, to| switch.from_vm(1, &frame(to, vm(1)));
        assert_eq!(reached(&mut switch, TWO), local(2));
        assert_eq!(reached(&mut switch, many(1000 - ADDRESSES)), local(0));
        assert_eq!(
            reached(&mut switch, many(1000 - ADDRESSES - 1)),
            Crossing::OUT
        );
    }
}
