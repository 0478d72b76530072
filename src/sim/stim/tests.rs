//! The simulated unit against its documented state machine, and its physics against sums made by hand.

use super::*;
use crate::driver::sciencemode::codec::Period;

const MS: Duration = Duration::from_millis(1);

struct Host {
    unit: Stimulator,
    now: Mono,
    number: u8,
    heard: Vec<Message>,
    delays: Vec<Duration>,
}

impl Host {
    fn new(dialect: Dialect, behaviour: StimulatorBehaviour) -> Self {
        let unit = Stimulator::new(dialect, "P24-0007", 1, behaviour);
        Self { unit, now: Mono::from_millis(10), number: 0, heard: Vec::new(), delays: Vec::new() }
    }

    fn sm4() -> Self {
        Self::new(Dialect::Sm4, StimulatorBehaviour::default())
    }

    fn give(&mut self, input: SimInput<'_>) {
        let mut out = Vec::new();
        self.unit.advance(self.now, input, &mut out);
        for SimOutput::Send { bytes, delay, .. } in out {
            self.delays.push(delay);
            for found in Splitter::new().push(&bytes).into_iter().flatten() {
                self.heard.push(codec::decode(&found, self.unit.dialect).unwrap());
            }
        }
    }

    fn send(&mut self, message: &Message) {
        self.number = (self.number + 1) % 64;
        let bytes = codec::encode(self.number, message, self.unit.dialect).unwrap();
        self.give(SimInput::Received { endpoint: Endpoint::Serial, bytes: &bytes });
    }

    /// Sends and returns the result of the answer.
    fn result(&mut self, message: &Message) -> u8 {
        self.heard.clear();
        self.send(message);
        self.heard.last().and_then(Message::result).unwrap()
    }

    fn wait(&mut self, span: Duration) {
        let end = self.now.saturating_add(span);
        while let Some(at) = self.unit.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.give(SimInput::Tick);
        }
        self.now = end;
        self.give(SimInput::Tick);
    }

    fn poll(&mut self) -> ([bool; 8], [u8; 8]) {
        self.send(&Message::MlGetCurrentData { selection: 4 });
        match self.heard.last() {
            Some(Message::MlGetCurrentDataAck {
                result: 0,
                data: CurrentData::Channels { active, states },
            }) => (*active, *states),
            other => panic!("not a good answer: {other:?}"),
        }
    }

    fn start(&mut self, stop_all: bool, channels: &[ChannelPattern]) {
        assert_eq!(self.result(&Message::MlInit { stop_all_channels_on_error: stop_all }), 0);
        assert_eq!(self.result(&Message::MlUpdate { channels: channels.to_vec() }), 0);
    }

    fn truth(&self, channel: usize) -> Delivered {
        self.unit.truth()[channel]
    }
}

fn pattern(channel: u8, half_milliamps: i16, width: u16, period_ms: u16, ramp: u8) -> ChannelPattern {
    let point = |duration_us, half_milliamps| Point { duration_us, half_milliamps };
    ChannelPattern {
        channel,
        ramp,
        period: Period { code: period_ms * 2, fine: false },
        points: vec![point(width, half_milliamps), point(100, 0), point(width, -half_milliamps)],
    }
}

const LL_INIT: Message = Message::LlInit { measurement_type: 0, high_voltage: 0 };
const ML_INIT: Message = Message::MlInit { stop_all_channels_on_error: true };
const POLL: Message = Message::MlGetCurrentData { selection: 4 };

fn pulse(points: Vec<Point>) -> Message {
    Message::LlChannelConfig { execute: true, channel: 1, connector: 1, pattern: Pattern::Points(points) }
}

/// Brings a fresh unit into a status.
fn in_status(status: u8) -> Host {
    let mut host = Host::sm4();
    match status {
        1 => assert_eq!(host.result(&LL_INIT), 0),
        2 => assert_eq!(host.result(&ML_INIT), 0),
        3 => host.start(true, &[pattern(0, 20, 200, 20, 0)]),
        _ => {}
    }
    assert_eq!(host.unit.status(), status);
    host
}

