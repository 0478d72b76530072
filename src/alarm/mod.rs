//! Alarms: what happened, what is known, what to do. Pure data and words.
//!
//! Priorities follow clinical-safety 8.3: *high*, output cannot be stopped or is above its limit; *medium*, the
//! system stopped something; *low*, the rest. Never "error", never a code without words.
//!
//! | file | what |
//! | --- | --- |
//! | `signal` | light and sound of each priority, as data |
//! | `tone` | the sound as samples |

pub mod signal;
pub mod tone;

use std::time::Duration;

use crate::model::command::{Channel, DeviceId};

/// How urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Someone should know.
    Low,
    /// The system stopped something.
    Medium,
    /// Output cannot be stopped, or is above its limit.
    High,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// No proof of a stop one second after it was asked.
    StopUnconfirmed,
    /// The unit reports more than commanded, or runs when stopped.
    Mismatch,
    /// No valid answer for too long.
    LinkLost,
    /// Electrode contact lost.
    LeadOff,
    /// The unit reported a fault.
    DeviceFault,
    /// Started at the gun itself.
    StartedAtDevice,
    /// Raised at the gun itself.
    RaisedAtDevice,
    /// Stopped at the gun itself.
    StoppedAtDevice,
    /// The operator's lease lapsed.
    OperatorGone,
    /// No operator action for too long.
    OperatorAbsent,
    /// The record cannot be written.
    RecordFailing,
    /// What was given is not known.
    Uncertain,
    /// A value reached the driver's last barrier.
    Defect,
    /// Battery low.
    Battery,
    /// The parent process is gone.
    GuardGone,
    /// The parent process cannot stop a unit by itself any more.
    GuardBlind,
    /// The machine slept.
    Suspended,
    /// Pressed harder than the step allows.
    ForceHigh,
    /// Stopped for the same cause again and again: the unit is locked for a while.
    LockedOut,
    /// The box cannot sound an alarm.
    Soundless,
}

/// Silence after an acknowledgement lasts at most this long (clinical-safety 8.3).
pub const PAUSE_MAX: Duration = Duration::from_secs(120);

/// What is to be heard at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sounding {
    /// The most urgent alarm that sounds; `None`: silence.
    pub priority: Option<Priority>,
    /// Grows when an alarm comes or comes again, so that it is heard at once and not with the next repetition.
    pub count: u64,
    /// How long an acknowledged alarm stays silent yet; shown.
    pub paused: Option<Duration>,
}

/// One alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alarm {
    /// What happened.
    pub cause: Cause,
    /// Which unit, when one.
    pub device: Option<DeviceId>,
    /// Which output, when one.
    pub channel: Option<Channel>,
}

impl Cause {
    /// All causes.
    pub const ALL: [Self; 20] = [
        Self::StopUnconfirmed,
        Self::Mismatch,
        Self::LinkLost,
        Self::LeadOff,
        Self::DeviceFault,
        Self::StartedAtDevice,
        Self::RaisedAtDevice,
        Self::StoppedAtDevice,
        Self::OperatorGone,
        Self::OperatorAbsent,
        Self::RecordFailing,
        Self::Uncertain,
        Self::Defect,
        Self::Battery,
        Self::GuardGone,
        Self::GuardBlind,
        Self::Suspended,
        Self::ForceHigh,
        Self::LockedOut,
        Self::Soundless,
    ];

    /// Returns how urgent it is.
    pub const fn priority(self) -> Priority {
        match self {
            Self::StopUnconfirmed | Self::Mismatch | Self::RaisedAtDevice | Self::Defect => Priority::High,
            Self::LinkLost
            | Self::LeadOff
            | Self::DeviceFault
            | Self::StartedAtDevice
            | Self::OperatorGone
            | Self::OperatorAbsent
            | Self::RecordFailing
            | Self::Uncertain
            | Self::GuardGone
            | Self::GuardBlind
            | Self::Suspended
            | Self::ForceHigh
            | Self::LockedOut
            | Self::Soundless => Priority::Medium,
            Self::StoppedAtDevice | Self::Battery => Priority::Low,
        }
    }

    /// Returns whether it stays until its cause is gone *and* a person has seen it.
    pub const fn latched(self) -> bool {
        !matches!(self, Self::Battery | Self::StoppedAtDevice)
    }

    /// Returns whether the system stops a unit for it: the alerts that the restart lockout counts (SR-37). A stop by the
    /// gun's own button is a person's, and the rest only tell of what follows a stop.
    pub const fn stops_a_unit(self) -> bool {
        match self {
            Self::Mismatch
            | Self::LinkLost
            | Self::LeadOff
            | Self::DeviceFault
            | Self::StartedAtDevice
            | Self::RaisedAtDevice
            | Self::OperatorGone
            | Self::OperatorAbsent
            | Self::RecordFailing
            | Self::Defect
            | Self::GuardGone
            | Self::GuardBlind
            | Self::Suspended
            | Self::ForceHigh => true,
            Self::StopUnconfirmed
            | Self::StoppedAtDevice
            | Self::Uncertain
            | Self::Battery
            | Self::LockedOut
            | Self::Soundless => false,
        }
    }

