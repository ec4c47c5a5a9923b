/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Keys with buckets: entries in one array, found by hash through chains of indexes; no
 * pointers, and nothing that grows, so that the memory is what it was at creation
 * whatever comes. (A general hash table would have twice the memory in links for each key,
 * and allocate as it grows.)
 *
 * A full set makes room by forgetting an entry whose bucket is full. Which that is tells
 * a heap, ordered by when each bucket will be full. Taking from a bucket only ever moves
 * that time back, and is not noted in the heap: what stands there is a lower bound. Only who
 * looks for room brings the top up to date, until it is true: if that lies in the future
 * no bucket is full. So a decision costs nothing for it, and each correction is one
 * that an earlier decision has saved. A list in order of use would cost every decision its
 * cache lines, and not tell whether any bucket is full: one that was drained may
 * stand before many that are.
 */

#include "guard/keys.h"

#include <string.h>

#include "base/sys.h"
#include "guard/siphash.h"

#define NONE UINT32_MAX

struct entry {
	struct evwork_bucket_level level;
	uint32_t tag;             /* of the hash; which chain it is in */
	uint32_t next;            /* in the chain */
	uint32_t size;
	unsigned char key[];
};

struct full_at {
	int64_t ns;               /* not before this, if the clock does not run backwards */
	uint32_t entry;
};

static struct entry *entry_at(const struct keys *keys, uint32_t index)
{
	return (struct entry *)(void *)(keys->entries + index * keys->stride);
}

int keys_init(struct keys *keys, size_t room, size_t key_size)
{
	size_t alignment = _Alignof(struct entry), chains = 1;

	keys->hash_key[0] = sys_random();
	keys->hash_key[1] = sys_random();
	keys->key_size = key_size;
	keys->stride = (offsetof(struct entry, key) + key_size + alignment - 1) /
		alignment * alignment;
	if (room > SIZE_MAX / keys->stride || room > SIZE_MAX / sizeof(keys->heap[0]))
		return -ENOMEM;
	while (chains < room)
		chains *= 2;
	keys->room = (uint32_t)room;
	keys->mask = (uint32_t)chains - 1;
	keys->entries = sys_alloc(room * keys->stride);
	keys->heap = sys_alloc(room * sizeof(keys->heap[0]));
	keys->chains = sys_alloc(chains * sizeof(keys->chains[0]));
	if (!keys->entries || !keys->heap || !keys->chains)
		return -ENOMEM;
	memset(keys->chains, 0xff, chains * sizeof(keys->chains[0]));
	return 0;
}

void keys_fini(struct keys *keys)
{
	sys_free(keys->entries);
	sys_free(keys->heap);
	sys_free(keys->chains);
}

/* Looking. */

struct lookup keys_lookup(const struct keys *keys, const void *key, size_t size)
{
	struct lookup at = { key, size, (uint32_t)siphash13(keys->hash_key, key, size) };

	return at;
}

struct evwork_bucket_level *keys_find(const struct keys *keys, const struct lookup *at)
{
	uint32_t index = keys->chains[at->tag & keys->mask];

	while (index != NONE) {
		struct entry *entry = entry_at(keys, index);

		if (entry->tag == at->tag && entry->size == at->size &&
		    (at->size == 0 || memcmp(entry->key, at->key, at->size) == 0))
			return &entry->level;
		index = entry->next;
	}
	return NULL;
}

static void link_entry(struct keys *keys, uint32_t index)
{
	struct entry *entry = entry_at(keys, index);
	uint32_t *chain = &keys->chains[entry->tag & keys->mask];

	entry->next = *chain;
	*chain = index;
}

static void unlink_entry(struct keys *keys, uint32_t index)
{
	struct entry *entry = entry_at(keys, index);
	uint32_t *link = &keys->chains[entry->tag & keys->mask];

	while (*link != index)
		link = &entry_at(keys, *link)->next;
	*link = entry->next;
}

/* The heap. */

static void sift_up(struct full_at *heap, uint32_t at)
{
	struct full_at moved = heap[at];

	for (; at > 0 && moved.ns < heap[(at - 1) / 2].ns; at = (at - 1) / 2)
		heap[at] = heap[(at - 1) / 2];
	heap[at] = moved;
}

/* The top has got a later time. */
static void sift_down(struct full_at *heap, uint32_t count)
{
	struct full_at moved = heap[0];
	uint32_t at = 0, child;

	for (; (child = 2 * at + 1) < count; at = child) {
		if (child + 1 < count && heap[child + 1].ns < heap[child].ns)
			child++;
		if (moved.ns <= heap[child].ns)
			break;
		heap[at] = heap[child];
	}
	heap[at] = moved;
}

static int64_t when_full(const struct evwork_bucket_terms *terms,
	const struct evwork_bucket_level *level)
{
	return sys_time_add(level->_at_ns, bucket_time_for(terms,
		evwork__wide_sub(terms->_full, level->_units)));
}

/* Room for one more key. */

bool keys_have_room(struct keys *keys, const struct evwork_bucket_terms *terms, int64_t now)
{
	struct full_at *top = &keys->heap[0];

	if (keys->count < keys->room)
		return true;
	while (top->ns <= now) {
		int64_t truth = when_full(terms, &entry_at(keys, top->entry)->level);

		if (truth <= now)
			return true;
		top->ns = truth;
		sift_down(keys->heap, keys->count);
	}
	return false;
}

/* Forgets the top of the heap; the index of what is free then. */
static uint32_t evict(struct keys *keys)
{
	uint32_t index = keys->heap[0].entry;

	unlink_entry(keys, index);
	keys->evicted++;
	keys->count--;
	keys->heap[0] = keys->heap[keys->count];
	sift_down(keys->heap, keys->count);
	return index;
}

void keys_insert(struct keys *keys, const struct evwork_bucket_terms *terms,
	const struct lookup *at, const struct evwork_bucket_level *level)
{
	uint32_t index = keys->count < keys->room ? keys->count : evict(keys);
	struct entry *entry = entry_at(keys, index);

	entry->level = *level;
	entry->tag = at->tag;
	entry->size = (uint32_t)at->size;
	if (at->size)
		memcpy(entry->key, at->key, at->size);
	link_entry(keys, index);
	keys->heap[keys->count].ns = when_full(terms, level);
	keys->heap[keys->count].entry = index;
	sift_up(keys->heap, keys->count);
	keys->count++;
}
