/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef KEY_TABLE_H
#define KEY_TABLE_H

/*
 * A table by keys that a guest chooses, of which several entries may have the same: they stand in
 * the order in which they came. Whatever the keys are, finding the first one of a key, adding and
 * removing are of constant cost. Nothing is allocated.
 */

#include <stdbool.h>
#include <stdint.h>

#include "hash.h"
#include "queue.h"

struct key_entry {
	LIST_ENTRY(key_entry) link;    /* in its bucket, if it is the first of its key */
	struct key_entry *next, *prev; /* of the same key, in a ring */
	uint64_t key;
	bool first;
};

#define KEY_TABLE_BUCKETS 2048u

struct key_table {
	LIST_HEAD(key_bucket, key_entry) buckets[KEY_TABLE_BUCKETS];
	struct hash_key hash_key;
};

/* What is initialized is all zeros. */
void key_table_init(struct key_table *table);

void key_table_add(struct key_table *table, struct key_entry *entry, uint64_t key);
void key_table_remove(struct key_table *table, struct key_entry *entry);

/* The first entry with this key, or NULL. */
struct key_entry *key_table_find(struct key_table *table, uint64_t key);

/* The next one with the same key, or NULL. */
struct key_entry *key_entry_next(const struct key_entry *entry);

#endif
