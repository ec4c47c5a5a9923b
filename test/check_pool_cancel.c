/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Cancelling a job in each of its states, and contexts that die while their jobs
 * are queued or run. Detached jobs are in check_pool_detach.c.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>

/* A world whose workers are all blocked. */
struct jam {
	struct world world;
	struct gate gate;
	struct gate_job blockers[4];
	int workers;
};

static void jam_block(struct jam *jam, int workers)
{
	int i;

	jam->workers = workers;
	gate_init(&jam->gate);
	for (i = 0; i < workers; i++) {
		gate_job_init(&jam->blockers[i], &jam->gate);
		ck_assert_int_eq(evwork_submit(jam->world.loop, &jam->blockers[i].job), 0);
	}
	gate_await(&jam->gate, workers);
}

static void jam_open(struct jam *jam, int workers)
{
	world_open(&jam->world, workers);
	jam_block(jam, workers);
}

static void jam_close(struct jam *jam)
{
	int i;

	gate_open(&jam->gate);
	world_run(&jam->world);
	for (i = 0; i < jam->workers; i++)
		ck_assert_int_eq(jam->blockers[i].status, 0);
	world_close(&jam->world);
	gate_fini(&jam->gate);
}

static struct evwork_lane_stats jam_stats(struct jam *jam)
{
	struct evwork_lane_stats stats;

	ck_assert_int_eq(evwork_lane_stats(evwork_pool_lane(jam->world.pool), &stats), 0);
	return stats;
}

/* A job under the given context that cannot start. */
static void put(struct jam *jam, struct probe *probe, struct evwork_ctx *ctx)
{
	probe_init(probe, 0);
	probe->job.ctx = ctx;
	ck_assert_int_eq(evwork_submit(jam->world.loop, &probe->job), 0);
}

static void expect_not_run(const struct probe *probe, int status)
{
	ck_assert_int_eq(atomic_load(&probe->runs), 0);
	ck_assert_int_eq(probe->dones, 1);
	ck_assert_int_eq(probe->status, status);
	ck_assert_int_eq(probe->ran, 0);
	ck_assert_int_eq(probe->abandoned, 0);
}

static void expect_run(const struct probe *probe, int status)
{
	ck_assert_int_eq(atomic_load(&probe->runs), 1);
	ck_assert_int_eq(probe->dones, 1);
	ck_assert_int_eq(probe->status, status);
	ck_assert_int_eq(probe->ran, 1);
	ck_assert_int_eq(probe->abandoned, 0);
}

/* Queued jobs. */

/* Cancelling a queued job succeeds, calls nothing back inside the call, and brings
 * its done in the next turn although every worker is blocked; its work never runs
 * (S-POOL-8, S-GEN-3). */
START_TEST(cancel_queued)
{
	struct probe probe;
	struct jam jam;

	jam_open(&jam, 2);
	put(&jam, &probe, NULL);
	ck_assert_int_eq(evwork_cancel(&probe.job), 0);
	ck_assert_int_eq(probe.dones, 0);
	world_turns(&jam.world, 1);
	expect_not_run(&probe, -ECANCELED);
	ck_assert(pthread_equal(probe.done_thread, pthread_self()));
	jam_close(&jam);
	expect_not_run(&probe, -ECANCELED);
}
END_TEST

/* A job that was cancelled can be submitted again after its done, and then runs
 * (S-POOL-3, S-POOL-8, S-GEN-7). */
START_TEST(cancel_then_resubmit)
{
	struct probe probe;
	struct jam jam;

	jam_open(&jam, 1);
	put(&jam, &probe, NULL);
	ck_assert_int_eq(evwork_cancel(&probe.job), 0);
	world_turns(&jam.world, 1);
	expect_not_run(&probe, -ECANCELED);
	ck_assert_int_eq(evwork_submit(jam.world.loop, &probe.job), 0);
	jam_close(&jam);
	ck_assert_int_eq(atomic_load(&probe.runs), 1);
	ck_assert_int_eq(probe.dones, 2);
	ck_assert_int_eq(probe.status, 0);
	ck_assert_int_eq(probe.ran, 1);
}
END_TEST

