"""Figures: each takes a tidy DataFrame (or images) and returns the Axes it drew.

Colours are safe for colour-blind readers, and everything that was estimated is drawn with its
interval. Columns named `<y>_low` and `<y>_high` hold the limits of column `<y>`.

The style is the figure's own: no call changes matplotlib's settings for the rest of the program,
which `use_style` does for a report. A new figure is pyplot's where pyplot shows figures; else (Agg,
PDF, ...) it is the caller's alone, `axis.figure`, and gone when nothing holds it.
"""

from __future__ import annotations

import base64
import io
from contextlib import contextmanager

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends import BackendFilter, backend_registry
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

LABELS = {
    "psi": "Shapley value (nats)",
    "sid": "spectral importance (share)",
    "band": "frequency band (0 = lowest)",
    "score": "spectral robustness score",
    "accuracy": "top-1 accuracy",
    "esd": "energy spectral density",
    "radius": "radial frequency (cycles per image side)",
    "cells": "frequencies in the band",
    "density": "frequencies / area of the ring",
    "energy": "share of the energy without DC",
    "beta": "beta",
    "prefix": "bands kept, lowest first",
    "images": "number of images K",
    "distance": "distance of two SIDs, L1 / M",
    "error": "error of a Shapley value (nats)",
    "observed": "observed spread over samples\n(standard deviation)",
    "estimated": "estimated standard error",
    "coverage": "coverage of 95 % intervals",
    "snr": "spectral SNR (dB)",
    "share": "share of the energy",
    "relative": "density, relative to\nwhite noise (dB)",
    "slope": "slope of the SNR (dB per decade of frequency)",
    "gain": "AIC(exponential) - AIC(power law): right of 0 the power law fits better",
    "noise": "share of labels drawn at random",
    "epoch": "epoch",
    "fraction": "share of the training set",
    "half": "epoch at which half of the final value is reached",
    "exponent": "exponent a of the energy spectral density, r^-a",
}
STYLE = (
    sns.plotting_context("notebook")
    | sns.axes_style("whitegrid", rc={"font.family": "sans-serif"})
    | {
        "axes.prop_cycle": cycler(color=sns.color_palette("colorblind")),
        "figure.dpi": 110,
        "savefig.bbox": "tight",
        "figure.constrained_layout.use": True,
    }
)


@contextmanager
def _styled():
    """Set what `STYLE` names and put only that back: a backend that is loaded inside, as a
    notebook's with its first figure, sets what must stay."""
    before = {key: mpl.rcParams[key] for key in STYLE}
    mpl.rcParams.update(STYLE)
    try:
        yield
    finally:
        mpl.rcParams.update(before)


in_style = _styled()  # a decorator


class StyledFigure(Figure):
    """A figure in ``STYLE`` whenever it is drawn or saved: matplotlib makes its ticks only then."""

    draw = in_style(Figure.draw)
    get_tightbbox = in_style(Figure.get_tightbbox)
    savefig = in_style(Figure.savefig)


