/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Lanes and time: timeouts that count from the submit, and guards that delay a job
 * instead of refusing it.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>

static struct evwork_lane *lane_new(struct evwork_pool *pool, struct evwork_lane_options options)
{
	struct evwork_lane *lane;

	ck_assert_int_eq(evwork_lane_new(pool, &options, &lane), 0);
	return lane;
}

/* Submits a job of the lane. */
static void put(struct world *world, struct probe *probe, struct evwork_lane *lane)
{
	probe_init(probe, 0);
	probe->job.lane = lane;
	ck_assert_int_eq(evwork_submit(world->loop, &probe->job), 0);
}

/* Submits a job of the lane that waits in the gate. */
static void put_gate(struct world *world, struct gate_job *job, struct gate *gate,
	struct evwork_lane *lane)
{
	gate_job_init(job, gate);
	job->job.lane = lane;
	ck_assert_int_eq(evwork_submit(world->loop, &job->job), 0);
}

/* Timeouts. */

/* A world on a manual clock whose only worker is blocked, and a lane with a timeout
 * of 10 ms. */
struct late {
	struct world world;
	struct evwork_lane *lane;
	struct gate gate;
	struct gate_job blocker;
};

static void late_open(struct late *late)
{
	struct evwork_lane_options options = { .timeout_ms = 10 };

	gate_init(&late->gate);
	world_open_manual(&late->world, 1, SYS_NS_PER_MS);
	late->lane = lane_new(late->world.pool, options);
	put_gate(&late->world, &late->blocker, &late->gate, NULL);
	gate_await(&late->gate, 1);
}

static void late_jump(struct late *late, int64_t ns)
{
	ck_assert_int_eq(evwork_clock_jump(late->world.clock, ns), 0);
}

static void late_run(struct late *late)
{
	gate_open(&late->gate);
	world_run(&late->world);
	ck_assert_int_eq(late->blocker.status, 0);
}

static void late_close(struct late *late)
{
	world_close(&late->world);
	gate_fini(&late->gate);
}

static void expect_expired(const struct probe *probe)
{
	ck_assert_int_eq(atomic_load(&probe->runs), 0);
	ck_assert_int_eq(probe->dones, 1);
	ck_assert_int_eq(probe->status, -ETIMEDOUT);
	ck_assert_int_eq(probe->ran, 0);
}

/* A job whose lane's timeout has passed when its turn comes ends with ETIMEDOUT and
 * does not run; the time counts from its own submit, and other lanes have none
 * (S-LANE-7). */
START_TEST(lane_timeout)
{
	struct probe late_job, in_time, other;
	struct late late;

	late_open(&late);
	put(&late.world, &late_job, late.lane);
	late_jump(&late, 1);
	put(&late.world, &in_time, late.lane);
	put(&late.world, &other, NULL);
	late_jump(&late, 10 * SYS_NS_PER_MS - 1);
	late_run(&late);
	expect_expired(&late_job);
	ck_assert_int_eq(in_time.status, 0);
	ck_assert_int_eq(other.status, 0);
	ck_assert_uint_eq(stats_of(late.lane).expired, 1);
	ck_assert_uint_eq(stats_of(late.lane).ok, 1);
	late_close(&late);
}
END_TEST

/* Hundreds of expired jobs end without running, and those behind them run
 * (S-LANE-7). */
START_TEST(lane_timeout_many)
{
	static struct probe expired[500], last[5];
	struct late late;
	int i;

	late_open(&late);
	for (i = 0; i < 500; i++)
		put(&late.world, &expired[i], late.lane);
	late_jump(&late, 100 * SYS_NS_PER_MS);
	for (i = 0; i < 5; i++)
		put(&late.world, &last[i], late.lane);
	late_run(&late);
	for (i = 0; i < 500; i++)
		expect_expired(&expired[i]);
	for (i = 0; i < 5; i++)
		ck_assert_int_eq(last[i].status, 0);
	ck_assert_uint_eq(stats_of(late.lane).expired, 500);
	late_close(&late);
}
END_TEST

