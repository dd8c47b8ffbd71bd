//! One client: its bytes become requests, and replies become bytes, one request at a time.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::PROTOCOL;
use super::command::Command;
use super::fault::Fault;

/// Bytes of a line at most.
const LINE: usize = 16 << 10;
/// Bytes that a caller reads at a time at most.
pub const CHUNK: usize = 4 << 10;

/// A request that is understood, and waits for its reply.
#[derive(Debug)]
pub struct Request {
    /// What to do.
    pub command: Command,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default)]
    id: Value,
    command: String,
    #[serde(default)]
    arguments: Map<String, Value>,
}

/// What one client has sent and is owed.
#[derive(Debug)]
pub struct Session {
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    /// The id of the request that has no reply yet.
    owed: Option<Value>,
    /// The client sends nothing more, or nothing more counts.
    ended: bool,
}

impl Session {
    /// A client that has just come, and is greeted.
    pub fn new(version: &str, pid: u32) -> Self {
        let greeting =
            json!({ "dpdk-colo": { "version": version, "protocol": PROTOCOL, "pid": pid } });
        let mut session = Self {
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
            owed: None,
            ended: false,
        };
        session.say(&greeting);
        session
    }

    /// The line for a client that is not served.
    pub fn turned_away(fault: &Fault) -> Vec<u8> {
        let mut line = json!({ "error": fault.to_json() }).to_string().into_bytes();
        line.push(b'\n');
        line
    }

    /// Whether bytes of the client are to be read: one that takes no replies, or waits for one, is left alone.
    pub fn wants_input(&self) -> bool {
        !self.ended && self.owed.is_none() && self.output.is_empty() && self.input.len() <= LINE
    }

