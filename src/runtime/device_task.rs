//! One task per unit: owns its transport and its driver, and is the only place that writes to a link.
//!
//! ```text
//!              connect ok                    link error, or a write stuck for 5 s
//!  connecting ------------> up (idle <-> writing) ------------------------------> waiting 0.5 1 2 4 8 s
//!      ^                                                                              |
//!      +------------------------------------------------------------------------------+
//! ```
//!
//! Invariants:
//! - the stop lane is the first branch of every wait, also while a write is stuck and while there is no link;
//! - one write is in flight at a time; stop packets are written before all others, output that was waiting when a
//!   stop came is never written, a late packet is dropped;
//! - an order that was given before the newest stop is never carried out after it;
//! - every wait for the transport ends: nothing a link does keeps the task from its stop lane or its driver's deadline;
//! - when the orders end, or the driver panics, the unit is stopped before the task ends.
//!
//! All branches of [`wake`] are cancel-safe, except a write in flight, which only its own loop gives up, and whose
//! outcome then is [`SendOutcome::Unknown`].

use std::collections::VecDeque;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{mpsc, watch};

use crate::clock::Clock;
use crate::driver::{Driver, DriverInput, DriverOutput, SendOutcome};
use crate::governor::{Cleared, Input};
use crate::model::command::{Command, DeviceId, Generation};
use crate::model::packet::{Packet, Purpose, StopScript};
use crate::model::report::{Report, StopProgress};
use crate::runtime::guard_line::PortFirst;
use crate::runtime::handle::StopOrder;
use crate::transport::{LinkError, Sent, Transport};
use crate::units::Mono;

/// Longest wait for a link.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);

/// Longest wait for one write.
const WRITE_WITHIN: Duration = Duration::from_secs(1);

/// A write in flight is given up this long after a stop wants the link (worst case of design 4: 50 ms).
const STOP_GRACE: Duration = Duration::from_millis(20);

/// Pause before the end of a half-written frame is offered again that was refused because another write is pending.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// Writes stuck this long: the link is dropped, once, and opened anew (design 3.7).
const STUCK: Duration = Duration::from_secs(5);

/// Longest wait for a link to close.
const DISCONNECT_WITHIN: Duration = Duration::from_secs(3);

/// A unit that is let go is given this long to prove its stop.
const LAST_STOP_WITHIN: Duration = Duration::from_secs(2);

/// Pauses between attempts to connect; the last one for ever.
const BACK_OFF: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// A link that lived this long starts the back-off anew.
const LINK_GOOD: Duration = Duration::from_secs(10);

/// Packets that may wait, of each kind.
const QUEUE_MAX: usize = 64;

/// Reports that may wait for the session task; more than that and nobody is listening: the unit is stopped.
const OUTBOX_MAX: usize = 512;

/// Number of the packet that ends a half-written frame; the driver does not know it.
const RESYNC: u32 = u32::MAX;

/// Orders that may wait for the task.
pub(crate) const ORDERS_MAX: usize = 64;

/// An order of the governor, with the number of stops posted when it was given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub(crate) after: u64,
    pub(crate) what: Ordered,
}

/// What is ordered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ordered {
    Command(Cleared<Command>),
    Renew(Mono),
}

/// Why a device task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceEnd {
    /// It was let go, and the unit's stop is proven, or the unit was never there.
    Stopped,
    /// It was let go; the unit has not proven that it stopped.
    Unproven,
    /// The system bus is gone and will not heal.
    BusDead,
    /// Nobody takes its reports.
    Unheard,
    /// The driver panicked; the stop script was written. Whether a reply proved the stop.
    Panicked {
        /// It was.
        proven: bool,
    },
}

/// What the guard has to do with a unit.
pub(crate) struct Before {
    /// It opens the unit's port before this task does.
    pub(crate) port: Option<PortFirst>,
    /// How it stops the unit; the newest.
    pub(crate) script: watch::Sender<StopScript>,
}

/// Owns one unit's transport and driver.
pub(crate) struct DeviceTask<T> {
    link: T,
    port: Option<PortFirst>,
    unit: Unit,
}

