// Fourier transforms of lines in the shared memory of a block of threads, for CUDA kernels that do what is around them
// too: cuda_lines.h and cuda_product_adjoint.h follow this file when engines/cupy.py has them compiled.
//
// Lines are rows or columns of maps, of LENGTH complex numbers; subsampling leaves SHORT of them. A block has THREADS
// threads. `roots` are exp(2 pi i k / LENGTH). No transform divides by its length.

struct alignas(8) Pair { float re, im; };

__device__ inline Pair operator+(Pair a, Pair b) { return {a.re + b.re, a.im + b.im}; }
__device__ inline Pair operator-(Pair a, Pair b) { return {a.re - b.re, a.im - b.im}; }

enum Direction { FORWARD, INVERSE };

// Where number i of a line is, and which of the numbers that threads count are neighbours in memory.
struct Rows {  // one line after another
    __device__ static int place(int line, int i) { return line * LENGTH + i; }
    __device__ static int line(int e, int count, int length) { return e / length; }
    __device__ static int index(int e, int count, int length) { return e % length; }
};

template <int SIDE>
struct Columns {  // SIDE lines side by side
    __device__ static int place(int line, int i) { return i * SIDE + line; }
    __device__ static int line(int e, int count, int length) { return e % count; }
    __device__ static int index(int e, int count, int length) { return e / count; }
};

// z * root, or z * conj root
template <Direction D>
__device__ inline Pair turned(Pair z, Pair root)
{
    const float s = D == INVERSE ? root.im : -root.im;
    return {z.re * root.re - z.im * s, z.im * root.re + z.re * s};
}

// z * (-i) forward, z * i inverse
template <Direction D>
__device__ inline Pair quarter(Pair z) { return D == INVERSE ? Pair{-z.im, z.re} : Pair{z.im, -z.re}; }

__device__ constexpr int odd_part(int n) { return n % 2 ? n : odd_part(n / 2); }

__device__ constexpr int largest_factor(int odd, int candidate = 3)
{
    return odd < candidate * candidate ? odd
        : odd % candidate == 0 ? largest_factor(odd / candidate, candidate) : largest_factor(odd, candidate + 2);
}

// Odd radices go first: a first stage writes its numbers a radix apart, and that is free of bank conflicts for odd ones.
__device__ constexpr int radix_of(int n)
{
    return odd_part(n) > 1 ? largest_factor(odd_part(n)) : n % 8 == 0 ? 8 : n % 4 == 0 ? 4 : 2;
}

// A transform of R numbers in registers; `roots` are of a multiple of R, `step` of them make one turn / R.
template <Direction D, int R>
__device__ inline void butterfly(Pair (&a)[R], const Pair* roots, int step)
{
    if constexpr (R == 2) {
        const Pair difference = a[0] - a[1];
        a[0] = a[0] + a[1];
        a[1] = difference;
    } else if constexpr (R == 4) {
        const Pair even = a[0] + a[2], low = a[0] - a[2], odd = a[1] + a[3], high = quarter<D>(a[1] - a[3]);
        a[0] = even + odd;
        a[1] = low + high;
        a[2] = even - odd;
        a[3] = low - high;
    } else if constexpr (R == 8) {
        Pair even[4] = {a[0], a[2], a[4], a[6]}, odd[4] = {a[1], a[3], a[5], a[7]};
        butterfly<D>(even, roots, 2 * step);
        butterfly<D>(odd, roots, 2 * step);
        const float half = 0.70710678118654752440f;
        const Pair diagonal = odd[1] + quarter<D>(odd[1]), other = quarter<D>(odd[3]) - odd[3];
        odd[1] = {half * diagonal.re, half * diagonal.im};
        odd[2] = quarter<D>(odd[2]);
        odd[3] = {half * other.re, half * other.im};
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            a[k] = even[k] + odd[k];
            a[k + 4] = even[k] - odd[k];
        }
    } else {  // odd: the sums of a_q and a_{R-q} see cosines only, their differences sines only
        constexpr int HALF = R / 2;
        Pair sums[HALF], differences[HALF], turns[HALF];
        const Pair first = a[0];
#pragma unroll
        for (int q = 1; q <= HALF; ++q) {
            sums[q - 1] = a[q] + a[R - q];
            differences[q - 1] = quarter<D>(a[q] - a[R - q]);
            turns[q - 1] = roots[q * step];
            a[0] = a[0] + sums[q - 1];
        }
#pragma unroll
        for (int k = 1; k <= HALF; ++k) {
            Pair even = first, odd = {0, 0};
#pragma unroll
            for (int q = 1; q <= HALF; ++q) {
                const int turn = k * q % R;
                const Pair root = turns[(turn <= HALF ? turn : R - turn) - 1];
                const float sine = turn <= HALF ? root.im : -root.im;
                even.re += root.re * sums[q - 1].re;
                even.im += root.re * sums[q - 1].im;
                odd.re += sine * differences[q - 1].re;
                odd.im += sine * differences[q - 1].im;
            }
            a[k] = even + odd;
            a[R - k] = even - odd;
        }
    }
}

