// SPDX-License-Identifier: MIT
#include <coalesce/kept/store_access.h>

#include <sys/stat.h>

namespace coalesce {

Result<std::shared_ptr<const KeptStore>> StoreAccess::open(bool make) {
    const std::lock_guard<std::mutex> alone(mutex_);
    struct stat info {};
    if (store_ && ::fstat(store_->directory(), &info) == 0 && info.st_nlink > 0) return store_;
    store_.reset();
    auto opened = KeptStore::open(place_, make);
    if (!opened) return opened.error();
    if (opened.value()) store_ = std::make_shared<const KeptStore>(std::move(*opened.value()));
    return store_;
}

}  // namespace coalesce
