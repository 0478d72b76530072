//! Kinds of input and states of a step, for the coverage matrix.

use crate::governor::{Act, Input, RecordHealth, StepState};
use crate::model::report::{OwnButton, Report, StopProgress};

/// Every kind of input; a request by what it asks, a report by what it says.
pub const KINDS: [&str; 57] = [
    "tick",
    "read back",
    "arm",
    "set up",
    "set down",
    "hold",
    "resume",
    "finish",
    "stop step",
    "comfort",
    "too much",
    "operator limit",
    "reset",
    "stated stopped",
    "acknowledge alarms",
    "present",
    "stop all",
    "identity",
    "alive",
    "ready",
    "epoch ended",
    "acknowledged",
    "unacknowledged",
    "command refused",
    "measured",
    "stop written",
    "stop confirmed",
    "stop unconfirmed",
    "button start",
    "button stop",
    "button lower",
    "button higher",
    "battery",
    "lease ended",
    "late packet",
    "clamped",
    "unintelligible",
    "unusable",
    "link up",
    "link down",
    "heartbeat",
    "unseen",
    "durable",
    "record health",
    "guard",
    "clock",
    "suspend",
    "close",
    "guard holds",
    "alarm output",
    "locked out",
    "client says less",
    "force",
    "button changed",
    "sensation returned",
    "resolve",
    "stop learnt",
];

/// Every state of a step.
pub const STATES: [&str; 7] = ["waiting", "arming", "armed", "running", "held", "finishing", "ended"];

/// Returns the position of a state in [`STATES`].
pub(crate) const fn state(state: StepState) -> usize {
    match state {
        StepState::Waiting => 0,
        StepState::Arming => 1,
        StepState::Armed => 2,
        StepState::Running => 3,
        StepState::Held => 4,
        StepState::Finishing => 5,
        StepState::Ended(_) => 6,
    }
}

/// Returns the position of an input's kind in [`KINDS`]. `level`: where the step is that a request names.
pub(crate) fn kind(input: &Input, level: u32) -> usize {
    match input {
        Input::Tick => 0,
        Input::Request(request) => act(&request.act, level),
        Input::Stop { .. } => 16,
        Input::Report { report: said, .. } => report(said),
        Input::Link { up: true, .. } => 38,
        Input::Link { up: false, .. } => 39,
        Input::Heartbeat { .. } => 40,
        Input::Unseen => 41,
        Input::Durable { .. } => 42,
        Input::Record(RecordHealth::Healthy | RecordHealth::Slow | RecordHealth::Failing) => 43,
        Input::Guard { .. } => 44,
        Input::ClockSane(_) => 45,
        Input::Suspended => 46,
        Input::Close => 47,
        Input::GuardHolds { .. } => 48,
        Input::AlarmOutput(_) => 49,
        Input::LockedOut { .. } => 50,
    }
}

fn act(act: &Act, level: u32) -> usize {
    match act {
        Act::ReadBack { .. } => 1,
        Act::Arm { .. } => 2,
        Act::Set { intensity, .. } if intensity.magnitude() > level => 3,
        Act::Set { .. } => 4,
        Act::Hold { .. } => 5,
        Act::Resume { .. } => 6,
        Act::Finish { .. } => 7,
        Act::StopStep { .. } => 8,
        Act::Comfort { .. } => 9,
        Act::TooMuch { .. } => 10,
        Act::OperatorLimit { .. } => 11,
        Act::Reset { .. } => 12,
        Act::StatedStopped { .. } => 13,
        Act::ClientLess { .. } => 51,
        Act::SensationReturned { .. } => 54,
        Act::Resolve(_) => 55,
        Act::AcknowledgeAlarms => 14,
        Act::Present => 15,
    }
}

const fn report(report: &Report) -> usize {
    match report {
        Report::Identity(_) => 17,
        Report::Alive => 18,
        Report::Ready { .. } => 19,
        Report::EpochEnded { .. } => 20,
        Report::Acknowledged { .. } => 21,
        Report::Unacknowledged { .. } => 22,
        Report::Refused { .. } => 23,
        Report::Measured { .. } => 24,
        Report::Stop { progress: StopProgress::Written, .. } => 25,
        Report::Stop { progress: StopProgress::Confirmed, .. } => 26,
        Report::Stop { progress: StopProgress::Unconfirmed, .. } => 27,
        Report::OwnButton(OwnButton::Started(_)) => 28,
        Report::OwnButton(OwnButton::Stopped) => 29,
        Report::OwnButton(OwnButton::Lowered(_)) => 30,
        Report::OwnButton(OwnButton::Raised(_)) => 31,
        Report::Force(_) => 52,
        Report::StopLearnt { .. } => 56,
        Report::OwnButton(OwnButton::Changed(_)) => 53,
        Report::Battery(_) => 32,
        Report::LeaseEnded => 33,
        Report::DroppedLate => 34,
        Report::Clamped { .. } => 35,
        Report::Unintelligible { .. } => 36,
        Report::Unusable { .. } => 37,
    }
}
