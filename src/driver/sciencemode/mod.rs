//! ScienceMode 3 and 4: HASOMED RehaMove3 and P24. One codec, one driver, two dialects.
//!
//! | file | what |
//! | --- | --- |
//! | `codec` | every message, both directions |
//! | `epoch` | what one epoch believes, and what an update may carry (neurostim-serial 3.9) |
//! | `driver` | requests, answers, time-outs, stops |
//!
//! # Sources
//! neurostim-serial 2, 3 and 7, after the manufacturer's documents and library. Frames: Documented. What follows an
//! update that was not acknowledged, and what a unit says after an error, is inferred; neither raises output.

pub mod codec;
mod driver;
mod epoch;

pub use codec::Dialect;
pub use driver::ScienceMode;

#[cfg(test)]
mod tests;
