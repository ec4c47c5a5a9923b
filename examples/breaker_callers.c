/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <event2/util.h>

#include "breaker_callers.h"

/* Between two calls, so that who is refused does not turn in circles. */
#define PAUSE_MS 5
#define LINE_LENGTH_MAX 64

/* ---- a call, on a worker: it may block ---- */

static int set_timeout(int fd, int64_t timeout_ms)
{
	struct timeval timeout = { .tv_sec = (time_t)(timeout_ms / 1000),
		.tv_usec = (suseconds_t)(timeout_ms % 1000 * 1000) };

	return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout))
		|| setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) ? -errno : 0;
}

/* What a socket with timeouts says when they have passed. */
static int socket_error(void)
{
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINPROGRESS ?
		-ETIMEDOUT : -errno;
}

static int line_read(int fd, char *line, size_t size)
{
	size_t length = 0;

	while (length == 0 || line[length - 1] != '\n') {
		ssize_t got = length < size ? recv(fd, line + length, size - length, 0) : 0;

		if (got < 0)
			return socket_error();
		if (got == 0)
			return length < size ? -ECONNRESET : -EPROTO;
		length += (size_t)got;
	}
	line[length - 1] = '\0';
	return 0;
}

static int converse(int fd, const struct caller *caller)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(caller->port) };
	char line[LINE_LENGTH_MAX], answer[LINE_LENGTH_MAX];
	int length = snprintf(line, sizeof(line), "ok call %" PRIu64 "\n", caller->number), rc;
	const char *request = line + strlen("ok ");

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	rc = set_timeout(fd, caller->all->timeout_ms);
	if (rc)
		return rc;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address))
	    || send(fd, request, strlen(request), 0) < 0)
		return socket_error();
	rc = line_read(fd, answer, sizeof(answer));
	if (rc)
		return rc;
	/* Without a backend TCP may connect a socket to itself, and give back what we sent. */
	line[length - 1] = '\0';
	return strcmp(answer, line) == 0 ? 0 : -EPROTO;
}

static int call_run(struct evwork_job *job)
{
	const struct caller *caller = EVWORK_CONTAINER(job, struct caller, job);
	int fd = socket(AF_INET, SOCK_STREAM, 0), rc;

	if (fd < 0)
		return -errno;
	(void)evutil_make_socket_closeonexec(fd); /* the backend has no use for it */
	rc = converse(fd, caller);
	(void)close(fd);
	return rc;
}

/* ---- on the loop ---- */

static void caller_end(struct caller *caller, int error)
{
	struct callers *all = caller->all;

	if (error)
		all->error = error;
	if (--all->running == 0 && all->stopped)
		all->ended(all->arg);
	else if (error)
		callers_stop(all);
}

static void caller_pause(struct caller *caller)
{
	int rc = evwork_timer_start(caller->all->loop, &caller->pause, PAUSE_MS);

	if (rc)
		caller_end(caller, rc);
}

static void caller_call(struct caller *caller)
{
	struct callers *all = caller->all;
	int rc;

	if (all->stopped) {
		caller_end(caller, 0);
		return;
	}
	caller->port = all->port;
	caller->number = all->tally.calls;
	rc = evwork_submit(all->loop, &caller->job);
	if (rc && rc != -EHOSTDOWN && rc != -EBUSY) {
		caller_end(caller, rc);
		return;
	}
	all->tally.calls++;
	if (rc) { /* open; or half open, and enough are on trial */
		all->tally.refused++;
		caller_pause(caller);
		all->progress(all->arg);
	}
}

static void call_done(struct evwork_job *job, int status)
{
	struct caller *caller = EVWORK_CONTAINER(job, struct caller, job);
	struct tally *tally = &caller->all->tally;

	if (status == 0)
		tally->succeeded++;
	else if (status == -ETIMEDOUT)
		tally->timed_out++;
	else
		tally->failed++;
	caller_pause(caller);
	caller->all->progress(caller->all->arg);
}

static void pause_over(struct evwork_timer *timer, int status)
{
	(void)status; /* the loop is not closed while they run */
	caller_call(EVWORK_CONTAINER(timer, struct caller, pause));
}

void callers_start(struct callers *callers)
{
	int i;

	callers->running = CALLERS;
	for (i = 0; i < CALLERS; i++) {
		struct caller *caller = &callers->each[i];

		caller->all = callers;
		evwork_job_init(&caller->job, call_run, call_done);
		caller->job.lane = callers->lane;
		evwork_timer_init(&caller->pause, pause_over);
	}
	for (i = 0; i < CALLERS; i++)
		caller_call(&callers->each[i]);
}

void callers_stop(struct callers *callers)
{
	if (callers->stopped)
		return;
	callers->stopped = true;
	if (callers->running == 0)
		callers->ended(callers->arg);
}
