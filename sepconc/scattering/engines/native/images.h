// What the two-dimensional transforms are made of: images in lanes, filters with their supports, low-pass by bands, and
// the way from images to their spectrum and back.
#pragma once

#include <algorithm>
#include <atomic>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

#include "fft.h"

namespace sepconc {

// A wavelet in the Fourier domain with, per row, the circular span of columns outside which it is nothing.
struct Filter {
    const float* values;   // (m, n)
    const int32_t* spans;  // (m, 2): first column, number of columns
};

// The low-pass along one axis, subsampled and un-padded: out[i] = Σ_t weight·u[index], and its adjoint.
struct Band {
    struct Tap {
        int index;
        float weight;
    };
    std::vector<std::vector<Tap>> rows, columns;

    Band(const float* kernel, int size, int step, int outs) : rows(outs), columns(size) {
        float largest = 0;
        for (int t = 0; t < size; ++t) largest = std::max(largest, std::fabs(kernel[t]));
        for (int i = 0; i < outs; ++i)
            for (int p = 0; p < size; ++p) {
                const float weight = kernel[(((i + 1) * step - p) % size + size) % size];
                if (std::fabs(weight) > 1e-8f * largest) {
                    rows[i].push_back({p, weight});
                    columns[p].push_back({i, weight});
                }
            }
    }

    static V sum(const std::vector<Tap>& taps, const V* u, ptrdiff_t stride) {
        V even = zero(), odd = zero();
        size_t t = 0;
        for (; t + 1 < taps.size(); t += 2) {
            even += taps[t].weight * u[taps[t].index * stride];
            odd += taps[t + 1].weight * u[taps[t + 1].index * stride];
        }
        if (t < taps.size()) even += taps[t].weight * u[taps[t].index * stride];
        return even + odd;
    }
};

// The grid at one resolution: m × n numbers, and how to transform and smooth them.
struct Grid {
    int m, n;
    FFT down, across;  // along axis 0 (m numbers), along axis 1 (n numbers)
    Band low_down, low_across;

    Grid(int m, int n, const float* kernel_down, const float* kernel_across, int step, int h, int w)
        : m(m), n(n), down(m), across(n), low_down(kernel_down, m, step, h), low_across(kernel_across, n, step, w) {}

