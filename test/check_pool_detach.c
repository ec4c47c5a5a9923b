/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Detached jobs: their done does not wait for work that has become pointless, and
 * what work brings later goes to drop.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>

enum { STEPS = 4 };

/* What the work of a job does, one step after the other: before each it passes
 * a gate, so that the test can act in between. */
enum step { STEP_END, STEP_ON, STEP_OFF, STEP_ASK };

struct detach {
	struct probe probe;
	struct gate gates[STEPS];
	enum step steps[STEPS];
	int answers[STEPS];        /* of evwork_job_set_detach or evwork_job_err */
	int drops;
	int drop_ran;
	pthread_t drop_thread;
	int drop_cancel, drop_submit;   /* what calls on the job in drop gave */
	struct evwork_loop *again;      /* drop submits the job anew to it */
};

static void detach_run(struct probe *probe)
{
	struct detach *detach = EVWORK_CONTAINER(probe, struct detach, probe);
	int i;

	for (i = 0; i < STEPS && detach->steps[i] != STEP_END; i++) {
		gate_pass(&detach->gates[i]);
		if (detach->steps[i] == STEP_ASK)
			detach->answers[i] = evwork_job_err(&probe->job);
		else
			detach->answers[i] = evwork_job_set_detach(&probe->job,
				detach->steps[i] == STEP_ON);
	}
}

static void detach_drop(struct evwork_job *job)
{
	struct detach *detach = EVWORK_CONTAINER(job, struct detach, probe.job);

	detach->drops++;
	detach->drop_ran = evwork_job_ran(job);
	detach->drop_thread = pthread_self();
	detach->drop_cancel = evwork_cancel(job);
	if (detach->again)
		detach->drop_submit = evwork_submit(detach->again, job);
}

/* A job with a drop function, not detached so far. The steps end with STEP_END or
 * when there are STEPS of them. */
static void detach_init(struct detach *detach, int result, const enum step *steps)
{
	int i;

	memset(detach, 0, sizeof(*detach));
	probe_init(&detach->probe, result);
	detach->probe.on_run = detach_run;
	detach->probe.job.drop = detach_drop;
	detach->drop_cancel = detach->drop_submit = 1;
	for (i = 0; i < STEPS; i++) {
		gate_init(&detach->gates[i]);
		detach->answers[i] = 1;
	}
	for (i = 0; i < STEPS && steps[i] != STEP_END; i++)
		detach->steps[i] = steps[i];
}

static void detach_fini(struct detach *detach)
{
	int i;

	for (i = 0; i < STEPS; i++)
		gate_fini(&detach->gates[i]);
}

/* Submits it and waits until it is in front of its first step. */
static void detach_start(struct detach *detach, struct world *world)
{
	ck_assert_int_eq(evwork_submit(world->loop, &detach->probe.job), 0);
	gate_await(&detach->gates[0], 1);
}

/* Lets it take step i and waits until it is in front of the next. */
static void detach_step(struct detach *detach, int i)
{
	gate_open(&detach->gates[i]);
	gate_await(&detach->gates[i + 1], 1);
}

static void expect_abandoned(const struct detach *detach, int status)
{
	ck_assert_int_eq(detach->probe.dones, 1);
	ck_assert_int_eq(detach->probe.status, status);
	ck_assert_int_eq(detach->probe.ran, 1);
	ck_assert_int_eq(detach->probe.abandoned, 1);
}

static void expect_delivered(const struct detach *detach, int status)
{
	ck_assert_int_eq(detach->probe.dones, 1);
	ck_assert_int_eq(detach->probe.status, status);
	ck_assert_int_eq(detach->probe.ran, 1);
	ck_assert_int_eq(detach->probe.abandoned, 0);
	ck_assert_int_eq(detach->drops, 0);
}

static void expect_dropped(const struct detach *detach, int status)
{
	expect_abandoned(detach, status);
	ck_assert_int_eq(detach->drops, 1);
	ck_assert_int_eq(detach->drop_ran, 1);
	ck_assert(pthread_equal(detach->drop_thread, pthread_self()));
	ck_assert_int_eq(atomic_load(&detach->probe.runs), 1);
}

