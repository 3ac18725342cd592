// Kernels of the two-dimensional transforms that hold whole lines; cuda_fft.h comes before this file. All maps lie one
// after another, and a block does LINES of all their rows or columns, so that only the last block has idle lines. LINES
// is a power of two, and so is ANGLES, up to LINES.

// LINES rows, of which `count` are there, through the inverse transform.
__device__ inline void answers_of(const Pair* rows, int count, Pair* lines, const Pair* roots)
{
#pragma unroll 4
    for (int e = threadIdx.x; e < LINES * LENGTH; e += THREADS) lines[e] = e < count * LENGTH ? rows[e] : Pair{0, 0};
    __syncthreads();
    transform<INVERSE, Rows, LENGTH, LINES>(lines, roots);
}

__device__ inline int rows_here(unsigned rows, unsigned first) { return rows - first < LINES ? rows - first : LINES; }

// Wavelet coefficients but for the transform along the rows: of each map's half spectrum (M, N / 2 + 1), M = LENGTH *
// step, the products with L wavelets (M, N), summed over the aliases of (LENGTH, n), and the inverse transform of the
// columns. out: (maps, L, LENGTH, n). Blocks: tiles of columns, times groups of angles, which go faster.
extern "C" __global__ void __launch_bounds__(THREADS) product_columns(
    const Pair* spectra, const float* wavelets, const Pair* roots, Pair* out, int maps, int N, int n, int L, int step)
{
    constexpr int WIDTH = LINES / ANGLES;
    __shared__ Pair lines[LINES * LENGTH], turns[LENGTH];
    const int groups = (L + ANGLES - 1) / ANGLES, M = LENGTH * step, half = N / 2 + 1;
    const int theta = blockIdx.x % groups * ANGLES, c = threadIdx.x % WIDTH;
    const unsigned column = blockIdx.x / groups * WIDTH + c, map = column / n, col = column % n;
    const bool there = column < (unsigned)maps * n;
    const Pair* spectrum = spectra + (long long)map * M * half;
    copy_roots(roots, turns);
#pragma unroll 4
    for (int i = threadIdx.x / WIDTH; i < LENGTH; i += THREADS / WIDTH) {
        Pair sums[ANGLES] = {};
        for (int alias = 0; there && alias < step * step; ++alias) {
            const int f = i + alias / step * LENGTH, g = col + alias % step * n;
            const bool mirrored = g > N / 2;
            Pair x = spectrum[mirrored ? (M - f) % M * half + N - g : f * half + g];
            if (mirrored) x.im = -x.im;
            const float* wavelet = wavelets + ((long long)theta * M + f) * N + g;
#pragma unroll
            for (int t = 0; t < ANGLES; ++t)
                if (theta + t < L) {
                    const float weight = wavelet[(long long)t * M * N];
                    sums[t].re += weight * x.re;
                    sums[t].im += weight * x.im;
                }
        }
#pragma unroll
        for (int t = 0; t < ANGLES; ++t) lines[Columns<LINES>::place(t * WIDTH + c, i)] = sums[t];
    }
    __syncthreads();
    transform<INVERSE, Columns<LINES>, LENGTH, LINES>(lines, turns);
    if (!there) return;
    for (int t = 0; t < ANGLES && theta + t < L; ++t) {
        Pair* target = out + ((long long)map * L + theta + t) * LENGTH * n + col;
#pragma unroll 4
        for (int i = threadIdx.x / WIDTH; i < LENGTH; i += THREADS / WIDTH)
            target[i * n] = lines[Columns<LINES>::place(t * WIDTH + c, i)];
    }
}

