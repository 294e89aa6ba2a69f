/* What the lock table needs from the machine: a one-byte mutex, clocks, pages.
 *
 * The only header of the core with conditional code for operating systems.
 */
#ifndef LC_PLATFORM_H
#define LC_PLATFORM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#if defined(__GNUC__) || defined(__clang__)
#define LC_LIKELY(x) __builtin_expect(!!(x), 1)
#define LC_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define LC_PREFETCH_TO_WRITE(address) __builtin_prefetch((address), 1)
#define LC_ALWAYS_INLINE inline __attribute__((always_inline))
#else
#define LC_LIKELY(x) (x)
#define LC_UNLIKELY(x) (x)
#define LC_PREFETCH_TO_WRITE(address) ((void)0)
#define LC_ALWAYS_INLINE inline
#endif

/* What two threads write apart from each other is at least so many bytes apart. */
#define LC_CACHE_LINE 64

/* A mutex of one byte, held for nanoseconds, never across anything that blocks,
 * allocates or calls Python. It spins a little, then yields, then naps; it has
 * no queue. A thread that holds one cannot be stopped by the interpreter (there
 * is no safe point inside), so waiting for one while attached is safe.
 */
typedef struct lc_mutex {
    atomic_uchar taken;
} lc_mutex;

void lc_mutex_lock_slow(lc_mutex *mutex);

/* Tells the processor that we look at the same place again and again. */
void lc_spin_pause(void);

/* Lets another thread run on this processor. */
void lc_yield_thread(void);

static inline void
lc_mutex_lock(lc_mutex *mutex)
{
    /* Acquire: what the last holder wrote is visible from here on. */
    if (LC_UNLIKELY(atomic_exchange_explicit(&mutex->taken, 1, memory_order_acquire))) {
        lc_mutex_lock_slow(mutex);
    }
}

static inline void
lc_mutex_unlock(lc_mutex *mutex)
{
    /* Release: everything written under the mutex comes before it opens. */
    atomic_store_explicit(&mutex->taken, 0, memory_order_release);
}

/* Monotonic nanoseconds, as coarse as some milliseconds, for ages. Cheap. */
int64_t lc_now_coarse(void);

/* Monotonic nanoseconds on the same base as lc_now_coarse(), precise. */
int64_t lc_now(void);

/* Returns: zeroed memory aligned to a page, or NULL. */
void *lc_pages_new(size_t size);

/* Gives the memory behind the pages back where the system can do that in one
 * step that leaves them zeroed.
 * Returns: false when it cannot; the pages are then as they were. */
bool lc_pages_discard(void *pages, size_t size);

void lc_pages_free(void *pages, size_t size);

/* Gives free memory of malloc() back to the system, where malloc() keeps it. */
void lc_trim_memory(void);

#ifdef LC_DEBUG
/* Tests make the n-th allocation fail, and stop threads at named places. */
extern void *(*lc_malloc_hook)(size_t size);
extern void (*lc_sync_hook)(const char *point);
#define LC_SYNC(point)                                                                             \
    do {                                                                                           \
        if (lc_sync_hook != NULL) {                                                                \
            lc_sync_hook(point);                                                                   \
        }                                                                                          \
    } while (0)
static inline void *
lc_malloc(size_t size)
{
    return lc_malloc_hook != NULL ? lc_malloc_hook(size) : malloc(size);
}
#else
#define LC_SYNC(point) ((void)0)
#define lc_malloc malloc
#endif

#endif
