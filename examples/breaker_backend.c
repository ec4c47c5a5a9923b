/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The backend is this program, started anew with -B. Its standard input and output are one
 * end of a socket pair: there it says on which port it listens, and when the other end is
 * closed, be it because we have died, it ends.
 */

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L /* for kill() under -std=c11 */
#endif

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "breaker_backend.h"
#include "command_line.h"
#include "line_server.h"

extern char **environ;

/* ---- in the backend ---- */

struct service {
	struct line_server server;
	struct event *closed;
};

static void on_close(evutil_socket_t fd, short what, void *arg)
{
	struct service *service = arg;
	char ignored[64];

	(void)what;
	if (read(fd, ignored, sizeof(ignored)) > 0)
		return;
	/* Now nothing keeps event_base_dispatch() any more. */
	line_server_close(&service->server);
	(void)event_del(service->closed);
}

int backend_serve(void)
{
	struct event_base *base = event_base_new();
	struct service service = { 0 };
	int rc = -ENOMEM;

	if (base)
		service.closed = event_new(base, STDIN_FILENO, EV_READ | EV_PERSIST, on_close,
			&service);
	if (service.closed && event_add(service.closed, NULL) == 0)
		rc = line_server_open(&service.server, base, 0);
	if (rc == 0 && event_base_dispatch(base) < 0)
		rc = -EIO;
	line_server_close(&service.server);
	if (service.closed)
		event_free(service.closed);
	if (base)
		event_base_free(base);
	if (rc == -EPIPE)
		rc = 0; /* nobody wants to know the port any more */
	if (rc)
		(void)fprintf(stderr, "breaker: the backend: %s\n", strerror(-rc));
	return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---- in the client ---- */

static void channel_close(struct backend *backend)
{
	if (backend->channel)
		bufferevent_free(backend->channel);
	backend->channel = NULL;
}

static void on_child(evutil_socket_t signal, short what, void *arg)
{
	struct backend *backend = arg;
	int status;

	(void)signal;
	(void)what;
	/* It may only have been stopped, or go on. */
	if (backend->pid == 0 || waitpid(backend->pid, &status, WNOHANG) != backend->pid)
		return;
	backend->pid = 0;
	channel_close(backend);
	backend->died(status, backend->arg);
}

static void on_channel(struct bufferevent *channel, void *arg)
{
	struct backend *backend = arg;
	char *line = evbuffer_readln(bufferevent_get_input(channel), NULL, EVBUFFER_EOL_LF);
	unsigned port;

	if (line && sscanf(line, "listening on %u", &port) == 1 && port <= UINT16_MAX)
		backend->listening((uint16_t)port, backend->arg);
	free(line);
}

int backend_init(struct backend *backend, struct event_base *base)
{
	backend->base = base;
	backend->child = evsignal_new(base, SIGCHLD, on_child, backend);
	return backend->child && evsignal_add(backend->child, NULL) == 0 ? 0 : -ENOMEM;
}

void backend_fini(struct backend *backend)
{
	channel_close(backend);
	if (backend->child)
		event_free(backend->child);
	backend->child = NULL;
}

/* In a process group of its own, so that Ctrl-C is for us alone. */
static int spawn(struct backend *backend, int channel)
{
	char dash_b[] = "-B", *argv[] = { backend->program, dash_b, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int error = posix_spawn_file_actions_init(&actions);

	if (error)
		return -error;
	error = posix_spawnattr_init(&attributes);
	if (error)
		goto destroy_actions;
	error = posix_spawn_file_actions_adddup2(&actions, channel, STDIN_FILENO);
	if (!error)
		error = posix_spawn_file_actions_adddup2(&actions, channel, STDOUT_FILENO);
	if (!error)
		error = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
	if (!error)
		error = posix_spawnattr_setpgroup(&attributes, 0);
	if (!error)
		error = posix_spawnp(&backend->pid, argv[0], &actions, &attributes, argv, environ);
	if (error)
		backend->pid = 0;
	(void)posix_spawnattr_destroy(&attributes);
destroy_actions:
	(void)posix_spawn_file_actions_destroy(&actions);
	return -error;
}

int backend_start(struct backend *backend)
{
	evutil_socket_t pair[2];
	int rc;

	if (evutil_socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		return -errno;
	(void)evutil_make_socket_closeonexec(pair[0]);
	(void)evutil_make_socket_closeonexec(pair[1]);
	(void)evutil_make_socket_nonblocking(pair[0]);
	backend->channel = bufferevent_socket_new(backend->base, pair[0], BEV_OPT_CLOSE_ON_FREE);
	if (!backend->channel)
		(void)evutil_closesocket(pair[0]);
	rc = backend->channel ? spawn(backend, pair[1]) : -ENOMEM;
	(void)evutil_closesocket(pair[1]);
	if (rc == 0) {
		bufferevent_setcb(backend->channel, on_channel, NULL, NULL, backend);
		if (bufferevent_enable(backend->channel, EV_READ))
			rc = -ENOMEM; /* it ends when the channel is closed */
	}
	if (rc)
		channel_close(backend);
	return rc;
}

int backend_signal(struct backend *backend, int signal)
{
	if (backend->pid == 0)
		return -ESRCH;
	return kill(backend->pid, signal) ? -errno : 0;
}

void backend_end(struct backend *backend)
{
	channel_close(backend);
	(void)backend_signal(backend, SIGCONT); /* -ESRCH: it has ended */
}
