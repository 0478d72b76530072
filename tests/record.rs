//! The session record: append-only, chained, crash-safe, readable for ever; and the note written from it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use doseward::alarm::{Alarm, Cause};
use doseward::governor::{Entry, Interlock, Refusal, RequestId, Seq};
use doseward::model::area::{AreaCode, Place, Side, Tissue};
use doseward::model::budget::{Declared, Spent};
use doseward::model::capability::{Capability, IntensityRange, PulseGrid, RateBasis, Telemetry};
use doseward::model::command::{Channel, DeviceId, Epoch, Generation, Intensity, Setpoint};
use doseward::model::dose::{Dose, DoseId, Evidence};
use doseward::model::limit::{LimitChain, LimitOwner, Limits};
use doseward::model::plan::{
    Applicator, ClientCode, Cycle, Electrode, Plan, PlannedDevice, Step, Stimulation,
};
use doseward::model::protocol::Modality;
use doseward::model::report::{EpochEnd, Identity, OwnButton, StopProgress};
use doseward::model::session::{Actor, Discomfort, SessionId, StopReason};
use doseward::record::entry::GuardUnit;
use doseward::record::entry::{Body, DoseBody, RestsOn, SealReason, SessionHead, StoredEntry};
use doseward::record::journal::{Journal, Stamp};
use doseward::record::recover::{GuardAct, UNHEARD_US};
use doseward::record::spent::Asked;
use doseward::record::store::{FILE, Reader};
use doseward::record::verify::{self, What};
use doseward::record::{RecordError, export};
use doseward::report::note;
use doseward::units::{Level, Microcoulombs, Microseconds, Milliamps, Mono, RawSpeed, SquareCentimetres};
use proptest::prelude::*;

const GUN: DeviceId = DeviceId(0);
const UNIT: DeviceId = DeviceId(1);
const OUT: Channel = Channel(0);
const SECOND: u64 = 1_000_000;
/// What the simulated stimulator runs on for when it hears nothing.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

fn stamp(millis: u64) -> Stamp {
    let begin = "2026-11-21T13:00:00Z".parse::<jiff::Timestamp>().unwrap();
    let wall = begin + jiff::SignedDuration::from_millis(i64::try_from(millis).unwrap());
    Stamp { mono: Mono::from_millis(millis), wall }
}

fn therapist() -> Actor {
    Actor { person: "T1".to_owned(), screen: "terminal".to_owned() }
}

fn capability(gun: bool) -> Capability {
    let step = Milliamps::from_microamps(500);
    Capability {
        channels: if gun { 1 } else { 4 },
        intensity: if gun {
            let (floor, top) = (RawSpeed::from_raw(1500), RawSpeed::from_raw(2400));
            IntensityRange::Speed { floor, max: top, top, rise_per_s: 480 }
        } else {
            IntensityRange::Current { step, max: Milliamps::from_milliamps(130) }
        },
        pulse: (!gun).then_some(PulseGrid {
            width_step: Microseconds::from_micros(10),
            width_min: Microseconds::from_micros(20),
            width_max: Microseconds::from_micros(500),
            period_step: Microseconds::from_micros(500),
            period_min: Microseconds::from_micros(2000),
            period_max: Microseconds::from_micros(1_000_000),
            gap: Microseconds::from_micros(100),
        }),
        keep_alive: (!gun).then_some(KEEP_ALIVE),
        stop_is_whole_unit: !gun,
        telemetry: Telemetry { suspect: Duration::from_millis(500), lost: Duration::from_secs(1) },
        acknowledge_within: Duration::from_millis(if gun { 500 } else { 300 }),
        stop_tail: Duration::from_millis(if gun { 1000 } else { 0 }),
        battery_life: Duration::from_secs(7200),
        contact_seen_from: Milliamps::ZERO,
        reports_force: false,
        reports_own_button: false,
        rate_basis: if gun { RateBasis::WorstCase } else { RateBasis::None },
        limits: Limits::default(),
    }
}

fn device(label: &str, profile: &str, gun: bool) -> PlannedDevice {
    PlannedDevice { label: label.to_owned(), profile: profile.to_owned(), capability: capability(gun) }
}

fn place(area: &str, side: Side) -> Place {
    Place { area: AreaCode::new(area), side }
}

fn step(number: u8, modality: Modality, title: &str, at: Place, cycle: Option<Cycle>) -> Step {
    let gun = modality == Modality::Percussion;
    let pad = |area: &str| Electrode {
        contact: SquareCentimetres::from_square_millimetres(2500),
        area: AreaCode::new(area),
        side: at.side,
    };
    let applicator = if gun {
        Applicator::Attachment("ball".to_owned())
    } else {
        Applicator::Electrodes([pad(at.area.as_str()), pad(at.area.as_str())])
    };
    Step {
        number,
        protocol: title.to_lowercase().replace(' ', "_"),
        title: title.to_owned(),
        modality,
        tissue: Tissue::MuscleLarge,
        device: if gun { GUN } else { UNIT },
        channel: OUT,
        applicator,
        stimulation: (!gun).then_some(Stimulation {
            width: Microseconds::from_micros(200),
            period: Microseconds::from_micros(10_000),
            cycle,
        }),
        target: if gun { speed(1750) } else { current(22) },
        duration: Duration::from_secs(if gun { 120 } else { 1200 }),
        held_by: gun.then(|| "T1".to_owned()),
        rest: Duration::ZERO,
        low: Limits::default(),
        start_at_device: false,
        force_max: None,
        usual: Limits::default(),
        chain: LimitChain::default(),
        place: at,
    }
}

fn plan() -> Plan {
    let cycle = Cycle {
        ramp_up: Duration::from_secs(1),
        on: Duration::from_secs(10),
        ramp_down: Duration::from_secs(1),
        off: Duration::from_secs(30),
    };
    Plan {
        together: Vec::new(),
        beside: Vec::new(),
        sessions_per_week: None,
        id: "knee-01".to_owned(),
        title: "Knee and low back, first visit".to_owned(),
        client: ClientCode::new("K-0417"),
        devices: vec![device("Theragun PRO B", "theragun-gen4", true), device("P24 A", "p24", false)],
        steps: vec![
            step(1, Modality::Percussion, "Muscle percussion", place("calf", Side::Right), None),
            step(2, Modality::Tens, "Conventional TENS", place("low_back", Side::Left), None),
            step(3, Modality::Nmes, "Strength NMES", place("quadriceps", Side::Right), Some(cycle)),
        ],
    }
}

fn head(session: &str) -> SessionHead {
    let digest = "6ca13d52ca70c883e0f0bb101e425a89e8624de51db2d2392593af6a84118090".to_owned();
    let session = SessionId::new(session);
    let mut head = SessionHead::new(session, &plan(), digest.clone(), "doseward 0.1.0".to_owned(), true);
    head.file_digests.push(("protocols/tens.toml".to_owned(), digest));
    head.mono_origin_us = 5_000 * SECOND;
    head
}

const S1: &str = "01932e4a-5e00-7000-8000-000000000001";
const S2: &str = "01932e4a-5e00-7000-8000-000000000002";

fn current(milliamps: u32) -> Intensity {
    Intensity::Current(Milliamps::from_milliamps(milliamps))
}

fn speed(raw: u16) -> Intensity {
    Intensity::Speed(RawSpeed::from_raw(raw))
}

fn pulses(milliamps: u32) -> Setpoint {
    Setpoint::Pulses {
        current: Milliamps::from_milliamps(milliamps),
        width: Microseconds::from_micros(200),
        period: Microseconds::from_micros(10_000),
    }
}

fn intent(step: u8, device: DeviceId, to: Setpoint) -> Entry {
    Entry::Intent {
        request: RequestId(1),
        by: therapist(),
        step,
        device,
        channel: OUT,
        from: to.intensity().zero(),
        to,
        limit: (LimitOwner::Plan, to.intensity().with_magnitude(if device == GUN { 2400 } else { 25_000 })),
        reason: None,
    }
}

/// A dose of a stimulator at `milliamps`; everything known exactly.
fn tens(id: u64, from_ms: u64, until_ms: u64, milliamps: u32) -> Dose {
    let (on_us, charge) = ((until_ms - from_ms) * 1000, u64::from(milliamps) * 1000 * 200);
    let (least, most) = (on_us / 10_000, on_us.div_ceil(10_000));
    Dose {
        id: DoseId(id),
        step: 2,
        device: UNIT,
        channel: OUT,
        epoch: Epoch(1),
        modality: Modality::Tens,
        place: place("low_back", Side::Left),
        from: Mono::from_millis(from_ms),
        until: Mono::from_millis(until_ms),
        upper: pulses(milliamps),
        lower: Some(pulses(milliamps)),
        evidence: Evidence::Commanded,
        on_us: (on_us, on_us),
        pulses: (least, most),
        charge: (
            Microcoulombs::from_picocoulombs(least * charge),
            Microcoulombs::from_picocoulombs(most * charge),
        ),
        speed_us: (0, 0),
        limit: (LimitOwner::Plan, 25_000),
        rate_basis: RateBasis::None,
    }
}

/// A dose of a gun at `raw`; the stop tail in its upper bounds when it ends an output.
fn bout(id: u64, from_ms: u64, until_ms: u64, raw: u16, tail_ms: u64) -> Dose {
    let (least, most) = ((until_ms - tail_ms - from_ms) * 1000, (until_ms - from_ms) * 1000);
    Dose {
        id: DoseId(id),
        step: 1,
        device: GUN,
        modality: Modality::Percussion,
        place: place("calf", Side::Right),
        upper: Setpoint::Speed(RawSpeed::from_raw(raw)),
        lower: Some(Setpoint::Speed(RawSpeed::from_raw(raw))),
        evidence: Evidence::Reported,
        on_us: (least, most),
        pulses: (0, 0),
        charge: (Microcoulombs::default(), Microcoulombs::default()),
        speed_us: (least * u64::from(raw), most * u64::from(raw)),
        limit: (LimitOwner::Device, 2400),
        rate_basis: RateBasis::WorstCase,
        ..tens(id, from_ms, until_ms, 0)
    }
}

/// Appends entries one after another, at the instants given.
struct Writer<'a> {
    journal: &'a mut Journal,
    next: u64,
}

impl<'a> Writer<'a> {
    fn begin(journal: &'a mut Journal, session: &str, millis: u64) -> Self {
        journal.begin(&head(session), stamp(millis)).unwrap();
        Self { journal, next: 1 }
    }

    fn add(&mut self, millis: u64, entry: Entry) -> u64 {
        let seq = self.next;
        self.journal.append(stamp(millis), Seq(seq), &entry).unwrap();
        self.next += 1;
        seq
    }
}

