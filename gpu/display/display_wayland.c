/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* The connection to the compositor: what that has, and the events. */

#include "display_wayland.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clock.h"
#include "wayland_private.h"

/* For the compositor to say what it has. */
#define START_TIMEOUT_NS (5 * UINT64_C(1000000000))

#define MAX_EVENTS 16

/* Of what the socket has no room for: requests that nobody asks wayland_can_send for. */
#define MAX_BUFFER_SIZE 4096

/* Of interfaces, as far as they are used here. */
#define COMPOSITOR_VERSION 4 /* damage_buffer */
#define DMABUF_VERSION 3     /* modifiers, and no table of them in shared memory yet */
#define WM_BASE_VERSION 1

/* ---- What the compositor has ----------------------------------------------------------------- */

static void ping(void *data, struct xdg_wm_base *wm_base, uint32_t serial)
{
	(void)data;
	xdg_wm_base_pong(wm_base, serial);
}

static const struct xdg_wm_base_listener wm_base_listener = { .ping = ping };

/* Of version 1 and 2, without modifiers. */
static void note_format(void *data, struct zwp_linux_dmabuf_v1 *dmabuf, uint32_t format)
{
	(void)data;
	(void)dmabuf;
	(void)format;
}

/* What there is no room for is copied. */
static void note_modifier(void *data, struct zwp_linux_dmabuf_v1 *dmabuf, uint32_t format,
	uint32_t high, uint32_t low)
{
	struct display_wayland *display = data;

	(void)dmabuf;
	if (display->num_formats < WAYLAND_MAX_FORMATS) {
		display->formats[display->num_formats++] = (struct wayland_format){ format,
			(uint64_t)high << 32 | low };
	}
}

static const struct zwp_linux_dmabuf_v1_listener dmabuf_listener = {
	.format = note_format,
	.modifier = note_modifier,
};

/* Without it there is nothing to hand over. */
static void bind_dmabuf(struct display_wayland *display, uint32_t name, uint32_t version)
{
	if (version < DMABUF_VERSION || display->dmabuf != NULL) {
		return;
	}
	display->formats = calloc(WAYLAND_MAX_FORMATS, sizeof(*display->formats));
	if (display->formats == NULL) {
		return;
	}
	display->dmabuf = wl_registry_bind(
		display->registry, name, &zwp_linux_dmabuf_v1_interface, DMABUF_VERSION);
	zwp_linux_dmabuf_v1_add_listener(display->dmabuf, &dmabuf_listener, display);
}

static void note_clock(void *data, struct wp_presentation *presentation, uint32_t clock)
{
	struct display_wayland *display = data;

	(void)presentation;
	display->presentation_clock = clock;
}

static const struct wp_presentation_listener presentation_listener = { .clock_id = note_clock };

static void bind_presentation(struct display_wayland *display, uint32_t name)
{
	if (display->presentation == NULL) {
		display->presentation = wl_registry_bind(
			display->registry, name, &wp_presentation_interface, 1);
		wp_presentation_add_listener(
			display->presentation, &presentation_listener, display);
	}
}

struct global {
	const struct wl_interface *interface;
	uint32_t version;
	size_t place; /* in struct display_wayland */
};

static const struct global globals[] = {
	{ &wl_compositor_interface, COMPOSITOR_VERSION,
		offsetof(struct display_wayland, compositor) },
	{ &wl_shm_interface, 1, offsetof(struct display_wayland, shm) },
	{ &xdg_wm_base_interface, WM_BASE_VERSION, offsetof(struct display_wayland, wm_base) },
	{ &zxdg_decoration_manager_v1_interface, 1, offsetof(struct display_wayland, decorations) },
	{ &wp_viewporter_interface, 1, offsetof(struct display_wayland, viewporter) },
	{ &zwp_linux_explicit_synchronization_v1_interface, 1,
		offsetof(struct display_wayland, explicit_sync) },
};

static void bind(struct display_wayland *display, const struct global *global, uint32_t name,
	uint32_t version)
{
	void **place = (void **)((char *)display + global->place);

	if (*place == NULL && version >= global->version) {
		*place = wl_registry_bind(
			display->registry, name, global->interface, global->version);
	}
}

