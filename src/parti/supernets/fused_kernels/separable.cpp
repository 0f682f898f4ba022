#include "depthwise.h"

namespace {

// Pointwise convolution: out[pixel][d] = sum over c of in[pixel][c] * weights[c][d].

template <int V, int B, int T>
inline void pointwise_tile(const float* in, const float* weights, float* out, int64_t channels) {
    floats<V> sums[T][B] = {};
    for (int64_t c = 0; c < channels; c++) {
        floats<V> row[B];
        for (int b = 0; b < B; b++) row[b] = load<V>(weights + c * channels + b * V);
        for (int t = 0; t < T; t++)
            for (int b = 0; b < B; b++) sums[t][b] += row[b] * in[t * channels + c];
    }
    for (int t = 0; t < T; t++)
        for (int b = 0; b < B; b++) store<V>(out + t * channels + b * V, sums[t][b]);
}

template <int V, int B>
void pointwise_blocks(const float* in, const float* weights, float* out, int64_t pixels,
                      int64_t channels) {
    constexpr int T = 8;
    for (int64_t d = 0; d < channels; d += B * V) {
        int64_t i = 0;
        for (; i + T <= pixels; i += T)
            pointwise_tile<V, B, T>(in + i * channels, weights + d, out + i * channels + d,
                                    channels);
        for (; i < pixels; i++)
            pointwise_tile<V, B, 1>(in + i * channels, weights + d, out + i * channels + d,
                                    channels);
    }
}

template <int V>
void pointwise(const float* in, const float* weights, float* out, int64_t pixels,
               int64_t channels) {
    if (channels % (2 * V) == 0)
        pointwise_blocks<V, 2>(in, weights, out, pixels, channels);
    else
        pointwise_blocks<V, 1>(in, weights, out, pixels, channels);
}

// sums[d][c] += sum over pixels of gradient[pixel][d] * in[pixel][c].
template <int V>
void pointwise_weights(const float* in, const float* gradient, float* sums, int64_t pixels,
                       int64_t channels) {
    constexpr int T = V < 8 ? V : 8;
    for (int64_t d = 0; d < channels; d += T)
        for (int64_t c = 0; c < channels; c += V) {
            floats<V> tile[T] = {};
            for (int64_t i = 0; i < pixels; i++) {
                const floats<V> x = load<V>(in + i * channels + c);
                for (int t = 0; t < T; t++) tile[t] += x * gradient[i * channels + d + t];
            }
            for (int t = 0; t < T; t++) {
                float* to = sums + (d + t) * channels + c;
                store<V>(to, load<V>(to) + tile[t]);
            }
        }
}

// Separable convolutions: (normalization), ReLU, depthwise, pointwise.

struct Branch {
    const float* x;
    const float* scale;  // relu(x * scale + shift) is convolved; of x itself where it is null
    const float* shift;
    const float* depthwise;  // (channels, kernel, kernel)
    const float* pointwise;  // (channels out, channels in)
    int64_t kernel, dilation;
    float* out;  // forward only, with the mean and the variance of its channels
    float* mean;
    float* variance;
    const float* gradient;  // backward only: of out, x and the weights; branches of one x, which
    float* of_x;            // follow each other, have one of_x
    float* of_depthwise;    // null where gradients of the weights are not wanted
    float* of_pointwise;
    int64_t margin() const { return kernel / 2 * dilation; }
};

int64_t widest(const Branch* branches, int64_t count) {
    int64_t margin = 0;
    for (int64_t j = 0; j < count; j++) margin = std::max(margin, branches[j].margin());
    return margin;
}

template <int V>
void fill(const Branch& branch, int64_t image, const Sizes& sizes, const Padded& padded,
          float* to) {
    const int64_t channels = sizes.channels;
    const float* x = branch.x + image * sizes.pixels() * channels;
    for (int64_t c = 0; c < channels; c += V, to += padded.pixels() * V) {
        floats<V> scale = {}, shift = {};
        if (branch.scale) {
            scale = load<V>(branch.scale + c);
            shift = load<V>(branch.shift + c);
        }
        for (int64_t h = 0; h < sizes.height; h++) {
            float* row = to + padded.at(h, 0) * V;
            for (int64_t w = 0; w < sizes.width; w++) {
                floats<V> v = load<V>(x + (h * sizes.width + w) * channels + c);
                if (branch.scale) v = v * scale + shift;
                store<V>(row + w * V, v < 0 ? floats<V>{} : v);
            }
        }
    }
}

template <int V>
std::vector<float> transposed(const float* weights, int64_t channels) {
    std::vector<float> turned(channels * channels);
    for (int64_t d = 0; d < channels; d++)
        for (int64_t c = 0; c < channels; c++) turned[c * channels + d] = weights[d * channels + c];
    return turned;
}

template <int V, int K, int S>
void depthwise_of_image(const Branch& branch, const Sizes& sizes, const Padded& padded,
                        const float* in, float* out) {
    const int64_t inset = padded.margin - branch.margin();
    for (int64_t c = 0; c < sizes.channels; c += V) {
        floats<V> taps[K * K];
        for (int t = 0; t < K * K; t++)
            for (int lane = 0; lane < V; lane++)
                taps[t][lane] = branch.depthwise[(c + lane) * K * K + t];
        const float* corner = in + (c / V * padded.pixels() + inset * padded.width + inset) * V;
        depthwise<V, K, S>(corner, padded.width, branch.dilation, taps, out + c,
                           sizes.out_height(), sizes.out_width(), sizes.channels);
    }
}

// Adds the gradient of the rectified input to of_in, (block, pixel, V), and of the weights to
// of_weights where it is not null.
template <int V, int K, int S>
void depthwise_of_image_back(const Branch& branch, const Sizes& sizes, const Padded& padded,
                             const float* in, const float* gradient, float* spread, float* moved,
                             float* of_in, float* of_weights) {
    const int64_t inset = padded.margin - branch.margin(), channels = sizes.channels;
    for (int64_t c = 0; c < channels; c += V) {
        floats<V> turned[K * K], sums[K * K] = {};
        for (int t = 0; t < K * K; t++)
            for (int lane = 0; lane < V; lane++)
                turned[K * K - 1 - t][lane] = branch.depthwise[(c + lane) * K * K + t];
        // A convolution of stride S backwards is one of stride 1 over gradients S apart.
        for (int64_t h = 0; h < sizes.out_height(); h++)
            for (int64_t w = 0; w < sizes.out_width(); w++)
                store<V>(spread + padded.at(h * S, w * S) * V,
                         load<V>(gradient + (h * sizes.out_width() + w) * channels + c));
        const int64_t corner = (inset * padded.width + inset) * V;
        depthwise<V, K, 1>(spread + corner, padded.width, branch.dilation, turned, moved,
                           sizes.height, sizes.width, V);
        float* to = of_in + c * sizes.pixels();
        for (int64_t i = 0; i < sizes.pixels() * V; i += V)
            store<V>(to + i, load<V>(to + i) + load<V>(moved + i));
        if (!of_weights) continue;
        depthwise_weights<V, K, S>(in + c / V * padded.pixels() * V + corner, padded.width,
                                   branch.dilation, gradient + c, sizes.out_height(),
                                   sizes.out_width(), channels, sums);
        for (int t = 0; t < K * K; t++)
            for (int lane = 0; lane < V; lane++)
                of_weights[(c + lane) * K * K + t] += sums[t][lane];
    }
}

template <int V, int S>
void separable_forward(const Branch* branches, int64_t count, const Sizes& sizes) {
    const int64_t channels = sizes.channels, out_size = sizes.out_pixels() * channels;
    const Padded padded(sizes, widest(branches, count));
    std::vector<std::vector<float>> turned;
    for (int64_t j = 0; j < count; j++)
        turned.push_back(transposed<V>(branches[j].pointwise, channels));
    std::vector<double> means(count * sizes.images * channels), m2s(means.size());
#pragma omp parallel
    {
        Scratch in(padded.pixels() * channels), middle(out_size);
#pragma omp for schedule(static)
        for (int64_t n = 0; n < sizes.images; n++)
            for (int64_t j = 0; j < count; j++) {
                const Branch& branch = branches[j];
                if (j == 0 || branch.x != branches[j - 1].x)
                    fill<V>(branch, n, sizes, padded, in.get());
                auto convolve = branch.kernel == 3 ? depthwise_of_image<V, 3, S>
                                                   : depthwise_of_image<V, 5, S>;
                convolve(branch, sizes, padded, in.get(), middle.get());
                float* out = branch.out + n * out_size;
                pointwise<V>(middle.get(), turned[j].data(), out, sizes.out_pixels(), channels);
                const int64_t at = (j * sizes.images + n) * channels;
                moments_of_image<V>(out, sizes.out_pixels(), channels, &means[at], &m2s[at]);
            }
    }
    for (int64_t j = 0; j < count; j++) {
        const int64_t at = j * sizes.images * channels;
        combine_moments(&means[at], &m2s[at], sizes.images, sizes.out_pixels(), channels,
                        branches[j].mean, branches[j].variance);
    }
}

template <int V, int S>
void separable_backward(const Branch* branches, int64_t count, const Sizes& sizes) {
    const int64_t channels = sizes.channels, size = sizes.pixels() * channels;
    const int64_t out_size = sizes.out_pixels() * channels, threads = omp_get_max_threads();
    const Padded padded(sizes, widest(branches, count));
    std::vector<int64_t> first(count + 1);  // of each branch's weights, depthwise then pointwise
    for (int64_t j = 0; j < count; j++)
        first[j + 1] =
            first[j] + channels * (channels + branches[j].kernel * branches[j].kernel);
    Scratch weights(first[count] * threads);
#pragma omp parallel
    {
        Scratch in(padded.pixels() * channels), middle(out_size), of_middle(out_size);
        Scratch spread(padded.pixels() * V), moved(sizes.pixels() * V), of_in(size);
        float* mine = weights.get() + first[count] * omp_get_thread_num();
#pragma omp for schedule(static)
        for (int64_t n = 0; n < sizes.images; n++)
            for (int64_t j = 0; j < count; j++) {
                const Branch& branch = branches[j];
                const int64_t taps = branch.kernel * branch.kernel;
                if (j == 0 || branch.x != branches[j - 1].x) {
                    fill<V>(branch, n, sizes, padded, in.get());
                    std::memset(of_in.get(), 0, 4 * size);
                }
                const bool small = branch.kernel == 3;
                auto convolve = small ? depthwise_of_image<V, 3, S> : depthwise_of_image<V, 5, S>;
                auto back =
                    small ? depthwise_of_image_back<V, 3, S> : depthwise_of_image_back<V, 5, S>;
                const float* gradient = branch.gradient + n * out_size;
                // What lies between the two convolutions is computed again: quicker than kept.
                float* sums = branch.of_depthwise ? mine + first[j] : nullptr;
                if (sums) {
                    convolve(branch, sizes, padded, in.get(), middle.get());
                    pointwise_weights<V>(middle.get(), gradient, sums + channels * taps,
                                         sizes.out_pixels(), channels);
                }
                pointwise<V>(gradient, branch.pointwise, of_middle.get(), sizes.out_pixels(),
                             channels);
                back(branch, sizes, padded, in.get(), of_middle.get(), spread.get(), moved.get(),
                     of_in.get(), sums);
                if (j + 1 < count && branch.x == branches[j + 1].x) continue;
                float* to = branch.of_x + n * size;
                for (int64_t c = 0; c < channels; c += V)
                    for (int64_t h = 0; h < sizes.height; h++)
                        for (int64_t w = 0; w < sizes.width; w++) {
                            const int64_t i = h * sizes.width + w;
                            const floats<V> v = load<V>(in.get() + c * padded.pixels() +
                                                        padded.at(h, w) * V);
                            const floats<V> g = load<V>(of_in.get() + c * sizes.pixels() + i * V);
                            store<V>(to + i * channels + c, v > 0 ? g : floats<V>{});
                        }
            }
    }
    for (int64_t j = 0; j < count; j++) {
        const int64_t taps = channels * branches[j].kernel * branches[j].kernel;
        if (!branches[j].of_depthwise) continue;
        for (int64_t i = first[j]; i < first[j + 1]; i++) {
            float sum = 0;
            for (int64_t t = 0; t < threads; t++) sum += weights.get()[t * first[count] + i];
            const int64_t k = i - first[j];
            (k < taps ? branches[j].of_depthwise[k] : branches[j].of_pointwise[k - taps]) = sum;
        }
    }
}

}  // namespace

extern "C" {

void parti_separable_forward(const Branch* branches, int64_t count, const Sizes* sizes) {
    BY_LANES(sizes->channels,
             sizes->stride == 1 ? (separable_forward<V, 1>(branches, count, *sizes))
                                : (separable_forward<V, 2>(branches, count, *sizes)))
}

void parti_separable_backward(const Branch* branches, int64_t count, const Sizes* sizes) {
    BY_LANES(sizes->channels,
             sizes->stride == 1 ? (separable_backward<V, 1>(branches, count, *sizes))
                                : (separable_backward<V, 2>(branches, count, *sizes)))
}
}
