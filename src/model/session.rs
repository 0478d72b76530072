//! Words of a running session: identifiers, people, stop reasons, discomfort scores.

use std::fmt;

/// Identifier of a session: a UUID in text form, made by the runtime.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(String);

impl SessionId {
    /// Wraps an identifier.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// Returns the identifier.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who acted, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The person's code, or `unattended`.
    pub person: String,
    /// The screen, for example `terminal`.
    pub screen: String,
}

impl Actor {
    /// The person's code of the client, who may say less and stop and nothing else.
    pub const CLIENT: &'static str = "client";

    /// Returns the client, acting at a screen.
    pub fn client(screen: impl Into<String>) -> Self {
        Self { person: Self::CLIENT.to_owned(), screen: screen.into() }
    }

    /// Returns the box itself: nobody asked for what it does.
    pub fn itself() -> Self {
        Self { person: "doseward".to_owned(), screen: "box".to_owned() }
    }

    /// Returns whether it is the client.
    pub fn is_client(&self) -> bool {
        self.person == Self::CLIENT
    }
}

/// Discomfort, 0 none to 10 worst imaginable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Discomfort(u8);

impl Discomfort {
    /// Returns the score, `None` above 10.
    pub const fn new(score: u8) -> Option<Self> {
        if score <= 10 { Some(Self(score)) } else { None }
    }

    /// Returns the score, 0–10.
    pub const fn score(self) -> u8 {
        self.0
    }
}

/// Why output ended. A closed list (clinical-safety 6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StopReason {
    /// The step reached its end.
    Completed,
    /// The client said so.
    ClientRequest,
    /// The therapist said so.
    TherapistRequest,
    /// Discomfort 9 or more.
    PainThreshold,
    /// The area's time is used up.
    AreaCap,
    /// The session's time is used up.
    SessionCap,
    /// The unit reported more than it may give.
    LimitViolation,
    /// Something newly learnt forbids it.
    ContraindicationNew,
    /// Electrode contact lost.
    LeadOff,
    /// No answer from the unit.
    LinkLost,
    /// The operator's lease lapsed.
    HeartbeatLost,
    /// The unit reported a fault.
    DeviceFault,
    /// The unit reports other than commanded.
    ReadbackMismatch,
    /// Too hot.
    Overtemperature,
    /// Battery too low.
    Battery,
    /// STOP ALL.
    EmergencyStop,
    /// The daemon started anew.
    DaemonRestart,
    /// No sign of the operator.
    OperatorAbsent,
    /// A reduction ended below what the unit can run at.
    BelowDeviceFloor,
    /// Stopped at the gun itself.
    StoppedAtDevice,
    /// Started at the gun itself.
    StartedAtDevice,
    /// The epoch ended.
    EpochEnded,
    /// The guard process acted or is missing.
    Guard,
    /// Something else, in the record's words.
    OtherText,
}

impl StopReason {
    /// All reasons.
    pub const ALL: [Self; 24] = [
        Self::Completed,
        Self::ClientRequest,
        Self::TherapistRequest,
        Self::PainThreshold,
        Self::AreaCap,
        Self::SessionCap,
        Self::LimitViolation,
        Self::ContraindicationNew,
        Self::LeadOff,
        Self::LinkLost,
        Self::HeartbeatLost,
        Self::DeviceFault,
        Self::ReadbackMismatch,
        Self::Overtemperature,
        Self::Battery,
        Self::EmergencyStop,
        Self::DaemonRestart,
        Self::OperatorAbsent,
        Self::BelowDeviceFloor,
        Self::StoppedAtDevice,
        Self::StartedAtDevice,
        Self::EpochEnded,
        Self::Guard,
        Self::OtherText,
    ];

    /// Returns the code used in records.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::ClientRequest => "client_request",
            Self::TherapistRequest => "therapist_request",
            Self::PainThreshold => "pain_threshold",
            Self::AreaCap => "area_cap",
            Self::SessionCap => "session_cap",
            Self::LimitViolation => "limit_violation",
            Self::ContraindicationNew => "contraindication_new",
            Self::LeadOff => "lead_off",
            Self::LinkLost => "link_lost",
            Self::HeartbeatLost => "heartbeat_lost",
            Self::DeviceFault => "device_fault",
            Self::ReadbackMismatch => "readback_mismatch",
            Self::Overtemperature => "overtemperature",
            Self::Battery => "battery",
            Self::EmergencyStop => "emergency_stop",
            Self::DaemonRestart => "daemon_restart",
            Self::OperatorAbsent => "operator_absent",
            Self::BelowDeviceFloor => "below_device_floor",
            Self::StoppedAtDevice => "stopped_at_device",
            Self::StartedAtDevice => "started_at_device",
            Self::EpochEnded => "epoch_ended",
            Self::Guard => "guard",
            Self::OtherText => "other_text",
        }
    }

    /// Returns what a therapist reads.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Completed => "step completed",
            Self::ClientRequest => "stopped by the client",
            Self::TherapistRequest => "stopped by the therapist",
            Self::PainThreshold => "stopped for discomfort",
            Self::AreaCap => "time on this area used up",
            Self::SessionCap => "time of this session used up",
            Self::LimitViolation => "the unit gave more than was set",
            Self::ContraindicationNew => "a new reason against it",
            Self::LeadOff => "electrode contact lost",
            Self::LinkLost => "no answer from the unit",
            Self::HeartbeatLost => "the controlling screen went away",
            Self::DeviceFault => "the unit reported a fault",
            Self::ReadbackMismatch => "the unit did not do what was asked",
            Self::Overtemperature => "the unit is too hot",
            Self::Battery => "battery too low",
            Self::EmergencyStop => "STOP ALL",
            Self::DaemonRestart => "doseward was ended or restarted",
            Self::OperatorAbsent => "no sign of the operator",
            Self::BelowDeviceFloor => "below what the unit can run at",
            Self::StoppedAtDevice => "stopped at the gun itself",
            Self::StartedAtDevice => "started at the gun itself",
            Self::EpochEnded => "the unit has to start again from zero",
            Self::Guard => "stopped by the guard",
            Self::OtherText => "doseward stopped it",
        }
    }
}
