//! What a monitor may send: any bytes at any place of a conversation, in any chunks. No session grows without bound,
//! and chunks make no difference.

use std::time::{Duration, Instant};

use dpdk_colo::qmp::{Session, Timing};

const TIMING: Timing = Timing {
    reply_timeout: Duration::from_secs(10),
    refresh_interval: Duration::from_secs(2),
};

/// Most that is written without a reply; each command is short.
const OUTPUT_MAX: usize = 64 << 10;

const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}"#;

/// A line of the input is what the monitor says next. One that begins with `!` is the reply to the command that waits
/// for longest, `$` stands for the greeting, `%` for time that passes, `#`, `&` and `^` for what the node wants.
fn lines(data: &[u8]) -> Vec<Vec<u8>> {
    data.split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect()
}

/// Plays a conversation in chunks of at most `chunk` bytes; every event that came, and whether it went on to the end.
fn play(lines: &[Vec<u8>], chunk: usize, begin: Instant) -> (Vec<String>, bool) {
    let mut now = begin;
    let mut session = Session::new(TIMING, 1, now);
    let mut waiting: Vec<u64> = Vec::new();
    let mut events = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let mut said = line.clone();
        match line.first() {
            Some(b'$') => said = format!("{GREETING}\r\n").into_bytes(),
            Some(b'!') if !waiting.is_empty() => {
                let id = waiting.remove(0);
                let text = String::from_utf8_lossy(&line[1..]);
                let text = text.trim_end();
                said = format!("{{\"id\": {id}, \"return\": {text}}}\r\n").into_bytes();
            }
            Some(b'%') => {
                now += Duration::from_millis(700) * line.len() as u32;
                if session.tick(now).is_err() {
                    return (events, false);
                }
                said.clear();
            }
            Some(b'#') => {
                let _ = session.request_checkpoint(at as u64, now);
                said.clear();
            }
            Some(b'&') => {
                let _ = session.barrier(at as u64, now);
                let _ = session.ask_run_state(now);
                said.clear();
            }
            Some(b'^') => {
                let _ = session.fail_over(now);
                let _ = session.raise_links(now);
                said.clear();
            }
            _ => {}
        }
        for part in said.chunks(chunk) {
            let received = session.receive(part, now);
            while let Some(event) = session.next_event() {
                events.push(format!("{event:?}"));
            }
            if received.is_err() {
                return (events, false);
            }
        }
        assert!(session.output().len() < OUTPUT_MAX, "it asks without end");
        for command in String::from_utf8_lossy(session.output()).lines() {
            let command: serde_json::Value = serde_json::from_str(command).expect("JSON");
            waiting.extend(command["id"].as_u64());
        }
        session.written(session.output().len(), now);
        let _ = (session.next_deadline(), session.awaited());
    }
    let _ = session.end_of_stream();
    let (rest, _) = session.close();
    events.push(format!("{} more", rest.len()));
    (events, true)
}

/// The first byte says how long chunks are.
pub fn run(data: &[u8]) {
    let [chunk, data @ ..] = data else {
        return;
    };
    let lines = lines(data);
    let begin = Instant::now();
    let whole = play(&lines, usize::MAX, begin);
    let chunked = play(&lines, 1 + usize::from(*chunk), begin);
    assert_eq!(whole, chunked, "chunks of {}", 1 + usize::from(*chunk));
}
