//! The driver against the simulated unit, over a link driven by hand in virtual time.
#![allow(
    clippy::as_conversions,
    clippy::wildcard_enum_match_arm,
    reason = "tests pick a few variants and convert small numbers"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::codec::{self, Dialect, Message};
use super::driver::ScienceMode;
use super::epoch::{Running, Wave};
use crate::driver::frame::Splitter;
use crate::driver::{Driver, DriverInput, DriverOutput, SendOutcome};
use crate::governor::Cleared;
use crate::model::capability::{Capability, IntensityRange, PulseGrid, RateBasis, Telemetry};
use crate::model::command::{Channel, Command, CommandId, Epoch, Generation, Intensity, Setpoint};
use crate::model::limit::Limits;
use crate::model::packet::{Endpoint, Packet, Purpose, Received};
use crate::model::report::{EpochEnd, Report, StopProgress};
use crate::sim::stim::{PulseFault, Stimulator, StimulatorBehaviour};
use crate::sim::{SimDevice, SimEvent, SimInput, SimOutput};
use crate::units::{Microseconds, Milliamps, Mono};

const MS: Duration = Duration::from_millis(1);
const EPOCH: Epoch = Epoch(1);

fn capability(dialect: Dialect) -> Capability {
    let us = Microseconds::from_micros;
    let period_step = match dialect {
        Dialect::Sm3 => us(500),
        Dialect::Sm4 => us(250),
    };
    Capability {
        channels: dialect.channels(),
        intensity: IntensityRange::Current {
            step: Milliamps::from_microamps(500),
            max: Milliamps::from_milliamps(100),
        },
        pulse: Some(PulseGrid {
            width_step: us(1),
            width_min: us(10),
            width_max: us(500),
            period_step,
            period_min: us(1_000),
            period_max: us(1_000_000),
            gap: us(100),
        }),
        keep_alive: Some(Duration::from_secs(2)),
        stop_is_whole_unit: true,
        telemetry: Telemetry { suspect: 500 * MS, lost: 1000 * MS },
        acknowledge_within: 300 * MS,
        stop_tail: Duration::ZERO,
        battery_life: Duration::from_secs(36_000),
        contact_seen_from: Milliamps::from_milliamps(15),
        reports_force: false,
        reports_own_button: false,
        rate_basis: RateBasis::None,
        limits: Limits::default(),
    }
}

fn pulses(milliamps: u32) -> Setpoint {
    Setpoint::Pulses {
        current: Milliamps::from_milliamps(milliamps),
        width: Microseconds::from_micros(250),
        period: Microseconds::from_micros(20_000),
    }
}

/// Answers to what stops have cut off come late and are nothing new; one that comes twice is.
#[test]
fn late_answers_to_what_a_stop_has_cut_off_are_no_anomaly() {
    let strange = |bench: &Bench| {
        let of = |(_, report): &&(Mono, Report)| matches!(report, Report::Unintelligible { .. });
        bench.reports.iter().filter(of).count()
    };
    let mut bench = Bench::ready(Dialect::Sm4, 7);
    bench.renew(600);
    assert!(matches!(bench.sent.last().unwrap().message, Message::MlGetCurrentData { .. }));
    // The first by a signal, the second by who decides.
    bench.stop(4);
    bench.stop(5);
    bench.run(500 * MS);
    assert!(bench.progress(StopProgress::Confirmed, 5).is_some());
    assert_eq!(strange(&bench), 0, "{:?}", bench.reports);
    let mut bench = Bench::ready(Dialect::Sm4, 7);
    bench.renew(600);
    bench.stop(4);
    while bench.to_host.is_empty() {
        bench.run(MS / 10);
    }
    let (_, late) = bench.to_host.first_key_value().unwrap();
    let twice = Received { endpoint: Endpoint::Serial, bytes: [late.clone(), late.clone()].concat() };
    bench.drive(DriverInput::Received(&twice));
    assert_eq!(strange(&bench), 1, "{:?}", bench.reports);
}

/// A frame that reached the wire.
#[derive(Clone, Debug)]
struct Sent {
    at: Mono,
    packet: Packet,
    message: Message,
}

/// What the writer does with the next packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    Good,
    Fails(SendOutcome),
}

struct Bench {
    dialect: Dialect,
    driver: ScienceMode,
    unit: Stimulator,
    now: Mono,
    to_unit: BTreeMap<(Mono, usize), Vec<u8>>,
    to_host: BTreeMap<(Mono, usize), Vec<u8>>,
    count: usize,
    sent: Vec<Sent>,
    reports: Vec<(Mono, Report)>,
    writer: Writer,
    /// While it is frozen the driver gets neither ticks nor bytes.
    frozen: bool,
    /// Highest output that a stop frame left on any channel; the stop law.
    raised_by_stop: bool,
    next_id: u64,
}

impl Bench {
    fn new(dialect: Dialect, seed: u64) -> Self {
        Self::with(dialect, seed, StimulatorBehaviour::default())
    }

    fn with(dialect: Dialect, seed: u64, behaviour: StimulatorBehaviour) -> Self {
        Self {
            dialect,
            driver: ScienceMode::new(dialect, capability(dialect)),
            unit: Stimulator::new(dialect, "S-0042", seed, behaviour),
            now: Mono::from_millis(5),
            to_unit: BTreeMap::new(),
            to_host: BTreeMap::new(),
            count: 0,
            sent: Vec::new(),
            reports: Vec::new(),
            writer: Writer::Good,
            frozen: false,
            raised_by_stop: false,
            next_id: 0,
        }
    }

    /// A unit connected, identified and prepared.
    fn ready(dialect: Dialect, seed: u64) -> Self {
        let mut bench = Self::new(dialect, seed);
        bench.drive(DriverInput::Connected { generation: Generation(3) });
        bench.run(500 * MS);
        bench.prepare(EPOCH);
        assert!(bench.reported(&Report::Ready { epoch: EPOCH }), "{:?}", bench.reports);
        bench
    }

    fn prepare(&mut self, epoch: Epoch) {
        self.drive(DriverInput::Command(Cleared::for_test(Command::Prepare { epoch })));
        self.run(200 * MS);
    }

    fn drive(&mut self, input: DriverInput<'_>) {
        let mut out = Vec::new();
        self.driver.advance(self.now, input, &mut out);
        let mut outcomes = Vec::new();
        for output in out {
            match output {
                DriverOutput::Report(report) => self.reports.push((self.now, report)),
                DriverOutput::Send(packet) => {
                    let outcome = self.write(packet.clone());
                    outcomes.push((packet.id(), outcome));
                }
            }
        }
        for (id, outcome) in outcomes {
            self.drive(DriverInput::Sent { id, outcome });
        }
    }

