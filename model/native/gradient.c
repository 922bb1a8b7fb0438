/* The gradient of what `normalisation.c` computes: one pass for the sums, one for the map. */

#include "activation.h"

typedef struct {
    long pixels, channels;
} Image;

/* Sums (2, C) over one image of the gradient before the activation, which is kept in `before`, and
 * of it times the value. */
ALWAYS void sum_slopes(const bf16 *gradient, const bf16 *image, const bf16 *other,
                       const float *scale, const float *shift, bf16 *before, float *sums, Image s,
                       int kind) {
    for (long c = 0; c < s.channels; c += LANES) {
        __mmask16 mask = lanes_left(s.channels - c);
        __m512 a = _mm512_maskz_loadu_ps(mask, scale + c), b = _mm512_maskz_loadu_ps(mask, shift + c);
        __m512 sum = _mm512_setzero_ps(), products = sum;
        for (long i = c; i < s.pixels * s.channels; i += s.channels) {
            __m512 value = load_bf16(image + i, mask), z = _mm512_fmadd_ps(value, a, b);
            if (other) z = _mm512_add_ps(z, load_bf16(other + i, mask));
            __m512 slopes = slope(z, load_bf16(gradient + i, mask), kind);
            if (before) store_bf16(before + i, mask, slopes);
            sum = _mm512_add_ps(sum, slopes);
            products = _mm512_fmadd_ps(slopes, value, products);
        }
        _mm512_mask_storeu_ps(sums + c, mask, sum);
        _mm512_mask_storeu_ps(sums + s.channels + c, mask, products);
    }
}

/* Sums (2, C) over all images, in their order; `scale` times values plus `shift`, and plus `other`
 * where there is one, went into the activation. Neither `other` nor `before` need be given. */
void sum_gradients(const bf16 *gradients, const bf16 *images, const bf16 *other, const float *scale,
                   const float *shift, bf16 *before, float *sums, long count, long pixels,
                   long channels, int kind) {
    Image s = {pixels, channels};
    float *parts = scratch(3, sizeof(float) * 2 * (size_t)(count * channels));
#pragma omp parallel for
    for (long n = 0; n < count; n++) {
        long at = n * pixels * channels;
        const bf16 *gradient = gradients + at, *image = images + at, *more = other ? other + at : NULL;
        bf16 *to = before ? before + at : NULL;
        float *part = parts + 2 * channels * n;
        if (kind == GELU)
            sum_slopes(gradient, image, more, scale, shift, to, part, s, GELU);
        else if (kind == RELU)
            sum_slopes(gradient, image, more, scale, shift, to, part, s, RELU);
        else
            sum_slopes(gradient, image, more, scale, shift, to, part, s, NONE);
    }
    for (long c = 0; c < 2 * channels; c++) {
        double sum = 0;
        for (long n = 0; n < count; n++) sum += parts[2 * channels * n + c];
        sums[c] = (float)sum;
    }
}

/* One image's gradient before the normalisation: rates (3, C) times the gradient before the
 * activation, times the value, and alone. With `scale` and `shift` the first passed through ReLU. */
ALWAYS void combine(const bf16 *before, const bf16 *image, const float *rates, const float *scale,
                    const float *shift, bf16 *into, Image s) {
    for (long c = 0; c < s.channels; c += LANES) {
        __mmask16 mask = lanes_left(s.channels - c);
        __m512 first = _mm512_maskz_loadu_ps(mask, rates + c);
        __m512 second = _mm512_maskz_loadu_ps(mask, rates + s.channels + c);
        __m512 alone = _mm512_maskz_loadu_ps(mask, rates + 2 * s.channels + c);
        __m512 a = scale ? _mm512_maskz_loadu_ps(mask, scale + c) : first;
        __m512 b = scale ? _mm512_maskz_loadu_ps(mask, shift + c) : first;
        for (long i = c; i < s.pixels * s.channels; i += s.channels) {
            __m512 value = load_bf16(image + i, mask), slopes = load_bf16(before + i, mask);
            if (scale) slopes = slope(_mm512_fmadd_ps(value, a, b), slopes, RELU);
            __m512 sum = _mm512_fmadd_ps(second, value, alone);
            store_bf16(into + i, mask, _mm512_fmadd_ps(first, slopes, sum));
        }
    }
}

