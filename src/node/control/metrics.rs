//! The thread that serves the metrics over HTTP (`docs/metrics.md`): hyper speaks the protocol, one thread polls all
//! connections.
//!
//! A connection gets one reply and little time. Where too many are open, one that had [`GRACE`] makes room, so that
//! clients that send nothing keep no scraper out. The figures are read at most once in [`FRESH`].

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::SharedStats;
use super::socket::{ControlSocket, ControlSocketError};
use crate::config::MetricsAddress;
use crate::observability::log::Log;
use crate::observability::openmetrics::{self, Format};
use crate::observability::summary::Summary;

/// Connections at a time.
const CLIENTS: usize = 32;
/// A connection has this time also where others wait.
const GRACE: Duration = Duration::from_millis(500);
/// Longest time for a connection, from its first byte to its last.
const CONNECTION: Duration = Duration::from_secs(10);
/// Longest time for a request.
const REQUEST: Duration = Duration::from_secs(5);
/// Longest request line with its headers, in bytes.
const HEADERS: usize = 8 << 10;
/// Figures are as old as this at most. The control thread collects them as often.
const FRESH: Duration = Duration::from_millis(100);
/// How often the end of the node is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// The one path.
const PATH: &str = "/metrics";

/// Why no metrics can be served.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The address cannot be had.
    #[error("--metrics {address}: {source}; give an address of this host and a port that is free")]
    Bind {
        /// The address.
        address: MetricsAddress,
        /// What the system says.
        source: io::Error,
    },
    /// The socket cannot be made.
    #[error(transparent)]
    Socket(#[from] ControlSocketError),
}

/// A socket that listens for scrapers.
pub(crate) struct MetricsListener {
    address: MetricsAddress,
    socket: Socket,
}

enum Socket {
    Tcp(TcpListener),
    Unix(ControlSocket),
}

impl MetricsListener {
    /// Listens there.
    ///
    /// # Errors
    /// When somebody else does, or the system refuses.
    pub(crate) fn open(address: &MetricsAddress) -> Result<Self, MetricsError> {
        let socket = match address {
            MetricsAddress::Unix(path) => {
                Socket::Unix(ControlSocket::open("--metrics", path, None)?)
            }
            MetricsAddress::Tcp(tcp) => {
                let listener = TcpListener::bind(tcp).and_then(|listener| {
                    listener.set_nonblocking(true)?;
                    Ok(listener)
                });
                Socket::Tcp(listener.map_err(|source| MetricsError::Bind {
                    address: address.clone(),
                    source,
                })?)
            }
        };
        let address = address.clone();
        Ok(Self { address, socket })
    }
}

/// The thread's work.
pub(crate) struct MetricsServer {
    listener: MetricsListener,
    page: Arc<Mutex<Page>>,
    log: Log,
}

/// What was read last.
struct Page {
    stats: Arc<Mutex<SharedStats>>,
    summary: Option<Summary>,
    texts: [Option<String>; 2],
    read: Option<Instant>,
}

impl MetricsServer {
    pub(super) fn new(listener: MetricsListener, stats: Arc<Mutex<SharedStats>>, log: Log) -> Self {
        let page = Page {
            stats,
            summary: None,
            texts: [None, None],
            read: None,
        };
        Self {
            listener,
            page: Arc::new(Mutex::new(page)),
            log,
        }
    }

