/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Guards: when they are asked and in which order, and that each permit is released
 * exactly once whatever becomes of its job. What guards may call is in
 * check_lane_lock.c.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>

/* The ledger of all mock guards: one entry for each acquire, in order. */
enum { ENTRIES = 20000 };

struct mock;

struct entry {
	struct mock *mock;
	int answer;                /* what acquire said */
	int releases;
	struct evwork_end end;     /* of the last release */
	pthread_t acquire_thread, release_thread;
	bool clean;                /* acquire got an empty permit */
};

static struct {
	pthread_mutex_t mutex;     /* covers everything here */
	struct entry entries[ENTRIES];
	int count;
	int strays;                /* releases of what was never granted */
} ledger = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static void ledger_clear(void)
{
	ledger.count = ledger.strays = 0;
}

struct mock {
	struct evwork_guard guard;
	int answer;                /* of acquire */
};

static int mock_acquire(struct evwork_guard *guard, const struct evwork_job *job,
	struct evwork_permit *permit)
{
	struct mock *mock = EVWORK_CONTAINER(guard, struct mock, guard);
	struct entry *entry;

	(void)job;
	pthread_mutex_lock(&ledger.mutex);
	if (ledger.count < ENTRIES) {
		entry = &ledger.entries[ledger.count++];
		memset(entry, 0, sizeof(*entry));
		entry->mock = mock;
		entry->answer = mock->answer;
		entry->acquire_thread = pthread_self();
		entry->clean = permit->token == 0 && permit->not_before_ns == 0;
		permit->token = (uint64_t)ledger.count;
	} else {
		ledger.strays++;
	}
	pthread_mutex_unlock(&ledger.mutex);
	return mock->answer;
}

static void mock_release(struct evwork_guard *guard, const struct evwork_permit *permit,
	const struct evwork_end *end)
{
	struct mock *mock = EVWORK_CONTAINER(guard, struct mock, guard);
	struct entry *entry;

	pthread_mutex_lock(&ledger.mutex);
	if (permit->token >= 1 && permit->token <= (uint64_t)ledger.count &&
	    ledger.entries[permit->token - 1].mock == mock &&
	    ledger.entries[permit->token - 1].answer == 0) {
		entry = &ledger.entries[permit->token - 1];
		entry->releases++;
		entry->end = *end;
		entry->release_thread = pthread_self();
	} else {
		ledger.strays++;
	}
	pthread_mutex_unlock(&ledger.mutex);
}

static void mock_init(struct mock *mock, int answer)
{
	memset(mock, 0, sizeof(*mock));
	mock->guard.acquire = mock_acquire;
	mock->guard.release = mock_release;
	mock->answer = answer;
}

/* How many permits are out now. */
static int ledger_out(void)
{
	int i, out = 0;

	pthread_mutex_lock(&ledger.mutex);
	for (i = 0; i < ledger.count; i++)
		if (ledger.entries[i].answer == 0 && ledger.entries[i].releases == 0)
			out++;
	pthread_mutex_unlock(&ledger.mutex);
	return out;
}

/* Asserts that all permits were released once and nothing else was released. */
static void expect_settled(void)
{
	int i;

	pthread_mutex_lock(&ledger.mutex);
	ck_assert_int_eq(ledger.strays, 0);
	for (i = 0; i < ledger.count; i++) {
		ck_assert(ledger.entries[i].clean);
		ck_assert_int_eq(ledger.entries[i].releases, ledger.entries[i].answer == 0);
	}
	pthread_mutex_unlock(&ledger.mutex);
}

/* Asserts how the i-th permit of the test ended. */
static void expect_end(int i, enum evwork_outcome outcome, int status)
{
	ck_assert_int_lt(i, ledger.count);
	ck_assert_int_eq(ledger.entries[i].releases, 1);
	ck_assert_int_eq(ledger.entries[i].end.outcome, outcome);
	ck_assert_int_eq(ledger.entries[i].end.status, status);
}

/* Asserts that the i-th permit was given back because its job was refused. */
static void expect_given_back(int i)
{
	ck_assert_int_lt(i, ledger.count);
	ck_assert_int_eq(ledger.entries[i].releases, 1);
	ck_assert_int_eq(ledger.entries[i].end.outcome, EVWORK_IGNORE);
	ck_assert_int_eq(ledger.entries[i].end.run_ns, 0);
}

