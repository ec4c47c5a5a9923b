/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Work that ends its thread: the job's outcome, the thread that takes over, and a pool
 * that finds none.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>

enum { EXITS = 10, BEHIND = 100, FEW = 5 };

/* What the hooks of a pool have seen. */
static atomic_int starts, stops, start_fails;

static int count_start(int worker, void *arg)
{
	(void)worker;
	(void)arg;
	atomic_fetch_add(&starts, 1);
	return atomic_load(&start_fails) ? -EIO : 0;
}

static void count_stop(int worker, void *arg)
{
	(void)worker;
	(void)arg;
	atomic_fetch_add(&stops, 1);
}

static void open_counted(struct world *world, int threads)
{
	struct evwork_pool_options options = {
		.threads = threads, .on_start = count_start, .on_stop = count_stop
	};

	atomic_store(&starts, 0);
	atomic_store(&stops, 0);
	atomic_store(&start_fails, 0);
	world_open_with(world, &options, NULL);
}

static void exit_run(struct probe *probe)
{
	(void)probe;
	pthread_exit(NULL);
}

static void init_exit(struct probe *probe)
{
	probe_init(probe, 5);
	probe->on_run = exit_run;
}

static void submit(struct world *world, struct probe *probe)
{
	ck_assert_int_eq(evwork_submit(world->loop, &probe->job), 0);
}

static void expect_outcome(const struct probe *probe, int status, int ran)
{
	ck_assert_int_eq(probe->dones, 1);
	ck_assert_int_eq(probe->status, status);
	ck_assert_int_eq(probe->ran, ran);
	ck_assert_int_eq(probe->abandoned, 0);
	ck_assert_int_eq(atomic_load(&probe->runs), ran);
}

static int threads_of(struct world *world)
{
	struct evwork_pool_stats stats;

	ck_assert_int_eq(evwork_pool_stats(world->pool, &stats), 0);
	return stats.threads;
}

/* As many jobs as there should be workers run at once. */
static void expect_workers(struct world *world, int count)
{
	struct gate_job jobs[4];
	struct gate gate;
	int i;

	ck_assert_int_eq(threads_of(world), count);
	gate_init(&gate);
	for (i = 0; i < count; i++) {
		gate_job_init(&jobs[i], &gate);
		ck_assert_int_eq(evwork_submit(world->loop, &jobs[i].job), 0);
	}
	gate_await(&gate, count);
	gate_open(&gate);
	world_run(world);
	for (i = 0; i < count; i++)
		ck_assert_int_eq(jobs[i].status, 0);
	gate_fini(&gate);
}

/* Thread and job. */

/* Ten jobs that end their threads, on two workers: each has its done once, with
 * EOWNERDEAD and ran 1, and afterwards there are two workers as before. The hooks run on
 * each thread (S-CRASH-2, S-POOL-20). */
START_TEST(exit_contained)
{
	struct probe exits[EXITS], after;
	struct world world;
	int i;

	open_counted(&world, 2);
	for (i = 0; i < EXITS; i++) {
		init_exit(&exits[i]);
		submit(&world, &exits[i]);
	}
	probe_init(&after, 7);
	submit(&world, &after);
	world_run(&world);
	for (i = 0; i < EXITS; i++)
		expect_outcome(&exits[i], -EOWNERDEAD, 1);
	expect_outcome(&after, 7, 1);
	expect_workers(&world, 2);
	ck_assert_int_eq(atomic_load(&starts), 2 + EXITS);
	ck_assert_int_eq(atomic_load(&stops), EXITS);
	world_close(&world);
	ck_assert_int_eq(atomic_load(&stops), 2 + EXITS);
}
END_TEST

/* What a worker has set aside behind a job that ends its thread runs all the same, once
 * and in order (S-CRASH-2, S-POOL-4). */
START_TEST(exit_before_set_aside)
{
	static struct probe behind[BEHIND];
	struct gate_job first;
	struct world world;
	struct gate gate;
	struct probe exits[2];
	int i;

	world_open(&world, 1);
	gate_init(&gate);
	gate_job_init(&first, &gate);
	ck_assert_int_eq(evwork_submit(world.loop, &first.job), 0);
	gate_await(&gate, 1);
	for (i = 0; i < BEHIND; i++) {
		if (i % (BEHIND / 2) == 0) {
			init_exit(&exits[i / (BEHIND / 2)]);
			submit(&world, &exits[i / (BEHIND / 2)]);
		}
		probe_init(&behind[i], i);
		submit(&world, &behind[i]);
	}
	gate_open(&gate);
	world_run(&world);
	expect_outcome(&exits[0], -EOWNERDEAD, 1);
	expect_outcome(&exits[1], -EOWNERDEAD, 1);
	for (i = 0; i < BEHIND; i++) {
		expect_outcome(&behind[i], i, 1);
		ck_assert_int_eq(behind[i].run_order, 2 + i + i / (BEHIND / 2));
	}
	gate_fini(&gate);
	world_close(&world);
}
END_TEST

