/* SPDX-License-Identifier: BSD-3-Clause */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

/*
 * Failure sweeps. A scenario uses the library as a program would, and cleans up
 * what exists when a step fails. It is run again and again, with the first call of
 * a kind to the operating system failing, then with the second, and so on until a
 * run does not reach the failing call; once with that call alone failing and once
 * with all that follow it. libevent's memory is a kind of its own.
 *
 * Each step says which kinds it may fail of, so that a call that promises not to
 * fail is caught when it does. After each run every accepted thing has had its
 * callback once, every refused one none, and nothing is left: no block, no
 * descriptor, no thread.
 */

#include "support.h"

#include <pthread.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

#define START_NS INT64_C(1000000000)

/* Beside the kinds of sys.h. */
#define FAULT_LIBEVENT SYS_CALLS

/* Which kinds a step may fail of. */
enum {
	MEMORY = 1 << SYS_MEMORY,
	THREAD = 1 << SYS_THREAD,
	LOCK = 1 << SYS_LOCK,
	DESCRIPTOR = 1 << SYS_DESCRIPTOR,
	LIBEVENT = 1 << FAULT_LIBEVENT,
	NOTHING = 0
};

static const char *const fault_names[] = {
	[SYS_MEMORY] = "allocation", [SYS_THREAD] = "thread", [SYS_LOCK] = "lock",
	[SYS_DESCRIPTOR] = "descriptor", [FAULT_LIBEVENT] = "allocation of libevent"
};

/* libevent's memory. */

static struct {
	int k;                /* 0: nothing fails */
	bool onwards;
	atomic_int count;
	atomic_long blocks;   /* held by libevent */
} shortage;

static bool shortage_hits(void)
{
	int n;

	if (shortage.k == 0)
		return false;
	n = atomic_fetch_add(&shortage.count, 1) + 1;
	return n == shortage.k || (shortage.onwards && n > shortage.k);
}

static void *shortage_malloc(size_t size)
{
	void *memory = shortage_hits() ? NULL : malloc(size);

	if (memory)
		atomic_fetch_add(&shortage.blocks, 1);
	return memory;
}

static void *shortage_realloc(void *memory, size_t size)
{
	if (!memory)
		return shortage_malloc(size);
	return shortage_hits() ? NULL : realloc(memory, size);
}

static void shortage_free(void *memory)
{
	if (memory)
		atomic_fetch_sub(&shortage.blocks, 1);
	free(memory);
}

/* Which failure is injected. */
struct injection {
	enum sys_call kind;
	int k;
	bool onwards;
};

static void injection_start(const struct injection *injection)
{
	if (injection->kind != FAULT_LIBEVENT) {
		fault_start(injection->kind, injection->k, injection->onwards);
		return;
	}
	atomic_store(&shortage.count, 0);
	shortage.onwards = injection->onwards;
	shortage.k = injection->k;
}

/* Returns whether the failing call was reached. */
static bool injection_stop(const struct injection *injection)
{
	if (injection->kind != FAULT_LIBEVENT)
		return fault_stop() >= injection->k;
	shortage.k = 0;
	return atomic_load(&shortage.count) >= injection->k;
}

/* Runs. */

#define TASKS 3000
#define GUARDS 2
#define LANES 3
#define CONTEXTS 7
#define TIMERS 12
#define CROWD 16      /* libevent's heap of timers has this size and then doubles */

struct run;

/* A job and its account. */
struct task {
	struct evwork_job job;
	struct run *run;
	int result;           /* what its work returns */
	atomic_int runs;
	bool accepted;
	int dones, status, ran;
};

/* A guard that keeps a ledger. */
struct tally {
	struct evwork_guard guard;
	atomic_int asked, granted, released;
	int refuse_every;     /* 0: never */
};

struct timed {
	struct evwork_timer timer;
	struct run *run;
	bool set;
	int calls;
};

struct watched {
	struct evwork_watch watch;
	struct run *run;
	bool set;
	int calls;
};

/* All that a scenario has made so far, and what it has been promised. */
struct run {
	const char *name;
	struct injection injection;
	enum evwork_notify notify;

	struct event_base *base;
	struct event *pulse;               /* always ready: no turn blocks */
	int pulse_fds[2];
	struct event *crowd[CROWD];        /* fills libevent's heap of timers */
	int crowd_size;

	struct evwork_clock *clock;
	struct evwork_pool *pool;
	struct evwork_loop *loop;
	struct evwork_lane *lane[LANES];
	struct evwork_ctx *ctx[CONTEXTS];
	struct tally tally[GUARDS];
	struct task task[TASKS];
	struct timed timed[TIMERS];
	struct watched watched[CONTEXTS];
	struct gate gate;

	int failures;                      /* steps that failed of the injection */
	int tasks;                         /* of task[], how many were used */
	int accepted, dones;
	int posts_accepted, posts_run;
	int timers_set, timers_called;
	int watches_set, watches_called;
	int values_made, values_destroyed;
	int pool_closed, loop_closed;
	atomic_int workers_started, workers_stopped;
};

/* Not ck_assert: Check's own record of millions of assertions would take longer
 * than the tests. */
#define run_assert(run, condition, format, ...) do { \
	if (!(condition)) \
		ck_abort_msg("%s, %s %d%s fails, %s, %d timers: " format, (run)->name, \
			fault_names[(run)->injection.kind], (run)->injection.k, \
			(run)->injection.onwards ? " and on" : "", \
			(run)->notify == EVWORK_NOTIFY_PIPE ? "pipe" : "eventfd", \
			(run)->crowd_size, __VA_ARGS__); \
} while (0)

