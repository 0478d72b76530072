//! A link that can be told to misbehave and a driver that answers every order with one packet, for the tests of tasks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::driver::{Driver, DriverInput, DriverOutput, SendOutcome};
use crate::model::command::{Command, Generation};
use crate::model::packet::{Confirm, Endpoint, Packet, Purpose, Received, StopScript, StopStep, WriteKind};
use crate::model::report::{Report, StopProgress};
use crate::transport::{LinkError, Sent, Transport};
use crate::units::Mono;

pub(crate) const STOP: &[u8] = b"stop";

/// What the link does with a write, and what was written through it.
#[derive(Default)]
pub(crate) struct Wire {
    pub(crate) written: Vec<(Mono, Vec<u8>)>,
    pub(crate) behaviour: Behaviour,
    pub(crate) connects: u32,
    pub(crate) attempts: u32,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Behaviour {
    #[default]
    Well,
    /// Every write waits for ever.
    Stuck,
    /// Output waits for ever, stops go through.
    StuckOutput,
    /// Every write is refused because another is pending.
    Busy,
    /// The link cannot be opened.
    Absent,
}

pub(crate) struct FakeLink {
    pub(crate) wire: Arc<Mutex<Wire>>,
    pub(crate) clock: Clock,
    pub(crate) replies: mpsc::Receiver<Received>,
}

impl Transport for FakeLink {
    async fn connect(&mut self) -> Result<(), LinkError> {
        let mut wire = self.wire.lock().unwrap();
        wire.connects += 1;
        if wire.behaviour == Behaviour::Absent {
            return Err(LinkError::Gone { endpoint: "fake".to_owned() });
        }
        Ok(())
    }

    async fn send(&mut self, packet: &Packet) -> Result<Sent, LinkError> {
        let behaviour = {
            let mut wire = self.wire.lock().unwrap();
            wire.attempts += 1;
            wire.behaviour
        };
        let stuck = behaviour == Behaviour::Stuck
            || (behaviour == Behaviour::StuckOutput && packet.purpose() != Purpose::Stop);
        if stuck {
            std::future::pending::<()>().await;
        }
        if behaviour == Behaviour::Busy {
            return Err(LinkError::Busy { endpoint: "fake".to_owned() });
        }
        self.wire.lock().unwrap().written.push((self.clock.now(), packet.bytes().to_vec()));
        Ok(Sent::Acknowledged)
    }

    async fn receive(&mut self) -> Result<Received, LinkError> {
        match self.replies.recv().await {
            Some(received) => Ok(received),
            None => std::future::pending().await,
        }
    }

    async fn disconnect(&mut self) {}
}

/// Answers every order with one packet; a stop is proven by the reply `zero`.
pub(crate) struct FakeDriver {
    script: StopScript,
    next: u32,
    generation: Generation,
    pub(crate) outcomes: Arc<Mutex<Vec<(u32, SendOutcome)>>>,
    /// Panics at a command other than a stop.
    panics: bool,
    /// Answers every order as a good unit does.
    answers: bool,
    /// When a refused stop is offered again.
    again: Option<Mono>,
    /// Numbers of its stops.
    stops: Vec<u32>,
}

impl FakeDriver {
    pub(crate) fn new(panics: bool, answers: bool) -> Self {
        let confirm =
            Confirm { endpoint: Endpoint::Serial, at: 0, mask: vec![0xFF; 4], value: b"zero".to_vec() };
        let step = StopStep {
            endpoint: Endpoint::Serial,
            bytes: STOP.to_vec(),
            write: WriteKind::WithoutResponse,
            wait: Duration::from_millis(50),
            confirm: Some(confirm),
        };
        let script = StopScript { steps: vec![step], cycle: Duration::from_millis(100), resync: Vec::new() };
        let (next, generation) = (0, Generation(0));
        Self {
            script,
            next,
            generation,
            outcomes: Arc::default(),
            panics,
            answers,
            again: None,
            stops: Vec::new(),
        }
    }
}

impl Driver for FakeDriver {
    fn advance(&mut self, now: Mono, input: DriverInput<'_>, out: &mut Vec<DriverOutput>) {
        let newest = self.generation;
        let mut stop = |generation: Generation| {
            self.generation = generation;
            self.next += 1;
            self.stops.push(self.next);
            let (bytes, write) = (STOP.to_vec(), WriteKind::WithoutResponse);
            let packet = Packet::lasting(self.next, Endpoint::Serial, bytes, Purpose::Stop, write);
            out.push(DriverOutput::Send(packet));
        };
        match input {
            DriverInput::Connected { generation } => stop(generation),
            DriverInput::Command(command) => match *command.get() {
                Command::Stop { generation } => stop(generation),
                Command::Set { id, .. } => {
                    assert!(!self.panics, "a driver with a defect");
                    self.next += 1;
                    let until = now.saturating_add(Duration::from_secs(1));
                    let bytes = format!("set {}", id.0).into_bytes();
                    let write = WriteKind::WithResponse;
                    out.push(DriverOutput::Send(Packet::expiring(
                        self.next,
                        Endpoint::Serial,
                        bytes,
                        Purpose::Output,
                        write,
                        (now, until),
                    )));
                }
                Command::Prepare { epoch } => {
                    assert!(!self.panics, "a driver with a defect");
                    if self.answers {
                        out.push(DriverOutput::Report(Report::Ready { epoch }));
                    }
                }
                Command::Finish { .. } | Command::AllowStart { .. } => {}
            },
            DriverInput::Received(received) if received.bytes == b"zero" => {
                out.push(DriverOutput::Report(Report::Stop {
                    generation: self.generation,
                    progress: StopProgress::Confirmed,
                    after: Duration::ZERO,
                }));
            }
            DriverInput::Tick if self.again.is_some_and(|at| at <= now) => {
                stop(newest);
                self.again = None;
            }
            DriverInput::Sent { id, outcome } => {
                if outcome == SendOutcome::Busy && self.stops.contains(&id) {
                    self.again = Some(now.saturating_add(Duration::from_millis(50)));
                }
                self.outcomes.lock().unwrap().push((id, outcome));
                if self.answers {
                    out.push(DriverOutput::Report(Report::Stop {
                        generation: self.generation,
                        progress: StopProgress::Confirmed,
                        after: Duration::from_millis(1),
                    }));
                }
            }
            DriverInput::Received(_)
            | DriverInput::Tick
            | DriverInput::Disconnected
            | DriverInput::Renew { .. } => {}
        }
    }

    fn deadline(&self) -> Option<Mono> {
        self.again
    }

    fn stop_script(&self) -> &StopScript {
        &self.script
    }
}