/* A world on a manual clock with one worker and a lane with three mock guards. */
struct guarded {
	struct world world;
	struct mock mocks[3];
	struct evwork_lane *lane;
	struct gate gate;
	struct gate_job blocker;
	int closing, closed;       /* calls of guarded_close_pool, and of its callback */
};

static void guarded_lane(struct guarded *guarded, size_t queue_limit)
{
	struct evwork_guard *guards[3];
	struct evwork_lane_options options = {
		.queue_limit = queue_limit, .timeout_ms = 100, .guards = guards, .guard_count = 3
	};
	int i;

	for (i = 0; i < 3; i++) {
		mock_init(&guarded->mocks[i], 0);
		guards[i] = &guarded->mocks[i].guard;
	}
	ck_assert_int_eq(evwork_lane_new(guarded->world.pool, &options, &guarded->lane), 0);
}

static void guarded_open(struct guarded *guarded, size_t queue_limit)
{
	ledger_clear();
	world_open_manual(&guarded->world, 1, SYS_NS_PER_MS);
	guarded_lane(guarded, queue_limit);
	gate_init(&guarded->gate);
	gate_open(&guarded->gate);
	guarded->closing = guarded->closed = 0;
}

/* From now on the worker is busy with a job of the given lane. */
static void guarded_block(struct guarded *guarded, struct evwork_lane *lane)
{
	guarded->gate.open = false;
	gate_job_init(&guarded->blocker, &guarded->gate);
	guarded->blocker.job.lane = lane;
	ck_assert_int_eq(evwork_submit(guarded->world.loop, &guarded->blocker.job), 0);
	gate_await(&guarded->gate, 1);
}

static void count_closed(struct evwork_pool *pool, int status, void *arg)
{
	struct guarded *guarded = arg;

	(void)pool;
	(void)status;
	guarded->closed++;
}

static void guarded_close_pool(struct guarded *guarded, enum evwork_close_mode mode)
{
	guarded->closing++;
	ck_assert_int_eq(evwork_pool_close(guarded->world.pool, mode, guarded->world.loop,
		count_closed, guarded), 0);
}

static void guarded_close(struct guarded *guarded)
{
	gate_open(&guarded->gate);
	world_run_until(&guarded->world, &guarded->closed, guarded->closing);
	world_run(&guarded->world);
	world_close(&guarded->world);
	gate_fini(&guarded->gate);
	expect_settled();
}

static int submit(struct guarded *guarded, struct probe *probe, int result, struct evwork_ctx *ctx)
{
	probe_init(probe, result);
	probe->job.lane = guarded->lane;
	probe->job.ctx = ctx;
	return evwork_submit(guarded->world.loop, &probe->job);
}

/* Granting. */

static const struct {
	int result;
	enum evwork_outcome outcome;
} ends[] = {
	{ 0, EVWORK_SUCCESS }, { -EIO, EVWORK_FAILURE }, { 1, EVWORK_FAILURE },
	{ -ETIMEDOUT, EVWORK_FAILURE }, { -EAGAIN, EVWORK_FAILURE },
	{ -ECANCELED, EVWORK_IGNORE },
};

static int out_at_done;

static void look_at_ledger(struct probe *probe)
{
	(void)probe;
	out_at_done = ledger_out();
}

/* The guards of a lane are asked in their order with empty permits, and each hears
 * once, before done, how the work ended (S-LANE-2, S-LANE-3). */
START_TEST(guard_granted)
{
	struct guarded guarded;
	struct probe probe;
	int i;

	out_at_done = -1;
	guarded_open(&guarded, 0);
	probe_init(&probe, ends[_i].result);
	probe.job.lane = guarded.lane;
	probe.on_done = look_at_ledger;
	ck_assert_int_eq(evwork_submit(guarded.world.loop, &probe.job), 0);
	world_run(&guarded.world);
	ck_assert_int_eq(probe.status, ends[_i].result);
	ck_assert_int_eq(out_at_done, 0);
	ck_assert_int_eq(ledger.count, 3);
	for (i = 0; i < 3; i++) {
		ck_assert_ptr_eq(ledger.entries[i].mock, &guarded.mocks[i]);
		expect_end(i, ends[_i].outcome, ends[_i].result);
	}
	guarded_close(&guarded);
}
END_TEST

static void pass_gate(struct probe *probe)
{
	gate_pass(probe->arg);
}

/* The permits stay out while work runs, and the end tells how long that was by the
 * clock of the pool (S-LANE-3). */