/* What a call returns that fails of this kind. */
static int failure_code(enum sys_call kind)
{
	return kind == SYS_THREAD || kind == SYS_DESCRIPTOR ? -EAGAIN : -ENOMEM;
}

/*
 * Judges the result of a step that may fail of the kinds in `may`. True: it
 * worked. Anything but success and the code of the injected failure is an error of
 * the library.
 */
static bool step(struct run *run, int rc, int may, const char *what)
{
	bool tolerable = (may & (1 << run->injection.kind)) &&
		rc == failure_code(run->injection.kind);

	run_assert(run, rc == 0 || tolerable, "%s returned %d", what, rc);
	if (rc)
		run->failures++;
	return rc == 0;
}

#define STEP(run, may, call) step(run, call, may, #call)

static void on_pulse(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

/* Before anything fails: the base, an event that is always ready, and as many
 * timers as the run wants in libevent's heap. */
static void run_open_base(struct run *run, int crowd)
{
	static const struct timeval hour = { 3600, 0 };
	int i;

	run->base = event_base_new();
	ck_assert_ptr_nonnull(run->base);
	ck_assert_int_eq(sys_pipe(run->pulse_fds), 0);
	sys_token_write(run->pulse_fds[1], 1);
	run->pulse = event_new(run->base, run->pulse_fds[0], EV_READ | EV_PERSIST, on_pulse, NULL);
	ck_assert_ptr_nonnull(run->pulse);
	ck_assert_int_eq(event_add(run->pulse, NULL), 0);
	run->crowd_size = crowd;
	for (i = 0; i < run->crowd_size; i++) {
		run->crowd[i] = event_new(run->base, -1, 0, on_pulse, NULL);
		ck_assert_int_eq(event_add(run->crowd[i], &hour), 0);
	}
}

static void run_free_base(struct run *run)
{
	int i;

	for (i = 0; i < run->crowd_size; i++)
		event_free(run->crowd[i]);
	event_free(run->pulse);
	sys_close(run->pulse_fds[0]);
	sys_close(run->pulse_fds[1]);
	event_base_free(run->base);
}

/* Turns of the base until *count is n. */
static void run_until(struct run *run, const int *count, int n)
{
	while (*count < n) {
		run_assert(run, event_base_loop(run->base, EVLOOP_ONCE) >= 0, "%s",
			"event_base_loop failed");
		sys_yield();
	}
}

/* A few turns in which something might come that must not. */
static void run_turns(struct run *run, int n)
{
	while (n-- > 0)
		run_assert(run, event_base_loop(run->base, EVLOOP_ONCE) >= 0, "%s",
			"event_base_loop failed");
}

/* Making what scenarios need. */

static int worker_starts(int worker, void *arg)
{
	struct run *run = arg;

	(void)worker;
	atomic_fetch_add(&run->workers_started, 1);
	return 0;
}

static void worker_stops(int worker, void *arg)
{
	struct run *run = arg;

	(void)worker;
	atomic_fetch_add(&run->workers_stopped, 1);
}

static bool open_pool(struct run *run, int threads)
{
	struct evwork_pool_options options = { 0 };

	options.threads = threads;
	options.name = "sweep";
	options.clock = run->clock;
	options.on_start = worker_starts;
	options.on_stop = worker_stops;
	options.hook_arg = run;
	return STEP(run, MEMORY | THREAD | LOCK | DESCRIPTOR,
		evwork_pool_new(&options, &run->pool));
}

static bool open_loop(struct run *run)
{
	struct evwork_loop_options options = { 0 };

	options.notify = run->notify;
	options.clock = run->clock;
	return STEP(run, MEMORY | LOCK | DESCRIPTOR | LIBEVENT,
		evwork_loop_new(run->base, run->pool, &options, &run->loop));
}

static bool open_world(struct run *run, int threads)
{
	return open_pool(run, threads) && open_loop(run);
}

static bool open_manual(struct run *run, int threads)
{
	return STEP(run, MEMORY | LOCK, evwork_clock_new(START_NS, &run->clock)) &&
		open_world(run, threads);
}

/* Tasks. */

static int task_run(struct evwork_job *job)
{
	struct task *task = EVWORK_CONTAINER(job, struct task, job);

	atomic_fetch_add(&task->runs, 1);
	return task->result;
}

static int task_run_in_gate(struct evwork_job *job)
{
	struct task *task = EVWORK_CONTAINER(job, struct task, job);

	gate_pass(&task->run->gate);
	return task_run(job);
}

static void task_done(struct evwork_job *job, int status)
{
	struct task *task = EVWORK_CONTAINER(job, struct task, job);

	task->dones++;
	task->status = status;
	task->ran = evwork_job_ran(job);
	task->run->dones++;
}

static struct task *task_next(struct run *run, evwork_run_fn fn)
{
	struct task *task = &run->task[run->tasks++];

	evwork_job_init(&task->job, fn, task_done);
	task->run = run;
	task->result = run->tasks % 5 == 4 ? 4711 : 0;
	task->status = 1;
	return task;
}

/* Submits; `also` is another code with which it may be refused, or 0. */
static bool task_submit(struct run *run, struct task *task, int may, int also)
{
	int rc = evwork_submit(run->loop, &task->job);

	if (rc == 0 || rc != also)
		task->accepted = step(run, rc, may, "evwork_submit");
	run->accepted += task->accepted;
	return task->accepted;
}

static void task_check(struct run *run, const struct task *task)
{
	int runs = atomic_load(&task->runs);

	run_assert(run, task->dones == (task->accepted ? 1 : 0),
		"a job had %d dones, accepted %d", task->dones, task->accepted);
	run_assert(run, runs == (task->accepted && task->ran ? 1 : 0),
		"a job ran %d times, its done said %d", runs, task->ran);
	run_assert(run, !runs || task->status == task->result,
		"a job returned %d, its done got %d", task->result, task->status);
	run_assert(run, runs || !task->accepted || task->status == -ECANCELED ||
		task->status == -ETIMEDOUT, "a job that did not run got %d", task->status);
}

/* Makes a worker surely busy until the gate opens. */
static bool hold_worker(struct run *run)
{
	bool held = task_submit(run, task_next(run, task_run_in_gate), LIBEVENT, 0);

	if (held)
		gate_await(&run->gate, 1);
	return held;
}

/* Submits n tasks to a lane and waits for those that were accepted. */
static void tasks_through(struct run *run, struct evwork_lane *lane, int n)
{
	struct task *task;
	int i;

	for (i = 0; i < n; i++) {
		task = task_next(run, task_run);
		task->job.lane = lane;
		task_submit(run, task, LIBEVENT, 0);
	}
	run_until(run, &run->dones, run->accepted);
}

/* Ends of other things. */

static void on_post(void *arg)
{
	struct run *run = arg;

	run->posts_run++;
}

static void on_timer(struct evwork_timer *timer, int status)
{
	struct timed *timed = EVWORK_CONTAINER(timer, struct timed, timer);

	(void)status;
	timed->calls++;
	timed->run->timers_called++;
}

static void on_watch(struct evwork_watch *watch, int status)
{
	struct watched *watched = EVWORK_CONTAINER(watch, struct watched, watch);

	(void)status;
	watched->calls++;
	watched->run->watches_called++;
}

static void on_pool_closed(struct evwork_pool *pool, int status, void *arg)
{
	struct run *run = arg;

	(void)pool;
	(void)status;
	run->pool_closed++;
}

static void on_loop_closed(struct evwork_loop *loop, void *arg)
{
	struct run *run = arg;

	(void)loop;
	run->loop_closed++;
}

static void on_value_destroyed(void *value)
{
	struct run *run = value;

	run->values_destroyed++;
}

static void post_some(struct run *run, int n)
{
	while (n-- > 0)
		run->posts_accepted += STEP(run, MEMORY | LIBEVENT,
			evwork_post(run->loop, on_post, run));
}

/* Timers at 0, 1, … units after now. */
static void set_timers(struct run *run, int n, int64_t unit_ns)
{
	int i;

	for (i = 0; i < n; i++) {
		struct timed *timed = &run->timed[i];

		evwork_timer_init(&timed->timer, on_timer);
		timed->run = run;
		timed->set = STEP(run, LIBEVENT, evwork_timer_start_at(run->loop, &timed->timer,
			evwork_loop_now(run->loop) + i * unit_ns));
		run->timers_set += timed->set;
	}
}

static void set_watch(struct run *run, int i, struct evwork_ctx *ctx)
{
	struct watched *watched = &run->watched[i];

	evwork_watch_init(&watched->watch, on_watch);
	watched->run = run;
	watched->set = STEP(run, NOTHING, evwork_ctx_after(ctx, run->loop, &watched->watch));
	run->watches_set += watched->set;
}

/* The scenarios. */

static void scenario_pool(struct run *run)
{
	if (!open_world(run, 5))
		return;
	tasks_through(run, NULL, 3);
	STEP(run, NOTHING, evwork_pool_close(run->pool, EVWORK_DRAIN, run->loop,
		on_pool_closed, run));
	run_until(run, &run->pool_closed, 1);
}

static void scenario_jobs(struct run *run)
{
	struct task *task;
	int i, rc;

	if (!open_world(run, 2))
		return;
	for (i = 0; i < 12; i++) {
		task = task_next(run, task_run);
		if (!task_submit(run, task, LIBEVENT, 0) || i % 3)
			continue;
		rc = evwork_cancel(&task->job);
		run_assert(run, rc == 0 || rc == -EBUSY, "evwork_cancel returned %d", rc);
	}
	run_until(run, &run->dones, run->accepted);
	tasks_through(run, NULL, 3);
}

static void scenario_posts(struct run *run)
{
	if (!open_world(run, 1))
		return;
	if (STEP(run, LIBEVENT, evwork_loop_hold(run->loop)))
		STEP(run, NOTHING, evwork_loop_release(run->loop));
	post_some(run, 12);
	tasks_through(run, NULL, 1);
	post_some(run, 12);
	run_until(run, &run->posts_run, run->posts_accepted);
}

/* On the system's clock, so that the loop's own event of libevent is set. */
static void scenario_timers(struct run *run)
{
	int i;

	if (!open_world(run, 1))
		return;
	set_timers(run, TIMERS, 200 * SYS_NS_PER_US);
	for (i = 0; i < TIMERS; i += 3) {
		if (!run->timed[i].set || evwork_timer_stop(&run->timed[i].timer) != 0)
			continue;
		run->timed[i].set = false;
		run->timers_set--;
	}
	run_until(run, &run->timers_called, run->timers_set);
}

/* A context with a deadline, made on another thread. */
struct foreign {
	struct run *run;
	struct evwork_ctx *ctx;
	int rc;
};

static void *foreign_ctx(void *arg)
{
	struct foreign *foreign = arg;

	foreign->rc = evwork_ctx_with_timeout(NULL, foreign->run->loop, 15, 0, &foreign->ctx);
	return NULL;
}

static struct evwork_ctx *make_foreign_ctx(struct run *run)
{
	struct foreign foreign = { run, NULL, 0 };
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, foreign_ctx, &foreign), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	step(run, foreign.rc, MEMORY | LOCK, "evwork_ctx_with_timeout elsewhere");
	return foreign.ctx;
}

