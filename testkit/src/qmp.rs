//! A scripted QEMU monitor: the replies to a client's commands, and the lines of events.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// A monitor whose state a test sets.
#[derive(Clone, Debug)]
pub struct Monitor {
    /// QEMU's version: major, minor, micro.
    pub version: (u32, u32, u32),
    /// QEMU has COLO: the parameter `x-checkpoint-delay` and the capability `x-colo`.
    pub colo: bool,
    /// The capability `events` is set.
    pub events: bool,
    /// The capability `events` cannot be set.
    pub events_refused: bool,
    /// The value of `x-checkpoint-delay`.
    pub delay: u32,
    /// The status in `query-migrate`.
    pub migration: &'static str,
    /// The status in `query-status`.
    pub run: &'static str,
    /// `migrate-set-parameters` fails.
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
    /// Commands that wait for the end of `hung`.
    pub waiting: Vec<Value>,
    /// The greatest number of commands in band that ever waited for a reply.
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
    /// The greeting with its line end.
    pub fn greeting(&self) -> String {
        let (major, minor, micro) = self.version;
        let offered = if self.oob { "\"oob\"" } else { "" };
        format!(
            "{{\"QMP\": {{\"version\": {{\"qemu\": {{\"micro\": {micro}, \"minor\": {minor}, \
             \"major\": {major}}}, \"package\": \"Debian\"}}, \"capabilities\": [{offered}]}}}}\r\n"
        )
    }

    /// Takes a command's line. Returns the replies with their line ends: the command's own, none yet, or others' behind
    /// it.
    ///
    /// # Panics
    /// When the line is no command.
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
            "query-named-block-nodes" => Ok("[]".into()),
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

    /// The commands with this name.
    pub fn seen(&self, name: &str) -> Vec<&Value> {
        self.seen
            .iter()
            .filter(|command| self::name(command) == name)
            .collect()
    }

    /// The instances that can be yanked. The client's own connection is a chardev.
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
