/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VIRGL_H
#define VIRGL_H

/*
 * Inside the virglrenderer plugin. It is a user of the library as others are: only the public
 * headers.
 *
 *   virgl.c            start and end, the loop
 *   virgl_fence.c      fences: what is sent for them, and those that a VMM makes
 *   virgl_sent.c       contexts and fences that virglrenderer has, and those of OpenGL that stay
 *   virgl_callbacks.c  between the VMM's callbacks and virglrenderer's
 *   virgl_context.c    contexts, and the driver that runs their work
 *   virgl_native.c     native contexts, which wait on the GPU
 *   virgl_worker.c     the processes that Venus runs in
 *   virgl_attachment.c contexts by ID, and which has which resource
 *   virgl_resource.c   what is done to resources, behind held work
 *   virgl_sync.c       what GL contexts wait for in OpenGL, without a descriptor
 *   virgl_version.c    what the virglrenderer that is linked has
 *   virgl_log.c        messages
 *   in_place.c         virglrenderer's own functions, as libvgfence-virglrenderer
 *   client_ids.c       fence IDs that a VMM may use in any order
 *   real.c, stubs.py   the functions of the library in whose place that is
 *   egl_display.c      an EGL display if the VMM has none
 *   egl_sync.c         sync files that the GL server waits for
 *   gl_sync.c          sync objects: what of OpenGL is done, and waiting for it
 *   gl_commands.c      which commands change the GL context that is current
 */

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

/* Per-context fences were unstable in 0.10.4, and sharing fences still is. */
#define VIRGL_RENDERER_UNSTABLE_APIS
#include <virglrenderer.h>

#include <vgfence/inspect.h>
#include <vgfence/context_driver.h>
#include <vgfence/virgl.h>

#include "egl_display.h"
#include "egl_sync.h"
#include "gl_sync.h"
#include "hash.h"
#include "log_limit.h"
#include "queue.h"

/* The library is built with hidden visibility: only what is marked can be linked to. */
#define VGF_EXPORT __attribute__((visibility("default")))

/* Whether virglrenderer has one of the functions that only some versions have. In place of
 * libvirglrenderer it is asked by name: there its functions are called by way of others, which are
 * always there. */
#ifdef VGF_IN_PLACE
#define IN_PLACE true
bool real_has(const char *name);
#define HAS_FUNCTION(function) real_has(#function)
#else
#define IN_PLACE false
#define HAS_FUNCTION(function) ((function) != NULL)
#endif

/* Numbers of capability sets: the virtio specification, 5.7.6.8 (GET_CAPSET_INFO). */
enum capset {
	CAPSET_VIRGL = 1,
	CAPSET_VIRGL2 = 2,
	CAPSET_VENUS = 4,
	CAPSET_DRM = 6,
};

/* A fence of OpenGL that virglrenderer has. */
struct sent_fence {
	struct vgf_fence_name name;
	struct virgl_context *context; /* whose ring it is on; NULL: the global timeline */
	bool is_mark;
	bool is_nobodys; /* the device has none of this name */
	TAILQ_ENTRY(sent_fence) link;
};

/* Something that waits until several contexts have come to it. */
struct resource_op {
	struct vgf_virgl *virgl;
	uint32_t res_handle;
	size_t size; /* what is kept for it */
	bool unref;
	unsigned int waits; /* for so many contexts, and one while it is set up */
	vgf_virgl_done done;
	void *arg;
};

struct op_wait {
	struct resource_op *op;
	STAILQ_ENTRY(op_wait) link;
};

struct virgl_context {
	struct vgf_virgl *virgl;
	uint32_t ctx_id;
	uint32_t flags;
	int error;       /* why virglrenderer's context was not made */
	int failed;      /* how the last submission without a fence failed that nobody was told of:
			  * the next fence tells */
	bool closed;     /* destroyed by the VMM; its ID may be another's */
	int worker_fd;   /* its connection to its worker; -1: none, or none is watched */
	const void *gl;  /* the GL context that its work was in so far: of one of its subcontexts */
	bool has_gls;    /* it was in several, which have no order */
	bool changed_gl; /* the last job's was */
	bool has_sent;   /* whether virglrenderer got fences of its rings, and the last one */
	struct vgf_fence_name last_sent;
	/* Protected by the mutex: fences of its rings that virglrenderer has, of OpenGL those in
	 * `sent_gl`. */
	uint32_t num_sent;
	/* Of OpenGL, protected by it, too. */
	uint32_t num_taken; /* out of `sent_gl`, and being signalled */
	bool lingers;       /* the device has it no more; virglrenderer has, for these */
	bool is_disowned;   /* nor has the device any of these fences */
	LIST_ENTRY(virgl_context) linger_link;
	SLIST_ENTRY(virgl_context) lingered_link;
	void *attachments; /* of resources, or soon: a tree by handle (search.h) */
	uint32_t num_attachments;
	STAILQ_HEAD(, op_wait) waits;    /* what waits for a closed context to end */
	LIST_ENTRY(virgl_context) by_id; /* until it is closed */
};

