#pragma once

#include "images.h"

namespace {

// Depthwise convolution of one block: `in` points to the padded pixel under the first tap.

template <int V, int K, int S>
void depthwise(const float* in, int64_t in_width, int64_t dilation, const floats<V>* taps,
               float* out, int64_t height, int64_t width, int64_t out_stride) {
    constexpr int T = 8;
    for (int64_t h = 0; h < height; h++) {
        const float* row = in + h * S * in_width * V;
        float* to = out + h * width * out_stride;
        int64_t w = 0;
        for (; w + T <= width; w += T) {
            floats<V> sums[T] = {};
            for (int i = 0; i < K; i++)
                for (int j = 0; j < K; j++) {
                    const floats<V> tap = taps[i * K + j];
                    const float* from = row + (i * dilation * in_width + w * S + j * dilation) * V;
                    for (int t = 0; t < T; t++) sums[t] += tap * load<V>(from + t * S * V);
                }
            for (int t = 0; t < T; t++) store<V>(to + (w + t) * out_stride, sums[t]);
        }
        for (; w < width; w++) {
            floats<V> sum = {};
            for (int i = 0; i < K; i++)
                for (int j = 0; j < K; j++)
                    sum += taps[i * K + j] *
                           load<V>(row + (i * dilation * in_width + w * S + j * dilation) * V);
            store<V>(to + w * out_stride, sum);
        }
    }
}

// Adds to `taps` the gradient of the weights of that convolution, so many rows of them at once as
// there are registers for.
template <int V, int K, int S>
void depthwise_weights(const float* in, int64_t in_width, int64_t dilation, const float* gradient,
                       int64_t height, int64_t width, int64_t gradient_stride, floats<V>* taps) {
    constexpr int R = K > 5 ? 1 : K;
    for (int row = 0; row < K; row += R) {
        floats<V> sums[R * K];
        for (int t = 0; t < R * K; t++) sums[t] = taps[row * K + t];
        for (int64_t h = 0; h < height; h++)
            for (int64_t w = 0; w < width; w++) {
                const floats<V> g = load<V>(gradient + (h * width + w) * gradient_stride);
                const float* from = in + ((h * S + row * dilation) * in_width + w * S) * V;
#pragma GCC unroll 7
                for (int i = 0; i < R; i++)
#pragma GCC unroll 7
                    for (int j = 0; j < K; j++)
                        sums[i * K + j] += g * load<V>(from + (i * in_width + j) * dilation * V);
            }
        for (int t = 0; t < R * K; t++) taps[row * K + t] = sums[t];
    }
}

}  // namespace
