/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * What a queued job costs: a million of them, allocated one by one, while all
 * workers are blocked. Time and memory are read in a later turn of the loop,
 * after whatever a peer puts off until then.
 */

#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

static enum { FILL, MEASURE, DRAIN } phase;
static int gate_fd, job_count, missing;
static uint64_t start, submit_ns;
static double rss_before, rss_after;

static double rss_bytes(void)
{
	unsigned long size, resident;
	FILE *file = fopen("/proc/self/statm", "re");

	if (!file || fscanf(file, "%lu %lu", &size, &resident) != 2)
		bench_fail("/proc/self/statm cannot be read");
	fclose(file);
	return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static void on_readable(void)
{
	bench_fd_clear(gate_fd);
	switch (phase) {
	case FILL:
		rss_before = rss_bytes();
		start = bench_now_ns();
		for (int i = 0; i < job_count; i++)
			bench_submit(bench_job_new(), 0);
		phase = MEASURE;
		bench_must(eventfd_write(gate_fd, 1), "eventfd_write");
		break;
	case MEASURE:
		submit_ns = bench_now_ns() - start;
		rss_after = rss_bytes();
		phase = DRAIN;
		bench_gate_open();
		break;
	case DRAIN:
		break;
	}
}

static void on_done(struct bench_job *job)
{
	free(job);
	if (--missing == 0)
		peer_leave();
}

void work_memory(const struct bench_case *test)
{
	job_count = bench_scale(test->jobs);
	missing = job_count + test->workers;
	gate_fd = bench_gate_init(test->workers);

	bench_start(test, on_done);
	peer_watch(gate_fd, on_readable);
	for (int i = 0; i < test->workers; i++)
		bench_submit_gate(bench_job_new());
	peer_run();
	bench_stop((uint64_t)job_count + (uint64_t)test->workers);
	close(gate_fd);

	bench_print(test, "bytes_per_job", (rss_after - rss_before) / job_count);
	bench_print(test, "struct_bytes", (double)(peer_job_size - sizeof(struct bench_job)));
	bench_print(test, "submit_ns", (double)submit_ns / job_count);
}
