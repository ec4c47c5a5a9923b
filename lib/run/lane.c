/* SPDX-License-Identifier: BSD-3-Clause */
#include "run/lane.h"

#include <errno.h>
#include <string.h>

#include "base/broken.h"
#include "run/pool.h"
#include "run/stage.h"

bool lane_options_valid(const struct evwork_lane_options *options)
{
	size_t i;

	if (options->priority < -EVWORK_PRIORITY_MAX || options->priority > EVWORK_PRIORITY_MAX ||
	    options->max_running < EVWORK_HALF || options->max_running > EVWORK_THREADS_MAX ||
	    options->timeout_ms < 0 ||
	    (options->queue_limit > EVWORK_QUEUE_LIMIT_MAX && options->queue_limit != EVWORK_UNBOUNDED) ||
	    (options->guard_count > 0 && !options->guards))
		return false;
	for (i = 0; i < options->guard_count; i++)
		if (!options->guards[i] || !options->guards[i]->acquire ||
		    !options->guards[i]->release)
			return false;
	return true;
}

static void free_ledgers(struct evwork_lane *lane)
{
	while (lane->made) {
		struct evwork_ledger *ledger = lane->made;

		lane->made = ledger->next_made;
		sys_free(ledger);
	}
}

/* Threads that can be between the guards and the queue at once; if there are more in
 * a full lane they get -EAGAIN before the guards are asked. */
#define SUBMITTERS 16

/*
 * As many ledgers as jobs can be queued, run or be submitted; an unbounded lane gets
 * them one by one as it needs them.
 */
static int make_ledgers(struct evwork_lane *lane)
{
	size_t size = sizeof(struct evwork_ledger) +
		lane->guard_count * sizeof(struct evwork_permit);
	size_t count = lane->queue_limit + (size_t)lane->pool->threads + SUBMITTERS;

	if (lane->queue_limit == EVWORK_UNBOUNDED)
		return 0;
	while (count-- > 0) {
		struct evwork_ledger *ledger = sys_alloc(size);

		if (!ledger)
			return -ENOMEM;
		ledger->lane = lane;
		ledger->next_made = lane->made;
		lane->made = ledger;
		ledger->next = lane->ledgers;
		lane->ledgers = ledger;
	}
	return 0;
}

static int copy_guards(struct evwork_lane *lane, const struct evwork_lane_options *options)
{
	size_t size = options->guard_count * sizeof(lane->guards[0]);

	if (options->guard_count == 0)
		return 0;
	lane->guards = sys_alloc(size);
	if (!lane->guards)
		return -ENOMEM;
	memcpy(lane->guards, options->guards, size);
	lane->guard_count = options->guard_count;
	return 0;
}

static void copy_options(struct evwork_lane *lane, const struct evwork_lane_options *options,
	const char *default_name)
{
	int threads = lane->pool->threads;

	strncpy(lane->name, options->name ? options->name : default_name,
		sizeof(lane->name) - 1);
	lane->priority = options->priority;
	lane->queue_limit = options->queue_limit ? options->queue_limit :
		EVWORK_QUEUE_LIMIT_DEFAULT;
	lane->max_running = (unsigned)(options->max_running == EVWORK_HALF ? (threads + 1) / 2 :
		options->max_running ? options->max_running : threads);
	lane->capped = lane->max_running < (unsigned)threads;
	lane->timeout_ns = sys_time_mul(options->timeout_ms, SYS_NS_PER_MS);
	lane->has_ledgers = options->guard_count > 0 || options->timeout_ms > 0;
	lane->describe = options->describe;
	lane->plain = !lane->capped && !lane->has_ledgers && !lane->describe &&
		lane->queue_limit != EVWORK_UNBOUNDED;
}

int lane_make(struct evwork_pool *pool, const struct evwork_lane_options *options,
	const char *default_name, struct evwork_lane **ret_lane)
{
	struct evwork_lane *lane = sys_zalloc(sizeof(*lane));
	int rc;

	if (!lane)
		return -ENOMEM;
	lane->pool = pool;
	copy_options(lane, options, default_name);
	rc = sys_mutex_init(&lane->ledger_mutex);
	if (rc)
		goto free_lane;
	rc = ring_init(&lane->ring, lane->queue_limit);
	if (rc)
		goto fini_mutex;
	lane->started = sys_alloc(pool->started_size * sizeof(lane->started[0]));
	rc = lane->started ? copy_guards(lane, options) : -ENOMEM;
	if (rc == 0 && lane->has_ledgers)
		rc = make_ledgers(lane);
	if (rc)
		goto fini_ring;
	*ret_lane = lane;
	return 0;

fini_ring:
	free_ledgers(lane);
	sys_free(lane->guards);
	sys_free(lane->started);
	ring_fini(&lane->ring);
fini_mutex:
	sys_mutex_fini(&lane->ledger_mutex);
free_lane:
	sys_free(lane);
	return rc;
}

void lane_release(struct evwork_lane *lane)
{
	free_ledgers(lane);
	sys_free(lane->guards);
	sys_free(lane->started);
	ring_fini(&lane->ring);
	sys_free(lane);
}

void lane_destroy(struct evwork_lane *lane)
{
	sys_mutex_fini(&lane->ledger_mutex);
	lane_release(lane);
}

int evwork_lane_new(struct evwork_pool *pool, const struct evwork_lane_options *options,
	struct evwork_lane **ret_lane)
{
	struct evwork_lane *lane;
	int rc;

