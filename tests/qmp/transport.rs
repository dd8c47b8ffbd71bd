//! The client over real sockets, against monitors that fail in every way.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use colo_testkit::qmp::{Monitor, event};
use dpdk_colo::qmp::{
    Address, Client, Event, Options, ProtocolError, QmpError, RequestError, RequestFailure,
};
use tempfile::TempDir;

use crate::drive::{during, options, until};

/// Reply timeout of the tests that wait for it.
const IMPATIENCE: Duration = Duration::from_secs(1);

/// A listener whose connections are handed, one after the other, to a test's script.
struct Server {
    _dir: TempDir,
    path: PathBuf,
    thread: JoinHandle<()>,
}

impl Server {
    fn new(connections: usize, script: impl Fn(usize, UnixStream) + Send + 'static) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("m.qmp");
        let listener = UnixListener::bind(&path).expect("a listener");
        let thread = std::thread::spawn(move || {
            for turn in 0..connections {
                script(turn, listener.accept().expect("a connection").0);
            }
        });
        Self {
            _dir: dir,
            path,
            thread,
        }
    }

    fn client(&self) -> Client {
        Client::new(Address::Unix(self.path.clone()), options())
    }

    fn impatient_client(&self) -> Client {
        Client::new(
            Address::Unix(self.path.clone()),
            Options {
                reply_timeout: IMPATIENCE,
                ..options()
            },
        )
    }
}

/// Serves until the client leaves, or `end` says so of a command.
fn serve<S: Read + Write>(stream: S, end: impl Fn(&str) -> bool) {
    let mut monitor = Monitor::default();
    let mut stream = BufReader::new(stream);
    let send =
        |stream: &mut BufReader<S>, text: &str| stream.get_mut().write_all(text.as_bytes()).is_ok();
    if !send(&mut stream, &monitor.greeting()) {
        return;
    }
    let mut line = String::new();
    while stream.read_line(&mut line).is_ok_and(|count| count > 0) {
        if end(&line) || !send(&mut stream, &monitor.reply(&line)) {
            return;
        }
        line.clear();
    }
}

fn is_connected(event: &Event) -> bool {
    matches!(event, Event::Connected(_))
}

fn is_disconnected(event: &Event) -> bool {
    matches!(event, Event::Disconnected(_))
}

/// The one reason for which a connection was lost.
fn reason(events: &[Event]) -> &QmpError {
    match events.last() {
        Some(Event::Disconnected(error)) => error,
        _ => panic!("{events:?}"),
    }
}

fn protocol(events: &[Event]) -> &ProtocolError {
    match reason(events) {
        QmpError::Protocol { source, .. } => source,
        error => panic!("{error:?}"),
    }
}