START_TEST(guard_run_time)
{
	struct guarded guarded;
	struct probe probe;
	struct gate gate;
	int i;

	gate_init(&gate);
	guarded_open(&guarded, 0);
	probe_init(&probe, 0);
	probe.job.lane = guarded.lane;
	probe.on_run = pass_gate;
	probe.arg = &gate;
	ck_assert_int_eq(evwork_submit(guarded.world.loop, &probe.job), 0);
	gate_await(&gate, 1);
	ck_assert_int_eq(ledger_out(), 3);
	ck_assert_int_eq(evwork_clock_jump(guarded.world.clock, 7 * SYS_NS_PER_MS), 0);
	gate_open(&gate);
	world_run(&guarded.world);
	for (i = 0; i < 3; i++) {
		expect_end(i, EVWORK_SUCCESS, 0);
		ck_assert_int_eq(ledger.entries[i].end.run_ns, 7 * SYS_NS_PER_MS);
	}
	guarded_close(&guarded);
	gate_fini(&gate);
}
END_TEST

/* A lane with guards needs no memory for a job either (S-GEN-14, S-LANE-2). */
START_TEST(guard_without_memory)
{
	struct guarded guarded;
	struct probe probes[100];
	int i;

	guarded_open(&guarded, 0);
	fault_start(SYS_MEMORY, 1, true);
	for (i = 0; i < 100; i++)
		ck_assert_int_eq(submit(&guarded, &probes[i], 0, NULL), 0);
	world_run(&guarded.world);
	fault_stop();
	for (i = 0; i < 100; i++)
		ck_assert_int_eq(probes[i].status, 0);
	ck_assert_int_eq(ledger.count, 300);
	guarded_close(&guarded);
}
END_TEST

/* Refusing. */

/* The first guard that refuses is what submit returns; those before it get their
 * permits back once as IGNORE, those behind it are not asked, and the job has no
 * done (S-LANE-2, S-GEN-2). */
START_TEST(guard_refuses)
{
	struct evwork_lane_stats stats;
	struct guarded guarded;
	struct probe probe;
	int i;

	guarded_open(&guarded, 0);
	guarded.mocks[_i].answer = -EHOSTDOWN;
	ck_assert_int_eq(submit(&guarded, &probe, 0, NULL), -EHOSTDOWN);
	ck_assert_int_eq(ledger.count, _i + 1);
	for (i = 0; i < _i; i++) {
		ck_assert_ptr_eq(ledger.entries[i].mock, &guarded.mocks[i]);
		expect_given_back(i);
	}
	ck_assert_int_eq(ledger_out(), 0);
	world_turns(&guarded.world, 3);
	ck_assert_int_eq(atomic_load(&probe.runs), 0);
	ck_assert_int_eq(probe.dones, 0);
	ck_assert_int_eq(evwork_lane_stats(guarded.lane, &stats), 0);
	ck_assert_uint_eq(stats.refused_guard, 1);
	ck_assert_uint_eq(stats.accepted, 0);
	guarded.mocks[_i].answer = 0;
	ck_assert_int_eq(evwork_submit(guarded.world.loop, &probe.job), 0);
	world_run(&guarded.world);
	ck_assert_int_eq(probe.status, 0);
	guarded_close(&guarded);
}
END_TEST

static const int refusals[] = { -EAGAIN, -EBUSY, -ERANGE, -ETIMEDOUT, -ECANCELED, -EIO };

/* Submit returns whatever code the guard refused with, and counts it as the
 * guard's (S-LANE-2). */
START_TEST(guard_refusal_passes)
{
	struct evwork_lane_stats stats;
	struct guarded guarded;
	struct probe probe;

	guarded_open(&guarded, 0);
	guarded.mocks[1].answer = refusals[_i];
	ck_assert_int_eq(submit(&guarded, &probe, 0, NULL), refusals[_i]);
	expect_given_back(0);
	ck_assert_int_eq(evwork_lane_stats(guarded.lane, &stats), 0);
	ck_assert_uint_eq(stats.refused_guard, 1);
	ck_assert_uint_eq(stats.refused, 1);
	guarded_close(&guarded);
}
END_TEST

/* A positive answer of acquire, which is none, refuses with EINVAL (S-LANE-9,
 * S-GEN-1). */
