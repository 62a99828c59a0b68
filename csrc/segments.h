// Sums of products over sorted segments, and their gradients: one fixed order of additions, no
// atomics, nothing of the size members x dim in memory.
//
// Knows neither Python nor torch.
#pragma once

#include <cstdint>

namespace ithaca {

// Members first[s]..first[s + 1] of segment s: pairs of a value and a row of a table.
struct Members {
  const std::int64_t* first;
  std::int64_t segments;
  const std::int32_t* other;
  const std::int32_t* row;
};

// sums[s] += sum of table[row] * values[other] over the members of s; [segments, dim].
void sum_segments(const Members& members, const float* table, const float* values,
                  std::int64_t dim, float* sums);
void sum_segments(const Members& members, const double* table, const double* values,
                  std::int64_t dim, double* sums);

// sums[row] += grad[s] * values[other] for all members; [rows, dim].
void sum_rows(const Members& members, const float* grad, const float* values, std::int64_t dim,
              float* sums);
void sum_rows(const Members& members, const double* grad, const double* values, std::int64_t dim,
              double* sums);

}  // namespace ithaca
