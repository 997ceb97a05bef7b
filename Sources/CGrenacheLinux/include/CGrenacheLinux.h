/* What Glibc's module map does not show to Swift: epoll, eventfd, accept4, and a thread-local pointer. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/types.h>
#include <time.h>

/* A non-blocking, close-on-exec eventfd; -1 and errno on failure. */
int grenache_eventfd(void);

/* accept4(2), non-blocking and close-on-exec; -1 and errno on failure. */
int grenache_accept(int listener);

/* Names the calling thread, as ps and debuggers show it; cut to 15 bytes. */
void grenache_name_thread(const char *name);

/* Asks for slices of so much processor time for the calling thread, whose share of all stays as it is; what it
   starts begins with the kernel's own. 1 if the kernel will have it so: Linux 6.12 and newer, 0.1 to 100 ms,
   and not for real-time threads. */
int grenache_set_slice(uint64_t nanoseconds);

/* The calling thread's slice in nanoseconds; 0 where the kernel does not tell. */
uint64_t grenache_slice(void);

/* The processor time that the calling thread has used, in nanoseconds. */
uint64_t grenache_thread_cpu_ns(void);

/* The system's text for an errno: in `buffer`, or static. */
const char *grenache_error_text(int code, char *buffer, size_t size);

/* The cores that this process may run on. */
int grenache_core_count(void);

/* The event loop that the calling thread runs; NULL on every other thread. */
extern _Thread_local void *grenache_thread_loop;
static inline void *grenache_current_loop(void) { return grenache_thread_loop; }
static inline void grenache_set_current_loop(void *loop) { grenache_thread_loop = loop; }

/* Nanoseconds of CLOCK_MONOTONIC. */
static inline uint64_t grenache_monotonic_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
