/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "error_name.h"

#define NAME(error) [error] = #error

static const char *const names[] = {
	NAME(E2BIG),
	NAME(EACCES),
	NAME(EADDRINUSE),
	NAME(EAGAIN),
	NAME(EALREADY),
	NAME(EBADF),
	NAME(EBADMSG),
	NAME(EBUSY),
	NAME(ECANCELED),
	NAME(ECONNREFUSED),
	NAME(ECONNRESET),
	NAME(EDEADLK),
	NAME(EDOM),
	NAME(EEXIST),
	NAME(EFAULT),
	NAME(EFBIG),
	NAME(EINTR),
	NAME(EINVAL),
	NAME(EIO),
	NAME(EMFILE),
	NAME(ENAMETOOLONG),
	NAME(ENFILE),
	NAME(ENODEV),
	NAME(ENOENT),
	NAME(ENOMEM),
	NAME(ENOSPC),
	NAME(ENOSYS),
	NAME(ENOTTY),
	NAME(ENOTUNIQ),
	NAME(ENXIO),
	NAME(EOPNOTSUPP),
	NAME(EOVERFLOW),
	NAME(EPERM),
	NAME(EPIPE),
	NAME(EPROTO),
	NAME(ERANGE),
	NAME(ESRCH),
	NAME(ETIME),
	NAME(ETIMEDOUT),
};

const char *error_name(int error)
{
	size_t number = error < 0 ? -(size_t)error : 0;
	const char *name = number < sizeof(names) / sizeof(names[0]) ? names[number] : NULL;

	return name ? name : strerror((int)number);
}
