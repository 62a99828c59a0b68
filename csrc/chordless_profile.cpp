#include <algorithm>
#include <limits>
#include <numeric>

#include "blocks.h"
#include "chordless.h"
#include "chordless_search.h"
#include "hash.h"

namespace ithaca {

namespace {

// Each distinct row once, found by its hash.
class RowTable {
 public:
  RowTable() = default;
  explicit RowTable(std::int32_t columns) : columns_(columns), slots_(64, -1) {}

  std::int32_t number(const std::int32_t* row) {
    if (2 * (count_ + 1) > static_cast<std::int64_t>(slots_.size())) grow();
    std::size_t at = place(row);
    while (slots_[at] >= 0) {
      if (std::equal(row, row + columns_, this->row(slots_[at]))) return slots_[at];
      at = (at + 1) & (slots_.size() - 1);
    }
    if (count_ == std::numeric_limits<std::int32_t>::max()) {
      throw GraphError("there are 2^31 distinct profiles or more; give fewer graphs at a time");
    }
    slots_[at] = static_cast<std::int32_t>(count_);
    rows_.insert(rows_.end(), row, row + columns_);
    return static_cast<std::int32_t>(count_++);
  }
  const std::int32_t* row(std::int64_t number) const { return rows_.data() + number * columns_; }
  std::int64_t count() const { return count_; }

 private:
  std::size_t place(const std::int32_t* row) const {
    const auto bytes = static_cast<std::size_t>(columns_) * sizeof *row;
    return hash128(row, bytes, 0).low & (slots_.size() - 1);
  }
  void grow() {
    slots_.assign(2 * slots_.size(), -1);
    for (std::int64_t i = 0; i < count_; ++i) {
      std::size_t at = place(row(i));
      while (slots_[at] >= 0) at = (at + 1) & (slots_.size() - 1);
      slots_[at] = static_cast<std::int32_t>(i);
    }
  }

  std::int32_t columns_ = 0;
  std::int64_t count_ = 0;
  std::vector<std::int32_t> slots_, rows_;
};

struct Part {
  std::vector<std::int64_t> first;
  std::vector<std::int32_t> other, row;
  std::vector<Reach> reach;
  RowTable table;
};

// Counts for all pairs of one graph, one first vertex at a time.
class Counter {
 public:
  Counter(const Graph& graph, ProfileShape shape, std::int32_t start, Part& part)
      : graph_(graph), shape_(shape), start_(start), part_(part), slot_(graph.size, -1),
        distance_(graph.size, -1) {}

  template <class Search>
  void count(Search& found, Reach reach) {
    collect(found, reach.cycle);
    for (std::int32_t v = 0; v < graph_.size; ++v) {
      rows_.clear();
      members_.clear();
      count_distances(v);
      found.paths(v, reach.path, [&](const std::int32_t* path, int length) {
        ++at(path[length])[shape_.paths() + length - 1];
      });
      count_cycles(v);
      emit();
    }
  }

 private:
  std::int32_t* at(std::int32_t u) {
    if (slot_[u] < 0) {
      slot_[u] = static_cast<std::int32_t>(members_.size());
      members_.push_back(u);
      rows_.resize(members_.size() * static_cast<std::size_t>(shape_.columns()), 0);
      rows_[rows_.size() - static_cast<std::size_t>(shape_.columns())] = shape_.hops + 1;
    }
    return rows_.data() + static_cast<std::size_t>(slot_[u]) * shape_.columns();
  }

  // The cycles, and for each vertex the places where it lies on one.
  template <class Search>
  void collect(Search& found, int longest) {
    found.cycles(longest, [&](const std::int32_t* path, int length) {
      cycle_.insert(cycle_.end(), path, path + length);
      cycle_first_.push_back(static_cast<std::int64_t>(cycle_.size()));
    });
    place_first_.assign(static_cast<std::size_t>(graph_.size) + 1, 0);
    for (const std::int32_t v : cycle_) ++place_first_[v + 1];
    std::partial_sum(place_first_.begin(), place_first_.end(), place_first_.begin());
    std::vector<std::int64_t> next(place_first_.begin(), place_first_.end() - 1);
    place_.resize(cycle_.size());
    owner_.resize(cycle_.size());
    for (std::size_t c = 0; c + 1 < cycle_first_.size(); ++c) {
      for (std::int64_t i = cycle_first_[c]; i < cycle_first_[c + 1]; ++i) {
        const std::int64_t to = next[cycle_[i]]++;
        place_[to] = i;
        owner_[to] = static_cast<std::int64_t>(c);
      }
    }
  }

