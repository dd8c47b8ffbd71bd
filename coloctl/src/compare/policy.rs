//! The rules of a policy file, as the comparator takes them.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use dpdk_colo::Ticks;
use dpdk_colo::compare::{Extent, Mask, Rule};
use dpdk_colo::config::{ConfigError, File, MaskExtent, MaskRule, PolicyRule, Protocol};
use dpdk_colo::proto::ip;

/// The rules of a node's file: those of all pairs, and of the named pair besides. `None` if there is no such pair.
///
/// # Errors
/// When it cannot be read or is no such file.
pub fn read(path: &Path, pair: Option<&str>) -> Result<Option<Vec<PolicyRule>>, ConfigError> {
    let file = File::read(path)?;
    Ok(file.policy_of(pair))
}

/// Which mask rules are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masks {
    /// As a node applies them: those with `dry-run` mask nothing.
    AsWritten,
    /// None.
    None,
    /// The one at this place alone, as if it had no `dry-run`.
    Alone(usize),
    /// All, likewise.
    All,
}

/// The comparator's rules; `origin` is the wall clock's time at tick 0 in nanoseconds, if it is known.
pub fn rules(rules: &[PolicyRule], masks: Masks, origin: Option<i128>) -> Vec<Rule> {
    let applied = |(at, rule): (usize, &PolicyRule)| {
        let mut made = rule_of(rule, origin);
        match masks {
            Masks::AsWritten => return Some(made),
            Masks::None if made.mask.is_some() => return None,
            Masks::Alone(other) if made.mask.is_some() && other != at => return None,
            Masks::None | Masks::Alone(_) | Masks::All => {}
        }
        if let Some(mask) = &mut made.mask {
            mask.tried = false;
        }
        Some(made)
    };
    rules.iter().enumerate().filter_map(applied).collect()
}

fn rule_of(rule: &PolicyRule, origin: Option<i128>) -> Rule {
    let protocols: &[u8] = match rule.protocol {
        Protocol::Tcp => &[ip::TCP],
        Protocol::Udp => &[ip::UDP],
        Protocol::Icmp => &[ip::ICMP, ip::ICMPV6],
        Protocol::Any => &[],
    };
    let prefix = rule.prefix.map(|it| (it.address(), it.length()));
    Rule {
        name: rule.name.as_str().to_owned(),
        protocols: protocols.to_vec(),
        port: rule.port.map(|port| port.get()),
        prefix,
        vlan: rule.vlan,
        mask: rule.mask.as_ref().map(|mask| mask_of(mask, origin)),
    }
}

fn mask_of(mask: &MaskRule, origin: Option<i128>) -> Mask {
    let expires = |at: SystemTime| -> Option<Ticks> {
        let ns = at.duration_since(UNIX_EPOCH).ok()?.as_nanos();
        Some(u64::try_from(i128::try_from(ns).ok()? - origin?).unwrap_or(0))
    };
    Mask {
        literal: mask.after.to_vec(),
        extent: match mask.extent {
            MaskExtent::Length(length) => Extent::Length(length),
            MaskExtent::Until { end, most } => Extent::Until { end, most },
        },
        tried: mask.dry_run,
        expires: mask.expires.and_then(expires),
    }
}
