/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What the virtio-gpu device says of itself, what it shows, and requests that are no commands. */

#include <endian.h>
#include <errno.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "edid.h"
#include "gpu_guest.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA
#define BAD_PARAMETER VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER
#define BAD_RESOURCE VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID
#define BAD_SCANOUT VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID
#define UNSPECIFIED VIRTIO_GPU_RESP_ERR_UNSPEC

static struct guest guest;

#define TEST_GUEST(name) TEST_BETWEEN(name, guest_start(&guest, NULL), guest_stop(&guest))

/* ---- What there is -------------------------------------------------------------------------- */

TEST_GUEST(tells_its_modes)
{
	const struct virtio_gpu_ctrl_hdr request = header(VIRTIO_GPU_CMD_GET_DISPLAY_INFO, 0);
	struct virtio_gpu_display_one modes[VIRTIO_GPU_MAX_SCANOUTS];

	assert_int_equal(guest_ask(&guest, &request, sizeof(request), modes, sizeof(modes)),
		VIRTIO_GPU_RESP_OK_DISPLAY_INFO);
	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		assert_int_equal(le32toh(modes[i].enabled), i < 2);
		assert_int_equal(le32toh(modes[i].r.width), i < 2 ? 640 : 0);
		assert_int_equal(le32toh(modes[i].r.height), i < 2 ? 480 : 0);
	}
}

TEST_GUEST(tells_its_capability_sets)
{
	struct virtio_gpu_get_capset_info info_request = {
		.hdr = header(VIRTIO_GPU_CMD_GET_CAPSET_INFO, 0),
	};
	struct virtio_gpu_get_capset request = {
		.hdr = header(VIRTIO_GPU_CMD_GET_CAPSET, 0),
		.capset_id = htole32(6),
	};
	uint32_t info[4], capset[6];

	assert_int_equal(guest_ask(&guest, &info_request, sizeof(info_request), info, sizeof(info)),
		VIRTIO_GPU_RESP_OK_CAPSET_INFO);
	assert_int_equal(le32toh(info[0]), 6);
	assert_int_equal(le32toh(info[2]), sizeof(capset));
	assert_int_equal(guest_ask(&guest, &request, sizeof(request), capset, sizeof(capset)),
		VIRTIO_GPU_RESP_OK_CAPSET);
	assert_int_equal(capset[4], 0); /* the context type */
	info_request.capset_index = htole32(1);
	assert_int_equal(guest_call(&guest, &info_request, sizeof(info_request)), BAD_PARAMETER);
	request.capset_version = htole32(1);
	assert_int_equal(guest_call(&guest, &request, sizeof(request)), BAD_PARAMETER);
	request.capset_version = 0;
	request.capset_id = htole32(1);
	assert_int_equal(guest_call(&guest, &request, sizeof(request)), BAD_PARAMETER);
}

TEST_GUEST(has_a_configuration_space)
{
	struct gpu_config config;
	uint32_t word = htole32(1);

	assert_int_equal(gpu_read_config(guest.gpu, 0, &config, sizeof(config)), 0);
	assert_int_equal(le32toh(config.num_scanouts), 2);
	assert_int_equal(le32toh(config.num_capsets), 1);
	assert_int_equal(le32toh(config.events_read), 0);
	/* A guest that accepts BLOB_ALIGNMENT makes no blobs if this is 0. */
	assert_int_equal(gpu_read_config(guest.gpu, 16, &word, 4), 0);
	assert_int_equal(le32toh(word), 4096);
	assert_int_equal(gpu_read_config(guest.gpu, 8, &word, 4), 0);
	assert_int_equal(le32toh(word), 2);
	assert_int_equal(gpu_read_config(guest.gpu, 17, &word, 4), -EINVAL);
	assert_int_equal(gpu_read_config(guest.gpu, 0xffffffff, &word, 4), -EINVAL);
	assert_int_equal(gpu_read_config(guest.gpu, 4, &word, 0xffffffff), -EINVAL);
	assert_int_equal(gpu_write_config(guest.gpu, 4, &word, 4), 0);
	assert_int_equal(gpu_write_config(guest.gpu, 0, &word, 4), -EINVAL);
	assert_int_equal(gpu_write_config(guest.gpu, 8, &word, 4), -EINVAL);
}

TEST(refuses_options_out_of_range)
{
	static const struct gpu_callbacks callbacks = { 0 };
	static const struct gpu_options bad[] = {
		{ .num_scanouts = 17, .width = 640, .height = 480, .fence_passing_bit = -1 },
		{ .num_scanouts = 1, .width = 399, .height = 480, .fence_passing_bit = -1 },
		{ .num_scanouts = 1, .width = 640, .height = 8193, .fence_passing_bit = -1 },
		{ .fence_passing_bit = 4 },
		{ .fence_passing_bit = 5 }, /* BLOB_ALIGNMENT */
		{ .fence_passing_bit = 6 },
		{ .fence_passing_bit = 7 },
		{ .fence_passing_bit = 24 },
		{ .fence_passing_bit = 49 },
		{ .fence_passing_bit = 64 },
	};
	struct gpu *gpu;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(
			gpu_create(&callbacks, NULL, &bad[i], renderer_soft_create, &gpu), -EINVAL);
	}
}

/* ---- Negotiation ---------------------------------------------------------------------------- */

#define PASSING (UINT64_C(1) << FENCE_PASSING_BIT)

TEST_GUEST(offers_fence_passing_and_the_alignment_of_blobs)
{
	assert_int_equal(gpu_get_features(guest.gpu), PASSING | 0x3f);
	assert_int_equal(guest.num_warnings, 0);
}

