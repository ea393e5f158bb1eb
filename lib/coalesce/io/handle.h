// SPDX-License-Identifier: MIT
// Handle<T>: sole ownership of a libuv handle.
//
// libuv keeps a handle's address until its close callback has run, so the
// deleter closes and the callback frees. Create handles zeroed,
// `Handle<uv_timer_t>(new uv_timer_t{})`, so that one that was never
// initialised can be told apart and is simply deleted.
#pragma once

#include <uv.h>

#include <memory>

namespace coalesce {

struct CloseThenDelete {
    template <class T>
    void operator()(T* handle) const noexcept {
        auto* base = reinterpret_cast<uv_handle_t*>(handle);
        if (base->type == UV_UNKNOWN_HANDLE) {  // zeroed, never initialised
            delete handle;
            return;
        }
        base->data = nullptr;  // late callbacks must find no owner
        uv_close(base, [](uv_handle_t* closed) { delete reinterpret_cast<T*>(closed); });
    }
};

template <class T>
using Handle = std::unique_ptr<T, CloseThenDelete>;

}  // namespace coalesce