struct late_work {
	struct probe probe;
	struct gate gate;
	int before, after;
};

static void ask_twice(struct probe *probe)
{
	struct late_work *work = EVWORK_CONTAINER(probe, struct late_work, probe);

	work->before = evwork_job_err(&probe->job);
	gate_pass(&work->gate);
	work->after = evwork_job_err(&probe->job);
}

/* Work that runs when its lane's timeout passes sees ETIMEDOUT as soon as it asks,
 * and what it returns is delivered (S-LANE-7, S-POOL-13). */
START_TEST(lane_timeout_running)
{
	struct late_work work;
	struct late late;

	late_open(&late);
	gate_open(&late.gate);
	gate_init(&work.gate);
	probe_init(&work.probe, 4);
	work.probe.job.lane = late.lane;
	work.probe.on_run = ask_twice;
	ck_assert_int_eq(evwork_submit(late.world.loop, &work.probe.job), 0);
	gate_await(&work.gate, 1);
	late_jump(&late, 10 * SYS_NS_PER_MS);
	gate_open(&work.gate);
	late_run(&late);
	ck_assert_int_eq(work.before, 0);
	ck_assert_int_eq(work.after, -ETIMEDOUT);
	ck_assert_int_eq(work.probe.status, 4);
	ck_assert_int_eq(work.probe.ran, 1);
	late_close(&late);
	gate_fini(&work.gate);
}
END_TEST

/* A timeout too long for the clock never passes (S-LANE-7, S-GEN-9). */
START_TEST(lane_timeout_endless)
{
	struct evwork_lane_options options = { .timeout_ms = INT64_MAX };
	struct evwork_lane *lane;
	struct probe probe;
	struct late late;

	late_open(&late);
	lane = lane_new(late.world.pool, options);
	put(&late.world, &probe, lane);
	late_jump(&late, INT64_MAX / 2);
	late_run(&late);
	ck_assert_int_eq(probe.status, 0);
	late_close(&late);
}
END_TEST

/* The earlier of the job's context and its lane's timeout counts, whichever that is
 * (S-LANE-7, S-POOL-12). */
START_TEST(lane_timeout_and_ctx)
{
	struct evwork_ctx *sooner, *later;
	struct probe first, second;
	struct late late;

	late_open(&late);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, late.world.loop, 5, 0, &sooner), 0);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, late.world.loop, 50, 0, &later), 0);
	probe_init(&first, 0);
	first.job.lane = late.lane;
	first.job.ctx = sooner;
	ck_assert_int_eq(evwork_submit(late.world.loop, &first.job), 0);
	probe_init(&second, 0);
	second.job.lane = late.lane;
	second.job.ctx = later;
	ck_assert_int_eq(evwork_submit(late.world.loop, &second.job), 0);
	late_jump(&late, 5 * SYS_NS_PER_MS);
	world_run_until(&late.world, &first.dones, 1);
	expect_expired(&first);
	ck_assert_int_eq(second.dones, 0);
	late_jump(&late, 5 * SYS_NS_PER_MS);
	gate_open(&late.gate);
	world_run_until(&late.world, &second.dones, 1);
	expect_expired(&second);
	ck_assert_int_eq(evwork_ctx_err(later), 0);
	evwork_ctx_cancel(later, 0);
	evwork_ctx_unref(sooner);
	evwork_ctx_unref(later);
	late_run(&late);
	late_close(&late);
}
END_TEST

/* Delays. */

/* A guard that grants and sets the next of a list of times. */
struct pacer {
	struct evwork_guard guard;
	int64_t times[4];
	int taken;
	atomic_int released;
	struct evwork_end end;      /* of the last release */
};

static int pacer_acquire(struct evwork_guard *guard, const struct evwork_job *job,
	struct evwork_permit *permit)
{
	struct pacer *pacer = EVWORK_CONTAINER(guard, struct pacer, guard);

