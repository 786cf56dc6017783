<%@ page language="java" contentType="application/json; charset=UTF-8" session="false" trimDirectiveWhitespaces="true"
    import="java.nio.charset.StandardCharsets, java.util.*" %><%!
// What Tomcat believes about a request.
static String hex(String text, java.nio.charset.Charset charset) {
    return text == null ? "" : HexFormat.of().formatHex(text.getBytes(charset));
}
static String quoted(String text) {
    if (text == null) return "null";
    StringBuilder out = new StringBuilder("\"");
    for (char c : text.toCharArray()) {
        if (c < ' ' || c > '~' || c == '"' || c == '\\') out.append(String.format("\\u%04x", (int) c));
        else out.append(c);
    }
    return out.append('"').toString();
}
%><%
StringBuilder json = new StringBuilder("{\"route\": \"port ").append(request.getLocalPort());
json.append("\", \"places\": [").append(quoted(config.getServletName()));
String info = request.getPathInfo();
json.append("], \"path\": \"").append(hex(request.getServletPath() + (info == null ? "" : info), StandardCharsets.UTF_8));
String query = request.getQueryString();
String target = request.getRequestURI() + (query == null ? "" : "?" + query);
json.append("\", \"target\": \"").append(hex(target, StandardCharsets.ISO_8859_1));
json.append("\", \"query\": \"").append(hex(query, StandardCharsets.ISO_8859_1));
json.append("\", \"headers\": [");
String comma = "";
for (String name : Collections.list(request.getHeaderNames())) {
    for (String value : Collections.list(request.getHeaders(name))) {
        json.append(comma).append("[").append(quoted(name)).append(",").append(quoted(value)).append("]");
        comma = ",";
    }
}
json.append("], \"variables\": {\"HTTP_X_USER_ID\": ").append(quoted(request.getHeader("X-User-ID")));
json.append(", \"HTTP_X_SCOPES\": ").append(quoted(request.getHeader("X-Scopes")));
json.append(", \"HTTP_X_FORWARDED_USER\": ").append(quoted(request.getHeader("X-Forwarded-User")));
json.append(", \"REMOTE_USER\": ").append(quoted(request.getRemoteUser())).append("}}");
out.print(json);
%>
