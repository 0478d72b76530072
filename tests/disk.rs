//! A disk that answers no more, under the daemon's own tasks and its own writer thread: outputs come down, and what was
//! durable before still contains the truth.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use doseward::certify::{Family, Kit};
use doseward::clock::Clock;
use doseward::governor::{Act, Entry, Seq, Settings, StepState, Verdict};
use doseward::model::command::{Channel, DeviceId};
use doseward::model::dose::Dose;
use doseward::model::packet::Received;
use doseward::model::plan::ClientCode;
use doseward::model::session::{SessionId, StopReason};
use doseward::record::entry::{SessionHead, Stamp};
use doseward::record::journal::Journal;
use doseward::runtime::guard_line::Guarding;
use doseward::runtime::handle::SessionHandle;
use doseward::runtime::recorder_task::{RecordFault, Recorder, Writing};
use doseward::runtime::sounder::Voice;
use doseward::runtime::{Builder, Parts, Supervised};
use doseward::sim::{Seeded, SimDevice, SimInput, SimOutput};
use doseward::transport::loopback::{self, FarEnd, HostAct};
use doseward::units::Mono;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::bench::actor;
use crate::support::plans;

/// Whether the disk answers.
#[derive(Clone, Default)]
struct Disk(Arc<(Mutex<bool>, Condvar)>);

impl Disk {
    fn hang(&self, hangs: bool) {
        *self.0.0.lock().unwrap() = hangs;
        self.0.1.notify_all();
    }

    fn answers(&self) {
        let hangs = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(hangs, |hangs| *hangs).unwrap());
    }
}

/// A record on a disk that can hang.
struct OnDisk(Journal, Disk);

impl Recorder for OnDisk {
    fn append(&mut self, at: Stamp, seq: Seq, entry: &Entry) -> Result<(), RecordFault> {
        Recorder::append(&mut self.0, at, seq, entry)
    }

    fn progress(&mut self, dose: &Dose) -> Result<(), RecordFault> {
        Recorder::progress(&mut self.0, dose)
    }

    fn progress_done(&mut self, device: DeviceId, channel: Channel) -> Result<(), RecordFault> {
        Recorder::progress_done(&mut self.0, device, channel)
    }

    fn commit(&mut self) -> Result<(), RecordFault> {
        self.1.answers();
        Recorder::commit(&mut self.0)
    }

    fn seal(&mut self, at: Stamp) -> Result<String, RecordFault> {
        Recorder::seal(&mut self.0, at)
    }
}

type Unit = Arc<Mutex<Box<dyn SimDevice>>>;

/// Plays the unit at the far end of its link: every frame is heard and answered at once.
async fn play(unit: Unit, mut end: FarEnd, clock: Clock) {
    loop {
        let due = unit.lock().unwrap().deadline().map_or(Mono::from_micros(u64::MAX / 4), |due| due);
        let act = tokio::select! {
            act = end.next() => match act { Some(act) => Some(act), None => return },
            () = tokio::time::sleep_until(clock.at(due)) => None,
        };
        let mut out = Vec::new();
        let mut advance = |input: SimInput<'_>| unit.lock().unwrap().advance(clock.now(), input, &mut out);
        match act {
            None => advance(SimInput::Tick),
            Some(HostAct::Connect(request)) => {
                end.accept(request);
                advance(SimInput::Connected);
            }
            Some(HostAct::Write { endpoint, bytes, answer, .. }) => {
                answer.taken();
                advance(SimInput::Received { endpoint, bytes: &bytes });
            }
            Some(HostAct::Disconnect) => advance(SimInput::Disconnected),
        }
        for SimOutput::Send { endpoint, bytes, .. } in out {
            end.send(Received { endpoint, bytes });
        }
    }
}

