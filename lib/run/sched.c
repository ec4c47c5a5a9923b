/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Which job is next. All of this is under the pool's lock.
 *
 * With one lane that has jobs, a worker sets a batch of them aside, at most a
 * share of the queue and about 50 µs of work, so that taking the lock and moving
 * cache lines is paid once for many short jobs. The batch stays revocable: an
 * idle worker takes from it, cancel finds the jobs in it, and a job of a higher
 * priority recalls it.
 *
 * With several lanes jobs are picked one at a time: of those whose lane may
 * start one (below its cap, not paced), first those that have waited too long,
 * then the highest priority, and always the earliest submitted among equals.
 *
 * Ageing. A waiting job is due once `ageing` jobs of higher priority that were
 * submitted after it have been started (S-POOL-5). Inside a lane jobs start in
 * the order of submission, so the first job of a lane is the one to watch:
 * `passed` counts such starts for it, up to its being due. When another job
 * becomes the first, the count is made anew from the lanes above, each of which
 * remembers the last starts: they are in ascending order, so those that came
 * after a given job are at the end, and more than `ageing` are never needed.
 */

#include "run/job.h"
#include "run/pool.h"

/* How much work a batch may be, and after how long others take it over. */
#define BATCH_NS INT64_C(50000)
#define STALE_NS (2 * BATCH_NS)

static uint32_t seq_of_start(const struct evwork_lane *lane, uint32_t ago)
{
	return lane->started[(lane->starts - 1 - ago) % lane->pool->started_size];
}

/* How many of the lane's last starts were of jobs submitted after `seq`. */
static uint32_t starts_after(const struct evwork_lane *lane, uint32_t seq)
{
	uint32_t most = lane->starts < (uint64_t)lane->pool->ageing ?
		(uint32_t)lane->starts : (uint32_t)lane->pool->ageing;
	uint32_t count = 0;

	while (count < most && (int32_t)(seq_of_start(lane, count) - seq) > 0)
		count++;
	return count;
}

void sched_first_changed_locked(struct evwork_lane *lane)
{
	const struct evwork_job *first = ring_first(&lane->ring);
	const struct evwork_lane *above;

	lane->passed = 0;
	if (!first || sched_single_lane(lane->pool))
		return;
	for (above = lane->pool->lanes.head; above; above = above->next) {
		if (above->priority <= lane->priority)
			break;
		lane->passed += starts_after(above, first->_late._seq);
	}
}

/* The job has left its lane's ring to be started. */
static void note_start(struct evwork_lane *lane, const struct evwork_job *job)
{
	struct evwork_lane *below;

	lane->started[lane->starts++ % lane->pool->started_size] = job->_late._seq;
	for (below = lane->next; below; below = below->next) {
		const struct evwork_job *first = ring_first(&below->ring);

		if (first && below->priority < lane->priority &&
		    (int32_t)(job->_late._seq - first->_late._seq) > 0)
			below->passed++;
	}
}

void sched_link_locked(struct evwork_lane *lane)
{
	struct evwork_pool *pool = lane->pool;
	struct evwork_lane *below = pool->lanes.head;

	while (below && below->priority >= lane->priority)
		below = below->next;
	LIST_INSERT(&pool->lanes, below, lane, next, prev);
	pool->lane_count++;
}

void sched_unlink_locked(struct evwork_lane *lane)
{
	LIST_REMOVE(&lane->pool->lanes, lane, next, prev);
	lane->pool->lane_count--;
}

static int64_t start_time(const struct evwork_lane *lane)
{
	struct evwork_job *first = lane->has_ledgers ? ring_first(&lane->ring) : NULL;

	return first ? first->_ledger->not_before_ns : 0;
}

static bool may_start(const struct evwork_lane *lane, int64_t now)
{
	return lane->ring.count != 0 && (!lane->capped || lane->running < lane->max_running) &&
	       start_time(lane) <= now;
}

