//! Which pairs share ports.

use super::{PairSettings, PortName, PortRole, Role, Settings};
use crate::switch::Mac;

/// A port that several pairs have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// The port.
    pub port: PortName,
    /// What it is to each of the pairs: link or uplink.
    pub place: PortRole,
    /// The pairs, by their places in the settings, in order.
    pub members: Vec<usize>,
    /// Their roles.
    pub roles: Vec<Role>,
    /// Their ids.
    pub vm_ids: Vec<u16>,
    /// Their configured addresses.
    pub macs: Vec<Vec<Mac>>,
}

impl Settings {
    /// The ports that several pairs have.
    pub fn shared_ports(&self) -> Vec<Sharing> {
        let mut all: Vec<Sharing> = Vec::new();
        for (at, pair) in self.pairs.iter().enumerate() {
            for (place, port) in pair.ports() {
                let known = all.iter().position(|sharing| sharing.port == *port);
                let known = known.unwrap_or_else(|| {
                    all.push(Sharing {
                        port: port.clone(),
                        place,
                        members: Vec::new(),
                        roles: Vec::new(),
                        vm_ids: Vec::new(),
                        macs: Vec::new(),
                    });
                    all.len() - 1
                });
                let sharing = &mut all[known];
                sharing.members.push(at);
                sharing.roles.push(pair.role.role());
                sharing.vm_ids.push(pair.vm_id);
                sharing.macs.push(pair.macs.clone());
            }
        }
        all.retain(|sharing| sharing.members.len() > 1);
        all
    }

    /// The pairs that run on one core, by their places in the settings: those that share a port, with those that share
    /// another one with them. A pair that shares none is alone. Groups and pairs are in the order of the settings.
    pub fn groups(&self) -> Vec<Vec<usize>> {
        let mut group_of: Vec<usize> = (0..self.pairs.len()).collect();
        for sharing in self.shared_ports() {
            let groups: Vec<usize> = sharing.members.iter().map(|pair| group_of[*pair]).collect();
            let first = groups.iter().copied().min().unwrap_or_default();
            for group in group_of.iter_mut().filter(|group| groups.contains(group)) {
                *group = first;
            }
        }
        let members = |group: usize| {
            let own = |pair: &usize| group_of[*pair] == group;
            (0..self.pairs.len()).filter(own).collect::<Vec<_>>()
        };
        let groups = (0..self.pairs.len()).map(members);
        groups.filter(|group| !group.is_empty()).collect()
    }
}

impl PairSettings {
    /// The port at a place, if the pair has one there.
    pub fn port(&self, place: PortRole) -> Option<&PortName> {
        let mut ports = self.ports();
        ports.find_map(|(at, name)| (at == place).then_some(name))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{File, PairKeys, ProcessKeys, resolve};
    use super::*;

    fn settings(pairs: &[[&str; 2]]) -> Settings {
        let mut text = "link-key = '/k'\nrole = 'primary'\n".to_owned();
        for (id, [uplink, link]) in pairs.iter().enumerate() {
            text.push_str(&format!(
                "[[pair]]\nvm-id = {id}\nguest = 'g{id}'\nqmp = '/q{id}'\nuplink = '{uplink}'\nlink = '{link}'\n"
            ));
        }
        let path = std::path::Path::new("colo.toml");
        let file = File::parse(&text, path).expect("a file");
        let place = Some((path, &file));
        resolve(ProcessKeys::default(), PairKeys::default(), place).expect("settings")
    }

    #[test]
    fn pairs_that_share_a_port_are_one_group_and_others_are_not() {
        let groups = |pairs: &[[&str; 2]]| settings(pairs).groups();
        assert_eq!(groups(&[["u0", "l0"], ["u1", "l1"]]), [vec![0], vec![1]]);
        assert_eq!(groups(&[["u", "l"], ["u", "l"]]), [vec![0, 1]]);
        // By a chain of shared ports, and beside it.
        let chain = [["a", "x"], ["b", "y"], ["c", "z"], ["b", "x"], ["d", "y"]];
        assert_eq!(groups(&chain), [vec![0, 1, 3, 4], vec![2]]);
    }

    #[test]
    fn a_shared_port_names_its_pairs_in_order() {
        let shared = settings(&[["u", "a"], ["v", "b"], ["u", "c"]]).shared_ports();
        assert_eq!(shared.len(), 1);
        assert_eq!(
            (shared[0].port.as_str(), shared[0].place),
            ("u", PortRole::Uplink)
        );
        assert_eq!(
            (&*shared[0].members, &*shared[0].vm_ids),
            (&[0, 2][..], &[0, 2][..])
        );
    }
}
