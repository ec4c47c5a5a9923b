/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Guards are called under no lock: from acquire and release everything that does
 * not block may be called, on whichever thread and for whichever reason they run.
 * If a lock were held these tests would hang.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>

enum { OTHERS = 64 };

/* A guard that uses the library whenever it is called. */
struct meddler {
	struct evwork_guard guard;
	struct world world;
	struct evwork_lane *lane;        /* the lane that it guards */
	struct evwork_lane *plain;       /* one without guards */
	int refusal;                     /* what acquire answers */
	struct probe others[OTHERS];     /* jobs of the plain lane, one for each call */
	atomic_int calls, errors;
	atomic_bool closes;              /* release closes the pool */
	int closed;
};

static void count_closed(struct evwork_pool *pool, int status, void *arg)
{
	(void)pool;
	(void)status;
	((struct meddler *)arg)->closed++;
}

/* Asks for statistics, makes and frees a lane, and submits to the plain lane a job
 * that it then cancels. */
static int meddle(struct meddler *meddler)
{
	struct evwork_lane_options options = { .name = "passing" };
	struct evwork_pool *pool = meddler->world.pool;
	int i = atomic_fetch_add(&meddler->calls, 1), rc;
	struct evwork_pool_stats pool_stats;
	struct evwork_lane_stats stats;
	struct evwork_lane *lane;

	if (i >= OTHERS)
		return -ERANGE;
	rc = evwork_lane_stats(meddler->lane, &stats);
	if (rc == 0)
		rc = evwork_lane_stats(meddler->plain, &stats);
	if (rc == 0)
		rc = evwork_pool_stats(pool, &pool_stats);
	if (rc == 0)
		rc = evwork_lane_new(pool, &options, &lane);
	if (rc == 0)
		rc = evwork_lane_free(lane);
	if (rc == 0)
		rc = evwork_submit(meddler->world.loop, &meddler->others[i].job);
	if (rc == 0)
		rc = evwork_cancel(&meddler->others[i].job);
	/* It may have started, or even have been delivered, meanwhile. */
	return rc == -EBUSY || rc == -ESRCH ? 0 : rc;
}

static int meddler_acquire(struct evwork_guard *guard, const struct evwork_job *job,
	struct evwork_permit *permit)
{
	struct meddler *meddler = EVWORK_CONTAINER(guard, struct meddler, guard);

	(void)job;
	(void)permit;
	if (!atomic_load(&meddler->closes) && meddle(meddler) != 0)
		atomic_fetch_add(&meddler->errors, 1);
	return meddler->refusal;
}

static void meddler_release(struct evwork_guard *guard, const struct evwork_permit *permit,
	const struct evwork_end *end)
{
	struct meddler *meddler = EVWORK_CONTAINER(guard, struct meddler, guard);
	int rc;

	(void)permit;
	(void)end;
	if (!atomic_load(&meddler->closes)) {
		rc = meddle(meddler);
	} else {
		rc = evwork_pool_close(meddler->world.pool, EVWORK_CANCEL_ALL,
			meddler->world.loop, count_closed, meddler);
		if (rc == -EALREADY)
			rc = 0;
	}
	if (rc != 0)
		atomic_fetch_add(&meddler->errors, 1);
}

/* A world on a manual clock with so many workers. */
static struct meddler *meddler_open(int workers, size_t queue_limit)
{
	static struct meddler meddler;
	struct evwork_guard *const guards[] = { &meddler.guard };
	struct evwork_lane_options options = {
		.queue_limit = queue_limit, .timeout_ms = 100, .guards = guards, .guard_count = 1
	};
	int i;

	memset(&meddler, 0, sizeof(meddler));
	meddler.guard.acquire = meddler_acquire;
	meddler.guard.release = meddler_release;
	world_open_manual(&meddler.world, workers, SYS_NS_PER_MS);
	ck_assert_int_eq(evwork_lane_new(meddler.world.pool, &options, &meddler.lane), 0);
	meddler.plain = evwork_pool_lane(meddler.world.pool);
	for (i = 0; i < OTHERS; i++)
		probe_init(&meddler.others[i], 0);
	return &meddler;
}

static void meddler_close(struct meddler *meddler)
{
	int i, calls = atomic_load(&meddler->calls);

	ck_assert_int_le(calls, OTHERS);
	ck_assert_int_eq(atomic_load(&meddler->errors), 0);
	for (i = 0; i < calls; i++)
		world_run_until(&meddler->world, &meddler->others[i].dones, 1);
	world_run(&meddler->world);
	world_close(&meddler->world);
}

static int submit(struct meddler *meddler, struct probe *probe, struct evwork_ctx *ctx)
{
	probe_init(probe, 0);
	probe->job.lane = meddler->lane;
	probe->job.ctx = ctx;
	return evwork_submit(meddler->world.loop, &probe->job);
}

/* Holds the only worker in a gate, through the plain lane. */
static void block(struct meddler *meddler, struct gate *gate, struct gate_job *job)
{
	gate_init(gate);
	gate_job_init(job, gate);
	ck_assert_int_eq(evwork_submit(meddler->world.loop, &job->job), 0);
	gate_await(gate, 1);
}

/* When a job is accepted and runs, its guard may use the library in acquire and, on
 * the worker, in release (S-LANE-9, S-GEN-5). */
