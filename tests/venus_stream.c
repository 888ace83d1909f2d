/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "venus_stream.h"

#include "support.h"

/* Commands, by their numbers in the protocol. */
enum command {
	CREATE_INSTANCE = 0,
	ENUMERATE_PHYSICAL_DEVICES = 2,
	CREATE_DEVICE = 11,
	QUEUE_SUBMIT = 18,
	ALLOCATE_MEMORY = 21,
	CREATE_SEMAPHORE = 40,
	CREATE_BUFFER = 50,
	CREATE_COMMAND_POOL = 85,
	ALLOCATE_COMMAND_BUFFERS = 88,
	BEGIN_COMMAND_BUFFER = 90,
	END_COMMAND_BUFFER = 91,
	CMD_FILL_BUFFER = 118,
	BIND_BUFFER_MEMORY_2 = 138,
	GET_DEVICE_QUEUE_2 = 155,
	SIGNAL_SEMAPHORE = 174,
};

/* VkStructureType. */
enum structure {
	APPLICATION_INFO = 0,
	INSTANCE_CREATE_INFO = 1,
	DEVICE_QUEUE_CREATE_INFO = 2,
	DEVICE_CREATE_INFO = 3,
	SUBMIT_INFO = 4,
	MEMORY_ALLOCATE_INFO = 5,
	SEMAPHORE_CREATE_INFO = 9,
	BUFFER_CREATE_INFO = 12,
	COMMAND_POOL_CREATE_INFO = 39,
	COMMAND_BUFFER_ALLOCATE_INFO = 40,
	COMMAND_BUFFER_BEGIN_INFO = 42,
	DEVICE_QUEUE_INFO_2 = 1000145003,
	BIND_BUFFER_MEMORY_INFO = 1000157000,
	TIMELINE_SEMAPHORE_FEATURES = 1000207000,
	SEMAPHORE_TYPE_CREATE_INFO = 1000207002,
	TIMELINE_SEMAPHORE_SUBMIT_INFO = 1000207003,
	SEMAPHORE_SIGNAL_INFO = 1000207005,
	DEVICE_QUEUE_TIMELINE_INFO_MESA = 1000384005,
};

/* IDs: of the context, and of each of its devices. */
enum id {
	INSTANCE = 1,
	PHYSICAL_DEVICE,
	DEVICE,
	QUEUE,
	MEMORY,
	BUFFER,
	POOL,
	COMMAND_BUFFER,
	SEMAPHORE,
	NUM_IDS,
};

#define API_VERSION_1_3 ((1u << 22) | (3u << 12))
#define BUFFER_USAGE_TRANSFER_DST 2
#define PIPELINE_STAGE_ALL_COMMANDS 0x10000
#define SEMAPHORE_TYPE_TIMELINE 1
#define ONE_AS_FLOAT 0x3f800000

/* ---- Words -------------------------------------------------------------------------------- */

static void put(struct venus_stream *stream, uint32_t word)
{
	assert_true(stream->count < VENUS_STREAM_WORDS);
	stream->words[stream->count++] = word;
}

static void put_64(struct venus_stream *stream, uint64_t value)
{
	put(stream, (uint32_t)value);
	put(stream, (uint32_t)(value >> 32));
}

static void put_null(struct venus_stream *stream)
{
	put_64(stream, 0);
}

/* A pointer to one, or an array of one. */
static void put_one(struct venus_stream *stream)
{
	put_64(stream, 1);
}

static void put_command(struct venus_stream *stream, enum command command)
{
	put(stream, command);
	put(stream, 0);
}

/* A pointer to a structure that is the last of its chain, or has a next one. */
static void put_structure(struct venus_stream *stream, enum structure structure)
{
	put_one(stream);
	put(stream, structure);
	put_null(stream);
}

static void put_chain(struct venus_stream *stream, enum structure structure, enum structure next)
{
	put_one(stream);
	put(stream, structure);
	put_structure(stream, next);
}

static uint64_t device_id(uint32_t ring, enum id id)
{
	return (uint64_t)ring * NUM_IDS + id;
}

static void put_id(struct venus_stream *stream, enum id id)
{
	put_64(stream, device_id(stream->ring, id));
}

/* pAllocator, and where the handle goes. */
static void put_result(struct venus_stream *stream, enum id id)
{
	put_null(stream);
	put_one(stream);
	put_id(stream, id);
}

void venus_stream_begin(struct venus_stream *stream, uint32_t ring)
{
	stream->ring = ring;
	stream->count = 0;
}

uint64_t venus_stream_blob_id(uint32_t ring)
{
	return device_id(ring, MEMORY);
}

/* ---- What it takes ------------------------------------------------------------------------ */

void venus_stream_instance(struct venus_stream *stream)
{
	put_command(stream, CREATE_INSTANCE);
	put_structure(stream, INSTANCE_CREATE_INFO);
	put(stream, 0);
	put_structure(stream, APPLICATION_INFO);
	put_null(stream);
	put(stream, 0);
	put_null(stream);
	put(stream, 0);
	put(stream, API_VERSION_1_3);
	for (unsigned int i = 0; i < 2; i++) { /* layers, extensions */
		put(stream, 0);
		put_null(stream);
	}
	put_null(stream); /* allocator */
	put_one(stream);
	put_64(stream, INSTANCE);

	put_command(stream, ENUMERATE_PHYSICAL_DEVICES);
	put_64(stream, INSTANCE);
	put_one(stream);
	put(stream, 1);
	put_one(stream);
	put_64(stream, PHYSICAL_DEVICE);
}

