//! A scripted monitor, and the means to drive a client against one.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use dpdk_colo::qmp::{Client, Event, Options};
use rustix::event::Timespec;
use serde_json::{Value, json};

/// The answers of a monitor whose state a test sets.
#[derive(Clone, Debug)]
pub struct Monitor {
    pub version: (u32, u32, u32),
    pub colo: bool,
    pub events: bool,
    pub events_refused: bool,
    pub delay: u32,
    pub migration: &'static str,
    pub run: &'static str,
    pub request_refused: bool,
    /// The greeting offers commands out of band.
    pub oob: bool,
    /// The schema has `yank`.
    pub yanks: bool,
    /// No migration can be yanked.
    pub yank_refused: bool,
    /// A quorum's second child is an NBD client called `nbd0`; another client is the VM's own.
    pub replicated: bool,
    /// Nothing in band is replied to until the migration is yanked.
    pub hung: bool,
    /// The client has enabled `oob`.
    pub enabled: bool,
    /// What waits for the end of `hung`.
    pub waiting: Vec<Value>,
    /// As many commands in band as were ever without a reply.
    pub most_waiting: usize,
    /// Every command that came, in order.
    pub seen: Vec<Value>,
}

impl Default for Monitor {
    fn default() -> Self {
        Self {
            version: (7, 2, 22),
            colo: true,
            events: false,
            events_refused: false,
            delay: 20_000,
            migration: "none",
            run: "running",
            request_refused: false,
            oob: true,
            yanks: true,
            yank_refused: false,
            replicated: false,
            hung: false,
            enabled: false,
            waiting: Vec::new(),
            most_waiting: 0,
            seen: Vec::new(),
        }
    }
}

impl Monitor {
    pub fn greeting(&self) -> String {
        let (major, minor, micro) = self.version;
        let offered = if self.oob { "\"oob\"" } else { "" };
        format!(
            "{{\"QMP\": {{\"version\": {{\"qemu\": {{\"micro\": {micro}, \"minor\": {minor}, \
             \"major\": {major}}}, \"package\": \"Debian\"}}, \"capabilities\": [{offered}]}}}}\r\n"
        )
    }

    /// What one command brings about: its reply with its line end, none yet, or those of others behind it.
    pub fn reply(&mut self, line: &str) -> String {
        let command: Value = serde_json::from_str(line).expect("a command is JSON");
        self.seen.push(command.clone());
        if command.get("exec-oob").is_none() {
            if self.hung {
                self.waiting.push(command);
                self.most_waiting = self.most_waiting.max(self.waiting.len());
                return String::new();
            }
            return self.answer(&command);
        }
        let mut replies = self.answer(&command);
        if name(&command) == "yank" && command["arguments"]["instances"][0]["type"] == "migration" {
            self.hung = false;
            for command in std::mem::take(&mut self.waiting) {
                replies.push_str(&self.answer(&command));
            }
        }
        replies
    }

    fn answer(&mut self, command: &Value) -> String {
        let id = command["id"].clone();
        let wants_oob = command["arguments"]["enable"] == json!(["oob"]);
        let answer = match name(command) {
            _ if command.get("exec-oob").is_some() && !self.enabled => {
                Err("QMP input member 'exec-oob' is unexpected")
            }
            "qmp_capabilities" if wants_oob && !self.oob => Err("Capability 'oob' not available"),
            "qmp_capabilities" => {
                self.enabled = wants_oob;
                Ok("{}".into())
            }
            "yank" if self.yank_refused => Err("Instance not found"),
            "query-yank" => Ok(self.instances().to_string()),
            "x-debug-query-block-graph" => Ok(graph().to_string()),
            "query-qmp-schema" => self.schema(),
            "query-migrate-capabilities" => {
                let mut list = format!(
                    "{{\"state\": false, \"capability\": \"xbzrle\"}}, \
                     {{\"state\": {}, \"capability\": \"events\"}}",
                    self.events
                );
                if self.colo {
                    list.push_str(", {\"state\": true, \"capability\": \"x-colo\"}");
                }
                Ok(format!("[{list}]"))
            }
            "migrate-set-capabilities" if self.events_refused => {
                Err("There's a migration process in progress")
            }
            "migrate-set-capabilities" => {
                self.events = true;
                Ok("{}".into())
            }
            "query-migrate-parameters" => Ok(format!(
                "{{\"announce-max\": 550, \"x-checkpoint-delay\": {}}}",
                self.delay
            )),
            "query-migrate" if self.migration == "none" => Ok("{}".into()),
            "query-migrate" => Ok(format!("{{\"status\": \"{}\"}}", self.migration)),
            "query-status" => Ok(format!(
                "{{\"status\": \"{}\", \"singlestep\": false, \"running\": {}}}",
                self.run,
                self.run == "running"
            )),
            "query-rx-filter" => Ok("[{\"name\": \"nic\", \"promiscuous\": false}]".into()),
            "migrate-set-parameters" if self.request_refused => {
                Err("Parameter 'x-checkpoint-delay' is not allowed")
            }
            _ => Ok("{}".into()),
        };
        match answer {
            Ok(success) => format!("{{\"return\": {success}, \"id\": {id}}}\r\n"),
            Err(desc) => format!(
                "{{\"id\": {id}, \"error\": {{\"class\": \"GenericError\", \
                 \"desc\": \"{desc}\"}}}}\r\n"
            ),
        }
    }

