/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Budgets. Time goes in slots of a hundredth of the ttl; the sums of the last hundred are
 * kept, so nothing counts longer than the ttl.
 */

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/fork.h"
#include "evwork/retry.h"

#define SLOTS 100

struct slot { uint64_t deposits, withdrawals; };

struct evwork_budget {
	/* Fixed at creation. */
	unsigned made_in;             /* fork_here() when it was made */
	struct evwork_clock *clock;
	struct clock_user clock_user; /* keeps the clock from being freed */
	double ratio;
	double reserve;               /* what is there without deposits */
	int64_t slot_ns;

	sys_mutex mutex;              /* covers all below; a leaf */
	struct slot slots[SLOTS], sum;
	int at;
	int64_t slot_end_ns;
};

static bool inherited(const struct evwork_budget *budget)
{
	return budget->made_in != fork_here();
}

int evwork_budget_new(double ratio, double min_per_second, int64_t ttl_ms,
	struct evwork_clock *clock, struct evwork_budget **ret_budget)
{
	struct evwork_budget *budget;
	int rc;

	/* A comparison with NaN is false, so it never passes. */
	if (!ret_budget || !(ratio >= 0 && ratio <= 10) ||
	    !(min_per_second >= 0 && min_per_second <= 1e9) || ttl_ms < 1000 || ttl_ms > 60000)
		return -EINVAL;
	if (clock_inherited(clock))
		return -ESHUTDOWN;
	budget = sys_zalloc(sizeof(*budget));
	if (!budget)
		return -ENOMEM;
	rc = sys_mutex_init(&budget->mutex);
	if (rc) {
		sys_free(budget);
		return rc;
	}
	budget->made_in = fork_here();
	budget->clock = clock;
	budget->ratio = ratio;
	budget->reserve = min_per_second * (double)ttl_ms / 1000;
	budget->slot_ns = ttl_ms * SYS_NS_PER_MS / SLOTS;
	budget->slot_end_ns = sys_time_add(clock_now(clock), budget->slot_ns);
	clock_join(clock, &budget->clock_user);
	*ret_budget = budget;
	return 0;
}

void evwork_budget_free(struct evwork_budget *budget)
{
	if (!budget)
		return;
	/* Of a parent's neither the lock nor the clock's list may be touched. */
	if (!inherited(budget)) {
		clock_leave(budget->clock, &budget->clock_user);
		sys_mutex_fini(&budget->mutex);
	}
	sys_free(budget);
}

static void expire_locked(struct evwork_budget *budget)
{
	int64_t now = clock_now(budget->clock), passed;

	if (now < budget->slot_end_ns)
		return;
	passed = (now - budget->slot_end_ns) / budget->slot_ns + 1;
	budget->slot_end_ns = sys_time_add(budget->slot_end_ns,
		sys_time_mul(passed, budget->slot_ns));
	for (passed = passed < SLOTS ? passed : SLOTS; passed > 0; passed--) {
		struct slot *slot;

		budget->at = (budget->at + 1) % SLOTS;
		slot = &budget->slots[budget->at];
		budget->sum.deposits -= slot->deposits;
		budget->sum.withdrawals -= slot->withdrawals;
		memset(slot, 0, sizeof(*slot));
	}
}

/* It may be below 0, when deposits are older than what was withdrawn for them. The little
 * more makes up for ratios that are no binary fractions: 0.1 of 10 is 1. */
static int64_t balance_locked(struct evwork_budget *budget)
{
	double deposits, reserve;

	expire_locked(budget);
	deposits = budget->ratio * (double)budget->sum.deposits;
	reserve = budget->reserve;
	return (int64_t)(deposits + 1e-6) + (int64_t)(reserve + 1e-6) -
		(int64_t)budget->sum.withdrawals;
}

int evwork_budget_deposit(struct evwork_budget *budget)
{
	if (!budget)
		return -EINVAL;
	if (inherited(budget))
		return -ESHUTDOWN;
	sys_lock(&budget->mutex);
	expire_locked(budget);
	budget->slots[budget->at].deposits++;
	budget->sum.deposits++;
	sys_unlock(&budget->mutex);
	return 0;
}

int evwork_budget_withdraw(struct evwork_budget *budget)
{
	int rc = -EAGAIN;

	if (!budget)
		return -EINVAL;
	if (inherited(budget))
		return -ESHUTDOWN;
	sys_lock(&budget->mutex);
	if (balance_locked(budget) >= 1) {
		budget->slots[budget->at].withdrawals++;
		budget->sum.withdrawals++;
		rc = 0;
	}
	sys_unlock(&budget->mutex);
	return rc;
}

int64_t evwork_budget_balance(struct evwork_budget *budget)
{
	int64_t balance;

	if (!budget)
		return -EINVAL;
	if (inherited(budget))
		return -ESHUTDOWN;
	sys_lock(&budget->mutex);
	balance = balance_locked(budget);
	sys_unlock(&budget->mutex);
	return balance > 0 ? balance : 0;
}
