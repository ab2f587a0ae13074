"""`python -m jaxmaskrcnn plot`, from metrics.jsonl to a picture."""

import numpy as np
import pytest
from PIL import Image

from jaxmaskrcnn.cli.main import main as command
from jaxmaskrcnn.cli.plot import make_panels
from jaxmaskrcnn.report import chart
from jaxmaskrcnn.report.chart import COLOURS, HEIGHT, WIDTH, Line, Panel, draw_chart
from jaxmaskrcnn.report.history import read_history
from jaxmaskrcnn.training.metrics import MetricsWriter

LOSSES = ("loss", "loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg", "loss_mask")


def write_run(workdir, *, steps=(10, 20, 30), evaluate=True):
    workdir.mkdir()
    with MetricsWriter(workdir) as writer:
        for step in steps:
            writer.write(step, {name: 10 / step for name in LOSSES} | {"learning_rate": 0.01})
        if evaluate:
            writer.write(steps[-1], {"eval/box_AP": 0.4, "eval/mask_AP": None, "eval/box_AP50": 0.6})
    return workdir


def has_colour(picture, colour):
    return (np.abs(np.asarray(picture).astype(int) - colour).max(-1) < 12).any()


def test_what_a_run_wrote_is_read(tmp_path):
    history = read_history(write_run(tmp_path / "run"))
    assert history["loss"].steps.tolist() == [10, 20, 30]
    np.testing.assert_allclose(history["loss"].values, [1, 0.5, 1 / 3])
    assert history["eval/box_AP"].values.tolist() == [0.4]
    assert np.isnan(history["eval/mask_AP"].values).all()


def test_a_line_that_is_being_written_is_left_out(tmp_path):
    path = write_run(tmp_path / "run") / "metrics.jsonl"
    whole = read_history(path.parent)
    path.write_text(path.read_text() + '{"step": 40, "lo')
    again = read_history(path.parent)
    assert again.keys() == whole.keys() and again["loss"].steps.tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    "line, said",
    [
        ('{"step": 2', "is not json"),
        ("[1]", "is not an object with a whole number as its step"),
        ('{"loss": 1}', "is not an object with a whole number as its step"),
        ('{"step": 2.5, "loss": 1}', "whole number"),
        ('{"step": 2, "loss": "1"}', "has '1' as loss"),
        ("", "is not json"),
    ],
)
def test_a_broken_line_is_named_and_nothing_drawn(tmp_path, capsys, line, said):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1, "loss": 2}}\n{line}\n{{"step": 3, "loss": 1}}\n')
    assert command(["plot", str(tmp_path)]) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith(f"jaxmaskrcnn plot: {path}, line 2, ") and said in complaint
    assert complaint.count("\n") == 1 and list(tmp_path.iterdir()) == [path]


def test_other_mistakes_are_one_sentence(tmp_path, capsys):
    def complaint(*arguments):
        assert command(["plot", *arguments]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and not list(tmp_path.rglob("*.png"))
        return said

    assert f"{tmp_path} has no metrics.jsonl" in complaint(str(tmp_path))
    run = str(write_run(tmp_path / "run"))
    assert "absent has no metrics.jsonl" in complaint(run, str(tmp_path / "absent"))
    assert "picture.jpg, and the picture is a PNG" in complaint(run, f"--output={tmp_path / 'picture.jpg'}")
    (tmp_path / "metrics.jsonl").write_text("")
    assert "has no values yet" in complaint(str(tmp_path))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "images_per_second": 2}\n')
    assert "has none of the metrics that are drawn" in complaint(str(tmp_path))


def test_the_picture_of_one_run_and_of_several(tmp_path, capsys):
    one, two = write_run(tmp_path / "one"), write_run(tmp_path / "two", steps=(5, 90))
    assert command(["plot", str(one)]) == 0
    assert f"8 panels up to step 30 are in {one / 'metrics.png'}" in capsys.readouterr().out
    picture = Image.open(one / "metrics.png")
    # Six losses, the learning rate and the box AP; of the mask AP there is no value.
    assert picture.format == "PNG" and picture.size == (3 * WIDTH, 3 * HEIGHT)
    assert has_colour(picture, COLOURS[0]) and not has_colour(picture, COLOURS[1])
    assert command(["plot", str(one), str(two), f"--output={tmp_path / 'new' / 'both.png'}"]) == 0
    both = Image.open(tmp_path / "new" / "both.png")
    assert both.height > picture.height
    assert has_colour(both, COLOURS[0]) and has_colour(both, COLOURS[1])


