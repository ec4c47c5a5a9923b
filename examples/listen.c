/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

#include "listen.h"

int listening_port(struct evconnlistener *listener, uint16_t *ret_port)
{
	struct sockaddr_in address;
	socklen_t length = sizeof(address);

	if (getsockname(evconnlistener_get_fd(listener), (struct sockaddr *)&address, &length))
		return -errno;
	*ret_port = ntohs(address.sin_port);
	return 0;
}

int listen_on_loopback(struct event_base *base, uint64_t port, evconnlistener_cb accepted,
	void *arg, struct evconnlistener **ret_listener)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct evconnlistener *listener;
	uint16_t actual = 0;
	int rc;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = evconnlistener_new_bind(base, accepted, arg,
		LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE, SOMAXCONN,
		(struct sockaddr *)&address, (int)sizeof(address));
	if (!listener)
		return -errno;
	*ret_listener = listener;
	rc = listening_port(listener, &actual);
	if (rc)
		return rc;
	return printf("listening on %u\n", actual) < 0 || fflush(stdout) ? -errno : 0;
}
