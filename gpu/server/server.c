/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "server.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <linux/virtio_gpu.h>

#include "aside.h"
#include "control_socket.h"
#include "display_socket.h"
#include "display_vnc.h"
#include "display_wayland.h"
#include "input.h"
#include "renderer.h"
#include "turn.h"
#include "vhost_user.h"

#define DISPLAY_TIMEOUT_MS 3000

#if INPUT_POINTER_MAX != DISPLAY_VNC_POINTER_MAX || INPUT_POINTER_MAX != DISPLAY_WAYLAND_POINTER_MAX
#error "what is pointed at goes to the input as it is"
#endif

_Static_assert(GPU_MAX_REQUESTS >= VIRTQUEUE_MAX_SIZE, "a token for each entry of a queue");

struct gpu_server {
	struct gpu_server_options options;
	struct gpu *gpu;
	struct vhost_user *vhost_user;
	struct vhost_user_watch gpu_watch;
	struct display_socket *display; /* the front end's display, or NULL */
	struct vhost_user_watch display_watch;
	struct vhost_user_watch timer_watch; /* of the answer that the display is asked for */
	bool display_changed;                /* something was sent to it in this round */
	bool display_full;                   /* a scanout is not shown, as was told in the log */
	struct display_vnc *vnc;             /* or NULL */
	struct vhost_user_watch vnc_watch;
	struct display_wayland *wayland; /* or NULL */
	struct vhost_user_watch wayland_watch;
	struct display_wayland_stats wayland_stats; /* of the one that has gone */
	/* What the guest is told of, as the windows and VNC's clients want them. */
	struct virtio_gpu_display_one monitors[VIRTIO_GPU_MAX_SCANOUTS];
	struct input *input; /* the keyboard and pointer, or NULL */
	struct vhost_user_watch input_watch;
	bool input_ready;               /* it has something to do */
	struct control_socket *control; /* or NULL */
	struct vhost_user_watch control_watch;
	struct turn turn;
	struct aside *aside; /* or NULL */
	int kick_set;        /* an epoll set, of its thread's; -1: there is none */
};

static void dispatch_display(void *arg);

static void log_message(void *cookie, enum vgf_log_level level, const char *message)
{
	const struct gpu_server *server = cookie;

	server->options.log(server->options.cookie, level, message);
}

/* ---- The monitors, unless the front end's display has them -------------------------------- */

/* As the options say: windows that have gone have no size, and none is closed. */
static void init_monitors(struct gpu_server *server)
{
	const struct gpu_options *options = &server->options.gpu;

	memset(server->monitors, 0, sizeof(server->monitors));
	for (uint32_t i = 0; i < options->num_scanouts && i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		server->monitors[i].r.width = options->width;
		server->monitors[i].r.height = options->height;
		server->monitors[i].enabled = 1;
	}
}

/* The front end's display knows its monitors, if there is one. Side by side, as the pointer has
 * them. */
static void tell_windows(struct gpu_server *server)
{
	uint32_t x = 0;

	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		server->monitors[i].r.x = x;
		x += server->monitors[i].enabled ? server->monitors[i].r.width : 0;
	}
	if (server->display == NULL) {
		gpu_tell_monitors(server->gpu, server->monitors);
	}
}

static void window_resized(void *cookie, uint32_t scanout, uint32_t width, uint32_t height)
{
	struct gpu_server *server = cookie;

	server->monitors[scanout].r.width = width;
	server->monitors[scanout].r.height = height;
	tell_windows(server);
}

/* ---- The front end's display -------------------------------------------------------------- */

/* Anew for each answer that is waited for; also from inside display_socket_dispatch. */
static void set_timer(struct gpu_server *server)
{
	uint32_t timeout_ms = server->options.display_timeout_ms;
	struct itimerspec time = { 0 };

	if (server->display && display_socket_is_asked(server->display)) {
		timeout_ms = timeout_ms > 0 ? timeout_ms : DISPLAY_TIMEOUT_MS;
		time.it_value.tv_sec = timeout_ms / 1000;
		time.it_value.tv_nsec = (long)(timeout_ms % 1000) * 1000000;
	}
	timerfd_settime(server->timer_watch.fd, 0, &time, NULL);
}

