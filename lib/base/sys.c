/* SPDX-License-Identifier: BSD-3-Clause */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifdef HAVE_EVENTFD
#include <sys/eventfd.h>
#endif
#ifdef HAVE_TIMERFD_CREATE
#include <sys/timerfd.h>
#endif

#include "evwork/memory.h"

_Atomic(sys_fault_fn) sys_fault;

static bool fails(enum sys_call call)
{
	/* Acquire: what the test prepared before it set the function is seen by it. */
	sys_fault_fn fault = atomic_load_explicit(&sys_fault, memory_order_acquire);

	return fault && fault(call);
}

/* Memory. */

static void *default_allocate(size_t size, void *arg)
{
	(void)arg;
	return malloc(size);
}

static void default_release(void *memory, void *arg)
{
	(void)arg;
	free(memory);
}

static const struct evwork_allocator default_allocator = {
	default_allocate, default_release, NULL
};

/* Written only before first use, so readers need no lock. */
static struct evwork_allocator allocator = {
	default_allocate, default_release, NULL
};

/* Relaxed throughout: a count, nothing hangs on its order. */
static atomic_size_t blocks;

int evwork_set_allocator(const struct evwork_allocator *wanted)
{
	if (!wanted)
		wanted = &default_allocator;
	if (!wanted->allocate || !wanted->release)
		return -EINVAL;
	if (sys_blocks() != 0)
		return -EBUSY;
	allocator = *wanted;
	return 0;
}

void *sys_alloc(size_t size)
{
	void *memory = NULL;

	if (!fails(SYS_MEMORY))
		memory = allocator.allocate(size, allocator.arg);
	if (memory)
		atomic_fetch_add_explicit(&blocks, 1, memory_order_relaxed);
	return memory;
}

void *sys_zalloc(size_t size)
{
	void *memory = sys_alloc(size);

	if (memory)
		memset(memory, 0, size);
	return memory;
}

void sys_free(void *memory)
{
	if (!memory)
		return;
	allocator.release(memory, allocator.arg);
	atomic_fetch_sub_explicit(&blocks, 1, memory_order_relaxed);
}

size_t sys_blocks(void)
{
	return atomic_load_explicit(&blocks, memory_order_relaxed);
}

/* Time. */

int64_t sys_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static struct timespec timespec_of(int64_t ns)
{
	struct timespec ts = { 0, 0 };

	if (ns > 0) {
		ts.tv_sec = (time_t)(ns / 1000000000);
		ts.tv_nsec = (long)(ns % 1000000000);
	}
	return ts;
}

