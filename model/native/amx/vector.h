/* Sixteen numbers at once with AVX-512: bf16 in memory, fp32 in hand. */

#pragma once

#include <immintrin.h>
#include <stdint.h>

typedef uint16_t number; /* the upper half of a float */
typedef __m512 vector;
typedef __m512i corners; /* of the largest of four pixels */
typedef __mmask16 lanes; /* which of the sixteen there are */
typedef __m256i sealed;  /* numbers, as they are in memory */
typedef __m128i noted;   /* corners, as they are in memory: a byte each */

#define LANES 16
#define ALWAYS static inline __attribute__((always_inline))

ALWAYS lanes lanes_left(long left) {
    return left >= LANES ? 0xffff : (lanes)((1u << left) - 1);
}

ALWAYS vector all(float value) { return _mm512_set1_ps(value); }
ALWAYS vector zero(void) { return _mm512_setzero_ps(); }
ALWAYS vector add(vector a, vector b) { return _mm512_add_ps(a, b); }
ALWAYS vector less(vector a, vector b) { return _mm512_sub_ps(a, b); }
ALWAYS vector times(vector a, vector b) { return _mm512_mul_ps(a, b); }
ALWAYS vector times_add(vector a, vector b, vector c) { return _mm512_fmadd_ps(a, b, c); }
ALWAYS vector times_less(vector a, vector b, vector c) { return _mm512_fmsub_ps(a, b, c); }

/* Of two numbers of which one is none the second. */
ALWAYS vector lower(vector a, vector b) { return _mm512_min_ps(a, b); }
ALWAYS vector upper(vector a, vector b) { return _mm512_max_ps(a, b); }

/* `value`, but 0 where z is at most `limit`; where z is no number, that is not known. */
ALWAYS vector where_above(float limit, vector z, vector value) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(z, all(limit), _CMP_NLE_UQ), value);
}

ALWAYS vector load(const number *from, lanes there) {
    return _mm512_cvtpbh_ps((__m256bh)_mm256_maskz_loadu_epi16(there, from));
}
ALWAYS void store(number *to, lanes there, vector values) {
    _mm256_mask_storeu_epi16(to, there, (__m256i)_mm512_cvtneps_pbh(values));
}
ALWAYS vector load_floats(const float *from, lanes there) {
    return _mm512_maskz_loadu_ps(there, from);
}
ALWAYS void store_floats(float *to, lanes there, vector values) {
    _mm512_mask_storeu_ps(to, there, values);
}

/* Where `value` is more than `most`, or no number, take it, and note `i`. */
ALWAYS void take_larger(vector value, int i, vector *most, corners *which) {
    __mmask16 more = _mm512_cmp_ps_mask(value, *most, _CMP_GT_OQ);
    more |= _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    *most = _mm512_mask_mov_ps(*most, more, value);
    *which = _mm512_mask_mov_epi32(*which, more, _mm512_set1_epi32(i));
}
ALWAYS corners first_corner(void) { return _mm512_setzero_si512(); }
ALWAYS void store_corners(uint8_t *to, lanes there, corners which) {
    _mm_mask_storeu_epi8(to, there, _mm512_cvtepi32_epi8(which));
}

ALWAYS sealed load_sealed(const number *from, lanes there) {
    return _mm256_maskz_loadu_epi16(there, from);
}
ALWAYS noted load_noted(const uint8_t *from, lanes there) {
    return _mm_maskz_loadu_epi8(there, from);
}
/* Store the values that came from corner `i`, and 0 for the others. */
ALWAYS void store_from(int i, noted from, sealed values, number *to, lanes there) {
    __mmask16 here = _mm_cmpeq_epi8_mask(from, _mm_set1_epi8((char)i));
    _mm256_mask_storeu_epi16(to, there, _mm256_maskz_mov_epi16(here, values));
}

/* GELU's share of the normal distribution to 4e-6, and its slope to 6e-5: far below bf16's
 * rounding. Factors for 0 <= |z| <= BEYOND, fitted so that the largest error is least. */
#define BEYOND 4.5f
#define FACTORS 10
static const float SHARE[FACTORS] = {
    -1.930533192e-03f, 4.962705973e-03f, -6.070191332e-03f, 9.653218255e-03f, -1.848397648e-02f,
    2.885765452e-02f, -4.023697494e-02f, 5.463748977e-02f, -7.718588312e-02f, 1.569060443e-01f};
static const float SLOPE[FACTORS] = {
    -2.472344513e-02f, 5.596707743e-02f, -4.548345959e-02f, 4.773264939e-02f, -8.775819251e-02f,
    1.050389785e-01f, -9.536765145e-02f, 8.618592642e-02f, -8.992300133e-02f, 1.594457562e-01f};