static void wait_for_cancel(struct probe *probe)
{
	gate_pass(probe->arg);
#ifdef __SANITIZE_THREAD__
	/* The race detector loses its way when a call that it watches does not return. */
	for (;;)
		pthread_testcancel();
#else
	for (;;)
		pause();
#endif
}

/* Another thread may cancel the thread of a job that comes to a cancellation point, with
 * the same outcome (S-CRASH-2). */
START_TEST(cancel_contained)
{
	struct probe probe;
	struct world world;
	struct gate gate;

	world_open(&world, 2);
	gate_init(&gate);
	gate_open(&gate);
	probe_init(&probe, 0);
	probe.on_run = wait_for_cancel;
	probe.arg = &gate;
	submit(&world, &probe);
	gate_await(&gate, 1);
	ck_assert_int_eq(pthread_cancel(probe.run_thread), 0);
	world_run(&world);
	expect_outcome(&probe, -EOWNERDEAD, 1);
	expect_workers(&world, 2);
	gate_fini(&gate);
	world_close(&world);
}
END_TEST

static void test_cancel(struct probe *probe)
{
	(void)probe;
	pthread_testcancel();
}

/* A cancel that meets a worker between jobs hurts nothing of the library: the worker
 * goes on until a job comes to a cancellation point (S-CRASH-2). */
START_TEST(cancel_idle)
{
	struct probe first, second, third;
	struct world world;
	int i;

	world_open(&world, 1);
	probe_init(&first, 1);
	submit(&world, &first);
	world_run(&world);
	ck_assert_int_eq(pthread_cancel(first.run_thread), 0);
	/* Several turns of sleeping and waking. */
	for (i = 0; i < EXITS; i++) {
		probe_init(&second, 2);
		submit(&world, &second);
		world_run(&world);
		expect_outcome(&second, 2, 1);
		ck_assert(pthread_equal(first.run_thread, second.run_thread));
	}
	probe_init(&third, 3);
	third.on_run = test_cancel;
	submit(&world, &third);
	world_run(&world);
	expect_outcome(&third, -EOWNERDEAD, 1);
	expect_workers(&world, 1);
	world_close(&world);
}
END_TEST

struct waiter {
	struct probe probe, other;
	struct world *world;    /* of the other pool */
	struct gate gate;
	int rc;
};

static void wait_and_test(struct probe *probe)
{
	struct waiter *waiter = EVWORK_CONTAINER(probe, struct waiter, probe);

	gate_pass(&waiter->gate);
	waiter->rc = evwork_submit_wait(waiter->world->loop, &waiter->other.job);
	pthread_testcancel();
}

/* Nor is a blocking call of the library a cancellation point: work that is cancelled in
 * evwork_submit_wait gets its answer first (S-CRASH-2). */
START_TEST(cancel_in_wait)
{
	struct evwork_pool_options options = { .threads = 1, .lane = { .queue_limit = 1 } };
	struct gate_job busy, queued;
	struct world world, full;
	struct waiter waiter;
	struct gate gate;

	world_open(&world, 1);
	world_open_with(&full, &options, NULL);
	gate_init(&gate);
	gate_job_init(&busy, &gate);
	gate_job_init(&queued, &gate);
	ck_assert_int_eq(evwork_submit(full.loop, &busy.job), 0);
	gate_await(&gate, 1);
	ck_assert_int_eq(evwork_submit(full.loop, &queued.job), 0);
	waiter.world = &full;
	waiter.rc = 1;
	gate_init(&waiter.gate);
	gate_open(&waiter.gate);
	probe_init(&waiter.other, 2);
	probe_init(&waiter.probe, 1);
	waiter.probe.on_run = wait_and_test;
	submit(&world, &waiter.probe);
	gate_await(&waiter.gate, 1);
	ck_assert_int_eq(pthread_cancel(waiter.probe.run_thread), 0);
	gate_open(&gate);
	world_run(&world);
	expect_outcome(&waiter.probe, -EOWNERDEAD, 1);
	ck_assert_int_eq(waiter.rc, 0);
	/* It came from another thread, so the loop does not wait for it. */
	world_run_until(&full, &waiter.other.dones, 1);
	world_run(&full);
	expect_outcome(&waiter.other, 2, 1);
	gate_fini(&waiter.gate);
	gate_fini(&gate);
	world_close(&full);
	world_close(&world);
}
END_TEST