	(void)job;
	permit->not_before_ns = pacer->times[pacer->taken++];
	return 0;
}

static void pacer_release(struct evwork_guard *guard, const struct evwork_permit *permit,
	const struct evwork_end *end)
{
	struct pacer *pacer = EVWORK_CONTAINER(guard, struct pacer, guard);

	(void)permit;
	pacer->end = *end;
	atomic_fetch_add(&pacer->released, 1);
}

static void pacer_init(struct pacer *pacer)
{
	memset(pacer, 0, sizeof(*pacer));
	pacer->guard.acquire = pacer_acquire;
	pacer->guard.release = pacer_release;
}

#define START (100 * SYS_NS_PER_MS)

/* A world on a manual clock at START with an idle worker, and a lane with a pacer. */
struct paced {
	struct world world;
	struct pacer pacer;
	struct evwork_lane *lane;
	int64_t now;
};

static void paced_open(struct paced *paced, struct evwork_lane_options options)
{
	struct evwork_guard *const guards[] = { &paced->pacer.guard };

	pacer_init(&paced->pacer);
	world_open_manual(&paced->world, 1, START);
	options.guards = guards;
	options.guard_count = 1;
	paced->lane = lane_new(paced->world.pool, options);
	paced->now = START;
}

/* Submits a job of the lane that must not start before `ms` after START. */
static void paced_put(struct paced *paced, struct probe *probe, int64_t ms,
	struct evwork_ctx *ctx)
{
	probe_init(probe, 0);
	probe->job.lane = paced->lane;
	probe->job.ctx = ctx;
	paced->pacer.times[paced->pacer.taken] = START + ms * SYS_NS_PER_MS;
	ck_assert_int_eq(evwork_submit(paced->world.loop, &probe->job), 0);
}

/* Moves the clock to the given time after START, callbacks and all. */
static void paced_go(struct paced *paced, int64_t ns)
{
	ck_assert_int_eq(evwork_clock_advance(paced->world.clock, START + ns - paced->now), 0);
	paced->now = START + ns;
	while (evwork_clock_now(paced->world.clock) < paced->now)
		world_turns(&paced->world, 1);
}

/* Has the worker do a job of another lane from start to end: what could start
 * before that has started. */
static void paced_settle(struct paced *paced)
{
	struct probe probe;

	put(&paced->world, &probe, NULL);
	world_run_until(&paced->world, &probe.dones, 1);
	ck_assert_int_eq(probe.status, 0);
}

/* A delayed job is accepted and held: it does not start before its time, not by a
 * nanosecond, although the worker is idle and serves other lanes; at its time it
 * runs (S-LANE-6, S-GEN-11). */
START_TEST(delay_holds)
{
	struct paced paced;
	struct probe probe;

	paced_open(&paced, (struct evwork_lane_options){ .priority = 1 });
	paced_put(&paced, &probe, 10, NULL);
	paced_settle(&paced);
	ck_assert_int_eq(atomic_load(&probe.runs), 0);
	ck_assert_uint_eq(stats_of(paced.lane).queued, 1);
	paced_go(&paced, 10 * SYS_NS_PER_MS - 1);
	paced_settle(&paced);
	ck_assert_int_eq(atomic_load(&probe.runs), 0);
	paced_go(&paced, 10 * SYS_NS_PER_MS);
	world_run_until(&paced.world, &probe.dones, 1);
	ck_assert_int_eq(probe.status, 0);
	ck_assert_int_eq(probe.ran, 1);
	ck_assert_int_eq(atomic_load(&paced.pacer.released), 1);
	world_close(&paced.world);
}
END_TEST