/* Cancelling out of the middle of the queue leaves the order of the others as it
 * was (S-POOL-8, S-POOL-4). */
START_TEST(cancel_in_the_middle)
{
	static struct probe probes[300];
	struct jam jam;
	int i, order = 0;

	jam_open(&jam, 1);
	for (i = 0; i < 300; i++)
		put(&jam, &probes[i], NULL);
	for (i = 0; i < 300; i++)
		if (i % 3 != 1)
			ck_assert_int_eq(evwork_cancel(&probes[i].job), 0);
	ck_assert_uint_eq(jam_stats(&jam).queued, 100);
	jam_close(&jam);
	for (i = 0; i < 300; i++) {
		if (i % 3 != 1) {
			expect_not_run(&probes[i], -ECANCELED);
		} else {
			expect_run(&probes[i], 0);
			ck_assert_int_eq(probes[i].run_order, ++order);
		}
	}
}
END_TEST

static void pass_gate(struct probe *probe)
{
	gate_pass(probe->arg);
}

/* A job that a worker has set aside for itself while it is blocked in another is
 * still queued: cancelling it succeeds and its done comes in the next turn
 * (S-POOL-8). */
START_TEST(cancel_set_aside)
{
	struct evwork_pool_options options = { .threads = 1, .hold_us = EVWORK_HOLD_OFF };
	static struct probe holder, probes[20];
	struct gate second;
	struct jam jam;
	int i;

	world_open_with(&jam.world, &options, NULL);
	jam_block(&jam, 1);
	gate_init(&second);
	probe_init(&holder, 0);
	holder.on_run = pass_gate;
	holder.arg = &second;
	ck_assert_int_eq(evwork_submit(jam.world.loop, &holder.job), 0);
	for (i = 0; i < 20; i++)
		put(&jam, &probes[i], NULL);
	gate_open(&jam.gate);
	gate_await(&second, 1);
	for (i = 0; i < 20; i += 2)
		ck_assert_int_eq(evwork_cancel(&probes[i].job), 0);
	world_turns(&jam.world, 1);
	for (i = 0; i < 20; i += 2)
		expect_not_run(&probes[i], -ECANCELED);
	gate_open(&second);
	jam_close(&jam);
	for (i = 0; i < 20; i++)
		if (i % 2)
			expect_run(&probes[i], 0);
		else
			expect_not_run(&probes[i], -ECANCELED);
	gate_fini(&second);
}
END_TEST

/* The done of a cancelled job comes in the next turn even if the worker holds back the
 * wake-up for a finished job, for ever as far as this test is concerned (S-POOL-8). */
START_TEST(cancel_not_held_back)
{
	struct evwork_pool_options options = {
		.threads = 1, .hold_us = INT64_C(3600) * 1000 * 1000
	};
	static struct probe holder, probes[20];
	struct gate second;
	struct jam jam;
	int i;

	world_open_with(&jam.world, &options, NULL);
	jam_block(&jam, 1);
	gate_init(&second);
	probe_init(&holder, 0);
	holder.on_run = pass_gate;
	holder.arg = &second;
	ck_assert_int_eq(evwork_submit(jam.world.loop, &holder.job), 0);
	for (i = 0; i < 20; i++)
		put(&jam, &probes[i], NULL);
	gate_open(&jam.gate);
	gate_await(&second, 1);
	ck_assert_int_eq(evwork_cancel(&probes[10].job), 0);
	world_turns(&jam.world, 1);
	expect_not_run(&probes[10], -ECANCELED);
	gate_open(&second);
	jam_close(&jam);
	gate_fini(&second);
}
END_TEST

/* A cancel makes room in a full queue at once, without a turn of the loop
 * (S-POOL-8, S-POOL-6). */