/// A session as a therapist would run it: a calf, then a low back whose pad comes off once.
fn write_sample(journal: &mut Journal) -> String {
    let mut to = Writer::begin(journal, S1, 0);
    to.add(10, Entry::ReadBack { by: therapist(), client: ClientCode::new("K-0417") });
    let score = |score| Discomfort::new(score).unwrap();
    let comfort = |step, value, to| Entry::Comfort { by: therapist(), step, score: score(value), to };
    to.add(20, comfort(1, 3, speed(0)));
    to.add(1000, Entry::Armed { step: 1, by: therapist(), epoch: Epoch(1) });
    to.add(2000, intent(1, GUN, Setpoint::Speed(RawSpeed::from_raw(1750))));
    to.add(62_000, Entry::Dose(bout(1, 2000, 62_000, 1750, 0)));
    to.add(123_000, Entry::Stopped { step: 1, reason: StopReason::Completed, generation: Generation(0) });
    to.add(123_100, Entry::Dose(bout(2, 62_000, 123_000, 1750, 1000)));
    to.journal.progress_done(GUN, OUT).unwrap();
    to.add(125_000, comfort(1, 1, speed(0)));
    to.add(130_000, comfort(2, 4, current(0)));
    to.add(140_000, Entry::Armed { step: 2, by: therapist(), epoch: Epoch(1) });
    let mut above = intent(2, UNIT, pulses(22));
    if let Entry::Intent { reason, .. } = &mut above {
        *reason = Some("client asked for more".to_owned());
    }
    to.add(150_000, above);
    to.add(210_000, Entry::Dose(tens(3, 150_000, 210_000, 22)));
    to.add(230_000, comfort(2, 6, current(22)));
    let alarm = Alarm { cause: Cause::LeadOff, device: Some(UNIT), channel: Some(OUT) };
    to.add(240_000, Entry::Alarm { alarm, raised: true });
    to.add(240_000, Entry::Stopped { step: 2, reason: StopReason::LeadOff, generation: Generation(1) });
    to.add(240_000, Entry::EpochEnded { device: UNIT, epoch: Epoch(1), cause: EpochEnd::LeadOff(OUT) });
    to.add(240_100, Entry::Dose(tens(4, 210_000, 240_000, 22)));
    to.add(260_000, Entry::Alarm { alarm, raised: false });
    to.add(261_000, intent(2, UNIT, pulses(20)));
    to.add(281_000, Entry::Acted { by: therapist(), step: 2, what: "hold", to: current(0) });
    let mut lost = tens(5, 261_000, 283_000, 20);
    (lost.evidence, lost.lower, lost.on_us.0, lost.pulses.0) = (Evidence::Uncertain, None, 18 * SECOND, 1800);
    lost.charge.0 = Microcoulombs::from_picocoulombs(1800 * 4_000_000);
    to.add(283_000, Entry::Dose(lost));
    to.journal.progress_done(UNIT, OUT).unwrap();
    to.add(
        300_000,
        Entry::Stopped { step: 2, reason: StopReason::TherapistRequest, generation: Generation(2) },
    );
    to.add(320_000, comfort(2, 2, current(0)));
    journal.seal(stamp(330_000)).unwrap()
}

/// What stopped a unit is found again by its label and profile, the newest of several sessions.
#[test]
fn the_stop_frame_that_stopped_a_unit_is_remembered_over_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    let learnt = |device, frame: &str| Entry::StopLearnt { device, frame: frame.to_owned() };
    for (session, frame) in [(S1, "stop_zero"), (S2, "stop_off7")] {
        let mut to = Writer::begin(&mut journal, session, 0);
        to.add(10, learnt(GUN, frame));
        to.add(20, learnt(UNIT, "of another unit"));
        journal.seal(stamp(100)).unwrap();
    }
    let reader = Reader::open(dir.path()).unwrap();
    let of = |label, profile| reader.learnt_stop(label, profile).unwrap();
    assert_eq!(of("Theragun PRO B", "theragun-gen4").as_deref(), Some("stop_off7"));
    assert_eq!(of("Theragun PRO B", "another profile"), None);
    assert_eq!(of("Theragun PRO C", "theragun-gen4"), None);
}

/// A session that its daemon never sealed: a stimulator at 15 mA, its progress row one second old.
fn write_crashed(journal: &mut Journal, session: &str) {
    let mut to = Writer::begin(journal, session, 400_000);
    to.add(401_000, Entry::Armed { step: 2, by: therapist(), epoch: Epoch(4) });
    to.add(402_000, intent(2, UNIT, pulses(15)));
    to.journal.progress(&tens(1, 402_000, 410_000, 15)).unwrap();
    to.journal.commit().unwrap();
}

fn sample_in(dir: &Path) -> (Reader, String) {
    let mut journal = Journal::open(dir).unwrap();
    let anchor = write_sample(&mut journal);
    (journal.reader().unwrap(), anchor)
}

fn exported(reader: &Reader, session: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    export::session(reader, &SessionId::new(session), &mut bytes).unwrap();
    bytes
}

// ---- one writer, one directory ----

#[test]
fn a_second_process_is_refused_and_told_who_holds_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let first = Journal::open(dir.path()).unwrap();
    let refused = Journal::open(dir.path()).unwrap_err();
    let RecordError::Held { by, what, since } = &refused else { panic!("{refused:?}") };
    assert_eq!(*by, std::process::id());
    assert!(!what.is_empty() && since.parse::<jiff::Timestamp>().is_ok(), "{refused}");
    drop(first);
    Journal::open(dir.path()).unwrap();
}

#[test]
fn the_directory_is_for_this_user_only_and_an_unwritable_one_is_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("data");
    drop(Journal::open(&inner).unwrap());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&inner), mode(&inner.join(FILE))), (0o700, 0o600));
    std::fs::write(dir.path().join("file"), "").unwrap();
    let refused = Journal::open(&dir.path().join("file").join("data")).unwrap_err();
    assert!(matches!(refused, RecordError::Directory { .. }), "{refused:?}");
    assert!(refused.to_string().contains("file/data"), "{refused}");
}

#[test]
fn a_record_of_a_later_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Journal::open(dir.path()).unwrap());
    tamper(dir.path(), "INSERT INTO schema VALUES (2, 'later')");
    assert!(matches!(Journal::open(dir.path()), Err(RecordError::Newer { found: 2, known: 1 })));
    assert!(matches!(Reader::open(dir.path()), Err(RecordError::Newer { found: 2, known: 1 })));
}

#[test]
fn entries_out_of_order_and_without_a_session_are_refused() {
    let mut journal = Journal::in_memory().unwrap();
    let entry = Entry::Lease { alive: true };
    assert!(matches!(journal.append(stamp(0), Seq(1), &entry), Err(RecordError::NoSession)));
    journal.begin(&head(S1), stamp(0)).unwrap();
    let refused = journal.append(stamp(1), Seq(2), &entry);
    assert!(matches!(refused, Err(RecordError::OutOfOrder { expected: 1, found: 2 })));
    assert!(matches!(journal.begin(&head(S2), stamp(2)), Err(RecordError::AlreadyOpen { .. })));
}

// ---- shapes ----

fn every_entry() -> Vec<Entry> {
    let (by, limit) = (therapist(), current(25));
    let refused = |why| Entry::Refused { request: RequestId(7), by: therapist(), step: Some(2), why };
    let own = |what| Entry::OwnButton { device: GUN, what };
    let ended = |cause| Entry::EpochEnded { device: UNIT, epoch: Epoch(2), cause };
    let mut all = vec![
        Entry::ReadBack { by: by.clone(), client: ClientCode::new("K-1") },
        Entry::Armed { step: 1, by: by.clone(), epoch: Epoch(3) },
        intent(2, UNIT, pulses(22)),
        intent(1, GUN, Setpoint::Level(Level::from_level(2))),
        Entry::IntentVoid { intent: Seq(4), why: Refusal::TooSlow },
        Entry::Acted { by: by.clone(), step: 1, what: "lower", to: speed(1600) },
        Entry::Stopped { step: 1, reason: StopReason::Completed, generation: Generation(0) },
        Entry::StopAll { by: by.clone(), reason: StopReason::EmergencyStop, generation: Generation(9) },
        Entry::Reset { by: by.clone(), generation: Generation(9) },
        Entry::StatedStopped { by: by.clone(), device: GUN },
        Entry::Comfort { by: by.clone(), step: 1, score: Discomfort::new(7).unwrap(), to: speed(0) },
        Entry::OperatorLimit { by: by.clone(), step: 2, limit: Some(limit) },
        Entry::OperatorLimit { by, step: 2, limit: None },
        Entry::Link { device: UNIT, up: false },
        Entry::Identity {
            device: UNIT,
            identity: Identity { model: "\"P24\"\n".into(), serial: "s".into(), firmware: "é".into() },
        },
        Entry::StopLearnt { device: GUN, frame: "stop_off7".to_owned() },
        Entry::Battery { device: GUN, percent: 14 },
        Entry::Dose(tens(1, 0, 60_000, 22)),
        Entry::Dose(bout(2, 0, 60_000, 1750, 1000)),
        Entry::Alarm { alarm: Alarm { cause: Cause::GuardGone, device: None, channel: None }, raised: true },
        Entry::Lease { alive: false },
        Entry::Anomaly { device: UNIT, what: "a packet was late".to_owned() },
    ];
    all.extend([StopProgress::Written, StopProgress::Confirmed, StopProgress::Unconfirmed].map(|progress| {
        let after = Duration::from_millis(41);
        Entry::StopProgress { device: UNIT, generation: Generation(3), progress, after }
    }));
    let stopped = [OwnButton::Started(speed(1500)), OwnButton::Stopped, OwnButton::Lowered(speed(1))];
    all.extend(stopped.into_iter().chain([OwnButton::Raised(speed(2400))]).map(own));
    let causes = [EpochEnd::LeadOff(OUT), EpochEnd::PulseError(OUT), EpochEnd::Result(3), EpochEnd::Stopped];
    let more = [EpochEnd::LostAcknowledgement, EpochEnd::KeepAliveLost, EpochEnd::UnexpectedStatus];
    all.extend(
        causes.into_iter().chain(more).chain([EpochEnd::Disconnected, EpochEnd::LeaseEnded]).map(ended),
    );
    let open = [Interlock::OperatorPresent, Interlock::LinkFresh, Interlock::Battery];
    all.extend(open.map(Refusal::Interlock).map(refused));
    let why = [
        Refusal::Limit {
            asked: current(28),
            allowed: limit,
            owner: LimitOwner::Clearance,
            kind: "current",
            said: "Dr K.".to_owned(),
            unchanged: current(22),
        },
        Refusal::Stopped { generation: Generation(3) },
        Refusal::NotProven { device: UNIT },
        Refusal::State { why: "arm first" },
        Refusal::Locked { left: Duration::from_secs(27) },
        Refusal::BelowFloor { asked: speed(300), floor: speed(1500) },
        Refusal::Stale,
        Refusal::TooSlow,
        Refusal::NoSuchStep { step: 9 },
    ];
    all.extend(why.map(refused));
    all
}

/// SR-35: what is stored is exactly what was hashed, in one line, and reads back as what was meant.
#[test]
fn every_kind_of_entry_is_written_in_one_line_and_read_back() {
    let mut journal = Journal::in_memory().unwrap();
    journal.begin(&head(S1), stamp(0)).unwrap();
    let entries = every_entry();
    for (seq, entry) in (1..).zip(&entries) {
        journal.append(stamp(seq), Seq(seq), entry).unwrap();
    }
    journal.seal(stamp(9000)).unwrap();
    let reader = journal.reader().unwrap();
    let stored = reader.entries(&SessionId::new(S1)).unwrap();
    assert_eq!(stored.len(), entries.len() + 2);
    for (stored, entry) in stored.iter().skip(1).zip(&entries) {
        let body = stored.read().unwrap();
        assert_eq!(body, Body::from(entry), "{}", stored.body);
        assert_eq!(body.write().unwrap(), (stored.kind.clone(), stored.body.clone()));
        assert!(!stored.body.contains('\n'));
        if let Entry::Dose(dose) = entry {
            assert_eq!(Dose::try_from(body.dose().unwrap()).unwrap(), *dose);
        }
    }
    assert!(verify::database(&reader, None).unwrap().sound());
}

/// SR-35: the hash is that of eight fields with a line feed after each; this figure was made with `sha256sum`.
#[test]
fn the_hash_of_an_entry_is_what_sha256sum_says_of_its_documented_bytes() {
    let entry = StoredEntry {
        v: 1,
        session: S1.to_owned(),
        seq: 7,
        mono_us: 123_000_000,
        wall: "2026-11-21T13:02:03.000000Z".to_owned(),
        kind: "stopped".to_owned(),
        body: r#"{"step":1,"reason":"completed","generation":0}"#.to_owned(),
        prev_hash: "00".repeat(32),
        hash: String::new(),
    };
    let by_hand = format!(
        "1\n{S1}\n7\n123000000\n2026-11-21T13:02:03.000000Z\nstopped\n{}\n{}\n",
        entry.body, entry.prev_hash
    );
    assert_eq!(entry.canonical(), by_hand);
    assert_eq!(entry.digest(), "a74e006a986a2d15f55fea86e9acc6fcf37e6f447276ab5b6cc7d8554c440c9c");
}

// ---- readers ----

