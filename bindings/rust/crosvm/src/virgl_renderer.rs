// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The vgfence authors

//! What stands between "vgfence" and "end" is what is new in rutabaga's `virgl_renderer.rs`, line
//! by line, and what the document shows; scripts/check_docs.py compares and counts it. The rest is
//! a stand-in.

use std::os::raw::{c_int, c_void};
use std::os::unix::io::{BorrowedFd, OwnedFd};
use std::ptr::{null, null_mut};

// vgfence
use std::rc::Rc;
use vgfence_sys::*;
// end

use crate::*;

/// `struct virgl_renderer_callbacks` of virglrenderer's header, version 3.
#[repr(C)]
struct Callbacks {
    version: c_int,
    write_fence: unsafe extern "C" fn(*mut c_void, u32),
    gl: [*const c_void; 3],
    get_drm_fd: *const c_void,
    write_context_fence: unsafe extern "C" fn(*mut c_void, u32, u32, u64),
    get_server_fd: *const c_void,
    get_egl_display: *const c_void,
}

const FLAGS: c_int = 1 << 8 | 1 << 1 | 1 << 3; // ASYNC_FENCE_CB, THREAD_SYNC, USE_SURFACELESS

struct VirglCookie {
    fence_handler: RutabagaFenceHandler,
}

unsafe extern "C" fn write_fence(cookie: *mut c_void, fence: u32) {
    let cookie = &*(cookie as *const VirglCookie);
    let flags = RUTABAGA_FLAG_FENCE;
    let fence = RutabagaFence { flags, fence_id: u64::from(fence), ctx_id: 0, ring_idx: 0 };
    (cookie.fence_handler)(fence);
}

unsafe extern "C" fn write_context_fence(
    cookie: *mut c_void,
    ctx_id: u32,
    ring_idx: u32,
    fence_id: u64,
) {
    let cookie = &*(cookie as *const VirglCookie);
    let flags = RUTABAGA_FLAG_FENCE | RUTABAGA_FLAG_INFO_RING_IDX;
    (cookie.fence_handler)(RutabagaFence { flags, fence_id, ctx_id, ring_idx: ring_idx as u8 });
}

fn ret_to_res(ret: c_int) -> RutabagaResult<()> {
    match ret {
        0 => Ok(()),
        ret => Err(RutabagaError::ComponentError(ret)),
    }
}

// vgfence
fn if_shareable(fence: &RutabagaFence, flag: u32) -> u32 {
    u32::from(fence.flags & RUTABAGA_FLAG_FENCE_HOST_SHAREABLE != 0) * flag
}
// end

// The renderer and its contexts share it: it ends with the last of them.
// vgfence
struct Virgl(*mut vgf_virgl, *mut VirglCookie);
// end

pub struct VirglRenderer {
    // vgfence
    virgl: Rc<Virgl>,
    // end
}

pub struct VirglRendererContext {
    ctx_id: u32,
    // vgfence
    virgl: Rc<Virgl>,
    // end
}

impl VirglRenderer {
    pub fn init(fence_handler: RutabagaFenceHandler) -> RutabagaResult<Box<VirglRenderer>> {
        let cookie = Box::into_raw(Box::new(VirglCookie { fence_handler }));
        let mut callbacks = Callbacks {
            version: 3,
            write_fence,
            gl: [null(); 3],
            get_drm_fd: null(),
            write_context_fence,
            get_server_fd: null(),
            get_egl_display: null(),
        };
        let cbs: *mut virgl_renderer_callbacks = (&mut callbacks as *mut Callbacks).cast();
        // vgfence
        let mut virgl = Virgl(null_mut(), cookie);
        let size = std::mem::size_of::<vgf_virgl_options>();
        let options = vgf_virgl_options { size, independent_rings: true, ..Default::default() };
        let ret = unsafe { vgf_virgl_init(cookie.cast(), FLAGS, cbs, &options, &mut virgl.0) };
        // end
        ret_to_res(ret)?;
        // vgfence
        Ok(Box::new(VirglRenderer { virgl: Rc::new(virgl) }))
        // end
    }
}

