/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * graceful: a server that ends well. It listens on the loopback interface, and each
 * line that a client sends is a request which a group of jobs computes:
 *
 *	$ graceful -p 7000 &
 *	listening on 7000
 *	$ nc 127.0.0.1 7000
 *	ready
 *	sum 1 2 3
 *	ok 6
 *	hash some text
 *	ok 4fa6813f5364268d…
 *
 * What it is about is SIGTERM, or Ctrl-C, after which
 *
 * - nothing is accepted any more: no connection and no line;
 * - every request that was accepted is still answered, under load, and each client is
 *   told how many these were;
 * - a second signal cancels what still runs, and what was not begun;
 * - when it ends nothing is left: no job, no thread, no connection, no descriptor. That
 *   is checked, and told as "clean".
 *
 * The end is a chain, of which each link starts the next one from its callback:
 *
 *	begun          at the first signal: closes the listener, stops the connections;
 *	               evwork_shutdown_on_signal() then drains the pool
 *	pool_closed    the last job is done: waits for the clients to leave
 *	all_left       the last connection is closed: closes the loop
 *	loop_closed    nothing keeps event_base_dispatch() any more, and main frees
 *
 *	graceful.c             options, set-up, the end
 *	graceful_connection.c  lines in, replies out, one after the other
 *	graceful_request.c     a line, its group, its reply
 *
 * Exit status: 0 after a clean end, 1 if not, 2 for a mistake in the arguments.
 */

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/listener.h>

#include <evwork.h>

#include "command_line.h"
#include "graceful_connection.h"
#include "listen.h"

/* How long clients may take to read their last replies and to leave. */
#define LINGER_MS 3000

struct arguments {
	uint64_t port;           /* 0: any */
	uint64_t workers;        /* 0: one per CPU */
	uint64_t queue;          /* jobs that may wait, four for a request */
	uint64_t rounds;         /* of hash */
	uint64_t timeout_ms;     /* of a request */
};

struct server {
	struct event_base *base;
	struct evwork_pool *pool;
	struct evwork_loop *loop;
	struct evwork_shutdown shutdown;
	struct evconnlistener *listener;
	struct connections connections;
	struct evwork_latch_waiter idle;
	struct evwork_timer linger;
	int descriptors;         /* that were open before */
	bool drained;
	int error;               /* of the end, a status */
};

/* ---- the end ---- */

/* Of the end's own calls, that all are expected to work. */
static void expect(struct server *server, const char *what, int rc)
{
	if (!rc)
		return;
	(void)fprintf(stderr, "graceful: %s: %s\n", what, evwork_strerror(rc));
	server->error = rc;
}

static void loop_closed(struct evwork_loop *loop, void *arg)
{
	struct server *server = arg;

	(void)loop;
	expect(server, "giving the signals back", evwork_shutdown_undo(&server->shutdown));
}

static void all_left(struct evwork_latch_waiter *waiter, int status)
{
	struct server *server = EVWORK_CONTAINER(waiter, struct server, idle);

	expect(server, "waiting for connections", status);
	(void)evwork_timer_stop(&server->linger); /* -ESRCH: it is what brought this about */
	expect(server, "closing the loop", evwork_loop_close(server->loop, loop_closed, server));
}

/* Some clients have neither read their replies nor left. */
static void linger_over(struct evwork_timer *timer, int status)
{
	struct server *server = EVWORK_CONTAINER(timer, struct server, linger);

	if (!status)
		connections_cut(&server->connections);
}

static void pool_closed(struct evwork_shutdown *shutdown, int status)
{
	struct server *server = EVWORK_CONTAINER(shutdown, struct server, shutdown);

	expect(server, "draining the pool", status);
	server->drained = true;
	expect(server, "waiting for connections",
		evwork_latch_after(server->connections.open, server->loop, &server->idle));
	expect(server, "waiting for clients",
		evwork_timer_start(server->loop, &server->linger, LINGER_MS));
}

/* At the first signal. The pool is drained when this returns. */
static void begun(struct evwork_shutdown *shutdown, int signal)
{
	struct server *server = EVWORK_CONTAINER(shutdown, struct server, shutdown);

	(void)signal;
	evconnlistener_free(server->listener);
	server->listener = NULL;
	connections_stop(&server->connections);
	(void)fprintf(stderr, "draining %" PRIu64 " requests\n", server->connections.accepted
		- server->connections.answered - server->connections.abandoned);
}

/* At each signal after that. What is left in the pool was cancelled. */
static void hurry(struct evwork_shutdown *shutdown, int signal)
{
	struct server *server = EVWORK_CONTAINER(shutdown, struct server, shutdown);

	(void)signal;
	(void)fputs("cancelling\n", stderr);
	if (server->drained)
		connections_cut(&server->connections);
}

/* The directory lists the one it is read through as well, each time. */
static int descriptors_count(void)
{
	DIR *directory = opendir("/dev/fd");
	int count = 0;

	if (!directory)
		return 0;
	while (readdir(directory))
		count++;
	(void)closedir(directory);
	return count;
}

