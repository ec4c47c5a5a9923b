/* SPDX-License-Identifier: BSD-3-Clause */

/* The workloads that every peer runs; peer.go has the same table. */

#include "bench.h"

const struct bench_case bench_cases[] = {
	{ .name = "throughput-w1", .run = work_throughput,
	  .workers = 1, .jobs = 1000000, .in_flight = 1024 },
	{ .name = "throughput-w2", .run = work_throughput,
	  .workers = 2, .jobs = 1000000, .in_flight = 1024 },
	{ .name = "pingpong-onecpu", .run = work_pingpong,
	  .workers = 1, .jobs = 200000, .in_flight = 1, .one_cpu = 1 },
	{ .name = "pingpong", .run = work_pingpong,
	  .workers = 1, .jobs = 200000, .in_flight = 1 },
	{ .name = "sparse", .run = work_sparse,
	  .workers = 2, .jobs = 500, .in_flight = 1 },
	{ .name = "burst-2000x1us", .run = work_burst,
	  .workers = 2, .jobs = 2000, .in_flight = 2000, .cost_us = 1, .repeat = 15 },
	{ .name = "burst-200x10us", .run = work_burst,
	  .workers = 2, .jobs = 200, .in_flight = 200, .cost_us = 10, .repeat = 15 },
	{ .name = "burst-10000x1us", .run = work_burst,
	  .workers = 2, .jobs = 10000, .in_flight = 10000, .cost_us = 1, .repeat = 11 },
	{ .name = "burst-10000x10us", .run = work_burst,
	  .workers = 2, .jobs = 10000, .in_flight = 10000, .cost_us = 10, .repeat = 3 },
	{ .name = "late-flood", .run = work_late,
	  .workers = 2, .in_flight = 1024 },
	{ .name = "late-heavy", .run = work_late,
	  .workers = 2, .in_flight = 10000, .cost_us = 1 },
	{ .name = "memory", .run = work_memory,
	  .workers = 2, .jobs = 1000000, .in_flight = 1000002 },
	{ .name = NULL },
};