static void display_is_late(void *arg)
{
	struct gpu_server *server = arg;
	uint64_t count;

	if (read(server->timer_watch.fd, &count, sizeof(count)) == sizeof(count) &&
		server->display) {
		log_message(server, VGF_LOG_WARNING,
			"the front end's display does not say which monitors it has");
		display_socket_give_up(server->display);
	}
}

static bool ask_monitors(void *cookie)
{
	struct gpu_server *server = cookie;
	bool asked = server->display && display_socket_ask_monitors(server->display);

	server->display_changed = server->display_changed || asked;
	set_timer(server);
	return asked;
}

static bool ask_edid(void *cookie, uint32_t scanout)
{
	struct gpu_server *server = cookie;
	bool asked = server->display && display_socket_ask_edid(server->display, scanout);

	server->display_changed = server->display_changed || asked;
	set_timer(server);
	return asked;
}

static void tell_monitors(void *cookie, const struct virtio_gpu_display_one *monitors)
{
	struct gpu_server *server = cookie;

	set_timer(server);
	gpu_tell_monitors(server->gpu, monitors);
}

static void tell_edid(void *cookie, const uint8_t *edid, uint32_t size)
{
	struct gpu_server *server = cookie;

	set_timer(server);
	gpu_tell_edid(server->gpu, edid, size);
}

/* Who still waits for it is told that there is no answer. */
static void close_display(struct gpu_server *server)
{
	struct display_socket *display = server->display;

	if (display) {
		vhost_user_unwatch(server->vhost_user, &server->display_watch);
		server->display = NULL;
		server->display_full = false;
		display_socket_give_up(display);
		display_socket_destroy(display);
		if (!server->wayland) {
			gpu_forget_display(server->gpu);
		}
	}
}

/* Edge-triggered, so it reports a socket that has room at once. */
static int watch_display(struct gpu_server *server)
{
	server->display_watch = (struct vhost_user_watch){
		.fd = display_socket_get_fd(server->display),
		.events = EPOLLIN | EPOLLOUT | EPOLLET,
		.readable = dispatch_display,
		.arg = server,
	};
	return vhost_user_watch(server->vhost_user, &server->display_watch);
}

/* Also whenever the socket has room again. */
static void dispatch_display(void *arg)
{
	struct gpu_server *server = arg;
	int ret = server->display ? display_socket_dispatch(server->display) : 0;

	if (ret > 0) {
		vhost_user_unwatch(server->vhost_user, &server->display_watch);
		ret = watch_display(server);
	}
	if (ret < 0) {
		close_display(server);
	}
}

static int read_scanout(
	void *cookie, uint32_t scanout, const struct virtio_gpu_rect *rect, uint32_t *pixels)
{
	struct gpu_server *server = cookie;

	return gpu_read_scanout(server->gpu, scanout, rect, pixels);
}

static int get_buffer(void *cookie, uint32_t scanout, struct gpu_buffer *out)
{
	struct gpu_server *server = cookie;

	return gpu_get_scanout_buffer(server->gpu, scanout, out);
}

static void release_buffer(void *cookie, uint64_t buffer_key)
{
	struct gpu_server *server = cookie;

	gpu_tell_released(server->gpu, buffer_key);
}

static void shown(void *cookie, uint32_t scanout, uint64_t frame)
{
	struct gpu_server *server = cookie;

	gpu_tell_shown(server->gpu, scanout, frame);
}

/* Windows read the memory in place, and say when a frame is shown: nobody else can, too. */
static int get_buffer_for_front_end(void *cookie, uint32_t scanout, struct gpu_buffer *out)
{
	struct gpu_server *server = cookie;

	return server->wayland ? -EOPNOTSUPP : gpu_get_scanout_buffer(server->gpu, scanout, out);
}

