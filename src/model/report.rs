//! What a driver knows of its unit, in words that mean the same for every family.

use std::time::Duration;

use crate::model::command::{Channel, CommandId, Epoch, Generation, Intensity};
use crate::units::RawForce;

/// What a driver knows of its unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// What the unit says it is.
    Identity(Identity),
    /// A valid, fresh answer: a sign of life.
    Alive,
    /// The epoch has begun: stop proven, initialised, every channel at zero.
    Ready {
        /// Which.
        epoch: Epoch,
    },
    /// The epoch ended; the driver is stopping the unit, or the unit stopped by itself.
    EpochEnded {
        /// Which.
        epoch: Epoch,
        /// Why.
        cause: EpochEnd,
    },
    /// The unit acknowledged a command.
    Acknowledged {
        /// Which.
        id: CommandId,
    },
    /// No acknowledgement in time: what the unit does is uncertain.
    Unacknowledged {
        /// Which.
        id: CommandId,
    },
    /// A command was not sent: wrong epoch, not ready, or off the unit's grid.
    Refused {
        /// Which.
        id: CommandId,
        /// Why, in words.
        why: &'static str,
    },
    /// What the unit says of one channel.
    Measured {
        /// Which output.
        channel: Channel,
        /// Whether it gives output.
        running: bool,
        /// How much, when it says so.
        intensity: Option<Intensity>,
    },
    /// How hard the unit says that it is pressed, in its own numbers.
    Force(RawForce),
    /// Progress of a stop.
    Stop {
        /// Which.
        generation: Generation,
        /// How far.
        progress: StopProgress,
        /// Since it was asked.
        after: Duration,
    },
    /// Which stop frame stopped the unit, by its profile's name: it is sent first from here on.
    StopLearnt {
        /// Its name.
        frame: String,
    },
    /// Someone used the unit's own button.
    OwnButton(OwnButton),
    /// Charge in percent, 0–100.
    Battery(u8),
    /// The lease ended without renewal; the driver sent its stop.
    LeaseEnded,
    /// A packet was dropped because it was late.
    DroppedLate,
    /// A value above the profile's maximum was cut at the last barrier. A defect of ours.
    Clamped {
        /// What arrived.
        asked: Intensity,
        /// What was sent.
        sent: Intensity,
    },
    /// Bytes that mean nothing; counted.
    Unintelligible {
        /// Why, in words.
        why: &'static str,
    },
    /// The unit is not what it should be, or cannot be driven; nothing more is sent to it but stops.
    Unusable {
        /// Why, in words.
        why: String,
    },
}

/// How far a stop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopProgress {
    /// The first stop frame is on the wire.
    Written,
    /// The unit proved it.
    Confirmed,
    /// One second passed without proof; the driver goes on.
    Unconfirmed,
}

/// Why an epoch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochEnd {
    /// Electrode error on a channel.
    LeadOff(Channel),
    /// Pulse time-out or low current on a channel.
    PulseError(Channel),
    /// A result other than 0.
    Result(u8),
    /// A rising frame was not acknowledged.
    LostAcknowledgement,
    /// No acknowledged keep-alive for a second.
    KeepAliveLost,
    /// The unit is in another state than it should be.
    UnexpectedStatus,
    /// The link is gone.
    Disconnected,
    /// It was stopped.
    Stopped,
    /// The lease ended.
    LeaseEnded,
}

/// What was done at the unit itself (percussion-ble 2.7, 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnButton {
    /// Running though stopped.
    Started(Intensity),
    /// Stopped though running.
    Stopped,
    /// Lower than commanded by more than 10 % for 2 s: the new setpoint.
    Lowered(Intensity),
    /// Higher than commanded by more than 10 %, or above the unit's limit.
    Raised(Intensity),
    /// Changed while its own button may: an armed step said so, and it is not above what that step allows.
    Changed(Intensity),
}

/// What a unit says it is. Empty: it did not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Model.
    pub model: String,
    /// Serial number or device id.
    pub serial: String,
    /// Firmware.
    pub firmware: String,
}
