/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Pools: how they are made and refused, what their workers are like, and how
 * several loops share one. Submitting, order, cancelling and detaching have
 * programs of their own, check_pool_*.c.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

/* What the library holds of the process. */
struct footprint {
	size_t blocks;
	int fds, threads;
};

static struct footprint footprint_take(void)
{
	struct footprint now = { sys_blocks(), support_fd_count(), support_thread_count() };

	return now;
}

/* A joined thread is gone for the program before it is for the kernel. */
static void footprint_check(struct footprint before)
{
	while (support_thread_count() > before.threads)
		sched_yield();
	ck_assert_uint_eq(sys_blocks(), before.blocks);
	ck_assert_int_eq(support_fd_count(), before.fds);
	ck_assert_int_eq(support_thread_count(), before.threads);
}

/* Runs one job on the pool of the world and waits for its done. */
static void run_one(struct world *world, struct probe *probe)
{
	ck_assert_int_eq(evwork_submit(world->loop, &probe->job), 0);
	world_run_until(world, &probe->dones, 1);
	ck_assert_int_eq(atomic_load(&probe->runs), 1);
}

/* Making a pool. */

static int threads_of(struct evwork_pool *pool)
{
	struct evwork_pool_stats stats;

	ck_assert_int_eq(evwork_pool_stats(pool, &stats), 0);
	return stats.threads;
}

/* Threads 0 means one worker for each CPU that the process may use, and so do
 * options of NULL (S-POOL-7). */
START_TEST(pool_threads_default)
{
	struct evwork_pool_options options = { 0 };
	struct evwork_pool *pool;

	ck_assert_int_eq(evwork_pool_new(&options, &pool), 0);
	ck_assert_int_eq(threads_of(pool), sys_cpu_count());
	ck_assert_int_eq(evwork_pool_free(pool), 0);
	ck_assert_int_eq(evwork_pool_new(NULL, &pool), 0);
	ck_assert_int_eq(threads_of(pool), sys_cpu_count());
	ck_assert_int_eq(evwork_pool_free(pool), 0);
}
END_TEST

static const int good_threads[] = { 1, 2, 7, EVWORK_THREADS_MAX };

/* Any number of threads from 1 to 1024 is made as asked, and all of them run
 * when the pool is there (S-POOL-7). */
START_TEST(pool_threads_asked)
{
	struct footprint before = footprint_take();
	struct evwork_pool_options options = { .stack_size = 256 * 1024 };
	struct evwork_pool *pool;

	options.threads = good_threads[_i];
	ck_assert_int_eq(evwork_pool_new(&options, &pool), 0);
	ck_assert_int_eq(threads_of(pool), good_threads[_i]);
	if (before.threads > 0)
		ck_assert_int_ge(support_thread_count(), before.threads + good_threads[_i]);
	ck_assert_int_eq(evwork_pool_free(pool), 0);
	footprint_check(before);
}
END_TEST

static const int bad_threads[] = { -1, INT_MIN, EVWORK_THREADS_MAX + 1, INT_MAX };

/* A number of threads outside 0 to 1024 is refused, not clamped (S-POOL-7). */
START_TEST(pool_threads_out_of_range)
{
	struct footprint before = footprint_take();
	struct evwork_pool_options options = { .threads = bad_threads[_i] };
	struct evwork_pool *pool = NULL;

	ck_assert_int_eq(evwork_pool_new(&options, &pool), -EINVAL);
	ck_assert_ptr_null(pool);
	footprint_check(before);
}
END_TEST

static struct evwork_guard no_guard;
static struct evwork_guard *const guard_list[] = { &no_guard };

/* Each one of these spoils a pool. */
static const struct evwork_pool_options bad_options[] = {
	{ .threads = 1, .stack_size = 1 },
	{ .threads = 1, .ageing = -1 },
	{ .threads = 1, .spin_us = -1 },
	{ .threads = 1, .hold_us = EVWORK_HOLD_OFF - 1 },
	{ .threads = 1, .lane = { .priority = EVWORK_PRIORITY_MAX + 1 } },
	{ .threads = 1, .lane = { .priority = -EVWORK_PRIORITY_MAX - 1 } },
	{ .threads = 1, .lane = { .max_running = EVWORK_HALF - 1 } },
	{ .threads = 1, .lane = { .max_running = EVWORK_THREADS_MAX + 1 } },
	{ .threads = 1, .lane = { .timeout_ms = -1 } },
	{ .threads = 1, .lane = { .guards = NULL, .guard_count = 1 } },
	{ .threads = 1, .lane = { .guards = guard_list, .guard_count = 1 } },
};