static int set_gpu_socket_take(void *cookie, int socket_fd)
{
	static const struct display_socket_ops ops = {
		.read = read_scanout,
		.monitors = tell_monitors,
		.edid = tell_edid,
	};
	static const struct display_socket_ops in_place_ops = {
		.read = read_scanout,
		.monitors = tell_monitors,
		.edid = tell_edid,
		.get_buffer = get_buffer_for_front_end,
		.release = release_buffer,
		.shown = shown,
	};
	struct gpu_server *server = cookie;
	bool in_place = server->options.front_end_dma_bufs;
	int ret;

	close_display(server);
	if (socket_fd < 0) {
		gpu_forget_monitors(server->gpu);
		init_monitors(server);
		return 0;
	}
	ret = display_socket_create_take(
		socket_fd, in_place ? &in_place_ops : &ops, server, &server->display);
	if (ret < 0) {
		return ret;
	}
	ret = watch_display(server);
	if (ret < 0) {
		close_display(server);
		return ret;
	}
	/* A guest that was only paused does not say it again. */
	gpu_show(server->gpu);
	return 0;
}

/* ---- VNC ---------------------------------------------------------------------------------- */

static void key(void *cookie, uint32_t keysym, bool down)
{
	struct gpu_server *server = cookie;

	if (server->input) {
		server->input_ready = true;
		input_key(server->input, keysym, down);
	}
}

/* Both count from edge to edge, and buttons as RFB does. */
static void pointer(void *cookie, uint32_t buttons, uint32_t x, uint32_t y)
{
	struct gpu_server *server = cookie;

	if (server->input) {
		server->input_ready = true;
		input_pointer(server->input, buttons, x, y);
	}
}

static void client_left(void *cookie)
{
	struct gpu_server *server = cookie;

	if (server->input) {
		server->input_ready = true;
		input_release(server->input);
	}
}

/* The other monitors stay what they are. */
static void resize(void *cookie, uint32_t width, uint32_t height)
{
	struct gpu_server *server = cookie;

	server->monitors[0].enabled = 1;
	window_resized(server, 0, width, height);
}

static void close_vnc(struct gpu_server *server)
{
	if (server->vnc) {
		vhost_user_unwatch(server->vhost_user, &server->vnc_watch);
		display_vnc_destroy(server->vnc);
		server->vnc = NULL;
	}
}

static void dispatch_vnc(void *arg)
{
	struct gpu_server *server = arg;

	if (server->vnc && display_vnc_dispatch(server->vnc) < 0) {
		log_message(server, VGF_LOG_ERROR, "VNC has ended: there is no memory for it");
		close_vnc(server);
		client_left(server);
	}
}

static void tell_why_no_vnc(struct gpu_server *server, int error)
{
	char message[256];

	snprintf(message, sizeof(message), "VNC at %s: %s", server->options.vnc,
		error == -EOPNOTSUPP ? "built without libvncserver (libvncserver-dev)" :
				       strerror(-error));
	log_message(server, VGF_LOG_ERROR, message);
}

static int open_vnc(struct gpu_server *server)
{
	static const struct display_vnc_ops ops = {
		.read = read_scanout,
		.key = key,
		.pointer = pointer,
		.left = client_left,
		.resize = resize,
	};
	int ret;

	if (server->options.vnc == NULL) {
		return 0;
	}
	ret = display_vnc_create(server->options.vnc, &ops, server, &server->vnc);
	if (ret < 0) {
		tell_why_no_vnc(server, ret);
		return ret;
	}
	server->vnc_watch = (struct vhost_user_watch){
		.fd = display_vnc_get_fd(server->vnc),
		.readable = dispatch_vnc,
		.arg = server,
	};
	return vhost_user_watch(server->vhost_user, &server->vnc_watch);
}

/* ---- Wayland ------------------------------------------------------------------------------ */

static void key_code(void *cookie, uint32_t code, bool down)
{
	struct gpu_server *server = cookie;

	if (server->input) {
		server->input_ready = true;
		input_key_code(server->input, code, down);
	}
}

/* As if its monitor were unplugged. */
static void window_closed(void *cookie, uint32_t scanout)
{
	struct gpu_server *server = cookie;

	server->monitors[scanout].enabled = 0;
	tell_windows(server);
}

static void tell_lack_of_memory(void *cookie)
{
	struct gpu_server *server = cookie;

	if (!server->display_full) {
		server->display_full = true;
		log_message(server, VGF_LOG_WARNING, "no memory for all that the monitors show");
	}
}

static void close_wayland(struct gpu_server *server)
{
	struct display_wayland *wayland = server->wayland;

	if (wayland) {
		vhost_user_unwatch(server->vhost_user, &server->wayland_watch);
		display_wayland_get_stats(wayland, &server->wayland_stats);
		server->wayland = NULL;
		display_wayland_destroy(wayland);
		gpu_forget_display(server->gpu);
	}
}

