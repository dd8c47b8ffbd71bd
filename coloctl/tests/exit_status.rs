//! The built program against a node that says what the test wants.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use serde_json::{Value, json};

const GREETING: &str = r#"{"dpdk-colo":{"version":"0.1.0","protocol":1,"pid":1}}"#;

/// Runs the program against a node that greets and replies so; what it printed, and the request that came.
fn run(greeting: &str, reply: &Value, words: &[&str]) -> (Output, Option<Value>) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).expect("a socket");
    let (greeting, reply) = (format!("{greeting}\n"), format!("{reply}\n"));
    let node = thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        client.write_all(greeting.as_bytes()).expect("it listens");
        let mut line = String::new();
        let mut reader = BufReader::new(client.try_clone().expect("a socket"));
        reader.read_line(&mut line).expect("a line, or none");
        let _ = client.write_all(reply.as_bytes());
        serde_json::from_str(&line).ok()
    });
    let output = coloctl(&path, words);
    (output, node.join().expect("the node's thread"))
}

fn coloctl(path: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coloctl"));
    command.arg("--control").arg(path).args(words);
    command.output().expect("the program runs")
}

fn status(roles: &[&str]) -> Value {
    let pairs: Vec<Value> = roles
        .iter()
        .map(|role| json!({"name": "vm0", "role": role, "state": "protected", "why": "so"}))
        .collect();
    json!({"id": 1, "return": {"node": {}, "pairs": pairs}})
}

fn error(class: &str) -> Value {
    json!({"id": 1, "error": {"class": class, "message": "what, where, and what to do"}})
}

