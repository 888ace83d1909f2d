/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VGFENCE_VGFENCE_H
#define VGFENCE_VGFENCE_H

/*
 * vgfence for virtual machine monitors: in-fences of SUBMIT_3D waited for on the host, out-fences
 * retired through callbacks.
 *
 * Errors are negative errno values; 0 and above is success. A parameter whose name ends in `fd` is
 * borrowed for the call; a function whose name ends in `_take` owns the descriptor from the call
 * on, also when it fails. Times are in nanoseconds of CLOCK_MONOTONIC.
 *
 * Threads: every function may be called from any thread, and from inside any callback, unless its
 * comment says otherwise. Callbacks come from the thread that is in vgf_device_dispatch (also by
 * way of drain, reset and destroy), or from the library's own thread where own_thread was asked
 * for; never from two threads at once, and never with a lock held.
 *
 * Stability: before 1.0 the API may change with the minor version, which is the soversion too.
 */

#include <sys/types.h>
#include <sys/uio.h>

#include <vgfence/driver.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VGF_VERSION_MAJOR 0
#define VGF_VERSION_MINOR 1
#define VGF_VERSION_PATCH 0

/* The version of the library that is linked, "0.1.0". The string is static. */
const char *vgf_version(void);

/* ---- Device ------------------------------------------------------------------------------- */

enum vgf_log_level {
	VGF_LOG_ERROR,   /* something of the host failed */
	VGF_LOG_WARNING, /* a guest did wrong, or a fence is stalled; limited to a few a second */
	VGF_LOG_DEBUG,
};

/* A fence that its timeline waits for longer than vgf_options.stall_ns. */
struct vgf_stall {
	struct vgf_fence_name fence;
	uint64_t age_ns; /* since it is the oldest of its timeline */
	bool held;       /* its work still waits for in-fences: look for what those are */
	int fence_fd;    /* its descriptor, borrowed; negative where it has none */
	char driver[32]; /* names from the sync file; empty where there is none */
	char timeline[32];
};

/*
 * What a device calls. Either `retire`, or both of `write_fence` and `write_context_fence`, must
 * be there; where all are, only `retire` is used.
 *
 * A fence that retires answers the guest's request with that fence ID and, on its timeline, all
 * before.
 */
struct vgf_callbacks {
	/* The shape of struct virgl_renderer_callbacks. write_fence is for the global timeline and,
	 * as there, has the low 32 bits of the ID. */
	void (*write_fence)(void *cookie, uint32_t fence_id);
	void (*write_context_fence)(
		void *cookie, uint32_t ctx_id, uint32_t ring_idx, uint64_t fence_id);

	/* Any timeline, all 64 bits. status is 0 or the negative errno value of work that failed,
	 * was refused or cancelled. */
	void (*retire)(void *cookie, const struct vgf_fence_name *fence, int status);

	/* After the last fence of a batch: the place to notify the guest once. May be NULL. */
	void (*retire_end)(void *cookie);

	/* A fence is stalled; told once for each. May be NULL: it is logged too. */
	void (*stalled)(void *cookie, const struct vgf_stall *stall);

	/* The library prints nothing itself. One line without a newline. May be NULL. The only
	 * callback that may come from inside any function; it must not destroy the device. */
	void (*log)(void *cookie, enum vgf_log_level level, const char *message);
};

/*
 * Limits of a device: what a guest can use up. 0 means the default. Past a limit a submission gets
 * an error and nothing is kept of it.
 */
struct vgf_limits {
	uint32_t max_contexts;       /* 1024 */
	uint32_t max_fences;         /* pending or being told, in the device: 65536 */
	uint32_t max_context_fences; /* of these, in one context: 16384 */
	/* Of one submission: 256, a virtqueue's default size, so as many as can be pending on the
	 * control queue of a Linux guest. */
	uint32_t max_in_fences;
	uint32_t max_command_size; /* in bytes: 4 MiB */
	/* In bytes, of work held back in the device: 64 MiB; one context may use a quarter. */
	size_t max_held_size;
	/* Descriptors of fences: half of RLIMIT_NOFILE, at most max_fences. At the limit work waits
	 * for a descriptor to be closed; the last one is kept for fences that are the oldest of their
	 * timelines. */
	uint32_t max_fds;
};