START_TEST(cancel_makes_room)
{
	struct evwork_pool_options options = { .threads = 1, .lane = { .queue_limit = 1 } };
	struct probe first, second;
	struct jam jam;

	world_open_with(&jam.world, &options, NULL);
	jam_block(&jam, 1);
	put(&jam, &first, NULL);
	probe_init(&second, 0);
	ck_assert_int_eq(evwork_submit(jam.world.loop, &second.job), -EAGAIN);
	ck_assert_int_eq(evwork_cancel(&first.job), 0);
	ck_assert_int_eq(evwork_submit(jam.world.loop, &second.job), 0);
	jam_close(&jam);
	expect_not_run(&first, -ECANCELED);
	expect_run(&second, 0);
}
END_TEST

/* A job that cancels another one, from its work or its done. */
struct canceller {
	struct probe probe;
	struct evwork_job *victim;
	int rc;
};

static void cancel_victim(struct probe *probe)
{
	struct canceller *canceller = EVWORK_CONTAINER(probe, struct canceller, probe);

	canceller->rc = evwork_cancel(canceller->victim);
}

static void *cancel_on_thread(void *arg)
{
	struct canceller *canceller = arg;

	canceller->rc = evwork_cancel(canceller->victim);
	return NULL;
}

/* A queued job can be cancelled from work, from a done and from a foreign thread
 * (S-POOL-8, S-GEN-5). */
START_TEST(cancel_from_anywhere)
{
	struct canceller from_work, from_done, from_thread;
	struct probe victims[3];
	pthread_t thread;
	struct jam jam;

	jam_open(&jam, 1);
	probe_init(&from_work.probe, 0);
	from_work.probe.on_run = cancel_victim;
	from_work.victim = &victims[0].job;
	ck_assert_int_eq(evwork_submit(jam.world.loop, &from_work.probe.job), 0);
	put(&jam, &victims[0], NULL);
	put(&jam, &victims[1], NULL);
	put(&jam, &victims[2], NULL);
	from_thread.victim = &victims[1].job;
	ck_assert_int_eq(pthread_create(&thread, NULL, cancel_on_thread, &from_thread), 0);
	pthread_join(thread, NULL);
	ck_assert_int_eq(from_thread.rc, 0);
	put(&jam, &from_done.probe, NULL);
	from_done.probe.on_done = cancel_victim;
	from_done.victim = &victims[2].job;
	ck_assert_int_eq(evwork_cancel(&from_done.probe.job), 0);
	world_run_until(&jam.world, &victims[2].dones, 1);
	ck_assert_int_eq(from_done.rc, 0);
	jam_close(&jam);
	ck_assert_int_eq(from_work.rc, 0);
	expect_not_run(&victims[0], -ECANCELED);
	expect_not_run(&victims[1], -ECANCELED);
	expect_not_run(&victims[2], -ECANCELED);
}
END_TEST

/* Running jobs. */

/* Work that waits in a gate and tells what it sees of its own cancelling. */
struct watcher {
	struct probe probe;
	struct gate gate;
	int before, after;        /* evwork_job_err on both sides of the gate */
	int ctx_after;            /* evwork_ctx_err there */
};

static void watch_self(struct probe *probe)
{
	struct watcher *watcher = EVWORK_CONTAINER(probe, struct watcher, probe);

	watcher->before = evwork_job_err(&probe->job);
	gate_pass(&watcher->gate);
	watcher->after = evwork_job_err(&probe->job);
	watcher->ctx_after = evwork_ctx_err(probe->job.ctx);
}

/* Submits the watcher and waits until it runs. */
static void watcher_start(struct watcher *watcher, struct world *world, struct evwork_ctx *ctx,
	int result)
{
	probe_init(&watcher->probe, result);
	watcher->probe.on_run = watch_self;
	watcher->probe.job.ctx = ctx;
	gate_init(&watcher->gate);
	watcher->before = watcher->after = watcher->ctx_after = 1;
	ck_assert_int_eq(evwork_submit(world->loop, &watcher->probe.job), 0);
	gate_await(&watcher->gate, 1);
}

/* Lets it go on and end. */
static void watcher_finish(struct watcher *watcher, struct world *world)
{
	gate_open(&watcher->gate);
	world_run(world);
	gate_fini(&watcher->gate);
	ck_assert_int_eq(watcher->before, 0);
}

static const int own_results[] = { 0, 5, -EIO, -ECANCELED };

