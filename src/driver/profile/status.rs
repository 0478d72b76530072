//! What the unit says, against what it was told (percussion-ble 2.7.7).
//!
//! Never raises anything, never takes bytes that mean nothing for life, and never blames the unit for a status that was
//! on its way when it was told something else.

use std::collections::VecDeque;
use std::time::Duration;

use super::stopping::StopKind;
use super::{MOTOR, Phase, ProfileDriver, QUERY_TIMEOUT, REPLY_LOST, UnprovenSet};
use crate::driver::DriverOutput;
use crate::model::packet::{Endpoint, Received};
use crate::model::profile::frame::{Reply, dotted};
use crate::model::profile::{BatteryRole, GateAnswer, gatt};
use crate::model::report::{EpochEnd, OwnButton, Report};
use crate::units::{Mono, RawForce};

/// A status may describe the unit as it was this long ago.
const GRACE: Duration = Duration::from_millis(500);
/// A unit below its setpoint for this long was lowered by hand, or is loaded: both are the new setpoint.
const LOWERED_AFTER: Duration = Duration::from_secs(2);

/// What the unit was told, lately.
#[derive(Debug, Default)]
pub(super) struct History {
    commanded: u16,
    changed: Mono,
    /// Earlier setpoints and when each ended, newest last.
    earlier: VecDeque<(Mono, u16)>,
    /// Its own button may start and set it, not above this.
    allowed: Option<u16>,
    low_since: Option<Mono>,
}

impl History {
    /// Returns the setpoint last sent; after a write that may not have arrived, the one it asked for.
    pub(super) const fn commanded(&self) -> u16 {
        self.commanded
    }

    /// Lets the unit's own button start and set it, not above `most`.
    pub(super) const fn allow(&mut self, most: u16) {
        self.allowed = Some(most);
    }

    /// Whatever the unit's own button does counts as unasked again.
    pub(super) const fn forbid(&mut self) {
        self.allowed = None;
    }

    /// Notes a setpoint at the moment it is sent.
    pub(super) fn command(&mut self, now: Mono, value: u16) {
        self.earlier.retain(|(ended, _)| now < ended.saturating_add(GRACE));
        if self.commanded > 0 {
            self.earlier.push_back((now, self.commanded));
        }
        self.commanded = value;
        self.changed = now;
        self.low_since = None;
    }

    /// Takes back a setpoint that was not sent after all.
    pub(super) fn take_back(&mut self, now: Mono, value: u16, before: u16) {
        if self.commanded == value {
            self.command(now, before);
        }
    }

    /// The highest setpoint that a status received now may still describe.
    fn highest(&self, now: Mono) -> u16 {
        let lately = self.earlier.iter().filter(|(ended, _)| now < ended.saturating_add(GRACE));
        lately.map(|(_, value)| *value).max().unwrap_or(0).max(self.commanded)
    }

    fn is_settled(&self, now: Mono) -> bool {
        now >= self.changed.saturating_add(GRACE)
    }
}

impl ProfileDriver {
    /// Handles bytes of any characteristic.
    pub(super) fn received(&mut self, now: Mono, received: &Received, out: &mut Vec<DriverOutput>) {
        if self.phase == Phase::Down {
            return;
        }
        let Endpoint::Characteristic(uuid) = received.endpoint else {
            self.unintelligible("bytes of a serial port", out);
            return;
        };
        if self.profile.gate.is_some_and(|gate| gate.uuid == uuid) {
            self.gate_read(now, &received.bytes, out);
        } else if self.profile.gatt.status.as_ref().is_some_and(|status| status.uuid == uuid) {
            self.status_received(now, &received.bytes, out);
        } else if uuid == gatt::BATTERY_LEVEL {
            if let (BatteryRole::Standard, Ok(percent)) =
                (self.profile.gatt.battery, gatt::battery_percent(&received.bytes))
            {
                out.push(DriverOutput::Report(Report::Battery(percent)));
            }
        } else {
            self.information(uuid, &received.bytes, out);
        }
    }

    fn gate_read(&mut self, now: Mono, value: &[u8], out: &mut Vec<DriverOutput>) {
        let (Phase::Gated(_), Some(gate)) = (self.phase, self.profile.gate) else {
            return;
        };
        match gate.judge(value) {
            GateAnswer::Open => {
                self.phase = self.after_gate();
                if self.phase == Phase::Up {
                    self.ask_stop(now, StopKind::Reported, out);
                }
            }
            GateAnswer::AuthorizationRequired { .. } => {
                // It was never driven and cannot be: nothing is wanted of it.
                self.stop = None;
                self.unusable("the unit asks for an authorization: identified only", false, out);
            }
        }
    }

