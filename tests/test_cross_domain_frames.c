/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Frames of a guest's Wayland client, by a cross-domain context, at a real compositor: sent before
 * they are drawn, with the fence of what draws them. Pictures of the screen say that no pixel is
 * ever one that is not drawn, and without the fence always. The client reuses a buffer behind the
 * compositor's release fence. The software GPU draws into the guest's memory, which the compositor
 * reads in place; all fences are the kernel's.
 *
 * Needs a Weston that has no other window (--shell=kiosk --debug), a screen of 400 by 300, and
 * takes dma-bufs and sync files; /dev/udmabuf, vgem and sw_sync: scripts/test-windows-in-vm starts
 * one. VGF_TEST_FRAMES says how many frames, instead of 200.
 */

#include "cross_domain_guest.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "gpu_private.h"
#include "screen_capture.h"
#include "soft_gpu.h"
#include "sw_sync.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA
#define PAGE 4096u
#define WIDTH 400u
#define HEIGHT 300u
#define PICTURE (WIDTH * HEIGHT * 4)
#define BLOB ((PICTURE + PAGE - 1) / PAGE * PAGE)
#define FIRST_BLOB 10u
#define NUM_BLOBS 2u
#define FIRST_ADDRESS 0x1000000u /* of the GPU's */
#define DRAWER 2u
#define BIND_RING 1
#define GATE_RING 7
#define SEND_RING 2
#define WAIT_RING 5
#define LOST_NS (60 * NS_PER_S)
#define USUAL_FRAMES 200
#define CONTROL_EVERY 20
/* What the guest has in its memory until a frame is drawn. No frame has this color. */
#define UNDRAWN 0xff00ffu
#define FORMAT_XR24 0x34325258u

static struct cross_guest cross;
static struct guest *const guest = &cross.guest;
static struct screen_capture *capture;
static int timeline; /* of the gates: a step for each frame */
static uint32_t num_gates;
static uint64_t last_fence;
static uint32_t num_fenced, num_immediate; /* releases */

/* ---- The wire -------------------------------------------------------------------------------- */

/* Objects of the client's. */
enum object {
	DISPLAY = 1,
	REGISTRY,
	SYNCED, /* a wl_callback */
	COMPOSITOR,
	SHELL,
	DMABUF,
	SYNCHRONIZATION,
	SURFACE,
	XDG_SURFACE,
	TOPLEVEL,
	SURFACE_SYNC,
	FIRST_PARAMS,
	FIRST_BUFFER = FIRST_PARAMS + NUM_BLOBS,
	FIRST_RELEASE = FIRST_BUFFER + NUM_BLOBS,
};

/* Requests that go with one message. */
static struct {
	uint32_t words[512];
	size_t count, start;
	struct cross_identifier identifiers[CROSS_DOMAIN_MAX_IDENTIFIERS];
	uint32_t num_identifiers;
} out;

static void put(uint32_t word)
{
	out.words[out.count++] = word;
}

static void begin(uint32_t object, uint32_t opcode)
{
	out.start = out.count;
	put(object);
	put(opcode);
}

static void end(void)
{
	out.words[out.start + 1] |= (uint32_t)(out.count - out.start) * 4 << 16;
}

static void put_string(const char *text)
{
	size_t size = strlen(text) + 1, words = (size + 3) / 4;

	put((uint32_t)size);
	memset(out.words + out.count, 0, 4 * words);
	memcpy(out.words + out.count, text, size);
	out.count += words;
}

static void put_identifier(uint32_t type, uint32_t id)
{
	out.identifiers[out.num_identifiers++] = (struct cross_identifier){ type, id };
}

/* Sends them, behind a fence or not. Returns the token. */
static uint32_t send_requests(uint64_t in_fence)
{
	uint8_t stream[4096];
	const struct cross_submission submission = {
		.ring = SEND_RING,
		.fence_id = ++last_fence,
		.stream = stream,
		.size = cross_make_send(
			stream, out.words, out.count * 4, out.identifiers, out.num_identifiers),
		.in_fence = in_fence,
	};

	out.count = out.num_identifiers = 0;
	return cross_submit(guest, &submission);
}

/* ---- The client ------------------------------------------------------------------------------ */

static struct {
	uint32_t names[SYNCHRONIZATION + 1], versions[SYNCHRONIZATION + 1]; /* by object */
	uint32_t next_object;
	bool is_synced, is_configured;
	uint32_t configured;               /* the serial */
	uint32_t release_of[NUM_BLOBS];    /* its release object, or 0 */
	bool is_released[NUM_BLOBS];       /* the compositor says so */
	uint32_t release_token[NUM_BLOBS]; /* and then it has read it; 0: at once */
	uint8_t in[16384];                 /* what came, and is no whole event yet */
	size_t in_size;
	uint32_t identifiers[64];
	uint32_t num_identifiers;
	uint32_t poll_token;
} client;