#[test]
fn the_state_machine_is_the_documented_one() {
    let update = Message::MlUpdate { channels: vec![pattern(0, 10, 200, 20, 0)] };
    // Request; per status 0–3: result and the status after it.
    let table: [(&Message, [(u8, u8); 4]); 7] = [
        (&LL_INIT, [(0, 1), (0, 1), (7, 2), (7, 3)]),
        (&Message::LlStop, [(0, 0), (0, 0), (7, 2), (7, 3)]),
        (&ML_INIT, [(0, 2), (7, 1), (0, 2), (0, 2)]),
        (&update, [(7, 0), (7, 1), (0, 3), (0, 3)]),
        (&POLL, [(7, 0), (7, 1), (0, 2), (0, 3)]),
        (&Message::MlStop, [(0, 0), (7, 1), (0, 0), (0, 0)]),
        (&Message::Reset, [(0, 0), (0, 0), (0, 0), (0, 0)]),
    ];
    for (request, expected) in table {
        for (status, (result, after)) in (0u8..).zip(expected) {
            let mut host = in_status(status);
            assert_eq!(host.result(request), result, "{request:?} in {status}");
            assert_eq!(host.unit.status(), after, "{request:?} in {status}");
            assert_eq!(host.unit.high_voltage() == 1, after == 0);
        }
    }
    for status in [0, 2, 3] {
        let mut host = in_status(status);
        assert_eq!(host.result(&pulse(vec![Point { duration_us: 200, half_milliamps: 20 }])), 7);
    }
}

#[test]
fn pulses_time_and_charge_are_exact() {
    let mut host = Host::sm4();
    host.start(true, &[pattern(2, 41, 250, 20, 0)]);
    host.wait(999 * MS);
    // Pulses begin at 0, 20, … 980 ms; 20.5 mA for 250 µs each.
    let truth = host.truth(2);
    assert_eq!((truth.pulses, truth.on_us), (50, 999_000));
    assert_eq!(truth.charge_pc, 50 * 20_500 * 250);
    assert_eq!((truth.present, truth.highest), (20_500, 20_500));
    host.wait(MS);
    assert_eq!(host.truth(2).pulses, 50, "the pulse at 1000 ms begins there, so it counts after it");
    host.send(&Message::MlStop);
    host.wait(5000 * MS);
    let truth = host.truth(2);
    assert_eq!((truth.pulses, truth.on_us, truth.present), (50, 1_000_000, 0));
    assert_eq!(host.truth(0), Delivered { channel: 0, ..Delivered::default() });
}

#[test]
fn a_ramp_rises_only_when_a_channel_was_off() {
    let mut host = Host::sm4();
    host.start(true, &[pattern(0, 40, 200, 10, 3)]);
    let mut expected = 0;
    for (index, fraction) in [(1u64, 1u64), (2, 2), (3, 3), (4, 4), (5, 4)] {
        host.wait(10 * MS);
        expected += 20_000 * 200 * fraction / 4;
        assert_eq!((host.truth(0).pulses, host.truth(0).charge_pc), (index, expected));
    }
    host.send(&Message::MlUpdate { channels: vec![pattern(0, 60, 200, 10, 3)] });
    host.wait(10 * MS);
    assert_eq!(host.truth(0).charge_pc, expected + 30_000 * 200, "a running channel jumps");
    let mut flat =
        Host::new(Dialect::Sm4, StimulatorBehaviour { ramps: false, ..StimulatorBehaviour::default() });
    flat.start(true, &[pattern(0, 40, 200, 10, 3)]);
    flat.wait(10 * MS);
    assert_eq!(flat.truth(0).charge_pc, 20_000 * 200);
}