#[test]
fn a_reader_sees_what_is_durable_while_the_writer_writes() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    let anchor = write_sample(&mut journal);
    write_crashed(&mut journal, S2);
    journal.append(stamp(411_000), Seq(3), &Entry::Lease { alive: true }).unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let sessions = reader.sessions().unwrap();
    assert_eq!(sessions.len(), 2);
    assert_eq!((sessions[0].session.as_str(), sessions[0].head.as_str()), (S1, anchor.as_str()));
    assert_eq!(sessions[0].sealed.map(|(_, reason)| reason), Some(SealReason::Closed));
    assert!(sessions[0].simulated && sessions[0].client == ClientCode::new("K-0417"));
    assert_eq!((sessions[1].sealed, sessions[1].entries), (None, 3), "what waits is not durable");
    assert_eq!(
        reader.newest_wall().unwrap(),
        Some(stamp(402_000).wall),
        "SR-34: the newest wall time on record"
    );
    assert!(matches!(reader.entries(&SessionId::new("x")), Err(RecordError::NoSuchSession { .. })));
}

#[test]
fn seal_totals_and_day_budgets_add_up_the_doses_and_count_the_upper_bound() {
    let mut journal = Journal::in_memory().unwrap();
    write_sample(&mut journal);
    let reader = journal.reader().unwrap();
    let seal = reader.entries(&SessionId::new(S1)).unwrap().pop().unwrap();
    let Body::Seal { totals, entries, .. } = seal.read().unwrap() else { panic!("{seal:?}") };
    assert_eq!(entries, seal.seq + 1);
    let [calf, back] = totals.as_slice() else { panic!("{totals:?}") };
    assert_eq!((calf.step, calf.doses, calf.on_min_us, calf.on_max_us), (1, 2, 120 * SECOND, 121 * SECOND));
    assert_eq!((calf.speed_min_raw_us, calf.speed_max_raw_us), (1750 * 120 * SECOND, 1750 * 121 * SECOND));
    assert_eq!((back.step, back.doses, back.on_min_us, back.on_max_us), (2, 3, 108 * SECOND, 112 * SECOND));
    assert_eq!((back.pulses_min, back.pulses_max), (10_800, 11_200));
    assert_eq!(back.charge_max_pc, 9000 * 22_000 * 200 + 2200 * 20_000 * 200);

    let spent = spent_at(&reader, "K-0417", "2026-11-21T18:00:00Z", None);
    let found: BTreeMap<_, _> = spent
        .areas
        .iter()
        .map(|((_, area, side), on)| ((area.as_str(), side.word()), on.time.as_secs()))
        .collect();
    assert_eq!(found, BTreeMap::from([(("calf", "right"), 121), (("low_back", "left"), 112)]));
    let day: BTreeMap<_, _> =
        spent.day.iter().map(|(modality, time)| (modality.word(), time.as_secs())).collect();
    assert_eq!(day, BTreeMap::from([("percussion", 121), ("tens", 112)]));
    assert!(spent.known.is_empty(), "a first visit is one all day");
    let tomorrow = spent_at(&reader, "K-0417", "2026-11-22T18:00:00Z", None);
    assert!(
        tomorrow.areas.is_empty() && tomorrow.day.is_empty() && tomorrow.known.len() == 2,
        "{tomorrow:?}"
    );
    let other = spent_at(&reader, "K-2", "2026-11-21T18:00:00Z", None);
    let units: Vec<_> = other.open.iter().map(|open| open.unit.as_str()).collect();
    assert_eq!(units, ["P24 A"], "the unit in doubt");
    assert_eq!(Spent { open: Vec::new(), ..other }, Spent::default());
}

/// Returns what a client got, asked at a wall time of the boot in which the sample was written.
fn spent_at(reader: &Reader, client: &str, wall: &str, monotonic: Option<(&str, u64)>) -> Spent {
    let (client, zones) = (ClientCode::new(client), [jiff::tz::TimeZone::UTC]);
    let (boot, monotonic_us) = monotonic.map_or((None, 0), |(boot, us)| (Some(boot), us));
    let wall = wall.parse().unwrap();
    let (plan_id, simulated) = ("knee-01", true);
    let until = None;
    let origin_us = monotonic_us;
    let asked = Asked {
        client: &client,
        plan_id,
        until,
        simulated,
        zones: &zones,
        wall,
        monotonic_us,
        origin_us,
        boot,
    };
    reader.spent(&asked).unwrap()
}

/// A gun's uncertain dose, closed at its battery's end; the guard proves a stop 30 s after its begin.
fn write_uncertain(journal: &mut Journal) -> Dose {
    let mut to = Writer::begin(journal, S1, 0);
    to.add(10, Entry::ReadBack { by: therapist(), client: ClientCode::new("K-0417") });
    let mut dose = bout(7, 60_000, 160_000, 1750, 0);
    dose.evidence = Evidence::Uncertain;
    dose.lower = None;
    dose.on_us = (4 * SECOND, 100 * SECOND);
    dose.speed_us = (0, 100 * SECOND * 1750);
    to.add(161_000, Entry::Dose(dose.clone()));
    journal.seal(stamp(162_000)).unwrap();
    dose
}

/// SR-43: the guard's journal narrows, a person resolves inside the bounds that the screen showed; both stay on record,
/// neither widens, heard twice they change nothing, and the budget follows.
#[test]
fn sr_43_an_uncertain_dose_is_narrowed_and_resolved_and_the_record_keeps_both() {
    use doseward::record::settle::{NarrowedBy, Resolve, Resolving};
    let mut journal = Journal::in_memory().unwrap();
    let dose = write_uncertain(&mut journal);
    let session = SessionId::new(S1);
    let seconds = Duration::from_secs;
    let counted = |journal: &Journal| {
        let spent = spent_at(&journal.reader().unwrap(), "K-0417", "2026-11-21T18:00:00Z", None);
        (spent.day[&Modality::Percussion].as_secs(), spent.open.len())
    };
    assert_eq!(counted(&journal), (100, 1));
    let mut narrow = |at: u64| {
        journal.narrow(stamp(200_000), &session, GUN, at * SECOND, NarrowedBy::GuardJournal).unwrap()
    };
    assert_eq!(narrow(90), [dose.id], "30 s after its begin, and a second of tail");
    assert_eq!(narrow(120), [], "a later proof says nothing more");
    assert_eq!(narrow(90), [], "the same proof says nothing more");
    assert_eq!(narrow(59), [], "a stop before it began says nothing of it");
    assert_eq!(counted(&journal), (31, 1));
    let resolve = |shown: u64, gave: u64, reason: &str| Resolve {
        session: session.clone(),
        dose: dose.id,
        shown: (seconds(4), seconds(shown)),
        gave: Some(seconds(gave)),
        by: therapist(),
        reason: reason.to_owned(),
    };
    let on = (seconds(4), seconds(31));
    let mut ask = |resolve: &Resolve| journal.resolve(stamp(210_000), resolve).unwrap();
    assert_eq!(
        ask(&resolve(100, 20, "seen")),
        Resolving::Stale(on),
        "it was narrowed after the screen was drawn"
    );
    assert_eq!(ask(&resolve(31, 3, "seen")), Resolving::Outside(on), "below what is certain");
    assert_eq!(ask(&resolve(31, 32, "seen")), Resolving::Outside(on), "a resolution never widens");
    assert_eq!(ask(&resolve(31, 20, " ")), Resolving::Unsigned);
    let nobody = Resolve { by: Actor { person: " ".to_owned(), ..therapist() }, ..resolve(31, 20, "seen") };
    assert_eq!(ask(&nobody), Resolving::Unsigned);
    assert_eq!(ask(&resolve(31, 20, "lifted off at once")), Resolving::Done);
    assert_eq!(ask(&resolve(31, 20, "said again")), Resolving::Already);
    assert_eq!(ask(&resolve(31, 10, "another one")), Resolving::Otherwise(seconds(20)));
    assert_eq!(counted(&journal), (20, 0));
    assert_eq!(
        journal.narrow(stamp(220_000), &session, GUN, 70 * SECOND, NarrowedBy::StopProven).unwrap(),
        [dose.id]
    );
    assert_eq!(counted(&journal), (11, 0), "a later source still narrows");
    let reader = journal.reader().unwrap();
    let kept = reader.doses(&session).unwrap().pop().unwrap();
    assert_eq!((kept.dose.on_us, kept.bounds_us()), ((4 * SECOND, 100 * SECOND), (4 * SECOND, 11 * SECOND)));
    let resolved = kept.resolved.unwrap();
    assert_eq!((resolved.gave_us, resolved.reason.as_str()), (20 * SECOND, "lifted off at once"));
    assert!(verify::database(&reader, None).unwrap().sound());
}

/// SR-34: a wall clock stepped by a day, or over a change to summer time, neither revives nor changes a budget; what the
/// monotonic clock of this boot dates counts as it dates it. How long ago a bout ended does not come from the wall clock.
#[test]
fn sr_34_a_stepped_wall_clock_changes_no_budget() {
    let mut journal = Journal::in_memory().unwrap();
    let mut to = Writer { journal: &mut journal, next: 1 };
    let mut opened = head(S1);
    opened.boot = Some("boot-1".to_owned());
    to.journal.begin(&opened, stamp(0)).unwrap();
    to.add(61_000, Entry::Dose(bout(1, 0, 60_000, 1750, 0)));
    journal.seal(stamp(62_000)).unwrap();
    let reader = journal.reader().unwrap();
    // The session began at 5 000 s of that boot; it is asked 90 s after the bout.
    let now = 5_000 * SECOND + 150 * SECOND;
    let written = stamp(62_000).wall;
    let hours = |hours: i64| (written + jiff::SignedDuration::from_hours(hours)).to_string();
    for step in [0, -25, -24, -1, 1, 24, 25, 48] {
        let spent = spent_at(&reader, "K-0417", &hours(step), Some(("boot-1", now)));
        assert_eq!(spent.day[&Modality::Percussion].as_secs(), 60, "the clock is stepped by {step} h");
        let calf = place("calf", Side::Right);
        assert_eq!(spent.ago(Modality::Percussion, &calf), Some(Duration::from_secs(90)), "{step} h");
    }
    // Another boot: it was at least as long ago as this boot is old; set back, the day stays that of the newest entry.
    let other = spent_at(&reader, "K-0417", &hours(-24), Some(("boot-2", 12 * SECOND)));
    assert_eq!(other.ago(Modality::Percussion, &place("calf", Side::Right)), Some(Duration::from_secs(12)));
    let next_day = spent_at(&reader, "K-0417", &hours(25), Some(("boot-2", 12 * SECOND)));
    assert!(next_day.day.is_empty(), "the next day, after a restart of the machine");
}

/// SR-13: the low cap of a first visit is not lifted on the same day: not by another run, not by a crash.
#[test]
fn sr_13_a_first_visit_stays_one_all_day() {
    let mut journal = Journal::in_memory().unwrap();
    let mut to = Writer::begin(&mut journal, S1, 0);
    to.add(61_000, Entry::Dose(bout(1, 0, 60_000, 1750, 0)));
    journal.seal(stamp(62_000)).unwrap();
    let reader = journal.reader().unwrap();
    for (wall, known) in [
        ("2026-11-21T13:05:00Z", 0),
        ("2026-11-21T23:59:00Z", 0),
        ("2026-11-22T00:30:00Z", 0),
        ("2026-11-22T13:05:00Z", 1),
    ] {
        assert_eq!(spent_at(&reader, "K-0417", wall, None).known.len(), known, "{wall}");
    }
}