/* A time that has come already holds nothing (S-LANE-6). */
START_TEST(delay_past)
{
	struct paced paced;
	struct probe probes[3];
	int i;

	paced_open(&paced, (struct evwork_lane_options){ .priority = 0 });
	paced_put(&paced, &probes[0], 0, NULL);
	paced_put(&paced, &probes[1], -50, NULL);
	paced_put(&paced, &probes[2], INT64_MIN / SYS_NS_PER_MS, NULL);
	world_run(&paced.world);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(probes[i].status, 0);
	world_close(&paced.world);
}
END_TEST

/* A lane is paced: each job starts at its own time, in order (S-LANE-6, S-LANE-5). */
START_TEST(delay_paces)
{
	struct paced paced;
	struct probe probes[4];
	int i;

	paced_open(&paced, (struct evwork_lane_options){ .priority = 0 });
	for (i = 0; i < 4; i++)
		paced_put(&paced, &probes[i], 10 * (i + 1), NULL);
	for (i = 0; i < 4; i++) {
		paced_go(&paced, 10 * (i + 1) * SYS_NS_PER_MS - 1);
		paced_settle(&paced);
		ck_assert_int_eq(atomic_load(&probes[i].runs), 0);
		paced_go(&paced, 10 * (i + 1) * SYS_NS_PER_MS);
		world_run_until(&paced.world, &probes[i].dones, 1);
		ck_assert_int_eq(probes[i].status, 0);
	}
	world_close(&paced.world);
}
END_TEST

/* If the clock jumps over several times at once all those jobs run, in order
 * (S-LANE-6, S-GEN-13). */
START_TEST(delay_jumped)
{
	struct paced paced;
	struct probe probes[4];
	int i;

	paced_open(&paced, (struct evwork_lane_options){ .priority = 0 });
	for (i = 0; i < 4; i++)
		paced_put(&paced, &probes[i], 10 * (i + 1), NULL);
	ck_assert_int_eq(evwork_clock_jump(paced.world.clock, 40 * SYS_NS_PER_MS), 0);
	world_run(&paced.world);
	for (i = 0; i < 4; i++) {
		ck_assert_int_eq(probes[i].status, 0);
		ck_assert_int_eq(probes[i].run_order, i + 1);
	}
	world_close(&paced.world);
}
END_TEST

/* Of several guards that delay, the latest time counts (S-LANE-6). */
START_TEST(delay_latest_counts)
{
	struct pacer pacers[3];
	struct evwork_guard *const guards[] = {
		&pacers[0].guard, &pacers[1].guard, &pacers[2].guard
	};
	struct evwork_lane_options options = { .guards = guards, .guard_count = 3 };
	struct paced paced;
	int i;
	struct probe probe;

	world_open_manual(&paced.world, 1, START);
	paced.now = START;
	for (i = 0; i < 3; i++)
		pacer_init(&pacers[i]);
	pacers[0].times[0] = START + 10 * SYS_NS_PER_MS;
	pacers[1].times[0] = START + 30 * SYS_NS_PER_MS;
	pacers[2].times[0] = START + 20 * SYS_NS_PER_MS;
	put(&paced.world, &probe, lane_new(paced.world.pool, options));
	paced_go(&paced, 30 * SYS_NS_PER_MS - 1);
	paced_settle(&paced);
	ck_assert_int_eq(atomic_load(&probe.runs), 0);
	paced_go(&paced, 30 * SYS_NS_PER_MS);
	world_run_until(&paced.world, &probe.dones, 1);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(atomic_load(&pacers[i].released), 1);
	world_close(&paced.world);
}
END_TEST

/* A held job takes its place in the queue: the limit counts it although workers are
 * idle (S-LANE-6, S-POOL-6). */