    size_t size() const { return size_t(m) * n; }
};

// Buffers of one axis.
struct Lines {
    Block<C> a, b, c;
    Block<V> u, v;
    explicit Lines(int longest) : a(longest), b(longest), c(longest), u(longest), v(longest) {}
};

// LANES images of H × W pixels, from memory to lanes and back; absent ones are zero.
inline void load(const float* x, int images, int pixels, V* out) {
    for (int i = 0; i < pixels; ++i) {
        V v = zero();
        for (int lane = 0; lane < images; ++lane) v[lane] = x[size_t(lane) * pixels + i];
        out[i] = v;
    }
}

inline void store(const V* v, int images, int pixels, float* out, size_t stride) {
    for (int lane = 0; lane < images; ++lane)
        for (int i = 0; i < pixels; ++i) out[lane * stride + i] = v[i][lane];
}

inline void load_strided(const float* x, int images, int pixels, size_t stride, V* out) {
    for (int i = 0; i < pixels; ++i) {
        V v = zero();
        for (int lane = 0; lane < images; ++lane) v[lane] = x[lane * stride + i];
        out[i] = v;
    }
}

// Row k of the spectrum, filtered and subsampled by `fold`: the sum of its aliases. False where all of it is nothing.
inline bool folded_row(const C* spectrum, Filter filter, int m, int n, int fold, int k, C* row) {
    const int m2 = m / fold, n2 = n / fold;
    bool any = false;
    for (int alias = 0; alias < fold; ++alias) {
        const int ka = k + alias * m2, first = filter.spans[2 * ka], length = filter.spans[2 * ka + 1];
        if (!length) continue;
        if (!any)
            for (int l = 0; l < n2; ++l) row[l] = {zero(), zero()};
        any = true;
        const C* in = spectrum + size_t(ka) * n;
        const float* values = filter.values + size_t(ka) * n;
        const int ends[2] = {std::min(first + length, n), std::max(first + length - n, 0)};
        for (int piece = 0; piece < 2; ++piece)
            for (int l = piece ? 0 : first; l < ends[piece];) {
                const int offset = l / n2 * n2, end = std::min(ends[piece], offset + n2);
                for (C* out = row - offset; l < end; ++l) out[l] = out[l] + values[l] * in[l];
            }
    }
    return any;
}

// The adjoint: add a filtered row to all its aliases.
inline void unfold_row(const C* row, Filter filter, int m, int n, int fold, int k, float scale, C* spectrum) {
    const int m2 = m / fold, n2 = n / fold;
    for (int alias = 0; alias < fold; ++alias) {
        const int ka = k + alias * m2, first = filter.spans[2 * ka], length = filter.spans[2 * ka + 1];
        C* out = spectrum + size_t(ka) * n;
        const float* values = filter.values + size_t(ka) * n;
        const int ends[2] = {std::min(first + length, n), std::max(first + length - n, 0)};
        for (int piece = 0; piece < 2; ++piece)
            for (int l = piece ? 0 : first; l < ends[piece];) {
                const int offset = l / n2 * n2, end = std::min(ends[piece], offset + n2);
                for (const C* in = row - offset; l < end; ++l) out[l] = out[l] + (scale * values[l]) * in[l];
            }
    }
}

// Half an inverse transform of a filtered and subsampled spectrum: along axis 1. What follows is along axis 0.
inline void filtered_across(const C* spectrum, Filter filter, const Grid& from, const Grid& to, Lines& lines, C* out) {
    const int fold = from.m / to.m;
    for (int k = 0; k < to.m; ++k) {
        C* row = out + size_t(k) * to.n;
        if (!folded_row(spectrum, filter, from.m, from.n, fold, k, lines.a.data())) {
            std::memset(static_cast<void*>(row), 0, to.n * sizeof(C));
            continue;
        }
        const C* done = to.across.run<true>(lines.a.data(), 1, lines.a.data(), lines.b.data());
        std::memcpy(static_cast<void*>(row), done, to.n * sizeof(C));
    }
}

// Smooth one column along axis 0: m numbers -> h, n apart in `out`.
inline void smoothed_down(const Grid& grid, const V* column, V* out) {
    for (size_t i = 0; i < grid.low_down.rows.size(); ++i) out[i * grid.n] = Band::sum(grid.low_down.rows[i], column, 1);
}

// Smooth along axis 1 what is smooth along axis 0, (h, n) -> (h, w), into `tile`.
inline void smoothed_across(const Grid& grid, const V* t, V* tile, V added = zero()) {
    for (size_t i = 0; i < grid.low_down.rows.size(); ++i)
        for (const auto& taps : grid.low_across.rows) *tile++ = Band::sum(taps, t + i * grid.n, 1) + added;
}

// From the sum of an image's pixels: NaN where one of them isn't finite, as all coefficients are then, and 0 elsewhere.
inline V not_finite(C sum) { return sum.re - sum.re; }

// The images of a transform and what it makes of them.
struct Images {
    int H, W;
    const int32_t *row_of, *column_of;  // for every row and column of the padded grid, the one of the image
    int h, w;
    size_t stride;  // numbers per image in the output, all channels of h × w
};

// What one thread of any transform needs: buffers, the way from LANES images to their spectrum, and its adjoint.
class ImageWorker {
public:
    ImageWorker(const Images& shape, const Grid& grid)
        : lines_(std::max(grid.m, grid.n)), tile_(size_t(shape.h) * shape.w), shape_(shape), grid_(grid) {}

    // Spectrum of the padded images, and their low-pass, channel 0, where it is asked for.
    void spectrum(const float* x, int images, C* out, float* coefficients) {
        const int M = grid_.m, N = grid_.n;
        V* pixels = pixels_.reserve(size_t(shape_.H) * shape_.W);
        load(x, images, shape_.H * shape_.W, pixels);
        for (int p = 0; p < M; ++p) {
            const V* row = pixels + size_t(shape_.row_of[p]) * shape_.W;
            C* line = lines_.a.data();
            for (int q = 0; q < N; ++q) line[q] = {row[shape_.column_of[q]], zero()};
            const C* done = grid_.across.run<false>(line, 1, line, lines_.b.data());
            std::memcpy(static_cast<void*>(out + size_t(p) * N), done, N * sizeof(C));
        }
        for (int l = 0; l < N; ++l) {
            const C* done = grid_.down.run<false>(out + l, N, lines_.a.data(), lines_.b.data());
            for (int k = 0; k < M; ++k) out[size_t(k) * N + l] = done[k];
        }
        if (!coefficients) return;
        V* smooth = strip_.reserve(size_t(shape_.h) * N);
        for (int q = 0; q < N; ++q) {
            for (int p = 0; p < M; ++p)
                lines_.u[p] = pixels[size_t(shape_.row_of[p]) * shape_.W + shape_.column_of[q]];
            smoothed_down(grid_, lines_.u.data(), smooth + q);
        }
        finish(grid_, smooth, coefficients, images, not_finite(out[0]));
    }

