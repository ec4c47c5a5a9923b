/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EXAMPLES_FETCHMANY_HOST_H
#define EXAMPLES_FETCHMANY_HOST_H

/*
 * How many connections each host may have at once: a fixed limit for each, with those who
 * wait for their turn. A host is there as long as somebody uses it, so there are no more
 * of them than URLs under way. How many requests it may have in a second has to be
 * remembered for longer, and is for an evwork_limiter_table to say.
 */

#include <stddef.h>

#include <evwork.h>

struct host {
	struct host *next, *prev;
	struct evwork_adaptive *limit;
	unsigned users;
	char key[];
};

struct hosts {
	struct host *first;
	int connections;              /* of each */
	size_t waiters;               /* at most, of each */
};

/* The host of this key, for host_put(); NULL if there is no memory for it. */
struct host *host_get(struct hosts *hosts, const char *key);
void host_put(struct hosts *hosts, struct host *host);

#endif