#[test]
fn every_outcome_has_its_exit_status() {
    let done = json!({"id": 1, "return": {"pairs": {"vm0": {"accepted": true}}}});
    for (reply, words, code) in [
        (status(&["primary"]), &["status"][..], 8),
        (status(&["secondary"]), &["status"], 0),
        (status(&["primary", "primary"]), &["status"], 8),
        (status(&["primary", "secondary"]), &["status"], 0),
        (status(&["compare"]), &["status"], 0),
        (status(&["superseded"]), &["status"], 9),
        (status(&["primary", "superseded"]), &["status"], 9),
        (status(&["superseded"]), &["wait", "--for", "peer"], 0),
        (status(&["primary"]), &["wait", "--for", "protected"], 0),
        (done.clone(), &["failover", "--fenced"], 0),
        (error("refused"), &["failover"], 1),
        (done.clone(), &["switchover"], 0),
        (error("refused"), &["switchover"], 1),
        (error("timeout"), &["switchover"], 1),
        (
            error("timeout"),
            &["wait", "--for", "peer", "--timeout", "0"],
            1,
        ),
        (error("failed"), &["checkpoint"], 1),
        (error("unknown"), &["status", "--pair", "x"], 2),
        (error("invalid"), &["set", "log-level", "loud"], 2),
    ] {
        let (output, _) = run(GREETING, &reply, words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {stderr}");
        assert_eq!(
            stderr.is_empty(),
            reply.get("error").is_none(),
            "{words:?}: {stderr}"
        );
    }
}

#[test]
fn a_request_is_what_the_words_say_and_json_is_the_reply() {
    let reply = status(&["secondary"]);
    let (output, request) = run(GREETING, &reply, &["wait", "--for", "peer", "--json"]);
    assert_eq!(
        request,
        Some(json!({"id": 1, "command": "wait", "arguments": {"for": "peer", "timeout": 60.0}}))
    );
    let printed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(printed, reply["return"]);
    let (output, _) = run(GREETING, &error("refused"), &["--json", "failover"]);
    let printed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(printed["class"], "refused");
    assert!(output.stderr.is_empty());
}

#[test]
fn nobody_there_is_7_and_a_stranger_is_1() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s");
    assert_eq!(coloctl(&path, &["status"]).status.code(), Some(7));
    drop(UnixListener::bind(&path).expect("a socket"));
    assert_eq!(coloctl(&path, &["status"]).status.code(), Some(7));
    let later = r#"{"dpdk-colo":{"version":"9.0.0","protocol":2,"pid":1}}"#;
    for (greeting, says) in [
        (later, "protocol 1"),
        (r#"{"QMP": {}}"#, "protocol 1"),
        ("hello", "not JSON"),
        (
            r#"{"error":{"class":"busy","message":"32 clients"}}"#,
            "32 clients",
        ),
    ] {
        let (output, _) = run(greeting, &status(&["primary"]), &["status"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{greeting}: {stderr}");
        assert!(stderr.contains(says), "{greeting}: {stderr}");
    }
    assert_eq!(coloctl(&path, &["dance"]).status.code(), Some(2));
}

#[test]
fn completions_and_the_man_page_need_no_node() {
    let path = Path::new("/nonexistent/s");
    for (words, says) in [
        (&["completions", "bash"][..], "_coloctl()"),
        (&["completions", "zsh"], "#compdef coloctl"),
        (&["completions", "fish"], "complete -c coloctl"),
        (&["man"], ".TH coloctl 1"),
    ] {
        let output = coloctl(path, words);
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(says), "{words:?}: {text}");
    }
}

/// A directory with a node's socket that others may not look into, and `coloctl` as another user.
fn as_nobody(dir: &Path, words: &[&str]) -> Option<Output> {
    use std::os::unix::process::CommandExt;
    let root = rustix::process::geteuid().is_root();
    let root = root.then_some(()).ok_or("only root can be another user");
    colo_testkit::requirement::met("root", root)?;
    // The program lies where only its owner may look, perhaps.
    let program = dir.join("coloctl");
    std::fs::copy(env!("CARGO_BIN_EXE_coloctl"), &program).expect("a copy");
    let mut command = Command::new(program);
    command.args(words).uid(65_534).gid(65_534).env_clear();
    Some(command.output().expect("the program runs"))
}

#[test]
fn what_this_user_may_not_see_is_1_and_not_7() {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let set_mode = |path: &Path, mode| {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("the owner may");
    };
    set_mode(dir.path(), 0o755);
    let closed = dir.path().join("closed");
    std::fs::create_dir(&closed).expect("a directory");
    let (inside, beside) = (closed.join("s"), dir.path().join("s"));
    let _nodes = [&inside, &beside].map(|path| {
        let node = UnixListener::bind(path).expect("a socket");
        set_mode(path, 0o600);
        node
    });
    set_mode(&closed, 0o700);
    for path in [&inside, &beside] {
        let path = path.to_str().expect("a plain path");
        let Some(output) = as_nobody(dir.path(), &["--control", path, "status"]) else {
            return;
        };
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("--control-group"), "{stderr}");
    }
    // Without a path it looks below EAL's runtime directories: here a user's, which is closed.
    let xdg = dir.path().join("xdg");
    let below = xdg.join("dpdk");
    std::fs::create_dir_all(below.join("p")).expect("directories");
    for shut in [&below, &below.join("p")] {
        set_mode(&below, 0o755);
        set_mode(shut, 0o700);
        let mut command = Command::new(dir.path().join("coloctl"));
        use std::os::unix::process::CommandExt;
        command
            .args(["status", "--file-prefix", "p"])
            .uid(65_534)
            .gid(65_534);
        let output = command
            .env("XDG_RUNTIME_DIR", &xdg)
            .output()
            .expect("the program runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("may not look into"), "{stderr}");
    }
}

#[test]
fn a_node_that_takes_no_connection_or_says_little_is_not_waited_for_without_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).expect("a socket");
    // One that says a byte now and then, and never a line.
    let node = thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        while client.write_all(b" ").is_ok() {
            thread::sleep(std::time::Duration::from_millis(200));
        }
        listener
    });
    let since = std::time::Instant::now();
    let output = coloctl(&path, &["status"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("has not greeted within 10 s"), "{stderr}");
    let listener = node.join().expect("the node's thread");
    // One that accepts nobody, and whose queue is full.
    rustix::net::listen(&listener, 1).expect("a shorter queue");
    let address = rustix::net::SocketAddrUnix::new(&path).expect("an address");
    let mut queue = Vec::new();
    loop {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
        let flags = SocketFlags::NONBLOCK;
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("a socket");
        if connect(&socket, &address).is_err() {
            break;
        }
        queue.push(socket);
    }
    let output = coloctl(&path, &["status"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("has not taken the connection within 10 s"),
        "{stderr}"
    );
    assert!(since.elapsed().as_secs() < 40, "{:?}", since.elapsed());
}
