/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The bare handoff, as a peer with one worker and one job in flight: a futex
 * wake to the worker, an eventfd that wakes libevent back. It wakes blindly and
 * has no queue, so it shows what the kernel and libevent cost by themselves.
 */

#include "bench.h"
#include "evloop.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { IDLE, WORK, STOP };

static atomic_uint word;           /* the futex; release of WORK publishes slot */
static struct bench_job *slot;     /* the job, the worker's while word is WORK */
static pthread_t worker;
static int event_fd;

const size_t peer_job_size = sizeof(struct bench_job);

static void futex_wait(unsigned int expected)
{
	if (syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0) < 0 &&
	    errno != EAGAIN && errno != EINTR)
		bench_fail("futex: %s", strerror(errno));
}

static void hand_over(unsigned int value)
{
	atomic_store_explicit(&word, value, memory_order_release);
	syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void *worker_main(void *arg)
{
	unsigned int value;

	(void)arg;
	while ((value = atomic_load_explicit(&word, memory_order_acquire)) != STOP) {
		if (value == IDLE) {
			futex_wait(IDLE);
			continue;
		}
		bench_job_run(slot);
		/* Pairs with the loop's acquire: the eventfd carries no ordering that
		 * the language knows of. */
		atomic_store_explicit(&word, IDLE, memory_order_release);
		bench_must(eventfd_write(event_fd, 1), "eventfd_write");
	}
	return NULL;
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	(void)what;
	(void)arg;
	bench_fd_clear(fd);
	if (atomic_load_explicit(&word, memory_order_acquire) != IDLE)
		bench_fail("the worker woke the loop without having finished");
	bench_job_done(slot);
}

void peer_start(const struct peer_options *options)
{
	if (options->depth != 1)
		bench_fail("the bare handoff takes one job at a time");
	event_fd = bench_must(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
	evloop_start();
	evloop_read(event_fd, on_event);
	if (pthread_create(&worker, NULL, worker_main, NULL))
		bench_fail("pthread_create failed");
}

void peer_stop(void)
{
	hand_over(STOP);
	pthread_join(worker, NULL);
	evloop_stop();
	close(event_fd);
}

void peer_init(struct bench_job *job)
{
	(void)job;
}

void peer_submit(struct bench_job *job)
{
	slot = job;
	hand_over(WORK);
}
