/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TEST_RIVAL_H
#define TEST_RIVAL_H

#include "stress.h"

#include <pthread.h>

/* A thread that does its part of each round while the test does its own. */
struct rival {
	pthread_t thread;
	void (*act)(void *arg);
	void *arg;
	uint64_t stream;
	bool prompt;           /* begins each at once, without dawdling; before the first */
	atomic_int round;      /* the round that is on; -1 ends the thread */
	atomic_int finished;
};
void rival_start(struct rival *rival, void (*act)(void *arg), void *arg, uint64_t stream);
void rival_go(struct rival *rival, int round);
bool rival_finished(struct rival *rival, int round);
void rival_await(struct rival *rival, int round);
void rival_end(struct rival *rival);

/* Several of them in an array. */
void rivals_go(struct rival *rivals, int count, int round);
bool rivals_finished(struct rival *rivals, int count, int round);
void rivals_end(struct rival *rivals, int count);

#endif