// Stockham's autosort scheme, in place: all threads read, then all write. Before this stage every line is a sequence of
// transforms of length DONE; after it, of length DONE * R. Lines are COUNT of those in memory, EVERY apart.
template <Direction D, class Layout, int N, int DONE, int R, int COUNT, int EVERY>
__device__ inline void stage(Pair* lines, const Pair* roots)
{
    constexpr int ALL = COUNT * (N / R), EACH = (ALL + THREADS - 1) / THREADS;
    Pair a[EACH][R];
#pragma unroll
    for (int e = 0; e < EACH; ++e) {  // a thread too many does the last one again, which costs fewer registers than none
        const int mine = threadIdx.x + e * THREADS, b = (e + 1) * THREADS <= ALL || mine < ALL ? mine : ALL - 1;
        const int line = Layout::line(b, COUNT, N / R) * EVERY, j = Layout::index(b, COUNT, N / R);
#pragma unroll
        for (int q = 0; q < R; ++q) {
            a[e][q] = lines[Layout::place(line, j + q * (N / R))];
            if (q > 0 && DONE > 1)
                a[e][q] = turned<D>(a[e][q], roots[q * (j % DONE) * (N / (DONE * R)) * (LENGTH / N)]);
        }
        butterfly<D>(a[e], roots, LENGTH / R);
    }
    __syncthreads();
#pragma unroll
    for (int e = 0; e < EACH; ++e) {
        const int b = threadIdx.x + e * THREADS;
        const int line = Layout::line(b, COUNT, N / R) * EVERY, j = Layout::index(b, COUNT, N / R);
        if ((e + 1) * THREADS > ALL && b >= ALL) continue;
#pragma unroll
        for (int q = 0; q < R; ++q)
            lines[Layout::place(line, j / DONE * DONE * R + j % DONE + q * DONE)] = a[e][q];
    }
    __syncthreads();
}

// The transform of length N, a divisor of LENGTH, of COUNT lines, EVERY apart; what was written before has to be there
// for all threads.
template <Direction D, class Layout, int N, int COUNT, int EVERY = 1, int DONE = 1>
__device__ inline void transform(Pair* lines, const Pair* roots)
{
    if constexpr (DONE < N) {
        constexpr int R = radix_of(N / DONE);
        stage<D, Layout, N, DONE, R, COUNT, EVERY>(lines, roots);
        transform<D, Layout, N, COUNT, EVERY, DONE * R>(lines, roots);
    }
}

// A low-pass of COUNT spectra, EVERY apart, subsampled from LENGTH to SHORT numbers.
template <class Layout, int COUNT, int EVERY>
__device__ inline void smooth(Pair* lines, const Pair* roots, const float* low_pass)
{
    for (int e = threadIdx.x; e < COUNT * SHORT; e += THREADS) {
        const int line = Layout::line(e, COUNT, SHORT) * EVERY, k = Layout::index(e, COUNT, SHORT);
        Pair sum = {0, 0};
        for (int f = k; f < LENGTH; f += SHORT) {
            const Pair z = lines[Layout::place(line, f)];
            sum.re += low_pass[f] * z.re;
            sum.im += low_pass[f] * z.im;
        }
        lines[Layout::place(line, k)] = sum;
    }
    __syncthreads();
    transform<INVERSE, Layout, SHORT, COUNT, EVERY>(lines, roots);
}

// Its adjoint but for the transform back: COUNT lines of SHORT numbers to spectra of LENGTH.
template <class Layout, int COUNT>
__device__ inline void spread(Pair* lines, const Pair* roots, const float* low_pass)
{
    transform<FORWARD, Layout, SHORT, COUNT>(lines, roots);
    for (int e = threadIdx.x; e < COUNT * SHORT; e += THREADS) {
        const int line = Layout::line(e, COUNT, SHORT), k = Layout::index(e, COUNT, SHORT);
        const Pair z = lines[Layout::place(line, k)];
        for (int f = k; f < LENGTH; f += SHORT)
            lines[Layout::place(line, f)] = {low_pass[f] * z.re, low_pass[f] * z.im};
    }
    __syncthreads();
}

__device__ inline void copy_roots(const Pair* roots, Pair* to)
{
    for (int k = threadIdx.x; k < LENGTH; k += THREADS) to[k] = roots[k];
}
