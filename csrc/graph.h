// A batch of simple undirected graphs as sorted neighbour lists, and sets of vertices as bits.
//
// Knows neither Python nor torch.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace ithaca {

// What is wrong with a graph, in words for its user.
class GraphError : public std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// One graph of a batch: vertices 0..size-1, the neighbours of v ascending.
struct Graph {
  const std::int64_t* first;      // [size + 1], places in `neighbour`
  const std::int32_t* neighbour;  // local ids
  const std::int32_t* type;       // of each edge, beside `neighbour`
  std::int32_t size;

  const std::int32_t* begin(std::int32_t v) const { return neighbour + first[v]; }
  const std::int32_t* end(std::int32_t v) const { return neighbour + first[v + 1]; }
  std::int64_t degree(std::int32_t v) const { return first[v + 1] - first[v]; }
};

// Graphs behind each other; vertices of the input are numbered through the whole batch.
class GraphBatch {
 public:
  // `starts` [count + 1]: the first vertex of each graph, and the number of all. `from` and `to`
  // [edges]: each edge once, in either direction. `types` [edges]: at least 0, or null for none.
  // Throws GraphError: starts that fall, an edge twice, a loop, an edge between two graphs.
  GraphBatch(const std::int64_t* starts, std::int64_t count, const std::int64_t* from,
             const std::int64_t* to, const std::int64_t* types, std::int64_t edges);

  std::int64_t count() const { return static_cast<std::int64_t>(starts_.size()) - 1; }
  std::int64_t start(std::int64_t graph) const { return starts_[graph]; }
  Graph graph(std::int64_t number) const;
  std::int32_t edge_types() const { return edge_types_; }

 private:
  void sort_and_check();

  std::vector<std::int64_t> starts_, first_;
  std::vector<std::int32_t> neighbour_, type_;
  std::int32_t edge_types_ = 1;
};

// A set of vertices of a graph with at most 64 * kWords of them.
template <int kWords>
struct Bits {
  std::uint64_t word[kWords] = {};

  void add(std::int32_t v) { word[v >> 6] |= std::uint64_t{1} << (v & 63); }
  void remove(std::int32_t v) { word[v >> 6] &= ~(std::uint64_t{1} << (v & 63)); }
  bool has(std::int32_t v) const { return (word[v >> 6] >> (v & 63)) & 1; }
  bool any() const {
    std::uint64_t all = 0;
    for (int i = 0; i < kWords; ++i) all |= word[i];
    return all != 0;
  }
  std::int64_t size() const {
    std::int64_t sum = 0;
    for (int i = 0; i < kWords; ++i) sum += std::popcount(word[i]);
    return sum;
  }
  Bits& operator|=(const Bits& other) {
    for (int i = 0; i < kWords; ++i) word[i] |= other.word[i];
    return *this;
  }
  friend Bits operator|(Bits a, const Bits& b) { return a |= b; }
  friend Bits operator&(Bits a, const Bits& b) {
    for (int i = 0; i < kWords; ++i) a.word[i] &= b.word[i];
    return a;
  }
  // What is in `a` and not in `b`.
  friend Bits operator-(Bits a, const Bits& b) {
    for (int i = 0; i < kWords; ++i) a.word[i] &= ~b.word[i];
    return a;
  }
  // Calls visit(v) for all members, ascending.
  template <class Visit>
  void each(Visit&& visit) const {
    for (int i = 0; i < kWords; ++i) {
      for (std::uint64_t left = word[i]; left != 0; left &= left - 1) {
        visit(static_cast<std::int32_t>(64 * i + std::countr_zero(left)));
      }
    }
  }
};

}  // namespace ithaca