/* Where one cannot be made its children come under the background. */
static void make_contexts(struct run *run)
{
	static const char key;
	struct evwork_ctx **ctx = run->ctx;

	STEP(run, MEMORY | LOCK, evwork_ctx_new(NULL, &ctx[0]));
	run->values_made += STEP(run, MEMORY | LOCK, evwork_ctx_with_value(ctx[0], &key, run,
		on_value_destroyed, &ctx[1]));
	STEP(run, MEMORY | LOCK | LIBEVENT, evwork_ctx_with_timeout(ctx[1], run->loop, 20, 0,
		&ctx[2]));
	STEP(run, MEMORY | LOCK | LIBEVENT, evwork_ctx_with_deadline(ctx[2], run->loop,
		START_NS + 10 * SYS_NS_PER_MS, 4711, &ctx[3]));
	STEP(run, MEMORY | LOCK, evwork_ctx_detached(ctx[3], &ctx[4]));
	STEP(run, MEMORY | LOCK, evwork_ctx_with_timeout(NULL, NULL, -1, 0, &ctx[5]));
	ctx[6] = make_foreign_ctx(run);
}

static void scenario_contexts(struct run *run)
{
	int i, rc;

	if (!open_manual(run, 1))
		return;
	make_contexts(run);
	for (i = 0; i < CONTEXTS; i++)
		if (run->ctx[i])
			set_watch(run, i, run->ctx[i]);
	tasks_through(run, NULL, 2);
	STEP(run, NOTHING, evwork_clock_jump(run->clock, 10 * SYS_NS_PER_MS));
	run_turns(run, 3);
	for (i = 0; i < CONTEXTS; i++) {
		rc = run->ctx[i] ? evwork_ctx_cancel(run->ctx[i], i) : 0;
		run_assert(run, rc == 0 || rc == -EALREADY, "evwork_ctx_cancel returned %d", rc);
		run_assert(run, !run->ctx[i] || evwork_ctx_err(run->ctx[i]) != 0,
			"context %d is alive", i);
	}
	run_until(run, &run->watches_called, run->watches_set);
}

