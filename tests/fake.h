/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef FAKE_H
#define FAKE_H

/*
 * A VMM and a context driver for tests: they do what the test says, note what the library asks of
 * them, and wait for nothing.
 */

#include <sys/types.h>

#include <vgfence/context_driver.h>
#include <vgfence/inspect.h>
#include <vgfence/vgfence.h>

#include "calls.h"
#include "support.h"

#define FAKE_MAX 8192

/* A net for tests that have gone wrong, not a time that any of them depends on. */
#define WAIT_MS 20000

/* ---- The VMM ---- */

struct fake_retired {
	struct vgf_fence_name name;
	int status;
	void *cookie;
};

struct fake_vmm {
	struct vgf_device *device;
	struct fake_driver *drivers;
	struct fake_retired retired[FAKE_MAX];
	unsigned int num_retired;
	unsigned int num_batches; /* calls of retire_end */
	struct vgf_stall stall;   /* the last one */
	unsigned int num_stalls;
	char log[1024]; /* the last message */
	unsigned int num_logs;

	/* Called from inside the callback, if the test sets it. */
	void (*on_retire)(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status);
	void (*on_batch)(struct fake_vmm *vmm);
	void (*on_stall)(struct fake_vmm *vmm, const struct vgf_stall *stall);
	void (*on_log)(struct fake_vmm *vmm, const char *message);
	void *arg; /* the test's */
};

extern const struct vgf_callbacks fake_callbacks;

/* On the heap. options may be NULL. */
struct fake_vmm *vmm_create(const struct vgf_options *options);

/* With other callbacks than fake_callbacks. */
struct fake_vmm *vmm_create_with(
	const struct vgf_callbacks *callbacks, const struct vgf_options *options);

/* Destroys its device, unless the test did that and set it NULL, and then its drivers. */
void vmm_destroy(struct fake_vmm *vmm);

/* Destroys only its device, so that a test can see what that did. */
void vmm_destroy_device(struct fake_vmm *vmm);

/* Dispatches what there is, without waiting. Returns how many fences retired. */
unsigned int vmm_dispatch(struct fake_vmm *vmm);

/* Waits until `count` fences have retired in all; fails the test after some seconds. */
void vmm_wait(struct fake_vmm *vmm, unsigned int count);

/* Waits until a thread of this process sleeps. A thread that does nothing but dispatch is then
 * inside a call, not between two. */
void wait_until_asleep(pid_t thread_id);

/* The n-th fence that retired was this one, with this status. */
void assert_retired(const struct fake_vmm *vmm, unsigned int n, uint32_t ctx_id, int32_t ring,
	uint64_t fence_id, int status);

/* Exactly these fences have retired, in this order: a list of IDs that ends with 0. */
void assert_all_retired(const struct fake_vmm *vmm, ...);

/* Nothing is pending, held or open in the device. */
void assert_idle(struct fake_vmm *vmm);

struct vgf_stats get_stats(struct fake_vmm *vmm);

/* vgf_context_defer, for every ring. */
int defer_call(
	struct vgf_device *device, uint32_t ctx_id, void (*fn)(void *arg, int status), void *arg);

/* ---- The context driver ---- */

enum fake_answer {
	FAKE_CALL,
	FAKE_FD, /* an eventfd */
	FAKE_DONE,
	FAKE_ERROR, /* `error`, if it gets in-fences or `error_always`; else as FAKE_CALL */
	FAKE_GIVEN, /* `given_fd` as it is */
};

struct fake_job {
	struct vgf_fence_name fence;
	enum vgf_wait wait;
	uint32_t flags;
	uint32_t num_in_fences;
	uint64_t in_fences[16]; /* IDs handed over */
	uint32_t num_family_fences;
	struct vgf_fence_name family_fences[16];
	size_t size;
	char command[16];
	int fence_fd; /* the test's copy, with which it signals; -1 */
};

struct fake_driver {
	struct fake_driver *next; /* of its VMM */
	struct vgf_driver driver;
	enum fake_answer answer;
	int error;
	bool error_always;
	int given_fd;
	struct fake_job jobs[FAKE_MAX];
	unsigned int num_jobs;
	unsigned int num_errors; /* jobs that got FAKE_ERROR: these are not in jobs[] */
	unsigned int num_destroyed;
	bool cancelled;

