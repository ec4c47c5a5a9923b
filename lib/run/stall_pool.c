/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * What the watchdog sees of a pool: for each worker the calls of work, and what the job is
 * called. The job is never looked at, as it may be gone at any moment, and its lane with
 * it. What is copied is that of the call whose number was seen, which holds as follows.
 *
 * The worker goes through: take the lane (pool's lock) - write the label (its own lock) -
 * count the begin (release) - work - count the end - clear the label (own lock) - post
 * the job - take again (pool's lock). Who has seen the begin with acquire sees lane and
 * label of this call or of a later one. If of a later one, or if the lane was freed,
 * which takes the pool's lock after the job was delivered, then that came through a
 * lock that is taken here too, and the end was counted before it. So a number that is still
 * the same, read under the pool's lock, says that the lane exists, and until
 * that lock is left; and one that is the same after the label was copied, that the label is
 * this call's.
 */

#include <stdio.h>
#include <string.h>

#include "run/pool.h"
#include "run/stall.h"

static uint64_t calls_of(void *owner, int subject)
{
	struct evwork_pool *pool = owner;

	return worker_calls(&pool->workers[subject]);
}

/* Copies the label; false if the call that it is of has ended. */
static bool copy_label(struct worker *worker, uint64_t calls, char label[EVWORK_NAME_MAX])
{
	sys_lock(&worker->mutex);
	memcpy(label, worker->label, sizeof(worker->label));
	sys_unlock(&worker->mutex);
	return worker_calls(worker) == calls;
}

static bool report(void *owner, int subject, uint64_t calls, bool first,
	char what[STALL_WHAT_MAX])
{
	struct evwork_pool *pool = owner;
	struct worker *worker = &pool->workers[subject];
	char lane[EVWORK_NAME_MAX], label[EVWORK_NAME_MAX];
	bool same;

	sys_lock(&pool->mutex);
	same = worker_calls(worker) == calls && copy_label(worker, calls, label);
	if (same) {
		memcpy(lane, worker->lane->name, sizeof(lane));
		pool->stalls += first;
		pool->stall_reports++;
		worker->lane->stalls += first;
	}
	sys_unlock(&pool->mutex);
	if (!same)
		return false;
	if (label[0])
		snprintf(what, STALL_WHAT_MAX, "pool %s: job \"%s\" of lane %s on worker %d",
			pool->name, label, lane, subject);
	else
		snprintf(what, STALL_WHAT_MAX, "pool %s: a job of lane %s on worker %d",
			pool->name, lane, subject);
	return true;
}

static const struct stall_kind kind = { calls_of, report };

int stall_pool_start(struct evwork_pool *pool, int64_t stall_ms)
{
	if (stall_ms == 0)
		return 0;
	return stall_watch_new(&kind, pool, pool->threads, sys_time_mul(stall_ms, SYS_NS_PER_MS),
		pool->clock, &pool->stall);
}