int64_t sched_next_start_locked(struct evwork_pool *pool, int64_t now)
{
	int64_t next = EVWORK_NEVER;
	struct evwork_lane *lane;

	for (lane = pool->lanes.head; lane; lane = lane->next) {
		int64_t start = start_time(lane);

		if (start > now && start < next)
			next = start;
	}
	return next;
}

bool sched_ready_locked(struct evwork_pool *pool, int64_t now)
{
	struct evwork_lane *lane;
	int i;

	for (lane = pool->lanes.head; lane; lane = lane->next)
		if (may_start(lane, now))
			return true;
	/* What is set aside could be run by another worker as well. */
	for (i = 0; pool->batches > 0 && i < pool->threads; i++)
		if (worker_set_aside(&pool->workers[i]))
			return true;
	return false;
}

static bool earlier(const struct evwork_lane *a, const struct evwork_lane *b)
{
	return (int32_t)(ring_first(&a->ring)->_late._seq - ring_first(&b->ring)->_late._seq) < 0;
}

static bool overdue(const struct evwork_lane *lane)
{
	return lane->passed >= (uint32_t)lane->pool->ageing;
}

/* The lane whose first job is next, or NULL. *ret_alone: no other lane has jobs. */
static struct evwork_lane *pick(struct evwork_pool *pool, int64_t now, bool *ret_alone)
{
	struct evwork_lane *lane, *best = NULL, *due = NULL;
	unsigned waiting = 0;

	if (sched_single_lane(pool)) {
		*ret_alone = true;
		return may_start(pool->lanes.head, now) ? pool->lanes.head : NULL;
	}
	for (lane = pool->lanes.head; lane; lane = lane->next) {
		waiting += lane->ring.count != 0;
		if (!may_start(lane, now))
			continue;
		if (!best || (lane->priority == best->priority && earlier(lane, best)))
			best = lane;
		else if (lane->priority < best->priority && overdue(lane) &&
			 (!due || earlier(lane, due)))
			due = lane;
	}
	*ret_alone = waiting == 1;
	return due ? due : best;
}

static unsigned batch_size(const struct worker *worker, const struct evwork_lane *lane,
	bool alone)
{
	uint32_t size = lane->ring.count / (2 * (uint32_t)worker->pool->threads);

	if (!alone || lane->capped || lane->has_ledgers || size < 2)
		return 1;
	if (size > WORKER_BATCH)
		size = WORKER_BATCH;
	if (worker->run_ns > 0 && (int64_t)size * worker->run_ns > BATCH_NS)
		size = (uint32_t)(BATCH_NS / worker->run_ns) + 1;
	return size;
}

static void set_aside_locked(struct worker *worker, unsigned count)
{
	/* Release: who takes from the range sees what is in local. */
	atomic_store_explicit(&worker->range, range_of(0, count), memory_order_release);
}

unsigned sched_take_locked(struct worker *worker, int64_t now)
{
	struct evwork_pool *pool = worker->pool;
	struct evwork_lane *lane;
	unsigned size, i;
	bool alone;

	/* What is stuck behind a job that takes longer than expected is older than
	 * all that is in the rings. */
	size = sched_steal_locked(worker, worker->taken_at - STALE_NS);
	if (size)
		return size;
	lane = pick(pool, now, &alone);
	if (!lane)
		return sched_steal_locked(worker, INT64_MAX);
	size = batch_size(worker, lane, alone);
	for (i = 0; i < size; i++) {
		worker->local[i] = ring_pop(&lane->ring);
		__builtin_prefetch(worker->local[i], 1);
	}
	worker->lane = lane;
	worker->noted = !sched_single_lane(pool);
	worker->last_seq = worker->local[size - 1]->_late._seq;
	if (worker->noted) {
		for (i = 0; i < size; i++)
			note_start(lane, worker->local[i]);
		sched_first_changed_locked(lane);
	}
	atomic_fetch_sub_explicit(&pool->queued, size, memory_order_relaxed);
	set_aside_locked(worker, size);
	if (lane->capped) {
		lane->running++;
		worker->holds = lane;
	}
	return size;
}

