/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Throughput: empty jobs, a fixed number of them in flight, each completion
 * submits the job again. The rate is that of the median chunk, so that a
 * processor which the host stopped for a while does not decide the result.
 */

#include "bench.h"

#include <stdlib.h>

#define CHUNK 10000

static uint64_t to_submit, to_complete;
static uint64_t *chunks, chunk_count;
static uint64_t chunk_start;

static void on_done(struct bench_job *job)
{
	if (--to_complete % CHUNK == 0) {
		uint64_t now = bench_now_ns();

		chunks[chunk_count++] = now - chunk_start;
		chunk_start = now;
	}
	if (to_submit > 0) {
		to_submit--;
		bench_submit(job, 0);
	} else if (to_complete == 0) {
		peer_leave();
	}
}

void work_throughput(const struct bench_case *test)
{
	uint64_t total = (uint64_t)bench_scale(test->jobs), cpu;
	struct bench_job **jobs = bench_alloc((size_t)test->in_flight * sizeof(*jobs));
	double chunk;

	chunks = bench_alloc((total / CHUNK + 1) * sizeof(*chunks));
	for (int i = 0; i < test->in_flight; i++)
		jobs[i] = bench_job_new();
	to_complete = total;
	to_submit = total - (uint64_t)test->in_flight;

	bench_start(test, on_done);
	cpu = bench_cpu_ns();
	chunk_start = bench_now_ns();
	for (int i = 0; i < test->in_flight; i++)
		bench_submit(jobs[i], 0);
	peer_run();
	cpu = bench_cpu_ns() - cpu;
	bench_stop(total);

	chunk = bench_quantile(chunks, chunk_count, 0.5);
	bench_print(test, "jobs_per_s", CHUNK * 1e9 / chunk);
	bench_print(test, "wall_ns", chunk / CHUNK);
	bench_print(test, "cpu_ns", (double)cpu / (double)total);

	for (int i = 0; i < test->in_flight; i++)
		free(jobs[i]);
	free(jobs);
	free(chunks);
}
