/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "edid.h"

/* What a detailed timing of the base block has room for. */
#define MAX_CLOCK_10KHZ 0xffff
#define MAX_DETAILED_SIZE 4095

#define PRODUCT 1
#define YEAR 2026

/* A DisplayID block has room for so many; the first one, which says what the monitor is, for
 * less. */
#define TIMINGS_PER_BLOCK 5
#define TIMINGS_IN_FIRST 3

/* Reduced blanking, version 1, of VESA CVT 1.2: the same for every mode. */
#define H_FRONT 48
#define H_SYNC 32
#define H_BLANK 160
#define V_FRONT 3
#define V_BACK_MIN 6
#define V_BLANK_MIN_NS 460000

struct timing {
	uint32_t width, height;
	uint32_t v_sync, v_blank; /* in lines */
	uint32_t clock_10khz;
};

/* CVT marks aspect ratios by this. */
static uint32_t v_sync_lines(uint32_t width, uint32_t height)
{
	static const struct {
		uint32_t width, height, lines;
	} aspects[] = { { 4, 3, 4 }, { 16, 9, 5 }, { 16, 10, 6 }, { 5, 4, 7 }, { 15, 9, 7 } };

	for (size_t i = 0; i < sizeof(aspects) / sizeof(aspects[0]); i++) {
		/* CVT's widths are multiples of 8, so nearly this ratio. */
		uint32_t exact = height * aspects[i].width / aspects[i].height;

		if (width / 8 == exact / 8) {
			return aspects[i].lines;
		}
	}
	return 10;
}

static void make_timing(struct timing *timing, uint32_t width, uint32_t height, uint32_t refresh)
{
	uint32_t line_ns = (1000000000 / refresh - V_BLANK_MIN_NS) / height;
	uint32_t v_min = V_FRONT + v_sync_lines(width, height) + V_BACK_MIN;
	uint32_t quarters; /* of a MHz, CVT's step */

	*timing = (struct timing){
		.width = width,
		.height = height,
		.v_sync = v_sync_lines(width, height),
		.v_blank = V_BLANK_MIN_NS / line_ns + 1,
	};
	if (timing->v_blank < v_min) {
		timing->v_blank = v_min;
	}
	quarters = (uint32_t)((uint64_t)refresh * (height + timing->v_blank) * (width + H_BLANK) /
		250000);
	timing->clock_10khz = quarters * 25;
}

static uint8_t low(uint32_t value)
{
	return value & 0xff;
}

/* At 96 pixels an inch. */
static uint32_t size_mm(uint32_t pixels)
{
	return pixels * 254 / 960;
}

/* width_mm, height_mm: of the monitor. */
static void put_timing(
	uint8_t *at, const struct timing *timing, uint32_t width_mm, uint32_t height_mm)
{
	at[0] = low(timing->clock_10khz);
	at[1] = low(timing->clock_10khz >> 8);
	at[2] = low(timing->width);
	at[3] = H_BLANK;
	at[4] = low(timing->width >> 8 << 4);
	at[5] = low(timing->height);
	at[6] = low(timing->v_blank);
	at[7] = low((timing->height >> 8 << 4) | timing->v_blank >> 8);
	at[8] = H_FRONT;
	at[9] = H_SYNC;
	at[10] = low((V_FRONT << 4) | (timing->v_sync & 0xf));
	at[11] = 0; /* the upper bits of those three */
	at[12] = low(width_mm);
	at[13] = low(height_mm);
	at[14] = low((width_mm >> 8 << 4) | height_mm >> 8);
	at[17] = 0x1a; /* separate syncs, horizontal positive: CVT's sign of reduced blanking */
}

/* A descriptor of text: ended by a newline, filled up with spaces. */
static void put_text(uint8_t *at, uint8_t tag, const char *text)
{
	size_t i = 5;

	at[3] = tag;
	for (; *text != '\0'; text++) {
		at[i++] = (uint8_t)*text;
	}
	at[i++] = '\n';
	memset(at + i, ' ', 18 - i);
}

/* How big the picture is, in cm. 0 if that does not fit. */
static uint8_t size_cm(uint32_t pixels)
{
	uint32_t cm = (size_mm(pixels) + 5) / 10;

	return cm < 256 ? (uint8_t)cm : 0;
}

