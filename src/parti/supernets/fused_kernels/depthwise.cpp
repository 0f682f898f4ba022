#include "depthwise.h"

namespace {

// One depthwise convolution of images whose margin is kernel / 2 * dilation zeros.
struct Depthwise {
    const float* x;
    const float* weights;   // (channels, kernel, kernel)
    float* out;             // forward only
    const float* gradient;  // backward only: of out, x and the weights
    float* of_x;            // null where it is not wanted, as of_weights
    float* of_weights;
    int64_t kernel, dilation;
};

template <int V>
void fill_block(const float* x, const Sizes& sizes, const Padded& padded, float* to) {
    for (int64_t h = 0; h < sizes.height; h++)
        for (int64_t w = 0; w < sizes.width; w++)
            store<V>(to + padded.at(h, w) * V, load<V>(x + (h * sizes.width + w) * sizes.channels));
}

template <int V, int K>
void taps_of(const float* weights, bool turned, floats<V>* taps) {
    for (int t = 0; t < K * K; t++)
        for (int lane = 0; lane < V; lane++)
            taps[turned ? K * K - 1 - t : t][lane] = weights[lane * K * K + t];
}

template <int V, int K, int S>
void forward(const Depthwise& it, const Sizes& sizes) {
    const Padded padded(sizes, K / 2 * it.dilation);
    const int64_t blocks = sizes.channels / V;
#pragma omp parallel
    {
        Scratch in(padded.pixels() * V);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < sizes.images * blocks; i++) {
            const int64_t n = i / blocks, c = i % blocks * V;
            floats<V> taps[K * K];
            taps_of<V, K>(it.weights + c * K * K, false, taps);
            fill_block<V>(it.x + n * sizes.pixels() * sizes.channels + c, sizes, padded, in.get());
            depthwise<V, K, S>(in.get(), padded.width, it.dilation, taps,
                               it.out + n * sizes.out_pixels() * sizes.channels + c,
                               sizes.out_height(), sizes.out_width(), sizes.channels);
        }
    }
}

template <int V, int K, int S>
void backward(const Depthwise& it, const Sizes& sizes) {
    const Padded padded(sizes, K / 2 * it.dilation);
    const int64_t blocks = sizes.channels / V, count = sizes.channels * K * K;
    const int64_t threads = omp_get_max_threads();
    Scratch sums(it.of_weights ? count * threads : 0);
#pragma omp parallel
    {
        Scratch in(padded.pixels() * V), spread(padded.pixels() * V);
        float* mine = sums.get() + count * omp_get_thread_num();
#pragma omp for schedule(static)
        for (int64_t i = 0; i < sizes.images * blocks; i++) {
            const int64_t n = i / blocks, c = i % blocks * V;
            const float* gradient = it.gradient + n * sizes.out_pixels() * sizes.channels + c;
            const int64_t first = n * sizes.pixels() * sizes.channels + c;
            floats<V> taps[K * K] = {};
            if (it.of_x) {
                // A convolution of stride S backwards is one of stride 1 over gradients S apart.
                for (int64_t h = 0; h < sizes.out_height(); h++)
                    for (int64_t w = 0; w < sizes.out_width(); w++)
                        store<V>(spread.get() + padded.at(h * S, w * S) * V,
                                 load<V>(gradient + (h * sizes.out_width() + w) * sizes.channels));
                taps_of<V, K>(it.weights + c * K * K, true, taps);
                depthwise<V, K, 1>(spread.get(), padded.width, it.dilation, taps, it.of_x + first,
                                   sizes.height, sizes.width, sizes.channels);
            }
            if (!it.of_weights) continue;
            fill_block<V>(it.x + first, sizes, padded, in.get());
            for (int t = 0; t < K * K; t++) taps[t] = floats<V>{};
            depthwise_weights<V, K, S>(in.get(), padded.width, it.dilation, gradient,
                                       sizes.out_height(), sizes.out_width(), sizes.channels,
                                       taps);
            for (int t = 0; t < K * K; t++)
                for (int lane = 0; lane < V; lane++) mine[(c + lane) * K * K + t] += taps[t][lane];
        }
    }
    if (!it.of_weights) return;
    for (int64_t i = 0; i < count; i++) {
        float sum = 0;
        for (int64_t t = 0; t < threads; t++) sum += sums.get()[t * count + i];
        it.of_weights[i] = sum;
    }
}

template <int V, int K>
void either(bool back, const Depthwise& it, const Sizes& sizes) {
    if (back)
        sizes.stride == 1 ? backward<V, K, 1>(it, sizes) : backward<V, K, 2>(it, sizes);
    else
        sizes.stride == 1 ? forward<V, K, 1>(it, sizes) : forward<V, K, 2>(it, sizes);
}

template <int V>
void any_kernel(bool back, const Depthwise& it, const Sizes& sizes) {
    if (it.kernel == 5)
        either<V, 5>(back, it, sizes);
    else
        either<V, 7>(back, it, sizes);
}

}  // namespace

extern "C" {

void parti_depthwise_forward(const Depthwise* it, const Sizes* sizes) {
    BY_LANES(sizes->channels, (any_kernel<V>(false, *it, *sizes)))
}

void parti_depthwise_backward(const Depthwise* it, const Sizes* sizes) {
    BY_LANES(sizes->channels, (any_kernel<V>(true, *it, *sizes)))
}
}