#[test]
fn an_update_keeps_the_phase_of_a_running_train() {
    let mut host = Host::sm4();
    host.start(true, &[pattern(0, 20, 200, 20, 0)]);
    for _ in 0..100 {
        host.wait(7 * MS);
        host.send(&Message::MlUpdate { channels: vec![pattern(0, 20, 200, 20, 0)] });
    }
    assert_eq!(host.truth(0).pulses, 35, "700 ms at 50 Hz");
    host.send(&Message::MlUpdate { channels: vec![] });
    host.wait(100 * MS);
    assert_eq!((host.truth(0).pulses, host.truth(0).on_us), (35, 700_000));
}

#[test]
fn the_keep_alive_is_two_seconds_to_the_microsecond() {
    for (gap, alive) in [(1900, true), (1999, true), (2000, false), (2100, false)] {
        let mut host = Host::sm4();
        host.start(true, &[pattern(0, 20, 200, 20, 0)]);
        host.wait(Duration::from_millis(gap));
        assert_eq!(host.poll().0[0], alive, "{gap} ms");
        assert_eq!((host.unit.status(), host.unit.high_voltage()), (if alive { 3 } else { 2 }, 6));
        assert_eq!(host.truth(0).on_us, gap.min(2000) * 1000);
    }
    // No other request keeps it alive, nor does one that is refused.
    let mut host = Host::sm4();
    host.start(true, &[pattern(0, 20, 200, 20, 0)]);
    for _ in 0..4 {
        host.wait(400 * MS);
        host.send(&Message::GetStimStatus);
        host.send(&Message::GetDeviceId);
        host.send(&Message::MlUpdate { channels: vec![pattern(0, 20, 4000, 1, 0)] });
    }
    assert_eq!(host.heard.last().and_then(Message::result), Some(2), "more than it can execute");
    host.wait(401 * MS);
    assert_eq!((host.unit.status(), host.truth(0).on_us), (2, 2_000_000));
}

#[test]
fn an_open_lead_stops_one_channel_or_all_and_is_kept_until_the_next_update() {
    for stop_all in [false, true] {
        let mut host = Host::sm4();
        let both = [pattern(0, 40, 200, 20, 0), pattern(1, 40, 200, 20, 0)];
        host.start(stop_all, &both);
        host.wait(50 * MS);
        host.give(SimInput::Event(SimEvent::LeadOff(1, true)));
        host.wait(50 * MS);
        let (active, states) = host.poll();
        assert_eq!(active[..2], [!stop_all, false]);
        assert_eq!(states[..2], [0, 1]);
        assert_eq!(host.truth(1).on_us, 60_000, "found at the pulse at 60 ms");
        host.give(SimInput::Event(SimEvent::LeadOff(1, false)));
        host.wait(500 * MS);
        assert_eq!(host.poll().1[1], 1);
        host.send(&Message::MlUpdate { channels: both.to_vec() });
        host.wait(MS);
        assert_eq!(host.poll(), ([true, true, false, false, false, false, false, false], [0; 8]));
    }
}

#[test]
fn an_open_lead_below_15_ma_goes_unnoticed_and_nothing_flows() {
    let mut host = Host::sm4();
    host.start(true, &[pattern(0, 29, 200, 20, 0)]);
    host.give(SimInput::Event(SimEvent::LeadOff(0, true)));
    host.wait(200 * MS);
    assert_eq!(host.poll().1[0], 0);
    assert_eq!((host.truth(0).pulses, host.truth(0).on_us), (0, 200_000));
    host.send(&Message::MlUpdate { channels: vec![pattern(0, 30, 200, 20, 0)] });
    host.wait(21 * MS);
    assert_eq!(host.poll().1[0], 1);
}

