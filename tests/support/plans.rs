//! Plans built by hand, so that a test of the governor depends on no file.

use std::time::Duration;

use doseward::model::area::{AreaCode, Place, Side, Tissue};
use doseward::model::budget::Spent;
use doseward::model::capability::{Capability, IntensityRange, PulseGrid, RateBasis, Telemetry};
use doseward::model::command::{Channel, DeviceId, Intensity};
use doseward::model::limit::{LimitChain, LimitOwner, Limits};
use doseward::model::plan::{
    Applicator, Beside, ClientCode, Cycle, Electrode, Plan, PlannedDevice, Step, Stimulation,
};
use doseward::model::protocol::Modality;
use doseward::units::{Centimetres, Level, Microseconds, Milliamps, RawSpeed, SquareCentimetres};

pub fn milliamps(ma: u32) -> Intensity {
    Intensity::Current(Milliamps::from_milliamps(ma))
}

pub fn microamps(ua: u32) -> Intensity {
    Intensity::Current(Milliamps::from_microamps(ua))
}

pub fn raw(speed: u16) -> Intensity {
    Intensity::Speed(RawSpeed::from_raw(speed))
}

pub fn level(level: u8) -> Intensity {
    Intensity::Level(Level::from_level(level))
}

pub fn stimulator() -> Capability {
    Capability {
        channels: 8,
        intensity: IntensityRange::Current {
            step: Milliamps::from_microamps(500),
            max: Milliamps::from_milliamps(100),
        },
        pulse: Some(PulseGrid {
            width_step: Microseconds::from_micros(1),
            width_min: Microseconds::from_micros(10),
            width_max: Microseconds::from_micros(500),
            period_step: Microseconds::from_micros(500),
            period_min: Microseconds::from_micros(5_000),
            period_max: Microseconds::from_micros(1_000_000),
            gap: Microseconds::from_micros(100),
        }),
        keep_alive: Some(Duration::from_secs(2)),
        stop_is_whole_unit: true,
        telemetry: Telemetry { suspect: Duration::from_millis(500), lost: Duration::from_secs(1) },
        acknowledge_within: Duration::from_millis(300),
        stop_tail: Duration::ZERO,
        battery_life: Duration::from_secs(3600),
        contact_seen_from: Milliamps::from_milliamps(15),
        reports_force: false,
        reports_own_button: false,
        rate_basis: RateBasis::None,
        limits: Limits::default(),
    }
}

pub fn gun() -> Capability {
    Capability {
        channels: 1,
        intensity: IntensityRange::Speed {
            floor: RawSpeed::from_raw(1000),
            max: RawSpeed::from_raw(2400),
            top: RawSpeed::from_raw(3616),
            rise_per_s: 600,
        },
        pulse: None,
        keep_alive: None,
        stop_is_whole_unit: true,
        telemetry: Telemetry { suspect: Duration::from_millis(750), lost: Duration::from_secs(3) },
        acknowledge_within: Duration::from_millis(500),
        stop_tail: Duration::from_secs(1),
        battery_life: Duration::from_secs(9_000),
        contact_seen_from: Milliamps::ZERO,
        reports_force: true,
        reports_own_button: true,
        rate_basis: RateBasis::WorstCase,
        limits: Limits::default(),
    }
}

fn electrode(area: &str, side: Side) -> Electrode {
    Electrode { contact: SquareCentimetres::from_square_millimetres(2_500), area: AreaCode::new(area), side }
}

fn place(area: &str, side: Side) -> Place {
    Place { area: AreaCode::new(area), side }
}

fn stimulation_step(number: u8, modality: Modality, channel: u8, cycle: Option<Cycle>) -> Step {
    let mut chain = LimitChain::default();
    chain.get_mut(LimitOwner::Protocol).limits.current = Some(Milliamps::from_milliamps(40));
    chain.get_mut(LimitOwner::Plan).limits.current = Some(Milliamps::from_milliamps(30));
    chain.get_mut(LimitOwner::Plan).said = format!("plan step {number}");
    Step {
        number,
        protocol: "test".to_owned(),
        title: "Test".to_owned(),
        modality,
        place: place("calf", if channel == 0 { Side::Left } else { Side::Right }),
        tissue: Tissue::MuscleLarge,
        device: DeviceId(0),
        channel: Channel(channel),
        applicator: Applicator::Electrodes([electrode("calf", Side::Left), electrode("calf", Side::Left)]),
        stimulation: Some(Stimulation {
            width: Microseconds::from_micros(200),
            period: Microseconds::from_micros(20_000),
            cycle,
        }),
        target: milliamps(20),
        duration: Duration::from_secs(40),
        held_by: None,
        rest: Duration::ZERO,
        low: Limits::default(),
        start_at_device: false,
        force_max: None,
        usual: Limits::default(),
        chain,
    }
}

