//! What both VMs send, made before the time is taken.

use std::collections::VecDeque;

use dpdk_colo::frame::BURST;

use super::pool::{Pool, PoolFrame};
use crate::engine::{Case, Template, shuffled};

/// Frames kept as history.
pub const HISTORY: usize = 4096;

/// Both VMs' frames of equal streams.
pub struct Load {
    template: Template,
    chunk: usize,
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
    /// The load of a case. The flows take turns in random order. A chunk has `bytes` bytes of frames.
    pub fn new(case: &Case, bytes: usize) -> Self {
        let template = Template::new(case, case.payload);
        // A header beside each frame.
        let chunk = (bytes / 2 / (template.bytes().len() + 128)).next_multiple_of(BURST);
        Self {
            chunk,
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

    /// Pairs of a chunk.
    pub fn chunk(&self) -> usize {
        self.chunk
    }

    /// Makes the next chunk.
    pub fn prepare(&mut self) {
        let Self {
            template,
            primary,
            secondary,
            ..
        } = self;
        for _ in 0..self.chunk {
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
