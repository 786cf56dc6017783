"""Requests, made up. The same seed and number give the same request, but for the tokens' bytes.

A request is a good one with one or two things changed about its target, and up to three fields added. The
weights are such that more than a third is admitted: what is refused shows nothing about backends.
"""
import random
from collections import namedtuple

from identities import CALLER, OTHERS
from routes import SUBJECT

Input = namedtuple("Input", "number backend kinds target head")

PLAIN = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_~"
ALLOWED = PLAIN + b".!$&'()*+,=:@"
# Good ones first: most requests begin there.
PLACES = (
    b"/public/", b"/public/", b"/public/", b"/orders/", b"/orders/", b"/orders/", b"/orders/health",
    b"/orders/health", b"/public/", b"/orders/", b"/public", b"/admin/", b"/orders/export",
    b"/public/internal/", b"/teams/7/about/", b"/teams/7/about/", b"/teams/7/members", b"/teams/7/members",
    b"/teams/7/about", b"/teams/7/Owners",
)
WORDS = (
    b"x", b"7", b"admin", b"orders", b"health", b"export", b"public", b"internal", b"Internal", b"about",
    b"members", b"Owners", b"owners", b"a.b", b"...",
    b".well-known", b"index.php", b"WEB-INF", b"web.xml", b"con", b"x.", b"..x", b"~root", b"a:b", b"@me",
    b"a+b", b"a,b", b"a=b", b"100%25", b"%20", b"x%20", b"%20x", b"caf%C3%A9", b"cafe%CC%81", b"%E2%84%AA",
    b"%C4%B0", b"%C5%BF", b"%EF%BC%8F", b"%EF%BC%8E%EF%BC%8E", b"%E2%88%95", b"%E2%80%AE", b"%EF%BB%BF",
    b"%C2%85", b"%C2%A0", b"%E3%80%82", b"%F0%9F%94%91",
)
DOTS = (
    b"..", b".", b"%2e%2e", b"%2E.", b".%2e", b"%2e", b"..;", b"..;x=y", b".;", b"%2e%2e;", b"%252e%252e",
    b"..%00", b"..%20", b".. ", b"..%09", b"%c0%ae%c0%ae", b"%e0%80%ae%e0%80%ae", b"%uff0e%uff0e",
    b"%EF%BC%8E%EF%BC%8E", b"..%5c", b"..\\", b"..%2f", b"..%c0%af", b"..%25%32%66", b"....", b"...",
    b"..%0d%0a", b"..#", b"..?", b"%2e%2e%3b", b"..%E2%80%8B", b"%E2%80%A5", b"..%C2%A0", b"..%ad", b"..%C2%AD",
    b".%E2%80%8B.",
)
SLASHES = (
    b"//", b"/./", b"///", b"\\", b"%2f", b"%2F", b"%5c", b"/\\", b"\\/", b"%252f", b"%c0%af", b"%E2%88%95",
    b"%EF%BC%8F", b"\xef\xbc\x8f", b"/;/", b"/%20/", b"/%00/", b"/ /", b"%u2215", b"%25%32%66", b"%EF%BC%BC",
    b"%C2%A5", b"/:/", b"/*/", b"/~/",
)
PARAMETERS = (
    b";jsessionid=1", b";", b";x=y", b";/", b"%3b", b"%3Bx", b";..", b",x", b"=x", b"&x=y", b"!x", b"$x", b":x",
    b"%EF%BC%9B", b"%CD%BE",
)
ENDS = (
    b"/", b".", b"%20", b"%09", b"%00", b"%0a", b"%0d%0a", b"~", b"::$DATA", b"%3a%3a$DATA", b"*", b"//", b"/.",
    b"/..", b"%2f", b"\\", b" ", b"%", b"%2", b"%zz", b"#", b"%23", b"%3f", b"%7f", b"%80", b"%ff", b"+",
    b".json", b".php/x", b"%EF%BB%BF", b"'", b"(", b"|", b"%7c",
)
QUERIES = (
    b"", b"a=1", b"a=1&a=2", b"a", b"=", b"&", b"&&", b"a=%26b=c", b"a=%3Db", b"a=%23x", b"a=%2f..%2fadmin",
    b"../../admin/x", b"/admin/x", b"a=b?c=d", b"?", b"??", b"a=b;c=d", b"a+b=c+d", b"%00",
    b"%0d%0aX-User-ID:%20mallory", b"%", b"%zz", b"%c0%ae", b"a=%252e", b"access_token=x", b"a[b]=c",
    b"a=\xc3\xa4", b"#x", b"a=b#/admin", b"a=\\", b"a=|", b"a={b}", b"a=\"b\"", b"a=<b>", b"a='b'", b"a=`b`",
    b"a=^b", b"a=%u0041", b"a=b c", b"a=%E2%80%AE", b"jsessionid=1", b"_method=DELETE", b"a=*", b"a=~",
    b"a=/../", b"a=%2500", b"a=@b:c",
)
VALUES = (
    b"mallory", b"mallory", b"root", SUBJECT.encode(), b"", b"admin", b"alice, mallory", b"mallory,alice",
    b"\xe4", b"127.0.0.1", b"Bearer x", b"orders:read admin", b"/admin/x", b"GET", b"mallory\tx",
    b"mallory;x=y", b"\"mallory\"", b"=?utf-8?q?mallory?=",
)
OTHER_FIELDS = (
    b"Accept", b"Accept-Language", b"User-Agent", b"Cookie", b"Referer", b"Origin", b"X-Tenant", b"My_Header",
    b"X-User-IDs", b"X-UserID", b"Range", b"If-None-Match", b"Cache-Control", b"Via", b"X-Request-ID",
    b"traceparent", b"Pragma", b"Content-Type", b"DNT", b"X-Api-Version", b"User-Id", b"XUser-ID", b"X-Scope",
    b"X-User-ID-2", b"X-User", b"HTTP_X_USER_ID", b"HTTP-X-User-ID", b"REDIRECT_REMOTE_USER", b"X-User-ID0",
)
OWN = tuple(name.encode() for name in CALLER)
FOREIGN = tuple(name.encode() for name in OTHERS)
MARKS = b"_.~!#$%&'*+^`|-"
LOOKALIKES = (
    b"\xc5\xbf", b"\xe2\x84\xaa", b"\xc4\xb1", b"\xe2\x80\x90", b"\xd1\x85", b"\xc2\xad", b"\x00", b" ", b"\t",
    b"(", b"@", b"/", b"\xff", b"\"",
)


