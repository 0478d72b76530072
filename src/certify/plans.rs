//! Plans of certified sessions, from a seed: one or two units, five to nine short steps, each pressing against the limit
//! of another owner.

use std::time::Duration;

use super::kit::{Family, Kit};
use crate::model::area::{AreaCode, Place, Side, Tissue};
use crate::model::capability::IntensityRange;
use crate::model::command::{Channel, DeviceId, Intensity};
use crate::model::limit::{LimitChain, LimitOwner, Limits};
use crate::model::plan::{
    Applicator, Beside, ClientCode, Cycle, Electrode, Plan, PlannedDevice, Step, Stimulation,
};
use crate::model::protocol::Modality;
use crate::sim::Seeded;
use crate::units::{Centimetres, Level, Microseconds, Milliamps, RawSpeed, SquareCentimetres};

/// Whom every plan is for.
pub(crate) const CLIENT: &str = "C-0001";

/// Areas on which large muscles lie, so that every modality may work there.
const AREAS: [&str; 5] = ["calf", "quadriceps", "hamstrings", "gluteus_maximus", "lower_back"];

/// The owners whose limits a plan states; operator and comfort are the session's.
const STATED: [LimitOwner; 7] = [
    LimitOwner::Ceiling,
    LimitOwner::Device,
    LimitOwner::Site,
    LimitOwner::Protocol,
    LimitOwner::Clearance,
    LimitOwner::Plan,
    LimitOwner::Area,
];

/// A plan with the families of its units, in its order.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) plan: Plan,
    pub(crate) families: Vec<Family>,
}

/// Makes the plan of a seed.
pub(crate) fn plan(kit: &Kit, random: &mut Seeded) -> Result<Made, String> {
    let families = families(random);
    let mut devices = Vec::new();
    for (number, family) in (1..).zip(&families) {
        let capability = kit.capability(*family)?;
        let label = format!("unit {number}");
        devices.push(PlannedDevice { label, profile: family.profile().to_owned(), capability });
    }
    let mut owners = STATED;
    shuffle(&mut owners, random);
    let count = 5 + random.below(5);
    let mut steps = Vec::new();
    let (mut together, mut beside) = (Vec::new(), Vec::new());
    for number in 1..=count {
        let unit = pick(&families, random).unwrap_or(0);
        let (Some(family), Some(planned)) = (families.get(unit), devices.get(unit)) else {
            continue;
        };
        let owner = usize::try_from(number).ok().and_then(|at| owners.get(at % owners.len())).copied();
        let mut made = Making { random, planned, owner: owner.unwrap_or(LimitOwner::Plan) };
        let mut step = if family.radio() { made.percussion() } else { made.stimulation() };
        step.number = u8::try_from(number).unwrap_or(u8::MAX);
        step.device = DeviceId(u8::try_from(unit).unwrap_or(0));
        steps.push(step);
    }
    for (first, second) in steps.iter().zip(steps.iter().skip(1)) {
        let stimulation = first.stimulation.is_some() && second.stimulation.is_some();
        if first.channel != second.channel && stimulation && random.chance(600) {
            together.push((first.number, second.number));
        }
        if first.stimulation.is_some() != second.stimulation.is_some() && random.chance(500) {
            let distance =
                random.chance(900).then(|| Centimetres::from_millimetres(between(random, 30, 250)));
            beside.push(Beside { steps: (first.number, second.number), distance });
        }
    }
    let (id, title) = ("certify".to_owned(), "Certification".to_owned());
    let plan = Plan {
        id,
        title,
        client: ClientCode::new(CLIENT),
        devices,
        steps,
        together,
        beside,
        sessions_per_week: None,
    };
    Ok(Made { plan, families })
}

fn families(random: &mut Seeded) -> Vec<Family> {
    match random.below(20) {
        0..=5 => vec![Family::P24],
        6 | 7 => vec![Family::RehaMove3],
        8 => vec![Family::Theragun],
        9 => vec![Family::P24, Family::Hypervolt],
        10..=12 => vec![Family::RehaMove3, Family::Theragun],
        _ => vec![Family::P24, Family::Theragun],
    }
}

/// Puts a list in another order.
pub(crate) fn shuffle<T>(list: &mut [T], random: &mut Seeded) {
    for at in (1..list.len()).rev() {
        let with = random.below(u64::try_from(at).unwrap_or(0).saturating_add(1));
        list.swap(at, usize::try_from(with).unwrap_or(0));
    }
}

/// Returns a random position in a list; `None` when it is empty.
pub(crate) fn pick<T>(list: &[T], random: &mut Seeded) -> Option<usize> {
    let count = u64::try_from(list.len()).unwrap_or(0);
    (count > 0).then(|| usize::try_from(random.below(count)).unwrap_or(0))
}

/// A number of a range, as the type that is wanted.
fn between(random: &mut Seeded, low: u32, high: u32) -> u32 {
    let width = u64::from(high.saturating_sub(low)).saturating_add(1);
    low.saturating_add(u32::try_from(random.below(width)).unwrap_or(0))
}

struct Making<'a> {
    random: &'a mut Seeded,
    planned: &'a PlannedDevice,
    /// Whose limit is the tightest.
    owner: LimitOwner,
}

