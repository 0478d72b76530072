//! Body areas and electrode paths: `config/clinical/body-areas.toml`.
//!
//! The electrode path is decided by an allow-list over three facts of each electrode: region, face and side. What no row
//! allows is refused; nothing crosses the chest, the head or the front of the neck, nothing joins two limbs (H-03).

use std::collections::BTreeMap;

use crate::config::problem::{Problem, Source};
use crate::config::reader::{At, Reader, Table, duration, one_of, quantity, some_of, text, texts, whole};
use crate::config::{self, MODALITIES, SIDES};
use crate::governor::limits::ceiling;
use crate::model::area::{AreaCode, Face, Permission, Region, Side, Tissue};
use crate::model::limit::Limits;
use crate::model::plan::Electrode;
use crate::model::protocol::Modality;
use crate::units::Hertz;

/// The clinical knowledge that plans are judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyAreas {
    areas: BTreeMap<AreaCode, Area>,
    pairs: Vec<PairRow>,
    cross: Vec<PairRow>,
    speeds: BTreeMap<Tissue, Hertz>,
    low: LowCap,
}

/// One body area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// Code.
    pub code: AreaCode,
    /// Name on screens and in the note.
    pub display: String,
    /// SNOMED CT code, when one is known.
    pub snomed: Option<String>,
    /// How well the code fits.
    pub snomed_status: SnomedStatus,
    /// Sides it has.
    pub laterality: Vec<Side>,
    /// Region an electrode on it lies in.
    pub region: Region,
    /// Face of the region.
    pub face: Face,
    /// Tissue class.
    pub tissue: Tissue,
    /// Hands-on work.
    pub massage: Permission,
    /// Why the defaults are what they are.
    pub why: String,
    percussion: Permission,
    tens: Permission,
    nmes: Permission,
}

/// How well a SNOMED CT code fits an area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnomedStatus {
    /// It means this area.
    Verified,
    /// It means more: export it only with the display text.
    Broader,
    /// There is none: export the display text only.
    Unmapped,
}

/// What the low cap is; it applies to `caution` areas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LowCap {
    /// Percussion.
    pub percussion: Limits,
    /// TENS.
    pub tens: LowShare,
    /// NMES.
    pub nmes: LowShare,
}

/// Low cap of neurostimulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LowShare {
    /// Percent of the protocol's current limit, else of the ceiling.
    pub percent_current: u32,
    /// Percent of the protocol's phase-charge limit, else of the ceiling.
    pub percent_phase_charge: u32,
    /// Longest step.
    pub duration: std::time::Duration,
}

/// Which pairs of places one row allows, in either order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PairRow {
    code: String,
    /// Empty: every modality.
    modalities: Vec<Modality>,
    a: Spot,
    b: Spot,
    same_side: bool,
}

/// Regions and faces an electrode may lie on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Spot {
    regions: Vec<Region>,
    faces: Vec<Face>,
}

impl Area {
    /// Returns what a modality may do here when nothing is on file against it.
    pub const fn permission(&self, modality: Modality) -> Permission {
        match modality {
            Modality::Percussion => self.percussion,
            Modality::Tens => self.tens,
            Modality::Nmes => self.nmes,
        }
    }
}

impl BodyAreas {
    /// Returns an area.
    pub fn get(&self, code: &AreaCode) -> Option<&Area> {
        self.areas.get(code)
    }

    /// Returns every area, by code.
    pub fn iter(&self) -> impl Iterator<Item = &Area> {
        self.areas.values()
    }

    /// Returns the fastest percussion on a tissue; 0 Hz is none.
    pub fn speed(&self, tissue: Tissue) -> Hertz {
        self.speeds.get(&tissue).copied().unwrap_or_default()
    }

    /// Returns the low cap.
    pub const fn low_cap(&self) -> &LowCap {
        &self.low
    }

    /// Returns the row that allows the two electrodes of one channel; `None`: refused.
    pub fn pair(&self, modality: Modality, one: &Electrode, other: &Electrode) -> Option<&str> {
        self.matching(&self.pairs, Some(modality), one, other)
    }

    /// Returns the row that allows one electrode each of two channels that give output at once; `None`: run them one
    /// after the other.
    pub fn cross(&self, one: &Electrode, other: &Electrode) -> Option<&str> {
        self.matching(&self.pairs, None, one, other).or_else(|| self.matching(&self.cross, None, one, other))
    }

