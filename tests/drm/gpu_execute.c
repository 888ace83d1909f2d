// SPDX-License-Identifier: GPL-2.0
/* Copyright (c) 2026 The vgfence authors */

/* Executes commands. What is bound may change between two steps, but not within one. */

#include <linux/delay.h>

#include "gpu_mapping.h"

/* Words beside each other in one mapping. */
struct words {
	u32 *memory; /* NULL: none are kept there */
	u32 count;
};

/* With the VM's lock held. */
static int look_up(struct gpu_vm *vm, u64 address, u32 count, struct words *words)
{
	struct interval_tree_node *node = interval_tree_iter_first(&vm->mappings, address, address);
	struct gpu_mapping *mapping;
	u64 offset;

	if (!node || address % sizeof(u32)) {
		return -EFAULT;
	}
	mapping = to_gpu_mapping(node);
	offset = mapping->offset + (address - node->start);
	words->memory = mapping->bo ? mapping->bo->memory.vaddr + offset : NULL;
	words->count = min_t(u64, count, (node->last - address + 1) / sizeof(u32));
	return 0;
}

static u32 read_word(const struct words *words, u32 i)
{
	return words->memory ? READ_ONCE(words->memory[i]) : 0;
}

static void write_word(struct words *words, u32 i, u32 value)
{
	if (words->memory) {
		WRITE_ONCE(words->memory[i], value);
	}
}

static void work_on(const struct vgfence_gpu_command *command, struct words *to,
	const struct words *from, u32 count)
{
	u32 i;

	for (i = 0; i < count; i++) {
		u32 value = command->op == VGFENCE_GPU_ADD_VALUE ? command->value :
								   read_word(from, i);

		if (command->op != VGFENCE_GPU_COPY) {
			value += read_word(to, i);
		}
		write_word(to, i, value);
	}
}

/* One step; returns how many words it has done. */
static int step(struct gpu_vm *vm, const struct vgfence_gpu_command *command)
{
	u32 count = min_t(u32, command->count, PAGE_SIZE);
	struct words to, from;
	int ret;

	down_read(&vm->lock);
	ret = look_up(vm, command->to, count, &to);
	from = to;
	if (ret == 0 && command->op != VGFENCE_GPU_ADD_VALUE) {
		ret = look_up(vm, command->from, count, &from);
	}
	if (ret == 0) {
		ret = min(to.count, from.count);
		work_on(command, &to, &from, ret);
	}
	up_read(&vm->lock);
	return ret;
}

static int work(struct gpu_vm *vm, struct vgfence_gpu_command *command)
{
	while (command->count > 0) {
		int done = step(vm, command);

		if (done < 0) {
			return done;
		}
		command->count -= done;
		command->to += done * sizeof(u32);
		command->from += done * sizeof(u32);
		cond_resched();
	}
	return 0;
}

static int pause(u32 microseconds)
{
	if (microseconds > VGFENCE_GPU_MAX_PAUSE) {
		return -EFAULT;
	}
	if (microseconds > 0) {
		usleep_range(microseconds, microseconds + microseconds / 8);
	}
	return 0;
}

static int execute(struct gpu_vm *vm, struct vgfence_gpu_command *command)
{
	switch (command->op) {
	case VGFENCE_GPU_COPY:
	case VGFENCE_GPU_ADD:
	case VGFENCE_GPU_ADD_VALUE:
		return work(vm, command);
	case VGFENCE_GPU_PAUSE:
		return pause(command->count);
	default:
		return -EFAULT;
	}
}

static int fetch(struct gpu_vm *vm, u64 address, struct vgfence_gpu_command *command)
{
	const u32 count = sizeof(*command) / sizeof(u32);
	struct words words;
	int ret = -EFAULT;

	if (address % sizeof(*command)) {
		return ret;
	}
	down_read(&vm->lock);
	ret = look_up(vm, address, count, &words);
	if (ret == 0 && words.memory) {
		memcpy(command, words.memory, sizeof(*command));
	} else {
		memset(command, 0, sizeof(*command));
	}
	up_read(&vm->lock);
	return ret;
}

int gpu_execute(struct gpu_vm *vm, u64 address, u64 size)
{
	struct vgfence_gpu_command command;
	u64 i;
	int ret;

	for (i = 0; i < size / sizeof(command); i++) {
		ret = fetch(vm, address + i * sizeof(command), &command);
		if (ret || command.op == VGFENCE_GPU_END) {
			return ret;
		}
		ret = execute(vm, &command);
		if (ret) {
			return ret;
		}
	}
	return 0;
}