static const enum step ask[] = { STEP_ASK, STEP_END };
static const enum step off_on[] = { STEP_OFF, STEP_ON, STEP_END };
static const enum step on_off[] = { STEP_ON, STEP_OFF, STEP_END };
static const enum step on_ask[] = { STEP_ON, STEP_ASK, STEP_END };

static int busy_of(struct world *world)
{
	struct evwork_pool_stats stats;

	ck_assert_int_eq(evwork_pool_stats(world->pool, &stats), 0);
	return stats.busy;
}

static uint64_t running_of(struct world *world)
{
	struct evwork_lane_stats stats;

	ck_assert_int_eq(evwork_lane_stats(evwork_pool_lane(world->pool), &stats), 0);
	return stats.running;
}

/* Being abandoned. */

/* When its context dies while a detached job runs, done gets the error at once, with
 * ran and abandoned set, while work goes on, keeps its worker and counts as running;
 * what it returns goes to drop on the loop, and there is no second done
 * (S-POOL-14). */
START_TEST(detach_ctx_cancelled)
{
	struct detach detach;
	struct probe behind;
	struct evwork_ctx *ctx;
	struct world world;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	detach_init(&detach, 5, ask);
	detach.probe.job.ctx = ctx;
	ck_assert_int_eq(evwork_job_set_detach(&detach.probe.job, 1), 0);
	detach_start(&detach, &world);
	probe_init(&behind, 0);
	ck_assert_int_eq(evwork_submit(world.loop, &behind.job), 0);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	ck_assert_int_eq(detach.probe.dones, 0);
	world_turns(&world, 1);
	expect_abandoned(&detach, -ECANCELED);
	ck_assert_int_eq(detach.drops, 0);
	ck_assert_int_eq(busy_of(&world), 1);
	ck_assert_uint_eq(running_of(&world), 1);
	ck_assert_int_eq(atomic_load(&behind.runs), 0);
	gate_open(&detach.gates[0]);
	world_run(&world);
	world_run_until(&world, &detach.drops, 1);
	ck_assert_int_eq(detach.answers[0], -ECANCELED);
	expect_dropped(&detach, -ECANCELED);
	ck_assert_int_eq(behind.status, 0);
	ck_assert_int_eq(busy_of(&world), 0);
	evwork_ctx_unref(ctx);
	detach_fini(&detach);
	world_close(&world);
}
END_TEST

/* A deadline abandons a detached job with ETIMEDOUT (S-POOL-14). */
START_TEST(detach_ctx_expires)
{
	struct detach detach;
	struct evwork_ctx *ctx;
	struct world world;

	world_open_manual(&world, 1, SYS_NS_PER_MS);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 10, 0, &ctx), 0);
	detach_init(&detach, 0, ask);
	detach.probe.job.ctx = ctx;
	ck_assert_int_eq(evwork_job_set_detach(&detach.probe.job, 1), 0);
	detach_start(&detach, &world);
	ck_assert_int_eq(evwork_clock_advance(world.clock, 10 * SYS_NS_PER_MS), 0);
	world_run_until(&world, &detach.probe.dones, 1);
	expect_abandoned(&detach, -ETIMEDOUT);
	gate_open(&detach.gates[0]);
	world_run_until(&world, &detach.drops, 1);
	ck_assert_int_eq(detach.answers[0], -ETIMEDOUT);
	expect_dropped(&detach, -ETIMEDOUT);
	evwork_ctx_unref(ctx);
	detach_fini(&detach);
	world_close(&world);
}
END_TEST

/* A cancel abandons a detached job that runs, too: it still says EBUSY, and the
 * done comes in the next turn (S-POOL-14, S-POOL-9). */
START_TEST(detach_cancelled)
{
	struct detach detach;
	struct world world;

	world_open(&world, 1);
	detach_init(&detach, 0, ask);
	ck_assert_int_eq(evwork_job_set_detach(&detach.probe.job, 1), 0);
	detach_start(&detach, &world);
	ck_assert_int_eq(evwork_cancel(&detach.probe.job), -EBUSY);
	world_turns(&world, 1);
	expect_abandoned(&detach, -ECANCELED);
	gate_open(&detach.gates[0]);
	world_run_until(&world, &detach.drops, 1);
	ck_assert_int_eq(detach.answers[0], -ECANCELED);
	expect_dropped(&detach, -ECANCELED);
	detach_fini(&detach);
	world_close(&world);
}
END_TEST

