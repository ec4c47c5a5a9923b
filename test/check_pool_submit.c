/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Submitting: what is accepted runs once and is reported once, and what is
 * refused leaves no trace. Queues and waiting for room are in check_pool_queue.c.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <limits.h>
#include <pthread.h>

#define MANY 1000

/* What is malformed. */

/* A submit without loop, job or work is refused with EINVAL, neither function
 * ever runs, and the job can be submitted properly after it (S-POOL-1, S-GEN-2,
 * S-GEN-8). */
START_TEST(submit_malformed)
{
	struct world world;
	struct probe probe;
	evwork_run_fn run;

	world_open(&world, 1);
	probe_init(&probe, 0);
	ck_assert_int_eq(evwork_submit(NULL, &probe.job), -EINVAL);
	ck_assert_int_eq(evwork_submit(world.loop, NULL), -EINVAL);
	run = probe.job.run;
	probe.job.run = NULL;
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), -EINVAL);
	probe.job.run = run;
	world_turns(&world, 3);
	expect_probe_untouched(&probe);
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	world_run(&world);
	expect_probe_once(&probe, 0);
	world_close(&world);
}
END_TEST

/* A loop without a pool refuses a job that names no lane, and carries one that
 * does (S-POOL-1, S-LANE-1). */
START_TEST(submit_without_lane)
{
	struct evwork_pool_options options = { .threads = 1 };
	struct world world = { NULL };
	struct evwork_pool *pool;
	struct probe probe;

	ck_assert_int_eq(evwork_pool_new(&options, &pool), 0);
	world.base = event_base_new();
	ck_assert_int_eq(evwork_loop_new(world.base, NULL, NULL, &world.loop), 0);
	ck_assert_ptr_null(evwork_loop_pool(world.loop));
	probe_init(&probe, 0);
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), -EINVAL);
	expect_probe_untouched(&probe);
	probe.job.lane = evwork_pool_lane(pool);
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	world_run(&world);
	expect_probe_once(&probe, 0);
	world_close(&world);
	ck_assert_int_eq(evwork_pool_free(pool), 0);
}
END_TEST

/* What runs where. */

/* Accepted work runs on a worker even if the whole pool is idle, and its done on
 * the thread of the loop (S-POOL-2, S-POOL-3). */
START_TEST(submit_threads)
{
	struct world world;
	struct probe probe;

	world_open(&world, 2);
	probe_init(&probe, 0);
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	world_run(&world);
	expect_probe_once(&probe, 0);
	ck_assert(!pthread_equal(probe.run_thread, pthread_self()));
	ck_assert(pthread_equal(probe.done_thread, pthread_self()));
	world_close(&world);
}
END_TEST

/* Work starts although the loop does not turn, and done waits for a turn
 * although the work has ended (S-POOL-2, S-GEN-3). */
START_TEST(submit_done_needs_turn)
{
	struct world world;
	struct probe probe;
	struct gate_job job;
	struct gate gate;

	gate_init(&gate);
	world_open(&world, 1);
	probe_init(&probe, 0);
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	gate_job_init(&job, &gate);
	ck_assert_int_eq(evwork_submit(world.loop, &job.job), 0);
	/* The only worker is in the second job, so the first has ended. */
	gate_await(&gate, 1);
	ck_assert_int_eq(atomic_load(&probe.runs), 1);
	ck_assert_int_eq(probe.dones, 0);
	world_run_until(&world, &probe.dones, 1);
	ck_assert_int_eq(job.status, 1);
	unblock_workers(&world, &gate);
	ck_assert_int_eq(job.status, 0);
	expect_probe_once(&probe, 0);
	world_close(&world);
}
END_TEST

/* Every accepted job runs exactly once and has exactly one done, with several
 * workers (S-POOL-2, S-POOL-3). */
START_TEST(submit_exactly_once)
{
	static struct probe probes[MANY];
	struct world world;
	int i;

	world_open(&world, 4);
	for (i = 0; i < MANY; i++) {
		probe_init(&probes[i], i);
		ck_assert_int_eq(evwork_submit(world.loop, &probes[i].job), 0);
	}
	world_run(&world);
	for (i = 0; i < MANY; i++)
		expect_probe_once(&probes[i], i);
	world_close(&world);
}
END_TEST

static const int results[] = {
	0, 1, 42, INT_MAX, -1, -EIO, -ECANCELED, -ETIMEDOUT, -EAGAIN, -EOWNERDEAD, INT_MIN
};

/* Whatever work returns is what done gets, codes of the library included, and
 * ran says that work was started (S-POOL-3, S-GEN-1). */
START_TEST(submit_status_passes)
{
	struct world world;
	struct probe probe;

	world_open(&world, 1);
	probe_init(&probe, results[_i]);
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	world_run(&world);
	expect_probe_once(&probe, results[_i]);
	world_close(&world);
}
END_TEST