/* Deferred functions. */

enum act { ACT_NOTE, ACT_EXIT, ACT_PANIC };

struct deferring {
	struct probe probe;
	struct deferred {
		struct evwork_defer defer;
		struct deferring *deferring;
		enum act act;
		int order;
	} deferred[4];
	enum act act;           /* of work itself */
	int called;
	char text[64];
};

static void act(struct deferring *deferring, enum act act, const char *text)
{
	if (act == ACT_EXIT)
		pthread_exit(NULL);
	if (act == ACT_PANIC)
		evwork_panic(&deferring->probe.job, "%s", text);
}

static void deferred_call(void *arg)
{
	struct deferred *deferred = arg;

	deferred->order = ++deferred->deferring->called;
	act(deferred->deferring, deferred->act, "deferred");
}

static void deferring_run(struct probe *probe)
{
	struct deferring *deferring = EVWORK_CONTAINER(probe, struct deferring, probe);
	int i;

	for (i = 0; i < 4; i++) {
		struct deferred *deferred = &deferring->deferred[i];

		deferred->deferring = deferring;
		if (evwork_defer(&probe->job, &deferred->defer, deferred_call, deferred) != 0)
			abort();
	}
	act(deferring, deferring->act, "work");
}

static void deferring_done(struct probe *probe)
{
	struct deferring *deferring = EVWORK_CONTAINER(probe, struct deferring, probe);

	strcpy(deferring->text, evwork_job_panic_text(&probe->job));
}

/* However work and its deferred functions end, all of these are called once, the last
 * first, and the text is that of the first panic (S-CRASH-12, S-CRASH-2,
 * S-CRASH-11). */
START_TEST(exit_calls_deferred)
{
	static const struct {
		enum act work, deferred[4];
		const char *text;
	} cases[] = {
		{ ACT_EXIT, { ACT_NOTE, ACT_NOTE, ACT_NOTE, ACT_NOTE }, "" },
		{ ACT_NOTE, { ACT_NOTE, ACT_EXIT, ACT_NOTE, ACT_NOTE }, "" },
		{ ACT_EXIT, { ACT_NOTE, ACT_EXIT, ACT_EXIT, ACT_NOTE }, "" },
		{ ACT_EXIT, { ACT_EXIT, ACT_NOTE, ACT_PANIC, ACT_NOTE }, "deferred" },
		{ ACT_PANIC, { ACT_NOTE, ACT_PANIC, ACT_NOTE, ACT_EXIT }, "work" },
		{ ACT_PANIC, { ACT_PANIC, ACT_EXIT, ACT_PANIC, ACT_EXIT }, "work" },
	};
	struct world world;
	size_t i;
	int k;

	world_open(&world, 1);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct deferring deferring;

		memset(&deferring, 0, sizeof(deferring));
		probe_init(&deferring.probe, 0);
		deferring.probe.on_run = deferring_run;
		deferring.probe.on_done = deferring_done;
		deferring.act = cases[i].work;
		for (k = 0; k < 4; k++)
			deferring.deferred[k].act = cases[i].deferred[k];
		submit(&world, &deferring.probe);
		world_run(&world);
		expect_outcome(&deferring.probe, -EOWNERDEAD, 1);
		ck_assert_str_eq(deferring.text, cases[i].text);
		for (k = 0; k < 4; k++)
			ck_assert_int_eq(deferring.deferred[k].order, 4 - k);
		ck_assert_int_eq(deferring.called, 4);
	}
	expect_workers(&world, 1);
	world_close(&world);
}
END_TEST

struct unwound {
	struct probe probe;
	struct evwork_defer defer;
	int calls;
};

static void note_one(void *arg)
{
	struct unwound *unwound = arg;

	unwound->calls = unwound->calls * 10 + 1;
}

static void note_two(void *arg)
{
	struct unwound *unwound = arg;

	unwound->calls = unwound->calls * 10 + 2;
}

