//! `coloctl doctor` against a node that says what the test wants.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use serde_json::{Value, json};

/// Answers each client's request until the process ends.
fn node(path: &Path, answer: impl Fn(&Value) -> Value + Send + 'static) {
    let listener = UnixListener::bind(path).expect("a socket");
    thread::spawn(move || {
        for client in listener.incoming() {
            // A client that goes away early is no matter.
            let _ = serve(client.expect("a client"), &answer);
        }
    });
}

fn serve(mut client: UnixStream, answer: &impl Fn(&Value) -> Value) -> std::io::Result<()> {
    let greeting = json!({"dpdk-colo": {"version": "0.1.0", "protocol": 1, "pid": 1}});
    client.write_all(format!("{greeting}\n").as_bytes())?;
    let mut lines = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    lines.read_line(&mut line)?;
    let request: Value = serde_json::from_str(&line)?;
    client.write_all(format!("{}\n", answer(&request)).as_bytes())
}

/// A sound secondary without a disk, whose memory is shared or not.
fn answer(shared: bool) -> impl Fn(&Value) -> Value + Send + 'static {
    move |request| {
        let reply = match request["command"].as_str() {
            Some("facts") => json!({
                "version": "0.1.0",
                "pid": 4_194_304,
                "pairs": [{"name": "vm0", "role": "secondary", "qmp": "/nonexistent/qmp", "heartbeat_ms": 20}],
            }),
            Some("status") => json!({"pairs": [{
                "name": "vm0", "role": "secondary", "state": "protected", "ring": {"runs": true},
                "monitor": {"state": "connected", "migration": "colo"}, "peer": {"heard": true},
                "link": {"refused": null},
            }]}),
            Some("examine") => json!({"pairs": {"vm0": {
                "query-memdev": [{"id": "mem", "size": 1_048_576, "share": shared}],
            }}}),
            other => panic!("{other:?}"),
        };
        json!({"id": 1, "return": reply})
    }
}

fn coloctl(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coloctl"));
    command.args(words).output().expect("the program runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_running_node_is_sound_or_its_mistake_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    for (shared, code) in [(true, 0), (false, 1)] {
        let path = dir.path().join(code.to_string());
        node(&path, answer(shared));
        let path = path.to_str().expect("text");
        let output = coloctl(&["doctor", "--control", path]);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert_eq!(text(&output).contains("nothing is wrong"), shared);
        let output = coloctl(&["doctor", "--json", "--control", path]);
        assert_eq!(output.status.code(), Some(code));
        let printed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(printed["sound"], shared);
        let checks: Vec<&str> = printed["findings"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(|finding| finding["severity"] != "note")
            .map(|finding| finding["check"].as_str().expect("a name"))
            .collect();
        let wanted: &[&str] = if shared { &[] } else { &["memory-not-shared"] };
        assert_eq!(checks, wanted);
    }
}

#[test]
fn the_other_hosts_facts_are_compared() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s");
    node(&path, answer(true));
    let path = path.to_str().expect("text");
    let output = coloctl(&["doctor", "--facts", "--control", path]);
    assert_eq!(output.status.code(), Some(0));
    let mut facts: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    facts["node"]["pairs"][0]["role"] = json!("primary");
    facts["node"]["pairs"][0]["heartbeat_ms"] = json!(50);
    let file = dir.path().join("peer");
    fs::write(&file, facts.to_string()).expect("a file");
    let file = file.to_str().expect("text");
    let output = coloctl(&["doctor", "--control", path, "--peer", file]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    assert!(
        said.contains("--heartbeat: this node has 20, the other one 50"),
        "{said}"
    );
    let output = coloctl(&["doctor", "--control", path, "--peer", "/nonexistent/facts"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn before_the_start_the_program_judges_its_own_words() {
    let dir = tempfile::tempdir().expect("a directory");
    let program = dir.path().join("dpdk-colo");
    let script = "#!/bin/sh\n\
                  [ \"$*\" = '-l 0 -- --role x --check=json' ] || exit 3\n\
                  echo '{\"findings\": [{\"severity\": \"error\", \"check\": \"port-missing\", \"place\": \"p\", \
                  \"what\": \"w\", \"todo\": \"t\"}, {\"severity\": \"error\", \"check\": \"other\", \
                  \"place\": \"\", \"what\": \"\", \"todo\": \"\"}], \"facts\": {\"node\": {\"pairs\": []}}}'\n\
                  exit 1\n";
    fs::write(&program, script).expect("a file");
    let program = program.to_str().expect("text");
    let output = coloctl(&[
        "doctor", "--", "/bin/sh", program, "-l", "0", "--", "--role", "x",
    ]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output).starts_with("error: p: w [port-missing]\n  to do: t\n"));
    for words in [
        &["doctor", "--", "/bin/sh", program, "-l", "1"][..],
        &["doctor", "--", "/nonexistent/dpdk-colo"],
    ] {
        let output = coloctl(words);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
    let output = coloctl(&["doctor", "--file-prefix", "no-such-node"]);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
}
