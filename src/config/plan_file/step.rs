//! One step of a plan: read, looked up, put on the unit's grid, and judged against its whole limit chain.

use std::time::Duration;

use toml::de::DeValue;

use crate::config::SIDES;
use crate::config::clinical_file::Area;
use crate::config::limit_table;
use crate::config::plan_file::sums::Booked;
use crate::config::plan_file::{Gathered, Knowledge, Listed, Unit, find};
use crate::config::problem::nearest;
use crate::config::reader::{At, Table, Wrong, duration, flag, join, one_of, quantity, text, whole};
use crate::config::step_limits::{self, Asked, Owners, is_caution};
use crate::governor::limits::ceiling;
use crate::model::area::{AreaCode, Permission, Place, Side};
use crate::model::capability::{Capability, IntensityRange, PulseGrid};
use crate::model::command::{Channel, DeviceId, Intensity};
use crate::model::limit::{LimitChain, Limits};
use crate::model::plan::{Applicator, Cycle, Electrode, Plan, Step, Stimulation};
use crate::model::protocol::{Modality, Protocol, Range};
use crate::units::{
    Hertz, Level, Microseconds, Milliamps, RawForce, RawSpeed, SquareCentimetres, show_duration,
};

/// A step as the file states it.
struct Raw<'t> {
    table: &'t Table<'t>,
    protocol: Option<At<String>>,
    device: Option<At<String>>,
    channel: Option<At<u32>>,
    area: Option<At<String>>,
    side: Option<At<Side>>,
    electrodes: Vec<Table<'t>>,
    attachment: Option<At<String>>,
    held_by: Option<At<String>>,
    start_at_device: Option<At<bool>>,
    force_max: Option<At<RawForce>>,
    frequency: Option<At<Hertz>>,
    width: Option<At<Microseconds>>,
    cycle: Option<RawCycle>,
    target: Option<At<Intensity>>,
    duration: Option<At<Duration>>,
}

/// The times of a cycle in the order of the protocol's ranges.
struct RawCycle {
    ramp_up: At<Duration>,
    on: At<Duration>,
    ramp_down: At<Duration>,
    off: At<Duration>,
}

/// The unit a step runs on.
struct Fitted<'k> {
    id: DeviceId,
    unit: &'k Unit,
    channel: Channel,
}

/// Where a step works: the place itself, the area, and whether an area of it is under the low cap.
struct Placed<'k> {
    place: Place,
    area: &'k Area,
    caution: bool,
}

