//! Every kind of the percussion vectors against the shipped profiles, the driver and the simulated gun's frames.

use std::collections::BTreeMap;
use std::time::Duration;

use doseward::config::device_file;
use doseward::driver::profile::{ProfileDriver, Unit};
use doseward::driver::{Driver, DriverInput, DriverOutput, SendOutcome};
use doseward::governor::Cleared;
use doseward::model::command::Generation;
use doseward::model::packet::{Endpoint, Packet, Received, WriteKind};
use doseward::model::profile::frame::{
    Algorithm, Checksum, FieldKind, LastIndex, Reply, ReplyError, Template, Values, dotted,
};
use doseward::model::profile::gatt::{self, Subscription, ValueError};
use doseward::model::profile::matching::{Advertisement, Catalogue};
use doseward::model::profile::{Calibration, ClampError, GateAnswer, Profile, clamp, ramp};
use doseward::model::report::{Report, StopProgress};
use doseward::report::percussion::{Exposure, HeadMotion};
use doseward::units::Mono;
use serde_json::{Value, json};

use super::Counts;

/// Runs all vectors of a file; panics on a wrong answer, books what it does not understand as a failure.
pub fn run(file: &Value, counts: &mut Counts) {
    let mut problems = Vec::new();
    let catalogue = device_file::built_in(&mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    for vector in list(file, "vectors") {
        let family = text(vector, "family");
        let understood = match family {
            "theragun-g4" | "theragun-wave" | "hypervolt-legacy" => frame(&catalogue, family, vector),
            "hyperice-advert" => advert(&catalogue, vector),
            "gatt-standard" => standard(vector),
            "profile-engine" => template(vector),
            _ => None,
        };
        note(counts, family, understood, vector);
    }
    for vector in list(file, "matching") {
        note(counts, "matching", matching(&catalogue, vector), vector);
    }
    for vector in list(file, "computations") {
        note(counts, "computations", computation(&catalogue, vector), vector);
    }
}

fn note(counts: &mut Counts, family: &str, understood: Option<&str>, vector: &Value) {
    let name = text(vector, "name");
    match understood {
        Some(kind) => counts.book(family, kind, name, Ok(())),
        None => counts.book(family, "?", name, Err("no test understands it".to_owned())),
    }
}

fn list<'a>(file: &'a Value, key: &str) -> &'a [Value] {
    file[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(vector: &'a Value, key: &str) -> &'a str {
    vector[key].as_str().unwrap_or_default()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn profile<'a>(catalogue: &'a Catalogue, id: &str) -> &'a Profile {
    catalogue.profiles.iter().find(|profile| profile.id == id).unwrap()
}

/// Whether a 128-bit UUID is the one that a vector gives by its 16-bit or first 32-bit part.
fn is_uuid(uuid: u128, short: &str) -> bool {
    let full = gatt::show_uuid(uuid);
    full.starts_with(short) || gatt::parse_uuid(short) == Some(uuid)
}

fn frame(catalogue: &Catalogue, family: &str, vector: &Value) -> Option<&'static str> {
    let profile = profile(catalogue, family);
    match text(vector, "direction") {
        "host_to_device" => command(profile, vector),
        "device_to_host" if vector["fields"]["type"] == "secure_read" => gate(profile, vector),
        "device_to_host" => reply(profile, vector),
        _ => None,
    }
}

/// Fields to bytes, and the same bytes back to the fields.
fn command(profile: &Profile, vector: &Value) -> Option<&'static str> {
    let fields = &vector["fields"];
    let rule = profile.commands.get(text(fields, "command"))?;
    let number = fields.get("speed_raw").or_else(|| fields.get("level")).and_then(Value::as_u64);
    let mut values = Values::new();
    if let Some(number) = number {
        values.insert(profile.motor.parameter.clone(), u32::try_from(number).unwrap());
    }
    let expected = bytes(text(vector, "hex"));
    assert_eq!(hex(&rule.template.render(&values).unwrap()), hex(&expected), "{vector}");
    assert_eq!(rule.template.read(&expected), Some(values), "{vector}");
    assert!(is_uuid(profile.gatt.command.uuid, text(vector, "characteristic")), "{vector}");
    let write = match rule.write {
        WriteKind::WithResponse => "with_response",
        WriteKind::WithoutResponse => "without_response",
    };
    assert_eq!(write, text(vector, "write"), "{vector}");
    Some("encode")
}

