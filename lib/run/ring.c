/* SPDX-License-Identifier: BSD-3-Clause */
#include "run/ring.h"

#include <errno.h>

#define FIRST_CAPACITY 64

int ring_init(struct ring *ring, size_t limit)
{
	uint32_t capacity = FIRST_CAPACITY;

	/* More than twice the limit: holes are closed only when the ring is full of jobs
	 * and holes, so that is paid for by at least `limit` withdrawals. */
	if (limit != EVWORK_UNBOUNDED)
		while (capacity <= 2 * limit)
			capacity *= 2;
	ring->slots = sys_alloc(capacity * sizeof(ring->slots[0]));
	if (!ring->slots)
		return -ENOMEM;
	ring->mask = capacity - 1;
	ring->head = ring->tail = ring->count = 0;
	return 0;
}

void ring_fini(struct ring *ring)
{
	sys_free(ring->slots);
	ring->slots = NULL;
}

static void close_holes(struct ring *ring)
{
	uint32_t from, to = ring->head;

	for (from = ring->head; from != ring->tail; from++) {
		struct evwork_job *job = ring->slots[from & ring->mask];

		if (!job)
			continue;
		ring->slots[to & ring->mask] = job;
		job->_slot = to++;
	}
	ring->tail = to;
}

static int grow(struct ring *ring)
{
	uint32_t capacity = (ring->mask + 1) * 2;
	struct evwork_job **slots;
	uint32_t at;

	if (capacity == 0)
		return -ENOMEM;
	slots = sys_alloc(capacity * sizeof(slots[0]));
	if (!slots)
		return -ENOMEM;
	for (at = ring->head; at != ring->tail; at++)
		slots[at & (capacity - 1)] = ring->slots[at & ring->mask];
	sys_free(ring->slots);
	ring->slots = slots;
	ring->mask = capacity - 1;
	return 0;
}

int ring_make_room(struct ring *ring, uint32_t outside)
{
	int rc = 0;

	if (ring->count <= ring->mask / 2 + 1)
		close_holes(ring);
	while (rc == 0 && ring->tail - ring->head + outside > ring->mask)
		rc = grow(ring);
	return rc;
}

void ring_push_front(struct ring *ring, struct evwork_job *job)
{
	if (ring->tail - ring->head > ring->mask)
		close_holes(ring);
	job->_slot = --ring->head;
	ring->slots[ring->head & ring->mask] = job;
	ring->count++;
}

void ring_trim(struct ring *ring)
{
	while (ring->head != ring->tail && !ring->slots[ring->head & ring->mask])
		ring->head++;
	while (ring->head != ring->tail && !ring->slots[(ring->tail - 1) & ring->mask])
		ring->tail--;
}

bool ring_withdraw(struct ring *ring, struct evwork_job *job)
{
	if (!ring_holds(ring, job))
		return false;
	ring->slots[job->_slot & ring->mask] = NULL;
	ring->count--;
	ring_trim(ring);
	return true;
}
