//! Keys of every class: what they are equal to, how they hash and how they are written.

use std::collections::HashSet;
use std::net::SocketAddr;

use super::key::Endpoints;
use super::{FlowClass, FlowKey, Vlans};

fn tcp(src: &str, dst: &str) -> FlowKey {
    FlowKey::tcp(src.parse().unwrap(), dst.parse().unwrap())
}

fn icmp(icmp_type: u16, identifier: u16) -> FlowKey {
    let ends = Endpoints::v4([10, 0, 0, 2], [10, 0, 0, 1]);
    FlowKey::new(
        ends,
        FlowClass::Icmp,
        identifier,
        icmp_type,
        Vlans::default(),
    )
}

fn samples() -> Vec<FlowKey> {
    let v6 = Endpoints::v6([0xfd; 16], [0xfe; 16]);
    let both = Vlans {
        outer: 4095,
        inner: 1,
    };
    vec![
        tcp("10.0.0.2:80", "10.0.0.1:4242").with_vlans(Vlans { outer: 5, inner: 0 }),
        tcp("[fd00::1]:80", "[fd00::2]:4242").with_vlans(both),
        FlowKey::udp(
            "10.0.0.2:80".parse().unwrap(),
            "10.0.0.1:4242".parse().unwrap(),
        ),
        icmp(8, 77),
        icmp(3, 0),
        FlowKey::new(v6, FlowClass::Icmp, 77, 129, both),
        FlowKey::new(v6, FlowClass::OtherIp, 0, 47, Vlans::default()),
        FlowKey::new(v6, FlowClass::Fragment, 0, 17, Vlans::default()),
        FlowKey::link([2, 0, 0, 0, 0, 1], [0xff; 6], 0x0806, both),
        FlowKey::default(),
    ]
}

#[test]
fn a_key_has_the_class_that_it_was_made_with() {
    for (number, class) in FlowClass::ALL.into_iter().enumerate() {
        assert_eq!(class as usize, number);
        let key = FlowKey::new(
            Endpoints::v4([10, 0, 0, 2], [10, 0, 0, 1]),
            class,
            0,
            1,
            Vlans::default(),
        );
        assert_eq!(key.class(), class, "{}", class.name());
    }
    for class in FlowClass::ALL {
        assert!(
            samples().iter().any(|key| key.class() == class),
            "samples has no flow of class {}",
            class.name()
        );
    }
}

#[test]
fn a_key_is_compact() {
    assert_eq!(size_of::<FlowKey>(), 40);
}

#[test]
fn keys_read_as_a_person_writes_them() {
    let shown: Vec<String> = samples().iter().map(FlowKey::to_string).collect();
    assert_eq!(
        shown,
        [
            "tcp 10.0.0.2:80 > 10.0.0.1:4242 vlan 5",
            "tcp [fd00::1]:80 > [fd00::2]:4242 vlan 4095.1",
            "udp 10.0.0.2:80 > 10.0.0.1:4242",
            "icmp 10.0.0.2 > 10.0.0.1 type 8 id 77",
            "icmp 10.0.0.2 > 10.0.0.1 type 3",
            "icmp fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd > \
             fefe:fefe:fefe:fefe:fefe:fefe:fefe:fefe type 129 id 77 vlan 4095.1",
            "ip fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd > \
             fefe:fefe:fefe:fefe:fefe:fefe:fefe:fefe protocol 47",
            "fragment fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd > \
             fefe:fefe:fefe:fefe:fefe:fefe:fefe:fefe protocol 17",
            "ether 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff type 0x0806 vlan 4095.1",
            "ether 00:00:00:00:00:00 > 00:00:00:00:00:00 type 0x0000",
        ]
    );
}

#[test]
fn a_report_names_each_part() {
    assert_eq!(
        serde_json::to_value(samples()[0]).unwrap(),
        serde_json::json!({
            "class": "tcp", "src": "10.0.0.2", "dst": "10.0.0.1",
            "src_port": 80, "dst_port": 4242, "protocol": 6, "vlans": [5],
        })
    );
    assert_eq!(
        serde_json::to_value(samples()[8]).unwrap(),
        serde_json::json!({
            "class": "ether", "src": "02:00:00:00:00:01", "dst": "ff:ff:ff:ff:ff:ff",
            "ether_type": 0x0806, "vlans": [4095, 1],
        })
    );
}

#[test]
fn the_other_direction_is_the_answer() {
    let key = tcp("10.0.0.2:80", "10.0.0.1:4242");
    assert_eq!(key.reversed(), tcp("10.0.0.1:4242", "10.0.0.2:80"));
    let reply = icmp(8, 77).reversed();
    assert_eq!(reply.icmp(), Some((0, Some(77))));
    for key in samples() {
        assert_eq!(key.reversed().reversed(), key);
        for seed in [0, 1, 0x9e37_79b9_7f4a_7c15] {
            assert_eq!(
                key.symmetric_hash(seed),
                key.reversed().symmetric_hash(seed),
                "{key}"
            );
        }
        assert_eq!(key.vlans(), key.reversed().vlans());
    }
}

#[test]
fn bytes_come_back_as_the_key_or_not_at_all() {
    for key in samples() {
        assert_eq!(FlowKey::from_bytes(&key.to_bytes()), Some(key));
    }
    let mut bytes = samples()[0].to_bytes();
    bytes[0] = 1;
    assert_eq!(
        FlowKey::from_bytes(&bytes),
        None,
        "an IPv4 address of more than 32 bits"
    );
    assert_eq!(FlowKey::from_bytes(&[0xff; 40]), None, "unknown class");
    let mut bytes = icmp(3, 0).to_bytes();
    bytes[37] = 1;
    assert_eq!(
        FlowKey::from_bytes(&bytes),
        None,
        "an identifier without an echo"
    );
}

#[test]
fn families_and_classes_do_not_meet() {
    let key = tcp("1.2.3.4:5", "6.7.8.9:10");
    let low = tcp("[::102:304]:5", "[::607:809]:10");
    assert_ne!(key, low);
    assert_ne!(key.hash(), low.hash());
    let distinct: HashSet<FlowKey> = samples().into_iter().collect();
    assert_eq!(distinct.len(), samples().len());
}

/// Sequential addresses and ports are what a load generator sends.
#[test]
fn hashes_of_neighbours_spread_like_chance() {
    const BUCKETS: usize = 1 << 16;
    for shift in [0, 16, 48] {
        for seed in [0, 1, 0x0123_4567_89ab_cdef] {
            let mut counts = vec![0u32; BUCKETS];
            for host in 0..=255u8 {
                for port in 0..256u16 {
                    let src = SocketAddr::from(([10, 0, 0, host], 1024 + port));
                    let key = FlowKey::tcp(src, SocketAddr::from(([10, 0, 1, 1], 80)));
                    counts[(key.hash_seeded(seed) >> shift) as usize % BUCKETS] += 1;
                }
            }
            let empty = counts.iter().filter(|&&count| count == 0).count();
            let expected = BUCKETS as f64 / std::f64::consts::E;
            assert!(
                (empty as f64 - expected).abs() < 0.03 * expected,
                "{shift} {seed} {empty}"
            );
            assert!(counts.iter().max() < Some(&12), "{shift} {seed}");
        }
    }
}
