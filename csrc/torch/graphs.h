// Graphs as tensors: the arguments of the searches are checked here, their results become tensors.
//
// Knows torch, not Python. Every function reads tensors on the CPU and throws a ValueError for what
// it cannot use.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <tuple>

namespace ithaca {

using FourTensors = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
using FiveTensors = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

// starts int64 [graphs + 1], edges int64 [2, edges] -> first int64 [cells + 1], vertex int32,
// owner int64 [graphs + 1], reach int32 [graphs]; see Cells.
FourTensors chordless_cycles(const at::Tensor& starts, const at::Tensor& edges,
                             std::int64_t longest, std::int64_t budget, std::int64_t threads);
FourTensors induced_paths(const at::Tensor& starts, const at::Tensor& edges, std::int64_t longest,
                          std::int64_t budget, std::int64_t threads);

// types int64 [edges] or none -> first int64 [vertices + 1], other int32 [pairs], row int32
// [pairs], table int32 [rows, columns], reach int32 [graphs, 2]; see Profiles.
FiveTensors chordless_profile(const at::Tensor& starts, const at::Tensor& edges,
                              const std::optional<at::Tensor>& types, std::int64_t edge_types,
                              std::int64_t path, std::int64_t cycle, std::int64_t hops,
                              std::int64_t budget, std::int64_t threads);

// out[s] = sum over i in first[s]..first[s + 1] of table[row[i]] * values[other[i]], in order.
// table [rows, dim], values [n, dim], both fp32 or fp64; first int64 [segments + 1], other and row
// int32.
at::Tensor segment_sum(const at::Tensor& table, const at::Tensor& values, const at::Tensor& first,
                       const at::Tensor& other, const at::Tensor& row);
// Its gradient with respect to the table, from that of out.
at::Tensor segment_sum_table(const at::Tensor& grad, const at::Tensor& values,
                             const at::Tensor& first, const at::Tensor& other,
                             const at::Tensor& row, std::int64_t rows);

}  // namespace ithaca
