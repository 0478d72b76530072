//! ScienceMode 3 and 4: vectors, rejects, streams, sessions, and the receiver under random bytes.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;

use super::{Counts, Fields, bytes};
use doseward::driver::frame::{Frame, Splitter, crc16_xmodem, pack};
use doseward::driver::sciencemode::codec::{
    ChannelPattern, CurrentData, Dialect, Message, Pattern, Period, Point, PulseAck, Trace, decode, encode,
};
use doseward::model::packet::Endpoint;
use doseward::sim::stim::{PulseFault, Stimulator, StimulatorBehaviour};
use doseward::sim::{SimDevice, SimEvent, SimInput, SimOutput};
use doseward::units::Mono;

const FAMILY: &str = "sciencemode";

/// Runs one file.
pub fn run(file: &Value, counts: &mut Counts) {
    let mut keys = Fields::of(file).unwrap();
    keys.drop_notes(&["family", "wire", "fields_note", "session_note"]);
    assert_eq!(keys.take("schema").unwrap(), 1, "another schema of sciencemode vectors");
    let kinds: [(&str, &str, Run); 4] = [
        ("vectors", "vector", vector),
        ("rejects", "reject", reject),
        ("streams", "stream", stream),
        ("sessions", "session", session),
    ];
    for (key, kind, run) in kinds {
        for entry in keys.list(key).unwrap_or_default() {
            let name = entry["name"].as_str().unwrap_or("without a name").to_owned();
            let outcome = Fields::of(&entry).and_then(|mut fields| {
                fields.drop_notes(&["name", "note", "basis", "agreeing_implementations"]);
                run(&mut fields)?;
                fields.end()
            });
            counts.book(FAMILY, kind, &name, outcome);
        }
    }
    keys.end().unwrap();
}

type Run = fn(&mut Fields) -> Result<(), String>;

fn dialects(text: &str) -> Result<Vec<Dialect>, String> {
    match text {
        "sm3" => Ok(vec![Dialect::Sm3]),
        "sm4" => Ok(vec![Dialect::Sm4]),
        "both" => Ok(vec![Dialect::Sm3, Dialect::Sm4]),
        other => Err(format!("dialect {other}")),
    }
}

fn vector(entry: &mut Fields) -> Result<(), String> {
    let number: u8 = entry.number("packet_number")?;
    let wire = bytes(&entry.text("hex")?)?;
    let to_host = match entry.text("direction")?.as_str() {
        "host_to_device" => false,
        "device_to_host" => true,
        other => return Err(format!("direction {other}")),
    };
    let name = entry.text("message")?;
    let stated = entry.take("fields")?;
    for dialect in dialects(&entry.text("dialect")?)? {
        let frame = one_frame(&wire)?;
        let read = decode(&frame, dialect).map_err(|error| format!("{dialect:?}: {error}"))?;
        let forms = message(&name, &stated, dialect)?;
        if !forms.contains(&read) || frame.number != number {
            return Err(format!("{dialect:?}: read {read:?} of packet {}, stated {forms:?}", frame.number));
        }
        if read.result().is_some() != to_host {
            return Err("the direction is another one".to_owned());
        }
        let written: Vec<_> = forms.iter().map(|form| encode(number, form, dialect)).collect();
        if !written.contains(&Ok(wire.clone())) {
            return Err(format!("{dialect:?}: wrote {written:02X?}"));
        }
    }
    Ok(())
}

fn one_frame(wire: &[u8]) -> Result<Frame, String> {
    let mut found = Splitter::new().push(wire);
    match (found.pop(), found.pop()) {
        (Some(Ok(frame)), None) => Ok(frame),
        other => Err(format!("not one packet: {other:?}")),
    }
}

/// The message that fields state. More than one form only where the format knows two for the same meaning.
fn message(name: &str, stated: &Value, dialect: Dialect) -> Result<Vec<Message>, String> {
    let mut fields = Fields::of(stated)?;
    let forms = match name {
        "ll_channel_config" => pulse(&mut fields)?,
        _ => vec![plain(name, &mut fields, dialect)?],
    };
    fields.end()?;
    Ok(forms)
}

