//! Record to note and page. One report model, one file per format.

pub mod note;
pub mod percussion;