    // From the spectra of the shares and the gradient of the low-pass to the gradient of the images.
    void image_backward(C* sums, int shares, const float* gradient, int images, float* out) {
        const int M = grid_.m, N = grid_.n;
        for (size_t i = 0; i < grid_.size(); ++i)
            for (int share = 1; share < shares; ++share) sums[i] = sums[i] + sums[share * grid_.size() + i];
        const V* wide = widened(grid_, gradient, images);
        const size_t area = size_t(shape_.H) * shape_.W;
        V* pixels = pixels_.reserve(area);
        std::memset(static_cast<void*>(pixels), 0, area * sizeof(V));
        for (int k = 0; k < M; ++k) {
            C* row = sums + size_t(k) * N;
            const C* done = grid_.across.run<true>(row, 1, lines_.a.data(), lines_.b.data());
            std::memcpy(static_cast<void*>(row), done, N * sizeof(C));
        }
        for (int q = 0; q < N; ++q) {
            const C* done = grid_.down.run<true>(sums + q, N, lines_.a.data(), lines_.b.data());
            for (int p = 0; p < M; ++p)
                pixels[size_t(shape_.row_of[p]) * shape_.W + shape_.column_of[q]] +=
                    done[p].re + Band::sum(grid_.low_down.columns[p], wide + q, N);
        }
        store(pixels, images, int(area), out, area);
    }

protected:
    // A channel that is smooth along axis 0, smoothed along axis 1 and stored.
    void finish(const Grid& grid, const V* smooth, float* channel, int images, V added = zero()) {
        smoothed_across(grid, smooth, tile_.data(), added);
        store(tile_.data(), images, shape_.h * shape_.w, channel, shape_.stride);
    }

    // The gradient of one channel, spread along axis 1: (h, w) -> (h, n).
    const V* widened(const Grid& grid, const float* gradient, int images) {
        load_strided(gradient, images, shape_.h * shape_.w, shape_.stride, tile_.data());
        V* wide = strip_.reserve(size_t(shape_.h) * grid.n);
        for (int i = 0; i < shape_.h; ++i)
            for (int q = 0; q < grid.n; ++q)
                wide[size_t(i) * grid.n + q] = Band::sum(grid.low_across.columns[q], tile_.data() + i * shape_.w, 1);
        return wide;
    }

    Lines lines_;
    Block<V> tile_;  // (h, w), or more channels of it

private:
    const Images& shape_;
    const Grid& grid_;
    Block<V> pixels_, strip_;  // (H, W) and (h, n)
};

// Do task(0 … count − 1) on `threads` threads; `Worker` is made once per thread. The first exception comes through.
template <typename Worker, typename Make, typename Task>
void parallel(int count, int threads, Make make, Task task) {
    std::atomic<int> next{0};
    std::vector<std::exception_ptr> failures(std::max(1, std::min(threads, count)));
    auto work = [&](size_t me) {
        try {
            Worker worker = make();
            for (int i; (i = next.fetch_add(1)) < count;) task(i, worker);
        } catch (...) {
            failures[me] = std::current_exception();
        }
    };
    std::vector<std::thread> others;
    others.reserve(failures.size());
    try {
        for (size_t me = 1; me < failures.size(); ++me) others.emplace_back(work, me);
    } catch (const std::system_error&) {  // no more threads here: those that run share the work
    }
    work(0);
    for (auto& other : others) other.join();
    for (auto& failure : failures)
        if (failure) std::rethrow_exception(failure);
}

}  // namespace sepconc