pub(super) fn judge(
    number: u8,
    table: &Table<'_>,
    devices: &[Option<Listed<'_>>],
    knowledge: &Knowledge,
    gathered: &mut Gathered,
) -> Option<Step> {
    let raw = Raw::read(table);
    let own = table.table_if("limits", format!("`limits` of {}", table.name()));
    table.close();
    let protocol =
        raw.protocol.as_ref().and_then(|id| find(&knowledge.protocols, id, "protocol", table, gathered));
    if let (Some(because), Some(id)) =
        (protocol.and_then(|it| it.not_drivable_because.as_ref()), &raw.protocol)
    {
        let message = format!("the protocol `{}` cannot be driven", id.value);
        table.push(
            Some(id.span.clone()),
            message,
            because.clone(),
            Some("choose another protocol".to_owned()),
        );
    }
    let modality = protocol.map(|protocol| protocol.modality);
    let own_limits = own.map_or_else(Limits::default, |own| judge_own(&own, modality));
    let fitted = raw.fit(modality, devices);
    let mut placed = raw.place(modality, knowledge);
    let protocol = protocol?;
    let applicator = raw.applicator(protocol.modality, knowledge);
    raw.misplaced(protocol);
    if let (Some(placed), Some(applicator)) = (&mut placed, &applicator) {
        placed.caution |= caution_of(applicator, protocol.modality, knowledge);
    }
    // What is not known says nothing of limits: the rest is judged all the same, so that nothing waits behind a slip.
    let chain = step_limits::chain(&Owners {
        daemon: &knowledge.daemon,
        areas: &knowledge.areas,
        protocol,
        device: fitted.as_ref().map(|fitted| (fitted.unit.title.as_str(), &fitted.unit.capability)),
        plan: (number, own_limits),
        area: placed.as_ref().map(|placed| (&placed.place, placed.area.tissue)),
        caution: placed.as_ref().is_some_and(|placed| placed.caution),
    });
    let duration = raw.judge_duration(&chain);
    gathered.booked.extend(raw.booked(number, protocol.modality, placed.as_ref(), &chain));
    let contact = applicator.as_ref().and_then(Applicator::smallest_contact);
    let output = raw.judge_output(protocol, (fitted.as_ref(), placed.as_ref()), contact, &chain, gathered);
    let (fitted, placed, applicator) = (fitted?, placed?, applicator?);
    let ((stimulation, target), duration) = (output?, duration?);
    advise(table, protocol, &placed, duration, gathered);
    let start_at_device = raw.start_at_device.as_ref().is_some_and(|at| at.value);
    let force_max = raw.force_max.as_ref().map(|at| at.value);
    if protocol.modality == Modality::Percussion {
        raw.judge_hand(&fitted.unit.capability);
    }
    Some(Step {
        number,
        protocol: protocol.id.clone(),
        title: protocol.title.clone(),
        modality: protocol.modality,
        tissue: placed.area.tissue,
        place: placed.place,
        device: fitted.id,
        channel: fitted.channel,
        applicator,
        stimulation,
        target,
        duration,
        held_by: raw.held_by.map(|person| person.value),
        start_at_device,
        force_max,
        usual: protocol.usual.clone(),
        rest: protocol.rest_same_area,
        low: first_visit(knowledge, protocol, &fitted.unit.capability),
        chain,
    })
}

/// The low cap of a first visit holds for the session as a whole, not for one area only.
fn first_visit(knowledge: &Knowledge, protocol: &Protocol, capability: &Capability) -> Limits {
    let low = step_limits::low_cap(&knowledge.areas, protocol, Some(capability));
    Limits { session_time: low.session_time.or(low.duration), ..low }
}

/// Returns the pairs of steps that may give output at the same time: stimulation channels whose electrodes are allowed
/// paths across (SR-19). What percussion may run beside, `[[together]]` says (SR-25).
pub(super) fn together(plan: &Plan, knowledge: &Knowledge, gathered: &mut Gathered) -> Vec<(u8, u8)> {
    let mut allowed = Vec::new();
    for (position, one) in plan.steps.iter().enumerate() {
        for other in plan.steps.iter().skip(position.saturating_add(1)) {
            let (Applicator::Electrodes(ours), Applicator::Electrodes(theirs)) =
                (&one.applicator, &other.applicator)
            else {
                continue;
            };
            let crosses = |pad: &Electrode| theirs.iter().all(|it| knowledge.areas.cross(pad, it).is_some());
            if ours.iter().all(crosses) {
                allowed.push((one.number, other.number));
            } else {
                gathered.advice.push(format!(
                    "steps {} and {}: never at the same time; their electrodes together would be a path that is not allowed",
                    one.number, other.number
                ));
            }
        }
    }
    allowed
}

impl<'t> Raw<'t> {
    fn read(table: &'t Table<'t>) -> Self {
        Self {
            table,
            protocol: table.required("protocol", text),
            device: table.required("device", text),
            channel: table.required("channel", whole(1, 8)),
            area: table.required("area", text),
            side: table.required("side", one_of(SIDES)),
            electrodes: table.tables("electrodes", &format!("{}, electrode", table.name())),
            attachment: table.optional("attachment", text),
            held_by: table.optional("held_by", text),
            start_at_device: table.optional("start_at_device", flag),
            force_max: table.optional("force_max", quantity::<RawForce>),
            frequency: table.optional("frequency", quantity::<Hertz>),
            width: table.optional("width", quantity::<Microseconds>),
            cycle: table
                .table_if("cycle", format!("`cycle` of {}", table.name()))
                .and_then(|it| read_cycle(&it)),
            target: table.required("target", intensity),
            duration: read_duration(table),
        }
    }

    /// Judges how long the step is. Returns `None` when it is missing or zero; above a limit is reported.
    fn judge_duration(&self, chain: &LimitChain) -> Option<Duration> {
        let duration = self.duration.as_ref().filter(|duration| !duration.value.is_zero())?;
        step_limits::judge_duration(self.table, chain, (duration.value, &duration.span));
        Some(duration.value)
    }

    /// Judges pulses and target against the chain, and puts them on the unit's grid.
    fn judge_output(
        &self,
        protocol: &Protocol,
        (fitted, placed): (Option<&Fitted<'_>>, Option<&Placed<'_>>),
        contact: Option<SquareCentimetres>,
        chain: &LimitChain,
        gathered: &mut Gathered,
    ) -> Option<(Option<Stimulation>, Intensity)> {
        let capability = fitted.map(|fitted| &fitted.unit.capability);
        match protocol.modality {
            Modality::Tens | Modality::Nmes => {
                let stimulation = self.stimulation(protocol, capability, gathered);
                step_limits::judge_stimulation(self.table, chain, &self.asked(contact));
                let target = self.on_grid(capability?, gathered);
                Some((Some(stimulation?), target?))
            }
            Modality::Percussion => {
                let target = self.target.as_ref()?;
                let asked = (target.value, &target.span);
                let tissue = placed.map(|placed| placed.area.tissue);
                if step_limits::judge_percussion(self.table, chain, capability, tissue, asked) {
                    return None;
                }
                Some((None, self.on_grid(capability?, gathered)?))
            }
        }
    }

    /// Finds the unit and checks that it suits the modality and the target.
    fn fit<'k>(&self, modality: Option<Modality>, devices: &[Option<Listed<'k>>]) -> Option<Fitted<'k>> {
        let (table, label) = (self.table, self.device.as_ref()?);
        let labels = devices.iter().flatten().map(|(label, _)| label.value.as_str());
        let found = devices.iter().position(|it| it.as_ref().is_some_and(|it| it.0.value == label.value));
        let Some(position) = found else {
            if devices.iter().all(Option::is_some) {
                let help = match nearest(&label.value, labels.clone()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("devices of this plan: {}", join(labels)),
                };
                let message = format!(
                    "{} names the device `{}`, which the plan does not list",
                    table.name(),
                    label.value
                );
                table.push(Some(label.span.clone()), message, "no such label", Some(help));
            }
            return None;
        };
        let (_, (_, unit)) = devices.get(position)?.as_ref()?;
        let capability = &unit.capability;
        let stimulator = matches!(capability.intensity, IntensityRange::Current { .. });
        let wants_gun = modality.map(|modality| matches!(modality, Modality::Percussion));
        if wants_gun.is_some_and(|wants_gun| wants_gun == stimulator) {
            let word = modality.map_or("", Modality::word);
            let message = format!("`{}` cannot do {word}", label.value);
            table.push(
                Some(label.span.clone()),
                message,
                unit.title.clone(),
                Some("choose another device".to_owned()),
            );
            return None;
        }
        if stimulator && capability.keep_alive.is_none() {
            let message = format!("`{}` does not stop by itself when the link is lost", label.value);
            table.push(Some(label.span.clone()), message, "refused for stimulation", None);
        }
        let channel = self.channel.as_ref()?;
        if channel.value > u32::from(capability.channels) {
            let label = format!("{} has channels 1 to {}", unit.title, capability.channels);
            let message = format!("{} names channel {}", table.name(), channel.value);
            table.push(Some(channel.span.clone()), message, label, None);
            return None;
        }
        // Files count outputs from 1, as the housings do.
        let output = u8::try_from(channel.value.saturating_sub(1)).ok()?;
        Some(Fitted { id: DeviceId(u8::try_from(position).ok()?), unit, channel: Channel(output) })
    }

    fn place<'k>(&self, modality: Option<Modality>, knowledge: &'k Knowledge) -> Option<Placed<'k>> {
        let spot = Spot { area: self.area.as_ref(), side: self.side.as_ref() };
        let (area, side) = spot.judge(self.table, modality, knowledge)?;
        let caution = modality.is_some_and(|modality| is_caution(area.permission(modality)));
        Some(Placed { place: Place { area: area.code.clone(), side }, area, caution })
    }

    fn applicator(&self, modality: Modality, knowledge: &Knowledge) -> Option<Applicator> {
        match modality {
            Modality::Tens | Modality::Nmes => self.electrodes(modality, knowledge),
            Modality::Percussion => {
                for (key, there) in
                    [("attachment", self.attachment.is_some()), ("held_by", self.held_by.is_some())]
                {
                    if !there && !self.table.has(key) {
                        self.table.missing(key);
                    }
                }
                Some(Applicator::Attachment(self.attachment.as_ref()?.value.clone()))
            }
        }
    }

    /// Both electrodes of the channel: each permitted, and the pair on the allow-list (H-03, SR-11, SR-17).
    fn electrodes(&self, modality: Modality, knowledge: &Knowledge) -> Option<Applicator> {
        let table = self.table;
        if self.electrodes.len() != 2 {
            let message = format!("{} has {} electrodes", table.name(), self.electrodes.len());
            let at = table.key_span("electrodes").unwrap_or_else(|| table.span());
            let help = "declare both: electrodes = [ { area = …, side = …, contact = \"25 cm2\" }, … ]";
            table.push(Some(at), message, "two are due", Some(help.to_owned()));
        }
        let read: Vec<Option<Electrode>> =
            self.electrodes.iter().map(|pad| judge_electrode(pad, modality, knowledge)).collect();
        let pads: Vec<Electrode> = read.into_iter().collect::<Option<_>>()?;
        let pair = <[Electrode; 2]>::try_from(pads).ok()?;
        let [one, other] = &pair;
        let at = table.key_span("electrodes");
        if knowledge.areas.pair(modality, one, other).is_none() {
            let message = format!("the electrode path of {} is not allowed", table.name());
            let label = format!("{} {} to {} {}", one.area, one.side.word(), other.area, other.side.word());
            let help =
                "both pads on one side of one region, or on a neighbouring pair that the body areas list";
            table.push(at, message, label, Some(help.to_owned()));
            return None;
        }
        let (area, side) = (self.area.as_ref()?, self.side.as_ref()?);
        let booked = |pad: &Electrode| pad.area.as_str() == area.value && pad.side == side.value;
        if !pair.iter().any(booked) {
            let message = format!("no electrode of {} lies on its area", table.name());
            let help = "book the dose on the area and side of one of the electrodes".to_owned();
            table.push(Some(area.span.clone()), message, "no electrode is here", Some(help));
            return None;
        }
        Some(Applicator::Electrodes(pair))
    }

    /// What a gun must report for the keys that rest on it.
    fn judge_hand(&self, capability: &Capability) {
        let own_start = self.start_at_device.as_ref().filter(|at| at.value && !capability.reports_own_button);
        if let Some(at) = own_start {
            let message = "the gun does not report what is done at its own button";
            let help = "leave `start_at_device` out and start it from here".to_owned();
            self.table.push(Some(at.span.clone()), message, "its own start would not be seen", Some(help));
        }
        if let Some(at) = self.force_max.as_ref().filter(|_| !capability.reports_force) {
            let message = "the gun does not report how hard it is pressed";
            let help =
                "leave `force_max` out; how hard it is pressed is with the person who holds it".to_owned();
            self.table.push(Some(at.span.clone()), message, "nothing could hold this", Some(help));
        }
    }

    /// Keys without meaning for the protocol.
    fn misplaced(&self, protocol: &Protocol) {
        let keys: &[&str] = match (protocol.modality, protocol.on) {
            (Modality::Percussion, _) => &["electrodes", "frequency", "width", "cycle"],
            (Modality::Tens | Modality::Nmes, None) => {
                &["attachment", "held_by", "start_at_device", "force_max", "cycle"]
            }
            (Modality::Tens | Modality::Nmes, Some(_)) => {
                &["attachment", "held_by", "start_at_device", "force_max"]
            }
        };
        for key in keys.iter().filter(|key| self.table.has(key)) {
            let message = format!("`{key}` of {} has no meaning for {}", self.table.name(), protocol.id);
            self.table.push(self.table.key_span(key), message, "", Some("leave it out".to_owned()));
        }
    }

    /// Puts the pulses on the unit's grid: width floored, period lengthened.
    fn stimulation(
        &self,
        protocol: &Protocol,
        capability: Option<&Capability>,
        gathered: &mut Gathered,
    ) -> Option<Stimulation> {
        let table = self.table;
        for key in ["frequency", "width"].into_iter().filter(|key| !table.has(key)) {
            table.missing(key);
        }
        let cycle = self.cycle(protocol);
        if let Some(frequency) = &self.frequency {
            inside(table, "frequency", &protocol.frequency, frequency, Hertz::to_string);
        }
        if let (Some(range), Some(width)) = (&protocol.width, &self.width) {
            inside(table, "width", range, width, Microseconds::to_string);
        }
        let (frequency, width) = (self.frequency.as_ref()?, self.width.as_ref()?);
        let grid = capability?.pulse?;
        let (on_width, on_period) =
            (width_on_grid(&grid, width.value), period_on_grid(&grid, frequency.value));
        let (Some(on_width), Some(on_period)) = (on_width, on_period) else {
            let (at, key) =
                if on_width.is_none() { (&width.span, "width") } else { (&frequency.span, "frequency") };
            let message = format!("`{key}` of {} is outside what the unit can do", table.name());
            let label = format!(
                "width {} to {}, period {} to {}",
                grid.width_min, grid.width_max, grid.period_min, grid.period_max
            );
            table.push(Some(at.clone()), message, label, None);
            return None;
        };
        // Both phases, the gap, and 60 µs that the unit needs between pulses (maker's library, load check).
        let busy = u64::from(on_width.micros()) * 2 + u64::from(grid.gap.micros()) + 60;
        if busy >= u64::from(on_period.micros()) {
            let message = format!("the pulses of {} do not fit into their period", table.name());
            let label = format!("{busy} us of a period of {on_period}");
            table.push(
                Some(frequency.span.clone()),
                message,
                label,
                Some("lower the rate or the width".to_owned()),
            );
            return None;
        }
        let name = table.name();
        if Some(on_period) != frequency.value.period() {
            gathered.advice.push(format!(
                "{name}: {} becomes a period of {on_period}, on the unit's grid",
                frequency.value
            ));
        }
        if on_width != width.value {
            gathered
                .advice
                .push(format!("{name}: width {} becomes {on_width}, on the unit's grid", width.value));
        }
        Some(Stimulation { width: on_width, period: on_period, cycle: cycle? })
    }

    /// The cycle, when the protocol has one. Outer `None`: a problem was reported.
    fn cycle(&self, protocol: &Protocol) -> Option<Option<Cycle>> {
        let (Some(on), Some(off)) = (&protocol.on, &protocol.off) else {
            return Some(None);
        };
        if !self.table.has("cycle") {
            self.table.missing("cycle");
        }
        let raw = self.cycle.as_ref()?;
        let show = |it: &Duration| show_duration(*it).to_string();
        let checks = [
            ("ramp_up", protocol.ramp_up.as_ref(), &raw.ramp_up),
            ("on", Some(on), &raw.on),
            ("ramp_down", protocol.ramp_down.as_ref(), &raw.ramp_down),
            ("off", Some(off), &raw.off),
        ];
        for (key, range, at) in checks {
            if let Some(range) = range {
                inside(self.table, key, range, at, show);
            }
        }
        Some(Some(Cycle {
            ramp_up: raw.ramp_up.value,
            on: raw.on.value,
            ramp_down: raw.ramp_down.value,
            off: raw.off.value,
        }))
    }

    /// What is asked of the stimulator, as written: judged before it is put on the grid.
    fn asked(&self, contact: Option<SquareCentimetres>) -> Asked {
        let current = self.target.as_ref().and_then(|target| match target.value {
            Intensity::Current(current) => Some((current, target.span.clone())),
            Intensity::Speed(_) | Intensity::Level(_) => None,
        });
        Asked {
            current,
            width: self.width.as_ref().map(|width| (width.value, width.span.clone())),
            frequency: self.frequency.as_ref().map(|frequency| (frequency.value, frequency.span.clone())),
            on: self.cycle.as_ref().map(|cycle| (cycle.on.value, cycle.on.span.clone())),
            contact,
        }
    }

    /// Returns what the step books on the limits of the whole plan, when it says how long it is.
    fn booked(
        &self,
        number: u8,
        modality: Modality,
        placed: Option<&Placed<'_>>,
        chain: &LimitChain,
    ) -> Option<Booked> {
        let duration = self.duration.as_ref()?;
        Some(Booked {
            number,
            modality,
            place: placed.map(|placed| placed.place.clone()),
            duration: duration.value,
            span: duration.span.clone(),
            chain: chain.clone(),
        })
    }

    /// The target on the unit's grid, floored; of the unit's kind and not zero.
    fn on_grid(&self, capability: &Capability, gathered: &mut Gathered) -> Option<Intensity> {
        let (table, target) = (self.table, self.target.as_ref()?);
        let refuse = |message: String, label: String| {
            table.push(Some(target.span.clone()), message, label, None);
            None
        };
        let kind_wrong = || format!("`target` of {} is not what this unit is set by", table.name());
        let on_grid = match (capability.intensity, target.value) {
            (IntensityRange::Current { step, .. }, Intensity::Current(current)) => {
                let floored = step_limits::floor_current(capability, current);
                if floored == Milliamps::ZERO {
                    let message = format!("`target` of {} is below the unit's step", table.name());
                    return refuse(message, format!("at least {step} is due"));
                }
                Intensity::Current(floored)
            }
            (IntensityRange::Speed { floor, max, .. }, Intensity::Speed(speed)) => {
                if speed < floor || speed > max {
                    let message = format!("`target` of {} is outside what the unit runs at", table.name());
                    return refuse(message, format!("{floor} to {max} is due"));
                }
                target.value
            }
            (IntensityRange::Level { max, .. }, Intensity::Level(level)) => {
                if level == Level::ZERO || level > max {
                    let message = format!("`target` of {} is outside what the unit runs at", table.name());
                    return refuse(message, format!("1 level to {max} is due"));
                }
                target.value
            }
            (IntensityRange::Current { .. }, Intensity::Speed(_) | Intensity::Level(_)) => {
                return refuse(kind_wrong(), "a current such as \"6 mA\" is due".to_owned());
            }
            (IntensityRange::Speed { .. }, Intensity::Current(_) | Intensity::Level(_)) => {
                return refuse(kind_wrong(), "a speed such as \"1200 raw\" is due".to_owned());
            }
            (IntensityRange::Level { .. }, Intensity::Current(_) | Intensity::Speed(_)) => {
                return refuse(kind_wrong(), "a level such as \"1 level\" is due".to_owned());
            }
        };
        if on_grid != target.value {
            let name = table.name();
            gathered
                .advice
                .push(format!("{name}: target {} becomes {on_grid}, on the unit's grid", target.value));
        }
        Some(on_grid)
    }
}

