//! The keyboard of the controlling terminal: single keys without echo, signals left on, the terminal always restored.
//!
//! STOP ALL is not a key like the others: the reading thread posts it itself, before anything else hears of it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;

use crate::governor::{Act, Phase, Snapshot, StepState, StepView};
use crate::model::capability::IntensityRange;
use crate::model::command::{DeviceId, Intensity};
use crate::model::plan::{Plan, Step};
use crate::model::session::{Discomfort, StopReason};
use crate::runtime;
use crate::runtime::handle::SessionHandle;

/// Keys that may wait for the screen. One that finds no room is lost; STOP ALL is acted on before.
const KEYS_MAX: usize = 64;

/// One press of `+` or `-` on a gun with its own speed numbers.
const SPEED_STEP: u32 = 50;

/// Said to a key that has no meaning.
const NO_KEY: &str = "That key does nothing: ? shows the keys.";

/// The terminal, taken over until this is dropped.
#[derive(Debug)]
pub(crate) struct Keyboard {
    tty: File,
    before: Termios,
}

/// What a key asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A request to the governor.
    Act(Act),
    /// STOP ALL; posted already.
    StopAll,
    /// The end of the session.
    Quit,
    /// The question what an uncertain interval gave.
    Resolve,
    /// What the keys do.
    Help,
    /// Nothing to ask; the reason in words.
    Nothing(&'static str),
}

impl Keyboard {
    /// Takes over the controlling terminal of this process.
    ///
    /// # Errors
    /// There is none, or it refused.
    pub(crate) fn take() -> io::Result<Self> {
        let tty = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&tty)?;
        let mut raw = before.clone();
        // Signals stay: Ctrl-C, Ctrl-\ and Ctrl-Z stop every unit through their handlers.
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&tty, OptionalActions::Now, &raw)?;
        Ok(Self { tty, before })
    }

    /// Starts the thread that reads keys.
    ///
    /// # Errors
    /// No thread, or no second handle of the terminal.
    pub(crate) fn listen(&self, session: SessionHandle) -> io::Result<mpsc::Receiver<char>> {
        let mut tty = self.tty.try_clone()?;
        // What was typed before there was a question answers none; a stop is a stop.
        for key in typed_ahead(&mut tty)? {
            post(&session, key);
        }
        let (keys, pressed) = mpsc::channel(KEYS_MAX);
        runtime::on_thread("keys", move || {
            let mut byte = [0u8; 1];
            loop {
                match tty.read(&mut byte) {
                    Ok(1) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    // Without keys nobody can lower or stop from here: nothing is kept up for this screen.
                    Ok(_) | Err(_) => return session.unseen(),
                }
                let [key] = byte;
                let key = char::from(key);
                post(&session, key);
                if let Err(mpsc::error::TrySendError::Closed(_)) = keys.try_send(key) {
                    return;
                }
            }
        })?;
        Ok(pressed)
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        tcsetattr(&self.tty, OptionalActions::Now, &self.before).unwrap_or_default();
    }
}

/// Posts the stop of a key that is one.
fn post(session: &SessionHandle, key: char) {
    match stop(key) {
        Some(StopReason::ClientRequest) => session.client_stop(),
        Some(reason) => session.stop_all(reason),
        None => {}
    }
}

/// Takes every key that waits, without waiting for one. The terminal gives single keys.
fn typed_ahead(tty: &mut (impl Read + AsFd)) -> io::Result<Vec<char>> {
    let mut typed = Vec::new();
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        let mut waits = [PollFd::new(&*tty, PollFlags::IN)];
        let waiting =
            poll(&mut waits, Some(&now))? > 0 && waits.iter().all(|it| it.revents() == PollFlags::IN);
        let mut bytes = [0; 256];
        match if waiting { tty.read(&mut bytes)? } else { 0 } {
            0 => return Ok(typed),
            count => typed.extend(bytes.iter().take(count).copied().map(char::from)),
        }
    }
}

/// Returns why a key stops everything, when it does: the operator, or what the client said.
pub(crate) const fn stop(key: char) -> Option<StopReason> {
    match key {
        ' ' | 's' | 'S' => Some(StopReason::EmergencyStop),
        'c' => Some(StopReason::ClientRequest),
        _ => None,
    }
}

/// Returns whether a key is STOP ALL, by the operator or by the client.
pub(crate) const fn is_stop(key: char) -> bool {
    stop(key).is_some()
}

/// Returns whether a key stops, holds or lowers at a step that gives output, and never does more.
pub(crate) const fn lowers(key: char) -> bool {
    is_stop(key) || matches!(key, '-' | 'h' | 'n' | 'x' | 'm' | 'l' | 'q' | '7'..='9' | 't')
}