    fn write(&mut self, packet: Packet) -> SendOutcome {
        let outcome = match self.writer {
            Writer::Fails(outcome) if outcome != SendOutcome::Late || packet.valid_until().is_some() => {
                outcome
            }
            Writer::Good | Writer::Fails(_) if packet.is_late(self.now) => SendOutcome::Late,
            Writer::Good | Writer::Fails(_) => SendOutcome::Written,
        };
        self.writer = Writer::Good;
        if matches!(outcome, SendOutcome::Written | SendOutcome::Unknown) {
            let frame = Splitter::new().push(packet.bytes()).remove(0).unwrap();
            let message = codec::decode(&frame, self.dialect).unwrap();
            self.to_unit.insert((self.now.saturating_add(MS / 10), self.count), packet.bytes().to_vec());
            self.count += 1;
            self.sent.push(Sent { at: self.now, packet, message });
        }
        outcome
    }

    fn unit(&mut self, input: SimInput<'_>) {
        let mut out = Vec::new();
        self.unit.advance(self.now, input, &mut out);
        for SimOutput::Send { bytes, delay, .. } in out {
            let due = self.now.saturating_add(delay).saturating_add(MS / 10);
            self.to_host.insert((due, self.count), bytes);
            self.count += 1;
        }
    }

    fn event(&mut self, event: SimEvent) {
        self.unit(SimInput::Event(event));
    }

    fn next(&self) -> Option<Mono> {
        let driver = self.driver.deadline().filter(|_| !self.frozen);
        let host = self.to_host.keys().next().map(|(at, _)| *at).filter(|_| !self.frozen);
        let unit = self.to_unit.keys().next().map(|(at, _)| *at);
        [driver, host, unit, self.unit.deadline()].into_iter().flatten().min()
    }

    fn run(&mut self, span: Duration) {
        let end = self.now.saturating_add(span);
        for turn in 0.. {
            assert!(turn < 200_000, "it turns on the spot at {}", self.now);
            let Some(at) = self.next().filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(at);
            self.step();
        }
        self.now = end;
        self.unit(SimInput::Tick);
    }

    fn step(&mut self) {
        if self.to_unit.first_key_value().is_some_and(|((at, _), _)| *at <= self.now) {
            let (_, bytes) = self.to_unit.pop_first().unwrap();
            self.unit(SimInput::Tick);
            let before = self.present();
            self.unit(SimInput::Received { endpoint: Endpoint::Serial, bytes: &bytes });
            let is_stop = matches!(
                Splitter::new().push(&bytes).remove(0).map(|frame| frame.command),
                Ok(4 | 34 | 58 | 62)
            );
            let after = self.present();
            self.raised_by_stop |= is_stop && before.iter().zip(&after).any(|(before, after)| after > before);
        } else if !self.frozen && self.to_host.first_key_value().is_some_and(|((at, _), _)| *at <= self.now) {
            let (_, bytes) = self.to_host.pop_first().unwrap();
            self.drive(DriverInput::Received(&Received { endpoint: Endpoint::Serial, bytes }));
        } else if !self.frozen && self.driver.deadline().is_some_and(|at| at <= self.now) {
            self.drive(DriverInput::Tick);
        } else {
            self.unit(SimInput::Tick);
        }
    }

    /// Runs with a renewal each 200 ms that holds for 600 ms.
    fn run_renewed(&mut self, span: Duration) {
        let end = self.now.saturating_add(span);
        while self.now < end {
            self.renew(600);
            self.run((200 * MS).min(end.since(self.now)));
        }
    }

    fn renew(&mut self, millis: u64) {
        let until = self.now.saturating_add(Duration::from_millis(millis));
        self.drive(DriverInput::Renew { until });
    }

    fn set(&mut self, channel: u8, setpoint: Setpoint) -> CommandId {
        self.set_in(EPOCH, channel, setpoint)
    }

    fn set_in(&mut self, epoch: Epoch, channel: u8, setpoint: Setpoint) -> CommandId {
        self.next_id += 1;
        let id = CommandId(self.next_id);
        let command = Command::Set { id, epoch, channel: Channel(channel), setpoint };
        self.drive(DriverInput::Command(Cleared::for_test(command)));
        id
    }

    fn finish(&mut self, channel: u8) -> CommandId {
        self.next_id += 1;
        let id = CommandId(self.next_id);
        let command = Command::Finish { id, epoch: EPOCH, channel: Channel(channel) };
        self.drive(DriverInput::Command(Cleared::for_test(command)));
        id
    }

    fn stop(&mut self, generation: u64) {
        self.drive(DriverInput::Command(Cleared::stop(Generation(generation))));
    }

    fn present(&self) -> Vec<u32> {
        self.unit.truth().iter().map(|channel| channel.present).collect()
    }

    fn silent(&self) -> bool {
        self.present().iter().all(|current| *current == 0)
    }

    fn pulses_given(&self) -> u64 {
        self.unit.truth().iter().map(|channel| channel.pulses).sum()
    }

    fn reported(&self, report: &Report) -> bool {
        self.reports.iter().any(|(_, found)| found == report)
    }

    fn ended(&self) -> Vec<EpochEnd> {
        self.reports
            .iter()
            .filter_map(|(_, report)| match report {
                Report::EpochEnded { cause, .. } => Some(*cause),
                _ => None,
            })
            .collect()
    }

    fn progress(&self, wanted: StopProgress, generation: u64) -> Option<Duration> {
        self.reports.iter().rev().find_map(|(_, report)| match report {
            Report::Stop { generation: Generation(found), progress, after }
                if *progress == wanted && *found == generation =>
            {
                Some(*after)
            }
            _ => None,
        })
    }

    fn commands(&self) -> Vec<u16> {
        self.sent.iter().map(|sent| sent.message.command()).collect()
    }

    fn last_update(&self) -> Vec<(u8, i16)> {
        let channels = self.sent.iter().rev().find_map(|sent| match &sent.message {
            Message::MlUpdate { channels } => Some(channels),
            _ => None,
        });
        channels.unwrap().iter().map(|pattern| (pattern.channel, pattern.points[0].half_milliamps)).collect()
    }
}

const BOTH: [Dialect; 2] = [Dialect::Sm3, Dialect::Sm4];

#[test]
fn a_connected_unit_is_stopped_then_proven_then_identified() {
    for dialect in BOTH {
        let mut bench = Bench::new(dialect, 1);
        bench.drive(DriverInput::Connected { generation: Generation(9) });
        bench.run(399 * MS);
        let expected: &[u16] = match dialect {
            Dialect::Sm3 => &[34, 62, 52, 50, 54],
            Dialect::Sm4 => &[34, 62, 52, 68],
        };
        assert_eq!(bench.commands(), expected, "{dialect:?}");
        let took = bench.progress(StopProgress::Confirmed, 9).unwrap();
        assert!(took < 60 * MS, "{took:?}");
        assert!(bench.progress(StopProgress::Written, 9).is_some());
        let identity = bench.reports.iter().find_map(|(_, report)| match report {
            Report::Identity(identity) => Some(identity.clone()),
            _ => None,
        });
        let identity = identity.unwrap();
        assert_eq!((identity.serial.as_str(), identity.firmware.as_str()), ("S-0042", "1.2.0"));
        assert_eq!(bench.reported(&Report::Battery(100)), dialect == Dialect::Sm3);
        bench.run(2000 * MS);
        assert!(
            bench.commands()[expected.len()..].iter().all(|command| *command == 62),
            "idle asks the status only"
        );
        assert!(bench.commands().len() >= expected.len() + 4);
    }
}

