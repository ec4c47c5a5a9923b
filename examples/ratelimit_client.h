/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EXAMPLES_RATELIMIT_CLIENT_H
#define EXAMPLES_RATELIMIT_CLIENT_H

/* Connections to one server, which share one limit. */

#include <stddef.h>

#include <evwork.h>

#include "ratelimit_account.h"

struct clients {
	/* Set these before the start. */
	struct evwork_loop *loop;
	struct evwork_limiter *limiter;
	struct evwork_ctx *ctx;          /* its death ends all waiting */
	struct account account;
	size_t count;
	void (*ended)(void *arg);        /* the last one has left */
	void *arg;

	int64_t start_ns;                /* what times count from; before the limiter is made */
	struct client *all;
	size_t open;
	int error;                       /* the first one */
};

/* Connects them. -ENOMEM: nothing was begun; else `ended` is called in the end, perhaps
 * already in this call. */
int clients_start(struct clients *clients, uint16_t port);

/* After they have ended. All zero is fine. */
void clients_fini(struct clients *clients);

#endif