    /// Returns why a unit was stopped, as the end of the sentence "it was stopped three times: …".
    pub const fn why(self) -> &'static str {
        match self {
            Self::StopUnconfirmed => "its stop was not proven",
            Self::Mismatch => "it reported more than it was told",
            Self::LinkLost => "it did not answer",
            Self::LeadOff => "an electrode lost contact",
            Self::DeviceFault => "it reported a fault",
            Self::StartedAtDevice => "it was started by its own button",
            Self::RaisedAtDevice => "it was raised by its own button",
            Self::StoppedAtDevice => "it was stopped by its own button",
            Self::OperatorGone => "the controlling screen went away",
            Self::OperatorAbsent => "nobody was at the controls",
            Self::RecordFailing => "the record could not be written",
            Self::Uncertain => "what it gave was not known",
            Self::Defect => "a value was cut at the last barrier",
            Self::Battery => "its battery was low",
            Self::GuardGone => "the guard process was gone",
            Self::GuardBlind => "the guard process could not reach it",
            Self::Suspended => "the box was asleep",
            Self::ForceHigh => "it was pressed too hard",
            Self::LockedOut => "it was locked",
            Self::Soundless => "the box could not sound an alarm",
        }
    }

    /// Returns the code used in records.
    pub const fn code(self) -> &'static str {
        match self {
            Self::StopUnconfirmed => "stop_unconfirmed",
            Self::Mismatch => "mismatch",
            Self::LinkLost => "link_lost",
            Self::LeadOff => "lead_off",
            Self::DeviceFault => "device_fault",
            Self::StartedAtDevice => "started_at_device",
            Self::RaisedAtDevice => "raised_at_device",
            Self::StoppedAtDevice => "stopped_at_device",
            Self::OperatorGone => "operator_gone",
            Self::OperatorAbsent => "operator_absent",
            Self::RecordFailing => "record_failing",
            Self::Uncertain => "uncertain",
            Self::Defect => "defect",
            Self::Battery => "battery",
            Self::GuardGone => "guard_gone",
            Self::GuardBlind => "guard_blind",
            Self::Suspended => "suspended",
            Self::ForceHigh => "force_high",
            Self::LockedOut => "locked_out",
            Self::Soundless => "soundless",
        }
    }

    /// Returns what is known, for the unit called `unit`.
    pub fn known(self, unit: &str) -> String {
        match self {
            Self::StopUnconfirmed => {
                format!("{unit} has not proven that it stopped. It may still be running.")
            }
            Self::Mismatch => format!("{unit} reports more than it was told. Stop was sent."),
            Self::LinkLost => format!("No answer from {unit}. What it does now is not known."),
            Self::LeadOff => {
                format!(
                    "{unit} reports that an electrode has lost contact. Stop was sent to all its outputs."
                )
            }
            Self::DeviceFault => format!("{unit} reports a fault. Stop was sent."),
            Self::StartedAtDevice => {
                format!("{unit} was started by its own button. Stop was sent; the time counts.")
            }
            Self::RaisedAtDevice => {
                format!("{unit} was raised by its own button above what was set here. Stop was sent.")
            }
            Self::StoppedAtDevice => format!("{unit} was stopped by its own button."),
            Self::OperatorGone => {
                "The controlling screen has gone away. Stop was sent to all units.".to_owned()
            }
            Self::OperatorAbsent => "Nobody has touched the controls for a while.".to_owned(),
            Self::RecordFailing => "The record cannot be written. Nothing starts or rises.".to_owned(),
            Self::Uncertain => format!("What {unit} gave is not known exactly."),
            Self::Defect => {
                format!("A value for {unit} was cut at the last barrier. This is a defect of doseward.")
            }
            Self::Battery => format!("The battery of {unit} is low."),
            Self::GuardGone => "The guard process is gone. Stop was sent to all units.".to_owned(),
            Self::GuardBlind => {
                format!("The guard process cannot reach {unit} any more. {unit} was told to stop.")
            }
            Self::Suspended => "The box was asleep. All units were told to stop first.".to_owned(),
            Self::ForceHigh => format!("{unit} is pressed harder than this step allows."),
            Self::LockedOut => {
                format!(
                    "{unit} was stopped three times within ten minutes for the same reason and is locked."
                )
            }
            Self::Soundless => "The box cannot sound an alarm: its player does not work.".to_owned(),
        }
    }

    /// Returns what to do, for a gun (`gun`) or a stimulator.
    pub const fn action(self, gun: bool) -> &'static str {
        match self {
            Self::StopUnconfirmed | Self::LinkLost | Self::RaisedAtDevice | Self::Mismatch => {
                if gun {
                    "Lift the gun off and press its button."
                } else {
                    "Switch the unit off or pull its leads; then check the client."
                }
            }
            Self::LeadOff => "Check the pads, then arm again. It starts from zero.",
            Self::DeviceFault => "Check the unit, then arm again. It starts from zero.",
            Self::StartedAtDevice => "Lift the gun off; start it from here.",
            Self::StoppedAtDevice => "Start again from here when the client is ready.",
            Self::OperatorGone | Self::OperatorAbsent => "Look at the client, then resume from zero.",
            Self::RecordFailing => "Check the disk of the box; end the session by hand.",
            Self::Uncertain => "Ask the client what was felt and settle it before this area is used again.",
            Self::Defect => "Stop using this unit and report it.",
            Self::Battery => "Charge it before the next area.",
            Self::GuardGone | Self::GuardBlind | Self::Suspended => {
                "Check the client, then start again from zero."
            }
            Self::ForceHigh => "Press less, or lift the gun off.",
            Self::LockedOut => "Find out why and put it right; go on with another unit meanwhile.",
            Self::Soundless => {
                "Watch the screen. Put the player of config/daemon.toml right, then run `doseward alarm test`."
            }
        }
    }
}
