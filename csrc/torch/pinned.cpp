#include "pinned.h"

#include <c10/util/Exception.h>

#include <utility>

namespace ithaca {
namespace {

// A copy that cannot be begun is tried so often.
constexpr int kTries = 3;

}  // namespace

PinnedTier::PinnedTier(std::shared_ptr<Engine> engine, std::int64_t limit,
                       std::unique_ptr<DiskIo> disk)
    : streams_(std::move(engine)),
      clock_(streams_),
      slab_(limit, [this](std::int64_t size) -> char* {
        std::shared_ptr<char> region = streams_.engine().host_memory(size);
        if (region == nullptr) return nullptr;
        return regions_.emplace_back(std::move(region)).get();
      }) {
  if (disk) hop_ = std::make_unique<DiskHop>(streams_, std::move(disk));
}

PinnedTier::~PinnedTier() {
  hop_.reset();
  streams_.synchronize();  // nothing copies from or to memory that is gone
}

Extent PinnedTier::take(std::int64_t size, bool far) {
  for (const bool behind : {far, !far}) {
    if (behind && !hop_) continue;
    Extent extent = behind ? hop_->disk().take(size) : slab_.take(size);
    if (!extent) continue;
    if (behind) extent.offset += kDisk;
    return extent;
  }
  return {};
}

void PinnedTier::give_back(Extent extent, const Copies& copies) {
  if (!extent) return;
  if (on_disk(extent)) {
    extent.offset -= kDisk;
    hop_->disk().give_back(extent);
    return;
  }
  // Whoever gets the room writes to it by the way out: behind what is read from it now.
  streams_.wait(Lane::kOut, copies.in);
  slab_.give_back(extent);
}

Tier::Ends PinnedTier::write(const char* memory, std::int64_t size, Extent extent, Copies& copies,
                             Done done) {
  if (on_disk(extent)) {
    hop_->submit({DiskIo::Kind::kWrite, const_cast<char*>(memory), size, extent.offset - kDisk,
                  std::move(done)});
    return Ends::kLater;
  }
  try {
    if (mutation != Mutation::kCopyBeforeCompute) {
      streams_.wait(Lane::kOut, streams_.mark(Lane::kCompute));
    }
    copy(Lane::kOut, slab_.at(extent), memory, size);
    copies.out = streams_.mark(Lane::kOut);
  } catch (const c10::Error&) {
    return Ends::kRefused;
  }
  return Ends::kInOrder;
}

Tier::Ends PinnedTier::read(char* memory, std::int64_t size, Extent extent, Copies& copies,
                            Done done) {
  if (on_disk(extent)) {
    hop_->submit({DiskIo::Kind::kRead, memory, size, extent.offset - kDisk, std::move(done)});
    return Ends::kLater;
  }
  for (int tries = 0; tries < kTries; ++tries) {
    try {
      // Behind what used the memory before, and behind the bytes' own way out.
      streams_.wait(Lane::kIn, streams_.mark(Lane::kCompute));
      streams_.wait(Lane::kIn, copies.out);
      copy(Lane::kIn, memory, slab_.at(extent), size);
      copies.in = streams_.mark(Lane::kIn);
      return Ends::kInOrder;
    } catch (const c10::Error&) {
      continue;  // counted by the caller if it was the last
    }
  }
  return Ends::kRefused;
}

// In a step that is timed, with a mark on either side.
void PinnedTier::copy(Lane lane, void* to, const void* from, std::int64_t size) {
  const MarkPtr begin = clock_.on() ? streams_.mark(lane, /*timed=*/true) : nullptr;
  streams_.copy(lane, to, from, size);
  if (begin == nullptr) return;
  std::lock_guard lock(mutex_);
  timed_.push_back({lane == Lane::kOut, size, begin, streams_.mark(lane, /*timed=*/true)});
}

PinnedTier::Moved PinnedTier::moved(bool out) {
  std::lock_guard lock(mutex_);
  std::erase_if(timed_, [this](const Timed& copy) {
    if (!copy.end->reached()) return false;
    Moved& sum = moved_[copy.out ? 0 : 1];
    sum.bytes += copy.bytes;
    sum.ns += streams_.between(copy.begin, copy.end);
    return true;
  });
  return moved_[out ? 0 : 1];
}

void PinnedTier::before_use(const Copies& copies) {
  if (mutation == Mutation::kUseBeforeArrival) return;
  clock_.wait(copies.in);
  streams_.wait_here(copies.in);
}

void PinnedTier::before_reuse(const Copies& copies) {
  clock_.wait(copies.out);
  clock_.wait(copies.in);
}

bool PinnedTier::settled(const Copies& copies) {
  return (!copies.out || copies.out->reached()) && (!copies.in || copies.in->reached());
}

std::shared_ptr<void> PinnedTier::map(Extent extent) {
  if (on_disk(extent)) return nullptr;
  return {regions_[static_cast<std::size_t>(slab_.region_of(extent))], slab_.at(extent)};
}

}  // namespace ithaca