/* Cancelling a running job gives EBUSY and tells its work, but what done gets is
 * what work returned; the context of the caller is not touched (S-POOL-9). */
START_TEST(cancel_running)
{
	struct watcher watcher;
	struct evwork_ctx *ctx;
	struct world world;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	watcher_start(&watcher, &world, ctx, own_results[_i]);
	ck_assert_int_eq(evwork_cancel(&watcher.probe.job), -EBUSY);
	world_turns(&world, 2);
	ck_assert_int_eq(watcher.probe.dones, 0);
	watcher_finish(&watcher, &world);
	ck_assert_int_eq(watcher.after, -ECANCELED);
	ck_assert_int_eq(watcher.ctx_after, 0);
	ck_assert_int_eq(evwork_ctx_err(ctx), 0);
	expect_run(&watcher.probe, own_results[_i]);
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

/* A running job that nobody cancels sees no error from start to end (S-POOL-13). */
START_TEST(cancel_nobody)
{
	struct watcher watcher;
	struct world world;

	world_open(&world, 1);
	watcher_start(&watcher, &world, NULL, 0);
	watcher_finish(&watcher, &world);
	ck_assert_int_eq(watcher.after, 0);
	expect_run(&watcher.probe, 0);
	/* Nor does the struct remember a cancel from its last use. */
	watcher_start(&watcher, &world, NULL, 0);
	ck_assert_int_eq(evwork_cancel(&watcher.probe.job), -EBUSY);
	watcher_finish(&watcher, &world);
	ck_assert_int_eq(watcher.after, -ECANCELED);
	gate_init(&watcher.gate);
	ck_assert_int_eq(evwork_submit(world.loop, &watcher.probe.job), 0);
	gate_await(&watcher.gate, 1);
	watcher_finish(&watcher, &world);
	ck_assert_int_eq(watcher.after, 0);
	world_close(&world);
}
END_TEST

/* Cancelling a running job again changes nothing, and there is one done
 * (S-POOL-9, S-POOL-10). */
START_TEST(cancel_running_twice)
{
	struct watcher watcher;
	struct world world;
	int again;

	world_open(&world, 1);
	watcher_start(&watcher, &world, NULL, 3);
	ck_assert_int_eq(evwork_cancel(&watcher.probe.job), -EBUSY);
	again = evwork_cancel(&watcher.probe.job);
	ck_assert(again == -EALREADY || again == -EBUSY);
	watcher_finish(&watcher, &world);
	ck_assert_int_eq(watcher.after, -ECANCELED);
	expect_run(&watcher.probe, 3);
	world_close(&world);
}
END_TEST

/* The other states. */

/* Cancelling again what was cancelled while queued is EALREADY, until its done
 * makes it ESRCH (S-POOL-10). */
START_TEST(cancel_queued_twice)
{
	struct probe probe;
	struct jam jam;

	jam_open(&jam, 1);
	put(&jam, &probe, NULL);
	ck_assert_int_eq(evwork_cancel(&probe.job), 0);
	ck_assert_int_eq(evwork_cancel(&probe.job), -EALREADY);
	ck_assert_int_eq(evwork_cancel(&probe.job), -EALREADY);
	world_turns(&jam.world, 1);
	ck_assert_int_eq(evwork_cancel(&probe.job), -ESRCH);
	jam_close(&jam);
	expect_not_run(&probe, -ECANCELED);
}
END_TEST

/* Cancelling a job that has ended but is not delivered is EBUSY and leaves its
 * outcome alone (S-POOL-10). */
START_TEST(cancel_finished)
{
	struct probe probe;
	struct jam jam;

	world_open(&jam.world, 1);
	put(&jam, &probe, NULL);
	jam_block(&jam, 1);
	/* The only worker is in the blocker, so the probe has ended. */
	ck_assert_int_eq(evwork_cancel(&probe.job), -EBUSY);
	ck_assert_int_eq(evwork_cancel(&probe.job), -EBUSY);
	jam_close(&jam);
	expect_run(&probe, 0);
	ck_assert_int_eq(evwork_cancel(&probe.job), -ESRCH);
}
END_TEST

/* Cancelling a job that is not on its way is ESRCH, before its first submit, after
 * its done, inside its done, and after a refusal; no job is EINVAL (S-POOL-10,
 * S-GEN-7, S-GEN-8). */
START_TEST(cancel_idle)
{
	struct canceller self;
	struct world world;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_cancel(NULL), -EINVAL);
	probe_init(&self.probe, 0);
	self.probe.on_done = cancel_victim;
	self.victim = &self.probe.job;
	self.rc = 1;
	ck_assert_int_eq(evwork_cancel(&self.probe.job), -ESRCH);
	ck_assert_int_eq(evwork_submit(NULL, &self.probe.job), -EINVAL);
	ck_assert_int_eq(evwork_cancel(&self.probe.job), -ESRCH);
	ck_assert_int_eq(evwork_submit(world.loop, &self.probe.job), 0);
	world_run(&world);
	ck_assert_int_eq(self.rc, -ESRCH);
	ck_assert_int_eq(evwork_cancel(&self.probe.job), -ESRCH);
	expect_run(&self.probe, 0);
	world_close(&world);
}
END_TEST

