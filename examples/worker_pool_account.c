/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two accounts are kept of the same jobs: one by the library, where each lane
 * counts, and one by us, from what submit returned and done was told. Each has
 * to add up by itself, and both have to agree.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "worker_pool_account.h"

void tally_add(struct tally *tally, int status)
{
	switch (status) {
	case 0:
		tally->ok++;
		break;
	case -ETIMEDOUT:
		tally->expired++;
		break;
	case -ECANCELED:
		tally->cancelled++;
		break;
	case -EOWNERDEAD:
		tally->crashed++;
		break;
	default:
		tally->failed++;
		break;
	}
}

/* The accounting law of evwork/lane.h with nothing in between. */
static bool lane_adds_up(const struct evwork_lane_stats *lane)
{
	return lane->submitted == lane->accepted + lane->refused
		&& lane->refused == lane->refused_full + lane->refused_closed + lane->refused_ctx
			+ lane->refused_guard + lane->refused_memory
		&& lane->accepted == lane->delivered
		&& lane->queued + lane->running + lane->posted == 0
		&& lane->delivered == lane->ok + lane->failed + lane->cancelled
			+ lane->expired + lane->crashed;
}

static bool tally_adds_up(const struct tally *tally)
{
	return tally->accepted == tally->ok + tally->failed + tally->expired +
		tally->cancelled + tally->crashed;
}

bool account_adds_up(const struct tally *tally, const struct evwork_lane_stats *lane)
{
	return lane_adds_up(lane) && tally_adds_up(tally)
		&& tally->accepted == lane->accepted
		&& tally->full + tally->late == lane->refused
		&& tally->full == lane->refused_full
		&& tally->late == lane->refused_ctx
		&& tally->ok == lane->ok
		&& tally->failed == lane->failed
		&& tally->expired == lane->expired
		&& tally->cancelled == lane->cancelled
		&& tally->crashed == lane->crashed;
}

void account_print(const struct tally *tally, const struct evwork_lane_stats *lane,
	const struct evwork_pool_stats *pool)
{
	(void)printf("accepted  %" PRIu64 " = %" PRIu64 " ok + %" PRIu64 " failed + %" PRIu64
		" expired + %" PRIu64 " cancelled + %" PRIu64 " crashed\n", tally->accepted,
		tally->ok, tally->failed, tally->expired, tally->cancelled, tally->crashed);
	(void)printf("lane      %" PRIu64 " submitted = %" PRIu64 " accepted + %" PRIu64
		" refused; %" PRIu64 " queued at the peak\n",
		lane->submitted, lane->accepted, lane->refused, lane->queue_peak);
	(void)printf("lane      %" PRIu64 " delivered = %" PRIu64 " ok + %" PRIu64 " failed + %" PRIu64
		" expired + %" PRIu64 " cancelled + %" PRIu64 " crashed\n", lane->delivered,
		lane->ok, lane->failed, lane->expired, lane->cancelled, lane->crashed);
	(void)printf("pool      %" PRIu64 " wake-ups of workers, %" PRIu64 " steals\n",
		pool->wakeups, pool->steals);
}
