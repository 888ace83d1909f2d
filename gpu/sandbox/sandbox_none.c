/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* In place of sandbox.c, without libseccomp. */

#include "sandbox.h"

#include <errno.h>

int sandbox_prepare(void)
{
	return 0; /* sandbox_enter says it */
}

int sandbox_enter(const struct sandbox_options *options)
{
	(void)options;
	return -EOPNOTSUPP;
}

int sandbox_get_fd(void)
{
	return -1;
}

void sandbox_dispatch(void (*line)(const char *text))
{
	(void)line;
}
