//! What of earlier sessions the next one must know before it arms anything: whether the alarm was heard today, and which
//! units are locked yet, and whether STOP ALL was left latched.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::alarm::Cause;
use crate::model::session::{Actor, SessionId};
use crate::record::RecordError;
use crate::record::entry::{Body, StoredEntry, cause};
use crate::record::store::{Reader, body_of, wall_of};

/// What was given within this time counts as today's, whatever the zones say.
const RECENT: jiff::SignedDuration = jiff::SignedDuration::from_hours(12);

/// Returns the zones in which a day is counted: the box's own, as the system is set up, then the one that the caller's
/// environment names. A caller can only add a zone, never take the box's own away.
pub fn zones() -> Vec<TimeZone> {
    let own = std::fs::read("/etc/localtime").ok().and_then(|data| TimeZone::tzif("", &data).ok());
    own.into_iter().chain([TimeZone::system()]).collect()
}

/// The present day, in every zone in which it is counted.
#[derive(Clone, Copy, Debug)]
pub struct Today<'a> {
    /// Wall clock, never before the newest entry.
    pub now: jiff::Timestamp,
    /// See [`zones`].
    pub zones: &'a [TimeZone],
}

impl Today<'_> {
    /// Returns whether an instant may be of this day: for what uses up time.
    pub fn may_hold(&self, at: jiff::Timestamp) -> bool {
        self.now.duration_since(at) < RECENT || self.zones.iter().any(|zone| self.same(at, zone))
    }

    /// Returns whether an instant is of this day in every zone: for what allows something.
    pub fn surely_holds(&self, at: jiff::Timestamp) -> bool {
        self.zones.iter().all(|zone| self.same(at, zone))
    }

    /// Returns whether an instant may be of the seven days up to this one.
    pub fn may_hold_in_week(&self, at: jiff::Timestamp) -> bool {
        self.zones.iter().any(|zone| {
            let today = date(self.now, zone);
            let first = today.checked_sub(jiff::Span::new().days(6)).unwrap_or(today);
            (first..=today).contains(&date(at, zone))
        })
    }

    fn same(&self, at: jiff::Timestamp, zone: &TimeZone) -> bool {
        date(at, zone) == date(self.now, zone)
    }
}

fn date(at: jiff::Timestamp, zone: &TimeZone) -> jiff::civil::Date {
    at.to_zoned(zone.clone()).date()
}

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
    /// Returns when a person last tried the alarm with this player and heard it; a later test that was not heard takes it
    /// back.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn alarm_heard(&self, player: &str) -> Result<Option<jiff::Timestamp>, RecordError> {
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
        wall_of(newest).map(Some)
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