#[test]
fn each_fault_is_named_and_survived() {
    type Check = fn(&ProtocolError) -> bool;
    let faults: [(&'static [u8], Check); 6] = [
        (b"nonsense\n", |e| matches!(e, ProtocolError::Json { .. })),
        (b"{\"a\": 1}\n", |e| {
            matches!(e, ProtocolError::NotGreeting { .. })
        }),
        (b"[1, 2]\n", |e| matches!(e, ProtocolError::Shape { .. })),
        (b"{\"QMP\": ", |e| {
            matches!(e, ProtocolError::ClosedWithinLine { .. })
        }),
        (b"", |e| matches!(e, ProtocolError::Closed)),
        (b"\n\r\n", |e| matches!(e, ProtocolError::Closed)),
    ];
    for (bytes, check) in faults {
        let server = Server::new(2, move |turn, mut stream| match turn {
            0 => stream.write_all(bytes).unwrap(),
            _ => serve(stream, |_| false),
        });
        let mut client = server.client();
        let events = until(&mut client, is_disconnected);
        assert!(check(protocol(&events)), "{bytes:?}: {events:?}");
        let message = reason(&events).to_string();
        assert!(message.contains("m.qmp") && !message.contains('\n'));
        until(&mut client, is_connected);
        drop(client);
        server.thread.join().unwrap();
    }
}

#[test]
fn silence_is_given_up_and_tried_again() {
    let server = Server::new(3, |turn, mut stream| match turn {
        // Says nothing for as long as the client stays.
        0 => drop(stream.read_to_end(&mut Vec::new())),
        // Half a line, then nothing.
        1 => {
            stream.write_all(b"{\"QMP\": {\"ver").unwrap();
            drop(stream.read_to_end(&mut Vec::new()));
        }
        _ => serve(stream, |_| false),
    });
    let mut client = server.impatient_client();
    let begun = Instant::now();
    let events = until(&mut client, is_disconnected);
    assert!(matches!(
        protocol(&events),
        ProtocolError::NoGreeting { .. }
    ));
    assert!(reason(&events).to_string().contains("one client at a time"));
    assert!(begun.elapsed() >= IMPATIENCE);
    // The second attempt fails for the same reason, which is not reported again.
    let events = until(&mut client, is_connected);
    assert_eq!(events.len(), 1, "{events:?}");
    drop(client);
    server.thread.join().unwrap();
}

#[test]
fn the_end_of_the_stream_may_come_before_any_reply() {
    for name in [
        "qmp_capabilities",
        "query-qmp-schema",
        "query-migrate-capabilities",
        "migrate-set-capabilities",
        "query-migrate-parameters",
        "query-migrate\"",
        "query-status",
    ] {
        let server = Server::new(2, move |turn, stream| {
            serve(stream, |line| turn == 0 && line.contains(name));
        });
        let mut client = server.client();
        until(&mut client, is_disconnected);
        until(&mut client, is_connected);
        drop(client);
        server.thread.join().unwrap();
    }
}

#[test]
fn what_is_outstanding_fails_before_the_loss_is_reported() {
    for silent in [false, true] {
        let server = Server::new(1, move |_, stream| {
            let copy = stream.try_clone().unwrap();
            serve(stream, |line| line.contains("migrate-set-parameters"));
            if silent {
                let _ = (&copy).read_to_end(&mut Vec::new());
            } else {
                let _ = (&copy).write_all(event("SHUTDOWN", r#"{"guest": false}"#).as_bytes());
            }
        });
        let mut client = server.impatient_client();
        until(&mut client, is_connected);
        client.request_checkpoint(1, Instant::now()).unwrap();
        client.barrier(2, Instant::now()).unwrap();
        let events = until(&mut client, is_disconnected);
        // A monitor that is silent in band may still answer out of band, so it is asked.
        let mut in_band = events
            .iter()
            .filter(|event| !matches!(event, Event::Late { .. }));
        let mut next = || in_band.next().expect("one more event");
        assert!(matches!(next(), Event::RequestWritten { token: 1, .. }));
        if !silent {
            assert!(matches!(next(), Event::Shutdown { .. }), "{events:?}");
        }
        assert!(
            matches!(
                next(),
                Event::RequestFailed {
                    token: 1,
                    cause: RequestFailure::ConnectionLost
                }
            ),
            "{events:?}"
        );
        assert!(matches!(
            next(),
            Event::BarrierFailed {
                token: 2,
                cause: RequestFailure::ConnectionLost
            }
        ));
        assert!(is_disconnected(next()));
        assert_eq!(
            client.barrier(3, Instant::now()),
            Err(RequestError::NotConnected)
        );
        drop(client);
        server.thread.join().unwrap();
    }
}

#[test]
fn each_loss_of_a_connection_is_reported_though_the_reason_is_the_same() {
    let server = Server::new(3, |_, stream| {
        serve(stream, |line| line.contains("migrate-set-parameters"));
    });
    let mut client = server.client();
    for token in 0..3 {
        until(&mut client, is_connected);
        client.request_checkpoint(token, Instant::now()).unwrap();
        let events = until(&mut client, is_disconnected);
        assert!(matches!(protocol(&events), ProtocolError::Closed));
    }
    server.thread.join().unwrap();
}

#[test]
fn a_pause_of_nothing_still_lets_a_poll_return() {
    let none = Options {
        reconnect_min: Duration::ZERO,
        reconnect_max: Duration::ZERO,
        ..options()
    };
    let dir = tempfile::tempdir().unwrap();
    let mut client = Client::new(Address::Unix(dir.path().join("none.qmp")), none);
    assert_eq!(during(&mut client, Duration::from_millis(50)).len(), 1);
}

#[test]
fn a_flood_neither_blocks_nor_grows() {
    let server = Server::new(2, |turn, mut stream| match turn {
        0 => while stream.write_all(&[b'a'; 4096]).is_ok() {},
        _ => {
            let mut other = stream.try_clone().unwrap();
            let flood = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(100));
                let noise = event("VSERPORT_CHANGE", "{}").repeat(100);
                while other.write_all(noise.as_bytes()).is_ok() {}
            });
            serve(stream, |_| false);
            flood.join().unwrap();
        }
    });
    let mut client = server.client();
    let events = until(&mut client, is_disconnected);
    assert!(matches!(
        protocol(&events),
        ProtocolError::LineTooLong { .. }
    ));
    until(&mut client, is_connected);
    // `during` asserts that each poll returns.
    during(&mut client, Duration::from_millis(300));
    drop(client);
    server.thread.join().unwrap();
}

#[test]
fn a_missing_monitor_is_reported_once_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.qmp");
    let mut client = Client::new(Address::Unix(path.clone()), options());
    let events = during(&mut client, Duration::from_millis(300));
    assert_eq!(events.len(), 1, "{events:?}");
    let message = reason(&events).to_string();
    let advice = format!(
        "start QEMU with -qmp unix:{},server=on,wait=off",
        path.display()
    );
    assert!(message.contains(&advice), "{message}");

    // A socket that its listener left behind is another reason.
    drop(UnixListener::bind(&path).unwrap());
    let events = until(&mut client, is_disconnected);
    assert!(matches!(
        reason(&events),
        QmpError::Connect { source, .. } if source.kind() == ErrorKind::ConnectionRefused
    ));
}

#[test]
fn a_monitor_may_listen_on_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: Address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        serve(stream, |line| line.contains("migrate-set-parameters"));
    });
    let mut client = Client::new(address, options());
    until(&mut client, is_connected);
    client.request_checkpoint(1, Instant::now()).unwrap();
    until(&mut client, is_disconnected);
    thread.join().unwrap();
    let events = until(&mut client, is_disconnected);
    assert!(
        matches!(reason(&events), QmpError::Connect { .. }),
        "{events:?}"
    );
}
