// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The vgfence authors

//! The fences on a dma-buf, as sync files: `<vgfence/dma_buf.h>`.

use std::os::raw::c_int;
use std::os::unix::io::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use vgfence_sys as sys;

use crate::device::status;
use crate::error::{Error, Result};

/// What is done to a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

impl Access {
    pub(crate) fn raw(self) -> u32 {
        match self {
            Access::Read => sys::VGF_ACCESS_READ,
            Access::Write => sys::VGF_ACCESS_WRITE,
        }
    }
}

/// A sync file of the fences that an access has to wait for.
///
/// # Errors
/// `Unsupported`: no dma-buf, or a kernel older than 6.0; `NoDescriptor`; `OutOfMemory`.
pub fn export_sync_file(dma_buf: BorrowedFd<'_>, access: Access) -> Result<OwnedFd> {
    // SAFETY: the descriptor is lent, the new one is ours.
    unsafe {
        let ret = sys::vgf_dma_buf_export_sync_file(dma_buf.as_raw_fd(), access.raw());
        Error::check(ret).map(|fd| OwnedFd::from_raw_fd(fd as c_int))
    }
}

/// Adds the fences in a sync file to those of a dma-buf.
///
/// # Errors
/// `Unsupported` as above, or if `fence` is no sync file; `OutOfMemory`.
pub fn import_sync_file(
    dma_buf: BorrowedFd<'_>,
    access: Access,
    fence: BorrowedFd<'_>,
) -> Result<()> {
    let (dma_buf, fence) = (dma_buf.as_raw_fd(), fence.as_raw_fd());
    // SAFETY: both descriptors are lent.
    status(unsafe { sys::vgf_dma_buf_import_sync_file(dma_buf, access.raw(), fence) })
}