#[test]
fn a_unit_left_running_or_in_low_level_is_brought_to_zero_before_anything_else() {
    for start in [&[30u8, 32][..], &[0][..]] {
        let mut bench = Bench::new(Dialect::Sm4, 2);
        for command in start {
            let message = match command {
                30 => Message::MlInit { stop_all_channels_on_error: false },
                0 => Message::LlInit { measurement_type: 0, high_voltage: 0 },
                _ => Message::MlUpdate { channels: Vec::new() },
            };
            let bytes = codec::encode(0, &message, Dialect::Sm4).unwrap();
            bench.unit(SimInput::Received { endpoint: Endpoint::Serial, bytes: &bytes });
        }
        bench.to_host.clear();
        bench.drive(DriverInput::Connected { generation: Generation(1) });
        bench.run(300 * MS);
        assert_eq!((bench.unit.status(), bench.unit.high_voltage()), (0, 1));
        assert!(bench.progress(StopProgress::Confirmed, 1).is_some(), "{:?}", bench.reports);
        assert_eq!(bench.commands()[0], 34);
    }
}

#[test]
fn a_unit_of_the_other_kind_is_not_driven() {
    let mut bench = Bench::new(Dialect::Sm4, 3);
    bench.unit = Stimulator::new(Dialect::Sm3, "R3", 3, StimulatorBehaviour::default());
    bench.drive(DriverInput::Connected { generation: Generation(1) });
    bench.run(500 * MS);
    assert!(bench.reports.iter().any(|(_, report)| matches!(report, Report::Unusable { .. })));
    bench.prepare(EPOCH);
    assert!(!bench.commands().contains(&30));
}

#[test]
fn a_setpoint_is_polled_updated_and_polled_and_reaches_the_output() {
    for dialect in BOTH {
        let mut bench = Bench::ready(dialect, 4);
        let from = bench.sent.len();
        let id = bench.set(1, pulses(10));
        bench.run(40 * MS);
        assert_eq!(bench.commands()[from..], [36, 32, 36], "{dialect:?}");
        assert!(bench.reported(&Report::Acknowledged { id }));
        assert_eq!(bench.present()[1], 10_000);
        bench.run_renewed(1000 * MS);
        let truth = bench.unit.truth()[1];
        assert!((50..=53).contains(&truth.pulses), "{truth:?}");
        assert_eq!(truth.charge_pc, truth.pulses * 10_000 * 250);
        assert!(bench.reported(&Report::Measured { channel: Channel(1), running: true, intensity: None }));
        assert!(bench.ended().is_empty());
    }
}

#[test]
fn a_lowering_and_a_channel_set_to_zero_carry_the_others_unchanged() {
    let mut bench = Bench::ready(Dialect::Sm4, 5);
    bench.set(0, pulses(20));
    bench.set(3, pulses(30));
    bench.run_renewed(400 * MS);
    assert_eq!(bench.present()[..4], [20_000, 0, 0, 30_000]);
    let id = bench.set(3, pulses(12));
    bench.run(20 * MS);
    assert!(bench.reported(&Report::Acknowledged { id }));
    assert_eq!(bench.last_update(), [(0, 40), (3, 24)]);
    bench.set(0, pulses(0));
    bench.run(20 * MS);
    assert_eq!(bench.last_update(), [(3, 24)]);
    bench.set(3, pulses(0));
    bench.run(20 * MS);
    assert_eq!(bench.last_update(), []);
    assert!(bench.silent() && bench.ended().is_empty());
    bench.run_renewed(1500 * MS);
    bench.set(3, pulses(5));
    bench.run(30 * MS);
    assert_eq!(bench.present()[3], 5_000, "the epoch goes on at zero");
}

#[test]
fn every_update_that_raises_follows_a_good_answer_of_at_most_50_ms() {
    let mut bench = Bench::ready(Dialect::Sm4, 6);
    for step in 1..=40 {
        bench.renew(600);
        bench.set(0, pulses(step));
        bench.run(Duration::from_millis(u64::from(step) * 7 % 130));
    }
    for (at, update) in bench.sent.iter().enumerate().filter(|(_, sent)| sent.message.command() == 32) {
        let before = &bench.sent[at - 1];
        assert_eq!(before.message.command(), 36, "directly after a poll");
        assert!(update.at.since(before.at) <= 60 * MS);
        if let Some(after) = bench.sent.get(at + 1) {
            assert_eq!(after.message.command(), 36, "then a poll");
        }
    }
    assert!(bench.commands().iter().filter(|command| **command == 32).count() > 20);
}

#[test]
fn a_stop_leaves_in_the_same_call_even_in_the_middle_of_a_request() {
    for wait in [Duration::ZERO, MS, 3 * MS, 6 * MS, 9 * MS, 400 * MS] {
        let mut bench = Bench::ready(Dialect::Sm4, 7);
        let id = bench.set(0, pulses(40));
        bench.run_renewed(wait);
        let (from, asked) = (bench.sent.len(), bench.now);
        bench.stop(8);
        assert_eq!(bench.sent[from].message, Message::MlStop, "at {wait:?}");
        assert_eq!(bench.sent[from].packet.purpose(), Purpose::Stop);
        assert_eq!(bench.sent[from].at, asked);
        bench.run(250 * MS);
        assert!(bench.silent());
        assert!(bench.progress(StopProgress::Confirmed, 8).unwrap() < 60 * MS);
        assert_eq!(bench.ended(), [EpochEnd::Stopped]);
        let told = bench.reports.iter().filter(|(_, report)| {
            matches!(report, Report::Acknowledged { id: of } | Report::Unacknowledged { id: of }
                | Report::Refused { id: of, .. } if *of == id)
        });
        assert_eq!(told.count(), 1, "what became of the command is told once: {:?}", bench.reports);
        assert!(!bench.raised_by_stop);
    }
}

#[test]
fn a_stop_in_every_state_is_proven_again() {
    let mut bench = Bench::new(Dialect::Sm4, 8);
    bench.stop(4);
    bench.run(1500 * MS);
    assert!(bench.progress(StopProgress::Unconfirmed, 4).is_some(), "the link is down: said after a second");
    bench.drive(DriverInput::Connected { generation: Generation(4) });
    bench.run(300 * MS);
    assert!(bench.progress(StopProgress::Confirmed, 4).unwrap() > 1500 * MS);
    bench.stop(5);
    bench.run(100 * MS);
    assert!(bench.progress(StopProgress::Confirmed, 5).is_some(), "idle");
    bench.drive(DriverInput::Command(Cleared::for_test(Command::Prepare { epoch: EPOCH })));
    bench.stop(6);
    bench.run(200 * MS);
    assert_eq!(bench.ended(), [EpochEnd::Stopped], "a prepare that a stop overtakes is over");
    assert!(bench.progress(StopProgress::Confirmed, 6).is_some());
    assert_eq!(bench.unit.status(), 0);
}