/// Everything of the task but its transport, so that a transport's future can wait beside it.
struct Unit {
    id: DeviceId,
    clock: Clock,
    driver: Box<dyn Driver>,
    lane: watch::Receiver<StopOrder>,
    orders: mpsc::Receiver<Order>,
    reports: mpsc::Sender<Input>,
    script: watch::Sender<StopScript>,
    outbox: VecDeque<Input>,
    stops: VecDeque<Packet>,
    others: VecDeque<Packet>,
    out: Vec<DriverOutput>,
    up: bool,
    ever_up: bool,
    /// The newest stop is proven and nothing was ordered since.
    proven: bool,
    generation: Generation,
    stops_seen: u64,
    last_tick: Option<Mono>,
    /// No packet is written before then.
    pause_until: Option<Mono>,
    /// Since when no write has come through.
    stuck_since: Option<Mono>,
    /// The link was dropped for it, and nothing has come through since.
    dropped: bool,
    /// Since when the task is to end.
    leaving: Option<Mono>,
    unheard: bool,
}

/// One reason to run.
enum Wake<O> {
    Stop,
    Tick,
    Reported,
    Order(Order),
    Leave,
    Io(O),
    GiveUp,
}

/// Why a link was given up.
enum Down {
    Lost,
    Leaving,
    BusDead,
}

impl<T: Transport> DeviceTask<T> {
    pub(crate) fn new(
        id: DeviceId,
        clock: Clock,
        (driver, link): (Box<dyn Driver>, T),
        lane: watch::Receiver<StopOrder>,
        (orders, reports): (mpsc::Receiver<Order>, mpsc::Sender<Input>),
        Before { port, script }: Before,
    ) -> Self {
        let unit = Unit {
            id,
            clock,
            driver,
            lane,
            orders,
            reports,
            script,
            outbox: VecDeque::new(),
            stops: VecDeque::new(),
            others: VecDeque::new(),
            out: Vec::new(),
            up: false,
            ever_up: false,
            proven: false,
            generation: Generation(0),
            stops_seen: 0,
            last_tick: None,
            pause_until: None,
            stuck_since: None,
            dropped: false,
            leaving: None,
            unheard: false,
        };
        Self { link, port, unit }
    }

    /// Runs until the orders end. A panic of the driver is caught: the stop script needs no driver.
    pub(crate) async fn run(mut self) -> DeviceEnd {
        let script = self.unit.driver.stop_script().clone();
        match AssertUnwindSafe(self.serve()).catch_unwind().await {
            Ok(end) => end,
            Err(_) => {
                let proven = last_resort(&mut self.link, &script, &self.unit.clock).await;
                DeviceEnd::Panicked { proven }
            }
        }
    }

    async fn serve(&mut self) -> DeviceEnd {
        let mut failures = 0;
        let down = loop {
            match self.connect().await {
                Ok(()) => {}
                Err(Down::Lost) => {
                    if self.pause(failures).await {
                        break Down::Leaving;
                    }
                    failures = failures.saturating_add(1);
                    continue;
                }
                Err(down) => break down,
            }
            let since = self.unit.clock.now();
            let down = self.up().await;
            self.unit.link_down();
            self.disconnect().await;
            if !matches!(down, Down::Lost) {
                break down;
            }
            if self.unit.clock.now().since(since) > LINK_GOOD {
                failures = 0;
            } else {
                if self.pause(failures).await {
                    break Down::Leaving;
                }
                failures = failures.saturating_add(1);
            }
        };
        match down {
            Down::BusDead => DeviceEnd::BusDead,
            Down::Lost | Down::Leaving if self.unit.unheard => DeviceEnd::Unheard,
            Down::Lost | Down::Leaving if self.unit.proven || !self.unit.ever_up => DeviceEnd::Stopped,
            Down::Lost | Down::Leaving => DeviceEnd::Unproven,
        }
    }

    /// Closes the link. The driver's deadlines and the stop lane are served meanwhile: an unproven stop is told in time.
    async fn disconnect(&mut self) {
        let give_up = self.unit.clock.now().saturating_add(DISCONNECT_WITHIN);
        let mut closing = pin!(self.link.disconnect());
        loop {
            match wake(&mut self.unit, closing.as_mut(), Some(give_up)).await {
                Wake::Io(()) => return,
                Wake::GiveUp => {
                    tracing::warn!(device = self.unit.id.0, "the link did not close in time");
                    return;
                }
                other @ (Wake::Stop | Wake::Tick | Wake::Reported | Wake::Order(_) | Wake::Leave) => {
                    self.unit.handle(other);
                }
            }
        }
    }

