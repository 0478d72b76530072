//! When to take over: a pure machine over what the daemon says and what time does.
//!
//! ```text
//!  (Hold) --> Held --Armed--> Armed --Stopping--> Stopping --Released, proven--> Held
//!              |                ^ Lease |           ^    |
//!              |                +-------+           |    +--Released, not proven--> Stated
//!              +------------Stopping----------------+-----------Stopping--------------+
//! ```
//!
//! Heartbeats are due while a unit is armed or stopping. It lapses when they are missing, when a lease runs out without
//! `Stopping`, when a STOP ALL or a signal is not answered.
//!
//! Invariants: never a lapse while nothing is armed or stopping, unless a person's stop is not answered; a unit is to be
//! stopped from `Armed` or `Stopping` until its zero is proven, whatever a person has stated.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::guard::link::Said;
use crate::units::Mono;

/// Silence that means frozen, when the daemon says nothing else (design 4).
const FREEZE: Duration = Duration::from_millis(400);
/// What may be set.
const FREEZE_BOUNDS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_millis(1000));
/// A lease may be overdue for this long: the daemon's own clock may wake it later than ours.
const LEASE_GRACE: Duration = Duration::from_millis(100);
/// A signal was passed on: the daemon has this long to stop its units (design 3.10).
const SIGNAL_WITHIN: Duration = Duration::from_secs(2);
/// The daemon said that it ends: it seals its record and lets its links go within this time.
const LEAVE_WITHIN: Duration = Duration::from_secs(10);
/// STOP ALL was passed on: the daemon has this long to order it.
const STOP_WITHIN: Duration = Duration::from_millis(250);
/// When this process itself was kept from running by more than this, the daemon was too.
const LATE: Duration = Duration::from_millis(100);
/// It then gets this long to be heard.
const MERCY: Duration = Duration::from_millis(100);

/// Why the guard takes over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The daemon died; how.
    Died(String),
    /// Nothing was heard of it.
    Silent,
    /// A lease ran out, and nothing was said of zero.
    LeaseRanOut,
    /// It did not take a STOP ALL.
    StopUnanswered,
    /// It did not stop its units after a signal.
    SignalUnanswered,
    /// It said something that cannot be read.
    Garbled,
    /// It ended and left units without a proven stop.
    Left,
}

impl Why {
    /// Returns the code used in the journal and the record.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Died(_) => "died",
            Self::Silent => "frozen",
            Self::LeaseRanOut => "lease_ran_out",
            Self::StopUnanswered => "stop_unanswered",
            Self::SignalUnanswered => "signal_unanswered",
            Self::Garbled => "garbled",
            Self::Left => "left",
        }
    }

    /// Returns what happened, for a person.
    pub fn words(&self) -> String {
        let part = "The part of doseward that drives the units";
        match self {
            Self::Died(_) => format!("{part} has stopped unexpectedly."),
            Self::Silent => format!("{part} was frozen; it was ended."),
            Self::LeaseRanOut => format!("{part} let output run past its lease; it was ended."),
            Self::StopUnanswered => format!("{part} did not answer STOP ALL; it was ended."),
            Self::SignalUnanswered => format!("{part} did not stop its units in time; it was ended."),
            Self::Garbled => format!("{part} was not understood; it was ended."),
            Self::Left => format!("{part} has ended and a stop is not proven yet."),
        }
    }
}

impl Why {
    /// Returns what happened, for the record: also by what it died.
    pub fn on_record(&self) -> String {
        match self {
            Self::Died(how) => {
                format!("The part of doseward that drives the units has stopped unexpectedly ({how}).")
            }
            Self::Silent
            | Self::LeaseRanOut
            | Self::StopUnanswered
            | Self::SignalUnanswered
            | Self::Garbled
            | Self::Left => self.words(),
        }
    }
}

/// What is known of one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Ready to be stopped; nothing runs.
    Held,
    /// Output may run, until the end of the lease when one was said.
    Armed(Option<Mono>),
    /// It was ordered to zero.
    Stopping,
    /// A person has stated that it stopped. It has not proven it.
    Stated,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Watch {
    freeze: Duration,
    units: BTreeMap<u8, State>,
    heard: Mono,
    /// STOP ALL was passed on; the units that have not been ordered to zero since.
    stop_asked: Option<(Mono, Vec<u8>)>,
    signalled: Option<Mono>,
    /// It said that it ends.
    leaving: Option<Mono>,
    /// This process was late for what was due then: the daemon is heard once more until the second instant.
    mercy: Option<(Mono, Mono)>,
}

