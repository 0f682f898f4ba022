#include "images.h"

namespace {

// Poolings over 3 by 3 pixels: largest and mean of those that lie inside the image.

template <int V>
void pool(const float* x, const Sizes& sizes, float* largest, uint8_t* place, float* mean) {
    using integers = typename Lanes<V>::integers;
    const int64_t channels = sizes.channels, rows = sizes.out_height(), columns = sizes.out_width();
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < sizes.images; n++)
        for (int64_t h = 0; h < rows; h++)
            for (int64_t w = 0; w < columns; w++)
                for (int64_t c = 0; c < channels; c += V) {
                    floats<V> best = {}, sum = {};
                    integers at = {};
                    int inside = 0;
                    for (int tap = 0; tap < 9; tap++) {
                        const int64_t r = h * sizes.stride + tap / 3 - 1;
                        const int64_t q = w * sizes.stride + tap % 3 - 1;
                        if (r < 0 || r >= sizes.height || q < 0 || q >= sizes.width) continue;
                        const floats<V> v = load<V>(
                            x + ((n * sizes.height + r) * sizes.width + q) * channels + c);
                        const integers better = inside ? (v > best) | (v != v) : at == at;
                        best = better ? v : best;
                        at = better ? at - at + tap : at;
                        sum += v;
                        inside++;
                    }
                    const int64_t to = ((n * rows + h) * columns + w) * channels + c;
                    if (largest) {
                        store<V>(largest + to, best);
                        for (int lane = 0; lane < V; lane++) place[to + lane] = uint8_t(at[lane]);
                    }
                    if (mean) store<V>(mean + to, sum / float(inside));
                }
}

template <int V>
void pool_backward(const Sizes& sizes, const float* of_largest, const uint8_t* place,
                   const float* of_mean, float* of_x) {
    using integers = typename Lanes<V>::integers;
    const int64_t channels = sizes.channels, rows = sizes.out_height(), columns = sizes.out_width();
    const Padded padded(sizes, 1);
#pragma omp parallel
    {
        Scratch scratch(padded.pixels() * V);
#pragma omp for schedule(static)
        for (int64_t n = 0; n < sizes.images; n++)
            for (int64_t c = 0; c < channels; c += V) {
                float* sums = scratch.get();
                std::memset(sums, 0, 4 * padded.pixels() * V);
                for (int64_t h = 0; h < rows; h++)
                    for (int64_t w = 0; w < columns; w++) {
                        const int64_t from = ((n * rows + h) * columns + w) * channels + c;
                        const int64_t top = h * sizes.stride, left = w * sizes.stride;
                        const int high = 3 - (top == 0) - (top + 1 >= sizes.height);
                        const int wide = 3 - (left == 0) - (left + 1 >= sizes.width);
                        floats<V> even = {}, peak = {};
                        integers at = {};
                        if (of_mean) even = load<V>(of_mean + from) / float(high * wide);
                        if (of_largest) {
                            peak = load<V>(of_largest + from);
                            for (int lane = 0; lane < V; lane++) at[lane] = place[from + lane];
                        }
                        for (int tap = 0; tap < 9; tap++) {
                            float* to = sums + padded.at(top + tap / 3 - 1, left + tap % 3 - 1) * V;
                            const floats<V> here = at == tap ? peak : floats<V>{};
                            store<V>(to, load<V>(to) + even + here);
                        }
                    }
                for (int64_t h = 0; h < sizes.height; h++)
                    for (int64_t w = 0; w < sizes.width; w++)
                        store<V>(of_x + ((n * sizes.height + h) * sizes.width + w) * channels + c,
                                 load<V>(sums + padded.at(h, w) * V));
            }
    }
}

}  // namespace

extern "C" {

void parti_pool(const float* x, const Sizes* sizes, float* largest, uint8_t* place, float* mean) {
    BY_LANES(sizes->channels, pool<V>(x, *sizes, largest, place, mean))
}

void parti_pool_backward(const Sizes* sizes, const float* of_largest, const uint8_t* place,
                         const float* of_mean, float* of_x) {
    BY_LANES(sizes->channels, pool_backward<V>(*sizes, of_largest, place, of_mean, of_x))
}
}
