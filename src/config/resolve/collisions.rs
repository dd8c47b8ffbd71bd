//! What two pairs of one process cannot have both.

use std::collections::HashMap;

use super::super::fault::{KeySource, PairFault, SettingsError};
use super::super::{LinkKey, PairSettings, PortName, PortRole, QmpAddress};
use crate::switch::MEMBERS;

/// Refuses pairs that have one name, one monitor, or a port that they cannot share.
pub(super) fn refuse_collisions(pairs: &[(KeySource, PairSettings)]) -> Result<(), SettingsError> {
    let mut ports: HashMap<&PortName, (usize, PortRole)> = HashMap::new();
    let mut monitors: HashMap<&QmpAddress, usize> = HashMap::new();
    for (at, (place, pair)) in pairs.iter().enumerate() {
        if pairs[..at]
            .iter()
            .any(|(_, earlier)| earlier.name == pair.name)
        {
            return Err(place.fault(PairFault::NameTwice));
        }
        for (key, port) in pair.ports() {
            let Some((other, other_key)) = ports.insert(port, (at, key)) else {
                continue;
            };
            let is_shared = key == other_key && matches!(key, PortRole::Link | PortRole::Uplink);
            if !is_shared {
                return Err(place.fault(PairFault::PortTwice {
                    port: port.clone(),
                    key: key.key(),
                    other_key: other_key.key(),
                    other_pair: (other != at).then(|| pairs[other].1.name.clone()),
                }));
            }
            let sharers = pairs[..at].iter().map(|(_, earlier)| earlier);
            let sharers = sharers.filter(|earlier| earlier.port(key) == Some(port));
            refuse_sharing(key, port, pair, sharers).map_err(|fault| place.fault(fault))?;
        }
        if let Some(monitor) = pair.role.qmp()
            && let Some(other) = monitors.insert(monitor, at)
        {
            return Err(place.fault(PairFault::MonitorTwice {
                monitor: monitor.clone(),
                other_pair: pairs[other].1.name.clone(),
            }));
        }
    }
    Ok(())
}

/// Refuses what pairs at one port cannot have: the port could not tell which of them a frame is for.
fn refuse_sharing<'a>(
    place: PortRole,
    port: &PortName,
    pair: &PairSettings,
    sharers: impl Iterator<Item = &'a PairSettings>,
) -> Result<(), PairFault> {
    let port = || port.clone();
    let mut number = 1;
    for other in sharers {
        let other_pair = || other.name.clone();
        number += 1;
        match place {
            PortRole::Link if other.vm_id == pair.vm_id => {
                return Err(PairFault::IdTwice {
                    port: port(),
                    other_pair: other_pair(),
                });
            }
            PortRole::Link
                if [other, pair]
                    .map(|it| it.role.link_key())
                    .contains(&Some(&LinkKey::Trusted)) =>
            {
                return Err(PairFault::SharedWithoutKey {
                    port: port(),
                    other_pair: other_pair(),
                });
            }
            PortRole::Uplink if other.mtu != pair.mtu => {
                return Err(PairFault::MtuDiffers {
                    port: port(),
                    other_pair: other_pair(),
                });
            }
            _ => {}
        }
        let twice = pair.macs.iter().find(|mac| other.macs.contains(mac));
        if let (PortRole::Uplink, Some(mac)) = (place, twice) {
            return Err(PairFault::MacTwice {
                mac: *mac,
                other_pair: other_pair(),
            });
        }
    }
    match number > MEMBERS {
        true => Err(PairFault::TooMany { port: port() }),
        false => Ok(()),
    }
}
