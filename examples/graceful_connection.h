/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GRACEFUL_CONNECTION_H
#define GRACEFUL_CONNECTION_H

/*
 * The connections of graceful. Each greets with "ready", reads lines, and writes one
 * reply a line, in the order of the lines. Its last words are "bye COUNT", and COUNT is
 * how many lines it has accepted: as many replies came before.
 *
 * A client whose side of the stream ends has left: what it had asked for is cancelled.
 *
 * All on the thread of the loop.
 */

#include <stdbool.h>
#include <stdint.h>

#include <event2/util.h>

#include <evwork.h>

#include "graceful_request.h"

struct connection;

struct connections {
	struct request_options requests;  /* to be set before the first one is added */
	struct evwork_latch *open;        /* counts them; so is this */
	struct connection *first;
	uint64_t served;                  /* connections */
	uint64_t accepted;                /* requests */
	uint64_t answered;
	uint64_t abandoned;               /* their clients had left */
};

/* Takes over the socket, even if it has to close it at once. */
void connections_add(struct connections *all, evutil_socket_t fd);

/* Accepts no further line, after those that were read; says bye to each client when its
 * last reply is written, and waits for it to leave. */
void connections_stop(struct connections *all);

/* Closes all of them now. Those with requests under way are open until these end. */
void connections_cut(struct connections *all);

#endif