#[test]
fn high_impedance_and_broken_pulses_have_their_own_states() {
    let mut host = Host::new(
        Dialect::Sm4,
        StimulatorBehaviour { impedance_ohm: 5000, ..StimulatorBehaviour::default() },
    );
    host.start(true, &[pattern(0, 60, 200, 20, 0)]);
    host.wait(21 * MS);
    assert_eq!(host.poll().1[0], 0, "30 mA through 5 kΩ needs the whole 150 V");
    host.send(&Message::MlUpdate { channels: vec![pattern(0, 61, 200, 20, 0)] });
    host.wait(21 * MS);
    assert_eq!(host.poll().1[0], 3);
    host.unit.break_channel(0, Some(PulseFault::Timeout));
    host.send(&Message::MlUpdate { channels: vec![pattern(0, 20, 200, 20, 0)] });
    host.wait(21 * MS);
    assert_eq!(host.poll().1[0], 2);
    let mut sm3 = Host::new(Dialect::Sm3, StimulatorBehaviour::default());
    sm3.start(false, &[pattern(0, 60, 200, 20, 0)]);
    sm3.unit.break_channel(0, Some(PulseFault::LowCurrent));
    sm3.wait(21 * MS);
    assert_eq!(sm3.result(&Message::MlGetCurrentData { selection: 2 }), PULSE_LOW_CURRENT);
}

#[test]
fn low_level_pulses_are_given_in_turn_and_acknowledged_when_they_are_over() {
    let points = || {
        vec![
            Point { duration_us: 4000, half_milliamps: 40 },
            Point { duration_us: 4000, half_milliamps: -40 },
        ]
    };
    let mut host = Host::sm4();
    assert_eq!(host.result(&LL_INIT), 0);
    host.heard.clear();
    for _ in 0..10 {
        host.send(&pulse(points()));
    }
    assert!(host.heard.is_empty());
    assert_eq!(host.result(&pulse(points())), BUSY, "ten are buffered at most");
    host.heard.clear();
    host.wait(17 * MS);
    assert_eq!(host.heard.len(), 2);
    host.give(SimInput::Event(SimEvent::LeadOff(5, true)));
    host.wait(80 * MS);
    let results: Vec<u8> = host.heard.iter().filter_map(Message::result).collect();
    assert_eq!(results, [0, 0, 0, 10, 10, 10, 10, 10, 10, 10]);
    assert_eq!((host.truth(5).pulses, host.truth(5).charge_pc), (3, 3 * 20_000 * 4000));
    host.send(&pulse(points()));
    host.send(&Message::LlStop);
    host.wait(100 * MS);
    assert_eq!(host.truth(5).pulses, 3, "a stop forgets what is buffered");
}

#[test]
fn a_measured_pulse_comes_with_its_trace() {
    let mut host = Host::sm4();
    host.send(&Message::LlInit { measurement_type: 1, high_voltage: 0 });
    host.heard.clear();
    host.send(&pulse(vec![
        Point { duration_us: 256, half_milliamps: -41 },
        Point { duration_us: 256, half_milliamps: 0 },
    ]));
    host.wait(10 * MS);
    let Some(Message::LlChannelConfigAck {
        result: 0,
        pulse: PulseAck::Sm4 { channel: 1, connector: 1, trace: Some(trace) },
    }) = host.heard.first()
    else {
        panic!("{:?}", host.heard)
    };
    assert_eq!((trace.measurement_type, trace.sampling_time_us), (1, 4));
    assert_eq!((trace.samples[0], trace.samples[63], trace.samples[64]), (2050, 2050, 0));
}

#[test]
fn answers_take_their_time_and_keep_their_order() {
    let mut host = Host::sm4();
    host.send(&ML_INIT);
    host.send(&Message::GetStimStatus);
    assert_eq!(host.delays[0], 40 * MS);
    assert!(host.delays[1] >= 40 * MS, "not before the answer to the first");
    host.wait(100 * MS);
    host.delays.clear();
    for _ in 0..200 {
        host.send(&Message::GetStimStatus);
        host.wait(10 * MS);
    }
    assert!(host.delays.iter().all(|delay| (MS..=5 * MS).contains(delay)));
    assert!(host.delays.iter().max() > host.delays.iter().min());
}