struct vgf_options {
	struct vgf_limits limits;
	uint64_t stall_ns; /* report a fence after this long: 0 means 10 s, UINT64_MAX never */
	bool own_thread;   /* the library dispatches in a thread of its own */
	/* An in-fence that would be refused (unknown, foreign, ambiguous) counts as signalled
	 * instead, with a warning: work may then run too early, as with virglrenderer. */
	bool ignore_bad_in_fences;
};

/*
 * Makes a device: the fences of one virtio-gpu device. Devices share nothing.
 *
 * The process's descriptor table is grown once to limits.max_fds, because growing it later stalls
 * every thread (tens of milliseconds were seen).
 *
 * callbacks: copied. cookie: passed to each. options: NULL for all defaults. out: set to the
 * device, or NULL.
 *
 * Returns 0; -EINVAL where callbacks are missing; -ENOMEM, -EMFILE, -ENFILE, -EAGAIN (no thread).
 */
int vgf_device_create(const struct vgf_callbacks *callbacks, void *cookie,
	const struct vgf_options *options, struct vgf_device **out);

/*
 * Cancels everything, as vgf_device_reset does, and frees the device. All callbacks have come when
 * it returns; from inside a callback those of this device are the last, and the caller of dispatch
 * gets -ECANCELED. No other thread may be in a call with this device, save dispatch, which returns
 * -ECANCELED too, and a driver's, which may signal and publish until its destroy has returned. As
 * for a reset, the renderer goes first. Not from inside a driver's submit or a deferred function.
 * NULL is fine.
 */
void vgf_device_destroy(struct vgf_device *device);

/*
 * A guest reset the device (driver unload, reboot). Before this returns, everything pending
 * retires, with -ECANCELED where it had not signalled; deferred functions are called with
 * -ECANCELED; every driver is told to destroy its context with `cancelled` set; and nothing new is
 * accepted (-ECANCELED). Then IDs may start again. Waits for no GPU, but for drivers' functions
 * that are running in other threads.
 *
 * Drivers of contexts that were destroyed before are not told again: a VMM resets its renderer
 * first, so that none of them signals a fence of that time later.
 *
 * Returns 0; -EDEADLK from inside a driver's submit or a deferred function; -ECANCELED where the
 * device is being destroyed.
 */
int vgf_device_reset(struct vgf_device *device);

/* The descriptor to poll for reading, level-triggered: call vgf_device_dispatch when it is
 * readable. It belongs to the device. -EBUSY where the device has its own thread. */
int vgf_device_get_fd(struct vgf_device *device);

/*
 * Does what there is to do: takes note of what has signalled, runs work that was held back,
 * retires. Waits for the first of it for at most timeout_ms milliseconds, -1 without end, 0 not at
 * all.
 *
 * Returns how many fences were retired, 0 for a timeout; -EBUSY where another thread dispatches
 * (it waits, however, while another is in drain or reset); -EDEADLK from inside a driver's submit
 * or a deferred function; -EINTR; -ECANCELED where the device was destroyed meanwhile and must not
 * be used again.
 */
int vgf_device_dispatch(struct vgf_device *device, int timeout_ms);

/*
 * Dispatches until nothing is pending: for a snapshot, migration or an orderly stop. New
 * submissions prolong it. Waits for at most timeout_ms milliseconds, -1 without end. A reset or a
 * drain in another thread goes first, also past the time, unless this is called from inside a
 * callback.
 *
 * Returns 0; -ETIMEDOUT; -ECANCELED where the device was destroyed meanwhile; -EDEADLK from inside
 * a driver's submit or a deferred function.
 */
int vgf_device_drain(struct vgf_device *device, int timeout_ms);

/* ---- Contexts ----------------------------------------------------------------------------- */

/*
 * Makes a context. An ID may be used again as soon as vgf_context_destroy was called for it: the
 * new context's work then stays behind what is left of the old one's.
 *
 * driver: copied. data: passed to it; the driver's destroy is called exactly once if this
 * succeeds.
 *
 * Returns 0; -EINVAL for a driver without submit; -EEXIST; -ENOSPC at max_contexts; -ENOMEM;
 * -ECANCELED during a reset.
 */
int vgf_context_create(
	struct vgf_device *device, uint32_t ctx_id, const struct vgf_driver *driver, void *data);

/*
 * Destroys a context, behind its held work: what was accepted still runs, in order, and retires.
 * Does not wait. Returns 0 where the driver's destroy was called before it returned, 1 where
 * that follows later; -ENOENT; -ENOMEM: the context is still there.
 */
