//! ScienceMode 3 and 4: HASOMED RehaMove3 and P24. One codec, one driver, two dialects.

pub mod codec;
pub use codec::Dialect;
