//! What of earlier sessions the next one must know before it arms anything: whether the alarm was heard today, and which
//! units are locked yet, and whether STOP ALL was left latched.

use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::alarm::Cause;
use crate::model::session::{Actor, SessionId};
use crate::record::RecordError;
use crate::record::entry::{Body, StoredEntry, cause};
use crate::record::store::{Reader, body_of, wall_of};

/// Title of the short session that holds an alarm test.
pub(crate) const TITLE: &str = "Alarm test";

/// Plan identifier of such a session; no plan file has it, for a space is no part of an identifier.
pub(crate) const PLAN_ID: &str = "alarm test";

/// An alarm test, as a person made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlarmTest {
    /// Who.
    pub by: Actor,
    /// The player's command.
    pub player: String,
    /// Every sound was heard.
    pub heard: bool,
}

/// A unit that an earlier session locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locked {
    /// Label on its housing.
    pub label: String,
    /// What stopped it three times.
    pub cause: Cause,
    /// For how long yet.
    pub left: Duration,
}

/// An instant on the clocks that outlive a session.
#[derive(Clone, Copy, Debug)]
pub struct Now<'a> {
    /// Wall clock.
    pub wall: jiff::Timestamp,
    /// System monotonic clock, µs.
    pub monotonic_us: u64,
    /// Which boot of the machine that is; `None`: the system does not say.
    pub boot: Option<&'a str>,
}

impl Now<'_> {
    /// Returns how long ago an entry was, whose session began at `origin_us` of `boot`. Within one boot the wall clock
    /// says nothing; over a restart it does, and at least the time since then has passed.
    fn since(
        &self,
        entry: &StoredEntry,
        boot: Option<&str>,
        origin_us: u64,
    ) -> Result<Duration, RecordError> {
        // A clock that was set back makes nothing younger than it is.
        let by_wall = Duration::try_from(self.wall.duration_since(wall_of(entry)?)).unwrap_or(Duration::ZERO);
        let since = |us: u64| Duration::from_micros(self.monotonic_us.saturating_sub(us));
        Ok(match (boot, self.boot) {
            (Some(then), Some(now)) if then == now => since(origin_us.saturating_add(entry.mono_us)),
            (Some(_), Some(_)) => by_wall.max(since(0)),
            (None, _) | (_, None) => by_wall,
        })
    }
}

impl Reader {
    /// Returns the day, in `zone`, on which a person last tried the alarm with this player and heard it; a later test
    /// that was not heard takes it back.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn alarm_heard(&self, player: &str, zone: &TimeZone) -> Result<Option<Date>, RecordError> {
        let tests = self.select("WHERE kind = 'alarm_test' ORDER BY n DESC LIMIT 1", &[])?;
        let Some(newest) = tests.first() else {
            return Ok(None);
        };
        let Body::AlarmTest { player: tried, heard: true, .. } = body_of(newest)? else {
            return Ok(None);
        };
        if tried != player {
            return Ok(None);
        }
        Ok(Some(wall_of(newest)?.to_zoned(zone.clone()).date()))
    }

    /// Returns whether STOP ALL was asked in a session and nobody has reset it.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn latched(&self, session: &SessionId) -> Result<bool, RecordError> {
        let asked = "WHERE session = ?1 AND kind IN ('stop_all', 'reset') ORDER BY n DESC LIMIT 1";
        let newest = self.select(asked, &[&session.as_str()])?;
        Ok(matches!(newest.first().map(body_of).transpose()?, Some(Body::StopAll { .. })))
    }

    /// Returns the units that are locked yet, simulated or real ones, each with the lock that lasts longest.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn locked(&self, now: Now<'_>, simulated: bool) -> Result<Vec<Locked>, RecordError> {
        let mut found: Vec<Locked> = Vec::new();
        for entry in self.select("WHERE kind = 'locked_out' ORDER BY n DESC LIMIT 100", &[])? {
            let Body::LockedOut { device, cause: code, left_us } = body_of(&entry)? else {
                continue;
            };
            let opens = self.select("WHERE session = ?1 AND seq = 0", &[&entry.session])?;
            let Some((open, cause)) = opens.first().zip(cause(&code)) else {
                continue;
            };
            let Body::Open { simulated: was, devices, mono_origin_us, boot, .. } = body_of(open)? else {
                continue;
            };
            let since = now.since(&entry, boot.as_deref(), mono_origin_us)?;
            let left = Duration::from_micros(left_us).saturating_sub(since);
            let Some(unit) = devices.get(usize::from(device)).filter(|_| was == simulated) else {
                continue;
            };
            if left.is_zero() || found.iter().any(|known| known.label == unit.label && known.left >= left) {
                continue;
            }
            found.retain(|known| known.label != unit.label);
            found.push(Locked { label: unit.label.clone(), cause, left });
        }
        Ok(found)
    }
}
