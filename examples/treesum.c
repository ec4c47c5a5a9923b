/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * treesum DIR: the SHA-256 of every regular file under DIR, hashed on all CPUs,
 * byte for byte what this prints:
 *
 *	find DIR -type f -print0 | LC_ALL=C sort -z | xargs -r0 sha256sum --
 *
 * It shows how evwork is used when there is more work than memory: a loop that
 * never blocks, and a pipeline whose bounded queues push back to its source.
 *
 *	treesum.c           options, set-up, Ctrl-C, exit status
 *	treesum_order.c     walk → read → hash → print in order, in bounded memory
 *	treesum_walk.c      a directory tree in the order of its paths
 *	treesum_read.c      a file in pieces
 *	treesum_hash.c      its SHA-256
 *	treesum_out.c       lines to standard output, on the loop
 *	treesum_console.c   messages and progress to standard error
 *
 * Exit status: 0, 1 if something could not be read or written, 2 for a
 * mistake in the arguments, 130 after Ctrl-C. A second Ctrl-C kills.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* for optind under -std=c11 */
#endif

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "command_line.h"
#include "treesum_order.h"

#define EXIT_INTERRUPTED (128 + SIGINT)

struct arguments {
	const char *root;
	uint64_t threads;        /* 0: one per CPU */
	bool summary;
	bool first_error_ends;
};

struct treesum {
	struct event_base *base;
	struct evwork_pool *pool;
	struct evwork_loop *loop;
	struct event *interrupt;
	struct console console;
	struct order order;
	bool interrupted;
	int64_t start_ns;
};

static void on_interrupt(evutil_socket_t signal, short what, void *arg)
{
	struct treesum *sum = arg;

	(void)signal;
	(void)what;
	(void)event_del(sum->interrupt); /* the next one has its usual effect */
	sum->interrupted = true;
	order_stop(&sum->order);
}

/* Takes away what keeps the loop running; dispatch then returns. */
static void on_end(struct order *order)
{
	struct treesum *sum = EVWORK_CONTAINER(order, struct treesum, order);

	(void)event_del(sum->interrupt);
	console_stop(&sum->console);
}

static int treesum_init(struct treesum *sum, const struct arguments *arguments)
{
	struct evwork_pool_options options = { 0 };
	int rc;

	options.name = "treesum";
	options.threads = (int)arguments->threads;
	sum->base = event_base_new();
	if (!sum->base)
		return -ENOMEM;
	rc = evwork_pool_new(&options, &sum->pool);
	if (!rc)
		rc = evwork_loop_new(sum->base, sum->pool, NULL, &sum->loop);
	if (!rc)
		rc = order_init(&sum->order, sum->loop, arguments->root, &sum->console, on_end);
	if (rc)
		return rc;
	sum->interrupt = evsignal_new(sum->base, SIGINT, on_interrupt, sum);
	if (!sum->interrupt || event_add(sum->interrupt, NULL))
		return -ENOMEM;
	return 0;
}

/* Ends a treesum in any state in which no job is on its way. */
static int treesum_fini(struct treesum *sum)
{
	int rc, pool_rc;

	if (sum->interrupt)
		event_free(sum->interrupt);
	order_fini(&sum->order);
	rc = evwork_loop_free(sum->loop);
	pool_rc = evwork_pool_free(sum->pool);
	if (sum->base)
		event_base_free(sum->base);
	return rc ? rc : pool_rc;
}

static int treesum_run(struct treesum *sum)
{
	struct evwork_pool_stats stats = { 0 };
	int rc;

	sum->start_ns = evwork_loop_now(sum->loop);
	rc = console_start(&sum->console, sum->loop, sum->order.out,
		&sum->order.files, &sum->order.bytes);
	if (!rc)
		rc = evwork_pool_stats(sum->pool, &stats);
	if (!rc)
		rc = order_start(&sum->order, stats.threads);
	if (rc) {
		console_stop(&sum->console);
		return rc;
	}
	return event_base_dispatch(sum->base) < 0 ? -EIO : 0;
}

static void summary_print(const struct treesum *sum)
{
	struct evwork_pool_stats stats = { 0 };
	int64_t took_ns = evwork_loop_now(sum->loop) - sum->start_ns;

	(void)evwork_pool_stats(sum->pool, &stats);
	(void)fprintf(stderr, "%" PRIu64 " files, %" PRIu64 " bytes, %.3f s, %d workers\n",
		sum->order.files, sum->order.bytes, (double)took_ns / 1e9, stats.threads);
}

/* ---- arguments ---- */

static const char usage[] =
	"usage: treesum [-ev] [-j WORKERS] [--] DIR\n"
	"Prints the SHA-256 of every regular file under DIR as sha256sum does, in the\n"
	"order of the paths' bytes. Symbolic links are not followed.\n"
	"  -e          end at the first file that cannot be read\n"
	"  -j WORKERS  threads that hash, 1 to 1024; one per CPU if not given\n"
	"  -v          at the end tell files, bytes, seconds and workers\n"
	"  -h          this text\n";

static int argument_set(void *arg, int option, const char *text)
{
	struct arguments *arguments = arg;

	switch (option) {
	case 'e':
		arguments->first_error_ends = true;
		return 0;
	case 'j':
		return number_parse(text, 1, EVWORK_THREADS_MAX, &arguments->threads);
	case 'v':
		arguments->summary = true;
		return 0;
	default:
		return -EINVAL;
	}
}

/*
 * A standard descriptor that is closed would be reused by the next open, and
 * the sums written into it. It is opened here the wrong way round, so that
 * using it is an error.
 */
static int descriptors_reserve(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0
		    && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
			return -EBADF;
	return 0;
}

static int exit_status(const struct treesum *sum, int error)
{
	if (sum->interrupted)
		return EXIT_INTERRUPTED;
	return error || sum->order.failed || sum->order.faulty ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	static const struct command_line line = {
		.name = "treesum", .usage = usage, .options = "ehj:v", .operands = 1,
		.set = argument_set
	};
	struct arguments arguments = { 0 };
	struct treesum sum = { 0 };
	int status, rc, end;

	if (descriptors_reserve())
		return EXIT_FAILURE;
	status = command_line_parse(&line, argc, argv, &arguments);
	if (status >= 0)
		return status;
	arguments.root = argv[optind];
	rc = treesum_init(&sum, &arguments);
	sum.order.first_error_ends = arguments.first_error_ends;
	if (!rc)
		rc = treesum_run(&sum);
	if (rc)
		(void)fprintf(stderr, "treesum: %s\n", strerror(-rc));
	if (arguments.summary && !rc)
		summary_print(&sum);
	end = treesum_fini(&sum);
	if (end)
		(void)fprintf(stderr, "treesum: end: %s\n", evwork_strerror(end));
	if (close(STDOUT_FILENO) && !sum.order.failed) { /* some file systems are full only now */
		(void)fprintf(stderr, "treesum: write error: %s\n", strerror(errno));
		sum.order.failed = true;
	}
	return exit_status(&sum, rc ? rc : end);
}
