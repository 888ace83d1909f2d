/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * What the guest's Wayland proxy copies of a buffer: what is different since that buffer was copied
 * last, and no more. A client here has several buffers, draws anywhere, and says where; the host's
 * copy of each buffer has to be right whenever it is committed.
 */

#include <stdlib.h>
#include <string.h>

#include "proxy_damage.h"
#include "support.h"

#define WIDTH 31
#define HEIGHT 17
#define STRIDE (WIDTH * 4 + 12)
#define SIZE (STRIDE * HEIGHT)
#define MAX_BUFFERS 6

struct client {
	struct damage_history history;
	uint8_t surface[SIZE]; /* what is to be shown */
	uint8_t buffers[MAX_BUFFERS][SIZE], copies[MAX_BUFFERS][SIZE];
	uint64_t commits[MAX_BUFFERS]; /* by which each was copied */
	uint32_t num_buffers;
};

static struct client client;

static struct damage_image image_of(uint32_t buffer)
{
	return (struct damage_image){
		.to = client.copies[buffer],
		.from = client.buffers[buffer],
		.stride = STRIDE,
		.width = WIDTH,
		.height = HEIGHT,
		.pixel_size = 4,
	};
}

static void start(uint32_t num_buffers)
{
	memset(&client, 0, sizeof(client));
	damage_init(&client.history);
	client.num_buffers = num_buffers;
	for (uint32_t i = 0; i < num_buffers; i++) {
		memset(client.copies[i], 0xee, SIZE); /* what is not there yet */
	}
}

static void draw(const struct rectangle *rectangle, uint8_t value)
{
	for (int32_t y = 0; y < rectangle->height; y++) {
		memset(client.surface + (rectangle->y + y) * STRIDE + rectangle->x * 4, value,
			(size_t)rectangle->width * 4);
	}
}

/* The whole picture is in the buffer, as with any client; the damage is what was said. */
static size_t commit(uint32_t buffer)
{
	const struct damage_image image = image_of(buffer);
	size_t size;

	memcpy(client.buffers[buffer], client.surface, SIZE);
	size = damage_copy(&client.history, client.commits[buffer], &image);
	client.commits[buffer] = client.history.number;
	damage_commit(&client.history);
	return size;
}

static bool is_right(uint32_t buffer)
{
	for (int32_t y = 0; y < HEIGHT; y++) {
		if (memcmp(client.copies[buffer] + y * STRIDE, client.surface + y * STRIDE,
			    WIDTH * 4) != 0) {
			return false;
		}
	}
	return true;
}

TEST(a_buffer_is_copied_whole_at_first_and_then_what_is_damaged)
{
	const struct rectangle rectangle = { 3, 4, 5, 6 };

	start(1);
	assert_int_equal(commit(0), SIZE);
	draw(&rectangle, 1);
	damage_add(&client.history, &rectangle);
	assert_int_equal(commit(0), 5 * 6 * 4);
	assert_true(is_right(0));
	assert_int_equal(commit(0), 0);
}

/* The control: by the damage of its own commit alone, the second buffer would be wrong. */
TEST(a_buffer_gets_what_was_damaged_while_another_was_shown)
{
	const struct rectangle first = { 0, 0, 4, 4 }, second = { 20, 10, 2, 2 };

	start(2);
	commit(0);
	commit(1);
	draw(&first, 1);
	damage_add(&client.history, &first);
	commit(0);
	draw(&second, 2);
	damage_add(&client.history, &second);
	assert_int_equal(commit(1), (4 * 4 + 2 * 2) * 4);
	assert_true(is_right(1));

	start(2);
	commit(0);
	commit(1);
	draw(&first, 1);
	commit(0); /* nobody said what is different */
	draw(&second, 2);
	damage_add(&client.history, &second);
	commit(1);
	assert_false(is_right(1));
}

/* Each commit damages another pixel. */
static size_t commit_pixel(uint32_t buffer, uint32_t x)
{
	damage_add(&client.history, &(struct rectangle){ (int32_t)x, 1, 1, 1 });
	return commit(buffer);
}