/* Jobs that wait when their context dies. */
static void scenario_doomed_jobs(struct run *run)
{
	struct task *task;
	int i, rc;

	if (!open_manual(run, 1))
		return;
	STEP(run, MEMORY | LOCK | LIBEVENT, evwork_ctx_with_timeout(NULL, run->loop, 10, 0,
		&run->ctx[0]));
	STEP(run, MEMORY | LOCK, evwork_ctx_new(NULL, &run->ctx[1]));
	if (!hold_worker(run))
		return;
	for (i = 0; i < 8; i++) {
		task = task_next(run, task_run);
		task->job.ctx = run->ctx[i % 2];
		task_submit(run, task, LIBEVENT, 0);
	}
	STEP(run, NOTHING, evwork_clock_jump(run->clock, 10 * SYS_NS_PER_MS));
	rc = run->ctx[1] ? evwork_ctx_cancel(run->ctx[1], 0) : 0;
	run_assert(run, rc == 0, "evwork_ctx_cancel returned %d", rc);
	if (run->ctx[0] && run->ctx[1])
		run_until(run, &run->dones, run->accepted - 1);
	gate_open(&run->gate);
	run_until(run, &run->dones, run->accepted);
}

static int tally_acquire(struct evwork_guard *guard, const struct evwork_job *job,
	struct evwork_permit *permit)
{
	struct tally *tally = EVWORK_CONTAINER(guard, struct tally, guard);
	int n = atomic_fetch_add(&tally->asked, 1) + 1;

	(void)job;
	if (tally->refuse_every && n % tally->refuse_every == 0)
		return -EHOSTDOWN;
	permit->token = (uint64_t)n;
	atomic_fetch_add(&tally->granted, 1);
	return 0;
}

static void tally_release(struct evwork_guard *guard, const struct evwork_permit *permit,
	const struct evwork_end *end)
{
	struct tally *tally = EVWORK_CONTAINER(guard, struct tally, guard);

	(void)end;
	if (permit->token)
		atomic_fetch_add(&tally->released, 1);
}

static bool open_lanes(struct run *run)
{
	static const int priorities[LANES] = { -1, 0, 5 };
	struct evwork_guard *guards[GUARDS];
	int i;

	for (i = 0; i < GUARDS; i++) {
		run->tally[i].guard.acquire = tally_acquire;
		run->tally[i].guard.release = tally_release;
		guards[i] = &run->tally[i].guard;
	}
	run->tally[1].refuse_every = 4;
	for (i = 0; i < LANES; i++) {
		struct evwork_lane_options options = { 0 };

		options.name = "swept";
		options.priority = priorities[i];
		options.queue_limit = 6;
		options.max_running = i == 1 ? 1 : 0;
		options.timeout_ms = i == 2 ? 10 : 0;
		options.guards = guards;
		options.guard_count = (size_t)i;
		if (!STEP(run, MEMORY | LOCK, evwork_lane_new(run->pool, &options, &run->lane[i])))
			return false;
	}
	return true;
}

/* Lanes with guards and short queues; the worker waits, so that they fill. */
static void scenario_lanes(struct run *run)
{
	struct task *task;
	int i, refusal;

	if (!open_manual(run, 1) || !open_lanes(run))
		return;
	hold_worker(run);
	for (i = 0; i < 40; i++) {
		task = task_next(run, task_run);
		task->job.lane = run->lane[i % LANES];
		refusal = evwork_submit(run->loop, &task->job);
		if (refusal == -EAGAIN || (refusal == -EHOSTDOWN && i % LANES == 2))
			continue;
		task->accepted = step(run, refusal, LIBEVENT, "evwork_submit");
		run->accepted += task->accepted;
	}
	STEP(run, NOTHING, evwork_clock_jump(run->clock, 10 * SYS_NS_PER_MS));
	gate_open(&run->gate);
	run_until(run, &run->dones, run->accepted);
}