fn gate(profile: &Profile, vector: &Value) -> Option<&'static str> {
    let fields = &vector["fields"];
    let gate = profile.gate.unwrap();
    assert!(is_uuid(gate.uuid, text(vector, "characteristic")));
    let value = bytes(text(vector, "hex"));
    let answer = gate.judge(&value);
    let required = answer != GateAnswer::Open;
    assert_eq!(fields["authorization_required"], required, "{vector}");
    let seed = match answer {
        GateAnswer::Open => Some("00".repeat(gate.tail_zero)),
        GateAnswer::AuthorizationRequired { seed } => seed.map(|seed| hex(&seed)),
    };
    assert_eq!(fields.get("seed").and_then(Value::as_str), seed.as_deref(), "{vector}");
    assert_eq!(fields.get("error").is_some(), seed.is_none(), "{vector}");
    Some("gate")
}

/// Bytes to fields.
fn reply(profile: &Profile, vector: &Value) -> Option<&'static str> {
    let fields = vector["fields"].as_object()?;
    let kind = fields.get("type")?.as_str()?;
    let status = profile.gatt.status.as_ref().unwrap();
    assert!(is_uuid(status.uuid, text(vector, "characteristic")));
    let read = profile.read_reply(&bytes(text(vector, "hex")));
    if kind == "invalid" {
        let word = match read {
            Err(ReplyError::Short) => "short",
            Err(ReplyError::Header) => "header",
            Err(ReplyError::Checksum) => "checksum",
            Err(ReplyError::UnknownType) => "unknown_type",
            Ok(reply) => panic!("{reply:?} is not invalid: {vector}"),
        };
        assert_eq!(fields["error"], word, "{vector}");
        return Some("decode invalid");
    }
    let read = read.unwrap_or_else(|error| panic!("{error:?}: {vector}"));
    for (name, expected) in fields {
        assert_eq!(field(profile, &read, name)?, *expected, "{name} of {vector}");
    }
    Some("decode")
}

fn field(profile: &Profile, read: &Reply, name: &str) -> Option<Value> {
    let raw = |field: &str| read.fields.get(field).copied();
    Some(match name {
        "type" if read.name == "notification" => json!("level_or_pressure_band"),
        "type" => json!(read.name),
        "running" => {
            let rule = profile.reply_rule(&read.name)?.fields.get("running")?;
            assert_eq!(rule.kind, FieldKind::Nonzero);
            let stopped = profile.proves_stop(read);
            json!(!stopped)
        }
        "running_raw" => json!(raw("running")?),
        "speed_raw" => json!(raw("speed")?),
        "value" => json!(raw("value")?),
        "version_int" => json!(raw("firmware")?),
        "version" => json!(dotted(raw("firmware")?)),
        "length_byte_matches" => json!(read.length_agrees?),
        "plausible" => json!(raw("speed")? <= u32::from(profile.speed.top)),
        _ => return None,
    })
}

fn advert(catalogue: &Catalogue, vector: &Value) -> Option<&'static str> {
    let on_air = bytes(text(vector, "hex"));
    let company = u16::from_le_bytes([*on_air.first()?, *on_air.get(1)?]);
    let data = on_air[2..].to_vec();
    let model = data.first().copied();
    let advertisement =
        Advertisement { manufacturer: BTreeMap::from([(company, data)]), ..Advertisement::default() };
    let judgement = catalogue.judge(&advertisement, None);
    let legacy = judgement.candidates.iter().any(|profile| profile.id == "hypervolt-legacy");
    let fields = &vector["fields"];
    assert_eq!(fields["company_id"], company, "{vector}");
    assert_eq!(fields["model_number"], json!(model), "{vector}");
    assert_eq!(fields["model"], json!(catalogue.model_name(&advertisement)), "{vector}");
    assert_eq!(fields["legacy_family"], legacy, "{vector}");
    Some("decode")
}

