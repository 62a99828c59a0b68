#include "allocator.h"

#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

#include <cstring>
#include <memory>
#include <utility>

#include <pthread.h>

namespace ithaca {
namespace {

// From this size on, memory starts at a page, so that the disk can read and write it as it lies.
constexpr std::size_t kLarge = 1 << 20;
constexpr std::size_t kPage = 4096;
constexpr std::size_t kAlignment = 64;

thread_local bool thread_is_exempt = false;

CountedAllocator* the_allocator = nullptr;

struct Adopted {
  c10::DataPtr base;
  std::int64_t size;
};

}  // namespace

// Stands right below the bytes that it describes.
struct CountedAllocator::Header {
  c10::DataPtr base;
  std::int64_t size;
  bool exempt;
};

CountedAllocator& CountedAllocator::installed() {
  static CountedAllocator* const once = [] {
    static_assert(sizeof(Header) <= kAlignment);
    the_allocator = new CountedAllocator(c10::GetCPUAllocator());
    c10::SetCPUAllocator(the_allocator, /*priority=*/100);
    pthread_atfork(nullptr, nullptr, [] { the_allocator->budget_.forget(); });
    return the_allocator;
  }();
  return *once;
}

c10::DataPtr CountedAllocator::allocate(std::size_t size) {
  if (size == 0) return {nullptr, nullptr, &CountedAllocator::release, c10::Device(c10::kCPU)};
  if (thread_is_exempt) {
    exempt_ += static_cast<std::int64_t>(size);
  } else if (!budget_.charge(static_cast<std::int64_t>(size))) {
    refuse(size);
  }
  return place(size, thread_is_exempt);
}

std::optional<c10::DataPtr> CountedAllocator::allocate_if_free(std::size_t size) {
  if (!budget_.try_charge(static_cast<std::int64_t>(size))) return std::nullopt;
  return place(size, false);
}

c10::DataPtr CountedAllocator::place(std::size_t size, bool exempt) {
  const bool large = size >= kLarge;
  try {
    c10::DataPtr base = obtain(size + (large ? 2 * kPage : kAlignment));
    auto start = reinterpret_cast<std::uintptr_t>(base.get()) + kAlignment;
    if (large) start = (start + kPage - 1) / kPage * kPage;
    void* data = reinterpret_cast<void*>(start);
    new (static_cast<char*>(data) - kAlignment)
        Header{std::move(base), static_cast<std::int64_t>(size), exempt};
    return {data, data, &CountedAllocator::release, c10::Device(c10::kCPU)};
  } catch (...) {
    if (exempt) {
      exempt_ -= static_cast<std::int64_t>(size);
    } else {
      budget_.release(static_cast<std::int64_t>(size));
    }
    throw;
  }
}

// The system may have less than the budget allows; what makes room there makes room here.
c10::DataPtr CountedAllocator::obtain(std::size_t size) {
  for (;;) {
    try {
      return base_->allocate(size);
    } catch (const c10::Error&) {
      if (thread_is_exempt || !budget_.reclaim(static_cast<std::int64_t>(size))) throw;
    }
  }
}

void CountedAllocator::refuse(std::size_t size) {
  const std::int64_t needed = budget_.allocated() + static_cast<std::int64_t>(size);
  std::int64_t seen = refused_.load();
  while (needed > seen && !refused_.compare_exchange_weak(seen, needed)) {
  }
  C10_THROW_ERROR(OutOfMemoryError,
                  c10::str("out of the memory budget: ", size, " bytes were asked for, ",
                           budget_.allocated(), " of ", budget_.cap(),
                           " are in use and none of them can be moved away now; a budget of at "
                           "least ", needed, " bytes is needed to get past this point"));
}

void CountedAllocator::release(void* data) {
  if (data == nullptr) return;
  auto* header = reinterpret_cast<Header*>(static_cast<char*>(data) - kAlignment);
  Header taken = std::move(*header);
  header->~Header();
  taken.base.clear();
  if (taken.exempt) {
    the_allocator->exempt_ -= taken.size;
  } else {
    the_allocator->budget_.release(taken.size);
  }
}

bool CountedAllocator::counts(const c10::DataPtr& data) const {
  return data.get() != nullptr && data.get_deleter() == &CountedAllocator::release &&
         !reinterpret_cast<Header*>(static_cast<char*>(data.get()) - kAlignment)->exempt;
}

void CountedAllocator::release_adopted(void* context) {
  const std::unique_ptr<Adopted> adopted(static_cast<Adopted*>(context));
  the_allocator->budget_.release(adopted->size);
}

bool CountedAllocator::adopt(c10::StorageImpl& storage) {
  const c10::DataPtr& data = storage.data_ptr();
  if (data.get() == nullptr || data.get_deleter() != base_->raw_deleter()) {
    return data.get_deleter() == &CountedAllocator::release ||
           data.get_deleter() == &CountedAllocator::release_adopted;
  }
  void* memory = data.get();
  const auto size = static_cast<std::int64_t>(storage.nbytes());
  auto* adopted = new Adopted{storage.set_data_ptr({}), size};
  budget_.adopt(size);
  storage.set_data_ptr_noswap(
      {memory, adopted, &CountedAllocator::release_adopted, c10::Device(c10::kCPU)});
  return true;
}

void CountedAllocator::copy_data(void* to, const void* from, std::size_t size) const {
  std::memcpy(to, from, size);
}

void CountedAllocator::exempt_this_thread(bool exempt) { thread_is_exempt = exempt; }

}  // namespace ithaca
