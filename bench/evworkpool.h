/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BENCH_EVWORKPOOL_H
#define BENCH_EVWORKPOOL_H

/*
 * What the peers made with evwork share: base, pool and loop with all defaults, but
 * for room in the queue for the workload's jobs, and for the -s option. peer_start()
 * and peer_stop() stand in evworkpool.c.
 */

#include <evwork.h>

extern struct evwork_pool *evworkpool;
extern struct evwork_loop *evworkloop;

/* Ends the process if the status is not 0. */
void evwork_must(int status, const char *what);

#endif
