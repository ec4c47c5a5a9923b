/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef RUN_RING_H
#define RUN_RING_H

#include "base/sys.h"
#include "evwork/job.h"

/*
 * The queue of a lane: job pointers in an array, so that a worker takes many at
 * once without touching the jobs, whose lines are in other CPUs' caches.
 * Positions grow for ever and wrap; job->_slot is the position of a queued job. A
 * job that is withdrawn leaves a hole. The slots at head and before tail are
 * never holes. Not thread-safe: the pool's lock covers it.
 */
struct ring {
	struct evwork_job **slots;
	uint32_t mask;          /* capacity - 1 */
	uint32_t head, tail;
	uint32_t count;         /* jobs, without the holes */
};

/* Room for `limit` jobs, or for some to begin with if limit is EVWORK_UNBOUNDED. */
int ring_init(struct ring *ring, size_t limit);
void ring_fini(struct ring *ring);

/*
 * Makes room for one more job, and for as many as may yet be put back at the front;
 * -ENOMEM only if the ring must grow, which one with at most `limit` jobs in it and
 * outside never must.
 */
int ring_make_room(struct ring *ring, uint32_t outside);

static inline int ring_reserve(struct ring *ring, uint32_t outside)
{
	return ring->tail - ring->head + outside <= ring->mask ? 0 :
		ring_make_room(ring, outside);
}

static inline void ring_push(struct ring *ring, struct evwork_job *job)
{
	job->_slot = ring->tail;
	ring->slots[ring->tail++ & ring->mask] = job;
	ring->count++;
}

/* Puts a job before the first: one of those that ring_reserve was told of. */
void ring_push_front(struct ring *ring, struct evwork_job *job);

static inline struct evwork_job *ring_first(const struct ring *ring)
{
	return ring->count ? ring->slots[ring->head & ring->mask] : NULL;
}

/* Skips holes at both ends. */
void ring_trim(struct ring *ring);

static inline struct evwork_job *ring_pop(struct ring *ring)
{
	struct evwork_job *job;

	if (ring->count == 0)
		return NULL;
	job = ring->slots[ring->head++ & ring->mask];
	/* A hole at the new head is the rare case. */
	if (--ring->count == 0)
		ring->head = ring->tail;
	else if (!ring->slots[ring->head & ring->mask])
		ring_trim(ring);
	return job;
}

/* Whether the job is in this ring. */
static inline bool ring_holds(const struct ring *ring, const struct evwork_job *job)
{
	return job->_slot - ring->head < ring->tail - ring->head &&
	       ring->slots[job->_slot & ring->mask] == job;
}

/* Takes a job out of the middle; false if it is not in this ring. */
bool ring_withdraw(struct ring *ring, struct evwork_job *job);

#endif
