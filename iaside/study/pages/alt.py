"""What figures show, in words: the text that stands in a page for those who do not see them."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure


def describe_figures() -> None:
    """Let every figure that a notebook shows from its next cell on carry its description."""
    from IPython import get_ipython
    from IPython.core.pylabtools import print_figure

    def shown(figure: Figure) -> tuple[str, dict]:
        return print_figure(figure, base64=True), {"alt": describe(figure)}

    shell = get_ipython()

    def install(*_) -> None:  # before each cell: matplotlib sets its own once it is used
        shell.display_formatter.formatters["image/png"].for_type(Figure, shown)

    if shell:
        plt.switch_backend(mpl.get_backend())  # now, or the first figure would do it in its cell
        shell.events.register("pre_run_cell", install)


def describe(figure: Figure) -> str:
    """Titles, axes and series of a figure in words.

    >>> import matplotlib.figure
    >>> figure = matplotlib.figure.Figure()
    >>> left, right = figure.subplots(1, 2)
    >>> for axis, title in ((left, "trained"), (right, "untrained")):
    ...     _ = axis.plot([0, 1], label="mean"), axis.set(title=title, xlabel="band", ylabel="nats")
    >>> _ = right.legend()
    >>> describe(figure)
    'Figure: nats against band; 2 panels: trained | untrained; series: mean.'
    """
    drawn = [a for a in figure.axes if a.get_label() != "<colorbar>" and a.has_data()]
    titles = [title for a in drawn if (title := _one_line(a.get_title()))]
    heading = _one_line(figure.get_suptitle())
    if not heading and len(titles) == 1:
        heading = titles.pop()
    parts = _axes_words(drawn)
    if titles:
        parts.append(f"{len(drawn)} panels: {' | '.join(titles)}")
    legends = [*figure.legends, *(a.get_legend() for a in figure.axes if a.get_legend())]
    if series := _unique(_one_line(t.get_text()) for each in legends for t in each.get_texts()):
        parts.append(f"series: {', '.join(series)}")
    colours = (
        a.get_ylabel() or a.get_xlabel() for a in figure.axes if a.get_label() == "<colorbar>"
    )
    if scales := _unique(map(_one_line, colours)):
        parts.append(f"colours: {', '.join(scales)}")
    return f"{heading or 'Figure'}: {'; '.join(parts)}."


def _axes_words(axes) -> list[str]:
    """What is drawn against what; panels that leave a label to their neighbours add nothing."""
    labels = [(_one_line(a.get_xlabel()), _one_line(a.get_ylabel())) for a in axes]
    both = [f"{y} against {x}" for x, y in labels if x and y]
    told = " ".join(both)
    return _unique(both + [x or y for x, y in labels if not (x and y) and (x or y) not in told])


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _unique(words) -> list[str]:
    """Words once each, without empty ones, in their order."""
    return [word for word in dict.fromkeys(words) if word]
