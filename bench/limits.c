/* SPDX-License-Identifier: BSD-3-Clause */

/* What the machine and libevent allow: the workloads of the raw executable. */

#include "bench.h"
#include "bare.h"
#include "evloop.h"

#include <event2/thread.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define BARE_ROUNDS 5

/* Each on its own cache line, as two threads wait for each other's. */
static struct {
	_Alignas(64) atomic_int turn;
	_Alignas(64) int trips;
} line;

static struct event *inline_event;
static int inline_missing;
static struct bench_job inline_job;

static void *line_main(void *arg)
{
	(void)arg;
	bench_pin_thread(1);
	for (int i = 0; i < line.trips; i++) {
		while (atomic_load_explicit(&line.turn, memory_order_acquire) != 1)
			;
		atomic_store_explicit(&line.turn, 0, memory_order_release);
	}
	return NULL;
}

/* A cache line that two spinning threads pass to and fro. The clock is read
 * once for many trips, as it takes about as long as one. */
static void limit_line(const struct bench_case *test)
{
	const int batch = 20;
	int batches = bench_scale(test->jobs) / batch;
	uint64_t *times = bench_alloc((size_t)batches * sizeof(*times));
	pthread_t thread;

	bench_pin_thread(0);
	line.trips = batches * batch;
	if (pthread_create(&thread, NULL, line_main, NULL))
		bench_fail("pthread_create failed");
	for (int i = 0; i < batches; i++) {
		uint64_t start = bench_now_ns();

		for (int trip = 0; trip < batch; trip++) {
			atomic_store_explicit(&line.turn, 1, memory_order_release);
			while (atomic_load_explicit(&line.turn, memory_order_acquire) != 0)
				;
		}
		times[i] = bench_now_ns() - start;
	}
	pthread_join(thread, NULL);
	bench_print(test, "p50_us", bench_quantile(times, (size_t)batches, 0.5) / batch / 1e3);
	free(times);
}

static void on_inline(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	bench_job_run(&inline_job);
	if (--inline_missing > 0)
		event_active(inline_event, EV_READ, 0);
}

/* An empty job run by the loop itself: event_active() on a base with locks,
 * and the callback. */
static void limit_inline(const struct bench_case *test)
{
	const int chunk = 10000;
	int chunks = bench_scale(test->jobs) / chunk;
	uint64_t *times = bench_alloc((size_t)chunks * sizeof(*times));
	double median;

	if (evthread_use_pthreads() < 0)
		bench_fail("evthread_use_pthreads failed");
	evloop_start();
	inline_event = event_new(evloop_base(), -1, 0, on_inline, NULL);
	if (!inline_event)
		bench_fail("event_new failed");
	for (int i = 0; i < chunks; i++) {
		uint64_t start = bench_now_ns();

		inline_missing = chunk;
		event_active(inline_event, EV_READ, 0);
		bench_must(event_base_loop(evloop_base(), 0), "event_base_loop");
		times[i] = bench_now_ns() - start;
	}
	event_free(inline_event);
	evloop_stop();
	median = bench_quantile(times, (size_t)chunks, 0.5) / chunk;
	bench_print(test, "wall_ns", median);
	bench_print(test, "jobs_per_s", 1e9 / median);
	free(times);
}

static void limit_bare(const struct bench_case *test)
{
	uint64_t sequential[BARE_ROUNDS], two[BARE_ROUNDS];
	uint32_t cost = bench_calibrate(test->cost_us);
	int jobs = bench_scale(test->jobs);

	bare_start();
	for (int i = 0; i < BARE_ROUNDS; i++) {
		sequential[i] = bare_sequential_ns(jobs, cost);
		two[i] = bare_two_threads_ns(jobs, cost);
	}
	bare_stop();
	bench_print(test, "bare_speedup", bench_quantile(sequential, BARE_ROUNDS, 0.5) /
					  bench_quantile(two, BARE_ROUNDS, 0.5));
}

const struct bench_case bench_cases[] = {
	{ .name = "inline", .run = limit_inline, .jobs = 1000000 },
	{ .name = "line", .run = limit_line, .jobs = 200000 },
	{ .name = "pingpong-onecpu", .run = work_pingpong,
	  .workers = 1, .jobs = 200000, .in_flight = 1, .one_cpu = 1 },
	{ .name = "pingpong", .run = work_pingpong,
	  .workers = 1, .jobs = 200000, .in_flight = 1 },
	{ .name = "sparse", .run = work_sparse,
	  .workers = 1, .jobs = 500, .in_flight = 1 },
	{ .name = "bare-2ms", .run = limit_bare, .jobs = 2000, .cost_us = 1 },
	{ .name = "bare-100ms", .run = limit_bare, .jobs = 10000, .cost_us = 10 },
	{ .name = NULL },
};