TEST_GUEST(says_once_that_the_guest_does_not_pass_fences)
{
	uint64_t features = guest_features(&guest);

	gpu_set_features(guest.gpu, features & ~PASSING);
	assert_int_equal(guest.num_warnings, 1);
	assert_non_null(strstr(guest.warning, "does not pass fences on feature bit 23"));
	assert_non_null(strstr(guest.warning, "fence_passing_bit=23;"));
	gpu_set_features(guest.gpu, features & ~PASSING);
	assert_int_equal(guest.num_warnings, 1);
	/* Nobody is there any more, or a driver that takes nothing of the device: firmware. */
	gpu_set_features(guest.gpu, 0);
	gpu_set_features(guest.gpu, features);
	assert_int_equal(guest.num_warnings, 1);
	gpu_set_features(guest.gpu, features & ~PASSING);
	assert_int_equal(guest.num_warnings, 2);
}

TEST(without_fence_passing_there_is_nothing_to_say)
{
	const struct gpu_options options = { .fence_passing_bit = -1 };

	guest_start(&guest, &options);
	assert_int_equal(gpu_get_features(guest.gpu), 0x3f);
	gpu_set_features(guest.gpu, 1);
	assert_int_equal(guest.num_warnings, 0);
	guest_stop(&guest);
}

TEST_GUEST(checks_the_alignment_of_blobs_if_the_guest_knows_it)
{
	assert_int_equal(create_blob(&guest, 1, 0, 4095), OK);
	assert_int_equal(create_blob(&guest, 2, 0, 4097), OK);
	gpu_set_features(guest.gpu, gpu_get_features(guest.gpu));
	assert_int_equal(create_blob(&guest, 3, 0, 4095), BAD_PARAMETER);
	assert_int_equal(create_blob(&guest, 3, 0, 4097), BAD_PARAMETER);
	assert_int_equal(create_empty_blob(&guest, 3, 1), BAD_PARAMETER);
	assert_int_equal(create_blob(&guest, 3, 0, 8192), OK);
}

TEST_GUEST(a_feature_that_is_not_accepted_is_not_there)
{
	const struct virtio_gpu_cmd_get_edid edid = {
		.hdr = header(VIRTIO_GPU_CMD_GET_EDID, 0),
	};

	gpu_set_features(guest.gpu, 0);
	assert_int_equal(guest_call(&guest, &edid, sizeof(edid)), UNSPECIFIED);
	assert_int_equal(create_context(&guest, 1), UNSPECIFIED);
	assert_int_equal(create_blob(&guest, 1, 0, 4096), UNSPECIFIED);
	assert_int_equal(create_2d(&guest, 1, 8, 8), OK);
}

/* ---- EDID ----------------------------------------------------------------------------------- */

TEST_GUEST(tells_an_edid_for_each_scanout)
{
	struct virtio_gpu_cmd_get_edid request = { .hdr = header(VIRTIO_GPU_CMD_GET_EDID, 0) };
	struct {
		uint32_t size, padding;
		uint8_t edid[1024];
	} response;
	uint8_t sum = 0;
	uint32_t size;

	request.scanout = htole32(1);
	assert_int_equal(guest_ask(&guest, &request, sizeof(request), &response, sizeof(response)),
		VIRTIO_GPU_RESP_OK_EDID);
	size = le32toh(response.size);
	assert_true(size > 128 && size <= 1024);
	assert_int_equal(size, 128 * (1 + response.edid[126]));
	for (size_t i = 0; i < size; i++) {
		sum = (uint8_t)(sum + response.edid[i]);
		assert_true(i % 128 != 127 || sum == 0); /* of each block */
	}
	request.scanout = htole32(2);
	assert_int_equal(guest_call(&guest, &request, sizeof(request)), BAD_SCANOUT);
}

static uint32_t u16(const uint8_t *at)
{
	return at[0] | (uint32_t)at[1] << 8;
}

/* Whether the DisplayID blocks have a timing of type I of this size and rate, which CVT's steps of
 * 250 kHz may lower; -1: the preferred one. */
static bool has_mode(const uint8_t *edid, uint32_t width, uint32_t height, int refresh)
{
	for (const uint8_t *block = edid + 128; block <= edid + 128 * edid[126]; block += 128) {
		const uint8_t *data = block + 5, *end = data + block[2];

		for (; data < end; data += 3 + data[2]) {
			for (const uint8_t *at = data + 3; data[0] == 3 && at < data + 3 + data[2];
				at += 20) {
				uint64_t clock = (u16(at) | (uint64_t)at[2] << 16) + 1;
				uint64_t total = (uint64_t)(u16(at + 4) + u16(at + 6) + 2) *
					(u16(at + 12) + u16(at + 14) + 2);
				bool right = refresh < 0 ?
					at[3] & 0x80 :
					abs((int)((clock * 10000 + total / 2) / total) - refresh) <=
						1;

				if (u16(at + 4) + 1 == width && u16(at + 12) + 1 == height &&
					right) {
					return true;
				}
			}
		}
	}
	return false;
}

TEST(edids_have_what_a_base_block_has_no_room_for)
{
	static const uint32_t sizes[][2] = { { 1280, 800 }, { 3840, 2160 }, { 7680, 4320 },
		{ 8192, 8192 }, { 641, 479 }, { 400, 300 } };
	uint8_t edid[EDID_MAX_SIZE];

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint32_t width = sizes[i][0], height = sizes[i][1];

		assert_true(edid_make(edid, width, height, 0) <= sizeof(edid));
		assert_true(has_mode(edid, width, height, -1));
		assert_true(has_mode(edid, width, height, 60));
		assert_true(has_mode(edid, width, height, 240));
		assert_true(has_mode(edid, 7680, 4320, 60));
		assert_true(has_mode(edid, 1920, 1080, 144));
		assert_false(has_mode(edid, 1920, 1079, 144));
	}
}

