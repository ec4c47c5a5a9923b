/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The life of a pool: making and freeing it. What the workers do stands in worker.c,
 * which job is next in sched.c, how jobs get into and out of the queues in
 * queue.c, and the end in close.c.
 */

#include "run/pool.h"

#include <errno.h>
#include <string.h>

#include "run/crash.h"
#include "run/loop.h"
#include "run/stage.h"
#include "run/stall.h"

#define STACK_DEFAULT (8u << 20)

static void poke(struct clock_user *user);

/* Making. */

static bool options_valid(const struct evwork_pool_options *options)
{
	return options->threads >= 0 && options->threads <= EVWORK_THREADS_MAX &&
	       (options->stack_size == 0 || options->stack_size >= sys_stack_min()) &&
	       options->ageing >= 0 && options->ageing <= EVWORK_AGEING_MAX && options->spin_us >= 0 &&
	       options->stall_ms >= 0 && options->hold_us >= EVWORK_HOLD_OFF && lane_options_valid(&options->lane);
}

static void copy_options(struct evwork_pool *pool, const struct evwork_pool_options *options)
{
	int64_t hold_us = options->hold_us ? options->hold_us : EVWORK_HOLD_US_DEFAULT;

	pool->threads = options->threads ? options->threads : sys_cpu_count();
	if (pool->threads > EVWORK_THREADS_MAX)
		pool->threads = EVWORK_THREADS_MAX;
	pool->ageing = options->ageing ? options->ageing : EVWORK_AGEING_DEFAULT;
	/* A recall takes back the starts of at most all that is set aside. */
	pool->started_size = (uint32_t)pool->ageing +
		(uint32_t)pool->threads * WORKER_BATCH;
	pool->spin_ns = sys_time_mul(options->spin_us, SYS_NS_PER_US);
	pool->hold_ns = hold_us == EVWORK_HOLD_OFF ? 0 : sys_time_mul(hold_us, SYS_NS_PER_US);
	pool->stack_size = options->stack_size ? options->stack_size : STACK_DEFAULT;
	strncpy(pool->name, options->name ? options->name : "evwork", sizeof(pool->name) - 1);
	pool->on_start = options->on_start;
	pool->on_stop = options->on_stop;
	pool->hook_arg = options->hook_arg;
	pool->clock = options->clock;
	pool->clock_user.poke = poke;
}

static int make_locks(struct evwork_pool *pool)
{
	int rc = sys_mutex_init_spinning(&pool->mutex);

	if (rc)
		return rc;
	rc = sys_cond_init(&pool->room);
	if (rc)
		goto fini_mutex;
	rc = sys_cond_init(&pool->changed);
	if (rc)
		goto fini_room;
	return 0;

fini_room:
	sys_cond_fini(&pool->room);
fini_mutex:
	sys_mutex_fini(&pool->mutex);
	return rc;
}

static void fini_locks(struct evwork_pool *pool)
{
	sys_cond_fini(&pool->changed);
	sys_cond_fini(&pool->room);
	sys_mutex_fini(&pool->mutex);
}

static void fini_worker(struct worker *worker)
{
	crash_free_text(worker->text);
	sys_parker_fini(&worker->parker);
	sys_mutex_fini(&worker->mutex);
}

static void fini_workers(struct evwork_pool *pool, int count)
{
	while (count-- > 0)
		fini_worker(&pool->workers[count]);
	sys_free(pool->workers);
}

static int init_worker(struct worker *worker)
{
	int rc = sys_mutex_init(&worker->mutex);

	if (rc)
		return rc;
	rc = sys_parker_init(&worker->parker);
	if (rc)
		goto fini_mutex;
	worker->text = crash_new_text();
	if (!worker->text) {
		rc = -ENOMEM;
		goto fini_parker;
	}
	return 0;

fini_parker:
	sys_parker_fini(&worker->parker);
fini_mutex:
	sys_mutex_fini(&worker->mutex);
	return rc;
}

static int init_workers(struct evwork_pool *pool)
{
	int i, rc = 0;

	pool->workers = sys_zalloc((size_t)pool->threads * sizeof(pool->workers[0]));
	if (!pool->workers)
		return -ENOMEM;
	for (i = 0; i < pool->threads; i++) {
		struct worker *worker = &pool->workers[i];

		worker->pool = pool;
		worker->index = i;
		rc = init_worker(worker);
		if (rc)
			break;
	}
	if (rc)
		fini_workers(pool, i);
	return rc;
}

static void join_workers(struct evwork_pool *pool, int count)
{
	while (count-- > 0)
		sys_thread_join(pool->workers[count].thread);
}

/* Starts the threads and waits until the hook of each has had its say. */
static int start_workers(struct evwork_pool *pool)
{
	int i, rc = 0;

	for (i = 0; i < pool->threads && rc == 0; i++) {
		struct worker *worker = &pool->workers[i];

		sys_lock(&pool->mutex);
		pool->alive++;
		sys_unlock(&pool->mutex);
		rc = sys_thread_create(&worker->thread, pool->stack_size, worker_main, worker);
		if (rc) {
			sys_lock(&pool->mutex);
			pool->alive--;
			sys_unlock(&pool->mutex);
			i--;
		}
	}
	sys_lock(&pool->mutex);
	while (pool->started < i)
		sys_cond_wait(&pool->changed, &pool->mutex, INT64_MAX);
	if (rc == 0)
		rc = pool->start_error;
	if (rc)
		pool_stop_locked(pool);
	sys_unlock(&pool->mutex);
	if (rc)
		join_workers(pool, i);
	return rc;
}

