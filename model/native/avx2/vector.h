/* Sixteen numbers at once with AVX2, as two halves: fp32 in memory and in hand. */

#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

typedef float number;
typedef struct {
    __m256 a, b;
} vector;
typedef struct {
    __m256i a, b;
} corners; /* of the largest of four pixels */
typedef struct {
    __m256i a, b;
    int count;
} lanes;               /* which of the sixteen there are: the first so many */
typedef vector sealed; /* numbers, as they are in memory */
typedef __m128i noted; /* corners, as they are in memory: a byte each */

#define LANES 16
#define ALWAYS static inline __attribute__((always_inline))
#define EACH(type, of_a, of_b) ((type){of_a, of_b})

ALWAYS lanes lanes_left(long left) {
    int count = left >= LANES ? LANES : (int)left;
    __m256i counts = _mm256_set1_epi32(count);
    return (lanes){_mm256_cmpgt_epi32(counts, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)),
                   _mm256_cmpgt_epi32(counts, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)),
                   count};
}

ALWAYS vector all(float value) {
    return EACH(vector, _mm256_set1_ps(value), _mm256_set1_ps(value));
}
ALWAYS vector zero(void) { return all(0); }
ALWAYS vector add(vector x, vector y) {
    return EACH(vector, _mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b));
}
ALWAYS vector less(vector x, vector y) {
    return EACH(vector, _mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b));
}
ALWAYS vector times(vector x, vector y) {
    return EACH(vector, _mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b));
}
ALWAYS vector times_add(vector x, vector y, vector z) {
    return EACH(vector, _mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b));
}
ALWAYS vector times_less(vector x, vector y, vector z) {
    return EACH(vector, _mm256_fmsub_ps(x.a, y.a, z.a), _mm256_fmsub_ps(x.b, y.b, z.b));
}

/* Of two numbers of which one is none the second. */
ALWAYS vector lower(vector x, vector y) {
    return EACH(vector, _mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b));
}
ALWAYS vector upper(vector x, vector y) {
    return EACH(vector, _mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b));
}

ALWAYS __m256 half_where_above(float limit, __m256 z, __m256 value) {
    return _mm256_and_ps(_mm256_cmp_ps(z, _mm256_set1_ps(limit), _CMP_NLE_UQ), value);
}
/* `value`, but 0 where z is at most `limit`; where z is no number, that is not known. */
ALWAYS vector where_above(float limit, vector z, vector value) {
    return EACH(vector, half_where_above(limit, z.a, value.a),
                half_where_above(limit, z.b, value.b));
}

/* A masked store is slow on some processors, so whole vectors go another way. */
ALWAYS vector load(const number *from, lanes there) {
    if (there.count == LANES) return EACH(vector, _mm256_loadu_ps(from), _mm256_loadu_ps(from + 8));
    return EACH(vector, _mm256_maskload_ps(from, there.a), _mm256_maskload_ps(from + 8, there.b));
}
ALWAYS void store(number *to, lanes there, vector values) {
    if (there.count == LANES) {
        _mm256_storeu_ps(to, values.a);
        _mm256_storeu_ps(to + 8, values.b);
    } else {
        _mm256_maskstore_ps(to, there.a, values.a);
        _mm256_maskstore_ps(to + 8, there.b, values.b);
    }
}
ALWAYS vector load_floats(const float *from, lanes there) { return load(from, there); }
ALWAYS void store_floats(float *to, lanes there, vector values) { store(to, there, values); }

ALWAYS void half_take_larger(__m256 value, int i, __m256 *most, __m256i *which) {
    __m256 more = _mm256_cmp_ps(value, *most, _CMP_GT_OQ);
    more = _mm256_or_ps(more, _mm256_cmp_ps(value, value, _CMP_UNORD_Q));
    *most = _mm256_blendv_ps(*most, value, more);
    *which = _mm256_blendv_epi8(*which, _mm256_set1_epi32(i), _mm256_castps_si256(more));
}
/* Where `value` is more than `most`, or no number, take it, and note `i`. */
ALWAYS void take_larger(vector value, int i, vector *most, corners *which) {
    half_take_larger(value.a, i, &most->a, &which->a);
    half_take_larger(value.b, i, &most->b, &which->b);
}
ALWAYS corners first_corner(void) {
    return EACH(corners, _mm256_setzero_si256(), _mm256_setzero_si256());
}
ALWAYS void store_corners(uint8_t *to, lanes there, corners which) {
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(which.a, which.b), 0xd8);
    __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words),
                                     _mm256_extracti128_si256(words, 1));
    if (there.count == LANES)
        _mm_storeu_si128((__m128i *)to, bytes);
    else
        memcpy(to, &bytes, (size_t)there.count);
}

ALWAYS sealed load_sealed(const number *from, lanes there) { return load(from, there); }
ALWAYS noted load_noted(const uint8_t *from, lanes there) {
    __m128i bytes = _mm_setzero_si128();
    if (there.count == LANES) return _mm_loadu_si128((const __m128i *)from);
    memcpy(&bytes, from, (size_t)there.count);
    return bytes;
}
/* Store the values that came from corner `i`, and 0 for the others. */
ALWAYS void store_from(int i, noted from, sealed values, number *to, lanes there) {
    __m128i here = _mm_cmpeq_epi8(from, _mm_set1_epi8((char)i));
    __m256i a = _mm256_cvtepi8_epi32(here), b = _mm256_cvtepi8_epi32(_mm_srli_si128(here, 8));
    store(to, there, EACH(vector, _mm256_and_ps(values.a, _mm256_castsi256_ps(a)),
                          _mm256_and_ps(values.b, _mm256_castsi256_ps(b))));
}

/* GELU's share of the normal distribution and its slope, each to fp32's rounding (1e-7, 3e-7).
 * Factors for 0 <= |z| <= BEYOND. */
#define BEYOND 5.7f
#define FACTORS 18
static const float SHARE[FACTORS] = {
    -1.031732590e-04f, 2.460699518e-04f, -1.203805456e-04f, 2.219499269e-04f,
    -1.140417792e-03f, 2.158521707e-03f, -3.146622224e-03f, 5.152574183e-03f,
    -8.301509145e-03f, 1.208775855e-02f, -1.646707450e-02f, 2.136302849e-02f,
    -2.649177028e-02f, 3.182125047e-02f, -3.787628444e-02f, 4.623271801e-02f,
    -6.196425935e-02f, 1.240469172e-01f};
static const float SLOPE[FACTORS] = {
    -2.479511346e-03f, 5.475850567e-03f, -9.168428925e-04f, 7.319701576e-04f,
    -1.761421106e-02f, 2.998195388e-02f, -3.073691633e-02f, 4.137210216e-02f,
    -5.953014823e-02f, 6.934621862e-02f, -7.102403847e-02f, 6.826481900e-02f,
    -6.140563314e-02f, 5.332645375e-02f, -4.844931522e-02f, 5.013724488e-02f,
    -6.292599582e-02f, 1.241653251e-01f};