static const char *const interfaces[] = {
	[COMPOSITOR] = "wl_compositor",
	[SHELL] = "xdg_wm_base",
	[DMABUF] = "zwp_linux_dmabuf_v1",
	[SYNCHRONIZATION] = "zwp_linux_explicit_synchronization_v1",
};

static uint32_t word_of(const uint8_t *event, size_t index)
{
	uint32_t word;

	memcpy(&word, event + 4 * index, sizeof(word));
	return word;
}

static void note_global(const uint8_t *event)
{
	const char *name = (const char *)event + 16;
	uint32_t version = word_of(event, 4 + (word_of(event, 3) + 3) / 4);

	for (uint32_t i = COMPOSITOR; i <= SYNCHRONIZATION; i++) {
		if (strcmp(name, interfaces[i]) == 0) {
			client.names[i] = word_of(event, 2);
			client.versions[i] = version;
		}
	}
}

/* A fence of the guest's signals when the compositor's does. */
static uint32_t wait_for_fence(uint32_t id)
{
	const struct cross_domain_wait_fence wait = {
		.header = { .command = CROSS_DOMAIN_WAIT_FENCE, .size = htole16(sizeof(wait)) },
		.identifier_type = htole32(CROSS_DOMAIN_ID_SYNC),
		.identifier = htole32(id),
	};
	const struct cross_submission submission = {
		.ring = WAIT_RING,
		.fence_id = ++last_fence,
		.stream = &wait,
		.size = sizeof(wait),
	};

	return cross_submit(guest, &submission);
}

static uint32_t take_identifier(void)
{
	uint32_t id;

	assert_true(client.num_identifiers > 0);
	id = client.identifiers[0];
	memmove(client.identifiers, client.identifiers + 1,
		--client.num_identifiers * sizeof(client.identifiers[0]));
	return id;
}

static void note_release(uint32_t object, bool is_fenced)
{
	for (uint32_t i = 0; i < NUM_BLOBS; i++) {
		if (client.release_of[i] == object) {
			client.release_of[i] = 0;
			client.is_released[i] = true;
			client.release_token[i] = is_fenced ? wait_for_fence(take_identifier()) : 0;
			num_fenced += is_fenced;
			num_immediate += !is_fenced;
			return;
		}
	}
	fail_msg("a release of what is not used");
}

static void note_event(const uint8_t *event)
{
	uint32_t object = word_of(event, 0), opcode = word_of(event, 1) & 0xffff;

	if (object == DISPLAY && opcode == 0) {
		fail_msg("object %u: error %u: %s", word_of(event, 2), word_of(event, 3),
			(const char *)event + 20);
	} else if (object == REGISTRY && opcode == 0) {
		note_global(event);
	} else if (object == SYNCED) {
		client.is_synced = true;
	} else if (object == SHELL) {
		begin(SHELL, 3); /* pong */
		put(word_of(event, 2));
		end();
		send_requests(0);
	} else if (object == XDG_SURFACE) {
		client.is_configured = true;
		client.configured = word_of(event, 2);
	} else if (object >= FIRST_RELEASE) {
		note_release(object, opcode == 0);
	}
}

static void note_events(void)
{
	size_t at = 0;

	while (client.in_size - at >= 8 &&
		client.in_size - at >= word_of(client.in + at, 1) >> 16) {
		size_t size = word_of(client.in + at, 1) >> 16;

		assert_true(size >= 8);
		note_event(client.in + at);
		at += size;
	}
	memmove(client.in, client.in + at, client.in_size - at);
	client.in_size -= at;
}

static void take_message(void)
{
	const struct cross_domain_send_receive receive = ring_receive(&cross);
	size_t size = le32toh(receive.data_size);

	assert_true(size > 0); /* the compositor is still there */
	assert_true(client.in_size + size <= sizeof(client.in));
	memcpy(client.in + client.in_size, guest->memory + CHANNEL_OFFSET + sizeof(receive), size);
	client.in_size += size;
	for (uint32_t i = 0; i < le32toh(receive.num_identifiers); i++) {
		assert_int_equal(le32toh(receive.identifier_types[i]), CROSS_DOMAIN_ID_SYNC);
		client.identifiers[client.num_identifiers++] = le32toh(receive.identifiers[i]);
	}
	note_events();
}