/* This is the child of a fork. */
static void forked(struct fork_entry *entry)
{
	struct evwork_pool *pool = EVWORK_CONTAINER(entry, struct evwork_pool, fork_entry);

	pool->inherited = true;
	/* Relaxed: there is one thread. */
	atomic_store_explicit(&pool->closing, EVWORK_CANCEL_ALL, memory_order_relaxed);
	worker_forget_here(pool);
}

int evwork_pool_new(const struct evwork_pool_options *options, struct evwork_pool **ret_pool)
{
	static const struct evwork_pool_options defaults;
	struct evwork_pool *pool;
	int rc;

	if (!options)
		options = &defaults;
	if (!ret_pool || !options_valid(options))
		return -EINVAL;
	if (clock_inherited(options->clock))
		return -ESHUTDOWN;
	pool = sys_zalloc(sizeof(*pool));
	if (!pool)
		return -ENOMEM;
	copy_options(pool, options);
	rc = make_locks(pool);
	if (rc)
		goto free_pool;
	rc = lane_make(pool, &options->lane, "default", &pool->lane);
	if (rc)
		goto fini_locks;
	sched_link_locked(pool->lane);
	rc = init_workers(pool);
	if (rc)
		goto destroy_lane;
	pool->fork_entry.forked = forked;
	rc = fork_join(&pool->fork_entry);
	if (rc)
		goto fini_workers;
	clock_join(pool->clock, &pool->clock_user);
	rc = stall_pool_start(pool, options->stall_ms);
	if (rc)
		goto leave_clock;
	rc = start_workers(pool);
	if (rc)
		goto stop_stall;
	*ret_pool = pool;
	return 0;

stop_stall:
	stall_watch_free(pool->stall);
leave_clock:
	clock_leave(pool->clock, &pool->clock_user);
	fork_leave(&pool->fork_entry);
fini_workers:
	fini_workers(pool, pool->threads);
destroy_lane:
	lane_destroy(pool->lane);
fini_locks:
	fini_locks(pool);
free_pool:
	sys_free(pool);
	return rc;
}

/* The manual clock has come to the start of a paced lane's first job. */
static void poke(struct clock_user *user)
{
	struct evwork_pool *pool = EVWORK_CONTAINER(user, struct evwork_pool, clock_user);
	struct worker *keeper = atomic_load_explicit(&pool->keeper, memory_order_acquire);

	if (keeper) {
		worker_promise(keeper);
		sys_unpark(&keeper->parker);
	}
}

/* Memory is all that is here; the locks are left as they are, since some may be held. */
static void free_inherited(struct evwork_pool *pool)
{
	struct evwork_lane *lane, *next;
	int i;

	fork_leave(&pool->fork_entry);
	stall_watch_forget(pool->stall);
	for (i = 0; i < pool->threads; i++)
		crash_free_text(pool->workers[i].text);
	for (lane = pool->lanes.head; lane; lane = next) {
		next = lane->next;
		lane_release(lane);
	}
	sys_free(pool->workers);
	sys_free(pool);
}

static bool callback_to_come_locked(const struct evwork_pool *pool)
{
	/* Acquire: pairs with the release of who lost it. */
	return pool->callback_due &&
	       !atomic_load_explicit(&pool->callback_lost, memory_order_acquire);
}

int evwork_pool_free(struct evwork_pool *pool)
{
	struct worker *here = worker_here();
	bool busy;

	if (!pool)
		return 0;
	if (pool->inherited) {
		free_inherited(pool);
		return 0;
	}
	if ((here && here->pool == pool) || stall_watch_is_here(pool->stall))
		return -EDEADLK;
	stage_flush_here();
	sys_lock(&pool->mutex);
	busy = (atomic_load_explicit(&pool->pending, memory_order_acquire) & ~POOL_ENDED) ||
		callback_to_come_locked(pool) || atomic_load(&pool->staging) || pool->room_waiters || pool->close_waiters;
	if (!busy)
		pool_stop_locked(pool);
	sys_unlock(&pool->mutex);
	if (busy)
		return -EBUSY;
	join_workers(pool, pool->threads);
	/* The last done may just be finishing the close on another thread. */
	sys_lock(&pool->mutex);
	while (atomic_load(&pool->closing) && !pool->closed)
		sys_cond_wait(&pool->changed, &pool->mutex, INT64_MAX);
	sys_unlock(&pool->mutex);
	stall_watch_free(pool->stall);
	clock_leave(pool->clock, &pool->clock_user);
	fork_leave(&pool->fork_entry);
	while (pool->lanes.head) {
		struct evwork_lane *lane = pool->lanes.head;

		sched_unlink_locked(lane);
		lane_destroy(lane);
	}
	fini_workers(pool, pool->threads);
	fini_locks(pool);
	sys_free(pool);
	return 0;
}

struct evwork_lane *evwork_pool_lane(struct evwork_pool *pool)
{
	return pool ? pool->lane : NULL;
}

int evwork_pool_stats(struct evwork_pool *pool, struct evwork_pool_stats *ret_stats)
{
	struct evwork_pool_stats stats;

	if (!pool || !ret_stats)
		return -EINVAL;
	if (pool->inherited)
		return -ESHUTDOWN;
	stage_flush_here();
	memset(&stats, 0, sizeof(stats));
	sys_lock(&pool->mutex);
	stats.threads = pool->alive;
	/* A worker that is about to come back still counts; without jobs none is busy. */
	stats.busy = atomic_load_explicit(&pool->pending, memory_order_acquire) & ~POOL_ENDED ?
		(int)pool->busy : 0;
	stats.wakeups = pool->wakeups;
	stats.steals = pool->steals;
	stats.stalls = pool->stalls;
	stats.stall_reports = pool->stall_reports;
	sys_unlock(&pool->mutex);
	*ret_stats = stats;
	return 0;
}
