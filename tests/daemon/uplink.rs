//! A pair whose network is a kernel's interface, by net_af_packet: IPv4 fragments and jumbo frames.

use std::fs::{self, File};
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::frames::Flow;
use crate::node::{self, PATIENCE};
use crate::offload::ip;
use crate::pair::{PVM, Pair, Plan, SVM};

/// A client in a network namespace of its own, at the other end of the uplink; both are gone at the
/// end of the test.
struct Client {
    namespace: String,
    near: String,
    socket: UdpSocket,
}

impl Client {
    /// The client of [`Flow::v4`] number 1, whose server it knows.
    fn new(mtu: u32) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = std::process::id();
        let (namespace, near) = (format!("colo-daemon-{id}-{n}"), format!("coup{id}{n}"));
        let run = |line: &str| {
            let line = line.replace("NS", &namespace).replace("NEAR", &near);
            ip(&line.split(' ').collect::<Vec<_>>());
        };
        run("netns add NS");
        // The client says nothing of its own.
        run("netns exec NS sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
        run("link add NEAR type veth peer name lan0 netns NS");
        // The host itself must say nothing on the uplink.
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{near}/disable_ipv6"), "1");
        run(&format!("link set NEAR mtu {mtu} up"));
        run(&format!(
            "-n NS link set lan0 mtu {mtu} address 02:00:00:00:00:02 up"
        ));
        run("netns exec NS ethtool -K lan0 tx off");
        run("-n NS addr add 198.51.100.1/32 dev lan0");
        run("-n NS route add 192.0.2.1 dev lan0");
        run("-n NS neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev lan0");
        let file = File::open(PathBuf::from("/run/netns").join(&namespace)).expect("a namespace");
        let socket = thread::spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("it is entered");
            UdpSocket::bind("198.51.100.1:40001").expect("a socket")
        });
        let socket = socket.join().expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time");
        Self {
            namespace,
            near,
            socket,
        }
    }

    fn device(&self, ring: &str) -> String {
        format!(
            "--vdev=net_af_packet5,iface={},framecnt=512,{ring}",
            self.near
        )
    }

    fn send(&self, payload: &[u8]) {
        let sent = self.socket.send_to(payload, "192.0.2.1:80");
        assert_eq!(sent.expect("it is sent"), payload.len());
    }

    fn receive(&self) -> Vec<u8> {
        let mut payload = vec![0; 65_536];
        let len = self.socket.recv(&mut payload).expect("a datagram comes");
        payload.truncate(len);
        payload
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let ip = |words: &[&str]| std::process::Command::new("ip").args(words).status();
        let _ = ip(&["link", "del", &self.near]);
        let _ = ip(&["netns", "del", &self.namespace]);
    }
}

/// A pair under protection, whose primary has this uplink.
fn pair_with(client: &Client, ring: &str, more: &[&str]) -> Pair {
    let mut pair = Pair::with(Plan {
        uplink: Some((client.device(ring), "net_af_packet5")),
        of_primary: more,
        ..Plan::default()
    });
    pair.enter_colo();
    pair
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 31 + n / 253) as u8).collect()
}

/// The UDP payload of an untagged datagram over IPv4 that came in these frames, in order.
fn reassembled(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut datagram = Vec::new();
    for (n, frame) in frames.iter().enumerate() {
        let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let (total, flags) = (usize::from(word(16)), word(20));
        assert_eq!(usize::from(flags & 0x1fff) * 8, datagram.len());
        assert_eq!(flags & 0x2000 != 0, n + 1 < frames.len(), "more fragments");
        datagram.extend_from_slice(&frame[34..14 + total]);
    }
    datagram.split_off(8)
}

/// The VMs' answer reaches the client.
fn answer(pair: &mut Pair, client: &Client, frames: &[Vec<u8>], payload: &[u8]) {
    for vm in [PVM, SVM] {
        for frame in frames {
            pair.frames.send(vm, frame);
        }
    }
    assert!(client.receive() == payload, "another answer came");
}

#[test]
fn fragments_pass_a_packet_socket_both_ways() {
    let _turn = node::beside_others();
    let client = Client::new(1500);
    let mut pair = pair_with(&client, "framesz=2048,blocksz=65536", &[]);
    for len in [3_000, 8_000] {
        let sent = payload(len);
        client.send(&sent);
        let frames = (len + 8).div_ceil(1480);
        for vm in [PVM, SVM] {
            let came: Vec<_> = (0..frames).map(|_| pair.frames.receive(vm)).collect();
            assert!(reassembled(&came) == sent, "another datagram came");
        }
        let answered = payload(2_600);
        let frames = Flow::v4(1).fragments(len as u16, &answered);
        answer(&mut pair, &client, &frames, &answered);
    }
    assert!(pair.pvm.requests().is_empty(), "a checkpoint was asked for");
    assert!(!pair.primary.stderr().contains("fragments"));
    pair.end();
}

#[test]
fn jumbo_frames_pass_a_packet_socket_both_ways() {
    let _turn = node::beside_others();
    let client = Client::new(9000);
    let mut pair = pair_with(&client, "framesz=16384,blocksz=65536", &["--mtu", "9000"]);
    let flow = Flow::v4(1);
    // An IPv4 and a UDP header take 28 bytes of the MTU.
    for len in [4_000, 9_000 - 28] {
        let sent = payload(len);
        client.send(&sent);
        for vm in [PVM, SVM] {
            assert!(reassembled(&[pair.frames.receive(vm)]) == sent);
        }
        answer(&mut pair, &client, &[flow.udp(&sent)], &sent);
    }
    // One byte more than the MTU is dropped and counted.
    let long = flow.udp(&payload(9_000 - 28 + 1));
    for vm in [PVM, SVM] {
        pair.frames.send(vm, &long);
    }
    pair.primary.wait_for("the drop", |stats| {
        stats["ports"]["net_af_packet5"]["dropped"] == 1
    });
    let last = payload(100);
    answer(&mut pair, &client, &[flow.udp(&last)], &last);
    thread::sleep(Duration::from_millis(50));
    let (primary, _) = pair.end();
    assert_eq!(primary["ports"]["net_af_packet5"]["dropped"], 1);
    assert_eq!(primary["link"]["lost_output"], 0, "{primary:#}");
}
