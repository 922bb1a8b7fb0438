/* Maximum over 2x2 pixels, BatchNorm and activation in as few passes over a map as there can be.
 *
 * Maps are (N, H, W, C) in bf16, statistics and sums fp32. Sums are taken image by image, and then
 * over the images in their order, so that no bit depends on the number of threads.
 */

#include "activation.h"

typedef struct {
    long count, height, width, channels;
} Map;

static inline long pixels(Map s) { return s.height * s.width; }
static inline Map halved(Map s) { return (Map){s.count, s.height / 2, s.width / 2, s.channels}; }

/* The largest of four pixels, and which of them it is: the first, where several are. */
ALWAYS __m512 largest(const bf16 *at, long right, long down, __mmask16 mask, __m512i *which) {
    const long steps[] = {right, down, down + right};
    __m512 most = load_bf16(at, mask);
    *which = _mm512_setzero_si512();
    for (int i = 0; i < 3; i++) {
        __m512 value = load_bf16(at + steps[i], mask);
        /* «not at most», so that what is no number is seen */
        __mmask16 more = _mm512_cmp_ps_mask(value, most, _CMP_NLE_UQ);
        most = _mm512_mask_mov_ps(most, more, value);
        *which = _mm512_mask_mov_epi32(*which, more, _mm512_set1_epi32(i + 1));
    }
    return most;
}

/* Halve one image of `s`; `which` (H / 2, W / 2, C) says where each value came from. */
static void halve(const bf16 *image, bf16 *half, uint8_t *which, Map s) {
    Map small = halved(s);
    long right = s.channels, down = s.width * s.channels;
    for (long row = 0; row < small.height; row++)
        for (long column = 0; column < small.width; column++)
            for (long c = 0; c < s.channels; c += LANES) {
                __mmask16 mask = lanes_left(s.channels - c);
                __m512i from;
                const bf16 *at = image + 2 * row * down + 2 * column * right + c;
                long to = (row * small.width + column) * s.channels + c;
                __m512 most = largest(at, right, down, mask, &from);
                store_bf16(half + to, mask, most);
                if (which) _mm_mask_storeu_epi8(which + to, mask, _mm512_cvtepi32_epi8(from));
            }
}

/* Sums (2, C) of one image's values and of their squares. */
static void sum_up(const bf16 *image, float *sums, Map s) {
    for (long c = 0; c < s.channels; c += LANES) {
        __mmask16 mask = lanes_left(s.channels - c);
        __m512 sum = _mm512_setzero_ps(), squares = sum;
        for (long i = 0; i < pixels(s); i++) {
            __m512 value = load_bf16(image + i * s.channels + c, mask);
            sum = _mm512_add_ps(sum, value);
            squares = _mm512_fmadd_ps(value, value, squares);
        }
        _mm512_mask_storeu_ps(sums + c, mask, sum);
        _mm512_mask_storeu_ps(sums + s.channels + c, mask, squares);
    }
}

/* Means (2, C) over all pixels, of sums (N, 2, C) of single images. */
static void mean_of(const float *sums, float *means, Map s) {
    for (long c = 0; c < 2 * s.channels; c++) {
        double sum = 0;
        for (long n = 0; n < s.count; n++) sum += sums[2 * s.channels * n + c];
        means[c] = (float)(sum / (double)(s.count * pixels(s)));
    }
}

/* One image's activation(scale * value + shift + other); `other` may be none. */
ALWAYS void apply(const bf16 *image, const bf16 *other, const float *scale, const float *shift,
                  bf16 *output, Map s, int kind) {
    for (long c = 0; c < s.channels; c += LANES) {
        __mmask16 mask = lanes_left(s.channels - c);
        __m512 a = _mm512_maskz_loadu_ps(mask, scale + c), b = _mm512_maskz_loadu_ps(mask, shift + c);
        for (long i = c; i < pixels(s) * s.channels; i += s.channels) {
            __m512 z = _mm512_fmadd_ps(load_bf16(image + i, mask), a, b);
            if (other) z = _mm512_add_ps(z, load_bf16(other + i, mask));
            store_bf16(output + i, mask, activate(z, kind));
        }
    }
}

static void apply_kind(const bf16 *image, const bf16 *other, const float *scale, const float *shift,
                       bf16 *output, Map s, int kind) {
    if (kind == GELU)
        apply(image, other, scale, shift, output, s, GELU);
    else if (kind == RELU)
        apply(image, other, scale, shift, output, s, RELU);
    else
        apply(image, other, scale, shift, output, s, NONE);
}

/* Known statistics: (N, H, W, C), halved first where asked, to activation(scale * x + shift). */
void scale_map(const bf16 *images, const bf16 *other, const float *scale, const float *shift,
               bf16 *outputs, long count, long height, long width, long channels, int half,
               int kind) {
    Map s = {count, height, width, channels}, small = half ? halved(s) : s;
    long into = pixels(s) * channels, out = pixels(small) * channels;
#pragma omp parallel for
    for (long n = 0; n < count; n++) {
        const bf16 *image = images + n * into;
        if (half) {
            bf16 *kept = scratch(2, sizeof(bf16) * (size_t)out);
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
void normalise_map(const bf16 *images, const bf16 *other, const float *weight, const float *bias,
                   double epsilon, float *running_mean, float *running_variance, double momentum,
                   bf16 *halves, uint8_t *which, float *statistics, bf16 *outputs, long count,
                   long height, long width, long channels, int half, int kind) {
    Map s = {count, height, width, channels}, small = half ? halved(s) : s;
    long into = pixels(s) * channels, out = pixels(small) * channels;
    float *sums = scratch(3, sizeof(float) * 2 * (size_t)(count * channels));
#pragma omp parallel for
    for (long n = 0; n < count; n++) {
        if (half) halve(images + n * into, halves + n * out, which + n * out, s);
        sum_up((half ? halves : images) + n * out, sums + 2 * channels * n, small);
    }
    mean_of(sums, statistics, small);
    float *variance = statistics + channels, *scale = variance + channels, *shift = scale + channels;
    for (long c = 0; c < channels; c++) {
        double mean = statistics[c], spread = variance[c] - mean * mean;
        variance[c] = (float)(spread < 0 ? 0 : spread);
        shift[channels + c] = (float)(1 / sqrt(variance[c] + epsilon));
        scale[c] = weight[c] * shift[channels + c];
        shift[c] = (float)(bias[c] - mean * scale[c]);
    }
    follow(running_mean, running_variance, statistics, variance, momentum, count * pixels(small),
           channels);
#pragma omp parallel for
    for (long n = 0; n < count; n++)
        apply_kind((half ? halves : images) + n * out, other ? other + n * out : NULL, scale, shift,
                   outputs + n * out, small, kind);
}