/* Work may mark its own job as detached, also when the cancel comes later
 * (S-POOL-15, S-POOL-14). */
START_TEST(detach_marked_in_work)
{
	struct detach detach;
	struct world world;

	world_open(&world, 1);
	detach_init(&detach, 0, on_ask);
	detach_start(&detach, &world);
	detach_step(&detach, 0);
	ck_assert_int_eq(evwork_cancel(&detach.probe.job), -EBUSY);
	world_turns(&world, 1);
	expect_abandoned(&detach, -ECANCELED);
	gate_open(&detach.gates[1]);
	world_run_until(&world, &detach.drops, 1);
	ck_assert_int_eq(detach.answers[0], 0);
	ck_assert_int_eq(detach.answers[1], -ECANCELED);
	expect_dropped(&detach, -ECANCELED);
	detach_fini(&detach);
	world_close(&world);
}
END_TEST

/* An abandoned job holds its place under its lane's cap until its work returns
 * (S-POOL-14, S-LANE-3, S-LANE-4). */
START_TEST(detach_holds_cap)
{
	struct evwork_lane_options options = { .max_running = 1 };
	struct probe capped, free_lane;
	struct evwork_lane *lane;
	struct detach detach;
	struct world world;

	world_open(&world, 2);
	ck_assert_int_eq(evwork_lane_new(world.pool, &options, &lane), 0);
	detach_init(&detach, 0, ask);
	detach.probe.job.lane = lane;
	ck_assert_int_eq(evwork_job_set_detach(&detach.probe.job, 1), 0);
	detach_start(&detach, &world);
	ck_assert_int_eq(evwork_cancel(&detach.probe.job), -EBUSY);
	world_turns(&world, 1);
	expect_abandoned(&detach, -ECANCELED);
	probe_init(&capped, 0);
	capped.job.lane = lane;
	ck_assert_int_eq(evwork_submit(world.loop, &capped.job), 0);
	probe_init(&free_lane, 0);
	ck_assert_int_eq(evwork_submit(world.loop, &free_lane.job), 0);
	world_run_until(&world, &free_lane.dones, 1);
	ck_assert_int_eq(atomic_load(&capped.runs), 0);
	ck_assert_int_eq(evwork_lane_free(lane), -EBUSY);
	gate_open(&detach.gates[0]);
	world_run_until(&world, &capped.dones, 1);
	world_run_until(&world, &detach.drops, 1);
	expect_dropped(&detach, -ECANCELED);
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	detach_fini(&detach);
	world_close(&world);
}
END_TEST

/* Between its abandoned done and drop the job is still the library's: it cannot be
 * submitted; in drop it is the caller's again, and can be (S-POOL-14, S-GEN-7). */
START_TEST(detach_owned_until_drop)
{
	struct detach detach;
	struct world world;

	world_open(&world, 1);
	detach_init(&detach, 0, ask);
	ck_assert_int_eq(evwork_job_set_detach(&detach.probe.job, 1), 0);
	detach_start(&detach, &world);
	ck_assert_int_eq(evwork_cancel(&detach.probe.job), -EBUSY);
	world_turns(&world, 1);
	expect_abandoned(&detach, -ECANCELED);
	ck_assert_int_eq(evwork_submit(world.loop, &detach.probe.job), -EBUSY);
	detach.again = world.loop;
	gate_open(&detach.gates[0]);
	world_run_until(&world, &detach.probe.dones, 2);
	ck_assert_int_eq(detach.drop_cancel, -ESRCH);
	ck_assert_int_eq(detach.drop_submit, 0);
	ck_assert_int_eq(detach.drops, 1);
	ck_assert_int_eq(atomic_load(&detach.probe.runs), 2);
	ck_assert_int_eq(detach.probe.status, 0);
	ck_assert_int_eq(detach.probe.abandoned, 0);
	detach_fini(&detach);
	world_close(&world);
}
END_TEST

struct parcel {
	struct evwork_job job;
	struct gate *gate;
};

static int parcels_freed;

