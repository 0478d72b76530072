//! A sealed session as one self-contained file: one line of JSON per entry, the body as the exact text that was hashed.

use std::io::Write;

use crate::model::session::SessionId;
use crate::record::RecordError;
use crate::record::entry::BodyError;
use crate::record::store::Reader;

/// Writes a sealed session; returns its head hash, the anchor for [`crate::record::verify::export`].
///
/// # Errors
/// When there is no such session, it is not sealed, or the file cannot be written.
pub fn session(reader: &Reader, session: &SessionId, to: &mut impl Write) -> Result<String, RecordError> {
    let entries = reader.entries(session)?;
    let Some(seal) = entries.last().filter(|last| last.kind == "seal") else {
        return Err(RecordError::NotSealed { session: session.clone() });
    };
    for entry in &entries {
        let json = |source| RecordError::Unwritable(BodyError::Json { kind: entry.kind.clone(), source });
        let line = serde_json::to_string(entry).map_err(json)?;
        to.write_all(line.as_bytes())?;
        to.write_all(b"\n")?;
    }
    to.flush()?;
    Ok(seal.hash.clone())
}