/* A queue without a limit that has to grow while its worker waits. */
static void scenario_unbounded(struct run *run)
{
	struct evwork_lane_options options = { 0 };
	struct task *task;

	if (!open_world(run, 1))
		return;
	options.queue_limit = EVWORK_UNBOUNDED;
	if (!STEP(run, MEMORY | LOCK, evwork_lane_new(run->pool, &options, &run->lane[0])))
		return;
	hold_worker(run);
	while (run->tasks < TASKS) {
		task = task_next(run, task_run);
		task->job.lane = run->lane[0];
		task_submit(run, task, MEMORY | LIBEVENT, 0);
	}
	gate_open(&run->gate);
	run_until(run, &run->dones, run->accepted);
}

/* A foreign thread that submits more than there is room for, and waits. */
struct waiter {
	struct run *run;
	struct evwork_ctx *ctx;
	struct evwork_lane *lane;
	struct task *task[8];
	int rc[8];
	atomic_int accepted;
	atomic_bool finished;
};

static void *waiter_run(void *arg)
{
	struct waiter *waiter = arg;
	size_t i;

	for (i = 0; i < LENGTH(waiter->task); i++) {
		waiter->task[i]->job.lane = waiter->lane;
		waiter->task[i]->job.ctx = waiter->ctx;
		waiter->rc[i] = evwork_submit_wait(waiter->run->loop, &waiter->task[i]->job);
	}
	atomic_store(&waiter->finished, true);
	return NULL;
}

static void waiter_serve(struct run *run, struct waiter *waiter)
{
	pthread_t thread;
	size_t i;

	for (i = 0; i < LENGTH(waiter->task); i++)
		waiter->task[i] = task_next(run, task_run);
	ck_assert_int_eq(pthread_create(&thread, NULL, waiter_run, waiter), 0);
	while (!atomic_load(&waiter->finished)) {
		run_turns(run, 1);
		sys_yield();
	}
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	for (i = 0; i < LENGTH(waiter->task); i++) {
		waiter->task[i]->accepted = step(run, waiter->rc[i], NOTHING,
			"evwork_submit_wait");
		run->accepted += waiter->task[i]->accepted;
	}
	run_until(run, &run->dones, run->accepted);
}

static void scenario_waiting(struct run *run)
{
	struct evwork_lane_options options = { 0 };
	struct waiter waiter = { 0 };

	if (!open_world(run, 1))
		return;
	options.queue_limit = 1;
	if (!STEP(run, MEMORY | LOCK, evwork_lane_new(run->pool, &options, &run->lane[0])))
		return;
	STEP(run, MEMORY | LOCK, evwork_ctx_new(NULL, &run->ctx[0]));
	waiter.run = run;
	waiter.lane = run->lane[0];
	waiter.ctx = run->ctx[0];
	waiter_serve(run, &waiter);
}

/* A loop and a pool are closed with one of everything on its way. */
static void scenario_close(struct run *run)
{
	if (!open_manual(run, 2))
		return;
	STEP(run, MEMORY | LOCK | LIBEVENT, evwork_ctx_with_timeout(NULL, run->loop, 10, 0,
		&run->ctx[0]));
	set_timers(run, 4, SYS_NS_PER_MS);
	set_watch(run, 0, run->ctx[0]);
	set_watch(run, 1, NULL);
	post_some(run, 3);
	hold_worker(run);
	task_submit(run, task_next(run, task_run), LIBEVENT, 0);
	STEP(run, NOTHING, evwork_pool_close(run->pool, EVWORK_CANCEL_QUEUED, run->loop,
		on_pool_closed, run));
	STEP(run, NOTHING, evwork_loop_close(run->loop, on_loop_closed, run));
	gate_open(&run->gate);
	run_until(run, &run->loop_closed, 1);
	run_until(run, &run->pool_closed, 1);
	run_until(run, &run->watches_called, run->watches_set);
}

/* Members of a group. */
static struct support_member in_group[20];

/* A group whose members run, wait in it, and fail; what was accepted ends once, and the
 * join, which needs nothing, comes. */
static void scenario_group(struct run *run)
{
	struct evwork_group_options options = { .limit = 3, .policy = EVWORK_COLLECT };
	struct support_join join = { .frees = true };
	struct evwork_group *group;
	int i, accepted = 0, dones = 0;

	if (!open_world(run, 2))
		return;
	if (!STEP(run, MEMORY | LOCK, evwork_group_new(run->loop, &options, &group)))
		return;
	for (i = 0; i < (int)LENGTH(in_group); i++) {
		support_member_init(&in_group[i], i % 7 == 5 ? 4711 : 0);
		accepted += STEP(run, MEMORY | LIBEVENT,
			evwork_group_go(group, &in_group[i].member));
	}
	STEP(run, NOTHING, evwork_group_join(group, support_join_fn, &join));
	run_until(run, &join.calls, 1);
	for (i = 0; i < (int)LENGTH(in_group); i++) {
		dones += in_group[i].dones;
		run_assert(run, in_group[i].dones == atomic_load(&in_group[i].runs),
			"a member had %d dones", in_group[i].dones);
	}
	run_assert(run, dones == accepted && join.free_rc == 0, "%d dones of %d members", dones,
		accepted);
}

struct scenario {
	const char *name;
	void (*play)(struct run *run);
};

