/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * What is left in a pool. Everything is copied under the pool's lock, as lanes and jobs
 * may be gone as soon as that is left; a job itself is never looked at, since it may be
 * gone even before. What it is called was noted by its worker, which knew it to exist.
 */

#include <string.h>

#include "run/pool.h"
#include "run/stage.h"

int evwork_pool_left(struct evwork_pool *pool, struct evwork_left *ret_left, size_t max)
{
	struct evwork_lane *lane;
	size_t count = 0;

	if (!pool || (!ret_left && max > 0))
		return -EINVAL;
	if (pool->inherited)
		return -ESHUTDOWN;
	stage_flush_here();
	sys_lock(&pool->mutex);
	for (lane = pool->lanes.head; lane; lane = lane->next) {
		struct evwork_lane_stats stats;

		lane_count_locked(lane, &stats);
		if (!stats.queued && !stats.running && !stats.posted)
			continue;
		if (count < max) {
			memcpy(ret_left[count].lane, lane->name, sizeof(lane->name));
			ret_left[count].queued = stats.queued;
			ret_left[count].running = stats.running;
			ret_left[count].undelivered = stats.posted;
		}
		count++;
	}
	sys_unlock(&pool->mutex);
	return (int)count;
}

static void describe(struct worker *worker, int64_t now, struct evwork_running *ret_running)
{
	memcpy(ret_running->lane, worker->lane->name, sizeof(worker->lane->name));
	sys_lock(&worker->mutex);
	memcpy(ret_running->job, worker->label, sizeof(worker->label));
	sys_unlock(&worker->mutex);
	ret_running->worker = worker->index;
	ret_running->since_ns = now - worker->taken_at;
}

int evwork_pool_running(struct evwork_pool *pool, struct evwork_running *ret_running, size_t max)
{
	int64_t now = sys_now();
	struct evwork_lane *lane;
	size_t count = 0;
	int i;

	if (!pool || (!ret_running && max > 0))
		return -EINVAL;
	if (pool->inherited)
		return -ESHUTDOWN;
	stage_flush_here();
	sys_lock(&pool->mutex);
	for (lane = pool->lanes.head; lane; lane = lane->next) {
		struct evwork_lane_stats stats;

		/* Not all that look busy are: some are about to come back. */
		lane_count_locked(lane, &stats);
		for (i = 0; i < pool->threads && stats.running > 0; i++) {
			struct worker *worker = &pool->workers[i];

			if (!worker->busy || worker->lane != lane)
				continue;
			if (count < max)
				describe(worker, now, &ret_running[count]);
			count++;
			stats.running--;
		}
	}
	sys_unlock(&pool->mutex);
	return (int)count;
}
