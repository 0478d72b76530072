//! Wire formats by vectors.

mod percussion;
mod sciencemode;
