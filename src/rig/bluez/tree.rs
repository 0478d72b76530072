//! The objects of the simulated Bluetooth daemon as data: paths, properties, introspection.

use std::collections::BTreeMap;

use zbus::Variant;

use crate::rig::devices::{Flag, Service};

/// Names and values of one interface's properties.
pub(super) type Properties = BTreeMap<&'static str, Variant<'static>>;
/// The interfaces of one object.
pub(super) type Interfaces = BTreeMap<&'static str, Properties>;

pub(super) const ADAPTER: &str = "org.bluez.Adapter1";
pub(super) const DEVICE: &str = "org.bluez.Device1";
pub(super) const SERVICE: &str = "org.bluez.GattService1";
pub(super) const CHARACTERISTIC: &str = "org.bluez.GattCharacteristic1";
pub(super) const DESCRIPTOR: &str = "org.bluez.GattDescriptor1";
pub(super) const BATTERY: &str = "org.bluez.Battery1";
pub(super) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
pub(super) const INTROSPECTABLE: &str = "org.freedesktop.DBus.Introspectable";
pub(super) const OBJECT_MANAGER: &str = "org.freedesktop.DBus.ObjectManager";

pub(super) const ADAPTER_PATH: &str = "/org/bluez/hci0";
/// Battery level, a standard characteristic.
pub(super) const BATTERY_LEVEL: u128 = 0x0000_2a19_0000_1000_8000_0080_5f9b_34fb;
/// Client characteristic configuration, the standard descriptor that switches notifications on.
const CONFIGURATION: &str = "00002902-0000-1000-8000-00805f9b34fb";

/// One GATT object.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Its object path.
    pub(super) path: String,
    /// What it is.
    pub(super) kind: NodeKind,
}

#[derive(Clone, Debug)]
pub(super) enum NodeKind {
    Service { uuid: u128, device: String },
    Characteristic { uuid: u128, flags: Vec<Flag>, service: String },
    Descriptor { characteristic: String },
}

/// Lays out a unit's GATT objects under its device path, in the order of their handles.
pub(super) fn lay_out(device: &str, services: &[Service]) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut handle: u16 = 0;
    let mut next = || {
        handle = handle.saturating_add(1);
        handle
    };
    for service in services {
        let service_path = format!("{device}/service{:04x}", next());
        let kind = NodeKind::Service { uuid: service.uuid, device: device.to_owned() };
        nodes.push(Node { path: service_path.clone(), kind });
        for characteristic in &service.characteristics {
            let path = format!("{service_path}/char{:04x}", next());
            // The value has a handle of its own.
            next();
            let kind = NodeKind::Characteristic {
                uuid: characteristic.uuid,
                flags: characteristic.flags.clone(),
                service: service_path.clone(),
            };
            nodes.push(Node { path: path.clone(), kind });
            if characteristic.flags.contains(&Flag::Notify) {
                let descriptor = format!("{path}/desc{:04x}", next());
                let kind = NodeKind::Descriptor { characteristic: path };
                nodes.push(Node { path: descriptor, kind });
            }
        }
    }
    nodes
}

impl Node {
    /// Returns the UUID and flags of a characteristic.
    pub(super) fn characteristic(&self) -> Option<(u128, &[Flag])> {
        match &self.kind {
            NodeKind::Characteristic { uuid, flags, .. } => Some((*uuid, flags)),
            NodeKind::Service { .. } | NodeKind::Descriptor { .. } => None,
        }
    }

    /// Returns the name of its interface.
    pub(super) const fn interface(&self) -> &'static str {
        match self.kind {
            NodeKind::Service { .. } => SERVICE,
            NodeKind::Characteristic { .. } => CHARACTERISTIC,
            NodeKind::Descriptor { .. } => DESCRIPTOR,
        }
    }

    /// Returns its properties. `notifying`: someone has subscribed; `odd_flag`: with a flag that clients do not know.
    pub(super) fn properties(&self, notifying: bool, odd_flag: bool) -> Properties {
        match &self.kind {
            NodeKind::Service { uuid, device } => BTreeMap::from([
                ("UUID", text(uuid_text(*uuid))),
                ("Primary", Variant::from(true)),
                ("Device", object(device)),
            ]),
            NodeKind::Characteristic { uuid, flags, service } => {
                let notifies = flags.contains(&Flag::Notify);
                let mut words: Vec<String> = flags.iter().map(|flag| flag.word().to_owned()).collect();
                if odd_flag && notifies {
                    words.push("encrypt-notify".to_owned());
                }
                let mut properties = BTreeMap::from([
                    ("UUID", text(uuid_text(*uuid))),
                    ("Service", object(service)),
                    ("Flags", Variant::from(words)),
                    ("MTU", Variant::from(23u16)),
                ]);
                if notifies {
                    properties.insert("Notifying", Variant::from(notifying));
                }
                properties
            }
            NodeKind::Descriptor { characteristic } => BTreeMap::from([
                ("UUID", text(CONFIGURATION.to_owned())),
                ("Characteristic", object(characteristic)),
            ]),
        }
    }
}

/// Returns the introspection document of an object with these interfaces, below which these paths lie.
pub(super) fn introspection<'a>(
    path: &str,
    interfaces: &[&str],
    below: impl Iterator<Item = &'a str>,
) -> String {
    let prefix = if path == "/" { String::new() } else { path.to_owned() };
    let mut children: Vec<&str> = below
        .filter_map(|other| other.strip_prefix(&prefix)?.strip_prefix('/')?.split('/').next())
        .filter(|name| !name.is_empty())
        .collect();
    children.sort_unstable();
    children.dedup();
    let interfaces: String =
        interfaces.iter().map(|name| format!("<interface name=\"{name}\"></interface>")).collect();
    let nodes: String = children.iter().map(|name| format!("<node name=\"{name}\"/>")).collect();
    format!(
        "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\" \
         \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\"><node>{interfaces}{nodes}</node>"
    )
}

/// Returns an address as people write it.
pub(super) fn address_text(address: [u8; 6], separator: &str) -> String {
    address.map(|byte| format!("{byte:02X}")).join(separator)
}

pub(super) fn uuid_text(uuid: u128) -> String {
    uuid::Uuid::from_u128(uuid).to_string()
}

pub(super) fn text(text: String) -> Variant<'static> {
    Variant::from(text)
}

/// Returns an object path as a value; every path here is made of our own names and is well formed.
pub(super) fn object(path: &str) -> Variant<'static> {
    Variant::from(zbus::ObjectPath::from_string_unchecked(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::devices::Characteristic;

    #[test]
    fn objects_lie_where_clients_look_for_them() {
        let flags = vec![Flag::Read, Flag::Notify];
        let services =
            [Service { uuid: 0xffe0, characteristics: vec![Characteristic { uuid: 0xffe1, flags }] }];
        let nodes = lay_out("/org/bluez/hci0/dev_C0", &services);
        let paths: Vec<&str> = nodes.iter().map(|node| node.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "/org/bluez/hci0/dev_C0/service0001",
                "/org/bluez/hci0/dev_C0/service0001/char0002",
                "/org/bluez/hci0/dev_C0/service0001/char0002/desc0004"
            ]
        );
        let xml = introspection("/org/bluez/hci0/dev_C0", &[DEVICE], paths.iter().copied());
        assert!(xml.contains("<node name=\"service0001\"/>") && !xml.contains("char0002"), "{xml}");
        assert!(introspection("/", &[], paths.into_iter()).contains("<node name=\"org\"/>"));
    }
}
