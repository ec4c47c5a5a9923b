/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fetchmany FILE: gets many URLs, a line for each as it is through:
 *
 *	$ fetchmany -c 2 -r 10 -H 300 urls
 *	200 5312 41 1 ok http://example.org/a
 *	503 0 912 3 attempts http://example.org/b
 *	000 0 10003 1 cancelled http://example.org/c (Operation canceled)
 *
 * which are the status of HTTP, or 000 if there was no answer; bytes of the body;
 * milliseconds since it was its turn; requests that were made; and why it ended. The body
 * itself is thrown away, and redirects are failures. http:// only.
 *
 * It shows how to treat servers that are not one's own. Each has a limit for connections
 * and for requests in a second. What fails for reasons that may pass is tried again, after
 * growing delays with jitter or when the server says; what is slow is asked a second time,
 * with -H; but both only within a budget, so that servers in trouble are not asked more,
 * but less. Ctrl-C cancels one context, and all that is under way ends by that. The list
 * of URLs is read as it is needed: it may have any length, or be the output of a program
 * that still runs.
 *
 *	fetchmany.c          options, set-up, how many at once, Ctrl-C, the summary
 *	fetchmany_input.c    lines, from files and pipes
 *	fetchmany_fetch.c    a URL: its turn, retries, hedges, its line
 *	fetchmany_host.c     connections of a host
 *	fetchmany_request.c  a request, with libevent's HTTP client
 *
 * There is no worker and no lane here: the operations are the loop's own.
 *
 * Exit status: 0 if all were got, 1 if not, 2 for a mistake in the arguments. After
 * Ctrl-C what is left of FILE is not read. A second one kills.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* for optind under -std=c11 */
#endif

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "command_line.h"
#include "fetchmany_fetch.h"
#include "fetchmany_input.h"

#define LINES_AT_ONCE 256        /* that are looked at in one turn */
#define HOSTS_MAX 10000          /* whose rates are remembered */
#define SIGNALS 2

struct arguments {
	uint64_t attempts, body_max, connections, delay_ms, at_once, min, percent, rate, limit_ms;
	uint64_t hedge_ms;
	bool hedges;
};

struct program {
	struct fetches fetches;
	struct input input;
	struct evwork_budget *budget;        /* of retries */
	struct event *signals[SIGNALS];
	size_t at_once;
	bool stopped;                        /* no further URL is begun */
	bool interrupted;
	int error;                           /* of the file, or 0 */
};

/* ---- the URLs ---- */

static void forget_signals(struct program *program)
{
	int i;

	for (i = 0; i < SIGNALS; i++)
		(void)event_del(program->signals[i]);
}

/* No further URL is begun, and what is under way ends. */
static void stop(struct program *program)
{
	program->stopped = true;
	input_stop(&program->input);
	(void)evwork_ctx_cancel(program->fetches.ctx, 0); /* -EALREADY: so be it */
}

/* Begins as many as there may be. */
static void on_room(void *arg)
{
	struct program *program = arg;
	int lines = 0, rc = 1;

	if (ferror(stdout)) /* nobody hears of what there would be */
		stop(program);
	while (!program->stopped && program->fetches.active < program->at_once) {
		char *line;

		if (lines++ == LINES_AT_ONCE) {
			rc = input_ask_later(&program->input);
			break;
		}
		rc = input_next(&program->input, &line);
		if (rc <= 0)
			break;
		if (*line && *line != '#')
			fetch_begin(&program->fetches, line);
		free(line);
	}
	if (rc < 0) {
		program->stopped = true;
		program->error = rc == -ENODATA ? 0 : rc;
	}
	/* Then nothing keeps the base running. */
	if (program->stopped && program->fetches.active == 0)
		forget_signals(program);
}

/* Only the first is ours; a second one does what it did before. */
static void on_signal(evutil_socket_t signal, short what, void *arg)
{
	struct program *program = arg;

	(void)signal;
	(void)what;
	program->interrupted = true;
	stop(program);
	forget_signals(program);
}

/* ---- set-up ---- */

static int budgets_init(struct program *program, const struct arguments *arguments)
{
	double ratio = (double)arguments->percent / 100;
	int rc = evwork_budget_new_concurrent(ratio, (int)arguments->min, &program->budget);

	return rc ? rc : evwork_budget_new_concurrent(ratio, (int)arguments->min,
		&program->fetches.copy_budget);
}

