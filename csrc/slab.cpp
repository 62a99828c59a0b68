#include "slab.h"

#include <algorithm>
#include <bit>
#include <iterator>

namespace ithaca {
namespace {

std::int64_t power_above(std::int64_t size) {
  return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(size)));
}

std::int64_t power_below(std::int64_t size) {
  return static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(size)));
}

}  // namespace

Slab::Slab(std::int64_t limit, Source source, std::int64_t region)
    : limit_(limit), region_(power_above(std::max(region, kGrain))), source_(std::move(source)) {}

Extent Slab::take(std::int64_t size) {
  const std::int64_t wanted = std::max(kGrain, (size + kGrain - 1) / kGrain * kGrain);
  std::lock_guard lock(mutex_);
  auto fit = by_size_.lower_bound({wanted, 0});
  if (fit == by_size_.end()) {
    if (!grow(wanted)) return {};
    fit = by_size_.lower_bound({wanted, 0});
  }
  const auto [room, offset] = *fit;
  drop_hole(holes_.find(offset));
  if (room > wanted) add_hole(offset + wanted, room - wanted);
  used_ += wanted;
  return {offset, wanted};
}

// Each region is as large as all before it, so that there are few.
bool Slab::grow(std::int64_t size) {
  if (dry_ || size > limit_) return false;
  const std::int64_t as_all = power_below(std::max(held_, kGrain));
  std::int64_t wanted = std::max({power_above(size), region_, as_all});
  if (wanted > limit_ - held_) {
    wanted = limit_ - held_ > 0 ? power_below(limit_ - held_) : 0;
  }
  if (wanted < size) return false;
  char* memory = source_(wanted);
  if (memory == nullptr) {
    dry_ = true;
    return false;
  }
  add_hole(static_cast<std::int64_t>(regions_.size()) << kRegionBits, wanted);
  regions_.push_back(memory);
  held_ += wanted;
  return true;
}

void Slab::give_back(Extent extent) {
  if (!extent) return;
  std::lock_guard lock(mutex_);
  used_ -= extent.size;
  auto next = holes_.lower_bound(extent.offset);
  if (next != holes_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == extent.offset) {
      extent = {before->first, before->second + extent.size};
      drop_hole(before);
    }
  }
  if (next != holes_.end() && extent.offset + extent.size == next->first) {
    extent.size += next->second;
    drop_hole(next);
  }
  add_hole(extent.offset, extent.size);
}

void Slab::add_hole(std::int64_t offset, std::int64_t size) {
  holes_.emplace(offset, size);
  by_size_.emplace(size, offset);
}

void Slab::drop_hole(std::map<std::int64_t, std::int64_t>::iterator hole) {
  by_size_.erase({hole->second, hole->first});
  holes_.erase(hole);
}

char* Slab::at(Extent extent) const {
  std::lock_guard lock(mutex_);
  const std::int64_t place = extent.offset & ((std::int64_t{1} << kRegionBits) - 1);
  return regions_[static_cast<std::size_t>(region_of(extent))] + place;
}

std::int64_t Slab::used() const {
  std::lock_guard lock(mutex_);
  return used_;
}

std::int64_t Slab::held() const {
  std::lock_guard lock(mutex_);
  return held_;
}

std::int64_t Slab::regions() const {
  std::lock_guard lock(mutex_);
  return static_cast<std::int64_t>(regions_.size());
}

}  // namespace ithaca
