#include "allocator.h"

#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

#include <cstring>
#include <memory>
#include <utility>

#include <pthread.h>

namespace ithaca {
namespace {

// From this size on, memory starts at a page, so that the disk can read and write it as it lies,
// and its pages can be those of a file.
constexpr std::size_t kLarge = 128 << 10;
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
  std::int64_t lent;  // bytes that do not count, since their pages are those of a file
  std::uint64_t loose;  // its number among them; 0 if it is none
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
  return place(size, thread_is_exempt, /*asks=*/true);
}

std::optional<c10::DataPtr> CountedAllocator::allocate_if_free(std::size_t size) {
  if (!budget_.try_charge(static_cast<std::int64_t>(size))) return std::nullopt;
  try {
    return place(size, false, /*asks=*/false);
  } catch (const c10::Error&) {
    return std::nullopt;  // the system has none
  }
}

c10::DataPtr CountedAllocator::place(std::size_t size, bool exempt, bool asks) {
  const bool large = size >= kLarge;
  try {
    c10::DataPtr base = obtain(size + (large ? 2 * kPage : kAlignment), asks);
    auto start = reinterpret_cast<std::uintptr_t>(base.get()) + kAlignment;
    if (large) start = (start + kPage - 1) / kPage * kPage;
    void* data = reinterpret_cast<void*>(start);
    const auto bytes = static_cast<std::int64_t>(size);
    const bool watched = large && !exempt && budget_.cap() != Budget::kNoCap;
    new (static_cast<char*>(data) - kAlignment)
        Header{std::move(base), bytes, 0, watched ? loose_.add(data, bytes) : 0, exempt};
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
c10::DataPtr CountedAllocator::obtain(std::size_t size, bool asks) {
  const auto bytes = static_cast<std::int64_t>(size);
  if (thread_is_exempt || budget_.cap() == Budget::kNoCap) return base_->allocate(size);
  if (asks && headroom_.refuses()) budget_.reclaim(bytes);
  for (;;) {
    try {
      c10::DataPtr base = base_->allocate(size);
      if (headroom_.left(size)) return base;
    } catch (const c10::Error&) {
      // It said that there is nothing left; what is raised if nobody can help says more.
    }
    if (!asks || !budget_.reclaim(bytes)) refuse_for_the_system(size);
  }
}

void CountedAllocator::refuse_for_the_system(std::size_t size) {
  const std::int64_t limit = Headroom::limit();
  C10_THROW_ERROR(
      OutOfMemoryError,
      c10::str("the system has less memory than the budget allows: ", size,
               " bytes were asked for, ", budget_.allocated(), " of ", budget_.cap(),
               " are in use and none of them can be moved away now, and ", headroom_.reserve(),
               " have to stay free for the buffers of math libraries, which compute other bits "
               "without them; use a smaller budget",
               limit < 0 ? std::string(", or give the process more memory")
                         : c10::str(", or raise the process's limit of ", limit,
                                    " bytes (RLIMIT_DATA, RLIMIT_AS)")));
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
  if (taken.loose != 0 && !the_allocator->loose_.remove(taken.loose)) {
    (void)taken.base.release_context();  // lost, rather than a file's pages in the heap
  }
  taken.base.clear();
  if (taken.exempt) {
    the_allocator->exempt_ -= taken.size;
  } else {
    the_allocator->budget_.release(taken.size - taken.lent);
  }
}

void CountedAllocator::lend(void* data, std::int64_t bytes) {
  auto* header = reinterpret_cast<Header*>(static_cast<char*>(data) - kAlignment);
  const std::int64_t more = bytes - std::exchange(header->lent, bytes);
  if (more > 0) {
    budget_.release(more);
  } else {
    budget_.adopt(-more);
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