static void unwound_run(struct probe *probe)
{
	struct unwound *unwound = EVWORK_CONTAINER(probe, struct unwound, probe);

	if (evwork_defer(&probe->job, &unwound->defer, note_two, unwound) != 0)
		abort();
	pthread_cleanup_push(note_one, unwound);
	pthread_exit(NULL);
	pthread_cleanup_pop(0);
}

/* Unwinding runs the clean-up handlers of work, then passes through the library and
 * runs what that has to clean up (S-CRASH-5, S-CRASH-2). */
START_TEST(exit_unwinds)
{
	struct unwound unwound;
	struct world world;

	memset(&unwound, 0, sizeof(unwound));
	world_open(&world, 1);
	probe_init(&unwound.probe, 0);
	unwound.probe.on_run = unwound_run;
	submit(&world, &unwound.probe);
	world_run(&world);
	expect_outcome(&unwound.probe, -EOWNERDEAD, 1);
	ck_assert_int_eq(unwound.calls, 12);
	world_close(&world);
}
END_TEST

/* What a job holds. */

static atomic_int guard_held, guard_failures;

static int count_acquire(struct evwork_guard *guard, const struct evwork_job *job,
	struct evwork_permit *permit)
{
	(void)guard;
	(void)job;
	(void)permit;
	atomic_fetch_add(&guard_held, 1);
	return 0;
}

static void count_release(struct evwork_guard *guard, const struct evwork_permit *permit,
	const struct evwork_end *end)
{
	(void)guard;
	(void)permit;
	atomic_fetch_sub(&guard_held, 1);
	if (end->outcome == EVWORK_FAILURE && end->status == -EOWNERDEAD)
		atomic_fetch_add(&guard_failures, 1);
}

static struct evwork_guard count_guard = { count_acquire, count_release };

/* Permits, the place under the cap and the context of a job that ends its thread are
 * given back, once (S-CRASH-2, S-CRASH-4, S-LANE-3, S-LANE-4). */
START_TEST(exit_gives_back)
{
	struct evwork_guard *guards[] = { &count_guard };
	struct evwork_lane_options options = {
		.guards = guards, .guard_count = 1, .max_running = 1
	};
	struct evwork_lane_stats stats;
	struct evwork_lane *lane;
	struct probe probes[FEW];
	struct evwork_ctx *ctx;
	struct world world;
	int i;

	atomic_store(&guard_held, 0);
	atomic_store(&guard_failures, 0);
	world_open(&world, 2);
	ck_assert_int_eq(evwork_lane_new(world.pool, &options, &lane), 0);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	for (i = 0; i < FEW; i++) {
		init_exit(&probes[i]);
		probes[i].job.lane = lane;
		probes[i].job.ctx = ctx;
		submit(&world, &probes[i]);
	}
	world_run(&world);
	for (i = 0; i < FEW; i++)
		expect_outcome(&probes[i], -EOWNERDEAD, 1);
	ck_assert_int_eq(atomic_load(&guard_held), 0);
	ck_assert_int_eq(atomic_load(&guard_failures), FEW);
	ck_assert_int_eq(evwork_lane_stats(lane, &stats), 0);
	ck_assert_uint_eq(stats.crashed, FEW);
	ck_assert_uint_eq(stats.delivered, FEW);
	evwork_ctx_unref(ctx);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	expect_workers(&world, 2);
	world_close(&world);
}
END_TEST

struct detached {
	struct probe probe;
	struct gate gate;
	int drops;
};

static void detached_run(struct probe *probe)
{
	gate_pass(&EVWORK_CONTAINER(probe, struct detached, probe)->gate);
	pthread_exit(NULL);
}

static void detached_drop(struct evwork_job *job)
{
	EVWORK_CONTAINER(job, struct detached, probe.job)->drops++;
}

static void detached_start(struct detached *detached, struct world *world)
{
	memset(detached, 0, sizeof(*detached));
	gate_init(&detached->gate);
	probe_init(&detached->probe, 0);
	detached->probe.on_run = detached_run;
	detached->probe.job.drop = detached_drop;
	ck_assert_int_eq(evwork_job_set_detach(&detached->probe.job, 1), 0);
	submit(world, &detached->probe);
	gate_await(&detached->gate, 1);
}

/* An abandoned job that ends its thread gets its drop; one that was not abandoned
 * has its done (S-CRASH-2, S-POOL-14). */