static int parcel_run(struct evwork_job *job)
{
	gate_pass(EVWORK_CONTAINER(job, struct parcel, job)->gate);
	return 0;
}

static void parcel_done(struct evwork_job *job, int status)
{
	(void)status;
	if (!evwork_job_abandoned(job))
		free(EVWORK_CONTAINER(job, struct parcel, job));
}

static void parcel_drop(struct evwork_job *job)
{
	free(EVWORK_CONTAINER(job, struct parcel, job));
	parcels_freed++;
}

/* Drop may free the memory that holds the job (S-POOL-14, S-GEN-5). */
START_TEST(detach_freed_in_drop)
{
	struct parcel *parcel = malloc(sizeof(*parcel));
	struct world world;
	struct gate gate;

	ck_assert_ptr_nonnull(parcel);
	parcels_freed = 0;
	gate_init(&gate);
	world_open(&world, 1);
	evwork_job_init(&parcel->job, parcel_run, parcel_done);
	parcel->job.drop = parcel_drop;
	parcel->gate = &gate;
	ck_assert_int_eq(evwork_job_set_detach(&parcel->job, 1), 0);
	ck_assert_int_eq(evwork_submit(world.loop, &parcel->job), 0);
	gate_await(&gate, 1);
	ck_assert_int_eq(evwork_cancel(&parcel->job), -EBUSY);
	world_turns(&world, 1);
	gate_open(&gate);
	world_run_until(&world, &parcels_freed, 1);
	ck_assert_int_eq(parcels_freed, 1);
	world_close(&world);
	gate_fini(&gate);
}
END_TEST

/* A detached job that was started on the loop's thread keeps the loop alive until
 * its drop (S-DLV-7, S-POOL-14). */
START_TEST(detach_keeps_loop)
{
	struct detach detach;
	struct world world;

	world_open(&world, 1);
	detach_init(&detach, 0, ask);
	ck_assert_int_eq(evwork_job_set_detach(&detach.probe.job, 1), 0);
	detach_start(&detach, &world);
	ck_assert_int_eq(evwork_cancel(&detach.probe.job), -EBUSY);
	world_turns(&world, 1);
	expect_abandoned(&detach, -ECANCELED);
	gate_open(&detach.gates[0]);
	world_run(&world);
	expect_dropped(&detach, -ECANCELED);
	detach_fini(&detach);
	world_close(&world);
}
END_TEST

/* Not being abandoned. */

/* Off by default: with a drop function alone, done waits for work and gets what it
 * returns, and drop is not called (S-POOL-14). */
START_TEST(detach_off_by_default)
{
	struct detach detach;
	struct world world;

	world_open(&world, 1);
	detach_init(&detach, 5, ask);
	detach_start(&detach, &world);
	ck_assert_int_eq(evwork_cancel(&detach.probe.job), -EBUSY);
	world_turns(&world, 2);
	ck_assert_int_eq(detach.probe.dones, 0);
	gate_open(&detach.gates[0]);
	world_run(&world);
	ck_assert_int_eq(detach.answers[0], -ECANCELED);
	expect_delivered(&detach, 5);
	detach_fini(&detach);
	world_close(&world);
}
END_TEST

/* A detached job that nobody stops is delivered like any other, and drop is not
 * called (S-POOL-14). */
START_TEST(detach_not_stopped)
{
	struct detach detach;
	struct world world;

	world_open(&world, 1);
	detach_init(&detach, 5, ask);
	ck_assert_int_eq(evwork_job_set_detach(&detach.probe.job, 1), 0);
	detach_start(&detach, &world);
	gate_open(&detach.gates[0]);
	world_run(&world);
	ck_assert_int_eq(detach.answers[0], 0);
	expect_delivered(&detach, 5);
	detach_fini(&detach);
	world_close(&world);
}
END_TEST

/* A detached job that is cancelled while it is queued ends like any other: not run,
 * not abandoned, not dropped (S-POOL-14, S-POOL-8). */
