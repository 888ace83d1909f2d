// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The vgfence authors

//! A stand-in for rutabaga, written for this: as much of its structures, by their names, as what
//! docs/integrating-crosvm.md changes in `virgl_renderer.rs` has to do with.

mod virgl_renderer;

use std::os::unix::io::OwnedFd;
use std::sync::Arc;

pub use virgl_renderer::{VirglRenderer, VirglRendererContext};

pub const RUTABAGA_FLAG_FENCE: u32 = 1 << 0;
pub const RUTABAGA_FLAG_INFO_RING_IDX: u32 = 1 << 1;
pub const RUTABAGA_FLAG_FENCE_HOST_SHAREABLE: u32 = 1 << 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RutabagaFence {
    pub flags: u32,
    pub fence_id: u64,
    pub ctx_id: u32,
    pub ring_idx: u8,
}

pub type RutabagaFenceHandler = Arc<dyn Fn(RutabagaFence) + Send + Sync>;

#[derive(Debug, PartialEq, Eq)]
pub enum RutabagaError {
    /// What virglrenderer's functions return.
    ComponentError(i32),
}

pub type RutabagaResult<T> = Result<T, RutabagaError>;

pub trait RutabagaComponent {
    fn event_poll(&self);
    fn poll_descriptor(&self) -> Option<OwnedFd>;
    fn create_fence(&mut self, fence: RutabagaFence) -> RutabagaResult<()>;
    fn create_context(&self, ctx_id: u32) -> RutabagaResult<Box<dyn RutabagaContext>>;
}

pub trait RutabagaContext {
    /// Whether the fence handler will be called for the fence.
    fn submit_cmd(
        &mut self,
        commands: &mut [u8],
        fence_ids: &[u64],
        fence: RutabagaFence,
    ) -> RutabagaResult<bool>;
    fn context_create_fence(&mut self, fence: RutabagaFence) -> RutabagaResult<()>;
}
