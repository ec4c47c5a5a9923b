/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * overload: a server that gets more to do than it can. Each line that a client sends is a
 * request which costs some CPU; its first word comes back with the answer.
 *
 *	$ overload -p 7000 &
 *	listening on 7000
 *	$ (echo 1; echo 2) | nc -N 127.0.0.1 7000
 *	1 ok 1229
 *	2 ok 1229
 *
 * With a gate it reads no more than it can serve: while 64 requests wait for a worker, all
 * connections are paused, and clients that go on sending find that nobody takes it. With -g 0
 * it reads all that comes, which waits in memory. At the end, after SIGTERM or Ctrl-C, it
 * tells what that means: how much it held, how long answers took, how late its loop was.
 *
 *	overload.c             options, set-up, the end
 *	overload_connection.c  requests and connections; where the gate is asked
 *
 * Exit status: 0 after a clean end, 1 if not, 2 for a mistake in the arguments.
 */

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include <event2/event.h>
#include <event2/listener.h>

#include <evwork.h>

#include "command_line.h"
#include "listen.h"
#include "overload_connection.h"

/* How often it is looked whether the loop is on time. */
#define BEAT_MS 10

struct arguments {
	uint64_t port;           /* 0: any */
	uint64_t workers;        /* 0: one per CPU */
	uint64_t high;           /* the gate's mark; 0: no gate */
	uint64_t below;
};

struct server {
	struct event_base *base;
	struct evwork_pool *pool;
	struct evwork_loop *loop;
	struct evwork_gate *gate;
	struct evconnlistener *listener;
	struct evwork_shutdown shutdown;
	struct service service;
	struct evwork_timer beat;
	int64_t beat_ns, lag_ns; /* when it is due; the most that one was late */
	int status;
};

/* ---- the loop's own pulse ---- */

static void beat(struct evwork_timer *timer, int status)
{
	struct server *server = EVWORK_CONTAINER(timer, struct server, beat);
	int64_t now = evwork_loop_now(server->loop);

	if (status)
		return; /* the loop closes */
	if (server->beat_ns && server->lag_ns < now - server->beat_ns)
		server->lag_ns = now - server->beat_ns;
	server->beat_ns = now + BEAT_MS * INT64_C(1000000);
	(void)evwork_timer_start_at(server->loop, timer, server->beat_ns);
}

/* ---- the end, on the loop ---- */

static void begin_end(struct evwork_shutdown *shutdown, int signal)
{
	struct server *server = EVWORK_CONTAINER(shutdown, struct server, shutdown);

	(void)signal;
	evconnlistener_free(server->listener);
	server->listener = NULL;
	connections_stop(&server->service);
}

/* What was taken is computed, and the answers are being written. */
static void pool_closed(struct evwork_shutdown *shutdown, int status)
{
	struct server *server = EVWORK_CONTAINER(shutdown, struct server, shutdown);

	server->status = status;
	connections_finish(&server->service);
}

static void all_closed(struct service *service)
{
	struct server *server = EVWORK_CONTAINER(service, struct server, service);
	int rc = evwork_gate_free(server->gate);

	server->gate = NULL;
	if (!rc)
		rc = evwork_loop_close(server->loop, NULL, NULL);
	if (!server->status)
		server->status = rc;
}

static void results_print(const struct server *server)
{
	const struct service *service = &server->service;

	(void)fprintf(stderr,
		"%" PRIu64 " requests, %" PRIu64 " answers\n"
		"%" PRIu64 " requests held at most, %" PRIu64 " bytes\n"
		"%" PRIu64 " requests ahead of one at most\n"
		"%.3f ms for an answer at most\n"
		"%.3f ms late was the loop at most\n",
		service->taken, service->answered, service->most_held, service->most_bytes,
		service->most_ahead, (double)service->longest_ns / 1e6,
		(double)server->lag_ns / 1e6);
}

/* Frees a server in any state in which nothing is under way. */
static int server_fini(struct server *server)
{
	int rc, pool_rc;

	(void)evwork_shutdown_undo(&server->shutdown); /* -ESRCH: it is over */
	if (server->listener)
		evconnlistener_free(server->listener);
	(void)evwork_timer_stop(&server->beat);
	(void)evwork_gate_free(server->gate);
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
	connection_add(&server->service, fd);
}

static int gate_open(struct server *server, const struct arguments *arguments)
{
	struct evwork_gate_options options = { .queue_high = (size_t)arguments->high };

	return arguments->high ? evwork_gate_new(server->loop, &options, &server->gate) : 0;
}

static int server_init(struct server *server, const struct arguments *arguments)
{
	struct evwork_pool_options pool = {
		.name = "overload", .threads = (int)arguments->workers,
		.lane.queue_limit = arguments->high ? 0 : EVWORK_UNBOUNDED,
	};
	struct evwork_shutdown_options end = { .begun = begin_end, .closed = pool_closed };
	int rc;

	evwork_timer_init(&server->beat, beat);
	server->base = event_base_new();
	if (!server->base)
		return -ENOMEM;
	rc = evwork_pool_new(&pool, &server->pool);
	if (!rc)
		rc = evwork_loop_new(server->base, server->pool, NULL, &server->loop);
	if (!rc)
		rc = gate_open(server, arguments);
	server->service.loop = server->loop;
	server->service.gate = server->gate;
	server->service.all_closed = all_closed;
	server->service.below = (uint32_t)arguments->below;
	if (!rc)
		rc = evwork_shutdown_on_signal(&server->shutdown, server->loop, server->pool, &end);
	if (!rc)
		rc = evwork_timer_start(server->loop, &server->beat, 0);
	return rc ? rc : listen_on_loopback(server->base, arguments->port, on_accept, server,
		&server->listener);
}

/* ---- arguments ---- */

static const char usage[] =
	"usage: overload [-p PORT] [-w WORKERS] [-g HIGH] [-c BELOW]\n"
	"A server on the loopback interface that answers each line with its first word and the\n"
	"number of primes below BELOW, and tells at its end how it has borne its load.\n"
	"  -p PORT     0, if not given, is any that is free\n"
	"  -w WORKERS  threads that compute, 1 to 1024; one per CPU if not given\n"
	"  -g HIGH     requests that may wait for one, 1 to 2048, before it stops reading; 64 if\n"
	"              not given; 0 reads all that comes\n"
	"  -c BELOW    how much a request costs, 2 to 1000000; 10000 if not given\n"
	"SIGTERM or Ctrl-C ends it when what was read is answered.\n";

static int argument_set(void *arg, int option, const char *text)
{
	struct arguments *arguments = arg;

	switch (option) {
	case 'c':
		return number_parse(text, 2, 1000000, &arguments->below);
	case 'g':
		return number_parse(text, 0, 2048, &arguments->high);
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
		.name = "overload", .usage = usage, .options = "c:g:hp:w:", .set = argument_set
	};
	struct arguments arguments = { .high = 64, .below = 10000 };
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
	results_print(&server);
	end = server_fini(&server);
	if (rc || end)
		(void)fprintf(stderr, "overload: %s\n", evwork_strerror(rc ? rc : end));
	return rc || end ? EXIT_FAILURE : EXIT_SUCCESS;
}
