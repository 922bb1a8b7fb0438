/* Activations of 16 numbers, and their slopes. */

#pragma once

#include "common.h"

enum { NONE, RELU, GELU };

#define ALWAYS static inline __attribute__((always_inline))
#define NUMBER _mm512_set1_ps

/* exp(x) for x <= 0, to 2e-7: 2^n, and a Taylor polynomial of what is left, at most 2^0.5. */
ALWAYS __m512 exponential(__m512 x) {
    __m512 twos = _mm512_mul_ps(x, NUMBER(1.44269504f)), whole = _mm512_roundscale_ps(twos, 8);
    __m512 rest = _mm512_mul_ps(_mm512_sub_ps(twos, whole), NUMBER(0.69314718f));
    __m512 sum = NUMBER(1 / 720.0f);
    const float factors[] = {1 / 120.0f, 1 / 24.0f, 1 / 6.0f, 0.5f, 1, 1};
    for (int i = 0; i < 6; i++) sum = _mm512_fmadd_ps(sum, rest, NUMBER(factors[i]));
    return _mm512_scalef_ps(sum, whole);
}

/* The normal distribution's share below z, to 1e-5 (Abramowitz and Stegun 1964, 26.2.17), and its
 * density there. */
ALWAYS __m512 share_below(__m512 z, __m512 *density) {
    __m512 size = _mm512_abs_ps(z), half = _mm512_mul_ps(_mm512_mul_ps(z, z), NUMBER(-0.5f));
    half = _mm512_max_ps(half, NUMBER(-80)); /* else infinity minus infinity */
    *density = _mm512_mul_ps(exponential(half), NUMBER(0.39894228f));
    __m512 t = _mm512_rcp14_ps(_mm512_fmadd_ps(size, NUMBER(0.2316419f), NUMBER(1)));
    __m512 sum = NUMBER(1.330274429f);
    const float factors[] = {-1.821255978f, 1.781477937f, -0.356563782f, 0.319381530f};
    for (int i = 0; i < 4; i++) sum = _mm512_fmadd_ps(sum, t, NUMBER(factors[i]));
    __m512 beyond = _mm512_mul_ps(_mm512_mul_ps(sum, t), *density);
    __mmask16 positive = _mm512_cmp_ps_mask(z, _mm512_setzero_ps(), _CMP_GT_OQ);
    return _mm512_mask_sub_ps(beyond, positive, NUMBER(1), beyond);
}

ALWAYS __m512 activate(__m512 z, int kind) {
    __m512 density;
    if (kind == GELU) return _mm512_mul_ps(z, share_below(z, &density));
    /* This order of the two lets what is no number pass. */
    return kind == RELU ? _mm512_max_ps(_mm512_setzero_ps(), z) : z;
}

/* `gradient` of the activation's output as that of its input, z. */
ALWAYS __m512 slope(__m512 z, __m512 gradient, int kind) {
    if (kind == GELU) {
        __m512 density, share = share_below(z, &density);
        return _mm512_mul_ps(gradient, _mm512_fmadd_ps(z, density, share));
    }
    __mmask16 positive = _mm512_cmp_ps_mask(z, _mm512_setzero_ps(), _CMP_GT_OQ);
    return kind == RELU ? _mm512_maskz_mov_ps(positive, gradient) : gradient;
}
