/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * A worker's life: take, run, finish, and sleep when there is nothing to take.
 *
 * Waking is what costs most here, so it is done sparingly. A submit wakes one
 * sleeper, and only if no other is on its way already (`searching`) or there is so
 * much to do that it would not wait for that one to wake the next; a worker that
 * takes work wakes the next one if it leaves work that could be started, in a queue
 * or set aside. So as long as there is such work and an idle worker, one is on
 * its way: work is only set aside by a worker that takes.
 *
 * Nobody goes to sleep while jobs wait: a worker looks once more under the pool's
 * lock, which submitters hold while they queue, before it enters the idle list.
 */

#include "run/pool.h"

#include <stdio.h>

#include "base/broken.h"
#include "run/crash.h"
#include "run/job.h"
#include "run/loop.h"
#include "run/replace.h"

static SYS_THREAD_LOCAL struct worker *here;

struct worker *worker_here(void)
{
	return here;
}

void worker_forget_here(const struct evwork_pool *pool)
{
	if (here && here->pool == pool)
		here = NULL;
}

/* Makes a job that was taken a running one. One that is not queued any more was made anew
 * by its owner, and is left alone. */
static bool begin_job(struct evwork_job *job)
{
	uint32_t state = job_state(job);

	if (!base_holds(job_phase_of(state) == JOB_QUEUED,
	    "a job whose turn has come is not queued: was it changed or freed?"))
		return false;
	job_set_state(job, (state & ~JOB_PHASE) | JOB_RUNNING);
	return true;
}

/* The first of the jobs set aside, which is running from now on; NULL if there is
 * none. */
static struct evwork_job *next_local(struct worker *worker)
{
	struct evwork_job *job;
	unsigned range;

	do {
		if (worker_set_aside(worker) == 0)
			return NULL;
		/* Acquire and release: one of many takers, see struct worker. */
		range = atomic_fetch_add_explicit(&worker->range, 1, memory_order_acq_rel);
		if (range_count(range) == 0)
			return NULL;    /* another was quicker */
		job = worker->local[range_first(range)];
		if (range_count(range) > 1)
			__builtin_prefetch(worker->local[range_first(range) + 1], 1);
	} while (!begin_job(job));
	return job;
}

/* What waits behind this worker's current job: its share of all. */
static uint32_t backlog(const struct worker *worker)
{
	return worker_set_aside(worker) +
		atomic_load_explicit(&worker->pool->queued, memory_order_relaxed) /
		(uint32_t)worker->pool->threads;
}

void worker_pay(struct worker *worker)
{
	if (worker->owed) {
		mailbox_settle(worker->owed);
		worker->owed = NULL;
	}
}

/* What it takes until a loop that was woken is there, if it comes from another CPU. */
#define WAKE_NS INT64_C(50000)

/*
 * Takes an ended job to its loop. `left` is what is queued behind it. If jobs are so
 * short that waking the loop for one would cost more than running it, and there are
 * more, a loop that sleeps is woken once for many: so that it is there when the last
 * is done, or when they take longer than they should. While there is plenty of work
 * a loop that is awake may sleep, too, instead of coming back for one or two at a time.
 */
static void post(struct worker *worker, struct evwork_job *job, uint32_t left)
{
	int64_t hold_ns = worker->pool->hold_ns, run_ns = worker->run_ns;
	struct mailbox *box = job->_loop->box;

	if (left > 0 && hold_ns > 0 && run_ns > 0 && run_ns < 2 * WAKE_NS) {
		int64_t left_ns = (int64_t)left * run_ns;
		bool plenty = left_ns > POOL_PLENTY_NS, owes = worker->owed == box;

		if (mailbox_post_held(box, &job->_mail, (struct hold){
				.ns = plenty ? left_ns : POOL_PLENTY_NS, .most_ns = hold_ns,
				.patient = plenty, .owes = owes }) && !owes) {
			worker_pay(worker);
			worker->owed = box;
			worker->owed_after = left_ns <= WAKE_NS ? left :
				left - (uint32_t)(WAKE_NS / run_ns);
			return;
		}
	} else {
		mailbox_post(box, &job->_mail);
	}
	if (worker->owed && (left == 0 || --worker->owed_after == 0))
		worker_pay(worker);
}

/* A sample far above the average is more often a worker that lost its CPU than a job
 * of another kind, so the average follows it in steps. */
static void note_run_time(struct worker *worker, int64_t sample)
{
	int64_t most = 8 * worker->run_ns + 500;

	if (worker->run_ns == 0)
		worker->run_ns = sample;
	else
		worker->run_ns = (3 * worker->run_ns + (sample < most ? sample : most)) / 4;
}