fn standard(vector: &Value) -> Option<&'static str> {
    let fields = &vector["fields"];
    let value = bytes(text(vector, "hex"));
    if let Some(command) = fields.get("command") {
        let subscription = match command.as_str()? {
            "subscribe" => Subscription::Notify,
            "subscribe_indicate" | "subscribe_indications" => Subscription::Indicate,
            "unsubscribe" => Subscription::Off,
            _ => return None,
        };
        assert_eq!(hex(&subscription.bytes()), text(vector, "hex"), "{vector}");
        return Some("subscription");
    }
    let characteristic = match text(fields, "type") {
        "battery" => {
            let (percent, error) = match gatt::battery_percent(&value) {
                Ok(percent) => (json!(percent), None),
                Err(ValueError::Length) => (Value::Null, Some("length")),
                Err(ValueError::Range) => (Value::Null, Some("range")),
            };
            assert_eq!(fields["percent"], percent, "{vector}");
            assert_eq!(fields.get("error").and_then(Value::as_str), error, "{vector}");
            gatt::BATTERY_LEVEL
        }
        "preferred_connection_parameters" => {
            let read = gatt::link_parameters(&value).unwrap();
            let in_ms = |us: Option<u32>| us.map(|us| f64::from(us) / 1000.0);
            assert_eq!(fields["interval_min_ms"], json!(in_ms(read.interval_min_us)), "{vector}");
            assert_eq!(fields["interval_max_ms"], json!(in_ms(read.interval_max_us)), "{vector}");
            assert_eq!(fields["latency"], read.latency, "{vector}");
            assert_eq!(fields["supervision_timeout_ms"], json!(read.supervision_ms), "{vector}");
            gatt::short_uuid(0x2A04)
        }
        "pnp_id" => {
            let read = gatt::pnp_id(&value).unwrap();
            let expected = json!([read.source, read.vendor, read.product, read.version]);
            let found = json!([fields["source"], fields["vendor"], fields["product"], fields["version"]]);
            assert_eq!(found, expected, "{vector}");
            gatt::short_uuid(0x2A50)
        }
        kind => {
            let characteristic = match kind {
                "manufacturer" | "manufacturer_name" => gatt::MANUFACTURER,
                "model_number" => gatt::MODEL_NUMBER,
                "serial_number" => gatt::SERIAL_NUMBER,
                "firmware_revision" => gatt::FIRMWARE_REVISION,
                "hardware_revision" => gatt::HARDWARE_REVISION,
                "software_revision" => gatt::SOFTWARE_REVISION,
                "device_name" => gatt::short_uuid(0x2A00),
                _ => return None,
            };
            let (read, lossy) = gatt::information(&value);
            assert_eq!(text(fields, "text"), read, "{vector}");
            assert_eq!(fields["lossy"].as_bool().unwrap_or(false), lossy, "{vector}");
            characteristic
        }
    };
    assert!(is_uuid(characteristic, text(vector, "characteristic")), "{vector}");
    Some("decode")
}

fn template(vector: &Value) -> Option<&'static str> {
    let fields = &vector["fields"];
    let defined = &fields["checksum"];
    let checksum = |name: &str| {
        assert_eq!(name, "ck");
        let to = if defined["to"] == "end" {
            LastIndex::End
        } else {
            LastIndex::At(usize::try_from(defined["to"].as_u64()?).ok()?)
        };
        let from = usize::try_from(defined["from"].as_u64()?).ok()?;
        Some(Checksum { algorithm: Algorithm::from_word(text(defined, "algo"))?, from, to })
    };
    let template = Template::parse(text(fields, "template"), checksum).unwrap();
    let number = |value: &Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    let params = fields["params"].as_object()?;
    let values: Values = params.iter().map(|(name, value)| (name.clone(), number(value))).collect();
    let rendered = template.render(&values).unwrap();
    assert_eq!(hex(&rendered), text(vector, "hex"), "{vector}");
    assert_eq!(template.read(&rendered), Some(values), "{vector}");
    Some("render")
}

