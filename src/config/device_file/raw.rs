//! Mirror of a device profile file. Nothing is judged here but the shape.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    pub(super) schema: Spanned<u32>,
    pub(super) id: Spanned<String>,
    pub(super) title: String,
    pub(super) class: Class,
    pub(super) evidence: Evidence,
    pub(super) sources: Spanned<Vec<String>>,
    #[serde(rename = "match")]
    pub(super) matching: Spanned<Match>,
    pub(super) gatt: Gatt,
    pub(super) gate: Option<Gate>,
    #[serde(default)]
    pub(super) checksum: BTreeMap<String, Checksum>,
    pub(super) command: BTreeMap<String, Command>,
    #[serde(default)]
    pub(super) reply: BTreeMap<String, Spanned<Reply>>,
    pub(super) speed: Spanned<Speed>,
    #[serde(default)]
    pub(super) physical: BTreeMap<String, Fact>,
    #[serde(default)]
    pub(super) variant: Vec<Spanned<Variant>>,
    pub(super) safety: Safety,
    pub(super) poll: Option<Poll>,
    #[serde(default)]
    pub(super) example: Vec<Spanned<Example>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Class {
    Gun,
    Roller,
    Vibration,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Evidence {
    Experimental,
    Inferred,
    Documented,
    Verified,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Match {
    #[serde(default)]
    pub(super) names: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) name_prefixes: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) deny_contains: Vec<String>,
    #[serde(default)]
    pub(super) manufacturer: Vec<Spanned<Manufacturer>>,
    pub(super) confirm: Confirm,
    pub(super) proof: Option<Spanned<String>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Confirm {
    Always,
    UnlessBound,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manufacturer {
    pub(super) company: u16,
    #[serde(default)]
    pub(super) at: usize,
    #[serde(rename = "in")]
    pub(super) values: Option<Vec<u8>>,
    pub(super) not_in: Option<Vec<u8>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gatt {
    pub(super) command: Characteristic,
    pub(super) status: Option<Characteristic>,
    pub(super) battery: Battery,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Characteristic {
    pub(super) service: Spanned<String>,
    pub(super) char: Spanned<String>,
    pub(super) needs: Spanned<Vec<Flag>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Flag {
    Read,
    Write,
    WriteWithoutResponse,
    Notify,
    Indicate,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Battery {
    pub(super) kind: BatteryKind,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum BatteryKind {
    Standard,
    Frame,
    None,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gate {
    pub(super) char: Spanned<String>,
    pub(super) read_tail_zero: Spanned<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Checksum {
    pub(super) algo: Spanned<String>,
    pub(super) from: usize,
    /// "end" or an index.
    pub(super) to: Spanned<toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Command {
    pub(super) frame: Spanned<String>,
    pub(super) write: Option<Write>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Write {
    WithResponse,
    WithoutResponse,
    AsAvailable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reply {
    pub(super) on: On,
    #[serde(default)]
    pub(super) when: Vec<When>,
    pub(super) min_len: Spanned<usize>,
    pub(super) checksum: Option<ReplyChecksum>,
    pub(super) length_at: Option<usize>,
    pub(super) fields: BTreeMap<String, Spanned<Field>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum On {
    Status,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct When {
    pub(super) at: usize,
    pub(super) eq: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplyChecksum {
    #[serde(rename = "use")]
    pub(super) name: Spanned<String>,
    pub(super) at: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Field {
    pub(super) at: usize,
    #[serde(rename = "type")]
    pub(super) kind: Spanned<String>,
    pub(super) format: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Speed {
    pub(super) unit: SpeedUnit,
    pub(super) kind: SpeedKind,
    pub(super) floor: Option<u16>,
    pub(super) top: u16,
    pub(super) steps: Option<Spanned<Vec<u16>>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SpeedUnit {
    Raw,
    Level,
    StrokesPerMinute,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SpeedKind {
    Continuous,
    Steps,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fact {
    pub(super) value: u32,
    pub(super) confidence: String,
    #[serde(default)]
    pub(super) source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Variant {
    #[serde(default)]
    pub(super) names: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) name_prefixes: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) manufacturer: Vec<Spanned<Manufacturer>>,
    pub(super) title: String,
    pub(super) firmware_min: Option<Spanned<String>>,
    pub(super) speed: Option<Spanned<VariantSpeed>>,
    #[serde(default)]
    pub(super) physical: BTreeMap<String, Fact>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VariantSpeed {
    pub(super) floor: Option<u16>,
    pub(super) top: Option<u16>,
    pub(super) steps: Option<Spanned<Vec<u16>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Safety {
    pub(super) max: Spanned<u16>,
    pub(super) rise_per_s: Option<Spanned<u16>>,
    pub(super) max_run_s: Spanned<u32>,
    pub(super) stop_tail_ms: Spanned<u32>,
    pub(super) min_gap_ms: Spanned<u32>,
    pub(super) stop: Spanned<Vec<Spanned<String>>>,
    pub(super) stop_repeat: Spanned<u8>,
    pub(super) stop_confirm: Option<StopConfirm>,
    pub(super) stop_cycle_ms: Spanned<u32>,
    pub(super) on_link_loss: LinkLoss,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StopConfirm {
    pub(super) field: Spanned<String>,
    pub(super) eq: u32,
    pub(super) within_ms: Spanned<u32>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LinkLoss {
    Continues,
    Stops,
    PowersOff,
    Unknown,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Poll {
    pub(super) command: Spanned<String>,
    pub(super) idle_ms: Spanned<u32>,
    pub(super) run_ms: Spanned<u32>,
    pub(super) suspect_ms: Spanned<u32>,
    pub(super) lost_ms: Spanned<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Example {
    pub(super) command: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) args: BTreeMap<String, u32>,
    pub(super) reply: Option<Spanned<String>>,
    pub(super) hex: Spanned<String>,
    #[serde(default)]
    pub(super) fields: BTreeMap<String, toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Refused {
    pub(super) schema: Spanned<u32>,
    #[serde(rename = "id")]
    pub(super) _id: String,
    #[serde(rename = "title")]
    pub(super) _title: String,
    #[serde(rename = "sources")]
    pub(super) _sources: Vec<String>,
    pub(super) refuse: Vec<Spanned<Refuse>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Refuse {
    pub(super) title: String,
    pub(super) kind: RefusalKind,
    pub(super) why: String,
    #[serde(default)]
    pub(super) names: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) name_prefixes: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) name_contains: Vec<String>,
    #[serde(default)]
    pub(super) services: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) manufacturer: Vec<Spanned<Manufacturer>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RefusalKind {
    Bootloader,
    Unsupported,
}