START_TEST(exit_detached)
{
	struct detached abandoned, delivered;
	struct world world;

	world_open(&world, 2);
	detached_start(&abandoned, &world);
	detached_start(&delivered, &world);
	ck_assert_int_eq(evwork_cancel(&abandoned.probe.job), -EBUSY);
	world_run_until(&world, &abandoned.probe.dones, 1);
	ck_assert_int_eq(abandoned.probe.status, -ECANCELED);
	ck_assert_int_eq(abandoned.probe.abandoned, 1);
	ck_assert_int_eq(abandoned.drops, 0);
	gate_open(&abandoned.gate);
	gate_open(&delivered.gate);
	world_run_until(&world, &abandoned.drops, 1);
	world_run(&world);
	ck_assert_int_eq(abandoned.probe.dones, 1);
	ck_assert_int_eq(abandoned.drops, 1);
	expect_outcome(&delivered.probe, -EOWNERDEAD, 1);
	ck_assert_int_eq(delivered.drops, 0);
	expect_workers(&world, 2);
	gate_fini(&abandoned.gate);
	gate_fini(&delivered.gate);
	world_close(&world);
}
END_TEST

/* A pool may be freed as soon as it has nothing to do, although the thread of an
 * abandoned job may still be ending; nothing is left behind (S-CRASH-2, S-SHUT-10). */
START_TEST(exit_then_freed)
{
	struct detached detached;
	struct world world;
	int i, rounds = 200 / support_slow();

	for (i = 0; i < rounds; i++) {
		world_open(&world, 1);
		detached_start(&detached, &world);
		evwork_cancel(&detached.probe.job);
		world_run_until(&world, &detached.probe.dones, 1);
		gate_open(&detached.gate);
		world_run_until(&world, &detached.drops, 1);
		world_run(&world);
		gate_fini(&detached.gate);
		world_close(&world);
	}
}
END_TEST

/* Closing. */

static int closed;

static void on_closed(struct evwork_pool *pool, int status, void *arg)
{
	(void)pool;
	(void)arg;
	ck_assert_int_eq(status, 0);
	closed++;
}

static void begin_close(struct world *world, enum evwork_close_mode mode)
{
	closed = 0;
	ck_assert_int_eq(evwork_pool_close(world->pool, mode, world->loop, on_closed, NULL), 0);
}

/* Jobs that end their threads, panic, and do neither, one after the other. */
static void mixed_run(struct probe *probe)
{
	switch (probe->result % 3) {
	case 0:
		pthread_exit(NULL);
		break;
	case 1:
		evwork_panic(&probe->job, "mixed");
	default:
		break;
	}
}

static void close_mixed(enum evwork_close_mode mode)
{
	static struct probe mixed[BEHIND];
	struct world world;
	int i;

	world_open(&world, 2);
	for (i = 0; i < BEHIND; i++) {
		probe_init(&mixed[i], i);
		mixed[i].on_run = mixed_run;
		submit(&world, &mixed[i]);
	}
	begin_close(&world, mode);
	world_run(&world);
	ck_assert_int_eq(closed, 1);
	for (i = 0; i < BEHIND; i++) {
		int ran = mode == EVWORK_DRAIN || mixed[i].ran;

		expect_outcome(&mixed[i], !ran ? -ECANCELED : i % 3 == 2 ? i : -EOWNERDEAD, ran);
	}
	world_close(&world);
}

/* A pool that drains replaces what its jobs end, until all have run; and it is closed
 * after the last done and the last thread (S-CRASH-2, S-SHUT-5). */
START_TEST(exit_while_draining)
{
	int i;

	for (i = 0; i < 20 / support_slow() + 1; i++)
		close_mixed(EVWORK_DRAIN);
}
END_TEST

/* Nor does it get in the way of the other modes (S-CRASH-2, S-SHUT-5). */
START_TEST(exit_while_cancelling)
{
	int i;

	for (i = 0; i < 20 / support_slow() + 1; i++) {
		close_mixed(EVWORK_CANCEL_QUEUED);
		close_mixed(EVWORK_CANCEL_ALL);
	}
}
END_TEST

/* The last job of a pool that drains ends its thread: no other is made (S-CRASH-2). */
START_TEST(exit_as_last)
{
	struct detached last;
	struct world world;

	world_open(&world, 1);
	detached_start(&last, &world);
	begin_close(&world, EVWORK_DRAIN);
	fault_start(SYS_THREAD, 0, false);
	gate_open(&last.gate);
	world_run(&world);
	ck_assert_int_eq(fault_stop(), 0);
	expect_outcome(&last.probe, -EOWNERDEAD, 1);
	ck_assert_int_eq(closed, 1);
	gate_fini(&last.gate);
	world_close(&world);
}
END_TEST