fn matching(catalogue: &Catalogue, vector: &Value) -> Option<&'static str> {
    let given = &vector["advertisement"];
    let services = list(given, "services").iter().map(|uuid| gatt::parse_uuid(uuid.as_str()?));
    let manufacturer = given["manufacturer"]
        .as_object()?
        .iter()
        .map(|(company, data)| (u16::from_str_radix(company, 16).unwrap(), bytes(data.as_str().unwrap())));
    let advertisement = Advertisement {
        name: given["local_name"].as_str().map(str::to_owned),
        services: services.collect::<Option<_>>()?,
        manufacturer: manufacturer.collect(),
    };
    let judgement = catalogue.judge(&advertisement, None);
    let ids: Vec<&str> = judgement.candidates.iter().map(|profile| profile.id.as_str()).collect();
    assert_eq!(json!(ids), vector["candidates"], "{vector}");
    assert_eq!(judgement.decision.word(), vector["decision"], "{vector}");
    Some("decision")
}

fn computation(catalogue: &Catalogue, vector: &Value) -> Option<&'static str> {
    let (input, output) = (&vector["input"], &vector["output"]);
    let number = |key: &str| u16::try_from(input[key].as_u64().unwrap()).unwrap();
    match text(vector, "kind") {
        "dose" => {
            let time = Duration::from_secs_f64(input["duration_s"].as_f64()?);
            let rate = input["strokes_per_minute"].as_f64()?;
            let motion = HeadMotion::of(rate, input["stroke_mm"].as_f64()?, time);
            for (key, expected) in output.as_object()? {
                let found = match key.as_str() {
                    "frequency_hz" => motion.frequency_hz,
                    "strokes" => motion.strokes,
                    "head_travel_m" => motion.head_travel_m,
                    "peak_speed_m_s" => motion.peak_speed_m_s,
                    "peak_accel_m_s2" => motion.peak_accel_m_s2,
                    "rms_accel_m_s2" => motion.rms_accel_m_s2,
                    _ => return None,
                };
                close(found, expected, vector);
            }
            Some("dose")
        }
        "calibration" => {
            let point = |point: &Value| {
                let raw = u16::try_from(point[0].as_u64().unwrap()).unwrap();
                (raw, u32::try_from(point[1].as_u64().unwrap()).unwrap())
            };
            let points = list(input, "points").iter().map(point).collect();
            let found = Calibration::new(points).unwrap().milli_strokes_per_minute(number("raw"));
            match (&output["strokes_per_minute"], found) {
                (Value::Null, None) => {}
                (expected, Some(milli)) => close(milli as f64 / 1000.0, expected, vector),
                (expected, None) => panic!("unknown, not {expected}: {vector}"),
            }
            Some("calibration")
        }
        "clamp" => {
            let found = clamp(input["requested_raw"].as_i64()?, number("floor_raw"), number("max_raw"));
            let found = match found {
                Ok(clamped) => json!({ "emitted_raw": clamped.emitted, "limited": clamped.limited }),
                Err(ClampError::BelowFloor) => json!({ "emitted_raw": null, "error": "below_floor" }),
                Err(ClampError::Range) => json!({ "emitted_raw": null, "error": "range" }),
                Err(ClampError::NoStep) => json!({ "emitted_raw": null, "error": "step" }),
            };
            assert_eq!(*output, found, "{vector}");
            Some("clamp")
        }
        "ramp" => {
            let elapsed = Duration::from_millis(u64::from(number("elapsed_ms")));
            let found = ramp(number("current_raw"), number("target_raw"), number("rise_raw_per_s"), elapsed);
            assert_eq!(output["next_raw"], found, "{vector}");
            Some("ramp")
        }
        "link_loss_exposure" => {
            let time = |key: &str| Duration::from_secs_f64(input[key].as_f64().unwrap());
            let at = |key: &str| Mono::ORIGIN.saturating_add(time(key));
            let found =
                Exposure::of_loss(time("confirmed_s"), at("last_confirmed_at_s"), at("resolved_at_s"));
            close(found.confirmed.as_secs_f64(), &output["confirmed_s"], vector);
            close(found.unconfirmed.as_secs_f64(), &output["unconfirmed_s"], vector);
            close(found.upper_bound.as_secs_f64(), &output["upper_bound_s"], vector);
            Some("link_loss_exposure")
        }
        "sequence" => sequence(profile(catalogue, text(input, "family")), vector),
        _ => None,
    }
}