static void note_global(void *data, struct wl_registry *registry, uint32_t name,
	const char *interface, uint32_t version)
{
	struct display_wayland *display = data;

	for (size_t i = 0; i < sizeof(globals) / sizeof(globals[0]); i++) {
		if (strcmp(interface, globals[i].interface->name) == 0) {
			bind(display, &globals[i], name, version);
		}
	}
	wayland_syncobj_note(display, name, interface);
	if (strcmp(interface, zwp_linux_dmabuf_v1_interface.name) == 0) {
		bind_dmabuf(display, name, version);
	} else if (strcmp(interface, wp_presentation_interface.name) == 0) {
		bind_presentation(display, name);
	} else if (strcmp(interface, wl_seat_interface.name) == 0) {
		wayland_seat_bind(&display->seat, registry, name, version);
	}
}

static void forget_global(void *data, struct wl_registry *registry, uint32_t name)
{
	struct display_wayland *display = data;

	(void)registry;
	if (name == display->seat.name) {
		wayland_seat_end(&display->seat);
	}
}

static const struct wl_registry_listener registry_listener = {
	.global = note_global,
	.global_remove = forget_global,
};

/* ---- Fences ---------------------------------------------------------------------------------- */

static int watch(struct display_wayland *display, int fd, uint32_t events, void *what)
{
	struct epoll_event event = { .events = events, .data.ptr = what };

	if (epoll_ctl(display->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0) {
		return 0;
	}
	return -errno;
}

/* The compositor has the same file, so epoll would not forget it with our descriptor. */
static void end_wait(struct display_wayland *display, struct wayland_wait *wait)
{
	LIST_REMOVE(wait, link);
	epoll_ctl(display->epoll_fd, EPOLL_CTL_DEL, wait->fd, NULL);
	close(wait->fd);
	free(wait);
}

int wayland_wait_take(
	struct display_wayland *display, int fence_fd, void (*ready)(void *arg), void *arg)
{
	struct wayland_wait *wait = malloc(sizeof(*wait));
	int ret;

	if (wait == NULL) {
		close(fence_fd);
		return -ENOMEM;
	}
	*wait = (struct wayland_wait){ .fd = fence_fd, .ready = ready, .arg = arg };
	LIST_INSERT_HEAD(&display->waits, wait, link);
	ret = watch(display, fence_fd, EPOLLIN, wait);
	if (ret < 0) {
		end_wait(display, wait);
	}
	return ret;
}

static void wake(struct display_wayland *display, struct wayland_wait *wait)
{
	void (*ready)(void *arg) = wait->ready;
	void *arg = wait->arg;

	end_wait(display, wait);
	ready(arg);
}

/* ---- Events ---------------------------------------------------------------------------------- */

/* Until all is sent, and what was held back has had its turn. */
static void watch_for_room(struct display_wayland *display)
{
	bool is_wanted = display->is_full || display->holds_back;
	struct epoll_event event = { .events = EPOLLIN | (is_wanted ? EPOLLOUT : 0) };

	if (is_wanted != display->watches_for_room) {
		display->watches_for_room = is_wanted;
		epoll_ctl(display->epoll_fd, EPOLL_CTL_MOD, wl_display_get_fd(display->display),
			&event);
	}
}

static int flush(struct display_wayland *display)
{
	display->is_full = wl_display_flush(display->display) < 0 && errno == EAGAIN;
	watch_for_room(display);
	return wl_display_get_error(display->display) != 0 ? -EPIPE : 0;
}

/* Reads what there is, once, and does what it says. */
static int read_events(struct display_wayland *display)
{
	while (wl_display_prepare_read(display->display) < 0) {
		if (wl_display_dispatch_pending(display->display) < 0) {
			return -EPIPE;
		}
	}
	if (wl_display_read_events(display->display) < 0 ||
		wl_display_dispatch_pending(display->display) < 0) {
		return -EPIPE;
	}
	return 0;
}

bool wayland_can_send(struct display_wayland *display)
{
	bool can_send = flush(display) == 0 && !display->is_full;

	display->holds_back = display->holds_back || !can_send;
	return can_send;
}

/* What was held back has its turn. */
static void go_on(struct display_wayland *display)
{
	display->holds_back = false;
	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		wayland_window_go_on(&display->windows[i]);
	}
	wayland_seat_show_cursor(&display->seat);
}

