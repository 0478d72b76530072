//! A whole session in virtual time: the real governor and tasks, fake links, the record written in line.

use std::sync::Mutex;

use futures_util::FutureExt as _;

use super::*;
use crate::alarm::Cause;
use crate::governor::{Act, Settings, Version};
use crate::model::capability::{Capability, IntensityRange, PulseGrid, RateBasis, Telemetry};
use crate::model::command::Channel;
use crate::model::dose::Dose;
use crate::model::limit::Limits;
use crate::model::plan::{ClientCode, Plan, PlannedDevice};
use crate::model::session::{Actor, StopReason};
use crate::runtime::fakes::{Behaviour, FakeDriver, FakeLink, STOP, Wire};
use crate::runtime::guard_line::Guarding;
use crate::runtime::handle::{SessionHandle, Unanswered};
use crate::runtime::recorder_task::{RecordFault, Recorder, Writing};
use crate::runtime::{Builder, Ended, Parts, Supervisor};
use crate::units::{Microseconds, Milliamps};

/// A record in memory; it can be told to refuse.
#[derive(Clone, Default)]
struct Memory {
    entries: Arc<Mutex<Vec<Entry>>>,
    refuses: Arc<Mutex<bool>>,
}

impl Recorder for Memory {
    fn append(&mut self, _at: Stamp, _seq: crate::governor::Seq, entry: &Entry) -> Result<(), RecordFault> {
        self.entries.lock().unwrap().push(entry.clone());
        Ok(())
    }

    fn progress(&mut self, _dose: &Dose) -> Result<(), RecordFault> {
        Ok(())
    }

    fn progress_done(&mut self, _device: DeviceId, _channel: Channel) -> Result<(), RecordFault> {
        Ok(())
    }

    fn commit(&mut self) -> Result<(), RecordFault> {
        if *self.refuses.lock().unwrap() { Err(RecordFault("disk full".to_owned())) } else { Ok(()) }
    }

    fn seal(&mut self, _at: Stamp) -> Result<String, RecordFault> {
        Ok(format!("{} entries", self.entries.lock().unwrap().len()))
    }
}

struct Bench {
    clock: Clock,
    session: SessionHandle,
    supervisor: Supervisor,
    wires: Vec<Arc<Mutex<Wire>>>,
    record: Memory,
    guard: watch::Sender<bool>,
    /// The first unit's orders; a unit ends only when nobody holds this any more.
    way: Option<mpsc::Sender<Order>>,
    /// Kept so that the links stay quiet instead of gone.
    _replies: Vec<mpsc::Sender<crate::model::packet::Received>>,
}

fn capability() -> Capability {
    let micros = Microseconds::from_micros;
    Capability {
        channels: 2,
        intensity: IntensityRange::Current {
            step: Milliamps::from_microamps(500),
            max: Milliamps::from_milliamps(60),
        },
        pulse: Some(PulseGrid {
            width_step: micros(10),
            width_min: micros(20),
            width_max: micros(500),
            period_step: micros(500),
            period_min: micros(1000),
            period_max: micros(1_000_000),
            gap: micros(0),
        }),
        keep_alive: Some(Duration::from_secs(2)),
        stop_is_whole_unit: true,
        telemetry: Telemetry { suspect: Duration::from_millis(500), lost: Duration::from_secs(1) },
        acknowledge_within: Duration::from_millis(300),
        stop_tail: Duration::from_millis(100),
        battery_life: Duration::from_secs(3600),
        contact_seen_from: Milliamps::ZERO,
        reports_force: false,
        reports_own_button: false,
        rate_basis: RateBasis::None,
        limits: Limits::default(),
    }
}

/// Units that answer like good ones, the first with `defect` when it is to panic at its first command.
fn bench(units: usize, answers: bool, defect: bool) -> Bench {
    begun(units, (answers, defect), false)
}

fn begun(units: usize, (answers, defect): (bool, bool), latched: bool) -> Bench {
    begun_after(units, (answers, defect), latched, |_| {})
}