/// SR-43: an uncertain dose blocks its unit for another client too, without a word of the first client; his own area stays
/// free, and once it is resolved the unit is free.
#[test]
fn sr_43_a_unit_in_doubt_is_blocked_for_every_client() {
    use doseward::record::settle::{Resolve, Resolving};
    let mut journal = Journal::in_memory().unwrap();
    let dose = write_uncertain(&mut journal);
    let other = |journal: &Journal| spent_at(&journal.reader().unwrap(), "K-2", "2026-11-21T18:00:00Z", None);
    let spent = other(&journal);
    let [open] = spent.open.as_slice() else { panic!("{:?}", spent.open) };
    assert_eq!((open.unit.as_str(), &open.place, open.today), ("Theragun PRO B", &None, false));
    assert_eq!(Spent { open: Vec::new(), ..spent }, Spent::default(), "nothing else is another client's");
    let seconds = Duration::from_secs;
    let resolve = Resolve {
        session: SessionId::new(S1),
        dose: dose.id,
        shown: (seconds(4), seconds(100)),
        gave: None,
        by: therapist(),
        reason: "nobody saw it end".to_owned(),
    };
    assert_eq!(journal.resolve(stamp(210_000), &resolve).unwrap(), Resolving::Done);
    assert_eq!(other(&journal), Spent::default());
}

/// SR-34: a zone that the caller names takes nothing out of today: any zone's today counts, and so does half a day.
#[test]
fn sr_34_no_zone_of_the_caller_makes_the_day_shorter() {
    let mut journal = Journal::in_memory().unwrap();
    let mut to = Writer::begin(&mut journal, S1, 0);
    to.add(61_000, Entry::Dose(bout(1, 0, 60_000, 1750, 0)));
    journal.seal(stamp(62_000)).unwrap();
    let reader = journal.reader().unwrap();
    // In this zone midnight was two minutes after the bout.
    let named = jiff::tz::TimeZone::fixed(jiff::tz::Offset::from_seconds(10 * 3600 + 57 * 60).unwrap());
    let day = |wall: &str, zones: &[jiff::tz::TimeZone]| {
        let client = ClientCode::new("K-0417");
        let asked = Asked {
            client: &client,
            plan_id: "knee-01",
            until: None,
            simulated: true,
            zones,
            wall: wall.parse().unwrap(),
            monotonic_us: 0,
            origin_us: 0,
            boot: None,
        };
        reader.spent(&asked).unwrap().day.get(&Modality::Percussion).map_or(0, Duration::as_secs)
    };
    let own = jiff::tz::TimeZone::fixed(jiff::tz::offset(-12));
    assert_eq!(day("2026-11-21T13:05:00Z", std::slice::from_ref(&named)), 60, "four minutes ago");
    assert_eq!(
        day("2026-11-22T01:30:00Z", &[own.clone(), named.clone()]),
        60,
        "still today by the box's zone"
    );
    assert_eq!(day("2026-11-22T01:30:00Z", std::slice::from_ref(&named)), 0);
    assert_eq!(day("2026-11-22T13:30:00Z", &[own, named]), 0, "tomorrow in both");
}

/// SR-25: TENS that was given elsewhere before an earlier session makes its area numb in the next one too.
#[test]
fn sr_25_declared_tens_makes_its_area_numb_in_a_later_session_too() {
    let mut journal = Journal::in_memory().unwrap();
    let mut opened = head(S1);
    opened.boot = Some("boot-1".to_owned());
    journal.begin(&opened, stamp(0)).unwrap();
    let calf = place("calf", Side::Right);
    let declared =
        Declared { modality: Modality::Tens, place: calf.clone(), time: Duration::from_secs(1200) };
    Writer { journal: &mut journal, next: 1 }.add(10_000, Entry::Declared { by: therapist(), declared });
    journal.seal(stamp(20_000)).unwrap();
    let reader = journal.reader().unwrap();
    let numb = |minutes: u64| {
        let now = 5_010 * SECOND + minutes * 60 * SECOND;
        spent_at(&reader, "K-0417", "2026-11-21T14:00:00Z", Some(("boot-1", now))).numb
    };
    assert_eq!(numb(5), [(calf, Duration::from_secs(300))]);
    assert!(numb(30).is_empty(), "half an hour ago");
}

/// SR-13: a session that was cut short goes on in the next one: its time counts in the session's budget, it is no other
/// session of the week, and what was declared in it is not declared a second time. A session that was closed is over.
#[test]
fn sr_13_a_session_that_was_cut_short_goes_on_in_the_next_one() {
    let declared = |seconds: u64| Declared {
        modality: Modality::Percussion,
        place: place("low_back", Side::Left),
        time: Duration::from_secs(seconds),
    };
    let mut journal = Journal::in_memory().unwrap();
    let mut at = 0;
    let mut session = |journal: &mut Journal, cut: bool| {
        at += 1;
        let begin = at * 600_000;
        let mut to = Writer::begin(journal, &format!("01932e4a-5e00-7000-8000-00000000001{at}"), begin);
        if at == 2 {
            to.add(begin, Entry::Declared { by: therapist(), declared: declared(30) });
        }
        for step in [2, 1] {
            to.add(begin, Entry::Armed { step, by: therapist(), epoch: Epoch(step.into()) });
        }
        to.add(begin + 61_000, Entry::Dose(bout(1, begin, begin + 60_000, 1750, 0)));
        journal.progress_done(GUN, OUT).unwrap();
        journal.commit().unwrap();
        if !cut {
            journal.seal(stamp(begin + 62_000)).unwrap();
        }
    };
    let spent =
        |journal: &Journal| spent_at(&journal.reader().unwrap(), "K-0417", "2026-11-21T18:00:00Z", None);
    let course = |spent: &Spent| {
        let time = spent.continued.time.get(&Modality::Percussion).map_or(0, Duration::as_secs);
        (spent.sessions_in_week, time, spent.continued.sessions.len())
    };
    session(&mut journal, false);
    assert_eq!(course(&spent(&journal)), (1, 0, 0), "closed: the next one is another one");
    session(&mut journal, true);
    journal = journal.reopen().unwrap();
    journal.recover(stamp(1_300_000)).unwrap();
    let mut once = spent(&journal);
    assert_eq!(course(&once), (1, 60, 1), "cut short: the next one goes on with it");
    let lie = [("P24 A", "low_back", Side::Left), ("Theragun PRO B", "calf", Side::Right)];
    let lie = lie.map(|(unit, area, side)| (unit.to_owned(), place(area, side)));
    assert_eq!(once.continued.armed_on, lie.into());
    assert_eq!(once.day[&Modality::Percussion].as_secs(), 150);
    for (time, day) in [(30, 150), (30, 180), (20, 200)] {
        once.declare_again(declared(time));
        assert_eq!(once.day[&Modality::Percussion].as_secs(), day, "on record once, so taken out once");
    }
    session(&mut journal, true);
    journal = journal.reopen().unwrap();
    journal.recover(stamp(1_900_000)).unwrap();
    assert_eq!(course(&spent(&journal)), (1, 120, 2), "cut short twice");
    let tomorrow = spent_at(&journal.reader().unwrap(), "K-0417", "2026-11-22T18:00:00Z", None);
    assert_eq!(course(&tomorrow), (2, 0, 0), "another day");
    session(&mut journal, false);
    assert_eq!(course(&spent(&journal)), (2, 0, 0), "at last it was closed");
}

/// SR-43: a proof of stop in the next session ends what the same unit may have given in the one that crashed: on the
/// screen, in the budgets and on record alike. Another boot's clock says nothing, and a machine that slept makes it longer.
#[test]
fn sr_43_a_stop_proven_in_the_next_session_ends_the_doubt_of_the_one_before() {
    let mut journal = Journal::in_memory().unwrap();
    let mut opened = head(S1);
    opened.boot = Some("boot-1".to_owned());
    journal.begin(&opened, stamp(0)).unwrap();
    let mut dose = bout(7, 60_000, 160_000, 1750, 0);
    dose.evidence = Evidence::Uncertain;
    dose.lower = None;
    dose.on_us = (4 * SECOND, 100 * SECOND);
    dose.speed_us = (0, 100 * SECOND * 1750);
    Writer { journal: &mut journal, next: 1 }.add(161_000, Entry::Dose(dose));
    journal.seal(stamp(162_000)).unwrap();
    let asked = |boot: &str, after: u64, wall: u64| {
        let wall = stamp(wall * 1000).wall.to_string();
        spent_at(&journal.reader().unwrap(), "K-0417", &wall, Some((boot, (5_000 + after) * SECOND)))
    };
    let ahead = |spent: &Spent| spent.open[0].earlier.as_ref().map(|earlier| earlier.ahead.as_secs());
    assert_eq!(ahead(&asked("boot-2", 90, 90)), None);
    assert_eq!(ahead(&asked("boot-1", 90, 95)), Some(95), "it slept for five seconds");
    assert_eq!(ahead(&asked("boot-1", 90, 20)), Some(90), "the wall clock was set back");
    let spent = asked("boot-1", 90, 90);
    let bench = crate::support::bench::Bench::after(plan(), spent);
    let view = bench.governor.snapshot(bench.now);
    let [open] = view.unresolved.as_slice() else { panic!("{:?}", view.unresolved) };
    // 30 s after its begin, a stop within a quarter of a second, and a second of tail.
    assert_eq!(open.on.0.as_secs(), 4);
    assert!((31_000..31_300).contains(&open.on.1.as_millis()), "{:?}", open.on);
    let left = view.steps[0].area_left.as_millis();
    assert!((88_700..=89_000).contains(&left), "the budget follows: {left} ms");
    let ended: Vec<Entry> = bench
        .entries()
        .filter(|(_, entry)| matches!(entry, Entry::Ended { .. }))
        .map(|(_, entry)| entry.clone())
        .collect();
    assert_eq!(ended.len(), 1, "once");
    journal.begin(&head(S2), stamp(91_000)).unwrap();
    journal.append(stamp(92_000), Seq(1), &ended[0]).unwrap();
    journal.seal(stamp(93_000)).unwrap();
    let reader = journal.reader().unwrap();
    let kept = reader.doses(&SessionId::new(S1)).unwrap().pop().unwrap();
    let shown = (open.on.0.as_micros(), open.on.1.as_micros());
    assert_eq!((u128::from(kept.bounds_us().0), u128::from(kept.bounds_us().1)), shown, "as on the screen");
    assert!(verify::database(&reader, None).unwrap().sound());
}

// ---- tampering ----

/// Does with a database what only an attacker would.
fn tamper(dir: &Path, sql: &str) {
    rusqlite::Connection::open(dir.join(FILE)).unwrap().execute_batch(sql).unwrap();
}

/// Takes the triggers away, does it, and puts the triggers back as they were.
fn tamper_unseen(dir: &Path, sql: &str) {
    let connection = rusqlite::Connection::open(dir.join(FILE)).unwrap();
    let mut triggers = Vec::new();
    {
        let mut statement =
            connection.prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").unwrap();
        let rows =
            statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).unwrap();
        triggers.extend(rows.map(Result::unwrap));
    }
    for (name, _) in &triggers {
        connection.execute_batch(&format!("DROP TRIGGER {name}")).unwrap();
    }
    connection.execute_batch(sql).unwrap();
    for (_, sql) in &triggers {
        connection.execute_batch(sql).unwrap();
    }
}

fn audit(dir: &Path, anchor: Option<&str>) -> verify::Audit {
    verify::database(&Reader::open(dir).unwrap(), anchor).unwrap()
}

/// SR-35: the database itself refuses update, delete and replace.
#[test]
fn the_database_refuses_to_change_or_remove_an_entry() {
    let dir = tempfile::tempdir().unwrap();
    drop(sample_in(dir.path()));
    let connection = rusqlite::Connection::open(dir.path().join(FILE)).unwrap();
    for sql in [
        "UPDATE entry SET body = '{}' WHERE seq = 3",
        "UPDATE entry SET n = 99 WHERE seq = 3",
        "DELETE FROM entry WHERE seq = 3",
        "DELETE FROM entry",
        "INSERT OR REPLACE INTO entry SELECT n, v, session, seq, mono_us, wall, kind, '{}', prev_hash, hash, NULL FROM entry WHERE seq = 3",
        "INSERT OR REPLACE INTO entry SELECT NULL, v, session, seq, mono_us, wall, kind, '{}', prev_hash, hash, NULL FROM entry WHERE seq = 3",
    ] {
        let refused = connection.execute_batch(sql).unwrap_err();
        assert!(refused.to_string().contains("append-only"), "{sql}: {refused}");
    }
    assert!(audit(dir.path(), None).sound());
}

