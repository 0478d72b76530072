//! The load rules of percussion-ble 9.4, as small named checks.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::{raw, refused};
use crate::config::problem::{Problem, Source};
use crate::model::packet::WriteKind;
use crate::model::profile::frame::{
    Algorithm, Checksum, FieldKind, FieldRule, LastIndex, NumberKind, ReplyRule, Template, Values, dotted,
    from_dotted,
};
use crate::model::profile::matching::ByteSet;
use crate::model::profile::{
    BatteryRole, Characteristic, Class, CommandRule, Evidence, Fact, Flag, Gate, Gatt, LinkLoss, MatchRules,
    Motor, Poll, Profile, Safety, SpeedRule, SpeedUnit, StopFrame, StopProof, Variant,
};

/// Highest number of an uncalibrated gun, raw or strokes per minute (percussion-ble U2).
const RAW_MAX: u16 = 2400;
/// Highest level of a documented gun (percussion-ble 7.4).
const LEVEL_MAX: u16 = 2;
/// Longest single run, s: documented and verified; experimental and inferred (percussion-ble 7.4).
const RUN_MAX_S: (u32, u32) = (120, 60);
/// Shortest stop tail of a family that was never measured, ms (design 4).
const STOP_TAIL_MS: u32 = 1000;
/// From one stop frame to the next where nothing confirms a stop, ms (percussion-ble 3.4).
const BLIND_SPACING_MS: u32 = 100;

/// Where the checks put what they find.
struct Judge<'a> {
    source: &'a Source,
    problems: &'a mut Vec<Problem>,
}

/// Judges a whole file; `None` when anything is wrong with it.
pub(super) fn profile(
    raw: raw::Profile,
    digest: String,
    source: &Source,
    problems: &mut Vec<Problem>,
) -> Option<Profile> {
    let before = problems.len();
    let mut judge = Judge { source, problems };
    judge.head(&raw);
    let evidence = evidence(raw.evidence);
    let class = match raw.class {
        raw::Class::Gun => Class::Gun,
        raw::Class::Roller => Class::Roller,
        raw::Class::Vibration => Class::Vibration,
    };
    let checksums = judge.checksums(raw.checksum);
    let frames: BTreeMap<String, Range<usize>> =
        raw.command.iter().map(|(name, command)| (name.clone(), command.frame.span())).collect();
    let commands = judge.commands(raw.command, &checksums);
    let motor = judge.motor(&commands, &frames);
    let replies = judge.replies(raw.reply, &checksums);
    let speed = judge.speed(&raw.speed);
    let matching = judge.matching(raw.matching, &commands, &replies);
    let gatt = judge.gatt(raw.gatt);
    let gate = raw.gate.and_then(|gate| judge.gate(&gate));
    let poll = raw.poll.and_then(|poll| judge.poll(poll, &commands, &replies));
    let safety = judge.safety(raw.safety, &commands, &replies, poll.as_ref());
    if let (Some(speed), Some(safety)) = (&speed, &safety) {
        judge.caps(evidence, class, speed, safety);
    }
    let rise = safety.as_ref().map_or(0, |safety| safety.0.rise_per_s);
    let variants = judge.variants(raw.variant, speed.as_ref(), rise);
    judge.examples(raw.example, &commands, motor.as_ref(), &replies);
    let profile = Profile {
        id: raw.id.into_inner(),
        title: raw.title,
        class,
        evidence,
        sources: raw.sources.into_inner(),
        digest,
        matching,
        gatt: gatt?,
        gate,
        commands,
        motor: motor?,
        replies,
        speed: speed?,
        physical: facts(raw.physical),
        variants,
        safety: safety?.0,
        poll,
    };
    (problems.len() == before).then_some(profile)
}

/// Spans of the safety numbers, for the checks that need the whole file.
struct SafetySpans {
    max: Range<usize>,
    rise: Option<Range<usize>>,
    run: Range<usize>,
    tail: Range<usize>,
}

