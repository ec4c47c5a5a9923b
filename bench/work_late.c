/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Does the loop stay responsive? A timer of one millisecond, armed anew each
 * time it is seen, while jobs are resubmitted as fast as they come back; either
 * empty ones, or ones whose callbacks keep the loop busy for a microsecond.
 */

#include "bench.h"

#include <stdlib.h>
#include <unistd.h>

#define PERIOD_NS 1000000
#define RUN_NS 500000000
/* Completions between two looks at the clock, which would cost too much. */
#define LOOK_AT_CLOCK 256

static uint64_t *lateness, ticks;
static uint64_t due, end_at, ended_at;
static uint64_t flood_count;     /* completions until the end */
static uint64_t submitted;
static uint32_t callback_cost;
static int in_flight, timer_fd;
static volatile uint64_t sink;   /* keeps the callbacks' busy loop alive */

static void submit(struct bench_job *job)
{
	submitted++;
	bench_submit(job, 0);
}

/* The last tick counts even if it was never seen: a loop that starves its
 * timers would look punctual otherwise. */
static void end_flood(uint64_t now)
{
	ended_at = now;
	flood_count = bench_completed();
	if (now > due)
		lateness[ticks++] = now - due;
}

static void on_tick(void)
{
	uint64_t now = bench_now_ns();

	bench_fd_clear(timer_fd);
	if (ended_at)
		return;
	lateness[ticks++] = now - due;
	due = now + PERIOD_NS;
	if (now >= end_at)
		end_flood(now);
	else
		bench_timer_set(timer_fd, due);
}

static void on_done(struct bench_job *job)
{
	if (callback_cost)
		sink = bench_spin(BENCH_SEED, callback_cost);
	if (!ended_at && bench_completed() % LOOK_AT_CLOCK == 0) {
		uint64_t now = bench_now_ns();

		if (now >= end_at)
			end_flood(now);
	}
	if (!ended_at) {
		submit(job);
		return;
	}
	free(job);
	if (--in_flight == 0)
		peer_leave();
}

void work_late(const struct bench_case *test)
{
	uint64_t start, run_ns = (uint64_t)bench_scale(RUN_NS);

	lateness = bench_alloc((run_ns / PERIOD_NS + 2) * sizeof(*lateness));
	if (test->cost_us)
		callback_cost = bench_calibrate(test->cost_us);
	timer_fd = bench_timer_new();

	bench_start(test, on_done);
	peer_watch(timer_fd, on_tick);
	start = bench_now_ns();
	end_at = start + run_ns;
	due = start + PERIOD_NS;
	bench_timer_set(timer_fd, due);
	for (in_flight = 0; in_flight < test->in_flight; in_flight++)
		submit(bench_job_new());
	peer_run();
	bench_stop(submitted);
	close(timer_fd);

	bench_print(test, "p50_ms", bench_quantile(lateness, ticks, 0.5) / 1e6);
	bench_print(test, "p99_ms", bench_quantile(lateness, ticks, 0.99) / 1e6);
	bench_print(test, "max_ms", bench_quantile(lateness, ticks, 1) / 1e6);
	bench_print(test, "jobs_per_s", (double)flood_count * 1e9 / (double)(ended_at - start));
	bench_print(test, "ticks", (double)ticks);
	free(lateness);
}
