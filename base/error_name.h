/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef ERROR_NAME_H
#define ERROR_NAME_H

/* The name of a negative errno value, for messages: "EINVAL" for -EINVAL, as not every libc has
 * strerrorname_np(). An error that is none of ours, or of a call of the kernel's that we make, may
 * come from a driver; it is named in libc's own words. */
const char *error_name(int error);

#endif