static void dispatch_wayland(void *arg)
{
	struct gpu_server *server = arg;

	if (server->wayland && display_wayland_dispatch(server->wayland) < 0) {
		log_message(server, VGF_LOG_ERROR,
			"the Wayland compositor has gone: nothing is shown any more");
		close_wayland(server);
	}
}

static void tell_why_no_wayland(struct gpu_server *server, int error)
{
	const char *name = server->options.wayland;
	const char *why = error == -EOPNOTSUPP ?
		"built without libwayland-client (libwayland-dev, wayland-protocols)" :
		error == -EPROTO ? "lacks wl_compositor 4, wl_shm or xdg_wm_base" :
				   strerror(-error);
	char message[256];

	snprintf(message, sizeof(message), "the Wayland compositor%s%s: %s", name[0] ? " " : "",
		name, why);
	log_message(server, VGF_LOG_ERROR, message);
}

static int open_wayland(struct gpu_server *server)
{
	static const struct display_wayland_ops ops = {
		.read = read_scanout,
		.get_buffer = get_buffer,
		.release = release_buffer,
		.shown = shown,
		.resize = window_resized,
		.closed = window_closed,
		.lacks_memory = tell_lack_of_memory,
		.key = key_code,
		.pointer = pointer,
		.left = client_left,
	};
	const char *name = server->options.wayland;
	int ret;

	if (name == NULL) {
		return 0;
	}
	ret = display_wayland_create(name[0] != '\0' ? name : NULL, &ops, server, &server->wayland);
	if (ret < 0) {
		tell_why_no_wayland(server, ret);
		return ret;
	}
	server->wayland_watch = (struct vhost_user_watch){
		.fd = display_wayland_get_fd(server->wayland),
		.readable = dispatch_wayland,
		.arg = server,
	};
	return vhost_user_watch(server->vhost_user, &server->wayland_watch);
}

static void buffer_leaving(void *cookie, uint64_t buffer_key)
{
	struct gpu_server *server = cookie;

	if (server->wayland) {
		display_wayland_buffer_leaving(server->wayland, buffer_key);
	} else if (server->display && server->options.front_end_dma_bufs) {
		server->display_changed = true;
		display_socket_buffer_leaving(server->display, buffer_key);
	} else {
		gpu_tell_released(server->gpu, buffer_key);
	}
}

/* ---- The keyboard and pointer ------------------------------------------------------------- */

static void input_has_work(void *arg)
{
	struct gpu_server *server = arg;

	server->input_ready = true;
}

static int open_input(struct gpu_server *server)
{
	const char *path = server->options.input_path;
	char message[256];
	int ret;

	if (path == NULL) {
		return 0;
	}
	ret = input_create(path, log_message, server, &server->input);
	if (ret < 0) {
		snprintf(message, sizeof(message), "%s: %s", path, strerror(-ret));
		log_message(server, VGF_LOG_ERROR, message);
		return ret;
	}
	server->input_watch = (struct vhost_user_watch){
		.fd = input_get_fd(server->input),
		.readable = input_has_work,
		.arg = server,
	};
	return vhost_user_watch(server->vhost_user, &server->input_watch);
}

static void close_input(struct gpu_server *server)
{
	if (server->input) {
		vhost_user_unwatch(server->vhost_user, &server->input_watch);
		input_destroy(server->input);
		server->input = NULL;
	}
}

/* Its loop is inside of the other one: this is its round. */
static int dispatch_input(struct gpu_server *server)
{
	if (!server->input || (!server->input_ready && input_timeout(server->input, -1) < 0)) {
		return 0;
	}
	server->input_ready = false;
	return input_dispatch(server->input);
}

static int timeout_of_both(struct gpu_server *server, int timeout_ms)
{
	timeout_ms = gpu_timeout(server->gpu, timeout_ms);
	return server->input ? input_timeout(server->input, timeout_ms) : timeout_ms;
}

/* ---- The control socket ------------------------------------------------------------------- */

static void dispatch_control(void *arg)
{
	struct gpu_server *server = arg;

	control_socket_dispatch(server->control);
}