uint64_t sys_random(void)
{
	static atomic_uint_fast64_t counter;
	uint64_t bits = 0;
	int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		ssize_t got = read(fd, &bits, sizeof(bits));

		close(fd);
		if (got == (ssize_t)sizeof(bits))
			return bits;
	}
	/* Without the device two seeds still differ, which is all that is needed. */
	bits = (uint64_t)sys_now() + atomic_fetch_add(&counter, UINT64_C(0x9e3779b97f4a7c15));
	bits = (bits ^ (bits >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	return bits ^ (bits >> 31);
}

/* Locks. */

int sys_mutex_init(sys_mutex *mutex)
{
	if (fails(SYS_LOCK) || pthread_mutex_init(mutex, NULL) != 0)
		return -ENOMEM;
	return 0;
}

int sys_mutex_init_spinning(sys_mutex *mutex)
{
#ifdef __GLIBC__
	pthread_mutexattr_t attributes;
	int rc;

	if (fails(SYS_LOCK) || pthread_mutexattr_init(&attributes) != 0)
		return -ENOMEM;
	pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
	rc = pthread_mutex_init(mutex, &attributes);
	pthread_mutexattr_destroy(&attributes);
	return rc == 0 ? 0 : -ENOMEM;
#else
	return sys_mutex_init(mutex);
#endif
}

void sys_mutex_fini(sys_mutex *mutex)
{
	pthread_mutex_destroy(mutex);
}

int sys_cond_init(sys_cond *cond)
{
	pthread_condattr_t attributes;
	int rc;

	if (fails(SYS_LOCK))
		return -ENOMEM;
	if (pthread_condattr_init(&attributes) != 0)
		return -ENOMEM;
#ifndef __APPLE__
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
#endif
	rc = pthread_cond_init(cond, &attributes);
	pthread_condattr_destroy(&attributes);
	return rc == 0 ? 0 : -ENOMEM;
}

void sys_cond_fini(sys_cond *cond)
{
	pthread_cond_destroy(cond);
}

static void cond_wait(sys_cond *cond, sys_mutex *mutex, int64_t until_ns)
{
	struct timespec ts;

	if (until_ns == INT64_MAX) {
		pthread_cond_wait(cond, mutex);
		return;
	}
#ifdef __APPLE__
	ts = timespec_of(sys_time_add(until_ns, -sys_now()));
	pthread_cond_timedwait_relative_np(cond, mutex, &ts);
#else
	ts = timespec_of(until_ns);
	pthread_cond_timedwait(cond, mutex, &ts);
#endif
}

void sys_cond_wait(sys_cond *cond, sys_mutex *mutex, int64_t until_ns)
{
	int cancel = sys_no_cancel();

	cond_wait(cond, mutex, until_ns);
	sys_cancel(cancel);
}

#ifdef HAVE_SEM_CLOCKWAIT

int sys_parker_init(struct sys_parker *parker)
{
	if (fails(SYS_LOCK) || sem_init(&parker->tokens, 0, 0) != 0)
		return -ENOMEM;
	return 0;
}

void sys_parker_fini(struct sys_parker *parker)
{
	sem_destroy(&parker->tokens);
}

unsigned sys_park(struct sys_parker *parker, int64_t until_ns)
{
	struct timespec ts = timespec_of(until_ns);
	int rc, cancel = sys_no_cancel();
	unsigned tokens = 1;

	do
		rc = until_ns == INT64_MAX ? sem_wait(&parker->tokens) :
			sem_clockwait(&parker->tokens, CLOCK_MONOTONIC, &ts);
	while (rc != 0 && errno == EINTR);
	sys_cancel(cancel);
	if (rc != 0)
		return 0;
	while (sem_trywait(&parker->tokens) == 0)
		tokens++;
	return tokens;
}

void sys_unpark(struct sys_parker *parker)
{
	sem_post(&parker->tokens);
}

#else

int sys_parker_init(struct sys_parker *parker)
{
	int rc = sys_mutex_init(&parker->mutex);

	if (rc)
		return rc;
	rc = sys_cond_init(&parker->cond);
	if (rc)
		sys_mutex_fini(&parker->mutex);
	parker->tokens = 0;
	return rc;
}

void sys_parker_fini(struct sys_parker *parker)
{
	sys_cond_fini(&parker->cond);
	sys_mutex_fini(&parker->mutex);
}

unsigned sys_park(struct sys_parker *parker, int64_t until_ns)
{
	unsigned tokens;

	sys_lock(&parker->mutex);
	while (!parker->tokens && (until_ns == INT64_MAX || sys_now() < until_ns))
		sys_cond_wait(&parker->cond, &parker->mutex, until_ns);
	tokens = parker->tokens;
	parker->tokens = 0;
	sys_unlock(&parker->mutex);
	return tokens;
}

void sys_unpark(struct sys_parker *parker)
{
	/* The signal is given under the lock: the sleeper may free the parker as
	 * soon as it has the token. */
	sys_lock(&parker->mutex);
	parker->tokens++;
	sys_cond_signal(&parker->cond);
	sys_unlock(&parker->mutex);
}

#endif

/* Threads. */

size_t sys_stack_min(void)
{
#ifdef _SC_THREAD_STACK_MIN
	long min = sysconf(_SC_THREAD_STACK_MIN);

	if (min > 0)
		return (size_t)min;
#endif
	return PTHREAD_STACK_MIN;
}

/* All signals but those that a fault raises on the faulting thread itself. */
static void asynchronous_signals(sigset_t *set)
{
	static const int faults[] = {
		SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS
	};
	size_t i;

	sigfillset(set);
	for (i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		sigdelset(set, faults[i]);
}

int sys_thread_create(sys_thread *ret_thread, size_t stack_size,
	void *(*entry)(void *arg), void *arg)
{
	pthread_attr_t attributes;
	sigset_t blocked, old;
	int rc;

	if (fails(SYS_THREAD))
		return -EAGAIN;
	if (pthread_attr_init(&attributes) != 0)
		return -EAGAIN;
	rc = pthread_attr_setstacksize(&attributes, stack_size);
	if (rc == 0) {
		/* A thread inherits the mask of its creator. */
		asynchronous_signals(&blocked);
		pthread_sigmask(SIG_BLOCK, &blocked, &old);
		rc = pthread_create(ret_thread, &attributes, entry, arg);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
		if (rc != 0)
			rc = EAGAIN;
	}
	pthread_attr_destroy(&attributes);
	return -rc;
}

void sys_thread_join(sys_thread thread)
{
	int cancel = sys_no_cancel();

	pthread_join(thread, NULL);
	sys_cancel(cancel);
}

int sys_no_cancel(void)
{
	int before;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	return before;
}

void sys_cancel(int before)
{
	pthread_setcancelstate(before, &before);
}

void sys_guarded(void (*fn)(void *arg), void (*ended)(void *arg), void *arg)
{
	pthread_cleanup_push(ended, arg);
	fn(arg);
	pthread_cleanup_pop(0);
}

int sys_atfork(void (*before)(void), void (*in_parent)(void), void (*in_child)(void))
{
	if (fails(SYS_MEMORY) || pthread_atfork(before, in_parent, in_child) != 0)
		return -ENOMEM;
	return 0;
}

void sys_thread_name(const char *name)
{
	char cut[16];

	strncpy(cut, name, sizeof(cut) - 1);
	cut[sizeof(cut) - 1] = '\0';
#if defined(__APPLE__)
	pthread_setname_np(cut);
#elif defined(__linux__)
	pthread_setname_np(pthread_self(), cut);
#endif
}

/* Descriptors. */

static int configure(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	return 0;
}

int sys_eventfd(int *ret_fd)
{
#ifdef HAVE_EVENTFD
	int fd = fails(SYS_DESCRIPTOR) ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		return -EAGAIN;
	*ret_fd = fd;
	return 0;
#else
	(void)ret_fd;
	return -ENOSYS;
#endif
}

int sys_timerfd(int *ret_fd)
{
#ifdef HAVE_TIMERFD_CREATE
	int fd = fails(SYS_DESCRIPTOR) ? -1 :
		timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

	if (fd < 0)
		return -EAGAIN;
	*ret_fd = fd;
	return 0;
#else
	(void)ret_fd;
	return -ENOSYS;
#endif
}

void sys_timerfd_arm(int fd, int64_t ns)
{
#ifdef HAVE_TIMERFD_CREATE
	struct itimerspec spec;

	memset(&spec, 0, sizeof(spec));
	spec.it_value = timespec_of(ns > 0 ? ns : 1);
	timerfd_settime(fd, 0, &spec, NULL);
#else
	(void)fd;
	(void)ns;
#endif
}

int sys_pipe(int ret_fds[2])
{
	int fds[2];

	if (fails(SYS_DESCRIPTOR) || pipe(fds) < 0)
		return -EAGAIN;
	if (configure(fds[0]) != 0 || configure(fds[1]) != 0) {
		close(fds[0]);
		close(fds[1]);
		return -EAGAIN;
	}
	ret_fds[0] = fds[0];
	ret_fds[1] = fds[1];
	return 0;
}

void sys_close(int fd)
{
	int cancel = sys_no_cancel();

	if (fd >= 0)
		close(fd);
	sys_cancel(cancel);
}

void sys_token_write(int fd, size_t size)
{
	uint64_t token = 1;
	int cancel = sys_no_cancel();

	/* EAGAIN: the descriptor is full of tokens, so its reader is notified. */
	while (write(fd, &token, size) < 0 && errno == EINTR)
		;
	sys_cancel(cancel);
}

void sys_token_drain(int fd, size_t size)
{
	int cancel = sys_no_cancel();
	char tokens[64];
	ssize_t got;

	do
		got = read(fd, tokens, size == 1 ? sizeof(tokens) : size);
	while ((got < 0 && errno == EINTR) || (size == 1 && got == (ssize_t)sizeof(tokens)));
	sys_cancel(cancel);
}
