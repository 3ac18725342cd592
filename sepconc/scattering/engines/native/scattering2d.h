// Two-dimensional scattering of order 0, 1 and 2, and its adjoint derivative.
//
// A task is one pair of angles at one first scale, for LANES images. The two moduli |x⋆ψ| of a pair are the real and
// the imaginary part of one Fourier transform. Moduli of order 2 never leave the cache: a column is transformed back,
// its modulus taken and smoothed along the column, and only that is kept.
#pragma once

#include <memory>

#include "images.h"

namespace sepconc {

struct Shape2D {
    int H, W, M, N, J, L, order, h, w;

    bool second(int j1) const { return order == 2 && j1 < J - 1; }
    int paths() const {
        int count = 1 + L * J;
        return order == 2 ? count + L * L * J * (J - 1) / 2 : count;
    }
    int first_channel(int j1, int theta1) const { return 1 + j1 * L + theta1; }
    int second_channel(int j1, int theta1, int j2, int theta2) const {
        int before = 1 + J * L;
        for (int j = 0; j < j1; ++j) before += L * L * (J - 1 - j);
        return before + (theta1 * (J - 1 - j1) + j2 - j1 - 1) * L + theta2;
    }
};

class Scattering2D {
public:
    // psi and spans: J × J tables by scale and resolution; kernels: per resolution, of axis 0 then of axis 1
    Scattering2D(Shape2D shape, const float* const* psi, const int32_t* const* spans, const float* const* kernels,
                 const int32_t* row_of, const int32_t* column_of)
        : s_(shape), images_{s_.H, s_.W, row_of, column_of, s_.h, s_.w, size_t(s_.paths()) * s_.h * s_.w}, psi_(psi),
          spans_(spans) {
        for (int r = 0; r < s_.J; ++r)
            grids_.emplace_back(s_.M >> r, s_.N >> r, kernels[2 * r], kernels[2 * r + 1], 1 << (s_.J - r), s_.h, s_.w);
    }

    void forward(const float* x, int64_t batch, float* out, int threads) const {
        const int64_t groups = (batch + LANES - 1) / LANES, chunk = chunk_of(groups);
        Block<C> spectra(chunk * grids_[0].size());
        for (int64_t start = 0; start < groups; start += chunk) {
            const int count = int(std::min(chunk, groups - start));
            parallel<Worker>(count, threads, [&] { return Worker(*this); }, [&](int i, Worker& worker) {
                const int64_t g = start + i;
                worker.spectrum(x + g * LANES * s_.H * s_.W, images_of(g, batch), spectra.data() + i * grids_[0].size(),
                                output(out, g));
            });
            const int tasks = s_.J * pairs();
            parallel<Worker>(count * tasks, threads, [&] { return Worker(*this); }, [&](int i, Worker& worker) {
                const int64_t g = start + i % count;
                const int task = i / count;
                worker.pair(spectra.data() + (i % count) * grids_[0].size(), task / pairs(), task % pairs() * 2,
                            output(out, g), images_of(g, batch));
            });
        }
    }

    void backward(const float* x, const float* gradient, int64_t batch, float* out, int threads) const {
        const int64_t groups = (batch + LANES - 1) / LANES, chunk = chunk_of(groups);
        const int tasks = s_.J * pairs();
        // A group is shared by several threads where there are few; each share adds to a spectrum of its own, so that
        // sums have the same order whatever thread is first.
        const int shares = int(std::min<int64_t>(tasks, (threads + std::min(chunk, groups) - 1) / std::min(chunk, groups)));
        const size_t size = grids_[0].size();
        Block<C> spectra(chunk * size), sums(chunk * shares * size);
        for (int64_t start = 0; start < groups; start += chunk) {
            const int count = int(std::min(chunk, groups - start));
            parallel<Worker>(count, threads, [&] { return Worker(*this); }, [&](int i, Worker& worker) {
                const int64_t g = start + i;
                worker.spectrum(x + g * LANES * s_.H * s_.W, images_of(g, batch), spectra.data() + i * size, nullptr);
            });
            parallel<Worker>(count * shares, threads, [&] { return Worker(*this); }, [&](int i, Worker& worker) {
                const int64_t g = start + i / shares;
                C* sum = sums.data() + i * size;
                std::memset(static_cast<void*>(sum), 0, size * sizeof(C));
                for (int task = i % shares; task < tasks; task += shares)
                    worker.pair_backward(spectra.data() + i / shares * size, task / pairs(), task % pairs() * 2,
                                         output(gradient, g), images_of(g, batch), sum);
            });
            parallel<Worker>(count, threads, [&] { return Worker(*this); }, [&](int i, Worker& worker) {
                const int64_t g = start + i;
                worker.image_backward(sums.data() + i * shares * size, shares, output(gradient, g), images_of(g, batch),
                                      out + g * LANES * s_.H * s_.W);
            });
        }
    }

private:
    static constexpr size_t CHUNK_BYTES = size_t(1) << 26;