class Dice(random.Random):
    """Quicker, and a little less even than it could be: no list here is long."""

    def choice(self, options):
        return options[int(self.random() * len(options))]

    def randint(self, least, most):
        return least + int(self.random() * (most - least + 1))


# ---------------------------------------------------------------- targets
def escape(byte, rnd):
    return b"%%%02x" % byte if rnd.random() < 0.5 else b"%%%02X" % byte


def word(rnd):
    if rnd.random() < 0.5:
        return rnd.choice(WORDS)
    return bytes(rnd.choice(ALLOWED) for _ in range(rnd.randint(1, 8))).replace(b".", b"x", 1)


def good(rnd):
    """A path that begins as a route's does; most are a route's."""
    path = rnd.choice(PLACES)
    if path.startswith(b"/teams/") and rnd.random() < 0.5:
        path = path.replace(b"7", word(rnd))
    if path in (b"/public/", b"/admin/", b"/public/internal/") or path.endswith(b"/about/"):
        path += b"/".join(word(rnd) for _ in range(rnd.randint(1, 3)))
    elif path == b"/orders/":
        path += word(rnd)
    return path + b"/" * (rnd.random() < 0.1)


def place_in(path, rnd):
    """Somewhere behind the first slash, and mostly behind the first segment: then it stays on a route."""
    second = path.find(b"/", 1) + 1
    return rnd.randint(second if second and rnd.random() < 0.8 else 1, len(path))