    fn matching<'s>(
        &'s self,
        rows: &'s [PairRow],
        modality: Option<Modality>,
        one: &Electrode,
        other: &Electrode,
    ) -> Option<&'s str> {
        let (here, there) = (self.get(&one.area)?, self.get(&other.area)?);
        let sides_same =
            matches!((one.side, other.side), (Side::Left, Side::Left) | (Side::Right, Side::Right));
        let placed = |side: Side| !matches!(side, Side::Bilateral);
        if !placed(one.side) || !placed(other.side) {
            return None;
        }
        let allows = |row: &&PairRow| {
            let for_it = modality.is_none_or(|modality| row.modalities.contains(&modality));
            let in_order = row.a.covers(here) && row.b.covers(there);
            let swapped = row.a.covers(there) && row.b.covers(here);
            for_it && (in_order || swapped) && (sides_same || !row.same_side)
        };
        rows.iter().find(allows).map(|row| row.code.as_str())
    }
}

impl Spot {
    fn covers(&self, area: &Area) -> bool {
        self.regions.contains(&area.region) && self.faces.contains(&area.face)
    }
}

const REGIONS: &[(&str, Region)] = &[
    ("head", Region::Head),
    ("neck", Region::Neck),
    ("shoulder", Region::Shoulder),
    ("thorax", Region::Thorax),
    ("abdomen", Region::Abdomen),
    ("pelvis", Region::Pelvis),
    ("arm", Region::Arm),
    ("leg", Region::Leg),
];
const FACES: &[(&str, Face)] = &[
    ("front", Face::Front),
    ("back", Face::Back),
    ("side", Face::Side),
    ("limb", Face::Limb),
    ("head", Face::Head),
];
const TISSUES: &[(&str, Tissue)] = &[
    ("muscle_large", Tissue::MuscleLarge),
    ("muscle_medium", Tissue::MuscleMedium),
    ("muscle_thin", Tissue::MuscleThin),
    ("tendon", Tissue::Tendon),
    ("joint", Tissue::Joint),
    ("bone_superficial", Tissue::BoneSuperficial),
    ("vascular_nerve_dense", Tissue::VascularNerveDense),
    ("over_viscera", Tissue::OverViscera),
    ("sensitive_organ", Tissue::SensitiveOrgan),
];
const PERMISSIONS: &[(&str, Permission)] =
    &[("allow", Permission::Allow), ("caution", Permission::Caution), ("deny", Permission::Deny)];
const STATUSES: &[(&str, SnomedStatus)] = &[
    ("verified", SnomedStatus::Verified),
    ("broader", SnomedStatus::Broader),
    ("unmapped", SnomedStatus::Unmapped),
];
/// Whether a row asks for one side.
const PAIR_SIDES: &[(&str, bool)] = &[("same", true), ("any", false)];

/// Returns the word of a tissue used in files and messages.
pub(crate) fn tissue_word(tissue: Tissue) -> &'static str {
    TISSUES.iter().find(|(_, known)| *known == tissue).map_or("", |(word, _)| *word)
}

/// Reads the body areas. Returns `None` exactly when problems were added.
pub fn load(source: &Source, problems: &mut Vec<Problem>) -> Option<BodyAreas> {
    Reader::read(source, problems, judge)
}

fn judge(root: &Table<'_>) -> Option<BodyAreas> {
    config::head(root);
    root.required("version", text);
    root.required("sources", texts);
    let speeds = root.table("tissue_speed", "[tissue_speed]").and_then(|table| judge_speeds(&table));
    let low = root.table("low_cap", "[low_cap]").and_then(|table| judge_low(&table));
    let pairs: Vec<_> =
        root.tables("electrode_pair", "electrode pair").iter().map(|row| judge_pair(row, true)).collect();
    let cross: Vec<_> =
        root.tables("cross_channel", "cross-channel pair").iter().map(|row| judge_pair(row, false)).collect();
    let tables = root.tables("area", "area");
    root.close();
    if tables.is_empty() {
        root.missing_tables("area");
    }
    let speeds = speeds?;
    let mut areas = BTreeMap::new();
    for table in &tables {
        let Some((area, at)) = judge_area(table, &speeds) else {
            continue;
        };
        if areas.contains_key(&area.code) {
            table.push(Some(at), format!("area `{}` is there twice", area.code.as_str()), "", None);
        }
        areas.insert(area.code.clone(), area);
    }
    Some(BodyAreas {
        areas,
        pairs: pairs.into_iter().collect::<Option<_>>()?,
        cross: cross.into_iter().collect::<Option<_>>()?,
        speeds,
        low: low?,
    })
}

fn judge_speeds(table: &Table<'_>) -> Option<BTreeMap<Tissue, Hertz>> {
    let most = ceiling(Modality::Percussion).stroke_rate.unwrap_or_default();
    let mut speeds = BTreeMap::new();
    for (word, tissue) in TISSUES {
        let Some(speed) = table.required(word, quantity::<Hertz>) else {
            continue;
        };
        if speed.value > most {
            let help = Some("tighten the limit; a file cannot raise a ceiling".to_owned());
            let message = format!("speed of {word} is above the ceiling");
            table.push(Some(speed.span), message, format!("the ceiling is {most}"), help);
        }
        speeds.insert(*tissue, speed.value);
    }
    table.close();
    (speeds.len() == TISSUES.len()).then_some(speeds)
}

