//! Serial neurostimulators: `config/devices/*.toml` with `kind = "serial"`.
//!
//! Everything a session needs to know of the unit as data: its output grid, its pulse grid, its keep-alive time-out, what
//! silence means, and what it bounds by itself. A unit that does not stop by itself, or whose output step is too coarse,
//! is refused (design 3.12, SR-06).

use std::time::Duration;

use crate::config::limit_table;
use crate::config::problem::{Problem, Source};
use crate::config::reader::{At, Reader, Table, duration, one_of, quantity, text, texts, whole};
use crate::config::{self};
use crate::model::capability::{Capability, IntensityRange, PulseGrid, RateBasis, Telemetry};
use crate::model::limit::Limits;
use crate::units::{Hertz, Microseconds, Milliamps};

/// A neurostimulator on a serial line, as its file states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stimulator {
    /// Stable identifier, for example `hasomed-p24`.
    pub id: String,
    /// Name on screens and in the note.
    pub title: String,
    /// Wire dialect.
    pub dialect: Dialect,
    /// USB vendor and product ids that make a port a candidate; never an identity.
    pub usb: Vec<String>,
    /// The one line of the clinic lead's declaration, shown on the run screen and in the note (design 3.13).
    pub declaration: String,
    /// What it can do.
    pub capability: Capability,
}

/// Wire dialect of the ScienceMode family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// ScienceMode 3 (RehaMove3).
    V3,
    /// ScienceMode 4 (P24).
    V4,
}

/// Largest output step of a unit that may stimulate: 2 mA (SR-06).
const STEP_MAX: Milliamps = Milliamps::from_milliamps(2);
/// Silence is suspect after at most 0.5 s and a lost link after at most 1 s; files only tighten (design 4).
const TELEMETRY_MAX: Telemetry =
    Telemetry { suspect: Duration::from_millis(500), lost: Duration::from_secs(1) };
/// A command is uncertain after at most this long without its acknowledgement (design 4).
const ACKNOWLEDGE_MAX: Duration = Duration::from_millis(300);

const FAMILIES: &[(&str, ())] = &[("sciencemode", ())];
const DIALECTS: &[(&str, Dialect)] = &[("v3", Dialect::V3), ("v4", Dialect::V4)];

/// Reads one stimulator. Returns `None` exactly when problems were added.
pub fn load(source: &Source, problems: &mut Vec<Problem>) -> Option<Stimulator> {
    Reader::read(source, problems, judge)
}

fn judge(root: &Table<'_>) -> Option<Stimulator> {
    let head = config::head(root);
    root.required("kind", one_of(&[("serial", ())]));
    root.required("family", one_of(FAMILIES));
    let dialect = root.required("dialect", one_of(DIALECTS));
    let usb = root.required("usb", texts);
    root.required("sources", texts);
    let declaration = root.required("declaration", text);
    let output = root.table("output", "[output]").and_then(|table| judge_output(&table));
    let pulse = root.table("pulse", "[pulse]").and_then(|table| judge_pulse(&table));
    let link = root.table("link", "[link]").and_then(|table| judge_link(&table));
    let battery_life = root.table("power", "[power]").and_then(|table| {
        let life = table.required("battery_life", duration);
        table.close();
        life
    });
    let limits = root.table_if("limits", "[limits]").map(|table| limit_table::read(&table, None).limits);
    root.close();

    let (channels, intensity, contact_seen_from) = output?;
    let (pulse, link, head) = (pulse?, link?, head?);
    Some(Stimulator {
        id: head.id.value,
        title: head.title,
        dialect: dialect?.value,
        usb: usb?.value,
        declaration: declaration?.value,
        capability: Capability {
            channels,
            intensity,
            pulse: Some(pulse),
            keep_alive: Some(link.keep_alive),
            stop_is_whole_unit: true,
            telemetry: link.telemetry,
            acknowledge_within: link.acknowledge_within,
            stop_tail: Duration::ZERO,
            battery_life: battery_life?.value,
            contact_seen_from,
            reports_force: false,
            reports_own_button: false,
            rate_basis: RateBasis::None,
            limits: device_limits(limits.unwrap_or_default(), intensity, pulse),
        },
    })
}

/// What the output and pulse grids bound anyway, beside what the file states.
fn device_limits(stated: Limits, intensity: IntensityRange, pulse: PulseGrid) -> Limits {
    let current_max = match intensity {
        IntensityRange::Current { max, .. } => Some(max),
        IntensityRange::Speed { .. } | IntensityRange::Level { .. } => None,
    };
    let rate_max = 1_000_000_000u32.checked_div(pulse.period_min.micros()).map(Hertz::from_millihertz);
    Limits {
        current: limit_table::tighter(stated.current, current_max),
        width: limit_table::tighter(stated.width, Some(pulse.width_max)),
        frequency: limit_table::tighter(stated.frequency, rate_max),
        ..stated
    }
}

fn judge_output(table: &Table<'_>) -> Option<(u8, IntensityRange, Milliamps)> {
    let channels = table.required("channels", whole(1, 8));
    let step = table.required("current_step", quantity::<Milliamps>);
    let max = table.required("current_max", quantity::<Milliamps>);
    let contact_seen_from = table.required("contact_seen_from", quantity::<Milliamps>);
    table.close();
    let (step, max) = (step?, max?);
    // 2 % of full scale, in whole µA.
    let percent_two = Milliamps::from_microamps(max.value.microamps() / 50);
    let coarsest = STEP_MAX.min(percent_two);
    if step.value == Milliamps::ZERO || step.value > coarsest {
        let label = format!("above 0 mA, at most {coarsest} (2 mA and 2 % of full scale) is due");
        table.push(Some(step.span), "the output step is unfit for stimulation", label, None);
        return None;
    }
    let channels = u8::try_from(channels?.value).ok()?;
    Some((channels, IntensityRange::Current { step: step.value, max: max.value }, contact_seen_from?.value))
}

