/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "virgl_double.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define VIRGL_RENDERER_UNSTABLE_APIS
#include <virglrenderer.h>

#define MAX_CONTEXTS 1024
#define MAX_FENCES 512
#define CAPSET_VENUS 4
#define CAPSET_DRM 6

struct double_fence {
	bool used;
	bool in_table;
	bool global;
	uint32_t ctx_id, ring;
	uint64_t id;
	uint64_t number; /* in the order in which they were made */
	uint32_t gl;     /* the GL context that it was made in */
	int fd;          /* -1 if it only calls back */
};

static struct {
	void *cookie;
	struct virgl_renderer_callbacks *callbacks;
	struct double_context {
		uint32_t id, capset;
		int attached_fds[DOUBLE_MAX_IN_FENCES];
		unsigned int num_attached;
		uint32_t sub;      /* its subcontext of GL */
		int connection[2]; /* of Venus: ours and the worker's; -1 if it has ended */
	} contexts[MAX_CONTEXTS];
	struct double_fence fences[MAX_FENCES];
	uint64_t num_made; /* fences */
	int poll_fd;
} state = { .poll_fd = -1 };

struct virgl_double the_double;

/* Of the fences: a test signals in a thread of its own what another one makes. Not held in a
 * callback. */
static pthread_mutex_t fences_mutex = PTHREAD_MUTEX_INITIALIZER;

static int take_error(int *error)
{
	int ret = *error;

	*error = 0;
	return ret;
}

/* ---- Fences ------------------------------------------------------------------------------- */

static struct double_fence *find_fence(uint64_t id)
{
	for (unsigned int i = 0; i < MAX_FENCES; i++) {
		if (state.fences[i].used && state.fences[i].id == id) {
			return &state.fences[i];
		}
	}
	return NULL;
}

static struct double_fence *find_in_table(uint64_t id)
{
	for (unsigned int i = 0; i < MAX_FENCES; i++) {
		if (state.fences[i].in_table && state.fences[i].id == id) {
			return &state.fences[i];
		}
	}
	return NULL;
}

static void drop_fence(struct double_fence *fence)
{
	if (fence->fd >= 0 && (fence->used || fence->in_table)) {
		close(fence->fd);
	}
	*fence = (struct double_fence){ .fd = -1 };
}

static struct double_fence *add_fence_locked(
	uint32_t ctx_id, uint32_t ring, uint64_t id, bool native)
{
	for (unsigned int i = 0; i < MAX_FENCES; i++) {
		struct double_fence *fence = &state.fences[i];
		if (!fence->used && !fence->in_table) {
			bool taken = find_in_table(id) != NULL;
			*fence = (struct double_fence){
				.used = true,
				.in_table = native && !taken,
				.ctx_id = ctx_id,
				.ring = ring,
				.id = id,
				.number = ++state.num_made,
				.gl = the_double.gl_context,
				.fd = native ? eventfd(0, EFD_CLOEXEC) : -1,
			};
			return fence;
		}
	}
	return NULL;
}

static struct double_fence *add_fence(uint32_t ctx_id, uint32_t ring, uint64_t id, bool native)
{
	struct double_fence *fence;

	pthread_mutex_lock(&fences_mutex);
	fence = add_fence_locked(ctx_id, ring, id, native);
	pthread_mutex_unlock(&fences_mutex);
	return fence;
}

static bool signal_fd(const struct double_fence *fence)
{
	return fence && fence->fd >= 0 && eventfd_write(fence->fd, 1) == 0;
}

bool double_signal_fd(uint64_t fence_id)
{
	bool is_signalled;

	pthread_mutex_lock(&fences_mutex);
	is_signalled = signal_fd(find_fence(fence_id));
	pthread_mutex_unlock(&fences_mutex);
	return is_signalled;
}

static struct double_fence take(struct double_fence *fence)
{
	struct double_fence copy = *fence;

	fence->used = false;
	if (!fence->in_table) {
		fence->used = true;
		drop_fence(fence);
	}
	return copy;
}

