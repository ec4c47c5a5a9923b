/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * A protected dependency, as in the head of evwork/guard.h: one lane with a breaker, a rate
 * and a limit, used by plain submits and by retries, from many threads. Whatever becomes of the jobs, no permit is lost and all are
 * accounted for. EVWORK_STRESS_SEED repeats the random choices.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "breaker_scene.h"

#include <sched.h>

struct dependency {
	struct evwork_breaker *breaker;
	struct evwork_limiter *limiter;
	struct evwork_limiter_guard rate;
	struct evwork_adaptive *limit;
	struct evwork_lane *lane;
};

/* How often, and what becomes of jobs that come too often. */
struct pace {
	double rate;
	int64_t burst;
	struct evwork_limiter_guard_options guard;
};

static void open_dependency(struct dependency *it, struct world *world,
	struct evwork_breaker_options breaker, struct pace pace,
	struct evwork_adaptive_options limit, size_t queue_limit)
{
	struct evwork_guard *guards[3];
	struct evwork_lane_options options = { .name = "dependency", .guards = guards,
		.guard_count = 3, .queue_limit = queue_limit };
	struct evwork_limiter_options limiter = { .clock = world->clock };

	breaker.clock = world->clock;
	ck_assert_int_eq(evwork_breaker_new(&breaker, &it->breaker), 0);
	ck_assert_int_eq(evwork_adaptive_new(&limit, &it->limit), 0);
	guards[0] = evwork_breaker_guard(it->breaker);
	ck_assert_int_eq(evwork_limiter_new(pace.rate, pace.burst, &limiter, &it->limiter), 0);
	ck_assert_int_eq(evwork_limiter_guard_init(&it->rate, it->limiter, &pace.guard), 0);
	guards[1] = &it->rate.guard;
	guards[2] = evwork_adaptive_guard(it->limit);
	ck_assert_int_eq(evwork_lane_new(world->pool, &options, &it->lane), 0);
}

static void close_dependency(struct dependency *it)
{
	ck_assert_int_eq(evwork_lane_free(it->lane), 0);
	ck_assert_int_eq(evwork_adaptive_free(it->limit), 0);
	ck_assert_int_eq(evwork_limiter_free(it->limiter), 0);
	ck_assert_int_eq(evwork_breaker_free(it->breaker), 0);
}

static struct evwork_adaptive_metrics limit_of(struct dependency *it)
{
	struct evwork_adaptive_metrics metrics;

	ck_assert_int_eq(evwork_adaptive_metrics(it->limit, &metrics), 0);
	return metrics;
}

static struct evwork_limiter_stats rate_of(struct dependency *it)
{
	struct evwork_limiter_stats stats;

	ck_assert_int_eq(evwork_limiter_stats(it->limiter, &stats), 0);
	return stats;
}

static int64_t tokens_of(struct dependency *it)
{
	int64_t tokens;

	ck_assert_int_eq(evwork_limiter_tokens(it->limiter, &tokens), 0);
	return tokens;
}

static const struct evwork_breaker_options on_trial = { .trials = 2,
	.initial = EVWORK_BREAKER_HALF_OPEN, .trial_rule = EVWORK_BREAKER_CONSECUTIVE };

static struct evwork_adaptive_options fixed(int limit)
{
	return (struct evwork_adaptive_options) { .algorithm = EVWORK_ADAPTIVE_FIXED,
		.limit = limit };
}

static void prepare(struct dependency *it, struct probe *probes, int count)
{
	int i;

	for (i = 0; i < count; i++) {
		probe_init(&probes[i], 0);
		probes[i].job.lane = it->lane;
	}
}

/* S-LANE-2, S-BRK-12: a trial that the limit refuses gives its permit and its token back. */
START_TEST(refused_by_the_last)
{
	struct dependency it;
	struct gate_job held;
	struct probe probes[3];
	struct world world;
	struct gate gate;
	int i;

	world_open_manual(&world, 1, START_NS);
	open_dependency(&it, &world, on_trial, (struct pace) { .rate = 10, .burst = 5 }, fixed(1), 0);
	gate_init(&gate);
	block_workers(&world, &gate, &held, 1);
	prepare(&it, probes, 3);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(evwork_submit(world.loop, &probes[i].job), i ? -EAGAIN : 0);
	ck_assert_int_eq(breaker_metrics(it.breaker).trials_out, 1);
	ck_assert_int_eq(tokens_of(&it), 4);
	unblock_workers(&world, &gate);
	/* Two have not used up the other trial. */
	ck_assert_int_eq(evwork_submit(world.loop, &probes[1].job), 0);
	world_run(&world);
	ck_assert_int_eq(breaker_metrics(it.breaker).state, EVWORK_BREAKER_CLOSED);
	ck_assert_uint_eq(breaker_metrics(it.breaker).success, 2);
	ck_assert_uint_eq(breaker_metrics(it.breaker).ignored, 2);
	ck_assert_int_eq(tokens_of(&it), 3);
	gate_fini(&gate);
	close_dependency(&it);
	world_close(&world);
}
END_TEST