/* No replacement. */

static atomic_int reports;

static void report(enum evwork_log_level level, const char *text, void *arg)
{
	(void)arg;
	if (level == EVWORK_LOG_ERROR && strstr(text, "could not be replaced"))
		atomic_fetch_add(&reports, 1);
}

static void begin_reports(void)
{
	atomic_store(&reports, 0);
	evwork_set_log(report, NULL);
}

/* If no thread can be made the pool says so once and goes on with fewer; each submit
 * tries again (S-CRASH-3). */
START_TEST(fewer_workers)
{
	struct probe exits, after[3];
	struct world world;
	int i;

	world_open(&world, 2);
	begin_reports();
	init_exit(&exits);
	fault_start(SYS_THREAD, 1, true);
	submit(&world, &exits);
	world_run(&world);
	expect_outcome(&exits, -EOWNERDEAD, 1);
	ck_assert_int_eq(atomic_load(&reports), 1);
	ck_assert_int_eq(threads_of(&world), 1);
	for (i = 0; i < 3; i++) {
		probe_init(&after[i], i);
		submit(&world, &after[i]);
	}
	world_run(&world);
	for (i = 0; i < 3; i++)
		expect_outcome(&after[i], i, 1);
	ck_assert_int_eq(threads_of(&world), 1);
	ck_assert_int_eq(fault_stop(), 4);
	probe_init(&after[0], 0);
	submit(&world, &after[0]);
	world_run(&world);
	expect_workers(&world, 2);
	ck_assert_int_eq(atomic_load(&reports), 1);
	evwork_set_log(NULL, NULL);
	world_close(&world);
}
END_TEST

/* Makes the only worker end, with jobs queued behind; no thread can be made until
 * fault_stop. */
static void strand(struct world *world, struct probe queued[FEW])
{
	struct detached last;
	int i;

	detached_start(&last, world);
	for (i = 0; i < FEW; i++) {
		probe_init(&queued[i], 0);
		submit(world, &queued[i]);
	}
	fault_start(SYS_THREAD, 1, true);
	gate_open(&last.gate);
	world_run(world);
	expect_outcome(&last.probe, -EOWNERDEAD, 1);
	for (i = 0; i < FEW; i++) {
		expect_outcome(&queued[i], -EAGAIN, 0);
		ck_assert_int_gt(queued[i].done_order, last.probe.done_order);
		ck_assert(i == 0 || queued[i].done_order > queued[i - 1].done_order);
	}
	ck_assert_int_eq(threads_of(world), 0);
	gate_fini(&last.gate);
}

/* With no worker left what is queued ends with EAGAIN, not run, and a submit is refused;
 * as soon as a thread can be made the pool works again (S-CRASH-3). */
START_TEST(no_workers)
{
	struct probe queued[FEW], after;
	struct world world;
	int i;

	world_open(&world, 1);
	strand(&world, queued);
	probe_init(&after, 3);
	for (i = 0; i < 2; i++)
		ck_assert_int_eq(evwork_submit(world.loop, &after.job), -EAGAIN);
	ck_assert_int_eq(fault_stop(), 3);
	submit(&world, &after);
	world_run(&world);
	expect_outcome(&after, 3, 1);
	expect_workers(&world, 1);
	world_close(&world);
}
END_TEST

/* A pool without workers can be closed, and freed, like any other (S-CRASH-3,
 * S-SHUT-5). */
START_TEST(no_workers_closed)
{
	struct probe queued[FEW];
	struct world world;

	world_open(&world, 1);
	strand(&world, queued);
	fault_stop();
	begin_close(&world, EVWORK_DRAIN);
	world_run(&world);
	ck_assert_int_eq(closed, 1);
	ck_assert_int_eq(evwork_submit(world.loop, &queued[0].job), -ESHUTDOWN);
	world_close(&world);
	world_open(&world, 1);
	strand(&world, queued);
	fault_stop();
	world_close(&world);
}
END_TEST

/* The last worker of a pool that drains: what is queued ends, and so does the pool
 * (S-CRASH-3, S-SHUT-5). */
