// SPDX-License-Identifier: MIT
// Contents: checksums of what is in files, read by several threads once that is much.
//
// Who walks a tree hands over each file that it has opened, and goes on. Of a small tree it reads all by itself: a
// thread costs as much as ten of its files. Of a large one what it takes is the digest, which a second processor
// halves. Files that wait are few, and so are their descriptors.
#pragma once

#include <coalesce/command/result.h>
#include <coalesce/flight/unique_function.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <coalesce/io/descriptor.h>
#include <coalesce/kept/digest.h>

namespace coalesce {

/// Of a thing of that type, and what more there is to tell of it.
[[nodiscard]] Checksum checksum_of(std::string_view type, std::string_view state);

class Contents {
  public:
    /// `enough` outlives it, and is asked by the caller's thread alone, which is one of the threads. `threads` unset:
    /// one for each processor that we may run on, but no more than the disk has use for. Nothing is made before there
    /// is a file to read.
    explicit Contents(UniqueFunction<bool()>& enough, std::optional<std::size_t> threads = {})
        : enough_(enough), threads_(threads) {}
    /// What is under way is given up.
    ~Contents();
    Contents(const Contents&) = delete;
    Contents& operator=(const Contents&) = delete;

    /// At the latest when finish() returns, `into` is checksum_of() that type and a digest of what is in the file.
    /// `path` names it should that fail. All three are to last until then.
    void read(Descriptor file, std::string_view type, const std::string& path, Checksum& into);
    /// Waits for all that was handed over. The error is that of the first file that could not be read, in the order
    /// in which they were handed over.
    [[nodiscard]] Result<> finish();

    /// Asks whether it is enough, if it was not yet. Then nothing is read to its end any more.
    [[nodiscard]] bool stopped();

  private:
    struct File {
        std::size_t number;
        Descriptor file;
        std::string_view type;
        const std::string* path;
        Checksum* into;
    };
    struct Failure {
        std::size_t number;
        const std::string* path;
        int error;
    };
    void start_helpers();
    void help(std::string& block) noexcept;
    template <class Stopped>
    void read_now(const File& file, std::string& block, Stopped stopped);

    UniqueFunction<bool()>& enough_;
    const std::optional<std::size_t> threads_;
    std::string block_;            // of the caller's
    std::size_t number_ = 0;       // of files that were handed over
    std::uint64_t own_bytes_ = 0;  // that the caller has read while it was alone
    std::atomic<bool> stopped_{false};

    std::mutex mutex_;  // of what follows
    std::condition_variable filled_;
    std::condition_variable idle_;
    std::deque<File> waiting_;
    std::size_t busy_ = 0;  // helpers that read
    bool closed_ = false;
    std::optional<Failure> failure_;

    std::vector<std::string> blocks_;  // of the helpers'
    std::vector<std::thread> helpers_;
    bool alone_ = true;
};

}  // namespace coalesce
