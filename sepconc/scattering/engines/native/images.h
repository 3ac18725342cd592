// What the two-dimensional transforms are made of: images in lanes, filters with their supports, low-pass by bands.
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

// Smooth along axis 1 what is smooth along axis 0, (h, n) -> (h, w), into `tile`.
inline void smoothed_across(const Grid& grid, const V* t, V* tile, V added = zero()) {
    for (size_t i = 0; i < grid.low_down.rows.size(); ++i)
        for (const auto& taps : grid.low_across.rows) *tile++ = Band::sum(taps, t + i * grid.n, 1) + added;
}

// From the sum of an image's pixels: NaN where one of them isn't finite, as all coefficients are then, and 0 elsewhere.
inline V not_finite(C sum) { return sum.re - sum.re; }

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