START_TEST(no_workers_draining)
{
	struct probe queued[FEW];
	struct detached last;
	struct world world;
	int i;

	world_open(&world, 1);
	detached_start(&last, &world);
	for (i = 0; i < FEW; i++) {
		probe_init(&queued[i], 0);
		submit(&world, &queued[i]);
	}
	begin_close(&world, EVWORK_DRAIN);
	fault_start(SYS_THREAD, 1, true);
	gate_open(&last.gate);
	world_run(&world);
	fault_stop();
	expect_outcome(&last.probe, -EOWNERDEAD, 1);
	for (i = 0; i < FEW; i++)
		expect_outcome(&queued[i], -EAGAIN, 0);
	ck_assert_int_eq(closed, 1);
	gate_fini(&last.gate);
	world_close(&world);
}
END_TEST

/* In a turn: submits jobs, which are staged, and lets the last worker end. */
struct staging {
	struct world *world;
	struct probe probes[FEW];
	struct detached *last;
};

static void stage_and_strand(void *arg)
{
	struct staging *staging = arg;
	int i;

	for (i = 0; i < FEW; i++) {
		probe_init(&staging->probes[i], 0);
		submit(staging->world, &staging->probes[i]);
	}
	gate_open(&staging->last->gate);
	while (atomic_load(&reports) == 0)
		sys_yield();
}

/* What a loop has accepted in its turn but not handed over ends likewise (S-CRASH-3,
 * S-GEN-2). */
START_TEST(no_workers_staged)
{
	struct staging staging;
	struct detached last;
	struct world world;
	int i;

	world_open(&world, 1);
	begin_reports();
	detached_start(&last, &world);
	staging.world = &world;
	staging.last = &last;
	fault_start(SYS_THREAD, 1, true);
	ck_assert_int_eq(evwork_post(world.loop, stage_and_strand, &staging), 0);
	world_run(&world);
	fault_stop();
	expect_outcome(&last.probe, -EOWNERDEAD, 1);
	for (i = 0; i < FEW; i++)
		expect_outcome(&staging.probes[i], -EAGAIN, 0);
	evwork_set_log(NULL, NULL);
	gate_fini(&last.gate);
	world_close(&world);
}
END_TEST

struct waiting {
	struct world *world;
	struct probe probe;
	int rc;
};

static void *wait_for_room(void *arg)
{
	struct waiting *waiting = arg;

	waiting->rc = evwork_submit_wait(waiting->world->loop, &waiting->probe.job);
	return NULL;
}

/* A thread that waits for room gets EAGAIN when there is no worker left (S-CRASH-3). */
START_TEST(no_workers_waiting)
{
	struct evwork_pool_options options = { .threads = 1, .lane = { .queue_limit = 1 } };
	struct waiting waiting;
	struct detached last;
	struct probe queued;
	pthread_t thread;
	struct world world;

	world_open_with(&world, &options, NULL);
	detached_start(&last, &world);
	probe_init(&queued, 0);
	submit(&world, &queued);
	waiting.world = &world;
	waiting.rc = 1;
	probe_init(&waiting.probe, 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_room, &waiting), 0);
	fault_start(SYS_THREAD, 1, true);
	gate_open(&last.gate);
	world_run_until(&world, &queued.dones, 1);
	pthread_join(thread, NULL);
	fault_stop();
	world_run(&world);
	expect_outcome(&last.probe, -EOWNERDEAD, 1);
	expect_outcome(&queued, -EAGAIN, 0);
	ck_assert_int_eq(waiting.rc, -EAGAIN);
	ck_assert_int_eq(waiting.probe.dones, 0);
	gate_fini(&last.gate);
	world_close(&world);
}
END_TEST

/* A replacement whose start hook fails is none, and is tried again (S-CRASH-3). */
START_TEST(replacement_refused)
{
	struct probe exits, after;
	struct world world;

	open_counted(&world, 1);
	begin_reports();
	atomic_store(&start_fails, 1);
	init_exit(&exits);
	submit(&world, &exits);
	world_run(&world);
	expect_outcome(&exits, -EOWNERDEAD, 1);
	while (atomic_load(&reports) == 0)
		sys_yield();
	ck_assert_int_eq(threads_of(&world), 0);
	ck_assert_int_eq(atomic_load(&starts), 2);
	ck_assert_int_eq(atomic_load(&stops), 1);
	atomic_store(&start_fails, 0);
	probe_init(&after, 4);
	submit(&world, &after);
	world_run(&world);
	expect_outcome(&after, 4, 1);
	expect_workers(&world, 1);
	ck_assert_int_eq(atomic_load(&starts), 3);
	evwork_set_log(NULL, NULL);
	world_close(&world);
	ck_assert_int_eq(atomic_load(&stops), 2);
}
END_TEST

/* Under load. */

