//! A dose from elsewhere today, as it is declared at the command line: `percussion:calf:right:60 s`.

use std::str::FromStr;

use crate::config::{MODALITIES, SIDES};
use crate::model::area::{AreaCode, Place};
use crate::model::budget::Declared;
use crate::units::{parse_duration, show_duration};

/// A declared dose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Elsewhere(pub(crate) Declared);

impl FromStr for Elsewhere {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("{what}; write for example \"percussion:calf:right:60 s\"");
        let parts: Vec<&str> = text.split(':').map(str::trim).collect();
        let [modality, area, side, time] = parts.as_slice() else {
            return Err(wrong("four parts are due: modality, area, side, time"));
        };
        let find = MODALITIES.iter().find(|(word, _)| word == modality);
        let modality = find.map(|(_, it)| *it).ok_or_else(|| wrong("the first part is no modality"))?;
        let side = SIDES.iter().find(|(word, _)| word == side);
        let side = side.map(|(_, it)| *it).ok_or_else(|| wrong("the third part is no side"))?;
        let time = parse_duration(time).map_err(|error| wrong(&error.to_string()))?;
        if area.is_empty() || time.is_zero() {
            return Err(wrong("the area or the time is missing"));
        }
        Ok(Self(Declared { modality, place: Place { area: AreaCode::new(*area), side }, time }))
    }
}

impl Elsewhere {
    /// Returns the text that is read back to the same.
    pub(crate) fn text(&self) -> String {
        let Declared { modality, place, time } = &self.0;
        let (area, side) = (place.area.as_str(), place.side.word());
        format!("{}:{area}:{side}:{}", modality.word(), show_duration(*time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_declared_is_read_and_printed_the_same_and_nothing_else_is_taken() {
        for text in ["percussion:calf:right:60 s", "tens:forearm_extensors:left:1200 s"] {
            assert_eq!(text.parse::<Elsewhere>().unwrap().text(), text);
        }
        assert_eq!("tens:calf:left:20 min".parse::<Elsewhere>().unwrap().text(), "tens:calf:left:1200 s");
        for text in [
            "",
            "percussion:calf:right",
            "gun:calf:right:60 s",
            "tens:calf:top:60 s",
            "tens:calf:left:60",
            "tens:calf:left:0 s",
            "tens::left:60 s",
            "tens:calf:left:60 s:x",
        ] {
            assert!(text.parse::<Elsewhere>().is_err(), "{text}");
        }
    }
}