  void count_distances(std::int32_t v) {
    std::vector<std::int32_t>& queue = queue_;
    queue.assign(1, v);
    distance_[v] = 0;
    for (std::size_t i = 0; i < queue.size(); ++i) {
      const std::int32_t u = queue[i], d = distance_[u];
      if (d == shape_.hops) continue;
      for (const std::int32_t* w = graph_.begin(u); w != graph_.end(u); ++w) {
        if (distance_[*w] < 0) {
          distance_[*w] = d + 1;
          queue.push_back(*w);
        }
      }
    }
    for (const std::int32_t u : queue) {
      std::int32_t* row = at(u);
      row[0] = distance_[u];
      for (std::int64_t e = graph_.first[u]; e < graph_.first[u + 1]; ++e) {
        const std::int32_t d = distance_[graph_.neighbour[e]];
        if (d == row[0]) ++row[shape_.beside() + graph_.type[e]];
        if (d >= 0 && d == row[0] - 1) ++row[shape_.before() + graph_.type[e]];
      }
    }
    for (const std::int32_t u : queue) distance_[u] = -1;
  }

  void count_cycles(std::int32_t v) {
    for (std::int64_t p = place_first_[v]; p < place_first_[v + 1]; ++p) {
      const std::int64_t begin = cycle_first_[owner_[p]], end = cycle_first_[owner_[p] + 1];
      const auto length = static_cast<std::int32_t>(end - begin);
      const std::int32_t column = shape_.cycle_column(length, 0);
      for (std::int64_t i = begin; i < end; ++i) {
        const auto gap = static_cast<std::int32_t>(i < place_[p] ? place_[p] - i : i - place_[p]);
        ++at(cycle_[i])[column + std::min(gap, length - gap)];
      }
    }
  }

  void emit() {
    for (std::size_t i = 0; i < members_.size(); ++i) {
      slot_[members_[i]] = part_.table.number(rows_.data() + i * shape_.columns());
    }
    std::sort(members_.begin(), members_.end());
    for (const std::int32_t u : members_) {
      part_.other.push_back(u + start_);
      part_.row.push_back(slot_[u]);
      slot_[u] = -1;
    }
    part_.first.push_back(static_cast<std::int64_t>(part_.other.size()));
  }

  const Graph graph_;
  const ProfileShape shape_;
  const std::int32_t start_;
  Part& part_;
  std::vector<std::int32_t> slot_, distance_, members_, rows_, queue_;
  std::vector<std::int32_t> cycle_;
  std::vector<std::int64_t> cycle_first_{0}, place_first_, place_, owner_;
};

}  // namespace

std::int32_t ProfileShape::cycle_column(int length, int apart) const {
  std::int32_t column = cycles() + apart;
  for (int l = 3; l < length; ++l) column += l / 2 + 1;
  return column;
}

Profiles chordless_profiles(const GraphBatch& graphs, ProfileShape shape, std::int64_t budget,
                            int threads) {
  shape.edge_types = std::max(shape.edge_types, graphs.edge_types());
  const auto columns = static_cast<std::size_t>(shape.columns());
  std::vector<Part> parts = in_blocks<Part>(graphs.count(), threads, [&](Block block) {
    Part part;
    part.table = RowTable(shape.columns());
    for (std::int64_t g = block.begin; g < block.end; ++g) {
      const Graph graph = graphs.graph(g);
      part.reach.push_back(reach(graph, {shape.path, shape.cycle}, budget));
      Counter counter(graph, shape, static_cast<std::int32_t>(graphs.start(g)), part);
      search(graph, [&](auto&& found) { counter.count(found, part.reach.back()); });
    }
    return part;
  });

  // One table of all blocks, its rows ascending: no label and no order of graphs is left in it.
  RowTable merged(shape.columns());
  std::vector<std::vector<std::int32_t>> numbers;
  for (const Part& part : parts) {
    std::vector<std::int32_t>& known = numbers.emplace_back();
    for (std::int64_t i = 0; i < part.table.count(); ++i) {
      known.push_back(merged.number(part.table.row(i)));
    }
  }
  std::vector<std::int32_t> order(static_cast<std::size_t>(merged.count())), rank(order.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return std::lexicographical_compare(merged.row(a), merged.row(a) + columns, merged.row(b),
                                        merged.row(b) + columns);
  });
  Profiles all;
  all.shape = shape;
  all.table.reserve(order.size() * columns);
  for (std::size_t i = 0; i < order.size(); ++i) {
    rank[order[i]] = static_cast<std::int32_t>(i);
    all.table.insert(all.table.end(), merged.row(order[i]), merged.row(order[i]) + columns);
  }
  for (std::size_t p = 0; p < parts.size(); ++p) {
    Part& part = parts[p];
    const auto pairs = static_cast<std::int64_t>(all.other.size());
    for (const std::int64_t end : part.first) all.first.push_back(pairs + end);
    for (const std::int32_t row : part.row) all.row.push_back(rank[numbers[p][row]]);
    all.other.insert(all.other.end(), part.other.begin(), part.other.end());
    all.reach.insert(all.reach.end(), part.reach.begin(), part.reach.end());
    part = Part{};
  }
  return all;
}

}  // namespace ithaca