static const struct scenario scenarios[] = {
	{ "pool", scenario_pool },
	{ "jobs", scenario_jobs },
	{ "posts", scenario_posts },
	{ "timers", scenario_timers },
	{ "contexts", scenario_contexts },
	{ "doomed jobs", scenario_doomed_jobs },
	{ "lanes", scenario_lanes },
	{ "unbounded lane", scenario_unbounded },
	{ "waiting", scenario_waiting },
	{ "close", scenario_close },
	{ "group", scenario_group },
};

/* Judging. */

/* Frees whatever the scenario has made; none of it may fail (S-GEN-14). */
static void run_clean_up(struct run *run)
{
	int i;

	for (i = 0; i < CONTEXTS; i++)
		evwork_ctx_unref(run->ctx[i]);
	for (i = 0; i < LANES; i++)
		STEP(run, NOTHING, evwork_lane_free(run->lane[i]));
	STEP(run, NOTHING, evwork_loop_free(run->loop));
	STEP(run, NOTHING, evwork_pool_free(run->pool));
	STEP(run, NOTHING, evwork_clock_free(run->clock));
}

static void run_check(struct run *run)
{
	int i;

	for (i = 0; i < run->tasks; i++)
		task_check(run, &run->task[i]);
	for (i = 0; i < TIMERS; i++)
		run_assert(run, run->timed[i].calls == (run->timed[i].set ? 1 : 0),
			"timer %d was called %d times", i, run->timed[i].calls);
	for (i = 0; i < CONTEXTS; i++)
		run_assert(run, run->watched[i].calls == (run->watched[i].set ? 1 : 0),
			"watch %d was called %d times", i, run->watched[i].calls);
	for (i = 0; i < GUARDS; i++)
		run_assert(run, atomic_load(&run->tally[i].granted) ==
			atomic_load(&run->tally[i].released), "guard %d: %d granted, %d released",
			i, atomic_load(&run->tally[i].granted),
			atomic_load(&run->tally[i].released));
	run_assert(run, run->posts_run == run->posts_accepted, "%d posts ran, %d were accepted",
		run->posts_run, run->posts_accepted);
	run_assert(run, run->values_destroyed == run->values_made,
		"%d values were destroyed, %d made", run->values_destroyed, run->values_made);
	run_assert(run, run->pool_closed <= 1 && run->loop_closed <= 1,
		"closed %d and %d times", run->pool_closed, run->loop_closed);
	run_assert(run, atomic_load(&run->workers_started) ==
		atomic_load(&run->workers_stopped), "%d workers started, %d stopped",
		atomic_load(&run->workers_started), atomic_load(&run->workers_stopped));
}

/* What there is outside of any run. */
struct inventory {
	size_t blocks;
	int fds, threads;
	long libevent_blocks;
};

static void inventory_take(struct inventory *inventory)
{
	inventory->blocks = sys_blocks();
	inventory->fds = support_fd_count();
	inventory->threads = support_thread_count();
	inventory->libevent_blocks = atomic_load(&shortage.blocks);
}

static void inventory_check(struct run *run, const struct inventory *before)
{
	int tries = 0;

	run_assert(run, sys_blocks() == before->blocks, "%zu blocks before, %zu after",
		before->blocks, sys_blocks());
	run_assert(run, atomic_load(&shortage.blocks) == before->libevent_blocks,
		"libevent: %ld blocks before, %ld after", before->libevent_blocks,
		atomic_load(&shortage.blocks));
	run_assert(run, support_fd_count() == before->fds, "%d descriptors before, %d after",
		before->fds, support_fd_count());
	/* The kernel shows a joined thread for a moment. */
	while (support_thread_count() > before->threads && tries++ < 100000)
		sys_yield();
	run_assert(run, support_thread_count() == before->threads,
		"%d threads before, %d after", before->threads, support_thread_count());
}

/* One run; returns whether the failing call was reached. */
static bool run_once(struct run *run, const struct scenario *scenario,
	const struct injection *injection, enum evwork_notify notify, int crowd)
{
	struct inventory before;
	bool reached;

	inventory_take(&before);
	memset(run, 0, sizeof(*run));
	run->name = scenario->name;
	run->injection = *injection;
	run->notify = notify;
	gate_init(&run->gate);
	run_open_base(run, crowd);
	injection_start(injection);
	scenario->play(run);
	gate_open(&run->gate);
	if (run->loop)
		run_until(run, &run->dones, run->accepted);
	run_clean_up(run);
	reached = injection_stop(injection);
	run_turns(run, 2);
	run_free_base(run);
	gate_fini(&run->gate);
	run_check(run);
	run_assert(run, reached || run->failures == 0, "%d steps failed without a cause",
		run->failures);
	inventory_check(run, &before);
	return reached;
}

static struct run the_run;

/* One sweep; returns how many calls of the kind the scenario makes. */
static int sweep(const struct scenario *scenario, enum sys_call kind, bool onwards,
	enum evwork_notify notify, int crowd)
{
	struct injection injection = { kind, 1, onwards };

	while (run_once(&the_run, scenario, &injection, notify, crowd))
		injection.k++;
	return injection.k - 1;
}

static int sweep_both(const struct scenario *scenario, enum sys_call kind,
	enum evwork_notify notify, int crowd)
{
	sweep(scenario, kind, true, notify, crowd);
	return sweep(scenario, kind, false, notify, crowd);
}

#ifdef HAVE_EVENTFD
#define NOTIFY_FIRST EVWORK_NOTIFY_EVENTFD
#else
#define NOTIFY_FIRST EVWORK_NOTIFY_PIPE
#endif

