//! A serial port: exclusive, raw, with a deadline of our own on every write.
//!
//! Invariants:
//! - an end of file or an I/O error on reading means that the unit is gone, and the port is closed at once: a held
//!   descriptor would give the re-plugged unit another number;
//! - a write that passed its deadline may have sent a part: what is left is discarded and the port opened anew, so
//!   that no later byte can complete an old frame from our own queue;
//! - modem lines are optional, and a port that has none (a pseudo-terminal) is no error.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_serial::{ClearBuffer, ErrorKind, SerialPort, SerialPortBuilderExt, SerialStream};
pub use tokio_serial::{FlowControl, Parity, StopBits};

use super::{LinkError, Sent, Transport};
use crate::model::packet::{Endpoint, Packet, Received};

/// Longest time for one write (design 4: 250 ms is also the longest life of a packet that may give output).
pub const WRITE_WITHIN: Duration = Duration::from_millis(250);
/// Bytes read at once.
const CHUNK: usize = 1024;

/// How the line is set. Eight data bits always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bits per second; a pseudo-terminal takes any.
    pub baud: u32,
    /// Stop bits.
    pub stop_bits: StopBits,
    /// Parity.
    pub parity: Parity,
    /// Flow control.
    pub flow: FlowControl,
    /// Levels of DTR and RTS after opening; `None` leaves them alone.
    pub lines: Option<Lines>,
}

/// Levels of the two modem lines that a host drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines {
    /// Data terminal ready.
    pub dtr: bool,
    /// Request to send.
    pub rts: bool,
}

/// A serial port as a [`Transport`].
#[derive(Debug)]
pub struct Serial {
    path: PathBuf,
    settings: Settings,
    port: Option<SerialStream>,
}

impl Serial {
    /// Names a port; nothing is opened before [`Transport::connect`].
    pub fn new(path: impl Into<PathBuf>, settings: Settings) -> Self {
        Self { path: path.into(), settings, port: None }
    }

    fn open(&self) -> Result<SerialStream, LinkError> {
        let Settings { baud, stop_bits, parity, flow, lines } = self.settings;
        let mut port = tokio_serial::new(self.path.to_string_lossy(), baud)
            .stop_bits(stop_bits)
            .parity(parity)
            .flow_control(flow)
            .open_native_async()
            .map_err(|error| self.not_opened(&error))?;
        if let Some(Lines { dtr, rts }) = lines {
            for (line, set) in
                [("DTR", port.write_data_terminal_ready(dtr)), ("RTS", port.write_request_to_send(rts))]
            {
                if let Err(error) = set {
                    tracing::debug!(path = %self.path.display(), line, %error, "modem line not set");
                }
            }
        }
        port.clear(ClearBuffer::All).map_err(|error| self.not_opened(&error))?;
        Ok(port)
    }

    fn endpoint(&self) -> String {
        self.path.display().to_string()
    }

    fn gone(&self) -> LinkError {
        LinkError::Gone { endpoint: self.endpoint() }
    }

    fn not_opened(&self, error: &tokio_serial::Error) -> LinkError {
        let endpoint = self.endpoint();
        match error.kind {
            ErrorKind::Io(io::ErrorKind::NotFound) => LinkError::Gone { endpoint },
            ErrorKind::NoDevice => {
                let reason = format!("{}; it may be in use by another program", error.description);
                LinkError::Refused { endpoint, reason }
            }
            ErrorKind::Unknown if error.description == "Not a typewriter" => {
                LinkError::Unexpected { endpoint, reason: "this is not a serial port".to_owned() }
            }
            ErrorKind::Io(_) | ErrorKind::InvalidInput | ErrorKind::Unknown => {
                let reason = format!(
                    "{}; this user may need to be in the group `dialout`, and no other program may use it",
                    error.description
                );
                LinkError::Refused { endpoint, reason }
            }
        }
    }

    /// Turns a failed read or write into what it says of the unit, and closes the port.
    fn failed(&mut self, error: io::Error) -> LinkError {
        self.close();
        // 5 is EIO, 6 ENXIO: what a terminal answers after its hang-up.
        match error.raw_os_error() {
            Some(5 | 6) => self.gone(),
            Some(_) | None => LinkError::Port { endpoint: self.endpoint(), source: error },
        }
    }

    fn close(&mut self) {
        if let Some(port) = self.port.take() {
            // Closing waits for the output queue otherwise; a unit that is gone would hold us there.
            port.clear(ClearBuffer::All).ok();
        }
    }
}

impl Transport for Serial {
    async fn connect(&mut self) -> Result<(), LinkError> {
        self.close();
        self.port = Some(self.open()?);
        Ok(())
    }

    async fn send(&mut self, packet: &Packet) -> Result<Sent, LinkError> {
        let endpoint = self.endpoint();
        let Some(port) = &mut self.port else {
            return Err(LinkError::NotConnected { endpoint });
        };
        match timeout(WRITE_WITHIN, port.write_all(packet.bytes())).await {
            Ok(Ok(())) => Ok(Sent::Acknowledged),
            Ok(Err(error)) => Err(self.failed(error)),
            Err(_) => {
                self.close();
                self.port = self.open().ok();
                let within_ms = u64::try_from(WRITE_WITHIN.as_millis()).unwrap_or(u64::MAX);
                Err(LinkError::Timeout { endpoint, within_ms })
            }
        }
    }

    async fn receive(&mut self) -> Result<Received, LinkError> {
        let endpoint = self.endpoint();
        let Some(port) = &mut self.port else {
            return Err(LinkError::NotConnected { endpoint });
        };
        let mut chunk = Vec::with_capacity(CHUNK);
        match port.read_buf(&mut chunk).await {
            Ok(0) => {
                self.close();
                Err(self.gone())
            }
            Ok(_) => Ok(Received { endpoint: Endpoint::Serial, bytes: chunk }),
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn disconnect(&mut self) {
        self.close();
    }
}