static atomic_int silent_runs;

static int silent_run(struct evwork_job *job)
{
	(void)job;
	atomic_fetch_add(&silent_runs, 1);
	return 0;
}

/* A job without done runs all the same, once, and leaves nothing outstanding
 * (S-GEN-8). */
START_TEST(submit_without_done)
{
	struct evwork_job job;
	struct world world;
	struct probe probe;

	atomic_store(&silent_runs, 0);
	world_open(&world, 1);
	evwork_job_init(&job, silent_run, NULL);
	ck_assert_int_eq(evwork_submit(world.loop, &job), 0);
	probe_init(&probe, 0);
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	world_run(&world);
	ck_assert_int_eq(atomic_load(&silent_runs), 1);
	expect_probe_once(&probe, 0);
	ck_assert_uint_eq(stats_of(evwork_pool_lane(world.pool)).delivered, 2);
	ck_assert_int_eq(evwork_cancel(&job), -ESRCH);
	world_close(&world);
}
END_TEST

/* Reuse. */

/* A job that is queued, running, or finished but undelivered is refused with
 * EBUSY; it still ends exactly once, and can be submitted again after its done
 * (S-GEN-7, S-POOL-3). */
START_TEST(submit_twice)
{
	struct world world;
	struct gate_job blocker, last;
	struct gate gate, end;
	struct probe probe;

	world_open(&world, 1);
	block_workers(&world, &gate, &blocker, 1);
	ck_assert_int_eq(evwork_submit(world.loop, &blocker.job), -EBUSY);
	probe_init(&probe, 0);
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), -EBUSY);
	gate_init(&end);
	gate_job_init(&last, &end);
	ck_assert_int_eq(evwork_submit(world.loop, &last.job), 0);
	gate_open(&gate);
	gate_await(&end, 1);
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), -EBUSY);
	unblock_workers(&world, &end);
	expect_probe_once(&probe, 0);
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	world_run(&world);
	ck_assert_int_eq(atomic_load(&probe.runs), 2);
	ck_assert_int_eq(probe.dones, 2);
	world_close(&world);
	gate_fini(&gate);
}
END_TEST

struct repeat {
	struct probe probe;
	struct world *world;
	int refusals;
};

static void submit_again(struct probe *probe)
{
	struct repeat *repeat = EVWORK_CONTAINER(probe, struct repeat, probe);

	if (probe->dones < MANY)
		repeat->refusals += evwork_submit(repeat->world->loop, &probe->job) != 0;
}

/* The job is the caller's again when its done starts: done may submit it anew,
 * a thousand times over (S-GEN-7, S-POOL-16). */
START_TEST(submit_from_own_done)
{
	struct repeat repeat = { .refusals = 0 };
	struct world world;

	world_open(&world, 2);
	probe_init(&repeat.probe, 0);
	repeat.probe.on_done = submit_again;
	repeat.world = &world;
	ck_assert_int_eq(evwork_submit(world.loop, &repeat.probe.job), 0);
	world_run(&world);
	ck_assert_int_eq(repeat.refusals, 0);
	ck_assert_int_eq(repeat.probe.dones, MANY);
	ck_assert_int_eq(atomic_load(&repeat.probe.runs), MANY);
	world_close(&world);
}
END_TEST

static int freed;

static void free_probe(struct probe *probe)
{
	free(probe);
	freed++;
}

/* The done of a job may free the memory that holds it (S-GEN-5, S-GEN-7). */
START_TEST(submit_freed_in_done)
{
	struct world world;
	int i;

	freed = 0;
	world_open(&world, 2);
	for (i = 0; i < 100; i++) {
		struct probe *probe = malloc(sizeof(*probe));

		ck_assert_ptr_nonnull(probe);
		probe_init(probe, 0);
		probe->on_done = free_probe;
		ck_assert_int_eq(evwork_submit(world.loop, &probe->job), 0);
	}
	world_run(&world);
	ck_assert_int_eq(freed, 100);
	world_close(&world);
}
END_TEST

/* A bounded queue needs no memory: a submit and its whole way to done succeed
 * with every allocation failing (S-GEN-14, S-POOL-6). */
START_TEST(submit_without_memory)
{
	struct world world;
	struct probe probes[100];
	int i;

	world_open(&world, 2);
	for (i = 0; i < 100; i++)
		probe_init(&probes[i], 0);
	fault_start(SYS_MEMORY, 1, true);
	for (i = 0; i < 100; i++)
		ck_assert_int_eq(evwork_submit(world.loop, &probes[i].job), 0);
	world_run(&world);
	fault_stop();
	for (i = 0; i < 100; i++)
		expect_probe_once(&probes[i], 0);
	world_close(&world);
}
END_TEST

