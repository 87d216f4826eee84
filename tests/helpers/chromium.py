"""A headless Chromium driven through its DevTools pipe: standard library only."""

import base64
import json
import os
import select
import shutil
import subprocess
import time

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]


class Chromium:
    """One browser with one page, to be used as a context manager. `requests` lists the addresses it asked for,
    `errors` what its console complained of."""

    def __init__(self, profile, width=1280, height=1000, dark=False):
        self.requests, self.errors, self.answers, self.last = [], [], {}, 0
        down, self.write = os.pipe()
        self.read, up = os.pipe()

        def place():  # Chromium reads commands from 3 and writes answers to 4; the copies keep them off each other
            commands, answers = os.dup(down), os.dup(up)
            os.dup2(commands, 3), os.dup2(answers, 4)

        self.buffer = b""
        self.process = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}", "about:blank"],
            preexec_fn=place,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(down), os.close(up)
        self.session = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.size(width, height)
        self.prefer(dark)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.terminate()
        self.process.wait(10)
        os.close(self.write), os.close(self.read)

    def size(self, width, height):
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def prefer(self, dark):
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def send(self, method, **parameters):
        """One command; its result."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + 30
        while self.last not in self.answers:
            self.receive(deadline - time.monotonic())
        answer = self.answers.pop(self.last)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def receive(self, seconds):
        if not select.select([self.read], [], [], max(seconds, 0))[0]:
            raise TimeoutError("Chromium does not answer")
        content = os.read(self.read, 2**20)
        if not content:
            raise RuntimeError("Chromium has ended")
        *messages, self.buffer = (self.buffer + content).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self.answers[message["id"]] = message
            elif message["method"] == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            elif message["method"] == "Runtime.exceptionThrown":
                self.errors.append(message["params"]["exceptionDetails"])
            elif message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.errors.append(message["params"]["entry"])

    def open(self, address):
        self.send("Page.navigate", url=address)

    def evaluate(self, expression):
        """Return the value of a JavaScript expression; a promise is awaited."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(json.dumps(result["exceptionDetails"])[:2000])
        return result["result"].get("value")

    def wait(self, condition, seconds=20):
        """Wait until a JavaScript expression is true."""
        deadline = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({condition})"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not true after {seconds} s: {condition}; errors: {self.errors}")
            time.sleep(0.02)

    def mouse(self, kind, x, y, **more):
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, x, y, **more):
        self.mouse("mouseMoved", x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=1, **more)

    def press(self, key, down=True, up=True):
        """Press a key and let go of it; with down or up alone, only one of the two."""
        for kind in ["keyDown"] * down + ["keyUp"] * up:
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def downloaded(self, folder, number, seconds=20):
        """Wait until a folder has as many finished downloads, and return them."""
        deadline = time.monotonic() + seconds
        while True:
            files = [f for f in folder.iterdir() if f.suffix != ".crdownload" and f.stat().st_size]
            if len(files) >= number:
                return files
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(files)} of {number} downloads after {seconds} s")
            time.sleep(0.05)

    def screenshot(self, path, whole=True):
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))
