#include "segments.h"

// The same operations in the same order, for wider vectors where the machine has them. Products are
// not fused with sums, so that all versions give the same bits.
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__SANITIZE_ADDRESS__)
#define ITHACA_VERSIONS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define ITHACA_VERSIONS
#endif

#pragma GCC optimize("fp-contract=off")

namespace ithaca {

namespace {

template <class Real>
[[gnu::always_inline]] inline void add_segments(const Members& members, const Real* table,
                                                const Real* values, std::int64_t dim, Real* sums) {
  for (std::int64_t s = 0; s < members.segments; ++s) {
    Real* __restrict sum = sums + s * dim;
    for (std::int64_t i = members.first[s]; i < members.first[s + 1]; ++i) {
      const Real* __restrict scale = table + std::int64_t{members.row[i]} * dim;
      const Real* __restrict value = values + std::int64_t{members.other[i]} * dim;
      for (std::int64_t k = 0; k < dim; ++k) sum[k] += scale[k] * value[k];
    }
  }
}

template <class Real>
[[gnu::always_inline]] inline void add_rows(const Members& members, const Real* grad,
                                            const Real* values, std::int64_t dim, Real* sums) {
  for (std::int64_t s = 0; s < members.segments; ++s) {
    const Real* __restrict from = grad + s * dim;
    for (std::int64_t i = members.first[s]; i < members.first[s + 1]; ++i) {
      Real* __restrict sum = sums + std::int64_t{members.row[i]} * dim;
      const Real* __restrict value = values + std::int64_t{members.other[i]} * dim;
      for (std::int64_t k = 0; k < dim; ++k) sum[k] += from[k] * value[k];
    }
  }
}

}  // namespace

ITHACA_VERSIONS void sum_segments(const Members& members, const float* table, const float* values,
                                  std::int64_t dim, float* sums) {
  add_segments(members, table, values, dim, sums);
}
ITHACA_VERSIONS void sum_segments(const Members& members, const double* table,
                                  const double* values, std::int64_t dim, double* sums) {
  add_segments(members, table, values, dim, sums);
}
ITHACA_VERSIONS void sum_rows(const Members& members, const float* grad, const float* values,
                              std::int64_t dim, float* sums) {
  add_rows(members, grad, values, dim, sums);
}
ITHACA_VERSIONS void sum_rows(const Members& members, const double* grad, const double* values,
                              std::int64_t dim, double* sums) {
  add_rows(members, grad, values, dim, sums);
}

}  // namespace ithaca
