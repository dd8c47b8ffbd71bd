//! Reports again which multicast groups the VM is a member of, when it is served from another place.
//!
//! A switch that snoops (RFC 4541) forwards a group to the ports on which it has heard reports. Behind the port of the
//! node that has taken over it has heard none, and the VM reports again when a querier asks, two minutes later.
//!
//! In: what the VM sends, of which the groups that it joins and leaves are kept. Out: one report for each group, in the
//! version that the VM used last for it. Sources are not kept: a group of which the VM wants some sources is reported as
//! wanted from any, and what the switch forwards too much the VM ignores; its answer to the next query corrects that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::address::{Address, Announcement};
use crate::packet::build::{self, Ipv4, Ipv6};
use crate::packet::{Kind, Packet};
use crate::proto::ether;
use crate::proto::ip::{HOP_BY_HOP, ICMPV6, IGMP};

/// Groups that are kept; a further one takes the place of the first.
const GROUPS: usize = 32;
/// Records of a report that are looked at.
const RECORDS: usize = 64;

/// IGMP (RFC 1112, 2236 and 3376) and MLD (RFC 2710 and 3810) message types.
const IGMP_V1_REPORT: u8 = 0x12;
const IGMP_V2_REPORT: u8 = 0x16;
const IGMP_LEAVE: u8 = 0x17;
const IGMP_V3_REPORT: u8 = 0x22;
const MLD_REPORT: u8 = 131;
const MLD_DONE: u8 = 132;
const MLD_V2_REPORT: u8 = 143;

/// Types of a group record (RFC 3376, 4.2.12; RFC 3810, 5.2.12).
const MODE_IS_INCLUDE: u8 = 1;
const MODE_IS_EXCLUDE: u8 = 2;
const CHANGE_TO_INCLUDE: u8 = 3;
const CHANGE_TO_EXCLUDE: u8 = 4;
const ALLOW_NEW_SOURCES: u8 = 5;

/// Where IGMPv3 and MLDv2 reports go (RFC 3376, 4.2.14; RFC 3810, 5.2.14).
const ALL_IGMP_V3: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);
const ALL_MLD_V2: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

#[derive(Clone, Copy, Debug)]
struct Membership {
    /// Who reports, with the address that its last report came from.
    vm: Address,
    group: IpAddr,
    /// Type of the report.
    message: u8,
    /// Rounds in which it was reported.
    rounds: usize,
}

/// The groups of a VM.
#[derive(Debug)]
pub(super) struct Groups {
    kept: [Option<Membership>; GROUPS],
    next: usize,
}

impl Groups {
    /// Knows none.
    pub(crate) fn new() -> Self {
        Self {
            kept: [None; GROUPS],
            next: 0,
        }
    }

    /// Takes in what the VM reports in this frame, which it sent as `vm`; `packet` was parsed from its first segment, `head`.
    pub(crate) fn learn(&mut self, head: &[u8], packet: &Packet, vm: Address) {
        if !matches!(packet.kind, Kind::Igmp | Kind::Mld) {
            return;
        }
        let end = packet.end().min(head.len());
        let (Some(ip), Some(message)) =
            (packet.key.src_ip(), head.get(usize::from(packet.l4)..end))
        else {
            return;
        };
        let vm = Address { ip: Some(ip), ..vm };
        match (packet.kind, message.first()) {
            (Kind::Igmp, Some(&kind @ (IGMP_V1_REPORT | IGMP_V2_REPORT))) => {
                self.joins(vm, ipv4(message, 4), kind);
            }
            (Kind::Igmp, Some(&IGMP_LEAVE)) => self.leaves(&vm, ipv4(message, 4)),
            (Kind::Igmp, Some(&IGMP_V3_REPORT)) => self.records::<4>(message, vm, ipv4),
            (Kind::Mld, Some(&MLD_REPORT)) => self.joins(vm, ipv6(message, 8), MLD_REPORT),
            (Kind::Mld, Some(&MLD_DONE)) => self.leaves(&vm, ipv6(message, 8)),
            (Kind::Mld, Some(&MLD_V2_REPORT)) => self.records::<16>(message, vm, ipv6),
            _ => {}
        }
    }