/// An area and side as written for a step or an electrode.
struct Spot<'a> {
    area: Option<&'a At<String>>,
    side: Option<&'a At<Side>>,
}

impl Spot<'_> {
    /// Looks the area up and checks its sides and permission.
    fn judge<'k>(
        &self,
        table: &Table<'_>,
        modality: Option<Modality>,
        knowledge: &'k Knowledge,
    ) -> Option<(&'k Area, Side)> {
        let written = self.area?;
        let Some(area) = knowledge.areas.get(&AreaCode::new(&written.value)) else {
            let codes = knowledge.areas.iter().map(|area| area.code.as_str());
            let near = nearest(&written.value, codes).map(|near| format!("did you mean `{near}`?"));
            let help = near.or_else(|| Some("the codes are in config/clinical/body-areas.toml".to_owned()));
            let message = format!("{} names the area `{}`, which is not known", table.name(), written.value);
            table.push(Some(written.span.clone()), message, "no such area", help);
            return None;
        };
        if let Some(word) = modality.filter(|it| area.permission(*it) == Permission::Deny).map(Modality::word)
        {
            let message = format!("{word} is never done on {}", area.display);
            table.push(
                Some(written.span.clone()),
                message,
                area.why.clone(),
                Some("choose another area".to_owned()),
            );
        }
        let side = self.side?;
        if !area.laterality.contains(&side.value) {
            let message = format!("`{}` has no side `{}`", written.value, side.value.word());
            let label = format!("one of {}", join(area.laterality.iter().map(|side| side.word())));
            table.push(Some(side.span.clone()), message, label, None);
            return None;
        }
        Some((area, side.value))
    }
}