def data_uri(figure: Figure) -> str:
    """A figure as an image that stands in a page itself: data:image/png;base64,..."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def use_style() -> None:
    """Make the style that of the whole program, as a report does for what it adds to figures."""
    mpl.rcParams.update(STYLE)


def subplots(rows: int = 1, columns: int = 1, figsize=None, **how) -> tuple[Figure, np.ndarray]:
    """As pyplot's, (rows, columns) of Axes, but pyplot's own only where that shows figures."""
    if mpl.get_backend().lower() in backend_registry.list_builtin(BackendFilter.NON_INTERACTIVE):
        figure = StyledFigure(figsize=figsize)
        FigureCanvasAgg(figure)
    else:
        figure = plt.figure(figsize=figsize, FigureClass=StyledFigure)
    return figure, figure.subplots(rows, columns, squeeze=False, **how)


@in_style
def importance(
    frame: pd.DataFrame, value: str = "sid", hue: str | None = None, ax: Axes | None = None
) -> np.ndarray:
    """Bars per band with intervals, one panel per model.

    frame: columns band, model, <value>, and <value>_low, <value>_high; hue: a column that puts
    several bars side by side; ax: where to draw a single model, None for a new figure. Returns the
    Axes of the panels, (models,). Errors: ValueError for one `ax` and several models.
    """
    models = list(dict.fromkeys(frame["model"]))
    if ax is not None and len(models) > 1:
        raise ValueError(f"ax= is one panel, and there are {len(models)} models: leave it out")
    _check_panel(ax)
    axes = panels(len(models), width=4.2, height=2.9, sharey=True)[1] if ax is None else [ax]
    axes = np.array(axes, dtype=object)
    for axis, model in zip(axes, models, strict=True):
        part = frame[frame["model"] == model]
        groups = [None] if hue is None else list(dict.fromkeys(frame[hue]))
        width = 0.8 / len(groups)
        for k, group in enumerate(groups):
            rows = part if group is None else part[part[hue] == group]
            x = rows["band"] + (k - (len(groups) - 1) / 2) * width
            axis.bar(x, rows[value], width, label=group, color=sns.color_palette()[k])
            whiskers(axis, x, rows, value)
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set(title=model, xlabel=LABELS["band"], xticks=sorted(frame["band"].unique()))
        axis.grid(axis="x", visible=False)
    for axis in axes[:: 1 if ax is not None else axes[0].get_gridspec().ncols]:
        axis.set_ylabel(LABELS.get(value, value))
    if hue is not None and ax is None:
        bars = axes[0].get_legend_handles_labels()
        axes[0].figure.legend(*bars, loc="outside lower center", ncols=len(groups))
    elif hue is not None:
        ax.legend()
    return axes


@in_style
def estimates(
    frame: pd.DataFrame,
    value: str,
    by: str = "model",
    hue: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Points with intervals, one line of the figure per `by`, groups of `hue` in colours.

    ax: where to draw, None for a new figure.
    """
    names = list(dict.fromkeys(frame[by]))
    groups = [None] if hue is None else list(dict.fromkeys(frame[hue]))
    height = min(9, 1.2 + 0.22 * len(names) * (len(groups) + 0.5))
    axis = one_panel(ax, figsize=(7, height))
    _rows(axis, frame, value, by, hue)
    axis.invert_yaxis()
    if hue is not None:
        legend_beside(axis, title=hue)
    return axis


@in_style
def forest(frame: pd.DataFrame, values: list[str], by: str, hue: str) -> np.ndarray:
    """Points with intervals, one row per `by`, groups of `hue` in colours; a panel per value.

    The panels share their rows, and a line parts rows of another `kind`; nan stays empty.
    Returns the Axes, (values,).
    """
    rows = frame.drop_duplicates(by)
    height = 1.6 + 0.13 * len(rows) * (frame[hue].nunique() + 0.5)
    figure, axes = subplots(1, len(values), figsize=(12, height), sharey=True)
    starts = np.flatnonzero(rows["kind"].ne(rows["kind"].shift()))
    for axis, value in zip(axes[0], values, strict=True):
        _rows(axis, frame, value, by, hue)
        for start in starts[1:]:
            axis.axhline(start - 0.5, color="0.7", linewidth=0.8)
        axis.grid(axis="y", visible=False)
    axes[0, 0].invert_yaxis()  # shared: once for all panels
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return axes[0]


@in_style
def estimate_panels(
    frame: pd.DataFrame, value: str, by: str, panel: str, hue: str | None = None
) -> np.ndarray:
    """As `estimates` with a panel per value of `panel`; panels share their rows and their scale."""
    columns = [c for c in (panel, by, hue) if c is not None]
    titles, names, *groups = (list(dict.fromkeys(frame[c])) for c in columns)
    every = pd.MultiIndex.from_product([titles, names, *groups], names=columns)
    frame = frame.set_index(columns).reindex(every).reset_index()  # what is not there stays empty
    height = 1.8 + 0.13 * len(names) * (len(groups[0]) + 0.5 if groups else 2)
    figure, axes = subplots(1, len(titles), figsize=(12, height), sharex=True, sharey=True)
    for axis, title in zip(axes[0], titles, strict=True):
        _rows(axis, frame[frame[panel] == title], value, by, hue)
        axis.set_title(title)
        axis.grid(axis="y", visible=False)
        axis.locator_params(axis="x", nbins=5)  # as many numbers as stand clear of each other
    axes[0, 0].invert_yaxis()  # shared: once for all panels
    if hue is not None:
        drawn = axes[0, 0].get_legend_handles_labels()
        figure.legend(*drawn, loc="outside lower center", ncols=5)
    return axes[0]


