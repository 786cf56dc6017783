// load: HTTP/1.1 requests over loopback, on one thread. Made for the benchmark beside it.
//
//   load -p PORT [-c CONNECTIONS] [-d SECONDS] [-r RATE] [-u PATH] [-t TOKENS] [-o OFFSET] [-s STATUS] [-b BODY]
//
// Closed loop (no -r): each connection sends its next request as soon as the answer is in.
// Open loop (-r): requests are due at Poisson times of this mean rate, from a fixed seed, so that every
// system gets the same arrivals. Latency counts from when a request was due, not from when it was sent:
// a system that stalls cannot hide its queue.
//
// -t names a file with one access token a line; they are used in turn, from the one numbered -o.
// Requests are built beforehand, so many tokens cost no more than one.
// Each answer is read in full, its status compared with -s, and its body with the file -b, byte for byte.
// The result is one line of JSON.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 32768, STATUSES = 600, EVENTS = 256 };
static const uint64_t SECOND = 1000000000u;
// How long answers that are still due are waited for at the end.
static const uint64_t PATIENCE = 3 * 1000000000ull;

typedef struct {
  int fd, got, sent, tries;
  bool busy;
  uint64_t due;
  const char *request;
  int length;
  char buffer[BUFFER];
} connection;

typedef struct {
  int status;
  char *body;
  long length;
  bool closes;
} answer;

static struct sockaddr_in address;
static int events, tokens, in_flight, connections = 32;
static char **requests;
static int *lengths;
static uint64_t next_token;
static char *body;
static long body_length;
static char unchunked[BUFFER];

static uint64_t *latencies, completed, room;
static uint64_t statuses[STATUSES], errors, reconnects, body_same, bytes;

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static void die(const char *what) {
  fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
  exit(2);
}

static void *grow(void *old, size_t size) {
  void *larger = realloc(old, size);
  if (!larger) die("memory");
  return larger;
}

// ---------------------------------------------------------------- connections
static void connect_to_it(connection *c) {
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  if (c->fd < 0) die("socket");
  int one = 1;
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0) die("connect");
  fcntl(c->fd, F_SETFL, O_NONBLOCK);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
  epoll_ctl(events, EPOLL_CTL_ADD, c->fd, &event);
  c->got = 0;
}

static void reconnect(connection *c) {
  close(c->fd);
  reconnects++;
  connect_to_it(c);
}

// A loopback socket takes a small request at once, so this hardly ever repeats.
static void put(connection *c) {
  while (c->sent < c->length) {
    ssize_t n = write(c->fd, c->request + c->sent, (size_t)(c->length - c->sent));
    if (n >= 0) c->sent += (int)n;
    else if (errno != EAGAIN && errno != EINTR) return;  // reading will see the close
  }
}

static void send_next(connection *c, uint64_t due) {
  uint64_t i = next_token++ % (uint64_t)tokens;
  c->request = requests[i];
  c->length = lengths[i];
  c->sent = c->tries = c->got = 0;
  c->due = due;
  c->busy = true;
  in_flight++;
  put(c);
}

// ---------------------------------------------------------------- answers
// The value of a header field between `from` and `to`, or NULL.
static char *field(char *from, char *to, const char *name) {
  size_t n = strlen(name);
  for (char *line = from; line < to;) {
    char *end = memchr(line, '\n', (size_t)(to - line));
    if (!end) break;
    if ((size_t)(end - line) > n && strncasecmp(line, name, n) == 0 && line[n] == ':') {
      char *value = line + n + 1;
      while (*value == ' ') value++;
      return value;
    }
    line = end + 1;
  }
  return NULL;
}

