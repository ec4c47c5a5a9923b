/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Budgets, of two kinds that keep one ledger: how many calls are active, and how many
 * withdrawals are out. For the concurrent kind these two say what may be withdrawn. The
 * other kind has sums over time beside them: time goes in slots of a hundredth of the ttl;
 * the sums of the last hundred are kept, so nothing counts longer than the ttl.
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
	bool concurrent;
	double ratio;
	double reserve;               /* what is there without calls, or without deposits */
	/* Not for the concurrent kind. */
	struct evwork_clock *clock;
	struct clock_user clock_user; /* keeps the clock from being freed */
	int64_t slot_ns;

	sys_mutex mutex;              /* covers all below; a leaf */
	uint64_t active;              /* calls */
	uint64_t out;                 /* withdrawals that were not given back */
	struct slot slots[SLOTS], sum;
	int at;
	int64_t slot_end_ns;
};

static bool inherited(const struct evwork_budget *budget)
{
	return budget->made_in != fork_here();
}

/* A comparison with NaN is false, so it never passes. */
static bool ratio_valid(double ratio)
{
	return ratio >= 0 && ratio <= 10;
}

static int budget_new(double ratio, double reserve, struct evwork_budget **ret_budget)
{
	struct evwork_budget *budget;
	int rc = fork_notice();

	if (rc)
		return rc;
	budget = sys_zalloc(sizeof(*budget));
	if (!budget)
		return -ENOMEM;
	rc = sys_mutex_init(&budget->mutex);
	if (rc) {
		sys_free(budget);
		return rc;
	}
	budget->made_in = fork_here();
	budget->ratio = ratio;
	budget->reserve = reserve;
	*ret_budget = budget;
	return 0;
}

int evwork_budget_new(double ratio, double min_per_second, int64_t ttl_ms,
	struct evwork_clock *clock, struct evwork_budget **ret_budget)
{
	struct evwork_budget *budget;
	int rc;

	if (!ret_budget || !ratio_valid(ratio) ||
	    !(min_per_second >= 0 && min_per_second <= 1e9) || ttl_ms < 1000 || ttl_ms > 60000)
		return -EINVAL;
	if (clock_inherited(clock))
		return -ESHUTDOWN;
	rc = budget_new(ratio, min_per_second * (double)ttl_ms / 1000, &budget);
	if (rc)
		return rc;
	budget->clock = clock;
	budget->slot_ns = ttl_ms * SYS_NS_PER_MS / SLOTS;
	budget->slot_end_ns = sys_time_add(clock_now(clock), budget->slot_ns);
	clock_join(clock, &budget->clock_user);
	*ret_budget = budget;
	return 0;
}

int evwork_budget_new_concurrent(double ratio, int min, struct evwork_budget **ret_budget)
{
	int rc;

	if (!ret_budget || !ratio_valid(ratio) || min < 0)
		return -EINVAL;
	rc = budget_new(ratio, min, ret_budget);
	if (rc == 0)
		(*ret_budget)->concurrent = true;
	return rc;
}

int evwork_budget_free(struct evwork_budget *budget)
{
	bool busy;

	if (!budget)
		return 0;
	/* Of a parent's neither the lock nor the clock's list may be touched. */
	if (inherited(budget)) {
		sys_free(budget);
		return 0;
	}
	sys_lock(&budget->mutex);
	busy = budget->active > 0 || budget->out > 0;
	sys_unlock(&budget->mutex);
	if (busy)
		return -EBUSY;
	if (!budget->concurrent)
		clock_leave(budget->clock, &budget->clock_user);
	sys_mutex_fini(&budget->mutex);
	sys_free(budget);
	return 0;
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

/* The little more makes up for ratios that are no binary fractions: 0.1 of 10 is 1. */
static int64_t whole(double number)
{
	return (int64_t)(number + 1e-6);
}

/* It may be below 0: when deposits are older than what was withdrawn for them, or calls have
 * ended that others were allowed to retry for. */
static int64_t balance_locked(struct evwork_budget *budget)
{
	int64_t share, reserve = whole(budget->reserve);

	if (budget->concurrent) {
		share = whole(budget->ratio * (double)budget->active);
		return (share > reserve ? share : reserve) - (int64_t)budget->out;
	}
	expire_locked(budget);
	share = whole(budget->ratio * (double)budget->sum.deposits);
	return share + reserve - (int64_t)budget->sum.withdrawals;
}

/* Whose ledger may be written: 0, with its lock taken. */
static int open_ledger(struct evwork_budget *budget)
{
	if (!budget)
		return -EINVAL;
	if (inherited(budget))
		return -ESHUTDOWN;
	sys_lock(&budget->mutex);
	return 0;
}

int evwork_budget_enter(struct evwork_budget *budget)
{
	int rc = open_ledger(budget);

	if (rc)
		return rc;
	budget->active++;
	if (!budget->concurrent) {
		expire_locked(budget);
		budget->slots[budget->at].deposits++;
		budget->sum.deposits++;
	}
	sys_unlock(&budget->mutex);
	return 0;
}

int evwork_budget_leave(struct evwork_budget *budget)
{
	int rc = open_ledger(budget);

	if (rc)
		return rc;
	if (budget->active > 0)
		budget->active--;
	else
		rc = -ESRCH;
	sys_unlock(&budget->mutex);
	return rc;
}

int evwork_budget_withdraw(struct evwork_budget *budget)
{
	int rc = open_ledger(budget);

	if (rc)
		return rc;
	if (balance_locked(budget) >= 1) {
		budget->out++;
		if (!budget->concurrent) {
			budget->slots[budget->at].withdrawals++;
			budget->sum.withdrawals++;
		}
	} else {
		rc = -EAGAIN;
	}
	sys_unlock(&budget->mutex);
	return rc;
}

int evwork_budget_give_back(struct evwork_budget *budget)
{
	int rc = open_ledger(budget);

	if (rc)
		return rc;
	if (budget->out > 0)
		budget->out--;
	else
		rc = -ESRCH;
	sys_unlock(&budget->mutex);
	return rc;
}

int64_t evwork_budget_balance(struct evwork_budget *budget)
{
	int64_t balance;
	int rc = open_ledger(budget);

	if (rc)
		return rc;
	balance = balance_locked(budget);
	sys_unlock(&budget->mutex);
	return balance > 0 ? balance : 0;
}
