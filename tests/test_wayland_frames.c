/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Frames that a real compositor is given before they are drawn, by pictures of its screen: with the
 * fence no pixel is ever one that is not drawn, without it each time. The fences are the kernel's
 * own, and the compositor reads the guest's memory in place.
 *
 * Needs a compositor that takes dma-bufs and fences, and whose only window fills its screen: Weston
 * (--shell=kiosk --debug), or one of wlroots; /dev/udmabuf and sw_sync. scripts/test-windows-in-vm
 * starts them. VGF_TEST_FRAMES says how many frames, instead of 200.
 */

#include "gpu_guest.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "clock.h"
#include "display_wayland.h"
#include "gpu_private.h"
#include "screen_capture.h"
#include "sw_sync.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA
#define PAGE 4096u
#define MAX_BLOB (GUEST_SIZE / 2)
#define LOST_NS (60 * NS_PER_S)
#define USUAL_FRAMES 200
#define CONTROL_EVERY 20
#define FIRST_FENCE 1000
/* What the guest has in its memory until a frame is drawn. No frame has this color. */
#define UNDRAWN 0xff00ffu

static struct guest guest;
static struct display_wayland *display;
static struct screen_capture *capture;
static uint32_t width, height; /* of the screen, and of the guest's pictures */
static int timeline;           /* of the fences: a step for each frame */
static uint32_t num_fences;
static bool without_fence; /* the control */
static bool has_copies;    /* the compositor is not given the memory itself */
static uint64_t num_shown; /* frames of the scanout that the compositor says it has shown */

/* ---- The display ----------------------------------------------------------------------------- */

static int read_scanout(
	void *cookie, uint32_t scanout, const struct virtio_gpu_rect *rect, uint32_t *pixels)
{
	(void)cookie;
	return gpu_read_scanout(guest.gpu, scanout, rect, pixels);
}

static int get_buffer(void *cookie, uint32_t scanout, struct gpu_buffer *out)
{
	(void)cookie;
	return has_copies ? -EOPNOTSUPP : gpu_get_scanout_buffer(guest.gpu, scanout, out);
}

static void release(void *cookie, uint64_t key)
{
	(void)cookie;
	gpu_tell_released(guest.gpu, key);
}

static void shown(void *cookie, uint32_t scanout, uint64_t frame)
{
	(void)cookie;
	num_shown = frame;
	gpu_tell_shown(guest.gpu, scanout, frame);
}

static const struct display_wayland_ops display_ops = {
	.read = read_scanout,
	.get_buffer = get_buffer,
	.release = release,
	.shown = shown,
};

static struct virtio_gpu_rect whole(void)
{
	return (struct virtio_gpu_rect){ .width = width, .height = height };
}

static void update(uint32_t scanout, uint64_t frame)
{
	const struct virtio_gpu_rect rect = whole();

	assert_true(display_wayland_update(display, scanout, &rect, frame));
}

static void leave(uint64_t key)
{
	display_wayland_buffer_leaving(display, key);
}

/* For the control a sync file that has signalled takes the fence's place. */
static bool offer(uint32_t scanout, uint64_t frame, const struct gpu_buffer *buffer)
{
	const struct virtio_gpu_rect rect = whole();
	struct gpu_buffer other = *buffer;

	if (!without_fence) {
		return display_wayland_offer_take(display, scanout, &rect, frame, buffer);
	}
	other.acquire_fd = sw_sync_fence(timeline, num_fences - 1);
	assert_true(other.acquire_fd >= 0);
	assert_true(display_wayland_offer_take(display, scanout, &rect, frame, &other));
	close(buffer->acquire_fd);
	return true;
}

/* ---- The world ------------------------------------------------------------------------------- */

static void need(const char *path)
{
	if (access(path, R_OK | W_OK) < 0) {
		print_message("there is no %s: ./run vm has one\n", path);
		skip();
	}
}

static void show_picture(uint32_t resource_id)
{
	const struct virtio_gpu_set_scanout_blob request = {
		.hdr = header(VIRTIO_GPU_CMD_SET_SCANOUT_BLOB, 0),
		.r = { .width = htole32(width), .height = htole32(height) },
		.resource_id = htole32(resource_id),
		.width = htole32(width),
		.height = htole32(height),
		.format = htole32(VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM),
		.strides = { htole32(width * 4) },
	};

	assert_int_equal(guest_call(&guest, &request, sizeof(request)), OK);
}

/* Does what there is to do; waits for it until end_ns. Returns false if there was no time left. */
static bool turn(uint64_t end_ns)
{
	struct pollfd fds[] = {
		{ .fd = gpu_get_fd(guest.gpu), .events = POLLIN },
		{ .fd = display_wayland_get_fd(display), .events = POLLIN },
		{ .fd = screen_capture_get_fd(capture), .events = POLLIN },
	};
	uint64_t now = now_ns();
	int count, wait_ms = end_ns > now ? (int)((end_ns - now + NS_PER_MS - 1) / NS_PER_MS) : 0;

	display_wayland_flush(display);
	count = poll(fds, 3, gpu_timeout(guest.gpu, wait_ms));
	assert_true(count >= 0);
	gpu_dispatch(guest.gpu);
	assert_int_equal(display_wayland_dispatch(display), 0);
	if (fds[2].revents != 0) {
		screen_capture_dispatch(capture);
	}
	return count > 0 || now_ns() < end_ns;
}