/* Races. */

#define RACERS 4000

struct race {
	struct probe *probes;
	int *answers;
	atomic_int started;       /* how many have been submitted */
};

static void *race_cancel(void *arg)
{
	struct race *race = arg;
	int i;

	for (i = 0; i < RACERS; i++) {
		while (atomic_load(&race->started) <= i)
			sys_yield();
		race->answers[i] = evwork_cancel(&race->probes[i].job);
	}
	return NULL;
}

/* Whoever wins between a worker that starts a job and threads that cancel it: there
 * is one done, and work has run exactly if no cancel said that it would not
 * (S-POOL-8, S-POOL-10, S-GEN-2). */
START_TEST(cancel_race)
{
	static struct probe probes[RACERS];
	static int answers[2][RACERS];
	struct race races[2];
	pthread_t threads[2];
	struct world world;
	int i, k;

	world_open(&world, 2);
	for (i = 0; i < RACERS; i++)
		probe_init(&probes[i], i);
	for (k = 0; k < 2; k++) {
		races[k].probes = probes;
		races[k].answers = answers[k];
		atomic_store(&races[k].started, 0);
		ck_assert_int_eq(pthread_create(&threads[k], NULL, race_cancel, &races[k]), 0);
	}
	for (i = 0; i < RACERS; i++) {
		ck_assert_int_eq(evwork_submit(world.loop, &probes[i].job), 0);
		atomic_fetch_add(&races[0].started, 1);
		atomic_fetch_add(&races[1].started, 1);
	}
	world_run(&world);
	for (k = 0; k < 2; k++)
		pthread_join(threads[k], NULL);
	for (i = 0; i < RACERS; i++) {
		if (answers[0][i] == 0 || answers[1][i] == 0) {
			expect_not_run(&probes[i], -ECANCELED);
			ck_assert_int_ne(answers[0][i], answers[1][i]);
		} else {
			expect_run(&probes[i], i);
		}
	}
	world_close(&world);
}
END_TEST

/* Contexts. */

/* A context that is cancelled ends its queued jobs like a cancel: in the next turn,
 * not run, although every worker is blocked, and their room is free at once
 * (S-POOL-12). */
START_TEST(ctx_cancelled_queued)
{
	struct evwork_pool_options options = { .threads = 2, .lane = { .queue_limit = 2 } };
	struct probe first, second, third;
	struct evwork_ctx *ctx;
	struct jam jam;
	int again;

	world_open_with(&jam.world, &options, NULL);
	jam_block(&jam, 2);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	put(&jam, &first, ctx);
	put(&jam, &second, NULL);
	probe_init(&third, 0);
	ck_assert_int_eq(evwork_submit(jam.world.loop, &third.job), -EAGAIN);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, -EIO), 0);
	ck_assert_int_eq(first.dones, 0);
	again = evwork_cancel(&first.job);
	ck_assert(again == -EALREADY || again == -EBUSY);
	ck_assert_int_eq(evwork_submit(jam.world.loop, &third.job), 0);
	world_turns(&jam.world, 1);
	expect_not_run(&first, -ECANCELED);
	evwork_ctx_unref(ctx);
	jam_close(&jam);
	expect_not_run(&first, -ECANCELED);
	expect_run(&second, 0);
	expect_run(&third, 0);
}
END_TEST

