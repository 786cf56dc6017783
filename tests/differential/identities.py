"""Names under which services learn who is calling, and from where."""
import re

from routes import ADDRESS, CLIENT, SCOPE, SUBJECT

# What the gateway writes on routes that need a token, and on no others.
CALLER = {"x-user-id": SUBJECT, "x-scopes": SCOPE, "x-client-id": CLIENT}
# What it writes on all.
ALWAYS = {"x-forwarded-for": ADDRESS, "x-forwarded-proto": "http"}

# Believed by some service or other. The gateway writes none of these here.
OTHERS = (
    "authorization", "proxy-authorization", "remote-user", "remote-addr", "remote-groups", "x-remote-user",
    "x-forwarded-user", "x-forwarded-email", "x-forwarded-groups", "x-forwarded-preferred-username",
    "x-forwarded-client-cert", "x-forwarded-access-token", "x-auth-request-user", "x-authenticated-user",
    "x-authenticated-userid", "x-webauth-user", "x-user", "x-username", "x-email", "x-roles", "x-groups",
    "x-real-ip", "x-client-ip", "true-client-ip", "ssl-client-s-dn", "x-ssl-client-dn", "x-client-cert",
    "x-jwt-assertion", "x-goog-authenticated-user-email", "x-ms-client-principal", "x-amzn-oidc-identity",
    "x-original-url", "x-rewrite-url", "x-http-method-override", "proxy", "oidc-claim-sub",
)
WATCHED = frozenset((*CALLER, *ALWAYS, *OTHERS))

_MARKS = re.compile(r"[^a-z0-9]+")
_folded = {}


def fold(name):
    """The one spelling of all names that CGI and its heirs take for the same: any case, any mark."""
    folded = _folded.get(name)
    if folded is None:
        folded = _MARKS.sub("-", name.lower()).strip("-")
        if len(_folded) < 100_000:
            _folded[name] = folded
    return folded