static void tell(const struct double_fence *fence)
{
	if (fence->global) {
		state.callbacks->write_fence(state.cookie, (uint32_t)fence->id);
	} else {
		state.callbacks->write_context_fence(
			state.cookie, fence->ctx_id, fence->ring, fence->id);
	}
}

/* The table forgets what has signalled. */
static void forget_in_table(uint64_t fence_id)
{
	struct double_fence *fence = find_in_table(fence_id);

	if (fence && fence->used) {
		fence->in_table = false;
	} else if (fence) {
		drop_fence(fence);
	}
}

static bool call_back(uint64_t fence_id, bool is_signalled)
{
	struct double_fence *fence, taken;

	pthread_mutex_lock(&fences_mutex);
	if (is_signalled) {
		signal_fd(find_fence(fence_id));
		forget_in_table(fence_id);
	}
	fence = find_fence(fence_id);
	if (fence) {
		taken = take(fence);
	}
	pthread_mutex_unlock(&fences_mutex);
	if (fence) {
		tell(&taken);
	}
	return fence;
}

bool double_call_back(uint64_t fence_id)
{
	return call_back(fence_id, false);
}

bool double_signal(uint64_t fence_id)
{
	return call_back(fence_id, true);
}

static struct double_fence *oldest_fence(void)
{
	struct double_fence *oldest = NULL;

	for (unsigned int i = 0; i < MAX_FENCES; i++) {
		struct double_fence *fence = &state.fences[i];
		if (fence->used && (!oldest || fence->number < oldest->number)) {
			oldest = fence;
		}
	}
	return oldest;
}

bool double_oldest(uint64_t *fence_id)
{
	const struct double_fence *oldest = oldest_fence();

	*fence_id = oldest ? oldest->id : 0;
	return oldest;
}

bool double_signal_oldest(void)
{
	struct double_fence *oldest, taken;
	bool has_fd;

	pthread_mutex_lock(&fences_mutex);
	oldest = oldest_fence();
	has_fd = oldest && oldest->fd >= 0;
	if (oldest && !has_fd) {
		taken = take(oldest);
	}
	pthread_mutex_unlock(&fences_mutex);
	if (has_fd) {
		return double_signal(oldest->id);
	}
	if (oldest) {
		tell(&taken);
	}
	return oldest;
}

uint32_t double_gl_of(uint64_t fence_id)
{
	const struct double_fence *fence = find_fence(fence_id);

	assert(fence);
	return fence->gl;
}

bool double_forget_oldest(void)
{
	struct double_fence *oldest = oldest_fence();

	if (oldest) {
		drop_fence(oldest);
	}
	return oldest;
}

unsigned int double_pending(void)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < MAX_FENCES; i++) {
		count += state.fences[i].used;
	}
	return count;
}

void double_forget(void)
{
	for (unsigned int i = 0; i < MAX_FENCES; i++) {
		drop_fence(&state.fences[i]);
	}
	for (unsigned int i = 0; i < the_double.num_submissions; i++) {
		struct double_submission *submission = &the_double.submissions[i];
		for (unsigned int j = 0; j < submission->num_attached; j++) {
			close(submission->attached_fds[j]);
		}
	}
	memset(&the_double, 0, sizeof(the_double));
}

/* ---- Contexts ----------------------------------------------------------------------------- */

static struct double_context *find_context(uint32_t ctx_id)
{
	for (unsigned int i = 0; i < MAX_CONTEXTS; i++) {
		if (state.contexts[i].id == ctx_id) {
			return &state.contexts[i];
		}
	}
	return NULL;
}

static void end_worker(struct double_context *context)
{
	if (context->connection[1] >= 0) {
		close(context->connection[1]);
		context->connection[1] = -1;
	}
}

bool double_end_worker(uint32_t ctx_id, bool call_back)
{
	struct double_context *context = find_context(ctx_id);

	if (!context || context->capset != CAPSET_VENUS) {
		return false;
	}
	end_worker(context);
	for (unsigned int i = 0; i < MAX_FENCES; i++) {
		const struct double_fence *fence = &state.fences[i];
		if (call_back && fence->used && !fence->global && fence->ctx_id == ctx_id) {
			double_call_back(fence->id);
		}
	}
	return true;
}

