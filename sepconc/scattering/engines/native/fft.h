// Fourier transforms of one axis, of any length, for all lanes at once.
//
// Stockham's autosort scheme with mixed radices: a stage takes a transform of length n = radix·m, of which `s`
// interleaved copies lie in memory, to radix·s copies of length m (Van Loan, "Computational frameworks for the fast
// Fourier transform", 1992, section 1.7). Neither direction divides by the length.
#pragma once

#include <cmath>
#include <vector>

#include "lanes.h"

namespace sepconc {

struct Stage {
    int radix, m, s;
    std::vector<float> twiddles;  // (m, radix - 1, 2): cosine and sine of 2π p i / n
    std::vector<float> roots;     // for a radix without a kernel of its own: cosines and sines of 2π t / radix
};

class FFT {
public:
    explicit FFT(int n) : n_(n) {
        for (int left = n, s = 1; left > 1;) {
            const int radix = factor(left);
            stages_.push_back(stage(left, radix, s));
            left /= radix;
            s *= radix;
        }
    }

    int size() const { return n_; }

    // Transform n numbers that lie `stride` apart; x may be a or b only with stride 1. Gives where the result lies: a or b.
    template <bool INVERSE>
    C* run(const C* x, ptrdiff_t stride, C* a, C* b) const {
        if (stages_.empty()) {
            a[0] = x[0];
            return a;
        }
        C* out = x == a ? b : a;
        for (const Stage& stage : stages_) {
            switch (stage.radix) {
                case 2: run_stage<INVERSE, 2>(stage, x, stride, out); break;
                case 3: run_stage<INVERSE, 3>(stage, x, stride, out); break;
                case 4: run_stage<INVERSE, 4>(stage, x, stride, out); break;
                case 5: run_stage<INVERSE, 5>(stage, x, stride, out); break;
                default: run_prime<INVERSE>(stage, x, stride, out);
            }
            x = out;
            stride = 1;
            out = out == a ? b : a;
        }
        return const_cast<C*>(x);
    }

private:
    static int factor(int n) {
        if (n % 4 == 0) return 4;
        for (int p = 2; p * p <= n; ++p)
            if (n % p == 0) return p;
        return n;
    }

    static Stage stage(int n, int radix, int s) {
        Stage made{radix, n / radix, s, {}, {}};
        for (int p = 0; p < made.m; ++p)
            for (int i = 1; i < radix; ++i) push_root(made.twiddles, double(p) * i / n);
        if (radix > 5)
            for (int t = 0; t < radix; ++t) push_root(made.roots, double(t) / radix);
        return made;
    }

    static void push_root(std::vector<float>& table, double turns) {
        table.push_back(float(std::cos(2 * M_PI * turns)));
        table.push_back(float(std::sin(2 * M_PI * turns)));
    }

    // z·exp(∓iα)
    template <bool INVERSE>
    static C turned(C z, const float* root) {
        const float c = root[0], s = INVERSE ? -root[1] : root[1];
        return {c * z.re + s * z.im, c * z.im - s * z.re};
    }

    // z·(∓i)
    template <bool INVERSE>
    static C quarter(C z) {
        return INVERSE ? C{-z.im, z.re} : C{z.im, -z.re};
    }