/* Of all contexts, and of one. Some 30 MiB. */
#define MAX_ATTACHMENTS (256u << 10)
#define MAX_CONTEXT_ATTACHMENTS (64u << 10)

/* What waits for closed contexts to end: as many as the device holds back of other calls. */
#define MAX_OP_WAITS 16384

/* A resource that contexts have. */
struct virgl_resource {
	uint32_t handle; /* first: the key of a tree */
	LIST_HEAD(, attachment) attachments;
};

struct attachment {
	uint32_t handle; /* first: the key of a tree */
	struct virgl_context *context;
	struct virgl_resource *resource;
	LIST_ENTRY(attachment) of_resource;
};

struct vgf_virgl {
	struct vgf_device *device;
	pthread_t thread;
	void *cookie;
	int flags;
	struct virgl_renderer_callbacks vmm; /* the VMM's, as far as its version goes */
	struct virgl_renderer_callbacks own; /* what virglrenderer got */
	struct vgf_callbacks more;
	bool independent_rings;
	enum vgf_virgl_wait wait;
	void (*enter_gl)(void *cookie); /* both or none: around what may take long */
	void (*leave_gl)(void *cookie);
	const void *submitted; /* the command stream whose error the VMM is about to be told */
	unsigned int inside;   /* functions of the plugin that the device is in */
	atomic_bool ended; /* being reset or cleaned up: virglrenderer has no contexts any more */
	struct egl_sync *egl;        /* NULL if the GL server cannot wait for sync files */
	struct egl_display *display; /* the plugin's own, or NULL */
	bool asks_gl;                /* whether work is done already when it was submitted */
	bool has_syncs;              /* GL contexts wait for each other's fences by sync objects */
	bool waits_itself;           /* and that keeps this thread waiting, as a processor draws */

	int poll_fd;     /* an epoll set of the device's, virglrenderer's, the timer and wake_fd */
	int renderer_fd; /* virglrenderer's own; -1: it has none */
	int timer_fd;    /* -1: virglrenderer need not be asked */
	int wake_fd;     /* an eventfd: there is something for end_lingered */
	bool timer_runs;
	atomic_bool owes_mark; /* one could not be sent */
	bool call_waits;       /* in place of libvirglrenderer: one of the VMM's */
	atomic_bool is_woken;  /* wake_fd was written */
	unsigned int unpolled; /* how often virglrenderer was not polled, as there was other work */
	atomic_uint sent;      /* fences that virglrenderer has and has not called back for */

	int worker_set;          /* an epoll set: contexts whose workers end; -1: no Venus */
	atomic_uint num_watched; /* contexts in it */
	atomic_bool has_native;  /* there was a fence of a native context */

	/* Protects `sent_gl`, `renderer_contexts`, `lingered`, `num_marks`, `num_back`, `watched`,
	 * `native_fences`, `syncs`, `over` and `in_vain`, as virglrenderer may call back from a
	 * thread of its own. Not held while anything of others is called. */
	pthread_mutex_t mutex;
	pthread_cond_t let_go; /* a context has none in `sent_gl` or being signalled */
	TAILQ_HEAD(sent_fences, sent_fence) sent_gl; /* in the order in which they are done */
	void *renderer_contexts;              /* that virglrenderer has: a tree by ID (search.h) */
	SLIST_HEAD(, virgl_context) lingered; /* of them, those that need not linger any more */
	unsigned int num_marks;               /* in sent_gl */
	unsigned int num_back; /* how often virglrenderer has called back for these */
	void *watched;         /* contexts in worker_set: a tree by ID (search.h) */
	struct log_limit log_limit;

	LIST_HEAD(, virgl_context) lingering; /* contexts of OpenGL that the device has no more */
	unsigned int num_lingering;
	unsigned int next_mark;

	LIST_HEAD(context_bucket, virgl_context) * open; /* contexts that are not closed, by ID */
	size_t open_mask;
	struct hash_key key;
	void *resources; /* that contexts have: a tree by handle (search.h) */
	uint32_t num_attachments;
	uint32_t num_op_waits;

