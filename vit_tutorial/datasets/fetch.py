"""A file from the web, over unreliable connections: resumed where it stopped, limited in size, refused in few words."""

import ssl
import time
from contextlib import suppress
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from tqdm import tqdm

STALL = 30.0  # seconds for connecting, and without a byte, after which a server counts as gone
SLOWEST = 1000  # bytes a second, on average over STALL: what drips more slowly has stalled too
TRIES = 5  # that bring less than STEP bytes each
STEP = 100_000
PAUSE = 1.0  # seconds before the second try; doubled each time
CHUNK = 1 << 16


class Broken(ConnectionError):
    """A transfer that ended too early: another try may continue it."""


class Unreached(Broken):
    """Nobody answered: another try may help where somebody did before."""


class Redirects(HTTPRedirectHandler):
    """Follows at most five, and only to other http(s) addresses."""

    max_redirections, max_repeats = 5, 2

    def redirect_request(self, request, file, code, message, headers, address):
        check_address(address)
        return super().redirect_request(request, file, code, message, headers, address)


def check_address(address):
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0  # a port may be no number
    except ValueError:
        good = False
    if not good or not address.isprintable() or " " in address:
        raise ValueError(f"expected an address that begins with https:// or http://, found {address!r:.100}")


def fetch(address, part, most):
    """Download `address` into the file `part`, after what an earlier try left in it; returns when all is there.

    The server's word for the size is all that is checked: give `part` another name when its content is known to be
    right. Servers that cannot resume begin anew. Raises `ConnectionError` where the file cannot be had or is larger
    than `most` bytes, `ValueError` for an address that is not http(s), and `OSError` where the disk is full.
    """
    check_address(address)
    idle, reached = 0, False
    while True:
        before = size(part)
        try:
            return transfer(address, part, most)
        except Broken as error:
            reached = reached or not isinstance(error, Unreached)
            idle = 0 if size(part) >= before + STEP else idle + 1
            if idle == TRIES or not reached:
                raise
            time.sleep(PAUSE * 2 ** max(idle - 1, 0))


def transfer(address, part, most):
    """One try of `fetch`. Raises `Broken` where another one may help."""
    start = size(part)
    response = opened(address, start)
    if response is None:
        return
    with response:
        if response.status != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            start = 0
        if response.headers.get_content_type() == "text/html":
            raise ConnectionError("a web page came instead of the file: does this network ask you to log in first?")
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() and len(length) < 20 else None
        bar = {"unit": "B", "unit_scale": True, "desc": urlsplit(address).hostname, "mininterval": 0.5}
        with open(part, "ab" if start else "wb") as file, tqdm(total=total, initial=start, **bar) as progress:
            for chunk in chunks(response):
                if max(start + len(chunk), total or 0) > most:
                    file.truncate(0)
                    raise ConnectionError(f"the file is larger than the {most / 1e6:.0f} MB that it can be")
                start += file.write(chunk)
                progress.update(len(chunk))
    if total is not None and start < total:
        raise Broken(f"the transfer ended after {start:,} of {total:,} bytes")


def opened(address, start):
    """The response to a request for all bytes from `start` on; None where there are no more."""
    headers = {"User-Agent": "vit-tutorial", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    certificates = ssl.create_default_context()
    with suppress(ImportError):  # of its own, python.org's Python for macOS may have none
        import certifi

        certificates.load_verify_locations(certifi.where())
    opener = build_opener(Redirects, HTTPSHandler(context=certificates))  # with the proxy that is set now
    try:
        return opener.open(Request(address, headers=headers), timeout=STALL)
    except HTTPError as error:
        error.close()
        if error.code == 416 and start:
            return None if error.headers.get("Content-Range") == f"bytes */{start}" else opened(address, 0)
        reason = f"the server answered {error.code} {error.reason}"
        raise ConnectionError(" ".join(reason.split())[:200]) from None
    except URLError as error:
        raise Unreached(f"not reached ({error.reason})") from None
    except (OSError, HTTPException) as error:
        raise Broken(f"no answer ({error or type(error).__name__})") from None


def chunks(response):
    """The body of a response, as it comes. Raises `Broken` where the connection breaks, stalls or is too slow."""
    since, received = time.monotonic(), 0
    while True:
        try:
            chunk = response.read1(CHUNK)
        except (OSError, HTTPException) as error:
            raise Broken(f"the transfer broke ({error or type(error).__name__})") from None
        if not chunk:
            return
        yield chunk
        received, now = received + len(chunk), time.monotonic()
        if now - since >= STALL:
            if received < SLOWEST * STALL:
                raise Broken(f"the transfer stalled: {received:,} bytes in {now - since:.0f} s")
            since, received = now, 0


def size(path):
    return path.stat().st_size if path.exists() else 0