    /// Takes in bytes, no more than [`CHUNK`]; none at all is the end of what the client sends.
    pub fn receive(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= CHUNK, "the bound of a line rests on it");
        self.ended |= bytes.is_empty();
        self.input.extend_from_slice(bytes);
    }

    /// The next request, if the one before has its reply and the client has taken it. Lines that are none are
    /// answered here.
    pub fn next_request(&mut self) -> Option<Request> {
        while self.owed.is_none() && self.output.is_empty() {
            let Some(end) = self.input.iter().position(|byte| *byte == b'\n') else {
                if self.input.len() > LINE {
                    self.give_up();
                }
                return None;
            };
            if end > LINE {
                self.give_up();
                return None;
            }
            let line: Vec<u8> = self.input.drain(..=end).collect();
            if line.trim_ascii().is_empty() {
                continue;
            }
            match serde_json::from_slice::<Line>(&line) {
                Err(error) => {
                    let fault = Fault::NotARequest(error.to_string());
                    self.owed = Some(Value::Null);
                    self.reply(Err(fault));
                }
                Ok(line) => {
                    self.owed = Some(line.id);
                    match Command::read(&line.command, line.arguments) {
                        Ok(command) => return Some(Request { command }),
                        Err(fault) => self.reply(Err(fault)),
                    }
                }
            }
        }
        None
    }

    /// A line without an end.
    fn give_up(&mut self) {
        self.input.clear();
        self.ended = true;
        self.owed = Some(Value::Null);
        self.reply(Err(Fault::TooLong { limit: LINE }));
    }

    /// Replies to the request that waits.
    pub fn reply(&mut self, outcome: Result<Value, Fault>) {
        let Some(id) = self.owed.take() else {
            debug_assert!(false, "nothing waits for a reply");
            return;
        };
        let reply = match outcome {
            Ok(value) => json!({ "id": id, "return": value }),
            Err(fault) => json!({ "id": id, "error": fault.to_json() }),
        };
        self.say(&reply);
    }

    fn say(&mut self, line: &Value) {
        self.output.extend_from_slice(line.to_string().as_bytes());
        self.output.push(b'\n');
    }

    /// What the client has to get.
    pub fn output(&self) -> &[u8] {
        &self.output[self.written..]
    }

    /// The client has got this many bytes of it.
    pub fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
        debug_assert!(self.written <= self.output.len(), "no more than there was");
        if self.written >= self.output.len() {
            self.output.clear();
            self.written = 0;
        }
    }

    /// The client is gone: nothing is owed to it.
    pub fn abandon(&mut self) {
        self.input.clear();
        self.wrote(self.output.len() - self.written);
        (self.owed, self.ended) = (None, true);
    }

    /// Whether the client sends nothing more and has got all.
    pub fn is_over(&self) -> bool {
        self.ended && self.owed.is_none() && self.output.is_empty() && !self.input.contains(&b'\n')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeted() -> Session {
        let mut session = Session::new("0.1.0", 7);
        let greeting: Value = serde_json::from_slice(session.output()).expect("JSON");
        assert_eq!(
            greeting,
            json!({"dpdk-colo": {"version": "0.1.0", "protocol": 1, "pid": 7}})
        );
        session.wrote(session.output().len());
        session
    }

    fn taken(session: &mut Session) -> Value {
        let text = session.output().to_vec();
        assert_eq!(text.last(), Some(&b'\n'));
        session.wrote(text.len());
        serde_json::from_slice(&text).expect("one line of JSON")
    }

    #[test]
    fn a_request_in_pieces_is_one_and_its_reply_has_its_id() {
        let mut session = greeted();
        for piece in [
            &b"{\"id\":[1,"[..],
            b"\"x\"],\"comm",
            b"and\":\"status\"}\n{",
        ] {
            assert!(session.wants_input());
            assert!(session.next_request().is_none());
            session.receive(piece);
        }
        let request = session.next_request().expect("a whole line");
        assert_eq!(request.command, Command::Status { pair: None });
        assert!(!session.wants_input() && session.next_request().is_none());
        session.reply(Ok(json!({"pairs": 2})));
        assert_eq!(
            taken(&mut session),
            json!({"id": [1, "x"], "return": {"pairs": 2}})
        );
        assert!(session.wants_input());
    }

    #[test]
    fn garbage_is_answered_and_the_next_line_counts() {
        for garbage in [
            &b"hello"[..],
            b"{}",
            b"[1]",
            b"\xff\xfe\x00",
            b"{\"command\":\"status\",\"extra\":1}",
            b"{\"command\":3}",
            b"null",
        ] {
            let mut session = greeted();
            session.receive(garbage);
            session.receive(b"\r\n\n{\"id\":2,\"command\":\"status\"}\n");
            assert!(session.next_request().is_none());
            let reply = taken(&mut session);
            assert_eq!(reply["error"]["class"], "protocol", "{reply}");
            assert_eq!(reply["id"], Value::Null);
            assert!(session.next_request().is_some());
            session.reply(Ok(Value::Null));
            assert_eq!(taken(&mut session)["id"], 2);
        }
        let mut session = greeted();
        session.receive(b"{\"id\":\"a\",\"command\":\"dance\"}\n");
        assert!(session.next_request().is_none());
        let reply = taken(&mut session);
        assert_eq!(
            (&reply["id"], &reply["error"]["class"]),
            (&json!("a"), &json!("unknown"))
        );
    }

    #[test]
    fn a_client_that_takes_no_reply_is_read_no_more() {
        let mut session = greeted();
        session.receive(b"{\"id\":1,\"command\":\"status\"}\n{\"id\":2,\"command\":\"status\"}\n");
        assert!(session.next_request().is_some());
        session.reply(Ok(json!("long")));
        session.wrote(3);
        assert!(!session.wants_input() && session.next_request().is_none());
        session.wrote(session.output().len());
        assert!(
            session.next_request().is_some(),
            "it has waited in the buffer"
        );
    }

    #[test]
    fn a_line_without_an_end_ends_the_connection() {
        for tail in [&b"x"[..], b"x\n{}\n"] {
            let mut session = greeted();
            for _ in 0..LINE / CHUNK {
                assert!(session.wants_input());
                session.receive(&[b'x'; CHUNK]);
                assert!(session.next_request().is_none() && session.output().is_empty());
            }
            session.receive(tail);
            assert!(session.next_request().is_none());
            assert!(!session.wants_input());
            let reply = taken(&mut session);
            assert_eq!(reply["error"]["class"], "protocol", "{reply}");
            assert!(session.next_request().is_none() && session.is_over());
        }
    }

    #[test]
    fn what_was_asked_before_the_end_is_answered() {
        let mut session = greeted();
        session.receive(b"{\"id\":1,\"command\":\"status\"}\n");
        session.receive(b"");
        assert!(!session.is_over() && !session.wants_input());
        assert!(session.next_request().is_some());
        assert!(!session.is_over());
        session.reply(Ok(Value::Null));
        assert!(!session.is_over());
        taken(&mut session);
        assert!(session.is_over());
        let mut torn = greeted();
        torn.receive(b"{\"id\":1");
        torn.receive(b"");
        assert!(torn.next_request().is_none() && torn.is_over());
    }
}