/// SR-35: every kind of damage is found and named with its session and entry.
#[test]
fn damage_of_a_database_is_found_and_named() {
    let cases: [(&str, &str, What); 9] = [
        ("edited body", "UPDATE entry SET body = replace(body, '1750', '1700') WHERE seq = 4", What::Edited),
        ("edited wall", "UPDATE entry SET wall = '2026-11-21T13:00:00.011000Z' WHERE seq = 4", What::Edited),
        ("removed", "DELETE FROM entry WHERE seq = 4", What::Missing { expected: 4 }),
        (
            "swapped",
            "UPDATE entry SET n = -5 WHERE seq = 4; UPDATE entry SET n = 5 WHERE seq = 5; UPDATE entry SET n = 6 WHERE n = -5",
            What::Moved { expected: 6 },
        ),
        ("link", "UPDATE entry SET prev_hash = hash WHERE seq = 4", What::Link),
        ("no head", "DELETE FROM entry WHERE seq = 0", What::NotOpened),
        ("other session", "UPDATE entry SET session = 'x' WHERE seq = 4", What::Scattered),
        (
            "a signature where none can be",
            "UPDATE entry SET signature = x'00' WHERE seq = 4",
            What::Unreadable { why: "version 1 has no signature, this entry has one".to_owned() },
        ),
        ("kind", "UPDATE entry SET kind = 'lease' WHERE seq = 4", What::Edited),
    ];
    for (name, sql, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        drop(sample_in(dir.path()));
        tamper_unseen(dir.path(), sql);
        let audit = audit(dir.path(), None);
        assert!(audit.damage.iter().any(|damage| damage.what == expected), "{name}: {audit}");
        assert!(audit.to_string().contains("damaged"), "{audit}");
        assert!(
            matches!(Journal::open(dir.path()), Err(RecordError::Damaged { .. })),
            "{name}: nothing is written on"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    drop(sample_in(dir.path()));
    tamper(dir.path(), "DROP TRIGGER entry_no_update");
    let name = "entry_no_update".to_owned();
    assert!(
        audit(dir.path(), None)
            .damage
            .iter()
            .any(|damage| damage.what == What::Trigger { name: name.clone() })
    );
}

/// SR-35: a whole session cannot be taken out unnoticed; a cut tail shows against the anchor, and without one the
/// verifier says up to where it vouches.
#[test]
fn a_removed_session_is_found_and_a_cut_tail_with_the_anchor() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    let first = write_sample(&mut journal);
    write_crashed(&mut journal, S2);
    let second = journal.seal(stamp(420_000)).unwrap();
    let spaced = format!("{} {}", &second[..32].to_uppercase(), &second[32..]);
    drop(journal);
    let whole = audit(dir.path(), Some(&spaced));
    assert!(whole.sound() && whole.anchored == Some(true), "{whole}");
    assert!(audit(dir.path(), None).to_string().contains("complete up to its own end"));

    let copy = copy_of(dir.path());
    tamper_unseen(copy.path(), &format!("DELETE FROM entry WHERE session = '{S1}'"));
    assert!(audit(copy.path(), None).damage.iter().any(|damage| damage.what == What::Link));

    let copy = copy_of(dir.path());
    let cut = format!(
        "DELETE FROM entry WHERE session = '{S2}'; UPDATE sqlite_sequence SET seq = (SELECT max(n) FROM entry)"
    );
    tamper_unseen(copy.path(), &cut);
    let blind = audit(copy.path(), None);
    assert!(blind.sound() && blind.to_string().contains("up to its own end"), "{blind}");
    assert!(audit(copy.path(), Some(&first)).sound());
    let found = audit(copy.path(), Some(&second));
    assert!(found.damage.iter().any(|damage| damage.what == What::Anchor), "{found}");

    let copy = copy_of(dir.path());
    tamper_unseen(copy.path(), &format!("DELETE FROM entry WHERE session = '{S2}'"));
    assert!(!audit(copy.path(), None).sound(), "the database itself has counted the removed rows");
    let refused = Journal::open(copy.path()).unwrap_err();
    assert!(matches!(refused, RecordError::Damaged { .. }), "and nothing is written on: {refused}");
}

/// SR-35: a file that is no database, is empty or was cut off is damage, in words.
#[test]
fn a_file_that_is_no_database_or_was_cut_off_is_called_damaged() {
    let damaged = |error: RecordError| {
        let said = error.to_string();
        assert!(matches!(error, RecordError::Damaged { .. }), "{error:?}");
        assert!(!said.contains("code") && said.contains("Put the whole folder back"), "{said}");
    };
    let dir = tempfile::tempdir().unwrap();
    drop(sample_in(dir.path()));
    let path = dir.path().join(FILE);
    // At rest all of it is in the one file.
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(connection);
    let whole = std::fs::read(&path).unwrap();
    for bytes in [&whole[..whole.len() / 2], &[b'x'; 8192]] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), bytes).unwrap();
        damaged(Reader::open(dir.path()).and_then(|reader| reader.sessions()).unwrap_err());
        damaged(Journal::open(dir.path()).unwrap_err());
    }
    std::fs::write(&path, "").unwrap();
    damaged(Reader::open(dir.path()).unwrap_err());
}

fn copy_of(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in [FILE.to_owned(), format!("{FILE}-wal")] {
        if dir.join(&name).exists() {
            std::fs::copy(dir.join(&name), copy.path().join(&name)).unwrap();
        }
    }
    copy
}

#[derive(Clone, Debug)]
enum Tamper {
    Remove(usize),
    Swap(usize, usize),
    Repeat(usize),
    Flip(usize, u8),
    Insert(usize, u8),
    Cut(usize),
}

fn tampering() -> impl Strategy<Value = Tamper> {
    prop_oneof![
        any::<usize>().prop_map(Tamper::Remove),
        (any::<usize>(), any::<usize>()).prop_map(|(one, other)| Tamper::Swap(one, other)),
        any::<usize>().prop_map(Tamper::Repeat),
        (any::<usize>(), 1u8..).prop_map(|(at, with)| Tamper::Flip(at, with)),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Tamper::Insert(at, byte)),
        any::<usize>().prop_map(Tamper::Cut),
    ]
}

fn tampered(bytes: &[u8], tamper: &Tamper) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let count = lines.len();
    let mut bytes = bytes.to_vec();
    let size = bytes.len();
    match *tamper {
        Tamper::Remove(at) => drop(lines.remove(at % count)),
        Tamper::Swap(one, other) => lines.swap(one % count, other % count),
        Tamper::Repeat(at) => lines.insert(at % count, lines[at % count].clone()),
        Tamper::Flip(at, with) => {
            bytes[at % size] ^= with;
            return bytes;
        }
        Tamper::Insert(at, byte) => {
            bytes.insert(at % (size + 1), byte);
            return bytes;
        }
        Tamper::Cut(at) => {
            bytes.truncate(at % size);
            return bytes;
        }
    }
    lines.concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// SR-35: removing, repeating, swapping, editing any entry of an export, or changing any byte of it, is found.
    #[test]
    fn any_change_of_an_export_is_found(tamper in tampering()) {
        let bytes = SAMPLE.with(Clone::clone);
        let changed = tampered(&bytes, &tamper);
        prop_assume!(changed != bytes);
        prop_assert!(!verify::export(&changed, None).sound());
    }
}

thread_local! {
    static SAMPLE: Vec<u8> = {
        let mut journal = Journal::in_memory().unwrap();
        write_sample(&mut journal);
        exported(&journal.reader().unwrap(), S1)
    };
}

/// SR-35: every single byte of an export counts.
#[test]
fn every_byte_of_an_export_counts() {
    let mut journal = Journal::in_memory().unwrap();
    let mut to = Writer::begin(&mut journal, S1, 0);
    to.add(1, Entry::Dose(tens(1, 0, 1000, 22)));
    journal.seal(stamp(2)).unwrap();
    let mut bytes = exported(&journal.reader().unwrap(), S1);
    assert!(verify::export(&bytes, None).sound());
    for at in 0..bytes.len() {
        let bit = 1u8 << (at % 8);
        bytes[at] ^= bit;
        assert!(!verify::export(&bytes, None).sound(), "byte {at}");
        bytes[at] ^= bit;
    }
}

/// SR-35: a line that means the same and is written otherwise is damage too: only the exact bytes count.
#[test]
fn an_export_has_one_exact_form() {
    let bytes = SAMPLE.with(Clone::clone);
    assert!(verify::export(&bytes, None).sound());
    let text = String::from_utf8(bytes).unwrap();
    for (old, new) in [
        ("{\"v\":1,", "{ \"v\":1,"),
        ("\"kind\":\"open\"", "\"kind\":\"\\u006fpen\""),
        (
            "\"v\":1,\"session\":\"01932e4a-5e00-7000-8000-000000000001\"",
            "\"session\":\"01932e4a-5e00-7000-8000-000000000001\",\"v\":1",
        ),
        ("{\"v\":1,", "{\"v\":1,\"note\":0,"),
        ("\n", "\r\n"),
        ("\n", "\n\n"),
    ] {
        let changed = text.replacen(old, new, 1);
        assert_ne!(changed, text, "{old}");
        let found = verify::export(changed.as_bytes(), None);
        assert!(found.damage.iter().any(|damage| matches!(damage.what, What::Form { .. })), "{old}: {found}");
    }
    assert!(!verify::export(b"", None).sound() && !verify::export(b"\n", None).sound());
}

#[test]
fn an_export_is_the_session_as_stored_and_an_open_session_has_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    let anchor = write_sample(&mut journal);
    let reader = journal.reader().unwrap();
    let bytes = exported(&reader, S1);
    let file = dir.path().join("session.jsonl");
    std::fs::write(&file, &bytes).unwrap();
    let audit = verify::path(&file, Some(&anchor)).unwrap();
    assert!(audit.sound() && audit.anchored == Some(true), "{audit}");
    let again: Vec<StoredEntry> =
        bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    assert_eq!(again, reader.entries(&SessionId::new(S1)).unwrap());
    assert!(!verify::export(&bytes, Some(&"0".repeat(64))).sound(), "another record's anchor");
    write_crashed(&mut journal, S2);
    let refused = export::session(&reader, &SessionId::new(S2), &mut Vec::new());
    assert!(matches!(refused, Err(RecordError::NotSealed { .. })));
}

// ---- crashes ----

/// Returns the kinds and numbers on disk.
fn on_disk(dir: &Path, session: &str) -> Vec<StoredEntry> {
    Reader::open(dir).and_then(|reader| reader.entries(&SessionId::new(session))).unwrap_or_default()
}

/// SR-32, SR-35: at whatever byte the log of the file system ends, the record is a prefix of what was appended, whole
/// up to the last commit that the copy holds, and sound.
#[test]
fn after_a_crash_at_any_byte_the_record_is_a_prefix_of_what_was_appended() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    let mut to = Writer::begin(&mut journal, S1, 0);
    let mut appended = vec![];
    for batch in 0..12u64 {
        for entry in every_entry().into_iter().take(usize::try_from(1 + batch % 5).unwrap()) {
            to.add(batch * 100, entry);
        }
        if batch % 3 == 1 {
            to.journal.progress(&tens(batch, 0, 1000 * batch + 1, 10)).unwrap();
        }
        to.journal.commit().unwrap();
        appended = on_disk(dir.path(), S1);
    }
    let log = std::fs::read(dir.path().join(format!("{FILE}-wal"))).unwrap();
    let mut lengths = std::collections::BTreeSet::new();
    for cut in (0..log.len()).step_by(977).chain([log.len()]) {
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(dir.path().join(FILE), copy.path().join(FILE)).unwrap();
        std::fs::write(copy.path().join(format!("{FILE}-wal")), &log[..cut]).unwrap();
        // Before the tables are durable there is no record yet: the journal makes one.
        let mut after = Journal::open(copy.path()).unwrap();
        let found = on_disk(copy.path(), S1);
        assert_eq!(found, appended[..found.len()], "cut at {cut}");
        lengths.insert(found.len());
        after.recover(stamp(1)).unwrap();
        assert!(audit(copy.path(), None).sound(), "cut at {cut}");
    }
    assert!(lengths.len() > 8, "only {lengths:?}: the cuts reached too few states");
    assert_eq!(lengths.last(), Some(&appended.len()), "the whole log holds everything committed");
}

