//! What goes wrong in a session, at seeded moments: at units, links, the disk, clocks, the lease and the process itself.

use std::time::Duration;

use super::{Event, World};
use crate::driver::DriverInput;
use crate::governor::{Input, RecordHealth};
use crate::model::command::DeviceId;
use crate::model::report::Report;
use crate::sim::{SimEvent, SimInput};
use crate::units::Mono;

/// How long after its end a fault may still show.
const AFTER: Duration = Duration::from_millis(2_500);
/// What a beat that comes late is late by; more than an echo may be old.
const LATE_BY: Duration = Duration::from_millis(1_600);

/// What ends a fault that lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undo {
    Device(usize),
    Link(usize),
    SlowDisk,
    StuckDisk,
    Guard,
    Clock,
}

/// The commander's heartbeats.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beats {
    fault: Option<(Mono, BeatFault)>,
}

#[derive(Clone, Copy, Debug)]
enum BeatFault {
    None,
    Late,
    Replayed(Mono),
}

impl Beats {
    /// Returns what the beat of this moment echoes.
    pub(super) fn issued(&mut self, now: Mono) -> Option<Mono> {
        match self.fault.take_if(|(until, _)| now < *until) {
            None => {
                self.fault = None;
                Some(now)
            }
            Some((until, fault)) => {
                self.fault = Some((until, fault));
                match fault {
                    BeatFault::None => None,
                    BeatFault::Late => Some(now.saturating_sub(LATE_BY)),
                    BeatFault::Replayed(issued) => Some(issued),
                }
            }
        }
    }

    /// Returns whether somebody is at the screen.
    pub(super) const fn anyone(&self) -> bool {
        self.fault.is_none()
    }
}

/// A fault, by where it strikes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    LinkLoss,
    LinkSlow,
    StuckWrites,
    Wedge,
    Reboot,
    LeadOff,
    ButtonStart,
    ButtonStop,
    ButtonSpeed,
    DropReplies,
    DropRequests,
    CorruptReplies,
    DuplicateReplies,
    SlowReplies,
    Battery,
    SlowDisk,
    StuckDisk,
    Crash,
    Suspend,
    WallStep,
    GuardGone,
    GuardBlind,
    Stall,
    BeatsLate,
    BeatsReplayed,
    NoBeats,
    Unseen,
}

impl Fault {
    const ALL: [Self; 27] = [
        Self::LinkLoss,
        Self::LinkSlow,
        Self::StuckWrites,
        Self::Wedge,
        Self::Reboot,
        Self::LeadOff,
        Self::ButtonStart,
        Self::ButtonStop,
        Self::ButtonSpeed,
        Self::DropReplies,
        Self::DropRequests,
        Self::CorruptReplies,
        Self::DuplicateReplies,
        Self::SlowReplies,
        Self::Battery,
        Self::SlowDisk,
        Self::StuckDisk,
        Self::Crash,
        Self::Suspend,
        Self::WallStep,
        Self::GuardGone,
        Self::GuardBlind,
        Self::Stall,
        Self::BeatsLate,
        Self::BeatsReplayed,
        Self::NoBeats,
        Self::Unseen,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::LinkLoss => "link: lost",
            Self::LinkSlow => "link: slow",
            Self::StuckWrites => "link: writes stuck",
            Self::Wedge => "device: wedged",
            Self::Reboot => "device: reboot",
            Self::LeadOff => "device: lead off",
            Self::ButtonStart => "device: own start",
            Self::ButtonStop => "device: own stop",
            Self::ButtonSpeed => "device: own speed",
            Self::DropReplies => "device: answers lost",
            Self::DropRequests => "device: requests lost",
            Self::CorruptReplies => "device: answers damaged",
            Self::DuplicateReplies => "device: answers doubled",
            Self::SlowReplies => "device: answers late",
            Self::Battery => "device: battery",
            Self::SlowDisk => "disk: slow",
            Self::StuckDisk => "disk: failing",
            Self::Crash => "disk: crash and restart",
            Self::Suspend => "clock: suspend",
            Self::WallStep => "clock: wall step",
            Self::GuardGone => "guard: gone",
            Self::GuardBlind => "guard: cannot reach a unit",
            Self::Stall => "clock: frozen",
            Self::BeatsLate => "lease: beats late",
            Self::BeatsReplayed => "lease: beats replayed",
            Self::NoBeats => "lease: no beats",
            Self::Unseen => "lease: page hidden",
        }
    }
}