    int pairs() const { return (s_.L + 1) / 2; }
    int images_of(int64_t g, int64_t batch) const { return int(std::min<int64_t>(LANES, batch - g * LANES)); }
    template <typename T>
    T* output(T* out, int64_t g) const {
        return out + g * LANES * images_.stride;
    }
    int64_t chunk_of(int64_t groups) const {
        const int64_t fitting = CHUNK_BYTES / (grids_[0].size() * sizeof(C));
        return std::min(groups, std::max<int64_t>(fitting, 4));
    }
    Filter filter(int j, int r, int theta) const {
        const size_t m = grids_[r].m, n = grids_[r].n;
        return {psi_[j * s_.J + r] + theta * m * n, spans_[j * s_.J + r] + theta * m * 2};
    }

    class Worker : public ImageWorker {
    public:
        explicit Worker(const Scattering2D& of) : ImageWorker(of.images_, of.grids_[0]), of_(of), s_(of.s_) {}

        // Orders 1 and 2 of the angles theta and theta + 1 at scale j1.
        void pair(const C* spectrum, int j1, int theta, float* coefficients, int images) {
            const Grid& grid = of_.grids_[j1];
            const int angles = std::min(2, s_.L - theta);
            filter_pair(spectrum, j1, theta, angles);
            V* smooth[2] = {smooth_[0].reserve(size_t(s_.h) * grid.n), smooth_[1].reserve(size_t(s_.h) * grid.n)};
            const bool second = s_.second(j1);
            if (second) both_.reserve(grid.size());
            for (int q = 0; q < grid.n; ++q) {
                moduli_column(grid, q, angles, smooth, second);
                if (second) pack_column(grid, q);
            }
            for (int i = 0; i < angles; ++i)
                finish(grid, smooth[i], coefficients + channel(s_.first_channel(j1, theta + i)), images);
            if (!second) return;
            unpack(grid, angles);
            for (int i = 0; i < angles; ++i)
                for (int j2 = j1 + 1; j2 < s_.J; ++j2)
                    for (int t2 = 0; t2 < s_.L; ++t2) {
                        const Grid& small = of_.grids_[j2];
                        second_order(u_[i].data(), of_.filter(j2, j1, t2), grid, small);
                        float* out = coefficients + channel(s_.second_channel(j1, theta + i, j2, t2));
                        finish(small, smooth_[0].data(), out, images);
                    }
        }

        // The derivative along all of a pair's coefficients, added to the spectrum `sum` of the images.
        void pair_backward(const C* spectrum, int j1, int theta, const float* gradient, int images, C* sum) {
            const Grid& grid = of_.grids_[j1];
            const int angles = std::min(2, s_.L - theta);
            const bool second = s_.second(j1);
            filter_pair(spectrum, j1, theta, angles);
            if (second) both_.reserve(grid.size());
            for (int q = 0; q < grid.n; ++q) {
                for (int i = 0; i < angles; ++i) column_back(grid, waves_[i].data() + q);
                if (second) {
                    for (int i = 0; i < 2; ++i)
                        for (int p = 0; p < grid.m; ++p)
                            (i ? lines_.v : lines_.u)[p] = i < angles ? modulus(waves_[i][size_t(p) * grid.n + q]) : zero();
                    pack_column(grid, q);
                }
            }
            if (second) {
                unpack(grid, angles);
                for (int i = 0; i < angles; ++i) {
                    std::memset(static_cast<void*>(g_[i].reserve(grid.size())), 0, grid.size() * sizeof(C));
                    for (int j2 = j1 + 1; j2 < s_.J; ++j2)
                        for (int t2 = 0; t2 < s_.L; ++t2) {
                            const float* g = gradient + channel(s_.second_channel(j1, theta + i, j2, t2));
                            second_backward(u_[i].data(), of_.filter(j2, j1, t2), grid, of_.grids_[j2], g, images,
                                            g_[i].data());
                        }
                }
                real_parts(grid, angles);
            }
            const float scale = 1.0f / float(size_t(s_.M) * s_.N);
            for (int i = 0; i < angles; ++i) {
                const V* wide = widened(grid, gradient + channel(s_.first_channel(j1, theta + i)), images);
                for (int q = 0; q < grid.n; ++q) {
                    C* column = waves_[i].data() + q;
                    for (int p = 0; p < grid.m; ++p) {
                        V g = Band::sum(grid.low_down.columns[p], wide + q, grid.n);
                        const size_t at = size_t(p) * grid.n;
                        if (second) g += i ? both_[at + q].im : both_[at + q].re;
                        column[at] = along(column[at], g);
                    }
                    const C* done = grid.down.run<false>(column, grid.n, lines_.a.data(), lines_.b.data());
                    for (int k = 0; k < grid.m; ++k) column[size_t(k) * grid.n] = done[k];
                }
                add_filtered(waves_[i].data(), of_.filter(j1, 0, theta + i), of_.grids_[0], grid, scale, sum);
            }
        }

