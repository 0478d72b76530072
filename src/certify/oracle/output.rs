//! One output of one unit: what it was told on the wire, how fast, and what it really gave on which area.

use std::time::Duration;

use crate::model::command::Channel;
use crate::model::plan::Cycle;
use crate::sim::Delivered;
use crate::units::Mono;

/// Steps of a rise may bunch on the way: a driver waits for an answer this long before it writes the next one.
const BUNCH_S: f64 = 0.5;

/// A frame, and a motor that falls, are on their way no longer than this after a stop.
const ON_THE_WAY: Duration = Duration::from_secs(1);

/// What was given since some moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Given {
    pub(super) on_us: u64,
    pub(super) pulses: u64,
    pub(super) charge_pc: u64,
    pub(super) speed_us: u64,
}

impl Given {
    fn between(before: &Delivered, after: &Delivered) -> Self {
        Self {
            on_us: after.on_us.saturating_sub(before.on_us),
            pulses: after.pulses.saturating_sub(before.pulses),
            charge_pc: after.charge_pc.saturating_sub(before.charge_pc),
            speed_us: after.speed_us.saturating_sub(before.speed_us),
        }
    }
}

/// One output.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pub(super) channel: Channel,
    /// Position of the step that used it last.
    pub(super) step: Option<usize>,
    pub(super) truth: Delivered,
    level: u32,
    /// Set above zero since it was last stopped.
    told: bool,
    /// Highest since the last stop.
    envelope: u32,
    /// Whether it was told more than before, last.
    rising: bool,
    /// When it last left zero, and the envelope then.
    left_zero: (Mono, u32),
    /// How much it may rise at once, and since when that grows.
    allowance: (f64, Mono),
    /// What earlier steps gave, by position; and the truth when the present one took its place.
    earlier: Vec<(usize, Given)>,
    since: Delivered,
}

impl Output {
    pub(super) fn new(channel: Channel) -> Self {
        Self {
            channel,
            step: None,
            truth: Delivered::default(),
            level: 0,
            told: false,
            envelope: 0,
            rising: false,
            left_zero: (Mono::ORIGIN, 0),
            allowance: (f64::INFINITY, Mono::ORIGIN),
            earlier: Vec::new(),
            since: Delivered::default(),
        }
    }

    pub(super) const fn level(&self) -> u32 {
        self.level
    }

    pub(super) const fn envelope(&self) -> u32 {
        self.envelope
    }

    /// Returns what a client speaks of: in the middle of a rise where it is, else the highest of the cycle.
    pub(super) const fn felt(&self) -> u32 {
        if self.rising && self.level > 0 { self.level } else { self.envelope }
    }

    pub(super) const fn gives(&self) -> bool {
        self.truth.present > 0
    }

    /// Returns whether it was told to give something and not told to stop since.
    pub(super) const fn is_told(&self) -> bool {
        self.told
    }

    /// A step takes the output: what was given before belongs to the one before it.
    pub(super) fn take_place(&mut self, _now: Mono, step: usize) {
        if let Some(before) = self.step.filter(|before| *before != step) {
            self.earlier.push((before, Given::between(&self.since, &self.truth)));
            self.since = self.truth;
        }
        self.step = Some(step);
    }

    /// Returns what was given in all, by step.
    pub(super) fn by_step(&self) -> impl Iterator<Item = (usize, Given)> {
        let last = self.step.map(|step| (step, Given::between(&self.since, &self.truth)));
        self.earlier.iter().copied().chain(last)
    }

    pub(super) const fn stop(&mut self, now: Mono) {
        (self.level, self.envelope, self.rising) = (0, 0, false);
        self.left_zero = (now, 0);
    }

    /// Looks whether it has come to rest: what was on its way when it was stopped has arrived.
    pub(super) fn came_to_rest(&mut self, now: Mono) {
        let settled = self.level == 0 && now.since(self.left_zero.0) > ON_THE_WAY;
        self.told &= !(settled && self.truth.present == 0);
    }

    pub(super) const fn lower(&mut self, _now: Mono, level: u32) {
        (self.level, self.rising) = (level, false);
    }

    /// Takes a rise; says when it is faster than `rate` per second (in steps of `floor`), or than its program's ramp.
    pub(super) fn rise(
        &mut self,
        now: Mono,
        level: u32,
        (rate, floor): (f64, f64),
        cycle: Option<Cycle>,
    ) -> Option<String> {
        let (before, envelope) = (self.level, self.envelope);
        if before == 0 {
            self.left_zero = (now, envelope);
        }
        (self.level, self.envelope, self.told, self.rising) = (level, envelope.max(level), true, true);
        match cycle {
            Some(cycle) => self.judge_program(now, rate, cycle),
            None => self.judge_titration(now, before, (rate, floor)),
        }
    }

    /// In any window a titration rises by no more than its rate allows, and what may bunch on the way.
    fn judge_titration(&mut self, now: Mono, before: u32, (rate, floor): (f64, f64)) -> Option<String> {
        let most = rate.mul_add(BUNCH_S, floor);
        let (allowance, since) = self.allowance;
        let allowance = now.since(since).as_secs_f64().mul_add(rate, allowance).min(most);
        let rise = f64::from(self.level.saturating_sub(before));
        // From zero the lowest that runs is one step, whatever it is.
        let rise = if before == 0 { rise - floor } else { rise };
        self.allowance = ((allowance - rise).max(0.0), now);
        (rise > allowance + 1e-6)
            .then(|| format!("rises from {before} to {} where {allowance:.0} more are allowed", self.level))
    }

    /// From zero a program climbs to its envelope in its ramp time, in steps of 2 mA; above it at titration's rate.
    fn judge_program(&self, now: Mono, rate: f64, cycle: Cycle) -> Option<String> {
        let (since, envelope) = self.left_zero;
        let passed = now.since(since).as_secs_f64() + BUNCH_S;
        let known = f64::from(envelope);
        let titrated = rate * passed + 500.0;
        let ramp = cycle.ramp_up.as_secs_f64().max(1.0);
        let ramped = (known + 2_000.0) * passed / ramp + 2_000.0;
        let most = if self.level <= envelope { titrated.max(ramped) } else { known + titrated };
        (f64::from(self.level) > most)
            .then(|| format!("a program is at {} where {most:.0} is allowed by now", self.level))
    }
}
