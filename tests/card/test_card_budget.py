"""What fits in the minutes of a card: dearest last, and what is left out is said."""

import pytest
from planted import made

from iaside.card import measure
from iaside.card.budget import N_ATTACK, Speed, plan

N, BANDS, WHOLE = 50, 8, 400


def planned(a_pass, a_step=None, minutes=5.0, **why):
    return plan(Speed(a_pass, a_step, **why), N, BANDS, minutes, WHOLE)


def test_what_is_fast_has_all_of_it():
    found = planned(0.005, 0.02)
    assert found.passes is None and found.in_bands and found.attacked == N_ATTACK
    assert not found.left_out


@pytest.mark.parametrize("a_pass", [0.004, 0.02, 0.05, 0.1, 0.2])
@pytest.mark.parametrize("a_step", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("minutes", [2.0, 5.0, 30.0])
def test_what_is_planned_fits_in_the_minutes(a_pass, a_step, minutes):
    try:
        found = planned(a_pass, a_step, minutes)
    except ValueError as error:
        assert 12 * N * a_pass > 0.6 * 60 * minutes and "are too few" in str(error)
        return
    passes = 2**BANDS * N if found.passes is None else found.passes
    spent = (passes + WHOLE + found.in_bands * BANDS * N) * a_pass
    spent += found.attacked * 20 * a_step
    assert spent <= 60 * minutes + 1e-6
    assert sum(found.parts.values()) == pytest.approx(spent / 60)
    assert bool(found.left_out) == (not found.in_bands or not found.attacked)


def test_what_the_budget_does_not_allow_is_named_with_what_it_lacks():
    found = planned(0.2, 1.0)
    assert not found.in_bands and not found.attacked
    assert [line.partition(":")[0] for line in found.left_out] == ["Noise in each band", "Attacks"]
    assert all("for want of" in line and "beyond the 5 given" in line for line in found.left_out)


def test_fewer_pictures_are_attacked_before_none_are():
    assert 5 <= planned(0.01, 0.5).attacked < N_ATTACK


def test_where_no_attack_can_be_made_it_says_why():
    assert planned(0.005, no_attack="it is blind").left_out == ["No attack was made: it is blind."]


def test_a_card_says_what_it_left_out(monkeypatch):
    monkeypatch.setattr(measure, "speed_of", lambda *_: Speed(0.9, 5.0))
    card = made(1, budget=5.0)
    assert len(card.left_out) == 3 and all(line in card.to_html() for line in card.left_out)
    assert not any("PGD" in h.name or "in band" in h.name for h in card.harms)


def test_a_budget_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="budget=1e-09 minutes are too few"):
        made(1, budget=1e-9)