#[test]
fn a_newer_stop_is_adopted_and_sent_at_once() {
    let mut bench = Bench::ready(Dialect::Sm4, 9);
    bench.event(SimEvent::Wedged(true));
    bench.stop(10);
    for generation in 11..15 {
        bench.run(100 * MS);
        let from = bench.sent.len();
        bench.stop(generation);
        assert_eq!(bench.sent[from].message, Message::MlStop);
    }
    let from = bench.sent.len();
    bench.stop(14);
    bench.stop(12);
    assert_eq!(bench.sent.len(), from, "an old or repeated stop adds nothing");
    bench.event(SimEvent::Wedged(false));
    bench.run(700 * MS);
    assert!(bench.progress(StopProgress::Confirmed, 14).is_some());
    assert!(bench.progress(StopProgress::Confirmed, 10).is_none());
}

#[test]
fn a_stop_without_answer_is_tried_thrice_then_reset_then_slowly_until_it_is_proven() {
    let mut bench = Bench::ready(Dialect::Sm4, 10);
    bench.set(0, pulses(20));
    bench.run_renewed(300 * MS);
    bench.event(SimEvent::Wedged(true));
    let from = bench.sent.len();
    bench.stop(7);
    bench.run(999 * MS);
    assert!(bench.progress(StopProgress::Unconfirmed, 7).is_none());
    bench.run(4100 * MS);
    assert!(bench.progress(StopProgress::Unconfirmed, 7).is_some());
    let tries: Vec<(u64, u16)> = bench.sent[from..]
        .iter()
        .map(|sent| (sent.at.since(bench.sent[from].at).as_millis() as u64, sent.message.command()))
        .collect();
    assert_eq!(tries[..5], [(0, 34), (300, 34), (600, 34), (900, 58), (1200, 34)]);
    assert_eq!(tries[5..8], [(2200, 34), (3200, 34), (4200, 34)]);
    assert!(bench.silent(), "its own two seconds ended it");
    bench.event(SimEvent::Wedged(false));
    bench.run(1500 * MS);
    assert!(bench.progress(StopProgress::Confirmed, 7).is_some());
}

#[test]
fn an_open_lead_or_a_failed_pulse_ends_the_epoch_and_nothing_resumes() {
    for (dialect, fault) in
        [(Dialect::Sm4, None), (Dialect::Sm3, None), (Dialect::Sm4, Some(PulseFault::Timeout))]
    {
        let mut bench = Bench::ready(dialect, 11);
        bench.set(0, pulses(20));
        bench.set(2, pulses(20));
        bench.run_renewed(400 * MS);
        match fault {
            None => bench.event(SimEvent::LeadOff(2, true)),
            Some(_) => bench.unit.break_channel(2, fault),
        }
        let off = bench.now;
        bench.run_renewed(300 * MS);
        let expected = match fault {
            None => EpochEnd::LeadOff(Channel(2)),
            Some(_) => EpochEnd::PulseError(Channel(2)),
        };
        assert_eq!(bench.ended(), [expected], "{dialect:?}");
        assert!(bench.silent());
        bench.event(SimEvent::LeadOff(2, false));
        bench.unit.break_channel(2, None);
        let given = bench.pulses_given();
        let from = bench.sent.len();
        let id = bench.set(0, pulses(1));
        bench.finish(0);
        bench.run_renewed(3000 * MS);
        assert_eq!(bench.pulses_given(), given, "nothing resumes by itself");
        assert!(bench.reported(&Report::Refused { id, why: "the unit is not prepared" }));
        assert!(bench.commands()[from..].iter().all(|command| matches!(command, 34 | 62)));
        assert!(bench.now.since(off) > 3000 * MS);
    }
}

#[test]
fn silence_of_the_unit_for_a_second_ends_the_epoch_with_a_stop() {
    let mut bench = Bench::ready(Dialect::Sm4, 12);
    bench.set(0, pulses(20));
    bench.run_renewed(400 * MS);
    bench.event(SimEvent::DropReplies(255));
    let from = bench.now;
    bench.run_renewed(1500 * MS);
    assert_eq!(bench.ended(), [EpochEnd::KeepAliveLost]);
    let at = bench.reports.iter().find(|(_, report)| matches!(report, Report::EpochEnded { .. })).unwrap().0;
    assert!(at.since(from) <= 1000 * MS && at.since(from) > 700 * MS);
    assert!(bench.silent());
}

#[test]
fn a_lost_acknowledge_ends_the_epoch_on_a_rise_and_repeats_a_lowering() {
    let mut bench = Bench::ready(Dialect::Sm4, 13);
    bench.set(0, pulses(20));
    bench.run_renewed(400 * MS);
    // The poll before it is answered, the update's acknowledge is lost.
    let id = bench.set(0, pulses(10));
    bench.run(6 * MS);
    assert_eq!(bench.commands().last(), Some(&32));
    bench.to_host.clear();
    bench.run_renewed(380 * MS);
    assert!(bench.reported(&Report::Unacknowledged { id }));
    assert!(
        bench.reported(&Report::Acknowledged { id }),
        "the repetition was acknowledged: {:?}",
        bench.reports
    );
    assert!(bench.ended().is_empty());
    assert_eq!(bench.present()[0], 10_000);
    let id = bench.set(0, pulses(11));
    while bench.commands().last() != Some(&32) {
        bench.run(MS);
    }
    bench.run(MS / 5);
    bench.to_host.clear();
    bench.run_renewed(400 * MS);
    assert!(bench.reported(&Report::Unacknowledged { id }));
    assert_eq!(bench.ended(), [EpochEnd::LostAcknowledgement]);
    assert!(bench.silent());
}

#[test]
fn a_lowering_waits_50_ms_for_an_answer_and_then_goes_without() {
    let mut bench = Bench::ready(Dialect::Sm4, 14);
    bench.set(0, pulses(20));
    bench.run_renewed(400 * MS);
    bench.event(SimEvent::DropReplies(1));
    let asked = bench.now;
    bench.set(0, pulses(4));
    bench.set(1, pulses(50));
    bench.run(60 * MS);
    let first = bench.sent.iter().find(|sent| sent.at > asked && sent.message.command() == 32).unwrap();
    assert!(first.at.since(asked) >= 50 * MS && first.at.since(asked) <= 51 * MS);
    let Message::MlUpdate { channels } = &first.message else { panic!("not an update") };
    assert_eq!(channels.len(), 1, "the rise is not in it");
    bench.run(50 * MS);
    assert_eq!(bench.present()[..2], [4_000, 50_000], "it follows after a good answer");
}

