// SPDX-License-Identifier: MIT
// StoreCleaning: what of a store goes, and when somebody looks (T19).
//
// What is past its time, then the least recently used down to nine tenths of the limits, and what writers
// that were killed have left. Only file times are read. One process cleans at a time, and the
// file that they exclude each other by says when it was done last and how long it took.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <coalesce/io/descriptor.h>
#include <coalesce/kept/store.h>

namespace coalesce {

class StoreCleaning {
  public:
    StoreCleaning(const KeptStore& store, const Moment& now) noexcept : store_(store), now_(now) {}

    /// As KeptStore::clean().
    std::optional<KeptStore::Cleaned> run(bool now_please);

  private:
    struct Candidate {
        std::int64_t used_ns;
        std::uint64_t bytes;
        std::string name;
    };
    [[nodiscard]] std::int64_t since_ns(const struct stat& cleaned) const noexcept;
    [[nodiscard]] bool was_just_done() const noexcept;
    [[nodiscard]] bool is_due(int last) const noexcept;
    void look_at(const char* name);
    void remove_least_used();
    void remove(const std::string& name, std::uint64_t bytes);

    const KeptStore& store_;
    const Moment now_;
    std::vector<Candidate> kept_;
    std::uint64_t total_bytes_ = 0;
    KeptStore::Cleaned cleaned_;
};

}  // namespace coalesce