fn judge_electrode(table: &Table<'_>, modality: Modality, knowledge: &Knowledge) -> Option<Electrode> {
    /// No larger pad is sold for stimulation; a larger number is a slip that would loosen the density limit.
    const CONTACT_MAX: SquareCentimetres = SquareCentimetres::from_square_millimetres(30_000);
    /// Smaller than any pad for the body.
    const CONTACT_MIN: SquareCentimetres = SquareCentimetres::from_square_millimetres(100);
    let area = table.required("area", text);
    let side = table.required("side", one_of(SIDES));
    let contact = table.required("contact", quantity::<SquareCentimetres>);
    table.close();
    let placed = Spot { area: area.as_ref(), side: side.as_ref() }.judge(table, Some(modality), knowledge);
    let contact = contact?;
    if !(CONTACT_MIN..=CONTACT_MAX).contains(&contact.value) {
        let label = format!("{CONTACT_MIN} to {CONTACT_MAX} is due");
        table.push(Some(contact.span), format!("`contact` of {} is not credible", table.name()), label, None);
        return None;
    }
    let (area, side) = placed?;
    Some(Electrode { contact: contact.value, area: area.code.clone(), side })
}

/// The plan's own limits: they tighten, and mean something for the modality.
fn judge_own(table: &Table<'_>, modality: Option<Modality>) -> Limits {
    let written = limit_table::read(table, modality);
    if let Some(modality) = modality {
        let help = "tighten the limit; a file cannot raise a ceiling";
        limit_table::within(table, &written, &ceiling(modality), "the ceiling", help);
    }
    written.limits
}