#[test]
fn the_lease_ends_with_a_stop_and_nothing_but_stop_and_status_follows() {
    let mut bench = Bench::ready(Dialect::Sm4, 15);
    bench.renew(700);
    let until = bench.now.saturating_add(700 * MS);
    bench.set(0, pulses(20));
    bench.run(3000 * MS);
    assert_eq!(bench.ended(), [EpochEnd::LeaseEnded]);
    assert!(bench.reported(&Report::LeaseEnded));
    let after: Vec<&Sent> = bench.sent.iter().filter(|sent| sent.at >= until).collect();
    assert_eq!(after[0].message, Message::MlStop);
    assert_eq!(after[0].at, until);
    assert!(after.iter().all(|sent| matches!(sent.message.command(), 34 | 62)));
    assert!(bench.silent());
}

#[test]
fn a_setpoint_without_any_renewal_lives_for_250_ms() {
    let mut bench = Bench::ready(Dialect::Sm4, 16);
    let asked = bench.now;
    bench.set(0, pulses(20));
    for sent in bench.sent.iter().filter(|sent| sent.at >= asked) {
        assert!(sent.packet.valid_until().unwrap() <= asked.saturating_add(250 * MS));
    }
    bench.run(251 * MS);
    assert!(bench.silent());
    assert_eq!(bench.ended(), [EpochEnd::LeaseEnded]);
}

#[test]
fn a_finish_takes_one_channel_out_and_raises_no_other() {
    for dialect in BOTH {
        let mut bench = Bench::ready(dialect, 17);
        bench.set(0, pulses(20));
        bench.set(1, pulses(16));
        bench.run_renewed(400 * MS);
        let from = bench.sent.len();
        let id = bench.finish(1);
        let rise = bench.set(0, pulses(30));
        bench.run(12 * MS);
        assert!(bench.reported(&Report::Acknowledged { id }));
        assert_eq!(bench.commands()[from..from + 2], [36, 32]);
        let Message::MlUpdate { channels } = &bench.sent[from + 1].message else { panic!("not an update") };
        assert_eq!(channels.len(), 1);
        assert_eq!(channels[0].points[0].half_milliamps, 40, "the rise waits");
        bench.run(30 * MS);
        assert!(bench.reported(&Report::Acknowledged { id: rise }));
        assert_eq!(bench.present()[..2], [30_000, 0]);
    }
}

#[test]
fn a_finish_without_answer_becomes_a_stop() {
    let mut bench = Bench::ready(Dialect::Sm4, 18);
    bench.set(0, pulses(20));
    bench.set(1, pulses(16));
    bench.run_renewed(400 * MS);
    bench.event(SimEvent::DropReplies(1));
    bench.finish(1);
    bench.run_renewed(360 * MS);
    assert_eq!(bench.ended(), [EpochEnd::KeepAliveLost]);
    assert!(bench.silent());
}

#[test]
fn what_the_wire_cannot_say_is_refused_and_gives_no_byte() {
    let us = Microseconds::from_micros;
    let wave = |current, width, period| Setpoint::Pulses {
        current: Milliamps::from_microamps(current),
        width: us(width),
        period: us(period),
    };
    for (dialect, setpoint, word) in [
        (Dialect::Sm4, wave(10_250, 250, 20_000), "current"),
        (Dialect::Sm4, wave(10_000, 501, 20_000), "width"),
        (Dialect::Sm4, wave(10_000, 9, 20_000), "width"),
        (Dialect::Sm4, wave(10_000, 250, 20_100), "period"),
        (Dialect::Sm3, wave(10_000, 250, 20_250), "period"),
        (Dialect::Sm4, wave(10_000, 500, 1_000), "together"),
        (Dialect::Sm4, Setpoint::Speed(crate::units::RawSpeed::from_raw(5)), "pulses"),
    ] {
        let mut bench = Bench::ready(dialect, 19);
        let from = bench.sent.len();
        let id = bench.set(0, setpoint);
        let refused = bench.reports.iter().any(|(_, report)| {
            matches!(report, Report::Refused { id: of, why } if *of == id && why.contains(word))
        });
        assert!(refused, "{setpoint:?}: {:?}", bench.reports.last());
        bench.run(20 * MS);
        assert_eq!(bench.sent.len(), from);
    }
    let mut bench = Bench::ready(Dialect::Sm4, 19);
    bench.set(0, wave(10_000, 250, 20_250));
    bench.run(30 * MS);
    assert_eq!(bench.present()[0], 10_000, "quarter milliseconds are on the P24's grid");
    for (epoch, channel) in [(Epoch(2), 0), (EPOCH, 8)] {
        let id = bench.set_in(epoch, channel, pulses(5));
        assert!(bench.reports.iter().any(|(_, r)| matches!(r, Report::Refused { id: of, .. } if *of == id)));
    }
}

#[test]
fn a_current_above_the_maximum_is_cut_at_the_last_barrier_and_said() {
    let mut bench = Bench::ready(Dialect::Sm4, 20);
    bench.set(0, pulses(120));
    bench.run(30 * MS);
    let of = |milliamps| Intensity::Current(Milliamps::from_milliamps(milliamps));
    assert!(bench.reported(&Report::Clamped { asked: of(120), sent: of(100) }));
    assert_eq!(bench.present()[0], 100_000);
}

#[test]
fn failed_writes_are_judged_by_what_they_say() {
    // Late: a rise is taken back, and not sent later; a lowering is sent again.
    let mut bench = Bench::ready(Dialect::Sm4, 21);
    bench.set(0, pulses(20));
    bench.run_renewed(400 * MS);
    for (current, after) in [(21, 20_000), (19, 19_000)] {
        bench.renew(600);
        bench.run(20 * MS);
        bench.writer = Writer::Fails(SendOutcome::Late);
        // The poll was just answered, so the next packet is the update.
        let id = bench.set(0, pulses(current));
        assert!(bench.reported(&Report::DroppedLate));
        bench.run_renewed(100 * MS);
        assert_eq!(bench.reported(&Report::Acknowledged { id }), after == 19_000);
        assert_eq!(bench.present()[0], after);
        assert!(bench.ended().is_empty());
    }
    // Busy: it was not sent, and is.
    bench.writer = Writer::Fails(SendOutcome::Busy);
    let id = bench.set(0, pulses(22));
    bench.run_renewed(100 * MS);
    assert!(bench.reported(&Report::Acknowledged { id }));
    assert_eq!(bench.present()[0], 22_000);
    // Unknown: a rise may have arrived.
    let id = bench.set(0, pulses(23));
    while !matches!(bench.writer, Writer::Fails(_)) && bench.commands().last() != Some(&32) {
        bench.run(MS / 10);
        if bench.commands().last() == Some(&36) {
            bench.writer = Writer::Fails(SendOutcome::Unknown);
        }
    }
    bench.run_renewed(400 * MS);
    assert!(bench.reported(&Report::Unacknowledged { id }));
    assert_eq!(bench.ended(), [EpochEnd::LostAcknowledgement]);
    assert!(bench.silent());
}

