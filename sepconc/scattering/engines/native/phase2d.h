// Phase scattering of images, and its adjoint derivative: the low-pass and ρ(±Re), ρ(±Im) of every x⋆ψ, subsampled by 2.
#pragma once

#include "images.h"

namespace sepconc {

struct ShapePhase {
    int H, W, M, N, L, h, w;
};

class Phase2D {
public:
    Phase2D(ShapePhase shape, const float* psi, const int32_t* spans, const float* const* kernels, const int32_t* row_of,
            const int32_t* column_of)
        : s_(shape), psi_(psi), spans_(spans), row_of_(row_of), column_of_(column_of),
          full_(s_.M, s_.N, kernels[0], kernels[1], 2, s_.h, s_.w),
          half_(s_.M / 2, s_.N / 2, kernels[0], kernels[1], 2, 0, 0) {}

    void forward(const float* x, int64_t batch, float* out, int threads) const {
        run(batch, threads, [&](int64_t g, int images, Worker& worker) {
            worker.forward(x + g * LANES * s_.H * s_.W, images, out + g * LANES * stride());
        });
    }

    void backward(const float* x, const float* gradient, int64_t batch, float* out, int threads) const {
        run(batch, threads, [&](int64_t g, int images, Worker& worker) {
            worker.backward(x + g * LANES * s_.H * s_.W, gradient + g * LANES * stride(), images,
                            out + g * LANES * s_.H * s_.W);
        });
    }

private:
    size_t stride() const { return size_t(1 + 4 * s_.L) * s_.h * s_.w; }
    Filter filter(int theta) const { return {psi_ + theta * full_.size(), spans_ + size_t(theta) * 2 * s_.M}; }

    class Worker {
    public:
        explicit Worker(const Phase2D& of)
            : of_(of), s_(of.s_), lines_(std::max(s_.M, s_.N)), pixels_(size_t(s_.H) * s_.W),
              tile_(size_t(s_.h) * s_.w * 4), smooth_(size_t(s_.h) * s_.N), spectrum_(of.full_.size()),
              wave_(of.half_.size()), sum_(of.full_.size()) {}

        void forward(const float* x, int images, float* out) {
            const int area = s_.h * s_.w;
            transform(x, images);
            for (int q = 0; q < s_.N; ++q) {
                for (int p = 0; p < s_.M; ++p) lines_.u[p] = pixel(p, q);
                for (int i = 0; i < s_.h; ++i)
                    smooth_[size_t(i) * s_.N + q] = Band::sum(of_.full_.low_down.rows[i], lines_.u.data(), 1);
            }
            smoothed_across(of_.full_, smooth_.data(), tile_.data());
            store(tile_.data(), images, area, out, of_.stride());
            const float scale = 1.0f / float(of_.full_.size());
            for (int theta = 0; theta < s_.L; ++theta) {
                filtered_across(spectrum_.data(), of_.filter(theta), of_.full_, of_.half_, lines_, wave_.data());
                for (int q = 0; q < s_.w; ++q) {
                    const C* done = column(q + 1);
                    for (int p = 0; p < s_.h; ++p) {
                        const C z = scale * done[p + 1];
                        V* phases = tile_.data() + p * s_.w + q;
                        phases[0] = positive_part(z.re);
                        phases[area] = positive_part(z.im);
                        phases[2 * area] = positive_part(-z.re);
                        phases[3 * area] = positive_part(-z.im);
                    }
                }
                store(tile_.data(), images, 4 * area, out + size_t(1 + 4 * theta) * area, of_.stride());
            }
        }

        void backward(const float* x, const float* gradient, int images, float* out) {
            const int area = s_.h * s_.w, n = s_.N / 2, m = s_.M / 2;
            transform(x, images);
            std::memset(static_cast<void*>(sum_.data()), 0, of_.full_.size() * sizeof(C));
            const float scale = 1.0f / float(of_.full_.size());
            for (int theta = 0; theta < s_.L; ++theta) {
                const Filter filter = of_.filter(theta);
                load_strided(gradient + size_t(1 + 4 * theta) * area, images, 4 * area, of_.stride(), tile_.data());
                filtered_across(spectrum_.data(), filter, of_.full_, of_.half_, lines_, wave_.data());
                for (int q = 0; q < n; ++q) {
                    const bool inside = q >= 1 && q <= s_.w;
                    const C* done = inside ? column(q) : nullptr;
                    for (int p = 0; p < m; ++p) {
                        C g = {zero(), zero()};
                        if (inside && p >= 1 && p <= s_.h) {
                            const V* phases = tile_.data() + (p - 1) * s_.w + q - 1;
                            g = {chosen(done[p].re, phases[0], phases[2 * area]),
                                 chosen(done[p].im, phases[area], phases[3 * area])};
                        }
                        lines_.c[p] = g;
                    }
                    done = of_.half_.down.run<false>(lines_.c.data(), 1, lines_.a.data(), lines_.b.data());
                    for (int k = 0; k < m; ++k) wave_[size_t(k) * n + q] = done[k];
                }
                for (int k = 0; k < m; ++k) {
                    C* row = wave_.data() + size_t(k) * n;
                    const C* done = of_.half_.across.run<false>(row, 1, lines_.a.data(), lines_.b.data());
                    unfold_row(done, filter, s_.M, s_.N, 2, k, scale, sum_.data());
                }
            }
            image_backward(gradient, images, out);
        }

