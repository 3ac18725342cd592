// One image per lane: every number below is a vector that holds the same pixel of LANES images.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#if defined(__AVX512F__) || defined(__AVX2__) || defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif

namespace sepconc {

typedef float V __attribute__((vector_size(4 * LANES)));

struct C {
    V re, im;
};

inline V zero() { return V{}; }

inline V sqrt(V a) {
#if defined(__AVX512F__)
    return (V)_mm512_sqrt_ps((__m512)a);
#elif defined(__AVX2__)
    return (V)_mm256_sqrt_ps((__m256)a);
#elif defined(__SSE2__)
    return (V)_mm_sqrt_ps((__m128)a);
#else
    V r;
    for (int lane = 0; lane < LANES; ++lane) r[lane] = __builtin_sqrtf(a[lane]);
    return r;
#endif
}

inline V modulus(C z) { return sqrt(z.re * z.re + z.im * z.im); }

inline V positive_part(V a) {  // NaN stays NaN
    const V none = zero();
    return a < none ? none : a;
}

inline C operator+(C a, C b) { return {a.re + b.re, a.im + b.im}; }
inline C operator-(C a, C b) { return {a.re - b.re, a.im - b.im}; }
inline C operator*(float s, C a) { return {s * a.re, s * a.im}; }

constexpr size_t HUGE_PAGE = size_t(1) << 21;

// Ask for large pages: fresh memory is then mapped in few faults, and columns of a large map touch few pages.
inline void ask_for_huge_pages(void* start, size_t bytes) {
#if defined(MADV_HUGEPAGE)
    const uintptr_t first = (reinterpret_cast<uintptr_t>(start) + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    const uintptr_t end = (reinterpret_cast<uintptr_t>(start) + bytes) / HUGE_PAGE * HUGE_PAGE;
    if (end > first) madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE);
#else
    (void)start, (void)bytes;
#endif
}

// Aligned memory that isn't initialised. Large blocks are mappings of their own, with large pages, apart from the heap.
inline void* allocate(size_t bytes) {
#if defined(MADV_HUGEPAGE)
    if (bytes >= HUGE_PAGE) {
        void* start = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (start == MAP_FAILED) throw std::bad_alloc();
        ask_for_huge_pages(start, bytes);
        return start;
    }
#endif
    void* start = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!start) throw std::bad_alloc();
    return start;
}

inline void release(void* start, size_t bytes) {
#if defined(MADV_HUGEPAGE)
    if (bytes >= HUGE_PAGE) {
        munmap(start, bytes);
        return;
    }
#endif
    std::free(start);
}

// A block of such memory; it grows and never shrinks.
template <typename T>
class Block {
public:
    Block() = default;
    explicit Block(size_t count) { reserve(count); }
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;
    Block(Block&& other) noexcept : data_(other.data_), count_(other.count_) {
        other.data_ = nullptr;
        other.count_ = 0;
    }
    ~Block() { clear(); }

    T* reserve(size_t count) {
        if (count > count_) {
            clear();
            data_ = static_cast<T*>(allocate(count * sizeof(T)));
            count_ = count;
        }
        return data_;
    }
    T* data() { return data_; }
    T& operator[](size_t i) { return data_[i]; }

private:
    void clear() {
        if (data_) release(data_, count_ * sizeof(T));
        data_ = nullptr;
        count_ = 0;
    }

    T* data_ = nullptr;
    size_t count_ = 0;
};

}  // namespace sepconc
