#include "images.h"

namespace {

// Terms of a sum, each normalized: sum over terms of (x - mean) * factor.

struct Term {
    const float* x;
    const float* mean;
    const float* factor;
    const float* gradient;  // backward only: of the sum
    float* product;         // of each channel: sum of gradient * (x - mean)
    float* total;           // of each channel: sum of gradient
    const float* slope;
    const float* level;
    float* of_x;  // gradient * factor + (x - mean) * slope + level; may be the gradient's place
};

constexpr int64_t TILE = 32;  // pixels that stay in the nearest memory while terms go by

template <int V>
void mix(const Term* terms, int64_t count, int64_t pixels, int64_t channels, float* out) {
#pragma omp parallel for schedule(static)
    for (int64_t start = 0; start < pixels; start += TILE) {
        const int64_t end = std::min(pixels, start + TILE);
        for (int64_t c = 0; c < channels; c += V) {
            floats<V> sums[TILE] = {};
            for (int64_t j = 0; j < count; j++) {
                const floats<V> mean = load<V>(terms[j].mean + c);
                const floats<V> factor = load<V>(terms[j].factor + c);
                for (int64_t i = start; i < end; i++)
                    sums[i - start] += (load<V>(terms[j].x + i * channels + c) - mean) * factor;
            }
            for (int64_t i = start; i < end; i++) store<V>(out + i * channels + c, sums[i - start]);
        }
    }
}

template <int V>
void mix_products(const Term* terms, int64_t count, int64_t pixels, int64_t channels) {
    constexpr int64_t STEP = 4 * TILE;
    const int64_t threads = omp_get_max_threads(), size = 2 * count * channels;
    std::vector<double> sums(size * threads);
#pragma omp parallel
    {
        double* mine = &sums[size * omp_get_thread_num()];
#pragma omp for schedule(static)
        for (int64_t start = 0; start < pixels; start += STEP) {
            const int64_t end = std::min(pixels, start + STEP);
            for (int64_t j = 0; j < count; j++)
                for (int64_t c = 0; c < channels; c += V) {
                    const floats<V> mean = load<V>(terms[j].mean + c);
                    floats<V> product = {}, total = {};
                    for (int64_t i = start * channels + c; i < end * channels; i += channels) {
                        const floats<V> g = load<V>(terms[j].gradient + i);
                        product += (load<V>(terms[j].x + i) - mean) * g;
                        total += g;
                    }
                    double* to = mine + 2 * (j * channels + c);
                    for (int lane = 0; lane < V; lane++) {
                        to[2 * lane] += product[lane];
                        to[2 * lane + 1] += total[lane];
                    }
                }
        }
    }
    for (int64_t i = 0; i < size; i++) {
        double sum = 0;
        for (int64_t t = 0; t < threads; t++) sum += sums[t * size + i];
        const Term& term = terms[i / 2 / channels];
        (i % 2 ? term.total : term.product)[i / 2 % channels] = float(sum);
    }
}

template <int V>
void mix_backward(const Term* terms, int64_t count, int64_t pixels, int64_t channels) {
#pragma omp parallel for schedule(static)
    for (int64_t start = 0; start < pixels; start += TILE) {
        const int64_t end = std::min(pixels, start + TILE);
        for (int64_t j = 0; j < count; j++) {
            const Term& term = terms[j];
            for (int64_t c = 0; c < channels; c += V) {
                const floats<V> factor = load<V>(term.factor + c), mean = load<V>(term.mean + c);
                const floats<V> slope = load<V>(term.slope + c), level = load<V>(term.level + c);
                for (int64_t i = start * channels + c; i < end * channels; i += channels)
                    store<V>(term.of_x + i, load<V>(term.gradient + i) * factor + level +
                                                (load<V>(term.x + i) - mean) * slope);
            }
        }
    }
}

}  // namespace

extern "C" {

void parti_moments(const float* x, const Sizes* sizes, float* mean, float* variance) {
    BY_LANES(sizes->channels, moments<V>(x, *sizes, mean, variance))
}

void parti_mix(const Term* terms, int64_t count, int64_t pixels, int64_t channels, float* out) {
    BY_LANES(channels, mix<V>(terms, count, pixels, channels, out))
}

void parti_mix_products(const Term* terms, int64_t count, int64_t pixels, int64_t channels) {
    BY_LANES(channels, mix_products<V>(terms, count, pixels, channels))
}

void parti_mix_backward(const Term* terms, int64_t count, int64_t pixels, int64_t channels) {
    BY_LANES(channels, mix_backward<V>(terms, count, pixels, channels))
}
}
