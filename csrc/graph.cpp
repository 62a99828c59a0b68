#include "graph.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <tuple>
#include <utility>

namespace ithaca {

namespace {

constexpr std::int64_t kMostVertices = std::int64_t{1} << 31;

[[noreturn]] void fail(const std::string& what) { throw GraphError(what); }

std::string edge_name(std::int64_t u, std::int64_t v) {
  return std::to_string(u) + "-" + std::to_string(v);
}

}  // namespace

GraphBatch::GraphBatch(const std::int64_t* starts, std::int64_t count, const std::int64_t* from,
                       const std::int64_t* to, const std::int64_t* types, std::int64_t edges) {
  if (count < 0 || starts[0] != 0) fail("the starts of the graphs must begin with 0");
  for (std::int64_t g = 0; g < count; ++g) {
    if (starts[g + 1] < starts[g]) fail("the starts of the graphs must not fall");
    if (starts[g + 1] - starts[g] >= kMostVertices) fail("a graph has 2^31 vertices or more");
  }
  starts_.assign(starts, starts + count + 1);
  const std::int64_t vertices = starts_.back();

  std::vector<std::int64_t> owner(static_cast<std::size_t>(vertices));  // start of its graph
  for (std::int64_t g = 0; g < count; ++g) {
    std::fill(owner.begin() + starts[g], owner.begin() + starts[g + 1], starts[g]);
  }
  first_.assign(static_cast<std::size_t>(vertices) + 1, 0);
  for (std::int64_t e = 0; e < edges; ++e) {
    const std::int64_t u = from[e], v = to[e];
    if (u < 0 || v < 0 || u >= vertices || v >= vertices) {
      fail("the edge " + edge_name(u, v) + " leaves the " + std::to_string(vertices) +
           " vertices of the graphs; they are numbered from 0");
    }
    if (u == v) {
      fail("the vertex " + std::to_string(u) +
           " has an edge to itself; chordless structures are those of simple graphs, so take "
           "loops out");
    }
    if (owner[u] != owner[v]) fail("the edge " + edge_name(u, v) + " joins two graphs");
    if (types != nullptr) {
      if (types[e] < 0 || types[e] > 255) {
        fail("the edge " + edge_name(u, v) + " has the type " + std::to_string(types[e]) +
             "; types are 0..255");
      }
      edge_types_ = std::max(edge_types_, static_cast<std::int32_t>(types[e]) + 1);
    }
    ++first_[u + 1];
    ++first_[v + 1];
  }
  std::partial_sum(first_.begin(), first_.end(), first_.begin());
  neighbour_.resize(static_cast<std::size_t>(2 * edges));
  type_.assign(static_cast<std::size_t>(2 * edges), 0);
  std::vector<std::int64_t> place(first_.begin(), first_.end() - 1);
  for (std::int64_t e = 0; e < edges; ++e) {
    const std::int64_t u = from[e], v = to[e];
    if (types != nullptr) type_[place[u]] = type_[place[v]] = static_cast<std::int32_t>(types[e]);
    neighbour_[place[u]++] = static_cast<std::int32_t>(v - owner[u]);
    neighbour_[place[v]++] = static_cast<std::int32_t>(u - owner[u]);
  }
  sort_and_check();
}

void GraphBatch::sort_and_check() {
  std::vector<std::pair<std::int32_t, std::int32_t>> row;
  for (std::int64_t g = 0; g < count(); ++g) {
    for (std::int64_t v = starts_[g]; v < starts_[g + 1]; ++v) {
      const std::int64_t begin = first_[v], end = first_[v + 1];
      bool rising = true;
      for (std::int64_t i = begin + 1; i < end; ++i) rising &= neighbour_[i - 1] < neighbour_[i];
      if (rising) continue;
      if (!std::is_sorted(neighbour_.begin() + begin, neighbour_.begin() + end)) {
        row.clear();
        for (std::int64_t i = begin; i < end; ++i) row.emplace_back(neighbour_[i], type_[i]);
        std::sort(row.begin(), row.end());
        for (std::int64_t i = begin; i < end; ++i) {
          std::tie(neighbour_[i], type_[i]) = row[static_cast<std::size_t>(i - begin)];
        }
      }
      for (std::int64_t i = begin + 1; i < end; ++i) {
        if (neighbour_[i] == neighbour_[i - 1]) {
          fail("the edge " + edge_name(v, neighbour_[i] + starts_[g]) +
               " is there twice; give each edge once, in one direction");
        }
      }
    }
  }
}

Graph GraphBatch::graph(std::int64_t number) const {
  const std::int64_t start = starts_[number];
  return {first_.data() + start, neighbour_.data(), type_.data(),
          static_cast<std::int32_t>(starts_[number + 1] - start)};
}

}  // namespace ithaca