    template <bool INVERSE, int R>
    static void butterfly(C* a) {
        if constexpr (R == 2) {
            const C d = a[0] - a[1];
            a[0] = a[0] + a[1];
            a[1] = d;
        } else if constexpr (R == 4) {
            const C s02 = a[0] + a[2], d02 = a[0] - a[2], s13 = a[1] + a[3], d13 = quarter<INVERSE>(a[1] - a[3]);
            a[0] = s02 + s13;
            a[1] = d02 + d13;
            a[2] = s02 - s13;
            a[3] = d02 - d13;
        } else if constexpr (R == 3) {
            const C sum = a[1] + a[2], odd = 0.86602540378443864676f * quarter<INVERSE>(a[1] - a[2]);
            const C even = a[0] + (-0.5f) * sum;
            a[0] = a[0] + sum;
            a[1] = even + odd;
            a[2] = even - odd;
        } else {
            constexpr float c1 = 0.30901699437494742410f, c2 = -0.80901699437494742410f;
            constexpr float s1 = 0.95105651629515357212f, s2 = 0.58778525229247312917f;
            const C p14 = a[1] + a[4], p23 = a[2] + a[3];
            const C m14 = quarter<INVERSE>(a[1] - a[4]), m23 = quarter<INVERSE>(a[2] - a[3]);
            const C even1 = a[0] + c1 * p14 + c2 * p23, even2 = a[0] + c2 * p14 + c1 * p23;
            const C odd1 = s1 * m14 + s2 * m23, odd2 = s2 * m14 - s1 * m23;
            a[0] = a[0] + p14 + p23;
            a[1] = even1 + odd1;
            a[2] = even2 + odd2;
            a[3] = even2 - odd2;
            a[4] = even1 - odd1;
        }
    }

    template <bool INVERSE, int R>
    static void run_stage(const Stage& stage, const C* x, ptrdiff_t stride, C* y) {
        const int m = stage.m, s = stage.s;
        for (int p = 0; p < m; ++p) {
            const float* roots = stage.twiddles.data() + p * (R - 1) * 2;
            for (int q = 0; q < s; ++q) {
                C a[R];
                for (int j = 0; j < R; ++j) a[j] = x[(q + ptrdiff_t(s) * (p + m * j)) * stride];
                butterfly<INVERSE, R>(a);
                C* out = y + q + ptrdiff_t(s) * R * p;
                out[0] = a[0];
                if (p == 0)
                    for (int i = 1; i < R; ++i) out[ptrdiff_t(s) * i] = a[i];
                else
                    for (int i = 1; i < R; ++i) out[ptrdiff_t(s) * i] = turned<INVERSE>(a[i], roots + 2 * (i - 1));
            }
        }
    }

    // An odd radix: the sums of a_j and a_{R-j} see cosines only, their differences sines only.
    template <bool INVERSE>
    static void run_prime(const Stage& stage, const C* x, ptrdiff_t stride, C* y) {
        const int R = stage.radix, half = (R - 1) / 2, m = stage.m, s = stage.s;
        std::vector<C, Aligned<C>> sums(half), differences(half);
        for (int p = 0; p < m; ++p) {
            const float* twiddles = stage.twiddles.data() + ptrdiff_t(p) * (R - 1) * 2;
            for (int q = 0; q < s; ++q) {
                const C* in = x + (q + ptrdiff_t(s) * p) * stride;
                const ptrdiff_t step = ptrdiff_t(s) * m * stride;
                const C first = in[0];
                C total = first;
                for (int j = 1; j <= half; ++j) {
                    const C one = in[step * j], other = in[step * (R - j)];
                    sums[j - 1] = one + other;
                    differences[j - 1] = quarter<INVERSE>(one - other);
                    total = total + sums[j - 1];
                }
                C* out = y + q + ptrdiff_t(s) * R * p;
                out[0] = total;
                for (int i = 1; i <= half; ++i) {
                    C even = first, odd = {zero(), zero()};
                    for (int j = 1, t = i; j <= half; ++j, t += i, t -= t >= R ? R : 0) {
                        even = even + stage.roots[2 * t] * sums[j - 1];
                        odd = odd + stage.roots[2 * t + 1] * differences[j - 1];
                    }
                    out[ptrdiff_t(s) * i] = turned<INVERSE>(even + odd, twiddles + 2 * (i - 1));
                    out[ptrdiff_t(s) * (R - i)] = turned<INVERSE>(even - odd, twiddles + 2 * (R - i - 1));
                }
            }
        }
    }

    template <typename T>
    struct Aligned {
        typedef T value_type;
        T* allocate(size_t count) { return static_cast<T*>(sepconc::allocate(count * sizeof(T))); }
        void deallocate(T* p, size_t count) { release(p, count * sizeof(T)); }
        bool operator==(const Aligned&) const { return true; }
        bool operator!=(const Aligned&) const { return false; }
    };

    int n_;
    std::vector<Stage> stages_;
};

}  // namespace sepconc