#[test]
fn a_channel_that_is_off_without_a_reason_ends_the_epoch() {
    for dialect in BOTH {
        let mut bench = Bench::ready(dialect, 26);
        bench.set(0, pulses(20));
        bench.run_renewed(400 * MS);
        // Somebody else's update.
        let bytes = codec::encode(63, &Message::MlUpdate { channels: Vec::new() }, dialect).unwrap();
        bench.unit(SimInput::Received { endpoint: Endpoint::Serial, bytes: &bytes });
        bench.run_renewed(300 * MS);
        assert_eq!(bench.ended(), [EpochEnd::UnexpectedStatus], "{dialect:?}");
    }
}

#[test]
fn a_reconnected_unit_is_stopped_and_identified_anew_and_stays_at_zero() {
    let mut bench = Bench::ready(Dialect::Sm4, 27);
    bench.set(0, pulses(20));
    bench.run_renewed(300 * MS);
    bench.drive(DriverInput::Disconnected);
    assert_eq!(bench.ended(), [EpochEnd::Disconnected]);
    bench.to_host.clear();
    bench.run(300 * MS);
    let from = bench.sent.len();
    bench.drive(DriverInput::Connected { generation: Generation(3) });
    bench.run(300 * MS);
    assert_eq!(bench.commands()[from..], [34, 62, 52, 68]);
    bench.run_renewed(1000 * MS);
    assert!(bench.silent() && bench.commands()[from + 4..].iter().all(|command| *command == 62));
}

#[test]
fn more_width_or_rate_is_a_rise_as_more_current_is() {
    let wave = |current, width, period| Wave {
        current: Milliamps::from_microamps(current),
        width: Microseconds::from_micros(width),
        period: Microseconds::from_micros(period),
    };
    let base = wave(10_000, 200, 20_000);
    let mut running = Running::new(EPOCH, 1, Mono::ORIGIN);
    running.outputs[0].sent = Some(base);
    running.outputs[0].acknowledged = Some(base);
    for (next, rises) in [
        (base, false),
        (wave(9_500, 100, 30_000), false),
        (wave(10_500, 200, 20_000), true),
        (wave(9_000, 201, 20_000), true),
        (wave(9_000, 200, 19_500), true),
    ] {
        assert_eq!(running.rises(&vec![Some(next)]), rises, "{next:?}");
        running.outputs[0].wanted = Some(next);
        assert!(!running.rises(&running.careful()), "{next:?}");
    }
    assert!(!running.rises(&vec![None]));
    // Sent and not acknowledged: what it surely gives is the lower of both.
    running.outputs[0].sent = Some(wave(8_000, 250, 20_000));
    assert!(running.rises(&vec![Some(wave(8_500, 200, 20_000))]));
    assert!(!running.rises(&vec![Some(wave(8_000, 200, 20_000))]));
    running.outputs[0].acknowledged = None;
    assert!(running.rises(&vec![Some(wave(500, 10, 20_000))]), "a channel that may be off is started by it");
}

#[test]
fn a_stop_refused_by_a_busy_writer_is_written_again_within_milliseconds() {
    let mut bench = Bench::ready(Dialect::Sm4, 22);
    bench.set(0, pulses(20));
    bench.run_renewed(400 * MS);
    bench.writer = Writer::Fails(SendOutcome::Busy);
    let asked = bench.now;
    bench.stop(5);
    bench.run(20 * MS);
    let stop = bench.sent.iter().find(|sent| sent.at >= asked && sent.message == Message::MlStop).unwrap();
    assert!(stop.at.since(asked) <= 5 * MS);
    assert!(bench.silent());
}

#[test]
fn replays_and_damage_are_no_sign_of_life() {
    let mut bench = Bench::ready(Dialect::Sm4, 23);
    bench.set(0, pulses(20));
    bench.event(SimEvent::DuplicateReplies(3));
    bench.run_renewed(400 * MS);
    let replays = |bench: &Bench| {
        bench.reports.iter().filter(|(_, r)| matches!(r, Report::Unintelligible { .. })).count()
    };
    assert_eq!(replays(&bench), 3);
    let alive = bench.reports.iter().filter(|(_, report)| *report == Report::Alive).count();
    let old = codec::encode(60, &Message::MlUpdateAck { result: 0 }, Dialect::Sm4).unwrap();
    for bytes in [old, vec![0xF0, 0x0F], vec![1, 2, 3], vec![0xF0; 40]] {
        bench.drive(DriverInput::Received(&Received { endpoint: Endpoint::Serial, bytes }));
    }
    assert_eq!(bench.reports.iter().filter(|(_, report)| *report == Report::Alive).count(), alive);
    assert!(replays(&bench) > 4);
    // An answer of the right kind with another number does not stand for the one that is awaited.
    bench.renew(600);
    let awaited = bench.sent.last().unwrap();
    assert_eq!(awaited.message.command(), 36);
    let number = Splitter::new().push(awaited.packet.bytes()).remove(0).unwrap().number;
    let data = codec::CurrentData::Channels { active: [true; 8], states: [1; 8] };
    let forged = Message::MlGetCurrentDataAck { result: 0, data };
    let bytes = codec::encode((number + 61) % 62, &forged, Dialect::Sm4).unwrap();
    bench.drive(DriverInput::Received(&Received { endpoint: Endpoint::Serial, bytes }));
    assert!(bench.ended().is_empty());
    bench.event(SimEvent::CorruptReplies(1));
    bench.run_renewed(600 * MS);
    assert!(bench.ended().is_empty(), "one damaged answer to a poll is survived");
}

#[test]
fn a_reboot_or_a_reset_behind_our_back_ends_the_epoch() {
    let mut bench = Bench::ready(Dialect::Sm4, 24);
    bench.set(0, pulses(20));
    bench.run_renewed(400 * MS);
    bench.event(SimEvent::Reboot);
    bench.run_renewed(1500 * MS);
    assert!(
        matches!(bench.ended()[..], [EpochEnd::KeepAliveLost | EpochEnd::Result(7)]),
        "{:?}",
        bench.ended()
    );
    assert!(bench.silent());
}

