/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EXAMPLES_LISTEN_H
#define EXAMPLES_LISTEN_H

#include <stdint.h>

#include <event2/event.h>
#include <event2/listener.h>

/* Listens on the loopback interface, on a free port if port is 0, and says on which:
 * "listening on 7000". 0, or a negated error. */
int listen_on_loopback(struct event_base *base, uint64_t port, evconnlistener_cb accepted,
	void *arg, struct evconnlistener **ret_listener);

/* On which port that was. 0, or a negated error. */
int listening_port(struct evconnlistener *listener, uint16_t *ret_port);

#endif
