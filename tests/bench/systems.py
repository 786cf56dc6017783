"""The systems that are measured: how each is configured and started. README.md says how to add one.

Each is asked for the same job, as far as it can do it:

public     remove the caller's X-User-ID; forward everything else.
protected  verify the signature with the issuer's keys; iss, aud and exp; require the scope orders:read
           under /orders; set X-User-ID from sub, whatever the caller sent; forward everything else.

All keep connections to the service open, use one worker, and write no access log unless asked to.
"""
import json
import os
import re
import shutil
import subprocess

import service
from mint import AUDIENCE, ISSUER, SERVICE_NAME

ALL_ALGORITHMS = ("RS256", "ES256", "EdDSA")
# Ours resists scans: of tokens that come in turn it keeps as many as it holds. So it holds few, for hits
# to stay below one in a hundred. Envoy's forgets the oldest first, and then no token is ever found.
OUR_SMALL_CACHE = 100
# Our policy files have at most 1 MiB.
OUR_ROUTES_PER_FILE = 5000
ENVOY_CACHE = 1000


class System:
    name = "?"
    algorithms = ()      # of the tokens it can check
    has_public = True    # False: its public route is another system's
    edge_tls = True      # can be asked for TLS and HTTP/2 from the caller, as configured here
    is_floor = False     # takes part whatever the tokens are, and looks at no claim
    leeway = 0           # seconds after `exp` that a token is still good, as configured here
    differs = {}         # checks that it does not pass, and why

    def is_present(self):
        return True

    def version(self):
        return ""

    def command(self, bench, job, folder):
        """Writes the configuration into `folder`; returns the command."""
        raise NotImplementedError


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w") as file:
        file.write(text)
    return path


def first_line(command, pattern):
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(pattern, run.stdout + run.stderr)
    return found.group(1) if found else ""


# ---------------------------------------------------------------- ours
class Portcullis(System):
    """PORTCULLIS names the binary. `Authorization` is forwarded, as all others do; by default it is not."""
    name = "portcullis"
    algorithms = ALL_ALGORITHMS
    leeway = 30
    binary = os.environ.get("PORTCULLIS", "")

    def is_present(self):
        return bool(shutil.which(self.binary))

    def version(self):
        return first_line([self.binary, "--version"], r"portcullis (\S+)")

    def command(self, bench, job, folder):
        tls = (f"    tls: {{ certificates: [{{ certificate: {bench.file('edge.crt')}, "
               f"private_key: {bench.file('edge.key')} }}] }}\n") if job.edge_tls else ""
        mutual_tls = (f"    tls:\n      server_name: {SERVICE_NAME}\n      trust: {bench.file('ca.crt')}\n"
                      f"      certificate: {bench.file('gateway.crt')}\n"
                      f"      private_key: {bench.file('gateway.key')}\n") if job.mutual_tls else ""
        log = f"{{ file: {folder}/access.log }}" if job.access_log else "{ enabled: false }"
        entries = OUR_SMALL_CACHE if job.small_cache else job.entries
        cache = f"token_cache: {{ entries: {entries} }}\n" if entries else ""
        config = write(folder, "portcullis.yaml", f"""
listeners:
  - name: callers
    address: 127.0.0.1:{bench.port}
{tls}admin: {{ address: "127.0.0.1:{bench.admin_port}" }}
issuers:
  - name: bench
    issuer: {ISSUER}
    audiences: ["{AUDIENCE}"]
    keys: {{ url: "http://127.0.0.1:{bench.key_set_port}/jwks.json" }}
upstreams:
  - name: orders
    addresses: ["127.0.0.1:{bench.address_of_service(job)}"]
    timeouts: {{ idle: 600s }}
{mutual_tls}access_log: {log}
{cache}limits: {{ requests_per_connection: 1000000000, connection_age: 24h, idle_timeout: 600s, failed_verifications_per_second: 0 }}
policy: {{ files: ["policy-*.yaml"] }}
""")
        for number, text in enumerate(self.policies(job)):
            write(folder, f"policy-{number}.yaml", text)
        return [self.binary, "run", "--threads", str(job.workers), "--log-level", "error", "--config", config]

    @staticmethod
    def policies(job):
        """A file for each `OUR_ROUTES_PER_FILE` routes."""
        demand = 'require: { scopes: ["orders:read"] }' if job.checks_tokens else "public: true"
        routes = ['orders, match: { path: "/orders/{*rest}" }']
        routes += [f'r{i}, match: {{ path: "/team-{i}/things/{{id}}" }}' for i in range(1, job.routes)]
        lines = [f"  - {{ name: {route}, upstream: orders, {demand}, forward_authorization: true }}\n"
                 for route in routes]
        scopes = 'scopes: { "orders:read": Read orders }\n'
        for first in range(0, len(lines), OUR_ROUTES_PER_FILE):
            yield (f"owner: bench\n{'' if first else scopes}routes:\n"
                   + "".join(lines[first:first + OUR_ROUTES_PER_FILE]))

    @staticmethod
    def counts(bench):
        """What the gateway says about itself: the run is not what it seems if this does not fit."""
        _, _, text = service.get(bench.admin_port, "/metrics")

        def metric(name):
            found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
            return int(float(found.group(1))) if found else 0

        def judged(result):
            return metric(rf'portcullis_token_verifications_total\{{issuer="bench",result="{result}"\}}')

        return {"cached": judged("cached"), "verified": judged("verified"), "refused": judged("refused"),
                "remembered": metric("portcullis_token_cache_entries"),
                "lost_lines": metric("portcullis_access_log_lines_dropped_total")}