/* What the tool makes of it, as text; NULL if it is not installed. */
static char *decode_edid(uint32_t width, uint32_t height)
{
	char path[] = "/tmp/vgfence-edid-XXXXXX", command[128], *text = calloc(1, 65536);
	uint8_t edid[EDID_MAX_SIZE];
	int fd = mkstemp(path);
	uint32_t size;
	FILE *pipe;

	assert_true(fd >= 0 && text != NULL);
	size = edid_make(edid, width, height, 0);
	assert_int_equal(write(fd, edid, size), size);
	close(fd);
	snprintf(command, sizeof(command), "edid-decode --check %s 2>&1", path);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	assert_true(fread(text, 1, 65535, pipe) < 65535);
	pclose(pipe);
	unlink(path);
	if (strstr(text, "not found") != NULL) {
		free(text);
		return NULL;
	}
	return text;
}

TEST(edids_conform)
{
	static const uint32_t sizes[][2] = { { 640, 480 }, { 800, 600 }, { 1024, 768 },
		{ 1280, 800 }, { 1280, 1024 }, { 1366, 768 }, { 1920, 1080 }, { 1920, 1200 },
		{ 2560, 1440 }, { 3840, 2160 }, { 4095, 4095 }, { 400, 300 }, { 7680, 4320 },
		{ 8192, 8192 }, { 5120, 1440 }, { 1000, 700 } };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char *text = decode_edid(sizes[i][0], sizes[i][1]), mode[32];

		if (text == NULL) {
			print_message("edid-decode is not installed\n");
			skip();
		}
		snprintf(mode, sizeof(mode), "%ux%u", sizes[i][0], sizes[i][1]);
		if (strstr(text, "EDID conformity: PASS") == NULL || strstr(text, mode) == NULL) {
			print_error("%s\n",
				strstr(text, "Failures") != NULL ? strstr(text, "Failures") : text);
			free(text);
			fail_msg("the EDID for %s does not conform", mode);
		}
		free(text);
	}
}

/* ---- Scanouts ------------------------------------------------------------------------------- */

static uint32_t set_scanout(uint32_t scanout, uint32_t resource_id, uint32_t x, uint32_t y,
	uint32_t width, uint32_t height)
{
	const struct virtio_gpu_set_scanout request = {
		.hdr = header(VIRTIO_GPU_CMD_SET_SCANOUT, 0),
		.r = { htole32(x), htole32(y), htole32(width), htole32(height) },
		.scanout_id = htole32(scanout),
		.resource_id = htole32(resource_id),
	};

	return guest_call(&guest, &request, sizeof(request));
}

static uint32_t flush(uint32_t resource_id, uint32_t x, uint32_t y, uint32_t width, uint32_t height)
{
	const struct virtio_gpu_resource_flush request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_FLUSH, 0),
		.r = { htole32(x), htole32(y), htole32(width), htole32(height) },
		.resource_id = htole32(resource_id),
	};

	return guest_call(&guest, &request, sizeof(request));
}

TEST_GUEST(checks_scanouts)
{
	assert_int_equal(create_2d(&guest, 1, 100, 50), OK);
	assert_int_equal(create_blob(&guest, 2, 0, 4096), OK);
	assert_int_equal(set_scanout(0, 1, 0, 0, 100, 50), OK);
	assert_int_equal(set_scanout(1, 1, 50, 25, 50, 25), OK);
	assert_int_equal(set_scanout(2, 1, 0, 0, 100, 50), BAD_SCANOUT);
	assert_int_equal(set_scanout(0xffffffff, 0, 0, 0, 0, 0), BAD_SCANOUT);
	assert_int_equal(set_scanout(0, 9, 0, 0, 100, 50), BAD_RESOURCE);
	assert_int_equal(set_scanout(0, 1, 1, 0, 100, 50), BAD_PARAMETER);
	assert_int_equal(set_scanout(0, 1, 0xffffffff, 0, 1, 50), BAD_PARAMETER);
	assert_int_equal(set_scanout(0, 1, 0, 0, 0, 50), BAD_PARAMETER);
	assert_int_equal(set_scanout(0, 2, 0, 0, 1, 1), BAD_PARAMETER);
	assert_int_equal(set_scanout(0, 0, 0, 0, 0, 0), OK);
}

/* A screenshot takes memory for all of it, and a blob may have the same page in many places. */
TEST_GUEST(refuses_scanouts_that_are_huge)
{
	struct virtio_gpu_set_scanout_blob blob = {
		.hdr = header(VIRTIO_GPU_CMD_SET_SCANOUT_BLOB, 0),
		.r = { .width = htole32(8193), .height = htole32(1) },
		.resource_id = htole32(3),
		.width = htole32(8193),
		.height = htole32(1),
		.format = htole32(VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM),
		.strides = { htole32(8193 * 4) },
	};

	assert_int_equal(create_2d(&guest, 1, 8193, 1), OK);
	assert_int_equal(create_2d(&guest, 2, 1, 8193), OK);
	assert_int_equal(create_blob(&guest, 3, 0, 8193 * 4), OK);
	assert_int_equal(set_scanout(0, 1, 0, 0, 8193, 1), BAD_PARAMETER);
	assert_int_equal(set_scanout(0, 1, 1, 0, 8192, 1), OK);
	assert_int_equal(set_scanout(0, 2, 0, 0, 1, 8193), BAD_PARAMETER);
	assert_int_equal(set_scanout(0, 2, 0, 1, 1, 8192), OK);
	assert_int_equal(guest_call(&guest, &blob, sizeof(blob)), BAD_PARAMETER);
	blob.r.width = htole32(8192);
	assert_int_equal(guest_call(&guest, &blob, sizeof(blob)), OK);
}

