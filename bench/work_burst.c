/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Bursts: all jobs at once, and the time until the last one is back. Each is
 * followed, some milliseconds apart, by the same work on one thread and on two
 * threads without a pool, so that a machine that changes its speed changes all
 * three. The pause before each lets the workers fall asleep.
 */

#include "bench.h"
#include "bare.h"

#include <stdlib.h>
#include <unistd.h>

#define PAUSE_NS 8000000

static enum { SEQUENTIAL, BARE, BURST, PHASES } phase;
static struct bench_job **jobs;
static int job_count, missing;
static uint32_t cost;
static int timer_fd;
static uint64_t *walls[PHASES], *cpus;
static int round_count, rounds;
static uint64_t burst_start, burst_cpu;

static void pause_then_next_phase(void)
{
	bench_timer_set(timer_fd, bench_now_ns() + PAUSE_NS);
}

static void on_done(struct bench_job *job)
{
	(void)job;
	if (--missing > 0)
		return;
	walls[BURST][round_count] = bench_now_ns() - burst_start;
	cpus[round_count] = bench_cpu_ns() - burst_cpu;
	phase = SEQUENTIAL;
	if (++round_count == rounds)
		peer_leave();
	else
		pause_then_next_phase();
}

static void on_timer(void)
{
	bench_fd_clear(timer_fd);
	switch (phase) {
	case SEQUENTIAL:
		walls[SEQUENTIAL][round_count] = bare_sequential_ns(job_count, cost);
		phase = BARE;
		pause_then_next_phase();
		break;
	case BARE:
		walls[BARE][round_count] = bare_two_threads_ns(job_count, cost);
		phase = BURST;
		pause_then_next_phase();
		break;
	default:
		missing = job_count;
		burst_cpu = bench_cpu_ns();
		burst_start = bench_now_ns();
		for (int i = 0; i < job_count; i++)
			bench_submit(jobs[i], cost);
	}
}

static void report(const struct bench_case *test)
{
	double median[PHASES], efficiency, bare;

	for (int i = 0; i < PHASES; i++)
		median[i] = bench_quantile(walls[i], (size_t)rounds, 0.5);
	efficiency = median[SEQUENTIAL] / 2 / median[BURST];
	bare = median[SEQUENTIAL] / median[BARE];
	bench_print(test, "efficiency", efficiency);
	bench_print(test, "bare_speedup", bare);
	bench_print(test, "of_bare", 2 * efficiency / bare);
	bench_print(test, "cpu_of_seq",
		    bench_quantile(cpus, (size_t)rounds, 0.5) / median[SEQUENTIAL]);
}

void work_burst(const struct bench_case *test)
{
	size_t bytes;

	job_count = bench_scale(test->jobs);
	rounds = test->repeat;
	bytes = (size_t)rounds * sizeof(uint64_t);
	for (int i = 0; i < PHASES; i++)
		walls[i] = bench_alloc(bytes);
	cpus = bench_alloc(bytes);
	jobs = bench_alloc((size_t)job_count * sizeof(*jobs));
	for (int i = 0; i < job_count; i++)
		jobs[i] = bench_job_new();
	cost = bench_calibrate(test->cost_us);
	timer_fd = bench_timer_new();

	bare_start();
	bench_start(test, on_done);
	peer_watch(timer_fd, on_timer);
	pause_then_next_phase();
	peer_run();
	bench_stop((uint64_t)rounds * (uint64_t)job_count);
	bare_stop();
	report(test);

	close(timer_fd);
	for (int i = 0; i < job_count; i++)
		free(jobs[i]);
	free(jobs);
	for (int i = 0; i < PHASES; i++)
		free(walls[i]);
	free(cpus);
}
