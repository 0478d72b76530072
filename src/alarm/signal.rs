//! Light and sound of each priority (clinical-safety 8.3), as data for every screen and for the host's player.
//!
//! Ranges of the scheme: high flashes 1.4–2.8 Hz, medium 0.4–0.8 Hz, both 20–60 % on, low is constant; a burst is 10, 3
//! or 1 pulses of 150–1 000 Hz with harmonics in 300–4 000 Hz. The values chosen lie far enough inside that a timer that
//! is 10 % off stays inside too. Pulse lengths and pauses are project choices.

use std::time::Duration;

use crate::alarm::{Priority, Sounding};
use crate::units::Mono;

/// Colour of the light. Nothing else on a screen may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// High.
    Red,
    /// Medium.
    Yellow,
    /// Low.
    Cyan,
}

/// How a light behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Light {
    /// Its colour.
    pub colour: Colour,
    /// Its flashing; `None`: constant.
    pub flash: Option<Flash>,
}

/// A flashing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flash {
    /// From one lighting up to the next.
    pub period: Duration,
    /// How long it is lit.
    pub on: Duration,
}

/// A burst of pulses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// Fundamental, Hz.
    pub tone_hz: u16,
    /// Begin of each pulse since the begin of the burst.
    pub pulses: &'static [Duration],
    /// Length of a pulse.
    pub pulse: Duration,
    /// From the begin of a burst to the next, while the alarm sounds; `None`: once.
    pub every: Option<Duration>,
}

/// When the next burst begins: at once when an alarm comes or a more urgent one sounds, then by the burst's own time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Repeater {
    /// The newest burst: its priority, when it began, and the alarms heard by then.
    last: Option<(Priority, Mono, u64)>,
}

impl Repeater {
    /// Returns when the next burst is due and of which priority; `None`: silence.
    pub fn next(&self, sounding: Sounding) -> Option<(Mono, Priority)> {
        let priority = sounding.priority?;
        let Some((last, began, count)) = self.last else {
            return Some((Mono::ORIGIN, priority));
        };
        let news = sounding.count != count || priority > last;
        if news {
            return Some((Mono::ORIGIN, priority));
        }
        Some((began.saturating_add(priority.burst().every?), priority))
    }

    /// Notes that a burst begins.
    pub const fn begin(&mut self, now: Mono, priority: Priority, sounding: Sounding) {
        self.last = Some((priority, now, sounding.count));
    }
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Two groups of five, each three and two.
const HIGH: [Duration; 10] =
    [ms(0), ms(250), ms(500), ms(1000), ms(1250), ms(2000), ms(2250), ms(2500), ms(3000), ms(3250)];
const MEDIUM: [Duration; 3] = [ms(0), ms(400), ms(800)];
const LOW: [Duration; 1] = [ms(0)];

impl Priority {
    /// Returns the light.
    pub const fn light(self) -> Light {
        match self {
            Self::High => Light { colour: Colour::Red, flash: Some(Flash { period: ms(500), on: ms(200) }) },
            Self::Medium => {
                Light { colour: Colour::Yellow, flash: Some(Flash { period: ms(1600), on: ms(640) }) }
            }
            Self::Low => Light { colour: Colour::Cyan, flash: None },
        }
    }

    /// Returns the sound.
    pub const fn burst(self) -> Burst {
        match self {
            Self::High => Burst { tone_hz: 880, pulses: &HIGH, pulse: ms(150), every: Some(ms(6_000)) },
            Self::Medium => Burst { tone_hz: 660, pulses: &MEDIUM, pulse: ms(200), every: Some(ms(10_000)) },
            Self::Low => Burst { tone_hz: 440, pulses: &LOW, pulse: ms(200), every: None },
        }
    }

