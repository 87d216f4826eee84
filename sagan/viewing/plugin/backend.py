"""The routes of the attention tab, for runs, layers, steps and the parts of a record."""

import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tensorboard import errors, plugin_util
from tensorboard.backend import http_util
from tensorboard.data import provider
from tensorboard.plugins import base_plugin
from werkzeug import Request, Response

from sagan.viewing.plugin import NAME
from sagan.viewing.plugin.record import BadRecord, blob_of_image, blob_without, read_header, read_image, read_map

STATIC = Path(__file__).parent / "static"
TYPES = {".js": "text/javascript", ".css": "text/css"}
ALL_STEPS = 10_000
FRESH = 2.0  # seconds for which a listing is reused


class Refused(Exception):
    """A request that cannot be answered. The text goes to the client, so it repeats nothing from the request."""

    def __init__(self, code: int, text: str):
        super().__init__(text)
        self.code = code
        self.text = text


class AttentionPlugin(base_plugin.TBPlugin):
    """The tab. It reads only through TensorBoard's data provider, so it works with either loader."""

    plugin_name = NAME

    def __init__(self, context: base_plugin.TBContext):
        self.data: Any = context.data_provider  # never None in a TensorBoard that loads plugins
        self.listings = Cache(256)
        self.headers = Cache(256)

    def is_active(self) -> bool:
        """Return False: TensorBoard itself shows the tab once there are data."""
        return False

    def frontend_metadata(self) -> base_plugin.FrontendMetadata:
        """Return the tab's title and its module."""
        return base_plugin.FrontendMetadata(es_module_path="/index.js", tab_name="Attention")

    def get_plugin_apps(self) -> dict[str, Callable]:
        """Return the WSGI application of each route: static files, and the methods below."""
        files = {f"/{file.name}": partial(_file, file) for file in sorted(STATIC.iterdir()) if file.suffix in TYPES}
        routes = {
            "/tags": self.tags,
            "/steps": self.steps,
            "/header": self.header,
            "/image": self.image,
            "/without": self.without,
            "/map": self.map,
        }
        return {path: _route(answer) for path, answer in {**files, **routes}.items()}

    def tags(self, request: Request) -> tuple[Any, str]:
        """Answer with [[run, [tag, ...]], ...], starting with the run that has the newest record."""
        found = self.data.list_blob_sequences(
            plugin_util.context(request.environ),
            experiment_id=plugin_util.experiment_id(request.environ),
            plugin_name=NAME,
        )
        newest = {run: max(series.max_wall_time for series in tags.values()) for run, tags in found.items() if tags}
        runs = sorted(newest, key=lambda run: (-newest[run], run))
        return [[run, sorted(found[run])] for run in runs], "application/json"

    def steps(self, request: Request) -> tuple[Any, str]:
        """Answer with [{step, wall_time}, ...] of a run and a tag, in order."""
        steps = [{"step": d.step, "wall_time": d.wall_time} for d in self._listing(request).values()]
        return steps, "application/json"

    def header(self, request: Request) -> tuple[Any, str]:
        """Answer with the header of a record."""
        return self._record(request)[1], "application/json"

    def image(self, request: Request) -> tuple[Any, str]:
        """Answer with the PNG of one image of a record."""
        datum, header = self._record(request)
        image = _number(request, "image", below=header["images"])
        return read_image(self._blob(request, datum, blob_of_image(header, image))), "image/png"

    def without(self, request: Request) -> tuple[Any, str]:
        """Answer with the PNG of one image as it would be without the layer."""
        datum, header = self._record(request)
        if not header["without"]:
            raise Refused(404, "This record has no images without the layer.")
        image = _number(request, "image", below=header["images"])
        return read_image(self._blob(request, datum, blob_without(header, image))), "image/png"

    def map(self, request: Request) -> tuple[Any, str]:
        """Answer with one map of one image, as `read_map` returns it."""
        datum, header = self._record(request)
        image = _number(request, "image", below=header["images"])
        index = _number(request, "map", below=len(header["maps"]))
        blob = self._blob(request, datum, blob_of_image(header, image) + 1 + index)
        return read_map(blob, header["maps"][index]), "application/octet-stream"

    def _listing(self, request: Request) -> dict[int, provider.BlobSequenceDatum]:
        """Return the records of a run and a tag by step."""
        run, tag = _text(request, "run"), _text(request, "tag")
        experiment = plugin_util.experiment_id(request.environ)
        since, listing = self.listings.get((experiment, run, tag), (0.0, None))
        if listing is None or time.monotonic() - since > FRESH:
            found = self.data.read_blob_sequences(
                plugin_util.context(request.environ),
                experiment_id=experiment,
                plugin_name=NAME,
                downsample=ALL_STEPS,
                run_tag_filter=provider.RunTagFilter(runs=[run], tags=[tag]),
            )
            if not (data := found.get(run, {}).get(tag)):
                raise Refused(404, "This run has no such layer.")
            listing = {d.step: d for d in sorted(data, key=lambda d: d.step)}
            self.listings.put((experiment, run, tag), (time.monotonic(), listing))
        return listing

    def _record(self, request: Request) -> tuple[provider.BlobSequenceDatum, dict]:
        """Return a record and its header."""
        listing, step = self._listing(request), _number(request, "step")
        if step not in listing:
            raise Refused(404, "This step is missing: TensorBoard keeps only a sample of the steps of a long run.")
        datum = listing[step]
        # A resumed run may record a step again, at another time.
        key = (
            plugin_util.experiment_id(request.environ),
            request.args["run"],
            request.args["tag"],
            step,
            datum.wall_time,
        )
        header = self.headers.get(key)
        if header is None:
            header = read_header(self._blob(request, datum, 0), len(datum.values))
            self.headers.put(key, header)
        return datum, header

    def _blob(self, request: Request, datum: provider.BlobSequenceDatum, index: int) -> bytes:
        if index >= len(datum.values):
            raise BadRecord("the record has no header")
        key = datum.values[index].blob_key  # the provider's own, never the client's
        try:
            return self.data.read_blob(plugin_util.context(request.environ), blob_key=key)
        except errors.InvalidArgumentError as error:
            # The data server refuses its own key where JSON has to escape a name, and repeats the name.
            raise Refused(
                422,
                "TensorBoard's data server cannot read a run or a tag with a quotation mark or a "
                "backslash in its name. tensorboard --load_fast=false can.",
            ) from error


