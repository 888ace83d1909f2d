/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The vgfence authors */
#ifndef GPU_MAPPING_H
#define GPU_MAPPING_H

#include <linux/interval_tree.h>

#include "gpu_driver.h"

/* A range of addresses. Without a buffer zeros are read there, and what is written is lost. */
struct gpu_mapping {
	struct interval_tree_node node;
	struct gpu_bo *bo;
	u64 offset;
	struct gpu_mapping *next_garbage;
};

#define to_gpu_mapping(interval) container_of(interval, struct gpu_mapping, node)

#endif