static int open_control(struct gpu_server *server)
{
	const char *path = server->options.control_path;
	char message[256];
	int ret;

	if (path == NULL) {
		return 0;
	}
	ret = control_socket_create(path, server->gpu, &server->control);
	if (ret < 0) {
		snprintf(message, sizeof(message), "%s: %s", path, strerror(-ret));
		log_message(server, VGF_LOG_ERROR, message);
		return ret;
	}
	server->control_watch = (struct vhost_user_watch){
		.fd = control_socket_get_fd(server->control),
		.readable = dispatch_control,
		.arg = server,
	};
	return vhost_user_watch(server->vhost_user, &server->control_watch);
}

static void close_control(struct gpu_server *server)
{
	if (server->control) {
		vhost_user_unwatch(server->vhost_user, &server->control_watch);
		control_socket_destroy(server->control);
		server->control = NULL;
	}
}

/* ---- What the guest shows ----------------------------------------------------------------- */

static void scanout_changed(void *cookie, uint32_t scanout, uint32_t width, uint32_t height)
{
	struct gpu_server *server = cookie;

	if (server->display) {
		server->display_changed = true;
		display_socket_set_scanout(server->display, scanout, width, height);
	}
	if (server->vnc && scanout == 0) {
		display_vnc_set_scanout(server->vnc, width, height);
	}
	if (server->wayland) {
		display_wayland_set_scanout(server->wayland, scanout, width, height);
	}
}

static int update_display(struct gpu_server *server, uint32_t scanout,
	const struct virtio_gpu_rect *rect, uint64_t frame)
{
	if (!server->display) {
		return 0;
	}
	server->display_changed = true;
	return display_socket_update(server->display, scanout, rect, frame);
}

/* VNC copies what it needs, and so does the front end's display unless it returns 1. */
static bool scanout_flushed(
	void *cookie, uint32_t scanout, const struct virtio_gpu_rect *rect, uint64_t frame)
{
	struct gpu_server *server = cookie;
	int ret = update_display(server, scanout, rect, frame);
	int vnc = server->vnc && scanout == 0 ? display_vnc_update(server->vnc, rect) : 0;

	if (ret == -ENOSPC || ret == -ENOMEM || vnc == -ENOMEM) {
		tell_lack_of_memory(server);
	}
	return ret == 1 ||
		(server->wayland && display_wayland_update(server->wayland, scanout, rect, frame));
}

/* The other displays copy, and only what is drawn. */
static bool scanout_offered(void *cookie, uint32_t scanout, const struct virtio_gpu_rect *rect,
	uint64_t frame, const struct gpu_buffer *buffer)
{
	struct gpu_server *server = cookie;

	return server->wayland && !server->display && !server->vnc &&
		display_wayland_offer_take(server->wayland, scanout, rect, frame, buffer);
}

static void cursor_changed(void *cookie, uint32_t scanout, const struct gpu_cursor *cursor)
{
	struct gpu_server *server = cookie;

	if (server->display) {
		server->display_changed = true;
		display_socket_set_cursor(server->display, scanout, cursor->x, cursor->y,
			cursor->visible, cursor->hot_x, cursor->hot_y, cursor->pixels);
	}
	if (server->vnc && scanout == 0) {
		display_vnc_set_cursor(server->vnc, cursor);
	}
	if (server->wayland) {
		display_wayland_set_cursor(server->wayland, scanout, cursor);
	}
}

/* ---- From vhost-user to the GPU ----------------------------------------------------------- */

static uint64_t get_features(void *cookie)
{
	struct gpu_server *server = cookie;

	return gpu_get_features(server->gpu);
}

static void set_features(void *cookie, uint64_t features)
{
	struct gpu_server *server = cookie;

	gpu_set_features(server->gpu, features);
}

/* A newer front end reads fields that this device does not have: those are 0. */
static int read_config(void *cookie, uint32_t offset, void *data, uint32_t size)
{
	const uint32_t end = sizeof(struct gpu_config);
	struct gpu_server *server = cookie;

	memset(data, 0, size);
	if (offset >= end) {
		return 0;
	}
	return gpu_read_config(
		server->gpu, offset, data, size < end - offset ? size : end - offset);
}