    /// Takes in the group records of an IGMPv3 or MLDv2 report, whose addresses have `N` bytes.
    fn records<const N: usize>(
        &mut self,
        message: &[u8],
        vm: Address,
        address: fn(&[u8], usize) -> Option<IpAddr>,
    ) {
        let count = message
            .get(6..8)
            .map_or(0, |n| u16::from_be_bytes([n[0], n[1]]));
        let mut at = 8;
        for _ in 0..usize::from(count).min(RECORDS) {
            let Some(&[kind, auxiliary, high, low]) =
                message.get(at..).and_then(<[u8]>::first_chunk)
            else {
                return;
            };
            let group = address(message, at + 4);
            let sources = usize::from(u16::from_be_bytes([high, low]));
            match kind {
                MODE_IS_EXCLUDE | CHANGE_TO_EXCLUDE | ALLOW_NEW_SOURCES => {
                    self.joins(vm, group, message[0]);
                }
                MODE_IS_INCLUDE | CHANGE_TO_INCLUDE if sources > 0 => {
                    self.joins(vm, group, message[0]);
                }
                MODE_IS_INCLUDE | CHANGE_TO_INCLUDE => self.leaves(&vm, group),
                // It wants fewer sources of a group.
                _ => {}
            }
            at += 4 + N + sources * N + usize::from(auxiliary) * 4;
        }
    }

    fn joins(&mut self, vm: Address, group: Option<IpAddr>, message: u8) {
        let Some(group) = group.filter(IpAddr::is_multicast) else {
            return;
        };
        let membership = Some(Membership {
            vm,
            group,
            message,
            rounds: 0,
        });
        match self.place(&vm, group) {
            Some(place) => *place = membership,
            None => {
                self.kept[self.next] = membership;
                self.next = (self.next + 1) % GROUPS;
            }
        }
    }

    fn leaves(&mut self, vm: &Address, group: Option<IpAddr>) {
        if let Some(group) = group
            && let Some(place) = self.place(vm, group)
        {
            *place = None;
        }
    }

    /// Where a membership is kept, whatever IP address it was reported from.
    fn place(&mut self, vm: &Address, group: IpAddr) -> Option<&mut Option<Membership>> {
        self.kept.iter_mut().find(|kept| {
            kept.is_some_and(|kept| {
                let tags = |of: &Address| (of.mac, of.tags, of.tags_len);
                kept.group == group && tags(&kept.vm) == tags(vm)
            })
        })
    }

    /// All are to be reported again from the first round on.
    pub(crate) fn begin(&mut self) {
        for kept in self.kept.iter_mut().flatten() {
            kept.rounds = 0;
        }
    }

    /// The next report, if there is a group that was reported in fewer rounds than `rounds`.
    pub(crate) fn next(&mut self, rounds: usize) -> Option<Announcement> {
        let due = |kept: &&mut Membership| kept.rounds < rounds;
        let membership = self.kept.iter_mut().flatten().find(due)?;
        membership.rounds = rounds;
        report(membership)
    }
}

fn ipv4(message: &[u8], at: usize) -> Option<IpAddr> {
    let bytes: [u8; 4] = *message.get(at..)?.first_chunk()?;
    Some(bytes.into())
}

fn ipv6(message: &[u8], at: usize) -> Option<IpAddr> {
    let bytes: [u8; 16] = *message.get(at..)?.first_chunk()?;
    Some(bytes.into())
}

/// The report of one group, from any source.
fn report(membership: &Membership) -> Option<Announcement> {
    let mut frame = match (membership.vm.ip?, membership.group) {
        (IpAddr::V4(from), IpAddr::V4(group)) => igmp(membership, from, group),
        (IpAddr::V6(from), IpAddr::V6(group)) => mld(membership, from, group),
        _ => return None,
    };
    frame.pad();
    Some(frame)
}

fn igmp(membership: &Membership, from: Ipv4Addr, group: Ipv4Addr) -> Announcement {
    let mut message = [0; 16];
    message[0] = membership.message;
    let (to, message) = if membership.message == IGMP_V3_REPORT {
        (message[7], message[8]) = (1, MODE_IS_EXCLUDE);
        message[12..16].copy_from_slice(&group.octets());
        (ALL_IGMP_V3, &mut message[..])
    } else {
        message[4..8].copy_from_slice(&group.octets());
        (group, &mut message[..8])
    };
    build::finish(message);
    let [_, a, b, c] = to.octets();
    let mut frame = (membership.vm).frame(&[1, 0, 0x5e, a & 0x7f, b, c], ether::IPV4);
    // The option router alert (RFC 2113), precedence 0xc0, TTL 1 (RFC 3376, 4).
    let header = Ipv4 {
        from,
        to,
        protocol: IGMP,
        hops: 1,
        service: 0xc0,
        options: &[0x94, 4, 0, 0],
    };
    frame.ipv4(&header, message.len());
    frame.put(message);
    frame
}

