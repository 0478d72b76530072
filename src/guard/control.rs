//! The control socket: `stop` and `status` from any shell that may open it, also while the daemon hangs.
//!
//! One line in (`stop` or `status`), lines for a person out, the last one `end` and an exit code. It belongs to the
//! guard, so that a stop never depends on the daemon.
//!
//! Invariants: a request is at most `REQUEST_MAX` bytes and one second; at most `TALKS_MAX` talks at a time; nothing
//! here can do more than stop and tell; the socket is 0600, or 0660 for the group of a directory that the clinic names.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{AbortHandle, abortable};
use futures_util::stream::FuturesUnordered;
use rustix::fs::Mode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::units::Mono;

/// Longest request, bytes.
const REQUEST_MAX: usize = 64;
/// Longest wait for a request, and for an answer to be taken.
const TALK_WITHIN: Duration = Duration::from_secs(1);
/// Requests that are waited for at a time. One more, and the oldest is hung up on: who says nothing keeps no stop out.
const HEARD_MAX: usize = 16;
/// A stop that is not proven by then is answered so. Longer than the second that a proof may take.
const PROOF_WITHIN: Duration = Duration::from_millis(1500);

/// Longest path of a socket, bytes (Linux `sun_path` without its end).
const PATH_MAX: usize = 107;
/// A data directory this short leaves room for a rehearsal's socket.
const FOLDER_MAX: usize = 80;

/// The last answers are given so long to be taken.
const LAST_WITHIN: Duration = Duration::from_millis(250);