START_TEST(delay_counts_as_queued)
{
	struct paced paced;
	struct probe held, refused;

	paced_open(&paced, (struct evwork_lane_options){ .queue_limit = 1 });
	paced_put(&paced, &held, 10, NULL);
	probe_init(&refused, 0);
	refused.job.lane = paced.lane;
	ck_assert_int_eq(evwork_submit(paced.world.loop, &refused.job), -EAGAIN);
	paced_go(&paced, 10 * SYS_NS_PER_MS);
	world_run_until(&paced.world, &held.dones, 1);
	ck_assert_int_eq(evwork_submit(paced.world.loop, &refused.job), 0);
	world_run(&paced.world);
	ck_assert_int_eq(held.status, 0);
	ck_assert_int_eq(refused.status, 0);
	world_close(&paced.world);
}
END_TEST

static int closed;

static void count_closed(struct evwork_pool *pool, int status, void *arg)
{
	(void)pool;
	(void)status;
	(void)arg;
	closed++;
}

static void paced_close_pool(struct paced *paced, enum evwork_close_mode mode)
{
	closed = 0;
	ck_assert_int_eq(evwork_pool_close(paced->world.pool, mode, paced->world.loop,
		count_closed, NULL), 0);
}

/* The ways in which a held job can end before its time. */
enum way { WAY_CANCEL, WAY_CTX, WAY_DEADLINE, WAY_TIMEOUT, WAY_CLOSE, WAYS };

static void end_it(enum way way, struct paced *paced, struct probe *probe, struct evwork_ctx *ctx)
{
	switch (way) {
	case WAY_CANCEL:
		ck_assert_int_eq(evwork_cancel(&probe->job), 0);
		world_turns(&paced->world, 1);
		break;
	case WAY_CTX:
		ck_assert_int_eq(evwork_ctx_cancel(ctx, 0), 0);
		world_turns(&paced->world, 1);
		break;
	case WAY_DEADLINE:
		paced_go(paced, 20 * SYS_NS_PER_MS);
		world_run_until(&paced->world, &probe->dones, 1);
		break;
	case WAY_TIMEOUT:
		/* Its turn comes at its time, and then it has long expired. */
		paced_go(paced, 60 * SYS_NS_PER_MS);
		world_run_until(&paced->world, &probe->dones, 1);
		break;
	default:
		paced_close_pool(paced, EVWORK_CANCEL_QUEUED);
		world_run_until(&paced->world, &closed, 1);
		break;
	}
}

static const int way_status[WAYS] = {
	-ECANCELED, -ECANCELED, -ETIMEDOUT, -ETIMEDOUT, -ECANCELED
};

/* Cancel, context, deadline, lane timeout and close end a held job as they end any
 * queued one: not run, its permit released once as IGNORE (S-LANE-6, S-LANE-3). */
START_TEST(delay_ends_early)
{
	struct paced paced;
	struct evwork_ctx *ctx;
	struct probe probe;

	paced_open(&paced, (struct evwork_lane_options){ .timeout_ms = 40 });
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, paced.world.loop, 20, 0, &ctx), 0);
	paced_put(&paced, &probe, 60, _i == WAY_TIMEOUT ? NULL : ctx);
	paced_settle(&paced);
	end_it((enum way)_i, &paced, &probe, ctx);
	ck_assert_int_eq(probe.dones, 1);
	ck_assert_int_eq(probe.status, way_status[_i]);
	ck_assert_int_eq(probe.ran, 0);
	ck_assert_int_eq(atomic_load(&probe.runs), 0);
	ck_assert_int_eq(atomic_load(&paced.pacer.released), 1);
	ck_assert_int_eq(paced.pacer.end.outcome, EVWORK_IGNORE);
	evwork_ctx_cancel(ctx, 0);
	evwork_ctx_unref(ctx);
	world_run(&paced.world);
	world_close(&paced.world);
}
END_TEST

