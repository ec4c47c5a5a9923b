/* SPDX-License-Identifier: BSD-3-Clause */

/* How limits on what is in flight move: plain arithmetic. */

#include "guard/adaptive.h"

static int aimd_next(const struct limit_config *config, const struct limit_sample *sample)
{
	/* The little more makes up for ratios that are no binary fractions: 0.9 of 10 is 9. */
	if (sample->dropped || sample->rtt_ns > config->timeout_ns)
		return (int)((double)sample->limit * config->ratio + 1e-6);
	/* One that is hardly used learns nothing. */
	return 2 * (int64_t)sample->in_flight >= sample->limit ? sample->limit + 1 :
		sample->limit;
}

static int fixed_next(const struct limit_config *config, const struct limit_sample *sample)
{
	(void)config;
	return sample->limit;
}

const struct limit_algorithm limit_aimd = { .next = aimd_next };
const struct limit_algorithm limit_fixed = { .next = fixed_next };

int limit_next(const struct limit_config *config, const struct limit_sample *sample)
{
	int limit = config->algorithm->next(config, sample);

	if (limit < config->min)
		return config->min;
	return limit > config->max ? config->max : limit;
}
