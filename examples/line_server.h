/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EXAMPLES_LINE_SERVER_H
#define EXAMPLES_LINE_SERVER_H

/* A server for clients to try things on: it answers each line with "ok " and the line. */

#include <stdint.h>

#include <event2/event.h>
#include <event2/listener.h>

struct line_session;

/* All zero before it is opened. */
struct line_server {
	struct evconnlistener *listener;
	struct line_session *first;
};

/* Opens it as listen_on_loopback() does. After an error, too, it has to be closed. */
int line_server_open(struct line_server *server, struct event_base *base, uint64_t port);

/* Closes it and all its connections. One that is all zero, or closed already, is fine. */
void line_server_close(struct line_server *server);

#endif