/* A pool with any option out of range is refused as a whole and leaves nothing
 * behind (S-GEN-10, S-POOL-20, S-LANE-1). */
START_TEST(pool_options_out_of_range)
{
	struct footprint before = footprint_take();
	struct evwork_pool *pool = NULL;

	ck_assert_int_eq(evwork_pool_new(&bad_options[_i], &pool), -EINVAL);
	ck_assert_ptr_null(pool);
	footprint_check(before);
}
END_TEST

/* Without a place for the result no pool is made (S-GEN-8). */
START_TEST(pool_new_null)
{
	struct footprint before = footprint_take();

	ck_assert_int_eq(evwork_pool_new(NULL, NULL), -EINVAL);
	footprint_check(before);
}
END_TEST

/* Statistics need both arguments, and freeing no pool is fine (S-GEN-8). */
START_TEST(pool_null_arguments)
{
	struct evwork_pool_options options = { .threads = 1 };
	struct evwork_pool_stats stats;
	struct evwork_pool *pool;

	ck_assert_int_eq(evwork_pool_new(&options, &pool), 0);
	ck_assert_int_eq(evwork_pool_stats(NULL, &stats), -EINVAL);
	ck_assert_int_eq(evwork_pool_stats(pool, NULL), -EINVAL);
	ck_assert_int_eq(evwork_pool_free(pool), 0);
	ck_assert_int_eq(evwork_pool_free(NULL), 0);
}
END_TEST

/* A stack one byte below the system's minimum is refused, the minimum itself is
 * taken (S-POOL-20). */
START_TEST(pool_stack_minimum)
{
	struct evwork_pool_options options = { .threads = 1 };
	struct evwork_pool *pool = NULL;

	options.stack_size = sys_stack_min() - 1;
	ck_assert_int_eq(evwork_pool_new(&options, &pool), -EINVAL);
	ck_assert_ptr_null(pool);
	options.stack_size = sys_stack_min();
	ck_assert_int_eq(evwork_pool_new(&options, &pool), 0);
	ck_assert_int_eq(evwork_pool_free(pool), 0);
}
END_TEST

/* Creation that fails. */

/* Lets each call of this kind fail in turn while a pool is made. */
static void fail_each(enum sys_call kind, int code)
{
	struct evwork_pool_options options = { .threads = 4 };
	struct footprint before = footprint_take();
	int k = 0, calls;

	do {
		struct evwork_pool *pool = NULL;
		int rc;

		fault_start(kind, ++k, false);
		rc = evwork_pool_new(&options, &pool);
		calls = fault_stop();
		ck_assert_int_eq(rc, calls >= k ? code : 0);
		ck_assert_int_eq(pool != NULL, rc == 0);
		ck_assert_int_eq(evwork_pool_free(pool), 0);
		footprint_check(before);
	} while (calls >= k);
	ck_assert_int_gt(k, 1);
}

/* If any one of the threads cannot be made, creation fails with EAGAIN and
 * leaves no thread, descriptor or memory behind (S-POOL-7). */
START_TEST(pool_new_without_threads)
{
	fail_each(SYS_THREAD, -EAGAIN);
}
END_TEST

/* If any one allocation fails, creation fails with ENOMEM and leaves nothing
 * behind (S-POOL-7, S-GEN-14). */
START_TEST(pool_new_without_memory)
{
	fail_each(SYS_MEMORY, -ENOMEM);
}
END_TEST

/* If any one lock cannot be made, creation fails with ENOMEM and leaves nothing
 * behind (S-POOL-7). */
START_TEST(pool_new_without_locks)
{
	fail_each(SYS_LOCK, -ENOMEM);
}
END_TEST

/* Hooks. */

#define HOOKED 4

struct hooks {
	atomic_int starts, stops;        /* calls */
	atomic_int started[HOOKED];      /* on_start returned 0 */
	atomic_int stopped[HOOKED];
	pthread_t start_thread[HOOKED], stop_thread[HOOKED];
	int failing, code;               /* the worker whose on_start fails; -1: none */
};