static void put_header(uint8_t *edid, uint32_t width, uint32_t height, uint32_t serial)
{
	static const uint8_t magic[] = { 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0 };
	/* Of 60 Hz: 1280x720, 1280x1024, 1440x900, 1600x900, 1680x1050, 1600x1200, 1920x1080,
	 * 1920x1200. */
	static const uint8_t standard[] = { 0x81, 0xc0, 0x81, 0x80, 0x95, 0x00, 0xa9, 0xc0, 0xb3,
		0x00, 0xa9, 0x40, 0xd1, 0xc0, 0xd1, 0x00 };
	static const uint8_t srgb[] = { 0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50,
		0x54 };

	memcpy(edid, magic, sizeof(magic));
	/* "VGF" with 5 bits a letter, A is 1. */
	edid[8] = ('V' - '@') << 2 | ('G' - '@') >> 3;
	edid[9] = (('G' - '@') & 7) << 5 | ('F' - '@');
	edid[10] = PRODUCT;
	edid[12] = low(serial + 1);
	edid[16] = 0;
	edid[17] = YEAR - 1990;
	edid[18] = 1;
	edid[19] = 4;
	edid[20] = 0xa0; /* digital, 8 bits a colour */
	edid[21] = size_cm(width);
	edid[22] = size_cm(height);
	edid[23] = 120;  /* gamma 2.2 */
	edid[24] = 0x04; /* sRGB */
	memcpy(edid + 25, srgb, sizeof(srgb));
	edid[35] = 0x21; /* 640x480 and 800x600 at 60 Hz */
	edid[36] = 0x08; /* 1024x768 at 60 Hz */
	memcpy(edid + 38, standard, sizeof(standard));
}

static void put_checksum(uint8_t *bytes, size_t size)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < size; i++) {
		sum = (uint8_t)(sum + bytes[i]);
	}
	bytes[size] = (uint8_t)-sum;
}

/* ---- DisplayID ------------------------------------------------------------------------------ */

struct mode {
	uint32_t width, height, refresh;
	bool preferred;
};

static const struct mode usual_modes[] = {
	{ 7680, 4320, 60, false },
	{ 7680, 4320, 120, false },
	{ 5120, 2880, 60, false },
	{ 3840, 2160, 60, false },
	{ 3840, 2160, 120, false },
	{ 3840, 2160, 144, false },
	{ 3840, 2160, 240, false },
	{ 2560, 1440, 60, false },
	{ 2560, 1440, 120, false },
	{ 2560, 1440, 144, false },
	{ 2560, 1440, 240, false },
	{ 1920, 1080, 60, false },
	{ 1920, 1080, 120, false },
	{ 1920, 1080, 144, false },
	{ 1920, 1080, 240, false },
};
#define NUM_USUAL (sizeof(usual_modes) / sizeof(usual_modes[0]))

/* Of the preferred size. */
static const uint32_t refreshes[] = { 60, 75, 120, 144, 240 };
#define NUM_REFRESHES (sizeof(refreshes) / sizeof(refreshes[0]))

static uint8_t aspect_code(uint32_t width, uint32_t height)
{
	static const struct {
		uint32_t width, height;
	} aspects[] = { { 1, 1 }, { 5, 4 }, { 4, 3 }, { 15, 9 }, { 16, 9 }, { 16, 10 }, { 64, 27 },
		{ 256, 135 } };

	for (size_t i = 0; i < sizeof(aspects) / sizeof(aspects[0]); i++) {
		if (width * aspects[i].height == height * aspects[i].width) {
			return (uint8_t)i;
		}
	}
	return 8; /* undefined */
}

static void put_u16(uint8_t *at, uint32_t value)
{
	at[0] = low(value);
	at[1] = low(value >> 8);
}

/* Type I: one less of everything. */
static void put_long_timing(uint8_t *at, const struct timing *timing, bool preferred)
{
	const uint32_t clock = timing->clock_10khz - 1, positive = 0x8000;

	put_u16(at, clock);
	at[2] = low(clock >> 16);
	at[3] = (uint8_t)((preferred ? 0x80 : 0) | aspect_code(timing->width, timing->height));
	put_u16(at + 4, timing->width - 1);
	put_u16(at + 6, H_BLANK - 1);
	put_u16(at + 8, (H_FRONT - 1) | positive);
	put_u16(at + 10, H_SYNC - 1);
	put_u16(at + 12, timing->height - 1);
	put_u16(at + 14, timing->v_blank - 1);
	put_u16(at + 16, V_FRONT - 1);
	put_u16(at + 18, timing->v_sync - 1);
}

/* A data block within a DisplayID block. Returns where its content begins. */
static uint8_t *put_data(uint8_t *block, uint8_t tag, uint8_t size)
{
	uint8_t *at = block + 5 + block[2];

	at[0] = tag;
	at[2] = size;
	block[2] = (uint8_t)(block[2] + 3 + size);
	return at + 3;
}

