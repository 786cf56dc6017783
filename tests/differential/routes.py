"""The routes that the gateway judges by. Each has a port of its own at every backend: the port at which
a request arrives tells the backend how it was judged."""
from collections import namedtuple

Route = namedtuple("Route", "name path requirement")

ROUTES = (
    Route("public", "/public/{*rest}", "public: true"),
    Route("internal", "/public/internal/{*rest}", 'require: { scopes: ["admin"] }'),
    Route("admin", "/admin/{*rest}", 'require: { scopes: ["admin"] }'),
    Route("orders", "/orders/{id}", 'require: { scopes: ["orders:read"] }'),
    Route("health", "/orders/health", "public: true"),
    Route("export", "/orders/export", 'require: { scopes: ["admin"] }'),
    Route("about", "/teams/{team}/about/{*rest}", "public: true"),
    Route("members", "/teams/{team}/members", 'require: { scopes: ["orders:read"] }'),
    Route("owners", "/teams/{team}/Owners", 'require: { scopes: ["admin"] }'),
)
NAMES = tuple(route.name for route in ROUTES)
PUBLIC = {route.name for route in ROUTES if route.requirement.startswith("public")}

# What the caller's token says, and so all that a backend may believe about anybody.
SUBJECT, SCOPE, CLIENT = "alice", "orders:read", "differential"
ADDRESS = "127.0.0.1"
