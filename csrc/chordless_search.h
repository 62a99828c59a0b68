// Depth-first searches for induced paths and chordless cycles. A path is extended by vertices that
// touch none of its earlier ones, so what is found has no chord by construction.
//
// Both classes have the same four members:
//   paths(v, longest, visit)      visit(path, length): every induced path v = path[0]..path[length]
//   cycles(longest, visit)        visit(path, length): every chordless cycle once, at its smallest
//                                 vertex path[0], with path[1] < path[length - 1]
//   count_paths(longest, cap)     induced paths from all vertices, each in both directions
//   count_prefixes(longest, cap)  induced paths that a search for cycles follows when it starts at
//                                 every vertex: depends on the graph, not on its labels
// The counts stop soon after they pass `cap`.
//
// Knows neither Python nor torch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <vector>

#include "graph.h"

namespace ithaca {

inline constexpr int kLongest = 64;  // of paths and cycles

// For graphs of at most 64 * kWords vertices: sets of vertices are words.
template <int kWords>
class BitSearch {
  using Set = Bits<kWords>;

 public:
  explicit BitSearch(const Graph& graph) : size_(graph.size) {
    for (std::int32_t v = 0; v < size_; ++v) {
      Set around;
      for (const std::int32_t* w = graph.begin(v); w != graph.end(v); ++w) around.add(*w);
      near_[v] = around;
    }
  }

  template <class Visit>
  void paths(std::int32_t v, int longest, Visit&& visit) {
    if (longest < 1) return;
    path_[0] = v;
    Set start;
    start.add(v);
    extend_path(0, start, longest, visit);
  }

  template <class Visit>
  void cycles(int longest, Visit&& visit) {
    if (longest < 3) return;
    const Set all = core();
    alive_ = all;
    all.each([&](std::int32_t r) {
      alive_.remove(r);
      root_ = near_[r] & alive_;
      if (root_.size() < 2) return;
      spread(longest);
      path_[0] = r;
      later_ = root_;
      root_.each([&](std::int32_t first) {
        later_.remove(first);
        if (!later_.any()) return;
        path_[1] = first;
        extend_cycle(1, Set{}, longest, visit);
      });
    });
  }

  std::int64_t count_paths(int longest, std::int64_t cap) {
    begin_count(cap);
    for (std::int32_t v = 0; v < size_ && longest > 0 && counted_ <= cap_; ++v) {
      path_[0] = v;
      Set start;
      start.add(v);
      count_path(0, start, longest);
    }
    return counted_;
  }

  std::int64_t count_prefixes(int longest, std::int64_t cap) {
    begin_count(cap);
    if (longest < 3) return 0;
    const Set all = core();
    all.each([&](std::int32_t r) {
      if (counted_ > cap_) return;
      alive_ = all;
      alive_.remove(r);
      root_ = near_[r] & alive_;
      counted_ += root_.size();
      spread(longest);
      root_.each([&](std::int32_t first) {
        path_[1] = first;
        count_prefix(1, Set{}, longest);
      });
    });
    return counted_;
  }

 private:
  // What is left when vertices with fewer than two neighbours are taken away, again and again.
  Set core() const {
    Set left, check;
    for (std::int32_t v = 0; v < size_; ++v) left.add(v);
    for (check = left; check.any();) {
      Set touched;
      check.each([&](std::int32_t v) {
        if ((near_[v] & left).size() < 2) {
          left.remove(v);
          touched |= near_[v];
        }
      });
      check = touched & left;
    }
    return left;
  }

  // within_[d]: what is alive and at most d steps from the root; nothing on a cycle of the longest
  // length is further from it than half of that.
  void spread(int longest) {
    Set reached = root_, border = root_;
    within_[0] = Set{};
    within_[1] = root_;
    for (int d = 2; d <= longest; ++d) {
      if (d <= longest / 2 && border.any()) {
        Set next;
        border.each([&](std::int32_t v) { next |= near_[v]; });
        border = (next & alive_) - reached;
        reached |= border;
      }
      within_[d] = reached;
    }
  }

  template <class Visit>
  void extend_path(int length, const Set& taken, int longest, Visit& visit) {
    const std::int32_t end = path_[length];
    const Set next = near_[end] - taken;
    if (length + 1 == longest) {
      next.each([&](std::int32_t w) {
        path_[length + 1] = w;
        visit(path_, length + 1);
      });
      return;
    }
    const Set taken_then = taken | near_[end];
    next.each([&](std::int32_t w) {
      path_[length + 1] = w;
      visit(path_, length + 1);
      extend_path(length + 1, taken_then, longest, visit);
    });
  }