void worker_return_locked(struct worker *worker, int64_t now)
{
	struct evwork_pool *pool = worker->pool;

	if (!worker->busy)
		return;
	worker->busy = false;
	pool->busy--;
	if (worker->batch > 1)
		pool->batches--;
	note_run_time(worker, (now - worker->taken_at) / worker->batch);
	pool->run_ns = worker->run_ns;
	if (worker->holds) {
		worker->holds->running--;
		worker->holds = NULL;
	}
}

static void leave_search_locked(struct worker *worker)
{
	if (worker->searching) {
		worker->searching = false;
		worker->pool->searching--;
	}
}

/* Takes jobs; false if there are none that may start. *ret_next is whom to wake for
 * more, if it is set. */
static bool take_locked(struct worker *worker, int64_t now, int64_t pool_now,
	struct worker **ret_next)
{
	struct evwork_pool *pool = worker->pool;
	unsigned size;

	worker->taken_at = now;
	size = sched_take_locked(worker, pool_now);
	leave_search_locked(worker);
	if (size == 0) {
		/* What was set aside has been started, which needs no lock. */
		if (pool->hooks_waiting)
			pool_tell_room_locked(pool);
		return false;
	}
	worker->batch = size;
	worker->busy = true;
	pool->busy++;
	if (size > 1)
		pool->batches++;
	pool_room_locked(pool);
	/* The next: for what is left, or to watch for when a paced lane goes on. */
	if (pool->idle && (sched_ready_locked(pool, pool_now) ||
	    (!atomic_load_explicit(&pool->keeper, memory_order_relaxed) &&
	     sched_next_start_locked(pool, pool_now) != EVWORK_NEVER)))
		*ret_next = pool_claim_idle_locked(pool);
	return true;
}

/* Looks for work without the lock for a while. */
static void spin(struct evwork_pool *pool)
{
	int64_t until = sys_time_add(sys_now(), pool->spin_ns);
	int i;

	do {
		for (i = 0; i < 64; i++) {
			if (atomic_load_explicit(&pool->queued, memory_order_relaxed))
				return;
			sys_relax();
		}
	} while (sys_now() < until);
}

static void leave_idle_locked(struct worker *worker)
{
	struct worker **at;

	if (!worker->idle)
		return;
	for (at = &worker->pool->idle; *at != worker; at = &(*at)->idle_next)
		;
	*at = worker->idle_next;
	worker->idle = false;
	pool_count_idle_locked(worker->pool, -1);
}

/*
 * Sleeps until it is woken. One of the sleepers, the keeper, sets itself a limit if
 * a paced lane waits for its time. pool_now is when the worker found nothing to
 * start: what has become due since then must end the sleep at once.
 */
static void sleep_locked(struct worker *worker, int64_t pool_now)
{
	struct evwork_pool *pool = worker->pool;
	int64_t until = EVWORK_NEVER;
	int64_t start = sched_next_start_locked(pool, pool_now);
	struct worker *keeper = atomic_load_explicit(&pool->keeper, memory_order_relaxed);

	worker->idle_next = pool->idle;
	pool->idle = worker;
	pool_count_idle_locked(pool, 1);
	worker->idle = true;
	if (start != EVWORK_NEVER && (!keeper || start < pool->keeper_until)) {
		/* Release: pairs with the acquire of the clock that pokes. */
		atomic_store_explicit(&pool->keeper, worker, memory_order_release);
		pool->keeper_until = start;
		if (pool->clock)
			clock_due(pool->clock, &pool->clock_user, start);
		else
			until = start;
	}
	sys_unlock(&pool->mutex);
	worker->tokens += sys_park(&worker->parker, until);
	sys_lock(&pool->mutex);
	leave_idle_locked(worker);
	if (atomic_load_explicit(&pool->keeper, memory_order_relaxed) == worker) {
		atomic_store_explicit(&pool->keeper, NULL, memory_order_relaxed);
		if (pool->clock)
			clock_due(pool->clock, &pool->clock_user, EVWORK_NEVER);
	}
}

static int64_t pool_time(const struct evwork_pool *pool, int64_t now)
{
	return pool->clock ? clock_now(pool->clock) : now;
}

/*
 * Takes what there is, waiting for it as long as it takes; false at the end. Before
 * it sleeps the worker pays what it owes, as the loop has nothing else to wait for,
 * and looks on for a moment if it was told to spin.
 */
