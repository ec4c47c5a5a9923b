/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The pool a libevent program writes today: a queue under a mutex, a condition
 * variable for the workers, and a byte into a pipe for each completion.
 */

#include "bench.h"
#include "evloop.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#define WORKERS_MAX 64

struct naive_job {
	struct bench_job bench;
	struct naive_job *next;
};

struct naive_queue {
	struct naive_job *head, **tail;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static struct naive_queue todo, finished;   /* under lock */
static int stopping;                        /* under lock */

static pthread_t workers[WORKERS_MAX];
static int worker_count;
static int pipe_fds[2];

const size_t peer_job_size = sizeof(struct naive_job);

static void push_locked(struct naive_queue *queue, struct naive_job *job)
{
	job->next = NULL;
	*queue->tail = job;
	queue->tail = &job->next;
}

static struct naive_job *pop_locked(struct naive_queue *queue)
{
	struct naive_job *job = queue->head;

	if (job) {
		queue->head = job->next;
		if (!queue->head)
			queue->tail = &queue->head;
	}
	return job;
}

static struct naive_job *take_all_locked(struct naive_queue *queue)
{
	struct naive_job *head = queue->head;

	queue->head = NULL;
	queue->tail = &queue->head;
	return head;
}

static void *worker_main(void *arg)
{
	struct naive_job *job;

	(void)arg;
	pthread_mutex_lock(&lock);
	while (!stopping) {
		job = pop_locked(&todo);
		if (!job) {
			pthread_cond_wait(&wake, &lock);
			continue;
		}
		pthread_mutex_unlock(&lock);
		bench_job_run(&job->bench);
		pthread_mutex_lock(&lock);
		push_locked(&finished, job);
		pthread_mutex_unlock(&lock);
		/* A full pipe wakes the loop as well as one more byte would. */
		if (write(pipe_fds[1], "", 1) != 1 && errno != EAGAIN)
			bench_fail("write: %s", strerror(errno));
		pthread_mutex_lock(&lock);
	}
	pthread_mutex_unlock(&lock);
	return NULL;
}

static void on_pipe(evutil_socket_t fd, short what, void *arg)
{
	struct naive_job *job, *next;
	char bytes[1024];

	(void)what;
	(void)arg;
	if (read(fd, bytes, sizeof(bytes)) < 0)
		bench_fail("read: %s", strerror(errno));
	pthread_mutex_lock(&lock);
	job = take_all_locked(&finished);
	pthread_mutex_unlock(&lock);
	for (; job; job = next) {
		next = job->next;
		bench_job_done(&job->bench);
	}
}

void peer_start(const struct peer_options *options)
{
	todo.tail = &todo.head;
	finished.tail = &finished.head;
	bench_must(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), "pipe2");
	evloop_start();
	evloop_read(pipe_fds[0], on_pipe);
	for (; worker_count < options->workers; worker_count++) {
		if (pthread_create(&workers[worker_count], NULL, worker_main, NULL))
			bench_fail("pthread_create failed");
	}
}

void peer_stop(void)
{
	pthread_mutex_lock(&lock);
	stopping = 1;
	pthread_cond_broadcast(&wake);
	pthread_mutex_unlock(&lock);
	while (worker_count > 0)
		pthread_join(workers[--worker_count], NULL);
	evloop_stop();
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

void peer_init(struct bench_job *job)
{
	(void)job;
}

void peer_submit(struct bench_job *job)
{
	pthread_mutex_lock(&lock);
	push_locked(&todo, (struct naive_job *)job);
	pthread_cond_signal(&wake);
	pthread_mutex_unlock(&lock);
}