    fn information(&mut self, uuid: u128, value: &[u8], out: &mut Vec<DriverOutput>) {
        let (text, _) = gatt::information(value);
        match uuid {
            gatt::SERIAL_NUMBER => self.identity.serial = text,
            gatt::MODEL_NUMBER if self.variant.is_none() => self.identity.model = text,
            gatt::FIRMWARE_REVISION if self.profile.matching.proof.is_none() => self.identity.firmware = text,
            _ => return,
        }
        if self.identified {
            out.push(DriverOutput::Report(Report::Identity(self.identity.clone())));
        }
    }

    fn unintelligible(&mut self, why: &'static str, out: &mut Vec<DriverOutput>) {
        self.counts.unintelligible = self.counts.unintelligible.saturating_add(1);
        out.push(DriverOutput::Report(Report::Unintelligible { why }));
    }

    fn status_received(&mut self, now: Mono, bytes: &[u8], out: &mut Vec<DriverOutput>) {
        let reply = match self.profile.read_reply(bytes) {
            Ok(reply) => reply,
            Err(error) => {
                self.unintelligible(error.words(), out);
                return;
            }
        };
        if reply.length_agrees == Some(false) {
            self.counts.length_disagrees = self.counts.length_disagrees.saturating_add(1);
        }
        out.push(DriverOutput::Report(Report::Alive));
        if self.profile.poll.as_ref().is_some_and(|poll| poll.reply == reply.name) {
            self.status(now, &reply, out);
        } else if self.profile.matching.proof.as_deref().and_then(|proof| proof.strip_prefix("get_"))
            == Some(reply.name.as_str())
        {
            self.version(now, &reply, out);
        }
    }

    fn version(&mut self, now: Mono, reply: &Reply, out: &mut Vec<DriverOutput>) {
        if self.identified || !matches!(self.phase, Phase::Proving | Phase::Up) {
            return;
        }
        self.identified = true;
        let firmware = reply.fields.get("firmware").copied();
        self.identity.firmware = firmware.map(dotted).unwrap_or_default();
        out.push(DriverOutput::Report(Report::Identity(self.identity.clone())));
        if self.phase == Phase::Proving {
            self.phase = Phase::Up;
            self.ask_stop(now, StopKind::Reported, out);
        }
        if self.preparing.is_some() {
            self.idle_at = now;
        }
        let least = match &self.variant {
            Some(variant) => variant.firmware_min,
            // The model is not known: the strictest of the family.
            None => self.profile.variants.iter().filter_map(|variant| variant.firmware_min).max(),
        };
        if let (Some(least), Some(firmware)) = (least, firmware)
            && firmware < least
        {
            let why =
                format!("firmware {} is older than {}: identified only", dotted(firmware), dotted(least));
            self.unusable(why, true, out);
        }
    }

    fn status(&mut self, now: Mono, reply: &Reply, out: &mut Vec<DriverOutput>) {
        self.queries.retain(|query| now < query.sent.saturating_add(REPLY_LOST));
        // Replies carry no number: the oldest open query is the one answered.
        let query = self.queries.pop_front().map(|query| query.packet);
        let running = !self.profile.proves_stop(reply);
        let speed = reply.fields.get("speed").or_else(|| reply.fields.get("level"));
        let speed = speed.map(|raw| u16::try_from(*raw).unwrap_or(u16::MAX));
        let intensity = if running { speed } else { Some(0) }.map(|number| self.profile.intensity(number));
        out.push(DriverOutput::Report(Report::Measured { channel: MOTOR, running, intensity }));
        if let Some(force) = reply.fields.get("force") {
            out.push(DriverOutput::Report(Report::Force(RawForce::from_raw(*force))));
        }
        if let (BatteryRole::Frame, Some(percent)) = (self.profile.gatt.battery, reply.fields.get("battery"))
            && let Some(percent) = u8::try_from(*percent).ok().filter(|percent| *percent <= 100)
        {
            out.push(DriverOutput::Report(Report::Battery(percent)));
        }
        self.runs(running);
        if self.stop.is_some() {
            if let (false, Some(query)) = (running, query) {
                self.prove_stop(now, query, out);
            }
            if self.stop.is_some() {
                return;
            }
        }
        if !running {
            self.begin_epoch(query, out);
        }
        self.compare(now, running, (speed, query), out);
    }

    fn begin_epoch(&mut self, query: Option<u32>, out: &mut Vec<DriverOutput>) {
        if self.phase != Phase::Up || !self.identified {
            return;
        }
        let fresh = |from: u32| query.is_some_and(|query| query >= from);
        if let Some(preparing) = self.preparing.take_if(|preparing| fresh(preparing.from_packet)) {
            self.epoch = Some(preparing.epoch);
            out.push(DriverOutput::Report(Report::Ready { epoch: preparing.epoch }));
        }
    }

