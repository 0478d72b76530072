//! Signals and panics: every unit is stopped first, before anything else (design 3.10).
//!
//! [`Lanes::emergency`](crate::runtime::handle::Lanes::emergency) posts every unit's stop lane in the signal's own
//! wake-up, without the session task; the orderly close follows: requests refused, zero confirmed or two seconds, record
//! sealed.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::model::session::StopReason;
use crate::runtime::handle::SessionHandle;

/// The signals that stop everything and end the process, with the words that a person reads after "Ended".
const SIGNALS: [(rustix::process::Signal, &str); 5] = [
    (rustix::process::Signal::INT, "by Ctrl-C"),
    (rustix::process::Signal::TERM, "by the system (SIGTERM)"),
    (rustix::process::Signal::HUP, "because the terminal was closed"),
    (rustix::process::Signal::QUIT, "by Ctrl-\\"),
    (rustix::process::Signal::TSTP, "by Ctrl-Z"),
];

/// The signals of this process, from the moment it was made: none of them ends the process any more.
#[derive(Debug)]
pub struct Signals {
    waiting: Vec<(Signal, &'static str)>,
}

impl Signals {
    /// Takes the signals over. Must be called inside the runtime.
    ///
    /// # Errors
    /// The system refused a handler.
    pub fn take() -> io::Result<Self> {
        let mut waiting = Vec::new();
        for (number, name) in SIGNALS {
            waiting.push((signal(SignalKind::from_raw(number.as_raw()))?, name));
        }
        Ok(Self { waiting })
    }

    /// Waits for the next signal and returns its words. Cancel-safe.
    pub async fn next(&mut self) -> &'static str {
        std::future::poll_fn(|context| {
            for (signal, name) in &mut self.waiting {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*name);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

/// Takes the signals over and starts the task that stops every unit at the first of: a signal, the parent's end.
/// Returns what ended the session, once something has.
///
/// # Errors
/// The system refused a handler.
pub fn watch(
    session: SessionHandle,
    mut guard: watch::Receiver<bool>,
) -> io::Result<watch::Receiver<Option<&'static str>>> {
    let mut signals = Signals::take()?;
    let (ended, end) = watch::channel(None);
    tokio::spawn(async move {
        loop {
            let (what, reason) = tokio::select! {
                biased;
                name = signals.next() => (name, StopReason::DaemonRestart),
                present = guard.wait_for(|present| !*present) => {
                    drop(present);
                    ("because the part that watches over doseward is gone", StopReason::Guard)
                }
            };
            session.lanes().emergency();
            session.close_by_itself(reason);
            ended.send_if_modified(|ended| {
                let first = ended.is_none();
                ended.get_or_insert(what);
                first
            });
            if reason == StopReason::Guard {
                // Signals stay taken: the runtime's handlers outlive this task.
                return;
            }
        }
    });
    Ok(end)
}

/// From now on a panic anywhere in the process stops every unit before the thread unwinds, and ends the session.
pub fn stop_on_panic(session: SessionHandle) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.location().is_some_and(|place| is_harmless(place.file())) {
            tracing::debug!(%panic, "a task of the Bluetooth library ended");
            return;
        }
        session.lanes().emergency();
        session.close_by_itself(StopReason::OtherText);
        before(panic);
    }));
}

/// Returns whether a panic in this file ends nothing that anybody waits for.
///
/// The Bluetooth library forgets a stream of signals in a task of its own, which panics when a signal is on its way at
/// that moment (bluez-async 0.9, `MessageStream::drop`); the stream is forgotten all the same. A lost link is such a
/// moment, and stopping every unit for it would end the session of the other unit.
fn is_harmless(file: &str) -> bool {
    file.contains("/bluez-async") && file.ends_with("/messagestream.rs")
}
