"""What the attention tab costs: `python -m experiments.attention-tab.measure training|bytes|browser`.

`browser` needs Chromium, on PATH or named by CHROMIUM.
"""

import argparse
import itertools
import logging
import statistics
import tempfile
import threading
import time
from pathlib import Path

import torch
from werkzeug.serving import make_server

from sagan.attention import KINDS, AttentionMap, Place, build_attention, capture_maps
from sagan.benchmark.forms import noise_inputs
from sagan.config import AttentionConfig
from sagan.data import open_data
from sagan.layers import initialize
from sagan.presets import load_config
from sagan.runs.log import RunLog
from sagan.training.loop import train_step
from sagan.training.state import build_state
from sagan.viewing import recorder
from sagan.viewing.capture import LayerView
from sagan.viewing.overlays import board_images
from sagan.viewing.plugin import NAME
from sagan.viewing.records import encode, record_tag
from tests.helpers.chromium import Chromium
from tests.helpers.providers import LOADERS, loaded, web_application

PRESETS = {
    "quickstart": [],
    "cifar10-cpu": [],
    "cifar10": [],
    "tiny-imagenet": ["training.batch_size=16", "data.path=null"],
}


def training() -> None:
    """Measure the processor time of a step, of a record of the attention, and of its part that a GPU would not take
    over, for each preset on drawn scenes."""
    for name, overrides in PRESETS.items():
        step, record, writing, every = _training(name, overrides)
        share = 100 * record / (every * step)
        print(
            f"{name:14} step {step:.3f} s, record {record:.3f} s ({writing:.3f} s to encode and write), "
            f"every {every} steps: {share:.3f} %",
            flush=True,
        )


def _training(name: str, overrides: list[str]) -> tuple[float, float, float, int]:
    """Return the seconds of a step, of a record, and of encoding and writing; the steps from record to record."""
    config = load_config(name, ["data.source=shapes", "data.num_classes=10", "data.memory_gb=0", *overrides])
    data, state = open_data(config.data), build_state(config, torch.device("cpu"), torch.float32)
    inputs = noise_inputs(state)
    step = _best(lambda: train_step(state, inputs), 3)
    views, steps = recorder.attention_views(state, data), itertools.count(1)
    looking = _best(lambda: recorder.attention_entropies(recorder.attention_views(state, data)), 5)
    with tempfile.TemporaryDirectory() as directory, RunLog(Path(directory)) as log:
        log.begin(0)
        writing = _best(lambda: _write(views, log, next(steps)), 5)
    return step, looking + writing, writing, config.logging.attention_every


def _write(views: list[LayerView], log: RunLog, step: int) -> None:
    for view in views:
        log.blobs(record_tag(view), encode(view, "sagan"), step, NAME)
    for name, picture in board_images(views).items():
        log.image(name, picture, step)


def _best(work, times: int) -> float:
    """Return the least processor time of some calls, in seconds: other work on the machine can only add to it."""
    spent = []
    for _ in range(times + 1):  # the first warms up
        since = time.process_time()
        work()
        spent.append(time.process_time() - since)
    return min(spent[1:])


def bytes_() -> None:
    """Measure the size of a record of four images for every kind, 256 channels on 32x32, with initial weights and with
    those multiplied by 10, and of the largest maps that are stored whole."""
    for kind in KINDS:
        sizes = [_size(kind, gain) for gain in (1, 10)]
        if None not in sizes:
            print(f"{kind:20} {sizes[0] / 1000:6.0f} kB {sizes[1] / 1000:6.0f} kB")
    for strength in (0.01, 0.1, 1, 3, 10):
        print(f"random logits of standard deviation {strength}: {_bytes(_random_view(strength)) / 1000:.0f} kB")


def _size(kind: str, gain: float) -> int | None:
    if KINDS[kind] is None:
        return None
    torch.manual_seed(0)
    layer = build_attention(AttentionConfig(kind=kind), Place(256, (32, 32), False, batch_norm=True))
    initialize(layer, "xavier")
    with torch.no_grad(), capture_maps(layer.eval()) as maps:
        for weight in layer.parameters():
            weight.mul_(gain)
        layer(torch.randn(4, 256, 32, 32))
    return _bytes(_view(maps[""])) if maps[""] else None


def _view(maps: list[AttentionMap]) -> LayerView:
    images = torch.randint(0, 256, (4, 3, 128, 128), dtype=torch.uint8)  # noise: no picture has larger files
    return LayerView("generator", "blocks.2.attention", "generated", images, torch.arange(4), maps, 0.5)


