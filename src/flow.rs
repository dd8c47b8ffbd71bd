//! Stub.

/// Key of a flow in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey {
    _stub: u64,
}
