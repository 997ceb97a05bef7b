#define _GNU_SOURCE
#include "CGrenacheLinux.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
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

const char *grenache_error_text(int code, char *buffer, size_t size) {
    return strerror_r(code, buffer, size);
}

int grenache_core_count(void) {
    cpu_set_t cores;
    if (sched_getaffinity(0, sizeof cores, &cores) == 0) return CPU_COUNT(&cores);
    return (int)sysconf(_SC_NPROCESSORS_ONLN); /* more cores than the set has room for */
}