fn plain(name: &str, f: &mut Fields, dialect: Dialect) -> Result<Message, String> {
    Ok(match name {
        "ll_init" => Message::LlInit {
            measurement_type: f.number("measurement_type")?,
            high_voltage: f.number("high_voltage")?,
        },
        "ll_init_ack" => Message::LlInitAck { result: f.number("result")? },
        "ll_channel_config_ack" => {
            Message::LlChannelConfigAck { result: f.number("result")?, pulse: pulse_ack(f, dialect)? }
        }
        "ll_stop" => Message::LlStop,
        "ll_stop_ack" => Message::LlStopAck { result: f.number("result")? },
        "ml_init" => Message::MlInit { stop_all_channels_on_error: f.flag("stop_all_channels_on_error")? },
        "ml_init_ack" => Message::MlInitAck { result: f.number("result")? },
        "ml_update" => {
            Message::MlUpdate { channels: f.list("channels")?.iter().map(channel).collect::<Result<_, _>>()? }
        }
        "ml_update_ack" => Message::MlUpdateAck { result: f.number("result")? },
        "ml_stop" => Message::MlStop,
        "ml_stop_ack" => Message::MlStopAck { result: f.number("result")? },
        "ml_get_current_data" => Message::MlGetCurrentData { selection: f.number("data_selection")? },
        "ml_get_current_data_ack" => {
            Message::MlGetCurrentDataAck { result: f.number("result")?, data: current_data(f)? }
        }
        "get_version_main" => Message::GetVersionMain,
        "get_version_main_ack" => Message::GetVersionMainAck {
            result: f.number("result")?,
            firmware: array(&f.list("firmware")?)?,
            sciencemode: array(&f.list("sciencemode")?)?,
        },
        "get_device_id" => Message::GetDeviceId,
        "get_device_id_ack" => {
            Message::GetDeviceIdAck { result: f.number("result")?, device_id: padded(&f.text("device_id")?)? }
        }
        "get_battery_status" => Message::GetBatteryStatus,
        "get_battery_status_ack" => Message::GetBatteryStatusAck {
            result: f.number("result")?,
            level_percent: f.number("level_percent")?,
            voltage_mv: f.number("voltage_mv")?,
        },
        "reset" => Message::Reset,
        "reset_ack" => Message::ResetAck { result: f.number("result")? },
        "get_stim_status" => Message::GetStimStatus,
        "get_stim_status_ack" => Message::GetStimStatusAck {
            result: f.number("result")?,
            stim_status: f.number("stim_status")?,
            high_voltage: f.number("high_voltage")?,
        },
        "general_error" => Message::GeneralError { result: f.number("result")? },
        "unknown_command" => Message::UnknownCommand { result: f.number("result")? },
        "get_extended_version" => Message::GetExtendedVersion,
        "get_extended_version_ack" => Message::GetExtendedVersionAck {
            result: f.number("result")?,
            firmware: array(&f.list("firmware")?)?,
            sciencemode: array(&f.list("sciencemode")?)?,
            firmware_hash: u32::from_str_radix(&f.text("firmware_hash")?, 16).map_err(|e| e.to_string())?,
            hash_type: f.number("hash_type")?,
            hash_valid: f.flag("hash_valid")?,
        },
        other => return Err(format!("nobody understands message {other}")),
    })
}

/// A pulse that is not executed may come with its points or only announce them.
fn pulse(f: &mut Fields) -> Result<Vec<Message>, String> {
    let execute = f.flag("execute")?;
    let (channel, connector) = (f.number("channel")?, f.number("connector")?);
    let points = points(&f.list("points")?)?;
    let with = |pattern| Message::LlChannelConfig { execute, channel, connector, pattern };
    let count = u8::try_from(points.len()).map_err(|e| e.to_string())?;
    let mut forms = vec![with(Pattern::Points(points))];
    if !execute {
        forms.push(with(Pattern::Announced(count)));
    }
    Ok(forms)
}

fn pulse_ack(f: &mut Fields, dialect: Dialect) -> Result<PulseAck, String> {
    if dialect == Dialect::Sm3 {
        return Ok(PulseAck::Sm3 { electrode_error_channel: f.number("electrode_error_channel")? });
    }
    let (channel, connector) = (f.number("channel")?, f.number("connector")?);
    let measurement_type = f.number("measurement_type")?;
    let trace = if measurement_type == 0 {
        None
    } else {
        let sampling_time_us = f.number("sampling_time_us")?;
        let samples = f.list("samples_raw")?.iter().map(whole).collect::<Result<_, _>>()?;
        Some(Trace { measurement_type, sampling_time_us, samples })
    };
    Ok(PulseAck::Sm4 { channel, connector, trace })
}

