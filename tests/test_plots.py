"""What a reader would be misled by."""

import inspect
import io
import pickle
import subprocess
import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sweeps import few

from iaside import plots
from iaside.estimate.estimate import Estimate
from iaside.explanation import Explanation
from iaside.tables import Worths
from iaside.verdicts import figures


def test_only_logarithmic_axes_get_logarithmic_ticks():
    x, y = [0.05, 0.2, 1.0], [0.35, 0.4, 0.12]
    frame = pd.DataFrame({"share": x, "score": y, "panel": "score", "network": "a"})
    frame[["score_low", "score_high"]] = np.c_[frame["score"] - 0.05, frame["score"] + 0.05]
    axis = plots.trends(frame, "share", "score", "panel", "network", log=True)[0]
    steps = np.diff(axis.get_yticks())
    assert axis.get_xscale() == "log" and np.allclose(steps, steps[0])


def test_a_legend_beside_a_panel_takes_nothing_of_it():
    """In inches: of a single panel nearly all was the legend's once."""
    point = {"model": "a", "x": 1.0, "y": 2.0, "panel": "one"}
    limits = {f"{v}_{end}": np.nan for v in "xy" for end in ("low", "high")}
    frame = pd.DataFrame([point | limits | {"model": name} for name in ("a", "a_long_name_" * 2)])
    (axis,) = figures.scatter(frame, "x", "y", "panel")
    axis.figure.draw_without_rendering()
    assert axis.get_position().width * axis.figure.get_figwidth() > 3