impl Watch {
    /// Begins with a daemon of which nothing is known.
    pub const fn new(now: Mono) -> Self {
        Self {
            freeze: FREEZE,
            units: BTreeMap::new(),
            heard: now,
            stop_asked: None,
            signalled: None,
            leaving: None,
            mercy: None,
        }
    }

    /// Takes in what the daemon said. `until` is the end of a lease on this process's clock.
    pub fn hear(&mut self, now: Mono, said: &Said, until: impl Fn(u64) -> Mono) {
        self.heard = self.heard.max(now);
        match said {
            Said::Session { freeze_ms, .. } => {
                let (least, most) = FREEZE_BOUNDS;
                self.freeze = Duration::from_millis(*freeze_ms).clamp(least, most);
            }
            Said::Leaving => {
                self.leaving = Some(now);
                // From here it orders zero by itself and latches nothing any more.
                self.stop_asked = None;
            }
            Said::Port { .. } | Said::Beat | Said::Sealed { .. } => {}
            Said::Hold { device, .. } => {
                self.units.entry(*device).or_insert(State::Held);
            }
            Said::Armed { device } => {
                self.units.insert(*device, State::Armed(None));
            }
            Said::Lease { device, until_us } => {
                if let Some(state @ State::Armed(_)) = self.units.get_mut(device) {
                    *state = State::Armed(Some(until(*until_us)));
                }
            }
            Said::Stopping { device } => {
                if let Some(state) = self.units.get_mut(device) {
                    *state = State::Stopping;
                }
                if let Some((_, left)) = &mut self.stop_asked {
                    left.retain(|unit| unit != device);
                }
            }
            Said::Released { device, proven } => {
                if let Some(state) = self.units.get_mut(device) {
                    *state = if *proven { State::Held } else { State::Stated };
                }
            }
        }
        if self.stop_asked.as_ref().is_some_and(|(_, left)| left.is_empty()) {
            self.stop_asked = None;
        }
    }

    /// STOP ALL was passed on to the daemon. One that ends by itself owes no answer to it.
    pub fn stop_asked(&mut self, now: Mono) {
        if self.stop_asked.is_none() && self.leaving.is_none() && !self.units.is_empty() {
            self.stop_asked = Some((now, self.units.keys().copied().collect()));
        }
    }

    /// Returns whether STOP ALL was passed on and is not yet ordered on every unit.
    pub const fn is_stop_owed(&self) -> bool {
        self.stop_asked.is_some()
    }

    /// Returns whether the daemon has said that it ends.
    pub const fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// A signal that ends the session was passed on to the daemon; the first counts.
    pub fn signalled(&mut self, now: Mono) {
        self.signalled.get_or_insert(now);
    }

    /// Returns the units that are stopped when the daemon does not do it: their zero is not proven.
    pub fn to_stop(&self) -> Vec<u8> {
        self.of(|state| *state != State::Held)
    }

    /// Returns the units of [`Watch::to_stop`] for which nobody vouches: they must prove their stop.
    pub fn to_prove(&self) -> Vec<u8> {
        self.of(|state| matches!(state, State::Armed(_) | State::Stopping))
    }

    fn of(&self, which: impl Fn(&State) -> bool) -> Vec<u8> {
        self.units.iter().filter(|(_, state)| which(state)).map(|(device, _)| *device).collect()
    }

    /// Returns what is known of every unit.
    pub const fn units(&self) -> &BTreeMap<u8, State> {
        &self.units
    }

    /// Returns how long nothing was heard.
    pub const fn silent(&self, now: Mono) -> Duration {
        now.since(self.heard)
    }

    /// Returns when [`Watch::lapse`] must be asked next.
    pub fn deadline(&self) -> Option<Mono> {
        let due = self.due().map(|(at, _)| at)?;
        Some(self.mercy_for(due).map_or(due, |until| until.max(due)))
    }

