/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GZIPD_CONNECTION_H
#define GZIPD_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>

#include <event2/util.h>

#include <evwork.h>

struct connection;

/* All connections of a server, and what they have in common. */
struct connections {
	struct evwork_loop *loop;
	int level;                       /* of compression */
	struct connection *first;
	bool stopping;
	uint64_t served, bytes_in, bytes_out;
};

/* Serves the client behind fd, which it takes over. */
void connections_add(struct connections *all, evutil_socket_t fd);

/* Requests that have begun are finished, and then their connections closed; others are
 * closed at once. */
void connections_stop(struct connections *all);

#endif
