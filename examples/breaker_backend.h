/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EXAMPLES_BREAKER_BACKEND_H
#define EXAMPLES_BREAKER_BACKEND_H

/* A backend in a process of its own, which can be killed, frozen and started again. All
 * of it is for the loop, and nothing here waits. */

#include <stdint.h>
#include <sys/types.h>

#include <event2/event.h>

struct bufferevent;

struct backend {
	/* Set these before. */
	char *program;                   /* this one */
	void (*listening)(uint16_t port, void *arg);
	void (*died)(int status, void *arg);   /* as waitpid() has it, and all is over */
	void *arg;

	struct event_base *base;
	struct event *child;             /* SIGCHLD */
	struct bufferevent *channel;     /* says its port; the backend ends when it is closed */
	pid_t pid;                       /* 0: there is none */
};

/* What the backend itself is, in its own process; an exit status. */
int backend_serve(void);

/* 0, or a negated error. To be undone in any case; all zero is fine there. */
int backend_init(struct backend *backend, struct event_base *base);
void backend_fini(struct backend *backend);

/* Starts one, if there is none; `listening` comes when it can be called. */
int backend_start(struct backend *backend);

/* Kills it, stops it, lets it go on. `died` comes after the first. */
int backend_signal(struct backend *backend, int signal);

/* Lets it end by itself, with status 0; `died` comes then. */
void backend_end(struct backend *backend);

#endif