START_TEST(guard_answers_nonsense)
{
	struct guarded guarded;
	struct probe probe;

	guarded_open(&guarded, 0);
	guarded.mocks[1].answer = 1;
	ck_assert_int_eq(submit(&guarded, &probe, 0, NULL), -EINVAL);
	ck_assert_int_eq(ledger.count, 2);
	expect_given_back(0);
	world_turns(&guarded.world, 2);
	ck_assert_int_eq(probe.dones, 0);
	guarded_close(&guarded);
}
END_TEST

/* A dead context and a closed pool or loop refuse before any guard is asked, the
 * context first (S-LANE-2). */
START_TEST(guard_not_asked)
{
	struct evwork_lane_stats stats;
	struct guarded guarded;
	struct evwork_ctx *ctx;
	struct probe probe;

	guarded_open(&guarded, 0);
	ck_assert_int_eq(evwork_ctx_new(NULL, &ctx), 0);
	ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
	ck_assert_int_eq(submit(&guarded, &probe, 0, ctx), -ECANCELED);
	guarded_close_pool(&guarded, EVWORK_DRAIN);
	ck_assert_int_eq(submit(&guarded, &probe, 0, ctx), -ECANCELED);
	ck_assert_int_eq(submit(&guarded, &probe, 0, NULL), -ESHUTDOWN);
	ck_assert_int_eq(ledger.count, 0);
	ck_assert_int_eq(evwork_lane_stats(guarded.lane, &stats), 0);
	ck_assert_uint_eq(stats.refused_ctx, 2);
	ck_assert_uint_eq(stats.refused_closed, 1);
	evwork_ctx_unref(ctx);
	guarded_close(&guarded);
}
END_TEST

/* A loop that closes refuses before any guard is asked (S-LANE-2). */
START_TEST(guard_not_asked_loop)
{
	struct guarded guarded;
	struct probe probe;

	guarded_open(&guarded, 0);
	ck_assert_int_eq(evwork_loop_close(guarded.world.loop, NULL, NULL), 0);
	ck_assert_int_eq(submit(&guarded, &probe, 0, NULL), -ESHUTDOWN);
	ck_assert_int_eq(ledger.count, 0);
	guarded_close(&guarded);
}
END_TEST

/* A full queue refuses after all guards have granted, and each gets its permit back
 * once as IGNORE; a guard that refuses is heard before the full queue. It does not
 * matter whether the workers are busy with this lane or with another (S-LANE-2). */
START_TEST(guard_then_full)
{
	int i, accepted = _i == 0 ? 3 : 6;     /* permits of accepted jobs */
	struct guarded guarded;
	struct probe queued, refused;

	guarded_open(&guarded, 1);
	guarded_block(&guarded, _i == 0 ? NULL : guarded.lane);
	ck_assert_int_eq(submit(&guarded, &queued, 0, NULL), 0);
	ck_assert_int_eq(submit(&guarded, &refused, 0, NULL), -EAGAIN);
	ck_assert_int_eq(ledger.count, accepted + 3);
	for (i = accepted; i < accepted + 3; i++)
		expect_given_back(i);
	ck_assert_int_eq(ledger_out(), accepted);
	guarded.mocks[2].answer = -EBUSY;
	ck_assert_int_eq(submit(&guarded, &refused, 0, NULL), -EBUSY);
	guarded_close(&guarded);
	ck_assert_int_eq(refused.dones, 0);
	for (i = 0; i < accepted; i++)
		expect_end(i, EVWORK_SUCCESS, 0);
}
END_TEST

/* Jobs that never run. */

/* The ways in which a queued job can end without running. */
enum way { WAY_CANCEL, WAY_CTX, WAY_DEADLINE, WAY_TIMEOUT, WAY_CLOSE_QUEUED, WAY_CLOSE_ALL, WAYS };

static const int way_status[WAYS] = {
	-ECANCELED, -ECANCELED, -ETIMEDOUT, -ETIMEDOUT, -ECANCELED, -ECANCELED
};