    /// What came under one name.
    pub fn seen(&self, name: &str) -> Vec<&Value> {
        self.seen
            .iter()
            .filter(|command| self::name(command) == name)
            .collect()
    }

    /// What can be yanked. The client's own connection is a chardev.
    fn instances(&self) -> Value {
        let mut list = vec![
            json!({"type": "chardev", "id": "vhost"}),
            json!({"type": "migration"}),
        ];
        if self.replicated {
            for node in ["own", "nbd0"] {
                list.push(json!({"type": "block-node", "node-name": node}));
            }
        }
        list.into()
    }

    /// A schema in which the argument's type stands before and after much else.
    fn schema(&self) -> Result<String, &'static str> {
        let mut list = String::from(
            "{\"name\": \"7\", \"meta-type\": \"object\", \"members\": \
             [{\"name\": \"x-checkpoint-delay\", \"default\": null, \"type\": \"int\"}]}",
        );
        for name in 100..140 {
            let _ = write!(
                list,
                ", {{\"name\": \"{name}\", \"meta-type\": \"enum\", \"values\": [\"a\", \"b\"]}}"
            );
        }
        let argument = if self.colo { "7" } else { "100" };
        let _ = write!(
            list,
            ", {{\"name\": \"COLO_EXIT\", \"meta-type\": \"event\", \"arg-type\": \"100\"}}, \
             {{\"name\": \"migrate-set-parameters\", \"meta-type\": \"command\", \
             \"ret-type\": \"0\", \"arg-type\": \"{argument}\"}}"
        );
        if self.yanks {
            for name in ["yank", "query-yank", "x-debug-query-block-graph"] {
                let _ = write!(
                    list,
                    ", {{\"name\": \"{name}\", \"meta-type\": \"command\", \"arg-type\": \"0\"}}"
                );
            }
        }
        Ok(format!("[{list}]"))
    }
}

/// A command's name, in band or not.
fn name(command: &Value) -> &str {
    let name = command.get("execute").or(command.get("exec-oob"));
    name.and_then(Value::as_str).expect("a command has a name")
}

fn graph() -> Value {
    let node = |id, name| json!({"id": id, "type": "block-driver", "name": name});
    let edge = |parent, child, name| json!({"parent": parent, "child": child, "name": name, "perm": [], "shared-perm": []});
    json!({
        "nodes": [node(1, "disk"), node(2, "own"), node(3, "nbd0")],
        "edges": [edge(1, 2, "children.0"), edge(1, 3, "children.1")],
    })
}

/// One event's line as QEMU writes it; `data` with its braces, or empty.
pub fn event(name: &str, data: &str) -> String {
    let data = if data.is_empty() {
        String::new()
    } else {
        format!(", \"data\": {data}")
    };
    format!(
        "{{\"timestamp\": {{\"seconds\": 1700000000, \"microseconds\": 42}}, \
         \"event\": \"{name}\"{data}}}\r\n"
    )
}

/// Short times, but a wait for replies that holds on a busy machine.
pub fn options() -> Options {
    Options {
        reply_timeout: Duration::from_secs(10),
        refresh_interval: Duration::from_millis(100),
        reconnect_min: Duration::from_millis(10),
        reconnect_max: Duration::from_millis(80),
    }
}

/// Waits for the client as its contract says, collecting events until one is `last`.
pub fn until(client: &mut Client, last: impl Fn(&Event) -> bool) -> Vec<Event> {
    let (events, found) = run(client, Duration::from_secs(20), last);
    assert!(found, "the event did not come; got {events:#?}");
    events
}

/// Collects events for some time.
pub fn during(client: &mut Client, time: Duration) -> Vec<Event> {
    run(client, time, |_| false).0
}

fn run(client: &mut Client, time: Duration, last: impl Fn(&Event) -> bool) -> (Vec<Event>, bool) {
    let end = Instant::now() + time;
    let mut events = Vec::new();
    loop {
        let now = Instant::now();
        let polled = client.poll(now);
        assert!(now.elapsed() < Duration::from_secs(1), "a poll has blocked");
        if let Some(event) = polled {
            let found = last(&event);
            events.push(event);
            if found {
                return (events, true);
            }
            continue;
        }
        if now >= end {
            return (events, false);
        }
        wait(client, end);
    }
}

fn wait(client: &Client, end: Instant) {
    let now = Instant::now();
    let time = client
        .next_deadline(now)
        .min(end)
        .saturating_duration_since(now);
    let time = Timespec::try_from(time).expect("a short time");
    let mut polled: Vec<_> = client.poll_fd().into_iter().collect();
    rustix::event::poll(&mut polled, Some(&time)).expect("poll(2)");
}
