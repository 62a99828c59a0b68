// The memory of one device, kept under a budget: what the vault allocates from and counts by.
#pragma once

#include <c10/core/Allocator.h>
#include <c10/core/Device.h>
#include <c10/core/StorageImpl.h>

#include <cstddef>
#include <cstdint>
#include <optional>

#include "../budget.h"

namespace ithaca {

class LooseBlocks;

class Memory {
 public:
  virtual ~Memory() = default;

  virtual c10::Device device() const = 0;
  // Throws c10::OutOfMemoryError with the number that would be needed when the budget refuses.
  virtual c10::DataPtr allocate(std::size_t size) = 0;
  // The same for bytes that may be there or not: asks nobody to make room.
  virtual std::optional<c10::DataPtr> allocate_if_free(std::size_t size) = 0;
  // Whether the bytes came from here, so that they can be given back here.
  virtual bool counts(const c10::DataPtr& data) const = 0;
  // Counts the bytes of a storage that are older than we are. False: not ours.
  virtual bool adopt(c10::StorageImpl& storage) = 0;

  // Takes so many of the bytes at `data`, which `counts`, out of the count: their pages are those
  // of a file. 0: all of them count again, whatever the cap.
  virtual void lend(void* data, std::int64_t bytes) {
    (void)data, (void)bytes;
  }

  // What may leave although nobody saved it; or null.
  virtual LooseBlocks* loose() { return nullptr; }

  // Bytes, now.
  virtual std::int64_t allocated() = 0;
  // Bytes that do not count.
  virtual std::int64_t exempt_bytes() const { return 0; }
  // The most bytes that a refused request would have needed, since the session's start.
  virtual std::int64_t refused_at() const = 0;
  // A session begins: forgets that mark.
  virtual void begin() = 0;
  // The cap, the marks, and who makes room.
  virtual Budget& budget() = 0;
};

}  // namespace ithaca
