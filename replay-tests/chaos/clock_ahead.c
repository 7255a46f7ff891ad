/* Loaded before an engine (LD_PRELOAD), lets the time that it reads run CLOCK_AHEAD_S seconds ahead.
 *
 * Only clock_gettime(CLOCK_REALTIME) is another one, which is what the sequencer's clock asks. libfaketime changes more than that,
 * but not the waits of C11 threads, so that the Kafka client under it sleeps for the difference instead of working. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

typedef int clock_gettime_fn(clockid_t, struct timespec *);

int clock_gettime(clockid_t clock, struct timespec *at) {
    static clock_gettime_fn *real;
    static long ahead_s;
    if (!real) {
        const char *ahead = getenv("CLOCK_AHEAD_S");
        ahead_s = ahead ? atol(ahead) : 0;
        real = (clock_gettime_fn *)dlsym(RTLD_NEXT, "clock_gettime");
    }
    int result = real(clock, at);
    if (result == 0 && clock == CLOCK_REALTIME) at->tv_sec += ahead_s;
    return result;
}
