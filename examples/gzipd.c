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

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <event2/listener.h>

#include <evwork.h>

#include "command_line.h"
#include "gzipd_connection.h"
#include "listen.h"

#define LEVEL_DEFAULT 6
#define LEVEL_MAX 9

struct arguments {
	uint64_t port;           /* 0: any */
	uint64_t workers;        /* 0: one per CPU */
	uint64_t level;
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
	return rc ? rc : listen_on_loopback(server->base, arguments->port, on_accept, server,
		&server->listener);
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

static int argument_set(void *arg, int option, const char *text)
{
	struct arguments *arguments = arg;

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

int main(int argc, char **argv)
{
	static const struct command_line line = {
		.name = "gzipd", .usage = usage, .options = "hl:p:w:", .set = argument_set
	};
	struct arguments arguments = { .level = LEVEL_DEFAULT };
	struct server server = { 0 };
	int status = command_line_parse(&line, argc, argv, &arguments), rc, end;

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