impl Judge<'_> {
    fn problem(&mut self, span: Range<usize>, message: impl Into<String>, label: impl Into<String>) {
        self.problems.push(self.source.problem(Some(span), message, label, None));
    }

    fn head(&mut self, raw: &raw::Profile) {
        if *raw.schema.get_ref() != 1 {
            self.problem(raw.schema.span(), "unknown schema", "expected 1");
        }
        let id = raw.id.get_ref();
        let well_formed = id.starts_with(|c: char| c.is_ascii_lowercase())
            && id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !well_formed {
            self.problem(raw.id.span(), "not an id", "lower-case letters, digits and dashes");
        }
        if raw.sources.get_ref().is_empty() {
            self.problem(raw.sources.span(), "no source", "say where the frames were learned");
        }
    }

    fn checksums(&mut self, raw: BTreeMap<String, raw::Checksum>) -> BTreeMap<String, Checksum> {
        let mut found = BTreeMap::new();
        for (name, raw) in raw {
            let algorithm = Algorithm::from_word(raw.algo.get_ref());
            if algorithm.is_none() {
                let known = "sum8, neg8, inv8, xor8, crc8, crc16_modbus_le or crc16_ccitt_be";
                self.problem(raw.algo.span(), "unknown checksum", known);
            }
            let span = raw.to.span();
            let to = match raw.to.into_inner() {
                toml::Value::String(word) if word == "end" => Some(LastIndex::End),
                toml::Value::Integer(index) => usize::try_from(index).ok().map(LastIndex::At),
                toml::Value::String(_)
                | toml::Value::Float(_)
                | toml::Value::Boolean(_)
                | toml::Value::Datetime(_)
                | toml::Value::Array(_)
                | toml::Value::Table(_) => None,
            };
            if to.is_none() {
                self.problem(span, "not the end of a range", "\"end\" or an index");
            }
            if let (Some(algorithm), Some(to)) = (algorithm, to) {
                found.insert(name, Checksum { algorithm, from: raw.from, to });
            }
        }
        found
    }

    fn commands(
        &mut self,
        raw: BTreeMap<String, raw::Command>,
        checksums: &BTreeMap<String, Checksum>,
    ) -> BTreeMap<String, CommandRule> {
        let mut found = BTreeMap::new();
        for (name, raw) in raw {
            let write = match raw.write {
                Some(raw::Write::WithoutResponse) => WriteKind::WithoutResponse,
                Some(raw::Write::WithResponse | raw::Write::AsAvailable) | None => WriteKind::WithResponse,
            };
            match Template::parse(raw.frame.get_ref(), |checksum| checksums.get(checksum).copied()) {
                Ok(template) => {
                    found.insert(name, CommandRule { template, write });
                }
                Err(error) => self.problem(raw.frame.span(), error.to_string(), "this frame does not render"),
            }
        }
        found
    }

    /// The one command with a parameter sets the motor; the driver has no value for any other.
    fn motor(
        &mut self,
        commands: &BTreeMap<String, CommandRule>,
        frames: &BTreeMap<String, Range<usize>>,
    ) -> Option<Motor> {
        let mut found = None;
        for (name, rule) in commands {
            let parameters: Vec<&str> = rule.template.parameters().collect();
            let expected = match name.as_str() {
                "set_speed" => vec!["speed"],
                "set_level" => vec!["level"],
                _ => Vec::new(),
            };
            if parameters != expected {
                let label = match expected.first() {
                    Some(parameter) => format!("the one parameter here is `{parameter}`"),
                    None => "only set_speed and set_level have a parameter".to_owned(),
                };
                let span = frames.get(name).cloned().unwrap_or(0..0);
                self.problem(span, format!("command `{name}` has parameters {parameters:?}"), label);
            }
            if let Some(parameter) = expected.first() {
                if found.is_some() {
                    let span = frames.get(name).cloned().unwrap_or(0..0);
                    self.problem(span, "two commands set the motor", "keep one");
                }
                found = Some(Motor { command: name.clone(), parameter: (*parameter).to_owned() });
            }
        }
        if found.is_none() {
            self.problems.push(self.source.problem(
                None,
                "no command sets the motor",
                "",
                Some("add [command.set_speed] or [command.set_level]".to_owned()),
            ));
        }
        found
    }

    fn replies(
        &mut self,
        raw: BTreeMap<String, Spanned<raw::Reply>>,
        checksums: &BTreeMap<String, Checksum>,
    ) -> Vec<ReplyRule> {
        let mut found = Vec::new();
        for (name, raw) in raw {
            let raw = raw.into_inner();
            let raw::On::Status = raw.on;
            let len_min = *raw.min_len.get_ref();
            if len_min == 0 {
                self.problem(raw.min_len.span(), "an empty reply", "at least 1");
            }
            let checksum = raw.checksum.and_then(|used| {
                let Some(checksum) = checksums.get(used.name.get_ref()) else {
                    self.problem(used.name.span(), "this checksum is not defined", "see [checksum]");
                    return None;
                };
                let end = used.at.saturating_add(checksum.algorithm.width());
                if end > len_min || checksum.check_range(len_min).is_err() {
                    self.problem(
                        used.name.span(),
                        "the checksum is not inside the shortest reply",
                        "min_len",
                    );
                }
                Some((*checksum, used.at))
            });
            let outside = |at: usize| at >= len_min;
            if raw.when.iter().any(|when| outside(when.at)) || raw.length_at.is_some_and(outside) {
                self.problem(
                    raw.min_len.span(),
                    "a compared byte is not inside the shortest reply",
                    "min_len",
                );
            }
            let mut fields = BTreeMap::new();
            for (field, rule) in raw.fields {
                if let Some(rule) = self.field(rule, len_min) {
                    fields.insert(field, rule);
                }
            }
            let when = raw.when.iter().map(|when| (when.at, when.eq)).collect();
            found.push(ReplyRule { name, when, len_min, checksum, length_at: raw.length_at, fields });
        }
        found
    }

    fn field(&mut self, raw: Spanned<raw::Field>, len_min: usize) -> Option<FieldRule> {
        let span = raw.span();
        let raw = raw.into_inner();
        let kind = match raw.kind.get_ref().as_str() {
            "nonzero" => Some(FieldKind::Nonzero),
            word => NumberKind::from_word(word).map(FieldKind::Number),
        };
        let Some(kind) = kind else {
            self.problem(raw.kind.span(), "unknown field type", "nonzero, u8, u16be, u16le or ascii_digit");
            return None;
        };
        let dotted = match raw.format {
            None => false,
            Some(format) if format.get_ref() == "d.d.d" => true,
            Some(format) => {
                self.problem(format.span(), "unknown format", "\"d.d.d\" is the only one");
                false
            }
        };
        let rule = FieldRule { at: raw.at, kind, dotted };
        if raw.at.saturating_add(rule.width()) > len_min {
            self.problem(span, "the field is not inside the shortest reply", "beyond min_len");
        }
        Some(rule)
    }

    fn speed(&mut self, raw: &Spanned<raw::Speed>) -> Option<SpeedRule> {
        let span = raw.span();
        let raw = raw.get_ref();
        let unit = match raw.unit {
            raw::SpeedUnit::Raw => SpeedUnit::Raw,
            raw::SpeedUnit::Level => SpeedUnit::Level,
            raw::SpeedUnit::StrokesPerMinute => SpeedUnit::StrokesPerMinute,
        };
        if raw.top == 0 || (matches!(unit, SpeedUnit::Level) && raw.top > u16::from(u8::MAX)) {
            self.problem(span.clone(), "`top` is no number of a device", "1 to 65535, levels to 255");
        }
        match (raw.kind, &raw.steps, raw.floor) {
            (raw::SpeedKind::Continuous, None, Some(floor)) if floor >= 1 && floor <= raw.top => {
                Some(SpeedRule { unit, floor, top: raw.top, steps: Vec::new() })
            }
            (raw::SpeedKind::Continuous, _, _) => {
                self.problem(span, "a continuous speed needs `floor`, 1 to `top`, and no steps", "");
                None
            }
            (raw::SpeedKind::Steps, Some(steps), None) => {
                let steps = self.steps(steps, raw.top)?;
                Some(SpeedRule { unit, floor: steps.first().copied()?, top: raw.top, steps })
            }
            (raw::SpeedKind::Steps, _, _) => {
                self.problem(span, "a speed in steps needs `steps` and no floor", "");
                None
            }
        }
    }

    /// Returns the steps that run: 0 is left out.
    fn steps(&mut self, raw: &Spanned<Vec<u16>>, top: u16) -> Option<Vec<u16>> {
        let steps: Vec<u16> = raw.get_ref().iter().copied().filter(|step| *step != 0).collect();
        let rising = steps.iter().zip(steps.iter().skip(1)).all(|(a, b)| a < b);
        if steps.is_empty() || !rising || steps.last().is_some_and(|last| *last > top) {
            self.problem(raw.span(), "not the steps of a device", "rising, none above `top`");
            return None;
        }
        Some(steps)
    }

    fn matching(
        &mut self,
        raw: Spanned<raw::Match>,
        commands: &BTreeMap<String, CommandRule>,
        replies: &[ReplyRule],
    ) -> MatchRules {
        let span = raw.span();
        let raw = raw.into_inner();
        let traits =
            refused::traits(raw.names, raw.name_prefixes, raw.manufacturer, self.source, self.problems);
        if traits.names.is_empty() && traits.prefixes.is_empty() && traits.manufacturer.is_empty() {
            self.problem(span.clone(), "nothing recognises this device", "names or manufacturer data");
        }
        if traits
            .manufacturer
            .iter()
            .any(|rule| !matches!(&rule.values, ByteSet::In(values) if !values.is_empty()))
        {
            self.problem(span, "a company alone identifies nothing", "list values with `in`");
        }
        if let Some(proof) = &raw.proof {
            self.asks(proof, commands, replies);
        }
        MatchRules {
            traits,
            deny_contains: raw.deny_contains.iter().map(|part| part.to_lowercase()).collect(),
            always_ask: matches!(raw.confirm, raw::Confirm::Always),
            proof: raw.proof.map(Spanned::into_inner),
        }
    }

    /// Returns the reply that answers `get_x`: it is named `x`.
    fn asks(
        &mut self,
        command: &Spanned<String>,
        commands: &BTreeMap<String, CommandRule>,
        replies: &[ReplyRule],
    ) -> Option<String> {
        let name = command.get_ref();
        let reply = name.strip_prefix("get_").filter(|asked| replies.iter().any(|rule| rule.name == **asked));
        if !commands.contains_key(name) || reply.is_none() {
            let label = "a command `get_x` with a reply `x`";
            self.problem(command.span(), format!("`{name}` is no query of this file"), label);
            return None;
        }
        reply.map(str::to_owned)
    }

    fn gatt(&mut self, raw: raw::Gatt) -> Option<Gatt> {
        let command = self.characteristic(raw.command, &[Flag::Write, Flag::WriteWithoutResponse]);
        let status = match raw.status {
            Some(status) => Some(self.characteristic(status, &[Flag::Notify, Flag::Indicate])?),
            None => None,
        };
        let battery = match raw.battery.kind {
            raw::BatteryKind::Standard => BatteryRole::Standard,
            raw::BatteryKind::Frame => BatteryRole::Frame,
            raw::BatteryKind::None => BatteryRole::None,
        };
        Some(Gatt { command: command?, status, battery })
    }

    fn characteristic(&mut self, raw: raw::Characteristic, useful: &[Flag]) -> Option<Characteristic> {
        let service = if raw.service.get_ref() == "any" {
            None
        } else {
            Some(refused::uuid(&raw.service, self.source, self.problems)?)
        };
        let needs: Vec<Flag> = raw.needs.get_ref().iter().map(|flag| flag_of(*flag)).collect();
        if !needs.iter().any(|flag| useful.contains(flag)) {
            self.problem(raw.needs.span(), "none of these flags serves this characteristic", "see its role");
        }
        Some(Characteristic { service, uuid: refused::uuid(&raw.char, self.source, self.problems)?, needs })
    }

    fn gate(&mut self, raw: &raw::Gate) -> Option<Gate> {
        let tail_zero = *raw.read_tail_zero.get_ref();
        if tail_zero == 0 {
            self.problem(raw.read_tail_zero.span(), "a gate over no bytes is always open", "at least 1");
        }
        Some(Gate { uuid: refused::uuid(&raw.char, self.source, self.problems)?, tail_zero })
    }

    fn poll(
        &mut self,
        raw: raw::Poll,
        commands: &BTreeMap<String, CommandRule>,
        replies: &[ReplyRule],
    ) -> Option<Poll> {
        let reply = self.asks(&raw.command, commands, replies);
        let suspect = self.within(&raw.suspect_ms, 100, 750, "tighten only: at most 750 ms");
        let lost = self.within(&raw.lost_ms, 200, 3000, "tighten only: at most 3000 ms");
        let idle = self.within(&raw.idle_ms, 100, 500, "100 to 500 ms");
        let run = self.within(&raw.run_ms, 100, 250, "100 to 250 ms");
        Some(Poll { command: raw.command.into_inner(), reply: reply?, idle, run, suspect, lost })
    }

    fn within(&mut self, raw: &Spanned<u32>, least: u32, most: u32, label: &str) -> Duration {
        if !(least..=most).contains(raw.get_ref()) {
            self.problem(raw.span(), format!("{} is outside what is allowed", raw.get_ref()), label);
        }
        Duration::from_millis(u64::from(*raw.get_ref()))
    }

    fn safety(
        &mut self,
        raw: raw::Safety,
        commands: &BTreeMap<String, CommandRule>,
        replies: &[ReplyRule],
        poll: Option<&Poll>,
    ) -> Option<(Safety, SafetySpans)> {
        let gap_min = self.within(&raw.min_gap_ms, 20, 1000, "20 to 1000 ms");
        let stop_cycle = self.within(&raw.stop_cycle_ms, 200, 500, "200 to 500 ms");
        let stop_tail = self.within(&raw.stop_tail_ms, 0, 10_000, "at most 10 s");
        if !(1..=5).contains(raw.stop_repeat.get_ref()) {
            self.problem(raw.stop_repeat.span(), "not a number of repeats", "1 to 5");
        }
        let spacing =
            raw.stop_confirm.as_ref().map_or(Duration::from_millis(u64::from(BLIND_SPACING_MS)), |c| {
                self.within(&c.within_ms, 50, 150, "50 to 150 ms, from one stop frame to the next")
            });
        let confirm = raw.stop_confirm.and_then(|confirm| {
            let rule = poll.and_then(|poll| replies.iter().find(|rule| rule.name == poll.reply));
            if !rule.is_some_and(|rule| rule.fields.contains_key(confirm.field.get_ref())) {
                self.problem(
                    confirm.field.span(),
                    "the polled reply has no such field",
                    "see [poll], [reply]",
                );
                return None;
            }
            Some(StopProof { field: confirm.field.into_inner(), eq: confirm.eq })
        });
        let spans = SafetySpans {
            max: raw.max.span(),
            rise: raw.rise_per_s.as_ref().map(Spanned::span),
            run: raw.max_run_s.span(),
            tail: raw.stop_tail_ms.span(),
        };
        let safety = Safety {
            max: *raw.max.get_ref(),
            rise_per_s: raw.rise_per_s.map_or(0, Spanned::into_inner),
            run_max: Duration::from_secs(u64::from(*raw.max_run_s.get_ref())),
            stop_tail,
            gap_min,
            stop: self.stop(&raw.stop, commands)?,
            stop_repeat: *raw.stop_repeat.get_ref(),
            confirm,
            stop_spacing: spacing,
            stop_cycle,
            on_link_loss: match raw.on_link_loss {
                raw::LinkLoss::Continues => LinkLoss::Continues,
                raw::LinkLoss::Stops => LinkLoss::Stops,
                raw::LinkLoss::PowersOff => LinkLoss::PowersOff,
                raw::LinkLoss::Unknown => LinkLoss::Unknown,
            },
        };
        Some((safety, spans))
    }

    fn stop(
        &mut self,
        raw: &Spanned<Vec<Spanned<String>>>,
        commands: &BTreeMap<String, CommandRule>,
    ) -> Option<Vec<StopFrame>> {
        if raw.get_ref().is_empty() {
            self.problem(raw.span(), "no frame stops this device", "list at least one command");
        }
        let mut frames = Vec::new();
        for name in raw.get_ref() {
            let rule = commands.get(name.get_ref());
            match rule.map(|rule| (rule.template.render(&Values::new()), rule.write)) {
                Some((Ok(bytes), write)) => {
                    frames.push(StopFrame { name: name.get_ref().clone(), bytes, write });
                }
                Some((Err(_), _)) => self.problem(name.span(), "a stop has no parameters", "this one has"),
                None => self.problem(name.span(), "no such command", "see [command]"),
            }
        }
        (frames.len() == raw.get_ref().len() && !frames.is_empty()).then_some(frames)
    }

    /// Caps by evidence (percussion-ble 7.4) and the rules between numbers.
    fn caps(
        &mut self,
        evidence: Evidence,
        class: Class,
        speed: &SpeedRule,
        (safety, spans): &(Safety, SafetySpans),
    ) {
        let family = match (speed.unit, class) {
            (SpeedUnit::Level, Class::Gun | Class::Roller | Class::Vibration) => LEVEL_MAX,
            (SpeedUnit::Raw | SpeedUnit::StrokesPerMinute, Class::Gun) => RAW_MAX,
            // Their numbers have no known meaning; while uncalibrated only the first step is sent.
            (SpeedUnit::Raw | SpeedUnit::StrokesPerMinute, Class::Roller | Class::Vibration) => speed.top,
        };
        let (cap, run_max) = match evidence {
            Evidence::Experimental | Evidence::Inferred => (family.min(speed.top / 3), RUN_MAX_S.1),
            Evidence::Documented => (family, RUN_MAX_S.0),
            Evidence::Verified => (speed.top, RUN_MAX_S.0),
        };
        if safety.max < speed.floor || safety.max > speed.top {
            let label = format!("{} to {}", speed.floor, speed.top);
            self.problem(spans.max.clone(), "`max` is outside floor and top", label);
        } else if safety.max > cap {
            let label = format!("at most {cap} at this evidence");
            self.problem(spans.max.clone(), "`max` is above the cap of its evidence", label);
        }
        let run = safety.run_max.as_secs();
        if run == 0 || run > u64::from(run_max) {
            let label = format!("1 to {run_max} s at this evidence");
            self.problem(spans.run.clone(), "`max_run_s` is outside the cap of its evidence", label);
        }
        if evidence != Evidence::Verified && safety.stop_tail < Duration::from_millis(u64::from(STOP_TAIL_MS))
        {
            self.problem(spans.tail.clone(), "the stop tail was never measured", "1000 ms until then");
        }
        let rise = spans.rise.clone();
        match (speed.steps.is_empty(), rise) {
            (true, None) => self.problem(spans.max.clone(), "`rise_per_s` is missing", "at most 20 % of top"),
            (true, Some(span)) if safety.rise_per_s == 0 || safety.rise_per_s > speed.top / 5 => {
                let label = format!("1 to {}, 20 % of top", speed.top / 5);
                self.problem(span, "the rise is too fast", label);
            }
            (false, Some(span)) => self.problem(span, "steps rise one per 2 s", "leave this out"),
            (true, Some(_)) | (false, None) => {}
        }
    }

    fn variants(
        &mut self,
        raw: Vec<Spanned<raw::Variant>>,
        base: Option<&SpeedRule>,
        rise_per_s: u16,
    ) -> Vec<Variant> {
        let mut found = Vec::new();
        for raw in raw {
            let span = raw.span();
            let raw = raw.into_inner();
            let traits =
                refused::traits(raw.names, raw.name_prefixes, raw.manufacturer, self.source, self.problems);
            let firmware_min = raw.firmware_min.and_then(|text| {
                let number = from_dotted(text.get_ref());
                if number.is_none() {
                    self.problem(text.span(), "not a firmware version", "for example \"2.1.6\"");
                }
                number
            });
            let Some(speed) = base.and_then(|base| self.variant_speed(raw.speed, base, rise_per_s)) else {
                continue;
            };
            if speed.floor > speed.top {
                self.problem(span, "the floor of this variant is above its top", "");
            }
            let physical = facts(raw.physical);
            found.push(Variant { title: raw.title, traits, speed, physical, firmware_min });
        }
        found
    }

    /// A variant may only lower: its top, and so its steps, stay below the family's.
    fn variant_speed(
        &mut self,
        raw: Option<Spanned<raw::VariantSpeed>>,
        base: &SpeedRule,
        rise_per_s: u16,
    ) -> Option<SpeedRule> {
        let Some(raw) = raw else {
            return Some(base.clone());
        };
        let span = raw.span();
        let raw = raw.into_inner();
        let top = raw.top.unwrap_or(base.top);
        if top > base.top || top == 0 {
            self.problem(span.clone(), "a variant cannot raise the top", format!("at most {}", base.top));
        }
        if rise_per_s > top / 5 {
            self.problem(
                span.clone(),
                "the family's rise is too fast for this top",
                "20 % of top per second",
            );
        }
        let steps = match &raw.steps {
            Some(_) if base.steps.is_empty() => {
                self.problem(span.clone(), "the family has no steps", "");
                return None;
            }
            Some(steps) => self.steps(steps, top)?,
            None => base.steps.iter().copied().filter(|step| *step <= top).collect(),
        };
        let floor = match raw.floor {
            Some(floor) if floor < base.floor || !base.steps.is_empty() => {
                self.problem(span, "a variant cannot lower the floor", format!("at least {}", base.floor));
                return None;
            }
            Some(floor) => floor,
            None => steps.first().copied().unwrap_or(base.floor),
        };
        Some(SpeedRule { unit: base.unit, floor, top, steps })
    }

    fn examples(
        &mut self,
        raw: Vec<Spanned<raw::Example>>,
        commands: &BTreeMap<String, CommandRule>,
        motor: Option<&Motor>,
        replies: &[ReplyRule],
    ) {
        let mut shown = Vec::new();
        for example in raw {
            let span = example.span();
            let example = example.into_inner();
            let Some(bytes) = from_hex(example.hex.get_ref()) else {
                self.problem(example.hex.span(), "not hex", "pairs of hex digits");
                continue;
            };
            match (&example.command, &example.reply) {
                (Some(command), None) => {
                    shown.push(command.get_ref().clone());
                    self.command_example(&example, command, &bytes, commands);
                }
                (None, Some(reply)) => {
                    shown.push(reply.get_ref().clone());
                    self.reply_example(&example, reply, &bytes, replies);
                }
                (Some(_), Some(_)) | (None, None) => {
                    self.problem(span, "an example shows a command or a reply", "one of them");
                }
            }
        }
        let needed =
            motor.map(|motor| &motor.command).into_iter().chain(replies.iter().map(|rule| &rule.name));
        for name in needed.filter(|name| !shown.contains(name)) {
            let help = Some("add an [[example]] with its bytes".to_owned());
            self.problems.push(self.source.problem(None, format!("`{name}` has no example"), "", help));
        }
    }

    fn command_example(
        &mut self,
        example: &raw::Example,
        command: &Spanned<String>,
        bytes: &[u8],
        commands: &BTreeMap<String, CommandRule>,
    ) {
        let Some(rule) = commands.get(command.get_ref()) else {
            self.problem(command.span(), "no such command", "see [command]");
            return;
        };
        match rule.template.render(&example.args) {
            Ok(rendered) if rendered == bytes => {}
            Ok(rendered) => {
                let label = format!("the frame renders as {}", to_hex(&rendered));
                self.problem(example.hex.span(), "the example fails", label);
            }
            Err(error) => self.problem(example.hex.span(), "the example fails", error.to_string()),
        }
    }

    fn reply_example(
        &mut self,
        example: &raw::Example,
        reply: &Spanned<String>,
        bytes: &[u8],
        replies: &[ReplyRule],
    ) {
        let Some(rule) = replies.iter().find(|rule| rule.name == *reply.get_ref()) else {
            self.problem(reply.span(), "no such reply", "see [reply]");
            return;
        };
        let Some(read) = rule.read(bytes) else {
            self.problem(example.hex.span(), "the example fails", "these bytes are not such a reply");
            return;
        };
        for (name, expected) in &example.fields {
            let Some((field, raw)) = rule.fields.get(name).zip(read.fields.get(name)) else {
                self.problem(example.hex.span(), "the example fails", format!("no field `{name}`"));
                continue;
            };
            if *expected != shown(*field, *raw) {
                let label = format!("`{name}` reads {}", shown(*field, *raw));
                self.problem(example.hex.span(), "the example fails", label);
            }
        }
    }
}

