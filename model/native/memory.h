/* What all parts share: sizes, and scratch memory of a thread. */

#pragma once

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static inline long round_up(long value, long step) { return (value + step - 1) / step * step; }

/* Memory of this thread, at an address that lines of the cache begin at, kept for the next call. */
static inline void *scratch(int which, size_t bytes) {
    static _Thread_local void *kept[8];
    static _Thread_local size_t sizes[8];
    if (sizes[which] < bytes) {
        free(kept[which]);
        sizes[which] = (size_t)round_up((long)bytes, 4096);
        kept[which] = aligned_alloc(4096, sizes[which]);
        if (!kept[which]) abort();
    }
    return kept[which];
}
