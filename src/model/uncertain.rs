//! Narrowing an uncertain interval (design 3.9): later sources bring its two bounds together and never apart.
//!
//! Invariants: the upper bound never grows, the lower never falls, and the order of the sources makes no difference: each
//! bound is an extreme of all that was ever said. Sources that contradict each other are kept as they are; what is
//! counted is then the larger of the two.

use std::time::Duration;

use crate::units::Mono;

/// What is known of an uncertain interval: it began at `from`, gave output for at least `least`, and was over at `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    from: Mono,
    least: Duration,
    until: Mono,
}

/// What a later source says of an uncertain interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// It gave nothing from then on: a proven stop, the unit's own time-out, its battery life, a person.
    ZeroBy(Mono),
    /// It gave output for at least this long: telemetry.
    AtLeast(Duration),
}

impl Bounds {
    /// Makes the bounds as they were when doubt began.
    pub fn new(from: Mono, least: Duration, until: Mono) -> Self {
        Self { from, least, until: until.max(from) }
    }

    /// Returns the bounds with one more source.
    #[must_use]
    pub fn narrowed(self, knowledge: Knowledge) -> Self {
        match knowledge {
            Knowledge::ZeroBy(at) => Self { until: self.until.min(at.max(self.from)), ..self },
            Knowledge::AtLeast(span) => Self { least: self.least.max(span), ..self },
        }
    }

    /// Returns the lower bound of its output time.
    pub const fn least(self) -> Duration {
        self.least
    }

    /// Returns the upper bound of its output time.
    pub const fn most(self) -> Duration {
        self.until.since(self.from)
    }

    /// Returns the upper end.
    pub const fn until(self) -> Mono {
        self.until
    }

    /// Returns what budgets count: the upper bound, or what surely was given when sources contradict each other.
    pub fn counted(self) -> Duration {
        self.most().max(self.least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FROM: Mono = Mono::from_millis(10_000);

    fn knowledge() -> impl Strategy<Value = Knowledge> {
        prop_oneof![
            (0u64..40_000).prop_map(|ms| Knowledge::ZeroBy(Mono::from_millis(ms))),
            (0u64..30_000).prop_map(|ms| Knowledge::AtLeast(Duration::from_millis(ms))),
        ]
    }

    fn orders(of: &[Knowledge]) -> Vec<Vec<Knowledge>> {
        if of.is_empty() {
            return vec![Vec::new()];
        }
        let mut all = Vec::new();
        for (position, first) in of.iter().enumerate() {
            let mut rest = of.to_vec();
            rest.remove(position);
            for mut order in orders(&rest) {
                order.insert(0, *first);
                all.push(order);
            }
        }
        all
    }

    proptest! {
        /// SR-43: all orders of four sources give the same bounds; the upper never grows, the lower never falls, and a
        /// source heard twice changes nothing.
        #[test]
        fn sr_43_four_sources_in_any_order_only_narrow(
            sources in proptest::collection::vec(knowledge(), 4), least in 0u64..5_000, span in 5_000u64..30_000,
        ) {
            let until = FROM.saturating_add(Duration::from_millis(span));
            let begun = Bounds::new(FROM, Duration::from_millis(least), until);
            let mut ends = Vec::new();
            let all = orders(&sources);
            prop_assert_eq!(all.len(), 24);
            for order in all {
                let mut bounds = begun;
                for source in &order {
                    let narrower = bounds.narrowed(*source);
                    prop_assert!(narrower.most() <= bounds.most() && narrower.least() >= bounds.least());
                    prop_assert_eq!(narrower.narrowed(*source), narrower);
                    bounds = narrower;
                }
                ends.push(bounds);
            }
            prop_assert!(ends.iter().all(|end| *end == ends[0]));
            // An oracle of its own: the earliest end that any source names, the longest that any source knows of.
            let (mut earliest, mut longest) = (span, least);
            for source in &sources {
                match source {
                    Knowledge::ZeroBy(at) => earliest = earliest.min((at.micros() / 1000).saturating_sub(10_000)),
                    Knowledge::AtLeast(known) => longest = longest.max(crate::units::duration_micros(*known) / 1000),
                }
            }
            prop_assert_eq!(ends[0].counted(), Duration::from_millis(earliest.max(longest)));
        }
    }
}
