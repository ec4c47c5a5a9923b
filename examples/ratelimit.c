/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ratelimit: a polite client. It makes so many requests on a few connections, but never
 * more in a second than it was allowed to, and says when:
 *
 *	$ ratelimit -n 20 -r 10
 *	listening on 43327
 *	#request        asked            sent        answered, in milliseconds
 *	       0        0.441227        0.462861        0.584307
 *	       1        0.447611      100.561103      100.702275
 *	…
 *	20 requests: 20 answered, 0 unanswered, 0 cancelled, 0 not begun
 *	1.901 seconds from the first to the last: 9.996 a second
 *	turns came in order
 *	the limit was kept: 1 + 10 * (T + 0.000) in any T seconds
 *	the limiter counts the same
 *
 * Before each request a connection waits for its turn: evwork_limiter_wait() calls back on
 * the loop when a token has been taken for it, first come, first served. No thread is
 * needed for that. The limit is strict: what the loop is late, some tenths of a millisecond
 * for each turn, is lost, unless the burst has room for it. With -l 10 it is caught up, and
 * the rate is met exactly; but then so much more may come at once. See
 * ratelimit_account.c for how the limit is checked.
 *
 * The server is in the same loop, if no other is named; ratelimit -s is one. Ctrl-C cancels
 * the context of those who wait, and what was sent is answered still; another Ctrl-C ends
 * the program as if it did not care for it.
 *
 *	ratelimit.c            options, set-up, the end
 *	ratelimit_client.c     connections that wait, send and read
 *	ratelimit_account.c    the log, and the check
 *	line_server.c          the server
 *
 * Exit status: 0 if every request that was begun was answered within the limit, also after
 * Ctrl-C; 1 if not, or if the server refused or left; 2 for a mistake in the arguments.
 */

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include <evwork.h>

#include "command_line.h"
#include "line_server.h"
#include "listen.h"
#include "ratelimit_client.h"

#define REQUESTS_DEFAULT 20
#define REQUESTS_MAX 100000
#define RATE_DEFAULT 10
#define RATE_MAX 10000
#define SLACK_MAX_MS 1000
#define CLIENTS_DEFAULT 4
#define CLIENTS_MAX 500

struct arguments {
	uint64_t requests, rate, burst, clients, slack_ms;
	uint64_t port;           /* 0: of a server of our own */
	bool serve;              /* nothing but that */
};

struct program {
	struct event_base *base;
	struct event *interrupt[2];
	struct evwork_loop *loop;
	struct line_server server;
	struct clients clients;
};

/* ---- the end ---- */

/* Each signal does again what it did before. */
static void interrupt_forget(struct program *program)
{
	int i;

	for (i = 0; i < 2; i++) {
		if (program->interrupt[i])
			event_free(program->interrupt[i]);
		program->interrupt[i] = NULL;
	}
}

/* When all this is gone nothing keeps event_base_dispatch() any more. */
static void end(void *arg)
{
	struct program *program = arg;

	interrupt_forget(program);
	line_server_close(&program->server);
}

static void on_interrupt(evutil_socket_t signal, short what, void *arg)
{
	struct program *program = arg;
	const struct account *account = &program->clients.account;

	(void)signal;
	(void)what;
	if (!program->clients.ctx) {
		end(program);
		return;
	}
	interrupt_forget(program);
	(void)fprintf(stderr, "interrupted: nothing more is sent, %" PRIu64 " to be answered\n",
		account->granted - account->answered);
	(void)evwork_ctx_cancel(program->clients.ctx, 0); /* -EALREADY: somebody has failed */
}

/* ---- set-up ---- */

static int interrupt_watch(struct program *program)
{
	static const int signals[2] = { SIGINT, SIGTERM };
	int i;

	for (i = 0; i < 2; i++) {
		program->interrupt[i] = evsignal_new(program->base, signals[i], on_interrupt,
			program);
		if (!program->interrupt[i] || evsignal_add(program->interrupt[i], NULL))
			return -ENOMEM;
	}
	return 0;
}

static int clients_init(struct program *program, const struct arguments *arguments)
{
	struct clients *clients = &program->clients;
	struct evwork_limiter_options limiter = { .name = "ratelimit",
		.slack_ms = (int64_t)arguments->slack_ms };
	int rc = evwork_loop_new(program->base, NULL, NULL, &program->loop);

	if (rc)
		return rc;
	if (limiter.slack_ms == 0)
		limiter.slack_ms = EVWORK_NO_SLACK; /* 0 is its default */
	clients->loop = program->loop;
	clients->account.requests = arguments->requests;
	clients->account.rate = arguments->rate;
	clients->account.burst = arguments->burst;
	clients->account.slack_ms = arguments->slack_ms;
	clients->count = arguments->clients;
	clients->ended = end;
	clients->arg = program;
	rc = evwork_ctx_new(NULL, &clients->ctx);
	if (rc)
		return rc;
	clients->start_ns = evwork_loop_now(program->loop);
	return evwork_limiter_new((double)arguments->rate, (int64_t)arguments->burst, &limiter,
		&clients->limiter);
}