/// Returns a field as a file writes it.
fn shown(field: FieldRule, raw: u32) -> toml::Value {
    match field.kind {
        FieldKind::Nonzero => toml::Value::Boolean(raw != 0),
        FieldKind::Number(_) if field.dotted => toml::Value::String(dotted(raw)),
        FieldKind::Number(_) => toml::Value::Integer(i64::from(raw)),
    }
}

fn evidence(raw: raw::Evidence) -> Evidence {
    match raw {
        raw::Evidence::Experimental => Evidence::Experimental,
        raw::Evidence::Inferred => Evidence::Inferred,
        raw::Evidence::Documented => Evidence::Documented,
        raw::Evidence::Verified => Evidence::Verified,
    }
}

fn flag_of(raw: raw::Flag) -> Flag {
    match raw {
        raw::Flag::Read => Flag::Read,
        raw::Flag::Write => Flag::Write,
        raw::Flag::WriteWithoutResponse => Flag::WriteWithoutResponse,
        raw::Flag::Notify => Flag::Notify,
        raw::Flag::Indicate => Flag::Indicate,
    }
}

fn facts(raw: BTreeMap<String, raw::Fact>) -> BTreeMap<String, Fact> {
    let fact = |fact: raw::Fact| Fact { value: fact.value, confidence: fact.confidence, source: fact.source };
    raw.into_iter().map(|(name, raw)| (name, fact(raw))).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at.saturating_add(2))?, 16).ok())
        .collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