    private:
        V pixel(int p, int q) { return pixels_[size_t(of_.row_of_[p]) * s_.W + of_.column_of_[q]]; }

        // g₊ where u > 0, −g₋ where u < 0: the derivative along ρ(u) and ρ(−u)
        static V chosen(V u, V plus, V minus) { return u > zero() ? plus : (u < zero() ? -minus : zero()); }

        void transform(const float* x, int images) {
            load(x, images, s_.H * s_.W, pixels_.data());
            for (int p = 0; p < s_.M; ++p) {
                for (int q = 0; q < s_.N; ++q) lines_.a[q] = {pixel(p, q), zero()};
                const C* done = of_.full_.across.run<false>(lines_.a.data(), 1, lines_.a.data(), lines_.b.data());
                std::memcpy(static_cast<void*>(spectrum_.data() + size_t(p) * s_.N), done, s_.N * sizeof(C));
            }
            for (int l = 0; l < s_.N; ++l) {
                C* start = spectrum_.data() + l;
                const C* done = of_.full_.down.run<false>(start, s_.N, lines_.a.data(), lines_.b.data());
                for (int k = 0; k < s_.M; ++k) start[size_t(k) * s_.N] = done[k];
            }
        }

        const C* column(int q) {
            return of_.half_.down.run<true>(wave_.data() + q, s_.N / 2, lines_.a.data(), lines_.b.data());
        }

        void image_backward(const float* gradient, int images, float* out) {
            load_strided(gradient, images, s_.h * s_.w, of_.stride(), tile_.data());
            for (int i = 0; i < s_.h; ++i)
                for (int q = 0; q < s_.N; ++q)
                    smooth_[size_t(i) * s_.N + q] =
                        Band::sum(of_.full_.low_across.columns[q], tile_.data() + i * s_.w, 1);
            std::memset(static_cast<void*>(pixels_.data()), 0, size_t(s_.H) * s_.W * sizeof(V));
            for (int k = 0; k < s_.M; ++k) {
                C* row = sum_.data() + size_t(k) * s_.N;
                const C* done = of_.full_.across.run<true>(row, 1, lines_.a.data(), lines_.b.data());
                std::memcpy(static_cast<void*>(row), done, s_.N * sizeof(C));
            }
            for (int q = 0; q < s_.N; ++q) {
                const C* done = of_.full_.down.run<true>(sum_.data() + q, s_.N, lines_.a.data(), lines_.b.data());
                for (int p = 0; p < s_.M; ++p)
                    pixels_[size_t(of_.row_of_[p]) * s_.W + of_.column_of_[q]] +=
                        done[p].re + Band::sum(of_.full_.low_down.columns[p], smooth_.data() + q, s_.N);
            }
            store(pixels_.data(), images, s_.H * s_.W, out, size_t(s_.H) * s_.W);
        }

        const Phase2D& of_;
        const ShapePhase& s_;
        Lines lines_;
        Block<V> pixels_, tile_, smooth_;
        Block<C> spectrum_, wave_, sum_;
    };

    template <typename Task>
    void run(int64_t batch, int threads, Task task) const {
        const int64_t groups = (batch + LANES - 1) / LANES;
        // a few groups per task keep the counter out of the way of small images
        const int64_t each = std::max<int64_t>(1, std::min<int64_t>(groups / (4 * threads), 64));
        const int count = int((groups + each - 1) / each);
        parallel<Worker>(count, threads, [&] { return Worker(*this); }, [&](int i, Worker& worker) {
            for (int64_t g = i * each; g < std::min(groups, (i + 1) * each); ++g)
                task(g, int(std::min<int64_t>(LANES, batch - g * LANES)), worker);
        });
    }

    ShapePhase s_;
    const float* psi_;
    const int32_t* spans_;
    const int32_t *row_of_, *column_of_;
    Grid full_, half_;
};

}  // namespace sepconc