TEST_GUEST(checks_what_is_flushed)
{
	assert_int_equal(create_2d(&guest, 1, 100, 50), OK);
	assert_int_equal(flush(1, 0, 0, 100, 50), OK);
	assert_int_equal(flush(1, 1, 0, 100, 50), BAD_PARAMETER);
	assert_int_equal(flush(1, 0xffffffff, 0xffffffff, 2, 2), BAD_PARAMETER);
	assert_int_equal(flush(2, 0, 0, 1, 1), BAD_RESOURCE);
}

/* ---- Screenshots ---------------------------------------------------------------------------- */

#define SCREENSHOT "/tmp/vgfence-screenshot-%d.png"

/* The pixels of scanout 0, as red, green, blue. The caller frees them. */
static uint8_t *screenshot(uint32_t *width, uint32_t *height)
{
	png_image image = { .version = PNG_IMAGE_VERSION };
	char path[64];
	uint8_t *pixels;

	snprintf(path, sizeof(path), SCREENSHOT, getpid());
	assert_int_equal(gpu_screenshot(guest.gpu, 0, path, NULL), 0);
	assert_true(png_image_begin_read_from_file(&image, path));
	image.format = PNG_FORMAT_RGB;
	pixels = malloc(PNG_IMAGE_SIZE(image));
	assert_true(png_image_finish_read(&image, NULL, pixels, 0, NULL));
	*width = image.width;
	*height = image.height;
	unlink(path);
	return pixels;
}

static void to_host(uint32_t resource_id, uint32_t width, uint32_t height)
{
	const struct virtio_gpu_transfer_to_host_2d request = {
		.hdr = header(VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D, 0),
		.r = { 0, 0, htole32(width), htole32(height) },
		.resource_id = htole32(resource_id),
	};

	assert_int_equal(guest_call(&guest, &request, sizeof(request)), OK);
}

TEST_GUEST(a_screenshot_shows_the_scanouts_part)
{
	uint32_t width, height;
	uint8_t *pixels;

	assert_int_equal(create_2d(&guest, 1, 8, 8), OK);
	assert_int_equal(attach_backing(&guest, 1, 0, 256), OK);
	for (uint32_t i = 0; i < 64; i++) {
		/* Blue, green, red, nothing. */
		memcpy(guest.memory + 4 * i, (uint8_t[]){ (uint8_t)i, 100, 200, 0 }, 4);
	}
	to_host(1, 8, 8);
	assert_int_equal(set_scanout(0, 1, 2, 1, 5, 4), OK);
	pixels = screenshot(&width, &height);
	assert_int_equal(width, 5);
	assert_int_equal(height, 4);
	for (uint32_t i = 0; i < 20; i++) {
		assert_int_equal(pixels[3 * i], 200);
		assert_int_equal(pixels[3 * i + 1], 100);
		assert_int_equal(pixels[3 * i + 2], (i / 5 + 1) * 8 + i % 5 + 2);
	}
	free(pixels);
}

/* Four bytes of memory are 1, 2, 3, 4: which of them a format takes for red, green, blue. These are
 * all formats that there are. */
static const struct {
	uint32_t format;
	uint8_t rgb[3];
} formats[] = {
	{ VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM, { 3, 2, 1 } },
	{ VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, { 3, 2, 1 } },
	{ VIRTIO_GPU_FORMAT_A8R8G8B8_UNORM, { 2, 3, 4 } },
	{ VIRTIO_GPU_FORMAT_X8R8G8B8_UNORM, { 2, 3, 4 } },
	{ VIRTIO_GPU_FORMAT_R8G8B8A8_UNORM, { 1, 2, 3 } },
	{ VIRTIO_GPU_FORMAT_X8B8G8R8_UNORM, { 4, 3, 2 } },
	{ VIRTIO_GPU_FORMAT_A8B8G8R8_UNORM, { 4, 3, 2 } },
	{ VIRTIO_GPU_FORMAT_R8G8B8X8_UNORM, { 1, 2, 3 } },
};

#define NUM_FORMATS (sizeof(formats) / sizeof(formats[0]))

TEST_GUEST(screenshots_know_every_format)
{
	memcpy(guest.memory, (uint8_t[]){ 1, 2, 3, 4 }, 4);
	for (uint32_t i = 0; i < NUM_FORMATS; i++) {
		const struct virtio_gpu_resource_create_2d request = {
			.hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_2D, 0),
			.resource_id = htole32(i + 1),
			.format = htole32(formats[i].format),
			.width = htole32(1),
			.height = htole32(1),
		};
		uint32_t width, height;
		uint8_t *pixels;

		assert_int_equal(guest_call(&guest, &request, sizeof(request)), OK);
		assert_int_equal(attach_backing(&guest, i + 1, 0, 4), OK);
		to_host(i + 1, 1, 1);
		assert_int_equal(set_scanout(0, i + 1, 0, 0, 1, 1), OK);
		pixels = screenshot(&width, &height);
		assert_memory_equal(pixels, formats[i].rgb, 3);
		free(pixels);
	}
}

