/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef WORKER_POOL_ACCOUNT_H
#define WORKER_POOL_ACCOUNT_H

/* The tally of worker_pool's callbacks, and its comparison with the counters
 * of the library. */

#include <stdbool.h>
#include <stdint.h>

#include <evwork.h>

struct tally {
	uint64_t full;           /* submit said -EAGAIN */
	uint64_t late;           /* submit said the time was over already */
	uint64_t accepted;
	uint64_t ok, failed, expired, cancelled, crashed;
};

/* A job was done with this status. */
void tally_add(struct tally *tally, int status);

/* For the time when nothing is on its way any more. */
bool account_adds_up(const struct tally *tally, const struct evwork_lane_stats *lane);

/* To standard output. */
void account_print(const struct tally *tally, const struct evwork_lane_stats *lane,
	const struct evwork_pool_stats *pool);

#endif
