/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "clock.h"
#include "tracer.h"

void trace_tell(const struct tracer *tracer, struct vgf_event event)
{
	event.t_ns = now_ns();
	event.pending = *tracer->pending;
	event.held = *tracer->held;
	event.fds = *tracer->fds;
	tracer->fn(tracer->arg, &event);
}