class Baseline(Portcullis):
    """BASELINE names another build of ours: what did a change win?"""
    name = "baseline"
    binary = os.environ.get("BASELINE", "")


# ---------------------------------------------------------------- floors: they look at no claim
class Bare(System):
    """What Pingora itself costs: floor/src/bare.rs, from the folder that FLOOR names."""
    name = "bare"
    is_floor = True
    binary = os.path.join(os.environ.get("FLOOR", ""), "bare")

    def is_present(self):
        return bool(shutil.which(self.binary))

    def version(self):
        return "Pingora 0.9.1"

    def command(self, bench, job, folder):
        command = [self.binary, f"127.0.0.1:{bench.port}", f"127.0.0.1:{bench.address_of_service(job)}"]
        if job.edge_tls:
            command += ["--tls", bench.file("edge.crt"), bench.file("edge.key")]
        if job.mutual_tls:
            command += ["--mutual-tls", bench.file("ca.crt"), bench.file("gateway.crt"),
                        bench.file("gateway.key"), SERVICE_NAME]
        return command


class BareAndSignature(Bare):
    """The same, and what the signature of each token costs with it: the floor where tokens are new."""
    name = "bare+signature"
    algorithms = ALL_ALGORITHMS
    has_public = False

    def command(self, bench, job, folder):
        return [*super().command(bench, job, folder), "--verify",
                *(bench.file(f"{algorithm.lower()}.pub") for algorithm in self.algorithms)]


class Nginx(System):
    """No access tokens in the open source one: public routes only."""
    name = "nginx"

    def is_present(self):
        return bool(shutil.which("nginx"))

    def version(self):
        return first_line(["nginx", "-v"], r"nginx/(\S+)")

    def command(self, bench, job, folder):
        listen = f"127.0.0.1:{bench.port} backlog=4096"
        if job.edge_tls:
            listen = (f"{listen} ssl http2; ssl_certificate {bench.file('edge.crt')}; "
                      f"ssl_certificate_key {bench.file('edge.key')}")
        mutual_tls = f"""
            proxy_ssl_certificate {bench.file('gateway.crt')};
            proxy_ssl_certificate_key {bench.file('gateway.key')};
            proxy_ssl_trusted_certificate {bench.file('ca.crt')};
            proxy_ssl_verify on; proxy_ssl_name {SERVICE_NAME}; proxy_ssl_server_name on;
            proxy_ssl_protocols TLSv1.3;""" if job.mutual_tls else ""
        scheme = "https" if job.mutual_tls else "http"
        return service.nginx(folder, "nginx", f"""
    server {{
        listen {listen};
        location / {{
            proxy_pass {scheme}://orders; proxy_http_version 1.1;
            proxy_set_header Connection ""; proxy_set_header X-User-ID "";{mutual_tls}
        }}
    }}""", f"""
    upstream orders {{
        server 127.0.0.1:{bench.address_of_service(job)};
        keepalive 256; keepalive_requests 1000000000; keepalive_timeout 600s;
    }}""")