int vgf_context_destroy(struct vgf_device *device, uint32_t ctx_id);

/*
 * Drops what a context, or one destroyed before with this ID, still holds back: it retires with
 * -ECANCELED, in order. What a driver has already is waited for. Returns 0 or -ENOENT.
 */
int vgf_context_cancel(struct vgf_device *device, uint32_t ctx_id);

/*
 * Calls fn once everything submitted to the context before has been handed to its driver, and
 * before anything after: for commands that must keep their place among held work (attach, detach,
 * transfer). status is 0, or -ECANCELED where the context was cancelled or the device reset;
 * always called exactly once if this succeeds, with no lock held, in this thread or the
 * dispatching one.
 *
 * Returns 0 where fn was called before it returned, 1 where that follows later; -ENOENT; -ENOSPC
 * at max_context_fences waiting; -ENOMEM.
 */
int vgf_context_defer(
	struct vgf_device *device, uint32_t ctx_id, void (*fn)(void *arg, int status), void *arg);

/* ---- Submissions and fences --------------------------------------------------------------- */

/* One SUBMIT_3D. Nothing in it need outlive the call that it is passed to. */
struct vgf_submission {
	struct vgf_fence_name fence; /* ctx_id and ring say where it runs, fenced or not */
	uint32_t flags;              /* of enum vgf_fence_flags */
	uint32_t num_in_fences;
	const uint64_t *in_fences; /* IDs of fences to wait for, in any order, repeated or not */
	/* More to wait for that are not fences of this device: from a dma-buf, a window system,
	 * another device. Each polls readable once it has signalled. Borrowed. */
	const int *in_fence_fds;
	uint32_t num_in_fence_fds;
	const void *command; /* the command stream, in memory that a guest cannot write */
	size_t size;         /* of the command stream, in bytes */
};

/*
 * Submits work: it runs once its in-fences have signalled, or at once where its driver takes them.
 *
 * will_retire: set to whether a callback will retire the out-fence, error or not. Where it is
 * true, the VMM answers the guest at that callback. Where it is false, at once: with an error
 * without VIRTIO_GPU_FLAG_FENCE in the response, as the guest would take that for the completion
 * of all earlier fences of the timeline. May be NULL.
 *
 * Returns 0 where the work was handed to its driver, 1 where it is held back, or an error:
 * - -ENOENT: no such context, or an in-fence that the device has not seen;
 * - -EPERM: an in-fence that is neither shareable nor of this context;
 * - -ENOTUNIQ: an in-fence ID that is pending on several timelines;
 * - -EINVAL: a ring out of range, or a fence ID not above the last of its timeline, or 2^64-1;
 * - -EBADF, -EIO: one of in_fence_fds is no descriptor, or will never signal;
 * - -EMFILE, -ENFILE: no copy of one of them could be made, or there is no room at max_fds;
 * - -E2BIG: more in-fences than max_in_fences, descriptors included, or a command stream above
 *   max_command_size;
 * - -ENOSPC: max_fences, max_context_fences or max_held_size; or the ID is pending on as many
 *   other timelines as a context has rings;
 * - -ECANCELED: a reset is going on;
 * - -ENOMEM; or what the driver's submit returned.
 */
int vgf_submit(
	struct vgf_device *device, const struct vgf_submission *submission, bool *will_retire);

/*
 * Puts the fence of any other command on its timeline. fence_fd polls readable once the command is
 * done; or it is VGF_FENCE_DONE, or VGF_FENCE_BY_CALL. Owned from the call on. The callback comes
 * from dispatch, never from inside this call.
 *
 * Returns 0; -ENOENT where the fence is on a ring of a context that does not exist; -EINVAL,
 * -ENOSPC, -ENOMEM as vgf_submit; -EBADF or -EPERM for a descriptor that cannot be polled; -EMFILE
 * at max_fds.
 */
int vgf_fence_create_take(
	struct vgf_device *device, const struct vgf_fence_name *name, uint32_t flags, int fence_fd);

/*
 * Puts a fence with an error on its timeline: for a request that failed before it got to vgfence
 * (decoding, a resource that is not there) but whose fence is known. error is a negative errno
 * value. Returns as vgf_fence_create_take.
 */
int vgf_fence_refuse(
	struct vgf_device *device, const struct vgf_fence_name *name, uint32_t flags, int error);