/* A deadline that passes ends queued jobs with ETIMEDOUT, not run, although every
 * worker is blocked; not before its time (S-POOL-12, S-GEN-11). */
START_TEST(ctx_expires_queued)
{
	struct evwork_ctx *ctx;
	struct probe probe;
	struct jam jam;

	world_open_manual(&jam.world, 1, SYS_NS_PER_MS);
	jam_block(&jam, 1);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, jam.world.loop, 10, 0, &ctx), 0);
	put(&jam, &probe, ctx);
	ck_assert_int_eq(evwork_clock_advance(jam.world.clock, 10 * SYS_NS_PER_MS - 1), 0);
	world_turns(&jam.world, 3);
	ck_assert_int_eq(probe.dones, 0);
	ck_assert_int_eq(evwork_clock_advance(jam.world.clock, 1), 0);
	world_run_until(&jam.world, &probe.dones, 1);
	expect_not_run(&probe, -ETIMEDOUT);
	evwork_ctx_unref(ctx);
	jam_close(&jam);
	expect_not_run(&probe, -ETIMEDOUT);
}
END_TEST

/* A job whose deadline passed while the loop was stalled is not started by a worker
 * that becomes free before the loop notices (S-POOL-12, S-CTX-10). */
START_TEST(ctx_expires_stalled)
{
	struct evwork_ctx *ctx;
	struct probe probe, last;
	struct gate second;
	struct jam jam;

	world_open_manual(&jam.world, 1, SYS_NS_PER_MS);
	jam_block(&jam, 1);
	gate_init(&second);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, jam.world.loop, 10, 0, &ctx), 0);
	put(&jam, &probe, ctx);
	probe_init(&last, 0);
	last.on_run = pass_gate;
	last.arg = &second;
	ck_assert_int_eq(evwork_submit(jam.world.loop, &last.job), 0);
	ck_assert_int_eq(evwork_clock_jump(jam.world.clock, 10 * SYS_NS_PER_MS), 0);
	gate_open(&jam.gate);
	gate_await(&second, 1);
	ck_assert_int_eq(atomic_load(&probe.runs), 0);
	gate_open(&second);
	evwork_ctx_unref(ctx);
	jam_close(&jam);
	expect_not_run(&probe, -ETIMEDOUT);
	gate_fini(&second);
}
END_TEST

/* Many jobs of a whole tree of contexts end with it, each once (S-POOL-12,
 * S-CTX-7). */
START_TEST(ctx_many_queued)
{
	static struct probe probes[1000];
	struct evwork_ctx *root, *children[10];
	struct jam jam;
	int i;

	jam_open(&jam, 2);
	ck_assert_int_eq(evwork_ctx_new(NULL, &root), 0);
	for (i = 0; i < 10; i++)
		ck_assert_int_eq(evwork_ctx_new(root, &children[i]), 0);
	for (i = 0; i < 1000; i++)
		put(&jam, &probes[i], i % 11 == 10 ? root : children[i % 11]);
	ck_assert_int_eq(evwork_ctx_cancel(root, 0), 0);
	ck_assert_uint_eq(jam_stats(&jam).queued, 0);
	for (i = 0; i < 10; i++)
		evwork_ctx_unref(children[i]);
	evwork_ctx_unref(root);
	jam_close(&jam);
	for (i = 0; i < 1000; i++)
		expect_not_run(&probes[i], -ECANCELED);
}
END_TEST

/* A context that is cancelled while its job runs interrupts nothing: work sees it
 * when it asks, and its own result is delivered (S-POOL-13). */
