//! The sound of a priority as samples, in whole numbers: what a host's player is given.
//!
//! A pulse is its fundamental with three harmonics, faded in and out so that it does not click.

use crate::alarm::Priority;
use crate::units::duration_micros;

/// Samples per second.
pub const RATE_HZ: u32 = 44_100;

/// Loudness of the fundamental and of the 2nd, 3rd and 4th harmonic, of 32 767.
const PARTS: [(u64, i64); 4] = [(1, 11_000), (2, 7_000), (3, 5_000), (4, 3_000)];

/// Length of a fade.
const FADE_US: u64 = 10_000;

/// Full turn of the phase.
const TURN: u64 = 1 << 16;

/// Returns the samples of one burst.
pub fn samples(priority: Priority) -> Vec<i16> {
    let burst = priority.burst();
    let length_us = duration_micros(burst.length());
    let count = length_us.saturating_mul(u64::from(RATE_HZ)).div_ceil(1_000_000);
    let pulse_us = duration_micros(burst.pulse);
    let sample = |number: u64| {
        let at_us = number.saturating_mul(1_000_000) / u64::from(RATE_HZ);
        let begun = burst.pulses.iter().map(|begin| duration_micros(*begin)).rfind(|begin| *begin <= at_us);
        let since_us = at_us.saturating_sub(begun.unwrap_or(0));
        let loudness = fade(since_us, pulse_us);
        let wave = wave(u64::from(burst.tone_hz), since_us);
        i16::try_from(wave.saturating_mul(loudness) / 1_000).unwrap_or(0)
    };
    (0..count).map(sample).collect()
}

/// Returns how loud a pulse is at an instant, of 1 000.
fn fade(since_us: u64, pulse_us: u64) -> i64 {
    let left_us = pulse_us.saturating_sub(since_us);
    let share = since_us.min(left_us).min(FADE_US).saturating_mul(1_000) / FADE_US;
    i64::try_from(share).unwrap_or(0)
}

fn wave(tone_hz: u64, since_us: u64) -> i64 {
    PARTS.into_iter().fold(0, |sum, (harmonic, loudness)| {
        let turns = tone_hz.saturating_mul(harmonic).saturating_mul(since_us).saturating_mul(TURN);
        sum.saturating_add(sine(turns / 1_000_000 % TURN).saturating_mul(loudness) / 32_767)
    })
}

/// Returns the sine of a phase in 65 536ths of a turn, of ±32 767, by Bhaskara's formula (0.2 % off at most).
fn sine(phase: u64) -> i64 {
    let half = TURN / 2;
    let within = i64::try_from(phase % half).unwrap_or(0);
    let left = i64::try_from(half).unwrap_or(0).saturating_sub(within);
    let product = within.saturating_mul(left);
    // 16 x (π − x) / (5 π² − 4 x (π − x)), with π as half a turn.
    let square = i64::try_from(half.saturating_mul(half)).unwrap_or(i64::MAX);
    let below = square.saturating_mul(5).saturating_sub(product.saturating_mul(4));
    let value = product.saturating_mul(16).saturating_mul(32_767).checked_div(below).unwrap_or(0);
    if phase < half { value } else { value.saturating_neg() }
}

/// Returns a burst as a file in WAV form: one channel, 16 bits.
pub fn wav(priority: Priority) -> Vec<u8> {
    let samples = samples(priority);
    let data: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut file = Vec::with_capacity(data.len().saturating_add(44));
    file.extend(b"RIFF");
    file.extend(size.saturating_add(36).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16u32.to_le_bytes());
    file.extend(1u16.to_le_bytes());
    file.extend(1u16.to_le_bytes());
    file.extend(RATE_HZ.to_le_bytes());
    file.extend(RATE_HZ.saturating_mul(2).to_le_bytes());
    file.extend(2u16.to_le_bytes());
    file.extend(16u16.to_le_bytes());
    file.extend(b"data");
    file.extend(size.to_le_bytes());
    file.extend(data);
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sine_is_a_sine() {
        for (phase, value) in [(0, 0), (TURN / 4, 32_767), (TURN / 2, 0), (TURN / 4 * 3, -32_767)] {
            assert_eq!(sine(phase), value);
        }
        assert!((sine(TURN / 12) - 16_383).abs() < 70, "half at 30 degrees");
    }

    /// SR-36: what a player is given has the pulses and the tone of the priority.
    #[test]
    fn sr_36_the_samples_carry_the_pulses_and_the_tone() {
        for (priority, pulses, tone_hz) in
            [(Priority::High, 10, 880), (Priority::Medium, 3, 660), (Priority::Low, 1, 440)]
        {
            let samples = samples(priority);
            // A pulse begins where at least 50 ms of silence end.
            let quiet = 2_205;
            let (mut silent, mut found) = (quiet, 0);
            for sample in &samples {
                if *sample == 0 {
                    silent += 1;
                } else {
                    found += usize::from(silent >= quiet);
                    silent = 0;
                }
            }
            assert_eq!(found, pulses, "{priority:?}");
            // The fundamental: the shift under which a stretch inside the first pulse is most like itself.
            let stretch: Vec<i64> = samples[1_000..5_000].iter().map(|sample| i64::from(*sample)).collect();
            let like = |shift: usize| {
                stretch.iter().zip(stretch.iter().skip(shift)).take(3_000).map(|(a, b)| a * b).sum::<i64>()
            };
            let best = (30..200).max_by_key(|shift| like(*shift)).unwrap();
            let due = 44_100 / tone_hz;
            assert!(best % due <= 2 || due - best % due <= 2, "{priority:?}: period {best}, due {due}");
        }
    }

    #[test]
    fn the_file_says_what_it_holds() {
        let file = wav(Priority::Medium);
        let data = u32::from_le_bytes(file[40..44].try_into().unwrap());
        assert_eq!(&file[..4], b"RIFF");
        assert_eq!(&file[8..16], b"WAVEfmt ");
        assert_eq!(usize::try_from(data).unwrap() + 44, file.len());
        assert_eq!(u32::from_le_bytes(file[24..28].try_into().unwrap()), RATE_HZ);
        assert!(file[44..].iter().any(|byte| *byte != 0));
    }
}