/// Returns the discomfort that a key stands for: a digit, and `t` for ten.
pub(crate) fn score(key: char) -> Option<Discomfort> {
    let score = if key == 't' { 10 } else { key.to_digit(10)? };
    Discomfort::new(u8::try_from(score).ok()?)
}

/// Returns what a key asks for at step `number`, in the state that the screen shows.
pub(crate) fn asked(key: char, plan: &Plan, snapshot: &Snapshot, number: u8) -> Asked {
    if is_stop(key) {
        return Asked::StopAll;
    }
    match key {
        'q' => return Asked::Quit,
        '?' => return Asked::Help,
        'u' => return Asked::Resolve,
        'k' => return Asked::Act(Act::AcknowledgeAlarms),
        'y' => return Asked::Act(Act::ReadBack { client: plan.client.clone() }),
        'R' => {
            let reset = snapshot.latched.map(|generation| Asked::Act(Act::Reset { generation }));
            return reset.unwrap_or(Asked::Nothing("Nothing is stopped that could be reset."));
        }
        _ => {}
    }
    let step = plan.steps.iter().find(|step| step.number == number);
    let view = snapshot.steps.iter().find(|view| view.number == number);
    let (Some(step), Some(view)) = (step, view) else {
        return Asked::Nothing("All steps are over: q ends the session.");
    };
    at_step(key, plan, step, view)
}

fn at_step(key: char, plan: &Plan, step: &Step, view: &StepView) -> Asked {
    let number = step.number;
    let act = match key {
        '+' | '=' => match view.state {
            StepState::Waiting => Act::Arm { step: number },
            StepState::Arming
            | StepState::Armed
            | StepState::Running
            | StepState::Held
            | StepState::Finishing
            | StepState::Ended(_) => {
                let intensity = raised(range(plan, step.device), present(view));
                Act::Set { step: number, intensity, reason: None }
            }
        },
        '-' => {
            let intensity = lowered(range(plan, step.device), present(view));
            Act::Set { step: number, intensity, reason: None }
        }
        'a' => Act::Arm { step: number },
        'h' => Act::Hold { step: number },
        'r' => Act::Resume { step: number },
        'n' => Act::Finish { step: number },
        'x' => Act::StopStep { step: number },
        'm' => Act::TooMuch { step: number },
        'w' => Act::SensationReturned { step: number },
        'l' => Act::ClientLess { step: number },
        'v' => Act::StatedStopped { device: step.device },
        _ => match score(key) {
            Some(score) => Act::Comfort { step: number, score },
            None => return Asked::Nothing(NO_KEY),
        },
    };
    Asked::Act(act)
}

fn range(plan: &Plan, device: DeviceId) -> Option<IntensityRange> {
    plan.devices.get(usize::from(device.0)).map(|planned| planned.capability.intensity)
}

/// Returns from where a key counts: what is in force at this instant; for an ON:OFF program, its envelope, so that after
/// a decrease by anybody the next key never goes back up.
/// Never what was asked before a hold or a stop: one key is one device step (design 3.6).
pub(crate) fn present(view: &StepView) -> Intensity {
    match (view.state, view.phase) {
        (StepState::Running, Phase::RampUp | Phase::On | Phase::RampDown | Phase::Off) => view.envelope,
        (StepState::Running | StepState::Finishing, Phase::Continuous) => view.setpoint,
        (
            StepState::Waiting
            | StepState::Arming
            | StepState::Armed
            | StepState::Held
            | StepState::Finishing
            | StepState::Ended(_),
            Phase::Continuous | Phase::RampUp | Phase::On | Phase::RampDown | Phase::Off,
        ) => view.asked.zero(),
    }
}

/// Returns one device step more; from zero a gun begins at its floor. What is too much the governor refuses.
fn raised(range: Option<IntensityRange>, from: Intensity) -> Intensity {
    let magnitude = from.magnitude();
    from.with_magnitude(match range {
        Some(IntensityRange::Speed { floor, .. }) if magnitude < u32::from(floor.raw()) => {
            u32::from(floor.raw())
        }
        range => magnitude.saturating_add(device_step(range)),
    })
}

/// Returns one device step less; below a gun's floor there is only zero.
fn lowered(range: Option<IntensityRange>, from: Intensity) -> Intensity {
    let magnitude = from.magnitude().saturating_sub(device_step(range));
    from.with_magnitude(match range {
        Some(IntensityRange::Speed { floor, .. }) if magnitude < u32::from(floor.raw()) => 0,
        _ => magnitude,
    })
}