	/* Names of pending fences that virglrenderer knows by their IDs: a tree (search.h). */
	void *native_fences;

	/* Sync objects: those of pending fences, a tree by name (search.h), and those that only
	 * this thread can let go of. */
	void *syncs;
	SLIST_HEAD(, kept_sync) over;
	LIST_HEAD(, kept_sync) kept; /* all: of this thread alone */
	bool in_vain;                /* it has waited, and none of them has retired since */
};

/* The sync object behind the work of a fence. */
struct kept_sync {
	struct vgf_fence_name name; /* first: the key of a tree */
	void *sync;                 /* NULL: it went with virglrenderer's GL contexts */
	bool in_vain;               /* this thread has waited for it already */
	SLIST_ENTRY(kept_sync) over_link;
	LIST_ENTRY(kept_sync) kept_link;
};

static inline void enter_gl(const struct vgf_virgl *virgl)
{
	if (virgl->enter_gl) {
		virgl->enter_gl(virgl->cookie);
	}
}

static inline void leave_gl(const struct vgf_virgl *virgl)
{
	if (virgl->leave_gl) {
		virgl->leave_gl(virgl->cookie);
	}
}

static inline void assert_thread(const struct vgf_virgl *virgl)
{
	(void)virgl;
	assert(pthread_equal(virgl->thread, pthread_self()));
}

/* virglrenderer's functions return errno values of either sign, and -1. */
static inline int to_errno(int ret)
{
	if (ret == -1) {
		return -EINVAL;
	}
	return ret > 0 ? -ret : ret;
}

/* epoll_ctl has failed. That a user's watches are used up is no limit of a device's. */
static inline int watch_error(void)
{
	return errno == ENOSPC ? -ENOMEM : -errno;
}

/* ---- virgl.c ---- */

/* Adds a descriptor to what the VMM's loop polls. */
int watch_fd(struct vgf_virgl *virgl, int fd);

/* The timer runs while virglrenderer has fences, if it has to be asked for them. */
void update_timer(struct vgf_virgl *virgl);

/* Whether virglrenderer calls back from a thread of its own. Then it wants to be polled for queries
 * alone, and its thread waits for that. */
bool calls_back(const struct vgf_virgl *virgl);

/* ---- virgl_fence.c ---- */

/* Gives virglrenderer a fence of a context's ring, for which it will call back. 0 or a negative
 * errno value. */
int send_context_fence(struct virgl_context *context, const struct vgf_fence_name *name);

/* In place of libvirglrenderer with VIRGL_RENDERER_ASYNC_FENCE_CB: the VMM may have no loop that
 * polls for fences. They retire in whichever thread they signal in. */
static inline bool retires_at_once(const struct vgf_virgl *virgl)
{
	return IN_PLACE && (virgl->flags & VIRGL_RENDERER_ASYNC_FENCE_CB);
}

/* virglrenderer has called back for a fence. */
void global_fence_signalled(struct vgf_virgl *virgl, uint32_t fence_id);
void context_fence_signalled(
	struct vgf_virgl *virgl, uint32_t ctx_id, uint32_t ring_idx, uint64_t fence_id);

/* The pending fences of a context, each timeline's from the oldest on. The caller frees them. False
 * with no memory. */
bool list_pending(
	struct vgf_virgl *virgl, uint32_t ctx_id, struct vgf_pending **pending, size_t *count);

/* Ends what a context's work has of fences by call, as virglrenderer has forgotten them, or nobody
 * waits any more. */
void end_lost_fences(struct virgl_context *context, int error);

/* Whether the device waits for calls for a context's work. With no memory it may. */
bool waits_for_calls(const struct virgl_context *context);

/* Whether the VMM can be told of fences on a context's rings. */
bool can_retire_context_fences(const struct vgf_virgl *virgl);

/* ---- virgl_sent.c ---- */

/* Gives virglrenderer a fence of OpenGL, for which it will call back: of a context's ring, or of
 * the global timeline with NULL. 0 or a negative errno value. */
int send_gl_fence(
	struct vgf_virgl *virgl, struct virgl_context *context, const struct vgf_fence_name *name);

/* virglrenderer has called back for a fence. Signals it, and what is done with it. Returns false
 * for one of a context that is not OpenGL's: nothing was done. Any thread. */
bool gl_fence_signalled(struct vgf_virgl *virgl, const struct vgf_fence_name *name);

/* Before virglrenderer makes a context, of whichever kind. 0; -EBUSY: one of OpenGL of this ID
 * lingers; and of OpenGL -ENOSPC: so many others do; -ENOMEM. */