# ---------------------------------------------------------------- peers
class HAProxy(System):
    """jwt_verify with key files, claims by json_query. It remembers no tokens."""
    name = "haproxy"
    algorithms = ("RS256", "ES256")
    differs = {
        "valid EdDSA": "not among the algorithms of jwt_verify",
        "audience in a list": "json_query compares text; a list needs a rule of its own",
    }

    def is_present(self):
        return bool(shutil.which("haproxy"))

    def version(self):
        number = first_line(["haproxy", "-v"], r"version (\S+)")
        openssl = first_line(["haproxy", "-vv"], r"Running on OpenSSL version : OpenSSL (\S+)")
        return f"{number} with OpenSSL {openssl}"

    def command(self, bench, job, folder):
        bearer, claim = "var(txn.bearer)", "var(txn.claims),json_query"
        deny, scope = "http-request deny deny_status", "(^|[[:space:]])orders:read([[:space:]]|$)"

        def verified(algorithm):
            key = bench.file(f"{algorithm.lower()}.pub")
            return (f"{deny} 401 if {{ var(txn.alg) -m str {algorithm} }} "
                    f"!{{ {bearer},jwt_verify(\"{algorithm}\",\"{key}\") 1 }}")

        rules = f"""
    http-request set-var(txn.bearer) http_auth_bearer
    http-request set-var(txn.alg) {bearer},jwt_header_query('$.alg')
    {verified("RS256")}
    {verified("ES256")}
    {deny} 401 unless {{ var(txn.alg) -m str RS256 ES256 }}
    http-request set-var(txn.claims) {bearer},word(2,.),ub64dec
    http-request set-var(txn.now) date()
    http-request set-var(txn.exp) {claim}('$.exp','int')
    http-request set-var(txn.nbf) {claim}('$.nbf','int')
    {deny} 401 unless {{ {claim}('$.iss') -m str {ISSUER} }}
    {deny} 401 unless {{ {claim}('$.aud') -m str {AUDIENCE} }}
    {deny} 401 unless {{ var(txn.exp),sub(txn.now) -m int gt 0 }}
    {deny} 401 if {{ var(txn.nbf) -m found }} {{ var(txn.nbf),sub(txn.now) -m int gt 0 }}
    {deny} 403 if {{ path_beg /orders }} !{{ {claim}('$.scope') -m reg {scope} }}
    http-request set-header X-User-ID %[{claim}('$.sub')]
""" if job.checks_tokens else "    http-request del-header X-User-ID\n"
        bind = f"127.0.0.1:{bench.port}"
        if job.edge_tls:
            bind += f" ssl crt {bench.file('edge.pem')} alpn h2,http/1.1"
        server = f"127.0.0.1:{bench.address_of_service(job)} pool-max-conn -1"
        if job.mutual_tls:
            server += (f" ssl verify required ca-file {bench.file('ca.crt')} crt {bench.file('gateway.pem')} "
                       f"sni str({SERVICE_NAME}) verifyhost {SERVICE_NAME} ssl-min-ver TLSv1.3")
        config = write(folder, "haproxy.cfg", f"""
global
    nbthread 1
    maxconn 4096
defaults
    mode http
    timeout connect 5s
    timeout client 600s
    timeout server 600s
    timeout http-keep-alive 600s
    http-reuse always
frontend callers
    bind {bind}
{rules}    default_backend orders
backend orders
    server orders {server}
""")
        return ["haproxy", "-db", "-f", config]


