// What a cell of a supernet computes for every edge, in one pass over memory: see fused_native.py.
//
// Images are float32 and channels-last: pixel after pixel, `channels` numbers each. A block is V
// channels, one vector of the processor. Work is divided among threads by whole images or tiles,
// and what threads have summed is added in the order of the threads, so that results repeat.
//
// Tables come from Python as rows of 64-bit integers, addresses among them, in the order of the
// fields of the structs.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include <omp.h>

namespace {

template <int V>
struct Lanes {
    typedef float in_memory __attribute__((vector_size(4 * V), aligned(4), may_alias));
    typedef float floats __attribute__((vector_size(4 * V)));
    typedef int32_t integers __attribute__((vector_size(4 * V)));
};
template <int V>
using floats = typename Lanes<V>::floats;

template <int V>
inline floats<V> load(const float* from) {
    return *reinterpret_cast<const typename Lanes<V>::in_memory*>(from);
}

template <int V>
inline void store(float* to, floats<V> x) {
    *reinterpret_cast<typename Lanes<V>::in_memory*>(to) = x;
}

struct Free {
    void operator()(float* x) const { ::operator delete[](x, std::align_val_t(64)); }
};

// Zeros that vectors can be read from directly.
class Scratch {
   public:
    explicit Scratch(size_t count)
        : data_(static_cast<float*>(::operator new[](4 * count + 64, std::align_val_t(64)))) {
        std::memset(data_.get(), 0, 4 * count);
    }
    float* get() { return data_.get(); }

   private:
    std::unique_ptr<float[], Free> data_;
};

struct Sizes {
    int64_t images, height, width, channels, stride;
    int64_t out_height() const { return (height + stride - 1) / stride; }
    int64_t out_width() const { return (width + stride - 1) / stride; }
    int64_t pixels() const { return height * width; }
    int64_t out_pixels() const { return out_height() * out_width(); }
};

// An image with a margin of zeros, block after block.
struct Padded {
    int64_t height, width, margin;
    Padded(const Sizes& sizes, int64_t margin)
        : height(sizes.height + 2 * margin), width(sizes.width + 2 * margin), margin(margin) {}
    int64_t pixels() const { return height * width; }
    int64_t at(int64_t row, int64_t column) const {
        return (row + margin) * width + column + margin;
    }
};

// Mean and variance of each channel.

// Of one image: the mean, and the sum of squared distances from it.
template <int V>
void moments_of_image(const float* x, int64_t pixels, int64_t channels, double* mean, double* m2) {
    for (int64_t c = 0; c < channels; c += V) {
        floats<V> sum = {}, squares = {};
        for (int64_t i = 0; i < pixels; i++) sum += load<V>(x + i * channels + c);
        floats<V> centre = sum / float(pixels);
        for (int64_t i = 0; i < pixels; i++) {
            floats<V> distance = load<V>(x + i * channels + c) - centre;
            squares += distance * distance;
        }
        for (int lane = 0; lane < V; lane++) {
            mean[c + lane] = centre[lane];
            m2[c + lane] = squares[lane];
        }
    }
}

// Of the batch, from those of its images (Chan, Golub & LeVeque 1979).
void combine_moments(const double* means, const double* m2s, int64_t images, int64_t pixels,
                     int64_t channels, float* mean, float* variance) {
    for (int64_t c = 0; c < channels; c++) {
        double centre = 0, m2 = 0;
        for (int64_t n = 0; n < images; n++) centre += means[n * channels + c] / double(images);
        for (int64_t n = 0; n < images; n++) {
            double distance = means[n * channels + c] - centre;
            m2 += m2s[n * channels + c] + double(pixels) * distance * distance;
        }
        mean[c] = float(centre);
        variance[c] = float(m2 / double(images * pixels));
    }
}

template <int V>
void moments(const float* x, const Sizes& sizes, float* mean, float* variance) {
    std::vector<double> means(sizes.images * sizes.channels), m2s(means.size());
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < sizes.images; n++)
        moments_of_image<V>(x + n * sizes.pixels() * sizes.channels, sizes.pixels(),
                            sizes.channels, &means[n * sizes.channels], &m2s[n * sizes.channels]);
    combine_moments(means.data(), m2s.data(), sizes.images, sizes.pixels(), sizes.channels, mean,
                    variance);
}

}  // namespace

// The widest vector that divides the channels, which are a multiple of 4.
#define BY_LANES(channels, call)       \
    if ((channels) % 16 == 0) {        \
        constexpr int V = 16;          \
        call;                          \
    } else if ((channels) % 8 == 0) {  \
        constexpr int V = 8;           \
        call;                          \
    } else {                           \
        constexpr int V = 4;           \
        call;                          \
    }
