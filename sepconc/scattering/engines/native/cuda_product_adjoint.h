// A kernel of the backward pass that holds lines of two lengths; cuda_fft.h comes before this file. WIDTH, a power of two,
// is the number of neighbouring columns that a block does.

// The adjoint of product_columns, of maps (maps, L, SHORT, n) to those whose spectra were multiplied, (maps, LENGTH, N),
// their real part, with the columns transformed back and the rows not. It is added to out, if `add` says so.
extern "C" __global__ void __launch_bounds__(THREADS) product_columns_adjoint(
    const Pair* gradient, const float* wavelets, const Pair* roots, Pair* out, int maps, int N, int n, int L, int add)
{
    constexpr int STEP = LENGTH / SHORT;
    typedef Columns<ANGLES * WIDTH> Coarse;
    typedef Columns<STEP * WIDTH> Fine;
    __shared__ Pair coarse[ANGLES * WIDTH * SHORT], fine[STEP * WIDTH * LENGTH], turns[LENGTH];
    const int c = threadIdx.x % WIDTH;
    const unsigned column = blockIdx.x * WIDTH + c, map = column / n, col = column % n;
    const bool there = map < (unsigned)maps;
    copy_roots(roots, turns);
#pragma unroll 4
    for (int e = threadIdx.x; e < STEP * WIDTH * LENGTH; e += THREADS) fine[e] = {0, 0};
    for (int theta = 0; theta < L; theta += ANGLES) {
        const Pair* source = gradient + ((long long)map * L + theta) * SHORT * n + col;
#pragma unroll 4
        for (int i = threadIdx.x / WIDTH; i < ANGLES * SHORT; i += THREADS / WIDTH) {
            const int t = i / SHORT;
            coarse[Coarse::place(t * WIDTH + c, i % SHORT)] = there && theta + t < L ? source[i * n] : Pair{0, 0};
        }
        __syncthreads();
        transform<FORWARD, Coarse, SHORT, ANGLES * WIDTH>(coarse, turns);
#pragma unroll 4
        for (int i = threadIdx.x / WIDTH; there && i < STEP * LENGTH; i += THREADS / WIDTH) {
            const int f = i % LENGTH, alias = i / LENGTH;
            const float* wavelet = wavelets + ((long long)theta * LENGTH + f) * N + alias * n + col;
            Pair* sum = fine + Fine::place(alias * WIDTH + c, f);
            for (int t = 0; t < ANGLES && theta + t < L; ++t) {
                const float weight = wavelet[(long long)t * LENGTH * N];
                const Pair z = coarse[Coarse::place(t * WIDTH + c, f % SHORT)];
                sum->re += weight * z.re;
                sum->im += weight * z.im;
            }
        }
        __syncthreads();
    }
    transform<INVERSE, Fine, LENGTH, STEP * WIDTH>(fine, turns);
    if (!there) return;
    out += (long long)map * LENGTH * N + col;
#pragma unroll 4
    for (int i = threadIdx.x / WIDTH; i < STEP * LENGTH; i += THREADS / WIDTH) {
        const int f = i % LENGTH, alias = i / LENGTH;
        const Pair z = fine[Fine::place(alias * WIDTH + c, f)];
        Pair* target = out + f * N + alias * n;
        *target = add ? *target + z : z;
    }
}