static int start_worker(struct double_context *context)
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, context->connection) < 0) {
		return errno;
	}
	return 0;
}

static void end_context(struct double_context *context)
{
	if (context->capset == CAPSET_VENUS) {
		end_worker(context);
		close(context->connection[0]);
	}
	for (unsigned int i = 0; i < context->num_attached; i++) {
		close(context->attached_fds[i]);
	}
	if (the_double.forgets_the_oldest && oldest_fence()) {
		drop_fence(oldest_fence());
	}
	/* Its fences are forgotten, but not by the table. */
	for (unsigned int i = 0; i < MAX_FENCES; i++) {
		struct double_fence *fence = &state.fences[i];
		if (fence->used && !fence->global && fence->ctx_id == context->id) {
			if (!fence->in_table) {
				drop_fence(fence);
			}
			fence->used = false;
		}
	}
	the_double.num_contexts -= context->id != 0;
	memset(context, 0, sizeof(*context));
}

static void end_contexts(void)
{
	for (unsigned int i = 0; i < MAX_CONTEXTS; i++) {
		if (state.contexts[i].id != 0) {
			end_context(&state.contexts[i]);
		}
	}
}

static void take_server(void *cookie, int flags, const struct virgl_renderer_callbacks *cb)
{
	if ((flags & VIRGL_RENDERER_RENDER_SERVER) && cb->get_server_fd) {
		int fd = cb->get_server_fd(cookie, DOUBLE_SERVER_VERSION);
		if (fd >= 0) {
			close(fd);
		}
	}
}

int virgl_renderer_init(void *cookie, int flags, struct virgl_renderer_callbacks *cb)
{
	if (state.callbacks || !cb) {
		return cb ? -EBUSY : -EINVAL;
	}
	if (the_double.init_error) {
		virgl_renderer_cleanup(cookie); /* as virglrenderer, by its exported name */
		return take_error(&the_double.init_error);
	}
	take_server(cookie, flags, cb);
	the_double.num_starts++;
	the_double.is_running = true;
	state.cookie = cookie;
	state.callbacks = cb;
	for (unsigned int i = 0; i < MAX_FENCES; i++) {
		state.fences[i].fd = -1;
	}
	return 0;
}

static void note_pending(void)
{
	the_double.pending_at_reset = double_pending();
	the_double.forgets_the_oldest = false;
}

void virgl_renderer_cleanup(void *cookie)
{
	(void)cookie;
	note_pending();
	end_contexts();
	for (unsigned int i = 0; i < MAX_FENCES; i++) {
		drop_fence(&state.fences[i]);
	}
	if (state.poll_fd >= 0) {
		close(state.poll_fd);
		state.poll_fd = -1;
	}
	state.callbacks = NULL;
	the_double.is_running = false;
}

void virgl_renderer_reset(void)
{
	note_pending();
	end_contexts();
}

void double_ask(void)
{
	eventfd_write(state.poll_fd, 1);
}

void virgl_renderer_poll(void)
{
	eventfd_t ignored;

	if (state.poll_fd >= 0) {
		eventfd_read(state.poll_fd, &ignored);
	}
	the_double.num_polls++;
	if (the_double.on_poll) {
		the_double.on_poll();
	}
}

