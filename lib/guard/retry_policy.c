/* SPDX-License-Identifier: BSD-3-Clause */
#include "guard/retry.h"

#include <errno.h>

#include "base/fork.h"

/* A comparison with NaN is false, so it never passes. */
static bool options_valid(const struct evwork_retry_options *options)
{
	return options->max_attempts >= 0 && options->base_ms >= 0 && options->cap_ms >= 0 &&
		(!options->no_delay || options->base_ms == 0) &&
		(options->cap_ms == 0 || options->cap_ms >= (options->no_delay ? 0 :
		 options->base_ms ? options->base_ms : EVWORK_RETRY_BASE_MS_DEFAULT)) &&
		(options->factor == 0 || (options->factor >= 1 && options->factor <= 1e300)) &&
		options->jitter >= EVWORK_JITTER_FULL && options->jitter <= EVWORK_JITTER_SPREAD &&
		options->spread >= 0 && options->spread <= 1 && options->attempt_timeout_ms >= 0;
}

static void fill_backoff(struct backoff_config *config, const struct evwork_retry_options *options)
{
	int64_t base = options->no_delay ? 0 : options->base_ms ? options->base_ms :
		EVWORK_RETRY_BASE_MS_DEFAULT;
	int64_t cap = options->cap_ms ? options->cap_ms : EVWORK_RETRY_CAP_MS_DEFAULT;

	config->base_ns = sys_time_mul(base, SYS_NS_PER_MS);
	config->cap_ns = sys_time_mul(cap > base ? cap : base, SYS_NS_PER_MS);
	config->factor = options->factor > 0 ? options->factor : 2;
	config->jitter = options->jitter;
	config->spread = options->spread;
}

static bool overlap_valid(const struct evwork_retry_options *options)
{
	return !options->overlap || (options->idempotent && options->attempt_timeout_ms > 0 &&
		options->max_attempts <= EVWORK_OVERLAP_MAX);
}

int evwork_retry_policy_new(const struct evwork_retry_options *options,
	struct evwork_retry_policy **ret_policy)
{
	struct evwork_retry_policy *policy;
	int rc;

	if (!options || !ret_policy || !options_valid(options) ||
	    !overlap_valid(options))
		return -EINVAL;
	rc = fork_notice();
	if (rc)
		return rc;
	policy = sys_zalloc(sizeof(*policy));
	if (!policy)
		return -ENOMEM;
	rc = sys_mutex_init(&policy->mutex);
	if (rc) {
		sys_free(policy);
		return rc;
	}
	policy->made_in = fork_here();
	policy->max_attempts = options->max_attempts ? options->max_attempts :
		EVWORK_RETRY_ATTEMPTS_DEFAULT;
	policy->overlap = options->overlap;
	policy->attempt_timeout_ms = options->attempt_timeout_ms;
	fill_backoff(&policy->backoff, options);
	policy->budget = options->budget;
	policy->retryable = options->retryable;
	policy->on_retry = options->on_retry;
	policy->arg = options->arg;
	atomic_init(&policy->random, options->seed ? options->seed : sys_random());
	*ret_policy = policy;
	return 0;
}

int evwork_retry_policy_free(struct evwork_retry_policy *policy)
{
	bool busy;

	if (!policy)
		return 0;
	if (policy->made_in != fork_here()) {
		/* Its lock stays as it is. */
		sys_free(policy);
		return 0;
	}
	sys_lock(&policy->mutex);
	busy = policy->users > 0;
	sys_unlock(&policy->mutex);
	if (busy)
		return -EBUSY;
	sys_mutex_fini(&policy->mutex);
	sys_free(policy);
	return 0;
}

int evwork_retry_policy_stats(struct evwork_retry_policy *policy,
	struct evwork_retry_stats *ret_stats)
{
	if (!policy || !ret_stats)
		return -EINVAL;
	if (policy->made_in != fork_here())
		return -ESHUTDOWN;
	sys_lock(&policy->mutex);
	*ret_stats = policy->stats;
	sys_unlock(&policy->mutex);
	return 0;
}
