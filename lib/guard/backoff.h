/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GUARD_BACKOFF_H
#define GUARD_BACKOFF_H

#include "base/sys.h"
#include "evwork/retry.h"

/* The delays between attempts: plain arithmetic, with random numbers that are given. */

struct backoff_config {
	int64_t base_ns, cap_ns;      /* 0 <= base <= cap */
	double factor;                /* >= 1, finite */
	enum evwork_jitter jitter;
	double spread;
};

struct backoff {
	double next_ns;               /* without jitter */
	double last_ns;               /* with it */
};

void backoff_restart(struct backoff *backoff, const struct backoff_config *config);

/* The next delay; random is 64 bits of a generator. */
int64_t backoff_next(struct backoff *backoff, const struct backoff_config *config,
	uint64_t random);

/* A generator for any number of threads, splitmix64: the numbers of a seed, in the order in
 * which they are asked for. */
uint64_t backoff_random(_Atomic uint64_t *state);

#endif
