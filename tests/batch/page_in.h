// SPDX-License-Identifier: MIT
// A timeline page in a file of that path, as a batch would begin it.
#pragma once

#include <coalesce/batch/timeline_html.h>

#include <string>
#include <utility>

namespace coalesce {

inline Result<TimelinePage> page_in(const std::string& path) {
    auto file = AccountFile::open(path);
    if (!file) return file.error();
    return TimelinePage::begin(std::move(*file));
}

}  // namespace coalesce
