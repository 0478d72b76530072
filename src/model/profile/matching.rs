//! From an advertisement to candidates and a decision. Names select candidates, never a device (percussion-ble 6.5).
//!
//! Reports about one device arrive in pieces and in any order: gather them and judge again on every change. Every
//! rule group that the advertisement says something about must agree, and a refusal beats every candidate.

use std::collections::BTreeMap;

use super::Profile;

/// What is known of one device from its advertisements so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advertisement {
    /// Local name, as received.
    pub name: Option<String>,
    /// Advertised services. A service of the shared kind identifies nothing; only refusals look at them.
    pub services: Vec<u128>,
    /// Manufacturer data by company, without the company number.
    pub manufacturer: BTreeMap<u16, Vec<u8>>,
}

/// How a device is recognised by name and manufacturer data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// Whole names, lower case.
    pub names: Vec<String>,
    /// Beginnings of names, lower case.
    pub prefixes: Vec<String>,
    /// Manufacturer data at fixed offsets.
    pub manufacturer: Vec<ManufacturerRule>,
}

/// A byte of manufacturer data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManufacturerRule {
    /// Company number.
    pub company: u16,
    /// Index after the company number.
    pub at: usize,
    /// Values meant.
    pub values: ByteSet,
}

/// Which values of a byte are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ByteSet {
    /// Every value, even none.
    Any,
    /// These.
    In(Vec<u8>),
    /// A byte that is none of these.
    NotIn(Vec<u8>),
}

/// How well a profile fits, better last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Specificity {
    /// By a whole name.
    Name,
    /// By the beginning of a name.
    Prefix,
    /// By manufacturer data.
    Manufacturer,
}

/// Devices recognised so that they can be refused with a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it is.
    pub title: String,
    /// Why it is refused, in words.
    pub why: String,
    /// Firmware-update mode, or never supported.
    pub kind: RefusalKind,
    /// Names and manufacturer data; any one is enough.
    pub traits: Traits,
    /// Parts of names, lower case.
    pub contains: Vec<String>,
    /// Advertised services.
    pub services: Vec<u128>,
}

/// Kind of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The device waits for firmware: never connect.
    Bootloader,
    /// Not driven by this program.
    Unsupported,
}

/// All profiles and refusals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// Profiles, ids unique.
    pub profiles: Vec<Profile>,
    /// Devices to refuse.
    pub refusals: Vec<Refusal>,
}

/// Who a device may be and what to do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement<'a> {
    /// Best-fitting profiles; more than one only when they fit equally well.
    pub candidates: Vec<&'a Profile>,
    /// What to do.
    pub decision: Decision<'a>,
}

/// What to do with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// Nothing is known of it.
    Ignore,
    /// Show it; a person must identify it before anything is written.
    AskOperator,
    /// It is a bound unit of this profile.
    Connect,
    /// It is known, and not driven.
    Refuse(&'a Refusal),
    /// Two profiles fit equally well.
    RefuseAmbiguous,
}

impl Decision<'_> {
    /// Returns the word used in lists.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::AskOperator => "ask_operator",
            Self::Connect => "connect",
            Self::Refuse(Refusal { kind: RefusalKind::Bootloader, .. }) => "refuse_bootloader",
            Self::Refuse(Refusal { kind: RefusalKind::Unsupported, .. }) => "refuse_unsupported",
            Self::RefuseAmbiguous => "refuse_ambiguous",
        }
    }
}

/// Returns a name as it is compared: NUL, spaces and non-printables trimmed, lower case.
pub fn normal_name(name: &str) -> String {
    name.trim_matches(|c: char| c.is_control() || c.is_whitespace()).to_lowercase()
}

impl Traits {
    /// Returns how well the advertisement fits: `None` when a group disagrees or none says anything.
    pub fn fit(&self, advertisement: &Advertisement) -> Option<Specificity> {
        let by_name = self.name_fit(advertisement);
        let by_manufacturer = self.manufacturer_fit(advertisement);
        if by_name == Some(None) || by_manufacturer == Some(false) {
            return None;
        }
        match by_manufacturer {
            Some(true) => Some(Specificity::Manufacturer),
            Some(false) | None => by_name.flatten(),
        }
    }

