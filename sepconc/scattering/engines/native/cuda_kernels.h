// CUDA kernels of the two-dimensional transforms; engines/skcuda.py launches them, and says what REAL, TILE and MAPS are.
//
// Wavelet coefficients are pairs of real numbers; spectra of real maps are half ones, M x (N / 2 + 1). What is in
// primitives.py about wavelets and their support is not said again here.

struct alignas(2 * sizeof(REAL)) Pair { REAL re, im; };

// Without overflow, as hypot of both precisions.
__device__ inline REAL modulus_of(Pair z) { return hypot(z.re, z.im); }

// out[p, theta, k]: the sum over aliases f of k of spectra[p, f] * wavelets[theta, f]; the spectra are half ones.
extern "C" __global__ void product(
    const Pair* spectra, const REAL* wavelets, const unsigned char* support, Pair* out,
    int maps, int M, int N, int m, int n, int tiles, int L, int step)
{
    const int tile = blockIdx.x % tiles, first = blockIdx.x / tiles * MAPS;
    const int k = tile * TILE + threadIdx.x, half = N / 2 + 1;
    if (k >= m * n) return;
    const int row = k / n, col = k % n;
    for (int theta = 0; theta < L; ++theta) {
        Pair sums[MAPS] = {};
        for (int alias = 0; alias < step * step; ++alias) {
            if (!support[(theta * step * step + alias) * tiles + tile]) continue;
            const int f = row + alias / step * m, g = col + alias % step * n;
            const bool mirrored = g > N / 2;
            const int at = mirrored ? (M - f) % M * half + N - g : f * half + g;
            const REAL weight = wavelets[((long long)theta * M + f) * N + g];
            for (int q = 0; q < MAPS && first + q < maps; ++q) {
                const Pair x = spectra[(long long)(first + q) * M * half + at];
                sums[q].re += weight * x.re;
                sums[q].im += (mirrored ? -weight : weight) * x.im;
            }
        }
        for (int q = 0; q < MAPS && first + q < maps; ++q)
            out[((long long)(first + q) * L + theta) * m * n + k] = sums[q];
    }
}

// total[p, f] += (h[p, f] + conj h[p, -f]) / 2, h[p, f] the sum over theta of wavelets[theta, f] * gradient[p, theta, f].
// A thread does a frequency k of the coarse half-plane and its aliases f. Those in the half of the fine plane that is
// not stored stand for -f, but where k has its opposite in the half-plane too.
extern "C" __global__ void product_adjoint(
    const Pair* gradient, const REAL* wavelets, const unsigned char* support, Pair* total,
    int maps, int M, int N, int m, int n, int tiles, int L, int step)
{
    const int tile = blockIdx.x % tiles, first = blockIdx.x / tiles * MAPS;
    const int k = tile * TILE + threadIdx.x, wide = n / 2 + 1, half = N / 2 + 1;
    if (k >= m * wide) return;
    const int row = k / wide, col = k % wide;
    const int here = row * n + col, opposite = (m - row) % m * n + (n - col) % n;
    for (int alias = 0; alias < step * step; ++alias) {
        const int f = row + alias / step * m, g = col + alias % step * n;
        const int minus_f = (M - f) % M, minus_g = (N - g) % N;
        const bool direct = g <= N / 2;
        if (!direct && (col == 0 || 2 * col == n)) continue;
        Pair sums[MAPS] = {};
        for (int theta = 0; theta < L; ++theta) {
            if (!support[(theta * step * step + alias) * tiles + tile]) continue;
            const REAL v = wavelets[((long long)theta * M + f) * N + g];
            const REAL w = wavelets[((long long)theta * M + minus_f) * N + minus_g];
            for (int q = 0; q < MAPS && first + q < maps; ++q) {
                const Pair* answers = gradient + ((long long)(first + q) * L + theta) * m * n;
                const Pair a = answers[here], b = answers[opposite];
                sums[q].re += v * a.re + w * b.re;
                sums[q].im += v * a.im - w * b.im;
            }
        }
        const int at = direct ? f * half + g : minus_f * half + minus_g;
        for (int q = 0; q < MAPS && first + q < maps; ++q) {
            Pair* target = total + (long long)(first + q) * M * half + at;
            target->re += sums[q].re / 2;
            target->im += (direct ? sums[q].im : -sums[q].im) / 2;
        }
    }
}

extern "C" __global__ void modulus(const Pair* pairs, REAL* out, long long size)
{
    const long long e = (long long)blockIdx.x * TILE + threadIdx.x;
    if (e < size) out[e] = modulus_of(pairs[e]);
}

// out = z / |z| * gradient, 0 where z is.
extern "C" __global__ void modulus_adjoint(const Pair* pairs, const REAL* gradient, Pair* out, long long size)
{
    const long long e = (long long)blockIdx.x * TILE + threadIdx.x;
    if (e >= size) return;
    const Pair z = pairs[e];
    const REAL modulus = modulus_of(z), factor = modulus == 0 ? 0 : gradient[e] / modulus;
    out[e] = {factor * z.re, factor * z.im};
}

// The rectified parts of each angle's answers and of their opposites, without the border of h x w pixels.
extern "C" __global__ void phases(const Pair* pairs, REAL* out, long long all, long long stride, int L, int h, int w)
{
    const long long e = (long long)blockIdx.x * TILE + threadIdx.x;
    if (e >= all) return;
    const int plane = h * w, pixel = (int)(e % plane), angle = (int)(e / plane % L);
    const long long image = e / plane / L;
    const Pair z = pairs[((image * L + angle) * (h + 2) + pixel / w + 1) * (w + 2) + pixel % w + 1];
    REAL* target = out + image * stride + 4LL * angle * plane + pixel;
    target[0] = z.re <= 0 ? 0 : z.re;
    target[plane] = z.im <= 0 ? 0 : z.im;
    target[2 * plane] = z.re >= 0 ? 0 : -z.re;
    target[3 * plane] = z.im >= 0 ? 0 : -z.im;
}

extern "C" __global__ void phases_adjoint(
    const Pair* pairs, const REAL* gradient, Pair* out, long long all, long long stride, int L, int h, int w)
{
    const long long e = (long long)blockIdx.x * TILE + threadIdx.x;
    if (e >= all) return;
    const int padded = (h + 2) * (w + 2), angle = (int)(e / padded % L), plane = h * w;
    const int row = (int)(e % padded) / (w + 2) - 1, col = (int)(e % padded) % (w + 2) - 1;
    Pair back = {0, 0};
    if (row >= 0 && row < h && col >= 0 && col < w) {
        const Pair z = pairs[e];
        const REAL* source = gradient + e / padded / L * stride + 4LL * angle * plane + row * w + col;
        back.re = z.re > 0 ? source[0] : z.re < 0 ? -source[2 * plane] : 0;
        back.im = z.im > 0 ? source[plane] : z.im < 0 ? -source[3 * plane] : 0;
    }
    out[e] = back;
}