/* Frees a server in any state in which nothing is under way. What cannot be freed has
 * something left that should be over. */
static void server_fini(struct server *server)
{
	if (server->listener)
		evconnlistener_free(server->listener);
	(void)evwork_shutdown_undo(&server->shutdown); /* -ESRCH: as loop_closed has done */
	expect(server, "freeing the loop", evwork_loop_free(server->loop));
	expect(server, "freeing the pool", evwork_pool_free(server->pool));
	expect(server, "freeing the latch", evwork_latch_free(server->connections.open));
	if (server->base)
		event_base_free(server->base);
}

static bool is_clean(const struct server *server)
{
	const struct connections *all = &server->connections;

	(void)fprintf(stderr, "%" PRIu64 " connections, %" PRIu64 " requests: %" PRIu64
		" answered, %" PRIu64 " abandoned by their clients\n",
		all->served, all->accepted, all->answered, all->abandoned);
	return !server->error && !all->first && descriptors_count() == server->descriptors
		&& all->accepted == all->answered + all->abandoned;
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

/* SIGINT and SIGTERM. Cancelled work obeys, so there is no limit to its grace. */
static int signals_watch(struct server *server)
{
	struct evwork_shutdown_options options = {
		.grace_ms = EVWORK_NEVER, .begun = begun, .closed = pool_closed, .hurry = hurry
	};

	return evwork_shutdown_on_signal(&server->shutdown, server->loop, server->pool, &options);
}

static int server_init(struct server *server, const struct arguments *arguments)
{
	struct evwork_pool_options options = { .name = "graceful" };
	int rc;

	server->descriptors = descriptors_count();
	evwork_latch_waiter_init(&server->idle, all_left);
	evwork_timer_init(&server->linger, linger_over);
	options.threads = (int)arguments->workers;
	options.lane.queue_limit = (size_t)arguments->queue;
	server->base = event_base_new();
	if (!server->base)
		return -ENOMEM;
	rc = evwork_pool_new(&options, &server->pool);
	if (!rc)
		rc = evwork_loop_new(server->base, server->pool, NULL, &server->loop);
	if (!rc)
		rc = evwork_latch_new(&server->connections.open);
	server->connections.requests.loop = server->loop;
	server->connections.requests.rounds = arguments->rounds;
	server->connections.requests.timeout_ms = (int64_t)arguments->timeout_ms;
	if (!rc)
		rc = signals_watch(server);
	if (!rc)
		rc = listen_on_loopback(server->base, arguments->port, on_accept, server,
			&server->listener);
	return rc;
}

/* ---- arguments ---- */

static const char usage[] =
	"usage: graceful [-p PORT] [-w WORKERS] [-q QUEUE] [-r ROUNDS] [-t MS]\n"
	"A server on the loopback interface that answers the lines `hash TEXT' and\n"
	"`sum N N N...'.\n"
	"  -p PORT     0, if not given, is any that is free\n"
	"  -w WORKERS  threads that compute, 1 to 1024; one per CPU if not given\n"
	"  -q QUEUE    jobs that may wait, four for a request; 1024 if not given\n"
	"  -r ROUNDS   how slow hash is; 1000 if not given\n"
	"  -t MS       how long a request may take; 10000 if not given\n"
	"SIGTERM or Ctrl-C ends it when all that was accepted is answered; once more cancels\n"
	"that.\n";

static int argument_set(void *arg, int option, const char *text)
{
	struct arguments *arguments = arg;

	switch (option) {
	case 'p':
		return number_parse(text, 0, UINT16_MAX, &arguments->port);
	case 'w':
		return number_parse(text, 1, EVWORK_THREADS_MAX, &arguments->workers);
	case 'q':
		return number_parse(text, 1, EVWORK_QUEUE_LIMIT_MAX, &arguments->queue);
	case 'r':
		return number_parse(text, 1, INT64_MAX, &arguments->rounds);
	case 't':
		return number_parse(text, 1, INT32_MAX, &arguments->timeout_ms);
	default:
		return -EINVAL;
	}
}

int main(int argc, char **argv)
{
	static const struct command_line line = {
		.name = "graceful", .usage = usage, .options = "hp:q:r:t:w:", .set = argument_set
	};
	struct arguments arguments = { .queue = 1024, .rounds = 1000, .timeout_ms = 10000 };
	struct server server = { 0 };
	int status = command_line_parse(&line, argc, argv, &arguments);
	int rc;

	if (status >= 0)
		return status;
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) /* clients leave while we write */
		return EXIT_FAILURE;
	rc = server_init(&server, &arguments);
	if (!rc && event_base_dispatch(server.base) < 0)
		rc = -EIO;
	if (rc)
		(void)fprintf(stderr, "graceful: %s\n", evwork_strerror(rc));
	server_fini(&server);
	if (!is_clean(&server) || rc)
		return EXIT_FAILURE;
	(void)fputs("clean\n", stderr);
	return EXIT_SUCCESS;
}
