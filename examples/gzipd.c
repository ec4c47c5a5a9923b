/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * gzipd: a server that compresses what a client sends, while it sends it:
 *
 *	$ gzipd -p 8080 &
 *	listening on 8080
 *	$ curl -sT disk.img http://127.0.0.1:8080/ >disk.img.gz
 *
 * Compressing costs tens of milliseconds for each megabyte, far too much for an event
 * loop that serves other clients meanwhile. So each request is a pipeline whose one stage
 * runs on the workers. It shows how back-pressure goes through the whole of a server: a
 * body of any size passes in about a megabyte of memory, be it the client's reading that
 * is slow, its writing, or the compression.
 *
 *	gzipd.c             options, set-up, the end
 *	gzipd_connection.c  HTTP, and what waits for what
 *	gzipd_deflate.c     the stage
 *
 * SIGTERM or Ctrl-C lets it finish the requests that have begun; once more cuts these off.
 * Exit status: 0 after a clean end, 1 if not, 2 for a mistake in the arguments.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* for getopt() under -std=c11 */
#endif

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/listener.h>

#include <evwork.h>

#include "gzipd_connection.h"

#define EXIT_USAGE 2
#define LEVEL_DEFAULT 6
#define LEVEL_MAX 9

struct arguments {
	long port;               /* 0: any */
	long workers;            /* 0: one per CPU */
	long level;
};

struct server {
	struct event_base *base;
	struct evwork_pool *pool;
	struct evwork_loop *loop;
	struct evconnlistener *listener;
	struct evwork_shutdown shutdown;
	struct connections connections;
	int status;              /* of the end */
};

/* ---- the end ---- */

/*
 * When the pool is closed every request was answered or cut off, and when the last of
 * these answers has arrived nothing keeps event_base_dispatch() any more.
 */
static void begin_end(struct evwork_shutdown *shutdown, int signal)
{
	struct server *server = shutdown->arg;

	(void)signal;
	evconnlistener_free(server->listener);
	server->listener = NULL;
	connections_stop(&server->connections);
}

static void pool_closed(struct evwork_shutdown *shutdown, int status)
{
	struct server *server = shutdown->arg;

	server->status = status;
}

/* Frees a server in any state in which nothing is under way. */
static int server_fini(struct server *server)
{
	int rc, pool_rc;

	(void)evwork_shutdown_undo(&server->shutdown); /* -ESRCH: it is over */
	if (server->listener)
		evconnlistener_free(server->listener);
	rc = evwork_loop_free(server->loop);
	pool_rc = evwork_pool_free(server->pool);
	if (server->base)
		event_base_free(server->base);
	return rc ? rc : pool_rc;
}

/* ---- set-up ---- */

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd,
	struct sockaddr *address, int length, void *arg)
{
	struct server *server = arg;

	(void)listener;
	(void)address;
	(void)length;
	connections_add(&server->connections, fd);
}

static int listener_open(struct server *server, uint16_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	socklen_t length = sizeof(address);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	server->listener = evconnlistener_new_bind(server->base, on_accept, server,
		LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE, SOMAXCONN,
		(struct sockaddr *)&address, (int)length);
	if (!server->listener)
		return -errno;
	if (getsockname(evconnlistener_get_fd(server->listener), (struct sockaddr *)&address, &length))
		return -errno;
	if (printf("listening on %u\n", ntohs(address.sin_port)) < 0 || fflush(stdout))
		return -errno;
	return 0;
}

static int server_init(struct server *server, const struct arguments *arguments)
{
	struct evwork_pool_options pool = { .name = "gzipd", .threads = (int)arguments->workers };
	struct evwork_shutdown_options end = { .begun = begin_end, .closed = pool_closed };
	int rc;

	server->base = event_base_new();
	if (!server->base)
		return -ENOMEM;
	rc = evwork_pool_new(&pool, &server->pool);
	if (!rc)
		rc = evwork_loop_new(server->base, server->pool, NULL, &server->loop);
	server->connections.loop = server->loop;
	server->connections.level = (int)arguments->level;
	server->shutdown.arg = server;
	if (!rc)
		rc = evwork_shutdown_on_signal(&server->shutdown, server->loop, server->pool, &end);
	return rc ? rc : listener_open(server, (uint16_t)arguments->port);
}

/* ---- arguments ---- */

static const char usage[] =
	"usage: gzipd [-p PORT] [-w WORKERS] [-l LEVEL]\n"
	"A server on the loopback interface that answers POST and PUT with what it was sent,\n"
	"compressed by gzip, while it is sent.\n"
	"  -p PORT     0, if not given, is any that is free\n"
	"  -w WORKERS  threads that compress, 1 to 1024; one per CPU if not given\n"
	"  -l LEVEL    0 to 9; 6 if not given\n"
	"SIGTERM or Ctrl-C ends it when the requests that have begun are answered; once more\n"
	"cuts these off.\n";

static int number_parse(const char *text, long least, long most, long *ret_value)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (errno || end == text || *end || value < least || value > most)
		return -EINVAL;
	*ret_value = value;
	return 0;
}

static int argument_set(struct arguments *arguments, int option, const char *text)
{
	switch (option) {
	case 'l':
		return number_parse(text, 0, LEVEL_MAX, &arguments->level);
	case 'p':
		return number_parse(text, 0, UINT16_MAX, &arguments->port);
	case 'w':
		return number_parse(text, 1, EVWORK_THREADS_MAX, &arguments->workers);
	default:
		return -EINVAL;
	}
}

/* Returns an exit status, or -1 to go on. */
static int arguments_parse(int argc, char **argv, struct arguments *arguments)
{
	int option;

	while ((option = getopt(argc, argv, "hl:p:w:")) != -1) {
		if (option == 'h')
			return fputs(usage, stdout) < 0 || fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
		if (option != '?' && !argument_set(arguments, option, optarg))
			continue;
		if (option != '?')
			(void)fprintf(stderr, "gzipd: -%c: not a number in range: %s\n", option, optarg);
		(void)fputs(usage, stderr);
		return EXIT_USAGE;
	}
	if (optind == argc)
		return -1;
	(void)fputs(usage, stderr);
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	struct arguments arguments = { .level = LEVEL_DEFAULT };
	struct server server = { 0 };
	int status = arguments_parse(argc, argv, &arguments), rc, end;

	if (status >= 0)
		return status;
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) /* clients leave while we write */
		return EXIT_FAILURE;
	rc = server_init(&server, &arguments);
	if (!rc && event_base_dispatch(server.base) < 0)
		rc = -EIO;
	if (!rc)
		rc = server.status;
	(void)fprintf(stderr, "%" PRIu64 " requests, %" PRIu64 " bytes in, %" PRIu64 " bytes out\n",
		server.connections.served, server.connections.bytes_in, server.connections.bytes_out);
	end = server_fini(&server);
	if (rc || end)
		(void)fprintf(stderr, "gzipd: %s\n", evwork_strerror(rc ? rc : end));
	return rc || end ? EXIT_FAILURE : EXIT_SUCCESS;
}