int virgl_renderer_get_poll_fd(void)
{
	if (the_double.has_poll_fd && state.poll_fd < 0) {
		state.poll_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
	return state.poll_fd;
}

int virgl_renderer_context_get_poll_fd(uint32_t ctx_id)
{
	(void)ctx_id;
	the_double.submissions_before = the_double.num_submissions;
	return the_double.context_poll_fd > 0 ? the_double.context_poll_fd : -1;
}

void virgl_renderer_force_ctx_0(void)
{
	the_double.num_made_current++;
	the_double.gl_context = 0;
}

int virgl_renderer_context_create_with_flags(
	uint32_t ctx_id, uint32_t ctx_flags, uint32_t nlen, const char *name)
{
	struct double_context *context = find_context(0);

	(void)name;
	the_double.name_size = nlen;
	if (the_double.context_error) {
		return take_error(&the_double.context_error);
	}
	assert(context && !find_context(ctx_id));
	if (ctx_flags == CAPSET_VENUS && start_worker(context) != 0) {
		return EMFILE;
	}
	context->id = ctx_id;
	context->capset = ctx_flags;
	the_double.num_contexts++;
	return 0;
}

void virgl_renderer_context_destroy(uint32_t ctx_id)
{
	struct double_context *context = find_context(ctx_id);

	if (context) {
		end_context(context);
	}
}

/* ---- Work --------------------------------------------------------------------------------- */

/* Commands that choose the subcontext: of the virgl protocol. */
#define SET_SUB_CTX 28
#define CREATE_SUB_CTX 29
#define MAX_SUB 16

static void follow_sub(struct double_context *context, const uint32_t *words, int count)
{
	for (int i = 0; i + 1 < count; i += 1 + (int)(words[i] >> 16)) {
		uint8_t type = (uint8_t)words[i];
		if (type == SET_SUB_CTX || type == CREATE_SUB_CTX) {
			assert(words[i + 1] < MAX_SUB);
			context->sub = words[i + 1];
		}
	}
	the_double.gl_context = context->id * MAX_SUB + context->sub;
}

static int submit(void *buffer, int ctx_id, int ndw, const uint64_t *ids, uint32_t num_ids)
{
	struct double_context *context = find_context((uint32_t)ctx_id);
	struct double_submission *submission = &the_double.submissions[the_double.num_submissions];

	if (!context) {
		return EINVAL;
	}
	assert(((uintptr_t)buffer & 3) == 0); /* virglrenderer asks for it since 1.1 */
	follow_sub(context, buffer, ndw);
	if (ndw == 0) {
		return take_error(&the_double.submit_error);
	}
	assert(the_double.num_submissions < DOUBLE_MAX_SUBMISSIONS);
	the_double.num_submissions++;
	submission->ctx_id = (uint32_t)ctx_id;
	submission->word = *(uint32_t *)buffer;
	submission->gl_context = the_double.gl_context;
	submission->num_ids = num_ids;
	for (uint32_t i = 0; i < num_ids; i++) {
		submission->ids[i] = ids[i];
	}
	memcpy(submission->attached_fds, context->attached_fds, sizeof(context->attached_fds));
	submission->num_attached = context->num_attached;
	context->num_attached = 0;
	return take_error(&the_double.submit_error);
}

int virgl_renderer_submit_cmd(void *buffer, int ctx_id, int ndw)
{
	return submit(buffer, ctx_id, ndw, NULL, 0);
}

#if DOUBLE_SUBMIT_CMD2
int virgl_renderer_submit_cmd2(
	void *buffer, int ctx_id, int ndw, uint64_t *in_fence_ids, uint32_t num_in_fences);
int virgl_renderer_submit_cmd2(
	void *buffer, int ctx_id, int ndw, uint64_t *in_fence_ids, uint32_t num_in_fences)
{
	return submit(buffer, ctx_id, ndw, in_fence_ids, num_in_fences);
}
#endif

#if DOUBLE_ATTACH_FENCE
int virgl_renderer_attach_fence(int ctx_id, int fence_fd);
int virgl_renderer_attach_fence(int ctx_id, int fence_fd)
{
	struct double_context *context = find_context((uint32_t)ctx_id);

	if (!context || the_double.attach_error) {
		close(fence_fd);
		return context ? take_error(&the_double.attach_error) : EINVAL;
	}
	assert(context->num_attached < DOUBLE_MAX_IN_FENCES);
	context->attached_fds[context->num_attached++] = fence_fd;
	return 0;
}
#endif

#if DOUBLE_GET_FENCE_FD
int virgl_renderer_get_fence_fd(uint64_t fence_id);
int virgl_renderer_get_fence_fd(uint64_t fence_id)
{
	struct double_fence *fence = find_in_table(fence_id);

	return fence ? fcntl(fence->fd, F_DUPFD_CLOEXEC, 0) : -1;
}

/* Its ID has 32 bits in the header of 0.10.4. */
int double_export_fence(uint64_t fence_id, int *fd) __asm__("virgl_renderer_export_fence");
int double_export_fence(uint64_t fence_id, int *fd)
{
	*fd = virgl_renderer_get_fence_fd(fence_id);
	return *fd < 0 ? -EINVAL : 0;
}
#endif

int virgl_renderer_context_create_fence(
	uint32_t ctx_id, uint32_t flags, uint32_t ring_idx, uint64_t fence_id)
{
	struct double_context *context = find_context(ctx_id);

	(void)flags;
	if (!context) {
		return -EINVAL;
	}
	if (the_double.fence_error) {
		return take_error(&the_double.fence_error);
	}
	if (the_double.has_no_memory ||
		!add_fence(ctx_id, ring_idx, fence_id, context->capset == CAPSET_DRM)) {
		return -ENOMEM;
	}
	if (the_double.signals_at_once) {
		double_signal(fence_id);
	}
	return 0;
}

int virgl_renderer_create_fence(int client_fence_id, uint32_t ctx_id)
{
	struct double_fence *fence;

	if (the_double.fence_error) {
		return take_error(&the_double.fence_error);
	}
	fence = the_double.has_no_memory ? NULL :
					   add_fence(ctx_id, 0, (uint32_t)client_fence_id, false);
	if (!fence) {
		return -ENOMEM;
	}
	fence->global = true;
	return 0;
}

/* ---- Resources: only when ----------------------------------------------------------------- */

void virgl_renderer_ctx_attach_resource(int ctx_id, int res_handle)
{
	(void)ctx_id;
	(void)res_handle;
	the_double.num_attached++;
}

void virgl_renderer_ctx_detach_resource(int ctx_id, int res_handle)
{
	(void)ctx_id;
	(void)res_handle;
	the_double.num_attached--;
	the_double.submissions_before = the_double.num_submissions;
}

int virgl_renderer_resource_create_blob(const struct virgl_renderer_resource_create_blob_args *args)
{
	(void)args;
	the_double.num_blobs++;
	the_double.submissions_before = the_double.num_submissions;
	return 0;
}

void virgl_renderer_resource_detach_iov(int res_handle, struct iovec **iov, int *num_iovs)
{
	(void)res_handle;
	(void)iov;
	(void)num_iovs;
	the_double.num_detached_iovs++;
	the_double.submissions_before = the_double.num_submissions;
}

void virgl_renderer_resource_unref(uint32_t res_handle)
{
	(void)res_handle;
	the_double.num_unrefs++;
	the_double.submissions_before = the_double.num_submissions;
}

int virgl_renderer_transfer_read_iov(uint32_t handle, uint32_t ctx_id, uint32_t level,
	uint32_t stride, uint32_t layer_stride, struct virgl_box *box, uint64_t offset,
	struct iovec *iov, int iovec_cnt)
{
	(void)handle;
	(void)ctx_id;
	(void)level;
	(void)stride;
	(void)layer_stride;
	(void)box;
	(void)offset;
	(void)iov;
	(void)iovec_cnt;
	the_double.num_transfers++;
	the_double.submissions_before = the_double.num_submissions;
	return take_error(&the_double.transfer_error);
}

int virgl_renderer_transfer_write_iov(uint32_t handle, uint32_t ctx_id, int level, uint32_t stride,
	uint32_t layer_stride, struct virgl_box *box, uint64_t offset, struct iovec *iovec,
	unsigned int iovec_cnt)
{
	(void)handle;
	(void)ctx_id;
	(void)level;
	(void)stride;
	(void)layer_stride;
	(void)box;
	(void)offset;
	(void)iovec;
	(void)iovec_cnt;
	the_double.num_transfers++;
	the_double.submissions_before = the_double.num_submissions;
	return take_error(&the_double.transfer_error);
}