class Cache:
    """A cache of the newest keys. If two threads miss at once, both compute the value, which does no harm."""

    def __init__(self, most: int):
        self.most = most
        self.values: OrderedDict[tuple, Any] = OrderedDict()

    def get(self, key: tuple, default: Any = None) -> Any:
        """Return the value of a key, or `default`."""
        return self.values.get(key, default)

    def put(self, key: tuple, value: Any) -> None:
        """Store a value, and drop the oldest ones beyond `most`."""
        self.values[key] = value
        while len(self.values) > self.most:
            self.values.popitem(last=False)


def _route(answer: Callable[[Request], tuple[Any, str]]) -> Callable:
    """Return a WSGI application that answers GET, or says in plain text why it cannot."""

    @Request.application
    def respond(request: Request) -> Response:
        try:
            if request.method != "GET":
                raise Refused(405, "Only GET is supported.")
            content, content_type = answer(request)
            return http_util.Respond(request, content, content_type)
        except Refused as error:
            code, text = error.code, error.text
        except BadRecord as error:
            code, text = 422, f"This record cannot be read: {error}."
        except errors.NotFoundError:  # deleted since it was listed
            code, text = 404, "This record is gone; reload."
        headers = [("Allow", "GET")] if code == 405 else []
        return http_util.Respond(request, text, "text/plain", code=code, headers=headers)

    return respond


def _file(file: Path, request: Request) -> tuple[Any, str]:
    return file.read_bytes(), TYPES[file.suffix]


def _text(request: Request, name: str) -> str:
    values = request.args.getlist(name)
    if len(values) != 1:
        raise Refused(400, f"Expected {name} once.")
    return values[0]


def _number(request: Request, name: str, below: int | None = None) -> int:
    text = _text(request, name)
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise Refused(400, f"Expected {name} as a decimal number.")
    if below is not None and int(text) >= below:
        raise Refused(404, f"{name} must be below {below} in this record.")
    return int(text)