/*
 * Gives up on a fence: it counts as signalled, with `error` as its status, whatever its descriptor
 * says, and retires when its turn comes. Work of it that is still held back is dropped.
 * Returns 0; -ENOENT; -EALREADY; -EBUSY while the driver's submit for it runs; -EINVAL.
 */
int vgf_fence_cancel(struct vgf_device *device, const struct vgf_fence_name *name, int error);

/* ---- Guest bytes -------------------------------------------------------------------------- */

/* A SUBMIT_3D request, decoded. Holds its own copy of everything. */
struct vgf_submit_3d {
	struct vgf_submission submission;
	void *storage; /* of in_fences and command */
};

/*
 * Decodes a SUBMIT_3D request (type 0x0207, struct virtio_gpu_cmd_submit: a header of 24 bytes,
 * le32 size, le32 num_in_fences, then num_in_fences le64 IDs, then size bytes of command stream).
 *
 * - iov: the device-readable part of the descriptor chain, cut anywhere. Each byte is read once, so
 *   that a guest that changes it meanwhile changes nothing that was checked.
 * - fence_passing: whether the feature was negotiated. If not, num_in_fences is padding and is
 *   ignored, and so is VIRTIO_GPU_FLAG_FENCE_SHAREABLE.
 * - limits: those of the device; NULL for the defaults.
 * - reason: set to a static string that says what is wrong, or to NULL; may be NULL.
 *
 * Returns 0, and the caller ends with vgf_submit_3d_finish; or, with nothing to finish:
 * - -EBADMSG: shorter than a header; in-fence IDs or command stream past the end;
 * - -EINVAL: not a SUBMIT_3D; a command stream that is no multiple of 4; a ring of 64 or above;
 * - -E2BIG: more in-fences or a longer command stream than the limits;
 * - -ENOMEM.
 * After an error other than of a short header or a bad ring, submission.fence and submission.flags
 * are set, for vgf_fence_refuse; otherwise submission.flags is 0.
 */
int vgf_submit_3d_decode(const struct iovec *iov, size_t iov_count, bool fence_passing,
	const struct vgf_limits *limits, struct vgf_submit_3d *submit, const char **reason);

/* Frees what vgf_submit_3d_decode allocated; the struct may be used again. */
void vgf_submit_3d_finish(struct vgf_submit_3d *submit);

/* ---- Looking inside ----------------------------------------------------------------------- */

struct vgf_stats {
	/* Submissions so far. */
	uint64_t submitted; /* accepted: each of these ran, was cancelled or is held */
	uint64_t refused;   /* got an error before any driver saw them; vgf_fence_refuse too */
	uint64_t run_ready; /* handed over, by how they waited */
	uint64_t run_driver;
	uint64_t run_gl;
	uint64_t run_host;
	uint64_t in_fences;      /* named by accepted submissions */
	uint64_t in_fences_done; /* of these: nothing to wait for: signalled, retired,
				 * repeated, or on the host older ones of a timeline */
	/* Fences so far. */
	uint64_t created;
	uint64_t retired;   /* all of them */
	uint64_t failed;    /* retired with an error other than -ECANCELED */
	uint64_t cancelled; /* retired with -ECANCELED */
	uint64_t stalled;
	/* Now, and the most there has been. */
	uint32_t pending, peak_pending;
	uint32_t held, peak_held; /* submissions */
	uint32_t fds, peak_fds;
	uint32_t contexts;
	size_t held_size; /* bytes */
};

void vgf_device_get_stats(struct vgf_device *device, struct vgf_stats *stats);

/* One pending fence. */
struct vgf_pending {
	struct vgf_fence_name fence;
	uint64_t age_ns; /* since it was accepted */
	int status;      /* of one that has signalled and waits for earlier ones; else 0 */
	bool signalled;
	bool held;   /* its work waits for in-fences */
	bool has_fd; /* it is materialised */
};

/*
 * Lists what is pending, timeline by timeline, each in order: fills pending[] with the first
 * `count`. Returns how many there are, which may be more than `count`.
 */
size_t vgf_device_list_pending(
	struct vgf_device *device, struct vgf_pending *pending, size_t count);

/*
 * Everything there is to know, as text for a bug report: statistics, and each timeline with its
 * fences and what they wait for. *text is for the caller to free(). Returns 0 or -ENOMEM.
 */
int vgf_device_dump(struct vgf_device *device, char **text);

#ifdef __cplusplus
}
#endif

#endif
