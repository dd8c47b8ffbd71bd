//! The service that no two VMs answer alike: what a client saw of a divergence, and when.

use std::time::Duration;

use super::{Connection, Family, TrafficError, wall_clock};

/// The service's TCP port.
pub const PORT: u16 = 9;

/// One answer of the differing service. Times are since the Unix epoch, as QEMU's event stamps are.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The line, without its end.
    pub line: String,
    /// When the client began to connect.
    pub asked: Duration,
    /// When the first byte of the answer arrived.
    pub arrived: Duration,
}

/// Connects, reads the line, and waits for the end of the stream.
///
/// # Errors
/// Those of [`Connection`].
pub fn ask(family: Family) -> Result<Answer, TrafficError> {
    let asked = wall_clock();
    let mut connection = Connection::open(family, PORT, "differing service")?;
    let mut buffer = [0; 256];
    let mut have = 0;
    let mut arrived = None;
    loop {
        let n = connection.receive(&mut buffer[have..])?;
        if n == 0 {
            break;
        }
        arrived.get_or_insert_with(wall_clock);
        have += n;
    }
    let line = String::from_utf8_lossy(&buffer[..have]);
    match arrived {
        Some(arrived) if line.ends_with('\n') => Ok(Answer {
            line: line.trim_end().to_owned(),
            asked,
            arrived,
        }),
        _ => Err(TrafficError::Short {
            what: format!("differing service over {family}"),
            offset: have as u64,
            length: "answer ".len() as u64 + 33,
        }),
    }
}