	/* Called from inside the driver's functions, before they return. on_submit is also called
	 * if submit fails. */
	void (*on_submit)(struct fake_driver *driver, const struct vgf_job *job);
	void (*on_destroy)(struct fake_driver *driver, bool cancelled);
	void *arg; /* the test's */
};

/* It is destroyed with the VMM, and its copies of descriptors are closed. */
struct fake_driver *driver_create(
	struct fake_vmm *vmm, enum vgf_wait wait, enum fake_answer answer);

/* vgf_context_create with it. */
void driver_open(struct fake_driver *driver, struct fake_vmm *vmm, uint32_t ctx_id);

/* The job with this fence, which must have come to the driver. */
struct fake_job *driver_job(struct fake_driver *driver, uint64_t fence_id);
bool driver_has(const struct fake_driver *driver, uint64_t fence_id);

/* The driver got exactly these jobs, in this order: a list of fence IDs that ends with 0. */
void assert_jobs(const struct fake_driver *driver, ...);

/* Signals the fence of a job that has a descriptor. */
void driver_signal(struct fake_driver *driver, uint64_t fence_id);

/* ---- A test that has both ---- */

struct fake_setup {
	enum fake_answer answer;
	enum vgf_wait wait; /* VGF_WAIT_HOST unless it is given */
	struct vgf_options options;
};

/*
 * TEST_VMM(name) { ... } is a test with a VMM and one of its context drivers, `vmm` and `driver`.
 * Whatever differs from the defaults of struct fake_setup stands behind the name:
 *
 *     TEST_VMM(name, .answer = FAKE_DONE, .options.limits.max_fds = 2)
 *
 * They are destroyed when the test has returned. A test whose callbacks use its own variables calls
 * vmm_destroy_device at its end.
 */
#define TEST_VMM(name, ...)                                                                        \
	static void name(struct fake_vmm *vmm, struct fake_driver *driver);                        \
	static void name##_with_vmm(void)                                                          \
	{                                                                                          \
		const struct fake_setup setup = { __VA_ARGS__ };                                   \
		run_with_vmm(name, &setup);                                                        \
	}                                                                                          \
	REGISTER_TEST(name, name##_with_vmm)                                                       \
	static void name(struct fake_vmm *vmm, struct fake_driver *driver)

void run_with_vmm(void (*test)(struct fake_vmm *vmm, struct fake_driver *driver),
	const struct fake_setup *setup);

/* ---- Submitting ---- */

/* An ID in a list of them. */
#define ID(n) ((uint64_t)(n))

/* Submits a shareable fence with in-fences, given as a list of IDs that ends with 0. Returns what
 * vgf_submit returns, and checks that it promises a callback if it succeeds. */
int submit(struct fake_vmm *vmm, uint32_t ctx_id, int32_t ring, uint64_t fence_id, ...);
#define NO_IN_FENCES ((uint64_t)0)

/* The same with flags, an array, and the promise. */
int submit_flags(struct fake_vmm *vmm, uint32_t ctx_id, int32_t ring, uint64_t fence_id,
	uint32_t flags, const uint64_t *in_fences, uint32_t num_in_fences, bool *will_retire);

struct vgf_fence_name make_name(uint32_t ctx_id, int32_t ring, uint64_t fence_id);

/* vgf_fence_create_take of a shareable fence. */
int create_fence(
	struct fake_vmm *vmm, uint32_t ctx_id, int32_t ring, uint64_t fence_id, int fence_fd);

/* The same, which must succeed, with an eventfd. Returns the test's copy of it, to signal and to
 * close. */
int create_fence_fd(struct fake_vmm *vmm, uint32_t ctx_id, int32_t ring, uint64_t fence_id);

int signal_call(struct fake_vmm *vmm, uint32_t ctx_id, int32_t ring, uint64_t fence_id, int status);
int cancel_fence(struct fake_vmm *vmm, uint32_t ctx_id, int32_t ring, uint64_t fence_id, int error);

#endif
