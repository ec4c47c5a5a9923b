/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * A limiter as the guard of lanes. What a permit remembers is the reservation: its time
 * is when the job may start, the rest is in the permit's own words. A permit without a time
 * was granted at once.
 */

#include "guard/limiter.h"

#include "run/lane.h"
#include "run/pool.h"

static struct evwork_limiter_guard *guard_of(struct evwork_guard *guard)
{
	return EVWORK_CONTAINER(guard, struct evwork_limiter_guard, guard);
}

static int reserve_for(const struct evwork_limiter_guard *own, int64_t cost,
	struct evwork_permit *permit)
{
	struct evwork_limiter *limiter = own->_limiter;
	int64_t most = own->_options.max_wait_ms ?
		sys_time_mul(own->_options.max_wait_ms, SYS_NS_PER_MS) : EVWORK_NEVER;
	struct evwork_reservation reservation;
	int64_t now;
	int rc;

	sys_lock(&limiter->mutex);
	now = clock_now(limiter->clock);
	rc = limiter_reserve_locked(limiter, cost, most, now, &reservation);
	sys_unlock(&limiter->mutex);
	if (rc == 0 && reservation.act_ns > now) {
		permit->not_before_ns = reservation.act_ns;
		permit->more[0] = reservation._rest;
		permit->more[1] = reservation._rate;
	}
	return rc;
}

static int acquire(struct evwork_guard *guard, const struct evwork_job *job,
	struct evwork_permit *permit)
{
	const struct evwork_limiter_guard *own = guard_of(guard);
	int64_t cost = own->_options.cost_of ? own->_options.cost_of(job) : own->_options.cost;
	const struct evwork_lane *lane = __atomic_load_n(&job->_lane, __ATOMIC_RELAXED);

	if (cost < 0 || lane->pool->clock != own->_limiter->clock)
		return -EINVAL;
	if (limiter_is_inherited(own->_limiter))
		return -ESHUTDOWN;
	permit->token = (uint64_t)cost;
	if (own->_options.mode == EVWORK_LIMITER_WAIT)
		return reserve_for(own, cost, permit);
	return evwork_limiter_allow(own->_limiter, cost);
}

static void release(struct evwork_guard *guard, const struct evwork_permit *permit,
	const struct evwork_end *end)
{
	struct evwork_limiter *limiter = guard_of(guard)->_limiter;
	struct evwork_reservation reservation = {
		.act_ns = permit->not_before_ns,
		._n = (int64_t)permit->token,
		._rest = permit->more[0],
		._rate = permit->more[1],
	};
	int64_t now;

	if (end->ran || limiter_is_inherited(limiter))
		return;
	sys_lock(&limiter->mutex);
	now = clock_now(limiter->clock);
	if (permit->not_before_ns)
		limiter_cancel_locked(limiter, &reservation, now);
	else
		limiter_return_locked(limiter, (int64_t)permit->token, now);
	sys_unlock(&limiter->mutex);
}

int evwork_limiter_guard_init(struct evwork_limiter_guard *guard, struct evwork_limiter *limiter,
	const struct evwork_limiter_guard_options *options)
{
	static const struct evwork_limiter_guard_options defaults;

	if (!options)
		options = &defaults;
	if (!guard || !limiter || options->cost < 0 || options->max_wait_ms < 0 ||
	    (options->mode != EVWORK_LIMITER_REFUSE && options->mode != EVWORK_LIMITER_WAIT))
		return -EINVAL;
	guard->guard.acquire = acquire;
	guard->guard.release = release;
	guard->_limiter = limiter;
	guard->_options = *options;
	if (options->cost == 0)
		guard->_options.cost = 1;
	return 0;
}