    /// Tries once to open the link.
    async fn connect(&mut self) -> Result<(), Down> {
        let give_up = self.unit.clock.now().saturating_add(CONNECT_WITHIN);
        let outcome = {
            let (link, port) = (&mut self.link, &mut self.port);
            let mut connecting = pin!(async {
                if let Some(port) = port {
                    port.open().await;
                }
                link.connect().await
            });
            loop {
                if self.unit.may_leave() {
                    break Err(Down::Leaving);
                }
                match wake(&mut self.unit, connecting.as_mut(), Some(give_up)).await {
                    Wake::Io(Ok(())) => break Ok(()),
                    Wake::Io(Err(error)) => {
                        tracing::debug!(device = self.unit.id.0, %error, "no link");
                        break Err(lost(&error));
                    }
                    Wake::GiveUp => break Err(Down::Lost),
                    other @ (Wake::Stop | Wake::Tick | Wake::Reported | Wake::Order(_) | Wake::Leave) => {
                        self.unit.handle(other);
                    }
                }
            }
        };
        if outcome.is_ok() {
            self.unit.link_up();
        }
        outcome
    }

    /// Waits before the next attempt. Returns whether the task is to end.
    async fn pause(&mut self, failures: usize) -> bool {
        let pause = BACK_OFF.get(failures).or(BACK_OFF.last()).copied().unwrap_or_default();
        let until = self.unit.clock.now().saturating_add(pause);
        let mut nothing = pin!(std::future::pending::<()>());
        while !self.unit.may_leave() {
            match wake(&mut self.unit, nothing.as_mut(), Some(until)).await {
                Wake::GiveUp => return false,
                other @ (Wake::Stop
                | Wake::Tick
                | Wake::Reported
                | Wake::Order(_)
                | Wake::Leave
                | Wake::Io(())) => self.unit.handle(other),
            }
        }
        true
    }

    /// Serves an open link until it is gone.
    async fn up(&mut self) -> Down {
        loop {
            if self.unit.may_leave() {
                return Down::Leaving;
            }
            if self.unit.is_stuck() {
                tracing::warn!(device = self.unit.id.0, "writes are stuck: the link is opened anew");
                self.unit.stuck_since = None;
                self.unit.dropped = true;
                return Down::Lost;
            }
            if let Some(packet) = self.unit.next_packet() {
                if let Err(down) = self.write(packet).await {
                    return down;
                }
                continue;
            }
            let received = {
                let mut receiving = pin!(self.link.receive());
                match wake(&mut self.unit, receiving.as_mut(), None).await {
                    Wake::Io(received) => received,
                    other @ (Wake::Stop
                    | Wake::Tick
                    | Wake::Reported
                    | Wake::Order(_)
                    | Wake::Leave
                    | Wake::GiveUp) => {
                        self.unit.handle(other);
                        continue;
                    }
                }
            };
            match received {
                Ok(received) => self.unit.feed(DriverInput::Received(&received)),
                Err(error) => return lost(&error),
            }
        }
    }

    /// Writes one packet and tells the driver what became of it.
    async fn write(&mut self, packet: Packet) -> Result<(), Down> {
        let stopping = packet.purpose() == Purpose::Stop;
        let mut give_up = self.unit.clock.now().saturating_add(WRITE_WITHIN);
        let written = {
            let mut sending = pin!(self.link.send(&packet));
            loop {
                match wake(&mut self.unit, sending.as_mut(), Some(give_up)).await {
                    Wake::Io(written) => break Some(written),
                    Wake::GiveUp => break None,
                    other @ (Wake::Stop | Wake::Tick | Wake::Reported | Wake::Order(_) | Wake::Leave) => {
                        self.unit.handle(other);
                    }
                }
                if !stopping && !self.unit.stops.is_empty() {
                    give_up = give_up.min(self.unit.clock.now().saturating_add(STOP_GRACE));
                }
            }
        };
        match written {
            Some(Ok(sent)) => self.unit.written(&packet, sent),
            None | Some(Err(LinkError::Timeout { .. })) => self.unit.given_up(&packet),
            Some(Err(LinkError::Busy { .. })) => self.unit.busy(packet),
            Some(Err(LinkError::Refused { reason, .. })) => {
                tracing::warn!(device = self.unit.id.0, reason, "a write was refused");
                self.unit.sent(packet.id(), SendOutcome::Busy);
            }
            Some(Err(
                error @ (LinkError::Gone { .. }
                | LinkError::NotConnected { .. }
                | LinkError::BusDead
                | LinkError::Unexpected { .. }
                | LinkError::Port { .. }),
            )) => {
                self.unit.sent(packet.id(), SendOutcome::Unknown);
                return Err(lost(&error));
            }
        }
        Ok(())
    }
}

