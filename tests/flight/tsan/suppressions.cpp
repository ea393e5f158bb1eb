// SPDX-License-Identifier: MIT
// What ThreadSanitizer may not say of these tests. The holders of an exception
// are counted inside libstdc++.so, which is not instrumented: it does not see
// that who read the exception let go of it before the last holder freed it, and
// in one run of eight called that a race of the reading with free(). Everything
// else that these tests free goes through operator delete, which stays watched.
// (Reports call it free; this is what it is called where suppressions are matched.)

extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() { return "race:^__interceptor_free$\n"; }
