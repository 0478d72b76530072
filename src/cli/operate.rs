//! The operator's end of a session at a terminal: keys or autopilot in, live line and sentences out.
//!
//! Invariants:
//! - a heartbeat is sent only for a snapshot that was really painted, and from a keyboard only within the presence
//!   interval of the last key (SR-47); the autopilot, which only a rehearsal has, needs no key;
//! - no wait for a verdict, a screen or a key keeps a stop: signals and STOP ALL have their own tasks.

use std::collections::VecDeque;
use std::io::Write as _;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{broadcast, mpsc};

use crate::cli::autopilot::{Autopilot, Next};
use crate::cli::keys::{self, Asked, Keyboard};
use crate::cli::prompt::{self, Prompt, Reply};
use crate::cli::{say, words};
use crate::clock::Clock;
use crate::governor::{Act, Entry, Refusal, Snapshot, StepState, StepView, StopView, Verdict};
use crate::model::command::DeviceId;
use crate::model::plan::Plan;
use crate::model::protocol::Modality;
use crate::model::session::StopReason;
use crate::runtime::handle::{Event, SessionHandle, Unanswered};
use crate::runtime::{Ended, Supervised};
use crate::units::Mono;

/// The live line is painted this often.
const PAINT_EVERY: Duration = Duration::from_millis(200);

/// Where lines cannot be repainted, at most one in this time.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// What to do by hand is repeated this often while a stop is not proven.
const WARN_EVERY: Duration = Duration::from_secs(5);

/// Said when the wall clock was set, in a session.
const CLOCK_BEHIND: &str =
    "The clock of the box was set behind its record: nothing is armed or raised until it is right again.";
const CLOCK_RIGHT: &str = "The clock of the box is right again.";

/// A `0` this soon after a `1` was meant as ten.
const TEN_WITHIN: Duration = Duration::from_secs(1);

/// Who operates.
pub(crate) enum Operator {
    /// A person at the controlling terminal.
    Person {
        /// The terminal, restored when this is dropped.
        keyboard: Keyboard,
        /// Its keys.
        keys: mpsc::Receiver<char>,
    },
    /// Nobody: a rehearsal runs by itself.
    Unattended(Box<Autopilot>),
}

impl Operator {
    const fn is_person(&self) -> bool {
        matches!(self, Self::Person { .. })
    }
}

/// How the operating ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operated {
    /// How the session ended.
    pub(crate) ended: Ended,
    /// Unattended: why the plan was not completed. A person ends a session as he likes.
    pub(crate) incomplete: Option<String>,
}

struct Screen<'a> {
    plan: &'a Plan,
    session: SessionHandle,
    clock: Clock,
    /// The line can be repainted.
    repaints: bool,
    painted: bool,
    last_key: Option<(Mono, char)>,
    last_line: Option<(Mono, String)>,
    /// When it was said last that a unit has not proven its stop.
    warned: Option<Mono>,
    /// What the newest verdict said.
    refused: Option<String>,
    asking: FuturesUnordered<Asking>,
    incomplete: Option<String>,
    /// The question that waits for a key.
    prompt: Option<Prompt>,
    /// Steps before which discomfort was asked.
    asked_before: Vec<u8>,
    /// Steps that were asked to give output and are not over.
    risen: Vec<u8>,
    /// Steps that are over; discomfort is still to be asked.
    over: VecDeque<u8>,
    /// The unit that a refusal named as not proven to have stopped.
    named: Option<DeviceId>,
    /// The operator has asked for the end.
    closing: bool,
    /// Steps that a person has left by `n`.
    left: Vec<u8>,
    /// The step that a person has turned to by `o`, beside the one that is due.
    turned: Option<u8>,
    /// The keyboard is gone.
    keyless: bool,
}

type Asking = std::pin::Pin<Box<dyn Future<Output = (Act, Result<Verdict, Unanswered>)> + Send>>;

enum Wake {
    Key(char),
    Keyless,
    Event(Event),
    Missed(u64),
    Answer(Act, Result<Verdict, Unanswered>),
    Paint,
    Ended(Ended),
}