fn channel(stated: &Value) -> Result<ChannelPattern, String> {
    let mut f = Fields::of(stated)?;
    let fine = f.flag("double_period_accuracy")?;
    let pattern = ChannelPattern {
        channel: f.number("channel")?,
        ramp: f.number("ramp")?,
        period: Period {
            code: u16::try_from(exact(&f.take("period_ms")?, if fine { 4.0 } else { 2.0 })?)
                .map_err(|e| e.to_string())?,
            fine,
        },
        points: points(&f.list("points")?)?,
    };
    f.end()?;
    Ok(pattern)
}

fn points(stated: &[Value]) -> Result<Vec<Point>, String> {
    stated
        .iter()
        .map(|point| {
            let mut f = Fields::of(point)?;
            let read = Point {
                duration_us: f.number("duration_us")?,
                half_milliamps: i16::try_from(exact(&f.take("current_ma")?, 2.0)?)
                    .map_err(|e| e.to_string())?,
            };
            f.end()?;
            Ok(read)
        })
        .collect()
}

fn current_data(f: &mut Fields) -> Result<CurrentData, String> {
    match f.number::<u8>("data_selection")? {
        2 => Ok(CurrentData::Group {
            running: f.flag("stimulation_running")?,
            errors: array(&f.list("electrode_error")?)?,
        }),
        3 => Ok(CurrentData::Groups {
            running: array(&f.list("stimulation_running")?)?,
            errors: array(&f.list("electrode_error")?)?,
        }),
        4 => Ok(CurrentData::Channels {
            active: array(&f.list("stimulation_active")?)?,
            states: array(&f.list("channel_state")?)?,
        }),
        other => Err(format!("selection {other}")),
    }
}

/// A decimal times `factor`, which must be whole.
fn exact(value: &Value, factor: f64) -> Result<i64, String> {
    let scaled = value.as_f64().ok_or_else(|| format!("not a number: {value}"))? * factor;
    if scaled.fract() == 0.0 { Ok(scaled as i64) } else { Err(format!("{value} is off the grid")) }
}

fn whole<T: serde::de::DeserializeOwned>(value: &Value) -> Result<T, String> {
    serde_json::from_value(value.clone()).map_err(|error| error.to_string())
}

fn array<T: serde::de::DeserializeOwned, const N: usize>(values: &[Value]) -> Result<[T; N], String> {
    let read: Vec<T> = values.iter().map(whole).collect::<Result<_, _>>()?;
    read.try_into().map_err(|_| format!("not {N} values: {values:?}"))
}

fn padded(text: &str) -> Result<[u8; 10], String> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(10.max(text.len()), 0);
    bytes.try_into().map_err(|_| format!("{text} is longer than 10 characters"))
}

fn reject(entry: &mut Fields) -> Result<(), String> {
    let wire = bytes(&entry.text("hex")?)?;
    let (reason, _) = (entry.text("reason")?, entry.text("direction")?);
    let found = Splitter::new().push(&wire);
    match found.as_slice() {
        [Err(damaged)] if damaged.reason.word() == reason => Ok(()),
        other => Err(format!("expected {reason}, got {other:?}")),
    }
}

fn stream(entry: &mut Fields) -> Result<(), String> {
    let wire = bytes(&entry.text("hex")?)?;
    entry.text("direction")?;
    let expected: Vec<Vec<u8>> = entry
        .list("expected_packets")?
        .iter()
        .map(|hex| bytes(hex.as_str().unwrap_or_default()))
        .collect::<Result<_, _>>()?;
    for piece in 1..=wire.len().max(1) {
        let mut splitter = Splitter::new();
        let found: Vec<Vec<u8>> = wire
            .chunks(piece)
            .flat_map(|chunk| splitter.push(chunk))
            .filter_map(|one| one.ok().map(|frame| frame.wire))
            .collect();
        if found != expected {
            return Err(format!("in pieces of {piece}: {found:02X?}"));
        }
    }
    Ok(())
}

