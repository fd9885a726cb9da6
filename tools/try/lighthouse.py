"""Lighthouse's marks for the landing page and a notebook's page of a built site: median of three runs, phone settings.

    python tools/try/lighthouse.py build/site

Exit status 1 where a mark is below what the site promises. The pages are served compressed, as static hosts do. Needs
npm, a Chromium and a quiet machine; Lighthouse itself is installed beside the front ends of the tests on first use.
"""

import argparse
import functools
import gzip
import http.server
import io
import json
import os
import statistics
import subprocess
import sys
import threading
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[2] / room) for room in ("tools/build", "tests"))

from front_ends import chromium
from install_front_ends import npm_program

LIGHTHOUSE = "lighthouse@12.8.2"
PAGES = ("index.html", "notebooks/00_start_here.html")
LEAST = {"performance": 90, "accessibility": 95, "best-practices": 95}
RUNS = 3
TIMES = ("first-contentful-paint", "largest-contentful-paint", "total-blocking-time", "cumulative-layout-shift")


class Compressing(http.server.SimpleHTTPRequestHandler):
    """Files as they are asked for, texts compressed."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def send_head(self):
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() else path
        if path.suffix not in (".html", ".js", ".css", ".svg") or not path.is_file():
            return super().send_head()
        body = gzip.compress(path.read_bytes())
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return io.BytesIO(body)


def marks(program, url, chromium):
    """The marks of one run, 0 to 100, and the largest delays in words."""
    command = ["node", program, url, "--quiet", "--output=json", f"--only-categories={','.join(LEAST)}"]
    command += ["--chrome-flags=--headless=new --no-sandbox --disable-gpu"]
    environment = os.environ | {"CHROME_PATH": chromium}
    made = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=180)
    if made.returncode:
        raise SystemExit(f"Lighthouse failed: {made.stderr.strip()[-500:]}")
    report = json.loads(made.stdout)
    audits = report["audits"]
    for name in TIMES:
        print(f"  {audits[name]['title']}: {audits[name]['displayValue']}", end=";")
    lost = [a["title"] for a in audits.values() if a["scoreDisplayMode"] == "binary" and a["score"] == 0]
    print(f"\n  lost: {lost}" if lost else "")
    return {name: round(100 * report["categories"][name]["score"]) for name in LEAST}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=Path)
    options = parser.parse_args()
    program, failed = npm_program(LIGHTHOUSE, "lighthouse/cli/index.js"), False
    handler = functools.partial(Compressing, directory=options.site)
    with http.server.ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for page in PAGES:
            runs = [marks(program, f"http://localhost:{server.server_port}/{page}", chromium()) for _ in range(RUNS)]
            for name, least in LEAST.items():
                mark = statistics.median(run[name] for run in runs)
                failed |= mark < least
                print(f"{page:35} {name:15} {mark:3} of at least {least}, from {[run[name] for run in runs]}")
        server.shutdown()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
