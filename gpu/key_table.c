/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <stddef.h>

#include "key_table.h"

void key_table_init(struct key_table *table)
{
	hash_key_init(&table->hash_key);
}

static struct key_bucket *bucket_of(struct key_table *table, uint64_t key)
{
	return &table->buckets[hash(&table->hash_key, key) % KEY_TABLE_BUCKETS];
}

struct key_entry *key_table_find(struct key_table *table, uint64_t key)
{
	struct key_entry *entry;

	LIST_FOREACH(entry, bucket_of(table, key), link) {
		if (entry->key == key) {
			return entry;
		}
	}
	return NULL;
}

static void make_first(struct key_table *table, struct key_entry *entry)
{
	entry->first = true;
	LIST_INSERT_HEAD(bucket_of(table, entry->key), entry, link);
}

void key_table_add(struct key_table *table, struct key_entry *entry, uint64_t key)
{
	struct key_entry *first = key_table_find(table, key);

	*entry = (struct key_entry){ .next = entry, .prev = entry, .key = key };
	if (first == NULL) {
		make_first(table, entry);
		return;
	}
	/* The last one is before the first. */
	entry->next = first;
	entry->prev = first->prev;
	entry->prev->next = entry;
	first->prev = entry;
}

void key_table_remove(struct key_table *table, struct key_entry *entry)
{
	entry->prev->next = entry->next;
	entry->next->prev = entry->prev;
	if (entry->first) {
		LIST_REMOVE(entry, link);
		if (entry->next != entry) {
			make_first(table, entry->next);
		}
	}
}

struct key_entry *key_entry_next(const struct key_entry *entry)
{
	return entry->next->first ? NULL : entry->next;
}