TEST_GUEST(a_screenshot_replaces_nothing_but_files)
{
	char path[64], part[72];
	struct stat file;

	assert_int_equal(create_2d(&guest, 1, 100, 50), OK);
	assert_int_equal(set_scanout(0, 1, 0, 0, 100, 50), OK);
	snprintf(path, sizeof(path), SCREENSHOT, getpid());
	snprintf(part, sizeof(part), "%s.part", path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(gpu_screenshot(guest.gpu, 0, path, NULL), -EEXIST);
	assert_int_equal(stat(path, &file), 0);
	assert_true(S_ISFIFO(file.st_mode));
	assert_int_equal(stat(part, &file), -1);
	unlink(path);
	/* On a full disk nothing of it is left. */
	assert_int_equal(symlink("/dev/full", part), 0);
	assert_int_equal(gpu_screenshot(guest.gpu, 0, path, NULL), -ENOSPC);
	assert_int_equal(stat(path, &file), -1);
	assert_int_equal(lstat(part, &file), -1);
}

static unsigned int num_asked;

static bool stop_the_second_time(void)
{
	return ++num_asked == 2;
}

TEST_GUEST(a_screenshot_that_is_stopped_leaves_nothing)
{
	char path[64], part[72];

	assert_int_equal(create_2d(&guest, 1, 100, 200), OK);
	assert_int_equal(set_scanout(0, 1, 0, 0, 100, 200), OK);
	snprintf(path, sizeof(path), SCREENSHOT, getpid());
	snprintf(part, sizeof(part), "%s.part", path);
	assert_int_equal(gpu_screenshot(guest.gpu, 0, path, stop_the_second_time), -ECANCELED);
	assert_int_equal(num_asked, 2);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(access(part, F_OK), -1);
}

TEST_GUEST(without_a_picture_there_is_no_screenshot)
{
	assert_int_equal(gpu_screenshot(guest.gpu, 0, "/nowhere/x.png", NULL), -ENOENT);
	assert_int_equal(gpu_screenshot(guest.gpu, 99, "/nowhere/x.png", NULL), -ENOENT);
	assert_int_equal(create_2d(&guest, 1, 8, 8), OK);
	assert_int_equal(set_scanout(0, 1, 0, 0, 8, 8), OK);
	assert_int_equal(gpu_screenshot(guest.gpu, 0, "/proc/x.png", NULL), -ENOENT);
	assert_int_equal(gpu_screenshot(guest.gpu, 0, "/dev/null/x.png", NULL), -ENOTDIR);
	assert_int_equal(unref(&guest, 1), OK);
	assert_int_equal(gpu_screenshot(guest.gpu, 0, "/dev/null/x.png", NULL), -ENOENT);
	/* Another resource with that ID, and smaller, is not what was shown. */
	assert_int_equal(create_2d(&guest, 1, 4, 4), OK);
	assert_int_equal(gpu_screenshot(guest.gpu, 0, "/dev/null/x.png", NULL), -ENOENT);
}

static struct virtio_gpu_set_scanout_blob scanout_blob(void)
{
	return (struct virtio_gpu_set_scanout_blob){
		.hdr = header(VIRTIO_GPU_CMD_SET_SCANOUT_BLOB, 0),
		.r = { 0, 0, htole32(4), htole32(4) },
		.resource_id = htole32(1),
		.width = htole32(4),
		.height = htole32(4),
		.format = htole32(VIRTIO_GPU_FORMAT_R8G8B8X8_UNORM),
		.strides = { htole32(32) },
		.offsets = { htole32(64) },
	};
}

TEST_GUEST(a_scanout_may_be_a_blob)
{
	const struct virtio_gpu_set_scanout_blob request = scanout_blob();
	uint32_t width, height;
	uint8_t *pixels;

	assert_int_equal(create_blob(&guest, 1, 4096, 64 + 3 * 32 + 16), OK);
	assert_int_equal(guest_call(&guest, &request, sizeof(request)), OK);
	for (uint32_t y = 0; y < 4; y++) {
		guest.memory[4096 + 64 + y * 32] = (uint8_t)(10 + y);
	}
	pixels = screenshot(&width, &height);
	assert_int_equal(width, 4);
	assert_int_equal(height, 4);
	for (uint32_t y = 0; y < 4; y++) {
		assert_int_equal(pixels[y * 4 * 3], 10 + y);
	}
	free(pixels);
	assert_int_equal(flush(1, 0, 0, 4, 4), OK);
}

/* A picture of 3 by 3, of which the scanout shows all but the first row and column: the last pixel
 * ends with the blob. Each pixel has its place in its bytes. */
static void check_layout(uint32_t format, uint32_t offset, uint32_t stride)
{
	const struct virtio_gpu_rect all = { 0, 0, 2, 2 };
	struct virtio_gpu_set_scanout_blob request = scanout_blob();
	uint32_t size = offset + 2 * stride + 12, pixels[4];

	request.r = (struct virtio_gpu_rect){ htole32(1), htole32(1), htole32(2), htole32(2) };
	request.width = request.height = htole32(3);
	request.format = htole32(formats[format].format);
	request.offsets[0] = htole32(offset);
	request.strides[0] = htole32(stride);
	assert_int_equal(create_blob(&guest, 1, 0, size - 1), OK);
	assert_int_equal(guest_call(&guest, &request, sizeof(request)), BAD_PARAMETER);
	assert_int_equal(unref(&guest, 1), OK);
	assert_int_equal(create_blob(&guest, 1, 0, size), OK);
	assert_int_equal(guest_call(&guest, &request, sizeof(request)), OK);
	memset(guest.memory, 0xcc, size);
	for (uint32_t i = 0; i < 4; i++) {
		uint8_t *pixel = guest.memory + offset + stride * (1 + i / 2) + 4 * (1 + i % 2);

		for (uint8_t byte = 0; byte < 4; byte++) {
			pixel[byte] = (uint8_t)(10 * i + byte + 1);
		}
	}
	assert_int_equal(gpu_read_scanout(guest.gpu, 0, &all, pixels), 0);
	for (uint32_t i = 0; i < 4; i++) {
		const uint8_t *rgb = formats[format].rgb;

		assert_int_equal(pixels[i] & 0xffffff,
			(10 * i + rgb[0]) << 16 | (10 * i + rgb[1]) << 8 | (10 * i + rgb[2]));
	}
	assert_int_equal(unref(&guest, 1), OK);
}

TEST_GUEST(a_blob_is_shown_in_every_format_at_every_offset_and_stride)
{
	static const uint32_t offsets[] = { 0, 1, 2, 3, 4, 4093, 65535 };
	static const uint32_t strides[] = { 12, 13, 14, 15, 16, 4095, 20001 };

	for (uint32_t format = 0; format < NUM_FORMATS; format++) {
		for (uint32_t i = 0; i < 7 * 7; i++) {
			check_layout(format, offsets[i % 7], strides[i / 7]);
		}
	}
}

/* All formats have one plane, so the places of others say nothing. */
TEST_GUEST(other_planes_of_a_blob_are_not_looked_at)
{
	struct virtio_gpu_set_scanout_blob request = scanout_blob();

	assert_int_equal(create_blob(&guest, 1, 0, 4096), OK);
	for (uint32_t i = 1; i < 4; i++) {
		request.strides[i] = request.offsets[i] = UINT32_MAX;
	}
	assert_int_equal(guest_call(&guest, &request, sizeof(request)), OK);
}

TEST_GUEST(refuses_formats_that_there_are_not)
{
	struct virtio_gpu_set_scanout_blob request = scanout_blob();
	uint32_t num_good = 0;

	assert_int_equal(create_blob(&guest, 1, 0, 4096), OK);
	for (uint32_t format = 0; format < 1000; format++) {
		request.format = htole32(format);
		num_good += guest_call(&guest, &request, sizeof(request)) == OK;
	}
	assert_int_equal(num_good, NUM_FORMATS);
	request.format = UINT32_MAX;
	assert_int_equal(guest_call(&guest, &request, sizeof(request)), BAD_PARAMETER);
}

/* Sums that wrap in 32 bits would be small. */
TEST_GUEST(refuses_places_in_a_blob_that_wrap)
{
	struct virtio_gpu_set_scanout_blob request = scanout_blob();

	assert_int_equal(create_blob(&guest, 1, 0, 4096), OK);
	request.offsets[0] = htole32(UINT32_MAX - 15);
	assert_int_equal(guest_call(&guest, &request, sizeof(request)), BAD_PARAMETER);
	request = scanout_blob();
	request.height = htole32(5);
	request.strides[0] = htole32(0x40000000); /* 4 times this is 0 */
	assert_int_equal(guest_call(&guest, &request, sizeof(request)), BAD_PARAMETER);
}

/* What the guest has taken back may have something else in it by then. */
TEST_GUEST(a_scanout_shows_nothing_of_a_blob_without_memory)
{
	const struct virtio_gpu_set_scanout_blob request = scanout_blob();
	const struct virtio_gpu_rect one = { 0, 0, 1, 1 };
	uint32_t pixel = 0;

	assert_int_equal(create_empty_blob(&guest, 1, 4096), OK);
	assert_int_equal(guest_call(&guest, &request, sizeof(request)), OK);
	assert_true(gpu_read_scanout(guest.gpu, 0, &one, &pixel) < 0);
	assert_int_equal(flush(1, 0, 0, 4, 4), OK);
	for (uint32_t i = 1; i < 3; i++) {
		guest.memory[i * 4096 + 64] = (uint8_t)i;
		assert_int_equal(attach_backing(&guest, 1, i * 4096, 4096), OK);
		assert_int_equal(gpu_read_scanout(guest.gpu, 0, &one, &pixel), 0);
		assert_int_equal(pixel >> 16 & 0xff, i);
		assert_int_equal(detach_backing(&guest, 1), OK);
		pixel = 0;
		assert_true(gpu_read_scanout(guest.gpu, 0, &one, &pixel) < 0);
		assert_int_equal(pixel, 0);
		assert_int_equal(flush(1, 0, 0, 4, 4), OK);
		assert_int_equal(guest.flushed_pixel, NO_PIXEL);
	}
}

TEST_GUEST(refuses_blobs_that_are_too_small_for_a_scanout)
{
	struct virtio_gpu_set_scanout_blob bad[8];

	assert_int_equal(create_blob(&guest, 1, 0, 64 + 3 * 32 + 16), OK);
	assert_int_equal(create_2d(&guest, 2, 8, 8), OK);
	for (size_t i = 0; i < 8; i++) {
		bad[i] = scanout_blob();
	}
	bad[0].offsets[0] = htole32(68);
	bad[1].strides[0] = htole32(36);
	bad[2].height = htole32(5);
	bad[3].strides[0] = htole32(12);
	bad[4].width = htole32(0x40000000);
	bad[5].r.width = htole32(5);
	bad[6].format = 0;
	bad[7].resource_id = htole32(2);
	for (size_t i = 0; i < 8; i++) {
		assert_int_equal(guest_call(&guest, &bad[i], sizeof(bad[i])), BAD_PARAMETER);
	}
	bad[0] = scanout_blob();
	bad[0].scanout_id = htole32(2);
	assert_int_equal(guest_call(&guest, &bad[0], sizeof(bad[0])), BAD_SCANOUT);
	bad[0] = scanout_blob();
	bad[0].resource_id = htole32(3);
	assert_int_equal(guest_call(&guest, &bad[0], sizeof(bad[0])), BAD_RESOURCE);
	bad[0].resource_id = 0;
	assert_int_equal(guest_call(&guest, &bad[0], sizeof(bad[0])), OK);
}

/* ---- Flushes that wait ---------------------------------------------------------------------- */

#define VALUE 0x123456

static bool is_done(uint32_t token)
{
	return guest.responses[GPU_QUEUE_CONTROL][token].done;
}

static uint32_t wait_for(uint32_t token)
{
	return guest_header(guest_wait(&guest, GPU_QUEUE_CONTROL, token)).type;
}

/* Blob 1 is on scanout 0, context 2 draws to it behind fence 1. Returns the work's token. */
static uint32_t start_drawing(void)
{
	const struct virtio_gpu_set_scanout_blob show = scanout_blob();
	const struct job job = { .ctx_id = 2,
		.ring = 3,
		.fence_id = 2,
		.resource_id = 1,
		.offset = 64,
		.value = VALUE,
		.num_in_fences = 1,
		.in_fences = { 1 } };

	assert_int_equal(create_context(&guest, 1), OK);
	assert_int_equal(create_context(&guest, 2), OK);
	assert_int_equal(create_blob(&guest, 1, 0, 4096), OK);
	assert_int_equal(attach_context(&guest, 2, 1), OK);
	assert_int_equal(guest_call(&guest, &show, sizeof(show)), OK);
	create_test_fence(&guest, 1);
	return submit(&guest, &job);
}

/* In the scanout's format, red comes first. */
TEST_GUEST(a_flush_shows_what_was_drawn_before_it)
{
	uint32_t drawn = start_drawing(), flushed = send_flush(&guest, 1, 4, 4, 0);

	assert_false(is_done(flushed));
	assert_int_equal(guest.num_flushes, 0);
	signal_test_fence(&guest, 1);
	assert_int_equal(wait_for(flushed), OK);
	assert_true(is_done(drawn));
	assert_int_equal(guest.num_flushes, 1);
	assert_int_equal(guest.flushed_pixel, 0x563412);
	assert_int_equal(flush(1, 0, 0, 4, 4), OK);
	assert_int_equal(guest.num_flushes, 2);
}

/* A guest takes a fence for the end of all before it. */
TEST_GUEST(fences_that_come_after_a_flush_wait_with_it)
{
	struct virtio_gpu_ctrl_hdr request = header(VIRTIO_GPU_CMD_GET_DISPLAY_INFO, 0);
	uint32_t flushed, later;

	start_drawing();
	flushed = send_flush(&guest, 1, 4, 4, 7);
	request.flags = htole32(VIRTIO_GPU_FLAG_FENCE);
	request.fence_id = htole64(8);
	later = guest_send(&guest, GPU_QUEUE_CONTROL, &request, sizeof(request), 408);
	gpu_dispatch(guest.gpu);
	assert_false(is_done(flushed) || is_done(later));
	signal_test_fence(&guest, 1);
	assert_int_equal(wait_for(later), VIRTIO_GPU_RESP_OK_DISPLAY_INFO);
	assert_true(is_done(flushed));
	assert_int_equal(guest_header(&guest.responses[0][flushed]).fence_id, 7);
	assert_true(guest.responses[0][flushed].order < guest.responses[0][later].order);
	assert_int_equal(guest.flushed_pixel, 0x563412);
}

/* Of the same guest: of other resources, or without a fence. */
TEST_GUEST(a_flush_that_waits_keeps_no_other_request_waiting)
{
	const struct job other = { .ctx_id = 1, .fence_id = 3, .busy_us = 1 };
	uint32_t flushed;

	start_drawing();
	assert_int_equal(create_2d(&guest, 2, 8, 8), OK);
	assert_int_equal(set_scanout(1, 2, 0, 0, 8, 8), OK);
	flushed = send_flush(&guest, 1, 4, 4, 0);
	assert_int_equal(flush(2, 0, 0, 8, 8), OK);
	assert_int_equal(guest.num_flushes, 1);
	assert_int_equal(wait_for(submit(&guest, &other)), OK);
	assert_false(is_done(flushed));
	signal_test_fence(&guest, 1);
	assert_int_equal(wait_for(flushed), OK);
}

TEST_GUEST(a_flush_waits_for_nothing_that_comes_later)
{
	struct job job = { .ctx_id = 2, .fence_id = 9, .num_in_fences = 1, .in_fences = { 4 } };
	uint32_t drawn = start_drawing(), flushed = send_flush(&guest, 1, 4, 4, 3), later;

	/* Also if that waits for the flush. */
	create_test_fence(&guest, 4);
	later = submit(&guest, &job);
	signal_test_fence(&guest, 1);
	assert_int_equal(wait_for(flushed), OK);
	assert_true(is_done(drawn));
	assert_false(is_done(later));
	signal_test_fence(&guest, 4);
	assert_int_equal(wait_for(later), OK);
}

TEST_GUEST(flushes_that_wait_are_shown_in_their_order)
{
	uint32_t tokens[200];

	start_drawing();
	for (uint32_t i = 0; i < 200; i++) {
		tokens[i] = send_flush(&guest, 1, 4, 4, i % 2 == 0 ? 10 + i : 0);
	}
	signal_test_fence(&guest, 1);
	for (uint32_t i = 0; i < 200; i++) {
		assert_int_equal(wait_for(tokens[i]), OK);
	}
	assert_int_equal(guest.num_flushes, 200);
}

/* The scanout shows something else by then, or nothing. */
TEST_GUEST(a_flush_that_waits_does_not_need_its_resource)
{
	uint32_t flushed;

	start_drawing();
	flushed = send_flush(&guest, 1, 4, 4, 5);
	assert_int_equal(detach_context(&guest, 2, 1), OK);
	assert_int_equal(unref(&guest, 1), OK);
	signal_test_fence(&guest, 1);
	assert_int_equal(wait_for(flushed), OK);
	assert_int_equal(guest.num_flushes, 0);
}

TEST_GUEST(a_reset_answers_flushes_that_wait)
{
	uint32_t tokens[2];

	start_drawing();
	tokens[0] = send_flush(&guest, 1, 4, 4, 5);
	tokens[1] = send_flush(&guest, 1, 4, 4, 0);
	gpu_reset(guest.gpu);
	assert_true(is_done(tokens[0]) && is_done(tokens[1]));
	assert_int_equal(guest.num_flushes, 0);
	start_drawing();
	send_flush(&guest, 1, 4, 4, 5);
}

TEST_GUEST(a_drain_ends_flushes_that_wait)
{
	uint32_t tokens[2];

	start_drawing();
	tokens[0] = send_flush(&guest, 1, 4, 4, 5);
	tokens[1] = send_flush(&guest, 1, 4, 4, 0);
	gpu_drain(guest.gpu, 10, -1);
	assert_true(is_done(tokens[0]) && is_done(tokens[1]));
}

/* ---- Cursor --------------------------------------------------------------------------------- */

static uint32_t cursor(uint32_t type, uint32_t scanout, uint32_t resource_id)
{
	const struct virtio_gpu_update_cursor request = {
		.hdr = header(type, 0),
		.pos = { .scanout_id = htole32(scanout), .x = htole32(5), .y = htole32(6) },
		.resource_id = htole32(resource_id),
	};
	uint32_t token = guest_send(&guest, GPU_QUEUE_CURSOR, &request, sizeof(request), 24);

	return guest_header(guest_wait(&guest, GPU_QUEUE_CURSOR, token)).type;
}

TEST_GUEST(checks_cursors)
{
	assert_int_equal(create_2d(&guest, 1, 64, 64), OK);
	assert_int_equal(create_2d(&guest, 2, 65, 64), OK);
	assert_int_equal(create_blob(&guest, 3, 0, 64 * 64 * 4 - 1), OK);
	assert_int_equal(cursor(VIRTIO_GPU_CMD_UPDATE_CURSOR, 0, 1), OK);
	assert_int_equal(cursor(VIRTIO_GPU_CMD_UPDATE_CURSOR, 1, 0), OK);
	assert_int_equal(cursor(VIRTIO_GPU_CMD_UPDATE_CURSOR, 2, 1), BAD_SCANOUT);
	assert_int_equal(cursor(VIRTIO_GPU_CMD_UPDATE_CURSOR, 0, 2), BAD_PARAMETER);
	assert_int_equal(cursor(VIRTIO_GPU_CMD_UPDATE_CURSOR, 0, 3), BAD_PARAMETER);
	assert_int_equal(cursor(VIRTIO_GPU_CMD_UPDATE_CURSOR, 0, 4), BAD_RESOURCE);
	assert_int_equal(cursor(VIRTIO_GPU_CMD_MOVE_CURSOR, 0, 9), OK);
	assert_int_equal(cursor(VIRTIO_GPU_CMD_MOVE_CURSOR, 2, 0), BAD_SCANOUT);
	assert_int_equal(cursor(VIRTIO_GPU_CMD_GET_DISPLAY_INFO, 0, 0), UNSPECIFIED);
}

TEST_GUEST(a_cursor_needs_no_room_for_a_response)
{
	const struct virtio_gpu_update_cursor request = {
		.hdr = header(VIRTIO_GPU_CMD_MOVE_CURSOR, 0),
	};
	uint32_t token;

	token = guest_send(&guest, GPU_QUEUE_CURSOR, &request, sizeof(request), 0);
	assert_int_equal(guest_wait(&guest, GPU_QUEUE_CURSOR, token)->written, 0);
}

/* ---- Requests that are no commands ---------------------------------------------------------- */

TEST_GUEST(unknown_commands_get_an_error)
{
	static const uint32_t types[] = { 0, 1, 0xff, 0x10e, 0x1ff, 0x20a, 0x300, 0x301, 0x1100,
		0xffffffff };

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		const struct virtio_gpu_ctrl_hdr request = header(types[i], 0);

		assert_int_equal(guest_call(&guest, &request, sizeof(request)), UNSPECIFIED);
	}
	assert_true(guest.num_warnings <= 12); /* of two seconds at most */
}