#define MAX_LINGERING 64
int renderer_context_begin(struct virgl_context *context);

/* virglrenderer did not make it. */
void renderer_context_failed(struct virgl_context *context);

/* virglrenderer has it no more, nor its fences: it calls back for none of them. */
void renderer_context_end(struct virgl_context *context);

/* Counts a fence of a context that is not OpenGL's: before virglrenderer has it, as it may call
 * back at once; and when it did, or did not take it. Any thread. */
void fence_sent(struct virgl_context *context);
void fence_came_back(struct vgf_virgl *virgl, uint32_t ctx_id);

/* The device has it no more. Returns whether virglrenderer's thread still uses it, as it has fences
 * that were given up, or that the device could not wait for; then end_lingered destroys and frees
 * it. Waits for that thread if it has called back for the last of them and is signalling it. */
bool gl_context_give_up(struct virgl_context *context);

/* What could not be done before. */
void end_lingered(struct vgf_virgl *virgl);

/* It does not linger. */
void gl_context_destroy(struct virgl_context *context);

/* Before virglrenderer is reset or ended: its thread could not be ended while it waits to be
 * polled. Waits for two fences of OpenGL, or for all if a guest waits for a query. */
void finish_gl_fences(struct vgf_virgl *virgl);

/* virglrenderer was reset or ended, and has no contexts any more. */
void forget_gl_fences(struct vgf_virgl *virgl);

/* ---- virgl_callbacks.c ---- */

/* Sets what virglrenderer gets and what the device gets. 0 or -EINVAL. */
int callbacks_init(struct vgf_virgl *virgl, const struct virgl_renderer_callbacks *cb,
	const struct vgf_callbacks *more, struct vgf_callbacks *device);

/* Brings up the plugin's own display, if the VMM gives none, and hands it to virglrenderer. 0 or an
 * error. */
int callbacks_add_display(struct vgf_virgl *virgl);

/* ---- virgl_attachment.c ---- */

/* 0 or -ENOMEM. options: the device's, or NULL. What it makes is `open`. */
int contexts_init(struct vgf_virgl *virgl, const struct vgf_options *options);

/* The one that the VMM means by this ID, or NULL. */
struct virgl_context *find_context(struct vgf_virgl *virgl, uint32_t ctx_id);

/* The VMM means it from now on; or no longer. */
void context_enter(struct virgl_context *context);
void context_leave(struct virgl_context *context);

bool context_has_resource(const struct virgl_context *context, uint32_t res_handle);

/* 0, also if it has it already; -ENOSPC; -ENOMEM. */
int context_add_resource(struct virgl_context *context, uint32_t res_handle);
void context_remove_resource(struct virgl_context *context, uint32_t res_handle);
void context_remove_resources(struct virgl_context *context); /* all */

/* The first of a resource, or NULL. The others follow by `of_resource`. */
struct attachment *resource_attachments(struct vgf_virgl *virgl, uint32_t res_handle);
void remove_resource_everywhere(struct vgf_virgl *virgl, uint32_t res_handle);

/* ---- virgl_context.c ---- */

/* `size` bytes of commands, a multiple of 4. */
int submit_words(const struct virgl_context *context, const void *command, size_t size);

/* vgf_context_defer, behind the work of every ring. size: what is kept for it. */
int defer_in_context(
	struct virgl_context *context, size_t size, void (*fn)(void *arg, int status), void *arg);

static inline enum capset context_capset(const struct virgl_context *context)
{
	return context->flags & VIRGL_RENDERER_CONTEXT_FLAG_CAPSET_ID_MASK;
}

static inline bool context_is_gl(const struct virgl_context *context)
{
	enum capset capset = context_capset(context);

	return capset == CAPSET_VIRGL || capset == CAPSET_VIRGL2;
}

/* ---- virgl_native.c ---- */

/* In-fences that virglrenderer is given by their IDs. The caller frees ids. */
struct native_ids {
	uint64_t *ids;
	uint32_t count;
};

/* Attaches what a job waits for and virglrenderer does not know by ID, and collects the IDs of the
 * rest. After an error (-EOPNOTSUPP, -EMFILE, -ENOMEM) what was attached only makes the next
 * submission wait longer. */
int native_wait(
	const struct virgl_context *context, const struct vgf_job *job, struct native_ids *ids);
int native_submit(const struct virgl_context *context, const struct vgf_job *job,
	const struct native_ids *ids);

/* Makes a fence with a descriptor, if virglrenderer has one for it; else by call. */
int native_make_fence(struct virgl_context *context, const struct vgf_job *job, int *out_fence_fd);