def test_panels_hold_what_belongs_together(tmp_path):
    histories = [
        read_history(write_run(tmp_path / "a")),
        read_history(write_run(tmp_path / "b", evaluate=False)),
    ]
    panels = {panel.title: panel.lines for panel in make_panels(histories)}
    assert list(panels) == [
        "Loss", "RPN: objectness loss", "RPN: box loss", "Classification loss", "Box loss", "Mask loss",
        "Learning rate", "Box AP",
    ]  # fmt: skip
    assert [(line.colour, line.name, line.dashed, line.noisy) for line in panels["Loss"]] == [
        (0, "", False, True), (1, "", False, True),
    ]  # fmt: skip
    assert [(line.colour, line.name, line.dashed, line.noisy) for line in panels["Box AP"]] == [
        (0, "AP", False, False), (0, "AP50", True, False),
    ]  # fmt: skip


def test_a_loss_with_a_new_name_has_a_panel_behind_the_others(tmp_path):
    workdir = write_run(tmp_path / "run")
    with MetricsWriter(workdir, step=30) as writer:
        writer.write(40, {"loss_mask_edge": 0.5})
        writer.write(40, {"eval/loss_mask_edge": 0.6, "eval/loss_depth": 0.1})
    panels = {panel.title: panel.lines for panel in make_panels([read_history(workdir)])}
    assert list(panels)[5:9] == ["Mask loss", "Mask edge loss", "Depth loss", "Learning rate"]
    assert [line.name for line in panels["Mask edge loss"]] == ["training", "evaluation"]
    assert panels["Depth loss"][0].dashed and panels["Mask edge loss"][0].noisy


# -- the drawing


def pixels_of(*lines, **options):
    return np.asarray(draw_chart([Panel("", lines)], "", **options)).astype(int)


def places(pixels, colour=0):
    """Rows and columns where a line of a colour is."""
    return np.nonzero(np.abs(pixels - COLOURS[colour]).max(-1) < 40)


LEFT, RIGHT, BOTTOM = chart._LEFT, WIDTH - chart._RIGHT, HEIGHT - chart._BOTTOM  # ends of the axes


def test_lines_lie_where_their_values_are():
    pixels = pixels_of(Line(np.array([0, 50, 100]), np.array([0.0, 1.0, 0.5]), 0))
    rows, columns = places(pixels)
    assert abs(columns.min() - LEFT) <= 2 and abs(columns.max() - RIGHT) <= 2
    assert abs(rows.max() - BOTTOM) <= 2
    peak = columns[rows == rows.min()].mean()
    assert peak == pytest.approx((LEFT + RIGHT) / 2, abs=2)
    # The axis ends a twentieth above the highest value.
    assert rows.min() == pytest.approx(BOTTOM - (BOTTOM - chart._TOP) / 1.05, abs=3)
    end = rows[columns >= columns.max() - 1].mean()
    assert BOTTOM - end == pytest.approx((BOTTOM - rows.min()) / 2, abs=3)


def test_a_line_is_broken_where_a_value_is_missing():
    def middle(value):
        pixels = pixels_of(Line(np.array([0, 40, 50, 60, 100]), np.array([1, 1, value, 1, 1.0]), 0))
        _, columns = places(pixels)
        return (abs(columns - (LEFT + RIGHT) / 2) < 10).sum()

    assert middle(1.0) > 15 and middle(np.nan) == 0


def test_a_point_alone_is_a_dot_and_a_dashed_one_a_ring():
    dot = len(places(pixels_of(Line(np.array([5]), np.array([1.0]), 0)))[0])
    ring = len(places(pixels_of(Line(np.array([5]), np.array([1.0]), 0, dashed=True)))[0])
    assert 15 < ring < dot < 60


def test_dashes_leave_gaps():
    line = Line(np.array([0, 100]), np.array([1.0, 1.0]), 0)
    drawn = len(set(places(pixels_of(line))[1]))
    dashed = len(set(places(pixels_of(line._replace(dashed=True)))[1]))
    assert 0.45 * drawn < dashed < 0.75 * drawn


def test_noisy_lines_of_many_points_are_smoothed():
    rng = np.random.default_rng(0)
    line = Line(np.arange(1000), 1 + 0.3 * rng.standard_normal(1000), 0)
    spread = [np.ptp(places(pixels_of(line._replace(noisy=noisy)))[0]) for noisy in (False, True)]
    assert spread[1] < 0.3 * spread[0]
    assert np.ptp(places(pixels_of(line._replace(noisy=True), smooth_above=1000))[0]) == spread[0]


def test_running_mean_like_a_loop():
    values = np.random.default_rng(0).random(500)
    values[[3, 250, 251, 499]] = np.nan
    expected = [np.nanmean(values[max(i - 5, 0) : i + 6]) for i in range(500)]
    expected = np.where(np.isnan(values), np.nan, expected)
    np.testing.assert_allclose(chart.running_mean(values), expected, rtol=1e-12)


def test_values_below_zero_stay_in_the_picture():
    pixels = pixels_of(Line(np.array([0, 1]), np.array([-2.0, -1.0]), 0))
    assert len(places(pixels)[0]) > 100