/// A simulated unit in virtual time, with what it has sent and not yet delivered.
struct Bench {
    unit: Stimulator,
    now: Mono,
    coming: BTreeMap<(Mono, usize), Vec<u8>>,
    count: usize,
}

impl Bench {
    fn new(dialect: Dialect) -> Self {
        let unit = Stimulator::new(dialect, "P24A001234", 7, StimulatorBehaviour::default());
        Self { unit, now: Mono::ORIGIN, coming: BTreeMap::new(), count: 0 }
    }

    fn step(&mut self, now: Mono, input: SimInput<'_>) {
        self.now = now;
        let mut out = Vec::new();
        self.unit.advance(now, input, &mut out);
        for SimOutput::Send { bytes, delay, .. } in out {
            self.coming.insert((now.saturating_add(delay), self.count), bytes);
            self.count += 1;
        }
    }

    fn wait(&mut self, until: Mono) {
        while let Some(due) = self.unit.deadline().filter(|due| *due < until) {
            self.step(due.max(self.now), SimInput::Tick);
        }
        self.step(until, SimInput::Tick);
    }

    /// The next packet, within a second.
    fn next(&mut self) -> Result<Frame, String> {
        let end = self.now.saturating_add(Duration::from_secs(1));
        while self.coming.is_empty() {
            match self.unit.deadline().filter(|due| *due <= end) {
                Some(due) => self.step(due.max(self.now), SimInput::Tick),
                None => return Err("no answer".to_owned()),
            }
        }
        let ((at, _), bytes) = self.coming.pop_first().unwrap();
        if at > end {
            return Err("no answer within a second".to_owned());
        }
        self.wait(at.max(self.now));
        one_frame(&bytes)
    }

    fn fault(&mut self, stated: &Value) -> Result<(), String> {
        let mut f = Fields::of(stated)?;
        let kind = f.text("kind")?;
        match kind.as_str() {
            "electrode_open" => self.event(SimEvent::LeadOff(f.number("channel")?, true)),
            "electrode_closed" => self.event(SimEvent::LeadOff(f.number("channel")?, false)),
            "pulse_timeout" => self.unit.break_channel(f.number("channel")?, Some(PulseFault::Timeout)),
            "pulse_low_current" => {
                self.unit.break_channel(f.number("channel")?, Some(PulseFault::LowCurrent));
            }
            "reboot" => self.event(SimEvent::Reboot),
            other => return Err(format!("nobody understands fault {other}")),
        }
        f.end()
    }

    fn event(&mut self, event: SimEvent) {
        self.step(self.now, SimInput::Event(event));
    }
}

fn session(entry: &mut Fields) -> Result<(), String> {
    let steps = entry.list("steps")?;
    for dialect in dialects(&entry.text("dialect")?)? {
        let mut bench = Bench::new(dialect);
        for (at, step) in steps.iter().enumerate() {
            play(&mut bench, step).map_err(|why| format!("{dialect:?} step {at}: {why}"))?;
        }
        if let Some(left) = bench.coming.pop_first() {
            return Err(format!("{dialect:?}: an answer too many: {left:02X?}"));
        }
    }
    Ok(())
}

fn play(bench: &mut Bench, step: &Value) -> Result<(), String> {
    let mut f = Fields::of(step)?;
    if let Ok(hex) = f.text("send") {
        let bytes = bytes(&hex)?;
        bench.step(bench.now, SimInput::Received { endpoint: Endpoint::Serial, bytes: &bytes });
    } else if let Ok(hex) = f.text("expect") {
        let (found, expected) = (bench.next()?, bytes(&hex)?);
        if found.wire != expected {
            return Err(format!("expected {expected:02X?}, got {:02X?}", found.wire));
        }
    } else if let Ok(hex) = f.text("expect_any_packet_number") {
        let (found, expected) = (bench.next()?, one_frame(&bytes(&hex)?)?);
        if (found.command, &found.data) != (expected.command, &expected.data) {
            return Err(format!("expected {expected:02X?}, got {found:02X?}"));
        }
    } else if let Ok(wait) = f.number::<u64>("wait_ms") {
        bench.wait(bench.now.saturating_add(Duration::from_millis(wait)));
    } else if let Ok(fault) = f.take("fault") {
        bench.fault(&fault)?;
    }
    f.end()
}