class Envoy(System):
    """jwt_authn with a remote key set, RBAC on the scope. As shipped it remembers no tokens."""
    name = "envoy"
    algorithms = ALL_ALGORITHMS
    leeway = 60
    cache = 0
    binary = os.environ.get("ENVOY", "envoy")

    def is_present(self):
        return bool(shutil.which(self.binary))

    def version(self):
        return first_line([self.binary, "--version"], r"version: \w+/([^/]+)/")

    def command(self, bench, job, folder):
        def typed(kind, **values):
            return {"@type": f"type.googleapis.com/envoy.extensions.{kind}", **values}

        def address(port):
            return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

        def cluster(name, port, **more):
            endpoint = {"endpoint": {"address": address(port)}}
            return {"name": name, "type": "STATIC", "connect_timeout": "5s", **more, "load_assignment": {
                "cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}}

        def certificate(name):
            return {"certificate_chain": {"filename": bench.file(f"{name}.crt")},
                    "private_key": {"filename": bench.file(f"{name}.key")}}

        filters = []
        if job.checks_tokens:
            filters = self.filters(typed, bench)
        filters.append({"name": "envoy.filters.http.router",
                        "typed_config": typed("filters.http.router.v3.Router")})
        route = {"match": {"prefix": "/"}, "route": {"cluster": "orders"}}
        if not job.checks_tokens:
            route["request_headers_to_remove"] = ["x-user-id"]
        manager = typed(
            "filters.network.http_connection_manager.v3.HttpConnectionManager",
            stat_prefix="callers", codec_type="AUTO" if job.edge_tls else "HTTP1", http_filters=filters,
            route_config={"name": "routes", "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [route]}]})
        name = "envoy.filters.network.http_connection_manager"
        chain = {"filters": [{"name": name, "typed_config": manager}]}
        if job.edge_tls:
            chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": typed(
                "transport_sockets.tls.v3.DownstreamTlsContext", common_tls_context={
                    "alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [certificate("edge")],
                    "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"}})}
        mutual_tls = {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": typed(
            "transport_sockets.tls.v3.UpstreamTlsContext", sni=SERVICE_NAME, common_tls_context={
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_3",
                               "tls_maximum_protocol_version": "TLSv1_3"},
                "tls_certificates": [certificate("gateway")],
                "validation_context": {
                    "trusted_ca": {"filename": bench.file("ca.crt")},
                    "match_typed_subject_alt_names": [
                        {"san_type": "DNS", "matcher": {"exact": SERVICE_NAME}}]}})}}
        clusters = [cluster("orders", bench.address_of_service(job), **(mutual_tls if job.mutual_tls else {}))]
        if job.checks_tokens:
            clusters.append(cluster("key-set", bench.key_set_port))
        listener = {"name": "callers", "address": address(bench.port), "filter_chains": [chain]}
        config = write(folder, "envoy.json", json.dumps(
            {"static_resources": {"listeners": [listener], "clusters": clusters}}, indent=1))
        return [self.binary, "-c", config, "--concurrency", "1", "-l", "error", "--disable-hot-restart"]

    def filters(self, typed, bench):
        provider = {
            "issuer": ISSUER, "audiences": [AUDIENCE], "forward": True, "require_expiration": True,
            "remote_jwks": {
                "http_uri": {"uri": f"http://127.0.0.1:{bench.key_set_port}/jwks.json", "cluster": "key-set",
                             "timeout": "5s"},
                "cache_duration": "600s", "async_fetch": {}},
            "claim_to_headers": [{"header_name": "x-user-id", "claim_name": "sub"}],
            "payload_in_metadata": "jwt",
            "normalize_payload_in_metadata": {"space_delimited_claims": ["scope"]}}
        if self.cache:
            provider["jwt_cache_config"] = {"jwt_cache_size": self.cache}
        has_scope = {"metadata_matcher": {
            "filter": "envoy.filters.http.jwt_authn", "path": [{"key": "jwt"}, {"key": "scope"}],
            "value": {"list_match": {"one_of": {"string_match": {"exact": "orders:read"}}}}}}
        return [
            {"name": "envoy.filters.http.jwt_authn", "typed_config": typed(
                "filters.http.jwt_authn.v3.JwtAuthentication", providers={"bench": provider},
                rules=[{"match": {"prefix": "/"}, "requires": {"provider_name": "bench"}}])},
            {"name": "envoy.filters.http.rbac", "typed_config": typed(
                "filters.http.rbac.v3.RBAC", rules={"action": "ALLOW", "policies": {"orders": {
                    "permissions": [{"url_path": {"path": {"prefix": "/orders"}}}],
                    "principals": [{"sourced_metadata": has_scope}]}}})},
        ]


class EnvoyCache(Envoy):
    """The same with jwt_cache_config."""
    name, cache, has_public = "envoy+cache", ENVOY_CACHE, False