// From what product_columns left, rows of LENGTH: the inverse transform of the rows, the modulus, its low-pass along
// them without the first and the last sample, narrow: (rows, SHORT - 2), and, where spectra is not null, the half
// spectra of the moduli's rows, (rows, LENGTH / 2 + 1). Two real rows are one complex line; rows are even in number.
extern "C" __global__ void __launch_bounds__(THREADS) modulus_rows(
    const Pair* answers, const float* low_pass, const Pair* roots, float* narrow, Pair* spectra, unsigned rows)
{
    __shared__ Pair lines[LINES * LENGTH], turns[LENGTH];
    const unsigned first = blockIdx.x * LINES;
    const int count = rows_here(rows, first);
    copy_roots(roots, turns);
    answers_of(answers + (long long)first * LENGTH, count, lines, turns);
#pragma unroll 4
    for (int e = threadIdx.x; e < LINES / 2 * LENGTH; e += THREADS) {
        Pair* pair = lines + e / LENGTH * 2 * LENGTH + e % LENGTH;
        *pair = {hypotf(pair->re, pair->im), hypotf(pair[LENGTH].re, pair[LENGTH].im)};
    }
    __syncthreads();
    transform<FORWARD, Rows, LENGTH, LINES / 2, 2>(lines, turns);
    if (spectra) {
        constexpr int WIDE = LENGTH / 2 + 1;
        spectra += (long long)first * WIDE;
#pragma unroll 4
        for (int e = threadIdx.x; e < count / 2 * WIDE; e += THREADS) {
            const int line = e / WIDE * 2, k = e % WIDE;
            const Pair a = lines[Rows::place(line, k)], b = lines[Rows::place(line, (LENGTH - k) % LENGTH)];
            spectra[line * WIDE + k] = {(a.re + b.re) / 2, (a.im - b.im) / 2};
            spectra[(line + 1) * WIDE + k] = {(a.im + b.im) / 2, (b.re - a.re) / 2};
        }
        __syncthreads();
    }
    smooth<Rows, LINES / 2, 2>(lines, turns, low_pass);
    narrow += (long long)first * (SHORT - 2);
#pragma unroll 4
    for (int e = threadIdx.x; e < count * (SHORT - 2); e += THREADS) {
        const int row = e / (SHORT - 2), i = e % (SHORT - 2);
        const Pair z = lines[Rows::place(row / 2 * 2, i + 1)];
        narrow[e] = row % 2 ? z.im : z.re;
    }
}

// Two real columns of maps of width w as one complex line, that of a thread.
struct Columns2 {
    unsigned map, col;
    bool there, both;

    __device__ Columns2(int maps, int w)
    {
        const unsigned pairs = (w + 1) / 2, line = blockIdx.x * LINES + threadIdx.x % LINES;
        map = line / pairs;
        col = line % pairs * 2;
        there = map < (unsigned)maps;
        both = col + 1 < (unsigned)w;
    }

    // Where the columns begin in map (b, g, p) of B x G x P.
    __device__ long long among(int G, int P, long long b_stride, long long g_stride, long long p_stride) const
    {
        return map / P / G * b_stride + map / P % G * g_stride + map % P * p_stride + col;
    }

    // To lines of `count` numbers, of which `margin` at each end are zero.
    __device__ void load(const float* from, int w, int count, int margin, Pair* lines) const
    {
#pragma unroll 4
        for (int i = threadIdx.x / LINES; i < count; i += THREADS / LINES) {
            const float* at = from + (i - margin) * w;
            Pair z = {0, 0};
            if (there && i >= margin && i < count - margin) z = {at[0], both ? at[1] : 0};
            lines[Columns<LINES>::place(threadIdx.x % LINES, i)] = z;
        }
        __syncthreads();
    }

    // From lines of `count` numbers, without `margin` at each end.
    __device__ void store(const Pair* lines, int count, int margin, float* to, int w) const
    {
#pragma unroll 4
        for (int i = threadIdx.x / LINES; there && i < count - 2 * margin; i += THREADS / LINES) {
            const Pair z = lines[Columns<LINES>::place(threadIdx.x % LINES, i + margin)];
            to[i * w] = z.re;
            if (both) to[i * w + 1] = z.im;
        }
    }
};

// The low-pass along the columns of narrow maps (maps, LENGTH, w), without the first and the last sample: map (b, g, p)
// of B x G x P to out + b * b_stride + g * g_stride + p * p_stride, (SHORT - 2, w).
extern "C" __global__ void __launch_bounds__(THREADS) smooth_columns(
    const float* narrow, const float* low_pass, const Pair* roots, float* out, int maps, int w, int G, int P,
    long long b_stride, long long g_stride, long long p_stride)
{
    __shared__ Pair lines[LINES * LENGTH], turns[LENGTH];
    const Columns2 columns(maps, w);
    copy_roots(roots, turns);
    columns.load(narrow + (long long)columns.map * LENGTH * w + columns.col, w, LENGTH, 0, lines);
    transform<FORWARD, Columns<LINES>, LENGTH, LINES>(lines, turns);
    smooth<Columns<LINES>, LINES, 1>(lines, turns, low_pass);
    columns.store(lines, SHORT, 1, out + columns.among(G, P, b_stride, g_stride, p_stride), w);
}

