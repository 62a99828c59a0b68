// Room in a few large pieces of memory that are slow to get: taken and given back piecemeal.
//
// Pinned host memory costs milliseconds an allocation, and torch rounds each up to a power of two.
// So regions are powers of two, as few as possible, got when they are needed and kept.
//
// Knows neither Python nor torch. All members may be called from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "disk_io.h"

namespace ithaca {

class Slab {
 public:
  // Memory for a region; null if there is none. It stays the source's.
  using Source = std::function<char*(std::int64_t size)>;

  // At most `limit` bytes, in regions of `region` bytes or more.
  Slab(std::int64_t limit, Source source, std::int64_t region = std::int64_t{64} << 20);

  // The smallest hole that fits; none (false) when the limit would be passed.
  Extent take(std::int64_t size);
  void give_back(Extent extent);
  char* at(Extent extent) const;
  // The number of the region that it lies in, in the order in which they were got.
  std::int64_t region_of(Extent extent) const { return extent.offset >> kRegionBits; }

  std::int64_t limit() const { return limit_; }
  std::int64_t used() const;
  // Bytes of all regions.
  std::int64_t held() const;
  std::int64_t regions() const;

  // What is taken is a multiple of this.
  static constexpr std::int64_t kGrain = 512;

 private:
  // An offset is the region's number and the place in it.
  static constexpr int kRegionBits = 44;

  bool grow(std::int64_t size);
  void add_hole(std::int64_t offset, std::int64_t size);
  void drop_hole(std::map<std::int64_t, std::int64_t>::iterator hole);

  const std::int64_t limit_, region_;
  const Source source_;
  mutable std::mutex mutex_;
  std::vector<char*> regions_;
  std::map<std::int64_t, std::int64_t> holes_;             // offset -> size
  std::set<std::pair<std::int64_t, std::int64_t>> by_size_;  // size, offset
  std::int64_t used_ = 0, held_ = 0;
  bool dry_ = false;  // the source had nothing
};

}  // namespace ithaca
