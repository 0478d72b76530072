//! The operator's lease, reckoned from heartbeats alone (design 3.3, SR-47).

use std::time::Duration;

use crate::units::Mono;

/// An older echo renews nothing.
const ECHO_MAX: Duration = Duration::from_secs(1);

/// Until when somebody is known to see.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    length: Duration,
    until: Option<Mono>,
}

impl Lease {
    pub(super) const fn new(length: Duration) -> Self {
        Self { length, until: None }
    }

    pub(super) fn heartbeat(&mut self, now: Mono, issued: Mono) {
        if issued <= now && now.since(issued) <= ECHO_MAX {
            self.until = self.until.max(Some(issued.saturating_add(self.length)));
        }
    }

    pub(super) const fn end(&mut self) {
        self.until = None;
    }

    pub(super) fn alive(&self, now: Mono) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}
