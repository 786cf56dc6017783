"""The backends: how each is started, and how its report is read. All are configured to be as careless as
they can be: what the careful one refuses by itself shows nothing about the gateway."""
import base64
import binascii
import glob
import html
import json
import os
import re
import shutil
from collections import namedtuple

import processes
from routes import NAMES

SOURCES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "backends")
NODE_MODULES = os.environ.get("NODE_MODULES", "")

# What a backend believes. `route`: how the request was judged, by the port; `places`: where the backend's
# own routing puts it, in one or several ways; `path`: decoded and normalised; `target`, `query`: as it got
# them; `headers`: all fields, where it can tell; `variables`: what an application reads, as CGI calls it.
Belief = namedtuple("Belief", "route places path target query parsed_query headers variables")

# Asked directly, at the port of `route`, for `target`, a backend must be caught at these `kinds` of
# disagreement; without any, it must agree. `asked` is what the oracle is told, where that is another target.
Control = namedtuple("Control", "name route target fields kinds asked", defaults=((), frozenset(), None))

COMMON = (
    Control("nothing", "public", b"/public/x?a=1"),
    Control("a forged identity", "public", b"/public/x", ((b"X-User-ID", b"mallory"),), {"identity"}),
    Control("no identity where there should be", "orders", b"/orders/7", (), {"identity"}),
    Control("another path", "public", b"/public/x", (), {"path", "target"}, b"/public/y"),
    Control("another query", "public", b"/public/x?a=2", (), {"query"}, b"/public/x?a=1"),
    Control("another route", "public", b"/admin/x", (), {"route"}),
)


def resolves(target):
    return Control(f"it resolves {target.decode()}", "public", target, (), {"route"})


def folds(name):
    return Control(f"it folds {name.decode()}", "public", b"/public/x", ((name, b"mallory"),), {"identity"})


class Backend:
    name = "?"
    controls = ()

    def __init__(self):
        self.ports = dict(zip(NAMES, processes.free_ports(len(NAMES))))

    @property
    def host(self):
        return f"{self.name}.test"

    def start(self, root):
        folder = processes.folder_in(root, self.name)
        program = processes.start(self.name, self.command(folder), folder)
        processes.wait_until_open(program, self.ports.values())

    def command(self, folder):
        """Writes the configuration into `folder`; returns the command."""
        raise NotImplementedError

    def read(self, body):
        """The belief in a response, or None when this is no report."""
        if not body.startswith(b'{"route"'):
            return None
        # Field values are any bytes; nobody's own are other than ASCII.
        said = json.loads(body.decode("latin1"))
        raw = {key: binascii.unhexlify(said[key]) for key in ("path", "target", "query")}
        parsed = said.get("parsed_query")
        return Belief(
            self.route(said["route"]), said["places"], raw["path"], raw["target"], raw["query"],
            raw["query"] if parsed is None else binascii.unhexlify(parsed), said["headers"], said["variables"])

    def route(self, said):
        return said


def run_as_root(line):
    return line if os.geteuid() == 0 else ""


class Nginx(Backend):
    """`$uri`, and the location that takes it."""
    name = "nginx"
    controls = (
        *COMMON, resolves(b"/public/..%2fadmin/x"), resolves(b"//public//..//admin/x"), folds(b"X_User_ID"),
    )

    def command(self, folder):
        source = os.path.join(SOURCES, "nginx")
        servers = "\n".join(
            f"    server {{ listen 127.0.0.1:{port} backlog=4096; set $route {route}; "
            f"include {source}/places.conf; }}" for route, port in self.ports.items())
        config = os.path.join(folder, "nginx.conf")
        processes.fill(os.path.join(source, "nginx.conf"), config, FOLDER=folder, SOURCE=source, SERVERS=servers,
                       MODULES="/usr/lib/nginx/modules", USER=run_as_root("user root;"))
        return [shutil.which("nginx"), "-p", folder, "-c", config]


class Apache(Backend):
    """What a CGI program behind httpd would get, and the sections that apply to the request."""
    name = "apache"
    controls = (
        *COMMON, resolves(b"/public/%2e%2e/admin/x"), resolves(b"//public/..//admin/x"), folds(b"x-uSER-id"),
    )
    echoed = re.compile(rb"belief\nPATH=(.*)\nTARGET=(.*)\nQUERY=(.*)\n")
    printed = re.compile(rb"^([A-Z_0-9a-z]+)=(.*)$", re.MULTILINE)

    def command(self, folder):
        servers = "\n".join(
            f"Listen 127.0.0.1:{port}\n<VirtualHost 127.0.0.1:{port}>\n    SetEnv ROUTE {route}\n</VirtualHost>"
            for route, port in self.ports.items())
        source, config = os.path.join(SOURCES, "apache"), os.path.join(folder, "httpd.conf")
        # It is served as somebody else when root starts it.
        pages = processes.folder_in(folder, "pages")
        shutil.copy(os.path.join(source, "report.shtml"), pages)
        processes.fill(os.path.join(source, "httpd.conf"), config, FOLDER=folder, SOURCE=pages, SERVERS=servers,
                       MODULES="/usr/lib/apache2/modules",
                       USER=run_as_root("User www-data\nGroup www-data"))
        return [shutil.which("apache2"), "-f", config, "-D", "FOREGROUND"]

    def read(self, body):
        echoed = self.echoed.match(body)
        if not echoed:
            return None
        path, target, query = (b"" if part == b"(none)" else base64.b64decode(part)
                               for part in echoed.groups())
        variables = {name.decode(): html.unescape(value.decode("latin1"))
                     for name, value in self.printed.findall(body, echoed.end())}
        return Belief(variables.pop("ROUTE"), [variables.pop("PLACE")], path, target, query, query, [], variables)


