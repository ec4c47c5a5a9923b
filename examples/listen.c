/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

#include "listen.h"

int listen_on_loopback(struct event_base *base, uint64_t port, evconnlistener_cb accepted,
	void *arg, struct evconnlistener **ret_listener)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	socklen_t length = sizeof(address);
	struct evconnlistener *listener;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = evconnlistener_new_bind(base, accepted, arg,
		LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE, SOMAXCONN,
		(struct sockaddr *)&address, (int)length);
	if (!listener)
		return -errno;
	*ret_listener = listener;
	if (getsockname(evconnlistener_get_fd(listener), (struct sockaddr *)&address, &length))
		return -errno;
	if (printf("listening on %u\n", ntohs(address.sin_port)) < 0 || fflush(stdout))
		return -errno;
	return 0;
}
