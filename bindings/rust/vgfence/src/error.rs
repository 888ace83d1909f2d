// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The vgfence authors

//! Errors: an errno value, and what kind of error that is.

use std::fmt;
use std::io;
use std::os::raw::c_int;
use std::os::unix::io::OwnedFd;

use vgfence_sys as sys;

/// What the functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of error it is. The functions' own comments say what each means there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// ENOENT: no such context, fence or in-fence.
    NotFound,
    /// EPERM: an in-fence that is neither shareable nor of this context; a descriptor that cannot
    /// be polled.
    NotPermitted,
    /// ENOTUNIQ: the fence ID is pending on several timelines.
    Ambiguous,
    /// EINVAL.
    InvalidInput,
    /// EBADMSG: a guest's request that cannot be decoded.
    Malformed,
    /// EBADF.
    BadDescriptor,
    /// EIO.
    Io,
    /// EMFILE, ENFILE: no descriptor is left, of the process or of the device's limits.
    NoDescriptor,
    /// E2BIG: more in-fences, or a longer command stream, than the limits.
    TooBig,
    /// ENOSPC: at one of the device's limits.
    AtLimit,
    /// ENOMEM.
    OutOfMemory,
    /// ECANCELED: given up, reset, or the device is gone.
    Cancelled,
    /// EBUSY.
    Busy,
    /// EDEADLK: not from inside a driver's function, a deferred function or a log message.
    Deadlock,
    /// EEXIST.
    AlreadyExists,
    /// EALREADY: the fence has signalled.
    AlreadySignalled,
    /// EAGAIN: the fence has no descriptor yet; no thread could be started.
    TryAgain,
    /// ETIMEDOUT, ETIME.
    TimedOut,
    /// EINTR.
    Interrupted,
    /// ENOTTY, EOPNOTSUPP: the kernel, the descriptor or the driver cannot do that.
    Unsupported,
    /// Another one, of a driver's.
    Other,
}

/// An errno value. It is never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Error {
    errno: u16,
}

impl Error {
    /// An error that is known at compile time, as in `Error::new(5)`.
    ///
    /// # Panics
    /// If it is no errno value: 0, or above 4095.
    pub const fn new(errno: u16) -> Error {
        assert!(errno > 0 && errno < 4096, "not an errno value");
        Error { errno }
    }

    pub(crate) const fn known(errno: u32) -> Error {
        Error::new(errno as u16)
    }

    /// What a C function returned: a negative errno value, or a count.
    pub(crate) fn check(ret: c_int) -> Result<usize> {
        match ret {
            0.. => Ok(ret as usize),
            -4095..=-1 => Err(Error { errno: -ret as u16 }),
            _ => Err(Error::known(sys::EINVAL)),
        }
    }

    /// The positive errno value.
    pub fn errno(self) -> i32 {
        i32::from(self.errno)
    }

    /// As the library takes it.
    pub(crate) fn negative(self) -> c_int {
        -c_int::from(self.errno)
    }

    pub fn kind(self) -> ErrorKind {
        match u32::from(self.errno) {
            sys::ENOENT => ErrorKind::NotFound,
            sys::EPERM => ErrorKind::NotPermitted,
            sys::ENOTUNIQ => ErrorKind::Ambiguous,
            sys::EINVAL => ErrorKind::InvalidInput,
            sys::EBADMSG => ErrorKind::Malformed,
            sys::EBADF => ErrorKind::BadDescriptor,
            sys::EIO => ErrorKind::Io,
            sys::EMFILE | sys::ENFILE => ErrorKind::NoDescriptor,
            sys::E2BIG => ErrorKind::TooBig,
            sys::ENOSPC => ErrorKind::AtLimit,
            sys::ENOMEM => ErrorKind::OutOfMemory,
            sys::ECANCELED => ErrorKind::Cancelled,
            sys::EBUSY => ErrorKind::Busy,
            sys::EDEADLK => ErrorKind::Deadlock,
            sys::EEXIST => ErrorKind::AlreadyExists,
            sys::EALREADY => ErrorKind::AlreadySignalled,
            sys::EAGAIN => ErrorKind::TryAgain,
            sys::ETIMEDOUT | sys::ETIME => ErrorKind::TimedOut,
            sys::EINTR => ErrorKind::Interrupted,
            sys::ENOTTY | sys::EOPNOTSUPP => ErrorKind::Unsupported,
            _ => ErrorKind::Other,
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} (errno {})", self.kind(), self.errno)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from(*self).fmt(f)
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        io::Error::from_raw_os_error(error.errno())
    }
}

/// A descriptor that the library did not take comes back with the error. Where only the error
/// counts, `?` closes it.
#[derive(Debug)]
pub struct NotTaken {
    pub error: Error,
    pub fd: OwnedFd,
}

impl From<NotTaken> for Error {
    fn from(not_taken: NotTaken) -> Error {
        not_taken.error
    }
}
