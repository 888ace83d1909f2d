/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>
#include <sys/resource.h>

#include "options.h"
#include "struct_copy.h"

/* Half of what the process may have, as it is not alone; and no more than there can be fences: some
 * processes may have a thousand million. */
static uint32_t default_max_fds(uint32_t max_fences)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur / 2 > max_fences) {
		return max_fences;
	}
	return limit.rlim_cur < 4 ? 2 : (uint32_t)(limit.rlim_cur / 2);
}

/* A quarter, so that it takes four contexts to lock the others out; but a quarter of few would be
 * less than a context needs to have work in flight. */
static uint32_t default_max_context_fds(uint32_t max_fds)
{
	if (max_fds / 4 >= LEAST_CONTEXT_FDS) {
		return max_fds / 4;
	}
	return max_fds < LEAST_CONTEXT_FDS ? max_fds : LEAST_CONTEXT_FDS;
}

static uint32_t or_default(uint32_t asked, uint32_t otherwise)
{
	return asked ? asked : otherwise;
}

struct vgf_limits limits_resolve(const struct vgf_limits *asked)
{
	struct vgf_limits limits = { 0 };

	if (asked) {
		limits = *asked;
	}
	limits.max_contexts = or_default(limits.max_contexts, DEFAULT_MAX_CONTEXTS);
	limits.max_fences = or_default(limits.max_fences, DEFAULT_MAX_FENCES);
	limits.max_context_fences = or_default(
		limits.max_context_fences, DEFAULT_MAX_CONTEXT_FENCES);
	limits.max_in_fences = or_default(limits.max_in_fences, DEFAULT_MAX_IN_FENCES);
	limits.max_command_size = or_default(limits.max_command_size, DEFAULT_MAX_COMMAND_SIZE);
	limits.max_fds = or_default(limits.max_fds, default_max_fds(limits.max_fences));
	limits.max_context_fds = or_default(
		limits.max_context_fds, default_max_context_fds(limits.max_fds));
	limits.max_held = or_default(limits.max_held, DEFAULT_MAX_HELD);
	if (limits.max_held_size == 0) {
		limits.max_held_size = DEFAULT_MAX_HELD_SIZE;
	}
	return limits;
}

bool limits_have_reserved(const struct vgf_limits *limits)
{
	return !is_zero(limits->reserved, sizeof(limits->reserved));
}

int options_resolve(struct vgf_options *options)
{
	if (limits_have_reserved(&options->limits)) {
		return -EINVAL;
	}
	options->limits = limits_resolve(&options->limits);
	options->budget_items = or_default(options->budget_items, DEFAULT_BUDGET_ITEMS);
	if (options->budget_ns == 0) {
		options->budget_ns = DEFAULT_BUDGET_NS;
	}
	if (options->stall_ns == 0) {
		options->stall_ns = DEFAULT_STALL_NS;
	}
	return 0;
}