// The transform of the columns of half spectra (maps, LENGTH, wide), in place.
extern "C" __global__ void __launch_bounds__(THREADS) spectrum_columns(
    Pair* spectra, const Pair* roots, int maps, int wide)
{
    __shared__ Pair lines[LINES * LENGTH], turns[LENGTH];
    const unsigned line = blockIdx.x * LINES + threadIdx.x % LINES;
    const bool there = line < (unsigned)maps * wide;
    copy_roots(roots, turns);
    spectra += (long long)(line / wide) * LENGTH * wide + line % wide;
#pragma unroll 4
    for (int i = threadIdx.x / LINES; i < LENGTH; i += THREADS / LINES)
        lines[Columns<LINES>::place(threadIdx.x % LINES, i)] = there ? spectra[i * wide] : Pair{0, 0};
    __syncthreads();
    transform<FORWARD, Columns<LINES>, LENGTH, LINES>(lines, turns);
#pragma unroll 4
    for (int i = threadIdx.x / LINES; there && i < LENGTH; i += THREADS / LINES)
        spectra[i * wide] = lines[Columns<LINES>::place(threadIdx.x % LINES, i)];
}

// The adjoint of smooth_columns: gradient of its out, as it is there, to narrow maps (maps, LENGTH, w).
extern "C" __global__ void __launch_bounds__(THREADS) spread_columns(
    const float* gradient, const float* low_pass, const Pair* roots, float* narrow, int maps, int w, int G, int P,
    long long b_stride, long long g_stride, long long p_stride)
{
    __shared__ Pair lines[LINES * LENGTH], turns[LENGTH];
    const Columns2 columns(maps, w);
    copy_roots(roots, turns);
    columns.load(gradient + columns.among(G, P, b_stride, g_stride, p_stride), w, SHORT, 1, lines);
    spread<Columns<LINES>, LINES>(lines, turns, low_pass);
    transform<INVERSE, Columns<LINES>, LENGTH, LINES>(lines, turns);
    columns.store(lines, LENGTH, 0, narrow + (long long)columns.map * LENGTH * w + columns.col, w);
}

// The gradient of what product_columns left, where modulus_rows took it: that of the moduli comes from narrow, and, if
// above is not null, from the next order, as the real part of what is in the Fourier domain along the rows only, (rows,
// LENGTH). Two real rows are one complex line.
extern "C" __global__ void __launch_bounds__(THREADS) modulus_rows_adjoint(
    const Pair* answers, const float* narrow, const Pair* above, const float* low_pass, const Pair* roots, Pair* out,
    unsigned rows)
{
    constexpr int EACH = (LINES * LENGTH + THREADS - 1) / THREADS;
    __shared__ Pair lines[LINES * LENGTH], turns[LENGTH];
    const unsigned first = blockIdx.x * LINES;
    const int count = rows_here(rows, first);
    copy_roots(roots, turns);
    narrow += (long long)first * (SHORT - 2);
#pragma unroll 4
    for (int e = threadIdx.x; e < LINES / 2 * SHORT; e += THREADS) {
        const int pair = e / SHORT, i = e % SHORT;
        const float* source = narrow + pair * 2 * (SHORT - 2) + i - 1;
        Pair z = {0, 0};
        if (2 * pair < count && i > 0 && i < SHORT - 1) z = {source[0], source[SHORT - 2]};
        lines[Rows::place(pair, i)] = z;
    }
    __syncthreads();
    spread<Rows, LINES / 2>(lines, turns, low_pass);
    if (above) {
        above += (long long)first * LENGTH;
#pragma unroll 4
        for (int e = threadIdx.x; e < count / 2 * LENGTH; e += THREADS) {
            const int k = e % LENGTH, minus = (LENGTH - k) % LENGTH;
            const Pair* row = above + e / LENGTH * 2 * LENGTH;
            const Pair a = row[k], b = row[minus], c = row[LENGTH + k], d = row[LENGTH + minus];
            lines[e] = lines[e] + Pair{(a.re + b.re - c.im + d.im) / 2, (a.im - b.im + c.re + d.re) / 2};
        }
        __syncthreads();
    }
    transform<INVERSE, Rows, LENGTH, LINES / 2>(lines, turns);
    float given[EACH];
#pragma unroll
    for (int e = 0; e < EACH; ++e) {
        const int mine = threadIdx.x + e * THREADS, at = mine < LINES * LENGTH ? mine : 0, line = at / LENGTH;
        const Pair pair = lines[Rows::place(line / 2, at % LENGTH)];
        given[e] = line % 2 ? pair.im : pair.re;
    }
    __syncthreads();
    answers_of(answers + (long long)first * LENGTH, count, lines, turns);
#pragma unroll
    for (int e = 0; e < EACH; ++e) {
        const int at = threadIdx.x + e * THREADS;
        if (at >= LINES * LENGTH) continue;
        const Pair z = lines[at];
        const float modulus = hypotf(z.re, z.im), factor = modulus == 0 ? 0 : given[e] / modulus;
        lines[at] = {factor * z.re, factor * z.im};
    }
    __syncthreads();
    transform<FORWARD, Rows, LENGTH, LINES>(lines, turns);
    out += (long long)first * LENGTH;
#pragma unroll 4
    for (int e = threadIdx.x; e < count * LENGTH; e += THREADS) out[e] = lines[e];
}