/// SR-32: what was not committed is gone, what was is there.
#[test]
fn a_killed_writer_leaves_what_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    write_crashed(&mut journal, S1);
    journal.append(stamp(411_000), Seq(3), &Entry::Lease { alive: false }).unwrap();
    drop(journal);
    assert_eq!(on_disk(dir.path(), S1).len(), 3);
}

/// SR-32, SR-35: a process that appends as fast as it can is killed (kill -9) at random moments. Everything it was told
/// is durable is there, nothing is there twice or out of order, and the record is sound.
#[test]
fn a_killed_process_leaves_everything_that_it_was_told_is_durable() {
    use std::io::{BufRead as _, BufReader};
    let mut dice = Dice(7);
    for round in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["record::appends_until_killed", "--exact", "--ignored", "--nocapture"])
            .env("DOSEWARD_TEST_RECORD", dir.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let kill_at = 1 + dice.roll(150);
        let (mut told, mut lines) = (0, BufReader::new(child.stdout.take().unwrap()).lines());
        while told < kill_at {
            let line = lines.next().unwrap().unwrap();
            told = line.strip_prefix("durable ").map_or(told, |seq| seq.parse().unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            told = line.strip_prefix("durable ").and_then(|seq| seq.parse().ok()).unwrap_or(told);
        }
        let mut journal = Journal::open(dir.path()).unwrap();
        let found = on_disk(dir.path(), S1);
        let last = found.last().unwrap().seq;
        assert!(last >= told, "round {round}: told {told}, found {last}");
        assert!((0..).zip(&found).all(|(seq, entry)| entry.seq == seq));
        journal.recover(stamp(1)).unwrap();
        assert!(audit(dir.path(), None).sound(), "round {round}");
    }
}

#[test]
#[ignore = "the process that `a_killed_process_leaves_everything_that_it_was_told_is_durable` kills"]
fn appends_until_killed() {
    let Ok(dir) = std::env::var("DOSEWARD_TEST_RECORD") else { return };
    let mut journal = Journal::open(Path::new(&dir)).unwrap();
    let mut to = Writer::begin(&mut journal, S1, 0);
    for batch in 0..100_000 {
        for entry in every_entry().into_iter().take(3) {
            to.add(batch, entry);
        }
        to.journal.progress(&tens(batch, 0, batch + 1, 10)).unwrap();
        to.journal.commit().unwrap();
        println!("durable {}", to.next - 1);
    }
}

/// Figures, not a judgement: `cargo test --test main record::commit_times -- --ignored --nocapture`.
#[test]
#[ignore = "prints commit times of this machine"]
fn commit_times() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    let mut to = Writer::begin(&mut journal, S1, 0);
    let clock = doseward::clock::Clock::start();
    let mut micros: Vec<_> = (0..1000)
        .map(|millis| {
            let begin = clock.now();
            to.add(millis, intent(2, UNIT, pulses(15)));
            to.journal.commit().unwrap();
            clock.now().since(begin).as_micros()
        })
        .collect();
    micros.sort_unstable();
    println!("append and commit of an intent, 1000 times: p50 {} us, p99 {} us", micros[500], micros[990]);
}

/// What recovery added to a session.
fn recovered(journal: &Journal, session: &str) -> Vec<(RestsOn, DoseBody)> {
    let entries = journal.reader().unwrap().entries(&SessionId::new(session)).unwrap();
    let bodies = entries.iter().map(|entry| entry.read().unwrap());
    bodies
        .filter_map(|body| {
            if let Body::Recovered { rests_on, dose, .. } = body { Some((rests_on, *dose)) } else { None }
        })
        .collect()
}