START_TEST(detach_cancelled_queued)
{
	struct gate_job blocker;
	struct detach detach;
	struct world world;
	struct gate gate;

	world_open(&world, 1);
	gate_init(&gate);
	gate_job_init(&blocker, &gate);
	ck_assert_int_eq(evwork_submit(world.loop, &blocker.job), 0);
	gate_await(&gate, 1);
	detach_init(&detach, 0, ask);
	ck_assert_int_eq(evwork_job_set_detach(&detach.probe.job, 1), 0);
	ck_assert_int_eq(evwork_submit(world.loop, &detach.probe.job), 0);
	ck_assert_int_eq(evwork_cancel(&detach.probe.job), 0);
	world_turns(&world, 1);
	ck_assert_int_eq(detach.probe.dones, 1);
	ck_assert_int_eq(detach.probe.status, -ECANCELED);
	ck_assert_int_eq(detach.probe.ran, 0);
	ck_assert_int_eq(detach.probe.abandoned, 0);
	gate_open(&gate);
	world_run(&world);
	ck_assert_int_eq(detach.drops, 0);
	ck_assert_int_eq(detach.probe.dones, 1);
	detach_fini(&detach);
	world_close(&world);
	gate_fini(&gate);
}
END_TEST

/* Critical sections. */

/* Work that has switched detaching off is not abandoned by a cancel; switching on
 * again fails with ECANCELED then, and the real outcome is delivered (S-POOL-15). */
START_TEST(detach_off_then_cancelled)
{
	struct detach detach;
	struct world world;

	world_open(&world, 1);
	detach_init(&detach, 7, off_on);
	ck_assert_int_eq(evwork_job_set_detach(&detach.probe.job, 1), 0);
	detach_start(&detach, &world);
	detach_step(&detach, 0);
	ck_assert_int_eq(evwork_cancel(&detach.probe.job), -EBUSY);
	world_turns(&world, 2);
	ck_assert_int_eq(detach.probe.dones, 0);
	gate_open(&detach.gates[1]);
	world_run(&world);
	ck_assert_int_eq(detach.answers[0], 0);
	ck_assert_int_eq(detach.answers[1], -ECANCELED);
	expect_delivered(&detach, 7);
	detach_fini(&detach);
	world_close(&world);
}
END_TEST

/* The same when the context was cancelled, and ETIMEDOUT where its deadline has
 * passed (S-POOL-15). */
START_TEST(detach_off_then_ctx_dies)
{
	int i, errors[] = { -ECANCELED, -ETIMEDOUT };

	for (i = 0; i < 2; i++) {
		struct detach detach;
		struct evwork_ctx *ctx;
		struct world world;

		world_open_manual(&world, 1, SYS_NS_PER_MS);
		ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world.loop, 10, 0, &ctx), 0);
		detach_init(&detach, 7, off_on);
		detach.probe.job.ctx = ctx;
		ck_assert_int_eq(evwork_job_set_detach(&detach.probe.job, 1), 0);
		detach_start(&detach, &world);
		detach_step(&detach, 0);
		if (i == 0)
			ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
		else
			ck_assert_int_eq(evwork_clock_jump(world.clock, 10 * SYS_NS_PER_MS), 0);
		world_turns(&world, 2);
		ck_assert_int_eq(detach.probe.dones, 0);
		gate_open(&detach.gates[1]);
		world_run(&world);
		ck_assert_int_eq(detach.answers[0], 0);
		ck_assert_int_eq(detach.answers[1], errors[i]);
		expect_delivered(&detach, 7);
		evwork_ctx_unref(ctx);
		detach_fini(&detach);
		world_close(&world);
	}
}
END_TEST

/* Switching off after the abandoned done was sent is EALREADY, even before the loop
 * has delivered it, and changes nothing (S-POOL-15). */
START_TEST(detach_off_too_late)
{
	struct detach detach;
	struct world world;

	world_open(&world, 1);
	detach_init(&detach, 7, on_off);
	detach_start(&detach, &world);
	detach_step(&detach, 0);
	ck_assert_int_eq(evwork_cancel(&detach.probe.job), -EBUSY);
	gate_open(&detach.gates[1]);
	world_run_until(&world, &detach.drops, 1);
	ck_assert_int_eq(detach.answers[0], 0);
	ck_assert_int_eq(detach.answers[1], -EALREADY);
	expect_dropped(&detach, -ECANCELED);
	detach_fini(&detach);
	world_close(&world);
}
END_TEST

/* Off and on around a section in which nothing happened leaves a job that can be
 * abandoned as before (S-POOL-15). */