/* A job that is held for ever can still be cancelled (S-LANE-6, S-GEN-9). */
START_TEST(delay_for_ever)
{
	struct paced paced;
	struct probe probe;

	paced_open(&paced, (struct evwork_lane_options){ .priority = 0 });
	probe_init(&probe, 0);
	probe.job.lane = paced.lane;
	paced.pacer.times[0] = EVWORK_NEVER;
	ck_assert_int_eq(evwork_submit(paced.world.loop, &probe.job), 0);
	paced_go(&paced, INT64_MAX / 2);
	paced_settle(&paced);
	ck_assert_int_eq(probe.dones, 0);
	ck_assert_int_eq(evwork_cancel(&probe.job), 0);
	world_run(&paced.world);
	ck_assert_int_eq(probe.status, -ECANCELED);
	world_close(&paced.world);
}
END_TEST

/* A pool that drains waits for what is held: it runs at its time (S-LANE-6,
 * S-SHUT-1). */
START_TEST(delay_drains)
{
	struct paced paced;
	struct probe probe;

	paced_open(&paced, (struct evwork_lane_options){ .priority = 0 });
	paced_put(&paced, &probe, 10, NULL);
	paced_close_pool(&paced, EVWORK_DRAIN);
	world_turns(&paced.world, 3);
	ck_assert_int_eq(probe.dones, 0);
	paced_go(&paced, 10 * SYS_NS_PER_MS);
	world_run_until(&paced.world, &probe.dones, 1);
	ck_assert_int_eq(probe.status, 0);
	ck_assert_int_eq(probe.ran, 1);
	world_run_until(&paced.world, &closed, 1);
	world_close(&paced.world);
}
END_TEST

/* For releases on several threads at once. */
static void pacer_count(struct evwork_guard *guard, const struct evwork_permit *permit,
	const struct evwork_end *end)
{
	(void)permit;
	(void)end;
	atomic_fetch_add(&EVWORK_CONTAINER(guard, struct pacer, guard)->released, 1);
}

/* When a held job is cancelled the next of its lane starts at once, not when the time of
 * the first would have come (S-LANE-6). */
START_TEST(delay_cancelled_lets_next_start)
{
	struct paced paced;
	struct probe held, next;

	paced_open(&paced, (struct evwork_lane_options){ .priority = 0 });
	paced.pacer.guard.release = pacer_count;
	paced_put(&paced, &held, 10, NULL);
	paced_put(&paced, &next, 0, NULL);
	paced_settle(&paced);
	ck_assert_int_eq(atomic_load(&next.runs), 0);
	ck_assert_int_eq(evwork_cancel(&held.job), 0);
	world_run(&paced.world);
	ck_assert_int_eq(held.status, -ECANCELED);
	ck_assert_int_eq(atomic_load(&held.runs), 0);
	ck_assert_int_eq(next.status, 0);
	ck_assert_int_eq(atomic_load(&next.runs), 1);
	ck_assert_int_eq(atomic_load(&paced.pacer.released), 2);
	ck_assert_int_eq(evwork_clock_now(paced.world.clock), START);
	world_close(&paced.world);
}
END_TEST

/* A pool that drains has closed as soon as its only job, a held one, is cancelled
 * (S-SHUT-5, S-LANE-6). */
START_TEST(delay_cancelled_ends_drain)
{
	struct paced paced;
	struct probe probe;

	paced_open(&paced, (struct evwork_lane_options){ .priority = 0 });
	paced_put(&paced, &probe, 10, NULL);
	paced_settle(&paced);
	paced_close_pool(&paced, EVWORK_DRAIN);
	world_turns(&paced.world, 3);
	ck_assert_int_eq(closed, 0);
	ck_assert_int_eq(evwork_cancel(&probe.job), 0);
	world_run_until(&paced.world, &closed, 1);
	ck_assert_int_eq(probe.dones, 1);
	ck_assert_int_eq(probe.status, -ECANCELED);
	ck_assert_int_eq(evwork_clock_now(paced.world.clock), START);
	world_close(&paced.world);
}
END_TEST

struct real {
	struct pacer pacer;
	struct probe probe;
	int64_t started;
};

static void note_start(struct probe *probe)
{
	EVWORK_CONTAINER(probe, struct real, probe)->started = evwork_clock_now(NULL);
}

