/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* The GPU addresses of a context, against a model that has one entry for each page. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "address_space.h"
#include "alloc.h"
#include "support.h"

#define NUM_PAGES 64u
#define NUM_MEMORIES 4u
#define MAX_MAPPINGS 96u
#define MAX_BATCH 4u

/* A word for each page is enough. */
struct memory {
	uint32_t pages[NUM_PAGES];
	int num_refs;
	bool is_gone; /* cannot be read or written */
};

/* What is at a page of the model. */
struct page {
	enum { NOTHING, ZEROS, MEMORY } kind;
	uint32_t memory, page;
};

struct scene {
	struct memory memories[NUM_MEMORIES];
	struct address_spaces spaces;
	struct address_space *space;
	struct page pages[NUM_PAGES];
	struct bind_batch *batch; /* of bind() */
};

/* ---- Memory --------------------------------------------------------------------------------- */

/* Resources have numbers from 1 on. */
static int get(void *data, uint64_t serial, uint32_t resource_id, uint64_t offset, uint64_t size,
	void **memory)
{
	struct scene *scene = data;

	assert_int_equal(serial, 5);
	if (resource_id < 1 || resource_id > NUM_MEMORIES) {
		return -ENOENT;
	}
	if (offset + size > NUM_PAGES * SOFT_GPU_PAGE) {
		return -EINVAL;
	}
	*memory = &scene->memories[resource_id - 1];
	scene->memories[resource_id - 1].num_refs++;
	return 0;
}

static void ref(void *data, void *memory)
{
	(void)data;
	((struct memory *)memory)->num_refs++;
}

static void put(void *data, void *memory)
{
	(void)data;
	assert_true(((struct memory *)memory)->num_refs-- > 0);
}

/* Tests use the first word of a page only. */
static int read_word(void *data, void *from, uint64_t offset, void *bytes, size_t size)
{
	const struct memory *memory = from;

	(void)data;
	assert_int_equal(size, 4);
	assert_int_equal(offset % SOFT_GPU_PAGE, 0);
	memcpy(bytes, &memory->pages[offset / SOFT_GPU_PAGE], size);
	return memory->is_gone ? -EFAULT : 0;
}

static int write_word(void *data, void *to, uint64_t offset, const void *bytes, size_t size)
{
	struct memory *memory = to;

	(void)data;
	assert_int_equal(size, 4);
	assert_int_equal(offset % SOFT_GPU_PAGE, 0);
	memcpy(&memory->pages[offset / SOFT_GPU_PAGE], bytes, size);
	return memory->is_gone ? -EFAULT : 0;
}

static struct scene *scene_create(void)
{
	static const struct address_memory_ops ops = { get, ref, put, read_word, write_word };
	struct scene *scene = calloc(1, sizeof(*scene));

	assert_non_null(scene);
	scene->spaces = (struct address_spaces){
		.ops = &ops,
		.data = scene,
		.max_mappings = MAX_MAPPINGS,
		.max_context_mappings = MAX_MAPPINGS,
	};
	hash_key_init(&scene->spaces.key);
	scene->space = address_space_create(&scene->spaces, 5);
	assert_non_null(scene->space);
	return scene;
}

/* Nothing is left of what was mapped. */
static void scene_destroy(struct scene *scene)
{
	address_space_put(scene->space);
	assert_int_equal(scene->spaces.num_mappings, 0);
	for (uint32_t i = 0; i < NUM_MEMORIES; i++) {
		assert_int_equal(scene->memories[i].num_refs, 0);
	}
	free(scene);
}

#define TEST_SCENE(name)                                                                           \
	TEST_WITH(name, struct scene *, scene, scene_create(), scene_destroy(scene))

/* ---- Against the model ---------------------------------------------------------------------- */

static uint32_t random_below(uint64_t *state, uint32_t limit)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((*state >> 33) % limit);
}

/* In pages. The space of the model ends where addresses end. */
static uint32_t address_of(uint32_t page)
{
	return (uint32_t)(SOFT_GPU_ADDRESS_END - (uint64_t)(NUM_PAGES - page) * SOFT_GPU_PAGE);
}

static struct command random_command(uint64_t *state)
{
	uint32_t first = random_below(state, NUM_PAGES);
	uint32_t count = 1 + random_below(state, NUM_PAGES - first);

	return (struct command){
		.operation = SOFT_GPU_MAP + random_below(state, 3),
		.resource_id = 1 + random_below(state, NUM_MEMORIES),
		.offset = random_below(state, NUM_PAGES - count + 1) * SOFT_GPU_PAGE,
		.address = address_of(first),
		.size = count * SOFT_GPU_PAGE,
	};
}

static void apply_to_model(struct scene *scene, const struct command *command)
{
	uint32_t first = (command->address - address_of(0)) / SOFT_GPU_PAGE;

	for (uint32_t i = 0; i < command->size / SOFT_GPU_PAGE; i++) {
		struct page *page = &scene->pages[first + i];

		page->kind = command->operation == SOFT_GPU_MAP ? MEMORY :
			command->operation == SOFT_GPU_MAP_NULL ? ZEROS :
								  NOTHING;
		page->memory = command->resource_id - 1;
		page->page = command->offset / SOFT_GPU_PAGE + i;
	}
}

