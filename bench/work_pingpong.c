/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Latency of one job in flight, from submit to completion. In the ping-pong the
 * completion submits the next one; in the sparse run a timer does, once a
 * millisecond, so that everybody has gone to sleep before.
 */

#include "bench.h"

#include <stdlib.h>
#include <unistd.h>

#define PERIOD_NS 1000000
/* Where a trip crosses CPUs it takes so long that fewer of them must do. */
#define LIMIT_NS 600000000

static struct bench_job *job;
static uint64_t *trips, count, total;
static uint64_t submitted_at, end_at;
static uint64_t tick_at;
static int timer_fd;

static void submit(uint64_t now)
{
	submitted_at = now;
	bench_submit(job, 0);
}

static void on_pong(struct bench_job *done)
{
	uint64_t now = bench_now_ns();

	(void)done;
	trips[count++] = now - submitted_at;
	if (count == total || now >= end_at)
		peer_leave();
	else
		submit(now);
}

static void report(const struct bench_case *test, uint64_t cpu)
{
	bench_print(test, "p50_us", bench_quantile(trips, count, 0.5) / 1e3);
	bench_print(test, "p99_us", bench_quantile(trips, count, 0.99) / 1e3);
	bench_print(test, "cpu_us", (double)cpu / (double)count / 1e3);
	free(job);
	free(trips);
}

static void prepare(const struct bench_case *test)
{
	total = (uint64_t)bench_scale(test->jobs);
	trips = bench_alloc(total * sizeof(*trips));
	job = bench_job_new();
}

void work_pingpong(const struct bench_case *test)
{
	uint64_t cpu;

	prepare(test);
	bench_start(test, on_pong);
	cpu = bench_cpu_ns();
	end_at = bench_now_ns() + LIMIT_NS;
	submit(bench_now_ns());
	peer_run();
	cpu = bench_cpu_ns() - cpu;
	bench_stop(count);
	report(test, cpu);
}

static void next_tick(void)
{
	tick_at += PERIOD_NS;
	/* A late completion skips the ticks it missed: they would not be sparse. */
	if (tick_at < bench_now_ns())
		tick_at = bench_now_ns() + PERIOD_NS;
	bench_timer_set(timer_fd, tick_at);
}

static void on_tick(void)
{
	bench_fd_clear(timer_fd);
	submit(bench_now_ns());
}

static void on_sparse(struct bench_job *done)
{
	(void)done;
	trips[count++] = bench_now_ns() - submitted_at;
	if (count == total)
		peer_leave();
	else
		next_tick();
}

void work_sparse(const struct bench_case *test)
{
	uint64_t cpu;

	prepare(test);
	timer_fd = bench_timer_new();
	bench_start(test, on_sparse);
	peer_watch(timer_fd, on_tick);
	cpu = bench_cpu_ns();
	tick_at = bench_now_ns();
	next_tick();
	peer_run();
	cpu = bench_cpu_ns() - cpu;
	bench_stop(total);
	close(timer_fd);
	report(test, cpu);
}