fn caution_of(applicator: &Applicator, modality: Modality, knowledge: &Knowledge) -> bool {
    match applicator {
        Applicator::Attachment(_) => false,
        Applicator::Electrodes(pair) => pair.iter().any(|pad| {
            knowledge.areas.get(&pad.area).is_some_and(|area| is_caution(area.permission(modality)))
        }),
    }
}

fn advise(
    table: &Table<'_>,
    protocol: &Protocol,
    placed: &Placed<'_>,
    duration: Duration,
    gathered: &mut Gathered,
) {
    let name = table.name();
    if placed.caution {
        let words = format!("{name}: {} is a caution area: low cap; confirm the placement", placed.place);
        gathered.advice.push(words);
    }
    if duration < protocol.duration.min {
        let (short, usual) = (show_duration(duration), show_duration(protocol.duration.min));
        gathered.advice.push(format!("{name}: {short} is shorter than this protocol's {usual}"));
    }
}

/// Reports a value outside what the protocol describes.
fn inside<T: Copy + Ord>(
    table: &Table<'_>,
    key: &str,
    range: &Range<T>,
    at: &At<T>,
    show: impl Fn(&T) -> String,
) {
    if at.value < range.min {
        let message = format!("`{key}` of {} is below what the protocol describes", table.name());
        let label = format!("{} to {} is due", show(&range.min), show(&range.max));
        table.push(Some(at.span.clone()), message, label, None);
    }
    // `off` and the ramps have no limit of their own in the chain; the others are judged there.
    if at.value > range.max && !matches!(key, "frequency" | "width" | "on") {
        let message = format!("`{key}` of {} is above what the protocol describes", table.name());
        let label = format!("{} to {} is due", show(&range.min), show(&range.max));
        table.push(Some(at.span.clone()), message, label, None);
    }
}

