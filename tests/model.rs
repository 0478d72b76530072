//! A model of lease, stop generation and guard take-over at small scope, searched to its end (SR-04, SR-42, SR-45).
//!
//! One unit, one daemon and its successors, the guard, the operator. Freezes, thaws, deaths, stops, resets and starts in
//! every order that the bounds allow; a write of a frozen daemon that is on its way lands when it thaws.

use stateright::{Checker, Model, Property};

/// Lives of the daemon, stops, and freezes: at most so many.
const LIVES: u8 = 2;
const STOPS: u8 = 2;
const FREEZES: u8 = 2;
const STARTS: u8 = 3;
const LAPSES: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Process {
    Alive,
    Frozen,
    Dead,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    daemon: Process,
    life: u8,
    /// Newest stop posted, the one the device task has seen, the one the unit has proven.
    posted: u8,
    seen: u8,
    proven: u8,
    latched: bool,
    armed: bool,
    /// The lease ran out: nothing may be renewed.
    lapsed: bool,
    /// A write that turns output on waits in the device task.
    on_queued: bool,
    /// The guard holds the unit, and watches it.
    guard_watches: bool,
    /// The life in which the guard wrote its first stop byte.
    guard_stopped: Option<u8>,
    output: bool,
    stops: u8,
    freezes: u8,
    starts: u8,
    lapses: u8,
    /// What must never be.
    on_after_guard: bool,
    on_past_stop: bool,
    reset_early: bool,
    on_without_guard: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Arm,
    Start,
    Stop,
    Reset(u8),
    Lapse,
    TaskRuns,
    UnitProves,
    Freeze,
    Thaw,
    Die,
    GuardTakesOver,
    Restart,
}

/// The protocol as it is, or with a defect.
#[derive(Clone, Copy, Default)]
struct Protocol {
    guard_does_not_kill: bool,
    reset_ignores_generation: bool,
    task_forgets_stops: bool,
    start_needs_no_guard: bool,
}

impl World {
    fn begin() -> Self {
        Self {
            daemon: Process::Alive,
            life: 1,
            posted: 0,
            seen: 0,
            proven: 0,
            latched: false,
            armed: false,
            lapsed: false,
            on_queued: false,
            guard_watches: false,
            guard_stopped: None,
            output: false,
            stops: 0,
            freezes: 0,
            starts: 0,
            lapses: 0,
            on_after_guard: false,
            on_past_stop: false,
            reset_early: false,
            on_without_guard: false,
        }
    }

    const fn alive(&self) -> bool {
        matches!(self.daemon, Process::Alive)
    }

    /// The guard acts when a daemon that it watches is dead or frozen; a lapse is the daemon's own while it lives.
    const fn guard_acts(&self) -> bool {
        self.guard_watches && !self.alive()
    }

    /// The device task looks at its stop lane before anything else.
    fn task_runs(&mut self, protocol: Protocol) {
        if self.seen < self.posted && !(protocol.task_forgets_stops && self.on_queued) {
            self.seen = self.posted;
            (self.on_queued, self.output) = (false, false);
            return;
        }
        if std::mem::take(&mut self.on_queued) {
            self.output = true;
            self.on_past_stop |= self.seen < self.posted;
            self.on_after_guard |= self.guard_stopped == Some(self.life);
            self.on_without_guard |= !self.guard_watches;
        }
    }

