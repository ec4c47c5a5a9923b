/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef RUN_REPLACE_H
#define RUN_REPLACE_H

#include "run/pool.h"

/* [worker] A job has ended this thread: clean-up handler of the worker's loop. */
void worker_thread_ends(void *arg);

/* [worker] The start hook of a replacement has failed: the worker ends, and its place
 * is free for another try. */
void worker_gives_up(struct worker *worker);

/* [any, no lock held] Tries to make threads for workers that have none. Calls no hook,
 * so that a loop may call it while it hands over its stage. */
void pool_fill_vacant(struct evwork_pool *pool);

static inline bool pool_has_vacant(const struct evwork_pool *pool)
{
	return __builtin_expect(atomic_load_explicit(&pool->vacant, memory_order_relaxed) != 0, 0);
}

#endif