def drawings():
    """A call of every kind of figure, each by its name."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        [
            {
                "model": m,
                "hue": h,
                "panel": p,
                "kind": "k",
                "band": k,
                "x": k + 1.0,
                "y": rng.random(),
            }
            for m in "ab"
            for h in "pq"
            for p in "uv"
            for k in range(3)
        ]
    )
    for v in "xy":
        frame[[f"{v}_low", f"{v}_high"]] = np.c_[frame[v] - 0.1, frame[v] + 0.1]
    one = frame[(frame.hue == "p") & (frame.panel == "u")]
    last, grid = one[one.band == 2], rng.random((3, 3))
    table = pd.DataFrame(grid)
    share = "share of v(all) - v(none)"
    bands = pd.DataFrame({"band": range(3), "psi": 0.2, "sid": 0.3})
    for v in ("psi", "sid"):
        bands[[f"{v}_low", f"{v}_high"]] = 0.1, 0.4
    numbers = np.array([[0.1, 0.2, 0.3], [0.1] * 3, [0.0] * 3, [0.4] * 3])
    three = Estimate(*numbers, 9, "photographs")
    return {
        "importance": lambda: plots.importance(one, "y"),
        "estimates": lambda: plots.estimates(last, "y"),
        "forest": lambda: plots.forest(last, ["y"], "model", "hue"),
        "estimate_panels": lambda: plots.estimate_panels(last, "y", "model", "panel"),
        "curves": lambda: plots.curves(one, "x", "y", log=True),
        "curve_panels": lambda: plots.curve_panels(
            frame[frame.hue == "p"], "x", "y", "panel", "model"
        ),
        "trends": lambda: plots.trends(frame[frame.hue == "p"], "x", "y", "panel", "model"),
        "maps": lambda: figures.maps(
            one[one.model == "a"].assign(grey=False), "band", "x", "y", "panel", "grey"
        ),
        "mosaic": lambda: figures.mosaic(rng.random((2, 3, 8, 8)), ["a", "b"]),
        "scatter": lambda: figures.scatter(last, "x", "y", "panel"),
        "projections": lambda: figures.projections(
            {"m": rng.random((2, 2))}, ["a", "b"], ["k", "k"]
        ),
        "matrix": lambda: figures.matrix(table, "rho"),
        "interactions": lambda: figures.interactions({"m": three}, "nats"),
        "surfaces": lambda: figures.surfaces({"m": table}, "nats", "x", "y"),
        "heat_maps": lambda: figures.heat_maps({"m": grid}, {"m": [-1, 0, 1]}, "share"),
        "bars": lambda: plots.bars(one[one.model == "a"], "band", "y", "panel"),
        "points": lambda: figures.points(last, "x", "y", "panel", "model"),
        "card": lambda: figures.card(bands, pd.DataFrame({"prefix": [1, 2], share: [0.5, 1]}), "m"),
        "panels": lambda: plots.panels(2, 3, 2)[1],
    }


DRAWINGS = drawings()


def figure_of(axes):
    return np.atleast_1d(axes).flat[0].figure


def test_every_function_that_draws_is_tried():
    own = {
        name
        for module in (plots, figures)
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and name[0] != "_"
    }
    tools = {"one_panel", "legend_beside", "whiskers", "plain_ticks", "spread"}
    assert own == DRAWINGS.keys() | {"use_style", "subplots", "data_uri"} | tools


@pytest.fixture
def theirs():
    """A program with settings of its own and an open figure."""
    with mpl.rc_context():
        plt.switch_backend("agg")
        mpl.rcParams.update({"font.size": 7, "lines.linewidth": 5, "savefig.bbox": "standard"})
        figure = plt.figure()
        figure.subplots().plot([1, 2])
        yield figure
        plt.close(figure)


@pytest.mark.parametrize("name", few(DRAWINGS, 4))
def test_drawing_changes_nothing_of_the_program(name, theirs):
    before, colours = dict(mpl.rcParams), dict(mpl.colors.colorConverter.colors)
    numbers, shown = plt.get_fignums(), theirs.axes[0].get_children()
    figure = figure_of(DRAWINGS[name]())
    figure.savefig(io.BytesIO())
    assert dict(mpl.rcParams) == before and dict(mpl.colors.colorConverter.colors) == colours
    assert plt.get_fignums() == numbers and plt.gcf() is theirs and figure is not theirs
    assert theirs.axes[0].get_children() == shown and len(theirs.axes) == 1


@pytest.mark.slow
def test_importing_changes_nothing_of_the_program():
    code = """if True:
        import matplotlib, pandas, warnings
        matplotlib.use("agg")
        def now():
            return (dict(matplotlib.rcParams), dict(matplotlib.colors.colorConverter.colors),
                    pandas.get_option("display.max_rows"), list(warnings.filters))
        import seaborn
        before = now()
        import iaside.plots
        assert now() == before
    """
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", few(["curves", "heat_maps", "importance", "matrix", "scatter"], 1))
def test_a_figure_looks_the_same_in_every_program(name, theirs):
    """Its ticks, too, which matplotlib makes when it draws: in a report all is in the style."""

    def pixels(settings):
        saved, shown = io.BytesIO(), io.BytesIO()
        with mpl.rc_context(settings):
            figure_of(drawings()[name]()).savefig(saved, dpi=50)
            figure = figure_of(drawings()[name]())
            figure.canvas.print_figure(shown, dpi=50, bbox_inches="tight")  # as Jupyter does
        return saved.getvalue(), shown.getvalue()

    own = {
        "font.size": 30,
        "font.sans-serif": ["DejaVu Sans Mono"],
        "grid.color": "red",
        "xtick.major.size": 12,
        "savefig.bbox": "standard",
        "figure.dpi": 33,
    }
    assert pixels(own) == pixels(plots.STYLE)


def test_figures_are_pyplots_where_it_shows_them(monkeypatch):
    """As inline and windows do; a window is not needed for that."""
    for backend, kept in (("agg", 0), ("pdf", 0), ("svg", 0), ("module://matplotlib_inline", 1)):
        monkeypatch.setattr(mpl, "get_backend", lambda backend=backend: backend)
        before = plt.get_fignums()
        figure = figure_of(DRAWINGS["curves"]())
        assert len(plt.get_fignums()) - len(before) == kept, backend
        plt.close(figure)


def test_panels_are_drawn_where_the_caller_wants_them(theirs):
    axis = theirs.axes[0]
    frame = pd.DataFrame(
        {
            "model": "a",
            "band": [0, 1],
            "x": [1, 2],
            "y": [0.2, 0.3],
            "y_low": [0.1, 0.1],
            "y_high": [0.4, 0.4],
        }
    )
    width = theirs.get_figwidth()
    assert plots.importance(frame, "y", ax=axis)[0] is axis
    for draw in (
        lambda: plots.estimates(frame, "y", hue="x", ax=axis),
        lambda: plots.curves(frame, "x", "y", ax=axis),
        lambda: figures.matrix(pd.DataFrame(np.eye(2)), "rho", ax=axis),
    ):
        assert draw() is axis
    e = Explanation(Worths({"v": np.random.default_rng(0).normal(size=(4, 9))}, {}), "positive")
    assert e.plot("psi", ax=axis)[0] is axis and theirs.get_figwidth() == width
    with pytest.raises(ValueError, match="ax= is one panel, and there are 2 models"):
        plots.importance(pd.concat([frame, frame.assign(model="b")]), "y", ax=axis)


@pytest.mark.parametrize(
    "make",
    [
        lambda: 3,
        lambda: "axis",
        lambda: mpl.figure.Figure(),
        lambda: mpl.figure.Figure().subplots(1, 2),
        lambda: [mpl.figure.Figure().subplots()],
        lambda: mpl.figure.Figure().add_subplot(projection="3d"),
    ],
)
def test_what_is_no_panel_is_refused_in_one_line(make):
    frame = pd.DataFrame(
        {
            "model": "a",
            "band": [0, 1],
            "x": [1, 2],
            "y": [0.2, 0.3],
            "y_low": [0.1, 0.1],
            "y_high": [0.4, 0.4],
        }
    )
    for draw in (plots.importance, plots.estimates):
        with pytest.raises(TypeError, match=r"ax= is a .*; give one Axes, such as plt.subplots"):
            draw(frame, "y", ax=make())


@pytest.mark.slow
def test_many_plots_leave_no_figure_open(theirs):
    e = Explanation(Worths({"v": np.random.default_rng(0).normal(size=(4, 9))}, {}), "positive")
    before = plt.get_fignums()
    kept = [e.plot()[0].figure for _ in range(22)]
    assert plt.get_fignums() == before and len({*kept}) == 22


def test_figures_can_be_sent_elsewhere():
    figure = figure_of(DRAWINGS["curves"]())
    assert len(pickle.loads(pickle.dumps(figure)).axes) == len(figure.axes)
