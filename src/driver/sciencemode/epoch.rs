//! One epoch of a unit: what was cleared, sent and acknowledged on each channel, and what an update may carry.
//!
//! An update starts or replaces everything at once, so it is composed from all channels, each from the setpoint that
//! was cleared in this epoch. What a channel surely gives is the lower of what was last sent and last acknowledged;
//! anything above that is a rise.
//!
//! Invariants:
//! - a careful update carries no channel above what it surely gives, and none that is not surely on;
//! - a setpoint of another epoch is never here: the value dies with its epoch.

use crate::driver::sciencemode::codec::{ChannelPattern, Dialect, Period, Point};
use crate::model::capability::PulseGrid;
use crate::model::command::{CommandId, Epoch};
use crate::units::{Microseconds, Milliamps, Mono};

/// What a running channel is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wave {
    pub(super) current: Milliamps,
    pub(super) width: Microseconds,
    pub(super) period: Microseconds,
}

impl Wave {
    /// Whether it gives more than `other` in any respect.
    fn above(self, other: Self) -> bool {
        self.current > other.current || self.width > other.width || self.period < other.period
    }

    /// The lower of both in every respect.
    fn lower(self, other: Self) -> Self {
        Self {
            current: self.current.min(other.current),
            width: self.width.min(other.width),
            period: self.period.max(other.period),
        }
    }

    /// Returns the biphasic symmetric pulse.
    fn points(self, gap: Microseconds) -> Option<Vec<Point>> {
        let half_milliamps = i16::try_from(self.current.microamps() / 500).ok()?;
        let duration_us = u16::try_from(self.width.micros()).ok()?;
        let mut points = vec![Point { duration_us, half_milliamps }];
        if gap.micros() > 0 {
            points.push(Point { duration_us: u16::try_from(gap.micros()).ok()?, half_milliamps: 0 });
        }
        points.push(Point { duration_us, half_milliamps: half_milliamps.checked_neg()? });
        Some(points)
    }
}

/// Returns the lower of both; a channel that is off in one is off.
pub(super) fn lower(one: Option<Wave>, other: Option<Wave>) -> Option<Wave> {
    Some(one?.lower(other?))
}

fn above(wave: Option<Wave>, base: Option<Wave>) -> bool {
    match (wave, base) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(wave), Some(base)) => wave.above(base),
    }
}

/// One channel in an epoch. `None` is off.
#[derive(Clone, Debug, Default)]
pub(super) struct Output {
    /// Last cleared.
    pub(super) wanted: Option<Wave>,
    /// In the last update that was sent.
    pub(super) sent: Option<Wave>,
    /// In the last update that was acknowledged.
    pub(super) acknowledged: Option<Wave>,
    /// Commands that no update has carried yet.
    pub(super) ids: Vec<CommandId>,
    /// Commands whose update was not acknowledged in time; said once.
    pub(super) uncertain: Vec<CommandId>,
    /// It is being taken out by a finish.
    pub(super) finishing: bool,
}

impl Output {
    /// What it surely gives.
    pub(super) fn sure(&self) -> Option<Wave> {
        lower(self.sent, self.acknowledged)
    }

    pub(super) fn settled(&self) -> bool {
        self.wanted == self.sent && self.sent == self.acknowledged
    }
}

/// What an update carries, by channel.
pub(super) type Waves = Vec<Option<Wave>>;

/// One epoch.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) epoch: Epoch,
    /// Initialised and proven to be.
    pub(super) ready: bool,
    /// End of the lease, once there is one.
    pub(super) until: Option<Mono>,
    pub(super) outputs: Vec<Output>,
    /// An update was the last frame: a poll must follow.
    pub(super) poll_next: bool,
    /// A renewal asked for a poll.
    pub(super) poll_owed: bool,
    /// A lowering waited long enough for an answer: it goes out without.
    pub(super) blind: bool,
    /// When the last frame was a poll: when its good answer came.
    pub(super) fresh: Option<Mono>,
    /// The last acknowledged keep-alive.
    pub(super) alive: Mono,
}

impl Running {
    pub(super) fn new(epoch: Epoch, channels: u8, now: Mono) -> Self {
        Self {
            epoch,
            ready: false,
            until: None,
            outputs: vec![Output::default(); usize::from(channels)],
            poll_next: false,
            poll_owed: false,
            blind: false,
            fresh: None,
            alive: now,
        }
    }

    /// Whether an update is needed.
    pub(super) fn dirty(&self) -> bool {
        self.outputs.iter().any(|output| !output.settled())
    }

    /// Whether every channel was told to be off and the unit said so.
    pub(super) fn at_zero(&self) -> bool {
        self.outputs.iter().all(|output| output.sent.is_none() && output.acknowledged.is_none())
    }

    /// Whether anything is to be lowered, or may be higher than it was last told.
    pub(super) fn lowers(&self) -> bool {
        self.outputs.iter().any(|output| {
            output.sent != output.acknowledged || lower(output.wanted, output.sure()) != output.sure()
        })
    }

    pub(super) fn finishing(&self) -> bool {
        self.outputs.iter().any(|output| output.finishing)
    }

    pub(super) fn wanted(&self) -> Waves {
        self.outputs.iter().map(|output| output.wanted).collect()
    }

    /// What lowers what is to be lowered and raises nothing.
    pub(super) fn careful(&self) -> Waves {
        self.outputs.iter().map(|output| lower(output.wanted, output.sure())).collect()
    }

    /// Whether any channel would give more than it surely does.
    pub(super) fn rises(&self, waves: &Waves) -> bool {
        waves.iter().zip(&self.outputs).any(|(wave, output)| above(*wave, output.sure()))
    }
}

/// Returns the channels of an update, or `None` when the wire cannot say them exactly.
pub(super) fn compose(waves: &Waves, grid: &PulseGrid, dialect: Dialect) -> Option<Vec<ChannelPattern>> {
    (0u8..)
        .zip(waves)
        .filter_map(|(channel, wave)| wave.map(|wave| (channel, wave)))
        .map(|(channel, wave)| {
            Some(ChannelPattern {
                channel,
                ramp: 0,
                period: Period::from_micros(wave.period.micros(), dialect)?,
                points: wave.points(grid.gap)?,
            })
        })
        .collect()
}
