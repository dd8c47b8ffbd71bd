//! What both VMs send, made before the time is taken.

use std::collections::VecDeque;

use super::pool::{Pool, PoolFrame};
use crate::engine::{Case, Template, shuffled};

/// Frames of a burst, as the node's.
pub const BURST: usize = 32;
/// Bytes of frames that are made, then measured in one go: they lie in the third-level cache, from
/// where any core can take them.
const CHUNK_BYTES: usize = 8 << 20;
/// Frames kept as history.
pub const HISTORY: usize = 4096;

/// Both VMs' frames of equal streams.
pub struct Load {
    template: Template,
    primary: Pool,
    secondary: Pool,
    order: Vec<u32>,
    next: usize,
    offset: u32,
    advance: u32,
    /// Frames of the next chunk.
    pub p: VecDeque<PoolFrame>,
    /// Their counterparts.
    pub s: VecDeque<PoolFrame>,
}

impl Load {
    /// Of a case, whose flows take turns in random order.
    pub fn new(case: &Case) -> Self {
        let template = Template::new(case, case.payload);
        let chunk = Self::chunk_of(&template);
        Self {
            primary: Pool::new(2 * chunk, template.bytes()),
            secondary: Pool::new(2 * chunk + 2 * HISTORY, template.bytes()),
            template,
            order: shuffled(case.flows),
            next: 0,
            offset: 0,
            advance: case.payload as u32,
            p: VecDeque::with_capacity(chunk),
            s: VecDeque::with_capacity(chunk),
        }
    }

    fn chunk_of(template: &Template) -> usize {
        // A header beside each frame.
        (CHUNK_BYTES / 2 / (template.bytes().len() + 128)).next_multiple_of(BURST)
    }

    /// Pairs of a chunk.
    pub fn chunk(&self) -> usize {
        Self::chunk_of(&self.template)
    }

    /// Makes the next chunk.
    pub fn prepare(&mut self) {
        let Self {
            template,
            primary,
            secondary,
            ..
        } = self;
        for _ in 0..Self::chunk_of(template) {
            let (flow, offset) = (self.order[self.next] as usize, self.offset);
            self.p
                .push_back(primary.take(|bytes| template.write(bytes, flow, offset)));
            self.s
                .push_back(secondary.take(|bytes| template.write(bytes, flow, offset)));
            self.next += 1;
            if self.next == self.order.len() {
                self.next = 0;
                self.offset = self.offset.wrapping_add(self.advance);
            }
        }
    }
}
