/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The one place where permits are taken and released. A job's permits are taken in
 * the order of the lane's guards and released, in the reverse order, by
 * ledger_end, which every road of a job leads to exactly once: a refusal after
 * the guards, an end in the queue, the return of work.
 */

#include "run/lane.h"
#include "run/pool.h"

#include <errno.h>

static struct evwork_ledger *ledger_new(struct evwork_lane *lane)
{
	struct evwork_ledger *ledger = sys_alloc(sizeof(*ledger) +
		lane->guard_count * sizeof(ledger->permits[0]));

	if (!ledger)
		return NULL;
	ledger->lane = lane;
	sys_lock(&lane->ledger_mutex);
	ledger->next_made = lane->made;
	lane->made = ledger;
	sys_unlock(&lane->ledger_mutex);
	return ledger;
}

struct evwork_ledger *ledger_take(struct evwork_lane *lane)
{
	struct evwork_ledger *ledger;

	sys_lock(&lane->ledger_mutex);
	ledger = lane->ledgers;
	if (ledger)
		lane->ledgers = ledger->next;
	sys_unlock(&lane->ledger_mutex);
	if (!ledger && lane->queue_limit == EVWORK_UNBOUNDED)
		ledger = ledger_new(lane);
	if (ledger) {
		ledger->deadline_ns = EVWORK_NEVER;
		ledger->not_before_ns = 0;
		ledger->started_ns = 0;
		ledger->taken = 0;
	}
	return ledger;
}

static void give_back(struct evwork_ledger *ledger)
{
	struct evwork_lane *lane = ledger->lane;

	sys_lock(&lane->ledger_mutex);
	ledger->next = lane->ledgers;
	lane->ledgers = ledger;
	sys_unlock(&lane->ledger_mutex);
}

/* Guards are the user's, and may come to a cancellation point; but their functions are not
 * work, and what is half done around them would stay so. */

static void release_permits(struct evwork_ledger *ledger, const struct evwork_end *end)
{
	int cancel = sys_no_cancel();

	while (ledger->taken > 0) {
		struct evwork_guard *guard = ledger->lane->guards[--ledger->taken];

		guard->release(guard, &ledger->permits[ledger->taken], end);
	}
	sys_cancel(cancel);
}

static int acquire(struct evwork_guard *guard, const struct evwork_job *job,
	struct evwork_permit *permit)
{
	int cancel = sys_no_cancel();
	int rc = guard->acquire(guard, job, permit);

	sys_cancel(cancel);
	return rc;
}

int ledger_acquire(struct evwork_ledger *ledger, const struct evwork_job *job)
{
	struct evwork_lane *lane = ledger->lane;
	size_t i;

	for (i = 0; i < lane->guard_count; i++) {
		struct evwork_permit *permit = &ledger->permits[i];
		int rc;

		permit->token = 0;
		permit->not_before_ns = 0;
		permit->more[0] = permit->more[1] = 0;
		rc = acquire(lane->guards[i], job, permit);
		if (rc != 0)
			return rc < 0 ? rc : -EINVAL;
		ledger->taken = i + 1;
		if (permit->not_before_ns > ledger->not_before_ns)
			ledger->not_before_ns = permit->not_before_ns;
	}
	return 0;
}

void ledger_end(struct evwork_ledger *ledger, int status, bool ran)
{
	struct evwork_end end = { EVWORK_IGNORE, status, 0, ran };

	if (ran) {
		end.run_ns = clock_now(ledger->lane->pool->clock) - ledger->started_ns;
		if (status == 0)
			end.outcome = EVWORK_SUCCESS;
		else if (status != -ECANCELED)
			end.outcome = EVWORK_FAILURE;
	}
	release_permits(ledger, &end);
	give_back(ledger);
}