// 1: the whole answer is there. 0: not yet. -1: this is no HTTP/1 answer.
static int read_answer(connection *c, answer *a) {
  if (c->got < 12) return 0;
  char *end = memmem(c->buffer, (size_t)c->got, "\r\n\r\n", 4);
  if (!end) return 0;
  if (memcmp(c->buffer, "HTTP/1.", 7) != 0) return -1;
  a->status = atoi(c->buffer + 9);
  if (a->status < 100 || a->status >= STATUSES) return -1;
  char *head_end = end + 2, *start = end + 4, *limit = c->buffer + c->got;
  char *value = field(c->buffer, head_end, "connection");
  a->closes = c->buffer[7] == '0' || (value && strncasecmp(value, "close", 5) == 0);
  value = field(c->buffer, head_end, "transfer-encoding");
  if (value && strncasecmp(value, "chunked", 7) == 0) {
    char *to = unchunked;
    for (char *chunk = start;;) {
      char *line = memmem(chunk, (size_t)(limit - chunk), "\r\n", 2);
      if (!line) return 0;
      long n = strtol(chunk, NULL, 16);
      if (n < 0) return -1;
      if (limit - (line + 2) < n + 2) return 0;
      memcpy(to, line + 2, (size_t)n);
      to += n;
      chunk = line + 2 + n + 2;
      if (n == 0) break;
    }
    a->body = unchunked;
    a->length = to - unchunked;
    return 1;
  }
  value = field(c->buffer, head_end, "content-length");
  a->length = value ? atol(value) : 0;
  if (!value && a->status != 204 && a->status != 304) return -1;
  if (limit - start < a->length) return 0;
  a->body = start;
  return 1;
}

static void count(connection *c, const answer *a, uint64_t at) {
  statuses[a->status]++;
  bytes += (uint64_t)c->got;
  if (body && a->length == body_length && memcmp(a->body, body, (size_t)body_length) == 0) body_same++;
  if (completed == room) {
    room = room ? room * 2 : 1u << 18;
    latencies = grow(latencies, room * sizeof *latencies);
  }
  latencies[completed++] = at - c->due;
}