static void end_it(enum way way, struct guarded *guarded, struct probe *probe,
	struct evwork_ctx *ctx)
{
	switch (way) {
	case WAY_CANCEL:
		ck_assert_int_eq(evwork_cancel(&probe->job), 0);
		break;
	case WAY_CTX:
		ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
		break;
	case WAY_DEADLINE:
		ck_assert_int_eq(evwork_clock_jump(guarded->world.clock, 10 * SYS_NS_PER_MS), 0);
		world_run_until(&guarded->world, &probe->dones, 1);
		break;
	case WAY_TIMEOUT:
		ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
		ck_assert_int_eq(evwork_clock_jump(guarded->world.clock, 100 * SYS_NS_PER_MS), 0);
		gate_open(&guarded->gate);
		world_run_until(&guarded->world, &probe->dones, 1);
		break;
	case WAY_CLOSE_QUEUED:
		guarded_close_pool(guarded, EVWORK_CANCEL_QUEUED);
		break;
	default:
		guarded_close_pool(guarded, EVWORK_CANCEL_ALL);
		break;
	}
}

/* However a job ends without running, its permits are released once as IGNORE with
 * the status that done gets, without waiting for a worker (S-LANE-3). */
START_TEST(guard_never_run)
{
	struct guarded guarded;
	struct evwork_ctx *ctx;
	struct probe probe;
	int i;

	guarded_open(&guarded, 0);
	guarded_block(&guarded, NULL);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, guarded.world.loop, 10, 0, &ctx), 0);
	ck_assert_int_eq(submit(&guarded, &probe, 0, _i == WAY_TIMEOUT ? NULL : ctx), 0);
	ck_assert_int_eq(ledger_out(), 3);
	end_it((enum way)_i, &guarded, &probe, ctx);
	ck_assert_int_eq(ledger_out(), 0);
	ck_assert_int_eq(ledger.count, 3);
	for (i = 0; i < 3; i++) {
		expect_end(i, EVWORK_IGNORE, way_status[_i]);
		ck_assert_int_eq(ledger.entries[i].end.run_ns, 0);
	}
	evwork_ctx_cancel(ctx, 0);
	evwork_ctx_unref(ctx);
	guarded_close(&guarded);
	ck_assert_int_eq(atomic_load(&probe.runs), 0);
	ck_assert_int_eq(probe.dones, 1);
	ck_assert_int_eq(probe.status, way_status[_i]);
}
END_TEST

/* A running job that is cancelled keeps its permits until its work has returned, and
 * they end with what work returned (S-LANE-3, S-POOL-9). */
START_TEST(guard_cancelled_running)
{
	struct guarded guarded;
	struct probe probe;
	struct gate gate;

	gate_init(&gate);
	guarded_open(&guarded, 0);
	probe_init(&probe, -EIO);
	probe.job.lane = guarded.lane;
	probe.on_run = pass_gate;
	probe.arg = &gate;
	ck_assert_int_eq(evwork_submit(guarded.world.loop, &probe.job), 0);
	gate_await(&gate, 1);
	ck_assert_int_eq(evwork_cancel(&probe.job), -EBUSY);
	world_turns(&guarded.world, 2);
	ck_assert_int_eq(ledger_out(), 3);
	gate_open(&gate);
	world_run(&guarded.world);
	expect_end(0, EVWORK_FAILURE, -EIO);
	guarded_close(&guarded);
	gate_fini(&gate);
}
END_TEST

static int drops;

static void count_drop(struct evwork_job *job)
{
	(void)job;
	drops++;
}

/* An abandoned job keeps its permits until its work really returns, although its done
 * has long been called, and they are released once (S-LANE-3, S-POOL-14). */
START_TEST(guard_abandoned)
{
	struct guarded guarded;
	struct probe probe;
	struct gate gate;
	int i;

	drops = 0;
	gate_init(&gate);
	guarded_open(&guarded, 0);
	probe_init(&probe, 0);
	probe.job.lane = guarded.lane;
	probe.job.drop = count_drop;
	probe.on_run = pass_gate;
	probe.arg = &gate;
	ck_assert_int_eq(evwork_job_set_detach(&probe.job, 1), 0);
	ck_assert_int_eq(evwork_submit(guarded.world.loop, &probe.job), 0);
	gate_await(&gate, 1);
	ck_assert_int_eq(evwork_cancel(&probe.job), -EBUSY);
	world_turns(&guarded.world, 1);
	ck_assert_int_eq(probe.dones, 1);
	ck_assert_int_eq(probe.abandoned, 1);
	ck_assert_int_eq(ledger_out(), 3);
	gate_open(&gate);
	world_run_until(&guarded.world, &drops, 1);
	ck_assert_int_eq(ledger_out(), 0);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(ledger.entries[i].releases, 1);
	guarded_close(&guarded);
	gate_fini(&gate);
}
END_TEST

