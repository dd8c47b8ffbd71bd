//! What a comparison reports: why the two VMs' outputs differ, or seem to.

use crate::flow::FlowKey;
use crate::frame::Ticks;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// Why a comparison asks for a checkpoint.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &[Reason] = &[$(Reason::$name,)*];

            /// The word that counters, records and the log use.
            pub fn word(self) -> &'static str {
                match self { $(Reason::$name => $word,)* }
            }
        }
    };
}

reasons! {
    /// A payload byte of the PVM differs from the SVM's at the same position.
    Payload = "payload",
    /// One VM's stream ends where the other's goes on.
    StreamEnd = "stream_end",
    /// The SYNs disagree in their options or ECN bits.
    SynOptions = "syn_options",
    /// The VMs' urgent data ends at different positions.
    Urgent = "urgent",
    /// IPv4 options, extension headers, TCP options or the bytes behind a UDP datagram differ.
    Headers = "headers",
    /// The SVM sent two different bytes for one position of a stream.
    SecondaryInconsistent = "secondary_inconsistent",
    /// A P has waited for its counterpart for longer than the timeout.
    MissingSecondary = "missing_secondary",
    /// An S has waited for its counterpart for longer than the timeout.
    MissingPrimary = "missing_primary",
    /// A P acknowledges more than the SVM has acknowledged within the timeout.
    AckAhead = "ack_ahead",
    /// A P that cannot be read has waited for the timeout.
    Unreadable = "unreadable",
    /// A P had no room in the flow table and has waited for the timeout.
    FlowTableFull = "flow_table_full",
    /// P of one flow take half of the room for P.
    FlowHold = "flow_hold",
    /// P of connections that are not established take half of the room for P.
    HalfOpenHold = "half_open_hold",
    /// P of flows that have sent one datagram each take half of the room for P.
    DatagramHold = "datagram_hold",
    /// No more P can be held.
    HoldFull = "hold_full",
    /// An S was dropped because no more S can be kept.
    SecondaryOverflow = "secondary_overflow",
    /// A core that compares has not come to its frames within the timeout.
    WorkerStalled = "worker_stalled",
}

/// Number of [`Reason`]s.
pub const REASONS: usize = Reason::ALL.len();

/// One difference between the outputs of the two VMs.
#[derive(Debug)]
pub struct Divergence<F> {
    /// What is wrong.
    pub reason: Reason,
    /// The flow, in the direction of the output, if it is known.
    pub flow: Option<FlowKey>,
    /// Bytes of the stream before the first differing one; known when the SYN was seen.
    pub stream_offset: Option<u32>,
    /// The P, if there is one, and the offset in it of the first differing byte.
    pub primary: Option<(F, usize)>,
    /// The S, if there is one, and the offset in it of the first differing byte.
    pub secondary: Option<(F, usize)>,
    /// When the P arrived.
    pub primary_arrived: Option<Ticks>,
    /// When the S arrived.
    pub secondary_arrived: Option<Ticks>,
    /// When the difference was seen.
    pub seen: Ticks,
}

impl<F> Divergence<F> {
    /// A reason that concerns no frame in particular.
    pub fn without_frames(reason: Reason, seen: Ticks) -> Self {
        Self {
            reason,
            flow: None,
            stream_offset: None,
            primary: None,
            secondary: None,
            primary_arrived: None,
            secondary_arrived: None,
            seen,
        }
    }

    /// Frames that it keeps.
    pub fn frames(&self) -> usize {
        usize::from(self.primary.is_some()) + usize::from(self.secondary.is_some())
    }
}
