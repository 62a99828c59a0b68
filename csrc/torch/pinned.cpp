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

Extent PinnedTier::take(std::int64_t size) {
  const Extent pinned = slab_.take(size);
  if (pinned || !hop_) return pinned;
  Extent extent = hop_->disk().take(size);
  if (extent) extent.offset += kDisk;
  return extent;
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
    streams_.copy(Lane::kOut, slab_.at(extent), memory, size);
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
      streams_.copy(Lane::kIn, memory, slab_.at(extent), size);
      copies.in = streams_.mark(Lane::kIn);
      return Ends::kInOrder;
    } catch (const c10::Error&) {
      continue;  // counted by the caller if it was the last
    }
  }
  return Ends::kRefused;
}

void PinnedTier::before_use(const Copies& copies) {
  if (mutation == Mutation::kUseBeforeArrival) return;
  clock_.wait(copies.in);
  streams_.wait_here(copies.in);
}

void PinnedTier::before_reuse(const Copies& copies) {
  if (mutation == Mutation::kReuseBeforeLeaving) return;
  clock_.wait(copies.out);
  clock_.wait(copies.in);
}

bool PinnedTier::settled(const Copies& copies) {
  return (!copies.out || copies.out->reached()) && (!copies.in || copies.in->reached());
}

void* PinnedTier::map(Extent extent) { return on_disk(extent) ? nullptr : slab_.at(extent); }

}  // namespace ithaca
