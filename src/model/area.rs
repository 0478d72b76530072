//! Body areas: codes, sides, tissue, and what each modality may do there by default.
//!
//! The entries themselves are data (`config/clinical/body-areas.toml`); this is their shape.

use std::fmt;

/// Code of a body area, for example `calf`; snake case, from the area table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AreaCode(String);

impl AreaCode {
    /// Wraps a code that the area table knows.
    pub fn new(code: impl Into<String>) -> Self {
        Self(code.into())
    }

    /// Returns the code.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AreaCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.replace('_', " "))
    }
}

/// Side of the body. The midline counts as both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The client's left.
    Left,
    /// The client's right.
    Right,
    /// On the midline.
    Midline,
    /// Both sides worked as one area (percussion and hands-on work only).
    Bilateral,
}

impl Side {
    /// Returns the word used in files, records and on screens.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
            Self::Midline => "midline",
            Self::Bilateral => "bilateral",
        }
    }
}

/// An area with its side: where a dose is booked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The area.
    pub area: AreaCode,
    /// Its side.
    pub side: Side,
}

impl Side {
    /// Returns the sides of the body that are meant: the midline and both together count on each.
    pub const fn halves(self) -> &'static [Self] {
        match self {
            Self::Left => &[Self::Left],
            Self::Right => &[Self::Right],
            Self::Midline | Self::Bilateral => &[Self::Left, Self::Right],
        }
    }
}

impl Place {
    /// Returns whether both lie on one area of one half of the body.
    pub fn overlaps(&self, other: &Self) -> bool {
        let shares = |half: &Side| other.side.halves().contains(half);
        self.area == other.area && self.side.halves().iter().any(shares)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.area, self.side.word())
    }
}

/// Tissue class of an area; it caps percussion speed (protocols-evidence, `tissue_speed_cap_hz`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tissue {
    /// 40 Hz.
    MuscleLarge,
    /// 35 Hz.
    MuscleMedium,
    /// 25 Hz.
    MuscleThin,
    /// 20 Hz.
    Tendon,
    /// No percussion.
    Joint,
    /// No percussion.
    BoneSuperficial,
    /// No percussion.
    VascularNerveDense,
    /// No percussion.
    OverViscera,
    /// No percussion.
    SensitiveOrgan,
}

/// Region of the body an electrode lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Region {
    /// Head.
    Head,
    /// Neck.
    Neck,
    /// Shoulder.
    Shoulder,
    /// Thorax.
    Thorax,
    /// Abdomen.
    Abdomen,
    /// Pelvis.
    Pelvis,
    /// Arm.
    Arm,
    /// Leg.
    Leg,
}

/// Face of the region an electrode lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Face {
    /// Front.
    Front,
    /// Back.
    Back,
    /// Side.
    Side,
    /// A limb, which has no front or back of its own here.
    Limb,
    /// The head.
    Head,
}

/// What a modality may do on an area when nothing is on file against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permission {
    /// Within the protocol's limits.
    Allow,
    /// Under the low cap, placement confirmed.
    Caution,
    /// Never.
    Deny,
}