/// Where the socket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its path.
    pub path: PathBuf,
    /// Open to the group of its directory.
    pub shared: bool,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another doseward answers there.
    #[error(
        "doseward runs in this folder already{}. End that session with q there. If it does not answer: see that every \
         unit is off, then `kill -9 {}`",
        if *holder > 0 { format!(" (process {holder})") } else { String::new() },
        if *holder > 0 { holder.to_string() } else { "its number".to_owned() },
    )]
    InUse {
        /// Its process; 0 when the system does not say.
        holder: i32,
    },
    /// The system takes no such path for a socket.
    #[error("The path of the folder is too long: choose one under {FOLDER_MAX} characters")]
    TooLong,
    /// Something else has that name.
    #[error("{} is not a socket; remove it", .0.display())]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("the control socket {} cannot be made", path.display())]
    Refused {
        /// Its path.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// What is asked.
pub(super) enum Asked {
    /// STOP ALL.
    Stop(UnixStream),
    /// What runs.
    Status(UnixStream),
}

type Talk = Pin<Box<dyn Future<Output = Option<Asked>>>>;

/// The socket and everyone who talks to it.
pub(super) struct Control {
    listener: UnixListener,
    path: PathBuf,
    talks: FuturesUnordered<Talk>,
    /// Ends a wait for a request; newest last.
    hearing: VecDeque<AbortHandle>,
    waiting: Vec<Waiting>,
}

/// Somebody who waits for proof.
struct Waiting {
    stream: UnixStream,
    since: Mono,
    left: BTreeSet<u8>,
    text: String,
    unproven: bool,
}

impl Control {
    /// Makes the socket. A stale one is replaced; one that answers is not.
    ///
    /// # Errors
    /// It is in use, or the system refuses.
    pub(super) fn open(place: &Place) -> Result<Self, ControlError> {
        let path = place.path.clone();
        if path.as_os_str().len() > PATH_MAX {
            return Err(ControlError::TooLong);
        }
        let refused = |source| ControlError::Refused { path: path.clone(), source };
        match std::fs::symlink_metadata(&path) {
            Ok(there) if !there.file_type().is_socket() => return Err(ControlError::NotASocket(path)),
            Ok(_) => match std::os::unix::net::UnixStream::connect(&path) {
                Ok(other) => {
                    let peer = rustix::net::sockopt::socket_peercred(&other);
                    let holder = peer.map_or(0, |peer| peer.pid.as_raw_nonzero().get());
                    return Err(ControlError::InUse { holder });
                }
                Err(_) => std::fs::remove_file(&path).map_err(refused)?,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(refused(error)),
        }
        // Never open to more people, not even for an instant.
        let before = rustix::process::umask(Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(&path);
        rustix::process::umask(before);
        let listener = bound.map_err(refused)?;
        if place.shared {
            share(&path).map_err(refused)?;
        }
        Ok(Self {
            listener,
            path,
            talks: FuturesUnordered::new(),
            hearing: VecDeque::new(),
            waiting: Vec::new(),
        })
    }

    /// Waits for the next thing that is asked. Cancel-safe.
    pub(super) async fn next(&mut self) -> Asked {
        loop {
            let talks = !self.talks.is_empty();
            tokio::select! {
                biased;
                Some(asked) = self.talks.next(), if talks => if let Some(asked) = asked {
                    return asked;
                },
                Ok((stream, _)) = self.listener.accept() => self.hear(stream),
            }
        }
    }

    fn hear(&mut self, stream: UnixStream) {
        let (heard, end) = abortable(timeout(TALK_WITHIN, hear(stream)));
        self.talks.push(Box::pin(async move { heard.await.ok()?.ok().flatten() }));
        self.hearing.push_back(end);
        if self.hearing.len() > HEARD_MAX
            && let Some(oldest) = self.hearing.pop_front()
        {
            // Ending one that is over does nothing.
            oldest.abort();
        }
    }

    /// Answers and hangs up.
    pub(super) fn answer(&self, stream: UnixStream, text: String, code: u8) {
        self.talks.push(Box::pin(async move {
            timeout(TALK_WITHIN, tell(stream, text, code)).await.ok();
            None
        }));
    }

    /// Keeps somebody until the stops of these units are proven; `text` comes before what is said of them.
    pub(super) fn wait(&mut self, stream: UnixStream, since: Mono, left: BTreeSet<u8>, text: String) {
        self.waiting.push(Waiting { stream, since, left, text, unproven: false });
    }

    /// Lets the last answers be taken.
    pub(super) async fn finish(&mut self) {
        let taken = async { while self.talks.next().await.is_some() {} };
        timeout(LAST_WITHIN, taken).await.unwrap_or_default();
    }

    /// Returns whether somebody waits for proof.
    pub(super) const fn is_waited_for(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Tells those who wait what is proven by now. `proven`: when a unit last proved zero; `words`: its label and what
    /// a person does when it does not.
    pub(super) fn settle(
        &mut self,
        now: Mono,
        proven: impl Fn(u8) -> Option<Mono>,
        words: impl Fn(u8) -> (String, String),
    ) {
        for mut waiting in std::mem::take(&mut self.waiting) {
            let late = now.since(waiting.since) >= PROOF_WITHIN;
            for device in std::mem::take(&mut waiting.left) {
                let (label, by_hand) = words(device);
                match proven(device).filter(|at| *at >= waiting.since) {
                    Some(at) => {
                        let span = at.since(waiting.since).as_millis();
                        waiting.text += &format!("{label}: stopped, proven after {span} ms.\n");
                    }
                    None if late => {
                        waiting.unproven = true;
                        waiting.text += &format!("{label}: THE STOP IS NOT PROVEN. {by_hand}\n");
                    }
                    None => {
                        waiting.left.insert(device);
                    }
                }
            }
            if waiting.left.is_empty() {
                self.answer(waiting.stream, waiting.text, u8::from(waiting.unproven));
            } else {
                self.waiting.push(waiting);
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the control socket is gone already");
        }
    }
}

/// Opens the socket to the group of its directory.
fn share(path: &Path) -> io::Result<()> {
    let group = path.parent().map(std::fs::metadata).transpose()?.map(|dir| dir.gid());
    std::os::unix::fs::lchown(path, None, group)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))
}

async fn hear(mut stream: UnixStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    while bytes.len() < REQUEST_MAX && !bytes.contains(&b'\n') {
        let mut chunk = [0; REQUEST_MAX];
        match stream.read(&mut chunk).await {
            Ok(count @ 1..) => bytes.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Ok(0) | Err(_) => break,
        }
    }
    match bytes.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii() {
        b"stop" => Some(Asked::Stop(stream)),
        b"status" => Some(Asked::Status(stream)),
        _ => {
            let text = "This is not understood: `stop` or `status` is due. Nothing was done.\n".to_owned();
            tell(stream, text, 2).await.unwrap_or_default();
            None
        }
    }
}

async fn tell(mut stream: UnixStream, text: String, code: u8) -> io::Result<()> {
    stream.write_all(format!("{text}end {code}\n").as_bytes()).await?;
    stream.shutdown().await?;
    // A socket closed over unread bytes would take the answer back. The caller's deadline ends this.
    let mut rest = [0; REQUEST_MAX];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn talk(path: &Path, request: &[u8]) -> String {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn bad_bytes_get_a_clear_error_and_good_ones_are_asked() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { path: dir.path().join("control.sock"), shared: false };
        let mut control = Control::open(&place).unwrap();
        assert_eq!(std::fs::metadata(&place.path).unwrap().mode() & 0o777, 0o600);
        for bad in [&b"reset\n"[..], &[0xFF; 200], b"stopp\n", b"STOP\n", b"\n"] {
            let text = tokio::select! {
                text = talk(&place.path, bad) => text,
                _ = control.next() => panic!("{bad:?} was taken for a request"),
            };
            assert!(text.starts_with("This is not understood") && text.ends_with("end 2\n"), "{text}");
        }
        let asking = talk(&place.path, b"stop\n");
        let answering = async {
            let Asked::Stop(stream) = control.next().await else { panic!("a stop") };
            let at = Mono::from_millis;
            control.wait(stream, at(100), BTreeSet::from([0, 1]), "Unit 2: at rest.\n".to_owned());
            let words = |device: u8| (format!("Unit {device}"), "Lift it off.".to_owned());
            control.settle(at(130), |device| (device == 1).then(|| at(123)), words);
            control.settle(at(900), |_| Some(at(99)), words);
            assert!(control.is_waited_for(), "a proof from before the stop proves nothing");
            control.settle(at(1600), |_| None, words);
            assert!(!control.is_waited_for());
            control.next().await;
        };
        let text = tokio::select! {
            text = asking => text,
            () = answering => unreachable!(),
        };
        assert_eq!(
            text,
            "Unit 2: at rest.\nUnit 1: stopped, proven after 23 ms.\nUnit 0: THE STOP IS NOT PROVEN. Lift it off.\nend 1\n"
        );
    }

    #[tokio::test]
    async fn who_says_nothing_keeps_no_stop_out() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { path: dir.path().join("control.sock"), shared: false };
        let mut control = Control::open(&place).unwrap();
        let mut silent = Vec::new();
        for _ in 0..5 * HEARD_MAX {
            silent.push(UnixStream::connect(&place.path).await.unwrap());
        }
        let mut stops = UnixStream::connect(&place.path).await.unwrap();
        stops.write_all(b"stop\n").await.unwrap();
        // Before the first silent one has run into its limit.
        let asked = timeout(TALK_WITHIN / 2, control.next()).await;
        assert!(matches!(asked, Ok(Asked::Stop(_))));
        drop(silent);
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_one_that_answers_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { path: dir.path().join("control.sock"), shared: false };
        drop(std::os::unix::net::UnixListener::bind(&place.path).unwrap());
        let control = Control::open(&place).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(matches!(Control::open(&place), Err(ControlError::InUse { holder }) if holder == own));
        drop(control);
        assert!(!place.path.exists());
        std::fs::write(&place.path, "x").unwrap();
        assert!(matches!(Control::open(&place), Err(ControlError::NotASocket(_))));
    }

    #[tokio::test]
    async fn a_folder_whose_path_is_too_long_is_said_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("x".repeat(100));
        std::fs::create_dir(&folder).unwrap();
        let place = Place { path: folder.join("control.sock"), shared: false };
        let refused = Control::open(&place).map(drop).unwrap_err();
        assert!(refused.to_string().contains("too long: choose one under 80 characters"), "{refused}");
    }

    #[tokio::test]
    async fn a_shared_socket_belongs_to_the_group_of_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { path: dir.path().join("control.sock"), shared: true };
        let _control = Control::open(&place).unwrap();
        let made = std::fs::metadata(&place.path).unwrap();
        assert_eq!(made.mode() & 0o777, 0o660);
        assert_eq!(made.gid(), std::fs::metadata(dir.path()).unwrap().gid());
    }
}