// ---------------------------------------------------------------- numbers
static int ascending(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

static double percentile(double p) {
  if (!completed) return 0;
  uint64_t rank = (uint64_t)ceil(p * (double)completed);
  return (double)latencies[rank ? rank - 1 : 0] / 1000;
}

// Nanoseconds until the next arrival.
static uint64_t gap(double rate) {
  static uint64_t s = 0x9E3779B97F4A7C15u;
  s ^= s << 13;
  s ^= s >> 7;
  s ^= s << 17;
  double uniform = (double)((s >> 11) + 1) / 9007199254740993.0;
  return (uint64_t)(-log(uniform) / rate * (double)SECOND);
}

// ---------------------------------------------------------------- set up
static void add_request(const char *path, const char *token) {
  static int space;
  if (tokens == space) {
    space = space ? space * 2 : 1024;
    requests = grow(requests, (size_t)space * sizeof *requests);
    lengths = grow(lengths, (size_t)space * sizeof *lengths);
  }
  lengths[tokens] = asprintf(&requests[tokens],
                             "GET %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: */*\r\n"
                             "X-User-ID: spoofed\r\n%s%s%s\r\n",
                             path, token ? "Authorization: Bearer " : "", token ? token : "", token ? "\r\n" : "");
  if (lengths[tokens++] < 0) die("memory");
}

static void read_tokens(const char *name, const char *path) {
  FILE *file = fopen(name, "r");
  if (!file) die(name);
  char *line = NULL;
  size_t space = 0;
  for (ssize_t n; (n = getline(&line, &space, file)) > 0;) {
    if (line[n - 1] == '\n') line[--n] = 0;
    if (n) add_request(path, line);
  }
  free(line);
  fclose(file);
}

static void read_body(const char *name) {
  FILE *file = fopen(name, "r");
  if (!file) die(name);
  body = grow(NULL, BUFFER);
  body_length = (long)fread(body, 1, BUFFER, file);
  fclose(file);
}

int main(int argc, char **argv) {
  int port = 0, want = 200;
  double rate = 0, seconds = 3;
  const char *path = "/", *token_file = NULL, *body_file = NULL;
  for (int o; (o = getopt(argc, argv, "p:c:r:d:u:t:b:o:s:")) != -1;) switch (o) {
      case 'p': port = atoi(optarg); break;
      case 'c': connections = atoi(optarg); break;
      case 'r': rate = atof(optarg); break;
      case 'd': seconds = atof(optarg); break;
      case 'u': path = optarg; break;
      case 't': token_file = optarg; break;
      case 'b': body_file = optarg; break;
      case 'o': next_token = strtoull(optarg, NULL, 10); break;
      case 's': want = atoi(optarg); break;
      default: return 2;
    }
  if (port < 1 || connections < 1 || want < 100 || want >= STATUSES) return 2;
  if (token_file) read_tokens(token_file, path);
  if (!tokens) add_request(path, NULL);
  if (body_file) read_body(body_file);
  prctl(PR_SET_TIMERSLACK, 1);
  address.sin_family = AF_INET;
  address.sin_port = htons((uint16_t)port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  events = epoll_create1(0);

  connection *all = calloc((size_t)connections, sizeof *all);
  connection **idle = calloc((size_t)connections, sizeof *idle);  // a ring: first in, first out
  if (!all || !idle) die("memory");
  uint64_t first_idle = 0, idles = 0;
  for (int i = 0; i < connections; i++) connect_to_it(&all[i]);
  uint64_t start = now(), end = start + (uint64_t)(seconds * (double)SECOND), due = start, last = start;
  if (rate > 0) {
    for (int i = 0; i < connections; i++) idle[idles++] = &all[i];
    due += gap(rate);
  } else {
    for (int i = 0; i < connections; i++) send_next(&all[i], now());
  }

  for (;;) {
    uint64_t t = now();
    while (rate > 0 && due <= t && due < end && idles > 0) {
      connection *c = idle[first_idle++ % (uint64_t)connections];
      idles--;
      send_next(c, due);
      due += gap(rate);
    }
    if (t >= end + PATIENCE) break;
    if (t >= end && in_flight == 0 && (rate == 0 || due >= end)) break;
    struct timespec wait = {0, 200000000};
    if (rate > 0 && idles > 0 && due < end) {
      t = now();
      uint64_t w = due > t ? due - t : 0;
      wait.tv_sec = (time_t)(w / SECOND);
      wait.tv_nsec = (long)(w % SECOND);
    } else if (t < end && end - t < 200000000u) {
      wait.tv_nsec = (long)(end - t);
    }
    struct epoll_event ready[EVENTS];
    int n = epoll_pwait2(events, ready, EVENTS, &wait, NULL);
    for (int k = 0; k < n; k++) {
      connection *c = ready[k].data.ptr;
      ssize_t r = read(c->fd, c->buffer + c->got, (size_t)(BUFFER - c->got));
      if (r < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      bool ended = false, closes = false;
      if (r <= 0) {  // the other end closed; it may not have seen the request, so it is sent once more
        reconnect(c);
        if (!c->busy) continue;
        if (c->tries++ == 0) {
          c->sent = 0;
          put(c);
          continue;
        }
        errors++;
        ended = true;
      } else {
        c->got += (int)r;
        answer a = {0};
        int whole = c->busy ? read_answer(c, &a) : -1;
        if (whole == 0 && c->got < BUFFER) continue;
        if (whole == 1) {
          last = now();
          count(c, &a, last);
          closes = a.closes;
        } else {
          errors++;
          closes = true;
        }
        ended = c->busy;
      }
      if (ended) {
        c->busy = false;
        c->got = 0;
        in_flight--;
      }
      if (closes) reconnect(c);
      if (!ended) continue;
      if (rate > 0) idle[(first_idle + idles++) % (uint64_t)connections] = c;
      else if (now() < end) send_next(c, now());
    }
  }

  double elapsed = (double)(last - start) / (double)SECOND, sum = 0;
  for (uint64_t i = 0; i < completed; i++) sum += (double)latencies[i];
  qsort(latencies, completed, sizeof *latencies, ascending);
  printf("{\"completed\":%" PRIu64 ",\"as_wanted\":%" PRIu64 ",\"body_same\":%" PRIu64 ",\"errors\":%" PRIu64
         ",\"unanswered\":%d,\"reconnects\":%" PRIu64 ",\"elapsed\":%.4f,\"rps\":%.1f,\"bytes\":%" PRIu64
         ",\"mean_us\":%.1f,\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f,\"next\":%" PRIu64
         ",\"status\":{",
         completed, statuses[want], body_same, errors, in_flight, reconnects, elapsed,
         elapsed > 0 ? (double)completed / elapsed : 0, bytes, completed ? sum / (double)completed / 1000 : 0,
         percentile(.5), percentile(.9), percentile(.99), percentile(1), next_token);
  const char *comma = "";
  for (int i = 0; i < STATUSES; i++)
    if (statuses[i]) {
      printf("%s\"%d\":%" PRIu64, comma, i, statuses[i]);
      comma = ",";
    }
  printf("}}\n");
  return 0;
}
