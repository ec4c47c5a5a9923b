/* SPDX-License-Identifier: BSD-3-Clause */
#include "guard/backoff.h"

static double smaller(double a, double b)
{
	return a < b ? a : b;
}

void backoff_restart(struct backoff *backoff, const struct backoff_config *config)
{
	backoff->next_ns = backoff->last_ns = (double)config->base_ns;
}

/* A number from low to high. */
static double between(double low, double high, uint64_t random)
{
	return low + (high - low) * ((double)(random >> 11) * 0x1p-53);
}

static double jittered(const struct backoff_config *config, double delay, double last,
	uint64_t random)
{
	switch (config->jitter) {
	case EVWORK_JITTER_FULL:
		return between(0, delay, random);
	case EVWORK_JITTER_EQUAL:
		return between(delay / 2, delay, random);
	case EVWORK_JITTER_DECORRELATED:
		return between((double)config->base_ns, 3 * last, random);
	case EVWORK_JITTER_SPREAD:
		return between(delay * (1 - config->spread), delay * (1 + config->spread), random);
	case EVWORK_JITTER_NONE:
		break;
	}
	return delay;
}

int64_t backoff_next(struct backoff *backoff, const struct backoff_config *config,
	uint64_t random)
{
	double cap = (double)config->cap_ns;
	double delay = smaller(backoff->next_ns, cap);

	/* Kept small, so that it saturates however often this is asked (S-RTY-3). */
	backoff->next_ns = smaller(delay * config->factor, cap);
	delay = smaller(jittered(config, delay, backoff->last_ns, random), cap);
	backoff->last_ns = delay;
	/* The greatest double that fits is less than the greatest number. */
	return delay >= 9.2e18 || (int64_t)delay > config->cap_ns ? config->cap_ns :
		(int64_t)delay;
}

uint64_t backoff_random(_Atomic uint64_t *state)
{
	/* Relaxed: each number is given out once, that is all. */
	uint64_t z = atomic_fetch_add_explicit(state, UINT64_C(0x9e3779b97f4a7c15),
		memory_order_relaxed) + UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}