def insert(path, what, rnd):
    at = place_in(path, rnd)
    return path[:at] + what + path[at:]


def as_it_is(path, _rnd):
    return path


def escaped_letters(path, rnd):
    share = rnd.choice((0.05, 0.2, 1.0))
    return b"".join(
        escape(byte, rnd) if byte in PLAIN and rnd.random() < share else bytes([byte]) for byte in path)


def escaped_once_more(path, rnd):
    """A second layer over the first."""
    return escaped_letters(path, rnd).replace(b"%", b"%25", rnd.randint(1, 3))


def escaped_marks(path, rnd):
    at = place_in(path, rnd)
    return path[:at] + escape(rnd.randrange(256), rnd) + path[at:]


def overlong(path, rnd):
    """A character in more bytes than it needs."""
    byte = rnd.choice(b"./\\;a%")
    long = rnd.choice((
        (0xC0 | byte >> 6, 0x80 | byte & 0x3F), (0xE0, 0x80 | byte >> 6, 0x80 | byte & 0x3F),
        (0xF0, 0x80, 0x80 | byte >> 6, 0x80 | byte & 0x3F)))
    text = b"".join(escape(part, rnd) for part in long) if rnd.random() < 0.8 else bytes(long)
    return insert(path, text, rnd)


def dot_segments(path, rnd):
    segments = path.split(b"/")
    at = rnd.randint(1, len(segments))
    climb = [rnd.choice(DOTS) for _ in range(rnd.randint(1, 3))]
    if rnd.random() < 0.5:
        climb.append(rnd.choice((b"admin/x", b"orders/7", b"public/x", b"orders/export", b"internal/x",
                                 b"teams/7/Owners", b"Owners")))
        del segments[at:]
    return b"/".join(segments[:at] + climb + segments[at:])


def slashes(path, rnd):
    i = rnd.choice([i for i, byte in enumerate(path) if byte == 0x2F] or [0])
    return path[:i] + rnd.choice(SLASHES) + path[i + 1:]


def parameters(path, rnd):
    i = rnd.choice([i for i, byte in enumerate(path) if byte == 0x2F and i][1:] + [len(path)] * 2)
    return path[:i] + rnd.choice(PARAMETERS) + path[i:]


def end(path, rnd):
    return path + rnd.choice(ENDS)


def case(path, rnd):
    at = place_in(path, rnd)
    return path[:at] + bytes(
        byte ^ 0x20 if (65 <= byte <= 90 or 97 <= byte <= 122) and rnd.random() < 0.4 else byte for byte in path[at:])


def unicode_letters(path, rnd):
    """A code point of any plane, escaped; now and then as it is."""
    point = rnd.choice((rnd.randrange(0x80, 0x800), rnd.randrange(0x2000, 0x2100), rnd.randrange(0xFF00, 0xFFF0),
                        rnd.randrange(0xE000, 0x110000), 0xFF0E, 0xFF0F, 0x2025, 0x212A, 0x17F))
    text = chr(point).encode("utf8")
    return insert(path, b"".join(escape(part, rnd) for part in text) if rnd.random() < 0.9 else text, rnd)


def fullwidth(path, rnd):
    """Letters as their fullwidth form, which some normalise."""
    share, at = rnd.choice((0.1, 1.0)), place_in(path, rnd)
    return path[:at] + b"".join(
        b"".join(escape(part, rnd) for part in chr(byte + 0xFEE0).encode("utf8"))
        if byte in PLAIN and rnd.random() < share else bytes([byte]) for byte in path[at:])


