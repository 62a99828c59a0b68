#include "loose.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/graph_task.h>

#include <cerrno>
#include <cstring>
#include <future>
#include <memory>
#include <new>
#include <utility>

namespace ithaca {

std::uint64_t LooseBlocks::add(void* data, std::int64_t size) {
  const int task = torch::autograd::get_current_graph_task_id();
  if (task < 0 || at::in_parallel_region()) return 0;
  std::lock_guard lock(mutex_);
  blocks_.emplace(next_, Block{static_cast<char*>(data), size, task, std::this_thread::get_id()});
  return next_++;
}

bool LooseBlocks::remove(std::uint64_t number) {
  std::unique_lock lock(mutex_);
  const auto found = blocks_.find(number);
  Block& block = found->second;
  settled_.wait(lock, [&] { return !block.leaving; });
  const bool fine = !block.lent || DiskIo::unmap_at(block.data, block.pages());
  if (block.tier != nullptr) block.tier->give_back(block.extent, {});
  blocks_.erase(found);
  return fine;
}

std::int64_t LooseBlocks::lend(Tier& tier, std::int64_t missing,
                               const std::unordered_set<void*>& others,
                               const std::function<void(void*, std::int64_t)>& lent) {
  const int task = torch::autograd::get_current_graph_task_id();
  if (task < 0 || at::in_parallel_region()) return 0;
  std::unique_lock lock(mutex_);
  std::int64_t sum = 0;
  for (auto entry = blocks_.begin(); entry != blocks_.end() && sum < missing; ++entry) {
    Block& block = entry->second;
    if (block.lent || block.refused || block.task != task || others.count(block.data) != 0 ||
        block.thread != std::this_thread::get_id()) {
      continue;
    }
    // Threads of the disk free blocks, too: they must not have to wait for the disk.
    block.leaving = true;
    lock.unlock();
    const bool left = block.lend(tier);
    lock.lock();
    block.leaving = false;
    settled_.notify_all();
    if (!left) continue;
    lent(block.data, block.pages());
    sum += block.pages();
  }
  return sum;
}

void LooseBlocks::take_back(const std::function<void(void*)>& back) {
  std::lock_guard lock(mutex_);
  for (auto& [number, block] : blocks_) {
    if (block.lent && block.take_back()) back(block.data);
    block.tier = nullptr;  // ends
  }
}

bool LooseBlocks::Block::lend(Tier& to) {
  const Extent place = to.take(size, /*far=*/false);
  if (!place) return false;
  std::promise<int> written;
  Copies none;
  const Tier::Ends ends =
      to.write(data, size, place, none, [&](int error) { written.set_value(error); });
  const int error = ends == Tier::Ends::kLater ? written.get_future().get() : EIO;
  if (error != 0 || !to.map_at(place, data, pages())) {
    refused = true;
    to.give_back(place, {});
    return false;
  }
  tier = &to;
  extent = place;
  lent = true;
  return true;
}

// False: there is no memory for it; the file lives on with its pages.
bool LooseBlocks::Block::take_back() {
  const auto bytes = static_cast<std::size_t>(pages());
  const std::unique_ptr<char[]> copy(new (std::nothrow) char[bytes]);
  if (!copy) return false;
  std::memcpy(copy.get(), data, bytes);
  if (!DiskIo::unmap_at(data, pages())) return false;
  std::memcpy(data, copy.get(), bytes);
  lent = false;
  return true;
}

}  // namespace ithaca