fn device_step(range: Option<IntensityRange>) -> u32 {
    match range {
        Some(IntensityRange::Current { step, .. }) => step.microamps(),
        Some(IntensityRange::Speed { .. }) => SPEED_STEP,
        Some(IntensityRange::Level { .. }) | None => 1,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::limit::LimitOwner;
    use crate::units::{Milliamps, RawSpeed};

    #[test]
    fn one_press_is_one_device_step_and_a_gun_starts_at_its_floor() {
        let speed = |raw| Intensity::Speed(RawSpeed::from_raw(raw));
        let gun = Some(IntensityRange::Speed {
            floor: RawSpeed::from_raw(1750),
            max: RawSpeed::from_raw(2400),
            top: RawSpeed::from_raw(2400),
            rise_per_s: 480,
        });
        assert_eq!(raised(gun, speed(0)), speed(1750));
        assert_eq!(raised(gun, speed(1750)), speed(1800));
        assert_eq!(lowered(gun, speed(1800)), speed(1750));
        assert_eq!(lowered(gun, speed(1750)), speed(0));
        let current = |microamps| Intensity::Current(Milliamps::from_microamps(microamps));
        let unit = Some(IntensityRange::Current {
            step: Milliamps::from_microamps(500),
            max: Milliamps::from_milliamps(130),
        });
        assert_eq!(raised(unit, current(12_000)), current(12_500));
        assert_eq!(lowered(unit, current(300)), current(0));
    }

    #[test]
    fn after_a_hold_a_key_counts_from_zero() {
        let current = |microamps| Intensity::Current(Milliamps::from_microamps(microamps));
        let mut view = StepView {
            uncertain: false,
            number: 1,
            state: StepState::Running,
            asked: current(9_000),
            allowed: current(25_000),
            owner: LimitOwner::Plan,
            setpoint: current(9_000),
            delivered: None,
            envelope: current(9_000),
            left: Duration::from_secs(60),
            budget: None,
            area_left: Duration::from_secs(60),
            day_left: Duration::ZERO,
            phase: Phase::Continuous,
        };
        assert_eq!(present(&view), current(9_000), "what is in force, not what it rises to");
        (view.phase, view.setpoint) = (Phase::Off, current(0));
        assert_eq!(present(&view), current(9_000), "a program at rest returns to what it runs at");
        for state in [StepState::Held, StepState::Armed, StepState::Ended(StopReason::Completed)] {
            view.state = state;
            assert_eq!(present(&view), current(0), "{state:?}");
        }
    }

    #[test]
    fn space_and_s_are_stop_all_c_is_the_clients_and_nothing_else_is() {
        let stops: Vec<char> = (0u8..=127).map(char::from).filter(|key| is_stop(*key)).collect();
        assert_eq!(stops, [' ', 'S', 'c', 's']);
        assert_eq!(stop('c'), Some(StopReason::ClientRequest));
    }

    #[test]
    fn the_help_names_every_key_that_does_something_and_no_other() {
        let plan = crate::cli::prompt::tests::plan();
        let mut snapshot = crate::cli::prompt::tests::snapshot(&plan, StepState::Running);
        snapshot.latched = Some(crate::model::command::Generation(1));
        let doing = |key: &char| asked(*key, &plan, &snapshot, 1) != Asked::Nothing(NO_KEY);
        let mut does: Vec<char> = (33u8..=126).map(char::from).filter(doing).collect();
        // The same keys, typed without shift or with it.
        does.retain(|key| !matches!(key, '=' | 'S' | '1'..='8'));
        // Which step keys are for is the screen's own business.
        does.push('o');
        does.sort_unstable();
        let keys = crate::cli::words::HELP.lines().filter(|line| !line.contains("surest"));
        let words = keys.flat_map(|line| line.split([' ', '-'])).map(|word| word.trim());
        let mut named: Vec<char> = words.filter(|word| word.len() == 1).flat_map(str::chars).collect();
        // The minus and the digits are written with the sign that splits words here.
        named.push('-');
        named.sort_unstable();
        assert!(crate::cli::words::HELP.contains(" - less ") && crate::cli::words::HELP.contains(" 0-9 "));
        assert_eq!(does.iter().collect::<String>(), named.iter().collect::<String>());
    }

    #[test]
    fn what_was_typed_before_is_taken_whole_and_nothing_is_waited_for() {
        use std::io::Write as _;
        let (mut tty, mut person) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(typed_ahead(&mut tty).unwrap().is_empty());
        person.write_all(format!("yyya\n+{}s", "+".repeat(600)).as_bytes()).unwrap();
        let typed = typed_ahead(&mut tty).unwrap();
        assert_eq!((typed.len(), typed.last()), (607, Some(&'s')));
        assert_eq!(typed.into_iter().filter(|key| is_stop(*key)).collect::<String>(), "s");
        assert!(typed_ahead(&mut tty).unwrap().is_empty());
    }

    #[test]
    fn ten_is_t_and_no_other_key_than_a_digit_is_a_score() {
        let scores = |key: &char| score(*key).is_some();
        let all: String = (0u8..=127).map(char::from).filter(scores).collect();
        assert_eq!(all, "0123456789t");
        assert_eq!(score('t').map(Discomfort::score), Some(10));
    }
}
