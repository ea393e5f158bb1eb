// SPDX-License-Identifier: MIT
// Past output: what has been recorded of a run that needs us no more, passed on.
//
// All of it, or an end that says why not. There is nobody to hand a signal on to: it ends
// the wrapper, as the end of its patience does (SPEC R5, F10).
#pragma once

#include <optional>
#include <string>

#include <coalesce/io/store.h>
#include <coalesce/io/stream.h>
#include <coalesce/meeting/output_relay.h>
#include <coalesce/meeting/run_end.h>

namespace coalesce {

/// Passes it on to our own stdout or stderr. Nothing when that is done; else how the wrapper
/// ends, which has been told. `title` names the command.
[[nodiscard]] std::optional<RunEnd> pass_on_past(Stream stream, const Extent& extent, const std::string& title,
                                                 OutputRelay& relay);

}  // namespace coalesce
