/* SPDX-License-Identifier: BSD-3-Clause */

/* The side of the benchmark that checks jobs: see bench.h. */

#include "bench.h"

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>

/* Everything here but the gate belongs to the loop thread. */
static void (*on_done)(struct bench_job *job);
static uint64_t submitted, completed;
static uint32_t checked_cost;
static uint64_t checked_result;

static struct {
	pthread_mutex_t lock;   /* covers the fields below */
	pthread_cond_t opened;
	int open;
	int missing;            /* workers that have not arrived yet */
	int arrived_fd;
} gate = { .lock = PTHREAD_MUTEX_INITIALIZER, .opened = PTHREAD_COND_INITIALIZER };

uint64_t __attribute__((noinline)) bench_spin(uint64_t state, uint32_t steps)
{
	while (steps-- > 0) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
	}
	return state;
}

uint32_t bench_calibrate(int cost_us)
{
	const uint32_t trial = 100000;
	uint64_t best = UINT64_MAX;
	volatile uint64_t sink;
	uint32_t steps;

	/* The quickest of several trials is the one nobody interrupted. */
	for (int i = 0; i < 9; i++) {
		uint64_t start = bench_now_ns(), elapsed;

		sink = bench_spin(BENCH_SEED, trial);
		elapsed = bench_now_ns() - start;
		if (elapsed < best)
			best = elapsed;
	}
	(void)sink;
	steps = (uint32_t)((double)trial * cost_us * 1000 / (double)best);
	if (steps == 0)
		bench_fail("the busy loop cannot be calibrated");
	checked_cost = steps;
	checked_result = bench_spin(BENCH_SEED, steps);
	return steps;
}

void bench_start(const struct bench_case *test, void (*done)(struct bench_job *job))
{
	struct peer_options options = {
		.workers = test->workers,
		.depth = (size_t)test->in_flight,
		.spin_us = bench_spin_us,
	};

	on_done = done;
	peer_start(&options);
}

void bench_stop(uint64_t expected)
{
	peer_stop();
	if (submitted != expected || completed != expected)
		bench_fail("%llu jobs expected, %llu submitted, %llu completed",
			   (unsigned long long)expected, (unsigned long long)submitted,
			   (unsigned long long)completed);
}

struct bench_job *bench_job_new(void)
{
	struct bench_job *job = bench_alloc(peer_job_size);

	peer_init(job);
	return job;
}

static void submit(struct bench_job *job, uint32_t cost, uint32_t is_gate)
{
	job->sequence = ++submitted;
	job->check = 0;
	job->cost = cost;
	job->gate = is_gate;
	peer_submit(job);
}

void bench_submit(struct bench_job *job, uint32_t cost)
{
	submit(job, cost, 0);
}

void bench_submit_gate(struct bench_job *job)
{
	submit(job, 0, 1);
}

uint64_t bench_completed(void)
{
	return completed;
}

void bench_job_done(struct bench_job *job)
{
	uint64_t result = BENCH_SEED;

	if (job->cost) {
		if (job->cost != checked_cost)
			bench_fail("job %llu has a cost nobody gave it",
				   (unsigned long long)job->sequence);
		result = checked_result;
	}
	if (job->check != (job->sequence ^ result))
		bench_fail("job %llu completed, but its work %s",
			   (unsigned long long)job->sequence,
			   job->check ? "ran more than once or went wrong" : "never ran");
	/* A second completion of the same submission then finds no work. */
	job->check = 0;
	completed++;
	on_done(job);
}

int bench_gate_init(int workers)
{
	pthread_mutex_lock(&gate.lock);
	gate.open = 0;
	gate.missing = workers;
	gate.arrived_fd = bench_must(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
	pthread_mutex_unlock(&gate.lock);
	return gate.arrived_fd;
}

void bench_gate_wait(void)
{
	pthread_mutex_lock(&gate.lock);
	if (--gate.missing == 0 && eventfd_write(gate.arrived_fd, 1) < 0)
		bench_fail("eventfd_write: errno %d", errno);
	while (!gate.open)
		pthread_cond_wait(&gate.opened, &gate.lock);
	pthread_mutex_unlock(&gate.lock);
}

void bench_gate_open(void)
{
	pthread_mutex_lock(&gate.lock);
	gate.open = 1;
	pthread_cond_broadcast(&gate.opened);
	pthread_mutex_unlock(&gate.lock);
}
