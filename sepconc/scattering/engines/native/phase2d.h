// Phase scattering of images, and its adjoint derivative: the low-pass and ρ(±Re), ρ(±Im) of every x⋆ψ, subsampled by 2.
//
// A task is LANES images where there are many, and one angle of LANES images where threads would have nothing to do.
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
        : s_(shape), images_{s_.H, s_.W, row_of, column_of, s_.h, s_.w, size_t(1 + 4 * s_.L) * s_.h * s_.w}, psi_(psi),
          spans_(spans), full_(s_.M, s_.N, kernels[0], kernels[1], 2, s_.h, s_.w),
          half_(s_.M / 2, s_.N / 2, kernels[0], kernels[1], 2, 0, 0) {}

    void forward(const float* x, int64_t batch, float* out, int threads) const {
        const int64_t groups = groups_of(batch);
        if (groups >= 4 * threads) {
            by_groups(groups, threads, [&](int64_t g, Worker& worker) {
                C* spectrum = worker.own_spectrum();
                worker.spectrum(image(x, g), images_of(g, batch), spectrum, output(out, g));
                for (int theta = 0; theta < s_.L; ++theta)
                    worker.angle(spectrum, theta, images_of(g, batch), output(out, g));
            });
            return;
        }
        const int count = int(groups);
        const size_t size = full_.size();
        Block<C> spectra(count * size);
        in_parallel(count, threads, [&](int g, Worker& worker) {
            worker.spectrum(image(x, g), images_of(g, batch), spectra.data() + g * size, output(out, g));
        });
        in_parallel(count * s_.L, threads, [&](int i, Worker& worker) {
            const int g = i % count;
            worker.angle(spectra.data() + g * size, i / count, images_of(g, batch), output(out, g));
        });
    }

    void backward(const float* x, const float* gradient, int64_t batch, float* out, int threads) const {
        const int64_t groups = groups_of(batch);
        if (groups >= 4 * threads) {
            by_groups(groups, threads, [&](int64_t g, Worker& worker) {
                C *spectrum = worker.own_spectrum(), *sum = worker.own_sum();
                const int images = images_of(g, batch);
                worker.spectrum(image(x, g), images, spectrum, nullptr);
                worker.angles_backward(spectrum, 0, 1, output(gradient, g), images, sum);
                worker.image_backward(sum, 1, output(gradient, g), images, image(out, g));
            });
            return;
        }
        // Each share of a group's angles adds to a spectrum of its own: sums have the same order whoever is first.
        const int count = int(groups), shares = std::min(s_.L, (threads + count - 1) / count);
        const size_t size = full_.size();
        Block<C> spectra(count * size), sums(count * shares * size);
        in_parallel(count, threads, [&](int g, Worker& worker) {
            worker.spectrum(image(x, g), images_of(g, batch), spectra.data() + g * size, nullptr);
        });
        in_parallel(count * shares, threads, [&](int i, Worker& worker) {
            const int g = i / shares;
            worker.angles_backward(spectra.data() + g * size, i % shares, shares, output(gradient, g),
                                   images_of(g, batch), sums.data() + i * size);
        });
        in_parallel(count, threads, [&](int g, Worker& worker) {
            worker.image_backward(sums.data() + g * shares * size, shares, output(gradient, g), images_of(g, batch),
                                  image(out, g));
        });
    }

private:
    static int64_t groups_of(int64_t batch) { return (batch + LANES - 1) / LANES; }
    static int images_of(int64_t g, int64_t batch) { return int(std::min<int64_t>(LANES, batch - g * LANES)); }
    Filter filter(int theta) const { return {psi_ + theta * full_.size(), spans_ + size_t(theta) * 2 * s_.M}; }
    template <typename T>
    T* image(T* x, int64_t g) const {
        return x + g * LANES * s_.H * s_.W;
    }
    template <typename T>
    T* output(T* out, int64_t g) const {
        return out + g * LANES * images_.stride;
    }

    class Worker : public ImageWorker {
    public:
        explicit Worker(const Phase2D& of) : ImageWorker(of.images_, of.full_), of_(of), s_(of.s_) {
            tile_.reserve(size_t(s_.h) * s_.w * 4);
            wave_.reserve(of.half_.size());
        }

        C* own_spectrum() { return spectrum_.reserve(of_.full_.size()); }
        C* own_sum() { return sum_.reserve(of_.full_.size()); }

        // The four phases of one angle.
        void angle(const C* spectrum, int theta, int images, float* coefficients) {
            const int area = s_.h * s_.w;
            const float scale = 1.0f / float(of_.full_.size());
            filtered_across(spectrum, of_.filter(theta), of_.full_, of_.half_, lines_, wave_.data());
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
            store(tile_.data(), images, 4 * area, coefficients + channel(theta), of_.images_.stride);
        }

        // The derivative along the angles first, first + step, …, as a spectrum of the images.
        void angles_backward(const C* spectrum, int first, int step, const float* gradient, int images, C* sum) {
            std::memset(static_cast<void*>(sum), 0, of_.full_.size() * sizeof(C));
            for (int theta = first; theta < s_.L; theta += step) angle_backward(spectrum, theta, gradient, images, sum);
        }

    private:
        size_t channel(int theta) const { return size_t(1 + 4 * theta) * s_.h * s_.w; }
        const C* column(int q) {
            return of_.half_.down.run<true>(wave_.data() + q, s_.N / 2, lines_.a.data(), lines_.b.data());
        }

        // g₊ where u > 0, −g₋ where u < 0: the derivative along ρ(u) and ρ(−u)
        static V chosen(V u, V plus, V minus) { return u > zero() ? plus : (u < zero() ? -minus : zero()); }

        void angle_backward(const C* spectrum, int theta, const float* gradient, int images, C* sum) {
            const int area = s_.h * s_.w, n = s_.N / 2, m = s_.M / 2;
            const float scale = 1.0f / float(of_.full_.size());
            const Filter filter = of_.filter(theta);
            load_strided(gradient + channel(theta), images, 4 * area, of_.images_.stride, tile_.data());
            filtered_across(spectrum, filter, of_.full_, of_.half_, lines_, wave_.data());
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
                unfold_row(done, filter, s_.M, s_.N, 2, k, scale, sum);
            }
        }

        const Phase2D& of_;
        const ShapePhase& s_;
        Block<C> spectrum_, wave_, sum_;
    };

    template <typename Task>
    void in_parallel(int count, int threads, Task task) const {
        parallel<Worker>(count, threads, [&] { return Worker(*this); }, task);
    }

    // A few groups per task keep the counter out of the way of small images.
    template <typename Task>
    void by_groups(int64_t groups, int threads, Task task) const {
        const int64_t each = std::max<int64_t>(1, std::min<int64_t>(groups / (4 * threads), 64));
        in_parallel(int((groups + each - 1) / each), threads, [&](int i, Worker& worker) {
            for (int64_t g = i * each; g < std::min(groups, (i + 1) * each); ++g) task(g, worker);
        });
    }

    ShapePhase s_;
    Images images_;
    const float* psi_;
    const int32_t* spans_;
    Grid full_, half_;
};

}  // namespace sepconc