/* On the system's clock a held job wakes a sleeping worker by itself, and never
 * early (S-LANE-6, S-GEN-11). */
START_TEST(delay_real_clock)
{
	struct real real;
	struct evwork_guard *const guards[] = { &real.pacer.guard };
	struct evwork_lane_options options = { .guards = guards, .guard_count = 1 };
	struct evwork_lane *lane;
	struct world world;
	int round;

	world_open(&world, 2);
	pacer_init(&real.pacer);
	lane = lane_new(world.pool, options);
	for (round = 0; round < 4; round++) {
		int64_t due = evwork_clock_now(NULL) + 5 * SYS_NS_PER_MS + round * 777;

		real.pacer.times[round] = due;
		probe_init(&real.probe, 0);
		real.probe.job.lane = lane;
		real.probe.on_run = note_start;
		ck_assert_int_eq(evwork_submit(world.loop, &real.probe.job), 0);
		world_run(&world);
		ck_assert_int_eq(real.probe.status, 0);
		ck_assert_int_ge(real.started, due);
	}
	world_close(&world);
}
END_TEST

struct tight {
	struct evwork_guard guard;
	int64_t delay_ns;
};

static int tight_acquire(struct evwork_guard *guard, const struct evwork_job *job,
	struct evwork_permit *permit)
{
	(void)job;
	permit->not_before_ns = evwork_clock_now(NULL) +
		EVWORK_CONTAINER(guard, struct tight, guard)->delay_ns;
	return 0;
}

static void tight_release(struct evwork_guard *guard, const struct evwork_permit *permit,
	const struct evwork_end *end)
{
	(void)guard;
	(void)permit;
	(void)end;
}

/* Whenever the time of a held job comes, even while its worker is about to go to
 * sleep, the job is started (S-LANE-6). */
START_TEST(delay_tight)
{
	struct tight tight = { .guard = { tight_acquire, tight_release } };
	struct evwork_guard *const guards[] = { &tight.guard };
	struct evwork_lane_options options = { .guards = guards, .guard_count = 1 };
	struct evwork_lane *lane;
	struct world world;
	int round;

	world_open(&world, 1);
	lane = lane_new(world.pool, options);
	for (round = 0; round < 5000; round++) {
		struct probe probe;

		tight.delay_ns = round % 100 * 500;
		put(&world, &probe, lane);
		world_run(&world);
		ck_assert_int_eq(probe.status, 0);
	}
	world_close(&world);
}
END_TEST

static void add_timeouts(Suite *suite)
{
	TCase *tcase = support_case(suite, "timeouts");

	tcase_add_test(tcase, lane_timeout);
	tcase_add_test(tcase, lane_timeout_many);
	tcase_add_test(tcase, lane_timeout_running);
	tcase_add_test(tcase, lane_timeout_endless);
	tcase_add_test(tcase, lane_timeout_and_ctx);
}

static void add_delays(Suite *suite)
{
	TCase *tcase = support_case(suite, "delays");

	tcase_add_test(tcase, delay_holds);
	tcase_add_test(tcase, delay_past);
	tcase_add_test(tcase, delay_paces);
	tcase_add_test(tcase, delay_jumped);
	tcase_add_test(tcase, delay_latest_counts);
	tcase_add_test(tcase, delay_counts_as_queued);
	tcase_add_loop_test(tcase, delay_ends_early, 0, WAYS);
	tcase_add_test(tcase, delay_for_ever);
	tcase_add_test(tcase, delay_drains);
	tcase_add_test(tcase, delay_cancelled_lets_next_start);
	tcase_add_test(tcase, delay_cancelled_ends_drain);
	tcase_add_test(tcase, delay_real_clock);
	tcase_add_test(tcase, delay_tight);
}

static Suite *suite(void)
{
	Suite *suite = suite_create("lane_time");

	add_timeouts(suite);
	add_delays(suite);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