fn mld(membership: &Membership, from: Ipv6Addr, group: Ipv6Addr) -> Announcement {
    let mut message = [0; 28];
    message[0] = membership.message;
    let (to, message) = if membership.message == MLD_V2_REPORT {
        (message[7], message[8]) = (1, MODE_IS_EXCLUDE);
        message[12..28].copy_from_slice(&group.octets());
        (ALL_MLD_V2, &mut message[..])
    } else {
        message[8..24].copy_from_slice(&group.octets());
        (group, &mut message[..24])
    };
    build::finish_v6(message, from, to);
    let [.., a, b, c, d] = to.octets();
    let mut frame = (membership.vm).frame(&[0x33, 0x33, a, b, c, d], ether::IPV6);
    // The option router alert for MLD (RFC 2711) and two bytes of padding.
    let options = [ICMPV6, 0, 5, 2, 0, 0, 1, 0];
    // Hop-by-hop options first, hop limit 1 (RFC 3810, 5).
    let header = Ipv6 {
        from,
        to,
        next: HOP_BY_HOP,
        hops: 1,
    };
    frame.ipv6(&header, options.len() + message.len());
    frame.put(&options);
    frame.put(message);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::checksum::{Sum, verify};

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const VM4: [u8; 4] = [10, 0, 0, 7];
    const GROUP4: [u8; 4] = [239, 1, 2, 3];

    fn vm(tags: &[u8]) -> Address {
        let mut vm = Address {
            mac: MAC,
            tags_len: tags.len() as u8,
            ..Address::default()
        };
        vm.tags[..tags.len()].copy_from_slice(tags);
        vm
    }

    fn group6() -> Ipv6Addr {
        "ff05::1:3".parse().expect("an address")
    }

    fn vm6() -> Ipv6Addr {
        "fe80::7".parse().expect("an address")
    }

    /// A report of one group as a VM sends it, made of what this module sends, but for the fields of interest.
    fn sent(tags: &[u8], message: u8, group: IpAddr) -> Vec<u8> {
        let ip = match group {
            IpAddr::V4(_) => IpAddr::from(VM4),
            IpAddr::V6(_) => vm6().into(),
        };
        let membership = Membership {
            vm: Address {
                ip: Some(ip),
                ..vm(tags)
            },
            group,
            message,
            rounds: 0,
        };
        report(&membership).expect("of one family").bytes().to_vec()
    }

    fn learn(groups: &mut Groups, tags: &[u8], frame: &[u8]) {
        groups.learn(frame, &Packet::parse(frame, frame.len()), vm(tags));
    }

    fn said(groups: &mut Groups, round: usize) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| groups.next(round))
            .map(|frame| frame.bytes().to_vec())
            .collect()
    }

    #[test]
    fn reports_are_whole() {
        for tags in [
            &[][..],
            &[0x81, 0, 0, 5],
            &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6],
        ] {
            for message in [IGMP_V1_REPORT, IGMP_V2_REPORT, IGMP_V3_REPORT] {
                let frame = sent(tags, message, GROUP4.into());
                let packet = Packet::parse(&frame, frame.len());
                assert_eq!(packet.kind, Kind::Igmp);
                let ip = usize::from(packet.l3);
                let mut sums = [Sum::default(); 2];
                sums[0].add(&frame[ip..ip + 24]);
                sums[1].add(&frame[ip + 24..packet.end()]);
                assert_eq!(sums.map(Sum::checksum), [0, 0]);
                let sliced = etherparse::SlicedPacket::from_ethernet(&frame).expect("whole");
                let Some(etherparse::NetSlice::Ipv4(ip)) = sliced.net else {
                    panic!("no IPv4");
                };
                let expected = match message {
                    IGMP_V3_REPORT => ALL_IGMP_V3,
                    _ => GROUP4.into(),
                };
                assert_eq!(ip.header().destination_addr(), expected);
                assert_eq!(ip.header().options(), [0x94, 4, 0, 0]);
                assert_eq!(ip.header().ttl(), 1);
            }
            for message in [MLD_REPORT, MLD_V2_REPORT] {
                let frame = sent(tags, message, group6().into());
                let packet = Packet::parse(&frame, frame.len());
                assert_eq!(packet.kind, Kind::Mld);
                assert_eq!(verify(&packet, [&frame[..]]), Some(true));
            }
        }
    }

    #[test]
    fn a_group_is_reported_in_each_round_as_the_vm_reported_it_last() {
        let tags = [0x81, 0, 0, 5];
        let mut groups = Groups::new();
        let reports = [
            sent(&[], IGMP_V2_REPORT, GROUP4.into()),
            sent(&[], IGMP_V3_REPORT, GROUP4.into()),
            sent(&tags, IGMP_V1_REPORT, GROUP4.into()),
            sent(&[], MLD_V2_REPORT, group6().into()),
            sent(&[], MLD_REPORT, group6().into()),
        ];
        for _ in 0..3 {
            for report in &reports {
                let own: &[u8] = if report[12] == 0x81 { &tags } else { &[] };
                learn(&mut groups, own, report);
            }
        }
        assert_eq!(said(&mut groups, 0), Vec::<Vec<u8>>::new());
        let first = said(&mut groups, 1);
        assert_eq!(first, [&reports[1][..], &reports[2], &reports[4]]);
        assert!(said(&mut groups, 1).is_empty());
        assert_eq!(said(&mut groups, 2), first);
        groups.begin();
        assert_eq!(said(&mut groups, 1), first);
    }

    /// A report with a record of this type and number of sources, before one that joins another group.
    fn records(v6: bool, kind: u8, sources: usize) -> Vec<u8> {
        let (message, n, group, other) = match v6 {
            true => (
                MLD_V2_REPORT,
                16,
                IpAddr::from(group6()),
                "ff05::9".parse::<IpAddr>().expect("an address"),
            ),
            false => (
                IGMP_V3_REPORT,
                4,
                IpAddr::from(GROUP4),
                IpAddr::from([239, 9, 9, 9]),
            ),
        };
        let mut first = sent(&[], message, group);
        let mut second = sent(&[], message, other);
        let at = usize::from(Packet::parse(&first, first.len()).l4);
        first.truncate(at + 12 + n);
        second.truncate(at + 12 + n);
        (first[at + 7], first[at + 8], first[at + 11]) = (2, kind, sources as u8);
        first.extend(vec![9; sources * n]);
        first.extend(&second[at + 8..]);
        let added = (sources * n + 4 + n) as u8;
        if v6 {
            first[14 + 5] += added;
        } else {
            first[14 + 3] += added;
        }
        first
    }

    #[test]
    fn records_join_and_leave() {
        for v6 in [false, true] {
            let joins = |groups: &mut Groups| {
                groups.begin();
                said(groups, 1).len()
            };
            let mut groups = Groups::new();
            for (kind, sources, expected) in [
                (CHANGE_TO_EXCLUDE, 0, 2),
                (CHANGE_TO_INCLUDE, 0, 1),
                (ALLOW_NEW_SOURCES, 3, 2),
                (6, 3, 2),
                (MODE_IS_INCLUDE, 0, 1),
                (MODE_IS_INCLUDE, 2, 2),
                (CHANGE_TO_INCLUDE, 0, 1),
                (MODE_IS_EXCLUDE, 1, 2),
            ] {
                learn(&mut groups, &[], &records(v6, kind, sources));
                assert_eq!(joins(&mut groups), expected, "{v6} {kind} {sources}");
            }
            let (leave, group): (u8, IpAddr) = match v6 {
                true => (MLD_DONE, group6().into()),
                false => (IGMP_LEAVE, GROUP4.into()),
            };
            learn(&mut groups, &[], &sent(&[], leave, group));
            assert_eq!(joins(&mut groups), 1);
        }
    }

    #[test]
    fn any_number_of_groups_and_any_bytes_are_survived() {
        let mut groups = Groups::new();
        for n in 0..1_000u16 {
            let [a, b] = n.to_be_bytes();
            learn(
                &mut groups,
                &[],
                &sent(&[], IGMP_V2_REPORT, [239, 0, a, b].into()),
            );
        }
        for v6 in [false, true] {
            let whole = records(v6, CHANGE_TO_EXCLUDE, 5);
            for end in 0..whole.len() {
                learn(&mut groups, &[], &whole[..end]);
                let mut other = whole.clone();
                other[end] = 0xff;
                learn(&mut groups, &[], &other);
            }
        }
        assert_eq!(said(&mut groups, 1).len(), GROUPS);
    }
}