/* Give each pixel of a halved map's gradient (C) to the one of four that it came from. */
static void unhalve(const bf16 *half, const uint8_t *which, bf16 *image, long height, long width,
                    long channels) {
    long down = width * channels;
    const long steps[] = {0, channels, down, down + channels};
    for (long row = 0; row < height / 2; row++) {
        bf16 *to = image + 2 * row * down;
        for (long column = 0; column < width / 2; column++, to += 2 * channels)
            for (long c = 0; c < channels; c += LANES) {
                __mmask16 mask = lanes_left(channels - c);
                long at = (row * (width / 2) + column) * channels + c;
                __m256i value = _mm256_maskz_loadu_epi16(mask, half + at);
                __m128i from = _mm_maskz_loadu_epi8(mask, which + at);
                for (int i = 0; i < 4; i++) {
                    __mmask16 here = _mm_cmpeq_epi8_mask(from, _mm_set1_epi8((char)i));
                    _mm256_mask_storeu_epi16(to + steps[i] + c, mask,
                                             _mm256_maskz_mov_epi16(here, value));
                }
            }
        if (width % 2)
            for (long i = 0; i < 2; i++)
                memset(to + i * down, 0, sizeof(bf16) * (size_t)channels);
    }
    if (height % 2)
        memset(image + (height - 1) * down, 0, sizeof(bf16) * (size_t)down);
}

/* The gradients of images, of `other` where there is one, and of weight and bias (2, C), from that
 * of the outputs. `height` and `width` are those of the images; where they were halved, `values`
 * are the halves, and `which` says where they came from. */
void normalise_gradient(const bf16 *gradients, const bf16 *values, const bf16 *other,
                        const uint8_t *which, const float *statistics, bf16 *into_images,
                        bf16 *into_other, float *into_affine, long count, long height, long width,
                        long channels, int kind) {
    long pixels = which ? (height / 2) * (width / 2) : height * width, out = pixels * channels;
    const float *mean = statistics, *scale = mean + 2 * channels, *shift = scale + channels;
    const float *inverse = shift + channels;
    float *sums = scratch(4, sizeof(float) * 5 * (size_t)channels), *rates = sums + 2 * channels;
    bf16 *before = into_other; /* else kept only if it is dear to compute again */
    if (!before && kind == GELU) before = scratch(6, sizeof(bf16) * (size_t)(count * out));
    sum_gradients(gradients, values, other, scale, shift, before, sums, count, pixels, channels,
                  kind);
    int again = !before && kind == RELU;
    for (long c = 0; c < channels; c++) {
        float centred = inverse[c] * (sums[channels + c] - mean[c] * sums[c]);
        float per_pixel = 1 / (float)(count * pixels);
        rates[c] = scale[c];
        rates[channels + c] = -scale[c] * inverse[c] * centred * per_pixel;
        rates[2 * channels + c] = -mean[c] * rates[channels + c] - scale[c] * sums[c] * per_pixel;
        into_affine[c] = centred;
        into_affine[channels + c] = sums[c];
    }
#pragma omp parallel for
    for (long n = 0; n < count; n++) {
        long at = n * out;
        bf16 *to = which ? scratch(2, sizeof(bf16) * (size_t)out) : into_images + at;
        Image s = {pixels, channels};
        if (again)
            combine(gradients + at, values + at, rates, scale, shift, to, s);
        else
            combine((before ? before : gradients) + at, values + at, rates, NULL, NULL, to, s);
        if (which)
            unhalve(to, which + at, into_images + n * height * width * channels, height, width,
                    channels);
    }
}
