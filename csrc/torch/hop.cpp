#include "hop.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include <signal.h>

namespace ithaca {

struct DiskHop::Slot {
  std::shared_ptr<char> memory;
  bool busy = false;  // on the disk's side
  int error = 0;
  MarkPtr mark;  // of the last copy on the device's side
};

DiskHop::DiskHop(const Streams& streams, std::unique_ptr<DiskIo> disk)
    : streams_(streams), disk_(std::move(disk)) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for the program's own threads
  thread_ = std::thread([this] { serve(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

DiskHop::~DiskHop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void DiskHop::submit(DiskIo::Request request) {
  {
    std::lock_guard lock(mutex_);
    (request.kind == DiskIo::Kind::kRead ? reads_ : writes_).push_back(std::move(request));
  }
  changed_.notify_all();
}

void DiskHop::serve() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stopping_ || !reads_.empty() || !writes_.empty(); });
    auto& queue = reads_.empty() ? writes_ : reads_;
    if (queue.empty()) return;
    const DiskIo::Request request = std::move(queue.front());
    queue.pop_front();
    lock.unlock();
    int error = 0;
    try {
      while (slots_.size() < kSlots) {
        auto memory = streams_.engine().host_memory(kPiece);
        TORCH_CHECK(memory != nullptr, "no memory to pin for the way to the disk");
        slots_.push_back(std::make_unique<Slot>(Slot{std::move(memory)}));
      }
      error = request.kind == DiskIo::Kind::kWrite ? write(request) : read(request);
    } catch (const c10::Error&) {
      wait_all();
      error = EIO;
    }
    request.done(error);
    lock.lock();
  }
}

int DiskHop::write(const DiskIo::Request& request) {
  int error = 0;
  std::size_t turn = 0;
  for (std::int64_t at = 0; at < request.size && error == 0; at += kPiece, ++turn) {
    Slot& slot = *slots_[turn % kSlots];
    error = wait(slot);
    const std::int64_t size = std::min(kPiece, request.size - at);
    streams_.wait(Lane::kOut, streams_.mark(Lane::kCompute));
    streams_.copy(Lane::kOut, slot.memory.get(), request.memory + at, size);
    streams_.synchronize(streams_.mark(Lane::kOut));
    begin(slot, DiskIo::Kind::kWrite, size, request.offset + at);
  }
  const int last = wait_all();
  return error != 0 ? error : last;
}

int DiskHop::read(const DiskIo::Request& request) {
  int error = 0;
  std::int64_t asked = 0;
  std::size_t ahead = 0, turn = 0;
  for (std::int64_t at = 0; at < request.size && error == 0; at += kPiece, ++turn) {
    for (; asked < request.size && ahead < turn + kSlots; asked += kPiece, ++ahead) {
      Slot& next = *slots_[ahead % kSlots];
      streams_.synchronize(std::exchange(next.mark, nullptr));
      begin(next, DiskIo::Kind::kRead, std::min(kPiece, request.size - asked),
            request.offset + asked);
    }
    Slot& slot = *slots_[turn % kSlots];
    if (error = wait(slot); error != 0) break;
    streams_.wait(Lane::kIn, streams_.mark(Lane::kCompute));
    streams_.copy(Lane::kIn, request.memory + at, slot.memory.get(),
                  std::min(kPiece, request.size - at));
    slot.mark = streams_.mark(Lane::kIn);
  }
  wait_all();
  for (const auto& slot : slots_) streams_.synchronize(std::exchange(slot->mark, nullptr));
  return error;
}

void DiskHop::begin(Slot& slot, DiskIo::Kind kind, std::int64_t size, std::int64_t offset) {
  {
    std::lock_guard lock(mutex_);
    slot.busy = true;
  }
  disk_->submit({kind, slot.memory.get(), size, offset, [this, &slot](int error) {
                   {
                     std::lock_guard lock(mutex_);
                     slot.busy = false;
                     slot.error = error;
                   }
                   changed_.notify_all();
                 }});
}

// The error of the slot's last transfer, told once.
int DiskHop::wait(Slot& slot) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !slot.busy; });
  return std::exchange(slot.error, 0);
}

int DiskHop::wait_all() {
  int error = 0;
  for (const auto& slot : slots_) {
    const int mine = wait(*slot);
    error = error != 0 ? error : mine;
  }
  return error;
}

}  // namespace ithaca