fn judge_low(table: &Table<'_>) -> Option<LowCap> {
    let percussion = table.table("percussion", "[low_cap.percussion]").and_then(|table| {
        let limits = Limits {
            stroke_rate: table.required("stroke_rate", quantity::<Hertz>).map(|it| it.value),
            area_time: table.required("area_time", duration).map(|it| it.value),
            session_time: table.required("session_time", duration).map(|it| it.value),
            ..Limits::default()
        };
        table.close();
        (limits.stroke_rate.is_some() && limits.area_time.is_some()).then_some(limits)
    });
    let share = |key, name| {
        let table = table.table(key, name)?;
        let percent_current = table.required("percent_current", whole(1, 100));
        let percent_phase_charge = table.required("percent_phase_charge", whole(1, 100));
        let duration = table.required("duration", duration);
        table.close();
        Some(LowShare {
            percent_current: percent_current?.value,
            percent_phase_charge: percent_phase_charge?.value,
            duration: duration?.value,
        })
    };
    let (tens, nmes) = (share("tens", "[low_cap.tens]"), share("nmes", "[low_cap.nmes]"));
    table.close();
    Some(LowCap { percussion: percussion?, tens: tens?, nmes: nmes? })
}

fn judge_pair(row: &Table<'_>, with_modality: bool) -> Option<PairRow> {
    let code = row.required("code", text);
    let modalities = if with_modality {
        row.required("modality", some_of(MODALITIES)).map(|it| it.value)
    } else {
        Some(Vec::new())
    };
    let spot = |key: &'static str| {
        let table = row.table(key, format!("`{key}` of {}", row.name()))?;
        let regions = table.required("region", some_of(REGIONS));
        let faces = table.required("face", some_of(FACES));
        table.close();
        Some(Spot { regions: regions?.value, faces: faces?.value })
    };
    let (a, b) = (spot("a"), spot("b"));
    let same_side = row.required("side", one_of(PAIR_SIDES));
    row.required("note", text);
    row.close();
    Some(PairRow { code: code?.value, modalities: modalities?, a: a?, b: b?, same_side: same_side?.value })
}

fn judge_area(table: &Table<'_>, speeds: &BTreeMap<Tissue, Hertz>) -> Option<(Area, std::ops::Range<usize>)> {
    let code = table.required("code", text);
    let display = table.required("display", text);
    let snomed = table.optional("snomed", text);
    let status = table.required("snomed_status", one_of(STATUSES));
    let laterality = table.required("laterality", some_of(SIDES));
    let region = table.required("region", one_of(REGIONS));
    let face = table.required("face", one_of(FACES));
    let tissue = table.required("tissue", one_of(TISSUES));
    let default = table.table("default", format!("`default` of {}", table.name())).and_then(|table| {
        let get = |key| table.required(key, one_of(PERMISSIONS));
        let (percussion, tens, nmes, massage) = (get("percussion"), get("tens"), get("nmes"), get("massage"));
        table.close();
        Some((percussion?, tens?.value, nmes?.value, massage?.value))
    });
    let why = table.required("why", text);
    table.close();
    let (code, tissue, status) = (code?, tissue?, status?);
    let (percussion, tens, nmes, massage) = default?;
    judge_code(table, snomed.as_ref(), &status);
    let silent = speeds.get(&tissue.value).is_none_or(|speed| *speed == Hertz::default());
    if silent && percussion.value != Permission::Deny {
        let message =
            format!("percussion is not denied on {}, which has no speed", tissue_word(tissue.value));
        table.push(Some(percussion.span), message, "`deny` is due", None);
    }
    let area = Area {
        code: AreaCode::new(code.value),
        display: display?.value,
        snomed: snomed.map(|snomed| snomed.value),
        snomed_status: status.value,
        laterality: laterality?.value,
        region: region?.value,
        face: face?.value,
        tissue: tissue.value,
        massage,
        why: why?.value,
        percussion: percussion.value,
        tens,
        nmes,
    };
    Some((area, code.span))
}

