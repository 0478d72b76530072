//! What the guard process must know, and what it answers (design 3.10).
//!
//! ```text
//!  link up -> Hold, Stopping -> (the guard can reach it) -> held -> Released -> Armed -> Lease, Beat ... -> Stopping -> Released
//! ```
//!
//! Invariants: nothing is armed and nothing rises on a unit that the guard does not hold; every message is an output of
//! `advance`, so a daemon that does not advance falls silent; a unit stays the guard's until its zero is proven or
//! stated.

use std::time::Duration;

use crate::alarm::Cause;
use crate::governor::Governor;
use crate::governor::output::{ForGuard, Output};
use crate::governor::stop::After;
use crate::model::command::DeviceId;
use crate::model::session::StopReason;
use crate::units::Mono;

/// Spacing of the heartbeats while the guard watches a unit: several are lost before it takes over.
const BEAT_EVERY: Duration = Duration::from_millis(100);
/// The guard looks once for the way to a unit; when it did not find it, it is asked again.
const HOLD_AGAIN: Duration = Duration::from_secs(1);

impl Governor {
    /// The guard process came or went. What it held, it holds no more.
    pub(super) fn guard(&mut self, now: Mono, present: bool, out: &mut Vec<Output>) {
        self.common.guard = present;
        for device in self.devices() {
            let asks = self.unit(device).is_some_and(|unit| unit.up && present && !unit.held);
            if asks {
                out.push(Output::Guard(ForGuard::Hold { device }));
                let settled = self.unit(device).is_some_and(super::state::Unit::stop_settled);
                if !settled {
                    self.say_stopping(now, device, out);
                }
            } else if let Some(unit) = self.unit_mut(device).filter(|_| !present) {
                (unit.held, unit.hold_again) = (false, None);
            }
        }
        if !present {
            self.hold_all(now, StopReason::Guard, out);
            self.alarm(now, Cause::GuardGone, None, None, out);
        }
    }

    /// The guard says whether it can stop a unit. A unit in use that it cannot stop any more is stopped.
    pub(super) fn guard_holds(&mut self, now: Mono, device: DeviceId, holds: bool, out: &mut Vec<Output>) {
        let present = self.common.guard;
        let Some(unit) = self.unit_mut(device) else {
            return;
        };
        unit.held = holds && present && unit.up;
        unit.hold_again = (!holds && present && unit.up).then(|| now.saturating_add(HOLD_AGAIN));
        let in_use = unit.ready || unit.preparing;
        if in_use && !unit.held {
            self.zero_unit(now, device, None, After::Hold(StopReason::Guard), out);
            self.alarm(now, Cause::GuardBlind, Some(device), None, out);
        }
        self.bump();
    }

    pub(super) fn tick_hold(&mut self, now: Mono, device: DeviceId, out: &mut Vec<Output>) {
        if let Some(unit) = self.unit_mut(device).filter(|unit| unit.hold_again.is_some_and(|at| now >= at)) {
            unit.hold_again = None;
            out.push(Output::Guard(ForGuard::Hold { device }));
        }
    }

    /// Hands a unit over before its first command: from here the guard stops it when nothing is heard of it.
    pub(super) fn hand_over(&mut self, now: Mono, device: DeviceId, out: &mut Vec<Output>) {
        out.push(Output::Guard(ForGuard::Hold { device }));
        out.push(Output::Guard(ForGuard::Armed { device }));
        if let Some(unit) = self.unit_mut(device) {
            unit.watched = true;
        }
        self.beat_at.get_or_insert(now);
    }

    /// Says that a unit was ordered to zero: the guard watches until that is proven or stated.
    pub(super) fn say_stopping(&mut self, now: Mono, device: DeviceId, out: &mut Vec<Output>) {
        out.push(Output::Guard(ForGuard::Stopping { device }));
        // One that was never connected was never handed over.
        if let Some(unit) = self.unit_mut(device).filter(|unit| unit.known) {
            unit.watched = true;
            self.beat_at.get_or_insert(now);
        }
    }

    /// Zero is proven, or stated by a person: no sign of life is owed for it any more.
    pub(super) fn release(&mut self, device: DeviceId, proven: bool, out: &mut Vec<Output>) {
        if let Some(unit) = self.unit_mut(device) {
            unit.watched = false;
        }
        out.push(Output::Guard(ForGuard::Released { device, proven }));
    }

    /// Gives the sign of life that is due.
    pub(super) fn tick_guard(&mut self, now: Mono, out: &mut Vec<Output>) {
        if !self.units.iter().any(|unit| unit.watched) {
            self.beat_at = None;
        }
        if self.beat_at.is_some_and(|at| now >= at) {
            self.beat_at = Some(now.saturating_add(BEAT_EVERY));
            out.push(Output::Guard(ForGuard::Beat));
        }
    }
}