def any_bytes(path, rnd):
    for _ in range(rnd.randint(1, 3)):
        path = insert(path, bytes([rnd.choice((rnd.randrange(0x21, 0x7F), rnd.randrange(256)))]), rnd)
    return path.replace(b"\r\n", b"\r")


def long_path(path, rnd):
    return path.rstrip(b"/") + rnd.choice((b"x", b"%20", b"/x", b"%C3%A9")) * rnd.choice((50, 500, 1400))


PATH_CHANGES = {
    "as it is": (as_it_is, 22), "escaped letters": (escaped_letters, 18), "escaped again": (escaped_once_more, 2),
    "any escape": (escaped_marks, 10), "overlong": (overlong, 2), "dot segments": (dot_segments, 6),
    "slashes": (slashes, 5), "parameters": (parameters, 6), "ends": (end, 6), "case": (case, 8),
    "code points": (unicode_letters, 10), "fullwidth": (fullwidth, 4), "any byte": (any_bytes, 4),
    "long": (long_path, 1),
}


def query(rnd):
    parts = [rnd.choice(QUERIES)]
    if rnd.random() < 0.3:
        parts.append(bytes(rnd.choice(ALLOWED + b"/?%") for _ in range(rnd.randint(1, 12))))
    if rnd.random() < 0.2:
        parts.append(escaped_letters(rnd.choice(QUERIES), rnd))
    return rnd.choice((b"&", b"&", b"?", b";", b"")).join(parts)


def absolute(target, host, rnd):
    """The form that proxies get, or something like it."""
    schemes = (b"http://", b"http://", b"HTTP://", b"https://", b"http:/", b"//", b"ftp://", b"http:\\\\")
    authorities = (host, host, host, host.upper(), host + b":80", b"evil.test", b"x@" + host, host + b".", b"")
    rest = rnd.choice((target, target, target, target, b"", target.lstrip(b"/")))
    return rnd.choice(schemes) + rnd.choice(authorities) + rest


SPECIAL = (
    b"*", b"/", b"admin/x", b"", b"?", b"?a=b", b"/?a=b", b"host:80", b"\\admin\\x", b".", b"..", b"%2fadmin/x", b"/*",
)


# ---------------------------------------------------------------- fields
def another_case(name, rnd):
    return bytes(byte ^ 0x20 if (97 <= byte <= 122) and rnd.random() < 0.5 else byte for byte in name)


def other_marks(name, rnd):
    return bytes(rnd.choice(MARKS) if byte == 0x2D and rnd.random() < 0.8 else byte for byte in name)


def more_marks(name, rnd):
    at = rnd.choice((0, len(name), name.find(b"-"), name.find(b"-") + 1))
    return name[:at] + bytes(rnd.choice(MARKS) for _ in range(rnd.randint(1, 3))) + name[at:]


def underscores(name, _rnd):
    return name.replace(b"-", b"_")


def lookalike(name, rnd):
    at = rnd.randint(0, len(name))
    return name[:at] + rnd.choice(LOOKALIKES) + name[at + rnd.randint(0, 1):]


def as_cgi(name, rnd):
    return rnd.choice((b"HTTP_", b"http-", b"")) + name.upper().replace(b"-", b"_")


NAME_CHANGES = {
    "in its case": (another_case, 8), "underscores": (underscores, 6), "other marks": (other_marks, 10),
    "more marks": (more_marks, 8), "as CGI": (as_cgi, 4), "lookalike": (lookalike, 1),
}


def forged(rnd):
    """A name that some service may believe, and its spelling."""
    name = rnd.choice(OWN if rnd.random() < 0.6 else FOREIGN)
    kind = _choose(NAME_TABLE, rnd)
    changed = NAME_CHANGES[kind][0](name, rnd)
    if rnd.random() < 0.3:
        changed = another_case(changed.lower(), rnd)
    return f"name: {kind}", changed