/*
 * Recall. The set-aside jobs of a lane go back to the front of its ring, the
 * latest first, so that the ring is in order again.
 */

/* The worker with the latest jobs set aside that are to go back, or NULL: those of
 * `lane`, or those of a lower priority than `priority` if lane is NULL. */
static struct worker *latest(struct evwork_pool *pool, const struct evwork_lane *lane,
	int priority)
{
	struct worker *found = NULL;
	int i;

	for (i = 0; i < pool->threads; i++) {
		struct worker *worker = &pool->workers[i];

		if (!worker_set_aside(worker) ||
		    (lane ? worker->lane != lane : worker->lane->priority >= priority))
			continue;
		/* Batches leave the ring one after the other, so the last number that was
		 * given to a worker tells the order. */
		if (!found || (int32_t)(worker->last_seq - found->last_seq) > 0)
			found = worker;
	}
	return found;
}

static bool is_among(uint32_t seq, struct evwork_job *const jobs[], unsigned count)
{
	unsigned i;

	for (i = 0; i < count; i++)
		if (jobs[i]->_late._seq == seq)
			return true;
	return false;
}

/* Forgets that these jobs were started. */
static void unnote(struct evwork_lane *lane, struct evwork_job *const jobs[], unsigned count)
{
	uint32_t size = lane->pool->started_size;
	uint64_t from = lane->starts > size ? lane->starts - size : 0, to = from;

	for (; from < lane->starts; from++)
		if (!is_among(lane->started[from % size], jobs, count))
			lane->started[to++ % size] = lane->started[from % size];
	lane->starts = to;
}

static void put_back(struct worker *worker)
{
	struct evwork_job *jobs[WORKER_BATCH];
	struct evwork_lane *lane = worker->lane;
	unsigned count = worker_withdraw_locked(worker, WORKER_BATCH, jobs);

	if (worker->noted)
		unnote(lane, jobs, count);
	atomic_fetch_add_explicit(&worker->pool->queued, count, memory_order_relaxed);
	while (count > 0)
		ring_push_front(&lane->ring, jobs[--count]);
}

static void put_back_all(struct evwork_pool *pool, const struct evwork_lane *which,
	int priority)
{
	struct evwork_lane *lane;
	struct worker *worker;

	while ((worker = latest(pool, which, priority)))
		put_back(worker);
	for (lane = pool->lanes.head; lane; lane = lane->next)
		sched_first_changed_locked(lane);
}

void sched_put_back_locked(struct evwork_lane *lane)
{
	if (lane->pool->batches > 0)
		put_back_all(lane->pool, lane, 0);
}

void sched_recall_locked(struct evwork_pool *pool, const struct evwork_lane *lane)
{
	if (!sched_single_lane(pool) && pool->batches > 0)
		put_back_all(pool, NULL, lane->priority);
}

unsigned sched_steal_locked(struct worker *thief, int64_t taken_before)
{
	struct evwork_pool *pool = thief->pool;
	int i;

	for (i = 0; pool->batches > 0 && i < pool->threads; i++) {
		struct worker *victim = &pool->workers[i];
		unsigned count = worker_set_aside(victim);

		/* What its owner took alone it is about to start. */
		if (victim == thief || victim->batch < 2 || victim->taken_at > taken_before ||
		    count == 0)
			continue;
		/* The earlier half: they are the oldest of all that wait. */
		count = worker_withdraw_locked(victim, (count + 1) / 2, thief->local);
		if (count == 0)
			continue;
		thief->lane = victim->lane;
		thief->noted = victim->noted;
		thief->last_seq = thief->local[count - 1]->_late._seq;
		set_aside_locked(thief, count);
		pool->steals++;
		return count;
	}
	return 0;
}
