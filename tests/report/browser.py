"""A real browser for the tests of the page: Chromium without a window, spoken to over two pipes."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-component-update "
    "--disable-background-networking --disable-sync --remote-debugging-pipe"
)
PATIENCE = 200  # seconds until an answer or a file must be there


class Browser:
    """One page in a browser; `console` is what it complained of."""

    def __init__(self, folder: Path) -> None:
        assert CHROMIUM is not None
        (to_read, self._write), (self._read, to_write) = os.pipe(), os.pipe()
        # Chromium reads commands from descriptor 3 and answers on 4.
        command = f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}'
        arguments = [*OPTIONS.split(), f"--user-data-dir={folder / 'profile'}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", command, CHROMIUM, *arguments],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._numbers = itertools.count(1)
        self._waiting = b""
        self._session: str | None = None
        self.console: list[str] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def close(self) -> None:
        """End the browser."""
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command; return its answer."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._waiting:
            part = os.read(self._read, 1 << 20)
            assert part, "the browser has ended"
            self._waiting += part
        text, _, self._waiting = self._waiting.partition(b"\0")
        return json.loads(text)

    def _note(self, event: dict[str, Any]) -> None:
        """Keep what the page complained of."""
        parameters = event.get("params", {})
        if event.get("method") == "Log.entryAdded":
            self.console.append(parameters["entry"]["text"])
        if event.get("method") in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            self.console.append(json.dumps(parameters))

    def look(self, width: int, height: int = 900, scheme: str = "light", media: str = "") -> None:
        """Set the window's size in CSS pixels, the colour scheme, and the medium (`print`)."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", media=media, features=features)

    def open(self, file: Path) -> None:
        """Open a page and wait until it is whole."""
        self.ask("Page.navigate", url=file.as_uri())
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """Return the value of an expression, computed in the page."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until an expression is true in the page."""
        until = time.monotonic() + PATIENCE
        while not self.run(condition):
            assert time.monotonic() < until, condition
            time.sleep(0.05)

    def press(self, key: str) -> None:
        """Press a key, as a person does."""
        text = key if len(key) == 1 else ""
        self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, text=text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", key=key, code=key)

    def click(self, selector: str) -> None:
        """Click the middle of an element, as a person does."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{element}.scrollIntoView({{block: 'center'}})")
        box = self.run(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
            f"({element}.getBoundingClientRect())"
        )
        place = {"x": box[0], "y": box[1], "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, **place)

    def save_to(self, folder: Path) -> None:
        """Let what the page saves arrive in `folder`."""
        self.ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def picture(self, file: Path) -> None:
        """Save what the window shows as PNG."""
        data = self.ask("Page.captureScreenshot", format="png")["data"]
        file.write_bytes(base64.b64decode(data))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start a browser whose profile is in `folder`, and end it."""
    found = Browser(folder)
    try:
        yield found
    finally:
        found.close()


def arrived(file: Path) -> bytes:
    """Return the content of a file that a browser is saving, once it is there."""
    until = time.monotonic() + PATIENCE
    while not file.exists() or not file.stat().st_size:
        assert time.monotonic() < until, f"{file} has not come"
        time.sleep(0.05)
    return file.read_bytes()