/* What the monitor is: the same as the base block says. */
static void put_monitor(uint8_t *block, uint32_t width, uint32_t height, uint32_t serial)
{
	uint8_t *product = put_data(block, 0x00, 12), *parameters = put_data(block, 0x01, 12),
		*interface = put_data(block, 0x0f, 10);
	uint32_t long_side = width > height ? width : height;
	uint32_t short_side = width > height ? height : width;
	uint32_t aspect = long_side * 100 / short_side - 100;

	product[0] = 'V';
	product[1] = 'G';
	product[2] = 'F';
	put_u16(product + 3, PRODUCT);
	product[5] = low(serial + 1);
	product[10] = YEAR - 2000;
	put_u16(parameters, size_mm(width) * 10);
	put_u16(parameters + 2, size_mm(height) * 10);
	put_u16(parameters + 4, width);
	put_u16(parameters + 6, height);
	parameters[9] = 120; /* gamma 2.2 */
	parameters[10] = aspect < 256 ? (uint8_t)aspect : 255;
	parameters[11] = 0x77; /* 8 bits a colour */
	interface[0] = 0xb1;   /* a digital one of its own kind */
	interface[2] = 0x02;   /* 8 bits a colour */
}

static void put_modes(uint8_t *block, const struct mode *modes, size_t count)
{
	uint8_t *at = put_data(block, 0x03, (uint8_t)(20 * count));
	struct timing timing;

	for (size_t i = 0; i < count; i++) {
		make_timing(&timing, modes[i].width, modes[i].height, modes[i].refresh);
		put_long_timing(at + 20 * i, &timing, modes[i].preferred);
	}
}

static size_t list_modes(struct mode *modes, uint32_t width, uint32_t height)
{
	size_t count = 0;

	for (size_t i = 0; i < NUM_REFRESHES; i++) {
		modes[count++] = (struct mode){ width, height, refreshes[i], i == 0 };
	}
	for (size_t i = 0; i < NUM_USUAL; i++) {
		if (usual_modes[i].width != width || usual_modes[i].height != height) {
			modes[count++] = usual_modes[i];
		}
	}
	return count;
}

/* Returns how many blocks that are. */
static uint8_t put_extensions(uint8_t *blocks, uint32_t width, uint32_t height, uint32_t serial)
{
	struct mode modes[NUM_REFRESHES + NUM_USUAL];
	size_t count = list_modes(modes, width, height), at = 0;
	uint8_t num_blocks = 0;

	while (at < count) {
		uint8_t *block = blocks + (size_t)num_blocks * EDID_BLOCK_SIZE;
		size_t room = num_blocks == 0 ? TIMINGS_IN_FIRST : TIMINGS_PER_BLOCK;

		block[0] = 0x70; /* DisplayID 1.3 */
		block[1] = 0x13;
		if (num_blocks++ == 0) {
			block[3] = 3; /* a monitor of its own */
			put_monitor(block, width, height, serial);
		}
		room = count - at < room ? count - at : room;
		put_modes(block, modes + at, room);
		at += room;
	}
	blocks[4] = num_blocks - 1;
	for (uint8_t i = 0; i < num_blocks; i++) {
		uint8_t *block = blocks + (size_t)i * EDID_BLOCK_SIZE;

		put_checksum(block + 1, 4 + block[2]);
		put_checksum(block, EDID_BLOCK_SIZE - 1);
	}
	return num_blocks;
}

/* ---- All of it ------------------------------------------------------------------------------ */

/* The preferred mode, if there is room for it, or a smaller or a slower one. */
static void put_base_timing(uint8_t *edid, uint32_t width, uint32_t height)
{
	struct timing timing;
	uint32_t part = 1;

	while (width / part > MAX_DETAILED_SIZE || height / part > MAX_DETAILED_SIZE) {
		part *= 2;
	}
	make_timing(&timing, width / part, height / part, 60);
	if (timing.clock_10khz > MAX_CLOCK_10KHZ) {
		make_timing(&timing, width / part, height / part, 30);
	}
	edid[24] |= part == 1 ? 2 : 0; /* the first timing is the native one */
	put_timing(edid + 54, &timing, size_mm(width), size_mm(height));
}

uint32_t edid_make(uint8_t edid[EDID_MAX_SIZE], uint32_t width, uint32_t height, uint32_t serial)
{
	char text[14];

	memset(edid, 0, EDID_MAX_SIZE);
	put_header(edid, width, height, serial);
	put_base_timing(edid, width, height);
	put_text(edid + 72, 0xfc, "vgfence");
	snprintf(text, sizeof(text), "%u", serial + 1);
	put_text(edid + 90, 0xff, text);
	edid[111] = 0x10; /* the last descriptor is not used */
	edid[126] = put_extensions(edid + EDID_BLOCK_SIZE, width, height, serial);
	put_checksum(edid, EDID_BLOCK_SIZE - 1);
	return EDID_BLOCK_SIZE * (1u + edid[126]);
}
