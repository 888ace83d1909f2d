/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef TRACER_H
#define TRACER_H

/*
 * What happens to fences, for whoever listens: one function for each kind of event, called where it
 * happens, with the lock held. While nobody listens each is a load and a branch.
 *
 * Seven of them are also USDT probes, vgfence:accept and so on, for bpftrace and the like, as
 * scripts/fence-latency.bt: a no-op each. Arguments: context, ring, fence, then flags, or the way
 * of waiting, or the status.
 */

#include <vgfence/inspect.h>

#if HAVE_PROBES
#include <sys/sdt.h>
#define TRACE_PROBE(event, name, more)                                                             \
	DTRACE_PROBE4(vgfence, event, (name)->ctx_id, (name)->ring, (name)->fence_id, more)
#else
#define TRACE_PROBE(event, name, more) ((void)0)
#endif

/* Of a device. */
struct tracer {
	void (*fn)(void *arg, const struct vgf_event *event); /* NULL: nobody listens */
	void *arg;
	const uint32_t *pending, *held, *fds; /* the device's counters */
};

/* Adds the time and the counters, and tells the listener. */
void trace_tell(const struct tracer *tracer, struct vgf_event event);

static inline bool trace_is_on(const struct tracer *tracer)
{
	return __builtin_expect(tracer->fn != NULL, 0);
}

/* A submission was accepted, or a fence without one; flags: enum vgf_fence_flags. */
static inline void trace_accept(
	const struct tracer *tracer, const struct vgf_fence_name *name, uint32_t flags)
{
	TRACE_PROBE(accept, name, flags);
	if (trace_is_on(tracer)) {
		trace_tell(tracer,
			(struct vgf_event){
				.kind = VGF_EVENT_ACCEPT, .fence = *name, .flags = flags });
	}
}

/* For each pending in-fence of an accepted submission. */
static inline void trace_wait(const struct tracer *tracer, const struct vgf_fence_name *name,
	uint32_t flags, const struct vgf_fence_name *in_fence)
{
	if (trace_is_on(tracer)) {
		trace_tell(tracer,
			(struct vgf_event){ .kind = VGF_EVENT_WAIT,
				.fence = *name,
				.in_fence = *in_fence,
				.flags = flags });
	}
}

/* A submission is held back: for its in-fences, or behind others. */
static inline void trace_hold(
	const struct tracer *tracer, const struct vgf_fence_name *name, uint32_t flags)
{
	TRACE_PROBE(hold, name, flags);
	if (trace_is_on(tracer)) {
		trace_tell(tracer,
			(struct vgf_event){
				.kind = VGF_EVENT_HOLD, .fence = *name, .flags = flags });
	}
}

/* The driver gets a submission now. */
static inline void trace_run(const struct tracer *tracer, const struct vgf_fence_name *name,
	uint32_t flags, enum vgf_wait wait)
{
	TRACE_PROBE(run, name, (uint32_t)wait);
	if (trace_is_on(tracer)) {
		trace_tell(tracer,
			(struct vgf_event){ .kind = VGF_EVENT_RUN,
				.fence = *name,
				.flags = flags,
				.wait = wait });
	}
}

/* A fence has signalled. */
static inline void trace_signal(
	const struct tracer *tracer, const struct vgf_fence_name *name, int status)
{
	TRACE_PROBE(signal, name, status);
	if (trace_is_on(tracer)) {
		trace_tell(tracer,
			(struct vgf_event){ .kind = VGF_EVENT_SIGNAL,
				.fence = *name,
				.flags = VGF_FENCED,
				.status = status });
	}
}

/* A fence retires. */
static inline void trace_retire(
	const struct tracer *tracer, const struct vgf_fence_name *name, int status)
{
	TRACE_PROBE(retire, name, status);
	if (trace_is_on(tracer)) {
		trace_tell(tracer,
			(struct vgf_event){ .kind = VGF_EVENT_RETIRE,
				.fence = *name,
				.flags = VGF_FENCED,
				.status = status });
	}
}

/* A fence is reported as stalled. flags: VGF_FENCED, or 0 if it is an in-fence of work that has no
 * fence. */
static inline void trace_stall(
	const struct tracer *tracer, const struct vgf_fence_name *name, uint32_t flags)
{
	TRACE_PROBE(stall, name, 0);
	if (trace_is_on(tracer)) {
		trace_tell(tracer,
			(struct vgf_event){
				.kind = VGF_EVENT_STALL, .fence = *name, .flags = flags });
	}
}

/* A submission, or a fence without one, was refused. */
static inline void trace_refuse(
	const struct tracer *tracer, const struct vgf_fence_name *name, uint32_t flags, int status)
{
	TRACE_PROBE(refuse, name, status);
	if (trace_is_on(tracer)) {
		trace_tell(tracer,
			(struct vgf_event){ .kind = VGF_EVENT_REFUSE,
				.fence = *name,
				.flags = flags,
				.status = status });
	}
}

#endif