START_TEST(ctx_cancelled_running)
{
	struct watcher watcher;
	struct evwork_ctx *ctx;
	struct world world;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	watcher_start(&watcher, &world, ctx, own_results[_i]);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	world_turns(&world, 2);
	ck_assert_int_eq(watcher.probe.dones, 0);
	watcher_finish(&watcher, &world);
	ck_assert_int_eq(watcher.after, -ECANCELED);
	ck_assert_int_eq(watcher.ctx_after, -ECANCELED);
	expect_run(&watcher.probe, own_results[_i]);
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

/* A deadline that passes while work runs is seen by it at once, without any turn of
 * the loop, and its own result is delivered (S-POOL-13, S-CTX-10). */
START_TEST(ctx_expires_running)
{
	struct watcher watcher;
	struct evwork_ctx *ctx;
	struct world world;

	world_open_manual(&world, 1, SYS_NS_PER_MS);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 10, 0, &ctx), 0);
	watcher_start(&watcher, &world, ctx, own_results[_i]);
	ck_assert_int_eq(evwork_clock_jump(world.clock, 10 * SYS_NS_PER_MS), 0);
	watcher_finish(&watcher, &world);
	ck_assert_int_eq(watcher.after, -ETIMEDOUT);
	ck_assert_int_eq(watcher.ctx_after, -ETIMEDOUT);
	expect_run(&watcher.probe, own_results[_i]);
	evwork_ctx_unref(ctx);
	world_close(&world);
}
END_TEST

/* The job keeps its context: the caller may give up its own reference right after
 * the submit (S-CTX-17, S-POOL-12). */
START_TEST(ctx_kept_by_job)
{
	struct evwork_ctx *parent, *ctx;
	struct probe probe, running;
	struct jam jam;

	jam_open(&jam, 1);
	ck_assert_int_eq(evwork_ctx_new(NULL, &parent), 0);
	ck_assert_int_eq(evwork_ctx_new(parent, &ctx), 0);
	put(&jam, &probe, ctx);
	evwork_ctx_unref(ctx);
	ck_assert_int_eq(evwork_ctx_cancel(parent, 0), 0);
	world_turns(&jam.world, 1);
	expect_not_run(&probe, -ECANCELED);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	put(&jam, &running, ctx);
	evwork_ctx_unref(ctx);
	evwork_ctx_unref(parent);
	jam_close(&jam);
	expect_run(&running, 0);
}
END_TEST

static void add_queued(Suite *suite)
{
	TCase *tcase = support_case(suite, "queued");

	tcase_add_test(tcase, cancel_queued);
	tcase_add_test(tcase, cancel_then_resubmit);
	tcase_add_test(tcase, cancel_in_the_middle);
	tcase_add_test(tcase, cancel_set_aside);
	tcase_add_test(tcase, cancel_not_held_back);
	tcase_add_test(tcase, cancel_makes_room);
	tcase_add_test(tcase, cancel_from_anywhere);
	tcase_add_test(tcase, cancel_queued_twice);
}

static void add_started(Suite *suite)
{
	TCase *tcase = support_case(suite, "started");
	int count = sizeof(own_results) / sizeof(own_results[0]);

	tcase_add_loop_test(tcase, cancel_running, 0, count);
	tcase_add_test(tcase, cancel_nobody);
	tcase_add_test(tcase, cancel_running_twice);
	tcase_add_test(tcase, cancel_finished);
	tcase_add_test(tcase, cancel_idle);
	tcase_add_test(tcase, cancel_race);
	tcase_add_loop_test(tcase, ctx_cancelled_running, 0, count);
	tcase_add_loop_test(tcase, ctx_expires_running, 0, count);
}

static void add_ctx(Suite *suite)
{
	TCase *tcase = support_case(suite, "ctx");

	tcase_add_test(tcase, ctx_cancelled_queued);
	tcase_add_test(tcase, ctx_expires_queued);
	tcase_add_test(tcase, ctx_expires_stalled);
	tcase_add_test(tcase, ctx_many_queued);
	tcase_add_test(tcase, ctx_kept_by_job);
}

static Suite *suite(void)
{
	Suite *suite = suite_create("pool_cancel");

	add_queued(suite);
	add_started(suite);
	add_ctx(suite);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