/* Does what there is to do; waits for it until end_ns. Returns false if there was no time left. */
static bool turn(uint64_t end_ns)
{
	struct pollfd fds[] = {
		{ .fd = gpu_get_fd(guest->gpu), .events = POLLIN },
		{ .fd = screen_capture_get_fd(capture), .events = POLLIN },
	};
	uint64_t now = now_ns();
	int count, wait_ms = end_ns > now ? (int)((end_ns - now + NS_PER_MS - 1) / NS_PER_MS) : 0;

	count = poll(fds, 2, gpu_timeout(guest->gpu, wait_ms));
	assert_true(count >= 0);
	gpu_dispatch(guest->gpu);
	if (fds[1].revents != 0) {
		screen_capture_dispatch(capture);
	}
	if (guest->responses[GPU_QUEUE_CONTROL][client.poll_token].done) {
		assert_int_equal(cross_type(guest, client.poll_token), OK);
		take_message();
		client.poll_token = cross_poll(&cross);
	}
	return count > 0 || now_ns() < end_ns;
}

static void wait_until(const bool *condition)
{
	uint64_t end_ns = now_ns() + LOST_NS;

	while (!*condition) {
		assert_true(turn(end_ns));
	}
}

static void wait_for(uint32_t token)
{
	wait_until(&guest->responses[GPU_QUEUE_CONTROL][token].done);
	assert_int_equal(guest_header(&guest->responses[GPU_QUEUE_CONTROL][token]).type, OK);
}

static void bind_global(uint32_t object, uint32_t version)
{
	if (client.names[object] == 0) {
		fail_msg("the compositor has no %s", interfaces[object]);
	}
	begin(REGISTRY, 0);
	put(client.names[object]);
	put_string(interfaces[object]);
	put(version);
	put(object);
	end();
}

static void make(uint32_t object, uint32_t opcode, uint32_t new_object)
{
	begin(object, opcode);
	put(new_object);
	end();
}

static void make_of_surface(uint32_t object, uint32_t opcode, uint32_t new_object, uint32_t surface)
{
	begin(object, opcode);
	put(new_object);
	put(surface);
	end();
}

static void request(uint32_t object, uint32_t opcode)
{
	begin(object, opcode);
	end();
}

/* A wl_buffer of a blob. */
static void make_buffer(uint32_t index)
{
	make(DMABUF, 1, FIRST_PARAMS + index);
	begin(FIRST_PARAMS + index, 1); /* add; its descriptor is beside it */
	put_identifier(CROSS_DOMAIN_ID_BLOB, FIRST_BLOB + index);
	put(0);         /* plane */
	put(0);         /* offset */
	put(WIDTH * 4); /* stride */
	put(0);         /* DRM_FORMAT_MOD_LINEAR */
	put(0);
	end();
	client.is_released[index] = true;
	client.release_token[index] = 0;
}

static void create_buffer(uint32_t index)
{
	begin(FIRST_PARAMS + index, 3); /* create_immed */
	put(FIRST_BUFFER + index);
	put(WIDTH);
	put(HEIGHT);
	put(FORMAT_XR24);
	put(0);
	end();
}

static void start_client(void)
{
	memset(&client, 0, sizeof(client));
	client.next_object = FIRST_RELEASE;
	client.poll_token = cross_poll(&cross);
	make(DISPLAY, 1, REGISTRY);
	make(DISPLAY, 0, SYNCED);
	send_requests(0);
	wait_until(&client.is_synced);
	bind_global(COMPOSITOR, 1);
	bind_global(SHELL, 1);
	bind_global(DMABUF, 3);
	bind_global(SYNCHRONIZATION, 1);
	make(COMPOSITOR, 0, SURFACE);
	make_of_surface(SHELL, 2, XDG_SURFACE, SURFACE);
	make(XDG_SURFACE, 1, TOPLEVEL);
	make_of_surface(SYNCHRONIZATION, 1, SURFACE_SYNC, SURFACE);
	request(SURFACE, 6); /* commit */
	send_requests(0);
	wait_until(&client.is_configured);
	begin(XDG_SURFACE, 4); /* ack_configure */
	put(client.configured);
	end();
	/* In the order of their numbers. */
	for (uint32_t i = 0; i < NUM_BLOBS; i++) {
		make_buffer(i);
	}
	for (uint32_t i = 0; i < NUM_BLOBS; i++) {
		create_buffer(i);
	}
	wait_for(send_requests(0));
}

/* ---- The world ------------------------------------------------------------------------------- */