/* Contexts that are dead at submit. */

/* Under a context that was cancelled a job is refused with ECANCELED even if
 * a worker is idle, and without the context it is accepted (S-POOL-11). */
START_TEST(submit_cancelled_ctx)
{
	struct evwork_ctx *ctx;
	struct world world;
	struct probe probe;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, -EIO), 0);
	probe_init(&probe, 0);
	probe.job.ctx = ctx;
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), -ECANCELED);
	world_turns(&world, 3);
	expect_probe_untouched(&probe);
	ck_assert_uint_eq(stats_of(evwork_pool_lane(world.pool)).refused_ctx, 1);
	evwork_ctx_unref(ctx);
	probe.job.ctx = NULL;
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	world_run(&world);
	expect_probe_once(&probe, 0);
	world_close(&world);
}
END_TEST

/* Under a context whose deadline has passed a job is refused with ETIMEDOUT,
 * also if the loop has had no turn in which to notice (S-POOL-11, S-CTX-10). */
START_TEST(submit_expired_ctx)
{
	struct evwork_ctx *born_dead, *expired;
	struct world world;
	struct probe probe;

	world_open_manual(&world, 1, SYS_NS_PER_MS);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 0, 0, &born_dead), 0);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 10, 0, &expired), 0);
	probe_init(&probe, 0);
	probe.job.ctx = born_dead;
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), -ETIMEDOUT);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 10 * SYS_NS_PER_MS), 0);
	probe.job.ctx = expired;
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), -ETIMEDOUT);
	world_run(&world);
	expect_probe_untouched(&probe);
	ck_assert_uint_eq(stats_of(evwork_pool_lane(world.pool)).refused_ctx, 2);
	evwork_ctx_unref(born_dead);
	evwork_ctx_unref(expired);
	world_close(&world);
}
END_TEST

/* The first reason to refuse is given: malformed, on its way, dead context, full
 * (S-GEN-4, S-LANE-2). */
START_TEST(submit_order_of_refusals)
{
	struct evwork_pool_options options = { .threads = 1, .lane = { .queue_limit = 1 } };
	struct gate_job blocker;
	struct world world;
	struct gate gate;
	struct probe queued, other;
	struct evwork_ctx *dead;
	evwork_run_fn run;

	world_open_with(&world, &options, NULL);
	ck_assert_int_eq(evwork_ctx_new(NULL, &dead), 0);
	ck_assert_int_eq(evwork_ctx_cancel(dead, 0), 0);
	block_workers(&world, &gate, &blocker, 1);
	probe_init(&queued, 0);
	ck_assert_int_eq(evwork_submit(world.loop, &queued.job), 0);
	ck_assert_int_eq(evwork_submit(world.loop, &queued.job), -EBUSY);
	probe_init(&other, 0);
	ck_assert_int_eq(evwork_submit(world.loop, &other.job), -EAGAIN);
	other.job.ctx = dead;
	ck_assert_int_eq(evwork_submit(world.loop, &other.job), -ECANCELED);
	run = other.job.run;
	other.job.run = NULL;
	ck_assert_int_eq(evwork_submit(world.loop, &other.job), -EINVAL);
	other.job.run = run;
	unblock_workers(&world, &gate);
	expect_probe_once(&queued, 0);
	expect_probe_untouched(&other);
	evwork_ctx_unref(dead);
	world_close(&world);
}
END_TEST

/* Where a submit may come from. */

/* One job that submits others from its own work or done. */
struct parent {
	struct probe probe, first, second;
	struct world *world;
	int first_rc, second_rc;
};

static void submit_both(struct probe *probe)
{
	struct parent *parent = EVWORK_CONTAINER(probe, struct parent, probe);

	parent->first_rc = evwork_submit(parent->world->loop, &parent->first.job);
	parent->second_rc = evwork_submit(parent->world->loop, &parent->second.job);
}

static void parent_init(struct parent *parent, struct world *world)
{
	probe_init(&parent->probe, 0);
	probe_init(&parent->first, 0);
	probe_init(&parent->second, 0);
	parent->world = world;
	parent->first_rc = parent->second_rc = 1;
}

/* Work and done may both submit, and what they submit runs on a worker and is
 * delivered in a later turn (S-POOL-16, S-GEN-3). */