    /// Serves until the flag is set.
    pub(crate) fn run(self, stop: &AtomicBool) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build();
        let served = runtime.and_then(|runtime| runtime.block_on(self.serve(stop)));
        if let Err(error) = served {
            self.log.error(
                "metrics",
                format_args!("--metrics: nothing is served: {error}"),
            );
        }
    }

    async fn serve(&self, stop: &AtomicBool) -> io::Result<()> {
        match &self.listener.socket {
            Socket::Tcp(listener) => {
                self.log.info(format_args!(
                    "metrics at http://{}{PATH}",
                    self.listener.address
                ));
                let listener = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
                let accept = async || listener.accept().await.map(|(stream, _)| stream);
                self.accept_all(accept, stop).await;
            }
            Socket::Unix(socket) => {
                self.log.info(format_args!(
                    "metrics at {}, path {PATH}",
                    self.listener.address
                ));
                let listener = tokio::net::UnixListener::from_std(socket.listener().try_clone()?)?;
                let accept = async || listener.accept().await.map(|(stream, _)| stream);
                self.accept_all(accept, stop).await;
            }
        }
        Ok(())
    }

    /// Serves all clients.
    async fn accept_all<S>(&self, accept: impl AsyncFn() -> io::Result<S>, stop: &AtomicBool)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut connections = Connections::default();
        while !stop.load(Ordering::Relaxed) {
            match timeout(LOOK, accept()).await {
                Err(_) => {}
                Ok(Err(error)) => {
                    self.log.warning(
                        "metrics",
                        format_args!("--metrics: no client can be accepted: {error}"),
                    );
                    sleep(LOOK).await;
                }
                Ok(Ok(stream)) => {
                    while !connections.has_room() && !stop.load(Ordering::Relaxed) {
                        connections.make_room().await;
                    }
                    connections.begin(connection(stream, Arc::clone(&self.page)));
                }
            }
        }
    }
}

/// The connections that are open. They end with it.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    /// The oldest first, with their beginnings.
    open: Vec<(Instant, AbortHandle)>,
}

impl Connections {
    fn begin(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        let task = self.tasks.spawn(connection);
        self.open.push((Instant::now(), task));
    }

    /// Whether another one may begin.
    fn has_room(&mut self) -> bool {
        while self.tasks.try_join_next().is_some() {}
        self.open.retain(|(_, task)| !task.is_finished());
        self.open.len() < CLIENTS
    }

    /// Waits until one ends. One that had its time ends at once.
    async fn make_room(&mut self) {
        let Some((begun, oldest)) = self.open.first() else {
            return;
        };
        match GRACE.checked_sub(begun.elapsed()) {
            Some(left) if !left.is_zero() => {
                let _ = timeout(left.min(LOOK), self.tasks.join_next()).await;
            }
            _ => {
                oldest.abort();
                self.open.remove(0);
            }
        }
    }
}

/// One request and its reply.
async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, page: Arc<Mutex<Page>>) {
    let service = service_fn(|request| {
        let reply = reply(&request, &page);
        async { Ok::<_, Infallible>(reply) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEADERS)
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST)
        .serve_connection(TokioIo::new(stream), service);
    // What a client does wrong concerns nobody else.
    let _ = timeout(CONNECTION, connection).await;
}

fn reply(request: &Request<Incoming>, page: &Mutex<Page>) -> Response<String> {
    if request.uri().path() != PATH {
        return failure(StatusCode::NOT_FOUND, "the metrics are at /metrics\n");
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut reply = failure(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
        let allowed = HeaderValue::from_static("GET, HEAD");
        reply.headers_mut().insert(ALLOW, allowed);
        return reply;
    }
    let accepted = request.headers().get_all(ACCEPT).iter();
    let mut formats = accepted.filter_map(|accept| accept.to_str().ok().map(Format::accepted));
    let format = match formats.any(|format| format == Format::OpenMetrics) {
        true => Format::OpenMetrics,
        false => Format::Prometheus,
    };
    let mut page = page.lock().unwrap_or_else(PoisonError::into_inner);
    let mut reply = Response::new(page.text(format, Instant::now()).to_owned());
    let kind = HeaderValue::from_static(format.content_type());
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    reply
}

fn failure(status: StatusCode, text: &str) -> Response<String> {
    let mut reply = Response::new(text.to_owned());
    *reply.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    reply
}

impl Page {
    fn text(&mut self, format: Format, now: Instant) -> &str {
        if self
            .read
            .is_none_or(|read| now.duration_since(read) >= FRESH)
        {
            self.read = Some(now);
            self.summary = None;
            self.texts = [None, None];
        }
        let Self {
            stats,
            summary,
            texts,
            ..
        } = self;
        let summary = summary.get_or_insert_with(|| SharedStats::summary(stats));
        texts[format as usize].get_or_insert_with(|| openmetrics::text(&summary.pairs(), format))
    }
}
