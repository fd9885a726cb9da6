"""A web server on this machine that, where told, fails: the tests of everything that is downloaded use it."""

import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Says nothing, and answers with what `reply` is given, unless the client has had enough."""

    protocol_version = "HTTP/1.1"

    def handle(self):
        with suppress(ConnectionError):
            super().handle()

    def log_message(self, *_):
        pass

    def reply(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@contextmanager
def serving(handler):
    """A running server, with `url`, `requests` (for handlers to note them in) and `stop()`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads, server.requests = True, []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()

    def stop():
        if thread.is_alive():
            server.shutdown()
            server.server_close()

    server.stop = stop
    try:
        yield server
    finally:
        stop()


class Files(Handler):
    """`server.files[path]`, in parts where asked for; `server.faults[path]` is an iterator of what goes wrong."""

    def do_GET(self):
        server, path = self.server, self.path.partition("?")[0]
        part = self.headers.get("Range")
        server.requests.append((path, part))
        fault = next(server.faults.get(path, iter(())), None)
        if fault:
            return fault(self, server.files.get(path, b""), part)
        if path not in server.files:
            return self.reply(404, Content_Length=0)
        self.send(server.files[path], part)

    def send(self, body, part=None, sent=None, length=None):
        """The body from `part` on: of it `sent` bytes (None: all), and a Content-Length that may be another."""
        start = int(part[6:].split("-")[0]) if part else 0
        if start and start >= len(body):
            return self.reply(416, Content_Range=f"bytes */{len(body)}", Content_Length=0)
        rest = body[start:]
        extra = {"Content_Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if part else {}
        self.close_connection = sent is not None or length is not None
        self.reply(206 if part else 200, rest[:sent], Content_Length=len(rest) if length is None else length, **extra)


# ------------------------------------------------------------------------------------------------ faults


def status(code):
    return lambda handler, body, part: handler.reply(code, Content_Length=0)


def redirect(place):
    return lambda handler, body, part: handler.reply(302, Location=place, Content_Length=0)


def cut(sent):
    """So many bytes, then the line is dead."""
    return lambda handler, body, part: handler.send(body, part, sent=sent)


def promise(length):
    """A Content-Length that is wrong: by so much, or altogether."""

    def fault(handler, body, part):
        handler.send(body, part, length=len(body) + length if isinstance(length, int) else length)

    return fault


def corrupt(handler, body, part):
    middle = len(body) // 2
    handler.send(body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :], part)


def ignore_range(handler, body, part):
    handler.send(body)


def wrong_part(handler, body, part):
    """The beginning, called the part that was asked for."""
    handler.reply(206, body, Content_Range=f"bytes 0-{len(body) - 1}/{len(body)}", Content_Length=len(body))


def web_page(handler, body, part):
    page = b"<h1>Welcome to our hotel. Please log in.</h1>"
    handler.reply(200, page, Content_Type="text/html; charset=utf-8", Content_Length=len(page))


def stall(sent):
    """So many bytes, then nothing more until the client hangs up."""

    def fault(handler, body, part):
        handler.send(body, part, sent=sent)
        silent(handler, body, part)

    return fault


def silent(handler, body, part):
    handler.connection.recv(1)


def drip(handler, body, part):
    """A byte now and then, for ever."""
    handler.reply(200, Content_Length=len(body))
    for byte in body:
        handler.wfile.write(bytes([byte]))
        time.sleep(0.02)


def slow(handler, body, part):
    """All of it, in ten pieces."""
    handler.reply(200, Content_Length=len(body))
    for start in range(0, len(body), step := -(-len(body) // 10)):
        handler.wfile.write(body[start : start + step])
        time.sleep(0.01)


def endless(handler, body, part):
    """No Content-Length, and no end."""
    handler.close_connection = True
    handler.reply(200)
    while True:
        handler.wfile.write(bytes(1 << 16))


def broken_chunks(handler, body, part):
    handler.close_connection = True
    handler.reply(200, b"ffff\r\nonly these", Transfer_Encoding="chunked")


def no_http(handler, body, part):
    handler.close_connection = True
    handler.wfile.write(b"220 mail.example.org ESMTP\r\n")
