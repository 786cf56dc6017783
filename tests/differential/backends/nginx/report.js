// What nginx believes about a request. `rawVariables` are bytes; text in JSON would not hold them.
const hex = (value) => (value === undefined ? "" : value.toString("hex"));

function report(r) {
    const raw = r.rawVariables;
    r.headersOut["Content-Type"] = "application/json";
    r.return(200, JSON.stringify({
        route: r.variables.route,
        places: [r.variables.place],
        path: hex(raw.uri),
        target: hex(raw.request_uri),
        query: hex(raw.args),
        headers: r.rawHeadersIn,
        variables: {
            HTTP_X_USER_ID: r.variables.http_x_user_id,
            HTTP_X_SCOPES: r.variables.http_x_scopes,
            HTTP_X_FORWARDED_USER: r.variables.http_x_forwarded_user,
            HTTP_REMOTE_USER: r.variables.http_remote_user,
            REMOTE_USER: r.variables.remote_user,
        },
    }));
}

export default { report };