/* Once, however often the user has changed them. */
static void tell_sizes(struct display_wayland *display)
{
	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		wayland_window_tell_size(&display->windows[i]);
	}
}

int display_wayland_get_fd(const struct display_wayland *display)
{
	return display->epoll_fd;
}

int display_wayland_dispatch(struct display_wayland *display)
{
	struct epoll_event events[MAX_EVENTS];
	int count = epoll_wait(display->epoll_fd, events, MAX_EVENTS, 0);
	int ret = 0;

	for (int i = 0; i < count && ret == 0; i++) {
		if (events[i].data.ptr != NULL) {
			wake(display, events[i].data.ptr);
		} else if (events[i].events & ~(uint32_t)EPOLLOUT) {
			ret = read_events(display);
		}
	}
	if (ret == 0) {
		tell_sizes(display);
		ret = flush(display);
	}
	if (ret == 0 && display->holds_back && !display->is_full) {
		go_on(display);
		ret = flush(display);
	}
	return ret;
}

void display_wayland_flush(struct display_wayland *display)
{
	wayland_seat_show_cursor(&display->seat);
	flush(display);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

int wayland_memory(size_t size, void **out)
{
	int fd = memfd_create("vgfence-wayland", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int ret;

	if (fd < 0) {
		return -errno;
	}
	if (ftruncate(fd, (off_t)size) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		ret = -errno;
		close(fd);
		return ret;
	}
	*out = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (*out == MAP_FAILED) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

/* ---- Connecting ------------------------------------------------------------------------------ */

static void note_answer(void *data, struct wl_callback *callback, uint32_t serial)
{
	bool *answered = data;

	(void)callback;
	(void)serial;
	*answered = true;
}

static const struct wl_callback_listener answer_listener = { .done = note_answer };

static int wait_for_events(struct display_wayland *display, uint64_t end_ns)
{
	struct pollfd readable = { .fd = wl_display_get_fd(display->display), .events = POLLIN };
	uint64_t now = now_ns();
	int ret = flush(display);

	if (ret < 0) {
		return ret;
	}
	if (now >= end_ns) {
		return -ETIMEDOUT;
	}
	ret = poll(&readable, 1, (int)((end_ns - now + NS_PER_MS - 1) / NS_PER_MS));
	if (ret < 0 && errno != EINTR) {
		return -errno;
	}
	return ret > 0 ? read_events(display) : 0;
}

/* wl_display_roundtrip would wait for ever. */
static int await_answer(struct display_wayland *display, uint64_t end_ns)
{
	struct wl_callback *callback = wl_display_sync(display->display);
	bool answered = false;
	int ret = 0;

	if (callback == NULL) {
		return -ENOMEM;
	}
	wl_callback_add_listener(callback, &answer_listener, &answered);
	while (!answered && ret == 0) {
		ret = wait_for_events(display, end_ns);
	}
	wl_callback_destroy(callback);
	return ret;
}

/* First it says what it has, then which formats that takes. */
static int find_globals(struct display_wayland *display)
{
	uint64_t end_ns = now_ns() + START_TIMEOUT_NS;
	int ret;

	display->registry = wl_display_get_registry(display->display);
	if (display->registry == NULL) {
		return -ENOMEM;
	}
	wl_registry_add_listener(display->registry, &registry_listener, display);
	ret = await_answer(display, end_ns);
	if (ret == 0) {
		ret = await_answer(display, end_ns);
	}
	if (ret < 0) {
		return ret;
	}
	if (display->compositor == NULL || display->shm == NULL || display->wm_base == NULL) {
		return -EPROTO;
	}
	xdg_wm_base_add_listener(display->wm_base, &wm_base_listener, display);
	return 0;
}

/* More than that ends the connection. */
static void limit_buffer(struct wl_display *display)
{
#ifdef HAVE_WL_DISPLAY_SET_MAX_BUFFER_SIZE
	wl_display_set_max_buffer_size(display, MAX_BUFFER_SIZE);
#else
	(void)display; /* it has that much anyway */
#endif
}

/* What it has to say is in the errors that it returns. */
static void ignore_message(const char *format, va_list arguments)
{
	(void)format;
	(void)arguments;
}

static int start(struct display_wayland *display, const char *name)
{
	int ret;

	wl_log_set_handler_client(ignore_message);
	display->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (display->epoll_fd < 0) {
		return -errno;
	}
	display->display = wl_display_connect(name);
	if (display->display == NULL) {
		return errno > 0 ? -errno : -ENOENT;
	}
	limit_buffer(display->display);
	ret = watch(display, wl_display_get_fd(display->display), EPOLLIN, NULL);
	return ret < 0 ? ret : find_globals(display);
}

int display_wayland_create(const char *name, const struct display_wayland_ops *ops, void *cookie,
	struct display_wayland **out)
{
	struct display_wayland *display = calloc(1, sizeof(*display));
	int ret;

	*out = NULL;
	if (display == NULL) {
		return -ENOMEM;
	}
	display->ops = ops;
	display->cookie = cookie;
	display->seat.display = display;
	display->presentation_clock = UINT32_MAX; /* none's */
	LIST_INIT(&display->leaving);
	LIST_INIT(&display->waits);
	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		display->windows[i] = (struct wayland_window){ .display = display, .scanout = i };
		LIST_INIT(&display->windows[i].buffers);
		LIST_INIT(&display->windows[i].answers);
	}
	ret = start(display, name);
	if (ret < 0) {
		display_wayland_destroy(display);
		return ret;
	}
	*out = display;
	return 0;
}

static void end_all(struct display_wayland *display)
{
	struct wayland_wait *wait;
	struct wayland_buffer *buffer;

	display->is_ending = true;
	while ((wait = LIST_FIRST(&display->waits)) != NULL) {
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the one before is off the list. */
		end_wait(display, wait);
	}
	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		wayland_window_end(&display->windows[i]);
	}
	while ((buffer = LIST_FIRST(&display->leaving)) != NULL) {
		wayland_buffer_end(buffer);
	}
	wayland_seat_end(&display->seat);
	wayland_syncobj_end(display);
}

static void destroy_proxies(struct display_wayland *display)
{
	void *proxies[] = { display->compositor, display->shm, display->wm_base,
		display->decorations, display->viewporter, display->presentation, display->dmabuf,
		display->explicit_sync, display->registry };

	for (size_t i = 0; i < sizeof(proxies) / sizeof(proxies[0]); i++) {
		if (proxies[i] != NULL) {
			wl_proxy_destroy(proxies[i]);
		}
	}
}

void display_wayland_destroy(struct display_wayland *display)
{
	if (display == NULL) {
		return;
	}
	end_all(display);
	destroy_proxies(display);
	if (display->display != NULL) {
		wl_display_flush(display->display); /* the windows go */
		wl_display_disconnect(display->display);
	}
	if (display->epoll_fd >= 0) {
		close(display->epoll_fd);
	}
	free(display->formats);
	free(display);
}

/* ---- What the guest shows -------------------------------------------------------------------- */

void display_wayland_set_scanout(
	struct display_wayland *display, uint32_t scanout, uint32_t width, uint32_t height)
{
	wayland_window_set_size(&display->windows[scanout], width, height);
}

bool display_wayland_update(struct display_wayland *display, uint32_t scanout,
	const struct virtio_gpu_rect *rect, uint64_t frame)
{
	return wayland_window_flush(&display->windows[scanout], rect, frame);
}

bool display_wayland_offer_take(struct display_wayland *display, uint32_t scanout,
	const struct virtio_gpu_rect *rect, uint64_t frame, const struct gpu_buffer *buffer)
{
	return wayland_window_offer_take(&display->windows[scanout], rect, frame, buffer);
}

void display_wayland_buffer_leaving(struct display_wayland *display, uint64_t key)
{
	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		wayland_window_leave(&display->windows[i], key);
	}
	wayland_key_settle(display, key);
}

void display_wayland_set_cursor(
	struct display_wayland *display, uint32_t scanout, const struct gpu_cursor *cursor)
{
	wayland_seat_set_cursor(&display->seat, scanout, cursor);
}

void display_wayland_get_stats(
	const struct display_wayland *display, struct display_wayland_stats *stats)
{
	*stats = display->stats;
}
