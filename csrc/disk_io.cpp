#include "disk_io.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <system_error>

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

namespace ithaca {
namespace {

constexpr std::int64_t kBounce = 1 << 20;
constexpr std::int64_t kChunk = 8 << 20;
constexpr std::size_t kStack = 256 << 10;  // threads of the usual 8 MiB count against RLIMIT_DATA
constexpr int kTries = 3;

std::int64_t now_ns() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

std::int64_t round_up(std::int64_t size) {
  return (size + DiskIo::kBlock - 1) / DiskIo::kBlock * DiskIo::kBlock;
}

// Takes one of a number of failures; a number below 0 never ends.
bool spend(std::atomic<std::int64_t>& left) {
  std::int64_t now = left;
  while (now > 0 && !left.compare_exchange_weak(now, now - 1)) {
  }
  return now != 0;
}

void sleep_ns(std::int64_t ns) {
  timespec left{ns / 1'000'000'000, ns % 1'000'000'000};
  while (nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

// A file without a name; whether it bypasses the page cache.
int open_nameless(const std::string& folder, bool& direct) {
  std::string path = folder + "/.ithaca-swap-XXXXXX";
  for (const int flag : {O_DIRECT, 0}) {
    std::string name = path;
    const int file = mkostemp(name.data(), O_CLOEXEC | flag);
    if (file >= 0) {
      unlink(name.c_str());
      direct = flag != 0;
      return file;
    }
    unlink(name.c_str());  // some file systems make the file and then refuse the flag
    if (errno != EINVAL) break;
  }
  throw std::system_error(errno, std::generic_category(), "making a file in " + folder);
}

}  // namespace

// One aligned block per thread, for what cannot be handed to the disk as it lies.
struct DiskIo::Buffer {
  Buffer() : memory(static_cast<char*>(std::aligned_alloc(kBlock, kBounce))) {}
  ~Buffer() { std::free(memory); }
  char* memory;
};

DiskIo::DiskIo(const std::string& folder, std::int64_t limit, int threads) : limit_(limit) {
  file_ = open_nameless(folder, direct_);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStack);
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for the program's own threads
  for (int i = 0; i < threads; ++i) {
    pthread_t thread;
    if (pthread_create(&thread, &attributes, &DiskIo::run, this) == 0) threads_.push_back(thread);
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  if (threads_.empty()) {
    close(file_);
    throw std::system_error(EAGAIN, std::generic_category(), "starting threads for the disk");
  }
}

DiskIo::~DiskIo() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (const pthread_t thread : threads_) pthread_join(thread, nullptr);
  close(file_);
}

Extent DiskIo::take(std::int64_t size) {
  const std::int64_t wanted = std::max(round_up(size), kBlock);
  std::lock_guard lock(space_);
  for (auto hole = free_.begin(); hole != free_.end(); ++hole) {
    if (hole->second < wanted) continue;
    const auto [offset, room] = *hole;
    free_.erase(hole);
    if (room > wanted) free_.emplace(offset + wanted, room - wanted);
    used_ += wanted;
    return {offset, wanted};
  }
  if (end_ + wanted > limit_) return {};
  const Extent extent{end_, wanted};
  end_ += wanted;
  used_ += wanted;
  return extent;
}

void DiskIo::give_back(Extent extent) {
  if (!extent) return;
  std::lock_guard lock(space_);
  used_ -= extent.size;
  auto next = free_.lower_bound(extent.offset);
  if (next != free_.begin()) {
    auto before = std::prev(next);
    if (before->first + before->second == extent.offset) {
      extent = {before->first, before->second + extent.size};
      free_.erase(before);
    }
  }
  if (next != free_.end() && extent.offset + extent.size == next->first) {
    extent.size += next->second;
    free_.erase(next);
  }
  if (extent.offset + extent.size == end_) {
    end_ = extent.offset;
  } else {
    free_.emplace(extent.offset, extent.size);
  }
}

void DiskIo::submit(Request request) {
  {
    std::lock_guard lock(mutex_);
    (request.kind == Kind::kRead ? reads_ : writes_).push_back(std::move(request));
  }
  changed_.notify_one();
}

void* DiskIo::map(Extent extent) const {
  // Reading beyond the end of the file would be an error of the bus. It has been written whole, so
  // the file is long enough; to set its length here would cut off what others write meanwhile.
  struct stat known {};
  if (fstat(file_, &known) != 0 || known.st_size < extent.offset + extent.size) return nullptr;
  void* memory = mmap(nullptr, extent.size, PROT_READ | PROT_WRITE, MAP_SHARED, file_,
                      extent.offset);
  return memory == MAP_FAILED ? nullptr : memory;
}

void DiskIo::unmap(void* memory, std::int64_t size) { munmap(memory, size); }

bool DiskIo::map_at(Extent extent, void* memory, std::int64_t size) const {
  void* beside = map({extent.offset, size});
  if (beside == nullptr) return false;
  if (mremap(beside, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, memory) == memory) return true;
  munmap(beside, size);
  return false;
}

bool DiskIo::unmap_at(void* memory, std::int64_t size) {
  return mmap(memory, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
              0) == memory;
}

void DiskIo::set_speed(std::int64_t write, std::int64_t read) {
  speed_[0] = write;
  speed_[1] = read;
}

void* DiskIo::run(void* self) {
  static_cast<DiskIo*>(self)->serve();
  return nullptr;
}

void DiskIo::serve() {
  const Buffer bounce;
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stopping_ || !reads_.empty() || !writes_.empty(); });
    // Somebody waits for a read; nobody may be waiting for a write.
    auto& queue = reads_.empty() ? writes_ : reads_;
    if (queue.empty()) return;
    const bool last = faults_.newest_first != 0;
    Request request = std::move(last ? queue.back() : queue.front());
    last ? queue.pop_back() : queue.pop_front();
    lock.unlock();
    count_busy(request.kind, 1);
    const int error = transfer(request, bounce.memory);
    count_busy(request.kind, -1);
    request.done(error);
    lock.lock();
  }
}