TEST_GUEST(a_request_without_a_header_gets_nothing)
{
	const struct virtio_gpu_ctrl_hdr request = header(VIRTIO_GPU_CMD_GET_DISPLAY_INFO, 0);

	for (size_t size = 0; size < sizeof(request); size++) {
		assert_int_equal(guest_call(&guest, &request, size), 0);
	}
}

TEST_GUEST(commands_that_are_cut_short_get_an_error)
{
	static const uint32_t types[] = { 0x101, 0x102, 0x103, 0x104, 0x105, 0x106, 0x107, 0x108,
		0x109, 0x10a, 0x10b, 0x10c, 0x10d, 0x200, 0x204, 0x205, 0x206 };

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct virtio_gpu_ctrl_hdr request = header(types[i], 1);

		assert_int_equal(guest_call(&guest, &request, sizeof(request)), BAD_PARAMETER);
	}
}

TEST_GUEST(a_response_that_does_not_fit_is_left_out)
{
	const struct virtio_gpu_ctrl_hdr request = header(VIRTIO_GPU_CMD_GET_DISPLAY_INFO, 0);

	for (size_t room = 0; room < 408; room += 17) {
		uint32_t token = guest_send(
			&guest, GPU_QUEUE_CONTROL, &request, sizeof(request), room);

		assert_int_equal(guest_wait(&guest, GPU_QUEUE_CONTROL, token)->written, 0);
	}
}

TEST_GUEST(a_fenced_response_says_which)
{
	struct virtio_gpu_ctrl_hdr request = header(VIRTIO_GPU_CMD_GET_DISPLAY_INFO, 3);
	struct virtio_gpu_ctrl_hdr response;
	uint32_t token;

	request.flags = htole32(VIRTIO_GPU_FLAG_FENCE);
	request.fence_id = htole64(UINT64_C(0x123456789a));
	token = guest_send(&guest, GPU_QUEUE_CONTROL, &request, sizeof(request), 500);
	assert_false(guest.responses[GPU_QUEUE_CONTROL][token].done);
	response = guest_header(guest_wait(&guest, GPU_QUEUE_CONTROL, token));
	assert_int_equal(response.type, VIRTIO_GPU_RESP_OK_DISPLAY_INFO);
	assert_int_equal(response.flags, VIRTIO_GPU_FLAG_FENCE);
	assert_true(response.fence_id == UINT64_C(0x123456789a));
	assert_int_equal(response.ctx_id, 3);
	assert_int_equal(guest.responses[GPU_QUEUE_CONTROL][token].written, 408);
}
