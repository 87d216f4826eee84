"""The attention of a run, recorded for TensorBoard as it trains."""

from statistics import fmean

from torch import Tensor

from sagan.data import Dataset
from sagan.training.run import Callback, Run, attention_due
from sagan.training.state import TrainState
from sagan.viewing.capture import LayerView, fixed_inputs, fixed_real, view_attention
from sagan.viewing.overlays import board_images
from sagan.viewing.plugin import NAME as PLUGIN
from sagan.viewing.records import encode, record_tag


class AttentionRecorder(Callback):
    """Record the attention maps and their entropy every `logging.attention_every` steps, and after the last one."""

    def after_step(self, run: Run, metrics: dict[str, Tensor]) -> None:
        if attention_due(run):
            write_attention(run)


def write_attention(run: Run) -> None:
    """Write the attention maps, both for the Attention tab and as images, and their entropy."""
    state, model = run.state, run.config.model
    state.average_statistics()
    if not run.log.active:
        return
    views = attention_views(state, run.data)
    for view in (v for v in views if v.maps):
        kind = getattr(model, view.network).attention.kind
        run.log.blobs(record_tag(view), encode(view, kind), state.step, plugin=PLUGIN)
    for name, picture in board_images(views).items():
        run.log.image(name, picture, state.step)
    if entropies := attention_entropies(views):
        run.log.record(state.step, entropies)


def attention_views(state: TrainState, data: Dataset, number: int = 4) -> list[LayerView]:
    """Return the attention of the shown generator, and of D on generated and on real images, for fixed inputs."""
    z, y = fixed_inputs(state.eval_generator, number)
    real, real_y = fixed_real(data, number)
    real_y = None if y is None else real_y.to(state.device)
    real = real.to(state.device)
    return view_attention(state.eval_generator, state.discriminator, z, y, real, real_y, data.class_names)


def attention_entropies(views: list[LayerView]) -> dict[str, float]:
    """Return the entropy of the maps on generated images as a fraction of ln(keys): 1 is uniform, 0 is a single key.

    It is the mean over a layer's maps. Layers whose maps are gates have none.
    """
    return {
        f"attention/entropy/{view.network}.{view.layer}": fmean(
            float(e) for m in view.maps if (e := m.entropy()) is not None
        )
        for view in views
        if view.source == "generated" and any(m.distribution for m in view.maps)
    }