static int hook_start(int worker, void *arg)
{
	struct hooks *hooks = arg;

	atomic_fetch_add(&hooks->starts, 1);
	if (worker < 0 || worker >= HOOKED)
		return -ERANGE;
	if (worker == hooks->failing)
		return hooks->code;
	hooks->start_thread[worker] = pthread_self();
	atomic_fetch_add(&hooks->started[worker], 1);
	return 0;
}

static void hook_stop(int worker, void *arg)
{
	struct hooks *hooks = arg;

	atomic_fetch_add(&hooks->stops, 1);
	if (worker < 0 || worker >= HOOKED)
		return;
	hooks->stop_thread[worker] = pthread_self();
	atomic_fetch_add(&hooks->stopped[worker], 1);
}

static struct evwork_pool_options hooked_options(struct hooks *hooks, int failing, int code)
{
	struct evwork_pool_options options = {
		.threads = HOOKED, .on_start = hook_start, .on_stop = hook_stop, .hook_arg = hooks
	};

	memset(hooks, 0, sizeof(*hooks));
	hooks->failing = failing;
	hooks->code = code;
	return options;
}

/* The start hook has run once on each worker, with the worker's index, when the
 * pool is there; the stop hook runs once on the same thread before it ends
 * (S-POOL-20). */
START_TEST(pool_hooks)
{
	struct hooks hooks;
	struct evwork_pool_options options = hooked_options(&hooks, -1, 0);
	struct evwork_pool *pool;
	int i, k;

	ck_assert_int_eq(evwork_pool_new(&options, &pool), 0);
	ck_assert_int_eq(atomic_load(&hooks.starts), HOOKED);
	ck_assert_int_eq(atomic_load(&hooks.stops), 0);
	for (i = 0; i < HOOKED; i++) {
		ck_assert_int_eq(atomic_load(&hooks.started[i]), 1);
		ck_assert(!pthread_equal(hooks.start_thread[i], pthread_self()));
		for (k = 0; k < i; k++)
			ck_assert(!pthread_equal(hooks.start_thread[i], hooks.start_thread[k]));
	}
	ck_assert_int_eq(evwork_pool_free(pool), 0);
	ck_assert_int_eq(atomic_load(&hooks.stops), HOOKED);
	for (i = 0; i < HOOKED; i++) {
		ck_assert_int_eq(atomic_load(&hooks.stopped[i]), 1);
		ck_assert(pthread_equal(hooks.start_thread[i], hooks.stop_thread[i]));
	}
}
END_TEST

/* A start hook that fails on any of the workers fails the creation with its
 * code; the workers that had started run their stop hook, and nothing is left
 * behind (S-POOL-20). */
START_TEST(pool_hook_fails)
{
	struct footprint before = footprint_take();
	struct hooks hooks;
	struct evwork_pool_options options = hooked_options(&hooks, _i, -EIO);
	struct evwork_pool *pool = NULL;
	int i;

	ck_assert_int_eq(evwork_pool_new(&options, &pool), -EIO);
	ck_assert_ptr_null(pool);
	ck_assert_int_eq(atomic_load(&hooks.started[_i]), 0);
	for (i = 0; i < HOOKED; i++)
		ck_assert_int_eq(atomic_load(&hooks.stopped[i]), atomic_load(&hooks.started[i]));
	ck_assert_int_ge(atomic_load(&hooks.starts), 1);
	footprint_check(before);
}
END_TEST

/* If the last thread cannot be made, the workers that had started run their
 * stop hook before the call returns (S-POOL-7, S-POOL-20). */
START_TEST(pool_hooks_without_threads)
{
	struct footprint before = footprint_take();
	struct hooks hooks;
	struct evwork_pool_options options = hooked_options(&hooks, -1, 0);
	struct evwork_pool *pool = NULL;

	fault_start(SYS_THREAD, HOOKED, true);
	ck_assert_int_eq(evwork_pool_new(&options, &pool), -EAGAIN);
	fault_stop();
	ck_assert_int_eq(atomic_load(&hooks.stops), atomic_load(&hooks.starts));
	footprint_check(before);
}
END_TEST

/* Workers. */

/* What a worker sees of itself. */
struct view {
	struct probe probe;
	sigset_t mask;
	char name[64];
	size_t stack, guard;
};

static void look(struct probe *probe)
{
	struct view *view = EVWORK_CONTAINER(probe, struct view, probe);

	sigemptyset(&view->mask);
	pthread_sigmask(SIG_BLOCK, NULL, &view->mask);
#ifdef __linux__
	pthread_attr_t attributes;

	pthread_getname_np(pthread_self(), view->name, sizeof(view->name));
	if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
		pthread_attr_getstacksize(&attributes, &view->stack);
		pthread_attr_getguardsize(&attributes, &view->guard);
		pthread_attr_destroy(&attributes);
	}
