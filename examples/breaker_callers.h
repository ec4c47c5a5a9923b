/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EXAMPLES_BREAKER_CALLERS_H
#define EXAMPLES_BREAKER_CALLERS_H

/* Those who call the backend all the time, each one call after the other. */

#include <stdbool.h>
#include <stdint.h>

#include <evwork.h>

#define CALLERS 4

/* What became of the calls; calls is the sum of the others. */
struct tally {
	uint64_t calls, succeeded, failed, timed_out;
	uint64_t refused;        /* by the breaker */
};

struct callers;

struct caller {
	struct evwork_job job;
	struct evwork_timer pause;
	struct callers *all;
	uint16_t port;
	uint64_t number;         /* of the call */
};

struct callers {
	/* Set these before the start; port is to be changed as the backend's does. */
	struct evwork_loop *loop;
	struct evwork_lane *lane;
	int64_t timeout_ms;
	uint16_t port;
	void (*progress)(void *arg);     /* the tally has changed */
	void (*ended)(void *arg);        /* none is left, and none will call any more */
	void *arg;

	struct tally tally;
	struct caller each[CALLERS];
	int running;
	bool stopped;
	int error;               /* a refusal that nobody expects */
};

/* Once. */
void callers_start(struct callers *callers);

/* No further calls. `ended` comes when the last is over, in this call if there is none. */
void callers_stop(struct callers *callers);

#endif
