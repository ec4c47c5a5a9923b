/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Hooks of a pool, for what submits jobs of its own accord and must neither miss the
 * close nor be stranded when a lane was full for a moment.
 */

#include <errno.h>

#include "run/pool.h"

static void tell_closing(struct evwork_pool *pool, struct pool_hook *hook)
{
	int mode = atomic_load(&pool->closing);

	if (mode == EVWORK_DRAIN)
		hook->drains(hook);
	else if (mode)
		hook->cancelled(hook);
}

void pool_add_hook(struct evwork_pool *pool, struct pool_hook *hook)
{
	hook->waits = false;
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

void pool_remove_hook(struct evwork_pool *pool, struct pool_hook *hook)
{
	sys_lock(&pool->mutex);
	end_wait_locked(pool, hook);
	LIST_REMOVE(&pool->hooks, hook, next, prev);
	sys_unlock(&pool->mutex);
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

void pool_tell_room_locked(struct evwork_pool *pool)
{
	struct pool_hook *hook;

	for (hook = pool->hooks.head; hook; hook = hook->next) {
		if (!hook->waits)
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
}