static void need(const char *path)
{
	if (access(path, R_OK | W_OK) < 0) {
		print_message("there is no %s: ./run vm has one\n", path);
		skip();
	}
}

/* Two pictures, which the client has, and the GPU at addresses. */
static void make_blobs(void)
{
	assert_int_equal(create_context(guest, DRAWER), OK);
	for (uint32_t i = 0; i < NUM_BLOBS; i++) {
		const uint32_t words[] = { SOFT_GPU_RESOURCE, FIRST_BLOB + i, SOFT_GPU_OFFSET, 0,
			SOFT_GPU_ADDRESS, FIRST_ADDRESS + i * BLOB, SOFT_GPU_MAP, BLOB };
		const struct job bind = {
			.ctx_id = DRAWER,
			.ring = BIND_RING,
			.fence_id = ++last_fence,
			.words = words,
			.num_words = sizeof(words) / sizeof(words[0]),
		};

		assert_int_equal(create_blob(guest, FIRST_BLOB + i, 2 * PAGE + i * BLOB, BLOB), OK);
		assert_int_equal(attach_context(guest, CONTEXT, FIRST_BLOB + i), OK);
		assert_int_equal(attach_context(guest, DRAWER, FIRST_BLOB + i), OK);
		assert_int_equal(cross_type(guest, submit(guest, &bind)), OK);
	}
}

static void get_path(char *path, size_t size)
{
	const char *directory = getenv("XDG_RUNTIME_DIR"), *name = getenv("WAYLAND_DISPLAY");

	if (directory == NULL || name == NULL) {
		print_message("no WAYLAND_DISPLAY: scripts/test-windows-in-vm has one\n");
		skip();
	}
	snprintf(path, size, "%s/%s", directory, name);
}

static void start(void)
{
	uint32_t width, height;
	char path[108];

	need("/dev/udmabuf");
	need(SW_SYNC_PATH);
	get_path(path, sizeof(path));
	capture = screen_capture_open();
	if (capture == NULL) {
		skip();
	}
	screen_capture_get_size(capture, &width, &height);
	assert_int_equal(width, WIDTH);
	assert_int_equal(height, HEIGHT);
	timeline = sw_sync_timeline();
	num_gates = num_fenced = num_immediate = 0;
	last_fence = 0;
	cross_start_in_kernel(&cross, path);
	make_blobs();
	start_client();
}

static void finish(void)
{
	cross_stop(&cross);
	screen_capture_close(capture);
	close(timeline);
}

/* ---- Frames ---------------------------------------------------------------------------------- */

struct picture {
	uint32_t color, index;
	uint32_t gate, drawn; /* tokens: of what the job waits for, and of the job */
};

static uint32_t color_of(uint32_t number)
{
	return number * 0x4f1bdu & 0x7fffff;
}

static uint64_t make_gate(struct picture *picture)
{
	struct vgf_device *device = guest->gpu->renderer->ops->get_device(guest->gpu->renderer);

	picture->gate = guest_hold(guest, DRAWER, GATE_RING, ++last_fence);
	assert_int_equal(vgf_fence_publish_take(device, &guest->held[picture->gate],
				 sw_sync_fence(timeline, ++num_gates)),
		0);
	return last_fence;
}

/* A job can fill so much. The last one's fence is that of the picture. */
static uint64_t submit_drawing(struct picture *picture, uint64_t in_fence)
{
	for (uint32_t at = 0; at < PICTURE; at += SOFT_GPU_MAX_BYTES) {
		bool is_last = at + SOFT_GPU_MAX_BYTES >= PICTURE;
		const uint32_t words[] = { SOFT_GPU_ADDRESS,
			FIRST_ADDRESS + picture->index * BLOB + at, SOFT_GPU_VALUE, picture->color,
			SOFT_GPU_FILL, is_last ? PICTURE - at : SOFT_GPU_MAX_BYTES };
		const struct job job = {
			.ctx_id = DRAWER,
			.fence_id = is_last ? ++last_fence : 0,
			.busy_us = 500,
			.words = words,
			.num_words = sizeof(words) / sizeof(words[0]),
			.num_in_fences = at == 0,
			.in_fences = { in_fence },
		};

		picture->drawn = submit(guest, &job);
	}
	return last_fence;
}

static void clear(uint32_t index)
{
	uint32_t *pixels = (uint32_t *)(guest->memory + (size_t)2 * PAGE + (size_t)index * BLOB);

	for (size_t i = 0; i < (size_t)WIDTH * HEIGHT; i++) {
		pixels[i] = htole32(UNDRAWN);
	}
}

