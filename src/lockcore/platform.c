#include "platform.h"

#ifdef _WIN32
#include <windows.h>
#else
#include <sched.h>
#include <sys/mman.h>
#include <time.h>
#endif
#ifdef __GLIBC__
#include <malloc.h>
#endif

#ifdef LC_DEBUG
void *(*lc_malloc_hook)(size_t size) = NULL;
void (*lc_sync_hook)(const char *point) = NULL;
#endif

void
lc_spin_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#elif defined(_WIN32)
    YieldProcessor();
#endif
}

void
lc_yield_thread(void)
{
#ifdef _WIN32
    SwitchToThread();
#else
    sched_yield();
#endif
}

static void
nap(void)
{
#ifdef _WIN32
    Sleep(1);
#else
    struct timespec time = {0, 50000};
    nanosleep(&time, NULL);
#endif
}

void
lc_mutex_lock_slow(lc_mutex *mutex)
{
    const unsigned spins = 64, yields = 256;
    for (unsigned round = 0;; round++) {
        /* Look before the exchange: a look keeps the cache line shared. */
        if (atomic_load_explicit(&mutex->taken, memory_order_relaxed) == 0
            && atomic_exchange_explicit(&mutex->taken, 1, memory_order_acquire) == 0) {
            return;
        }
        if (round < spins) {
            lc_spin_pause();
        } else if (round < spins + yields) {
            lc_yield_thread();
        } else {
            nap(); /* the holder may have a lower priority than we */
        }
    }
}

void
lc_trim_memory(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

#ifdef _WIN32

int64_t
lc_now(void)
{
    LARGE_INTEGER now, frequency;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&frequency);
    int64_t seconds = now.QuadPart / frequency.QuadPart;
    int64_t rest = now.QuadPart % frequency.QuadPart;
    return seconds * 1000000000 + rest * 1000000000 / frequency.QuadPart;
}

int64_t
lc_now_coarse(void)
{
    return lc_now();
}

void *
lc_pages_new(size_t size)
{
    return VirtualAlloc(NULL, size, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
}

bool
lc_pages_discard(void *pages, size_t size)
{
    (void)pages;
    (void)size;
    return false;
}

void
lc_pages_free(void *pages, size_t size)
{
    (void)size;
    VirtualFree(pages, 0, MEM_RELEASE);
}

#else

static int64_t
read_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t
lc_now(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

int64_t
lc_now_coarse(void)
{
#ifdef CLOCK_MONOTONIC_COARSE
    return read_clock(CLOCK_MONOTONIC_COARSE);
#else
    return read_clock(CLOCK_MONOTONIC);
#endif
}

void *
lc_pages_new(size_t size)
{
    void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return pages == MAP_FAILED ? NULL : pages;
}

bool
lc_pages_discard(void *pages, size_t size)
{
#ifdef __linux__
    /* Only Linux promises that the pages read as zero at once. */
    return madvise(pages, size, MADV_DONTNEED) == 0;
#else
    (void)pages;
    (void)size;
    return false;
#endif
}

void
lc_pages_free(void *pages, size_t size)
{
    munmap(pages, size);
}

#endif