/// `before`: what happens before there is a session task.
fn begun_after(
    units: usize,
    (answers, defect): (bool, bool),
    latched: bool,
    before: impl FnOnce(&Builder),
) -> Bench {
    let clock = Clock::start();
    let devices = (0..units).map(|unit| PlannedDevice {
        label: format!("unit {unit}"),
        profile: "fake".to_owned(),
        capability: capability(),
    });
    let plan = Plan {
        together: Vec::new(),
        beside: Vec::new(),
        sessions_per_week: None,
        id: "p".to_owned(),
        title: "P".to_owned(),
        client: ClientCode::new("C-1"),
        devices: devices.collect(),
        steps: Vec::new(),
    };
    let mut builder = Builder::new(clock.clone(), plan);
    let (mut wires, mut replies) = (Vec::new(), Vec::new());
    for unit in 0..units {
        let wire = Arc::new(Mutex::new(Wire::default()));
        let (reply, replied) = mpsc::channel(8);
        let link = FakeLink { wire: Arc::clone(&wire), clock: clock.clone(), replies: replied };
        builder.device(Box::new(FakeDriver::new(defect && unit == 0, answers)), link);
        wires.push(wire);
        replies.push(reply);
    }
    let way = defect.then(|| builder.orders[0].clone());
    let (guard, present) = watch::channel(true);
    let record = Memory::default();
    let parts = Parts {
        by: Actor { person: "T-1".to_owned(), screen: "test".to_owned() },
        settings: Settings::default(),
        recorder: Box::new(record.clone()),
        writing: Writing::InLine,
        guard: Guarding::trusted(present),
        newest: None,
        voice: crate::runtime::sounder::Voice::log(),
        locked: Vec::new(),
        latched: latched.then(Actor::itself),
    };
    before(&builder);
    let (session, supervisor) = builder.start(parts).unwrap();
    Bench { clock, session, supervisor, wires, record, guard, way, _replies: replies }
}

async fn pass(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

impl Bench {
    fn stops(&self, unit: usize) -> usize {
        let wire = self.wires[unit].lock().unwrap();
        wire.written.iter().filter(|(_, bytes)| bytes == STOP).count()
    }

    async fn over(self) -> (Ended, Memory, Duration) {
        let begun = self.clock.now();
        let ended = self.supervisor.run().await;
        (ended, self.record, self.clock.now().since(begun))
    }
}

#[tokio::test(start_paused = true)]
async fn stop_all_reaches_every_unit_at_once() {
    let bench = bench(3, true, false);
    pass(50).await;
    let before: Vec<usize> = (0..3).map(|unit| bench.stops(unit)).collect();
    bench.session.stop_all(StopReason::EmergencyStop);
    pass(1).await;
    for (unit, before) in before.into_iter().enumerate() {
        assert_eq!(bench.stops(unit), before + 1, "unit {unit}");
    }
    assert!(bench.session.snapshots().borrow().latched.is_some());
}

#[tokio::test(start_paused = true)]
async fn stop_all_reaches_every_unit_while_one_is_stuck_and_the_record_refuses() {
    let bench = bench(2, true, false);
    pass(50).await;
    bench.wires[0].lock().unwrap().behaviour = Behaviour::Stuck;
    *bench.record.refuses.lock().unwrap() = true;
    let before = bench.stops(1);
    bench.session.stop_all(StopReason::EmergencyStop);
    pass(1).await;
    assert_eq!(bench.stops(1), before + 1);
}

/// SR-34: the machine slept; on return every unit is stopped before anything else, and people are told.
#[tokio::test(start_paused = true)]
async fn sr_34_after_a_sleep_every_unit_is_stopped_first() {
    let bench = bench(2, true, false);
    pass(1_000).await;
    let before: Vec<usize> = (0..2).map(|unit| bench.wires[unit].lock().unwrap().written.len()).collect();
    let causes = |bench: &Bench| -> Vec<Cause> {
        bench.session.snapshots().borrow().alarms.iter().map(|alarm| alarm.cause).collect()
    };
    pass(1_000).await;
    assert!(!causes(&bench).contains(&Cause::Suspended), "nothing happened");
    bench.clock.sleep(Duration::from_secs(600));
    // The next wake-up is at most one snapshot away.
    pass(150).await;
    for (unit, before) in before.into_iter().enumerate() {
        let written = bench.wires[unit].lock().unwrap().written.clone();
        assert_eq!(written.get(before).map(|(_, bytes)| bytes.as_slice()), Some(STOP), "unit {unit}");
    }
    assert!(causes(&bench).contains(&Cause::Suspended));
}

/// A wall clock that is set behind the record in the middle of a session is told to the governor, and so is its return.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_in_a_session_is_noticed_both_ways() {
    let bench = bench(1, true, false);
    pass(50).await;
    let mut events = bench.session.events();
    let mut said = || {
        let mut said = Vec::new();
        while let Ok(event) = events.try_recv() {
            if let Event::Clock { sane } = event {
                said.push(sane);
            }
        }
        said
    };
    bench.clock.set_back(Duration::from_secs(60));
    pass(300).await;
    assert_eq!(said(), [true; 0], "two minutes are within bounds");
    bench.clock.set_back(Duration::from_secs(600));
    pass(300).await;
    assert_eq!(said(), [false]);
    bench.clock.set_back(Duration::from_secs(0));
    pass(300).await;
    assert_eq!(said(), [true]);
}

