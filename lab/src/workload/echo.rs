//! Echo over TCP and UDP: what goes out must come back.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::{Connection, Family, Noise, STALL, TrafficError, first_difference};
use crate::interrupt;

/// Of both.
pub const PORT: u16 = 7;
/// A datagram that is not back by then is sent again: UDP may lose one.
const RESEND: Duration = Duration::from_secs(5);

/// Sends `rounds` pieces of 1 to 16,384 bytes over one TCP connection, each after the one before is back.
/// Returns how many bytes went each way.
///
/// # Errors
/// Those of [`Connection`].
pub fn tcp(family: Family, rounds: usize) -> Result<u64, TrafficError> {
    let mut noise = Noise::new(7);
    let mut connection = Connection::open(family, PORT, "echo")?;
    let mut total = 0;
    for _ in 0..rounds {
        total += piece(&mut connection, &mut noise)?;
    }
    Ok(total)
}

/// Sends one piece of 1 to 16,384 bytes and receives it. Returns its length.
///
/// # Errors
/// Those of [`Connection`].
pub fn piece(connection: &mut Connection, noise: &mut Noise) -> Result<u64, TrafficError> {
    let len = 1 + (noise.number() % 16_384) as usize;
    let piece = noise.bytes(len);
    connection.send(&piece)?;
    Ok(connection.expect(&piece, None)? as u64)
}

/// Sends up to `rate` datagrams a second for `time` and waits for none: what comes back is not looked at.
///
/// # Errors
/// [`TrafficError::Io`] if there is no socket, [`TrafficError::Interrupted`].
pub fn flood(family: Family, time: Duration, rate: u32) -> Result<(), TrafficError> {
    let socket = connected(family)?;
    let tick = Duration::from_millis(5);
    let datagram = [0x55; 1000];
    let end = Instant::now() + time;
    while Instant::now() < end {
        if interrupt::came() {
            return Err(TrafficError::Interrupted);
        }
        for _ in 0..rate / 200 {
            // A full queue or an ICMP error is part of the flood.
            let _ = socket.send(&datagram);
        }
        std::thread::sleep(tick);
    }
    Ok(())
}

fn connected(family: Family) -> Result<UdpSocket, TrafficError> {
    let any = match family {
        Family::V4 => "0.0.0.0:0",
        Family::V6 => "[::]:0",
    };
    UdpSocket::bind(any)
        .and_then(|socket| {
            socket.connect(SocketAddr::new(family.guest(), PORT))?;
            Ok(socket)
        })
        .map_err(|source| TrafficError::Io {
            what: format!("UDP echo over {family}"),
            source,
        })
}

/// Sends `rounds` datagrams of 8 to 1,200 bytes, each after the one before is back. Returns how many had to be sent
/// again.
///
/// # Errors
/// [`TrafficError::Wrong`], [`TrafficError::Stalled`], [`TrafficError::Io`], [`TrafficError::Interrupted`].
pub fn udp(family: Family, rounds: usize) -> Result<usize, TrafficError> {
    let what = format!("UDP echo over {family}");
    let io = |source| TrafficError::Io {
        what: what.clone(),
        source,
    };
    let socket = connected(family)?;
    socket.set_read_timeout(Some(interrupt::STEP)).map_err(io)?;
    let mut noise = Noise::new(17);
    let mut resent = 0;
    let mut buffer = [0; 2048];
    for round in 0..rounds {
        // The number in front identifies a late copy of an earlier datagram.
        let mut datagram = (round as u64).to_be_bytes().to_vec();
        let len = (noise.number() % 1193) as usize;
        datagram.extend(noise.bytes(len));
        socket.send(&datagram).map_err(io)?;
        let (start, mut sent) = (Instant::now(), Instant::now());
        loop {
            match socket.recv(&mut buffer) {
                Ok(n) if n >= 8 && buffer[..8] < datagram[..8] => {}
                Ok(n) if n != datagram.len() => {
                    return Err(TrafficError::Short {
                        what,
                        offset: n as u64,
                        length: datagram.len() as u64,
                    });
                }
                Ok(n) => match first_difference(&buffer[..n], &datagram) {
                    None => break,
                    Some(at) => {
                        return Err(TrafficError::Wrong {
                            what,
                            offset: at as u64,
                            expected: datagram[at],
                            found: buffer[at],
                        });
                    }
                },
                Err(_) if interrupt::came() => return Err(TrafficError::Interrupted),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    if start.elapsed() > STALL {
                        return Err(TrafficError::Stalled {
                            what,
                            offset: round as u64,
                            seconds: STALL.as_secs(),
                        });
                    }
                    if sent.elapsed() > RESEND {
                        socket.send(&datagram).map_err(io)?;
                        sent = Instant::now();
                        resent += 1;
                    }
                }
                Err(source) => return Err(io(source)),
            }
        }
    }
    Ok(resent)
}
