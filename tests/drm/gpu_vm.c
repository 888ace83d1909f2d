// SPDX-License-Identifier: GPL-2.0
/* Copyright (c) 2026 The vgfence authors */

/* Address spaces: which buffer is where. */

#include <linux/interval_tree.h>
#include <linux/slab.h>

#include "gpu_mapping.h"

struct gpu_vm *gpu_vm_create(void)
{
	struct gpu_vm *vm = kzalloc(sizeof(*vm), GFP_KERNEL);

	if (vm) {
		kref_init(&vm->references);
		init_rwsem(&vm->lock);
		vm->mappings = RB_ROOT_CACHED;
		vm->next_address = GPU_VA_START;
	}
	return vm;
}

static void destroy_mapping(struct gpu_mapping *mapping)
{
	if (mapping && mapping->bo) {
		drm_gem_object_put(&mapping->bo->base.base);
	}
	kfree(mapping);
}

static void destroy_vm(struct kref *references)
{
	struct gpu_vm *vm = container_of(references, struct gpu_vm, references);
	struct interval_tree_node *node;

	while ((node = interval_tree_iter_first(&vm->mappings, 0, U64_MAX))) {
		interval_tree_remove(node, &vm->mappings);
		destroy_mapping(to_gpu_mapping(node));
	}
	kfree(vm);
}

void gpu_vm_put(struct gpu_vm *vm)
{
	kref_put(&vm->references, destroy_vm);
}

/* The first error stays. */
void gpu_vm_mark_unusable(struct gpu_vm *vm, int error)
{
	cmpxchg(&vm->error, 0, error);
}

/* ---- One change --------------------------------------------------------------------------- */

static bool is_in_range(const struct drm_msm_vm_bind_op *said, struct gpu_bo *bo)
{
	u64 room = bo ? bo->base.base.size : U64_MAX;

	return PAGE_ALIGNED(said->iova | said->range | said->obj_offset) && said->range > 0 &&
		said->iova >= GPU_VA_START && said->range <= GPU_VA_SIZE &&
		said->iova - GPU_VA_START <= GPU_VA_SIZE - said->range &&
		said->obj_offset <= room && said->range <= room - said->obj_offset;
}

int gpu_vm_op_init(struct gpu_vm_op *op, const struct drm_msm_vm_bind_op *said, struct gpu_bo *bo)
{
	int i;

	if (!is_in_range(said, bo)) {
		return -EINVAL;
	}
	for (i = 0; i < ARRAY_SIZE(op->spare); i++) {
		op->spare[i] = kzalloc(sizeof(*op->spare[i]), GFP_KERNEL);
		if (!op->spare[i]) {
			return -ENOMEM;
		}
	}
	op->op = said->op;
	op->address = said->iova;
	op->size = said->range;
	op->offset = said->obj_offset;
	op->bo = bo;
	if (bo) {
		drm_gem_object_get(&bo->base.base);
	}
	return 0;
}

void gpu_vm_op_finish(struct gpu_vm_op *op)
{
	struct gpu_mapping *next;
	int i;

	for (i = 0; i < ARRAY_SIZE(op->spare); i++) {
		destroy_mapping(op->spare[i]);
	}
	for (; op->garbage; op->garbage = next) {
		next = op->garbage->next_garbage;
		destroy_mapping(op->garbage);
	}
	if (op->bo) {
		drm_gem_object_put(&op->bo->base.base);
	}
}

static struct gpu_mapping *take_spare(struct gpu_vm_op *op)
{
	int i = op->spare[0] ? 0 : 1;
	struct gpu_mapping *mapping = op->spare[i];

	op->spare[i] = NULL;
	return mapping;
}

static void insert(struct gpu_vm *vm, struct gpu_mapping *mapping, u64 address, u64 last)
{
	mapping->node.start = address;
	mapping->node.last = last;
	interval_tree_insert(&mapping->node, &vm->mappings);
	vm->num_mappings++;
}

/* What is left of a mapping behind the range that goes. It is cut off before the front is. */
static void keep_back(
	struct gpu_vm *vm, struct gpu_vm_op *op, struct gpu_mapping *mapping, u64 start, u64 last)
{
	struct gpu_mapping *back = take_spare(op);

