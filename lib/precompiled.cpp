// SPDX-License-Identifier: MIT
// A source for lib/precompiled.h to be compiled with.
