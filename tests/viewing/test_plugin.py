"""The tab's backend over HTTP, with both of TensorBoard's loaders."""

import argparse
import json
import subprocess
import sys
import zlib
from urllib.parse import urlencode

import numpy as np
import pytest
from werkzeug.test import Client

from sagan.viewing.plugin import NAME, AttentionLoader
from tests.helpers.attention_logs import HOSTILE, QUOTED, damaged_records, decode, good_record, write_run
from tests.helpers.providers import LOADERS, loaded, web_application

TAG = "attention-maps/generator/blocks.1.attention/generated"
RECORDS = {step: good_record(step)[2] for step in (0, 10, 20)}
DAMAGED = damaged_records()
NAMES = list(DAMAGED)


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    root = tmp_path_factory.mktemp("logs")
    records = [(TAG, step, blobs) for step, blobs in RECORDS.items()]
    write_run(root / "first", records)
    write_run(root / HOSTILE, [(f"attention-maps/{HOSTILE}", 5, RECORDS[10])])
    write_run(root / QUOTED, [(TAG, 5, RECORDS[10])])
    write_run(root / "damaged", [(TAG, i, DAMAGED[name]) for i, name in enumerate(NAMES)])
    write_run(root / "empty", [])
    return root


@pytest.fixture(scope="module", params=LOADERS)
def client(request, logdir):
    with loaded(request.param, logdir) as provider:
        yield Client(web_application(provider))


def get(client, route, method="GET", **arguments):
    query = urlencode({k: v for k, v in arguments.items() if v is not None}, doseq=True)
    return client.open(f"/data/plugin/{NAME}/{route}?{query}", method=method)


def whole(**changes):
    return {"run": "first", "tag": TAG, "step": 10, "image": 1, "map": 0, **changes}


def test_runs_tags_and_steps(client):
    runs = get(client, "tags").json
    assert runs == [["damaged", [TAG]], [QUOTED, [TAG]], [HOSTILE, [f"attention-maps/{HOSTILE}"]], ["first", [TAG]]]
    assert [s["step"] for s in get(client, "steps", run="first", tag=TAG).json] == [0, 10, 20]
    assert client.get("/data/plugins_listing").json[NAME]["enabled"]


def test_a_record_arrives_as_it_was_written(client):
    header = get(client, "header", **whole()).json
    assert header["labels"] == ["cat", "dog"] and header["gamma"] == 0.25 and header["maps"][0]["queries"] == [4, 4]
    assert get(client, "image", **whole()).data == RECORDS[10][3]
    assert get(client, "image", **whole()).content_type == "image/png"
    assert get(client, "without", **whole()).data == RECORDS[10][-1]
    for step, image in ((0, 0), (10, 1), (20, 0)):
        content = get(client, "map", **whole(step=step, image=image)).data
        low, high = np.frombuffer(content, "<f4", 32).reshape(2, 16, 1)
        levels = np.frombuffer(content, np.uint8, offset=128).reshape(16, 4)
        np.testing.assert_allclose(low + levels / 255 * (high - low), decode(RECORDS[step], image, 0)[0], rtol=1e-6)


def test_names_of_runs_and_tags_may_be_anything(client):
    hostile = whole(run=HOSTILE, tag=f"attention-maps/{HOSTILE}", step=5)
    assert get(client, "header", **hostile).json["kind"] == "sagan"
    assert get(client, "map", **hostile).status_code == 200


def test_a_name_that_the_data_server_cannot_read_is_told(client):
    answer = get(client, "header", **whole(run=QUOTED, step=5))
    assert answer.status_code == 200 or (answer.status_code == 422 and "--load_fast=false can" in answer.text)
    assert QUOTED not in answer.text


@pytest.mark.parametrize(
    "route, change",
    [
        ("steps", {"run": None}),
        ("steps", {"tag": None}),
        ("header", {"step": None}),
        ("header", {"run": ["first", "first"]}),
        *(("header", {"step": step}) for step in ("", "1.5", "-1", "1e3", "0x1", "٣", " 1", "9" * 19, HOSTILE)),
        ("image", {"image": None}),
        ("image", {"image": "one"}),
        ("without", {"image": "-1"}),
        ("map", {"map": None}),
        ("map", {"map": ["0", "0"]}),
    ],
)
def test_arguments_that_are_none_are_refused(client, route, change):
    answer = get(client, route, **whole(**change))
    assert answer.status_code == 400 and answer.content_type.startswith("text/plain")
    assert HOSTILE not in answer.text and f"Expected {next(iter(change))}" in answer.text


@pytest.mark.parametrize(
    "change", [{"run": HOSTILE + "x"}, {"tag": HOSTILE}, {"run": "empty"}, {"step": 11}, {"image": 2}, {"map": 1}]
)
def test_what_is_not_there_is_not_found(client, change):
    answer = get(client, "map", **whole(**change))
    assert answer.status_code == 404 and HOSTILE not in answer.text
    assert ("sample of the steps" in answer.text) == ("step" in change)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_only_get_is_answered(client, method):
    for route in ("tags", "index.js"):
        answer = get(client, route, method=method)
        assert answer.status_code == 405 and answer.headers["Allow"] == "GET"


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_record_is_told_and_breaks_nothing(client, name):
    step = NAMES.index(name)
    here = whole(run="damaged", step=step, image=0)
    answers = [get(client, route, **here) for route in ("header", "image", "map")]
    assert 422 in [answer.status_code for answer in answers]
    for answer in answers:
        assert answer.status_code == 200 or (answer.status_code, answer.mimetype) == (422, "text/plain")
        assert answer.status_code == 200 or answer.text.startswith("This record cannot be read: ")
    assert get(client, "map", **whole()).status_code == 200


def test_files_are_served_by_name_only(client):
    for name, start in (("index.js", "/*"), ("style.css", ":root")):
        answer = get(client, name)
        assert answer.status_code == 200 and answer.text.startswith(start)
    for name in ("../backend.py", "%2e%2e/backend.py", "static/index.js", "nothing.js"):
        assert client.get(f"/data/plugin/{NAME}/{name}").status_code == 404


@pytest.mark.parametrize("loader", LOADERS)
def test_a_step_that_a_resumed_run_took_again_is_shown_as_it_became(loader, tmp_path):
    write_run(tmp_path / "run", [(TAG, 10, RECORDS[0]), (TAG, 20, RECORDS[10]), (TAG, 30, RECORDS[10])])
    write_run(tmp_path / "run", [(TAG, 20, RECORDS[20])], resumed_at=10)
    with loaded(loader, tmp_path) as provider:
        client = Client(web_application(provider))
        assert [s["step"] for s in get(client, "steps", run="run", tag=TAG).json] == [10, 20]
        first, again = (get(client, "map", **whole(run="run", step=step)).data for step in (10, 20))
    assert first == zlib.decompress(RECORDS[0][4]) and again == zlib.decompress(RECORDS[20][4])


def test_fifty_steps_are_kept_unless_the_user_says_otherwise():
    for given, kept in (({}, 50), ({NAME: 7}, 7)):
        flags = argparse.Namespace(samples_per_plugin=dict(given))
        AttentionLoader().fix_flags(flags)
        assert flags.samples_per_plugin == {NAME: kept}


def test_importing_the_plugin_imports_no_torch():
    program = (
        "import sys, json, sagan.viewing.plugin, sagan.viewing.plugin.backend, sagan.viewing.plugin.record;"
        "print(json.dumps(sorted({'torch', 'torchvision', 'PIL'} & set(sys.modules))))"
    )
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert json.loads(found.stdout) == []