    private:
        size_t channel(int number) const { return size_t(number) * s_.h * s_.w; }

        void filter_pair(const C* spectrum, int j1, int theta, int angles) {
            const Grid& grid = of_.grids_[j1];
            for (int i = 0; i < angles; ++i)
                filtered_across(spectrum, of_.filter(j1, 0, theta + i), of_.grids_[0], grid, lines_,
                                waves_[i].reserve(grid.size()));
        }

        // Moduli of column q of the pair, into lines u and v; smooth along it.
        void moduli_column(const Grid& grid, int q, int angles, V* const* smooth, bool keep) {
            const float scale = 1.0f / float(size_t(s_.M) * s_.N);
            for (int i = 0; i < 2; ++i) {
                V* line = i ? lines_.v.data() : lines_.u.data();
                if (i >= angles) {
                    if (keep)
                        for (int p = 0; p < grid.m; ++p) line[p] = zero();
                    continue;
                }
                const C* done = grid.down.run<true>(waves_[i].data() + q, grid.n, lines_.a.data(), lines_.b.data());
                for (int p = 0; p < grid.m; ++p) line[p] = modulus(scale * done[p]);
                smoothed_down(grid, line, smooth[i] + q);
            }
        }

        // The column in place, with its scale: half of the way back to space.
        void column_back(const Grid& grid, C* column) {
            const float scale = 1.0f / float(size_t(s_.M) * s_.N);
            const C* done = grid.down.run<true>(column, grid.n, lines_.a.data(), lines_.b.data());
            for (int p = 0; p < grid.m; ++p) column[size_t(p) * grid.n] = scale * done[p];
        }

        // Half a transform of u + iv, along axis 0.
        void pack_column(const Grid& grid, int q) {
            for (int p = 0; p < grid.m; ++p) lines_.c[p] = {lines_.u[p], lines_.v[p]};
            const C* done = grid.down.run<false>(lines_.c.data(), 1, lines_.a.data(), lines_.b.data());
            for (int k = 0; k < grid.m; ++k) both_[size_t(k) * grid.n + q] = done[k];
        }

        // The other half, and the spectra of the real and of the imaginary part.
        void unpack(const Grid& grid, int angles) {
            for (int k = 0; k < grid.m; ++k) {
                C* row = both_.data() + size_t(k) * grid.n;
                const C* done = grid.across.run<false>(row, 1, lines_.a.data(), lines_.b.data());
                std::memcpy(static_cast<void*>(row), done, grid.n * sizeof(C));
            }
            C* even = u_[0].reserve(grid.size());
            C* odd = u_[1].reserve(grid.size());
            for (int k = 0; k < grid.m; ++k) {
                const C* row = both_.data() + size_t(k) * grid.n;
                const C* mirror = both_.data() + size_t(k ? grid.m - k : 0) * grid.n;
                for (int l = 0; l < grid.n; ++l) {
                    const C z = row[l], other = mirror[l ? grid.n - l : 0];
                    const size_t at = size_t(k) * grid.n + l;
                    even[at] = {0.5f * (z.re + other.re), 0.5f * (z.im - other.im)};
                    if (angles > 1) odd[at] = {0.5f * (z.im + other.im), 0.5f * (other.re - z.re)};
                }
            }
        }