START_TEST(lock_run)
{
	struct meddler *meddler = meddler_open(2, 0);
	struct probe probe;

	ck_assert_int_eq(submit(meddler, &probe, NULL), 0);
	world_run_until(&meddler->world, &probe.dones, 1);
	ck_assert_int_eq(probe.status, 0);
	ck_assert_int_eq(atomic_load(&meddler->calls), 2);
	meddler_close(meddler);
}
END_TEST

/* When a job is refused, by the guard or for want of room, its guard may use the
 * library in both calls (S-LANE-9, S-LANE-2). */
START_TEST(lock_refused)
{
	struct meddler *meddler = meddler_open(1, 1);
	struct probe probe, refused;
	struct gate_job blocker;
	struct gate gate;

	block(meddler, &gate, &blocker);
	ck_assert_int_eq(submit(meddler, &probe, NULL), 0);
	ck_assert_int_eq(submit(meddler, &refused, NULL), -EAGAIN);
	meddler->refusal = -EBUSY;
	ck_assert_int_eq(submit(meddler, &refused, NULL), -EBUSY);
	/* Three times asked, and one permit given back. */
	ck_assert_int_eq(atomic_load(&meddler->calls), 4);
	gate_open(&gate);
	world_run_until(&meddler->world, &probe.dones, 1);
	meddler_close(meddler);
	gate_fini(&gate);
}
END_TEST

/* The ways in which a queued job can end without running. */
enum way { WAY_CANCEL, WAY_CTX, WAY_DEADLINE, WAY_TIMEOUT, WAY_CLOSE, WAYS };

static void end_it(enum way way, struct meddler *meddler, struct probe *probe,
	struct evwork_ctx *ctx, struct gate *gate)
{
	struct world *world = &meddler->world;

	switch (way) {
	case WAY_CANCEL:
		ck_assert_int_eq(evwork_cancel(&probe->job), 0);
		break;
	case WAY_CTX:
		ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
		break;
	case WAY_DEADLINE:
		ck_assert_int_eq(evwork_clock_jump(world->clock, 10 * SYS_NS_PER_MS), 0);
		break;
	case WAY_TIMEOUT:
		ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
		ck_assert_int_eq(evwork_clock_jump(world->clock, 100 * SYS_NS_PER_MS), 0);
		gate_open(gate);
		break;
	default:
		/* Nothing new is accepted any more; closing again is all that is left. */
		atomic_store(&meddler->closes, true);
		ck_assert_int_eq(evwork_pool_close(world->pool, EVWORK_CANCEL_QUEUED, world->loop,
			count_closed, meddler), 0);
		break;
	}
}

/* However a queued job ends, its guard may use the library in release
 * (S-LANE-9, S-LANE-3). */
START_TEST(lock_never_run)
{
	struct meddler *meddler = meddler_open(1, 0);
	struct gate_job blocker;
	struct evwork_ctx *ctx;
	struct probe probe;
	struct gate gate;

	block(meddler, &gate, &blocker);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, meddler->world.loop, 10, 0, &ctx), 0);
	ck_assert_int_eq(submit(meddler, &probe, _i == WAY_TIMEOUT ? NULL : ctx), 0);
	end_it((enum way)_i, meddler, &probe, ctx, &gate);
	world_run_until(&meddler->world, &probe.dones, 1);
	ck_assert_int_eq(probe.ran, 0);
	ck_assert_int_eq(atomic_load(&meddler->calls), _i == WAY_CLOSE ? 1 : 2);
	evwork_ctx_cancel(ctx, 0);
	evwork_ctx_unref(ctx);
	gate_open(&gate);
	if (_i == WAY_CLOSE)
		world_run_until(&meddler->world, &meddler->closed, 1);
	meddler_close(meddler);
	gate_fini(&gate);
}
END_TEST

/* A release may even close the pool of its lane, on a worker and inside a cancel
 * (S-LANE-9, S-SHUT-9). */
START_TEST(lock_release_closes)
{
	struct meddler *meddler = meddler_open(1, 0);
	struct probe first, second;
	struct gate_job blocker;
	struct gate gate;

	atomic_store(&meddler->closes, true);
	block(meddler, &gate, &blocker);
	ck_assert_int_eq(submit(meddler, &first, NULL), 0);
	ck_assert_int_eq(submit(meddler, &second, NULL), 0);
	if (_i == 1)
		ck_assert_int_eq(evwork_cancel(&second.job), 0);
	gate_open(&gate);
	world_run_until(&meddler->world, &meddler->closed, 1);
	ck_assert_int_eq(first.dones, 1);
	ck_assert_int_eq(first.status, _i == 1 ? -ECANCELED : 0);
	ck_assert_int_eq(second.dones, 1);
	ck_assert_int_eq(second.status, -ECANCELED);
	ck_assert_int_eq(blocker.status, 0);
	meddler_close(meddler);
	gate_fini(&gate);
}
END_TEST

static Suite *suite(void)
{
	Suite *suite = suite_create("lane_lock");
	TCase *tcase = support_case(suite, "lock");

	tcase_add_test(tcase, lock_run);
	tcase_add_test(tcase, lock_refused);
	tcase_add_loop_test(tcase, lock_never_run, 0, WAYS);
	tcase_add_loop_test(tcase, lock_release_closes, 0, 2);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
