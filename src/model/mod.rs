//! The vocabulary: what the rest of the crate talks about. Plain data, no I/O, no serde, no decisions.
//!
//! | file | words |
//! | --- | --- |
//! | `area` | body area, side, tissue, region, face, permission |
//! | `limit` | the nine limit owners and what each may bound |
//! | `protocol` | modality and treatment protocol (what is usual, what may be done) |
//! | `plan` | what was prescribed: client code and steps |
//! | `session` | stop reasons, discomfort scores, people, identifiers |
//! | `capability` | what a unit can do, as data |
//! | `command` | intensity, setpoint, epoch, generation, command |
//! | `report` | what a driver knows of its unit |
//! | `packet` | bytes with an endpoint and an expiry; stop scripts |
//! | `dose` | one interval of delivered output with its evidence and bounds |
//! | `uncertain` | narrowing the bounds of an interval that nobody saw the end of |
//! | `budget` | what one client already got today, as plain data |

pub mod area;
pub mod budget;
pub mod capability;
pub mod command;
pub mod dose;
pub mod limit;
pub mod packet;
pub mod plan;
pub mod profile;
pub mod protocol;
pub mod report;
pub mod session;
pub mod uncertain;