    /// Returns the word used in records and names of files.
    pub const fn word(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

impl Light {
    /// Returns whether it is lit `since` after it began.
    pub fn is_lit(self, since: Duration) -> bool {
        let Some(flash) = self.flash else {
            return true;
        };
        let phase = since.as_micros().checked_rem(flash.period.as_micros()).unwrap_or(0);
        phase < flash.on.as_micros()
    }
}

impl Burst {
    /// Returns how long a burst is.
    pub fn length(self) -> Duration {
        self.pulses.last().map_or(Duration::ZERO, |last| last.saturating_add(self.pulse))
    }

    /// Returns whether a pulse sounds `since` after the burst began.
    pub fn sounds(self, since: Duration) -> bool {
        self.pulses.iter().any(|begin| since >= *begin && since < begin.saturating_add(self.pulse))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Priority; 3] = [Priority::Low, Priority::Medium, Priority::High];

    /// Counts how often something turns on in a span, and for how many ms it is on, looking every ms.
    fn watch(span_ms: u64, is_on: impl Fn(Duration) -> bool) -> (u64, u64) {
        let mut was = false;
        let (mut turns, mut on) = (0, 0);
        for millis in 0..span_ms {
            let is = is_on(ms(millis));
            turns += u64::from(is && !was);
            on += u64::from(is);
            was = is;
        }
        (turns, on)
    }

    /// SR-36: rates and duties lie inside the scheme, also with a timer that is 10 % fast or slow.
    #[test]
    fn sr_36_lights_flash_inside_the_scheme_with_ten_percent_to_spare() {
        for (priority, colour, least_mhz, most_mhz) in
            [(Priority::High, Colour::Red, 1_400, 2_800), (Priority::Medium, Colour::Yellow, 400, 800)]
        {
            let light = priority.light();
            assert_eq!(light.colour, colour);
            let (flashes, lit) = watch(160_000, |at| light.is_lit(at));
            for tenths in [9, 10, 11] {
                let mhz = flashes * 1_000 * 10 / (160 * tenths);
                assert!((least_mhz..=most_mhz).contains(&mhz), "{priority:?}: {mhz} mHz");
            }
            let duty = lit * 100 / 160_000;
            assert!((22..=54).contains(&duty), "{priority:?}: {duty} % on");
        }
        let low = Priority::Low.light();
        assert_eq!(low.colour, Colour::Cyan);
        assert_eq!(watch(160_000, |at| low.is_lit(at)), (1, 160_000), "low is constant");
    }

    /// SR-36: the sound repeats while an alarm sounds, news is heard at once, low once, and silence is silence.
    #[test]
    fn sr_36_the_sound_repeats_until_it_may_be_silent() {
        let at = |millis: u64| Mono::from_micros(millis * 1_000);
        let sounding = |priority, count| Sounding { priority, count, paused: None };
        let mut repeater = Repeater::default();
        assert_eq!(repeater.next(sounding(None, 0)), None);
        let medium = sounding(Some(Priority::Medium), 1);
        assert_eq!(repeater.next(medium), Some((Mono::ORIGIN, Priority::Medium)));
        repeater.begin(at(1_000), Priority::Medium, medium);
        assert_eq!(repeater.next(medium), Some((at(11_000), Priority::Medium)));
        let again = sounding(Some(Priority::Medium), 2);
        assert_eq!(repeater.next(again), Some((Mono::ORIGIN, Priority::Medium)), "it came again");
        repeater.begin(at(2_000), Priority::Medium, again);
        let high = sounding(Some(Priority::High), 2);
        assert_eq!(
            repeater.next(high),
            Some((Mono::ORIGIN, Priority::High)),
            "silence of a more urgent one is over"
        );
        repeater.begin(at(3_000), Priority::High, high);
        assert_eq!(repeater.next(high), Some((at(9_000), Priority::High)));
        assert_eq!(repeater.next(again), Some((at(13_000), Priority::Medium)));
        let low = sounding(Some(Priority::Low), 3);
        repeater.begin(at(4_000), Priority::Low, low);
        assert_eq!(repeater.next(low), None, "low sounds once");
    }

    /// SR-36: 10, 3 and 1 pulses in a burst, the tone within 150–1 000 Hz, and a burst is over before the next.
    #[test]
    fn sr_36_bursts_have_ten_three_and_one_pulses() {
        for (priority, pulses) in [(Priority::High, 10), (Priority::Medium, 3), (Priority::Low, 1)] {
            let burst = priority.burst();
            let (heard, _) = watch(20_000, |at| burst.sounds(at));
            assert_eq!(heard, pulses, "{priority:?}");
            assert!((165..=909).contains(&burst.tone_hz), "{priority:?}");
            assert!(burst.every.is_none_or(|every| every > burst.length() + ms(1_000)));
        }
        assert!(ALL.iter().all(|priority| priority.burst().length() > Duration::ZERO));
        assert_eq!(Priority::Low.burst().every, None, "low sounds once");
    }
}