static void put_commit(uint32_t index)
{
	client.release_of[index] = client.next_object++;
	client.is_released[index] = false;
	make(SURFACE_SYNC, 2, client.release_of[index]); /* get_release */
	begin(SURFACE, 1);                               /* attach */
	put(FIRST_BUFFER + index);
	put(0);
	put(0);
	end();
	begin(SURFACE, 2); /* damage */
	put(0);
	put(0);
	put(WIDTH);
	put(HEIGHT);
	end();
	request(SURFACE, 6); /* commit */
}

/* The picture that is not on the screen is sent, and then drawn. */
static struct picture begin_picture(uint32_t number, bool with_fence)
{
	struct picture picture = { .color = color_of(number), .index = number % NUM_BLOBS };
	uint64_t drawn;

	wait_until(&client.is_released[picture.index]);
	if (client.release_token[picture.index] != 0) {
		wait_for(client.release_token[picture.index]);
	}
	clear(picture.index);
	drawn = submit_drawing(&picture, make_gate(&picture));
	if (with_fence) {
		begin(SURFACE_SYNC, 1); /* set_acquire_fence */
		put_identifier(CROSS_DOMAIN_ID_SYNC, 0);
		end();
	}
	put_commit(picture.index);
	wait_for(send_requests(with_fence ? drawn : 0));
	/* It was sent, and nobody waited. */
	assert_false(guest->responses[GPU_QUEUE_CONTROL][picture.drawn].done);
	return picture;
}

static void draw(const struct picture *picture)
{
	assert_int_equal(sw_sync_advance(timeline, 1), 0);
	guest_signal(guest, picture->gate);
}

static void wait_for_picture(void)
{
	uint64_t end_ns = now_ns() + LOST_NS;

	while (!screen_capture_is_done(capture)) {
		assert_true(turn(end_ns));
	}
}

/* The control, without the fence: what is shown is not drawn. Returns how long that took. */
static uint64_t show_undrawn(uint32_t number)
{
	uint64_t begin_ns = now_ns(), ns;
	struct picture picture = begin_picture(number, false);

	screen_capture_begin(capture);
	wait_for_picture();
	ns = now_ns() - begin_ns;
	assert_true(screen_capture_is_all(capture, UNDRAWN));
	draw(&picture);
	wait_for(picture.drawn);
	return ns;
}

/* With the fence: the compositor has as long to be wrong. before: what is on the screen. Returns
 * how many pictures were taken meanwhile. */
static uint32_t show_drawn(uint32_t number, uint64_t hold_ns, uint32_t before)
{
	uint64_t end_ns = now_ns() + hold_ns;
	struct picture picture = begin_picture(number, true);
	uint32_t count = 0;

	screen_capture_begin(capture);
	while (turn(end_ns)) {
		if (screen_capture_is_done(capture)) {
			assert_true(screen_capture_is_all(capture, before));
			screen_capture_begin(capture);
			count++;
		}
	}
	draw(&picture);
	wait_for_picture();
	while (!screen_capture_is_all(capture, picture.color)) {
		assert_true(screen_capture_is_all(capture, before));
		screen_capture_begin(capture);
		wait_for_picture();
	}
	return count;
}

static uint32_t count_frames(void)
{
	const char *text = getenv("VGF_TEST_FRAMES");
	uint32_t count = text != NULL ? (uint32_t)strtoul(text, NULL, 10) : USUAL_FRAMES;

	assert_true(count > 0);
	return count;
}

TEST_BETWEEN(no_frame_of_the_guests_client_is_early_and_without_its_fence_each, start(), finish())
{
	uint32_t count = count_frames(), num_controls = 0, num_pictures = 0;
	uint64_t hold_ns = 0, held_ns = 0;

	for (uint32_t number = 1; number <= count; number++) {
		uint32_t before = number + num_controls - 1;

		if (number % CONTROL_EVERY == 1) {
			hold_ns = show_undrawn(++before);
			num_controls++;
			screen_capture_begin(capture);
			wait_for_picture(); /* drawn since */
		}
		num_pictures += show_drawn(before + 1, hold_ns, color_of(before));
		held_ns += hold_ns;
	}
	print_message(
		"%u frames, sent %.1f ms before they were drawn: none is shown undrawn, by %u "
		"pictures meanwhile. Without their fence %u of %u. %u release fences came "
		"back, %u buffers were released without.\n",
		count, (double)held_ns / count / (double)NS_PER_MS, num_pictures, num_controls,
		num_controls, num_fenced, num_immediate);
	assert_true(num_fenced > 0);
	assert_true(num_fenced + num_immediate >= count + num_controls - NUM_BLOBS);
}