    fn take_over(&mut self, protocol: Protocol) {
        if !protocol.guard_does_not_kill {
            self.daemon = Process::Dead;
        }
        self.output = false;
        self.guard_stopped = Some(self.life);
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::begin()]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if world.alive() {
            let settled = world.seen == world.posted && world.proven == world.seen;
            if !world.armed && !world.latched && settled {
                steps.push(Step::Arm);
            }
            if world.armed && !world.latched && !world.lapsed && world.starts < STARTS {
                steps.push(Step::Start);
            }
            if world.stops < STOPS {
                steps.push(Step::Stop);
            }
            if world.latched {
                steps.extend((1..=world.posted).map(Step::Reset));
            }
            if world.armed && !world.lapsed && world.lapses < LAPSES {
                steps.push(Step::Lapse);
            }
            if world.on_queued || world.seen < world.posted {
                steps.push(Step::TaskRuns);
            }
            if world.freezes < FREEZES {
                steps.push(Step::Freeze);
            }
            steps.push(Step::Die);
        }
        if world.proven < world.seen {
            steps.push(Step::UnitProves);
        }
        match world.daemon {
            Process::Frozen => steps.push(Step::Thaw),
            Process::Dead if world.life < LIVES && !world.guard_acts() => steps.push(Step::Restart),
            Process::Alive | Process::Dead => {}
        }
        if world.guard_acts() && (world.guard_stopped != Some(world.life) || world.output) {
            steps.push(Step::GuardTakesOver);
        }
        if world.daemon == Process::Dead && world.guard_stopped == Some(world.life) && world.life < LIVES {
            steps.push(Step::Restart);
        }
    }

    fn next_state(&self, before: &World, step: Step) -> Option<World> {
        let mut world = before.clone();
        match step {
            Step::Arm => {
                // The guard's acknowledgement comes before anything is armed.
                world.guard_watches = !self.start_needs_no_guard;
                (world.armed, world.lapsed) = (true, false);
            }
            Step::Start => {
                world.starts += 1;
                world.on_queued = true;
            }
            Step::Stop => {
                world.stops += 1;
                (world.posted, world.latched, world.armed) = (world.posted + 1, true, false);
            }
            Step::Reset(generation) => {
                let proven = world.proven == world.posted;
                let accepted = if self.reset_ignores_generation {
                    world.proven >= generation
                } else {
                    generation == world.posted && proven
                };
                world.reset_early |= accepted && !proven;
                world.latched &= !accepted;
            }
            Step::Lapse => {
                world.lapses += 1;
                // A hold is a stop of the unit: it goes by the stop lane.
                (world.lapsed, world.armed, world.posted) = (true, false, world.posted + 1);
            }
            Step::TaskRuns => world.task_runs(*self),
            Step::UnitProves => {
                world.proven = world.seen;
                world.guard_watches &= world.armed;
            }
            Step::Freeze => {
                world.freezes += 1;
                world.daemon = Process::Frozen;
            }
            Step::Thaw => world.daemon = Process::Alive,
            Step::Die => {
                (world.daemon, world.on_queued) = (Process::Dead, false);
            }
            Step::GuardTakesOver => world.take_over(*self),
            Step::Restart => {
                let (life, guard_stopped) = (world.life + 1, world.guard_stopped);
                let (output, stops, freezes) = (world.output, world.stops, world.freezes);
                let (starts, lapses) = (world.starts, world.lapses);
                world = World {
                    life,
                    guard_stopped,
                    output,
                    stops,
                    freezes,
                    starts,
                    lapses,
                    // A unit that is found hears a stop before anything else.
                    posted: 1,
                    on_after_guard: world.on_after_guard,
                    on_past_stop: world.on_past_stop,
                    reset_early: world.reset_early,
                    on_without_guard: world.on_without_guard,
                    ..World::begin()
                };
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always(
                "after the guard's first stop byte only a new daemon and a person start",
                |_, world| !world.on_after_guard,
            ),
            Property::<Self>::always("no order overtakes a stop", |_, world| !world.on_past_stop),
            Property::<Self>::always("no reset is accepted early", |_, world| !world.reset_early),
            Property::<Self>::always("nothing starts that the guard does not hold", |_, world| {
                !world.on_without_guard
            }),
            Property::<Self>::always(
                "output of a dead or frozen daemon has somebody who stops it",
                |_, world| !world.output || world.alive() || world.guard_acts(),
            ),
            Property::<Self>::sometimes("a unit gives output", |_, world| world.output),
            Property::<Self>::sometimes(
                "the guard stops a unit and a second daemon starts it again",
                |_, world| world.output && world.life == 2 && world.guard_stopped == Some(1),
            ),
            Property::<Self>::sometimes("a stop is reset", |_, world| {
                world.stops > 0 && !world.latched && world.proven > 0 && world.output
            }),
        ]
    }
}

/// SR-04, SR-42, SR-45: over every order of events nothing of it is broken; prints the states searched.
#[test]
fn sr_04_sr_42_sr_45_lease_stop_generation_and_take_over_hold_in_every_order() {
    let checker = Protocol::default().checker().spawn_bfs().join();
    println!(
        "{} states, {} of them different, depth {}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth()
    );
    checker.assert_properties();
    assert!(checker.unique_state_count() > 1_000);
}

/// Each part of the protocol that is left out breaks the property that rests on it.
#[test]
fn a_protocol_without_one_of_its_parts_has_a_counterexample() {
    let whole = Protocol::default();
    for (broken, property) in [
        (
            Protocol { guard_does_not_kill: true, ..whole },
            "after the guard's first stop byte only a new daemon and a person start",
        ),
        (Protocol { reset_ignores_generation: true, ..whole }, "no reset is accepted early"),
        (Protocol { task_forgets_stops: true, ..whole }, "no order overtakes a stop"),
        (Protocol { start_needs_no_guard: true, ..whole }, "nothing starts that the guard does not hold"),
    ] {
        let checker = broken.checker().spawn_bfs().join();
        let path = checker.discovery(property).unwrap_or_else(|| panic!("no counterexample: {property}"));
        println!("{property}: {} steps", path.into_actions().len());
    }
}