static int start(struct program *program, const struct arguments *arguments)
{
	uint16_t port = (uint16_t)arguments->port;
	int rc;

	program->base = event_base_new();
	if (!program->base)
		return -ENOMEM;
	rc = interrupt_watch(program);
	if (rc == 0 && (arguments->serve || port == 0)) {
		rc = line_server_open(&program->server, program->base, port);
		if (rc == 0)
			rc = listening_port(program->server.listener, &port);
	}
	if (rc || arguments->serve)
		return rc;
	rc = clients_init(program, arguments);
	return rc ? rc : clients_start(&program->clients, port);
}

/* Frees it in any state in which nobody waits. */
static int program_fini(struct program *program)
{
	int rc;

	end(program);
	clients_fini(&program->clients);
	rc = evwork_limiter_free(program->clients.limiter);
	evwork_ctx_unref(program->clients.ctx);
	if (rc == 0)
		rc = evwork_loop_free(program->loop);
	if (program->base)
		event_base_free(program->base);
	return rc;
}

/* ---- arguments ---- */

static const char usage[] =
	"usage: ratelimit [-n REQUESTS] [-r RATE] [-b BURST] [-l MS] [-c CONNECTIONS]\n"
	"                 [-p PORT]\n"
	"       ratelimit -s [-p PORT]\n"
	"Makes requests to a server on the loopback interface, never more in a second than it\n"
	"may, and prints when.\n"
	"  -n REQUESTS     1 to 100000; 20 if not given\n"
	"  -r RATE         requests in a second, 1 to 10000; 10 if not given\n"
	"  -b BURST        how many at once, 1 to 100000; 1 if not given\n"
	"  -l MS           how late it may be without loss, up to 1000; 0 if not given\n"
	"  -c CONNECTIONS  1 to 500; 4 if not given\n"
	"  -p PORT         of the server; if not given it is one in the same process\n"
	"  -s              is that server, and nothing else; without a port on a free one\n"
	"Ctrl-C cancels the requests that wait for their turn.\n";

static int argument_set(void *arg, int option, const char *text)
{
	struct arguments *arguments = arg;

	switch (option) {
	case 'b':
		return number_parse(text, 1, REQUESTS_MAX, &arguments->burst);
	case 'c':
		return number_parse(text, 1, CLIENTS_MAX, &arguments->clients);
	case 'l':
		return number_parse(text, 0, SLACK_MAX_MS, &arguments->slack_ms);
	case 'n':
		return number_parse(text, 1, REQUESTS_MAX, &arguments->requests);
	case 'p':
		return number_parse(text, 1, UINT16_MAX, &arguments->port);
	case 'r':
		return number_parse(text, 1, RATE_MAX, &arguments->rate);
	case 's':
		arguments->serve = true;
		return 0;
	default:
		return -EINVAL;
	}
}

int main(int argc, char **argv)
{
	static const struct command_line line = {
		.name = "ratelimit", .usage = usage, .options = "hb:c:l:n:p:r:s", .set = argument_set
	};
	struct arguments arguments = { .requests = REQUESTS_DEFAULT, .rate = RATE_DEFAULT,
		.burst = 1, .clients = CLIENTS_DEFAULT };
	struct program program = { 0 };
	int status = command_line_parse(&line, argc, argv, &arguments), rc, end_rc;
	bool sound = true;

	if (status >= 0)
		return status;
	/* A server may leave while we write; and who reads the log reads it as it is made. */
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || setvbuf(stdout, NULL, _IOLBF, 0))
		return EXIT_FAILURE;
	rc = start(&program, &arguments);
	if (rc == 0 && event_base_dispatch(program.base) < 0)
		rc = -EIO;
	if (rc == 0 && program.clients.all)
		sound = account_close(&program.clients.account, program.clients.limiter)
			&& program.clients.error == 0;
	end_rc = program_fini(&program);
	if (rc == 0)
		rc = end_rc;
	if (rc)
		(void)fprintf(stderr, "ratelimit: %s\n", strerror(-rc));
	return rc || !sound || fflush(stdout) || ferror(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