#[test]
fn every_reading_of_the_open_points_is_safe_and_works() {
    let base = StimulatorBehaviour::default;
    let readings = [
        StimulatorBehaviour { poll_result_on_error: 10, ..base() },
        StimulatorBehaviour { poll_result_on_error: 10, refusals_padded: false, ..base() },
        StimulatorBehaviour { error_leaves_running: false, ..base() },
        StimulatorBehaviour { empty_update_runs: false, ..base() },
        StimulatorBehaviour { errors_cleared_by_poll: true, ..base() },
        StimulatorBehaviour { sm3_error_stops_all: true, ..base() },
        StimulatorBehaviour { answers_damaged: false, reset_acknowledged: false, ..base() },
        StimulatorBehaviour { voltage_off_after_expiry: true, ml_stop_idle: 7, ..base() },
    ];
    for (at, reading) in readings.into_iter().enumerate() {
        for dialect in BOTH {
            let mut bench = Bench::with(dialect, at as u64, reading.clone());
            bench.drive(DriverInput::Connected { generation: Generation(1) });
            bench.run(500 * MS);
            bench.prepare(EPOCH);
            bench.set(0, pulses(20));
            bench.run_renewed(300 * MS);
            bench.set(0, pulses(0));
            bench.run_renewed(1200 * MS);
            bench.set(0, pulses(20));
            bench.run_renewed(300 * MS);
            assert_eq!(bench.present()[0], 20_000, "reading {at} {dialect:?}: {:?}", bench.reports);
            bench.event(SimEvent::LeadOff(0, true));
            bench.run_renewed(400 * MS);
            assert_eq!(bench.ended(), [EpochEnd::LeadOff(Channel(0))], "reading {at} {dialect:?}");
            bench.run(300 * MS);
            assert!(bench.progress(StopProgress::Confirmed, 1).is_some());
            assert_eq!(bench.unit.status(), 0);
        }
    }
}

#[test]
fn the_stop_script_stops_the_unit_behind_any_half_written_frame() {
    for dialect in BOTH {
        let mut bench = Bench::ready(dialect, 25);
        bench.set(0, pulses(20));
        bench.run_renewed(200 * MS);
        let half = bench.sent.iter().rev().find(|sent| sent.message.command() == 32).unwrap();
        let half = half.packet.bytes().to_vec();
        let script = bench.driver.stop_script().clone();
        assert_eq!(script.steps.len(), 2);
        for cut in 0..half.len() {
            let mut unit = Stimulator::new(dialect, "x", 1, StimulatorBehaviour::default());
            let mut out = Vec::new();
            let mut give = |unit: &mut Stimulator, bytes: &[u8], at| {
                let input = SimInput::Received { endpoint: Endpoint::Serial, bytes };
                unit.advance(Mono::from_millis(at), input, &mut out);
            };
            give(
                &mut unit,
                &codec::encode(0, &Message::MlInit { stop_all_channels_on_error: false }, dialect).unwrap(),
                1,
            );
            give(&mut unit, &half, 2);
            assert_eq!(unit.status(), 3);
            give(&mut unit, &half[..cut], 3);
            give(&mut unit, &script.resync, 4);
            for step in &script.steps {
                give(&mut unit, &step.bytes, 5);
            }
            assert_eq!((unit.status(), unit.high_voltage()), (0, 1), "cut at {cut}");
            let confirmed = script.steps.iter().filter_map(|step| step.confirm.as_ref()).any(|confirm| {
                out.iter().any(|SimOutput::Send { bytes, .. }| {
                    let compared = bytes.get(confirm.at..confirm.at + confirm.value.len());
                    compared.is_some_and(|compared| {
                        let masked: Vec<u8> =
                            compared.iter().zip(&confirm.mask).map(|(b, m)| b & m).collect();
                        masked == confirm.value
                    })
                })
            });
            assert!(confirmed, "cut at {cut}");
        }
    }
}

/// What the test does next.
#[derive(Clone, Debug)]
enum Move {
    Set(u8, u32),
    Finish(u8),
    Stop,
    Prepare,
    Renew(u64),
    Wait(u64),
    Freeze(u64),
    Write(SendOutcome),
    Event(SimEvent),
    Reconnect,
    Garbage(Vec<u8>),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let outcome = prop::sample::select(vec![SendOutcome::Late, SendOutcome::Unknown, SendOutcome::Busy]);
    let event = prop_oneof![
        (0u8..4, any::<bool>()).prop_map(|(channel, off)| SimEvent::LeadOff(channel, off)),
        any::<bool>().prop_map(SimEvent::Wedged),
        Just(SimEvent::Reboot),
        (1u8..4).prop_map(SimEvent::DropReplies),
        (1u8..4).prop_map(SimEvent::DropRequests),
        (1u8..3).prop_map(SimEvent::CorruptReplies),
        (1u8..3).prop_map(SimEvent::DuplicateReplies),
        (0u64..400).prop_map(|millis| SimEvent::DelayReplies(Duration::from_millis(millis))),
    ];
    let one = prop_oneof![
        8 => (0u8..4, 0u32..60).prop_map(|(channel, current)| Move::Set(channel, current)),
        2 => (0u8..4).prop_map(Move::Finish),
        1 => Just(Move::Stop),
        3 => Just(Move::Prepare),
        8 => (1u64..2500).prop_map(Move::Renew),
        10 => (0u64..400).prop_map(Move::Wait),
        1 => (1u64..2500).prop_map(Move::Freeze),
        1 => outcome.prop_map(Move::Write),
        2 => event.prop_map(Move::Event),
        1 => Just(Move::Reconnect),
        1 => prop::collection::vec(any::<u8>(), 0..20).prop_map(Move::Garbage),
    ];
    prop::collection::vec(one, 1..60)
}

/// What a run promised, in the test's own bookkeeping.
#[derive(Default)]
struct Oracle {
    epoch: u32,
    generation: u64,
    /// Highest current cleared per channel in the present epoch, half milliamps.
    cleared: BTreeMap<u8, i16>,
    /// End of the last lease, while the governor has said nothing after it.
    until: Option<Mono>,
    seen: usize,
}

impl Oracle {
    /// Judges the frames since the last look.
    fn judge(&mut self, bench: &Bench) {
        for sent in &bench.sent[self.seen..] {
            let harmless = matches!(sent.message.command(), 4 | 34 | 50 | 52 | 54 | 58 | 62 | 68);
            if let Some(until) = self.until.filter(|until| sent.at >= *until) {
                assert!(harmless, "{:?} at {} after {until}", sent.message, sent.at);
            }
            if let Message::MlUpdate { channels } = &sent.message {
                for pattern in channels {
                    let most = self.cleared.get(&pattern.channel).copied().unwrap_or(0);
                    let carried = pattern.points[0].half_milliamps;
                    assert!(carried <= most, "channel {} at {carried}, cleared {most}", pattern.channel);
                    assert_eq!(codec::imbalance(&pattern.points), 0);
                }
            }
            if !harmless && sent.message.command() != 30 {
                assert!(sent.packet.valid_until().unwrap() <= sent.at.saturating_add(Packet::LIFE_MAX));
            }
        }
        self.seen = bench.sent.len();
        assert!(!bench.raised_by_stop, "a stop frame raised a channel");
    }

    /// A command that was taken is a lease of its own, where there is no other.
    fn lease(&mut self, bench: &Bench, id: CommandId) {
        let refused =
            |(_, report): &(Mono, Report)| matches!(report, Report::Refused { id: of, .. } if *of == id);
        if self.until.is_none() && !bench.reports.iter().any(refused) {
            self.until = Some(bench.now.saturating_add(Packet::LIFE_MAX));
        }
    }