/// A code that was never verified must not be there, and one that was must be.
fn judge_code(table: &Table<'_>, snomed: Option<&At<String>>, status: &At<SnomedStatus>) {
    let mapped = !matches!(status.value, SnomedStatus::Unmapped);
    if mapped != snomed.is_some() {
        let message = format!("`snomed` and `snomed_status` of {} disagree", table.name());
        let label = "`unmapped` has no code, the others have one";
        table.push(Some(status.span.clone()), message, label, None);
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;
    use crate::config::problem::render;
    use crate::units::SquareCentimetres;

    const AREAS: &str = include_str!("../../config/clinical/body-areas.toml");

    fn load_text(text: &str) -> (Option<BodyAreas>, String) {
        let source = Source { path: PathBuf::from("a.toml"), text: Arc::from(text) };
        let mut problems = Vec::new();
        let areas = load(&source, &mut problems);
        (areas, render(&problems))
    }

    fn at(area: &str, side: Side) -> Electrode {
        let contact = SquareCentimetres::from_square_millimetres(2_500);
        Electrode { contact, area: AreaCode::new(area), side }
    }

    #[test]
    fn counts_agree_with_the_reference() {
        let (areas, text) = load_text(AREAS);
        let areas = areas.expect(&text);
        assert_eq!((areas.areas.len(), areas.pairs.len(), areas.cross.len()), (61, 15, 3));
        let denied = areas.iter().filter(|area| area.percussion == Permission::Deny).count();
        assert_eq!(denied, 36, "percussion is denied on 36 of 61 areas");
        let of = |status| areas.iter().filter(|area| area.snomed_status == status).count();
        let counts = [SnomedStatus::Verified, SnomedStatus::Broader, SnomedStatus::Unmapped].map(of);
        assert_eq!(counts, [36, 18, 7]);
    }

    /// SR-17: the path is an allow-list; H-03: nothing crosses the chest, the head or joins two limbs.
    #[test]
    fn sr_17_pairs_outside_the_allow_list_are_refused() {
        let areas = load_text(AREAS).0.unwrap();
        let pair = |a: Electrode, b: Electrode| areas.pair(Modality::Tens, &a, &b).map(str::to_owned);
        let (left, right, midline) = (Side::Left, Side::Right, Side::Midline);
        assert_eq!(pair(at("calf", right), at("calf", right)).as_deref(), Some("within_leg"));
        assert_eq!(pair(at("hamstrings", left), at("gluteus", left)).as_deref(), Some("pelvis_back_leg"));
        assert_eq!(
            pair(at("lumbar_paraspinal", left), at("lumbar_paraspinal", right)).as_deref(),
            Some("within_abdomen_back")
        );
        assert_eq!(
            pair(at("lumbar_paraspinal", left), at("sacrum", midline)).as_deref(),
            Some("abdomen_back_pelvis_back")
        );
        for (a, b) in [
            (at("calf", left), at("calf", right)),
            (at("forearm_flexors", left), at("forearm_flexors", right)),
            (at("deltoid", left), at("thoracic_paraspinal", left)),
            (at("pectoralis_major", left), at("thoracic_paraspinal", left)),
            (at("thoracic_paraspinal", left), at("thoracic_paraspinal", right)),
            (at("forearm_flexors", left), at("calf", left)),
            (at("gluteus", left), at("hamstrings", right)),
            (at("calf", Side::Bilateral), at("calf", Side::Bilateral)),
            (at("nowhere", left), at("calf", left)),
        ] {
            assert_eq!(pair(a.clone(), b.clone()), None, "{a:?} {b:?}");
            assert_eq!(pair(b, a), None, "and in the other order");
        }
    }

    /// SR-19: two channels are four electrodes.
    #[test]
    fn sr_19_two_channels_are_judged_across() {
        let areas = load_text(AREAS).0.unwrap();
        let (left, right) = (Side::Left, Side::Right);
        assert!(areas.cross(&at("quadriceps", left), &at("quadriceps", right)).is_some());
        assert!(areas.cross(&at("lumbar_paraspinal", left), &at("lumbar_paraspinal", right)).is_some());
        assert!(areas.cross(&at("forearm_flexors", left), &at("forearm_flexors", right)).is_none());
        assert!(areas.cross(&at("forearm_flexors", left), &at("calf", left)).is_none());
        assert!(areas.cross(&at("chest_anterior", left), &at("deltoid", left)).is_none());
    }

    #[test]
    fn a_damaged_file_is_refused_by_name() {
        let check = |from: &str, to: &str, expected: &str| {
            assert!(AREAS.contains(from), "{from}");
            let (areas, text) = load_text(&AREAS.replacen(from, to, 1));
            assert!(areas.is_none() && text.contains(expected), "{text}");
        };
        check("region = \"head\"\n", "", "`region` is missing in area 1");
        check("code = \"scalp\"", "code = \"head\"", "area `head` is there twice");
        check("muscle_large = \"40 Hz\"", "muscle_large = \"41 Hz\"", "the ceiling is 40 Hz");
        check("percussion = \"deny\"", "percussion = \"allow\"", "`deny` is due");
        check("snomed = \"69536005\"\n", "", "disagree");
        check("face = \"head\"", "face = \"hed\"", "did you mean `head`?");
    }
}