def nominated(rnd):
    """Names that `Connection` would have removed."""
    names = [rnd.choice((rnd.choice(OWN), forged(rnd)[1], b"close", b"keep-alive", b"X-Forwarded-For", b"Host"))
             for _ in range(rnd.randint(1, 3))]
    return b"Connection", rnd.choice((b", ", b",", b" , ", b",,")).join(names)


def white_space(rnd):
    """Around a forged name, where the colon or the line's start would be."""
    name = rnd.choice(OWN)
    return rnd.choice((
        name + b" : mallory", name + b"\t: mallory", b" " + name + b": mallory", name + b":", b": mallory", name,
        b"Accept: x\r\n " + name + b": mallory", b"Accept: x\r\n\t" + name + b": mallory",
        b"Accept: x\n" + name + b": mallory", b"Accept: x\r" + name + b": mallory",
        name + b":\x00mallory", name + b":\x0bmallory",
    ))


def fields(rnd):
    kinds, lines = [], []
    for _ in range(rnd.choice((0, 0, 1, 1, 1, 2, 3))):
        chance = rnd.random()
        if chance < 0.7:
            kind, name = forged(rnd)
            line = name + rnd.choice((b": ", b": ", b":", b":\t", b":  ")) + rnd.choice(VALUES)
            lines += [line] * rnd.choice((1, 1, 1, 1, 2))
            kinds.append(kind)
        elif chance < 0.9:
            lines.append(rnd.choice(OTHER_FIELDS) + b": " + rnd.choice(VALUES))
            kinds.append("name: another's")
        elif chance < 0.98:
            lines.append(b"%s: %s" % nominated(rnd))
            kinds.append("name: nominated")
        else:
            lines.append(white_space(rnd))
            kinds.append("name: white space")
    return kinds, lines


# ---------------------------------------------------------------- requests
def _choose(table, rnd):
    names, weights = table
    return rnd.choices(names, cum_weights=weights)[0]


def _table(changes):
    weights, total = [], 0
    for _, weight in changes.values():
        total += weight
        weights.append(total)
    return list(changes), weights


PATH_TABLE, NAME_TABLE = _table(PATH_CHANGES), _table(NAME_CHANGES)


class Generator:
    """`backends` are (name, host); each gets its turn."""

    def __init__(self, seed, backends, token, bad_tokens):
        self.seed, self.backends, self.token, self.bad_tokens = seed, backends, token, bad_tokens

    def input(self, number):
        rnd = Dice((self.seed << 40) + number)
        backend, host = self.backends[number % len(self.backends)]
        kinds, target = self._target(host, rnd)
        more, lines = fields(rnd)
        lines = [*lines, *self._credential(rnd)]
        rnd.shuffle(lines)
        lines.insert(rnd.randint(0, len(lines)), b"Host: " + host)
        head = b"GET " + target + b" HTTP/1.1\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
        return Input(number, backend, kinds + more, target, head)

    @staticmethod
    def _target(host, rnd):
        if rnd.random() < 0.01:
            return ["target: special"], rnd.choice(SPECIAL)
        kinds, target = [], good(rnd)
        for _ in range(rnd.choice((1, 1, 1, 1, 2))):
            kind = _choose(PATH_TABLE, rnd)
            target = PATH_CHANGES[kind][0](target, rnd)
            kinds.append(f"path: {kind}")
        if rnd.random() < 0.3:
            target += b"?" + query(rnd)
            kinds.append("query")
        if rnd.random() < 0.04:
            target = absolute(target, host, rnd)
            kinds.append("target: absolute")
        return kinds, target

    def _credential(self, rnd):
        chance = rnd.random()
        if chance < 0.85:
            return [b"Authorization: " + rnd.choice((b"Bearer ", b"Bearer ", b"Bearer ", b"bearer ")) + self.token]
        if chance < 0.95:
            return []
        if chance < 0.99:
            return [b"Authorization: Bearer " + rnd.choice(self.bad_tokens)]
        return [b"Authorization: Bearer " + self.token] * 2