    fn play(&mut self, bench: &mut Bench, step: &Move) {
        match step {
            Move::Set(channel, current) => {
                let most = self.cleared.entry(*channel).or_default();
                *most = (*most).max(i16::try_from(current * 2).unwrap());
                let id = bench.set_in(Epoch(self.epoch), *channel, pulses(*current));
                self.lease(bench, id);
            }
            Move::Finish(channel) => {
                bench.next_id += 1;
                let (id, epoch) = (CommandId(bench.next_id), Epoch(self.epoch));
                let command = Command::Finish { id, epoch, channel: Channel(*channel) };
                bench.drive(DriverInput::Command(Cleared::for_test(command)));
                self.lease(bench, id);
            }
            Move::Stop => {
                self.generation += 1;
                bench.stop(self.generation);
            }
            Move::Prepare => {
                self.epoch += 1;
                self.cleared.clear();
                self.until = None;
                let epoch = Epoch(self.epoch);
                bench.drive(DriverInput::Command(Cleared::for_test(Command::Prepare { epoch })));
            }
            Move::Renew(millis) => {
                self.until = Some(bench.now.saturating_add(Duration::from_millis(*millis)));
                bench.renew(*millis);
            }
            Move::Wait(millis) => bench.run(Duration::from_millis(*millis)),
            Move::Freeze(millis) => {
                bench.frozen = true;
                bench.run(Duration::from_millis(*millis));
                bench.frozen = false;
            }
            Move::Write(outcome) => bench.writer = Writer::Fails(*outcome),
            Move::Event(event) => bench.event(*event),
            Move::Reconnect => {
                bench.drive(DriverInput::Disconnected);
                bench.to_host.clear();
                bench.drive(DriverInput::Connected { generation: Generation(self.generation) });
            }
            Move::Garbage(bytes) => {
                let received = Received { endpoint: Endpoint::Serial, bytes: bytes.clone() };
                bench.drive(DriverInput::Received(&received));
            }
        }
    }
}

/// A kind of frame that the governor may ask for after a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Rise,
    Lower,
    Zero,
    Finish,
    Stop,
    Renew,
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: crate::driver::testing::cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    // Laws 11 and 12 (SR-48), and: an update carries nothing that was not cleared in its epoch.
    #[test]
    fn sr_48_stop_frames_raise_nothing_and_silence_of_the_governor_ends_all_output(
        seed in any::<u64>(), sm4 in any::<bool>(), moves in moves(),
    ) {
        let dialect = if sm4 { Dialect::Sm4 } else { Dialect::Sm3 };
        let mut bench = Bench::new(dialect, seed);
        bench.drive(DriverInput::Connected { generation: Generation(0) });
        bench.run(400 * MS);
        let mut oracle = Oracle::default();
        for step in &moves {
            oracle.play(&mut bench, step);
            oracle.judge(&bench);
        }
        // The governor falls silent: the unit is at zero, whatever was wrong, when all its time-outs have passed.
        bench.writer = Writer::Good;
        bench.run(5000 * MS);
        oracle.judge(&bench);
        prop_assert!(bench.silent(), "{:?}", bench.present());
        bench.event(SimEvent::Wedged(false));
        bench.event(SimEvent::DropReplies(0));
        bench.event(SimEvent::CorruptReplies(0));
        bench.event(SimEvent::DropRequests(0));
        bench.event(SimEvent::DelayReplies(Duration::ZERO));
        bench.run(3000 * MS);
        oracle.judge(&bench);
        prop_assert!(bench.silent());
        prop_assert_eq!(bench.unit.status() & 1, 0);
        // It answers again, so the newest stop is proven by now.
        oracle.generation += 1;
        bench.stop(oracle.generation);
        bench.run(1500 * MS);
        prop_assert!(bench.progress(StopProgress::Confirmed, oracle.generation).is_some(), "{:?}", bench.reports);
    }

    // SR-41: gaps before each kind of frame, and a lead that comes off.
    #[test]
    fn sr_41_after_a_gap_or_an_open_lead_nothing_gives_output_without_a_new_epoch(
        seed in any::<u64>(), sm4 in any::<bool>(), gap in prop::sample::select(vec![1900u64, 2000, 2100]),
        frozen in any::<bool>(), lead_off in any::<bool>(),
        after in prop::sample::select(vec![After::Rise, After::Lower, After::Zero, After::Finish, After::Stop, After::Renew]),
    ) {
        let dialect = if sm4 { Dialect::Sm4 } else { Dialect::Sm3 };
        let mut bench = Bench::ready(dialect, seed);
        bench.set(0, pulses(20));
        bench.set(1, pulses(18));
        bench.run_renewed(Duration::from_millis(300 + seed % 200));
        prop_assert_eq!(bench.present()[0], 20_000);
        // A long lease, so that only the driver's and the unit's own time-outs are left; then nobody hears anybody.
        bench.renew(60_000);
        bench.run(15 * MS);
        if lead_off {
            bench.event(SimEvent::LeadOff(1, true));
        }
        bench.frozen = frozen;
        if !frozen {
            bench.event(SimEvent::DropRequests(255));
        }
        bench.run(Duration::from_millis(gap));
        bench.frozen = false;
        bench.event(SimEvent::DropRequests(0));
        bench.event(SimEvent::LeadOff(1, false));
        let before = bench.pulses_given();
        match after {
            After::Rise => drop(bench.set(0, pulses(21))),
            After::Lower => drop(bench.set(0, pulses(10))),
            After::Zero => drop(bench.set(1, pulses(0))),
            After::Finish => drop(bench.finish(1)),
            After::Stop => bench.stop(50),
            After::Renew => bench.renew(60_000),
        }
        // A thawed driver stops at once. One whose frames were lost has tried to for a second; the unit's own two
        // seconds end what is left.
        bench.run(MS);
        prop_assert!(!frozen || bench.silent(), "{:?} {:?}", bench.present(), bench.sent.last());
        prop_assert!(bench.present().iter().zip([20_000, 18_000, 0, 0]).all(|(now, was)| *now <= was));
        prop_assert!(bench.pulses_given() <= before + 2);
        bench.run(Duration::from_millis(2100u64.saturating_sub(gap)));
        prop_assert!(bench.silent(), "{:?} {:?}", bench.present(), bench.sent.last());
        let given = bench.pulses_given();
        for _ in 0..10 {
            bench.renew(60_000);
            bench.set(0, pulses(15));
            bench.run(300 * MS);
        }
        prop_assert_eq!(bench.pulses_given(), given);
        prop_assert_eq!(bench.ended().len(), 1);
        prop_assert!(!bench.raised_by_stop);
        bench.prepare(Epoch(2));
        bench.set_in(Epoch(2), 0, pulses(5));
        bench.run(50 * MS);
        prop_assert_eq!(bench.present()[0], 5_000, "a new epoch, by a person, gives output again");
    }
}
