#define _GNU_SOURCE
#include "CGrenacheLinux.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

_Thread_local void *grenache_thread_loop;

int grenache_eventfd(void) { return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }

int grenache_accept(int listener) {
    return accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

void grenache_name_thread(const char *name) {
    char cut[16];
    strncpy(cut, name, sizeof cut - 1);
    cut[sizeof cut - 1] = 0;
    pthread_setname_np(pthread_self(), cut);
}

/* What sched_getattr(2) and sched_setattr(2) take, which C libraries have learned of lately. */
struct scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

#define RESET_ON_FORK 1

static int get_scheduling(struct scheduling *own) {
    memset(own, 0, sizeof *own);
    if (syscall(SYS_sched_getattr, 0, own, sizeof *own, 0) != 0) return -1;
    own->size = sizeof *own;
    return own->policy == SCHED_OTHER || own->policy == SCHED_BATCH ? 0 : -1;
}

uint64_t grenache_slice(void) {
    struct scheduling own;
    return get_scheduling(&own) == 0 ? own.runtime : 0;
}

int grenache_set_slice(uint64_t nanoseconds) {
    struct scheduling own;
    if (get_scheduling(&own) != 0) return 0;
    own.runtime = nanoseconds;
    /* What a loop starts is not to inherit the slice. A negative nice would be lost by that, too. */
    if (own.nice >= 0) own.flags |= RESET_ON_FORK;
    if (syscall(SYS_sched_setattr, 0, &own, 0) != 0) return 0;
    return grenache_slice() == nanoseconds;
}

uint64_t grenache_thread_cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

const char *grenache_error_text(int code, char *buffer, size_t size) {
    return strerror_r(code, buffer, size);
}

int grenache_core_count(void) {
    cpu_set_t cores;
    if (sched_getaffinity(0, sizeof cores, &cores) == 0) return CPU_COUNT(&cores);
    return (int)sysconf(_SC_NPROCESSORS_ONLN); /* more cores than the set has room for */
}
