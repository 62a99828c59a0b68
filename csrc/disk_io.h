// Moves bytes between memory and one file by a few threads, past the page cache where that is
// possible (O_DIRECT). The file has no name: it is gone when it is closed, however the process
// ends.
//
// Knows neither Python nor torch.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <pthread.h>

namespace ithaca {

// Where in the file something lies.
struct Extent {
  std::int64_t offset = -1;
  std::int64_t size = 0;
  explicit operator bool() const { return offset >= 0; }
};

// What the tests do to the copies. All zero: nothing.
struct Faults {
  std::atomic<std::int64_t> fail_writes{0};  // the errno of the next writes
  std::atomic<std::int64_t> fail_reads{0};   // the errno of the next reads
  std::atomic<std::int64_t> failures{0};     // how many of them fail; below 0: all
  std::atomic<std::int64_t> longest{0};      // bytes that one call moves at most; whole blocks
  std::atomic<std::int64_t> delay_us{0};     // before every transfer
  std::atomic<std::int64_t> newest_first{0};  // serve requests in the wrong order
};

class DiskIo {
 public:
  enum class Kind { kWrite, kRead };
  // Called by a thread of the pool when a transfer has ended; `error` is an errno or 0.
  using Done = std::function<void(int error)>;
  struct Request {
    Kind kind;
    char* memory;
    std::int64_t size;
    std::int64_t offset;
    Done done;
  };

  // Makes the file in `folder`. Throws std::system_error if it cannot be made.
  DiskIo(const std::string& folder, std::int64_t limit, int threads);
  // Ends after the requests that are waiting have been served.
  ~DiskIo();
  DiskIo(const DiskIo&) = delete;
  DiskIo& operator=(const DiskIo&) = delete;

  // Room for `size` bytes; none (false) when the limit would be passed.
  Extent take(std::int64_t size);
  void give_back(Extent extent);
  void submit(Request request);
  // The bytes of an extent as memory, shared with the file: slow, and always right.
  void* map(Extent extent) const;
  static void unmap(void* memory, std::int64_t size);
  // The same in the place of `size` bytes at `memory`, both multiples of kBlock: whoever has the
  // address reads and writes the extent from now on. False: nothing has changed.
  bool map_at(Extent extent, void* memory, std::int64_t size) const;
  // Memory again, of zeros.
  static bool unmap_at(void* memory, std::int64_t size);

  // Completions come no faster than this; 0 is no limit. Bytes a second.
  void set_speed(std::int64_t write, std::int64_t read);

  bool direct() const { return direct_; }
  std::int64_t bytes_written() const { return moved_[0]; }
  std::int64_t bytes_read() const { return moved_[1]; }
  // Nanoseconds in which at least one transfer of the kind ran.
  std::int64_t busy_ns(Kind kind) const { return busy_[static_cast<int>(kind)]; }
  std::int64_t bytes_used() const { return used_; }
  std::int64_t limit() const { return limit_; }
  Faults& faults() { return faults_; }

  static constexpr std::int64_t kBlock = 4096;

 private:
  struct Buffer;
  static void* run(void* self);
  void serve();
  int transfer(const Request& request, char* bounce);
  int move(Kind kind, char* memory, std::int64_t size, std::int64_t offset);
  void count_busy(Kind kind, int change);
  void throttle(Kind kind, std::int64_t size, std::int64_t start);

  int file_ = -1;
  bool direct_ = true;
  std::int64_t limit_;
  std::vector<pthread_t> threads_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Request> reads_, writes_;
  bool stopping_ = false;
  std::mutex space_;
  std::map<std::int64_t, std::int64_t> free_;  // offset -> size
  std::int64_t end_ = 0;
  std::atomic<std::int64_t> used_{0};
  std::array<std::atomic<std::int64_t>, 2> moved_{}, busy_{}, speed_{};
  std::array<std::int64_t, 2> due_ns_{}, busy_since_{}, running_{};  // guarded by space_
  Faults faults_;
};

}  // namespace ithaca