/// Half a unit of the last place that the vectors give.
fn close(found: f64, expected: &Value, vector: &Value) {
    let expected = expected.as_f64().unwrap_or_else(|| panic!("no number: {vector}"));
    let tolerance = 0.000_6_f64.max(expected.abs() * 2e-5);
    assert!((found - expected).abs() <= tolerance, "{found} is not {expected}: {vector}");
}

/// A driver on an ideal link; every status query is answered as the vector says.
struct Line {
    driver: ProfileDriver,
    now: Mono,
    answer: &'static str,
    frames: Vec<String>,
    reports: Vec<Report>,
}

impl Line {
    fn input(&mut self, input: DriverInput<'_>) {
        let mut out = Vec::new();
        self.driver.advance(self.now, input, &mut out);
        for output in out {
            match output {
                DriverOutput::Report(report) => self.reports.push(report),
                DriverOutput::Send(packet) => {
                    self.frames.push(hex(packet.bytes()));
                    self.written(&packet);
                }
            }
        }
    }

    fn written(&mut self, packet: &Packet) {
        self.input(DriverInput::Sent { id: packet.id(), outcome: SendOutcome::Written });
        let reply = match hex(packet.bytes()).as_str() {
            "aa101000" => self.answer,
            "aa202000" => "bb02200a000000000000000000d8",
            _ => return,
        };
        self.now = self.now.saturating_add(Duration::from_millis(40));
        let endpoint = Endpoint::Characteristic(gatt::parse_uuid("ffe1").unwrap());
        self.input(DriverInput::Received(&Received { endpoint, bytes: bytes(reply) }));
    }

    fn run(&mut self, until: Mono) {
        while let Some(at) = self.driver.deadline().filter(|at| *at < until) {
            self.now = self.now.max(at);
            self.input(DriverInput::Tick);
        }
        self.now = self.now.max(until);
    }
}

const STOPPED: &str = "bb1c100c000000000000000000000000";
const RUNNING: &str = "bb86100c010000000000000000096000";

fn sequence(profile: &Profile, vector: &Value) -> Option<&'static str> {
    let (input, output) = (&vector["input"], &vector["output"]);
    let event = text(input, "event");
    let mut line = Line {
        driver: ProfileDriver::new(profile.clone(), &Unit { bound: event == "stop", ..Unit::default() }),
        now: Mono::from_millis(1000),
        answer: STOPPED,
        frames: Vec::new(),
        reports: Vec::new(),
    };
    line.input(DriverInput::Connected { generation: Generation(0) });
    if let Some(gate) = profile.gate {
        let received = Received { endpoint: Endpoint::Characteristic(gate.uuid), bytes: vec![0; 4] };
        line.input(DriverInput::Received(&received));
    }
    let expected: Vec<&str> = list(output, "hex").iter().filter_map(Value::as_str).collect();
    match event {
        // Up to the first answer after the stop; then the idle queries begin.
        "connected" => line.run(Mono::from_millis(1450)),
        "stop" => {
            // The first stop of the connection comes to its end, or to the rest of its cycle, before the one asked.
            line.run(Mono::from_millis(2400));
            line.frames.clear();
            line.reports.clear();
            line.answer = if input["status_after_each"] == "running" { RUNNING } else { STOPPED };
            line.now = Mono::from_millis(2499);
            line.input(DriverInput::Command(Cleared::stop(Generation(1))));
            line.run(Mono::from_millis(2899));
        }
        _ => return None,
    }
    assert_eq!(line.frames, expected, "{vector}");
    line.frames.clear();
    line.run(Mono::from_millis(3600));
    let progress = |wanted: StopProgress| {
        line.reports
            .iter()
            .any(|report| matches!(report, Report::Stop { progress, .. } if *progress == wanted))
    };
    match output.get("final").and_then(Value::as_str) {
        None => {}
        Some("stopped_confirmed") => assert!(progress(StopProgress::Confirmed)),
        Some("fault_operator_must_press_button" | "stopped_unconfirmed_ask_operator") => {
            assert!(progress(StopProgress::Unconfirmed) && !progress(StopProgress::Confirmed));
        }
        Some(_) => return None,
    }
    Some("sequence")
}
