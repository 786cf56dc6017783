"""MyJWT makes forgeries of a good token; none may be admitted, and no address in one contacted.

What it knows is part of tests/attacks/jose.yaml; here somebody else's code says what an attack is.
"""
import base64
import http.server
import json
import os
import threading
import urllib.error
import urllib.request

import mint
import results

INJECTIONS = ("' OR 1=1 --", "x' UNION SELECT '", "../../../../dev/null", "/dev/null", "|sleep 5", "\"; exit")
HOSTILE_PATH = "/hostile"


class Bait(http.server.BaseHTTPRequestHandler):
    """An attacker's server. MyJWT fetches /original itself; who comes to /hostile believes a token."""
    key_set = b""
    visits = []

    def do_GET(self):
        Bait.visits.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(Bait.key_set)

    def log_message(self, *_):
        pass


def run(world, report, match=""):
    from myjwt.vulnerabilities import confusion_rsa_hmac, inject_sql_kid, jku_vulnerability, none_vulnerability
    from myjwt.vulnerabilities import x5u_vulnerability

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bait)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    bait = f"http://127.0.0.1:{server.server_port}"
    original = f"{bait}/original"
    with open(world.file("jwks.json"), "rb") as file:
        Bait.key_set = file.read()
    key = world.file("stranger.pem")
    with open(key, "wb") as file:
        file.write(mint.Signer("RS256", "stranger").private_pem())
    before = os.getcwd()
    os.chdir(world.folder)  # it writes its key sets where it stands
    try:
        forged = {"alg none": none_vulnerability(world.token),
                  "HS256 with the public key": confusion_rsa_hmac(world.token, world.file("rs256.pub")),
                  "jku": jku_vulnerability(with_header(world.token, jku=original), bait + HOSTILE_PATH, "jku", key),
                  "x5u": x5u_vulnerability(with_header(world.token, x5u=original), bait + HOSTILE_PATH,
                                           world.file("edge.crt"), key, "x5u")}
        # It signs these with an empty secret.
        hs256 = with_header(world.token, alg="HS256")
        forged |= {f"kid {text!r}": inject_sql_kid(hs256, text) for text in INJECTIONS}
        report(judge(world, forged))
    finally:
        os.chdir(before)
        server.shutdown()
        server.server_close()


def with_header(token, **changed):
    """The token with other members in its header, for MyJWT to go on from."""
    header, rest = token.split(".", 1)
    members = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    return mint.b64(mint.compact(members | changed)) + "." + rest


def judge(world, forged):
    world.counts(world.orders)
    faults = []
    good = ask(world, world.token)
    if good != 200:
        faults.append(f"a good token is answered with {good}")
    for name, token in forged.items():
        status = ask(world, token)
        if status != 401:
            faults.append(f"{name} is answered with {status}")
    reached = world.counts(world.orders)["requests"]
    if reached != 1:
        faults.append(f"{reached - 1} of the forgeries reached the service")
    visited = [path for path in Bait.visits if path.startswith(HOSTILE_PATH)]
    if visited:
        faults.append(f"the gateway went to {visited}")
    note = f"{len(forged)} forgeries answered with 401, nobody asked at their addresses"
    return results.Row("MyJWT", "forged tokens", faults, notes=[note] if not faults else [])


def ask(world, token, path="/orders/1"):
    request = urllib.request.Request(world.url("plain", path), headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code