def _random_view(strength: float, heads: int = 1) -> LayerView:
    queries, keys = ((32, 32), (16, 16)) if heads == 1 else ((16, 16), (8, 8))
    logits = strength * torch.randn(4, heads, queries[0] * queries[1], keys[0] * keys[1])
    return _view([AttentionMap("matrix", logits.softmax(-1), queries, keys, distribution=True)])


def _bytes(view: LayerView) -> int:
    return sum(map(len, encode(view, "sagan")))


def browser() -> None:
    """Time a redraw after a hover and the choice of a step, on forty steps of the largest maps, with both loaders."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        logdir = Path(folder) / "logs"
        for run, heads in (("one head", 1), ("sixteen heads", 16)):
            (logdir / run).mkdir(parents=True)
            with RunLog(logdir / run) as log:
                log.begin(0)
                view = _random_view(1.0, heads)
                for step in range(40):
                    log.blobs(record_tag(view), encode(view, "sagan"), 1000 * step, NAME)
        for loader in LOADERS:
            with loaded(loader, logdir) as provider, Chromium(Path(folder) / loader) as page:
                server = make_server("127.0.0.1", 0, web_application(provider), threaded=True)
                threading.Thread(target=server.serve_forever, daemon=True).start()
                page.open(f"http://127.0.0.1:{server.port}/data/plugin_entry.html?name={NAME}")
                page.wait("document.querySelector('.panel')?.dataset.strip === 'ready'")
                _report(f"{loader}, one panel: hover, ms", page.evaluate(HOVER))
                page.evaluate("document.querySelector('header .compare').click()")
                page.wait("document.querySelectorAll('.panel')[1]?.dataset.strip === 'ready'")
                _report(f"{loader}, two panels, 16 heads beside 1: hover, ms", page.evaluate(HOVER))
                _report(f"{loader}, two panels: between frames while hovering, ms", page.evaluate(FRAMES))
                page.evaluate("document.querySelector('header .compare').click()")
                _report(f"{loader}: step not seen before, ms", page.evaluate(STEPS))
                server.shutdown()


# A pointer that wanders over the image; the time in which all panels are drawn anew.
HOVER = """(async () => {
  const canvas = document.querySelector('.picture > canvas'), box = canvas.getBoundingClientRect(), times = [];
  const frame = () => new Promise(requestAnimationFrame);
  for (let i = 0; i < 200; i++) {
    const [x, y] = [(i * 7 % 97) / 97, (i * 5 % 89) / 89];
    const at = {clientX: box.left + box.width * x, clientY: box.top + box.height * y};
    canvas.dispatchEvent(new PointerEvent('pointermove', at));
    await frame(); await frame();
    times.push([...document.querySelectorAll('.panel')].reduce((sum, p) => sum + Number(p.dataset.redraw), 0));
  }
  return times;
})()"""

# A pointer that moves in every frame; from one frame to the next.
FRAMES = """(async () => {
  const canvas = document.querySelector('.picture > canvas'), box = canvas.getBoundingClientRect(), times = [];
  let before = await new Promise(requestAnimationFrame);
  for (let i = 0; i < 200; i++) {
    const [x, y] = [(i * 7 % 97) / 97, (i * 5 % 89) / 89];
    const at = {clientX: box.left + box.width * x, clientY: box.top + box.height * y};
    canvas.dispatchEvent(new PointerEvent('pointermove', at));
    const now = await new Promise(requestAnimationFrame);
    times.push(now - before);
    before = now;
  }
  return times;
})()"""

# From the slider's event to the frame that shows the record, for the steps that the strip has not loaded.
STEPS = """(async () => {
  const panel = document.querySelector('.panel'), slider = panel.querySelector('.step input'), times = [];
  for (let i = 0; i < 40; i++) {
    const name = (1000 * i).toLocaleString('en');
    if ([...panel.querySelectorAll('.strip span')].some((s) => s.textContent === name)) continue;
    const since = performance.now();
    slider.value = i;
    slider.dispatchEvent(new Event('input'));
    const shown = () => panel.dataset.state === 'ready' && panel.dataset.step === String(1000 * i);
    while (!shown()) await new Promise(requestAnimationFrame);
    times.push(performance.now() - since);
  }
  return times;
})()"""


def _report(what: str, times: list[float]) -> None:
    times = sorted(times)
    at = lambda share: times[min(len(times) - 1, int(share * len(times)))]  # noqa: E731
    shown = f"median {statistics.median(times):.1f}, 95 % {at(0.95):.1f}, most {times[-1]:.1f}"
    print(f"{what} ({len(times)}): {shown}", flush=True)


if __name__ == "__main__":
    measurements = {"training": training, "bytes": bytes_, "browser": browser}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=measurements)
    measurements[parser.parse_args().what]()