#[tokio::test(start_paused = true)]
async fn a_full_request_queue_is_an_answer() {
    let bench = bench(1, true, false);
    // Nothing has run yet: the session task takes no request.
    let requests: Vec<_> = (0..=crate::runtime::handle::REQUESTS_MAX)
        .map(|_| {
            let session = bench.session.clone();
            let mut request = Box::pin(async move { session.request(Act::Present, Version(0)).await });
            let now = request.as_mut().now_or_never();
            (now, request)
        })
        .collect();
    let (full, waiting): (Vec<_>, Vec<_>) = requests.into_iter().partition(|(now, _)| now.is_some());
    assert_eq!(full.len(), 1);
    assert_eq!(full[0].0, Some(Err(Unanswered::Busy)));
    bench.session.stop_all(StopReason::EmergencyStop);
    pass(10).await;
    for (_, request) in waiting {
        assert!(request.now_or_never().expect("an answer").is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_session_stops_its_units_seals_its_record_and_refuses_requests() {
    let bench = bench(2, true, false);
    pass(50).await;
    bench.session.close(true, StopReason::TherapistRequest);
    let late = bench.session.clone();
    let refused = tokio::spawn(async move { late.request(Act::AcknowledgeAlarms, Version(0)).await });
    let (ended, record, took) = bench.over().await;
    assert_eq!(ended.faults, [""; 0]);
    let session = ended.session.expect("the session task has ended by itself");
    assert!(session.sealed.is_ok());
    assert_eq!(session.unproven, []);
    assert!(took < Duration::from_secs(2), "{took:?}");
    let entries = record.entries.lock().unwrap().clone();
    assert!(entries.iter().any(|entry| matches!(entry, Entry::StopAll { .. })), "{entries:?}");
    match refused.await.unwrap() {
        Ok(verdict) => assert!(matches!(verdict, Verdict::Refused(_)), "{verdict:?}"),
        Err(unanswered) => assert_eq!(unanswered, Unanswered::Ended),
    }
}

/// SR-02: a stop that is asked while the session closes is waited for, and who goes on asking keeps it open for no longer.
#[test]
fn sr_02_a_stop_asked_while_the_session_closes_is_to_be_proven_too() {
    let at = Mono::from_millis;
    let mut closing = Closing::new(at(0));
    assert!(!closing.is_over(at(100), true, false), "the last doses are not on record");
    closing.stopped(at(1_200));
    assert!(!closing.is_over(at(1_201), false, true));
    let mut never = closing;
    assert!(closing.is_over(at(1_250), true, true));
    assert!(!never.is_over(at(3_100), false, true) && never.is_over(at(3_200), false, true));
    let mut asked = Closing::new(at(0));
    let over = (0..200).find(|turn| {
        asked.stopped(at(turn * 50));
        asked.is_over(at(turn * 50), false, true)
    });
    assert!(over.is_some_and(|turn| turn * 50 <= 6_000), "{over:?}");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_session_is_closed_without_stop_all_on_record() {
    let bench = bench(1, true, false);
    pass(50).await;
    bench.session.close(false, StopReason::TherapistRequest);
    let (ended, record, _) = bench.over().await;
    assert_eq!(ended.faults, [""; 0]);
    assert!(!record.entries.lock().unwrap().iter().any(|entry| matches!(entry, Entry::StopAll { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_does_not_prove_its_stop_is_named_and_the_close_is_not_kept() {
    let bench = bench(1, false, false);
    pass(50).await;
    bench.session.close(true, StopReason::TherapistRequest);
    let (ended, _, took) = bench.over().await;
    assert_eq!(ended.session.expect("sealed").unproven, [DeviceId(0)]);
    assert_eq!(ended.unproven, [DeviceId(0)]);
    assert_eq!(ended.faults, [""; 0]);
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_panicking_task_stops_every_unit_and_ends_the_session_with_a_fault() {
    let mut bench = bench(2, true, true);
    pass(50).await;
    let before = bench.stops(1);
    let command = crate::model::command::Command::Prepare { epoch: crate::model::command::Epoch(1) };
    // The session task's own way to a unit, without a plan that arms one.
    let what = Ordered::Command(crate::governor::Cleared::for_test(command));
    let way = bench.way.take().unwrap();
    way.try_send(Order { after: u64::MAX, what }).unwrap();
    drop(way);
    let wire = Arc::clone(&bench.wires[1]);
    let (ended, record, _) = bench.over().await;
    assert!(ended.faults[0].contains("ended the driver of unit 1"), "{:?}", ended.faults);
    let stops = wire.lock().unwrap().written.iter().filter(|(_, bytes)| bytes == STOP).count();
    assert!(stops > before, "the other unit was not stopped");
    assert!(ended.session.expect("the session ends in order").sealed.is_ok());
    assert_eq!(stopped_by(&record), [Actor::itself()], "nobody asked for it");
}

/// Returns who asked for each STOP ALL on record.
fn stopped_by(record: &Memory) -> Vec<Actor> {
    let entries = record.entries.lock().unwrap().clone();
    let stops = entries
        .into_iter()
        .filter_map(|entry| if let Entry::StopAll { by, .. } = entry { Some(by) } else { None });
    stops.collect()
}

/// SR-04, SR-36: the guard's end closes the session. The record says that nobody asked for it, and why it was.
#[tokio::test(start_paused = true)]
async fn sr_04_sr_36_the_guards_end_is_on_record_as_an_alarm_and_a_stop_that_nobody_asked_for() {
    let bench = bench(2, true, false);
    pass(50).await;
    bench.guard.send_replace(false);
    // As its watcher does, before the session has heard of it.
    bench.session.lanes().emergency();
    bench.session.close_by_itself(StopReason::Guard);
    let (ended, record, _) = bench.over().await;
    assert_eq!(ended.faults, [""; 0]);
    assert_eq!(stopped_by(&record), [Actor::itself()]);
    let entries = record.entries.lock().unwrap().clone();
    let alarm = entries.iter().position(
        |entry| matches!(entry, Entry::Alarm { alarm, raised: true } if alarm.cause == Cause::GuardGone),
    );
    let stop = entries.iter().position(|entry| matches!(entry, Entry::StopAll { .. }));
    assert!(alarm.is_some() && alarm < stop, "{entries:?}");
}

/// SR-02: STOP ALL outlives the daemon that it was asked of: the next one begins latched, and a person resets it.
#[tokio::test(start_paused = true)]
async fn sr_02_a_session_that_begins_latched_starts_nothing_until_a_person_resets_it() {
    let bench = begun(2, (true, false), true);
    pass(300).await;
    let shown = bench.session.snapshots();
    let (latched, seen) = { (shown.borrow().latched, shown.borrow().version) };
    let generation = latched.expect("it begins latched");
    assert_eq!(stopped_by(&bench.record), [Actor::itself()]);
    for unit in 0..2 {
        assert!(bench.stops(unit) > 0, "unit {unit}");
    }
    let reset = bench.session.request(Act::Reset { generation }, seen).await.unwrap();
    assert!(matches!(reset, Verdict::Granted { .. }), "{reset:?}");
    pass(150).await;
    assert_eq!(shown.borrow().latched, None);
}

/// SR-02: STOP ALL that came in before there was a session task latches the session.
#[tokio::test(start_paused = true)]
async fn sr_02_a_stop_that_comes_in_before_the_session_is_ready_latches_it() {
    let by = crate::runtime::guard_line::control_socket();
    let asked = by.clone();
    let bench = begun_after(2, (true, false), false, |builder| {
        builder.lanes.post_session(asked, StopReason::EmergencyStop);
    });
    pass(300).await;
    assert!(bench.session.snapshots().borrow().latched.is_some());
    assert_eq!(stopped_by(&bench.record), [by]);
}

/// What the units report of a stop by a signal waits for the signal's own reason, and not for ever.
#[tokio::test(start_paused = true)]
async fn a_stop_by_a_signal_is_on_record_before_what_units_report_of_it() {
    for says_why in [true, false] {
        let mut reports = None;
        let bench = begun_after(1, (true, false), false, |builder| reports = Some(builder.inputs.0.clone()));
        pass(50).await;
        bench.session.lanes().emergency();
        reports.take().unwrap().send(Input::Link { device: DeviceId(0), up: false }).await.unwrap();
        pass(5).await;
        let heard = |entry: &Entry| matches!(entry, Entry::Link { up: false, .. });
        assert!(!bench.record.entries.lock().unwrap().iter().any(heard));
        if says_why {
            bench.session.close_by_itself(StopReason::DaemonRestart);
        }
        pass(60).await;
        let entries = bench.record.entries.lock().unwrap().clone();
        let stop = |entry: &Entry| matches!(entry, Entry::StopAll { reason: StopReason::DaemonRestart, .. });
        let (stop, heard) = (entries.iter().position(stop), entries.iter().position(heard));
        assert!(heard.is_some() && stop.is_some() == says_why && stop < heard, "{entries:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_parent_is_told_to_the_governor() {
    let bench = bench(1, true, false);
    pass(50).await;
    bench.guard.send_replace(false);
    pass(50).await;
    let alarms = bench.session.snapshots().borrow().alarms.clone();
    assert!(alarms.iter().any(|alarm| alarm.cause == crate::alarm::Cause::GuardGone), "{alarms:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refusing_record_is_an_alarm_and_keeps_no_stop() {
    let bench = bench(1, true, false);
    pass(50).await;
    *bench.record.refuses.lock().unwrap() = true;
    bench.session.stop_all(StopReason::EmergencyStop);
    pass(100).await;
    let alarms = bench.session.snapshots().borrow().alarms.clone();
    assert!(alarms.iter().any(|alarm| alarm.cause == crate::alarm::Cause::RecordFailing), "{alarms:?}");
}