/// Sees the newest state until `until` holds; returns whether it came to hold within `within`.
async fn watches(session: &SessionHandle, within: Duration, until: impl Fn(StepState) -> bool) -> bool {
    let looks = within.as_millis() / 50;
    for _ in 0..looks {
        let (at, state) = {
            let view = session.snapshots();
            let view = view.borrow();
            (view.at, view.steps[0].state)
        };
        session.heartbeat(at);
        if until(state) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

async fn granted(session: &SessionHandle, act: Act) {
    let seen = session.snapshots().borrow().version;
    let verdict = session.request(act, seen).await.unwrap();
    assert!(matches!(verdict, Verdict::Granted { .. }), "{verdict:?}");
}

/// Returns the output time that the record in `dir` allows for at most, µs, after its daemon died now.
fn recovered_at_most(dir: &Path, clock: &Clock) -> u64 {
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()) {
        std::fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
    }
    let mut journal = Journal::open(copy.path()).unwrap();
    let sessions = journal.recover(Stamp { mono: clock.now(), wall: clock.wall() }).unwrap();
    let doses = journal.reader().unwrap().doses(&sessions[0]).unwrap();
    doses.iter().map(|dose| dose.dose.on_us.1).sum()
}

/// A session on a stimulator that runs, of real time up to here.
struct Running {
    unit: Unit,
    session: SessionHandle,
    _guard: watch::Sender<bool>,
    tasks: (Supervised, JoinHandle<()>),
}

/// Starts a session in `dir` and lets its output run for two seconds: a real thread and a real disk need real time.
async fn running(dir: &Path, disk: &Disk, clock: &Clock) -> Running {
    let kit = Kit::shipped().unwrap();
    let mut plan = plans::one_step(1);
    plan.devices[0].capability = kit.capability(Family::P24).unwrap();
    let mut journal = Journal::open(dir).unwrap();
    let id = SessionId::new("00000000-0000-7000-8000-000000000001".to_owned());
    let head = SessionHead::new(id, &plan, "0".repeat(64), "test".to_owned(), true);
    journal.begin(&head, Stamp { mono: clock.now(), wall: clock.wall() }).unwrap();
    let unit: Unit = Arc::new(Mutex::new(kit.device(Family::P24, &mut Seeded::new(1)).unwrap()));
    let (near, end) = loopback::pair("Stim");
    let mut builder = Builder::new(clock.clone(), plan);
    builder.device(kit.driver(Family::P24, None).unwrap(), near);
    let (guard, present) = watch::channel(true);
    let parts = Parts {
        by: actor(),
        settings: Settings::default(),
        recorder: Box::new(OnDisk(journal, disk.clone())),
        writing: Writing::Thread,
        guard: Guarding::trusted(present),
        newest: None,
        voice: Voice::log(),
        locked: Vec::new(),
        latched: None,
    };
    let (session, supervisor) = builder.start(parts).unwrap();
    let tasks = (supervisor.start(), tokio::spawn(play(Arc::clone(&unit), end, clock.clone())));
    watches(&session, Duration::from_secs(1), |_| false).await;
    granted(&session, Act::ReadBack { client: ClientCode::new("C-1") }).await;
    granted(&session, Act::Arm { step: 1 }).await;
    assert!(watches(&session, Duration::from_secs(10), |state| state == StepState::Armed).await);
    granted(&session, Act::Set { step: 1, intensity: plans::microamps(500), reason: None }).await;
    assert!(watches(&session, Duration::from_secs(10), |state| state == StepState::Running).await);
    watches(&session, Duration::from_secs(2), |_| false).await;
    Running { unit, session, _guard: guard, tasks }
}

/// SR-32, SR-33: at constant output only progress rows are written. A disk that hangs under them is noticed, the output
/// is down within 5 s of the first row that waits, and what the record then allows for is not less than the truth.
#[tokio::test]
async fn sr_32_sr_33_a_disk_that_hangs_at_constant_output_is_noticed_and_the_bounds_contain_the_truth() {
    let (dir, disk, clock) = (tempfile::tempdir().unwrap(), Disk::default(), Clock::start());
    let Running { unit, session, .. } = &running(dir.path(), &disk, &clock).await;

    // From here nothing becomes durable, and time needs no disk.
    disk.hang(true);
    tokio::time::pause();
    let hung = clock.now();
    let down = watches(session, Duration::from_secs(30), |state| state != StepState::Running).await;
    let after = clock.now().since(hung);
    watches(session, Duration::from_secs(6), |_| false).await;
    let truth = {
        let mut unit = unit.lock().unwrap();
        unit.advance(clock.now(), SimInput::Tick, &mut Vec::new());
        unit.truth()[0]
    };
    let most = recovered_at_most(dir.path(), &clock);
    disk.hang(false);
    println!("down {after:?} after the disk hung; {} us given, at most {most} us on record", truth.on_us);
    assert!(down && truth.present == 0, "output runs on without a record");
    assert!(after <= Duration::from_secs(6), "a row a second, and 5 s from the first that waits: {after:?}");
    assert!(truth.on_us > 2_000_000 && most >= truth.on_us, "{} us given, {most} us on record", truth.on_us);
}

/// SR-33: the folder of the record is deleted at constant output: no rise is taken, the output comes down, and nobody is
/// told that the record is sealed.
#[tokio::test]
async fn a_record_whose_folder_is_deleted_takes_the_output_down_and_is_not_sealed() {
    let (dir, disk, clock) = (tempfile::tempdir().unwrap(), Disk::default(), Clock::start());
    let data = dir.path().join("data");
    let mut running = running(&data, &disk, &clock).await;
    std::fs::remove_dir_all(&data).unwrap();
    // Two seconds on, a row a second later: it has been noticed.
    watches(&running.session, Duration::from_secs(2), |_| false).await;
    let seen = running.session.snapshots().borrow().version;
    let more = Act::Set { step: 1, intensity: plans::microamps(1000), reason: None };
    let verdict = running.session.request(more, seen).await.unwrap();
    assert!(!matches!(verdict, Verdict::Granted { .. }), "{verdict:?}");
    let down = watches(&running.session, Duration::from_secs(15), |state| state != StepState::Running).await;
    assert!(down, "output runs on without a record");
    running.session.close_by_itself(StopReason::OtherText);
    let ended = running.tasks.0.ended().await;
    let sealed = ended.session.unwrap().sealed;
    assert!(sealed.as_ref().is_err_and(|why| why.to_string().contains("deleted")), "{sealed:?}");
}