static bool take_waiting(struct worker *worker)
{
	struct evwork_pool *pool = worker->pool;
	int64_t now = sys_now(), pool_now = pool_time(pool, now);
	bool spun = pool->spin_ns == 0;
	struct worker *next = NULL;

	sys_lock(&pool->mutex);
	worker_return_locked(worker, now);
	while (!take_locked(worker, now, pool_now, &next)) {
		if (pool_over_locked(pool)) {
			worker->over = true;
			pool_stop_locked(pool);
			sys_unlock(&pool->mutex);
			worker_pay(worker);
			return false;
		}
		if (worker->owed || !spun) {
			sys_unlock(&pool->mutex);
			worker_pay(worker);
			if (!spun)
				spin(pool);
			spun = true;
			sys_lock(&pool->mutex);
		} else {
			sleep_locked(worker, pool_now);
			spun = pool->spin_ns == 0;
		}
		now = sys_now();
		pool_now = pool_time(pool, now);
	}
	sys_unlock(&pool->mutex);
	pool_wake(next);
	return true;
}

/* The worker's next job; NULL at the end. */
static struct evwork_job *take(struct worker *worker)
{
	struct evwork_job *job = NULL;

	/* All that was taken may have been cancelled, or taken by another worker. */
	while (!job && take_waiting(worker))
		job = next_local(worker);
	return job;
}

/* Takes and runs jobs, to the end. Apart from work, to which a panic returns: what the
 * compiler keeps in registers there would be lost. */
static __attribute__((noinline)) void run_jobs(struct worker *worker)
{
	struct evwork_job *job = next_local(worker), *next;

	for (job = job ? job : take(worker); job; job = next ? next : take(worker)) {
		uint32_t state = job_state(job);
		bool ended = true;

		if (state & JOB_SPECIAL)
			ended = job_execute(worker, job, state);
		else
			job_end(job, state, job_call(worker, job));
		next = next_local(worker);
		if (ended)
			post(worker, job, backlog(worker) + (next != NULL));
	}
}

/* The current job has panicked. What is set aside behind it stays so. */
static void end_panicked(struct worker *worker)
{
	struct evwork_job *job = worker->current;

	if (crash_end_job(worker))
		post(worker, job, backlog(worker));
}

static void work(void *arg)
{
	struct worker *worker = arg;

	if (sys_jump_set(worker->back) != 0)
		end_panicked(worker);
	run_jobs(worker);
}

static int run_start_hook(struct worker *worker)
{
	struct evwork_pool *pool = worker->pool;
	char name[EVWORK_NAME_MAX + 16];
	int rc = 0;

	snprintf(name, sizeof(name), "%s-%d", pool->name, worker->index);
	sys_thread_name(name);
	if (pool->on_start)
		rc = pool->on_start(worker->index, pool->hook_arg);
	sys_lock(&pool->mutex);
	if (!worker->replaced) {
		pool->started++;
		if (rc && !pool->start_error)
			pool->start_error = rc;
	}
	sys_cond_broadcast(&pool->changed);
	sys_unlock(&pool->mutex);
	return rc;
}

void worker_stop_hook(struct worker *worker)
{
	struct evwork_pool *pool = worker->pool;

	worker->over = true;
	if (pool->on_stop)
		pool->on_stop(worker->index, pool->hook_arg);
}

void worker_collect_tokens(struct worker *worker)
{
	while (worker->tokens != atomic_load_explicit(&worker->promised, memory_order_relaxed))
		worker->tokens += sys_park(&worker->parker, INT64_MAX);
}

/* The life of a thread whose start hook has agreed. It may be cancelled in work; around
 * that nothing is a cancellation point, see sys.h, and the hooks are not disturbed. */
static void live(struct worker *worker, int cancel)
{
	sys_cancel(cancel);
	sys_guarded(work, worker_thread_ends, worker);
	sys_no_cancel();
	worker_stop_hook(worker);
	worker_collect_tokens(worker);
	pool_worker_ended(worker->pool);
}

void *worker_main(void *arg)
{
	struct worker *worker = arg;
	int cancel = sys_no_cancel();

	here = worker;
	if (worker->replaced)
		sys_thread_join(worker->predecessor);
	worker->over = worker->settled = false;
	if (run_start_hook(worker) == 0) {
		live(worker, cancel);
	} else if (worker->replaced) {
		worker_gives_up(worker);
	} else {
		worker_collect_tokens(worker);
		pool_worker_ended(worker->pool);
	}
	return NULL;
}
