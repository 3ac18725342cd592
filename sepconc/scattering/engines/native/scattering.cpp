// The C interface of the fused engine. Functions give 0, 1 where memory ran out, or 2 for anything else that went wrong;
// they keep nothing between calls.
#include "phase2d.h"
#include "scattering2d.h"

using namespace sepconc;

namespace {

// What is larger than malloc's largest threshold has a mapping of its own; the rest of the heap is left as it is.
void ask_where_mapped_alone(float* out, size_t count) {
    if (count * sizeof(float) > (size_t(1) << 25)) ask_for_huge_pages(out, count * sizeof(float));
}

template <typename Work>
int guarded(Work work) {
    try {
        work();
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    } catch (...) {
        return 2;
    }
}

}  // namespace

extern "C" {

int sepconc_lanes() { return LANES; }

// Per row of an m × n filter, the shortest circular span of columns beyond which |values| ≤ floor.
void sepconc_spans(const float* values, int m, int n, float floor, int32_t* spans) {
    for (int k = 0; k < m; ++k) {
        const float* row = values + size_t(k) * n;
        int first = 0, length = 0, gap = -1, last = -1, start = -1;
        for (int l = 0; l < n; ++l) {
            if (std::fabs(row[l]) <= floor) continue;
            if (start < 0) start = l;
            if (last >= 0 && l - last > gap) gap = l - last, first = l;
            last = l;
        }
        if (start >= 0) {
            if (start + n - last > gap) gap = start + n - last, first = start;
            length = n - gap + 1;
        }
        spans[2 * k] = first;
        spans[2 * k + 1] = length;
    }
}

int sepconc_scatter2d(const int32_t* sizes, const float* const* psi, const int32_t* const* spans,
                      const float* const* kernels, const int32_t* row_of, const int32_t* column_of, int64_t batch,
                      int threads, const float* x, const float* gradient, float* out) {
    return guarded([&] {
        const Shape2D shape{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6], sizes[7], sizes[8]};
        const size_t outputs = gradient ? size_t(shape.H) * shape.W : size_t(shape.paths()) * shape.h * shape.w;
        ask_where_mapped_alone(out, size_t(batch) * outputs);
        const Scattering2D transform(shape, psi, spans, kernels, row_of, column_of);
        if (gradient)
            transform.backward(x, gradient, batch, out, threads);
        else
            transform.forward(x, batch, out, threads);
    });
}

int sepconc_phase2d(const int32_t* sizes, const float* const* psi, const int32_t* const* spans,
                    const float* const* kernels, const int32_t* row_of, const int32_t* column_of, int64_t batch,
                    int threads, const float* x, const float* gradient, float* out) {
    return guarded([&] {
        const ShapePhase shape{sizes[0], sizes[1], sizes[2], sizes[3], sizes[5], sizes[7], sizes[8]};
        const size_t outputs = gradient ? size_t(shape.H) * shape.W : size_t((1 + 4 * shape.L)) * shape.h * shape.w;
        ask_where_mapped_alone(out, size_t(batch) * outputs);
        const Phase2D transform(shape, psi[0], spans[0], kernels, row_of, column_of);
        if (gradient)
            transform.backward(x, gradient, batch, out, threads);
        else
            transform.forward(x, batch, out, threads);
    });
}
}