@in_style
def curves(
    frame: pd.DataFrame,
    x: str,
    y: str,
    hue: str = "model",
    log: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Lines over `x`, one per `hue`, with their intervals as a band where the frame has them.

    ax: where to draw, None for a new figure.
    """
    axis = one_panel(ax, figsize=(7, 4))
    _lines(axis, frame, x, y, hue, list(dict.fromkeys(frame[hue])))
    if log:
        axis.set(xscale="log", yscale="log")
        plain_ticks(axis)
    axis.set(xlabel=LABELS.get(x, x), ylabel=LABELS.get(y, y))
    if frame[hue].nunique() > 6:
        legend_beside(axis)
    else:
        axis.legend(title=None)
    return axis


@in_style
def curve_panels(frame: pd.DataFrame, x: str, y: str, panel: str, hue: str) -> np.ndarray:
    """Lines with intervals as in `curves`, one panel per value of `panel`, over a logarithmic x."""
    names, groups = list(dict.fromkeys(frame[panel])), list(dict.fromkeys(frame[hue]))
    figure, axes = panels(len(names), width=3.3, height=2.9, sharey=True)
    for axis, name in zip(axes, names, strict=True):
        _lines(axis, frame[frame[panel] == name], x, y, hue, groups)
        axis.set(title=name, xscale="log")
    figure.supxlabel(LABELS.get(x, x), fontsize=12)
    figure.supylabel(LABELS.get(y, y), fontsize=12)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return axes


@in_style
def trends(
    frame: pd.DataFrame,
    x: str,
    y: str,
    panel: str,
    hue: str,
    dots: pd.DataFrame | None = None,
    log: bool = False,
    sharey: bool = False,
) -> np.ndarray:
    """Lines with intervals as in `curves`, one panel per value of `panel`; numbers of `hue` graded.

    dots: a frame with the same columns, of the single networks that the lines are means of.
    """
    names, groups = list(dict.fromkeys(frame[panel])), list(dict.fromkeys(frame[hue]))
    graded = pd.api.types.is_numeric_dtype(frame[hue])
    colours = sns.color_palette("viridis" if graded else None, len(groups))
    figure, axes = panels(len(names), width=4.2, height=3.0, sharey=sharey, columns=3)
    for axis, name in zip(axes, names, strict=True):
        _lines(axis, frame[frame[panel] == name], x, y, hue, groups, colours)
        if dots is not None:
            shown = dots[dots[panel] == name]
            axis.scatter(
                shown[x],
                shown[y],
                s=14,
                alpha=0.5,
                linewidths=0,
                color=[colours[groups.index(g)] for g in shown[hue]],
            )
        axis.set(title=name, xlabel=LABELS.get(x, x))
        if log:
            axis.set_xscale("log")
            plain_ticks(axis)
    if sharey:
        figure.supylabel(LABELS.get(y, y), fontsize=12)
    title = hue if graded else None
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=6, title=title
    )
    return axes


@in_style
def bars(frame: pd.DataFrame, x: str, y: str, panel: str) -> np.ndarray:
    """Plain bars, one panel per value of `panel`; with whiskers where the frame has limits."""
    names = list(dict.fromkeys(frame[panel]))
    _, axes = panels(len(names), width=3.1, height=2.5, sharey=True)
    for axis, name in zip(axes, names, strict=True):
        rows = frame[frame[panel] == name]
        axis.bar(rows[x], rows[y], color=sns.color_palette()[0])
        if f"{y}_low" in rows:
            whiskers(axis, rows[x], rows, y)
        axis.set(title=name, xlabel=LABELS.get(x, x))
        axis.grid(axis="x", visible=False)
    axes[0].set_ylabel(LABELS.get(y, y))
    return axes


@in_style
def panels(n: int, width: float, height: float, sharey: bool = False, columns: int = 4):
    """A figure with n panels in rows of at most four; returns it and the n Axes."""
    rows = -(-n // columns)
    columns = -(-n // rows)
    width = min(width, 12.5 / columns)
    figure, axes = subplots(rows, columns, figsize=(width * columns, height * rows), sharey=sharey)
    for axis in axes.flat[n:]:
        axis.axis("off")
    return figure, axes.flat[:n]


def _check_panel(ax: Axes | None) -> None:
    """Refuse what is no panel of two axes: a figure, an array of panels, one in space."""
    if ax is not None and (not isinstance(ax, Axes) or ax.name == "3d"):
        kind = "panel in space" if isinstance(ax, Axes) else type(ax).__name__
        raise TypeError(f"ax= is a {kind}; give one Axes, such as plt.subplots()[1]")


def one_panel(ax: Axes | None, figsize: tuple[float, float]) -> Axes:
    """A panel of the caller's, or the only one of a new figure."""
    _check_panel(ax)
    return subplots(figsize=figsize)[1][0, 0] if ax is None else ax


def legend_beside(axis: Axes, columns: int = 1, **how) -> None:
    """A legend to the right of a panel; a figure of ours grows by what that takes of it."""
    if isinstance(axis.figure, StyledFigure):
        axis.figure.set_figwidth(axis.figure.get_figwidth() + 2.2 * columns)
    axis.legend(bbox_to_anchor=(1.01, 1), loc="upper left", ncols=columns, **how)


def _rows(axis: Axes, frame: pd.DataFrame, value: str, by: str, hue: str | None) -> None:
    """Points with intervals, first row at the bottom, groups of `hue` beside each other."""
    names = list(dict.fromkeys(frame[by]))
    groups = [None] if hue is None else list(dict.fromkeys(frame[hue]))
    for k, group in enumerate(groups):
        rows = frame if group is None else frame[frame[hue] == group]
        y = np.array([names.index(n) for n in rows[by]]) + 0.6 * ((k + 0.5) / len(groups) - 0.5)
        axis.errorbar(
            rows[value], y, xerr=spread(rows, value), fmt="o", markersize=5, capsize=3, label=group
        )
    axis.set(yticks=range(len(names)), yticklabels=names, xlabel=LABELS.get(value, value))


def _lines(
    axis: Axes, frame: pd.DataFrame, x: str, y: str, hue: str, names: list, colours=None
) -> None:
    """One line per name, with its interval; the place in `names` decides how a line looks."""
    colours = colours or sns.color_palette()
    for k, name in enumerate(names):
        rows = frame[frame[hue] == name]
        marker = "osv^D"[k // 10 % 5]  # ten colours; more lines than that differ in their marks
        style = dict(color=colours[k % len(colours)], marker=None if len(rows) > 20 else marker)
        axis.plot(rows[x], rows[y], label=name, **style)
        if f"{y}_low" in rows:
            axis.fill_between(
                rows[x],
                rows[f"{y}_low"],
                rows[f"{y}_high"],
                alpha=0.15,
                color=style["color"],
                linewidth=0,
            )


def whiskers(axis: Axes, x, rows: pd.DataFrame, value: str) -> None:
    axis.errorbar(
        x,
        rows[value],
        yerr=spread(rows, value),
        fmt="none",
        ecolor="black",
        elinewidth=1,
        capsize=2,
    )


def plain_ticks(axes: Axes) -> None:
    """Ticks in plain figures on logarithmic axes of less than three decades, few enough to read."""
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        if axis.get_scale() == "log" and high < 1000 * low:
            few = range(1, 10) if high < 5 * low else (1, 2, 5) if high < 50 * low else (1,)
            axis.set_major_locator(LogLocator(subs=few))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())


def spread(rows: pd.DataFrame, value: str) -> np.ndarray:
    """How far the limits lie from the value, (2, rows), as errorbar wants them."""
    return np.abs(rows[[f"{value}_low", f"{value}_high"]].to_numpy().T - rows[value].to_numpy())
