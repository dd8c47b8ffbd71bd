//! Frames of one server to its clients.

use etherparse::PacketBuilder;

/// A connection to client `n`, as the server sends on it.
#[derive(Clone, Copy)]
pub struct Tcp(pub u8);

impl Tcp {
    fn builder(self) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]).ipv4(
            [192, 0, 2, 1],
            [198, 51, 100, self.0],
            64,
        )
    }

    pub fn syn(self, isn: u32, ack: u32) -> Vec<u8> {
        let step = self.builder().tcp(80, 40_000, isn, 1_000).syn().ack(ack);
        let step = step
            .options(&[etherparse::TcpOptionElement::MaximumSegmentSize(1460)])
            .expect("an option");
        done(|out| step.write(out, &[]))
    }

    pub fn data(self, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
        let step = self.builder().tcp(80, 40_000, seq, 1_000).ack(ack);
        done(|out| step.write(out, payload))
    }

    /// With these options behind the header (RFC 9293, 3.1), padded to words.
    pub fn with(self, seq: u32, ack: u32, options: &[u8], payload: &[u8]) -> Vec<u8> {
        let step = self.builder().tcp(80, 40_000, seq, 1_000).ack(ack);
        let step = step.options_raw(options).expect("few options");
        done(|out| step.write(out, payload))
    }

    /// With a TSval.
    pub fn stamped(self, seq: u32, ack: u32, value: u32, payload: &[u8]) -> Vec<u8> {
        let mut options = vec![1, 1, 8, 10];
        options.extend(value.to_be_bytes());
        options.extend([0; 4]);
        self.with(seq, ack, &options, payload)
    }

    pub fn fin(self, seq: u32, ack: u32) -> Vec<u8> {
        let step = self.builder().tcp(80, 40_000, seq, 1_000).ack(ack).fin();
        done(|out| step.write(out, &[]))
    }

    pub fn rst(self, seq: u32, ack: Option<u32>) -> Vec<u8> {
        let step = self.builder().tcp(80, 40_000, seq, 0).rst();
        let step = match ack {
            Some(ack) => step.ack(ack),
            None => step,
        };
        done(|out| step.write(out, &[]))
    }

    /// The client's, as it travels to the server.
    pub fn client_rst(self, seq: u32) -> Vec<u8> {
        let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]);
        let ip = link.ipv4([198, 51, 100, self.0], [192, 0, 2, 1], 64);
        let step = ip.tcp(40_000, 80, seq, 0).rst();
        done(|out| step.write(out, &[]))
    }

    pub fn udp(self, from: u16, payload: &[u8]) -> Vec<u8> {
        let step = self.builder().udp(from, 40_000);
        done(|out| step.write(out, payload))
    }
}

pub fn arp() -> Vec<u8> {
    let mut frame = vec![0xff; 12];
    frame.extend([0x08, 0x06]);
    frame.extend([0; 28]);
    frame
}

/// A report of membership by IGMPv2.
pub fn igmp() -> Vec<u8> {
    let mut frame = vec![1, 0, 0x5e, 1, 2, 3, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 1, 2, 0, 0, 10, 0, 0, 1]);
    frame.extend([239, 1, 2, 3, 0x16, 0, 0, 0, 239, 1, 2, 3]);
    frame
}

pub fn done(
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), etherparse::err::packet::BuildWriteError>,
) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out).expect("a frame");
    out
}

/// Offset of the payload of a segment without options.
pub const PAYLOAD: usize = 54;
/// Offset of the acknowledgment number.
pub const ACK: usize = 42;
/// Offset of the control bits.
pub const FLAGS: usize = 47;
/// Offset of the window.
pub const WINDOW: usize = 48;
