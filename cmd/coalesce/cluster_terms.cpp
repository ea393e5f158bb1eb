// SPDX-License-Identifier: MIT
#include "cluster_terms.h"

#include <coalesce/cluster/platform.h>

#include <utility>

namespace coalesce {

Result<EngineAccess> access_to(EngineUrl url) {
    std::string password;
    if (!url.password_file.empty()) {
        auto read = read_private_file(url.password_file, "password", 1);
        if (!read) return Error{read.error().code, "cannot " + read.error().doing};
        password = std::move(*read);
    }
    return EngineAccess{std::move(url), std::move(password)};
}

std::string engine_text(const TypedSharing& sharing) {
    const char* const variable = std::getenv("COALESCE_CLUSTER");
    return !sharing.url.empty() ? sharing.url : variable != nullptr ? variable : "";
}

Result<std::shared_ptr<const Circle>> circle_at(const std::string& text) {
    auto url = EngineUrl::parse(text);
    if (!url) return url.error();
    auto secret = Secret::read(url->secret_file);
    if (!secret) return Error{secret.error().code, "cannot " + secret.error().doing};
    auto access = access_to(std::move(*url));
    if (!access) return access.error();
    return std::make_shared<const Circle>(Circle{std::move(*access), *secret});
}

Result<ClusterTerms> cluster_terms(const TypedSharing& sharing, bool no_share) {
    ClusterTerms terms;
    if (sharing.off || no_share) return terms;
    const std::string text = engine_text(sharing);
    if (sharing.scope.empty()) {
        const std::string why =
            "without --cluster-scope, which says what files the command sees on the other machines, nothing is shared "
            "with them";
        if (!sharing.url.empty()) return Error{{}, why};
        if (!text.empty()) terms.stays_here = why;
        return terms;
    }
    if (text.empty()) {
        terms.stays_here = "there is a cluster scope, but no engine: --cluster or COALESCE_CLUSTER names it";
        return terms;
    }
    auto circle = circle_at(text);
    if (!circle) return circle.error();
    terms.circle = std::move(*circle);
    terms.rules = ClusterRules{.engine = terms.circle->words(),
                               .scope = sharing.scope,
                               .platform = sharing.ignore_platform ? std::string() : own_platform()};
    return terms;
}

Result<ClusterTerms> terms_for_server(const TypedSharing& sharing, bool no_share) {
    ClusterTerms terms;
    if (sharing.off || no_share) return terms;
    if (!sharing.url.empty()) return Error{{}, "--cluster: a server shares at the engine that it was told, if any"};
    if (sharing.scope.empty()) return terms;
    terms.rules = ClusterRules{
        .engine = {}, .scope = sharing.scope, .platform = sharing.ignore_platform ? std::string() : own_platform()};
    return terms;
}

}  // namespace coalesce
