//! Starts a world's simulators, tells where they are, and lets events in.
//!
//! On standard output, one fact per line; the last word is the place, what is between is the unit's label:
//!
//! ```text
//! serial P24 A /tmp/doseward-rig-812-3/p24-a
//! bluetooth Gun 1 C0:00:00:00:00:01
//! bus unix:path=/tmp/doseward-rig-812-3/bus
//! ready
//! ```
//!
//! On standard input, one event per line, answered by `ok` or `error` and a reason; `sim::world` has the words:
//!
//! ```text
//! event P24 A lead-off 1
//! event Gun 1 link-loss objects-removed
//! ```
//!
//! It ends when standard input closes, on SIGTERM or SIGINT, or after the time asked for; the truth file is complete
//! then. There is always a bus of its own, so that a simulated run never reaches the machine's
//! own Bluetooth; where it comes from is `Options::bus`.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::RigError;
use super::bluez::{Bluez, RadioUnit};
use super::devices::{self, Build, Built};
use super::pty::SerialUnit;
use super::truth::Truth;
use crate::clock::Clock;
use crate::sim::link::Unit;
use crate::sim::world::{World, WorldEvent, WorldUnit};

/// Events waiting for one unit; more wait at the source.
const EVENTS: usize = 32;
/// Longest wait for the last truth when stopping.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// How to run a world.
#[derive(Clone)]
pub struct Options {
    /// Where the truth goes.
    pub truth: Option<PathBuf>,
    /// How long to run; `None`: until told otherwise.
    pub duration: Option<Duration>,
    /// Makes the devices.
    pub build: Build,
    /// A private bus that runs already; `None`: one of its own.
    pub bus: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { truth: None, duration: None, build: Arc::new(devices::build), bus: None }
    }
}

/// A running world.
pub struct Rig {
    places: Vec<(String, Place)>,
    bus: String,
    events: BTreeMap<String, Lane>,
    units: JoinSet<()>,
    broker: Option<JoinHandle<()>>,
    directory: Directory,
}

/// Where a unit is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The path of its port.
    Serial(PathBuf),
    /// Its Bluetooth address.
    Bluetooth(String),
}

/// The way of an event to its unit.
enum Lane {
    Serial(mpsc::Sender<WorldEvent>),
    Bluetooth(usize, mpsc::Sender<(usize, WorldEvent)>),
}

/// A directory that only this user can enter; removed with everything in it at the end.
struct Directory {
    path: PathBuf,
}

/// How long simulators run on when their standard input has ended: a daemon that lost its parent stops them first.
const ORPHANED_FOR: Duration = Duration::from_secs(10);