fn judge_pulse(table: &Table<'_>) -> Option<PulseGrid> {
    let get = |key| table.required(key, quantity::<Microseconds>);
    let (width_step, width_min, width_max) = (get("width_step"), get("width_min"), get("width_max"));
    let (period_step, period_min, period_max) = (get("period_step"), get("period_min"), get("period_max"));
    let gap = get("gap");
    table.close();
    judge_grid(table, "width", [width_step.as_ref()?, width_min.as_ref()?, width_max.as_ref()?])?;
    judge_grid(table, "period", [period_step.as_ref()?, period_min.as_ref()?, period_max.as_ref()?])?;
    Some(PulseGrid {
        width_step: width_step?.value,
        width_min: width_min?.value,
        width_max: width_max?.value,
        period_step: period_step?.value,
        period_min: period_min?.value,
        period_max: period_max?.value,
        gap: gap?.value,
    })
}

/// A grid needs a step above zero and ends in order, both above zero.
fn judge_grid(table: &Table<'_>, what: &str, [step, min, max]: [&At<Microseconds>; 3]) -> Option<()> {
    let zero = Microseconds::default();
    if let Some(at) = [step, min].into_iter().find(|at| at.value == zero) {
        table.push(Some(at.span.clone()), format!("the {what} grid has a zero"), "above zero is due", None);
        return None;
    }
    if min.value > max.value {
        let label = format!("at least {} is due", min.value);
        table.push(Some(max.span.clone()), format!("`{what}_max` is below `{what}_min`"), label, None);
        return None;
    }
    Some(())
}

/// What the link table says.
struct Link {
    keep_alive: Duration,
    acknowledge_within: Duration,
    telemetry: Telemetry,
}

fn judge_link(table: &Table<'_>) -> Option<Link> {
    let keep_alive = table.required("keep_alive", duration);
    let acknowledge_within = table.required("acknowledge_within", duration);
    let suspect = table.required("suspect", duration);
    let lost = table.required("lost", duration);
    table.close();
    let at_most = |at: &At<Duration>, key: &str, most: Duration| {
        if at.value.is_zero() || at.value > most {
            let label = format!("above 0 s, at most {} is due", crate::units::show_duration(most));
            table.push(Some(at.span.clone()), format!("`{key}` of [link] is out of bounds"), label, None);
        }
    };
    let (keep_alive, acknowledge_within) = (keep_alive?, acknowledge_within?);
    let (suspect, lost) = (suspect?, lost?);
    at_most(&keep_alive, "keep_alive", KEEP_ALIVE_MAX);
    at_most(&acknowledge_within, "acknowledge_within", ACKNOWLEDGE_MAX);
    at_most(&suspect, "suspect", TELEMETRY_MAX.suspect);
    at_most(&lost, "lost", TELEMETRY_MAX.lost);
    Some(Link {
        keep_alive: keep_alive.value,
        acknowledge_within: acknowledge_within.value,
        telemetry: Telemetry { suspect: suspect.value, lost: lost.value },
    })
}

/// Longest time a unit may go on by itself and still count as stopping itself: 2 s (SR-04, stand-in for a power cut).
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;
    use crate::config::problem::render;

    const P24: &str = include_str!("../../config/devices/hasomed-p24.toml");

    fn load_text(text: &str) -> (Option<Stimulator>, String) {
        let source = Source { path: PathBuf::from("d.toml"), text: Arc::from(text) };
        let mut problems = Vec::new();
        let unit = load(&source, &mut problems);
        (unit, render(&problems))
    }

    fn check(from: &str, to: &str, expected: &str) {
        assert!(P24.contains(from), "the shipped file has no `{from}`");
        let (unit, text) = load_text(&P24.replacen(from, to, 1));
        assert!(unit.is_none(), "loaded with `{to}`");
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn the_p24_bounds_current_density_and_power_by_itself() {
        let (unit, text) = load_text(P24);
        let capability = unit.expect(&text).capability;
        assert_eq!(capability.limits.density_ua_per_cm2, Some(2_000));
        assert_eq!(capability.limits.power_mw_per_cm2, Some(100));
        assert_eq!(capability.limits.current, Some(Milliamps::from_milliamps(130)));
        assert_eq!(capability.limits.frequency, Some(Hertz::from_hertz(2_000)));
        assert_eq!(capability.keep_alive, Some(Duration::from_secs(2)));
    }

    #[test]
    fn an_unfit_unit_is_refused() {
        check("keep_alive = \"2 s\"", "", "`keep_alive` is missing");
        check("keep_alive = \"2 s\"", "keep_alive = \"2.1 s\"", "at most 2 s");
        check("current_step = \"0.5 mA\"", "current_step = \"2.5 mA\"", "unfit for stimulation");
        check("lost = \"1 s\"", "lost = \"3 s\"", "at most 1 s");
        check("acknowledge_within = \"300 ms\"", "acknowledge_within = \"301 ms\"", "at most 0.3 s");
        check("period_step = \"500 us\"", "period_step = \"0 us\"", "has a zero");
        check("width_max = \"4095 us\"", "width_max = \"5 us\"", "below `width_min`");
        check("declaration =", "#", "`declaration` is missing");
        check("dialect = \"v4\"", "dialect = \"v5\"", "one of `v3`, `v4`");
    }
}
