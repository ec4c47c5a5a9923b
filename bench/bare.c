/* SPDX-License-Identifier: BSD-3-Clause */

#include "bench.h"
#include "bare.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

enum state { SLEEPING, READY, RUNNING };

static pthread_t helper;
static sem_t wake;            /* the helper sleeps on it between measurements */
static atomic_int state;      /* spun on by both sides while they measure */
static int helper_jobs;       /* below 0: end. Written before wake is posted */
static uint32_t helper_cost;

static void spin_jobs(int jobs, uint32_t cost)
{
	uint64_t expected = bench_spin(BENCH_SEED, cost);

	for (int i = 1; i < jobs; i++) {
		if (bench_spin(BENCH_SEED, cost) != expected)
			bench_fail("the busy loop computed something else");
	}
}

static void *helper_main(void *arg)
{
	(void)arg;
	bench_pin_thread(1);
	for (;;) {
		while (sem_wait(&wake) < 0)
			;
		if (helper_jobs < 0)
			return NULL;
		atomic_store(&state, READY);
		while (atomic_load(&state) != RUNNING)
			;
		spin_jobs(helper_jobs, helper_cost);
		atomic_store(&state, SLEEPING);
	}
}

void bare_start(void)
{
	if (sem_init(&wake, 0, 0) < 0 || pthread_create(&helper, NULL, helper_main, NULL))
		bench_fail("the helper thread cannot be made");
}

void bare_stop(void)
{
	helper_jobs = -1;
	sem_post(&wake);
	pthread_join(helper, NULL);
	sem_destroy(&wake);
}

uint64_t bare_sequential_ns(int jobs, uint32_t cost)
{
	uint64_t start = bench_now_ns();

	spin_jobs(jobs, cost);
	return bench_now_ns() - start;
}

uint64_t bare_two_threads_ns(int jobs, uint32_t cost)
{
	uint64_t start, elapsed;

	/* Each thread has its CPU: the scheduler may put both on one, and takes
	 * milliseconds to notice. */
	bench_pin_thread(0);
	helper_jobs = jobs / 2;
	helper_cost = cost;
	sem_post(&wake);
	while (atomic_load(&state) != READY)
		;
	start = bench_now_ns();
	atomic_store(&state, RUNNING);
	spin_jobs(jobs - jobs / 2, cost);
	while (atomic_load(&state) != SLEEPING)
		;
	elapsed = bench_now_ns() - start;
	bench_pin_thread(-1);
	return elapsed;
}