/* Acquire runs on the thread that submits; release on the worker if the job ran, and
 * on the thread that cancelled it if not (S-LANE-9). */
START_TEST(guard_threads)
{
	struct guarded guarded;
	struct probe ran, cancelled;
	int i;

	guarded_open(&guarded, 0);
	ck_assert_int_eq(submit(&guarded, &ran, 0, NULL), 0);
	world_run(&guarded.world);
	guarded_block(&guarded, NULL);
	ck_assert_int_eq(submit(&guarded, &cancelled, 0, NULL), 0);
	ck_assert_int_eq(evwork_cancel(&cancelled.job), 0);
	for (i = 0; i < 6; i++) {
		ck_assert(pthread_equal(ledger.entries[i].acquire_thread, pthread_self()));
		ck_assert(pthread_equal(ledger.entries[i].release_thread,
			i < 3 ? ran.run_thread : pthread_self()));
	}
	guarded_close(&guarded);
}
END_TEST

/* Sharing. */

/* One guard may stand in several lanes and several times in one: each place has
 * a permit of its own (S-LANE-2, S-LANE-3). */
START_TEST(guard_shared)
{
	struct mock mock;
	struct evwork_guard *const guards[] = { &mock.guard, &mock.guard };
	struct evwork_lane_options options = { .guards = guards, .guard_count = 2 };
	struct evwork_lane *lanes[2];
	struct probe probes[2];
	struct world world;
	int i;

	ledger_clear();
	mock_init(&mock, 0);
	world_open(&world, 2);
	for (i = 0; i < 2; i++) {
		ck_assert_int_eq(evwork_lane_new(world.pool, &options, &lanes[i]), 0);
		probe_init(&probes[i], 0);
		probes[i].job.lane = lanes[i];
		ck_assert_int_eq(evwork_submit(world.loop, &probes[i].job), 0);
	}
	world_run(&world);
	ck_assert_int_eq(ledger.count, 4);
	expect_settled();
	world_close(&world);
}
END_TEST

/* A lane may have many guards (S-LANE-2). */
START_TEST(guard_many)
{
	static struct mock mocks[50];
	struct evwork_guard *guards[50];
	struct evwork_lane_options options = { .guards = guards, .guard_count = 50 };
	struct evwork_lane *lane;
	struct probe probe;
	struct world world;
	int i;

	ledger_clear();
	world_open(&world, 1);
	for (i = 0; i < 50; i++) {
		mock_init(&mocks[i], 0);
		guards[i] = &mocks[i].guard;
	}
	ck_assert_int_eq(evwork_lane_new(world.pool, &options, &lane), 0);
	probe_init(&probe, 0);
	probe.job.lane = lane;
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	world_run(&world);
	ck_assert_int_eq(ledger.count, 50);
	for (i = 0; i < 50; i++) {
		ck_assert_ptr_eq(ledger.entries[i].mock, &mocks[i]);
		expect_end(i, EVWORK_SUCCESS, 0);
	}
	world_close(&world);
}
END_TEST

static void add_permits(Suite *suite)
{
	TCase *tcase = support_case(suite, "permits");

	tcase_add_loop_test(tcase, guard_granted, 0, sizeof(ends) / sizeof(ends[0]));
	tcase_add_test(tcase, guard_run_time);
	tcase_add_test(tcase, guard_without_memory);
	tcase_add_loop_test(tcase, guard_never_run, 0, WAYS);
	tcase_add_test(tcase, guard_cancelled_running);
	tcase_add_test(tcase, guard_abandoned);
	tcase_add_test(tcase, guard_shared);
	tcase_add_test(tcase, guard_many);
	tcase_add_test(tcase, guard_threads);
}

static void add_refusals(Suite *suite)
{
	TCase *tcase = support_case(suite, "refusals");

	tcase_add_loop_test(tcase, guard_refuses, 0, 3);
	tcase_add_loop_test(tcase, guard_refusal_passes, 0,
		sizeof(refusals) / sizeof(refusals[0]));
	tcase_add_test(tcase, guard_answers_nonsense);
	tcase_add_test(tcase, guard_not_asked);
	tcase_add_test(tcase, guard_not_asked_loop);
	tcase_add_loop_test(tcase, guard_then_full, 0, 2);
}

static Suite *suite(void)
{
	Suite *suite = suite_create("lane_guard");

	add_permits(suite);
	add_refusals(suite);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