START_TEST(submit_from_work_and_done)
{
	struct parent from_work, from_done;
	struct world world;

	world_open(&world, 1);
	parent_init(&from_work, &world);
	from_work.probe.on_run = submit_both;
	ck_assert_int_eq(evwork_submit(world.loop, &from_work.probe.job), 0);
	world_run_until(&world, &from_work.second.dones, 1);
	ck_assert_int_eq(from_work.first_rc, 0);
	ck_assert_int_eq(from_work.second_rc, 0);
	expect_probe_once(&from_work.first, 0);
	expect_probe_once(&from_work.second, 0);

	parent_init(&from_done, &world);
	from_done.probe.on_done = submit_both;
	ck_assert_int_eq(evwork_submit(world.loop, &from_done.probe.job), 0);
	world_run(&world);
	ck_assert_int_eq(from_done.first_rc, 0);
	ck_assert_int_eq(from_done.second_rc, 0);
	expect_probe_once(&from_done.first, 0);
	expect_probe_once(&from_done.second, 0);
	ck_assert_int_gt(from_done.first.done_order, from_done.probe.done_order);
	world_close(&world);
}
END_TEST

/* A worker that submits into its own full pool gets EAGAIN, never a deadlock
 * (S-POOL-16, S-POOL-6). */
START_TEST(submit_from_work_full)
{
	struct evwork_pool_options options = { .threads = 1, .lane = { .queue_limit = 1 } };
	struct parent parent;
	struct world world;

	world_open_with(&world, &options, NULL);
	parent_init(&parent, &world);
	parent.probe.on_run = submit_both;
	ck_assert_int_eq(evwork_submit(world.loop, &parent.probe.job), 0);
	world_run_until(&world, &parent.first.dones, 1);
	ck_assert_int_eq(parent.first_rc, 0);
	ck_assert_int_eq(parent.second_rc, -EAGAIN);
	expect_probe_once(&parent.probe, 0);
	expect_probe_once(&parent.first, 0);
	expect_probe_untouched(&parent.second);
	world_close(&world);
}
END_TEST

struct stranger {
	struct world *world;
	struct probe *probes;
	pthread_t thread;
	int refusals;
};

static void *submit_all(void *arg)
{
	struct stranger *stranger = arg;
	int i;

	for (i = 0; i < MANY; i++)
		stranger->refusals += evwork_submit(stranger->world->loop, &stranger->probes[i].job) != 0;
	return NULL;
}

static int stranger_dones;

static void count_done(struct probe *probe)
{
	(void)probe;
	stranger_dones++;
}

/* Foreign threads may submit, several at once, while the loop runs: every job
 * ends once, on the thread of the loop (S-POOL-16, S-POOL-3, S-GEN-17). */
START_TEST(submit_from_strangers)
{
	static struct probe probes[3 * MANY];
	struct stranger strangers[3];
	struct world world;
	int i;

	stranger_dones = 0;
	world_open(&world, 2);
	for (i = 0; i < 3 * MANY; i++) {
		probe_init(&probes[i], i);
		probes[i].on_done = count_done;
	}
	for (i = 0; i < 3; i++) {
		strangers[i].world = &world;
		strangers[i].probes = probes + i * MANY;
		strangers[i].refusals = 0;
		ck_assert_int_eq(pthread_create(&strangers[i].thread, NULL, submit_all,
			&strangers[i]), 0);
	}
	world_run_until(&world, &stranger_dones, 3 * MANY);
	for (i = 0; i < 3; i++) {
		pthread_join(strangers[i].thread, NULL);
		ck_assert_int_eq(strangers[i].refusals, 0);
	}
	for (i = 0; i < 3 * MANY; i++) {
		expect_probe_once(&probes[i], i);
		ck_assert(pthread_equal(probes[i].done_thread, pthread_self()));
	}
	world_close(&world);
}
END_TEST

static void add_running(Suite *suite)
{
	TCase *tcase = support_case(suite, "running");

	tcase_add_test(tcase, submit_malformed);
	tcase_add_test(tcase, submit_without_lane);
	tcase_add_test(tcase, submit_threads);
	tcase_add_test(tcase, submit_done_needs_turn);
	tcase_add_test(tcase, submit_exactly_once);
	tcase_add_loop_test(tcase, submit_status_passes, 0, sizeof(results) / sizeof(results[0]));
	tcase_add_test(tcase, submit_without_done);
	tcase_add_test(tcase, submit_twice);
	tcase_add_test(tcase, submit_from_own_done);
	tcase_add_test(tcase, submit_freed_in_done);
	tcase_add_test(tcase, submit_without_memory);
}

static void add_origins(Suite *suite)
{
	TCase *tcase = support_case(suite, "origins");

	tcase_add_test(tcase, submit_cancelled_ctx);
	tcase_add_test(tcase, submit_expired_ctx);
	tcase_add_test(tcase, submit_order_of_refusals);
	tcase_add_test(tcase, submit_from_work_and_done);
	tcase_add_test(tcase, submit_from_work_full);
	tcase_add_test(tcase, submit_from_strangers);
}

static Suite *suite(void)
{
	Suite *suite = suite_create("pool_submit");

	add_running(suite);
	add_origins(suite);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
