//! Percussion vectors: not understood yet.

use serde_json::Value;

use super::Counts;

/// Runs one file of percussion vectors.
pub fn run(file: &Value, counts: &mut Counts) {
    counts.unbuilt("percussion", super::entries(file), "the profile driver comes with its own tests");
}