class Apache(System):
    """mod_oauth2. Verified tokens are kept in shared memory: 1,000 for 300 s, as shipped.

    The cache that is defined last is the one for tokens. The key set has one of its own: in a shared one
    new tokens push it out.
    """
    name = "apache"
    algorithms = ("RS256", "ES256")
    edge_tls = False
    modules = "/usr/lib/apache2/modules"
    differs = {
        "valid EdDSA": "this version's key set cannot hold the key",
        "not yet valid": "nbf is not looked at",
        "expires while remembered": "by design: a token is good until its cache entry ends",
        "bad signatures fetch no keys": "one fetch for each",
    }

    def is_present(self):
        return os.path.exists(f"{self.modules}/mod_oauth2.so")

    def version(self):
        return first_line(["apache2", "-v"], r"Apache/(\S+)")

    def command(self, bench, job, folder):
        modules = "mpm_event authz_core authn_core headers proxy proxy_http".split()
        modules += ["ssl"] if job.mutual_tls else []
        modules += ["oauth2"] if job.checks_tokens else []
        load = "".join(f"LoadModule {name}_module {self.modules}/mod_{name}.so\n" for name in modules)
        caches = """OAuth2Cache shm name=jwks&max_entries=10
OAuth2Cache shm name=default&max_entries=1000
""" if job.checks_tokens else ""
        key_set = f"http://127.0.0.1:{bench.key_set_port}/jwks-rsa-ec.json"
        verify = "verify.iss=skip&verify.exp=required&verify.iat=optional&jwks_uri.cache=jwks"
        rules = f"""
    AuthType oauth2
    AuthzSendForbiddenOnFailure On
    OAuth2TokenVerify jwks_uri {key_set} {verify}
    OAuth2TargetPass headers=Off&envvars=Off&authn_header=X-User-ID&remote_user_claim=sub
    <RequireAll>
        Require oauth2_claim iss:{ISSUER}
        Require oauth2_claim aud:{AUDIENCE}
        Require oauth2_claim "scope:orders:read profile:read"
    </RequireAll>""" if job.checks_tokens else "    RequestHeader unset X-User-ID\n    Require all granted"
        tls = f"""SSLProxyEngine on
SSLProxyMachineCertificateFile {bench.file('gateway.pem')}
SSLProxyCACertificateFile {bench.file('ca.crt')}
SSLProxyVerify require
SSLProxyCheckPeerName on
SSLProxyProtocol -all +TLSv1.3
""" if job.mutual_tls else ""
        scheme = "https://localhost" if job.mutual_tls else "http://127.0.0.1"
        config = write(folder, "apache.conf", f"""
{load}
ServerRoot {folder}
ServerName localhost
PidFile {folder}/apache.pid
DefaultRuntimeDir {folder}
Mutex file:{folder} default
Listen 127.0.0.1:{bench.port}
User www-data
Group www-data
ErrorLog {folder}/error.log
LogLevel crit
ServerLimit 1
StartServers 1
ThreadsPerChild 64
MaxRequestWorkers 64
MinSpareThreads 1
MaxSpareThreads 64
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 600
{caches}{tls}
<Location "/">
{rules}
</Location>
ProxyPass "/" "{scheme}:{bench.address_of_service(job)}/" enablereuse=on keepalive=On ttl=600
""")
        os.chmod(folder, 0o777)  # its worker is another user
        return ["apache2", "-f", config, "-DFOREGROUND"]


class Pingap(System):
    """On Pingora as well: jwt plugin with a remote key set. PINGAP names the binary. It remembers no tokens."""
    name = "pingap"
    algorithms = ALL_ALGORITHMS
    edge_tls = False
    leeway = 60
    binary = os.environ.get("PINGAP", "pingap")
    differs = {
        "no scope": "answered with 401",
        "another scope": "the value of a scope cannot be demanded, only that there is one",
        "scopes that look like it": "the value of a scope cannot be demanded, only that there is one",
    }

    def is_present(self):
        return bool(shutil.which(self.binary))

    def version(self):
        return first_line([self.binary, "--version"], r"pingap (\S+)")

    def command(self, bench, job, folder):
        tls = f"""sni = "{SERVICE_NAME}"
verify_cert = true
alpn = "H1"
ca = "{bench.file('ca.crt')}"
client_cert = "{bench.file('gateway.crt')}"
client_key = "{bench.file('gateway.key')}"
""" if job.mutual_tls else ""
        plugin = f"""
category = "jwt"
header = "Authorization"
jwks_url = "http://127.0.0.1:{bench.key_set_port}/jwks.json"
jwks_ttl = "1h"
issuers = ["{ISSUER}"]
audiences = ["{AUDIENCE}"]
required_claims = ["sub", "scope"]
claims_to_headers = ["sub:X-User-ID"]
""" if job.checks_tokens else 'category = "request_headers"\nremove_headers = ["X-User-ID"]\n'
        config = write(folder, "pingap.toml", f"""
[basic]
threads = 1
work_stealing = false
upstream_keepalive_pool_size = 256
log_level = "error"
pid_file = "{folder}/pingap.pid"
upgrade_sock = "{folder}/pingap.sock"
[upstreams.orders]
addrs = ["127.0.0.1:{bench.address_of_service(job)}"]
idle_timeout = "10m"
{tls}
[plugins.job]
{plugin}
[locations.all]
upstream = "orders"
path = "/"
plugins = ["job"]
[servers.callers]
addr = "127.0.0.1:{bench.port}"
locations = ["all"]
threads = 1
""")
        return [self.binary, "-c", config]


SYSTEMS = [Portcullis(), Baseline(), Bare(), BareAndSignature(), Nginx(), HAProxy(), Envoy(), EnvoyCache(), Pingap(),
           Apache()]