fn lost(error: &LinkError) -> Down {
    if matches!(error, LinkError::BusDead) { Down::BusDead } else { Down::Lost }
}

/// Waits for the first of: a stop, the driver's deadline, room for a report, an order, `io`, and `give_up`.
///
/// Orders come before `io`, so that a unit that floods the link cannot keep renewals away; the governor's own pace
/// bounds them, so they cannot keep a lost link unseen.
async fn wake<F: Future>(unit: &mut Unit, io: Pin<&mut F>, give_up: Option<Mono>) -> Wake<F::Output> {
    let (tick, give_up) = (unit.clock_at(unit.deadline()), unit.clock_at(give_up));
    let (reporting, ordered) = (!unit.outbox.is_empty(), unit.leaving.is_none());
    tokio::select! {
        biased;
        posted = unit.lane.changed(), if ordered => if posted.is_ok() { Wake::Stop } else { Wake::Leave },
        () = sleep_until(tick) => Wake::Tick,
        room = unit.reports.reserve(), if reporting => {
            match (room, unit.outbox.pop_front()) {
                (Ok(room), Some(report)) => room.send(report),
                (Ok(_) | Err(_), _) => unit.outbox.clear(),
            }
            Wake::Reported
        }
        order = unit.orders.recv(), if ordered => order.map_or(Wake::Leave, Wake::Order),
        done = io => Wake::Io(done),
        () = sleep_until(give_up) => Wake::GiveUp,
    }
}