static void create_device(struct venus_stream *stream)
{
	put_command(stream, CREATE_DEVICE);
	put_64(stream, PHYSICAL_DEVICE);
	put_chain(stream, DEVICE_CREATE_INFO, TIMELINE_SEMAPHORE_FEATURES);
	put(stream, 1);
	put(stream, 0);
	put(stream, 1);
	put_structure(stream, DEVICE_QUEUE_CREATE_INFO);
	put(stream, 0);
	put(stream, 0); /* family */
	put(stream, 1); /* queues */
	put_one(stream);
	put(stream, ONE_AS_FLOAT);
	for (unsigned int i = 0; i < 2; i++) { /* layers, extensions */
		put(stream, 0);
		put_null(stream);
	}
	put_null(stream); /* features */
	put_result(stream, DEVICE);
}

static void get_queue(struct venus_stream *stream)
{
	put_command(stream, GET_DEVICE_QUEUE_2);
	put_id(stream, DEVICE);
	put_chain(stream, DEVICE_QUEUE_INFO_2, DEVICE_QUEUE_TIMELINE_INFO_MESA);
	put(stream, stream->ring);
	put(stream, 0);
	put(stream, 0); /* family */
	put(stream, 0); /* queue */
	put_one(stream);
	put_id(stream, QUEUE);
}

static void create_semaphore(struct venus_stream *stream)
{
	put_command(stream, CREATE_SEMAPHORE);
	put_id(stream, DEVICE);
	put_chain(stream, SEMAPHORE_CREATE_INFO, SEMAPHORE_TYPE_CREATE_INFO);
	put(stream, SEMAPHORE_TYPE_TIMELINE);
	put_64(stream, 0); /* its value */
	put(stream, 0);
	put_result(stream, SEMAPHORE);
}

static void create_buffer(struct venus_stream *stream, uint64_t size)
{
	put_command(stream, CREATE_BUFFER);
	put_id(stream, DEVICE);
	put_structure(stream, BUFFER_CREATE_INFO);
	put(stream, 0);
	put_64(stream, size);
	put(stream, BUFFER_USAGE_TRANSFER_DST);
	put(stream, 0);
	put(stream, 0); /* families */
	put_null(stream);
	put_result(stream, BUFFER);

	put_command(stream, ALLOCATE_MEMORY);
	put_id(stream, DEVICE);
	put_structure(stream, MEMORY_ALLOCATE_INFO);
	put_64(stream, size);
	put(stream, 0); /* type: lavapipe has one */
	put_result(stream, MEMORY);

	put_command(stream, BIND_BUFFER_MEMORY_2);
	put_id(stream, DEVICE);
	put(stream, 1);
	put_structure(stream, BIND_BUFFER_MEMORY_INFO);
	put_id(stream, BUFFER);
	put_id(stream, MEMORY);
	put_64(stream, 0);
}

static void create_pool(struct venus_stream *stream)
{
	put_command(stream, CREATE_COMMAND_POOL);
	put_id(stream, DEVICE);
	put_structure(stream, COMMAND_POOL_CREATE_INFO);
	put(stream, 0);
	put(stream, 0); /* family */
	put_result(stream, POOL);
}

void venus_stream_device(struct venus_stream *stream, uint64_t size)
{
	create_device(stream);
	get_queue(stream);
	create_semaphore(stream);
	create_buffer(stream, size);
	create_pool(stream);
}

/* ---- Work --------------------------------------------------------------------------------- */

static void record_fill(struct venus_stream *stream, uint64_t size, uint32_t word)
{
	put_command(stream, ALLOCATE_COMMAND_BUFFERS);
	put_id(stream, DEVICE);
	put_structure(stream, COMMAND_BUFFER_ALLOCATE_INFO);
	put_id(stream, POOL);
	put(stream, 0); /* primary */
	put(stream, 1);
	put_one(stream);
	put_id(stream, COMMAND_BUFFER);

	put_command(stream, BEGIN_COMMAND_BUFFER);
	put_id(stream, COMMAND_BUFFER);
	put_structure(stream, COMMAND_BUFFER_BEGIN_INFO);
	put(stream, 0);
	put_null(stream); /* what it inherits */

	put_command(stream, CMD_FILL_BUFFER);
	put_id(stream, COMMAND_BUFFER);
	put_id(stream, BUFFER);
	put_64(stream, 0);
	put_64(stream, size);
	put(stream, word);

	put_command(stream, END_COMMAND_BUFFER);
	put_id(stream, COMMAND_BUFFER);
}

static void submit(struct venus_stream *stream, uint64_t wait_value)
{
	put_command(stream, QUEUE_SUBMIT);
	put_id(stream, QUEUE);
	put(stream, 1);
	put_chain(stream, SUBMIT_INFO, TIMELINE_SEMAPHORE_SUBMIT_INFO);
	put(stream, 1);
	put_one(stream);
	put_64(stream, wait_value);
	put(stream, 0); /* values to signal */
	put_null(stream);
	put(stream, 1);
	put_one(stream);
	put_id(stream, SEMAPHORE);
	put_one(stream);
	put(stream, PIPELINE_STAGE_ALL_COMMANDS);
	put(stream, 1);
	put_one(stream);
	put_id(stream, COMMAND_BUFFER);
	put(stream, 0); /* semaphores to signal */
	put_null(stream);
	put_64(stream, 0); /* fence */
}

void venus_stream_fill(
	struct venus_stream *stream, uint64_t size, uint32_t word, uint64_t wait_value)
{
	record_fill(stream, size, word);
	submit(stream, wait_value);
}

void venus_stream_signal(struct venus_stream *stream, uint64_t value)
{
	put_command(stream, SIGNAL_SEMAPHORE);
	put_id(stream, DEVICE);
	put_structure(stream, SEMAPHORE_SIGNAL_INFO);
	put_id(stream, SEMAPHORE);
	put_64(stream, value);
}