/* S-LANE-2: what comes too often gives its trial back, and never comes to the limit. */
START_TEST(refused_by_the_second)
{
	struct dependency it;
	struct gate_job held;
	struct probe probes[2];
	struct world world;
	struct gate gate;

	world_open_manual(&world, 1, START_NS);
	open_dependency(&it, &world, on_trial, (struct pace) { .rate = 10, .burst = 1 }, fixed(5), 0);
	gate_init(&gate);
	block_workers(&world, &gate, &held, 1);
	prepare(&it, probes, 2);
	ck_assert_int_eq(evwork_submit(world.loop, &probes[0].job), 0);
	ck_assert_int_eq(evwork_submit(world.loop, &probes[1].job), -EAGAIN);
	ck_assert_int_eq(breaker_metrics(it.breaker).trials_out, 1);
	ck_assert_int_eq(limit_of(&it).in_flight, 1);
	ck_assert_uint_eq(limit_of(&it).refused, 0);
	unblock_workers(&world, &gate);
	world_run(&world);
	gate_fini(&gate);
	close_dependency(&it);
	world_close(&world);
}
END_TEST

/* S-LANE-3, S-LANE-6, S-BRK-12: a job that waits for its time is on trial and in flight, and
 * if it is cancelled there all three have back what they gave. */
START_TEST(held_and_cancelled)
{
	struct dependency it;
	struct probe probes[2];
	struct world world;

	world_open_manual(&world, 1, START_NS);
	open_dependency(&it, &world, on_trial, (struct pace) { .rate = 10, .burst = 1,
		.guard = { .mode = EVWORK_LIMITER_WAIT } }, fixed(2), 0);
	prepare(&it, probes, 2);
	ck_assert_int_eq(evwork_submit(world.loop, &probes[0].job), 0);
	ck_assert_int_eq(evwork_submit(world.loop, &probes[1].job), 0);
	world_run_until(&world, &probes[0].dones, 1);
	ck_assert_int_eq(breaker_metrics(it.breaker).trials_out, 1);
	ck_assert_int_eq(limit_of(&it).in_flight, 1);
	ck_assert_int_eq(tokens_of(&it), -1);
	ck_assert_int_eq(evwork_cancel(&probes[1].job), 0);
	ck_assert_int_eq(breaker_metrics(it.breaker).trials_out, 0);
	ck_assert_int_eq(limit_of(&it).in_flight, 0);
	ck_assert_int_eq(tokens_of(&it), 0);
	world_run(&world);
	ck_assert_int_eq(probes[1].status, -ECANCELED);
	ck_assert_int_eq(probes[1].runs, 0);
	ck_assert_uint_eq(breaker_metrics(it.breaker).ignored, 1);
	close_dependency(&it);
	world_close(&world);
}
END_TEST

/* The storm: jobs and retries that fail, panic, expire and are cancelled. */

enum { THREADS = 3, JOBS = 16 };

struct request {
	struct evwork_job job;
	atomic_int out;
	int result;
};

struct storm {
	struct world world;
	struct dependency it;
	int rounds;
	struct feeder {
		pthread_t thread;
		struct storm *storm;
		uint64_t stream, accepted;
		struct request requests[JOBS];
	} feeders[THREADS];
	struct evwork_retry retries[JOBS];
	int started, ended;
	atomic_int feeding;
};

static int request_run(struct evwork_job *job)
{
	struct request *request = EVWORK_CONTAINER(job, struct request, job);

	if (request->result == 1)
		evwork_panic(job, "as drawn");
	return request->result;
}

static void request_done(struct evwork_job *job, int status)
{
	(void)status;
	atomic_store(&EVWORK_CONTAINER(job, struct request, job)->out, 0);
}

static const int results[] = { 0, 0, 0, 0, -EIO, -ETIMEDOUT, -ECANCELED, 1 };

static void *feed(void *arg)
{
	struct feeder *feeder = arg;
	struct storm *storm = feeder->storm;
	int submits = 0;

	chance_seed(feeder->stream);
	while (submits < storm->rounds) {
		struct request *request = &feeder->requests[chance(JOBS)];

		if (atomic_load(&request->out)) {
			/* Its done is on the loop: it may come in between, which is -ESRCH. */
			if (chance(4) == 0)
				evwork_cancel(&request->job);
			sched_yield();
			continue;
		}
		submits++;
		request->result = results[chance(8)];
		atomic_store(&request->out, 1);
		if (evwork_submit(storm->world.loop, &request->job) == 0)
			feeder->accepted++;
		else
			atomic_store(&request->out, 0);
	}
	atomic_fetch_sub(&storm->feeding, 1);
	return NULL;
}

