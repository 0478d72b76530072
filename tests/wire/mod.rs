//! Wire formats by vectors.

mod percussion;
mod sciencemode;

use std::collections::BTreeMap;

/// What was checked, by family and kind.
#[derive(Default)]
pub struct Counts {
    pub by_kind: BTreeMap<(String, String), usize>,
    pub not_understood: Vec<String>,
}

impl Counts {
    pub fn add(&mut self, family: &str, kind: &str) {
        *self.by_kind.entry((family.to_owned(), kind.to_owned())).or_default() += 1;
    }
}

#[test]
fn percussion_vectors() {
    let text = include_str!("../data/vectors/percussion.json");
    let mut counts = Counts::default();
    percussion::run(&serde_json::from_str(text).unwrap(), &mut counts);
    for ((family, kind), count) in &counts.by_kind {
        println!("{family:20} {kind:24} {count}");
    }
    assert!(counts.not_understood.is_empty(), "{:#?}", counts.not_understood);
    assert_eq!(counts.by_kind.values().sum::<usize>(), 137);
}
