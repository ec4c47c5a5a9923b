/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GUARD_RETRY_H
#define GUARD_RETRY_H

#include "guard/backoff.h"

struct evwork_retry_policy {
	/* Fixed at creation. */
	unsigned made_in;             /* fork_here() when it was made */
	int max_attempts;
	int64_t attempt_timeout_ms;
	bool overlap;
	struct backoff_config backoff;
	struct evwork_budget *budget;
	int (*retryable)(int status, int attempt, void *arg);
	void (*on_retry)(struct evwork_retry *retry, int attempt, int status, int64_t delay_ns,
		void *arg);
	void *arg;

	_Atomic uint64_t random;
	sys_mutex mutex;              /* covers all below, and _call of its retries; a leaf */
	uint64_t users;
	struct evwork_retry_stats stats;
};

static inline void policy_count(struct evwork_retry_policy *policy, uint64_t *counter)
{
	sys_lock(&policy->mutex);
	++*counter;
	sys_unlock(&policy->mutex);
}

#endif
