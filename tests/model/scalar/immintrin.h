/* What `amx/vector.h` takes from AVX-512, number by number, so that it can be tested anywhere.
 *
 * Written from the instructions' meaning in Intel's manual; found in place of the compiler's file.
 */

#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef float __m512 __attribute__((vector_size(64)));
typedef int32_t __m512i __attribute__((vector_size(64)));
typedef uint16_t __m256i __attribute__((vector_size(32)));
typedef uint16_t __m256bh __attribute__((vector_size(32)));
typedef uint8_t __m128i __attribute__((vector_size(16)));
typedef uint16_t __mmask16;
enum { _CMP_GT_OQ, _CMP_NLE_UQ, _CMP_UNORD_Q };

#define EACH_OF(type, value)                                   \
    {                                                          \
        type result;                                           \
        for (int k = 0; k < 16; k++) result[k] = (value);      \
        return result;                                         \
    }
#define EACH_IN(mask, action)                                  \
    {                                                          \
        for (int k = 0; k < 16; k++)                           \
            if (mask >> k & 1) action;                         \
    }
#define HERE static inline __attribute__((unused))

HERE __m512 _mm512_set1_ps(float x) EACH_OF(__m512, x)
HERE __m512 _mm512_setzero_ps(void) EACH_OF(__m512, 0)
HERE __m512i _mm512_set1_epi32(int x) EACH_OF(__m512i, x)
HERE __m512i _mm512_setzero_si512(void) EACH_OF(__m512i, 0)
HERE __m128i _mm_set1_epi8(char x) EACH_OF(__m128i, (uint8_t)x)

HERE __m512 _mm512_add_ps(__m512 a, __m512 b) EACH_OF(__m512, a[k] + b[k])
HERE __m512 _mm512_sub_ps(__m512 a, __m512 b) EACH_OF(__m512, a[k] - b[k])
HERE __m512 _mm512_mul_ps(__m512 a, __m512 b) EACH_OF(__m512, a[k] * b[k])
HERE __m512 _mm512_fmadd_ps(__m512 a, __m512 b, __m512 c) EACH_OF(__m512, fmaf(a[k], b[k], c[k]))
HERE __m512 _mm512_fmsub_ps(__m512 a, __m512 b, __m512 c) EACH_OF(__m512, fmaf(a[k], b[k], -c[k]))
/* Of two numbers of which one is none the second. */
HERE __m512 _mm512_max_ps(__m512 a, __m512 b) EACH_OF(__m512, a[k] > b[k] ? a[k] : b[k])
HERE __m512 _mm512_min_ps(__m512 a, __m512 b) EACH_OF(__m512, a[k] < b[k] ? a[k] : b[k])

HERE int holds(float x, float y, int which) {
    if (which == _CMP_GT_OQ) return x > y;
    return which == _CMP_NLE_UQ ? !(x <= y) : x != x || y != y;
}
HERE __mmask16 _mm512_cmp_ps_mask(__m512 a, __m512 b, int which) {
    __mmask16 mask = 0;
    for (int k = 0; k < 16; k++) mask |= (__mmask16)(holds(a[k], b[k], which) << k);
    return mask;
}
HERE __mmask16 _mm_cmpeq_epi8_mask(__m128i a, __m128i b) {
    __mmask16 mask = 0;
    for (int k = 0; k < 16; k++) mask |= (__mmask16)((a[k] == b[k]) << k);
    return mask;
}

#define KEPT(rest, value) (mask >> k & 1 ? (value) : (rest))
HERE __m512 _mm512_maskz_mov_ps(__mmask16 mask, __m512 a) EACH_OF(__m512, KEPT(0, a[k]))
HERE __m256i _mm256_maskz_mov_epi16(__mmask16 mask, __m256i a) EACH_OF(__m256i, KEPT(0, a[k]))
HERE __m512 _mm512_mask_mov_ps(__m512 rest, __mmask16 mask, __m512 a)
    EACH_OF(__m512, KEPT(rest[k], a[k]))
HERE __m512i _mm512_mask_mov_epi32(__m512i rest, __mmask16 mask, __m512i a)
    EACH_OF(__m512i, KEPT(rest[k], a[k]))

HERE __m512 _mm512_maskz_loadu_ps(__mmask16 mask, const float *p) EACH_OF(__m512, KEPT(0, p[k]))
HERE __m256i _mm256_maskz_loadu_epi16(__mmask16 mask, const uint16_t *p)
    EACH_OF(__m256i, KEPT(0, p[k]))
HERE __m128i _mm_maskz_loadu_epi8(__mmask16 mask, const uint8_t *p) EACH_OF(__m128i, KEPT(0, p[k]))
HERE void _mm512_mask_storeu_ps(float *p, __mmask16 mask, __m512 a) EACH_IN(mask, p[k] = a[k])
HERE void _mm256_mask_storeu_epi16(uint16_t *p, __mmask16 mask, __m256i a)
    EACH_IN(mask, p[k] = a[k])
HERE void _mm_mask_storeu_epi8(uint8_t *p, __mmask16 mask, __m128i a) EACH_IN(mask, p[k] = a[k])

HERE __m128i _mm512_cvtepi32_epi8(__m512i a) EACH_OF(__m128i, (uint8_t)a[k])
HERE float from_bf16(uint16_t upper) {
    uint32_t bits = (uint32_t)upper << 16;
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}
/* To the nearest, and to the even one of two. */
HERE uint16_t to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    if (value != value) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
HERE __m512 _mm512_cvtpbh_ps(__m256bh a) EACH_OF(__m512, from_bf16(a[k]))
HERE __m256bh _mm512_cvtneps_pbh(__m512 a) EACH_OF(__m256bh, to_bf16(a[k]))
