//! Drivers with a seeded defect, for tests only: each breaks a law that the oracle must find broken.

use std::time::Duration;

use super::{Driver, DriverInput, DriverOutput};
use crate::model::command::Command;
use crate::model::packet::{Packet, Purpose, StopScript};
use crate::units::Mono;

/// What the driver does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It repeats its last output in the name of a stop (law 11).
    StopRaises,
    /// It keeps output alive after its lease (law 12).
    PastLease,
}

/// Numbers of packets that the driver inside knows nothing of.
const FIRST_OWN: u32 = u32::MAX / 2;
/// Spacing of what keeps output alive.
const EVERY: Duration = Duration::from_millis(300);

/// A driver with a defect.
pub struct Defective {
    inner: Box<dyn Driver>,
    wrong: Wrong,
    newest: Option<Packet>,
    until: Option<Mono>,
    next: u32,
}

impl Defective {
    /// Puts a defect into a driver.
    pub fn new(inner: Box<dyn Driver>, wrong: Wrong) -> Self {
        Self { inner, wrong, newest: None, until: None, next: FIRST_OWN }
    }

    fn again(&mut self, purpose: Purpose, out: &mut Vec<DriverOutput>) {
        if let Some(newest) = &self.newest {
            self.next = self.next.wrapping_add(1);
            let bytes = newest.bytes().to_vec();
            let packet = Packet::lasting(self.next, newest.endpoint(), bytes, purpose, newest.write());
            out.push(DriverOutput::Send(packet));
        }
    }
}

impl Driver for Defective {
    fn advance(&mut self, now: Mono, input: DriverInput<'_>, out: &mut Vec<DriverOutput>) {
        let mut stops = false;
        match &input {
            DriverInput::Sent { id, .. } if *id >= FIRST_OWN => return,
            DriverInput::Renew { until } => self.until = Some(*until),
            DriverInput::Command(command) => stops = matches!(command.get(), Command::Stop { .. }),
            DriverInput::Disconnected => (self.newest, self.until) = (None, None),
            DriverInput::Tick
            | DriverInput::Connected { .. }
            | DriverInput::Received(_)
            | DriverInput::Sent { .. } => {}
        }
        let before = out.len();
        self.inner.advance(now, input, out);
        for output in out.iter().skip(before) {
            if let DriverOutput::Send(packet) = output
                && matches!(packet.purpose(), Purpose::Output | Purpose::KeepAlive)
                && (self.wrong == Wrong::PastLease || packet.purpose() == Purpose::Output)
            {
                self.newest = Some(packet.clone());
            }
        }
        match self.wrong {
            Wrong::StopRaises if stops => self.again(Purpose::Stop, out),
            Wrong::PastLease if self.until.is_some_and(|until| now >= until) => {
                self.until = Some(now.saturating_add(EVERY));
                self.again(Purpose::Query, out);
            }
            Wrong::StopRaises | Wrong::PastLease => {}
        }
    }

    fn deadline(&self) -> Option<Mono> {
        let own = self.until.filter(|_| self.wrong == Wrong::PastLease);
        [self.inner.deadline(), own].into_iter().flatten().min()
    }

    fn stop_script(&self) -> &StopScript {
        self.inner.stop_script()
    }
}