/// Runs a world as a process does, until it is told to end, or 10 s after its standard input has ended.
///
/// # Errors
/// The world could not be started, or standard output is gone.
pub async fn run(world: World, options: Options) -> Result<(), RigError> {
    let said = |source| RigError::Setup { what: "the report of what runs", path: "stdout".into(), source };
    let handler = |source| RigError::Setup { what: "a signal handler", path: "SIGTERM".into(), source };
    let mut terminate = signal(SignalKind::terminate()).map_err(handler)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(handler)?;
    let rig = Rig::start(&world, &options).await?;
    let mut lines = rig.lines();
    lines.push("ready".to_owned());
    say(&lines.join("\n")).map_err(said)?;
    let mut input = read_lines();
    let clock = Clock::start();
    let mut end = options.duration.map(|duration| clock.now().saturating_add(duration));
    let mut orphaned = false;
    loop {
        let ends = async {
            match end {
                Some(end) => tokio::time::sleep_until(clock.at(end)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = ends => break,
            line = input.recv(), if !orphaned => {
                let Some(line) = line else {
                    // Whoever started them is gone; the daemon that drives them may still want to stop them.
                    orphaned = true;
                    let last = clock.now().saturating_add(ORPHANED_FOR);
                    end = Some(end.map_or(last, |end| end.min(last)));
                    continue;
                };
                let answer = match rig.command(&line).await {
                    Ok(()) => "ok".to_owned(),
                    Err(reason) => format!("error {reason}"),
                };
                // Whoever wrote the line may not read the answer; the event has happened all the same.
                say(&answer).ok();
            }
        }
    }
    rig.stop().await;
    Ok(())
}

fn say(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Reads standard input on a thread of its own: a pending read must not hold up the end of the process.
fn read_lines() -> mpsc::Receiver<String> {
    let (lines, receiver) = mpsc::channel(EVENTS);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if lines.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

impl Rig {
    /// Starts everything; when it returns, every place can be used.
    ///
    /// # Errors
    /// A unit cannot be simulated, or the system refused a terminal, a directory or the bus.
    pub async fn start(world: &World, options: &Options) -> Result<Self, RigError> {
        let clock = Clock::start();
        let truth = Truth::create(options.truth.as_deref(), clock.clone())?;
        let directory = Directory::create()?;
        let own = format!("unix:path={}", directory.path.join("bus").display());
        let broker = match &options.bus {
            Some(_) => None,
            None => Some(start_broker(&own).await?),
        };
        let bus = options.bus.clone().unwrap_or(own);
        let (to_radio, from_radio) = mpsc::channel(EVENTS);
        let mut rig = Self {
            places: Vec::new(),
            bus,
            events: BTreeMap::new(),
            units: JoinSet::new(),
            broker,
            directory,
        };
        let mut radios = Vec::new();
        for (index, unit) in world.units.iter().enumerate() {
            let seed = world.unit_seed(index);
            let account = truth.account(&unit.label);
            match (options.build)(unit, seed)? {
                Built::Serial(device) => {
                    let linked = Unit::new(device, unit.link, true, seed);
                    let name = rig.directory.path.join(format!("{}-{index}", file_name(&unit.label)));
                    let (events, control) = mpsc::channel(EVENTS);
                    let serial =
                        SerialUnit::new(linked, name.clone(), clock.clone(), &unit.events, control, account)?;
                    rig.units.spawn(serial.run());
                    rig.join(unit, Place::Serial(name), Lane::Serial(events));
                }
                Built::Radio(radio) => {
                    let address = radio.address.map(|byte| format!("{byte:02X}")).join(":");
                    let lane = Lane::Bluetooth(radios.len(), to_radio.clone());
                    rig.join(unit, Place::Bluetooth(address), lane);
                    let (link, events) = (unit.link, unit.events.clone());
                    radios.push(RadioUnit { radio, link, seed, events, account });
                }
            }
        }
        // A daemon without units lives as long as this sender.
        rig.events.insert(String::new(), Lane::Bluetooth(usize::MAX, to_radio));
        let bluez = Bluez::start(&rig.bus, radios, clock, from_radio).await?;
        rig.units.spawn(bluez.run());
        Ok(rig)
    }

    /// Returns the facts, one per line.
    pub fn lines(&self) -> Vec<String> {
        let places = self.places.iter().map(|(label, place)| match place {
            Place::Serial(path) => format!("serial {label} {}", path.display()),
            Place::Bluetooth(address) => format!("bluetooth {label} {address}"),
        });
        places.chain([format!("bus {}", self.bus)]).collect()
    }

    /// Returns where a unit is.
    pub fn place(&self, label: &str) -> Option<&Place> {
        self.places.iter().find(|(name, _)| name == label).map(|(_, place)| place)
    }

    /// Returns the address of the private bus, as `DBUS_SYSTEM_BUS_ADDRESS` takes it.
    pub fn bus(&self) -> &str {
        &self.bus
    }

    /// Lets something happen to a unit.
    ///
    /// # Errors
    /// There is no such unit.
    pub async fn event(&self, label: &str, event: WorldEvent) -> Result<(), RigError> {
        let missing = || RigError::NoSuchUnit { label: label.to_owned() };
        match self.events.get(label).ok_or_else(missing)? {
            Lane::Serial(lane) => lane.send(event).await.map_err(|_| missing()),
            Lane::Bluetooth(index, lane) => lane.send((*index, event)).await.map_err(|_| missing()),
        }
    }

    /// Ends every unit; the truth file is complete when it returns.
    pub async fn stop(mut self) {
        self.events.clear();
        let all = async { while self.units.join_next().await.is_some() {} };
        if timeout(STOP_WITHIN, all).await.is_err() {
            tracing::error!("a simulated unit did not end");
        }
    }

    /// Carries out one line of standard input.
    async fn command(&self, line: &str) -> Result<(), String> {
        let line = line.trim();
        if line.is_empty() {
            return Ok(());
        }
        let rest = line.strip_prefix("event ").ok_or("a line is `event LABEL WHAT`")?.trim_start();
        let labels = self.places.iter().map(|(label, _)| label.as_str());
        let label = labels
            .filter(|label| rest.strip_prefix(label).is_some_and(|after| after.starts_with(' ')))
            .max_by_key(|label| label.len())
            .ok_or_else(|| format!("no unit is called as in `{rest}`"))?;
        let what = rest.strip_prefix(label).unwrap_or_default();
        let event: WorldEvent = what.parse().map_err(|error| format!("{error}"))?;
        self.event(label, event).await.map_err(|error| error.to_string())
    }

    fn join(&mut self, unit: &WorldUnit, place: Place, lane: Lane) {
        self.places.push((unit.label.clone(), place));
        self.events.insert(unit.label.clone(), lane);
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(broker) = &self.broker {
            broker.abort();
        }
    }
}

/// Starts the message bus inside this process, so that a simulated run needs nothing installed.
async fn start_broker(address: &str) -> Result<JoinHandle<()>, RigError> {
    let bus = busd::bus::Bus::for_address(Some(address)).await;
    let mut bus = bus.map_err(|error| RigError::Broker { reason: format!("{error:#}") })?;
    Ok(tokio::spawn(async move {
        if let Err(error) = bus.run().await {
            tracing::error!(%error, "the private bus ended");
        }
    }))
}

/// Returns a label as a file name: letters and digits, the rest as hyphens.
fn file_name(label: &str) -> String {
    label.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

impl Directory {
    fn create() -> Result<Self, RigError> {
        let base = std::env::temp_dir();
        let mut number: u32 = 0;
        loop {
            let path = base.join(format!("doseward-rig-{}-{number}", std::process::id()));
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && number < 1000 => {
                    number = number.saturating_add(1);
                }
                Err(source) => return Err(RigError::Setup { what: "a private directory", path, source }),
            }
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        tracing::warn!(path = %path.display(), %error, "private directory not removed");
    }
}