static uint32_t *pixels_of(uint32_t resource_id)
{
	return (uint32_t *)(guest.memory + (size_t)(resource_id - 1) * MAX_BLOB);
}

static void fill(uint32_t resource_id, uint32_t color, uint32_t first_row, uint32_t num_rows)
{
	uint32_t *pixels = pixels_of(resource_id);

	for (size_t i = (size_t)first_row * width; i < (size_t)(first_row + num_rows) * width;
		i++) {
		pixels[i] = htole32(color);
	}
}

static bool is_answered(uint32_t token)
{
	return guest.responses[GPU_QUEUE_CONTROL][token].done;
}

static void wait_for(uint32_t token)
{
	uint64_t end_ns = now_ns() + LOST_NS;

	while (!is_answered(token)) {
		assert_true(turn(end_ns));
	}
	assert_int_equal(guest_header(&guest.responses[GPU_QUEUE_CONTROL][token]).type, OK);
}

static void wait_for_picture(void)
{
	uint64_t end_ns = now_ns() + LOST_NS;

	while (!screen_capture_is_done(capture)) {
		assert_true(turn(end_ns));
	}
}

/* Two pictures, which the compositor gets to know. */
static void make_blobs(void)
{
	uint32_t size = (width * height * 4 + PAGE - 1) / PAGE * PAGE;

	for (uint32_t id = 1; id <= 2; id++) {
		assert_int_equal(create_blob(&guest, id, (id - 1) * MAX_BLOB, size), OK);
		show_picture(id);
		if (id == 1) {
			display_wayland_set_scanout(display, 0, width, height);
		}
		wait_for(send_flush(&guest, id, width, height, id));
	}
}