// vgfence
impl Drop for Virgl {
    // end
    fn drop(&mut self) {
        // vgfence
        unsafe { vgf_virgl_cleanup(self.0) };
        // end
        drop(unsafe { Box::from_raw(self.1) });
    }
}

impl RutabagaComponent for VirglRenderer {
    fn event_poll(&self) {
        // vgfence
        unsafe { vgf_virgl_poll(self.virgl.0) };
        // end
    }

    fn poll_descriptor(&self) -> Option<OwnedFd> {
        // vgfence
        let fd = unsafe { BorrowedFd::borrow_raw(vgf_virgl_get_poll_fd(self.virgl.0)) };
        // end
        fd.try_clone_to_owned().ok()
    }

    fn create_fence(&mut self, fence: RutabagaFence) -> RutabagaResult<()> {
        // vgfence
        let (id, flags) = (fence.fence_id, if_shareable(&fence, VGF_VIRGL_FENCE_SHAREABLE));
        let ret = unsafe { vgf_virgl_create_fence(self.virgl.0, id, fence.ctx_id, flags) };
        // end
        ret_to_res(ret)
    }

    fn create_context(&self, ctx_id: u32) -> RutabagaResult<Box<dyn RutabagaContext>> {
        const CAPSET_VIRGL2: u32 = 2;
        let (flags, name) = (CAPSET_VIRGL2, b"gpu_renderer");
        let (nlen, name) = (name.len() as u32, name.as_ptr().cast());
        // vgfence
        let virgl = self.virgl.clone();
        let ret =
            unsafe { vgf_virgl_context_create_with_flags(virgl.0, ctx_id, flags, nlen, name) };
        ret_to_res(ret.min(0))?; // 1: it is made behind work of the old one
        Ok(Box::new(VirglRendererContext { ctx_id, virgl }))
        // end
    }
}

impl RutabagaContext for VirglRendererContext {
    fn submit_cmd(
        &mut self,
        commands: &mut [u8],
        fence_ids: &[u64],
        // vgfence
        fence: RutabagaFence,
    ) -> RutabagaResult<bool> {
        let RutabagaFence { flags, fence_id, ctx_id, ring_idx } = fence;
        let ring = match flags & RUTABAGA_FLAG_INFO_RING_IDX {
            0 => VGF_RING_GLOBAL,
            _ => i32::from(ring_idx),
        };
        let submission = vgf_submission {
            fence: vgf_fence_name { fence_id, ctx_id, ring },
            flags: flags & VGF_FENCED | if_shareable(&fence, VGF_SHAREABLE),
            num_in_fences: fence_ids.len() as u32,
            in_fences: fence_ids.as_ptr(),
            command: commands.as_ptr().cast(),
            size: commands.len(),
            ..Default::default()
        };
        let mut will_retire = false;
        let ret = unsafe { vgf_virgl_submit(self.virgl.0, &submission, &mut will_retire) };
        if !will_retire {
            ret_to_res(ret.min(0))?; // 1: it is held back
        }
        Ok(will_retire)
        // end
    }

    fn context_create_fence(&mut self, fence: RutabagaFence) -> RutabagaResult<()> {
        let (ring_idx, id) = (u32::from(fence.ring_idx), fence.fence_id);
        // vgfence
        let (virgl, flags) = (self.virgl.0, if_shareable(&fence, VGF_VIRGL_FENCE_SHAREABLE));
        let ret =
            unsafe { vgf_virgl_context_create_fence(virgl, self.ctx_id, flags, ring_idx, id) };
        // end
        ret_to_res(ret)
    }
}

impl Drop for VirglRendererContext {
    fn drop(&mut self) {
        // vgfence
        unsafe { vgf_virgl_context_destroy(self.virgl.0, self.ctx_id) };
        // end
    }
}
