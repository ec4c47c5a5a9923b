/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TEST_BREAKER_SCENE_H
#define TEST_BREAKER_SCENE_H

/* What several programs with tests of breakers share: calls, and what is asked after them. */

#include "stress.h"

/* Where their manual clocks start. */
#define START_NS INT64_C(1000000000)
#define MS INT64_C(1000000)

/* A call that is let through, and ends like this after so long. */
void breaker_call(struct evwork_breaker *breaker, enum evwork_outcome outcome, int64_t ns);
/* n of them that take no time. */
void breaker_calls(struct evwork_breaker *breaker, enum evwork_outcome outcome, int n);
/* What acquire says; a permit is dropped. */
int breaker_try(struct evwork_breaker *breaker);

struct evwork_breaker_metrics breaker_metrics(struct evwork_breaker *breaker);
void breaker_set(struct evwork_breaker *breaker, enum evwork_breaker_state state);
void expect_breaker(struct evwork_breaker *breaker, enum evwork_breaker_state state);

#endif