static void start_guest(void)
{
	const struct gpu_options options = {
		.num_scanouts = 1,
		.width = width,
		.height = height,
		.fence_passing_bit = FENCE_PASSING_BIT,
		.display_ceiling_ms = GPU_MAX_CEILING_MS,
	};
	struct display_wayland_stats stats;

	guest_start(&guest, &options);
	assert_int_equal(fcntl(guest.memory_fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	guest.tells = true;
	guest.on_flush = update;
	guest.on_leaving = leave;
	guest.on_offer = offer;
	assert_int_equal(display_wayland_create(NULL, &display_ops, NULL, &display), 0);
	assert_int_equal(create_context(&guest, 1), OK);
	make_blobs();
	display_wayland_get_stats(display, &stats);
	if (stats.frames_in_place != 2) {
		fail_msg("the compositor does not take the guest's memory in place");
	}
}

static void start(void)
{
	need("/dev/udmabuf");
	need(SW_SYNC_PATH);
	capture = screen_capture_open();
	if (capture == NULL) {
		skip();
	}
	screen_capture_get_size(capture, &width, &height);
	assert_true(width * height * sizeof(uint32_t) <= MAX_BLOB);
	timeline = sw_sync_timeline();
	without_fence = has_copies = false;
	num_fences = 0;
	num_shown = 0;
	start_guest();
	screen_capture_begin(capture);
	wait_for_picture(); /* the first one takes long */
}

static void end(void)
{
	display_wayland_destroy(display);
	guest_stop(&guest);
	screen_capture_close(capture);
	close(timeline);
}

/* ---- Frames ---------------------------------------------------------------------------------- */

struct picture {
	uint32_t color, resource_id;
	uint32_t drawn, flushed; /* tokens: of what draws it, and of its flush */
};

static uint32_t color_of(uint32_t number)
{
	return number * 0x4f1bdu & 0x7fffff;
}

/* Of two pictures one is on the screen. The guest flushes the other, and then draws it. */
static struct picture begin_picture(uint32_t number)
{
	struct vgf_device *device = guest.gpu->renderer->ops->get_device(guest.gpu->renderer);
	struct picture picture = {
		.color = color_of(number),
		.resource_id = 1 + (number + 1) % 2,
	};
	uint64_t fence_id = FIRST_FENCE + 2 * (uint64_t)number;
	const struct flush_request flush = {
		.resource_id = picture.resource_id,
		.width = width,
		.height = height,
		.fence_id = fence_id + 1,
		.num_in_fences = 1,
		.in_fences = { fence_id },
	};

	fill(picture.resource_id, UNDRAWN, 0, height);
	show_picture(picture.resource_id);
	picture.drawn = guest_hold(&guest, 1, 1, fence_id);
	assert_int_equal(vgf_fence_publish_take(device, &guest.held[picture.drawn],
				 sw_sync_fence(timeline, ++num_fences)),
		0);
	picture.flushed = send_flush_behind(&guest, &flush);
	display_wayland_flush(display);
	return picture;
}

/* Row by row, so that half of it would be seen. */
static void draw(const struct picture *picture)
{
	for (uint32_t row = 0; row < height; row++) {
		fill(picture->resource_id, picture->color, row, 1);
	}
	assert_int_equal(sw_sync_advance(timeline, 1), 0);
	guest_signal(&guest, picture->drawn);
}

/* The compositor begins with the frame before it is asked for a picture, even if it first waits for
 * its screen: what is asked may change how it shows the frame. */
static void begin_capture(void)
{
	uint64_t end_ns = now_ns() + 2 * screen_capture_get_period_ns(capture);

	while (turn(end_ns)) {
	}
	screen_capture_begin(capture);
}

/* The control, without the fence: what is shown is not drawn. Returns how long that took. */
static uint64_t show_undrawn(uint32_t number)
{
	uint64_t begin_ns = now_ns(), ns;
	struct picture picture;

	without_fence = true;
	picture = begin_picture(number);
	without_fence = false;
	begin_capture();
	wait_for_picture();
	ns = now_ns() - begin_ns;
	assert_true(screen_capture_is_all(capture, UNDRAWN));
	draw(&picture);
	wait_for(picture.flushed);
	return ns;
}

/* With the fence: the compositor has as long to be wrong. */
static void show_drawn(uint32_t number, uint64_t hold_ns)
{
	uint64_t end_ns = now_ns() + hold_ns, before = num_shown;
	struct picture picture = begin_picture(number);

	begin_capture();
	while (turn(end_ns)) {
	}
	assert_int_equal(num_shown, before);
	if (screen_capture_is_done(capture)) {
		assert_true(screen_capture_is_all(capture, color_of(number - 1)));
		screen_capture_begin(capture);
	}
	draw(&picture);
	wait_for_picture();
	if (!screen_capture_is_all(capture, picture.color)) {
		assert_true(screen_capture_is_all(capture, color_of(number - 1)));
	}
	wait_for(picture.flushed);
	screen_capture_begin(capture);
	wait_for_picture();
	assert_true(screen_capture_is_all(capture, picture.color));
}

static uint32_t count_frames(void)
{
	const char *text = getenv("VGF_TEST_FRAMES");
	uint32_t count = text != NULL ? (uint32_t)strtoul(text, NULL, 10) : USUAL_FRAMES;

	assert_true(count > 0);
	return count;
}

/* Every so many frames one is the control, which tells how long a compositor that does not wait
 * takes to be wrong. */
TEST_BETWEEN(a_frame_is_never_shown_before_it_is_drawn_and_without_its_fence_always, start(), end())
{
	uint32_t count = count_frames(), num_controls = 1;
	uint64_t hold_ns, held_ns = 0;
	struct gpu_stats stats;

	hold_ns = show_undrawn(1); /* this one takes long */
	for (uint32_t number = 1; number <= count; number++) {
		if (number % CONTROL_EVERY == 1) {
			hold_ns = show_undrawn(number + num_controls);
			num_controls++;
		}
		show_drawn(number + num_controls, hold_ns);
		held_ns += hold_ns;
	}
	gpu_get_stats(guest.gpu, &stats);
	assert_int_equal(stats.flushes_offered, count + num_controls);
	print_message("%u frames, held back for %.1f ms each: none is shown undrawn. Without their "
		      "fence %u of %u.\n",
		count, (double)held_ns / count / (double)NS_PER_MS, num_controls, num_controls);
}

/* ---- Pixels ---------------------------------------------------------------------------------- */

/* No two pixels are alike, but by chance. */
static void show_noise(uint32_t resource_id, uint64_t fence_id)
{
	uint32_t *pixels = pixels_of(resource_id), word = resource_id;

	for (size_t i = 0; i < (size_t)width * height; i++) {
		word = word * 1664525u + 1013904223u;
		pixels[i] = htole32(word >> 8);
	}
	show_picture(resource_id);
	wait_for(send_flush(&guest, resource_id, width, height, fence_id));
	screen_capture_begin(capture);
	wait_for_picture();
	for (uint32_t i = 0; i < width * height; i++) {
		assert_int_equal(screen_capture_get_pixel(capture, i % width, i / width),
			le32toh(pixels[i]) & 0xffffff);
	}
}

TEST_BETWEEN(each_pixel_on_the_screen_is_the_guests_in_place_and_copied, start(), end())
{
	struct display_wayland_stats stats;

	show_noise(1, 3);
	has_copies = true;
	show_noise(2, 4);
	display_wayland_get_stats(display, &stats);
	assert_int_equal(stats.frames_in_place, 3); /* with those of the start */
	assert_int_equal(stats.frames_copied, 1);
}