START_TEST(detach_off_and_on)
{
	static const enum step steps[] = { STEP_OFF, STEP_ON, STEP_ASK, STEP_END };
	struct detach detach;
	struct world world;

	world_open(&world, 1);
	detach_init(&detach, 7, steps);
	ck_assert_int_eq(evwork_job_set_detach(&detach.probe.job, 1), 0);
	detach_start(&detach, &world);
	detach_step(&detach, 0);
	detach_step(&detach, 1);
	ck_assert_int_eq(evwork_cancel(&detach.probe.job), -EBUSY);
	world_turns(&world, 1);
	expect_abandoned(&detach, -ECANCELED);
	gate_open(&detach.gates[2]);
	world_run_until(&world, &detach.drops, 1);
	ck_assert_int_eq(detach.answers[0], 0);
	ck_assert_int_eq(detach.answers[1], 0);
	ck_assert_int_eq(detach.answers[2], -ECANCELED);
	expect_dropped(&detach, -ECANCELED);
	detach_fini(&detach);
	world_close(&world);
}
END_TEST

/* Refusals. */

/* Without a job, or on without a drop function, switching is EINVAL; while the job
 * is on its way only its own work may switch, anyone else gets EPERM, and nothing
 * changes (S-POOL-15, S-GEN-8). */
START_TEST(detach_refused)
{
	struct detach detach;
	struct world world;
	struct probe probe;

	world_open(&world, 1);
	ck_assert_int_eq(evwork_job_set_detach(NULL, 1), -EINVAL);
	ck_assert_int_eq(evwork_job_set_detach(NULL, 0), -EINVAL);
	probe_init(&probe, 0);
	ck_assert_int_eq(evwork_job_set_detach(&probe.job, 1), -EINVAL);
	ck_assert_int_eq(evwork_job_set_detach(&probe.job, 0), 0);
	detach_init(&detach, 5, ask);
	detach_start(&detach, &world);
	ck_assert_int_eq(evwork_job_set_detach(&detach.probe.job, 1), -EPERM);
	ck_assert_int_eq(evwork_job_set_detach(&detach.probe.job, 0), -EPERM);
	probe.job.drop = detach_drop;
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	ck_assert_int_eq(evwork_job_set_detach(&probe.job, 1), -EPERM);
	ck_assert_int_eq(evwork_cancel(&detach.probe.job), -EBUSY);
	world_turns(&world, 2);
	ck_assert_int_eq(detach.probe.dones, 0);
	gate_open(&detach.gates[0]);
	world_run(&world);
	expect_delivered(&detach, 5);
	ck_assert_int_eq(probe.status, 0);
	detach_fini(&detach);
	world_close(&world);
}
END_TEST

/* Races. */

#define RACERS 2000

static struct detach_racer {
	struct probe probe;
	int drops;
} racers[RACERS];

static void racer_drop(struct evwork_job *job)
{
	EVWORK_CONTAINER(job, struct detach_racer, probe.job)->drops++;
}

static void yield_in_run(struct probe *probe)
{
	(void)probe;
	sys_yield();
}

static atomic_int race_started;

static void *race_cancel(void *arg)
{
	int i;

	(void)arg;
	for (i = 0; i < RACERS; i++) {
		while (atomic_load(&race_started) <= i)
			sys_yield();
		evwork_cancel(&racers[i].probe.job);
	}
	return NULL;
}

/* Whatever a cancel meets, a detached job has one done; it has one drop exactly if
 * that done was abandoned (S-POOL-14, S-GEN-2, S-GEN-18). */