/* Fills a word at each page, and looks where it went. */
static void check_pages(struct scene *scene, uint32_t value)
{
	for (uint32_t i = 0; i < NUM_PAGES; i++) {
		const struct page *page = &scene->pages[i];
		const struct command fill = { .operation = SOFT_GPU_FILL,
			.address = address_of(i),
			.value = value + i,
			.size = 4 };
		int ret = address_space_run(scene->space, &fill);

		assert_int_equal(ret, page->kind == NOTHING ? -EFAULT : 0);
		assert_int_equal(scene->space->is_unusable, page->kind == NOTHING);
		scene->space->is_unusable = false;
		if (page->kind == MEMORY) {
			assert_int_equal(
				scene->memories[page->memory].pages[page->page], value + i);
		}
	}
}

/* A mapping has one reference at most, and a page at least. */
static void check_references(const struct scene *scene)
{
	uint32_t num_refs = 0;

	for (uint32_t i = 0; i < NUM_MEMORIES; i++) {
		num_refs += (uint32_t)scene->memories[i].num_refs;
	}
	assert_true(num_refs <= scene->space->num_mappings);
	assert_int_equal(scene->space->num_mappings, scene->spaces.num_mappings);
	assert_true(scene->space->num_mappings <= NUM_PAGES);
}

TEST_SCENE(random_batches_are_what_a_model_says)
{
	uint64_t state = 1;

	for (uint32_t round = 0; round < 3000; round++) {
		uint32_t count = 1 + random_below(&state, MAX_BATCH);
		struct command commands[MAX_BATCH];
		struct bind_batch *batch;
		unsigned long num_allocations;

		for (uint32_t i = 0; i < count; i++) {
			commands[i] = random_command(&state);
			apply_to_model(scene, &commands[i]);
		}
		assert_int_equal(bind_batch_create(scene->space, commands, count, &batch), 0);
		num_allocations = alloc_count();
		bind_batch_apply(batch);
		assert_int_equal(alloc_count(), num_allocations);
		bind_batch_destroy(batch);
		check_references(scene);
		check_pages(scene, round * NUM_PAGES);
	}
}

/* ---- What a batch takes --------------------------------------------------------------------- */

static int bind(struct scene *scene, const struct command *commands, uint32_t count)
{
	return bind_batch_create(scene->space, commands, count, &scene->batch);
}

static struct command map_page(uint32_t page, uint32_t resource_id)
{
	return (struct command){ .operation = SOFT_GPU_MAP,
		.resource_id = resource_id,
		.address = address_of(page),
		.size = SOFT_GPU_PAGE };
}

TEST_SCENE(a_batch_that_is_wrong_takes_nothing)
{
	const struct command commands[] = { map_page(0, 1), map_page(1, NUM_MEMORIES + 1) };

	assert_int_equal(bind(scene, commands, 2), -ENOENT);
	assert_int_equal(scene->memories[0].num_refs, 0);
	assert_int_equal(scene->space->num_mappings, 0);
	check_pages(scene, 1);
}

TEST_SCENE(a_batch_that_is_not_done_changes_nothing)
{
	const struct command command = map_page(0, 1);

	assert_int_equal(bind(scene, &command, 1), 0);
	assert_int_equal(scene->memories[0].num_refs, 1);
	bind_batch_destroy(scene->batch);
	assert_int_equal(scene->memories[0].num_refs, 0);
	check_pages(scene, 1);
}

TEST_SCENE(an_operation_counts_twice_until_it_is_done)
{
	const struct command command = map_page(0, 1);
	struct bind_batch *batches[MAX_MAPPINGS / 2];

	for (uint32_t i = 0; i < MAX_MAPPINGS / 2; i++) {
		assert_int_equal(bind(scene, &command, 1), 0);
		batches[i] = scene->batch;
	}
	assert_int_equal(bind(scene, &command, 1), -ENOSPC);
	bind_batch_apply(batches[0]);
	bind_batch_destroy(batches[0]);
	assert_int_equal(scene->space->num_mappings, MAX_MAPPINGS - 1);
	assert_int_equal(bind(scene, &command, 1), -ENOSPC);
	for (uint32_t i = 1; i < MAX_MAPPINGS / 2; i++) {
		bind_batch_destroy(batches[i]);
	}
	assert_int_equal(scene->space->num_mappings, 1);
}

TEST_SCENE(each_allocation_of_a_batch_may_fail)
{
	const struct command commands[] = { map_page(0, 1), map_page(1, 2) };

	for (uint32_t nth = 1; nth <= 5; nth++) {
		alloc_fail(nth);
		assert_int_equal(bind(scene, commands, 2), -ENOMEM);
		assert_int_equal(scene->spaces.num_mappings, 0);
	}
	alloc_fail(0);
	assert_int_equal(bind(scene, commands, 2), 0);
	bind_batch_destroy(scene->batch);
}

/* ---- Faults --------------------------------------------------------------------------------- */

TEST_SCENE(memory_that_is_gone_is_a_fault)
{
	const struct command map = map_page(0, 1);
	const struct command fill = {
		.operation = SOFT_GPU_FILL, .address = address_of(0), .size = 4
	};

	assert_int_equal(bind(scene, &map, 1), 0);
	bind_batch_apply(scene->batch);
	bind_batch_destroy(scene->batch);
	assert_int_equal(address_space_run(scene->space, &fill), 0);
	scene->memories[0].is_gone = true;
	assert_int_equal(address_space_run(scene->space, &fill), -EFAULT);
	assert_true(scene->space->is_unusable);
}