enum { SUBMITTERS = 2, LOAD = 3000, PANICS = 500, LOAD_EXITS = 100 };

static struct load {
	struct probe probe;
	enum act act;
} loads[SUBMITTERS][LOAD];

struct submitter {
	struct world *world;
	struct load *loads;
	pthread_t thread;
};

static int load_dones;

static void load_run(struct probe *probe)
{
	struct load *load = EVWORK_CONTAINER(probe, struct load, probe);

	if (load->act == ACT_PANIC)
		evwork_panic(&probe->job, "load");
	if (load->act == ACT_EXIT)
		pthread_exit(NULL);
}

static void load_done(struct probe *probe)
{
	(void)probe;
	load_dones++;
}

static void *submit_loads(void *arg)
{
	struct submitter *submitter = arg;
	int i;

	for (i = 0; i < LOAD; i++) {
		struct load *load = &submitter->loads[i];

		probe_init(&load->probe, 9);
		load->probe.on_run = load_run;
		load->probe.on_done = load_done;
		load->act = i % (LOAD / PANICS) == 0 ? ACT_PANIC :
			i % (LOAD / LOAD_EXITS) == 1 ? ACT_EXIT : ACT_NOTE;
		while (evwork_submit(submitter->world->loop, &load->probe.job) == -EAGAIN)
			sys_yield();
	}
	return NULL;
}

/* 1,000 panics and 200 ends of threads among 6,000 jobs from two threads: each job has
 * one done, with what it deserves, and the counters agree (S-CRASH-2, S-CRASH-11,
 * S-GEN-2, S-OBS-4). */
START_TEST(crashes_under_load)
{
	struct submitter submitters[SUBMITTERS];
	struct evwork_lane_stats stats;
	struct world world;
	int i, k;

	load_dones = 0;
	world_open(&world, 3);
	ck_assert_int_eq(evwork_loop_hold(world.loop), 0);
	for (i = 0; i < SUBMITTERS; i++) {
		submitters[i].world = &world;
		submitters[i].loads = loads[i];
		ck_assert_int_eq(pthread_create(&submitters[i].thread, NULL, submit_loads,
			&submitters[i]), 0);
	}
	world_run_until(&world, &load_dones, SUBMITTERS * LOAD);
	for (i = 0; i < SUBMITTERS; i++)
		pthread_join(submitters[i].thread, NULL);
	ck_assert_int_eq(evwork_loop_release(world.loop), 0);
	world_run(&world);
	for (i = 0; i < SUBMITTERS; i++)
		for (k = 0; k < LOAD; k++)
			expect_outcome(&loads[i][k].probe,
				loads[i][k].act == ACT_NOTE ? 9 : -EOWNERDEAD, 1);
	ck_assert_int_eq(evwork_lane_stats(evwork_pool_lane(world.pool), &stats), 0);
	ck_assert_uint_eq(stats.accepted, SUBMITTERS * LOAD);
	ck_assert_uint_eq(stats.delivered, SUBMITTERS * LOAD);
	ck_assert_uint_eq(stats.crashed, SUBMITTERS * (PANICS + LOAD_EXITS));
	expect_workers(&world, 3);
	world_close(&world);
}
END_TEST

static Suite *suite(void)
{
	Suite *suite = suite_create("crash_thread");
	TCase *tcase = support_case(suite, "exit");

	tcase_add_test(tcase, exit_contained);
	tcase_add_test(tcase, exit_before_set_aside);
	tcase_add_test(tcase, cancel_contained);
	tcase_add_test(tcase, cancel_idle);
	tcase_add_test(tcase, cancel_in_wait);
	tcase_add_test(tcase, exit_calls_deferred);
	tcase_add_test(tcase, exit_unwinds);
	tcase_add_test(tcase, exit_gives_back);
	tcase_add_test(tcase, exit_detached);
	tcase_add_test(tcase, exit_then_freed);
	tcase_add_test(tcase, exit_while_draining);
	tcase_add_test(tcase, exit_while_cancelling);
	tcase_add_test(tcase, exit_as_last);
	tcase_add_test(tcase, crashes_under_load);
	tcase = support_case(suite, "replacement");
	tcase_add_test(tcase, fewer_workers);
	tcase_add_test(tcase, no_workers);
	tcase_add_test(tcase, no_workers_closed);
	tcase_add_test(tcase, no_workers_draining);
	tcase_add_test(tcase, no_workers_staged);
	tcase_add_test(tcase, no_workers_waiting);
	tcase_add_test(tcase, replacement_refused);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