class Tomcat(Backend):
    """`getServletPath` and `getPathInfo`, and the servlet that the path maps to."""
    name = "tomcat"
    controls = (
        *COMMON, resolves(b"/public/..%2fadmin/x"), resolves(b"/public/..;a=b/admin/x"),
        resolves(b"/public/..\\admin/x"), resolves(b"/public/..%5cadmin/x"), resolves(b"/admin;x/x"),
        folds(b"X-USER-id"),
    )
    home = "/usr/share/tomcat10"

    def command(self, folder):
        source = os.path.join(SOURCES, "tomcat")
        for name in ("conf", "logs", "temp", "work", "webapps/ROOT/WEB-INF"):
            os.makedirs(os.path.join(folder, name))
        root = os.path.join(folder, "webapps/ROOT")
        with open(os.path.join(source, "connector.xml")) as file:
            connector = file.read()
        connectors = "".join(connector.replace("@PORT@", str(port)) for port in self.ports.values())
        servlets = "\n".join(
            f"  <servlet><servlet-name>{name}</servlet-name><jsp-file>/WEB-INF/report.jsp</jsp-file>"
            "<load-on-startup>1</load-on-startup></servlet>" for name in (*NAMES, "none"))
        processes.fill(os.path.join(source, "server.xml"), os.path.join(folder, "conf/server.xml"),
                       CONNECTORS=connectors)
        processes.fill(os.path.join(source, "web.xml"), os.path.join(root, "WEB-INF/web.xml"), SERVLETS=servlets)
        shutil.copy(os.path.join(source, "report.jsp"), os.path.join(root, "WEB-INF/report.jsp"))
        shutil.copy(os.path.join(self.home, "etc/web.xml"), os.path.join(folder, "conf/web.xml"))
        # Debian keeps the compiler of pages apart from Tomcat.
        compilers = ",".join(f'"{jar}"' for pattern in ("ecj.jar", "eclipse-jdt-core.jar")
                             for jar in glob.glob(os.path.join("/usr/share/java", pattern)))
        with open(os.path.join(self.home, "etc/catalina.properties")) as file:
            properties = file.read()
        loader = '"${catalina.home}/lib","${catalina.home}/lib/*.jar",' + compilers
        properties = re.sub(r"(?m)^common\.loader=.*$", lambda _: f"common.loader={loader.rstrip(',')}", properties)
        with open(os.path.join(folder, "conf/catalina.properties"), "w") as file:
            file.write(properties)
        return ["java", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=4",
                "-cp", f"{self.home}/bin/bootstrap.jar:{self.home}/bin/tomcat-juli.jar",
                f"-Dcatalina.home={self.home}", f"-Dcatalina.base={folder}", f"-Djava.io.tmpdir={folder}/temp",
                "org.apache.catalina.startup.Bootstrap", "start"]

    def route(self, said):
        return next(route for route, port in self.ports.items() if said == f"port {port}")


class Node(Backend):
    """Node's `http`, with `new URL` for the path, compared both as it is and decoded."""
    name = "node"
    kind = "plain"
    controls = (
        *COMMON, resolves(b"/public/../admin/x"), resolves(b"/public/%2e%2E/admin/x"),
        resolves(b"/public/..\\admin\\x"), resolves(b"//public/admin/x"), resolves(b"/%61dmin/x"),
    )

    def command(self, folder):
        return ["node", os.path.join(SOURCES, "node", "server.mjs"), self.kind, json.dumps(self.ports)]


class Express(Node):
    """Express as it is without settings: routes are matched in any case, before decoding."""
    name = "express"
    kind = "express"
    controls = (
        *COMMON, resolves(b"/ADMIN/x"), resolves(b"/teams/7/OWNERS"),
        Control("it decodes too late", "health", b"/orders/%68ealth", (), {"route"}),
    )

    def command(self, folder):
        # Modules are looked for beside the file that asks for them.
        for name in ("server.mjs", "package.json"):
            shutil.copy(os.path.join(SOURCES, "node", name), folder)
        os.symlink(NODE_MODULES, os.path.join(folder, "node_modules"))
        return ["node", os.path.join(folder, "server.mjs"), self.kind, json.dumps(self.ports)]


BACKENDS = {backend.name: backend for backend in (Nginx, Apache, Tomcat, Node, Express)}