/* QEMU writes all of it, of which the guest can change one field. */
static int write_config(void *cookie, uint32_t offset, const void *data, uint32_t size)
{
	const uint32_t field = offsetof(struct gpu_config, events_clear);
	const uint32_t end = field + sizeof(uint32_t);
	struct gpu_server *server = cookie;

	if (offset > field || size < end - offset) {
		return gpu_write_config(server->gpu, offset, data, size);
	}
	return gpu_write_config(
		server->gpu, field, (const char *)data + (field - offset), end - field);
}

static void set_memory(void *cookie, struct guest_memory *memory)
{
	struct gpu_server *server = cookie;

	gpu_set_memory(server->gpu, memory);
}

static struct gpu_request to_gpu(uint32_t queue, const struct virtqueue_request *request)
{
	return (struct gpu_request){
		.queue = (enum gpu_queue)queue,
		.token = request->token,
		.readable = request->readable,
		.num_readable = request->num_readable,
		.writable = request->writable,
		.num_writable = request->num_writable,
	};
}

static void handle(void *cookie, uint32_t queue, const struct virtqueue_request *request)
{
	const struct gpu_request gpu_request = to_gpu(queue, request);
	struct gpu_server *server = cookie;

	gpu_handle(server->gpu, &gpu_request);
}

/* What the control queue has aside depends on nothing before it. The cursor is where it was
 * last. */
static bool handle_aside(
	void *cookie, uint32_t queue, const struct virtqueue_request *request, bool is_behind)
{
	const struct gpu_request gpu_request = to_gpu(queue, request);
	struct gpu_server *server = cookie;

	if (is_behind && queue == GPU_QUEUE_CURSOR) {
		return false;
	}
	if (!gpu_handle_aside(server->gpu, &gpu_request)) {
		return false;
	}
	aside_served(server->aside);
	return true;
}

static void flush_displays(struct gpu_server *server)
{
	if (server->display_changed) {
		server->display_changed = false;
		dispatch_display(server);
	}
	if (server->wayland) {
		display_wayland_flush(server->wayland);
	}
}

/* What a display says may let something go on that needs OpenGL, and so may its end: that is left
 * to the loop's thread. */
static void send_to_displays(struct gpu_server *server)
{
	if (server->display_changed) {
		server->display_changed = server->display &&
			display_socket_send(server->display) != 0;
	}
	if (server->wayland) {
		display_wayland_flush(server->wayland);
	}
}

static bool serve_aside(void *arg)
{
	struct gpu_server *server = arg;
	bool more = server->vhost_user && vhost_user_process_aside(server->vhost_user);

	/* What a display was sent in the middle of something goes with that. */
	if (!gpu_uses_display(server->gpu)) {
		send_to_displays(server);
	}
	return more;
}

/* The loop's thread. */
static void sleeps(void *cookie)
{
	struct gpu_server *server = cookie;

	turn_let_go(&server->turn);
}

static void wakes(void *cookie)
{
	struct gpu_server *server = cookie;

	turn_take_back(&server->turn);
}

static void drain(void *cookie)
{
	struct gpu_server *server = cookie;

	gpu_begin_drain(server->gpu, server->options.drain_ms);
	vhost_user_process_deferred(server->vhost_user);
	gpu_drain(server->gpu, server->options.drain_ms, server->options.end_fd);
}

static void reset(void *cookie)
{
	struct gpu_server *server = cookie;

	gpu_reset(server->gpu);
}

/* ---- From the GPU to vhost-user ----------------------------------------------------------- */

/* The guest is notified at the end of the round, once for all. */
static void complete(void *cookie, enum gpu_queue queue, uint32_t token, uint32_t written)
{
	struct gpu_server *server = cookie;

	vhost_user_complete(server->vhost_user, queue, token, written);
}

/* In a thread of the renderer's. */
static bool take_turn(void *cookie)
{
	struct gpu_server *server = cookie;

	return turn_take(&server->turn);
}

static void end_turn(void *cookie)
{
	struct gpu_server *server = cookie;

	vhost_user_publish(server->vhost_user);
	turn_end(&server->turn);
}

/* The only shared memory. */
static uint64_t shmem_size(void *cookie, uint8_t region)
{
	const struct gpu_server *server = cookie;

	return region == VIRTIO_GPU_SHM_ID_HOST_VISIBLE ? server->options.gpu.hostmem_size : 0;
}

