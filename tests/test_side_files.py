"""What lies beside a run's checkpoints, made up by Hypothesis: records are read, and everything else is ignored."""

import json

from hypothesis import given
from hypothesis import strategies as st

from sagan.ablation.outcomes import records_of
from sagan.ablation.variants import Job
from sagan.config import UserError
from sagan.presets import load_config
from sagan.runs.best import best_evaluation, write_best
from sagan.runs.records import append_evaluation, evaluated, forget_after, is_record, read_records
from tests.helpers.fuzzing import ANYTHING
from tests.test_fuzzing import tried

EVALUATION = st.fixed_dictionaries({}, optional={"protocol": ANYTHING, "by": ANYTHING, "left_out": ANYTHING})
RECORD = st.fixed_dictionaries(
    {"step": st.integers(-2, 9) | ANYTHING},
    optional={"fid": ANYTHING, "evaluation": EVALUATION | ANYTHING, "warning": ANYTHING, "loss/generator": ANYTHING},
)
LINE = (RECORD | ANYTHING).map(json.dumps).map(str.encode) | st.binary(max_size=40)
LINES = st.lists(LINE, max_size=6).map(b"\n".join)


@tried(few=100, many=2000)
@given(content=LINES, best=LINES)
def test_any_metrics_jsonl_is_read(folder, content, best):
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "step-00000002.pt").touch()
    (folder / "metrics.jsonl").write_bytes(content)
    (folder / "best.json").write_bytes(best)
    assert all(map(is_record, read_records(folder / "metrics.jsonl")))
    found = best_evaluation(folder)
    write_best(folder)
    if found is None:
        assert not (folder / "best.json").exists()
    else:
        assert json.loads((folder / "best.json").read_text())["step"] == found["step"] == 2
    assert evaluated(folder, 2) in (True, False)
    append_evaluation(folder, {"step": 3, "evaluation": {"protocol": {}}}, by="a test")
    assert read_records(folder / "metrics.jsonl")[-1]["step"] == 3
    forget_after(folder / "metrics.jsonl", 2)
    assert all(record["step"] <= 2 for record in read_records(folder / "metrics.jsonl"))
    job = Job("none", 0, load_config("quickstart", [f"run_dir={folder}"]), ())
    try:
        records_of(job)
    except UserError as error:
        assert "\n" not in str(error)
