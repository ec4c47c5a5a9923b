/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Hooks of a pool, for what submits jobs of its own accord and must neither miss the
 * close nor be stranded when a lane was full for a moment; and for what lets others submit
 * only while a queue is short.
 */

#include <errno.h>

#include "run/pool.h"

static void tell_closing(struct evwork_pool *pool, struct pool_hook *hook)
{
	int mode = atomic_load(&pool->closing);

	/* Who waits for a queue hears of it in pool_tell_room_locked. */
	if (hook->lane)
		return;
	if (mode == EVWORK_DRAIN)
		hook->drains(hook);
	else if (mode)
		hook->cancelled(hook);
}

void pool_add_hook(struct evwork_pool *pool, struct pool_hook *hook)
{
	hook->waits = false;
	hook->lane = NULL;
	sys_lock(&pool->mutex);
	LIST_APPEND(&pool->hooks, hook, next, prev);
	tell_closing(pool, hook);
	sys_unlock(&pool->mutex);
}

static void end_wait_locked(struct evwork_pool *pool, struct pool_hook *hook)
{
	if (hook->waits)
		pool->hooks_waiting--;
	hook->waits = false;
}

bool pool_remove_hook(struct evwork_pool *pool, struct pool_hook *hook)
{
	bool waited;

	sys_lock(&pool->mutex);
	waited = hook->waits;
	end_wait_locked(pool, hook);
	LIST_REMOVE(&pool->hooks, hook, next, prev);
	sys_unlock(&pool->mutex);
	return waited;
}

int pool_await_room(struct evwork_lane *lane, struct pool_hook *hook)
{
	struct evwork_pool *pool = lane->pool;
	int rc = 1;

	sys_lock(&pool->mutex);
	if (pool->alive == 0) {
		rc = -EAGAIN;
	} else if (pool_has_room_locked(lane)) {
		rc = 0;
	} else if (!hook->waits) {
		hook->waits = true;
		pool->hooks_waiting++;
	}
	sys_unlock(&pool->mutex);
	return rc;
}

/* Queues. */

static bool is_served_locked(const struct evwork_pool *pool)
{
	return pool->alive > 0 && !atomic_load(&pool->closing);
}

static bool is_longer_locked(const struct evwork_lane *lane, size_t most)
{
	return is_served_locked(lane->pool) && pool_lane_waiting_locked(lane, 2) > most;
}

bool pool_look(const struct evwork_lane *lane, struct lane_look *ret_look)
{
	struct evwork_pool *pool = lane->pool;
	const struct evwork_job *first;
	bool served;

	sys_lock(&pool->mutex);
	served = is_served_locked(pool);
	first = ring_first(&lane->ring);
	ret_look->waiting = pool_lane_waiting_locked(lane, 2);
	ret_look->any = first != NULL;
	ret_look->first = first ? first->_late._seq : 0;
	ret_look->next = pool->seq;
	sys_unlock(&pool->mutex);
	return served;
}

bool pool_await_queue(struct evwork_lane *lane, size_t most, struct pool_hook *hook)
{
	struct evwork_pool *pool = lane->pool;
	bool longer;

	hook->lane = lane;
	hook->most = most;
	sys_lock(&pool->mutex);
	longer = is_longer_locked(lane, most);
	hook->waits = longer;
	if (longer) {
		LIST_APPEND(&pool->hooks, hook, next, prev);
		pool->hooks_waiting++;
	}
	sys_unlock(&pool->mutex);
	return longer;
}

void pool_tell_room_locked(struct evwork_pool *pool)
{
	struct pool_hook *hook;

	for (hook = pool->hooks.head; hook; hook = hook->next) {
		if (!hook->waits || (hook->lane && is_longer_locked(hook->lane, hook->most)))
			continue;
		end_wait_locked(pool, hook);
		hook->room(hook);
	}
}

void pool_tell_closing_locked(struct evwork_pool *pool)
{
	struct pool_hook *hook;

	for (hook = pool->hooks.head; hook; hook = hook->next)
		tell_closing(pool, hook);
	/* Nobody who waits for a queue need wait for it any more; who waits for room looks. */
	if (pool->hooks_waiting)
		pool_tell_room_locked(pool);
}
