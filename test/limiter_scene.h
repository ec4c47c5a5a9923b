/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TEST_LIMITER_SCENE_H
#define TEST_LIMITER_SCENE_H

/* What several programs with tests of limiters share. */

#include "stress.h"

#define SECOND INT64_C(1000000000)
#define MS SYS_NS_PER_MS

struct evwork_limiter *limiter_with(double rate, int64_t burst,
	struct evwork_limiter_options options);
int64_t limiter_tokens(struct evwork_limiter *limiter);
struct evwork_limiter_stats limiter_stats(struct evwork_limiter *limiter);

#endif