/// Sleeps until `at`; for ever without one. Cancel-safe.
pub(crate) async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Unit {
    fn clock_at(&self, at: Option<Mono>) -> Option<tokio::time::Instant> {
        at.map(|at| self.clock.at(at))
    }

    /// Returns when something is due: the driver, a packet that was made to wait, the end of the task.
    fn deadline(&self) -> Option<Mono> {
        let floor = self.last_tick.map(|tick| tick.saturating_add(Duration::from_millis(1)));
        let driver = self.driver.deadline().map(|at| floor.map_or(at, |floor| at.max(floor)));
        let paused = self.pause_until.filter(|_| !self.stops.is_empty() && self.up);
        // Once it has passed nothing more is due for it: whoever waits sees that by itself.
        let now = self.clock.now();
        let leave = self.leaving.map(|since| since.saturating_add(LAST_STOP_WITHIN)).filter(|at| *at > now);
        [driver, paused, leave].into_iter().flatten().min()
    }

    fn handle<O>(&mut self, wake: Wake<O>) {
        match wake {
            Wake::Stop => self.stop(),
            Wake::Tick => {
                let now = self.clock.now();
                if self.driver.deadline().is_some_and(|at| at <= now) {
                    self.last_tick = Some(now);
                    self.feed(DriverInput::Tick);
                }
            }
            Wake::Order(order) => self.order(order),
            Wake::Leave => self.leave(),
            Wake::Reported | Wake::Io(_) | Wake::GiveUp => {}
        }
    }

    /// Takes the newest stop off the lane and runs it: nothing that may give output stays queued.
    fn stop(&mut self) {
        let order = *self.lane.borrow_and_update();
        self.stops_seen = order.count;
        self.generation = self.generation.max(order.generation);
        self.stop_now();
    }

    fn stop_now(&mut self) {
        self.proven = false;
        let (kept, dropped): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.others)
            .into_iter()
            .partition(|packet| packet.purpose() == Purpose::Query);
        self.others = kept;
        self.feed(DriverInput::Command(Cleared::stop(self.generation)));
        for packet in dropped {
            self.feed(DriverInput::Sent { id: packet.id(), outcome: SendOutcome::Busy });
        }
    }

    fn order(&mut self, order: Order) {
        // A stop that was posted but not yet taken off the lane counts as well.
        if order.after < self.stops_seen.max(self.lane.borrow().count) {
            return;
        }
        match order.what {
            Ordered::Command(command) => {
                self.proven = false;
                self.feed(DriverInput::Command(command));
            }
            Ordered::Renew(until) => self.feed(DriverInput::Renew { until }),
        }
    }

    /// Begins to end: a last stop, unless the newest one is proven and nothing came after it.
    fn leave(&mut self) {
        if self.leaving.is_none() {
            self.leaving = Some(self.clock.now());
            if !self.proven {
                self.generation = Generation(self.generation.0.saturating_add(1));
                self.stop_now();
            }
        }
    }

    fn may_leave(&self) -> bool {
        let Some(since) = self.leaving else {
            return false;
        };
        let late = self.clock.now().since(since) >= LAST_STOP_WITHIN;
        !self.ever_up || late || (self.proven && self.stops.is_empty())
    }

    fn link_up(&mut self) {
        self.up = true;
        self.ever_up = true;
        self.proven = false;
        self.stuck_since = None;
        self.pause_until = None;
        self.report(Input::Link { device: self.id, up: true });
        self.feed(DriverInput::Connected { generation: self.generation });
    }

    fn link_down(&mut self) {
        self.up = false;
        // A unit that is let go has had its last order: what was proven stays proven.
        self.proven &= self.leaving.is_some();
        self.stops.clear();
        self.others.clear();
        self.feed(DriverInput::Disconnected);
        self.report(Input::Link { device: self.id, up: false });
    }

    /// Gives the driver one input, then everything that its own outputs cause.
    fn feed(&mut self, input: DriverInput<'_>) {
        let mut out = std::mem::take(&mut self.out);
        self.driver.advance(self.clock.now(), input, &mut out);
        let mut unsent = self.collect(&mut out);
        // One answer to every packet that found no room. What these answers cause is queued or dropped, unanswered:
        // a driver that answers "not sent" with another packet must not hold the task.
        for id in unsent.drain(..) {
            self.driver.advance(
                self.clock.now(),
                DriverInput::Sent { id, outcome: SendOutcome::Busy },
                &mut out,
            );
        }
        self.collect(&mut out);
        self.out = out;
        // A unit may have taught its driver a surer stop.
        let newest = self.driver.stop_script();
        if *self.script.borrow() != *newest {
            self.script.send_replace(newest.clone());
        }
    }

    /// Queues packets and passes reports on. Returns the packets that found no room.
    fn collect(&mut self, out: &mut Vec<DriverOutput>) -> Vec<u32> {
        let mut unsent = Vec::new();
        for output in out.drain(..) {
            match output {
                DriverOutput::Send(packet) if self.up => {
                    if let Err(id) = self.enqueue(packet) {
                        unsent.push(id);
                    }
                }
                DriverOutput::Send(_) => {}
                DriverOutput::Report(report) => {
                    if let Report::Stop { generation, progress: StopProgress::Confirmed, .. } = &report {
                        self.proven |= *generation >= self.generation;
                    }
                    let device = self.id;
                    self.report(Input::Report { device, report });
                }
            }
        }
        unsent
    }

    fn enqueue(&mut self, packet: Packet) -> Result<(), u32> {
        let id = packet.id();
        let queue = match packet.purpose() {
            Purpose::Stop => &mut self.stops,
            Purpose::Output | Purpose::KeepAlive | Purpose::Query => &mut self.others,
        };
        let same =
            |waiting: &Packet| waiting.endpoint() == packet.endpoint() && waiting.bytes() == packet.bytes();
        let repeated = packet.purpose() == Purpose::Stop && queue.iter().any(same);
        if repeated || queue.len() >= QUEUE_MAX {
            return Err(id);
        }
        queue.push_back(packet);
        Ok(())
    }

    /// Returns the next packet to write: stops first; late ones are dropped and told to the driver.
    fn next_packet(&mut self) -> Option<Packet> {
        let now = self.clock.now();
        if !self.stops.is_empty() {
            if self.pause_until.is_some_and(|until| now < until) {
                return None;
            }
            self.pause_until = None;
            return self.stops.pop_front();
        }
        while let Some(packet) = self.others.pop_front() {
            if !packet.is_late(now) {
                return Some(packet);
            }
            self.feed(DriverInput::Sent { id: packet.id(), outcome: SendOutcome::Late });
            if !self.stops.is_empty() {
                return self.stops.pop_front();
            }
        }
        None
    }

    fn written(&mut self, packet: &Packet, sent: Sent) {
        self.stuck_since = None;
        self.dropped = false;
        let outcome = match sent {
            Sent::Acknowledged => SendOutcome::Written,
            Sent::Handed => SendOutcome::Handed,
        };
        self.sent(packet.id(), outcome);
    }

    fn sent(&mut self, id: u32, outcome: SendOutcome) {
        if id != RESYNC {
            self.feed(DriverInput::Sent { id, outcome });
        }
    }

    /// A write was given up: it may have been cut in the middle of a frame, which the next bytes would complete.
    fn given_up(&mut self, packet: &Packet) {
        self.stuck();
        self.sent(packet.id(), SendOutcome::Unknown);
        let waiting = self.stops.front().is_some_and(|front| front.id() == RESYNC);
        if let Some(resync) = self.driver.stop_script().resync_packet(RESYNC).filter(|_| !waiting) {
            self.stops.push_front(resync);
        }
    }

    /// Another write is pending below us. The driver offers again what it still wants; nobody else would offer the
    /// packet that ends a half-written frame.
    fn busy(&mut self, packet: Packet) {
        self.stuck();
        if packet.id() == RESYNC {
            self.pause_until = Some(self.clock.now().saturating_add(BUSY_PAUSE));
            self.stops.push_front(packet);
        } else {
            self.sent(packet.id(), SendOutcome::Busy);
        }
    }

    fn stuck(&mut self) {
        let now = self.clock.now();
        self.stuck_since.get_or_insert(now);
    }

    /// Returns whether the link is to be dropped for writes that do not come through. Where that has not helped it is
    /// not done again: a live link on which the stop is offered is better than none.
    fn is_stuck(&self) -> bool {
        !self.dropped && self.stuck_since.is_some_and(|since| self.clock.now().since(since) >= STUCK)
    }

    fn report(&mut self, input: Input) {
        if self.outbox.len() < OUTBOX_MAX {
            self.outbox.push_back(input);
        } else if !self.unheard {
            self.unheard = true;
            tracing::error!(device = self.id.0, "nobody takes this unit's reports: it is stopped");
            self.leave();
        }
    }
}