	if (!pool || !options || !ret_lane || !lane_options_valid(options))
		return -EINVAL;
	if (pool->inherited)
		return -ESHUTDOWN;
	stage_flush_here();
	if (atomic_load(&pool->closing))
		return -ESHUTDOWN;
	rc = lane_make(pool, options, "lane", &lane);
	if (rc)
		return rc;
	sys_lock(&pool->mutex);
	if (atomic_load(&pool->closing))
		rc = -ESHUTDOWN;
	else
		sched_link_locked(lane);
	sys_unlock(&pool->mutex);
	if (rc) {
		lane_destroy(lane);
		return rc;
	}
	*ret_lane = lane;
	return 0;
}

/* Workers that have taken jobs of the lane and not come back. */
static uint64_t busy_locked(const struct evwork_lane *lane)
{
	uint64_t busy = 0;
	int i;

	for (i = 0; i < lane->pool->threads; i++)
		busy += lane->pool->workers[i].busy && lane->pool->workers[i].lane == lane;
	return busy;
}

/* Workers that have finished a job of the lane, and have not come back yet to
 * say so, forget that the lane counts them. */
static void forget_locked(const struct evwork_lane *lane)
{
	int i;

	for (i = 0; i < lane->pool->threads; i++)
		if (lane->pool->workers[i].holds == lane)
			lane->pool->workers[i].holds = NULL;
}

int evwork_lane_free(struct evwork_lane *lane)
{
	struct evwork_pool *pool;
	bool delivering, even;
	int rc = 0;

	if (!lane)
		return 0;
	pool = lane->pool;
	if (lane == pool->lane)
		return -EINVAL;
	/* The list may not be touched; the pool frees what is left in it. */
	if (pool->inherited)
		return 0;
	stage_flush_here();
	delivering = stage_delivering() == lane;
	sys_lock(&pool->mutex);
	even = lane->accepted >= lane_delivered(lane) + delivering;
	if (lane->dead || lane->entering || lane->accepted != lane_delivered(lane) + delivering ||
	    atomic_load_explicit(&lane->abandoned, memory_order_acquire))
		rc = -EBUSY;
	else {
		forget_locked(lane);
		sched_unlink_locked(lane);
		lane->dead = true;
	}
	sys_unlock(&pool->mutex);
	base_holds(even, "a lane has delivered more jobs than it has accepted");
	if (rc == 0 && !delivering)
		lane_destroy(lane);
	return rc;
}

const char *evwork_lane_name(const struct evwork_lane *lane)
{
	return lane ? lane->name : NULL;
}

static void read_refusals(struct evwork_lane *lane, struct evwork_lane_stats *stats)
{
	stats->refused_full = atomic_load_explicit(&lane->refused_full, memory_order_relaxed);
	stats->refused_closed = atomic_load_explicit(&lane->refused_closed, memory_order_relaxed);
	stats->refused_ctx = atomic_load_explicit(&lane->refused_ctx, memory_order_relaxed);
	stats->refused_guard = atomic_load_explicit(&lane->refused_guard, memory_order_relaxed);
	stats->refused_memory = atomic_load_explicit(&lane->refused_memory, memory_order_relaxed);
	stats->refused = stats->refused_full + stats->refused_closed + stats->refused_ctx +
		stats->refused_guard + stats->refused_memory;
}

static void read_outcomes(const struct evwork_lane *lane, struct evwork_lane_stats *stats)
{
	const _Atomic uint64_t *outcomes = lane->outcomes;

	stats->ok = atomic_load_explicit(&outcomes[OUTCOME_OK], memory_order_acquire);
	stats->failed = atomic_load_explicit(&outcomes[OUTCOME_FAILED], memory_order_acquire);
	stats->cancelled = atomic_load_explicit(&outcomes[OUTCOME_CANCELLED], memory_order_acquire);
	stats->expired = atomic_load_explicit(&outcomes[OUTCOME_EXPIRED], memory_order_acquire);
	stats->crashed = atomic_load_explicit(&outcomes[OUTCOME_CRASHED], memory_order_acquire);
	stats->delivered = stats->ok + stats->failed + stats->cancelled + stats->expired +
		stats->crashed;
}

void lane_count_locked(const struct evwork_lane *lane, struct evwork_lane_stats *stats)
{
	uint64_t there, busy, abandoned;

	/* Outcomes first: what is delivered was accepted before. */
	read_outcomes(lane, stats);
	stats->accepted = lane->accepted;
	stats->queued = pool_lane_waiting_locked(lane, 1);
	busy = busy_locked(lane);
	abandoned = atomic_load_explicit(&lane->abandoned, memory_order_relaxed);
	stats->queue_peak = lane->queue_peak;
	stats->stalls = lane->stalls;
	stats->dropped = atomic_load_explicit(&lane->dropped, memory_order_relaxed);
	/* A worker that is about to come back still counts as busy; what has been
	 * delivered does not run, unless it was abandoned. */
	there = stats->accepted - stats->delivered - stats->queued + abandoned;
	stats->running = busy < there ? busy : there;
	there -= abandoned;
	stats->posted = there > stats->running ? there - stats->running : 0;
}

int evwork_lane_stats(struct evwork_lane *lane, struct evwork_lane_stats *ret_stats)
{
	struct evwork_lane_stats stats;

	if (!lane || !ret_stats)
		return -EINVAL;
	if (lane->pool->inherited)
		return -ESHUTDOWN;
	stage_flush_here();
	memset(&stats, 0, sizeof(stats));
	read_refusals(lane, &stats);
	sys_lock(&lane->pool->mutex);
	lane_count_locked(lane, &stats);
	sys_unlock(&lane->pool->mutex);
	stats.submitted = stats.accepted + stats.refused;
	*ret_stats = stats;
	return 0;
}
