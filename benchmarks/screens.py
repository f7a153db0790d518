"""Pictures of a page as a browser shows it, on a desk and on a phone, light and dark, and as it is printed.

    python -m benchmarks.screens outputs/latest/index.html --to screens

It needs a Chromium or Chrome on the PATH, writes desk-light.png, desk-dark.png, phone-light.png, phone-dark.png and
print.pdf, and tells of each whether the page is wider than the screen. A picture ends after 8,000 pixels of the page.
"""

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTHS = {"desk": 1400, "phone": 390}
"""CSS pixels."""
TALLEST = 8000
"""CSS pixels of a picture; the rest of a longer page is left out."""
TALL = {"desk": 900, "phone": 844}


class Browser:
    """A browser's debugging pipe: JSON messages that end with a zero byte (chrome --remote-debugging-pipe)."""

    def __init__(self, command: str, profile: str) -> None:
        theirs, self._ask = os.pipe()
        self._hear, mine = os.pipe()
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe"]
        wired = ["sh", "-c", f'exec "$@" 3<&{theirs} 4>&{mine} 2>/dev/null', "sh", command, *options]
        self._process = subprocess.Popen([*wired, f"--user-data-dir={profile}"], pass_fds=(theirs, mine))
        os.close(theirs)
        os.close(mine)
        self._rest = b""
        self._number = 0
        self.session: str | None = None

    def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to one message. Raises RuntimeError where the browser refuses it or is gone."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self._ask, json.dumps(message).encode() + b"\0")
        for told in self._messages():
            if told.get("id") == self._number:
                if "error" in told:
                    raise RuntimeError(f"{method}: {told['error']['message']}")
                return dict(told["result"])
        raise RuntimeError(f"the browser ended at {method}")

    def wait(self, event: str) -> None:
        """Until the browser tells of the event."""
        for told in self._messages():
            if told.get("method") == event:
                return

    def _messages(self) -> Iterator[dict[str, Any]]:
        while True:
            whole, zero, rest = self._rest.partition(b"\0")
            if zero:
                self._rest = rest
                yield json.loads(whole)
                continue
            more = os.read(self._hear, 1 << 20)
            if not more:
                return
            self._rest += more

    def close(self) -> None:
        """End the browser."""
        os.close(self._ask)
        self._process.terminate()
        self._process.wait()
        os.close(self._hear)


@contextmanager
def opened(command: str) -> Iterator[Browser]:
    """A browser with an empty page."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(command, profile)
        try:
            target = browser("Target.createTarget", url="about:blank")["targetId"]
            browser.session = browser("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            browser("Page.enable")
            yield browser
        finally:
            browser.close()


def picture(browser: Browser, url: str, screen: str, scheme: str) -> tuple[bytes, int]:
    """(PNG, CSS pixels by which the page is wider than the screen)."""
    width, phone = WIDTHS[screen], screen == "phone"
    size = {"width": width, "height": TALL[screen], "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
    browser("Emulation.setDeviceMetricsOverride", **size)
    browser("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    show(browser, url)
    needed = browser("Page.getLayoutMetrics")["cssContentSize"]
    clip = {"x": 0, "y": 0, "width": width, "height": min(needed["height"], TALLEST), "scale": 1}
    shot = browser("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
    return base64.b64decode(shot["data"]), max(0, round(needed["width"]) - width)


def printed(browser: Browser, url: str) -> bytes:
    """The page as PDF, on paper of the size that it asks for."""
    browser("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    show(browser, url)
    return base64.b64decode(browser("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"])


def show(browser: Browser, url: str) -> None:
    """Go to a page and wait until it is loaded and laid out."""
    browser("Page.navigate", url=url)
    browser.wait("Page.loadEventFired")
    frames = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    browser("Runtime.evaluate", expression=frames, awaitPromise=True)


def main() -> int:
    """The command."""
    description, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.screens", description=description, epilog=rest,
        formatter_class=argparse.RawTextHelpFormatter,
    )  # fmt: skip
    parser.add_argument("page", type=Path, help="an HTML file")
    parser.add_argument("--to", type=Path, default=Path("screens"), metavar="DIR", help="default: screens")
    given = parser.parse_args()
    command = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if command is None:
        print(f"no browser is on the PATH: install one of {', '.join(BROWSERS)}", file=sys.stderr)
        return 2
    if not given.page.is_file():
        print(f"{given.page} is no file", file=sys.stderr)
        return 2
    given.to.mkdir(parents=True, exist_ok=True)
    url = given.page.resolve().as_uri()
    with opened(command) as browser:
        for screen in WIDTHS:
            for scheme in ("light", "dark"):
                data, over = picture(browser, url, screen, scheme)
                file = given.to / f"{screen}-{scheme}.png"
                file.write_bytes(data)
                print(f"{file}: {f'{over} pixels wider than the screen' if over else 'fits the screen'}")
        (given.to / "print.pdf").write_bytes(printed(browser, url))
        print(given.to / "print.pdf")
    return 0


if __name__ == "__main__":
    sys.exit(main())
