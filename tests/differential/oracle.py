"""What a backend should believe about a request, and what it believes instead."""
import re
from collections import namedtuple
from urllib.parse import unquote_to_bytes

from identities import ALWAYS, CALLER, WATCHED, fold
from routes import PUBLIC

# Kind: route, path, target, query, identity or forwarding.
Disagreement = namedtuple("Disagreement", "kind asked believed")

_AUTHORITY = re.compile(rb"https?://[^/?]*", re.IGNORECASE)
# Of CGI, by the server itself and not of a header.
_OF_THE_SERVER = ("REMOTE_USER", "REMOTE_IDENT", "AUTH_TYPE")


def origin_form(target):
    """What a service gets of a target in absolute form."""
    found = _AUTHORITY.match(target)
    if not found:
        return target
    rest = target[found.end():]
    return rest if rest.startswith(b"/") else b"/" + rest


def disagreements(target, belief):
    """Of a request for `target`, judged as `belief.route`, of which the backend believes `belief`."""
    found = []

    def compare(kind, asked, believed):
        if asked != believed:
            found.append(Disagreement(kind, asked, believed))

    asked = origin_form(target)
    path, _, query = asked.partition(b"?")
    for place in belief.places:
        # A backend that knows no such place answers 404: nobody gets what was not judged.
        if place != "none":
            compare("route", belief.route, place)
    compare("path", unquote_to_bytes(path), belief.path)
    compare("target", asked, belief.target)
    compare("query", query, belief.query)
    if belief.parsed_query is not belief.query:
        compare("query", unquote_to_bytes(query), unquote_to_bytes(belief.parsed_query))
    _identity(belief, compare)
    return found


def _identity(belief, compare):
    expected = ALWAYS if belief.route in PUBLIC else CALLER | ALWAYS
    seen = set()
    for name, value in belief.headers:
        folded = fold(name)
        if folded in WATCHED:
            # By its own name and once; nothing is believed under another spelling.
            right = value == expected.get(folded) and name.lower() == folded and folded not in seen
            seen.add(folded)
            if not right:
                compare("identity", f"{folded}: {expected.get(folded)}", f"{name}: {value}")
    for name, value in belief.variables.items():
        if name in _OF_THE_SERVER:
            compare("identity", f"{name}: None", f"{name}: {value or None}")
        elif name.startswith("HTTP_"):
            folded = fold(name[5:])
            if folded in WATCHED:
                seen.add(folded)
                compare("identity", f"{name}: {expected.get(folded)}", f"{name}: {value or None}")
    for name in expected.keys() - seen:
        compare("identity", f"{name}: {expected[name]}", f"{name}: None")
