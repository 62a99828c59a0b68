#include "graphs.h"

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../chordless.h"
#include "../chordless_search.h"
#include "../segments.h"

namespace ithaca {

namespace {

constexpr std::int64_t kMostBudget = (std::int64_t{1} << 31) - 1;
constexpr std::int64_t kMostHops = 1 << 30;

void check(const at::Tensor& tensor, at::ScalarType type, std::int64_t dims, const char* name) {
  TORCH_CHECK_VALUE(tensor.device().is_cpu() && tensor.scalar_type() == type &&
                        tensor.dim() == dims && tensor.is_contiguous(),
                    name, " must be a contiguous ", type, " tensor of ", dims,
                    " dimensions on the CPU; it is ", tensor.scalar_type(), " of sizes ",
                    tensor.sizes(), " on ", tensor.device());
}

void check_between(std::int64_t value, std::int64_t low, std::int64_t high, const char* name) {
  TORCH_CHECK_VALUE(low <= value && value <= high, name, " must be ", low, "..", high, ", not ",
                    value);
}

GraphBatch batch_of(const at::Tensor& starts, const at::Tensor& edges, const at::Tensor* types) {
  check(starts, at::kLong, 1, "starts");
  check(edges, at::kLong, 2, "edges");
  TORCH_CHECK_VALUE(starts.size(0) >= 1, "starts must hold the first vertex of every graph and, at "
                    "the end, the number of vertices; it is empty");
  TORCH_CHECK_VALUE(edges.size(0) == 2, "edges must have two rows, not ", edges.size(0));
  if (types != nullptr) {
    check(*types, at::kLong, 1, "types");
    TORCH_CHECK_VALUE(types->size(0) == edges.size(1), "there are ", types->size(0),
                      " types for ", edges.size(1), " edges");
  }
  const auto* ends = edges.const_data_ptr<std::int64_t>();
  const std::int64_t count = edges.size(1);
  try {
    return {starts.const_data_ptr<std::int64_t>(), starts.size(0) - 1, ends, ends + count,
            types == nullptr ? nullptr : types->const_data_ptr<std::int64_t>(), count};
  } catch (const GraphError& error) {
    TORCH_CHECK_VALUE(false, error.what());
  }
}

// The elements of a vector as a tensor that keeps it.
template <class Element>
at::Tensor tensor_of(std::vector<Element>&& elements, at::ScalarType type,
                     std::vector<std::int64_t> sizes) {
  if (elements.empty()) return at::empty(sizes, at::TensorOptions().dtype(type));
  auto* kept = new std::vector<Element>(std::move(elements));
  return at::from_blob(kept->data(), sizes, [kept](void*) { delete kept; },
                       at::TensorOptions().dtype(type));
}

template <class Element>
at::Tensor list_of(std::vector<Element>&& elements, at::ScalarType type) {
  const auto size = static_cast<std::int64_t>(elements.size());
  return tensor_of(std::move(elements), type, {size});
}

FourTensors tensors_of(Cells&& cells) {
  return {list_of(std::move(cells.first), at::kLong), list_of(std::move(cells.vertex), at::kInt),
          list_of(std::move(cells.owner), at::kLong), list_of(std::move(cells.reach), at::kInt)};
}

void check_search(std::int64_t longest, std::int64_t budget, std::int64_t threads) {
  check_between(longest, 0, kLongest - 1, "the longest length");
  check_between(budget, 0, kMostBudget, "budget");
  check_between(threads, 1, 1024, "threads");
}

void check_segments(const at::Tensor& one, const at::Tensor& values, const at::Tensor& first,
                    const at::Tensor& other, const at::Tensor& row) {
  check(one, values.scalar_type(), 2, "the table or gradient");
  check(values, values.scalar_type(), 2, "values");
  check(first, at::kLong, 1, "first");
  check(other, at::kInt, 1, "other");
  check(row, at::kInt, 1, "row");
  TORCH_CHECK_VALUE(other.size(0) == row.size(0) && one.size(1) == values.size(1) &&
                        first.size(0) >= 1,
                    "the sizes of a segment sum do not belong together: ", one.sizes(), ", ",
                    values.sizes(), ", ", other.sizes(), ", ", row.sizes());
  const auto* ends = first.const_data_ptr<std::int64_t>();
  TORCH_CHECK_VALUE(ends[0] == 0 && ends[first.size(0) - 1] == other.size(0),
                    "the segments do not cover the ", other.size(0), " members");
}

}  // namespace

FourTensors chordless_cycles(const at::Tensor& starts, const at::Tensor& edges,
                             std::int64_t longest, std::int64_t budget, std::int64_t threads) {
  check_search(longest, budget, threads);
  const GraphBatch graphs = batch_of(starts, edges, nullptr);
  return tensors_of(chordless_cycles(graphs, static_cast<int>(longest), budget,
                                     static_cast<int>(threads)));
}

FourTensors induced_paths(const at::Tensor& starts, const at::Tensor& edges, std::int64_t longest,
                          std::int64_t budget, std::int64_t threads) {
  check_search(longest, budget, threads);
  const GraphBatch graphs = batch_of(starts, edges, nullptr);
  return tensors_of(
      induced_paths(graphs, static_cast<int>(longest), budget, static_cast<int>(threads)));
}

FiveTensors chordless_profile(const at::Tensor& starts, const at::Tensor& edges,
                              const std::optional<at::Tensor>& types, std::int64_t edge_types,
                              std::int64_t path, std::int64_t cycle, std::int64_t hops,
                              std::int64_t budget, std::int64_t threads) {
  check_search(path, budget, threads);
  check_search(cycle, budget, threads);
  check_between(hops, 0, kMostHops, "hops");
  check_between(edge_types, 1, 256, "edge_types");
  const GraphBatch graphs = batch_of(starts, edges, types ? &*types : nullptr);
  TORCH_CHECK_VALUE(graphs.edge_types() <= edge_types, "an edge has the type ",
                    graphs.edge_types() - 1, ", but there are only ", edge_types, " edge types");
  const ProfileShape shape{static_cast<std::int32_t>(path), static_cast<std::int32_t>(cycle),
                           static_cast<std::int32_t>(hops), static_cast<std::int32_t>(edge_types)};
  Profiles found = chordless_profiles(graphs, shape, budget, static_cast<int>(threads));
  std::vector<std::int32_t> reached;
  for (const Reach& reach : found.reach) reached.insert(reached.end(), {reach.path, reach.cycle});
  const std::int64_t columns = found.shape.columns();
  const auto rows = static_cast<std::int64_t>(found.table.size()) / columns;
  return {list_of(std::move(found.first), at::kLong), list_of(std::move(found.other), at::kInt),
          list_of(std::move(found.row), at::kInt),
          tensor_of(std::move(found.table), at::kInt, {rows, columns}),
          tensor_of(std::move(reached), at::kInt, {graphs.count(), 2})};
}

at::Tensor segment_sum(const at::Tensor& table, const at::Tensor& values, const at::Tensor& first,
                       const at::Tensor& other, const at::Tensor& row) {
  check_segments(table, values, first, other, row);
  const std::int64_t dim = values.size(1), segments = first.size(0) - 1;
  at::Tensor sums = at::zeros({segments, dim}, values.options());
  const Members members{first.const_data_ptr<std::int64_t>(), segments,
                        other.const_data_ptr<std::int32_t>(), row.const_data_ptr<std::int32_t>()};
  AT_DISPATCH_FLOATING_TYPES(values.scalar_type(), "segment_sum", [&] {
    sum_segments(members, table.const_data_ptr<scalar_t>(), values.const_data_ptr<scalar_t>(), dim,
                 sums.mutable_data_ptr<scalar_t>());
  });
  return sums;
}

at::Tensor segment_sum_table(const at::Tensor& grad, const at::Tensor& values,
                             const at::Tensor& first, const at::Tensor& other,
                             const at::Tensor& row, std::int64_t rows) {
  check_segments(grad, values, first, other, row);
  const std::int64_t dim = values.size(1), segments = first.size(0) - 1;
  at::Tensor sums = at::zeros({rows, dim}, values.options());
  const Members members{first.const_data_ptr<std::int64_t>(), segments,
                        other.const_data_ptr<std::int32_t>(), row.const_data_ptr<std::int32_t>()};
  AT_DISPATCH_FLOATING_TYPES(values.scalar_type(), "segment_sum_table", [&] {
    sum_rows(members, grad.const_data_ptr<scalar_t>(), values.const_data_ptr<scalar_t>(), dim,
             sums.mutable_data_ptr<scalar_t>());
  });
  return sums;
}

}  // namespace ithaca