/// Operates until the session has ended.
pub(crate) async fn operate(
    (session, supervised): (SessionHandle, &mut Supervised),
    plan: &Plan,
    clock: Clock,
    mut operator: Operator,
    repaints: bool,
) -> Operated {
    let mut events = session.events();
    let mut snapshots = session.snapshots();
    let mut screen = Screen {
        plan,
        session,
        clock: clock.clone(),
        repaints,
        painted: false,
        last_key: Some((clock.now(), ' ')),
        last_line: None,
        warned: None,
        refused: None,
        asking: FuturesUnordered::new(),
        incomplete: None,
        prompt: None,
        asked_before: Vec::new(),
        risen: Vec::new(),
        over: VecDeque::new(),
        named: None,
        closing: false,
        left: Vec::new(),
        turned: None,
        keyless: false,
    };
    screen.greet(&operator);
    let mut paint = tokio::time::interval(PAINT_EVERY);
    paint.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        let wake = tokio::select! {
            biased;
            key = next_key(&mut operator), if !screen.keyless => match key {
                Some(key) => Wake::Key(key),
                None => Wake::Keyless,
            },
            event = events.recv() => match event {
                Ok(event) => Wake::Event(event),
                Err(broadcast::error::RecvError::Lagged(missed)) => Wake::Missed(missed),
                Err(broadcast::error::RecvError::Closed) => Wake::Missed(0),
            },
            Some((act, answer)) = screen.asking.next() => Wake::Answer(act, answer),
            end = supervised.ended() => Wake::Ended(end),
            _ = paint.tick() => Wake::Paint,
        };
        let snapshot = snapshots.borrow_and_update().clone();
        match wake {
            Wake::Key(key) => screen.key(key, &snapshot),
            Wake::Keyless => screen.keyboard_gone(),
            Wake::Event(Event::Entry { at, entry }) => {
                if let Some(said) = words::entry(plan, at, &entry) {
                    screen.say(&said);
                }
                screen.follow(&entry);
            }
            Wake::Event(Event::Clock { sane }) => screen.say(if sane { CLOCK_RIGHT } else { CLOCK_BEHIND }),
            Wake::Missed(missed) => {
                screen.say(&format!("{missed} lines were not shown; the record has them."))
            }
            Wake::Answer(act, answer) => screen.answer(&mut operator, &act, &answer, &snapshot),
            Wake::Paint => screen.paint(&mut operator, &snapshot),
            Wake::Ended(ended) => {
                screen.wipe();
                return Operated { ended, incomplete: screen.incomplete };
            }
        }
    }
}

/// Waits for a key; for ever when nobody is there. `None`: the keyboard is gone.
async fn next_key(operator: &mut Operator) -> Option<char> {
    match operator {
        Operator::Person { keys, .. } => keys.recv().await,
        Operator::Unattended(_) => std::future::pending().await,
    }
}

/// Returns the step that the keys act on: the first that is not over; the last when all are.
/// Returns the width of the terminal; 80 where it does not say.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(80)
}

/// The step that keys and the live line are about: a person stays on a step that was interrupted until it is completed
/// or left by `n`, so that no key reaches other pads than the ones just looked at.
fn present_step(snapshot: &Snapshot, left: &[u8], unattended: bool) -> u8 {
    let open = snapshot.steps.iter().find(|view| !is_over(view, left, unattended));
    open.or(snapshot.steps.last()).map_or(0, |view| view.number)
}

/// Returns whether a step is over, for a person also when it was left.
fn is_over(view: &StepView, left: &[u8], unattended: bool) -> bool {
    match view.state {
        StepState::Ended(StopReason::Completed) => true,
        StepState::Ended(_) => unattended || left.contains(&view.number),
        StepState::Waiting => left.contains(&view.number),
        StepState::Arming
        | StepState::Armed
        | StepState::Running
        | StepState::Held
        | StepState::Finishing => false,
    }
}

/// How long one key is a sign of presence, ms: until the question whether anybody is there has come and its time is
/// over (design 4), so that the question is put before the lease ends.
fn presence(plan: &Plan, number: u8) -> Duration {
    let step = plan.steps.iter().find(|step| step.number == number);
    let minutes = match step.map(|step| step.modality) {
        Some(Modality::Percussion) | None => 3,
        Some(Modality::Tens | Modality::Nmes) => 10,
    };
    Duration::from_secs(minutes * 60 + 35)
}

