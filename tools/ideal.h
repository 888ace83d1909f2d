/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef IDEAL_H
#define IDEAL_H

#include <stddef.h>
#include <stdint.h>

#include "workload.h"

/*
 * How long the workload takes at least, from the first job sent to the last one retired, if nothing
 * costs time but the jobs themselves and the guest's own pauses: each request goes out when its
 * pace and the window allow, each job runs when its ring is free and its in-fences are done, and
 * its fence retires then, in the order of its timeline. The way of waiting does not matter. No
 * replay can be faster.
 *
 * Returns 0 or -ENOMEM.
 */
int ideal_makespan(const struct workload *workload, size_t window, uint64_t *makespan_ns);

#endif