    /// Returns whether the daemon has forfeited its units at `now`. Everything that it said must have been heard first.
    pub fn lapse(&mut self, now: Mono) -> Option<Why> {
        let (at, why) = self.due()?;
        if now < at {
            return None;
        }
        // Whoever was kept from running himself cannot blame another. Signs of life put silence off, and nothing else.
        let mercy = self.mercy_for(at);
        if mercy.is_none() && now.since(at) > LATE {
            self.mercy = Some((at, now.saturating_add(MERCY)));
            return None;
        }
        if mercy.is_some_and(|until| now < until) {
            return None;
        }
        Some(why)
    }

    fn mercy_for(&self, due: Mono) -> Option<Mono> {
        self.mercy.filter(|(at, _)| *at == due).map(|(_, until)| until)
    }

    /// Returns when the first of all lapses. While a person's stop is owed, that is the reason whatever else is due
    /// first: it reaches every unit.
    fn due(&self) -> Option<(Mono, Why)> {
        let live = !self.to_prove().is_empty();
        let silent_from = match self.leaving {
            Some(leaving) => leaving.saturating_add(LEAVE_WITHIN),
            None => self.heard.saturating_add(self.freeze),
        };
        let silent = live.then_some((silent_from, Why::Silent));
        let leases = self.units.values().filter_map(|state| match state {
            State::Armed(Some(until)) => Some((until.saturating_add(LEASE_GRACE), Why::LeaseRanOut)),
            State::Armed(None) | State::Held | State::Stopping | State::Stated => None,
        });
        let stop =
            self.stop_asked.as_ref().map(|(at, _)| (at.saturating_add(STOP_WITHIN), Why::StopUnanswered));
        let signal = self.signalled.filter(|_| live);
        let signal = signal.map(|at| (at.saturating_add(SIGNAL_WITHIN), Why::SignalUnanswered));
        let (at, why) =
            [silent, stop, signal].into_iter().flatten().chain(leases).min_by_key(|(at, _)| *at)?;
        Some((at, if self.is_stop_owed() { Why::StopUnanswered } else { why }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        watch: Watch,
        now: Mono,
    }

    impl Bench {
        fn new() -> Self {
            let mut bench = Self { watch: Watch::new(Mono::ORIGIN), now: Mono::ORIGIN };
            for device in [0, 1] {
                let way = super::super::link::Way::Bluetooth { address: String::new() };
                let script =
                    crate::model::packet::StopScript { steps: vec![], cycle: Duration::ZERO, resync: vec![] };
                let (label, by_hand) = (String::new(), String::new());
                bench.hear(Said::Hold { device, label, by_hand, way, script: (&script).into() });
            }
            bench
        }

        fn hear(&mut self, said: Said) {
            self.watch.hear(self.now, &said, Mono::from_micros);
        }

        /// Lets time pass as a process does that wakes when it must; returns when it lapsed, from now, and why.
        fn pass(&mut self, span: Duration) -> Option<(Duration, Why)> {
            let (begin, end) = (self.now, self.now.saturating_add(span));
            while let Some(at) = self.watch.deadline().filter(|at| *at <= end) {
                self.now = self.now.max(at);
                if let Some(why) = self.watch.lapse(self.now) {
                    return Some((self.now.since(begin), why));
                }
            }
            self.now = end;
            None
        }

        fn beats(&mut self, count: u32) {
            for _ in 0..count {
                self.hear(Said::Beat);
                assert_eq!(self.pass(ms(100)), None);
            }
        }
    }

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn nothing_armed_may_be_silent_for_ever() {
        let mut bench = Bench::new();
        assert_eq!(bench.pass(Duration::from_secs(3600)), None);
        assert!(bench.watch.to_stop().is_empty());
    }

    #[test]
    fn an_armed_unit_lapses_after_400_ms_of_silence_and_not_before() {
        let mut bench = Bench::new();
        bench.hear(Said::Armed { device: 1 });
        bench.beats(50);
        assert_eq!(bench.pass(ms(10_000)), Some((ms(300), Why::Silent)));
        assert_eq!(bench.watch.to_stop(), [1]);
    }

    #[test]
    fn the_freeze_can_be_set_within_its_bounds() {
        for (set, due) in [(250, 250), (1000, 1000), (10, 250), (60_000, 1000)] {
            let mut bench = Bench::new();
            bench.hear(Said::Session { id: "s".to_owned(), freeze_ms: set, units: Vec::new() });
            bench.hear(Said::Armed { device: 0 });
            assert_eq!(bench.pass(ms(10_000)), Some((ms(due), Why::Silent)), "{set}");
        }
    }

    #[test]
    fn a_daemon_that_says_it_ends_gives_no_more_signs_and_is_given_ten_seconds() {
        let mut bench = Bench::new();
        bench.hear(Said::Armed { device: 0 });
        bench.hear(Said::Stopping { device: 0 });
        bench.hear(Said::Leaving);
        assert_eq!(bench.pass(ms(30_000)), Some((ms(10_000), Why::Silent)));
        assert_eq!(bench.watch.to_stop(), [0]);
    }

    #[test]
    fn a_lease_that_runs_out_without_zero_lapses_though_the_daemon_is_heard() {
        let mut bench = Bench::new();
        bench.hear(Said::Armed { device: 0 });
        bench.hear(Said::Lease { device: 0, until_us: 800_000 });
        bench.beats(8);
        bench.hear(Said::Beat);
        assert_eq!(bench.pass(ms(300)), Some((ms(100), Why::LeaseRanOut)));
    }

    #[test]
    fn a_unit_ordered_to_zero_has_no_lease_and_is_still_stopped_when_the_daemon_falls_silent() {
        let mut bench = Bench::new();
        bench.hear(Said::Armed { device: 0 });
        bench.hear(Said::Lease { device: 0, until_us: 200_000 });
        bench.hear(Said::Stopping { device: 0 });
        bench.beats(100);
        assert_eq!(bench.watch.to_stop(), [0]);
        assert_eq!(bench.pass(ms(1000)), Some((ms(300), Why::Silent)));
        bench.hear(Said::Released { device: 0, proven: true });
        assert_eq!((bench.watch.to_stop(), bench.pass(ms(1_000_000))), (vec![], None));
    }

    /// SR-42: a unit that was not armed is stopped too when its stop is not proven.
    #[test]
    fn sr_42_a_stop_that_is_not_proven_is_watched_though_nothing_was_armed() {
        let mut bench = Bench::new();
        bench.hear(Said::Stopping { device: 1 });
        bench.beats(20);
        assert_eq!(bench.watch.to_stop(), [1]);
        assert_eq!(bench.pass(ms(1000)), Some((ms(300), Why::Silent)));
        bench.hear(Said::Released { device: 1, proven: true });
        assert_eq!((bench.watch.to_stop(), bench.pass(ms(1_000_000))), (vec![], None));
    }

    /// SR-42: what a person stated is no proof: nobody waits for signs of life, and a take-over stops the unit.
    #[test]
    fn sr_42_a_unit_that_a_person_stated_stopped_is_still_to_be_stopped() {
        let mut bench = Bench::new();
        bench.hear(Said::Armed { device: 0 });
        bench.hear(Said::Stopping { device: 0 });
        bench.hear(Said::Released { device: 0, proven: false });
        assert_eq!(bench.watch.units().get(&0), Some(&State::Stated));
        assert_eq!(bench.pass(ms(1_000_000)), None);
        assert_eq!((bench.watch.to_stop(), bench.watch.to_prove()), (vec![0], Vec::new()));
        bench.hear(Said::Stopping { device: 0 });
        assert_eq!(bench.watch.to_prove(), [0]);
        bench.hear(Said::Released { device: 0, proven: true });
        assert!(bench.watch.to_stop().is_empty());
    }

    #[test]
    fn a_hand_over_anew_takes_no_unit_out_of_watch() {
        let mut bench = Bench::new();
        bench.hear(Said::Armed { device: 0 });
        let again = Bench::new();
        assert_eq!(again.watch.units().get(&0), Some(&State::Held));
        let way = super::super::link::Way::Serial { path: "/dev/null".into() };
        let script =
            crate::model::packet::StopScript { steps: vec![], cycle: Duration::ZERO, resync: vec![] };
        let (label, by_hand) = (String::new(), String::new());
        bench.hear(Said::Hold { device: 0, label, by_hand, way, script: (&script).into() });
        assert_eq!(bench.watch.to_stop(), [0]);
    }

    #[test]
    fn stop_all_must_be_ordered_within_250_ms_on_every_unit() {
        let mut bench = Bench::new();
        let now = bench.now;
        bench.watch.stop_asked(now);
        bench.hear(Said::Stopping { device: 0 });
        assert_eq!(bench.pass(ms(1000)), Some((ms(250), Why::StopUnanswered)));
        bench.hear(Said::Stopping { device: 1 });
        bench.beats(50);
        bench.hear(Said::Released { device: 0, proven: true });
        bench.hear(Said::Released { device: 1, proven: true });
        assert_eq!(bench.pass(ms(100_000)), None);
    }

    /// SR-02: a daemon that was frozen already when STOP ALL was passed on has not answered it, whatever lapses first.
    #[test]
    fn sr_02_a_stop_that_was_passed_on_to_a_frozen_daemon_is_not_forgotten() {
        for late in [0, 100, 200, 300, 390] {
            let mut bench = Bench::new();
            bench.hear(Said::Armed { device: 1 });
            assert_eq!(bench.pass(ms(late)), None);
            let now = bench.now;
            bench.watch.stop_asked(now);
            let (after, why) = bench.pass(ms(1000)).unwrap();
            assert_eq!(why, Why::StopUnanswered, "asked {late} ms after it was last heard");
            assert!(after <= ms(250), "{after:?}");
        }
    }

    #[test]
    fn a_daemon_that_ends_in_good_order_owes_no_answer_to_stop_all() {
        for before in [true, false] {
            let mut bench = Bench::new();
            let now = bench.now;
            if before {
                bench.watch.stop_asked(now);
            }
            bench.hear(Said::Leaving);
            bench.watch.stop_asked(now);
            assert_eq!(bench.pass(ms(100_000)), None, "asked before it said so: {before}");
            assert!(!bench.watch.is_stop_owed());
        }
    }

    #[test]
    fn a_signal_gives_the_daemon_two_seconds_while_something_is_armed() {
        let mut bench = Bench::new();
        let now = bench.now;
        bench.watch.signalled(now);
        assert_eq!(bench.pass(ms(5000)), None);
        let mut bench = Bench::new();
        bench.hear(Said::Armed { device: 0 });
        let now = bench.now;
        bench.watch.signalled(now);
        bench.beats(19);
        bench.hear(Said::Beat);
        assert_eq!(bench.pass(ms(1000)), Some((ms(100), Why::SignalUnanswered)));
    }

    #[test]
    fn a_guard_that_was_kept_from_running_hears_the_daemon_once_more() {
        let mut bench = Bench::new();
        bench.hear(Said::Armed { device: 0 });
        bench.now = Mono::from_millis(5000);
        assert_eq!(bench.watch.lapse(bench.now), None);
        bench.hear(Said::Beat);
        assert_eq!(bench.pass(ms(399)), None);
        bench.now = Mono::from_millis(9000);
        assert_eq!(bench.watch.lapse(bench.now), None);
        assert_eq!(bench.pass(ms(1000)), Some((ms(100), Why::Silent)));
    }

    /// SR-42: a guard that was kept from running while a stop, a lease or a signal was due acts though the daemon beats.
    #[test]
    fn sr_42_signs_of_life_do_not_put_off_what_is_due_for_another_reason() {
        let lease = Said::Lease { device: 0, until_us: 200_000 };
        for (why, said) in
            [(Why::StopUnanswered, None), (Why::LeaseRanOut, Some(lease)), (Why::SignalUnanswered, None)]
        {
            let mut bench = Bench::new();
            bench.hear(Said::Armed { device: 0 });
            said.into_iter().for_each(|said| bench.hear(said));
            let now = bench.now;
            if why == Why::StopUnanswered {
                bench.watch.stop_asked(now);
            } else if why == Why::SignalUnanswered {
                bench.watch.signalled(now);
            }
            bench.now = Mono::from_millis(5000);
            bench.hear(Said::Beat);
            let mut lapsed = None;
            for _ in 0..10 {
                lapsed = lapsed.or_else(|| bench.watch.lapse(bench.now));
                bench.now = bench.now.saturating_add(ms(50));
                bench.hear(Said::Beat);
            }
            assert_eq!(lapsed, Some(why));
        }
    }
}