	back->bo = mapping->bo;
	if (back->bo) {
		drm_gem_object_get(&back->bo->base.base);
	}
	back->offset = mapping->offset + (start - mapping->node.start);
	insert(vm, back, start, last);
}

/* At most one mapping is cut into two, so that one spare is enough. */
static void unmap(struct gpu_vm *vm, struct gpu_vm_op *op)
{
	u64 start = op->address, last = start + op->size - 1;
	struct interval_tree_node *node;

	while ((node = interval_tree_iter_first(&vm->mappings, start, last))) {
		struct gpu_mapping *mapping = to_gpu_mapping(node);
		u64 old_last = node->last;

		interval_tree_remove(node, &vm->mappings);
		vm->num_mappings--;
		if (old_last > last) {
			keep_back(vm, op, mapping, last + 1, old_last);
		}
		if (node->start < start) {
			insert(vm, mapping, node->start, start - 1);
		} else {
			mapping->next_garbage = op->garbage;
			op->garbage = mapping;
		}
	}
}

static int apply(struct gpu_vm *vm, struct gpu_vm_op *op)
{
	struct gpu_mapping *mapping;

	if (op->op != MSM_VM_BIND_OP_UNMAP && vm->num_mappings + 2 > VGFENCE_GPU_MAX_MAPPINGS) {
		return -ENOSPC;
	}
	unmap(vm, op);
	if (op->op == MSM_VM_BIND_OP_UNMAP) {
		return 0;
	}
	mapping = take_spare(op);
	mapping->bo = op->bo;
	op->bo = NULL;
	mapping->offset = op->offset;
	insert(vm, mapping, op->address, op->address + op->size - 1);
	return 0;
}

/* Those before the one that fails stay done. */
int gpu_vm_apply(struct gpu_vm *vm, struct gpu_vm_op *ops, unsigned int count)
{
	unsigned int i;
	int ret = 0;

	down_write(&vm->lock);
	for (i = 0; i < count && ret == 0; i++) {
		ret = apply(vm, &ops[i]);
	}
	up_write(&vm->lock);
	return ret;
}

/* ---- Addresses that the kernel chooses ---------------------------------------------------- */

/* With the lock held for reading, or for writing. */
static struct gpu_mapping *find_bo(struct gpu_vm *vm, struct gpu_bo *bo)
{
	struct interval_tree_node *node;

	for (node = interval_tree_iter_first(&vm->mappings, 0, U64_MAX); node;
		node = interval_tree_iter_next(node, 0, U64_MAX)) {
		if (to_gpu_mapping(node)->bo == bo) {
			return to_gpu_mapping(node);
		}
	}
	return NULL;
}

static int map_anywhere(struct gpu_vm *vm, struct gpu_bo *bo, u64 *address)
{
	struct drm_msm_vm_bind_op said = { .op = MSM_VM_BIND_OP_MAP, .range = bo->base.base.size };
	struct gpu_vm_op op = { 0 };
	int ret;

	down_write(&vm->lock);
	said.iova = vm->next_address;
	vm->next_address += said.range + PAGE_SIZE; /* one that is not there lies between */
	up_write(&vm->lock);
	ret = gpu_vm_op_init(&op, &said, bo);
	if (ret == 0) {
		ret = gpu_vm_apply(vm, &op, 1);
	}
	gpu_vm_op_finish(&op);
	*address = said.iova;
	return ret;
}

int gpu_vm_address(struct gpu_vm *vm, struct gpu_bo *bo, u64 *address)
{
	struct gpu_mapping *mapping;
	int ret = gpu_bo_pin(bo);

	if (ret) {
		return ret;
	}
	down_read(&vm->lock);
	mapping = find_bo(vm, bo);
	if (mapping) {
		*address = mapping->node.start;
	}
	up_read(&vm->lock);
	return mapping ? 0 : map_anywhere(vm, bo, address);
}

/* A job that still uses it faults. */
void gpu_vm_forget(struct gpu_vm *vm, struct gpu_bo *bo)
{
	struct gpu_mapping *mapping;

	do {
		down_write(&vm->lock);
		mapping = find_bo(vm, bo);
		if (mapping) {
			interval_tree_remove(&mapping->node, &vm->mappings);
			vm->num_mappings--;
		}
		up_write(&vm->lock);
		destroy_mapping(mapping);
	} while (mapping);
}