static int policy_init(struct program *program, const struct arguments *arguments)
{
	struct evwork_retry_options options = {
		.max_attempts = (int)arguments->attempts, .base_ms = (int64_t)arguments->delay_ms,
		.no_delay = arguments->delay_ms == 0, .budget = program->budget };

	return evwork_retry_policy_new(&options, &program->fetches.policy);
}

static int client_init(struct client *client, const struct arguments *arguments)
{
	struct evwork_limiter_table_options rates = { .key_size = TARGET_KEY_MAX };
	int rc;

	client->limit_ms = (int64_t)arguments->limit_ms;
	client->body_max = (int64_t)arguments->body_max;
	client->base = event_base_new();
	if (!client->base)
		return -ENOMEM;
	client->dns = evdns_base_new(client->base, EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	if (!client->dns)
		return -ENOMEM;
	/* If there is no such file it asks this machine, as others do. */
	(void)evdns_base_resolv_conf_parse(client->dns, DNS_OPTIONS_ALL, "/etc/resolv.conf");
	rc = evwork_loop_new(client->base, NULL, NULL, &client->loop);
	if (rc == 0 && arguments->rate)
		rc = evwork_limiter_table_new((double)arguments->rate, 1, HOSTS_MAX, &rates,
			&client->rates);
	return rc;
}

static int signals_init(struct program *program)
{
	static const int numbers[SIGNALS] = { SIGINT, SIGTERM };
	int i;

	for (i = 0; i < SIGNALS; i++) {
		program->signals[i] = evsignal_new(program->fetches.client.base, numbers[i],
			on_signal, program);
		if (!program->signals[i] || event_add(program->signals[i], NULL))
			return -ENOMEM;
	}
	return 0;
}

static int program_init(struct program *program, const struct arguments *arguments)
{
	struct fetches *fetches = &program->fetches;
	int rc = client_init(&fetches->client, arguments);

	program->at_once = arguments->at_once;
	program->input.ready = fetches->room = on_room;
	program->input.arg = fetches->arg = program;
	fetches->hosts = (struct hosts) { .connections = (int)arguments->connections,
		.waiters = arguments->at_once };
	fetches->copies = arguments->hedges ? 2 : 1;
	fetches->hedge_ms = (int64_t)arguments->hedge_ms;
	if (rc == 0)
		rc = evwork_ctx_new(NULL, &fetches->ctx);
	if (rc == 0)
		rc = budgets_init(program, arguments);
	return rc ? rc : policy_init(program, arguments);
}

/* Of a program in any state in which nothing is under way. */
static int program_fini(struct program *program)
{
	struct client *client = &program->fetches.client;
	int i, rc;

	for (i = 0; i < SIGNALS; i++)
		if (program->signals[i])
			event_free(program->signals[i]);
	input_close(&program->input);
	rc = evwork_retry_policy_free(program->fetches.policy);
	if (rc == 0)
		rc = evwork_budget_free(program->budget);
	if (rc == 0)
		rc = evwork_budget_free(program->fetches.copy_budget);
	evwork_ctx_unref(program->fetches.ctx);
	evwork_limiter_table_free(client->rates);
	if (rc == 0)
		rc = evwork_loop_free(client->loop);
	if (rc == 0 && client->dns)
		evdns_base_free(client->dns, 0);
	if (rc == 0 && client->base)
		event_base_free(client->base);
	return rc;
}

/* ---- the summary ---- */

/* What adds up: urls = ok + failed + cancelled, and first attempts + retries + second copies
 * are at least the requests; those that a signal met before they were sent are not. */
static void print_summary(struct program *program)
{
	const struct fetches *fetches = &program->fetches;
	struct evwork_retry_stats stats = { 0 };

	(void)evwork_retry_policy_stats(fetches->policy, &stats);
	(void)fprintf(stderr, "%" PRIu64 " urls: %" PRIu64 " ok, %" PRIu64 " failed, %" PRIu64
		" cancelled\n", fetches->ok + fetches->failed + fetches->cancelled, fetches->ok,
		fetches->failed, fetches->cancelled);
	(void)fprintf(stderr, "%" PRIu64 " requests: %" PRIu64 " first, %" PRIu64 " retries, %"
		PRIu64 " copies, %" PRIu64 " of which won\n", fetches->client.sent,
		stats.attempts - stats.retries, stats.retries, fetches->launched, fetches->won);
	(void)fprintf(stderr, "the budget refused %" PRIu64 " retries and %" PRIu64 " copies\n",
		stats.stops[EVWORK_RETRY_BUDGET], fetches->refused);
}

/* ---- arguments ---- */

static const char usage[] =
	"usage: fetchmany [-a ATTEMPTS] [-b BYTES] [-c CONNECTIONS] [-d MS] [-H MS] [-j URLS]\n"
	"                 [-m MIN] [-p PERCENT] [-r RATE] [-t MS] FILE\n"
	"Gets the http:// URLs in FILE, one a line, - being standard input. Prints for each,\n"
	"when it is through: status, bytes, milliseconds, requests, why it ended, the URL.\n"
	"  -a ATTEMPTS     at most for each URL, 1 to 100; 3 if not given\n"
	"  -b BYTES        a longer body is a failure; 67108864 if not given\n"
	"  -c CONNECTIONS  at once to each host, 1 to 1000; 4 if not given\n"
	"  -d MS           the first delay before a retry, to 60000; 100 if not given\n"
	"  -H MS           asks a second time if there is no answer so long; not, if not given\n"
	"  -j URLS         under way at once, 1 to 4096; 64 if not given\n"
	"  -m MIN          retries, and copies, that are always allowed; 3 if not given\n"
	"  -p PERCENT      of URLs under way that may be retries, and copies; 20 if not given\n"
	"  -r RATE         requests a second to each host; no limit if not given\n"
	"  -t MS           for a request, 1 to 86400000; 10000 if not given\n"
	"Ctrl-C ends what is under way, with its lines.\n";

static int argument_set(void *arg, int option, const char *text)
{
	struct arguments *arguments = arg;

	switch (option) {
	case 'a':
		return number_parse(text, 1, 100, &arguments->attempts);
	case 'b':
		return number_parse(text, 0, INT64_MAX, &arguments->body_max);
	case 'c':
		return number_parse(text, 1, 1000, &arguments->connections);
	case 'd':
		return number_parse(text, 0, 60000, &arguments->delay_ms);
	case 'H':
		arguments->hedges = true;
		return number_parse(text, 0, 86400000, &arguments->hedge_ms);
	case 'j':
		return number_parse(text, 1, 4096, &arguments->at_once);
	case 'm':
		return number_parse(text, 0, 4096, &arguments->min);
	case 'p':
		return number_parse(text, 0, 1000, &arguments->percent);
	case 'r':
		return number_parse(text, 1, 1000000, &arguments->rate);
	case 't':
		return number_parse(text, 1, 86400000, &arguments->limit_ms);
	default:
		return -EINVAL;
	}
}

static int run(struct program *program, const struct arguments *arguments, const char *path)
{
	int rc = program_init(program, arguments);

	if (rc)
		return rc;
	/* This may wait for who writes into a pipe with a name, which a signal ends as usual. */
	rc = input_open(&program->input, path, program->fetches.client.base);
	if (rc == 0)
		rc = signals_init(program);
	if (rc)
		return rc;
	on_room(program);
	if (event_base_dispatch(program->fetches.client.base) < 0)
		return -EIO;
	print_summary(program);
	return program->error;
}

int main(int argc, char **argv)
{
	static const struct command_line line = {
		.name = "fetchmany", .usage = usage, .options = "a:b:c:d:H:hj:m:p:r:t:",
		.operands = 1, .set = argument_set
	};
	struct arguments arguments = { .attempts = 3, .body_max = 67108864, .connections = 4,
		.delay_ms = 100, .at_once = 64, .min = EVWORK_BUDGET_MIN_DEFAULT, .percent = 20,
		.limit_ms = 10000 };
	struct program program = { .stopped = false };
	int status = command_line_parse(&line, argc, argv, &arguments), rc, end;

	if (status >= 0)
		return status;
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) /* servers leave while we write */
		return EXIT_FAILURE;
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	rc = run(&program, &arguments, argv[optind]);
	end = program_fini(&program);
	if (rc || end)
		(void)fprintf(stderr, "fetchmany: %s: %s\n", argv[optind],
			strerror(-(rc ? rc : end)));
	return rc || end || program.fetches.failed || program.interrupted || ferror(stdout) ?
		EXIT_FAILURE : EXIT_SUCCESS;
}
