// Two backends on Node: plain `http` with the URL parser that applications use, and Express as it is
// without any settings.
//
//   node server.mjs plain|express '{"public": 1234, "admin": 1235, …}'      a port for each route
import http from "node:http";

const [kind, ports] = process.argv.slice(2);
const hex = (text, encoding) => Buffer.from(text ?? "", encoding).toString("hex");

function decoded(path) {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

function report(request, route, places, path, query) {
  const variable = (name) => request.headers[name];
  return JSON.stringify({
    route,
    places,
    path: hex(decoded(path)),
    target: hex(request.url, "latin1"),
    query: hex(query, "latin1"),
    parsed_query: hex(new URL(request.url, "http://backend.test").search.slice(1), "latin1"),
    headers: pairs(request.rawHeaders),
    variables: {
      HTTP_X_USER_ID: variable("x-user-id"),
      HTTP_X_SCOPES: variable("x-scopes"),
      HTTP_X_FORWARDED_USER: variable("x-forwarded-user"),
      HTTP_REMOTE_USER: variable("remote-user"),
    },
  });
}

const pairs = (flat) => Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i], flat[2 * i + 1]]);
const rawQuery = (url) => (url.includes("?") ? url.slice(url.indexOf("?") + 1) : "");

const PLACES = [
  ["health", /^\/orders\/health\/?$/],
  ["export", /^\/orders\/export\/?$/],
  ["orders", /^\/orders\/[^/]+\/?$/],
  ["admin", /^\/admin(\/|$)/],
  ["internal", /^\/public\/internal(\/|$)/],
  ["public", /^\/public(\/|$)/],
  ["about", /^\/teams\/[^/]+\/about(\/|$)/],
  ["members", /^\/teams\/[^/]+\/members\/?$/],
  ["owners", /^\/teams\/[^/]+\/Owners\/?$/],
];
const place = (path) => PLACES.find(([, pattern]) => pattern.test(path))?.[0] ?? "none";

// Some applications compare the path as it is, some decode it before.
function plain(route) {
  return (request, response) => {
    const path = new URL(request.url, "http://backend.test").pathname;
    const places = [place(path), place(decoded(path))];
    answer(response, report(request, route, places, path, rawQuery(request.url)));
  };
}

async function express(route) {
  const { default: makeApp } = await import("express");
  const app = makeApp();
  const believe = (name) => (request, response) =>
    answer(response, report(request, route, [name], request.path, rawQuery(request.url)));
  app.all("/orders/health", believe("health"));
  app.all("/orders/export", believe("export"));
  app.all("/orders/:id", believe("orders"));
  app.all("/admin{/*rest}", believe("admin"));
  app.all("/public/internal{/*rest}", believe("internal"));
  app.all("/public{/*rest}", believe("public"));
  app.all("/teams/:team/about{/*rest}", believe("about"));
  app.all("/teams/:team/members", believe("members"));
  app.all("/teams/:team/Owners", believe("owners"));
  app.use(believe("none"));
  return app;
}

function answer(response, text) {
  response.writeHead(200, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(text) });
  response.end(text);
}

for (const [route, port] of Object.entries(JSON.parse(ports))) {
  const handler = kind === "express" ? await express(route) : plain(route);
  const careful = (request, response) => {
    try {
      handler(request, response);
    } catch {
      response.writeHead(400).end("no URL");
    }
  };
  const server = http.createServer({ keepAliveTimeout: 3_600_000, maxHeaderSize: 65536 }, careful);
  server.listen(port, "127.0.0.1");
}