TEST(a_buffer_that_was_not_shown_for_long_is_copied_whole)
{
	start(2);
	commit(1);
	for (uint32_t i = 1; i <= DAMAGE_MAX_COMMITS; i++) {
		commit_pixel(0, i);
	}
	assert_int_equal(commit_pixel(1, 0), SIZE);
	for (uint32_t i = 1; i < DAMAGE_MAX_COMMITS; i++) {
		commit_pixel(0, i);
	}
	assert_int_equal(commit_pixel(1, 0), DAMAGE_MAX_COMMITS * 4);
}

TEST(damage_beyond_the_buffer_is_cut_off_and_too_much_is_one_rectangle)
{
	const struct rectangle all = { 0, 0, INT32_MAX, INT32_MAX };
	const struct rectangle around = { -100, INT32_MIN, INT32_MAX, INT32_MAX };
	const struct rectangle wrong = { 5, 5, -1, -1 }, corner = { INT32_MAX, 0, INT32_MAX, 1 };

	start(1);
	commit(0);
	damage_add(&client.history, &all);
	assert_int_equal(commit(0), SIZE);
	damage_add(&client.history, &around);
	damage_add(&client.history, &wrong);
	damage_add(&client.history, &corner);
	assert_int_equal(commit(0), 0);
	for (int32_t i = 0; i < 100; i++) {
		const struct rectangle pixel = { i % 10, i / 10, 1, 1 };

		damage_add(&client.history, &pixel);
	}
	assert_in_range(commit(0), 1, 2 * 10 * 10 * 4);
	damage_add_all(&client.history);
	assert_int_equal(commit(0), SIZE);
}

TEST(nothing_is_copied_twice_that_is_within_other_damage)
{
	const struct rectangle rectangle = { 3, 4, 10, 8 }, within = { 4, 4, 2, 8 };

	start(1);
	commit(0);
	damage_add(&client.history, &within);
	damage_add(&client.history, &rectangle);
	damage_add(&client.history, &rectangle);
	damage_add(&client.history, &within);
	assert_int_equal(commit(0), 10 * 8 * 4);
}

TEST(rows_are_copied_whole_where_pixels_are_not_known)
{
	const struct rectangle rectangle = { 3, 4, 5, 6 };
	struct damage_image image;

	start(1);
	commit(0);
	damage_add(&client.history, &rectangle);
	image = image_of(0);
	image.pixel_size = 0;
	assert_int_equal(damage_copy(&client.history, client.commits[0], &image), 6 * STRIDE);
}

static struct rectangle random_rectangle(unsigned int *seed)
{
	int32_t x = rand_r(seed) % WIDTH, y = rand_r(seed) % HEIGHT;

	return (struct rectangle){ x, y, 1 + rand_r(seed) % (WIDTH - x),
		1 + rand_r(seed) % (HEIGHT - y) };
}

static void random_commit(unsigned int *seed)
{
	uint32_t buffer = (uint32_t)rand_r(seed) % client.num_buffers;
	uint32_t count = (uint32_t)rand_r(seed) % (2 * DAMAGE_MAX_RECTANGLES);

	for (uint32_t i = 0; i < count; i++) {
		const struct rectangle rectangle = random_rectangle(seed);

		draw(&rectangle, (uint8_t)rand_r(seed));
		damage_add(&client.history, &rectangle);
	}
	if (rand_r(seed) % 50 == 0) {
		const struct rectangle all = { 0, 0, WIDTH, HEIGHT };

		draw(&all, (uint8_t)rand_r(seed));
		damage_add_all(&client.history);
	}
	assert_true(commit(buffer) <= SIZE);
	assert_true(is_right(buffer));
}

TEST(whatever_is_drawn_to_however_many_buffers_each_copy_is_right)
{
	for (unsigned int i = 0; i < 300; i++) {
		unsigned int seed = i;

		start(1 + i % MAX_BUFFERS);
		for (int step = 0; step < 100; step++) {
			random_commit(&seed);
		}
	}
}