#[test]
fn damage_is_answered_as_far_as_it_can_be_read() {
    let mut host = Host::sm4();
    let mut bytes = codec::encode(3, &Message::MlStop, Dialect::Sm4).unwrap();
    bytes[8] ^= 1;
    host.give(SimInput::Received { endpoint: Endpoint::Serial, bytes: &bytes });
    assert_eq!(host.heard, [Message::MlStopAck { result: 1 }]);
    host.heard.clear();
    host.give(SimInput::Received { endpoint: Endpoint::Serial, bytes: &[0xF0, 0x0F] });
    assert_eq!(host.heard, [Message::GeneralError { result: 1 }]);
}

#[test]
fn faults_of_the_link_and_the_unit_do_what_they_say() {
    let mut host = in_status(3);
    host.give(SimInput::Event(SimEvent::DropReplies(1)));
    host.heard.clear();
    host.send(&POLL);
    assert!(host.heard.is_empty());
    host.give(SimInput::Event(SimEvent::DuplicateReplies(1)));
    host.send(&POLL);
    assert_eq!(host.heard.len(), 2);
    host.give(SimInput::Event(SimEvent::CorruptReplies(1)));
    host.send(&POLL);
    assert_eq!(host.heard.len(), 2);
    host.give(SimInput::Event(SimEvent::DropRequests(1)));
    host.send(&Message::MlStop);
    assert_eq!((host.heard.len(), host.unit.status()), (2, 3));
    host.give(SimInput::Event(SimEvent::Wedged(true)));
    host.send(&Message::MlStop);
    host.wait(1999 * MS);
    assert_eq!((host.unit.status(), host.truth(0).present), (3, 10_000), "wedged, it goes on");
    host.wait(MS);
    assert_eq!((host.heard.len(), host.unit.status()), (2, 2), "until its keep-alive is missed");
    host.give(SimInput::Event(SimEvent::Reboot));
    assert_eq!((host.unit.status(), host.unit.high_voltage()), (0, 1));
    host.send(&Message::GetStimStatus);
    assert_eq!(host.heard.len(), 2, "it boots");
    host.wait(501 * MS);
    assert_eq!(host.result(&Message::GetStimStatus), 0);
    host.give(SimInput::Event(SimEvent::DelayReplies(300 * MS)));
    host.delays.clear();
    host.send(&Message::GetStimStatus);
    assert!(host.delays[0] >= 301 * MS);
}

#[test]
fn closing_the_port_changes_nothing_unless_told_to() {
    for resets in [false, true] {
        let behaviour = StimulatorBehaviour { close_resets: resets, ..StimulatorBehaviour::default() };
        let mut host = Host::new(Dialect::Sm4, behaviour);
        host.start(true, &[pattern(0, 20, 200, 20, 0)]);
        host.give(SimInput::Disconnected);
        assert_eq!(host.unit.status(), if resets { 0 } else { 3 });
    }
}

#[test]
fn requests_of_the_other_dialect_are_unknown() {
    let mut sm3 = Host::new(Dialect::Sm3, StimulatorBehaviour::default());
    let bytes = codec::encode(1, &Message::GetExtendedVersion, Dialect::Sm4).unwrap();
    sm3.give(SimInput::Received { endpoint: Endpoint::Serial, bytes: &bytes });
    assert_eq!(sm3.heard, [Message::UnknownCommand { result: 11 }]);
    assert_eq!(sm3.result(&Message::GetBatteryStatus), 0);
    let mut sm4 = Host::sm4();
    assert_eq!(sm4.result(&Message::GetBatteryStatus), 11);
    sm4.send(&Message::MlStopAck { result: 0 });
    assert_eq!(sm4.heard.last(), Some(&Message::UnknownCommand { result: 11 }));
    let mut charged =
        Host::new(Dialect::Sm4, StimulatorBehaviour { sm4_battery: true, ..StimulatorBehaviour::default() });
    charged.give(SimInput::Event(SimEvent::Battery(41)));
    charged.send(&Message::GetBatteryStatus);
    assert!(matches!(charged.heard[..], [Message::GetBatteryStatusAck { level_percent: 41, .. }]));
}
