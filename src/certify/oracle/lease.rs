//! The operator's lease, reckoned from heartbeats alone (design 3.3, SR-47).

use std::time::Duration;

use crate::units::Mono;

/// An older echo renews nothing.
const ECHO_MAX: Duration = Duration::from_secs(1);

/// Until when somebody is known to see.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    length: Duration,
    /// From its end until the bytes must have stopped.
    grace: Duration,
    until: Option<Mono>,
}

impl Lease {
    pub(super) const fn new(length: Duration, grace: Duration) -> Self {
        Self { length, grace, until: None }
    }

    pub(super) fn heartbeat(&mut self, now: Mono, issued: Mono) {
        if issued <= now && now.since(issued) <= ECHO_MAX {
            self.until = self.until.max(Some(issued.saturating_add(self.length)));
        }
    }

    pub(super) fn end(&mut self, now: Mono) {
        self.until = self.until.map(|until| until.min(now));
    }

    pub(super) fn alive(&self, now: Mono) -> bool {
        self.until.is_some_and(|until| now < until.saturating_add(self.grace))
    }
}