#[test]
fn an_unknown_field_message_or_kind_is_not_understood() {
    let good = r#"{"name":"x","direction":"host_to_device","dialect":"both","message":"ml_stop","packet_number":3,
        "fields":{},"hex":"F0 81 55 81 59 81 14 81 18 0C 22 0F"}"#;
    let run_one = |text: &str| {
        let mut counts = Counts::default();
        let entry: Value = serde_json::from_str(text).unwrap();
        run(&serde_json::json!({"family": "sciencemode", "schema": 1, "vectors": [entry]}), &mut counts);
        counts.failures.len()
    };
    assert_eq!(run_one(good), 0);
    for (from, to) in [
        ("\"fields\":{}", "\"fields\":{\"extra\":1}"),
        ("ml_stop", "ml_halt"),
        ("\"packet_number\":3", "\"packet_number\":4"),
        ("0C 22", "0C 24"),
        ("\"name\"", "\"surprise\":0,\"name\""),
        ("host_to_device", "device_to_host"),
        ("both", "sm5"),
    ] {
        assert_eq!(run_one(&good.replace(from, to)), 1, "{from} -> {to}");
    }
}

/// Bytes that look like the wire: many delimiters, pieces of real packets, noise.
fn wire_like() -> impl Strategy<Value = Vec<u8>> {
    let packet = (0u8..64, 0u16..80, prop::collection::vec(any::<u8>(), 0..20))
        .prop_map(|(number, command, data)| pack(number, command, &data).unwrap());
    let cut = (packet.clone(), 0usize..40).prop_map(|(mut wire, length)| {
        wire.truncate(length);
        wire
    });
    let special = prop::sample::select(vec![0xF0, 0x0F, 0x81, 0x55, 0x00]).prop_map(|byte| vec![byte]);
    let noise = prop::collection::vec(any::<u8>(), 0..10);
    let piece = prop_oneof![3 => packet, 2 => cut, 2 => special, 1 => noise];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_bytes_give_only_packets_whose_checksum_holds(stream in wire_like(), random in prop::collection::vec(any::<u8>(), 0..300)) {
        for bytes in [stream, random] {
            for frame in Splitter::new().push(&bytes).into_iter().flatten() {
                let wire = &frame.wire;
                let body = &wire[9..wire.len() - 1];
                let stated = u16::from_be_bytes([wire[6] ^ 0x55, wire[8] ^ 0x55]);
                prop_assert_eq!(crc16_xmodem(body), stated);
                prop_assert_eq!(usize::from(u16::from_be_bytes([wire[2] ^ 0x55, wire[4] ^ 0x55])), wire.len());
                for dialect in [Dialect::Sm3, Dialect::Sm4] {
                    // Whatever is understood says the same again.
                    if let Ok(message) = decode(&frame, dialect)
                        && let Ok(again) = encode(frame.number, &message, dialect)
                    {
                        let read = decode(&one_frame(&again).unwrap(), dialect);
                        prop_assert_eq!(read, Ok(message));
                    }
                }
            }
        }
    }

    #[test]
    fn however_a_stream_is_cut_the_same_packets_come_out(stream in wire_like(), cuts in prop::collection::vec(1usize..9, 0..80)) {
        let whole = Splitter::new().push(&stream);
        let mut splitter = Splitter::new();
        let (mut found, mut rest) = (Vec::new(), stream.as_slice());
        for cut in cuts {
            let (piece, left) = rest.split_at(cut.min(rest.len()));
            found.extend(splitter.push(piece));
            rest = left;
        }
        found.extend(splitter.push(rest));
        prop_assert_eq!(found, whole);
    }

    #[test]
    fn a_unit_takes_any_bytes_without_panic(stream in wire_like(), seed in any::<u64>()) {
        for dialect in [Dialect::Sm3, Dialect::Sm4] {
            let mut unit = Stimulator::new(dialect, "x", seed, StimulatorBehaviour::default());
            let mut out = Vec::new();
            for (at, piece) in stream.chunks(7).enumerate() {
                let now = Mono::from_millis(at as u64 * 300);
                unit.advance(now, SimInput::Received { endpoint: Endpoint::Serial, bytes: piece }, &mut out);
            }
        }
    }
}
