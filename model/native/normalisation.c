/* Maximum over 2x2 pixels, BatchNorm and activation in as few passes over a map as there can be.
 *
 * Maps are (N, H, W, C), statistics fp32. Sums are taken image by image, and then over the images
 * in their order, so that no bit depends on the number of threads.
 */

#include "activation.h"
#include "memory.h"

typedef struct {
    long count, height, width, channels;
} Map;

static inline long pixels(Map s) { return s.height * s.width; }
static inline Map halved(Map s) { return (Map){s.count, s.height / 2, s.width / 2, s.channels}; }

/* The largest of four pixels, and which of them it is: the first, where several are. */
ALWAYS vector largest(const number *at, long right, long down, lanes there, corners *which) {
    const long steps[] = {right, down, down + right};
    vector most = load(at, there);
    *which = first_corner();
    for (int i = 0; i < 3; i++) take_larger(load(at + steps[i], there), i + 1, &most, which);
    return most;
}

/* Halve one image of `s`; `which` (H / 2, W / 2, C) says where each value came from. */
static void halve(const number *image, number *half, uint8_t *which, Map s) {
    Map small = halved(s);
    long right = s.channels, down = s.width * s.channels;
    for (long row = 0; row < small.height; row++)
        for (long column = 0; column < small.width; column++)
            for (long c = 0; c < s.channels; c += LANES) {
                lanes there = lanes_left(s.channels - c);
                corners from;
                const number *at = image + 2 * row * down + 2 * column * right + c;
                long to = (row * small.width + column) * s.channels + c;
                vector most = largest(at, right, down, there, &from);
                store(half + to, there, most);
                if (which) store_corners(which + to, there, from);
            }
}

/* Of one image's values (3, C): the first, and the sums of the differences from it and of their
 * squares. A mean far from 0 costs no digits so. */
static void sum_up(const number *image, float *sums, Map s) {
    for (long c = 0; c < s.channels; c += LANES) {
        lanes there = lanes_left(s.channels - c);
        vector first = load(image + c, there), sum = zero(), squares = sum;
        for (long i = 0; i < pixels(s); i++) {
            vector value = less(load(image + i * s.channels + c, there), first);
            sum = add(sum, value);
            squares = times_add(value, value, squares);
        }
        store_floats(sums + c, there, first);
        store_floats(sums + s.channels + c, there, sum);
        store_floats(sums + 2 * s.channels + c, there, squares);
    }
}

/* Mean and variance (2, C) over all images, from what `sum_up` says of each (N, 3, C). */
static void mean_of(const float *sums, float *statistics, Map s) {
    double each = (double)pixels(s), count = (double)s.count;
    for (long c = 0; c < s.channels; c++) {
        double mean = 0, spread = 0;
        for (long n = 0; n < s.count; n++) {
            const float *of = sums + 3 * s.channels * n + c;
            mean += of[0] + of[s.channels] / each;
        }
        mean /= count;
        for (long n = 0; n < s.count; n++) {
            const float *of = sums + 3 * s.channels * n + c;
            double apart = of[s.channels] / each, away = of[0] + apart - mean;
            double within = of[2 * s.channels] / each - apart * apart;
            spread += (within < 0 ? 0 : within) + away * away;
        }
        statistics[c] = (float)mean;
        statistics[s.channels + c] = (float)(spread / count);
    }
}

/* One image's activation(scale * value + shift + other); `other` may be none. */
ALWAYS void apply(const number *image, const number *other, const float *scale, const float *shift,
                  number *output, Map s, int kind) {
    for (long c = 0; c < s.channels; c += LANES) {
        lanes there = lanes_left(s.channels - c);
        vector a = load_floats(scale + c, there), b = load_floats(shift + c, there);
        for (long i = c; i < pixels(s) * s.channels; i += s.channels) {
            vector z = times_add(load(image + i, there), a, b);
            if (other) z = add(z, load(other + i, there));
            store(output + i, there, activate(z, kind));
        }
    }
}

static void apply_kind(const number *image, const number *other, const float *scale,
                       const float *shift, number *output, Map s, int kind) {
    if (kind == GELU)
        apply(image, other, scale, shift, output, s, GELU);
    else if (kind == RELU)
        apply(image, other, scale, shift, output, s, RELU);
    else
        apply(image, other, scale, shift, output, s, NONE);
}

/* Known statistics: (N, H, W, C), halved first where asked, to activation(scale * x + shift). */
void scale_map(const number *images, const number *other, const float *scale, const float *shift,
               number *outputs, long count, long height, long width, long channels, int half,
               int kind, int threads) {
    Map s = {count, height, width, channels}, small = half ? halved(s) : s;
    long into = pixels(s) * channels, out = pixels(small) * channels;
#pragma omp parallel for num_threads(threads)
    for (long n = 0; n < count; n++) {
        const number *image = images + n * into;
        if (half) {
            number *kept = scratch(2, sizeof(number) * (size_t)out);
            halve(image, kept, NULL, s);
            image = kept;
        }
        apply_kind(image, other ? other + n * out : NULL, scale, shift, outputs + n * out, small,
                   kind);
    }
}

/* Let the statistics of evaluation follow those of a batch of `seen` pixels. */
static void follow(float *running_mean, float *running_variance, const float *mean,
                   const float *variance, double momentum, long seen, long channels) {
    float step = (float)momentum, unbiased = (float)((double)seen / (double)(seen - 1));
    for (long c = 0; c < channels; c++) {
        running_mean[c] += step * (mean[c] - running_mean[c]);
        running_variance[c] += step * (variance[c] * unbiased - running_variance[c]);
    }
}

/* Statistics of the batch: as above. `halves` and `which` (N, H / 2, W / 2, C) are kept for the
 * gradient where maps are halved. `statistics` (5, C): mean, variance, scale, shift, and 1 /
 * deviation. */
void normalise_map(const number *images, const number *other, const float *weight,
                   const float *bias, double epsilon, float *running_mean, float *running_variance,
                   double momentum, number *halves, uint8_t *which, float *statistics,
                   number *outputs, long count, long height, long width, long channels, int half,
                   int kind, int threads) {
    Map s = {count, height, width, channels}, small = half ? halved(s) : s;
    long into = pixels(s) * channels, out = pixels(small) * channels;
    float *sums = scratch(3, sizeof(float) * 3 * (size_t)(count * channels));
#pragma omp parallel for num_threads(threads)
    for (long n = 0; n < count; n++) {
        if (half) halve(images + n * into, halves + n * out, which + n * out, s);
        sum_up((half ? halves : images) + n * out, sums + 3 * channels * n, small);
    }
    mean_of(sums, statistics, small);
    float *variance = statistics + channels, *scale = variance + channels;
    float *shift = scale + channels;
    for (long c = 0; c < channels; c++) {
        shift[channels + c] = (float)(1 / sqrt(variance[c] + epsilon));
        scale[c] = weight[c] * shift[channels + c];
        shift[c] = (float)(bias[c] - (double)statistics[c] * scale[c]);
    }
    follow(running_mean, running_variance, statistics, variance, momentum, count * pixels(small),
           channels);
#pragma omp parallel for num_threads(threads)
    for (long n = 0; n < count; n++)
        apply_kind((half ? halves : images) + n * out, other ? other + n * out : NULL, scale, shift,
                   outputs + n * out, small, kind);
}