/* S-CRASH-8, S-GEN-14, S-GEN-2: with any one call to the system failing, and with
 * all from any one on, nothing crashes, hangs, leaks, is lost or comes twice; only
 * documented codes are returned, and what promises not to fail does not. */
START_TEST(each_failing_call_is_survived)
{
	const struct scenario *scenario = &scenarios[_i];
	int notify, kind;
	int calls[SYS_CALLS] = { 0 };

	for (notify = NOTIFY_FIRST; notify <= EVWORK_NOTIFY_PIPE; notify++)
		for (kind = 0; kind < SYS_CALLS; kind++)
			calls[kind] += sweep_both(scenario, (enum sys_call)kind,
				(enum evwork_notify)notify, 0);
	support_note("%s: %d allocations, %d threads, %d locks, %d descriptors failed",
		scenario->name, calls[SYS_MEMORY], calls[SYS_THREAD], calls[SYS_LOCK],
		calls[SYS_DESCRIPTOR]);
	/* Every scenario makes a pool and a loop, so it needs one of each kind. */
	for (kind = 0; kind < SYS_CALLS; kind++)
		ck_assert_msg(calls[kind] > 0, "no %s was asked for", fault_names[kind]);
}
END_TEST

/* S-CRASH-8, S-GEN-14: the same holds when libevent runs out of memory, whether
 * its heap of timers has room for all of a loop's, for one or for none. */
START_TEST(each_failing_allocation_of_libevent_is_survived)
{
	static const int crowds[] = { 0, CROWD - 1, CROWD };
	const struct scenario *scenario = &scenarios[_i];
	int notify, calls;
	size_t i;

	for (notify = NOTIFY_FIRST; notify <= EVWORK_NOTIFY_PIPE; notify++) {
		for (i = 0; i < LENGTH(crowds); i++) {
			calls = sweep_both(scenario, FAULT_LIBEVENT,
				(enum evwork_notify)notify, crowds[i]);
			ck_assert_msg(calls > 0, "libevent asked for no memory");
		}
	}
}
END_TEST

/* Pools. */

#define SQUAD 7

/* S-POOL-7, S-POOL-20: if the k-th thread cannot be made the pool is refused with
 * EAGAIN, the threads made before have ended and run their stop hooks, nothing is
 * left and the result is untouched; the next attempt works. */
START_TEST(pool_without_one_of_its_threads)
{
	struct evwork_pool_options options = { 0 };
	struct evwork_pool *pool = NULL;
	struct inventory before;
	struct run *run = &the_run;
	int k;

	memset(run, 0, sizeof(*run));
	run->name = "pool";
	run->injection.kind = SYS_THREAD;
	options.threads = SQUAD;
	options.on_start = worker_starts;
	options.on_stop = worker_stops;
	options.hook_arg = run;
	for (k = 1; k <= SQUAD; k++) {
		inventory_take(&before);
		run->injection.k = k;
		fault_start(SYS_THREAD, k, k % 2);
		ck_assert_int_eq(evwork_pool_new(&options, &pool), -EAGAIN);
		ck_assert_int_eq(fault_stop(), k);
		ck_assert_ptr_null(pool);
		ck_assert_int_eq(atomic_load(&run->workers_started),
			atomic_load(&run->workers_stopped));
		inventory_check(run, &before);
	}
	atomic_store(&run->workers_started, 0);
	atomic_store(&run->workers_stopped, 0);
	ck_assert_int_eq(evwork_pool_new(&options, &pool), 0);
	ck_assert_int_eq(atomic_load(&run->workers_started), SQUAD);
	ck_assert_int_eq(evwork_pool_free(pool), 0);
	ck_assert_int_eq(atomic_load(&run->workers_stopped), SQUAD);
}
END_TEST

static int one_refuses(int worker, void *arg)
{
	struct run *run = arg;

	if (worker == run->injection.k)
		return -EHOSTDOWN;
	return worker_starts(worker, arg);
}

/* S-POOL-20, S-POOL-7: a start hook that fails on any one worker makes the pool
 * fail with its code; the other workers' stop hooks run and nothing is left. */
START_TEST(pool_with_a_failing_start_hook)
{
	struct evwork_pool_options options = { 0 };
	struct evwork_pool *pool = NULL;
	struct inventory before;
	struct run *run = &the_run;
	int k;

	memset(run, 0, sizeof(*run));
	run->name = "pool";
	options.threads = SQUAD;
	options.on_start = one_refuses;
	options.on_stop = worker_stops;
	options.hook_arg = run;
	for (k = 0; k < SQUAD; k++) {
		inventory_take(&before);
		run->injection.k = k;
		ck_assert_int_eq(evwork_pool_new(&options, &pool), -EHOSTDOWN);
		ck_assert_ptr_null(pool);
		ck_assert_int_eq(atomic_load(&run->workers_started),
			atomic_load(&run->workers_stopped));
		inventory_check(run, &before);
	}
}
END_TEST

/* S-GEN-14, S-POOL-8, S-POOL-12, S-SHUT-3: with everything failing, what was
 * accepted before is cancelled, expires, runs, is delivered, closed and freed. */