impl World<'_> {
    pub(super) fn next_fault(&mut self) {
        let pause = self.fault_random.span(Duration::from_secs(15), Duration::from_secs(180));
        if self.now.saturating_add(pause) < self.end {
            self.later(pause, Event::Fault);
        }
    }

    pub(super) fn fault(&mut self) {
        let at = usize::try_from(self.fault_random.below(27)).unwrap_or(0);
        let Some(fault) = Fault::ALL.get(at).copied() else {
            return;
        };
        let units = u64::try_from(self.units.len()).unwrap_or(1);
        let unit = usize::try_from(self.fault_random.below(units)).unwrap_or(0);
        let lasts = self.fault_random.span(Duration::from_millis(200), Duration::from_secs(6));
        if matches!(fault, Fault::Crash) && !self.fault_random.chance(400) {
            return;
        }
        self.oracle.tally.fault(fault.name());
        self.say(|| format!("FAULT {} at unit {unit} for {lasts:?}", fault.name()));
        match fault {
            Fault::LinkLoss | Fault::LinkSlow | Fault::StuckWrites => self.link_fault(fault, unit, lasts),
            Fault::Wedge
            | Fault::Reboot
            | Fault::LeadOff
            | Fault::ButtonStart
            | Fault::ButtonStop
            | Fault::ButtonSpeed
            | Fault::DropReplies
            | Fault::DropRequests
            | Fault::CorruptReplies
            | Fault::DuplicateReplies
            | Fault::SlowReplies
            | Fault::Battery => self.device_fault(fault, unit, lasts),
            Fault::SlowDisk => {
                self.slow_disk = true;
                self.later(lasts * 5, Event::Undo(Undo::SlowDisk));
            }
            Fault::StuckDisk => {
                self.disk_stuck = true;
                self.disk_busy = false;
                self.set_health(RecordHealth::Failing);
                self.later(lasts, Event::Undo(Undo::StuckDisk));
            }
            Fault::Crash => self.crash(),
            Fault::Suspend | Fault::Stall => self.stall(matches!(fault, Fault::Suspend), lasts),
            Fault::WallStep => {
                self.input(Input::ClockSane(false));
                self.later(lasts, Event::Undo(Undo::Clock));
            }
            Fault::GuardGone => {
                self.input(Input::Guard { present: false });
                self.later(lasts, Event::Undo(Undo::Guard));
            }
            Fault::GuardBlind => {
                self.guard_blind = true;
                let device = DeviceId(u8::try_from(unit).unwrap_or(0));
                self.input(Input::GuardHolds { device, holds: false });
                self.later(lasts, Event::Undo(Undo::Guard));
            }
            Fault::BeatsLate => self.beat_fault(BeatFault::Late, lasts),
            Fault::BeatsReplayed => self.beat_fault(BeatFault::Replayed(self.now), lasts),
            Fault::NoBeats => self.beat_fault(BeatFault::None, lasts),
            Fault::Unseen => {
                self.beat_fault(BeatFault::None, lasts);
                self.input(Input::Unseen);
            }
        }
    }

    fn beat_fault(&mut self, fault: BeatFault, lasts: Duration) {
        self.beats.fault = Some((self.now.saturating_add(lasts * 2), fault));
    }

    /// The session task gets no time; drivers, devices and the disk do. A machine that slept says so first.
    fn stall(&mut self, slept: bool, lasts: Duration) {
        if self.stalled {
            return;
        }
        self.stalled = true;
        if slept {
            self.inbox.push_back(Input::Suspended);
        }
        for unit in 0..self.units.len() {
            self.oracle.fault(unit, self.now.saturating_add(lasts).saturating_add(AFTER));
        }
        self.later(lasts, Event::Resumed);
    }

    fn link_fault(&mut self, fault: Fault, at: usize, lasts: Duration) {
        self.oracle.fault(at, self.now.saturating_add(lasts).saturating_add(AFTER));
        if matches!(fault, Fault::LinkLoss) {
            if self.units.get(at).is_some_and(|unit| unit.up) {
                self.link(at, false);
                self.later(lasts, Event::LinkUp(at));
            }
            return;
        }
        let slow = self.fault_random.span(Duration::from_millis(20), Duration::from_millis(300));
        if let Some(unit) = self.units.get_mut(at) {
            if matches!(fault, Fault::LinkSlow) {
                unit.slow = slow;
            } else {
                unit.stuck = true;
            }
        }
        self.later(lasts, Event::Undo(Undo::Link(at)));
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only faults of devices come here; the rest is a battery"
    )]
    fn device_fault(&mut self, fault: Fault, at: usize, lasts: Duration) {
        let gun = self.units.get(at).is_some_and(|unit| unit.family.radio());
        // What a hand starts at a gun that says nothing of it is in nobody's record.
        let told = self.made.plan.devices.get(at).is_some_and(|device| device.capability.reports_own_button);
        let few = u8::try_from(1 + self.fault_random.below(4)).unwrap_or(1);
        let channel = u8::try_from(self.fault_random.below(2)).unwrap_or(0);
        let number = self.fault_random.below(1_600);
        let event = match fault {
            Fault::Wedge => SimEvent::Wedged(true),
            Fault::Reboot => SimEvent::Reboot,
            Fault::ButtonStart if gun && told => SimEvent::ButtonStart,
            Fault::ButtonStop if gun => SimEvent::ButtonStop,
            Fault::ButtonSpeed if gun => {
                SimEvent::ButtonSpeed(u16::try_from(1_000 + number).unwrap_or(1_000))
            }
            Fault::LeadOff | Fault::ButtonStart | Fault::ButtonStop | Fault::ButtonSpeed if !gun => {
                SimEvent::LeadOff(channel, true)
            }
            Fault::DropReplies => SimEvent::DropReplies(few),
            Fault::DropRequests => SimEvent::DropRequests(few),
            Fault::CorruptReplies => SimEvent::CorruptReplies(few),
            Fault::DuplicateReplies => SimEvent::DuplicateReplies(few),
            Fault::SlowReplies => SimEvent::DelayReplies(Duration::from_millis(number / 4)),
            // Also a start that nobody could be told of.
            _ => SimEvent::Battery(u8::try_from(5 + number / 20).unwrap_or(50)),
        };
        if matches!(event, SimEvent::ButtonStart | SimEvent::ButtonStop | SimEvent::ButtonSpeed(_)) {
            self.oracle.hand(self.now, at);
        }
        self.oracle.fault(at, self.now.saturating_add(lasts).saturating_add(AFTER));
        self.device(at, SimInput::Event(event), false);
        self.later(lasts, Event::Undo(Undo::Device(at)));
    }

    pub(super) fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Device(at) => {
                self.device(at, SimInput::Event(SimEvent::Wedged(false)), false);
                self.device(at, SimInput::Event(SimEvent::DelayReplies(Duration::ZERO)), false);
                if self.units.get(at).is_some_and(|unit| !unit.family.radio()) {
                    self.device(at, SimInput::Event(SimEvent::LeadOff(0, false)), false);
                    self.device(at, SimInput::Event(SimEvent::LeadOff(1, false)), false);
                }
                if self.fault_random.chance(500) {
                    self.device(at, SimInput::Event(SimEvent::Battery(90)), false);
                }
            }
            Undo::Link(at) => {
                if let Some(unit) = self.units.get_mut(at) {
                    (unit.slow, unit.stuck) = (Duration::ZERO, false);
                }
            }
            Undo::SlowDisk => self.slow_disk = false,
            Undo::StuckDisk => {
                self.disk_stuck = false;
                self.start_disk();
                if !self.disk_busy {
                    self.set_health(RecordHealth::Healthy);
                }
            }
            Undo::Guard => {
                self.guard_blind = false;
                self.input(Input::Guard { present: true });
            }
            Undo::Clock => self.input(Input::ClockSane(true)),
        }
    }

    /// A report that no driver would make now, for the coverage: it must do no harm.
    pub(super) fn report(&mut self, at: usize, report: Report) {
        let device = DeviceId(u8::try_from(at).unwrap_or(0));
        self.input(Input::Report { device, report });
        self.driver(at, DriverInput::Tick);
    }
}
