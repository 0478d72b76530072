//! Words to the terminal that nobody waits for: who stops units must not be held up by a terminal that was paused
//! (Ctrl-S), by a pipe that nobody reads, or by a connection that is gone.
//!
//! One thread writes; what does not fit its queue is dropped and counted, and the count is said when there is room.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// Lines that wait at most.
const WAITING_MAX: usize = 256;

/// A writer whose callers never wait.
#[derive(Debug)]
pub struct Console {
    lines: SyncSender<Line>,
    dropped: std::sync::atomic::AtomicU64,
}

enum Line {
    Words(Vec<u8>),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

impl Console {
    /// Starts the thread that writes to `out`. A failed write is forgotten: there is nobody to tell.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn over(mut out: impl Write + Send + 'static) -> std::io::Result<Self> {
        let (lines, waiting) = sync_channel(WAITING_MAX);
        std::thread::Builder::new().name("console".to_owned()).spawn(move || {
            while let Ok(line) = waiting.recv() {
                match line {
                    Line::Words(words) => {
                        out.write_all(&words).and_then(|()| out.flush()).unwrap_or_default()
                    }
                    Line::Flush(done) => done.try_send(()).unwrap_or_default(),
                }
            }
        })?;
        Ok(Self { lines, dropped: std::sync::atomic::AtomicU64::new(0) })
    }

    /// Says something; returns at once.
    pub fn say(&self, words: &[u8]) {
        use std::sync::atomic::Ordering::Relaxed;
        let before = self.dropped.swap(0, Relaxed);
        let mut text = Vec::new();
        if before > 0 {
            text.extend_from_slice(format!("{before} lines were not shown.\n").as_bytes());
        }
        text.extend_from_slice(words);
        match self.lines.try_send(Line::Words(text)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(before.saturating_add(1), Relaxed);
            }
        }
    }

    /// Waits until what was said is written, at most `within`.
    pub fn flush(&self, within: Duration) {
        let (done, written) = sync_channel(1);
        if self.lines.try_send(Line::Flush(done)).is_ok() {
            written.recv_timeout(within).unwrap_or_default();
        }
    }
}

static STDERR: OnceLock<Option<Console>> = OnceLock::new();

/// Says something on this process's standard error; returns at once. Without a thread nothing is said.
pub fn say(words: &[u8]) {
    if let Some(console) = STDERR.get_or_init(|| Console::over(std::io::stderr()).ok()) {
        console.say(words);
    }
}

/// Waits until everything said on standard error is written, at most `within`.
pub fn flush(within: Duration) {
    if let Some(Some(console)) = STDERR.get() {
        console.flush(within);
    }
}

/// Standard error for what writes by itself, line by line, such as a log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, words: &[u8]) -> std::io::Result<usize> {
        say(words);
        Ok(words.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal that was paused: the first line is never taken.
    struct Paused(std::sync::mpsc::Receiver<()>);

    impl Write for Paused {
        fn write(&mut self, words: &[u8]) -> std::io::Result<usize> {
            self.0.recv().unwrap_or_default();
            Ok(words.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_paused_terminal_holds_nobody_up() {
        let (resume, paused) = std::sync::mpsc::channel();
        let console = Console::over(Paused(paused)).unwrap();
        for _ in 0..10 * WAITING_MAX {
            console.say(b"stop\n");
        }
        console.flush(Duration::from_millis(10));
        assert!(console.dropped.load(std::sync::atomic::Ordering::Relaxed) > 0);
        drop(resume);
    }

    #[test]
    fn words_come_in_their_order_and_a_flush_waits_for_them() {
        let (mut read, write) = std::io::pipe().unwrap();
        let console = Console::over(write).unwrap();
        console.say(b"one\n");
        console.say(b"two\n");
        console.flush(Duration::from_secs(10));
        let mut said = [0; 8];
        std::io::Read::read_exact(&mut read, &mut said).unwrap();
        assert_eq!(&said, b"one\ntwo\n");
    }
}
