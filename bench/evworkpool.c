/* SPDX-License-Identifier: BSD-3-Clause */

#include "bench.h"
#include "evloop.h"
#include "evworkpool.h"

struct evwork_pool *evworkpool;
struct evwork_loop *evworkloop;

void evwork_must(int status, const char *what)
{
	if (status != 0)
		bench_fail("%s: %s", what, evwork_strerror(status));
}

void peer_start(const struct peer_options *options)
{
	struct evwork_pool_options pool_options = {
		.threads = options->workers,
		.spin_us = options->spin_us,
		.lane.queue_limit = options->depth,
	};
	struct evwork_loop_options loop_options = {
		.spin_us = options->spin_us,
	};

	evloop_start();
	evwork_must(evwork_pool_new(&pool_options, &evworkpool), "evwork_pool_new");
	evwork_must(evwork_loop_new(evloop_base(), evworkpool, &loop_options, &evworkloop),
		    "evwork_loop_new");
}

void peer_stop(void)
{
	evwork_must(evwork_loop_free(evworkloop), "evwork_loop_free");
	evwork_must(evwork_pool_free(evworkpool), "evwork_pool_free");
	evloop_stop();
}