    /// `None`: the group is empty or there is no name; `Some(None)`: the name disagrees.
    fn name_fit(&self, advertisement: &Advertisement) -> Option<Option<Specificity>> {
        if self.names.is_empty() && self.prefixes.is_empty() {
            return None;
        }
        let name = normal_name(advertisement.name.as_deref()?);
        if name.is_empty() {
            return None;
        }
        if self.names.contains(&name) {
            return Some(Some(Specificity::Name));
        }
        let begins = self.prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()));
        Some(begins.then_some(Specificity::Prefix))
    }

    /// `None`: the group is empty or none of its companies is advertised.
    fn manufacturer_fit(&self, advertisement: &Advertisement) -> Option<bool> {
        let mut said = self
            .manufacturer
            .iter()
            .filter_map(|rule| {
                let data = advertisement.manufacturer.get(&rule.company)?;
                Some(rule.values.has(data.get(rule.at).copied()))
            })
            .peekable();
        said.peek()?;
        Some(said.any(|fits| fits))
    }
}

impl ByteSet {
    fn has(&self, byte: Option<u8>) -> bool {
        match self {
            Self::Any => true,
            Self::In(values) => byte.is_some_and(|byte| values.contains(&byte)),
            Self::NotIn(values) => byte.is_some_and(|byte| !values.contains(&byte)),
        }
    }
}

impl Refusal {
    /// Returns whether the advertisement is of such a device: any one sign is enough.
    pub fn fits(&self, advertisement: &Advertisement) -> bool {
        let name = advertisement.name.as_deref().map(normal_name).unwrap_or_default();
        !matches!(self.traits.name_fit(advertisement), None | Some(None))
            || self.traits.manufacturer_fit(advertisement) == Some(true)
            || self.contains.iter().any(|part| name.contains(part.as_str()))
            || self.services.iter().any(|service| advertisement.services.contains(service))
    }
}

impl Catalogue {
    /// Returns the model that the manufacturer data names, driven or refused; `None` when the number is unknown.
    pub fn model_name(&self, advertisement: &Advertisement) -> Option<&str> {
        let named = |traits: &Traits| {
            traits.manufacturer.iter().any(|rule| {
                let data = advertisement.manufacturer.get(&rule.company);
                matches!(rule.values, ByteSet::In(_))
                    && data.is_some_and(|data| rule.values.has(data.get(rule.at).copied()))
            })
        };
        let variants = self.profiles.iter().flat_map(|profile| &profile.variants);
        let driven = variants.map(|variant| (&variant.traits, variant.title.as_str()));
        let refused = self.refusals.iter().map(|refusal| (&refusal.traits, refusal.title.as_str()));
        driven.chain(refused).find(|(traits, _)| named(traits)).map(|(_, title)| title)
    }

    /// Judges one device. `bound`: the profile id of its binding, when it has one.
    pub fn judge(&self, advertisement: &Advertisement, bound: Option<&str>) -> Judgement<'_> {
        if let Some(refusal) = self.refusals.iter().find(|refusal| refusal.fits(advertisement)) {
            return Judgement { candidates: Vec::new(), decision: Decision::Refuse(refusal) };
        }
        let fits: Vec<(&Profile, Specificity)> = self
            .profiles
            .iter()
            .filter_map(|profile| Some((profile, profile.matching.fit(advertisement)?)))
            .collect();
        let best = fits.iter().map(|(_, fit)| *fit).max();
        let candidates: Vec<&Profile> =
            fits.iter().filter(|(_, fit)| Some(*fit) == best).map(|(profile, _)| *profile).collect();
        let decision = match candidates.as_slice() {
            [] => Decision::Ignore,
            [profile] if bound == Some(profile.id.as_str()) && !profile.matching.always_ask => {
                Decision::Connect
            }
            [_] => Decision::AskOperator,
            [_, _, ..] => Decision::RefuseAmbiguous,
        };
        Judgement { candidates, decision }
    }
}