        // |u⋆ψ2|, smooth along axis 0, into smooth_[0]; u is a spectrum on the grid `from`.
        void second_order(const C* u, Filter filter, const Grid& from, const Grid& to) {
            const float scale = 1.0f / float(from.size());
            filtered_across(u, filter, from, to, lines_, small_.reserve(to.size()));
            V* smooth = smooth_[0].reserve(size_t(s_.h) * to.n);
            for (int q = 0; q < to.n; ++q) {
                const C* done = to.down.run<true>(small_.data() + q, to.n, lines_.a.data(), lines_.b.data());
                for (int p = 0; p < to.m; ++p) lines_.u[p] = modulus(scale * done[p]);
                smoothed_down(to, lines_.u.data(), smooth + q);
            }
        }

        void second_backward(const C* u, Filter filter, const Grid& from, const Grid& to, const float* gradient,
                             int images, C* sum) {
            const float scale = 1.0f / float(from.size());
            filtered_across(u, filter, from, to, lines_, small_.reserve(to.size()));
            const V* wide = widened(to, gradient, images);
            for (int q = 0; q < to.n; ++q) {
                C* column = small_.data() + q;
                const C* done = to.down.run<true>(column, to.n, lines_.a.data(), lines_.b.data());
                for (int p = 0; p < to.m; ++p)
                    lines_.c[p] = along(scale * done[p], Band::sum(to.low_down.columns[p], wide + q, to.n));
                done = to.down.run<false>(lines_.c.data(), 1, lines_.a.data(), lines_.b.data());
                for (int k = 0; k < to.m; ++k) column[size_t(k) * to.n] = done[k];
            }
            add_filtered(small_.data(), filter, from, to, scale, sum);
        }

        // The adjoint of filtered_across, for a map that is transformed along axis 0 already.
        void add_filtered(C* map, Filter filter, const Grid& from, const Grid& to, float scale, C* sum) {
            for (int k = 0; k < to.m; ++k) {
                C* row = map + size_t(k) * to.n;
                const C* done = to.across.run<false>(row, 1, lines_.a.data(), lines_.b.data());
                unfold_row(done, filter, from.m, from.n, from.m / to.m, k, scale, sum);
            }
        }

        // Real parts of the (undivided) inverse transforms of g_[0] and g_[1]: real and imaginary part of both_.
        void real_parts(const Grid& grid, int angles) {
            C* both = both_.data();
            for (int k = 0; k < grid.m; ++k) {
                const size_t row = size_t(k) * grid.n, mirror = size_t(k ? grid.m - k : 0) * grid.n;
                C* line = lines_.c.data();
                for (int l = 0; l < grid.n; ++l) {
                    const C a = g_[0][row + l], b = g_[0][mirror + (l ? grid.n - l : 0)];
                    line[l] = {0.5f * (a.re + b.re), 0.5f * (a.im - b.im)};
                    if (angles == 1) continue;
                    const C c = g_[1][row + l], d = g_[1][mirror + (l ? grid.n - l : 0)];
                    line[l] = {line[l].re - 0.5f * (c.im - d.im), line[l].im + 0.5f * (c.re + d.re)};
                }
                const C* done = grid.across.run<true>(line, 1, lines_.a.data(), lines_.b.data());
                std::memcpy(static_cast<void*>(both + row), done, grid.n * sizeof(C));
            }
            for (int q = 0; q < grid.n; ++q) {
                const C* done = grid.down.run<true>(both + q, grid.n, lines_.a.data(), lines_.b.data());
                for (int p = 0; p < grid.m; ++p) both[size_t(p) * grid.n + q] = done[p];
            }
        }

        // g·z/|z|, nothing where z is.
        static C along(C z, V g) {
            const V size = modulus(z);
            const V ratio = size > zero() ? g / size : (size == zero() ? zero() : size);
            return {ratio * z.re, ratio * z.im};
        }

        const Scattering2D& of_;
        const Shape2D& s_;
        Block<V> smooth_[2];
        Block<C> waves_[2], both_, u_[2], g_[2], small_;
    };

    Shape2D s_;
    Images images_;
    const float* const* psi_;
    const int32_t* const* spans_;
    std::vector<Grid> grids_;
};

}  // namespace sepconc
