"""Pictures of attention: what is bright, outlined, tall or marked is what the map says, at its place."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from sagan.attention import AttentionMap, capture_maps
from sagan.map_kinds import MAP_KINDS
from sagan.viewing import drawing
from sagan.viewing.capture import LayerView
from sagan.viewing.drawing import COLOURS, DIVERGING, GAP, HEAT
from sagan.viewing.overlays import STRIPS, board_images, gain, layer_pictures, notices, numbers, view_queries
from sagan.viewing.panels import Panels, apart
from tests.helpers.attention_kinds import CASES, build, open_gate
from tests.helpers.attention_kinds import images as activations

SIZE, SCALE = (16, 24), 4  # of the images; how much 96 pixels enlarge them
QUERIES, KEYS = (8, 12), (4, 6)


def make_view(*maps, number=2, channels=3, gamma=0.5, dark=False):
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (number, channels, *SIZE), dtype=torch.uint8, generator=random)
    labels = torch.arange(number)
    return LayerView("generator", "blocks.1.attention", "generated", images * (not dark), labels, list(maps), gamma)


def random_matrix(number=2, heads=1):
    random = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(number, heads, QUERIES[0] * QUERIES[1], KEYS[0] * KEYS[1], generator=random)
    return AttentionMap("matrix", logits.softmax(-1), QUERIES, KEYS, distribution=True)


def hot_matrix(key, number=2):
    """Nearly all the weight of every row on one key (y, x)."""
    weights = torch.full((number, 1, QUERIES[0] * QUERIES[1], *KEYS), 0.01 / 23)
    weights[..., key[0], key[1]] = 0.99
    return AttentionMap("matrix", weights.flatten(-2), QUERIES, KEYS, distribution=True)


def panel(picture, row, column):
    """Return a panel of a picture without text, without its frame: int (H, W, 3)."""
    frame = max(2, round(max(SIZE) * SCALE / 64))
    y = frame + row * (SIZE[0] * SCALE + 2 * frame + GAP)
    x = frame + column * (SIZE[1] * SCALE + 2 * frame + GAP)
    return np.asarray(picture).astype(int)[y : y + SIZE[0] * SCALE, x : x + SIZE[1] * SCALE]


def bare(view, queries):
    return layer_pictures(view, queries, tile=96, width=0, text=False)


def block(key):
    """Return the pixels of a key of the grid in a panel."""
    h, w = SIZE[0] * SCALE // KEYS[0], SIZE[1] * SCALE // KEYS[1]
    mask = np.zeros((SIZE[0] * SCALE, SIZE[1] * SCALE), bool)
    mask[key[0] * h : (key[0] + 1) * h, key[1] * w : (key[1] + 1) * w] = True
    return mask


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("key", [(0, 5), (2, 1), (3, 3)])
def test_a_hot_key_is_the_brightest_and_alone_outlined(key, channels):
    view = make_view(hot_matrix(key), channels=channels)
    query = (15, 0) if key == (0, 5) else (0, 23)  # whose mark is elsewhere
    drawn = bare(view, [[query], [query]])["map"]
    away = block((3, 0)) if key == (0, 5) else block((0, 5))
    for row in range(2):
        pixels = panel(drawn, row, 1)
        inside, light = block(key), pixels.sum(-1)
        assert light[inside].min() > light[~inside & ~away].max()
        white = (pixels == 255).all(-1) & ~away
        (top, left), (bottom, right) = np.argwhere(inside).min(0), np.argwhere(inside).max(0)
        line = inside.copy()
        line[top + 1 : bottom, left + 1 : right] = False
        assert np.array_equal(white, line)


def test_the_brightest_weight_outshines_a_white_image_under_the_darkest():
    t = torch.tensor([[0.0, 1.0]])
    image = torch.tensor([[255, 0]], dtype=torch.uint8).expand(3, -1, -1)
    dark, bright = drawing.overlay(image, t).sum(0)[0].tolist()
    assert bright > dark
    light = drawing.colours(torch.linspace(0, 1, 50)[None])[:, 0].T @ torch.tensor([0.3, 0.59, 0.11])
    assert (light.diff() > 0).all()


def test_the_map_is_the_mean_over_heads_and_each_head_has_its_own_panel():
    m = random_matrix(heads=3)
    queries = [[(2, 3), (9, 20)], [(4, 4), (12, 1)]]
    drawn = bare(make_view(m), queries)
    mean = AttentionMap("matrix", m.weights.mean(1, keepdim=True), QUERIES, KEYS, distribution=True)
    assert set(drawn) == {"map", "heads"}
    assert np.array_equal(drawn["map"], bare(make_view(mean), queries)["map"])
    for head in range(3):
        one = AttentionMap("matrix", m.weights[:, head : head + 1], QUERIES, KEYS, distribution=True)
        alone = bare(make_view(one), queries)["map"]
        for row in range(4):  # image row // 2, query row % 2
            ours, theirs = panel(drawn["heads"], row, 1 + head), panel(alone, row // 2, 1 + row % 2)
            assert np.array_equal(ours, theirs)


def test_only_the_window_of_a_query_is_lit():
    windows, positions = 4, QUERIES[0] * QUERIES[1] // 4
    weights = torch.full((1, windows, positions, positions), 1 / positions)
    m = AttentionMap("windowed matrix", weights, QUERIES, (4, 6), distribution=True)
    drawn = bare(make_view(m, number=1), [[(1, 22), (14, 2)]])
    assert set(drawn) == {"windows-2x2"}
    for column, corner in ((1, (slice(0, 32), slice(48, 96))), (2, (slice(32, 64), slice(0, 48)))):
        pixels = panel(drawn["windows-2x2"], 0, column)
        lit = np.zeros(pixels.shape[:2], bool)
        lit[corner] = True
        assert (pixels.max(-1) == pixels.min(-1))[~lit].all() and pixels[~lit].max() < 60  # dark grey
        assert (pixels[lit].max(-1) - pixels[lit].min(-1) > 10).mean() > 0.9


def test_every_kind_of_map_has_its_strips():
    assert set(STRIPS) == set(MAP_KINDS)


def test_one_panel_where_all_positions_draw_the_same():
    m = AttentionMap("matrix", random_matrix().weights[:, :, :1], (1, 1), KEYS, distribution=True)
    drawn = bare(make_view(m), [[(0, 0), (5, 5), (9, 9)]] * 2)["map"]
    assert drawn.width == bare(make_view(random_matrix()), [[(0, 0)]] * 2)["map"].width
    assert not any((np.asarray(drawn) == colour).all(-1).any() for colour in COLOURS)  # no query, no mark


def test_signed_weights_have_two_colours():
    weights = torch.zeros(1, 1, 96, *KEYS)
    weights[..., 0, 0], weights[..., 3, 5] = -2, 1
    m = AttentionMap("matrix", weights.flatten(-2), QUERIES, KEYS)
    pixels = panel(bare(make_view(m, number=1, dark=True), [[(8, 12)]])["map"], 0, 1)
    below, above = pixels[block((0, 0))], pixels[block((3, 5))]
    assert (below[:, 2] >= below[:, 0]).all() and below[:, 2].max() > 100
    assert (above[:, 0] >= above[:, 2]).all() and above[:, 0].max() > 60
    assert drawing.colours(torch.tensor([[0.5]]), DIVERGING).sum() == 0
    unsigned = AttentionMap("matrix", weights.abs().flatten(-2), QUERIES, KEYS)
    pixels = panel(bare(make_view(unsigned, number=1, dark=True), [[(8, 12)]])["map"], 0, 1)
    assert pixels[block((0, 0))].sum(-1).min() > 300  # the top of the scale of weights without sign


def test_a_uniform_row_is_dull_and_has_no_outline():
    weights = torch.full((1, 1, 96, 24), 1 / 24)
    m = AttentionMap("matrix", weights, QUERIES, KEYS, distribution=True)
    view = make_view(m, number=1, dark=True)
    pixels = panel(bare(view, [[(15, 0)]])["map"], 0, 1)[:, 24:]
    expected = drawing.colours(torch.tensor([[0.25]]), HEAT).flatten() * drawing.OPACITY
    assert np.abs(pixels - expected.numpy()).max() <= 1
    assert numbers(view, m) == "gamma 0.500; entropy 100.0% of ln 24; largest weight 0.042 = 1.0 x uniform"


def test_numbers_say_what_gamma_means():
    gate = AttentionMap("channel gate", torch.tensor([[0.25, 0.5, 0.75]]), SIZE)
    assert numbers(make_view(gate, gamma=None), gate) == "no gamma (counts as 1); factors 0.25 to 0.75, mean 0.5"
    view = replace(make_view(gate, gamma=0.25), change=torch.tensor([0.002, 0.004]))
    assert numbers(view, gate).startswith("gamma 0.250; the layer changes its input by 0.30% (|y - x| / |x|); factors")
    assert notices(view)[0].startswith("Hardly in use") and notices(replace(view, change=torch.tensor([0.2]))) == []
    signed = AttentionMap("matrix", torch.tensor([-0.5, 1.0]).expand(1, 1, 2, 2), (1, 2), (1, 2))
    assert numbers(make_view(signed), signed) == "gamma 0.500; weights -0.5 to 1, no distribution"


def test_numbers_have_the_digits_that_tell_them_apart():
    gate = AttentionMap("channel gate", torch.tensor([[0.49988, 0.5, 0.50012]]), SIZE)
    assert numbers(make_view(gate), gate) == "gamma 0.500; factors 0.4999 to 0.5001, mean 0.5"
    assert apart((1 / 3, 1 / 3)) == ["0.33", "0.33"] and apart((0.25, 0.75)) == ["0.25", "0.75"]
    assert apart((0.0041667, 0.0041701), 3) == ["0.004167", "0.00417"]
    assert (
        gain(make_view(gate, gamma=-0.0002)) == "gamma 0.000" and gain(make_view(gate, gamma=-0.02)) == "gamma -0.020"
    )


def bar_heights(image, count, colour):
    """Pixels of a colour above (> 0) or below each bar's base, by column of the chart."""
    pixels = (np.asarray(image) == colour).all(-1)
    columns = np.flatnonzero(pixels.any(0))
    width = (image.width - 30) // count
    return {k: pixels[:, columns[(columns - 30) // width == k]].max(1, initial=False).sum() for k in range(count)}


def test_bars_are_proportional_to_the_gates():
    gates = torch.tensor([0.25, 0.5, 1.0, 0.0, 0.125])
    heights = bar_heights(drawing.bars(gates, 100, 412, COLOURS[0], (0, 1)), 5, COLOURS[0])
    for k, gate in enumerate(gates.tolist()):
        assert abs(heights[k] - 384 * gate) <= 2
    signed = np.asarray(drawing.bars(torch.tensor([1.0, -1.0]), 100, 412, COLOURS[0], (-1, 1)))
    ys = [np.flatnonzero((signed[:, x] == COLOURS[0]).all(-1)) for x in (50, 100)]
    assert ys[0].max() < 198 < ys[1].min() and abs(len(ys[0]) - len(ys[1])) <= 2


def test_some_bars_have_their_number():
    assert list(drawing.numbered(6, 128)) == [0, 1, 2, 3, 4, 5]
    assert list(drawing.numbered(64, 12)) == list(range(0, 64, 5)) and list(drawing.numbered(90, 1)) == [0, 50]
    chart = np.asarray(drawing.bars(torch.full((601,), 0.5), 600, 100, COLOURS[0], (0, 1)))
    low = np.asarray(drawing.bars(torch.full((601,), 0.5), 600, 20, COLOURS[0], (0, 1)))
    assert not (low[:, 60:] == 0).all(-1).any()
    dark = (chart[-drawing.TEXT :, 30:] < 128).all(-1).any(0)
    assert [dark[max(i - 9, 0) : i + 10].any() for i in (0, 25, 50, 600)] == [True, False, True, True]
    assert dark[-25:].sum() >= dark[488:513].sum()  # the last number is as whole as 500


def test_as_many_channels_as_there_are_have_a_bar():
    assert drawing.bars(torch.full((1024,), 0.5), 768, 100, COLOURS[0], (0, 1)).width == 30 + 1024
    gate = AttentionMap("channel gate", torch.rand(2, 5), SIZE)
    drawn = bare(make_view(gate), [[], []])
    full = AttentionMap("full gate", gate.weights[:, :, None, None], SIZE, (1, 1))
    assert np.array_equal(drawn["channels"], bare(make_view(full), [[], []])["channels"])


def test_all_images_have_one_axis_of_bars():
    gate = AttentionMap("channel gate", torch.tensor([[0.5, 0.5], [2.0, 0.25]]), SIZE)
    charts = np.asarray(bare(make_view(gate), [[], []])["channels"])
    height = SIZE[0] * SCALE + 4
    tall = [(charts[y : y + height] == COLOURS[i]).all(-1).sum(0).max() for i, y in ((0, 0), (1, height + GAP))]
    assert tall[1] == pytest.approx(4 * tall[0], abs=4)


def test_bars_of_a_difference_are_around_zero():
    gate = AttentionMap("channel gate", torch.tensor([[3e-4, -3e-4], [1e-4, 0.0]]), SIZE)
    view = replace(make_view(gate), minus=make_view(gate))
    charts = np.asarray(bare(view, [[], []])["channels"])
    rows = np.flatnonzero((charts[: SIZE[0] * SCALE + 4] == COLOURS[0]).all(-1).any(1))
    columns = [(charts[rows] == COLOURS[0]).all(-1).sum(0).max() for rows in (rows,)]
    assert len(rows) > 30 and columns[0] < 0.6 * len(rows)  # one bar upwards, one downwards, and both are long


def test_a_nearly_uniform_row_is_dull_unless_it_is_stretched():
    flat = torch.linspace(0.0413, 0.0420, 24).expand(1, 1, 96, 24)
    m = AttentionMap("matrix", flat / flat.sum(-1, keepdim=True), QUERIES, KEYS, distribution=True)
    view = make_view(m, number=1, dark=True)
    light = {
        scale: panel(layer_pictures(view, [[(0, 0)]], tile=96, width=0, text=False, scale=scale)["map"], 0, 1)
        for scale in ("zero", "stretch")
    }
    top = drawing.OPACITY * sum(HEAT[-1])
    assert light["stretch"][block((3, 5))].sum(-1).max() == pytest.approx(top, abs=3)
    assert light["zero"][block((3, 5))].sum(-1).max() < top / 2
    words = np.asarray(layer_pictures(view, [[(0, 0)]], scale="stretch")["map"])
    assert not np.array_equal(words[:60], np.asarray(layer_pictures(view, [[(0, 0)]])["map"])[:60])  # and says so


def test_masks_are_bright_where_the_factor_is_large():
    gate = torch.full((1, 1, *KEYS), 0.4)
    gate[0, 0, 1, 4], gate[0, 0, 3, 0] = 0.6, 0.2
    m = AttentionMap("spatial gate", gate, KEYS)
    pixels = panel(bare(make_view(m, number=1, dark=True), [[]])["positions"], 0, 1).sum(-1)
    assert (pixels[block((1, 4))] == pixels.max()).all() and (pixels == pixels.max()).sum() == block((1, 4)).sum()
    assert (pixels[block((3, 0))] == pixels.min()).all() and (pixels == pixels.min()).sum() == block((3, 0)).sum()


def test_of_a_full_gate_the_mean_and_the_channels_that_vary_most_are_drawn():
    gate = 0.5 + 0.01 * torch.rand(2, 9, 2, 3, generator=torch.Generator().manual_seed(0))
    for channel, factor in ((7, 0.4), (1, 0.3), (4, 0.2), (8, 0.1)):
        gate[:, channel, 1, 2] += factor
    m = AttentionMap("full gate", gate, (4, 6), (2, 3))
    view = make_view(m)
    drawn, panels = bare(view, [[], []])["values"], Panels(view, m, 96, text=False)
    for i in range(2):
        for column, mask in enumerate((gate[i].mean(0), gate[i, 7], gate[i, 1], gate[i, 4], gate[i, 8]), 1):
            assert np.array_equal(panel(drawn, i, column), panel(panels.mask(i, mask), 0, 0))


@pytest.mark.parametrize("background", [*COLOURS, (0, 0, 0), (255, 255, 255)])
@pytest.mark.parametrize("number", [None, 1])
def test_marks_are_seen_on_any_background(background, number):
    image = Image.new("RGB", (192, 192), background)
    drawing.mark(image, 60, 120, COLOURS[0], number)
    found = {tuple(c) for c in np.asarray(image)[48:73, 108:133].reshape(-1, 3)}
    assert {COLOURS[0], (0, 0, 0), (255, 255, 255)} <= found
    changed = np.argwhere((np.asarray(image) != background).any(-1))
    if background not in ((0, 0, 0), (255, 255, 255)):
        assert changed.mean(0) == pytest.approx([60, 120], abs=1)


PARTS = {"channel gate": "channels", "spatial gate": "positions", "matrix": "map", "windowed matrix": "windows-"}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_kind_has_its_pictures(case):
    layer = open_gate(build(case.kind, case.options)).eval()
    with capture_maps(layer) as maps, torch.no_grad():
        layer(activations())
    view = make_view(*maps[""])
    pictures = layer_pictures(view, view_queries(view), title="step 1")
    drawn = [part for part in pictures if part != "heads"]
    for kind, part in zip(case.maps, drawn, strict=True):
        expected = PARTS.get(kind) or ("channels" if case.options.get("extent") == "global" else "values")
        assert part.startswith(expected)
    assert ("heads" in pictures) == any(m.kind == "matrix" and m.weights.shape[1] > 1 for m in view.maps)
    for picture in pictures.values():
        assert picture.mode == "RGB" and np.asarray(picture).std() > 10


def test_maps_of_one_kind_are_numbered():
    pictures = bare(make_view(hot_matrix((0, 0)), hot_matrix((3, 5))), [[(8, 8)]] * 2)
    assert list(pictures) == ["map", "map.2"]
    assert not np.array_equal(pictures["map"], pictures["map.2"])


def test_the_board_has_small_pictures_of_the_first_images():
    gate = AttentionMap("channel gate", torch.rand(6, 8), SIZE)
    views = [make_view(*maps, number=6) for maps in ([random_matrix(number=6, heads=2)], [gate], [])]
    board = board_images(views)
    tag = "views/generator.blocks.1.attention/generated"
    assert set(board) == {f"{tag}/map", f"{tag}/channels"}
    drawn = board[f"{tag}/map"]
    assert drawn.dtype == torch.uint8 and drawn.shape[0] == 3 and max(drawn.shape) < 500
    few = views[0].first(4)
    assert len(few.images) == len(few.labels) == len(few.maps[0].weights) == 4
    points = [points[:3] for points in view_queries(few, 3)]
    expected = layer_pictures(few, points, tile=96, width=0, text=False)["map"]
    assert np.array_equal(drawn.permute(1, 2, 0).numpy(), np.asarray(expected))


def test_the_board_stays_small_for_large_images():
    images = torch.arange(256).to(torch.uint8).expand(4, 3, 128, 256).contiguous()
    view = replace(make_view(random_matrix(number=4), number=4), images=images)
    (drawn,) = board_images([view]).values()
    assert max(drawn.shape) < 600
    small = drawing.shrunk(images, 96)
    assert small.shape == (4, 3, 64, 128) and torch.equal(small[0, 0, 0], (images[0, 0, 0, ::2].float() + 0.5).round())
    assert torch.equal(drawing.shrunk(images, 200), images)


def test_text_and_captions_are_wrapped():
    words = "many words that do not fit"
    narrow, wide = drawing.text_lines([words], 60), drawing.text_lines([words], 600)
    assert narrow.height > 2 * wide.height and (narrow.width, wide.width) == (60, 600)
    captioned = drawing.captioned(Image.new("RGB", (60, 30)), words)
    assert captioned.size == (60, 30 + narrow.height)
