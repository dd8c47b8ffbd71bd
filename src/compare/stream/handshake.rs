//! The numbers that the two VMs opened a connection with.

use crate::flow::FlowKey;
use crate::packet::Isn;

/// The numbers that both VMs opened a connection with, which the rewriter at the secondary needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synchronized {
    /// The connection, in the direction of the output.
    pub flow: FlowKey,
    /// Those of the PVM's SYN or SYN+ACK.
    pub pvm: Isn,
    /// The same of the SVM's.
    pub svm: Isn,
}