int DiskIo::transfer(const Request& request, char* bounce) {
  if (bounce == nullptr) return ENOMEM;
  const std::int64_t start = now_ns();
  if (const std::int64_t delay = faults_.delay_us; delay > 0) sleep_ns(delay * 1000);
  const bool aligned = reinterpret_cast<std::uintptr_t>(request.memory) % kBlock == 0;
  const std::int64_t straight = aligned ? request.size / kBlock * kBlock : 0;
  int error = straight > 0 ? move(request.kind, request.memory, straight, request.offset) : 0;
  for (std::int64_t at = straight; at < request.size && error == 0; at += kBounce) {
    const std::int64_t size = std::min(kBounce, request.size - at);
    if (request.kind == Kind::kWrite) {
      std::memcpy(bounce, request.memory + at, size);
      std::memset(bounce + size, 0, round_up(size) - size);
    }
    error = move(request.kind, bounce, round_up(size), request.offset + at);
    if (request.kind == Kind::kRead && error == 0) std::memcpy(request.memory + at, bounce, size);
  }
  if (!direct_ && request.kind == Kind::kWrite && error == 0) {
    posix_fadvise(file_, request.offset, round_up(request.size), POSIX_FADV_DONTNEED);
  }
  throttle(request.kind, request.size, start);
  return error;
}

int DiskIo::move(Kind kind, char* memory, std::int64_t size, std::int64_t offset) {
  const bool write = kind == Kind::kWrite;
  std::atomic<std::int64_t>& planned = write ? faults_.fail_writes : faults_.fail_reads;
  int failures = 0;
  for (std::int64_t at = 0; at < size;) {
    std::int64_t length = std::min(size - at, kChunk);
    if (const std::int64_t longest = faults_.longest; longest > 0) {
      length = std::min(length, longest);
    }
    ssize_t moved;
    if (planned != 0 && spend(faults_.failures)) {
      moved = -1;
      errno = static_cast<int>(planned);
    } else {
      moved = write ? pwrite(file_, memory + at, length, offset + at)
                    : pread(file_, memory + at, length, offset + at);
    }
    if (moved > 0) {
      // What ends inside of a block is done again from the block's start.
      const std::int64_t whole = moved / kBlock * kBlock;
      at += whole;
      if (whole == 0 && ++failures == kTries) return EIO;
      continue;
    }
    if (moved < 0 && errno == EINTR) continue;
    const int error = moved < 0 ? errno : EIO;
    if (error == ENOSPC || error == EDQUOT || error == EFBIG || ++failures == kTries) return error;
  }
  moved_[write ? 0 : 1] += size;
  return 0;
}

void DiskIo::count_busy(Kind kind, int change) {
  const auto i = static_cast<std::size_t>(kind);
  std::lock_guard lock(space_);
  const std::int64_t now = now_ns();
  if (running_[i] > 0) busy_[i] += now - busy_since_[i];
  busy_since_[i] = now;
  running_[i] += change;
}

void DiskIo::throttle(Kind kind, std::int64_t size, std::int64_t start) {
  const auto direction = static_cast<std::size_t>(kind);
  const std::int64_t speed = speed_[direction];
  if (speed <= 0) return;
  std::int64_t due;
  {
    std::lock_guard lock(space_);
    const auto cost = static_cast<std::int64_t>(1e9 * static_cast<double>(size) /
                                                static_cast<double>(speed));
    due = due_ns_[direction] = std::max(due_ns_[direction], start) + cost;
  }
  if (const std::int64_t left = due - now_ns(); left > 0) sleep_ns(left);
}

}  // namespace ithaca