  template <class Visit>
  void extend_cycle(int length, const Set& taken, int longest, Visit& visit) {
    const std::int32_t end = path_[length];
    const Set next = (near_[end] & alive_) - taken;
    (next & later_).each([&](std::int32_t w) {
      path_[length + 1] = w;
      visit(path_, length + 2);
    });
    if (length + 3 > longest) return;
    const Set further = (next - root_) & within_[longest - length - 1];
    if (!further.any()) return;
    Set taken_then = taken | near_[end];
    taken_then.add(end);
    further.each([&](std::int32_t w) {
      path_[length + 1] = w;
      extend_cycle(length + 1, taken_then, longest, visit);
    });
  }

  void begin_count(std::int64_t cap) {
    cap_ = cap;
    counted_ = 0;
  }

  void count_path(int length, const Set& taken, int longest) {
    const Set next = near_[path_[length]] - taken;
    counted_ += next.size();
    if (length + 1 == longest || counted_ > cap_) return;
    const Set taken_then = taken | near_[path_[length]];
    next.each([&](std::int32_t w) {
      path_[length + 1] = w;
      count_path(length + 1, taken_then, longest);
    });
  }

  void count_prefix(int length, const Set& taken, int longest) {
    if (length + 3 > longest || counted_ > cap_) return;
    const std::int32_t end = path_[length];
    const Set further =
        (((near_[end] & alive_) - taken) - root_) & within_[longest - length - 1];
    counted_ += further.size();
    if (length + 4 > longest) return;
    Set taken_then = taken | near_[end];
    taken_then.add(end);
    further.each([&](std::int32_t w) {
      path_[length + 1] = w;
      count_prefix(length + 1, taken_then, longest);
    });
  }

  std::int32_t size_;
  Set near_[64 * kWords];
  Set alive_, root_, later_, within_[kLongest + 1];
  std::int32_t path_[kLongest + 1];
  std::int64_t cap_ = 0, counted_ = 0;
};

// For graphs of any size: how many vertices of the path each vertex touches is counted.
class ListSearch {
 public:
  explicit ListSearch(const Graph& graph)
      : graph_(graph), touched_(graph.size), distance_(graph.size, -1), alive_(graph.size),
        later_(graph.size) {}

  template <class Visit>
  void paths(std::int32_t v, int longest, Visit&& visit) {
    if (longest < 1) return;
    path_[0] = v;
    ++touched_[v];
    extend_path(0, longest, visit);
    --touched_[v];
  }

  template <class Visit>
  void cycles(int longest, Visit&& visit) {
    if (longest < 3) return;
    peel();
    for (std::int32_t r = 0; r < graph_.size; ++r) {
      if (!alive_[r]) continue;
      alive_[r] = 0;
      const std::vector<std::int32_t> root = around(r);
      if (root.size() < 2) continue;
      spread(root, longest);
      path_[0] = r;
      for (const std::int32_t w : root) later_[w] = 1;
      for (const std::int32_t first : root) {
        later_[first] = 0;
        path_[1] = first;
        if (first != root.back()) extend_cycle(1, longest, visit);
      }
      forget();
    }
  }

  std::int64_t count_paths(int longest, std::int64_t cap) {
    std::int64_t counted = 0;
    for (std::int32_t v = 0; v < graph_.size && longest > 0 && counted <= cap; ++v) {
      path_[0] = v;
      ++touched_[v];
      count_path(0, longest, counted, cap);
      --touched_[v];
    }
    return counted;
  }

  std::int64_t count_prefixes(int longest, std::int64_t cap) {
    if (longest < 3) return 0;
    peel();
    std::int64_t counted = 0;
    for (std::int32_t r = 0; r < graph_.size && counted <= cap; ++r) {
      if (!alive_[r]) continue;
      alive_[r] = 0;
      const std::vector<std::int32_t> root = around(r);
      counted += static_cast<std::int64_t>(root.size());
      spread(root, longest);
      for (const std::int32_t first : root) {
        path_[1] = first;
        count_prefix(1, longest, counted, cap);
      }
      forget();
      alive_[r] = 1;
    }
    return counted;
  }

 private:
  void peel() {
    std::vector<std::int64_t> degree(graph_.size);
    std::vector<std::int32_t> gone;
    for (std::int32_t v = 0; v < graph_.size; ++v) {
      degree[v] = graph_.degree(v);
      alive_[v] = degree[v] >= 2;
      if (!alive_[v]) gone.push_back(v);
    }
    while (!gone.empty()) {
      const std::int32_t v = gone.back();
      gone.pop_back();
      for (const std::int32_t* w = graph_.begin(v); w != graph_.end(v); ++w) {
        if (alive_[*w] && --degree[*w] < 2) {
          alive_[*w] = 0;
          gone.push_back(*w);
        }
      }
    }
  }

