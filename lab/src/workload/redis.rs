//! Redis: SET and GET in turn, with every reply compared (RESP2, redis.io/docs/reference/protocol-spec).

use std::time::{Duration, Instant};

use super::{Connection, Family, TrafficError};

/// Where it listens.
pub const PORT: u16 = 6379;

/// How many operations were done in what time.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    /// Operations, SET and GET each counting one.
    pub operations: usize,
    /// How long they took.
    pub time: Duration,
}

impl Done {
    /// Operations per second.
    pub fn rate(&self) -> f64 {
        self.operations as f64 / self.time.as_secs_f64()
    }
}

/// Does `operations` on one connection with `depth` of them under way at a time (1: each waits for its
/// reply), or as many as `limit` allows.
///
/// # Errors
/// Those of [`Connection`].
pub fn exchange(
    family: Family,
    operations: usize,
    depth: usize,
    limit: Option<Duration>,
) -> Result<Done, TrafficError> {
    let start = Instant::now();
    let mut connection = Connection::open(family, PORT, "redis")?;
    let mut done = 0;
    while done < operations && limit.is_none_or(|limit| start.elapsed() < limit) {
        let batch = depth.min(operations - done);
        together(&mut connection, done, batch)?;
        done += batch;
    }
    Ok(Done {
        operations: done,
        time: start.elapsed(),
    })
}

/// Does `count` operations at a time, from number `first` on.
///
/// # Errors
/// Those of [`Connection`].
pub fn together(
    connection: &mut Connection,
    first: usize,
    count: usize,
) -> Result<(), TrafficError> {
    let (mut requests, mut replies) = (String::new(), String::new());
    for number in first..first + count {
        let (request, reply) = operation(number);
        requests.push_str(&request);
        replies.push_str(&reply);
    }
    connection.send(requests.as_bytes())?;
    connection.expect(replies.as_bytes(), None)?;
    Ok(())
}

/// Operation `number` and its reply: an even one sets a key, the next one reads it.
fn operation(number: usize) -> (String, String) {
    let key = format!("key:{:06}", number / 2 % 1000);
    let value = format!("value-{:08x}", (number / 2).wrapping_mul(0x9e37_79b1));
    if number.is_multiple_of(2) {
        let request = format!(
            "*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n{value}\r\n",
            key.len(),
            value.len()
        );
        (request, "+OK\r\n".to_owned())
    } else {
        let request = format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len());
        (request, format!("${}\r\n{value}\r\n", value.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_get_expects_what_the_set_before_it_wrote() {
        let (set, ok) = operation(4);
        let (get, value) = operation(5);
        assert_eq!(ok, "+OK\r\n");
        assert!(set.ends_with(&value) && get.contains("key:000002"), "{set}");
    }
}
