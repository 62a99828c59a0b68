#include "emulated.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <signal.h>
#include <time.h>

namespace ithaca {
namespace {

std::int64_t now_ns() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

void sleep_until(std::int64_t due_ns) {
  if (const std::int64_t left = due_ns - now_ns(); left > 0) {
    const timespec span{left / 1'000'000'000, left % 1'000'000'000};
    nanosleep(&span, nullptr);
  }
}

}  // namespace

struct Emulated::Event {
  bool done = false;
  std::int64_t ns = 0;
  std::int64_t behind = 0;  // how much of what was computed comes before it
};

struct Emulated::Work {
  std::shared_ptr<Event> records, awaits;  // or a copy
  void* to = nullptr;
  const void* from = nullptr;
  std::int64_t size = 0;
  bool out = false;
};

struct Emulated::Stream {
  std::deque<Work> queue;
  std::thread thread;
  std::int64_t behind = 0;
  bool stopping = false;
};

Emulated::Emulated() = default;

Emulated::~Emulated() {
  {
    std::lock_guard lock(mutex_);
    for (const auto& stream : streams_) stream->stopping = true;
  }
  changed_.notify_all();
  for (const auto& stream : streams_) stream->thread.join();
}

c10::Stream Emulated::getStream(c10::Device) const {
  return c10::Stream(c10::Stream::UNSAFE, device(), 0);
}

c10::Stream Emulated::getNewStream(c10::Device, int) const {
  std::lock_guard lock(mutex_);
  Stream& made = *streams_.emplace_back(std::make_unique<Stream>());
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for the program's own threads
  made.thread = std::thread([this, &made] { serve(made); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return c10::Stream(c10::Stream::UNSAFE, device(), static_cast<c10::StreamId>(streams_.size()));
}

void Emulated::record(void** event, const c10::Stream& stream, c10::DeviceIndex,
                      c10::EventFlag) const {
  auto made = std::make_shared<Event>();
  {
    std::lock_guard lock(mutex_);
    if (stream.id() == 0) {
      *made = {true, now_ns(), computed_};
    } else {
      Stream& mine = *streams_[static_cast<std::size_t>(stream.id()) - 1];
      made->behind = mine.behind;
      mine.queue.push_back({.records = made});
    }
  }
  changed_.notify_all();
  *event = new std::shared_ptr<Event>(std::move(made));
}

void Emulated::block(void* event, const c10::Stream& stream) const {
  const auto& awaited = *static_cast<std::shared_ptr<Event>*>(event);
  if (stream.id() == 0) return synchronizeEvent(event);
  {
    std::lock_guard lock(mutex_);
    Stream& mine = *streams_[static_cast<std::size_t>(stream.id()) - 1];
    mine.behind = std::max(mine.behind, awaited->behind);
    mine.queue.push_back({.awaits = awaited});
  }
  changed_.notify_all();
}

bool Emulated::queryEvent(void* event) const {
  std::lock_guard lock(mutex_);
  return (*static_cast<std::shared_ptr<Event>*>(event))->done;
}

void Emulated::synchronizeEvent(void* event) const {
  const auto awaited = *static_cast<std::shared_ptr<Event>*>(event);
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return awaited->done; });
}

void Emulated::destroyEvent(void* event, c10::DeviceIndex) const noexcept {
  delete static_cast<std::shared_ptr<Event>*>(event);
}

double Emulated::elapsedTime(void* first, void* second, c10::DeviceIndex) const {
  std::lock_guard lock(mutex_);
  const auto& from = *static_cast<std::shared_ptr<Event>*>(first);
  const auto& to = *static_cast<std::shared_ptr<Event>*>(second);
  return static_cast<double>(to->ns - from->ns) / 1e6;
}

void Emulated::copy(const c10::Stream& stream, void* to, const void* from, std::int64_t size,
                    bool out) {
  std::int64_t left = failures;
  while (left > 0 && !failures.compare_exchange_weak(left, left - 1)) {
  }
  TORCH_CHECK(left == 0, "this copy fails on purpose");
  {
    std::lock_guard lock(mutex_);
    Stream& mine = *streams_[static_cast<std::size_t>(stream.id()) - 1];
    unordered_ += mine.behind < computed_;
    ++computed_;
    mine.queue.push_back({.to = to, .from = from, .size = size, .out = out});
  }
  changed_.notify_all();
}

std::shared_ptr<char> Emulated::host_memory(std::int64_t size) {
  if (no_memory != 0) return nullptr;
  constexpr std::size_t kPage = 4096;
  const auto whole = (static_cast<std::size_t>(size) + kPage - 1) / kPage * kPage;
  return {static_cast<char*>(std::aligned_alloc(kPage, whole)), [](char* p) { std::free(p); }};
}

void Emulated::serve(Stream& stream) const {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stream.stopping || !stream.queue.empty(); });
    if (stream.queue.empty()) return;
    const Work work = std::move(stream.queue.front());
    stream.queue.pop_front();
    if (work.records) {
      work.records->done = true;
      work.records->ns = now_ns();
      changed_.notify_all();
    } else if (work.awaits) {
      changed_.wait(lock, [&] { return work.awaits->done; });
    } else {
      lock.unlock();
      transfer(work);
      lock.lock();
    }
  }
}

void Emulated::transfer(const Work& work) const {
  const std::int64_t start = now_ns();
  std::int64_t delay_ns = delay_us * 1000, due = start;
  {
    std::lock_guard lock(mutex_);
    if (uneven != 0) delay_ns = static_cast<std::int64_t>(drawn_() % (2 * delay_ns + 1));
    if (const std::int64_t limit = speed[work.out ? 0 : 1]; limit > 0) {
      std::int64_t& mine = due_ns_[work.out ? 0 : 1];
      due = mine = std::max(mine, start) + work.size * 1'000'000'000 / limit;
    }
  }
  sleep_until(start + delay_ns);
  std::memcpy(work.to, work.from, static_cast<std::size_t>(work.size));
  sleep_until(due);
  ++copies_;
}

}  // namespace ithaca