fn width_on_grid(grid: &PulseGrid, width: Microseconds) -> Option<Microseconds> {
    let over = width.micros().checked_rem(grid.width_step.micros())?;
    let floored = Microseconds::from_micros(width.micros().saturating_sub(over));
    (grid.width_min..=grid.width_max).contains(&floored).then_some(floored)
}

fn period_on_grid(grid: &PulseGrid, rate: Hertz) -> Option<Microseconds> {
    let asked = rate.period()?.max(grid.period_min);
    let steps =
        asked.micros().checked_add(grid.period_step.micros().checked_sub(1)?)? / grid.period_step.micros();
    let period = Microseconds::from_micros(steps.checked_mul(grid.period_step.micros())?);
    (period <= grid.period_max).then_some(period)
}

fn read_cycle(table: &Table<'_>) -> Option<RawCycle> {
    let get = |key| table.required(key, duration);
    let (ramp_up, on, ramp_down, off) = (get("ramp_up"), get("on"), get("ramp_down"), get("off"));
    table.close();
    Some(RawCycle { ramp_up: ramp_up?, on: on?, ramp_down: ramp_down?, off: off? })
}

fn read_duration(table: &Table<'_>) -> Option<At<Duration>> {
    let read = table.required("duration", duration)?;
    if read.value.is_zero() {
        let message = format!("`duration` of {} is zero", table.name());
        table.push(Some(read.span.clone()), message, "above 0 s is due", None);
    }
    Some(read)
}

/// Reads an intensity; its unit says which kind.
fn intensity(value: &DeValue<'_>) -> Result<Intensity, Wrong> {
    let written = value.as_str().unwrap_or_default().trim();
    if written.ends_with("raw") {
        return quantity::<RawSpeed>(value).map(Intensity::Speed);
    }
    if written.ends_with("level") {
        return quantity::<Level>(value).map(Intensity::Level);
    }
    quantity::<Milliamps>(value)
        .map(Intensity::Current)
        .map_err(|wrong| wrong.labelled("mA, raw or level is due"))
}
