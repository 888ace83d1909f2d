/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Fuzzes the reading of snapshots. A device that accepts one saves the very same bytes; a device
 * that refuses one is as it was.
 *
 * The program (fuzz.h) mutates valid snapshots.
 *
 * An input is a byte, and the snapshot. Where the byte says so, contexts are missing.
 */

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <vgfence/context_driver.h>
#include <vgfence/vgfence.h>

#include "fuzz.h"

#define HEADER_SIZE 32
#define RECORD_SIZE 16

static void retire(void *cookie, const struct vgf_retired *retired)
{
	(void)cookie;
	(void)retired;
}

static int submit(void *data, const struct vgf_job *job, int *fence_fd)
{
	(void)data;
	(void)job;
	(void)fence_fd;
	return -EIO;
}

/* One for all inputs: a reset makes it new. */
static struct vgf_device *get_device(void)
{
	static const struct vgf_callbacks callbacks = { .size = sizeof(callbacks),
		.retire = retire };
	static struct vgf_device *device;

	if (!device) {
		CHECK(vgf_device_create(&callbacks, NULL, NULL, &device) == 0);
	}
	CHECK(vgf_device_reset(device) == 0);
	return device;
}

/* Whatever the bytes are, those that could be contexts of records. */
static void open_contexts(struct vgf_device *device, const uint8_t *blob, size_t size, bool missing)
{
	static const struct vgf_driver driver = { .size = sizeof(driver), .submit = submit };

	for (size_t at = HEADER_SIZE; size >= 4 && at <= size - 4; at += RECORD_SIZE) {
		uint32_t ctx_id = blob[at] | (uint32_t)blob[at + 1] << 8 |
			(uint32_t)blob[at + 2] << 16 | (uint32_t)blob[at + 3] << 24;
		if (!missing || ctx_id % 8 != 7) {
			vgf_context_create(device, ctx_id, &driver, NULL);
		}
	}
}

static void check_marks(struct vgf_device *device, const void *expected, size_t expected_size)
{
	void *blob;
	size_t size;

	CHECK(vgf_device_save(device, &blob, &size) == 0);
	CHECK(size == expected_size && memcmp(blob, expected, size) == 0);
	free(blob);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vgf_device *device = get_device();
	size_t exact_size = size > 0 ? size - 1 : 0, before_size;
	uint8_t *exact = malloc(exact_size + !exact_size);
	void *before;
	int ret;

	CHECK(exact);
	if (size > 0) {
		memcpy(exact, data + 1, exact_size);
		open_contexts(device, exact, exact_size, data[0] & 1);
	}
	CHECK(vgf_device_save(device, &before, &before_size) == 0);
	ret = vgf_device_restore(device, exact, exact_size);
	CHECK(ret == 0 || ret == -EINVAL || ret == -ENOENT);
	if (ret == 0) {
		check_marks(device, exact, exact_size);
	} else {
		check_marks(device, before, before_size);
	}
	free(before);
	free(exact);
	return 0;
}

/* ---- The program -------------------------------------------------------------------------- */

#ifndef LIBFUZZER

#define MAX_RECORDS 12

static void put(uint8_t *to, uint64_t value, unsigned int size)
{
	for (unsigned int i = 0; i < size; i++) {
		to[i] = (uint8_t)(value >> (8 * i));
	}
}

static uint64_t get(const uint8_t *bytes, unsigned int size)
{
	uint64_t value = 0;

	while (size-- > 0) {
		value = value << 8 | bytes[size];
	}
	return value;
}

static void make_valid(struct fuzz_input *input, uint64_t *random)
{
	uint8_t *blob = input->bytes + 1;
	uint32_t count = (uint32_t)random_below(random, MAX_RECORDS + 1), ctx_id = 0, ring = 0;
	uint64_t mark = next_random(random) >> random_below(random, 64);

	input->bytes[0] = (uint8_t)(random_below(random, 8) == 0);
	memcpy(blob, "VGFENCE", 8);
	put(blob + 8, 1, 4);
	put(blob + 12, count, 4);
	put(blob + 16, mark, 8);
	put(blob + 24, mark >> random_below(random, 64), 8);
	for (uint32_t i = 0; i < count; i++) {
		uint8_t *record = blob + HEADER_SIZE + (size_t)i * RECORD_SIZE;
		if (i == 0 || mark == 0 || ring > 50 || random_below(random, 3) == 0) {
			ctx_id += 1 + (uint32_t)random_below(random, 6);
			ring = 0;
		} else {
			ring += 1 + (uint32_t)random_below(random, 12);
		}
		put(record, ctx_id, 4);
		put(record + 4, ring, 4);
		put(record + 8, mark - (ring > 0 ? random_below(random, mark) : 0), 8);
	}
	input->size = 1 + HEADER_SIZE + (size_t)count * RECORD_SIZE;
}

static void mutate(struct fuzz_input *input, uint64_t *random)
{
	size_t at = (size_t)random_below(random, input->size);
	uint32_t last = (uint32_t)random_below(random, MAX_RECORDS + 3);

	switch (random_below(random, 5)) {
	case 0:
		input->bytes[at] ^= (uint8_t)(1u << random_below(random, 8));
		break;
	case 1: /* a field one more or less */
		at = 1 + 4 * (size_t)random_below(random, (HEADER_SIZE + 64) / 4);
		put(input->bytes + at,
			get(input->bytes + at, 4) + (random_below(random, 2) ? 1 : UINT64_MAX), 4);
		break;
	case 2:
		input->size = at;
		break;
	case 3: /* as long as it says, or longer; what is there now is anything */
		put(input->bytes + 1 + 12, last, 4);
		input->size = 1 + HEADER_SIZE + (size_t)last * RECORD_SIZE;
		break;
	default:
		input->bytes[at] = (uint8_t)next_random(random);
		break;
	}
}

int main(int argc, char **argv)
{
	static const struct fuzz_program program = {
		.name = "snapshot",
		.runs = 50000,
		.num_changes = 4,
		.make = make_valid,
		.mutate = mutate,
	};

	return fuzz_main(&program, argc, argv);
}
#endif
