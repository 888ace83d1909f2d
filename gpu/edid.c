/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <stdio.h>
#include <string.h>

#include "edid.h"

#define MAX_CLOCK_10KHZ 0xffff /* what a detailed timing has room for */

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

static void put_timing(uint8_t *at, const struct timing *timing)
{
	uint32_t width_mm = size_mm(timing->width), height_mm = size_mm(timing->height);

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
	static const uint8_t srgb[] = { 0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50,
		0x54 };

	memcpy(edid, magic, sizeof(magic));
	/* "VGF" with 5 bits a letter, A is 1. */
	edid[8] = ('V' - '@') << 2 | ('G' - '@') >> 3;
	edid[9] = (('G' - '@') & 7) << 5 | ('F' - '@');
	edid[10] = 1; /* product */
	edid[12] = low(serial + 1);
	edid[16] = 0;
	edid[17] = 2026 - 1990;
	edid[18] = 1;
	edid[19] = 4;
	edid[20] = 0xa0; /* digital, 8 bits a colour */
	edid[21] = size_cm(width);
	edid[22] = size_cm(height);
	edid[23] = 120;  /* gamma 2.2 */
	edid[24] = 0x06; /* sRGB; the first timing is the native one */
	memcpy(edid + 25, srgb, sizeof(srgb));
	edid[35] = 0x20;          /* 640x480 at 60 Hz */
	memset(edid + 38, 1, 16); /* no standard timings */
}

void edid_make(uint8_t edid[EDID_SIZE], uint32_t width, uint32_t height, uint32_t serial)
{
	struct timing timing;
	char text[14];
	uint8_t sum = 0;

	memset(edid, 0, EDID_SIZE);
	make_timing(&timing, width, height, 60);
	if (timing.clock_10khz > MAX_CLOCK_10KHZ) {
		make_timing(&timing, width, height, 30);
	}
	put_header(edid, width, height, serial);
	put_timing(edid + 54, &timing);
	put_text(edid + 72, 0xfc, "vgfence");
	snprintf(text, sizeof(text), "%u", serial + 1);
	put_text(edid + 90, 0xff, text);
	edid[111] = 0x10; /* the last descriptor is not used */
	for (size_t i = 0; i < EDID_SIZE - 1; i++) {
		sum = (uint8_t)(sum + edid[i]);
	}
	edid[127] = (uint8_t)-sum;
}