static void shmem_done(void *cookie, int status)
{
	struct gpu_server *server = cookie;

	gpu_tell_mapped(server->gpu, status);
}

static int map(void *cookie, const struct gpu_mapping *mapping)
{
	struct gpu_server *server = cookie;
	const struct vhost_user_mapping what = {
		.region = VIRTIO_GPU_SHM_ID_HOST_VISIBLE,
		.offset = mapping->offset,
		.size = mapping->size,
		.fd = mapping->fd,
		.fd_offset = mapping->fd_offset,
		.writable = true,
	};

	return vhost_user_shmem_map(server->vhost_user, &what);
}

static int unmap(void *cookie, uint64_t offset, uint64_t size)
{
	struct gpu_server *server = cookie;

	return vhost_user_shmem_unmap(
		server->vhost_user, VIRTIO_GPU_SHM_ID_HOST_VISIBLE, offset, size);
}

static int get_shared_object(void *cookie, const uint8_t *uuid)
{
	struct gpu_server *server = cookie;

	return gpu_get_shared(server->gpu, uuid);
}

/* A front end that knows nothing of that has no device that asks. */
static void share_object(void *cookie, const uint8_t uuid[16])
{
	struct gpu_server *server = cookie;

	vhost_user_share_object(server->vhost_user, uuid);
}

static void unshare_object(void *cookie, const uint8_t uuid[16])
{
	struct gpu_server *server = cookie;

	vhost_user_unshare_object(server->vhost_user, uuid);
}

static void config_changed(void *cookie)
{
	struct gpu_server *server = cookie;

	vhost_user_config_changed(server->vhost_user);
}

static void dispatch_gpu(void *arg)
{
	struct gpu_server *server = arg;

	gpu_dispatch(server->gpu);
}

/* ---- The server --------------------------------------------------------------------------- */

static int create_gpu(struct gpu_server *server, renderer_create_fn create_renderer)
{
	static const struct gpu_callbacks callbacks = {
		.complete = complete,
		.take_turn = take_turn,
		.end_turn = end_turn,
		.scanout_changed = scanout_changed,
		.scanout_flushed = scanout_flushed,
		.scanout_offered = scanout_offered,
		.buffer_leaving = buffer_leaving,
		.cursor_changed = cursor_changed,
		.ask_monitors = ask_monitors,
		.ask_edid = ask_edid,
		.map = map,
		.unmap = unmap,
		.share = share_object,
		.unshare = unshare_object,
		.config_changed = config_changed,
		.log = log_message,
	};

	return gpu_create(&callbacks, server, &server->options.gpu, create_renderer, &server->gpu);
}

static int listen_at_socket(struct gpu_server *server)
{
	static const struct vhost_user_device_ops ops = {
		.get_features = get_features,
		.set_features = set_features,
		.read_config = read_config,
		.write_config = write_config,
		.set_memory = set_memory,
		.handle = handle,
		.handle_aside = handle_aside,
		.sleeps = sleeps,
		.wakes = wakes,
		.drain = drain,
		.reset = reset,
		.set_gpu_socket_take = set_gpu_socket_take,
		.get_shared_object = get_shared_object,
		.shmem_size = shmem_size,
		.shmem_done = shmem_done,
		.log = log_message,
	};
	const struct gpu_server_options *options = &server->options;
	int ret;

	if (options->socket_path) {
		ret = vhost_user_create(
			options->socket_path, GPU_NUM_QUEUES, &ops, server, &server->vhost_user);
	} else {
		ret = vhost_user_create_connected(
			options->socket_fd, GPU_NUM_QUEUES, &ops, server, &server->vhost_user);
	}
	if (ret < 0) {
		char message[256];

		snprintf(message, sizeof(message), "%s: %s",
			options->socket_path ? options->socket_path : "the socket of --fd",
			strerror(-ret));
		log_message(server, VGF_LOG_ERROR, message);
		return ret;
	}
	if (server->aside) {
		vhost_user_set_kick_set(server->vhost_user, server->kick_set);
	}
	server->gpu_watch = (struct vhost_user_watch){
		.fd = gpu_get_fd(server->gpu),
		.readable = dispatch_gpu,
		.arg = server,
	};
	ret = vhost_user_watch(server->vhost_user, &server->gpu_watch);
	return ret < 0 ? ret : vhost_user_watch(server->vhost_user, &server->timer_watch);
}

