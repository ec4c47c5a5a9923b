/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * GLib: a GThreadPool, and for each completion a source attached to the main
 * context, which is what GLib offers for the way back. (Not
 * g_main_context_invoke(): it may run the callback on the worker.)
 */

#include "bench.h"

#include <glib-unix.h>
#include <glib.h>

static GMainLoop *loop;
static GThreadPool *pool;
static guint watch_id;
static void (*watch_ready)(void);

const size_t peer_job_size = sizeof(struct bench_job);

static gboolean on_done(gpointer data)
{
	bench_job_done(data);
	return G_SOURCE_REMOVE;
}

static void on_work(gpointer data, gpointer arg)
{
	GSource *source;

	(void)arg;
	bench_job_run(data);
	source = g_idle_source_new();
	g_source_set_priority(source, G_PRIORITY_DEFAULT);
	g_source_set_callback(source, on_done, data, NULL);
	g_source_attach(source, NULL);
	g_source_unref(source);
}

static gboolean on_watch(gint fd, GIOCondition condition, gpointer data)
{
	(void)fd;
	(void)condition;
	(void)data;
	watch_ready();
	return G_SOURCE_CONTINUE;
}

void peer_start(const struct peer_options *options)
{
	loop = g_main_loop_new(NULL, FALSE);
	pool = g_thread_pool_new(on_work, NULL, options->workers, TRUE, NULL);
	if (!pool)
		bench_fail("g_thread_pool_new failed");
}

void peer_stop(void)
{
	g_thread_pool_free(pool, FALSE, TRUE);
	if (watch_id)
		g_source_remove(watch_id);
	g_main_loop_unref(loop);
}

void peer_init(struct bench_job *job)
{
	(void)job;
}

void peer_submit(struct bench_job *job)
{
	if (!g_thread_pool_push(pool, job, NULL))
		bench_fail("g_thread_pool_push failed");
}

void peer_run(void)
{
	g_main_loop_run(loop);
}

void peer_leave(void)
{
	g_main_loop_quit(loop);
}

void peer_watch(int fd, void (*ready)(void))
{
	watch_ready = ready;
	watch_id = g_unix_fd_add(fd, G_IO_IN, on_watch, NULL);
}
