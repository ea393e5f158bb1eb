// SPDX-License-Identifier: MIT
#include <coalesce/cluster/secret.h>

#include <coalesce/command/canonical.h>

#include <sodium.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <span>
#include <utility>

#include <coalesce/io/descriptor.h>

namespace coalesce {
namespace {

constexpr std::size_t secret_bytes_min = 32;
constexpr std::size_t private_bytes_max = 65536;
constexpr std::string_view protocol = "coalesce:1";

const unsigned char* bytes_of(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }
unsigned char* bytes_of(std::string& text) { return reinterpret_cast<unsigned char*>(text.data()); }

void hash(std::string_view text, std::span<const unsigned char> key, std::span<unsigned char> into) {
    crypto_generichash(into.data(), into.size(), bytes_of(text), text.size(), key.data(), key.size());
}

std::string bound_to(std::string_view run, Seal::Kind kind, std::uint64_t number) {
    std::string bound;
    append_field(bound, 'r', run);
    append_field(bound, static_cast<char>(kind), std::to_string(number));
    return bound;
}

Result<std::string> contents_of(int fd, const std::string& path) {
    std::string bytes(private_bytes_max, '\0');
    std::size_t size = 0;
    while (size < bytes.size()) {
        const ssize_t got = ::read(fd, bytes.data() + size, bytes.size() - size);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return system_error_now("read " + path);
        if (got == 0) break;
        size += static_cast<std::size_t>(got);
    }
    bytes.resize(size);
    return bytes;
}

std::string configuration_directory() {
    const char* const named = std::getenv("XDG_CONFIG_HOME");
    if (named != nullptr && named[0] == '/') return named;
    const char* const home = std::getenv("HOME");
    return home != nullptr && home[0] == '/' ? std::string(home) + "/.config" : std::string();
}

}  // namespace

// Links are followed: where secrets are mounted (Kubernetes) the file is one.
Result<std::string> read_private_file(const std::string& path, std::string_view what, std::size_t bytes_min) {
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (!file) return system_error_now("read the " + std::string(what) + " " + path);
    struct stat info {};
    if (::fstat(file.get(), &info) != 0) return system_error_now("read the " + std::string(what) + " " + path);
    const auto refused = [&](const std::string& why) {
        return Error{{}, "use the " + std::string(what) + " " + path + ": " + why};
    };
    if (!S_ISREG(info.st_mode)) return refused("it is no file");
    if (info.st_uid != ::geteuid() && info.st_uid != 0) return refused("it is owned by neither you nor root");
    if ((info.st_mode & S_IRWXO) != 0) return refused("others may use it; chmod o= " + path);
    auto bytes = contents_of(file.get(), path);
    if (!bytes) return bytes;
    if (bytes->size() < bytes_min)
        return refused("it has " + std::to_string(bytes->size()) + " bytes, and " + std::to_string(bytes_min) +
                       " are needed");
    if (bytes->size() == private_bytes_max) return refused("it is longer than 64 KiB");
    if (bytes->ends_with('\n')) bytes->pop_back();
    return bytes;
}

std::string Seal::seal(Kind kind, std::uint64_t number, std::string_view text) const {
    const std::string bound = bound_to(run_, kind, number);
    std::string sealed(overhead + text.size(), '\0');
    unsigned char* const nonce = bytes_of(sealed);
    randombytes_buf(nonce, crypto_aead_xchacha20poly1305_ietf_NPUBBYTES);
    crypto_aead_xchacha20poly1305_ietf_encrypt(nonce + crypto_aead_xchacha20poly1305_ietf_NPUBBYTES, nullptr,
                                               bytes_of(text), text.size(), bytes_of(bound), bound.size(), nullptr,
                                               nonce, key_.data());
    return sealed;
}

std::optional<std::string> Seal::open(Kind kind, std::uint64_t number, std::string_view sealed) const {
    if (sealed.size() < overhead) return std::nullopt;
    const std::string bound = bound_to(run_, kind, number);
    const std::string_view text = sealed.substr(crypto_aead_xchacha20poly1305_ietf_NPUBBYTES);
    std::string opened(sealed.size() - overhead, '\0');
    const int failed =
        crypto_aead_xchacha20poly1305_ietf_decrypt(bytes_of(opened), nullptr, nullptr, bytes_of(text), text.size(),
                                                   bytes_of(bound), bound.size(), bytes_of(sealed), key_.data());
    if (failed != 0) return std::nullopt;
    return opened;
}

static_assert(Seal::overhead ==
              crypto_aead_xchacha20poly1305_ietf_NPUBBYTES + crypto_aead_xchacha20poly1305_ietf_ABYTES);

Secret::Secret(std::string_view bytes) {
    // Chooses the quickest code for this processor, and finds the kernel's randomness.
    if (sodium_init() < 0) std::abort();
    hash(bytes, {}, master_);
    hash("digests", master_, digest_key_);
}

std::array<std::string, 2> Secret::usual_places() {
    const std::string directory = configuration_directory();
    return {directory.empty() ? std::string() : directory + "/coalesce/cluster.secret", "/etc/coalesce/cluster.secret"};
}

Result<Secret> Secret::read(const std::string& named) {
    const auto places = usual_places();
    std::string path = named;
    if (path.empty()) {
        path = places[1];
        if (!places[0].empty() && ::access(places[0].c_str(), F_OK) == 0) path = places[0];
        if (path == places[1] && ::access(path.c_str(), F_OK) != 0)
            return Error{{},
                         "find a secret, which machines that share must have in common: neither " +
                             (places[0].empty() ? "" : places[0] + " nor ") + places[1] +
                             " is there, and the engine's URL names none (secret=FILE); to make one: "
                             "(umask 77; head -c 32 /dev/urandom >FILE)"};
    }
    auto bytes = read_private_file(path, "secret", secret_bytes_min);
    if (!bytes) return bytes.error();
    Secret secret(*bytes);
    sodium_memzero(bytes->data(), bytes->size());
    return secret;
}

std::string Secret::name_of(std::string_view ns, std::string_view key) const {
    std::string text;
    append_field(text, 'v', protocol);
    append_field(text, 'n', ns);
    append_field(text, 'k', key);
    std::array<unsigned char, 16> digest{};
    hash(text, master_, digest);
    std::array<char, 2 * digest.size() + 1> name{};
    sodium_bin2hex(name.data(), name.size(), digest.data(), digest.size());
    return name.data();
}

// No key is empty, so it is nothing's name.
std::string Secret::fingerprint() const { return name_of("fingerprint", {}).substr(0, 8); }

std::string Secret::digest_of(std::string_view text) const {
    static_assert(std::tuple_size_v<decltype(digest_key_)> == crypto_shorthash_KEYBYTES);
    std::array<unsigned char, crypto_shorthash_BYTES> digest{};
    crypto_shorthash(digest.data(), bytes_of(text), text.size(), digest_key_.data());
    return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

Seal Secret::seal_of(std::string_view key_name, std::string_view run) const {
    std::string text;
    append_field(text, 's', protocol);
    append_field(text, 'k', key_name);
    append_field(text, 'r', run);
    Seal seal;
    seal.run_ = run;
    hash(text, master_, seal.key_);
    return seal;
}

}  // namespace coalesce