#endif
}

static void view_worker(struct view *view, const struct evwork_pool_options *options)
{
	struct world world;

	memset(view, 0, sizeof(*view));
	probe_init(&view->probe, 0);
	view->probe.on_run = look;
	world_open_with(&world, options, NULL);
	run_one(&world, &view->probe);
	world_close(&world);
}

/* A worker has the asynchronous signals blocked and those open that a fault of
 * its own raises (S-POOL-20). */
START_TEST(pool_worker_signals)
{
	static const int asynchronous[] = {
		SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGALRM, SIGCHLD, SIGUSR1, SIGUSR2,
		SIGURG, SIGIO, SIGPROF, SIGVTALRM, SIGWINCH
	};
	static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
	struct evwork_pool_options options = { .threads = 1 };
	struct view view;
	size_t i;

	view_worker(&view, &options);
	for (i = 0; i < sizeof(asynchronous) / sizeof(asynchronous[0]); i++)
		ck_assert_int_eq(sigismember(&view.mask, asynchronous[i]), 1);
	for (i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		ck_assert_int_eq(sigismember(&view.mask, faults[i]), 0);
}
END_TEST

/* Making and freeing a pool leaves the signal mask of the caller as it was
 * (S-GEN-16). */
START_TEST(pool_caller_signals)
{
	struct evwork_pool_options options = { .threads = 2 };
	struct evwork_pool *pool;
	sigset_t before, after;
	int number;

	sigemptyset(&before);
	sigaddset(&before, SIGUSR1);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_sigmask(SIG_BLOCK, NULL, &before);
	ck_assert_int_eq(evwork_pool_new(&options, &pool), 0);
	ck_assert_int_eq(evwork_pool_free(pool), 0);
	sigemptyset(&after);
	pthread_sigmask(SIG_BLOCK, NULL, &after);
	for (number = 1; number < 32; number++)
		ck_assert_int_eq(sigismember(&after, number), sigismember(&before, number));
}
END_TEST

#ifdef __linux__

/* The workers are called "evwork-0" and so on unless the pool has a name
 * (S-POOL-20). */
START_TEST(pool_worker_name_default)
{
	struct evwork_pool_options options = { .threads = 1 };
	struct view view;

	view_worker(&view, &options);
	ck_assert_str_eq(view.name, "evwork-0");
}
END_TEST

/* The name of a pool is copied and names its workers, cut to what the system
 * takes (S-POOL-20, S-OBS-8). */
START_TEST(pool_worker_name_given)
{
	char name[] = "resize";
	struct evwork_pool_options options = { .threads = 1, .name = name };
	struct world world;
	struct view view = { .name = "" };

	view_worker(&view, &options);
	ck_assert_str_eq(view.name, "resize-0");
	options.name = "a-name-that-is-longer-than-the-system-takes";
	view_worker(&view, &options);
	ck_assert_int_eq(strncmp(view.name, options.name, 7), 0);
	ck_assert_uint_eq(strlen(view.name), 15);

	options.name = name;
	probe_init(&view.probe, 0);
	view.probe.on_run = look;
	world_open_with(&world, &options, NULL);
	memset(name, 'x', sizeof(name) - 1);
	run_one(&world, &view.probe);
	world_close(&world);
	ck_assert_str_eq(view.name, "resize-0");
}
END_TEST

/* A worker has a stack of 8 MiB by default or as large as asked for, and a guard
 * page below it (S-POOL-20, S-CRASH-10). */
START_TEST(pool_worker_stack)
{
	struct evwork_pool_options options = { .threads = 1 };
	struct view view;

	view_worker(&view, &options);
	ck_assert_uint_ge(view.stack, 8 * 1024 * 1024);
	ck_assert_uint_gt(view.guard, 0);
	options.stack_size = 17 * 1024 * 1024;
	view_worker(&view, &options);
	ck_assert_uint_ge(view.stack, 17 * 1024 * 1024);
	ck_assert_uint_gt(view.guard, 0);
}
END_TEST

/* A stack smaller than the default is taken as asked, not rounded up to it
 * (S-POOL-20). */
START_TEST(pool_worker_stack_small)
{
	struct evwork_pool_options options = { .threads = 1, .stack_size = 512 * 1024 };
	struct view view;

	view_worker(&view, &options);
	ck_assert_uint_ge(view.stack, 512 * 1024);
	ck_assert_uint_lt(view.stack, 8 * 1024 * 1024);
}
END_TEST

#endif

/* The statistics count the workers, and as busy those inside work (S-OBS-5). */
START_TEST(pool_stats_busy)
{
	struct evwork_pool_stats stats;
	struct gate_job jobs[2];
	struct world world;
	struct gate gate;
	int i;

	gate_init(&gate);
	world_open(&world, 3);
	ck_assert_int_eq(evwork_pool_stats(world.pool, &stats), 0);
	ck_assert_int_eq(stats.threads, 3);
	ck_assert_int_eq(stats.busy, 0);
	for (i = 0; i < 2; i++) {
		gate_job_init(&jobs[i], &gate);
		ck_assert_int_eq(evwork_submit(world.loop, &jobs[i].job), 0);
	}
	gate_await(&gate, 2);
	ck_assert_int_eq(evwork_pool_stats(world.pool, &stats), 0);
	ck_assert_int_eq(stats.threads, 3);
	ck_assert_int_eq(stats.busy, 2);
	gate_open(&gate);
	world_run(&world);
	ck_assert_int_eq(jobs[0].status, 0);
	ck_assert_int_eq(jobs[1].status, 0);
	world_close(&world);
	gate_fini(&gate);
}
END_TEST

/* The pool's default lane is one and the same for everybody, takes its settings
 * from the pool's options, and may also be named by a job (S-LANE-1). */
START_TEST(pool_default_lane)
{
	struct evwork_pool_options options = { .threads = 1 };
	struct world world;
	struct evwork_lane *lane;
	struct probe probe;

	world_open_with(&world, &options, NULL);
	lane = evwork_pool_lane(world.pool);
	ck_assert_ptr_nonnull(lane);
	ck_assert_ptr_eq(lane, evwork_pool_lane(world.pool));
	ck_assert_str_eq(evwork_lane_name(lane), "default");
	probe_init(&probe, 0);
	probe.job.lane = lane;
	run_one(&world, &probe);
	world_close(&world);

	options.lane.name = "mine";
	world_open_with(&world, &options, NULL);
	ck_assert_str_eq(evwork_lane_name(evwork_pool_lane(world.pool)), "mine");
	world_close(&world);
}
END_TEST

/* One pool, many loops. */

#define OUTCOMES 50

struct shore {
	struct event_base *base;
	struct evwork_loop *loop;
	struct probe probes[OUTCOMES];
	int arrived;
};

static void shore_arrive(struct probe *probe)
{
	struct shore *shore = probe->arg;

	shore->arrived++;
}

static void shore_prepare(struct shore *shore)
{
	int i;

	memset(shore, 0, sizeof(*shore));
	for (i = 0; i < OUTCOMES; i++) {
		probe_init(&shore->probes[i], i);
		shore->probes[i].arg = shore;
		shore->probes[i].on_done = shore_arrive;
	}
}

/* Two loops of one thread: running the base of one delivers only its outcomes,
 * and the other's wait for their own base (S-POOL-20, S-DLV-12). */
START_TEST(pool_two_loops)
{
	static struct shore shores[2];
	struct evwork_pool_options options = { .threads = 2 };
	struct evwork_pool *pool;
	int i, k;

	ck_assert_int_eq(evwork_pool_new(&options, &pool), 0);
	for (k = 0; k < 2; k++) {
		shore_prepare(&shores[k]);
		shores[k].base = event_base_new();
		ck_assert_int_eq(evwork_loop_new(shores[k].base, pool, NULL, &shores[k].loop), 0);
	}
	for (i = 0; i < OUTCOMES; i++)
		for (k = 0; k < 2; k++)
			ck_assert_int_eq(evwork_submit(shores[k].loop, &shores[k].probes[i].job), 0);
	ck_assert_int_ge(event_base_dispatch(shores[1].base), 0);
	ck_assert_int_eq(shores[1].arrived, OUTCOMES);
	ck_assert_int_eq(shores[0].arrived, 0);
	ck_assert_int_ge(event_base_dispatch(shores[0].base), 0);
	ck_assert_int_eq(shores[0].arrived, OUTCOMES);
	for (k = 0; k < 2; k++) {
		for (i = 0; i < OUTCOMES; i++)
			ck_assert_int_eq(shores[k].probes[i].status, i);
		ck_assert_int_eq(evwork_loop_free(shores[k].loop), 0);
		event_base_free(shores[k].base);
	}
	ck_assert_int_eq(evwork_pool_free(pool), 0);
}
END_TEST

struct island {
	struct shore shore;
	struct evwork_pool *pool;
	pthread_t thread;
	int errors;       /* calls that failed on this thread */
};

static void *island_live(void *arg)
{
	struct island *island = arg;
	struct shore *shore = &island->shore;
	int i;

	shore->base = event_base_new();
	if (!shore->base || evwork_loop_new(shore->base, island->pool, NULL, &shore->loop) != 0) {
		island->errors++;
		return NULL;
	}
	for (i = 0; i < OUTCOMES; i++)
		island->errors += evwork_submit(shore->loop, &shore->probes[i].job) != 0;
	island->errors += event_base_dispatch(shore->base) < 0;
	island->errors += evwork_loop_free(shore->loop) != 0;
	event_base_free(shore->base);
	return NULL;
}

/* Loops of several threads share one pool, and each outcome comes once, on the
 * thread of the loop that its job named (S-POOL-20, S-POOL-3). */
START_TEST(pool_many_loops)
{
	static struct island islands[4];
	struct evwork_pool_options options = { .threads = 2 };
	struct evwork_pool *pool;
	int i, k;

	ck_assert_int_eq(evwork_pool_new(&options, &pool), 0);
	for (k = 0; k < 4; k++) {
		islands[k].pool = pool;
		islands[k].errors = 0;
		shore_prepare(&islands[k].shore);
		ck_assert_int_eq(pthread_create(&islands[k].thread, NULL, island_live, &islands[k]), 0);
	}
	for (k = 0; k < 4; k++)
		pthread_join(islands[k].thread, NULL);
	for (k = 0; k < 4; k++) {
		ck_assert_int_eq(islands[k].errors, 0);
		for (i = 0; i < OUTCOMES; i++) {
			struct probe *probe = &islands[k].shore.probes[i];

			ck_assert_int_eq(probe->dones, 1);
			ck_assert_int_eq(probe->status, i);
			ck_assert(pthread_equal(probe->done_thread, islands[k].thread));
		}
	}
	ck_assert_int_eq(evwork_pool_free(pool), 0);
}
END_TEST

static void add_creation(Suite *suite)
{
	TCase *tcase = support_case(suite, "creation");

	tcase_add_test(tcase, pool_threads_default);
	tcase_add_loop_test(tcase, pool_threads_asked, 0,
		sizeof(good_threads) / sizeof(good_threads[0]));
	tcase_add_loop_test(tcase, pool_threads_out_of_range, 0,
		sizeof(bad_threads) / sizeof(bad_threads[0]));
	tcase_add_loop_test(tcase, pool_options_out_of_range, 0,
		sizeof(bad_options) / sizeof(bad_options[0]));
	tcase_add_test(tcase, pool_new_null);
	tcase_add_test(tcase, pool_null_arguments);
	tcase_add_test(tcase, pool_stack_minimum);
	tcase_add_test(tcase, pool_new_without_threads);
	tcase_add_test(tcase, pool_new_without_memory);
	tcase_add_test(tcase, pool_new_without_locks);
	tcase_add_test(tcase, pool_hooks);
	tcase_add_loop_test(tcase, pool_hook_fails, 0, HOOKED);
	tcase_add_test(tcase, pool_hooks_without_threads);
}

static void add_workers(Suite *suite)
{
	TCase *tcase = support_case(suite, "workers");

	tcase_add_test(tcase, pool_worker_signals);
	tcase_add_test(tcase, pool_caller_signals);
#ifdef __linux__
	tcase_add_test(tcase, pool_worker_name_default);
	tcase_add_test(tcase, pool_worker_name_given);
	tcase_add_test(tcase, pool_worker_stack);
	tcase_add_test(tcase, pool_worker_stack_small);
#else
	support_note("thread names and stack sizes cannot be asked for here");
#endif
	tcase_add_test(tcase, pool_stats_busy);
	tcase_add_test(tcase, pool_default_lane);
	tcase_add_test(tcase, pool_two_loops);
	tcase_add_test(tcase, pool_many_loops);
}

static Suite *suite(void)
{
	Suite *suite = suite_create("pool");

	add_creation(suite);
	add_workers(suite);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
