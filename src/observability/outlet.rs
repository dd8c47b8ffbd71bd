//! Writes text to a stream that may be slow, full or closed, such as stdout and stderr. A thread of its own writes, so
//! that no other thread waits for the stream.
//!
//! The queue takes whole texts. If it is full, the text is counted and dropped. The sender asks for errors from time to
//! time.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

/// Texts that wait at most.
const WAITING: usize = 1024;
/// Pause between two looks at what is unwritten.
const LOOK: Duration = Duration::from_millis(1);

#[derive(Default)]
struct Shared {
    unwritten: AtomicU64,
    lost: AtomicU64,
    fault: Mutex<Option<io::Error>>,
}

/// A handle on the way out; clones lead to the same place.
#[derive(Clone)]
pub struct Outlet {
    texts: Sender<Vec<u8>>,
    shared: Arc<Shared>,
}

impl Outlet {
    /// A way out to `sink`, by a thread of this name.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(thread: &str, mut sink: impl Write + Send + 'static) -> io::Result<Self> {
        let (texts, waiting) = bounded::<Vec<u8>>(WAITING);
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        thread::Builder::new()
            .name(thread.to_owned())
            .spawn(move || {
                for text in waiting {
                    if let Err(error) = sink.write_all(&text).and_then(|()| sink.flush()) {
                        *writer.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    }
                    writer.unwritten.fetch_sub(1, Ordering::Release);
                }
            })?;
        Ok(Self { texts, shared })
    }

    /// Takes a text, or counts it where too many wait; whether it was taken.
    pub fn say(&self, text: Vec<u8>) -> bool {
        self.shared.unwritten.fetch_add(1, Ordering::Relaxed);
        let taken = self.texts.try_send(text).is_ok();
        if !taken {
            self.shared.unwritten.fetch_sub(1, Ordering::Relaxed);
            self.lose(1);
        }
        taken
    }

    /// Counts further texts as lost.
    pub fn lose(&self, texts: u64) {
        self.shared.lost.fetch_add(texts, Ordering::Relaxed);
    }

    /// How many texts were lost since this was asked last.
    pub fn take_lost(&self) -> u64 {
        self.shared.lost.swap(0, Ordering::Relaxed)
    }

    /// What the system has said of the last write that failed since this was asked last.
    pub fn take_fault(&self) -> Option<io::Error> {
        self.shared
            .fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Waits until everything is written, for `limit` at most; whether it is.
    pub fn drain(&self, limit: Duration) -> bool {
        let since = Instant::now();
        while self.shared.unwritten.load(Ordering::Acquire) > 0 {
            if since.elapsed() >= limit {
                return false;
            }
            thread::sleep(LOOK);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::Read;

    use super::*;

    const AMPLE: Duration = Duration::from_secs(30);

    #[test]
    fn nobody_waits_for_a_pipe_that_nobody_reads() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let outlet = Outlet::new("test", writer).expect("a thread");
        let text = vec![b'x'; 1 << 10];
        let texts = WAITING + 200;
        for _ in 0..texts {
            outlet.say(text.clone());
        }
        assert!(
            !outlet.drain(Duration::from_millis(50)),
            "a pipe holds less"
        );
        let lost = outlet.take_lost() as usize;
        assert!(lost > 0 && outlet.take_lost() == 0);
        assert!(outlet.take_fault().is_none());
        let mut read = vec![0; (texts - lost) << 10];
        reader.read_exact(&mut read).expect("what was kept");
        assert!(outlet.drain(AMPLE));
    }

    #[test]
    fn a_closed_pipe_and_a_full_disk_are_reported() {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let full: File = OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .expect("Linux has it");
        for (outlet, kind) in [
            (Outlet::new("test", writer), io::ErrorKind::BrokenPipe),
            (Outlet::new("test", full), io::ErrorKind::StorageFull),
        ] {
            let outlet = outlet.expect("a thread");
            for _ in 0..2 {
                outlet.say(b"text\n".to_vec());
                assert!(outlet.drain(AMPLE));
                let fault = outlet.take_fault().expect("it failed");
                assert_eq!(fault.kind(), kind);
            }
        }
    }
}