static int start_writing(struct gpu_server *server, const char *path,
	int (*start)(struct gpu *gpu, const char *path))
{
	int ret = path != NULL ? start(server->gpu, path) : 0;

	if (ret < 0) {
		char message[256];

		snprintf(message, sizeof(message), "%s: %s", path, strerror(-ret));
		log_message(server, VGF_LOG_ERROR, message);
	}
	return ret;
}

static int create_timer(struct gpu_server *server)
{
	server->timer_watch = (struct vhost_user_watch){
		.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
		.readable = display_is_late,
		.arg = server,
	};
	return server->timer_watch.fd < 0 ? -errno : 0;
}

static int create_aside(struct gpu_server *server)
{
	int ret;

	if (!server->options.has_gl) {
		return 0;
	}
	server->kick_set = epoll_create1(EPOLL_CLOEXEC);
	if (server->kick_set < 0) {
		return -errno;
	}
	ret = aside_create(server->kick_set, serve_aside, server, &server->aside);
	server->options.gpu.renderer.aside = server->aside;
	return ret;
}

int gpu_server_create(const struct gpu_server_options *options, renderer_create_fn create_renderer,
	struct gpu_server **out)
{
	struct gpu_server *server = calloc(1, sizeof(*server));
	int ret;

	if (!server) {
		return -ENOMEM;
	}
	server->options = *options;
	server->kick_set = -1;
	init_monitors(server);
	turn_init(&server->turn);
	ret = create_timer(server);
	if (ret == 0) {
		ret = create_aside(server);
	}
	if (ret == 0) {
		ret = create_gpu(server, create_renderer);
	}
	if (ret == 0) {
		ret = listen_at_socket(server);
	}
	if (ret == 0) {
		ret = open_input(server);
	}
	if (ret == 0) {
		ret = open_control(server);
	}
	if (ret == 0) {
		ret = open_vnc(server);
	}
	if (ret == 0) {
		ret = open_wayland(server);
	}
	if (ret == 0) {
		ret = start_writing(server, options->record, gpu_record_start);
	}
	if (ret == 0) {
		ret = start_writing(server, options->trace, gpu_trace_start);
	}
	if (ret < 0) {
		gpu_server_destroy(server);
		return ret;
	}
	*out = server;
	return 0;
}

void gpu_server_destroy(struct gpu_server *server)
{
	if (!server) {
		return;
	}
	close_display(server);
	close_vnc(server);
	close_wayland(server);
	close_input(server);
	close_control(server);
	vhost_user_destroy(server->vhost_user); /* resets the GPU if somebody uses it */
	server->vhost_user = NULL;
	if (server->gpu) {
		gpu_destroy(server->gpu);
	}
	aside_destroy(server->aside);
	turn_finish(&server->turn);
	if (server->kick_set >= 0) {
		close(server->kick_set);
	}
	if (server->timer_watch.fd >= 0) {
		close(server->timer_watch.fd);
	}
	free(server);
}

int gpu_server_dispatch(struct gpu_server *server, int timeout_ms)
{
	int ret = vhost_user_dispatch(server->vhost_user, timeout_of_both(server, timeout_ms));

	/* What has changed in this round is shown once. */
	flush_displays(server);
	return ret < 0 ? ret : dispatch_input(server);
}

bool gpu_server_is_over(const struct gpu_server *server)
{
	return server->options.socket_path == NULL && !vhost_user_is_connected(server->vhost_user);
}

void gpu_server_abandon(const struct gpu_server *server)
{
	vhost_user_abandon(server->vhost_user);
	display_vnc_abandon(server->vnc);
	input_abandon(server->input);
	control_socket_abandon(server->control);
}

int gpu_server_watch(struct gpu_server *server, struct vhost_user_watch *watch)
{
	return vhost_user_watch(server->vhost_user, watch);
}

struct gpu *gpu_server_get_gpu(struct gpu_server *server)
{
	return server->gpu;
}

void gpu_server_get_wayland_stats(
	const struct gpu_server *server, struct display_wayland_stats *stats)
{
	*stats = server->wayland_stats;
	if (server->wayland) {
		display_wayland_get_stats(server->wayland, stats);
	}
}