START_TEST(endings_need_nothing)
{
	struct run *run = &the_run;
	struct task *task;
	int i;

	memset(run, 0, sizeof(*run));
	run->name = "endings";
	run->injection = (struct injection){ SYS_MEMORY, 1, true };
	gate_init(&run->gate);
	run_open_base(run, CROWD - 3);
	ck_assert(open_manual(run, 1) && open_lanes(run));
	make_contexts(run);
	hold_worker(run);
	for (i = 0; i < 12; i++) {
		task = task_next(run, task_run);
		task->job.ctx = run->ctx[i % 3];
		task->job.lane = run->lane[i % LANES];
		task_submit(run, task, NOTHING, -EHOSTDOWN);
	}
	for (i = 0; i < 3; i++)
		set_watch(run, i, run->ctx[i]);
	set_timers(run, 4, SYS_NS_PER_MS);
	post_some(run, 3);

	fault_start(SYS_CALLS, 1, true);
	shortage.onwards = true;
	atomic_store(&shortage.count, 0);
	shortage.k = 1;
	ck_assert_int_eq(evwork_cancel(&run->task[1].job), 0);
	STEP(run, NOTHING, evwork_clock_jump(run->clock, 12 * SYS_NS_PER_MS));
	STEP(run, NOTHING, evwork_ctx_cancel(run->ctx[0], 0));
	gate_open(&run->gate);
	run_until(run, &run->dones, run->accepted);
	run_until(run, &run->timers_called, run->timers_set);
	run_until(run, &run->watches_called, run->watches_set);
	run_until(run, &run->posts_run, run->posts_accepted);
	STEP(run, NOTHING, evwork_pool_close(run->pool, EVWORK_CANCEL_ALL, run->loop,
		on_pool_closed, run));
	run_until(run, &run->pool_closed, 1);
	STEP(run, NOTHING, evwork_loop_close(run->loop, on_loop_closed, run));
	run_until(run, &run->loop_closed, 1);
	run_clean_up(run);
	shortage.k = 0;
	ck_assert_int_eq(fault_stop(), 0);
	run_free_base(run);
	gate_fini(&run->gate);
	run_check(run);
}
END_TEST

/* S-GEN-2, S-DLV-7: a submit on the loop's thread that is refused leaves nothing
 * behind: dispatch returns as if it had not been. */
START_TEST(refused_submit_keeps_no_loop_alive)
{
	struct tally stern = { .guard = { tally_acquire, tally_release }, .refuse_every = 1 };
	struct evwork_guard *guards[] = { &stern.guard };
	struct evwork_lane_options options = { .guards = guards, .guard_count = 1 };
	struct evwork_lane *lane;
	struct evwork_job job;
	struct world world;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_lane_new(world.pool, &options, &lane), 0);
	evwork_job_init(&job, task_run, NULL);
	job.lane = lane;
	ck_assert_int_eq(evwork_submit(world.loop, &job), -EHOSTDOWN);
	world_run(&world);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	world_close(&world);
}
END_TEST

/* The plugged-in allocator. */

static struct {
	atomic_int calls;
	atomic_long held;
	atomic_int arg_wrong;
} plugged;

static void *plugged_allocate(size_t size, void *arg)
{
	atomic_fetch_add(&plugged.arg_wrong, arg != &plugged);
	atomic_fetch_add(&plugged.calls, 1);
	atomic_fetch_add(&plugged.held, 1);
	return malloc(size);
}

static void plugged_release(void *memory, void *arg)
{
	atomic_fetch_add(&plugged.arg_wrong, arg != &plugged);
	if (memory)
		atomic_fetch_sub(&plugged.held, 1);
	free(memory);
}

/* S-GEN-14: a plugged-in allocator serves all of the library's memory and gets all
 * of it back; it cannot be changed while any is held, nor lack a function. */
START_TEST(allocator_can_be_plugged_in)
{
	struct evwork_allocator allocator = {
		plugged_allocate, plugged_release, &plugged
	};
	struct evwork_allocator broken[2] = { allocator, allocator };
	struct injection never = { SYS_MEMORY, 1000000, false };
	struct evwork_ctx *ctx;
	size_t i;

	broken[0].allocate = NULL;
	broken[1].release = NULL;
	for (i = 0; i < LENGTH(broken); i++)
		ck_assert_int_eq(evwork_set_allocator(&broken[i]), -EINVAL);
	ck_assert_int_eq(evwork_set_allocator(&allocator), 0);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	ck_assert_int_ge(atomic_load(&plugged.calls), 1);
	ck_assert_int_eq(evwork_set_allocator(NULL), -EBUSY);
	ck_assert_int_eq(evwork_set_allocator(&allocator), -EBUSY);
	evwork_ctx_unref(ctx);
	for (i = 0; i < LENGTH(scenarios); i++) {
		run_once(&the_run, &scenarios[i], &never, EVWORK_NOTIFY_DEFAULT, 0);
		ck_assert_int_eq(atomic_load(&plugged.held), 0);
	}
	ck_assert_int_eq(atomic_load(&plugged.arg_wrong), 0);
	ck_assert_int_eq(evwork_set_allocator(NULL), 0);
}
END_TEST

static Suite *fail_suite(void)
{
	Suite *suite = suite_create("fail");
	TCase *tcase = support_case(suite, "sweep");

	tcase_add_loop_test(tcase, each_failing_call_is_survived, 0, LENGTH(scenarios));
	tcase_add_loop_test(tcase, each_failing_allocation_of_libevent_is_survived, 0,
		LENGTH(scenarios));

	tcase = support_case(suite, "pool");
	tcase_add_test(tcase, pool_without_one_of_its_threads);
	tcase_add_test(tcase, pool_with_a_failing_start_hook);

	tcase = support_case(suite, "memory");
	tcase_add_test(tcase, endings_need_nothing);
	tcase_add_test(tcase, refused_submit_keeps_no_loop_alive);
	tcase_add_test(tcase, allocator_can_be_plugged_in);
	return suite;
}

int main(void)
{
	/* Before libevent has allocated anything. */
	event_set_mem_functions(shortage_malloc, shortage_realloc, shortage_free);
	return support_run(fail_suite());
}
