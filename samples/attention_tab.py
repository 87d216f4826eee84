"""A picture of TensorBoard's attention tab, with a record for every checkpoint that a run has kept:
python -m samples.attention_tab RUN OUT.png (needs Chromium, on PATH or named by CHROMIUM)."""

import argparse
import json
import logging
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

from werkzeug.serving import make_server

from sagan.data import open_data
from sagan.runs.directory import checkpoints
from sagan.runs.log import RunLog
from sagan.runs.networks import load_discriminator, load_generator
from sagan.runs.saved_networks import load_run_config
from sagan.viewing.capture import fixed_inputs, fixed_real, view_attention
from sagan.viewing.plugin import NAME
from sagan.viewing.records import encode, record_tag
from tests.helpers.chromium import Chromium
from tests.helpers.providers import loaded, web_application

# What is ready is drawn with the next frame.
NEXT_FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"


def write_records(run: Path, logdir: Path) -> list[str]:
    """Write the tab's records of a run's checkpoints, as training writes them, and return their tags."""
    files = checkpoints(run)
    data = open_data(replace(load_run_config(run).data, memory_gb=0))
    tags: dict[str, None] = {}
    with RunLog(logdir) as log:
        log.begin(0)
        for file in files:
            generator, discriminator = load_generator(file), load_discriminator(file)
            views = view_attention(
                generator, discriminator, *fixed_inputs(generator, 4), *fixed_real(data, 4), data.class_names
            )
            for view in views:
                kind = getattr(generator.origin.config.model, view.network).attention.kind
                log.blobs(record_tag(view), encode(view, kind), generator.origin.step, NAME)
                tags[record_tag(view)] = None
    return list(tags)


def main(run: Path, out: Path) -> None:
    """Write a picture of the tab: generated images left, D on real ones right, with a query in the middle."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        logdir = Path(folder) / "logs" / run.name
        logdir.mkdir(parents=True)
        tags = write_records(run, logdir)
        left = next(t for t in tags if t.startswith("attention-maps/generator"))
        right = next(t for t in tags if t.startswith("attention-maps/discriminator") and t.endswith("/real"))
        with loaded("python", logdir.parent) as provider, Chromium(Path(folder) / "profile", 1280, 900) as page:
            server = make_server("127.0.0.1", 0, web_application(provider), threaded=True)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            page.open(f"http://127.0.0.1:{server.port}/data/plugin_entry.html?name={NAME}")
            page.wait("document.querySelector('.panel')?.dataset.strip === 'ready'")
            page.evaluate("document.querySelector('header .compare').click()")
            for i, tag in enumerate((left, right)):
                panel = f"document.querySelectorAll('.panel')[{i}]"
                choose = f"{panel}.querySelector('.layer select')"
                page.wait(f"{panel} && {choose}")
                page.evaluate(f"(() => {{ const s = {choose}; s.value = {json.dumps(tag)}; s.onchange(); }})()")
                page.wait(f"{panel}.dataset.tag === {json.dumps(tag)} && {panel}.dataset.strip === 'ready'")
            page.evaluate(NEXT_FRAMES)
            page.screenshot(out)
            server.shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    main(options.run, options.out)