impl Making<'_> {
    fn place(&mut self) -> Place {
        let area = pick(&AREAS, self.random).and_then(|at| AREAS.get(at)).copied().unwrap_or("calf");
        let side = if self.random.chance(500) { Side::Left } else { Side::Right };
        Place { area: AreaCode::new(area), side }
    }

    /// The unit's own limits, and one owner's tighter one; the ceiling binds when nobody else says more.
    fn chain(&mut self, tight: Limits) -> LimitChain {
        let mut chain = LimitChain::default();
        chain.get_mut(LimitOwner::Device).limits = self.planned.capability.limits.clone();
        let owned = chain.get_mut(self.owner);
        if self.owner != LimitOwner::Ceiling {
            owned.limits.current = tight.current.or(owned.limits.current);
            owned.limits.speed = tight.speed.or(owned.limits.speed);
            owned.limits.level = tight.level.or(owned.limits.level);
            owned.said = format!("the {} of this session", self.owner.word());
        }
        // Time limits of plan and site, now and then tight enough to bind.
        if self.random.chance(250) {
            let seconds = u64::from(between(self.random, 40, 150));
            chain.get_mut(LimitOwner::Plan).limits.area_time = Some(Duration::from_secs(seconds));
        }
        if self.random.chance(150) {
            let seconds = u64::from(between(self.random, 120, 400));
            chain.get_mut(LimitOwner::Site).limits.session_time = Some(Duration::from_secs(seconds));
        }
        chain
    }

    fn stimulation(&mut self) -> Step {
        let place = self.place();
        let modality = if self.random.chance(600) { Modality::Tens } else { Modality::Nmes };
        let (width, period) = match modality {
            Modality::Tens => (between(self.random, 60, 200), 1_000_000 / between(self.random, 40, 125)),
            Modality::Nmes | Modality::Percussion => {
                (between(self.random, 200, 350), 1_000_000 / between(self.random, 25, 50))
            }
        };
        let cycle = (modality == Modality::Nmes).then(|| Cycle {
            ramp_up: Duration::from_millis(u64::from(between(self.random, 10, 25)) * 100),
            on: Duration::from_secs(u64::from(between(self.random, 4, 10))),
            ramp_down: Duration::from_millis(u64::from(between(self.random, 5, 10)) * 100),
            off: Duration::from_secs(u64::from(between(self.random, 4, 12))),
        });
        let contact = SquareCentimetres::from_square_millimetres(between(self.random, 25, 80) * 100);
        let electrode = || Electrode { contact, area: place.area.clone(), side: place.side };
        let tight = Limits {
            current: Some(Milliamps::from_microamps(between(self.random, 5, 40) * 500)),
            ..Limits::default()
        };
        let usual = Limits {
            current: self.random.chance(300).then(|| Milliamps::from_milliamps(8)),
            ..Limits::default()
        };
        let duration = Duration::from_secs(u64::from(between(self.random, 20, 110)));
        let pulses = Stimulation { width: Microseconds::from_micros(width), period: on_grid(period), cycle };
        Step {
            modality,
            channel: Channel(u8::try_from(self.random.below(2)).unwrap_or(0)),
            applicator: Applicator::Electrodes([electrode(), electrode()]),
            stimulation: Some(pulses),
            target: Intensity::Current(Milliamps::from_milliamps(5)),
            duration,
            usual,
            chain: self.chain(tight),
            ..blank(place)
        }
    }

    fn percussion(&mut self) -> Step {
        let place = self.place();
        let tight = Limits {
            speed: Some(RawSpeed::from_raw(
                u16::try_from(between(self.random, 1_100, 2_300)).unwrap_or(1_100),
            )),
            level: Some(Level::from_level(1)),
            ..Limits::default()
        };
        let target = match self.planned.capability.intensity {
            IntensityRange::Level { .. } => Intensity::Level(Level::from_level(1)),
            IntensityRange::Speed { .. } | IntensityRange::Current { .. } => {
                Intensity::Speed(RawSpeed::from_raw(1_200))
            }
        };
        Step {
            modality: Modality::Percussion,
            channel: Channel(0),
            applicator: Applicator::Attachment("ball".to_owned()),
            target,
            duration: Duration::from_secs(u64::from(between(self.random, 15, 100))),
            held_by: Some("T-01".to_owned()),
            start_at_device: self.random.chance(150),
            chain: self.chain(tight),
            ..blank(place)
        }
    }
}

/// Returns the period rounded up to what every dialect can write.
fn on_grid(micros: u32) -> Microseconds {
    Microseconds::from_micros(micros.div_ceil(500).saturating_mul(500))
}

fn blank(place: Place) -> Step {
    Step {
        number: 0,
        protocol: "certify".to_owned(),
        title: "Certification".to_owned(),
        modality: Modality::Tens,
        place,
        tissue: Tissue::MuscleLarge,
        device: DeviceId(0),
        channel: Channel(0),
        applicator: Applicator::Attachment(String::new()),
        stimulation: None,
        target: Intensity::Current(Milliamps::ZERO),
        duration: Duration::ZERO,
        held_by: None,
        force_max: None,
        rest: Duration::ZERO,
        low: Limits::default(),
        start_at_device: false,
        usual: Limits::default(),
        chain: LimitChain::default(),
    }
}
