/* Included before everything else where the core is compiled for interleave.c. Its mutexes are
 * then the explorer's, which decides at each of them whose turn it is, and its memory comes from
 * arenas, so that equal states look equal. platform.c is not part of that program.
 */
#ifndef SCHEDULED_H
#define SCHEDULED_H

#define lc_mutex_lock lc_mutex_lock_of_the_platform
#define lc_mutex_unlock lc_mutex_unlock_of_the_platform
#include "platform.h"
#undef lc_mutex_lock
#undef lc_mutex_unlock

void lc_mutex_lock(lc_mutex *mutex);
void lc_mutex_unlock(lc_mutex *mutex);

#define free fibers_free
void fibers_free(void *memory);

#endif