    fn compare(
        &mut self,
        now: Mono,
        running: bool,
        (speed, query): (Option<u16>, Option<u32>),
        out: &mut Vec<DriverOutput>,
    ) {
        let commanded = self.history.commanded();
        match (commanded > 0, running) {
            (false, false) => {}
            (true, false) => {
                if self.history.is_settled(now) {
                    self.stopped_by_hand(now, out);
                }
            }
            (false, true) => {
                if self.history.is_settled(now) && !self.taken_over(now, speed, out) {
                    let started = self.profile.intensity(speed.unwrap_or(0));
                    out.push(DriverOutput::Report(Report::OwnButton(OwnButton::Started(started))));
                    self.ask_stop(now, StopKind::Reported, out);
                }
            }
            (true, true) => {
                if let Some(speed) = speed
                    && !self.set_by_hand(now, commanded, speed, out)
                {
                    self.compare_speed(now, commanded, (speed, query), out);
                }
            }
        }
    }

    /// Takes over a start at the unit itself, where that is allowed. From here it is output of this epoch: it ends with
    /// the lease like any other.
    fn taken_over(&mut self, now: Mono, speed: Option<u16>, out: &mut Vec<DriverOutput>) -> bool {
        let Some(speed) = speed.filter(|speed| self.history.allowed.is_some_and(|most| *speed <= most))
        else {
            return false;
        };
        if self.epoch.is_none() || self.until.is_none_or(|until| until <= now) {
            return false;
        }
        self.history.command(now, speed.max(1));
        out.push(DriverOutput::Report(Report::OwnButton(OwnButton::Started(self.profile.intensity(speed)))));
        true
    }

    /// Follows a change at a unit that was started there; what is above the limit it does not follow.
    fn set_by_hand(&mut self, now: Mono, commanded: u16, speed: u16, out: &mut Vec<DriverOutput>) -> bool {
        if self.history.allowed.is_none_or(|most| speed > most) || self.target.is_some() {
            return false;
        }
        let (was, is) = (u32::from(commanded), u32::from(speed));
        if was.abs_diff(is).saturating_mul(10) > was {
            self.history.command(now, speed.max(1));
            out.push(DriverOutput::Report(Report::OwnButton(OwnButton::Changed(
                self.profile.intensity(speed),
            ))));
        }
        true
    }

    fn compare_speed(
        &mut self,
        now: Mono,
        commanded: u16,
        (speed, query): (u16, Option<u32>),
        out: &mut Vec<DriverOutput>,
    ) {
        let told = u32::from(self.history.highest(now));
        let above = u32::from(speed).saturating_mul(10) > told.saturating_mul(11);
        if above || speed > self.profile.max_of(self.variant.as_ref()) {
            let raised = OwnButton::Raised(self.profile.intensity(speed));
            out.push(DriverOutput::Report(Report::OwnButton(raised)));
            self.end_epoch(EpochEnd::UnexpectedStatus, out);
            self.ask_stop(now, StopKind::Reported, out);
            return;
        }
        let below = u32::from(speed).saturating_mul(10) < u32::from(commanded).saturating_mul(9);
        // A motor on its way, or under load, is slower than its setpoint: asked after the write it still says that
        // the unit runs by our word, and not above it.
        let after = self.unproven_set.is_some_and(|set| query.is_some_and(|query| query > set.packet));
        if !below || after {
            self.agree(out);
        }
        if !below {
            self.history.low_since = None;
            return;
        }
        let since = *self.history.low_since.get_or_insert(now);
        if now >= since.saturating_add(LOWERED_AFTER) && self.target.is_none() {
            self.history.command(now, speed);
            let lowered = OwnButton::Lowered(self.profile.intensity(speed));
            out.push(DriverOutput::Report(Report::OwnButton(lowered)));
        }
    }

    /// A status that agrees acknowledges a write that had no answer of its own.
    fn agree(&mut self, out: &mut Vec<DriverOutput>) {
        if let Some(UnprovenSet { id, .. }) = self.unproven_set.take() {
            out.push(DriverOutput::Report(Report::Acknowledged { id }));
        }
    }

    /// The gun's own button is the operator's word: nothing is restarted, the epoch is over.
    fn stopped_by_hand(&mut self, now: Mono, out: &mut Vec<DriverOutput>) {
        out.push(DriverOutput::Report(Report::OwnButton(OwnButton::Stopped)));
        self.history.command(now, 0);
        self.history.forbid();
        self.epoch = None;
        self.target = None;
        self.poll_wanted = false;
        self.until = None;
        self.idle_at = now.saturating_add(self.profile.poll.as_ref().map_or(QUERY_TIMEOUT, |poll| poll.idle));
    }
}