/// Returns whether a unit's newest stop is neither proven nor stated.
fn is_unproven(snapshot: &Snapshot, device: DeviceId) -> bool {
    let unit = snapshot.units.get(usize::from(device.0));
    unit.is_some_and(|unit| match unit.stop {
        StopView::None | StopView::Asked | StopView::Written | StopView::Unconfirmed => true,
        StopView::Confirmed(_) | StopView::Stated => false,
    })
}

impl Screen<'_> {
    fn greet(&self, operator: &Operator) {
        say(&format!("{}: {}, {} steps.", self.plan.client, self.plan.title, self.plan.steps.len()));
        match operator {
            Operator::Person { keyboard, .. } => {
                let _: &Keyboard = keyboard;
                say(words::HELP);
                say("Ask the client's name or birth date; press y when it agrees with the plan.");
            }
            Operator::Unattended(_) => say("Unattended rehearsal: nobody is asked anything."),
        }
    }

    fn key(&mut self, key: char, snapshot: &Snapshot) {
        let now = self.clock.now();
        let before = self.last_key.replace((now, key));
        let mut acts = None;
        if let Some(prompt) = self.prompt.take() {
            match prompt.reply(key, snapshot, now) {
                Reply::Ask(act, then) => acts = Some((act, then)),
                Reply::Done => {}
                Reply::Again(prompt) => self.open(prompt),
                Reply::Left(why) => self.say(&why),
                Reply::Key(said) => {
                    if let Some(said) = said {
                        self.say(said);
                    }
                    acts = self.plain(key, before, snapshot);
                }
            }
            if let (Prompt::Before { step }, Some((Act::Comfort { .. } | Act::Arm { .. }, _))) =
                (prompt, &acts)
            {
                self.asked_before.push(step);
            }
        } else {
            acts = self.plain(key, before, snapshot);
        }
        if let Some((act, then)) = acts {
            self.ask_both(act, then, snapshot);
        }
        self.ask(Act::Present, snapshot);
    }

    /// Returns what a key asks for while no question waits.
    fn plain(
        &mut self,
        key: char,
        before: Option<(Mono, char)>,
        snapshot: &Snapshot,
    ) -> Option<(Act, Option<Act>)> {
        let soon = before.is_some_and(|(at, key)| key == '1' && self.clock.now().since(at) <= TEN_WITHIN);
        if key == '0' && soon {
            self.say("For discomfort ten press t. Nothing was taken from this 0.");
            return None;
        }
        let number = self.present(snapshot);
        if key == 'o' {
            self.turn(number, snapshot);
            return None;
        }
        let leaves = snapshot.steps.iter().any(|view| {
            view.number == number && matches!(view.state, StepState::Waiting | StepState::Ended(_))
        });
        if key == 'n' && leaves {
            self.left.push(number);
            self.say(&format!("Step {number} is left as it is."));
            return None;
        }
        if matches!(key, 'a' | '+') {
            self.left.retain(|left| *left != number);
        }
        match keys::asked(key, self.plan, snapshot, number) {
            Asked::StopAll => self.say("STOP ALL."),
            Asked::Help => self.say(words::HELP),
            Asked::Resolve => self.resolve(snapshot),
            Asked::Nothing(why) => self.say(why),
            Asked::Quit => {
                self.say("The session ends: every unit is stopped first.");
                self.closing = true;
                self.session.close(false, StopReason::TherapistRequest);
            }
            Asked::Act(Act::Arm { step }) if self.asks_before(step, snapshot) => {
                self.open(Prompt::Before { step });
            }
            Asked::Act(Act::StatedStopped { device }) => {
                let device =
                    self.named.take().filter(|named| is_unproven(snapshot, *named)).unwrap_or(device);
                return Some((Act::StatedStopped { device }, None));
            }
            Asked::Act(act) => return Some((act, None)),
        }
        None
    }

    /// Asks what the oldest uncertain interval gave.
    fn resolve(&mut self, snapshot: &Snapshot) {
        let Some(open) = snapshot.unresolved.first() else {
            return self.say(&prompt::nothing_to_resolve(self.plan, snapshot));
        };
        let place =
            open.place.as_ref().map_or("in an earlier session".to_owned(), |place| format!("on {place}"));
        self.say(&format!("Uncertain: {} {place}.", open.unit));
        let (shown, stated) = (open.on, open.stated);
        self.open(Prompt::Resolve { place: 0, shown, stated, chosen: None });
    }

    /// Returns the step that keys and the live line are about.
    fn present(&self, snapshot: &Snapshot) -> u8 {
        let due = present_step(snapshot, &self.left, false);
        let open = |view: &StepView| !is_over(view, &self.left, false);
        let turned = self.turned.filter(|turned| self.plan.runs_beside(due, *turned));
        let turned =
            turned.filter(|turned| snapshot.steps.iter().any(|view| view.number == *turned && open(view)));
        turned.unwrap_or(due)
    }

    /// Turns the keys to the other of two steps that the plan runs at the same time.
    fn turn(&mut self, from: u8, snapshot: &Snapshot) {
        let due = present_step(snapshot, &self.left, false);
        let other =
            |view: &&StepView| self.plan.runs_beside(due, view.number) && !is_over(view, &self.left, false);
        let next =
            if from == due { snapshot.steps.iter().find(other).map(|view| view.number) } else { Some(due) };
        match next {
            Some(next) => {
                self.turned = Some(next);
                self.say(&format!("Keys are for step {next} now. STOP ALL stops both."));
            }
            None => self.say("The plan runs nothing beside this step."),
        }
    }

    fn asks_before(&self, step: u8, snapshot: &Snapshot) -> bool {
        let waits = |view: &StepView| view.number == step && view.state == StepState::Waiting;
        snapshot.steps.iter().any(waits)
            && !self.asked_before.contains(&step)
            && !prompt::holds_output(snapshot)
    }

    fn open(&mut self, prompt: Prompt) {
        self.prompt = Some(prompt);
        self.say(&prompt.words());
    }

    /// Notes what an entry makes due to be asked.
    fn follow(&mut self, entry: &Entry) {
        if let Entry::Intent { step, .. } = entry
            && !self.risen.contains(step)
        {
            self.risen.push(*step);
        }
        if let Entry::Stopped { step, .. } = entry
            && self.risen.contains(step)
        {
            self.risen.retain(|risen| risen != step);
            self.over.push_back(*step);
        }
    }

    /// Withdraws a question that nobody answers; puts the one that is due.
    fn prompt(&mut self, snapshot: &Snapshot) {
        if let Some(why) = self.prompt.and_then(|prompt| prompt.withdrawn(self.clock.now())) {
            self.prompt = None;
            self.say(&why);
        }
        if self.prompt.is_none()
            && !self.closing
            && !prompt::holds_output(snapshot)
            && let Some(step) = self.over.pop_front()
        {
            self.open(Prompt::After { step });
        }
    }

    fn ask(&mut self, act: Act, snapshot: &Snapshot) {
        self.ask_both(act, None, snapshot);
    }

    /// Asks, and when that is granted, asks for the other.
    fn ask_both(&mut self, act: Act, then: Option<Act>, snapshot: &Snapshot) {
        let (session, seen) = (self.session.clone(), snapshot.version);
        self.asking.push(Box::pin(async move {
            let answer = session.request(act.clone(), seen).await;
            match (then, &answer) {
                (Some(then), Ok(Verdict::Granted { .. })) => {
                    let answer = session.request(then.clone(), seen).await;
                    (then, answer)
                }
                _ => (act, answer),
            }
        }));
    }

    fn answer(
        &mut self,
        operator: &mut Operator,
        act: &Act,
        answer: &Result<Verdict, Unanswered>,
        snapshot: &Snapshot,
    ) {
        match operator {
            Operator::Unattended(autopilot) => {
                autopilot.answered(act, answer.as_ref().ok(), self.clock.now());
            }
            Operator::Person { .. } => {
                if let (Act::Set { step, .. }, Ok(Verdict::NeedsReason { asked, .. })) = (act, answer) {
                    let prompt = Prompt::reason(snapshot, *step, *asked, self.clock.now());
                    return self.open(prompt);
                }
            }
        }
        let said = match answer {
            // A sign of presence asks for nothing, so there is nothing to say about it.
            _ if *act == Act::Present => None,
            Ok(Verdict::Refused(Refusal::NotProven { device })) if operator.is_person() => {
                let label = words::label(self.plan, *device);
                let stop = snapshot.units.get(usize::from(device.0)).map(|unit| unit.stop);
                if matches!(stop, Some(StopView::Asked | StopView::Written)) {
                    Some(format!(
                        "{label} was told to stop just now. Its proof is due within a second; press again then."
                    ))
                } else {
                    self.named = Some(*device);
                    Some(format!(
                        "{label} has not proven that it stopped. Stop it by hand, see that it stopped, then press v."
                    ))
                }
            }
            Ok(verdict) => words::verdict(self.plan, verdict),
            Err(unanswered) => Some(unanswered.to_string()),
        };
        // An autopilot asks again and again; its refusals are said once.
        let again = matches!(operator, Operator::Unattended(_)) && said == self.refused;
        if let Some(said) = said.as_ref().filter(|_| !again) {
            self.say(said);
        }
        self.refused = said;
    }

    fn paint(&mut self, operator: &mut Operator, snapshot: &Snapshot) {
        if let Operator::Person { .. } = operator {
            self.prompt(snapshot);
        }
        let unattended = matches!(operator, Operator::Unattended(_));
        let number =
            if unattended { present_step(snapshot, &self.left, true) } else { self.present(snapshot) };
        // One row, or the sentences above would scroll away.
        let width = if self.repaints { columns().saturating_sub(1) } else { usize::MAX };
        let line = words::live_line(self.plan, snapshot, number, width);
        let painted = if self.repaints {
            self.painted = true;
            let mut out = std::io::stderr().lock();
            let row: String = line.chars().take(width).collect();
            write!(out, "\r\x1b[2K{row}").and_then(|()| out.flush()).is_ok()
        } else {
            self.line(words::change_key(snapshot, number), &line);
            true
        };
        let now = self.clock.now();
        self.warn(now, snapshot);
        let present = match operator {
            Operator::Person { .. } => {
                self.last_key.is_some_and(|(at, _)| now.since(at) <= presence(self.plan, number))
            }
            Operator::Unattended(_) => true,
        };
        if painted && present {
            self.session.heartbeat(snapshot.at);
        }
        if let Operator::Unattended(autopilot) = operator {
            match autopilot.next(snapshot) {
                Next::Wait => {}
                Next::Ask(act) => self.ask(act, snapshot),
                Next::Say(said) => self.say(&said),
                Next::Over { incomplete } => self.over(incomplete),
                Next::GiveUp(why) => {
                    let early = autopilot.incomplete(snapshot).map_or(String::new(), |early| early + "; ");
                    self.over(Some(early + &why));
                }
            }
        }
    }

    /// Without keys nobody can lower or stop from here: this screen keeps nothing up any more.
    fn keyboard_gone(&mut self) {
        self.keyless = true;
        self.last_key = None;
        self.session.unseen();
        self.say(
            "The keyboard of this terminal is gone: every output goes to zero. `doseward stop` in another terminal \
             stops all.",
        );
    }

    /// Repeats what to do by hand while a unit has not proven its stop. The alarm itself said it the first time.
    fn warn(&mut self, now: Mono, snapshot: &Snapshot) {
        let units = (0u8..).map(DeviceId).zip(&snapshot.units);
        let unproven: Vec<DeviceId> =
            units.filter(|(_, unit)| unit.stop == StopView::Unconfirmed).map(|(device, _)| device).collect();
        if unproven.is_empty() {
            self.warned = None;
            return;
        }
        let last = *self.warned.get_or_insert(now);
        if now.since(last) >= WARN_EVERY {
            self.warned = Some(now);
            for device in unproven {
                self.say(&words::unproven(self.plan, device));
            }
        }
    }

    /// Ends an unattended session; the first reason counts.
    fn over(&mut self, incomplete: Option<String>) {
        if self.incomplete.is_none() {
            self.incomplete = incomplete;
        }
        self.session.close(false, StopReason::TherapistRequest);
    }

    /// Prints a line when it says something new, at most one a second.
    fn line(&mut self, key: String, line: &str) {
        let now = self.clock.now();
        let due = match &self.last_line {
            Some((at, last)) => *last != key && now.since(*at) >= LINE_EVERY,
            None => true,
        };
        if due {
            self.last_line = Some((now, key));
            say(line);
        }
    }

    fn say(&mut self, text: &str) {
        self.wipe();
        say(text);
    }

    fn wipe(&mut self) {
        if self.painted {
            self.painted = false;
            let mut out = std::io::stderr().lock();
            write!(out, "\r\x1b[2K").and_then(|()| out.flush()).unwrap_or_default();
        }
    }
}