// Phase scattering from what product_columns left, rows of LENGTH of maps (b, L, m, LENGTH): the inverse transform of
// the rows, and the rectified parts of its numbers and of their opposites, without the border of the maps, to
// out + b * stride, (L, 4, m - 2, LENGTH - 2).
extern "C" __global__ void __launch_bounds__(THREADS) phases_rows(
    const Pair* answers, const Pair* roots, float* out, unsigned rows, int m, int L, long long stride)
{
    __shared__ Pair lines[LINES * LENGTH], turns[LENGTH];
    constexpr int WIDTH = LENGTH - 2;
    const unsigned first = blockIdx.x * LINES;
    const int count = rows_here(rows, first), plane = (m - 2) * WIDTH;
    copy_roots(roots, turns);
    answers_of(answers + (long long)first * LENGTH, count, lines, turns);
#pragma unroll 4
    for (int e = threadIdx.x; e < count * WIDTH; e += THREADS) {
        const unsigned row = first + e / WIDTH, map = row / m, i = row % m;
        if (i == 0 || i == m - 1) continue;
        const Pair z = lines[Rows::place(e / WIDTH, e % WIDTH + 1)];
        float* target = out + map / L * stride + 4LL * (map % L) * plane + (i - 1) * WIDTH + e % WIDTH;
        target[0] = z.re <= 0 ? 0 : z.re;
        target[plane] = z.im <= 0 ? 0 : z.im;
        target[2 * plane] = z.re >= 0 ? 0 : -z.re;
        target[3 * plane] = z.im >= 0 ? 0 : -z.im;
    }
}

// The gradient of what product_columns left, where phases_rows took it; the gradient of its out is as that is.
extern "C" __global__ void __launch_bounds__(THREADS) phases_rows_adjoint(
    const Pair* answers, const float* gradient, const Pair* roots, Pair* out, unsigned rows, int m, int L,
    long long stride)
{
    __shared__ Pair lines[LINES * LENGTH], turns[LENGTH];
    constexpr int WIDTH = LENGTH - 2;
    const unsigned first = blockIdx.x * LINES;
    const int count = rows_here(rows, first), plane = (m - 2) * WIDTH;
    copy_roots(roots, turns);
    answers_of(answers + (long long)first * LENGTH, count, lines, turns);
#pragma unroll 4
    for (int e = threadIdx.x; e < count * LENGTH; e += THREADS) {
        const unsigned row = first + e / LENGTH, map = row / m, i = row % m;
        const int k = e % LENGTH;
        Pair back = {0, 0};
        if (i > 0 && i < m - 1 && k > 0 && k < LENGTH - 1) {
            const Pair z = lines[e];
            const float* source = gradient + map / L * stride + 4LL * (map % L) * plane + (i - 1) * WIDTH + k - 1;
            back.re = z.re > 0 ? source[0] : z.re < 0 ? -source[2 * plane] : 0;
            back.im = z.im > 0 ? source[plane] : z.im < 0 ? -source[3 * plane] : 0;
        }
        lines[e] = back;
    }
    __syncthreads();
    transform<FORWARD, Rows, LENGTH, LINES>(lines, turns);
    out += (long long)first * LENGTH;
#pragma unroll 4
    for (int e = threadIdx.x; e < count * LENGTH; e += THREADS) out[e] = lines[e];
}