/* The error that the kernel's fence of a native context ended with, or 0: the callback for it does
 * not say. May be called from virglrenderer's threads. */
int native_fence_error(struct vgf_virgl *virgl, uint64_t fence_id);

/* Any fence of the device retires. */
void native_fence_retired(struct vgf_virgl *virgl, const struct vgf_fence_name *name);

/* ---- virgl_worker.c ---- */

bool uses_render_server(const struct vgf_virgl *virgl);

/* Whether there is a server that makes workers. To be asked before there are contexts. */
bool render_server_answers(void);

/* 0 or an error. */
int workers_init(struct vgf_virgl *virgl);

/* Contexts that have workers. If there are so many, one that is destroyed and has fences left does
 * not wait for them any longer: they are cancelled. False if there is none. */
#define MAX_WORKERS 128
bool has_room_for_worker(struct vgf_virgl *virgl);

/* The descriptors that are opened next: virglrenderer opens three for a context. */
#define NUM_NEXT_FDS 8
struct next_fds {
	int fds[NUM_NEXT_FDS];
	unsigned int count;
};

/* 0, or -EMFILE: then there are not so many. */
int next_fds(const struct vgf_virgl *virgl, struct next_fds *next);

/* Watches a context that virglrenderer has just made. 0, also if there is nothing to watch;
 * -EMFILE; -ENOMEM. */
int watch_worker(struct virgl_context *context, const struct next_fds *next);
void unwatch_worker(struct virgl_context *context);

/* Before virglrenderer ends all contexts, and after. In between fences come back that are not
 * done. */
void disconnect_workers(struct vgf_virgl *virgl);
void unwatch_workers(struct vgf_virgl *virgl);

/* 0 for a fence that comes back and is done; -EIO if the context's worker has ended; -ECANCELED if
 * it is disconnected. Any thread. */
int worker_status(struct vgf_virgl *virgl, uint32_t ctx_id);

/* Ends a context whose worker has ended: one in a call, as that takes virglrenderer its time. */
void check_workers(struct vgf_virgl *virgl);

/* ---- virgl_log.c ---- */

/* A warning, if the VMM takes messages; a few a second. */
void plugin_log(struct vgf_virgl *virgl, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* ---- virgl_resource.c ---- */

/* A context has come to what waits for it: it ends. Frees what it has. */
void context_release_resources(struct virgl_context *context);

/* ---- virgl_sync.c ---- */

/* A job has run: in which GL context its work was. */
void note_gl(struct virgl_context *context, const struct vgf_job *job);

/* Whether the GL context is current that all of a context's work was in, so that a fence there
 * stands for it. Not if there is none, or several. */
bool is_in_its_gl(const struct virgl_context *context);

/* Behind the work of a job that has run. Returns whether that is done. Else others can wait for its
 * fence from now on, if its kind allows that. */
bool make_sync(struct virgl_context *context, const struct vgf_job *job);

/* Whether each of a job's family_fences has one. */
bool have_syncs(struct vgf_virgl *virgl, const struct vgf_job *job);

/* Makes what follows in the GL context that is current wait for them. 0, or -EOPNOTSUPP: a
 * processor draws, and is not done soon. */
int wait_for_syncs(struct vgf_virgl *virgl, const struct vgf_job *job);

/* Any fence of the device retires. */
void sync_retired(struct vgf_virgl *virgl, const struct vgf_fence_name *name);

/* Before virglrenderer's GL contexts end. */
void drop_syncs(struct vgf_virgl *virgl);

/* At the end, when all fences have retired. */
void free_syncs(struct vgf_virgl *virgl);

/* ---- virgl_version.c ---- */

/*
 * What some versions have, or NULL. They are weak references, as the header is of one version and
 * the library may be of another.
 */
#define SINCE_LATER __attribute__((weak))
/* NOLINTBEGIN(readability-redundant-declaration): it is, with a header that has them. */
SINCE_LATER int virgl_renderer_submit_cmd2(
	void *buffer, int ctx_id, int ndw, uint64_t *in_fence_ids, uint32_t num_in_fences);
SINCE_LATER int virgl_renderer_attach_fence(int ctx_id, int fence_fd);
SINCE_LATER int virgl_renderer_get_fence_fd(uint64_t fence_id);
/* NOLINTEND(readability-redundant-declaration) */

/* Whether native contexts can wait for in-fences on the GPU. */
bool has_native_wait(void);

/* Whether its thread lives on after virgl_renderer_reset. */
bool restarts_thread(const struct vgf_virgl *virgl);

#endif