/// Step 1 TENS on channel 0, step 2 NMES with a cycle on channel 1 of one stimulator; step 3 percussion on a gun.
pub fn three_steps() -> Plan {
    let cycle = Cycle {
        ramp_up: Duration::from_secs(1),
        on: Duration::from_secs(4),
        ramp_down: Duration::from_millis(500),
        off: Duration::from_secs(3),
    };
    let percussion = Step {
        number: 3,
        protocol: "test".to_owned(),
        title: "Test".to_owned(),
        modality: Modality::Percussion,
        place: place("calf", Side::Right),
        tissue: Tissue::MuscleLarge,
        device: DeviceId(1),
        channel: Channel(0),
        applicator: Applicator::Attachment("ball".to_owned()),
        stimulation: None,
        target: raw(1800),
        duration: Duration::from_secs(20),
        held_by: Some("T1".to_owned()),
        rest: Duration::ZERO,
        low: Limits::default(),
        start_at_device: false,
        force_max: None,
        usual: Limits::default(),
        chain: LimitChain::default(),
    };
    Plan {
        together: vec![(1, 2)],
        sessions_per_week: None,
        beside: vec![Beside { steps: (1, 3), distance: Some(Centimetres::from_millimetres(150)) }],
        id: "three-steps".to_owned(),
        title: "Three steps".to_owned(),
        client: ClientCode::new("C-1"),
        devices: vec![
            PlannedDevice { label: "Stim".to_owned(), profile: "stim".to_owned(), capability: stimulator() },
            PlannedDevice { label: "Gun".to_owned(), profile: "gun".to_owned(), capability: gun() },
        ],
        steps: vec![
            stimulation_step(1, Modality::Tens, 0, None),
            stimulation_step(2, Modality::Nmes, 1, Some(cycle)),
            percussion,
        ],
    }
}

/// The first two steps are two modes of one output; the third is on a gun with levels.
pub fn two_modes() -> Plan {
    let mut plan = three_steps();
    plan.steps[1].channel = Channel(0);
    let stimulation = plan.steps[1].stimulation.as_mut().expect("a stimulation");
    stimulation.width = Microseconds::from_micros(350);
    stimulation.period = Microseconds::from_micros(25_000);
    plan.devices[1].capability.intensity =
        IntensityRange::Level { max: Level::from_level(3), top: Level::from_level(5) };
    plan.steps[2].target = level(2);
    plan
}

/// One step of [`three_steps`] by itself, as step 1 of the only unit.
pub fn one_step(number: u8) -> Plan {
    let mut plan = three_steps();
    plan.together.clear();
    plan.beside.clear();
    let step = &plan.steps[usize::from(number) - 1];
    let (mut step, device) = (step.clone(), plan.devices[usize::from(step.device.0)].clone());
    (step.number, step.device) = (1, DeviceId(0));
    (plan.steps, plan.devices) = (vec![step], vec![device]);
    plan
}

/// The three steps with budgets that bind before their durations do, for a client who got something today.
pub fn budgeted() -> (Plan, Spent) {
    let mut plan = three_steps();
    let mut spent = Spent::default();
    let seconds = Duration::from_secs;
    spent.add(Modality::Tens, &plan.steps[0].place, seconds(15), seconds(3_600));
    spent.add(Modality::Percussion, &plan.steps[2].place, seconds(4), seconds(3_600));
    spent.day.insert(Modality::Percussion, seconds(20));
    plan.steps[0].chain.get_mut(LimitOwner::Site).limits.area_time = Some(seconds(50));
    plan.steps[1].chain.get_mut(LimitOwner::Site).limits.session_time = Some(seconds(33));
    plan.steps[2].chain.get_mut(LimitOwner::Site).limits.area_time = Some(seconds(22));
    plan.steps[2].chain.get_mut(LimitOwner::Site).limits.day_time = Some(seconds(36));
    spent.known = [Modality::Tens, Modality::Nmes, Modality::Percussion].into();
    (plan, spent)
}
