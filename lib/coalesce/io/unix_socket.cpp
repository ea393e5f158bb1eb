// SPDX-License-Identifier: MIT
#include <coalesce/io/unix_socket.h>

#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace coalesce {

Result<UnixAddress> UnixAddress::of(const std::string& path) {
    UnixAddress address;
    address.address_.sun_family = AF_UNIX;
    constexpr std::size_t room = sizeof address.address_.sun_path;  // with the zero at the end
    std::string way = path;
    if (way.size() >= room) {
        const std::size_t slash = path.rfind('/');
        const std::string parent = slash == std::string::npos ? "." : path.substr(0, std::max<std::size_t>(slash, 1));
        address.directory_ = Descriptor(::open(parent.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
        if (!address.directory_) return system_error_now("reach " + path);
        way = "/proc/self/fd/" + std::to_string(address.directory_.get()) + "/" + path.substr(slash + 1);
    }
    if (way.empty() || way.size() >= room)
        return system_error_of(way.empty() ? ENOENT : ENAMETOOLONG, "reach '" + path + "'");
    std::memcpy(address.address_.sun_path, way.c_str(), way.size());
    return address;
}

Result<Descriptor> connect_to(const std::string& path) {
    auto address = UnixAddress::of(path);
    if (!address) return address.error();
    Descriptor connection(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!connection) return system_error_now("make a socket");
    while (::connect(connection.get(), address->get(), address->length()) != 0)
        if (errno != EINTR) return system_error_now("reach " + path);
    return connection;
}

Result<SocketPair> connected_pair() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return system_error_now("make a socket");
    return SocketPair{Descriptor(ends[0]), Descriptor(ends[1])};
}

}  // namespace coalesce
