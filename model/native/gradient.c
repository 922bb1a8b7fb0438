/* The gradient of what `normalisation.c` computes: one pass for the sums, one for the map. */

#include "activation.h"
#include "memory.h"

typedef struct {
    long pixels, channels;
} Image;

/* Sums (2, C) over one image of the gradient before the activation, which is kept in `before`, and
 * of it times the value's distance from `mean`. */
ALWAYS void sum_slopes(const number *gradient, const number *image, const number *other,
                       const float *scale, const float *shift, const float *mean, number *before,
                       float *sums, Image s, int kind) {
    for (long c = 0; c < s.channels; c += LANES) {
        lanes there = lanes_left(s.channels - c);
        vector a = load_floats(scale + c, there), b = load_floats(shift + c, there);
        vector centre = load_floats(mean + c, there), sum = zero(), products = sum;
        for (long i = c; i < s.pixels * s.channels; i += s.channels) {
            vector value = load(image + i, there), z = times_add(value, a, b);
            if (other) z = add(z, load(other + i, there));
            vector slopes = slope(z, load(gradient + i, there), kind);
            if (before) store(before + i, there, slopes);
            sum = add(sum, slopes);
            products = times_add(slopes, less(value, centre), products);
        }
        store_floats(sums + c, there, sum);
        store_floats(sums + s.channels + c, there, products);
    }
}

/* Sums (2, C) over all images, in their order; `scale` times values plus `shift`, and plus `other`
 * where there is one, went into the activation. Neither `other` nor `before` need be given. */
void sum_gradients(const number *gradients, const number *images, const number *other,
                   const float *scale, const float *shift, const float *mean, number *before,
                   float *sums, long count, long pixels, long channels, int kind, int threads) {
    Image s = {pixels, channels};
    float *parts = scratch(3, sizeof(float) * 2 * (size_t)(count * channels));
#pragma omp parallel for num_threads(threads)
    for (long n = 0; n < count; n++) {
        long at = n * pixels * channels;
        const number *gradient = gradients + at, *image = images + at;
        const number *more = other ? other + at : NULL;
        number *to = before ? before + at : NULL;
        float *part = parts + 2 * channels * n;
        if (kind == GELU)
            sum_slopes(gradient, image, more, scale, shift, mean, to, part, s, GELU);
        else if (kind == RELU)
            sum_slopes(gradient, image, more, scale, shift, mean, to, part, s, RELU);
        else
            sum_slopes(gradient, image, more, scale, shift, mean, to, part, s, NONE);
    }
    for (long c = 0; c < 2 * channels; c++) {
        double sum = 0;
        for (long n = 0; n < count; n++) sum += parts[2 * channels * n + c];
        sums[c] = (float)sum;
    }
}

/* One image's gradient before the normalisation: rates (3, C) times the gradient before the
 * activation, times the value's distance from `mean`, and alone. With `scale` and `shift` the first
 * passed through ReLU. */
ALWAYS void combine(const number *before, const number *image, const float *rates,
                    const float *mean, const float *scale, const float *shift, number *into,
                    Image s) {
    for (long c = 0; c < s.channels; c += LANES) {
        lanes there = lanes_left(s.channels - c);
        vector first = load_floats(rates + c, there);
        vector second = load_floats(rates + s.channels + c, there);
        vector alone = load_floats(rates + 2 * s.channels + c, there);
        vector centre = load_floats(mean + c, there);
        vector a = scale ? load_floats(scale + c, there) : first;
        vector b = scale ? load_floats(shift + c, there) : first;
        for (long i = c; i < s.pixels * s.channels; i += s.channels) {
            vector value = load(image + i, there), slopes = load(before + i, there);
            if (scale) slopes = slope(times_add(value, a, b), slopes, RELU);
            vector sum = times_add(second, less(value, centre), alone);
            store(into + i, there, times_add(first, slopes, sum));
        }
    }
}

/* Give each pixel of a halved map's gradient (C) to the one of four that it came from. */
static void unhalve(const number *half, const uint8_t *which, number *image, long height,
                    long width, long channels) {
    long down = width * channels;
    const long steps[] = {0, channels, down, down + channels};
    for (long row = 0; row < height / 2; row++) {
        number *to = image + 2 * row * down;
        for (long column = 0; column < width / 2; column++, to += 2 * channels)
            for (long c = 0; c < channels; c += LANES) {
                lanes there = lanes_left(channels - c);
                long at = (row * (width / 2) + column) * channels + c;
                sealed values = load_sealed(half + at, there);
                noted from = load_noted(which + at, there);
                for (int i = 0; i < 4; i++) store_from(i, from, values, to + steps[i] + c, there);
            }
        if (width % 2)
            for (long i = 0; i < 2; i++)
                memset(to + i * down, 0, sizeof(number) * (size_t)channels);
    }
    if (height % 2)
        memset(image + (height - 1) * down, 0, sizeof(number) * (size_t)down);
}

/* The gradients of images, of `other` where there is one, and of weight and bias (2, C), from that
 * of the outputs. `height` and `width` are those of the images; where they were halved, `values`
 * are the halves, and `which` says where they came from. */
void normalise_gradient(const number *gradients, const number *values, const number *other,
                        const uint8_t *which, const float *statistics, number *into_images,
                        number *into_other, float *into_affine, long count, long height, long width,
                        long channels, int kind, int threads) {
    long pixels = which ? (height / 2) * (width / 2) : height * width, out = pixels * channels;
    const float *mean = statistics, *scale = mean + 2 * channels, *shift = scale + channels;
    const float *inverse = shift + channels;
    float *sums = scratch(4, sizeof(float) * 5 * (size_t)channels), *rates = sums + 2 * channels;
    number *before = into_other; /* else kept only if it is dear to compute again */
    if (!before && kind == GELU) before = scratch(6, sizeof(number) * (size_t)(count * out));
    sum_gradients(gradients, values, other, scale, shift, mean, before, sums, count, pixels,
                  channels, kind, threads);
    int again = !before && kind == RELU;
    for (long c = 0; c < channels; c++) {
        float centred = inverse[c] * sums[channels + c];
        float per_pixel = 1 / (float)(count * pixels);
        rates[c] = scale[c];
        rates[channels + c] = -scale[c] * inverse[c] * centred * per_pixel;
        rates[2 * channels + c] = -scale[c] * sums[c] * per_pixel;
        into_affine[c] = centred;
        into_affine[channels + c] = sums[c];
    }
#pragma omp parallel for num_threads(threads)
    for (long n = 0; n < count; n++) {
        long at = n * out;
        number *to = which ? scratch(2, sizeof(number) * (size_t)out) : into_images + at;
        Image s = {pixels, channels};
        if (again)
            combine(gradients + at, values + at, rates, mean, scale, shift, to, s);
        else
            combine((before ? before : gradients) + at, values + at, rates, mean, NULL, NULL, to,
                    s);
        if (which)
            unhalve(to, which + at, into_images + n * height * width * channels, height, width,
                    channels);
    }
}