START_TEST(detach_race)
{
	struct world world;
	pthread_t thread;
	int i;

	world_open(&world, 2);
	atomic_store(&race_started, 0);
	for (i = 0; i < RACERS; i++) {
		probe_init(&racers[i].probe, 0);
		racers[i].probe.on_run = yield_in_run;
		racers[i].probe.job.drop = racer_drop;
		racers[i].drops = 0;
		ck_assert_int_eq(evwork_job_set_detach(&racers[i].probe.job, 1), 0);
	}
	ck_assert_int_eq(pthread_create(&thread, NULL, race_cancel, NULL), 0);
	for (i = 0; i < RACERS; i++) {
		ck_assert_int_eq(evwork_submit(world.loop, &racers[i].probe.job), 0);
		atomic_fetch_add(&race_started, 1);
		if (i % 16 == 0)
			world_turns(&world, 1);
	}
	pthread_join(thread, NULL);
	world_run(&world);
	for (i = 0; i < RACERS; i++) {
		const struct probe *probe = &racers[i].probe;

		ck_assert_int_eq(probe->dones, 1);
		ck_assert_int_eq(racers[i].drops, probe->abandoned);
		ck_assert_int_eq(atomic_load(&probe->runs), probe->ran);
		ck_assert_int_eq(probe->status, probe->ran && !probe->abandoned ? 0 : -ECANCELED);
	}
	world_close(&world);
}
END_TEST

/* Turns detaching on in its work, and waits there until the cancel has come. */
static int detach_rcs[RACERS];

static void detach_in_run(struct probe *probe)
{
	struct detach_racer *racer = EVWORK_CONTAINER(probe, struct detach_racer, probe);

	detach_rcs[racer - racers] = evwork_job_set_detach(&probe->job, 1);
	while (evwork_job_err(&probe->job) == 0)
		sys_yield();
}

/* Turning detaching on in work races with a cancel: either it says ECANCELED and the
 * real outcome is delivered, or it says 0 and the job is abandoned (S-POOL-15). */
START_TEST(detach_race_in_work)
{
	struct world world;
	pthread_t thread;
	int i;

	world_open(&world, 2);
	atomic_store(&race_started, 0);
	for (i = 0; i < RACERS; i++) {
		probe_init(&racers[i].probe, 7);
		racers[i].probe.on_run = detach_in_run;
		racers[i].probe.job.drop = racer_drop;
		racers[i].drops = 0;
	}
	ck_assert_int_eq(pthread_create(&thread, NULL, race_cancel, NULL), 0);
	for (i = 0; i < RACERS; i++) {
		ck_assert_int_eq(evwork_submit(world.loop, &racers[i].probe.job), 0);
		/* One after the other, so that most are cancelled when they run. */
		while (i % 2 && !atomic_load(&racers[i].probe.runs))
			sys_yield();
		atomic_fetch_add(&race_started, 1);
		world_turns(&world, 1);
	}
	pthread_join(thread, NULL);
	world_run(&world);
	for (i = 0; i < RACERS; i++) {
		const struct probe *probe = &racers[i].probe;

		ck_assert_int_eq(probe->dones, 1);
		ck_assert_int_eq(racers[i].drops, probe->abandoned);
		if (!probe->ran)
			continue;
		ck_assert(detach_rcs[i] == 0 || detach_rcs[i] == -ECANCELED);
		ck_assert_int_eq(probe->abandoned, detach_rcs[i] == 0);
		ck_assert_int_eq(probe->status, detach_rcs[i] == 0 ? -ECANCELED : 7);
	}
	world_close(&world);
}
END_TEST

static Suite *suite(void)
{
	Suite *suite = suite_create("pool_detach");
	TCase *tcase = support_case(suite, "abandoned");

	tcase_add_test(tcase, detach_ctx_cancelled);
	tcase_add_test(tcase, detach_ctx_expires);
	tcase_add_test(tcase, detach_cancelled);
	tcase_add_test(tcase, detach_marked_in_work);
	tcase_add_test(tcase, detach_holds_cap);
	tcase_add_test(tcase, detach_owned_until_drop);
	tcase_add_test(tcase, detach_freed_in_drop);
	tcase_add_test(tcase, detach_keeps_loop);
	tcase_add_test(tcase, detach_race);
	tcase_add_test(tcase, detach_race_in_work);
	tcase = support_case(suite, "delivered");
	tcase_add_test(tcase, detach_off_by_default);
	tcase_add_test(tcase, detach_not_stopped);
	tcase_add_test(tcase, detach_cancelled_queued);
	tcase_add_test(tcase, detach_off_then_cancelled);
	tcase_add_test(tcase, detach_off_then_ctx_dies);
	tcase_add_test(tcase, detach_off_too_late);
	tcase_add_test(tcase, detach_off_and_on);
	tcase_add_test(tcase, detach_refused);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