/// Runs `write`, lets the daemon die, recovers with `proofs`, and returns what was added.
fn after_crash(proofs: &[GuardUnit], write: impl FnOnce(&mut Writer<'_>)) -> Vec<(RestsOn, DoseBody)> {
    let mut journal = Journal::in_memory().unwrap();
    let mut to = Writer::begin(&mut journal, S1, 0);
    write(&mut to);
    journal.commit().unwrap();
    let mut journal = journal.reopen().unwrap();
    assert_eq!(journal.unsealed().unwrap(), [SessionId::new(S1)]);
    assert!(matches!(journal.begin(&head(S2), stamp(0)), Err(RecordError::Unsealed { .. })));
    let act = GuardAct {
        session: SessionId::new(S1),
        why: "died".to_owned(),
        said: "It has died.".to_owned(),
        at_us: 5000 * SECOND,
        units: proofs.to_vec(),
    };
    let acts: Vec<GuardAct> = if proofs.is_empty() { Vec::new() } else { vec![act] };
    assert_eq!(journal.recover_with(stamp(5), &acts).unwrap(), [SessionId::new(S1)]);
    assert!(journal.unsealed().unwrap().is_empty());
    let reader = journal.reader().unwrap();
    assert!(verify::database(&reader, None).unwrap().sound());
    assert_eq!(reader.sessions().unwrap()[0].sealed.unwrap().1, SealReason::DaemonRestart);
    recovered(&journal, S1)
}

/// SR-32, SR-43: a running dose becomes one uncertain interval: lower bounds from its progress row, upper end when the
/// unit has stopped by itself at the latest, at the highest intensity that an intent allowed.
#[test]
fn a_progress_row_becomes_one_uncertain_dose_with_both_bounds() {
    let found = after_crash(&[], |to| {
        to.add(1000, Entry::Armed { step: 2, by: therapist(), epoch: Epoch(4) });
        to.add(2000, intent(2, UNIT, pulses(15)));
        to.journal.progress(&tens(7, 2000, 10_000, 15)).unwrap();
        to.add(10_500, intent(2, UNIT, pulses(18)));
    });
    let [(RestsOn::Progress, dose)] = found.as_slice() else { panic!("{found:?}") };
    let until = 10_500_000 + UNHEARD_US + 2 * SECOND;
    assert_eq!((dose.id, dose.from_us, dose.until_us), (7, 2_000_000, until));
    assert_eq!((dose.evidence.as_str(), dose.lower), ("uncertain", None));
    assert_eq!((dose.on_min_us, dose.on_max_us), (8 * SECOND, until - 2_000_000));
    assert_eq!(Setpoint::from(dose.upper), pulses(18), "highest commanded, not highest heard");
    let more = (until - 10_000_000) / 10_000 + 1;
    assert_eq!((dose.pulses_min, dose.pulses_max), (800, 800 + more));
    assert_eq!(dose.charge_max_pc, 800 * 15_000 * 200 + more * 18_000 * 200);
}

/// SR-44: an intent without an outcome counts as sent; a void one does not.
#[test]
fn an_intent_without_outcome_counts_as_sent_and_a_void_one_does_not() {
    let found = after_crash(&[], |to| {
        let void = to.add(2000, intent(1, GUN, Setpoint::Speed(RawSpeed::from_raw(2000))));
        to.add(2100, Entry::IntentVoid { intent: Seq(void), why: Refusal::TooSlow });
        to.add(3000, intent(2, UNIT, pulses(15)));
    });
    let [(RestsOn::Intent, dose)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((dose.device, dose.from_us, dose.on_min_us), (UNIT.0, 3_000_000, 0));
    assert_eq!(dose.until_us, 3_000_000 + UNHEARD_US + 2 * SECOND);
    assert_eq!(
        (dose.area.as_str(), dose.side.as_str(), dose.modality.as_str()),
        ("low_back", "left", "tens")
    );
}

/// SR-43: a gun runs on until its battery is empty, unless something proves that it stopped; a proof only brings the
/// end forward, and one from before the last word says nothing.
#[test]
fn a_gun_runs_on_for_its_battery_life_unless_the_guard_proves_its_stop() {
    let row = |to: &mut Writer<'_>| {
        to.add(2000, intent(1, GUN, Setpoint::Speed(RawSpeed::from_raw(1750))));
        to.journal.progress(&bout(1, 2000, 30_000, 1750, 0)).unwrap();
    };
    let proof = |unit: &str, at_ms: u64| GuardUnit {
        unit: unit.to_owned(),
        first_stop_us: None,
        confirmed_us: Some(5000 * SECOND + at_ms * 1000),
    };
    let until = |proofs: &[GuardUnit]| after_crash(proofs, row)[0].1.until_us;
    let battery = 30_000_000 + UNHEARD_US + 7200 * SECOND;
    assert_eq!(until(&[]), battery);
    assert_eq!(until(&[proof("Theragun PRO B", 30_400)]), 31_400_000, "proven zero and the stop tail");
    assert_eq!(until(&[proof("P24 A", 30_400)]), battery, "another unit");
    assert_eq!(until(&[proof("Theragun PRO B", 20_000)]), battery, "older than the last word");
    let both = [proof("Theragun PRO B", 40_000), proof("Theragun PRO B", 30_400)];
    assert_eq!(until(&both), 31_400_000, "in any order the first proof counts");
    assert_eq!(until(&[proof("Theragun PRO B", u64::from(u32::MAX))]), battery, "never later");
}

/// SR-13: what was given before a crash is of the day of the crash, though the guard's proof is recorded on the next morning.
#[test]
fn sr_13_a_recovered_dose_is_of_the_day_of_the_crash() {
    let mut journal = Journal::in_memory().unwrap();
    let mut to = Writer::begin(&mut journal, S1, 0);
    to.add(2000, intent(1, GUN, Setpoint::Speed(RawSpeed::from_raw(1750))));
    to.journal.progress(&bout(1, 2000, 30_000, 1750, 0)).unwrap();
    journal.commit().unwrap();
    let mut journal = journal.reopen().unwrap();
    let unit = GuardUnit {
        unit: "Theragun PRO B".to_owned(),
        first_stop_us: None,
        confirmed_us: Some(5000 * SECOND + 30_400_000),
    };
    let act = GuardAct {
        session: SessionId::new(S1),
        why: "died".to_owned(),
        said: "It has died.".to_owned(),
        at_us: 5000 * SECOND,
        units: vec![unit],
    };
    let next_morning = stamp(20 * 3_600_000);
    journal.recover_with(next_morning, &[act]).unwrap();
    let doses = journal.reader().unwrap().doses(&SessionId::new(S1)).unwrap();
    assert_eq!(doses.len(), 1);
    assert!(doses[0].recovered && doses[0].wall < stamp(60_000).wall, "{}", doses[0].wall);
}

/// SR-43: a stop proven on record ends the interval.
#[test]
fn a_stop_proven_on_record_ends_the_interval() {
    let proven = |device| Entry::StopProgress {
        device,
        generation: Generation(1),
        progress: StopProgress::Confirmed,
        after: Duration::from_millis(41),
    };
    let found = after_crash(&[], |to| {
        to.add(2000, intent(1, GUN, Setpoint::Speed(RawSpeed::from_raw(1750))));
        to.journal.progress(&bout(1, 2000, 30_000, 1750, 0)).unwrap();
        to.add(30_300, proven(UNIT));
        to.add(30_400, proven(GUN));
    });
    assert_eq!((found.len(), found[0].1.until_us), (1, 31_400_000));
}

/// SR-43: what is on record is never counted again; what follows it is.
#[test]
fn a_dose_on_record_is_not_counted_twice() {
    let found = after_crash(&[], |to| {
        to.add(2000, intent(2, UNIT, pulses(15)));
        to.journal.progress(&tens(1, 2000, 61_000, 15)).unwrap();
        to.add(62_000, Entry::Dose(tens(1, 2000, 62_000, 15)));
    });
    let [(RestsOn::Dose, dose)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((dose.id, dose.from_us, dose.on_min_us, dose.charge_min_pc), (2, 62_000_000, 0, 0));
    assert_eq!(dose.on_max_us, UNHEARD_US + 2 * SECOND);
}

/// An output at proven zero adds nothing, however often it ran before.
#[test]
fn an_output_at_proven_zero_adds_nothing() {
    let found = after_crash(&[], |to| {
        for (id, begin) in [(1, 2000), (2, 20_000)] {
            to.add(begin, intent(2, UNIT, pulses(15)));
            to.journal.progress(&tens(id, begin, begin + 5000, 15)).unwrap();
            to.journal.commit().unwrap();
            to.add(begin + 6000, Entry::Dose(tens(id, begin, begin + 6000, 15)));
            to.journal.progress_done(UNIT, OUT).unwrap();
        }
    });
    assert!(found.is_empty(), "{found:?}");
}

/// A program in its rest may rise again without a new intent: it is not at rest for recovery until its step ended.
#[test]
fn a_program_in_its_rest_may_have_risen_again() {
    let mut dose = tens(1, 2000, 14_000, 15);
    (dose.step, dose.modality) = (3, Modality::Nmes);
    let rest = |to: &mut Writer<'_>| {
        to.add(2000, intent(3, UNIT, pulses(15)));
        to.add(14_000, Entry::Dose(dose.clone()));
        to.journal.progress_done(UNIT, OUT).unwrap();
    };
    let found = after_crash(&[], rest);
    assert_eq!((found.len(), found[0].1.until_us), (1, 14_000_000 + 30 * SECOND + UNHEARD_US + 2 * SECOND));
    let proof = GuardUnit {
        unit: "P24 A".to_owned(),
        first_stop_us: None,
        confirmed_us: Some(5000 * SECOND + 14_400_000),
    };
    let found = after_crash(&[proof], rest);
    assert_eq!((found.len(), found[0].1.until_us), (1, 14_400_000), "the guard stopped it while it rested");
    let found = after_crash(&[], |to| {
        rest(to);
        to.add(15_000, Entry::Stopped { step: 3, reason: StopReason::Completed, generation: Generation(0) });
    });
    assert!(found.is_empty(), "{found:?}");
}

/// A session closed while a unit never proved its stop keeps the running dose as uncertain.
#[test]
fn sealing_with_a_running_row_keeps_it_as_uncertain() {
    let mut journal = Journal::in_memory().unwrap();
    write_crashed(&mut journal, S1);
    journal.seal(stamp(412_000)).unwrap();
    let found = recovered(&journal, S1);
    assert_eq!((found.len(), found[0].1.on_min_us), (1, 8 * SECOND));
    let reader = journal.reader().unwrap();
    assert_eq!(reader.sessions().unwrap()[0].sealed.unwrap().1, SealReason::Closed);
    journal.begin(&head(S2), stamp(413_000)).unwrap();
    journal.commit().unwrap();
    assert!(verify::database(&journal.reader().unwrap(), None).unwrap().sound());
}

/// Makes the same numbers from the same seed, everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// A stimulator that is driven by rough rules: what it truly gave, and what the record was told.
#[derive(Default)]
struct Driven {
    now: u64,
    /// Present current, mA, and since when.
    level: u32,
    since: u64,
    target: u32,
    next_dose: u64,
    /// Truth: output time in ms, and current × time in mA·ms.
    on: u64,
    area: u64,
    /// Last durable progress of the present dose.
    progress_at: u64,
}

impl Driven {
    fn close(&mut self, to: &mut Writer<'_>) {
        if self.level > 0 && self.now > self.since {
            to.add(self.now, Entry::Dose(tens(self.next_dose, self.since, self.now, self.level)));
            self.next_dose += 1;
        }
        self.since = self.now;
    }

    /// One step of 50 ms.
    fn advance(&mut self, to: &mut Writer<'_>, dice: &mut Dice) {
        self.now += 50;
        self.on += if self.level > 0 { 50 } else { 0 };
        self.area += u64::from(self.level) * 50;
        if self.target == 0 && dice.roll(15) == 0 || self.level > 0 && dice.roll(60) == 0 {
            self.target = u32::try_from(1 + dice.roll(40)).unwrap();
            let rises = self.target > self.level;
            let seq = if rises { to.add(self.now, intent(2, UNIT, pulses(self.target))) } else { 0 };
            to.journal.commit().unwrap();
            if rises && dice.roll(8) == 0 {
                to.add(self.now, Entry::IntentVoid { intent: Seq(seq), why: Refusal::TooSlow });
                self.target = self.level;
            }
        } else if self.level > 0 && dice.roll(25) == 0 {
            self.stop(to, dice);
        } else if self.level != self.target && self.now.is_multiple_of(200) {
            self.close(to);
            let up = self.level + 4;
            self.level = self.target.min(up);
        } else if self.level > 0 && self.now >= self.progress_at + 1000 {
            let dose = tens(self.next_dose, self.since, self.now.max(self.since + 1), self.level);
            to.journal.progress(&dose).unwrap();
            to.journal.commit().unwrap();
            self.progress_at = self.now;
        }
    }

    fn stop(&mut self, to: &mut Writer<'_>, dice: &mut Dice) {
        to.add(
            self.now,
            Entry::Stopped { step: 2, reason: StopReason::TherapistRequest, generation: Generation(1) },
        );
        self.close(to);
        (self.level, self.target) = (0, 0);
        to.journal.progress_done(UNIT, OUT).unwrap();
        if dice.roll(2) == 0 {
            to.journal.commit().unwrap();
        }
    }
}

/// SR-32, SR-43, SR-44: killed at 2 000 random points with output rising, running, held, stopping; the unit runs on for
/// a random time up to its time-out. The truth lies between the bounds, the lower bound is behind it by a second at
/// most (and what ran on), and nothing is added to a session that was at zero.
#[test]
fn killed_at_any_point_the_bounds_hold_the_truth() {
    let (mut open, mut closed, mut widest) = (0u32, 0u32, 0u64);
    for seed in 0..2000 {
        let mut dice = Dice(seed);
        let mut journal = Journal::in_memory().unwrap();
        let mut to = Writer::begin(&mut journal, S1, 0);
        to.add(0, Entry::Armed { step: 2, by: therapist(), epoch: Epoch(1) });
        let mut unit = Driven { next_dose: 1, ..Driven::default() };
        for _ in 0..20 + dice.roll(300) {
            unit.advance(&mut to, &mut dice);
        }
        let ran_on = if unit.level > 0 { dice.roll(2001) } else { 0 };
        let (on, area) = (unit.on + ran_on, unit.area + u64::from(unit.level) * ran_on);
        let mut journal = journal.reopen().unwrap();
        if journal.recover(stamp(1)).unwrap().is_empty() {
            // Killed before the first commit: no intent was durable, so nothing was given.
            assert_eq!(on, 0, "seed {seed}");
            continue;
        }
        let reader = journal.reader().unwrap();
        let doses = reader.doses(&SessionId::new(S1)).unwrap();
        let (mut least, mut most, mut charge) = (0, 0, (0, 0));
        for dose in &doses {
            let dose = &dose.dose;
            (least, most) = (least + dose.on_us.0 / 1000, most + dose.on_us.1 / 1000);
            charge.0 += dose.charge.0.picocoulombs();
            charge.1 += dose.charge.1.picocoulombs();
        }
        let added = doses.iter().filter(|dose| dose.recovered).count();
        assert!(added <= 1, "seed {seed}: one interval per output");
        assert!(least <= on && on <= most, "seed {seed}: {least} <= {on} <= {most} ms");
        // A pulse each 10 ms of 200 µs: charge in pC is mA·ms × 1000 × 200 / 10.
        let truth = area * 20_000;
        assert!(charge.0 <= truth && truth <= charge.1, "seed {seed}: {charge:?} {truth}");
        assert!(on - least <= ran_on + 1100, "seed {seed}: the lower bound is {} ms behind", on - least);
        if unit.level > 0 {
            assert!(added == 1, "seed {seed}: output was on");
            let top = doses.iter().map(|dose| dose.dose.upper.intensity().magnitude()).max();
            assert!(top >= Some(unit.level * 1000), "seed {seed}");
            widest = widest.max(on - least);
            open += 1;
        } else {
            closed += u32::from(added == 0);
        }
    }
    println!("{open} killed with output on, {closed} at zero; lower bound behind by at most {widest} ms");
    assert!(open > 500 && closed > 300, "{open} {closed}: too few of either kind");
}

// ---- old samples ----

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/records").join(name)
}

/// Records of every earlier schema stay readable for ever; add a sample with each new schema, change none.
#[test]
fn a_sample_of_every_schema_is_read_verified_and_written_on() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(data("v1.db"), dir.path().join(FILE)).unwrap();
    let anchor = std::fs::read_to_string(data("v1.anchor")).unwrap();
    let whole = audit(dir.path(), Some(&anchor));
    assert!(whole.sound() && whole.anchored == Some(true) && whole.entries > 20, "{whole}");
    let reader = Reader::open(dir.path()).unwrap();
    assert_eq!(reader.doses(&SessionId::new(S1)).unwrap().len(), 5);
    assert!(note::text(&reader, &SessionId::new(S1)).unwrap().contains("K-0417"));
    let file = std::fs::read(data("v1.jsonl")).unwrap();
    assert_eq!(exported(&reader, S1), file);
    assert!(verify::export(&file, Some(&anchor)).sound());
    let mut journal = Journal::open(dir.path()).unwrap();
    assert_eq!(journal.recover(stamp(500_000)).unwrap(), [SessionId::new(S2)]);
    assert!(audit(dir.path(), Some(&anchor)).sound());
}

/// A record at rest that this user may only read can be read. (The superuser may write anywhere: it shows nothing.)
#[test]
fn a_record_at_rest_is_read_where_nothing_can_be_written() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(data("v1.db"), dir.path().join(FILE)).unwrap();
    let allow =
        |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    allow(&dir.path().join(FILE), 0o400);
    allow(dir.path(), 0o500);
    let sessions = Reader::open(dir.path()).and_then(|reader| reader.sessions());
    allow(dir.path(), 0o700);
    assert_eq!(sessions.unwrap().len(), 2);
}

/// Writes the samples of schema 1. Run by hand once, when the schema was new; never for a released schema.
#[test]
#[ignore = "writes tests/data/records/v1.*"]
fn write_samples_of_schema_1() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    let anchor = write_sample(&mut journal);
    write_crashed(&mut journal, S2);
    let reader = journal.reader().unwrap();
    std::fs::write(data("v1.jsonl"), exported(&reader, S1)).unwrap();
    std::fs::write(data("v1.anchor"), format!("{anchor}\n")).unwrap();
    std::fs::write(data("v1.note.txt"), sample_note(&reader, S1)).unwrap();
    drop((reader, journal));
    std::fs::copy(dir.path().join(FILE), data("v1.db")).unwrap();
}

// ---- the note ----

fn sample_note(reader: &Reader, session: &str) -> String {
    let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(1));
    note::text_in(reader, &SessionId::new(session), &zone).unwrap()
}

/// The note says what was given, what is not certain, and what was alarming, in these very words.
#[test]
fn the_note_of_a_session_reads_as_a_therapist_would_write_it() {
    let mut journal = Journal::in_memory().unwrap();
    let anchor = write_sample(&mut journal);
    let text = sample_note(&journal.reader().unwrap(), S1);
    assert_eq!(text, std::fs::read_to_string(data("v1.note.txt")).unwrap());
    assert!(text.contains(&anchor) && text.lines().all(|line| line.chars().count() <= 100));
    for never in ["error", "failed", "invalid", "please", "successfully"] {
        assert!(!text.to_lowercase().contains(never), "{never}");
    }
}

