/* What all parts share: numbers of 16 bits, vectors of 16 floats, scratch memory of a thread. */

#pragma once

#include <immintrin.h>
#include <omp.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint16_t bf16; /* the upper half of a float */

#define LANES 16 /* floats in a vector */

static inline __mmask16 lanes_left(long left) {
    return left >= LANES ? 0xffff : (__mmask16)((1u << left) - 1);
}

static inline __m512 load_bf16(const bf16 *from, __mmask16 mask) {
    return _mm512_cvtpbh_ps((__m256bh)_mm256_maskz_loadu_epi16(mask, from));
}

static inline void store_bf16(bf16 *to, __mmask16 mask, __m512 values) {
    _mm256_mask_storeu_epi16(to, mask, (__m256i)_mm512_cvtneps_pbh(values));
}

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

/* Turn 16 rows of 16 numbers of 32 bits into 16 columns. */
static inline void transpose(__m512i r[16]) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            r[i + 2 * j] = _mm512_unpacklo_epi64(t[i + j], t[i + 2 + j]);
            r[i + 2 * j + 1] = _mm512_unpackhi_epi64(t[i + j], t[i + 2 + j]);
        }
    for (int i = 0; i < 16; i += 8)
        for (int j = 0; j < 4; j++) {
            t[i + j] = _mm512_shuffle_i32x4(r[i + j], r[i + 4 + j], 0x88);
            t[i + 4 + j] = _mm512_shuffle_i32x4(r[i + j], r[i + 4 + j], 0xdd);
        }
    for (int j = 0; j < 8; j++) {
        r[j] = _mm512_shuffle_i32x4(t[j], t[8 + j], 0x88);
        r[8 + j] = _mm512_shuffle_i32x4(t[j], t[8 + j], 0xdd);
    }
}