  std::vector<std::int32_t> around(std::int32_t v) const {
    std::vector<std::int32_t> alive;
    std::copy_if(graph_.begin(v), graph_.end(v), std::back_inserter(alive),
                 [&](std::int32_t w) { return alive_[w] != 0; });
    return alive;
  }

  // Distances from the root, as far as half of the longest cycle.
  void spread(const std::vector<std::int32_t>& root, int longest) {
    reached_ = root;
    for (const std::int32_t v : root) distance_[v] = 1;
    for (std::size_t i = 0; i < reached_.size(); ++i) {
      const std::int32_t v = reached_[i];
      if (distance_[v] >= longest / 2) continue;
      for (const std::int32_t* w = graph_.begin(v); w != graph_.end(v); ++w) {
        if (alive_[*w] && distance_[*w] < 0) {
          distance_[*w] = distance_[v] + 1;
          reached_.push_back(*w);
        }
      }
    }
  }
  void forget() {
    for (const std::int32_t v : reached_) distance_[v] = -1;
  }

  void touch(std::int32_t v, int by) {
    touched_[v] += by;
    for (const std::int32_t* w = graph_.begin(v); w != graph_.end(v); ++w) touched_[*w] += by;
  }
  bool leads_on(std::int32_t w, int length, int longest) const {
    return alive_[w] && touched_[w] == 0 && distance_[w] > 1 &&
           distance_[w] <= longest - length - 1;
  }

  template <class Visit>
  void extend_path(int length, int longest, Visit& visit) {
    const std::int32_t end = path_[length];
    std::vector<std::int32_t> next;
    std::copy_if(graph_.begin(end), graph_.end(end), std::back_inserter(next),
                 [&](std::int32_t w) { return touched_[w] == 0; });
    touch(end, 1);
    for (const std::int32_t w : next) {
      path_[length + 1] = w;
      visit(path_, length + 1);
      if (length + 1 < longest) extend_path(length + 1, longest, visit);
    }
    touch(end, -1);
  }

  template <class Visit>
  void extend_cycle(int length, int longest, Visit& visit) {
    const std::int32_t end = path_[length];
    std::vector<std::int32_t> further;
    for (const std::int32_t* w = graph_.begin(end); w != graph_.end(end); ++w) {
      if (alive_[*w] && touched_[*w] == 0 && later_[*w]) {
        path_[length + 1] = *w;
        visit(path_, length + 2);
      }
      if (length + 3 <= longest && leads_on(*w, length, longest)) further.push_back(*w);
    }
    if (further.empty()) return;
    touch(end, 1);
    for (const std::int32_t w : further) {
      path_[length + 1] = w;
      extend_cycle(length + 1, longest, visit);
    }
    touch(end, -1);
  }

  void count_path(int length, int longest, std::int64_t& counted, std::int64_t cap) {
    const std::int32_t end = path_[length];
    std::vector<std::int32_t> next;
    std::copy_if(graph_.begin(end), graph_.end(end), std::back_inserter(next),
                 [&](std::int32_t w) { return touched_[w] == 0; });
    counted += static_cast<std::int64_t>(next.size());
    if (length + 1 == longest || counted > cap) return;
    touch(end, 1);
    for (const std::int32_t w : next) {
      path_[length + 1] = w;
      count_path(length + 1, longest, counted, cap);
    }
    touch(end, -1);
  }

  void count_prefix(int length, int longest, std::int64_t& counted, std::int64_t cap) {
    if (length + 3 > longest || counted > cap) return;
    const std::int32_t end = path_[length];
    std::vector<std::int32_t> further;
    std::copy_if(graph_.begin(end), graph_.end(end), std::back_inserter(further),
                 [&](std::int32_t w) { return leads_on(w, length, longest); });
    counted += static_cast<std::int64_t>(further.size());
    if (length + 4 > longest) return;
    touch(end, 1);
    for (const std::int32_t w : further) {
      path_[length + 1] = w;
      count_prefix(length + 1, longest, counted, cap);
    }
    touch(end, -1);
  }

  const Graph graph_;
  std::vector<std::int32_t> touched_, distance_, reached_;
  std::vector<char> alive_, later_;
  std::int32_t path_[kLongest + 1];
};

// Calls use(search) with the search that fits the size of the graph.
template <class Use>
void search(const Graph& graph, Use&& use) {
  if (graph.size <= 64) return use(BitSearch<1>(graph));
  if (graph.size <= 128) return use(BitSearch<2>(graph));
  if (graph.size <= 256) return use(BitSearch<4>(graph));
  if (graph.size <= 512) return use(BitSearch<8>(graph));
  return use(ListSearch(graph));
}

}  // namespace ithaca