/// Stops a unit whose driver has panicked, by its stop script alone. Returns whether a reply proved it.
async fn last_resort<T: Transport>(link: &mut T, script: &StopScript, clock: &Clock) -> bool {
    let end = clock.now().saturating_add(LAST_STOP_WITHIN);
    let mut first = 1;
    if let Some(packet) = script.resync_packet(RESYNC)
        && tokio::time::timeout(WRITE_WITHIN, link.send(&packet)).await.is_err()
    {
        tracing::error!("a half-written frame could not be ended in time");
    }
    while clock.now() < end {
        for (packet, wait, confirm) in script.packets(first) {
            first = first.wrapping_add(1);
            match tokio::time::timeout(WRITE_WITHIN, link.send(&packet)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::error!(%error, "a stop could not be written"),
                Err(_) => tracing::error!("a stop could not be written in time"),
            }
            let until = clock.at(clock.now().saturating_add(wait));
            while let Ok(Ok(received)) = tokio::time::timeout_at(until, link.receive()).await {
                if confirm.as_ref().is_some_and(|confirm| confirm.proves(&received)) {
                    return true;
                }
            }
            // A link error ends the wait early; the pause between two frames still holds.
            tokio::time::sleep_until(until).await;
        }
        tokio::time::sleep(script.cycle.max(BUSY_PAUSE)).await;
    }
    false
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "stop_tests.rs"]
mod stop_tests;
