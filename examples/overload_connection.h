/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef OVERLOAD_CONNECTION_H
#define OVERLOAD_CONNECTION_H

/*
 * The connections of overload: lines in, answers out, in whichever order they are ready, and
 * what is measured of them. All on the thread of the loop, but for what says so.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <event2/util.h>

#include <evwork.h>

struct connection;

struct service {
	/* To be set before the first connection is added. */
	struct evwork_loop *loop;
	struct evwork_gate *gate;         /* NULL: all that comes is read */
	uint32_t below;                   /* the primes below this are counted for each request */

	void (*all_closed)(struct service *service);

	struct connection *first;
	bool finishing;
	uint64_t taken, answered;         /* requests */
	_Atomic uint64_t started;         /* written by the workers */
	uint64_t bytes;                   /* of the requests that are held */

	/* The most ever. */
	uint64_t most_held, most_bytes;   /* read, and not answered yet */
	uint64_t most_ahead;              /* requests before one that has just been let in */
	int64_t longest_ns;               /* from the reading of a request to its answer */
};

/* Takes over the socket, even if it has to close it at once. */
void connection_add(struct service *service, evutil_socket_t fd);

/* Nothing is read any more. */
void connections_stop(struct service *service);

/* Closes each of them when its last answers are written, and then calls all_closed; no
 * request is under way. */
void connections_finish(struct service *service);

#endif
