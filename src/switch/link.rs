//! Which pair a frame of a shared link is for.

use super::members::MEMBERS;

/// The pairs of one link port by the ids of their VMs.
#[derive(Clone, Debug)]
pub struct LinkSwitch {
    /// In the order of the ids.
    members: Vec<(u16, u8)>,
}

impl LinkSwitch {
    /// For pairs with these ids, all different, in the order of their numbers at the port.
    pub fn new(ids: &[u16]) -> Self {
        debug_assert!(ids.len() <= MEMBERS, "no more than can share a port");
        let numbered = ids.iter().zip(0..);
        let mut members: Vec<(u16, u8)> = numbered.map(|(id, member)| (*id, member)).collect();
        members.sort_unstable();
        debug_assert!(
            members.windows(2).all(|pair| pair[0].0 != pair[1].0),
            "an id names one pair"
        );
        Self { members }
    }

    /// The pair whose VM has this id.
    #[inline]
    pub fn member(&self, id: u16) -> Option<usize> {
        let at = self.members.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.members.get(at).map(|(_, member)| usize::from(*member))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_goes_to_the_pair_of_its_id_and_to_no_other() {
        let ids = [7, 0, 65_535, 300];
        let switch = LinkSwitch::new(&ids);
        for id in 0..=65_535 {
            let member = ids.iter().position(|own| *own == id);
            assert_eq!(switch.member(id), member, "{id}");
        }
        assert_eq!(LinkSwitch::new(&[]).member(0), None);
    }
}
