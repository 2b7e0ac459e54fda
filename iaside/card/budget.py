"""What a card can measure in the minutes that it may take, by a timing of a few passes."""

from __future__ import annotations

import time
from typing import NamedTuple

from torch import Tensor

from iaside.backend.device import device_of
from iaside.game.surrogate import passes_per_image
from iaside.inputs.asked import Asked
from iaside.inputs.predicted import BATCH, answers
from iaside.robustness.perturb import perturb_noting

SHARE_OF_GAME = 0.6  # of the budget, at least, where the game takes that much
N_ATTACK = 20  # photographs that are attacked: a step costs three passes
LEAST = 5  # photographs, of which there is an interval
STEPS = 10  # of an attack


class Speed(NamedTuple):
    """Seconds that a pass of a picture takes, and a step of an attack on it.

    a_step: None where no attack can be made; no_attack says why.
    """

    a_pass: float
    a_step: float | None
    no_attack: str = ""


NOBODY = Speed(0.0, 0.0)


class Plan(NamedTuple):
    """What is measured.

    passes: of the game, None for all coalitions;  in_bands: whether noise is added in each band;
    attacked: pictures that are attacked;  left_out: what is not measured and why, in sentences;
    parts: minutes that each part is expected to take.
    """

    passes: int | None
    in_bands: bool
    attacked: int
    left_out: list[str]
    parts: dict[str, float]

    def __str__(self) -> str:
        parts = ", ".join(f"{part} {minutes:.1f}" for part, minutes in self.parts.items())
        return f"about {sum(self.parts.values()):.1f} minutes: {parts}"


def plan(
    speed: Speed,
    n: int,
    n_bands: int,
    minutes: float,
    whole: int,
    beside: Speed = NOBODY,
    its_whole: int = 0,
) -> Plan:
    """Divide the minutes: the game has its share, then come noise in each band and attacks.

    n: pictures;  whole: passes of perturbations that are made in any case;  beside, its_whole: of
    a network that meets the same perturbations.
    Errors: ValueError for minutes in which each image cannot have one round of coalitions.

    >>> fast, slow = (plan(Speed(t, 3 * t), 50, 8, 5.0, 400) for t in (0.01, 0.1))
    >>> fast.passes, fast.attacked, slow.passes, slow.attacked
    (None, 20, 1840, 6)
    """
    total, a_pass = 60 * minutes, speed.a_pass
    exact, share = 2**n_bands * n, SHARE_OF_GAME * total
    least = passes_per_image(n_bands) * n * a_pass
    if share < least:
        raise ValueError(
            f"budget={minutes:g} minutes are too few: a pass takes {a_pass:.2g} s here, and {n} "
            f"images with one round of coalitions each {least / share * minutes:.1f} minutes; give "
            "these, or fewer images"
        )
    game = min(exact * a_pass, share)
    theirs = its_whole * beside.a_pass  # of the network beside it
    left, left_out = total - game - whole * a_pass - theirs, []

    banded = n_bands * n * (a_pass + beside.a_pass)
    in_bands = banded <= left
    if in_bands:
        left -= banded
        theirs += n_bands * n * beside.a_pass
    else:
        left_out.append(_too_dear("Noise in each band", banded - left, minutes))

    attacked, each = 0, 2 * STEPS * ((speed.a_step or 0) + (beside.a_step or 0))
    fewest = min(LEAST, n)
    if speed.a_step is None:
        left_out.append(f"No attack was made: {speed.no_attack}.")
    elif fewest * each > left:
        left_out.append(_too_dear("Attacks", fewest * each - left, minutes))
    else:
        attacked = int(min(N_ATTACK, n, left / each))
        left -= attacked * each
        theirs += attacked * 2 * STEPS * (beside.a_step or 0)

    passes = int((game + max(left, 0)) / a_pass)
    seconds = {
        "game": min(exact, passes) * a_pass,
        "perturbations": (whole + in_bands * n_bands * n) * a_pass,
        "attacks": attacked * 2 * STEPS * (speed.a_step or 0),
        "reference": theirs,
    }
    parts = {part: spent / 60 for part, spent in seconds.items() if spent}
    return Plan(None if passes >= exact else passes, in_bands, attacked, left_out, parts)


def plan_beside(
    speed: Speed,
    n: int,
    n_bands: int,
    minutes: float,
    whole: int,
    beside: Speed,
    its_whole: int,
    name: str,
) -> tuple[Plan, bool]:
    """The plan with a network beside it, and whether it fits: it goes first, before anything of
    the model itself is left out, sampled or asked of fewer pictures."""
    alone = plan(speed, n, n_bands, minutes, whole)
    both = plan(speed, n, n_bands, minutes, whole, beside, its_whole)
    spent = sum(both.parts.values())
    if both[:3] == alone[:3] and spent <= minutes:
        return both, True
    free = 0 if alone.passes else max(0, minutes - sum(alone.parts.values()))
    wanted = plan(speed, n, n_bands, 1e9, whole, beside, its_whole).parts["reference"]
    dear = _too_dear(f"The reference network {name}", 60 * (wanted - free), minutes)
    return alone._replace(left_out=[*alone.left_out, dear]), False


def _too_dear(what: str, lacking: float, minutes: float) -> str:
    return f"{what}: left out, for want of {lacking / 60:.1f} minutes beyond the {minutes:g} given."


def speed_of(asked: Asked, images: Tensor, labels: Tensor) -> Speed:
    """Time a batch of pictures, and a step of an attack on two of them; the first time warms up."""
    device = device_of(asked, None)
    few, two = images[:BATCH], slice(2)
    x, y = images[two].to(device), labels[two].to(device)
    a_pass = _seconds(lambda: answers(asked, few)) / len(few)
    try:
        a_step = _seconds(
            lambda: perturb_noting(x, "pgd", model=asked, labels=y, eps=0.01, steps=1)
        )
    except ImportError as error:
        return Speed(a_pass, None, str(error))
    except (ValueError, RuntimeError) as error:
        if "gradient" not in str(error):
            raise
        return Speed(a_pass, None, "the model gives no gradient")
    return Speed(a_pass, a_step / len(x))


def _seconds(once) -> float:
    once()
    start = time.perf_counter()
    once()
    return time.perf_counter() - start