static int try_run(struct evwork_attempt *attempt, void *arg)
{
	(void)arg;
	return evwork_attempt_number(attempt) % 2 ? -ECONNRESET : 0;
}

static void retry_done(struct evwork_retry *retry, int status)
{
	struct storm *storm = retry->op.arg;

	(void)status;
	storm->ended++;
	if (storm->started < storm->rounds / 50 &&
	    evwork_retry_start(storm->world.loop, retry) == 0)
		storm->started++;
}

static void start_retries(struct storm *storm, struct evwork_retry_policy *policy)
{
	int i;

	for (i = 0; i < JOBS; i++) {
		evwork_retry_init(&storm->retries[i], policy, retry_done);
		storm->retries[i].op = (struct evwork_op) { .run = try_run, .arg = storm,
			.lane = storm->it.lane };
		ck_assert_int_eq(evwork_retry_start(storm->world.loop, &storm->retries[i]), 0);
		storm->started++;
	}
}

static void start_feeders(struct storm *storm)
{
	int i, k;

	storm->feeding = THREADS;
	for (i = 0; i < THREADS; i++) {
		struct feeder *feeder = &storm->feeders[i];

		feeder->storm = storm;
		feeder->stream = (uint64_t)i + 1;
		for (k = 0; k < JOBS; k++) {
			evwork_job_init(&feeder->requests[k].job, request_run, request_done);
			feeder->requests[k].job.lane = storm->it.lane;
		}
		ck_assert_int_eq(pthread_create(&feeder->thread, NULL, feed, feeder), 0);
	}
}

/* What is too much is refused, or held for a while. */
static const struct pace paces[] = {
	{ .rate = 5000, .burst = 8 },
	{ .rate = 5000, .burst = 8, .guard = { .mode = EVWORK_LIMITER_WAIT, .max_wait_ms = 1 } },
};

/* S-LANE-3, S-BRK-3, S-ADP-1, S-RTY-14: nothing is out in the end, and what was taken is what
 * came back. */
START_TEST(no_permit_is_lost)
{
	static struct storm storm;
	struct evwork_retry_options options = { .base_ms = 1, .cap_ms = 1, .seed = 1 };
	struct evwork_retry_policy *policy;
	struct evwork_breaker_metrics breaker;
	struct evwork_adaptive_metrics limit;
	struct evwork_limiter_stats rate;
	struct evwork_lane_stats lane;
	int feeding, i;

	memset(&storm, 0, sizeof(storm));
	storm.rounds = scaled(50000);
	world_open(&storm.world, 2);
	open_dependency(&storm.it, &storm.world, (struct evwork_breaker_options) { .window = 16,
		.min_calls = 8, .failure_percent = 60, .open_ms = 1, .trials = 3, .half_open_ms = 5 },
		paces[_i], (struct evwork_adaptive_options) { .limit = 10, .max = 40 }, 16);
	ck_assert_int_eq(evwork_retry_policy_new(&options, &policy), 0);
	start_retries(&storm, policy);
	start_feeders(&storm);
	do {
		/* In this order, or a submit could come after the look at the lane. */
		feeding = atomic_load(&storm.feeding);
		one_pass(storm.world.base);
		lane = stats_of(storm.it.lane);
	} while (feeding > 0 || storm.ended < storm.started || lane.accepted != lane.delivered);
	for (i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_join(storm.feeders[i].thread, NULL), 0);
	breaker = breaker_metrics(storm.it.breaker);
	limit = limit_of(&storm.it);
	ck_assert_int_eq(limit.in_flight, 0);
	ck_assert_int_eq(breaker.trials_out, 0);
	ck_assert_uint_eq(limit.allowed, limit.success + limit.dropped + limit.ignored);
	/* Each submit that came to a guard was refused by it, or came to the next; and the
	 * breaker has heard of all that it let through. */
	rate = rate_of(&storm.it);
	ck_assert_uint_eq(lane.refused_guard, breaker.not_permitted + rate.refused + limit.refused);
	ck_assert_uint_eq(rate.allowed + rate.reserved, limit.allowed + limit.refused);
	ck_assert_uint_eq(breaker.success + breaker.failure + breaker.ignored + breaker.stale,
		rate.allowed + rate.reserved + rate.refused);
	ck_assert_int_eq(evwork_retry_policy_free(policy), 0);
	close_dependency(&storm.it);
	world_close(&storm.world);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("guards");
	TCase *guards = support_case(suite, "guards");

	stress_begin();
	tcase_add_test(guards, refused_by_the_last);
	tcase_add_test(guards, refused_by_the_second);
	tcase_add_test(guards, held_and_cancelled);
	tcase_add_loop_test(guards, no_permit_is_lost, 0, 2);
	return support_run(suite);
}