#[test]
fn the_note_of_a_recovered_session_names_both_bounds_and_what_to_do() {
    let mut journal = Journal::in_memory().unwrap();
    write_crashed(&mut journal, S1);
    let mut journal = journal.reopen().unwrap();
    journal.recover(stamp(900_000)).unwrap();
    let text = sample_note(&journal.reader().unwrap(), S1);
    for part in [
        "cut short: doseward stopped working; the record was completed at 21 Nov 2026",
        "cut short when doseward stopped working",
        "Doseward stopped working while this output may have been on.",
        "No alarms before it was cut short.",
        "0:08 of output certain, up to 0:17 possible, at no more than 15 mA",
        "Ask the client what was felt",
    ] {
        assert!(one_line(&text).contains(part), "{part}: {text}");
    }
}

/// The note of the sample session that was cut short, in one line: with what the guard did, and the session after it in
/// this boot.
fn cut_short(acts: &[GuardAct], next: Option<&str>) -> String {
    let mut journal = Journal::in_memory().unwrap();
    let boot = |boot: &str, session| SessionHead { boot: Some(boot.to_owned()), ..head(session) };
    journal.begin(&boot("boot-1", S1), stamp(400_000)).unwrap();
    let mut to = Writer { journal: &mut journal, next: 1 };
    to.add(401_000, Entry::Armed { step: 2, by: therapist(), epoch: Epoch(4) });
    to.add(402_000, intent(2, UNIT, pulses(15)));
    let alarm = Alarm { cause: Cause::StopUnconfirmed, device: Some(UNIT), channel: None };
    to.add(409_000, Entry::Alarm { alarm, raised: true });
    to.journal.progress(&tens(1, 402_000, 410_000, 15)).unwrap();
    to.journal.commit().unwrap();
    let mut journal = journal.reopen().unwrap();
    journal.recover_with(stamp(900_000), acts).unwrap();
    if let Some(next) = next {
        journal.begin(&boot(next, S2), stamp(901_000)).unwrap();
        journal.seal(stamp(902_000)).unwrap();
    }
    one_line(&sample_note(&journal.reader().unwrap(), S1))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What cut a session short is said as it was: the box only when it was started again, and what the guard did as an alarm.
#[test]
fn the_note_says_what_cut_a_session_short_and_what_the_guard_did() {
    for same in [cut_short(&[], None), cut_short(&[], Some("boot-1"))] {
        assert!(same.contains("cut short: doseward stopped working;") && !same.contains("box"), "{same}");
        assert!(same.contains("Nothing in this record proves that it stopped."), "{same}");
    }
    let restarted = cut_short(&[], Some("boot-2"));
    assert!(restarted.contains("cut short: the box restarted;"), "{restarted}");
    assert!(restarted.contains("The box restarted while this output may have been on."), "{restarted}");
    let origin = head(S1).mono_origin_us;
    let stopped = |first: u64, proven: Option<u64>| GuardUnit {
        unit: "P24 A".to_owned(),
        first_stop_us: Some(origin + first * 1000),
        confirmed_us: proven.map(|proven| origin + proven * 1000),
    };
    let act = |unit: GuardUnit| GuardAct {
        session: SessionId::new(S1),
        why: "frozen".to_owned(),
        said: "The part of doseward that drives the units was frozen; it was ended.".to_owned(),
        at_us: origin + 411_000 * 1000,
        units: vec![unit],
    };
    let text = cut_short(&[act(stopped(411_000, Some(411_012)))], Some("boot-2"));
    for part in [
        "cut short: doseward stopped working;",
        "doseward's watch had to stop the units: The part of doseward that drives the units was frozen; it was ended. \
         P24 A: told to stop at once, seen to stop after 12 ms.",
        "It may still be running.",
        "Its stop was proven at ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("No alarms") && !text.contains("Nothing in this record proves"), "{text}");
    let text = cut_short(&[act(stopped(411_003, None))], None);
    assert!(text.contains("P24 A: told to stop after 3 ms; never seen to stop."), "{text}");
    assert!(text.contains("Nothing in this record proves that it stopped."), "{text}");
}

/// A reason that only points to an alarm is said in that alarm's words, and nothing in a note acts on a terminal.
#[test]
fn the_note_gives_the_alarms_own_reason_and_holds_no_control_characters() {
    use doseward::record::settle::Resolve;
    let mut journal = Journal::in_memory().unwrap();
    let dose = write_uncertain(&mut journal);
    let mut to = Writer::begin(&mut journal, S2, 300_000);
    let (reason, generation) = (StopReason::OtherText, Generation(1));
    to.add(301_000, Entry::Stopped { step: 1, reason, generation });
    let alarm = Alarm { cause: Cause::RecordFailing, device: None, channel: None };
    to.add(301_000, Entry::Alarm { alarm, raised: true });
    to.add(310_000, Entry::Stopped { step: 2, reason, generation });
    journal.seal(stamp(320_000)).unwrap();
    let text = one_line(&sample_note(&journal.reader().unwrap(), S2));
    assert!(text.contains("ended at 14:05:01: the record could not be written."), "{text}");
    assert!(text.contains("ended at 14:05:10: doseward stopped it."), "{text}");
    let resolve = Resolve {
        session: SessionId::new(S1),
        dose: dose.id,
        shown: (Duration::from_secs(4), Duration::from_secs(100)),
        gave: None,
        by: therapist(),
        reason: "\u{1b}[2Jgone".to_owned(),
    };
    journal.resolve(stamp(330_000), &resolve).unwrap();
    let text = sample_note(&journal.reader().unwrap(), S1);
    assert!(text.contains("[2Jgone") && !text.contains('\u{1b}'), "{text}");
}

/// What was given is said as it counts: as narrowed, and once a person has settled it, as settled; the rest stays beside it.
#[test]
fn the_note_says_an_uncertain_dose_as_it_was_narrowed_and_settled() {
    use doseward::record::settle::{NarrowedBy, Resolve};
    let mut journal = Journal::in_memory().unwrap();
    let dose = write_uncertain(&mut journal);
    let session = SessionId::new(S1);
    let note = |journal: &Journal| one_line(&sample_note(&journal.reader().unwrap(), S1));
    let wide = note(&journal);
    assert!(wide.contains("attachment ball, between 0:04 and 1:40 at up to"), "{wide}");
    journal.narrow(stamp(200_000), &session, GUN, 90 * SECOND, NarrowedBy::StopProven).unwrap();
    let narrow = note(&journal);
    assert!(narrow.contains("attachment ball, between 0:04 and 0:31 at up to"), "{narrow}");
    assert!(narrow.contains("up to 1:40 possible"), "what was there before stays: {narrow}");
    assert!(narrow.contains("Narrowed to between 0:04 and 0:31: its stop was proven later."), "{narrow}");
    assert!(!narrow.contains("if nobody stopped it by hand"), "{narrow}");
    let seconds = Duration::from_secs;
    let resolve = Resolve {
        session: session.clone(),
        dose: dose.id,
        shown: (seconds(4), seconds(31)),
        gave: Some(seconds(20)),
        by: therapist(),
        reason: "lifted off at once".to_owned(),
    };
    journal.resolve(stamp(210_000), &resolve).unwrap();
    let settled = note(&journal);
    let said = "attachment ball, 0:20 as a person settled it (known was between 0:04 and 0:31) at up to";
    assert!(settled.contains(said) && settled.contains("up to 1:40 possible"), "{settled}");
}

// ---- the record against the truth ----

/// Truth of the sample session: what simulated units would write that did just what the record says, with the gun
/// coasting for 200 ms after its stop and the hold of the stimulator arriving 1 s late.
fn truth() -> String {
    let mut lines = String::new();
    let mut line = |unit: &str, t_ms: u64, on_ms: u64, number: u64, current: u64, highest: u64| {
        let (t_us, on_us) = (5000 * SECOND + t_ms * 1000, on_ms * 1000);
        // A pulse each 10 ms: 90 s of them at 22 mA, the rest at 20 mA.
        let pulses = if current > 0 { on_ms / 10 } else { 0 };
        let charge = (pulses.min(9000) * 22_000 + pulses.saturating_sub(9000) * 20_000) * 200;
        lines.push_str(&format!(
            "{{\"clock\":\"monotonic\",\"t_us\":{t_us},\"unit\":\"{unit}\",\"channel\":0,\"on_us\":{on_us},\
             \"pulses\":{pulses},\"charge_pc\":{charge},\"speed_us\":{},\"present\":{current},\"highest\":{highest}}}\n",
            number * on_us
        ));
    };
    for (t, on) in [(0, 0), (2000, 0), (60_000, 58_000), (122_200, 120_200), (330_000, 120_200)] {
        line("Theragun PRO B", t, on, 1750, 0, 1750);
    }
    for (t, on) in
        [(0, 0), (150_000, 0), (200_000, 50_000), (240_000, 90_000), (261_000, 90_000), (282_000, 111_000)]
    {
        line("P24 A", t, on, 0, 1, 22_000);
    }
    lines
}

/// Runs the comparison; returns its exit code and what it printed.
fn compared(dir: &Path, truth: &str, more: &[&str]) -> (i32, String) {
    let file = dir.join("truth.jsonl");
    std::fs::write(&file, truth).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/compare.py");
    let mut command = std::process::Command::new("python3");
    let output = command.arg(script).arg(dir).arg(&file).args(more).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), said)
}

/// SR-32: the judge that shares no code with the record accepts the truth and finds every kind of falsehood.
#[test]
fn the_comparison_with_the_truth_accepts_what_is_true_and_finds_what_is_not() {
    let dir = tempfile::tempdir().unwrap();
    drop(sample_in(dir.path()));
    let truth = truth();
    let (code, said) = compared(dir.path(), &truth, &[]);
    assert_eq!(code, 0, "{said}");
    for part in ["calf right", "low_back left", "P24 A ch 0", "0 violations"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(compared(dir.path(), &truth, &["--expect-fail"]).0, 1);
    let last = |text: &str| truth.rfind(text).unwrap();
    let with =
        |at: usize, old: &str, new: &str| format!("{}{}", &truth[..at], truth[at..].replacen(old, new, 1));
    let cases = [
        (
            "more than recorded",
            with(last("\"on_us\":111"), "\"on_us\":111", "\"on_us\":113"),
            "TRUTH ABOVE RECORD",
        ),
        (
            "less than recorded",
            with(last("\"on_us\":111"), "\"on_us\":111", "\"on_us\":107"),
            "TRUTH BELOW RECORD",
        ),
        (
            "higher than recorded",
            truth.replace("\"highest\":22000", "\"highest\":22500"),
            "TRUTH ABOVE RECORD",
        ),
        ("a unit not on record", truth.replace("P24 A", "P24 B"), "no unit of the record"),
    ];
    for (name, changed, expected) in &cases {
        assert_ne!(*changed, truth, "{name}");
        let (code, said) = compared(dir.path(), changed, &[]);
        assert!(code == 1 && said.contains(expected), "{name}: {code} {said}");
        assert_eq!(compared(dir.path(), changed, &["--expect-fail"]).0, 0, "{name}");
    }
    assert_eq!(compared(dir.path(), "not json\n", &[]).0, 2);
    assert_eq!(compared(dir.path(), "", &[]).0, 1, "no truth is no proof");
}

/// A record that is right but uselessly wide is found too.
#[test]
fn the_comparison_finds_a_record_that_is_uselessly_wide() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    let mut to = Writer::begin(&mut journal, S1, 0);
    let mut wide = tens(1, 150_000, 210_000, 22);
    wide.on_us.0 = 0;
    to.add(211_000, Entry::Dose(wide));
    journal.seal(stamp(212_000)).unwrap();
    let line = truth().lines().find(|line| line.contains("5150000000")).unwrap().to_owned();
    let changed = line.replace(
        "\"t_us\":5150000000,\"unit\":\"P24 A\",\"channel\":0,\"on_us\":0",
        "\"t_us\":5210000000,\"unit\":\"P24 A\",\"channel\":0,\"on_us\":40000000",
    );
    let changed =
        changed.replace("\"pulses\":0,\"charge_pc\":0", "\"pulses\":6000,\"charge_pc\":26400000000");
    let (code, said) = compared(dir.path(), &format!("{line}\n{changed}\n"), &[]);
    assert!(code == 1 && said.contains("RECORD TOO WIDE") && !said.contains("TRUTH"), "{said}");
}
