// torch's allocator of the CPU, counted: every byte that it hands out, against a cap.
//
// Installed once, for good; without a cap it passes everything through and counts.
#pragma once

#include <c10/core/Allocator.h>
#include <c10/core/StorageImpl.h>

#include <cstdint>
#include <optional>

#include "../budget.h"
#include "../headroom.h"
#include "loose.h"
#include "memory.h"

namespace ithaca {

class CountedAllocator final : public c10::Allocator, public Memory {
 public:
  // The one of this process; puts itself in front of torch's on the first call.
  static CountedAllocator& installed();

  // Throws c10::OutOfMemoryError with the number that would be needed when the budget refuses.
  c10::DataPtr allocate(std::size_t size) override;
  // The same for bytes that may be there or not: asks nobody to make room.
  std::optional<c10::DataPtr> allocate_if_free(std::size_t size) override;
  c10::DeleterFnPtr raw_deleter() const override { return &CountedAllocator::release; }
  void copy_data(void* to, const void* from, std::size_t size) const override;

  // Whether the bytes of a storage were counted by us.
  bool counts(const c10::DataPtr& data) const override;
  // Counts bytes that torch handed out before we were there. False: not from its allocator.
  bool adopt(c10::StorageImpl& storage) override;

  void lend(void* data, std::int64_t bytes) override;
  LooseBlocks* loose() override { return &loose_; }

  c10::Device device() const override { return c10::Device(c10::kCPU); }
  std::int64_t allocated() override { return budget_.allocated(); }
  Budget& budget() override { return budget_; }
  // Bytes of threads that are exempt: communication, checkpoints, staging.
  std::int64_t exempt_bytes() const override { return exempt_.load(); }
  static void exempt_this_thread(bool exempt);
  // The most bytes that a refused request would have needed, since the session's start.
  std::int64_t refused_at() const override { return refused_.load(); }
  void begin() override { refused_ = 0; }
  Headroom& headroom() { return headroom_; }

 private:
  struct Header;
  explicit CountedAllocator(c10::Allocator* base) : base_(base) {}
  static void release(void* data);
  static void release_adopted(void* context);
  c10::DataPtr place(std::size_t size, bool exempt, bool asks);
  c10::DataPtr obtain(std::size_t size, bool asks);
  [[noreturn]] void refuse(std::size_t size);
  [[noreturn]] void refuse_for_the_system(std::size_t size);

  c10::Allocator* base_;
  Budget budget_;
  Headroom headroom_;
  LooseBlocks loose_;
  std::atomic<std::int64_t> exempt_{0}, refused_{0};
};

}  // namespace ithaca
